// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls of many tasks on one connection.

use std::io::ErrorKind;
use std::pin::pin;
use std::time::{Duration, Instant};

use netpoll::codec::LengthField;
use netpoll::mux::{self, Client, ClientOptions, Message, Numbered};
use netpoll::time::sleep;
use netpoll::{BoxError, CloseReason, Closed, Dialer, EventLoop};

use crate::support::{Kind, LIMIT, Peer, Server, block_on, eventually, pair, poll_once};

pub(crate) type TestClient = Client<Numbered<LengthField>>;

/// Long enough to be seen, short enough to be waited for.
pub(crate) const A_WHILE: Duration = Duration::from_millis(30);

pub(crate) fn codec() -> Numbered<LengthField> {
    Numbered::new(LengthField::new())
}

fn options(change: impl FnOnce(&mut ClientOptions)) -> ClientOptions {
    let mut options = ClientOptions::default();
    change(&mut options);
    options
}

/// A client, and the test as its server.
fn client(change: impl FnOnce(&mut ClientOptions)) -> (TestClient, Peer) {
    let (conn, peer) = pair();
    (
        Client::with_options(conn, codec(), options(change)).expect("options that work"),
        peer,
    )
}

pub(crate) fn body(message: Message) -> Vec<u8> {
    let mut body = message.body;
    body.read_vec(body.len()).expect("as many as there are")
}

/// Calls with `text`, and gives the body of the answer.
pub(crate) async fn call(client: &TestClient, text: &[u8]) -> std::io::Result<Vec<u8>> {
    client.call(Message::new(text)).await.map(body)
}

/// The next request that came to `peer`: its id and body.
pub(crate) fn request(peer: &mut Peer) -> (u64, Vec<u8>) {
    let length = u32::from_be_bytes(peer.receive(4).try_into().expect("four"));
    let id = u64::from_be_bytes(peer.receive(8).try_into().expect("eight"));
    (id, peer.receive(length as usize - 8))
}

pub(crate) fn answer(peer: &mut Peer, id: u64, body: &[u8]) {
    let mut frame = (body.len() as u32 + 8).to_be_bytes().to_vec();
    frame.extend(id.to_be_bytes());
    frame.extend(body);
    peer.send(&frame);
}

/// Serves what `handler` answers.
pub(crate) fn server<H>(handler: H) -> Server
where
    H: AsyncFn(Message) -> Result<Message, BoxError> + Send + Sync + 'static,
{
    let builder = EventLoop::builder().pollers(1);
    Server::start_as_given(builder.on_connection(mux::serve(codec(), handler)))
}

/// A client of `server`.
pub(crate) fn client_of(server: &Server) -> TestClient {
    let conn = block_on(Dialer::new().dial(server.addr)).expect("a server that accepts");
    Client::new(conn, codec())
}

#[test]
fn calls_of_many_threads_each_get_their_own_answer_in_whatever_order() {
    let server = server(async |request| {
        // The later ones are answered first.
        let (id, text) = (request.id, body(request));
        sleep(Duration::from_millis(u64::from(text[0] % 7))).await;
        Ok(Message::of(id, bytes::Bytes::from(text).into()))
    });
    let client = client_of(&server);
    let callers: Vec<_> = (0..16_u8)
        .map(|caller| {
            let client = client.clone();
            std::thread::spawn(move || {
                for number in 0..50_u8 {
                    let text = [caller.wrapping_mul(13).wrapping_add(number), caller, number];
                    assert_eq!(block_on(call(&client, &text)).unwrap(), text);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    let stats = client.stats();
    assert_eq!(
        (stats.in_flight, stats.strays, stats.connections),
        (0, 0, 1)
    );
    drop(client);
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn answers_that_are_reordered_doubled_or_unknown_harm_no_call() {
    let (client, mut peer) = client(|_| ());
    let mut calls: Vec<_> = (0..4_u8)
        .map(|number| {
            let client = client.clone();
            Box::pin(async move { call(&client, &[number]).await })
        })
        .collect();
    for call in &mut calls {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    let requests: Vec<_> = (0..4).map(|_| request(&mut peer)).collect();
    answer(&mut peer, 7 << 40, b"unknown");
    for (id, text) in requests.iter().rev() {
        answer(&mut peer, *id, &[text[0] + 100]);
        answer(&mut peer, *id, b"once more");
    }
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(block_on(call).unwrap(), [number as u8 + 100]);
    }
    eventually("the strays", || client.stats().strays == 5);
    assert_eq!(client.stats().in_flight, 0);
}

#[test]
fn a_call_whose_time_is_up_frees_its_place_and_its_answer_is_nobodys() {
    let (client, mut peer) = client(|options| options.timeout = Some(A_WHILE));
    let begun = Instant::now();
    let error = block_on(call(&client, b"slow")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(begun.elapsed() >= A_WHILE && begun.elapsed() < LIMIT / 2);
    assert_eq!(client.stats().in_flight, 0);
    let (id, _) = request(&mut peer);
    answer(&mut peer, id, b"late");
    eventually("the stray", || client.stats().strays == 1);
    // Others have their own times, whichever was set first.
    let far = block_on(async {
        let mut far = pin!(client.call_by(Instant::now() + LIMIT, Message::new(b"far")));
        assert!(poll_once(far.as_mut()).is_pending());
        let near = client.call_by(Instant::now() + A_WHILE, Message::new(b"near"));
        assert_eq!(near.await.unwrap_err().kind(), ErrorKind::TimedOut);
        let (id, _) = request(&mut peer);
        answer(&mut peer, id, b"in time");
        far.await
    });
    assert_eq!(body(far.unwrap()), b"in time");
    let past = client.call_by(begun, Message::new(b"?"));
    assert_eq!(block_on(past).unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn a_call_that_is_dropped_frees_its_place_wherever_it_waits() {
    let (client, mut peer) = client(|options| options.max_in_flight = 1);
    for _ in 0..10 {
        let (mut sent, mut waits) = (
            Box::pin(call(&client, b"sent")),
            Box::pin(call(&client, b"waits")),
        );
        assert!(poll_once(sent.as_mut()).is_pending());
        assert!(poll_once(waits.as_mut()).is_pending());
        assert_eq!((client.stats().in_flight, client.stats().waiting), (1, 1));
        drop(waits);
        drop(sent);
        assert_eq!((client.stats().in_flight, client.stats().waiting), (0, 0));
        request(&mut peer);
    }
    let mut last = Box::pin(call(&client, b"last"));
    assert!(poll_once(last.as_mut()).is_pending());
    let (id, text) = request(&mut peer);
    assert_eq!(text, b"last");
    answer(&mut peer, id, b"heard");
    assert_eq!(block_on(last).unwrap(), b"heard");
}

#[test]
fn no_more_calls_are_under_way_than_may_be_and_who_comes_first_goes_first() {
    let (client, mut peer) = client(|options| options.max_in_flight = 2);
    let mut calls: Vec<_> = (0..5_u8)
        .map(|number| {
            let client = client.clone();
            Box::pin(async move { call(&client, &[number]).await })
        })
        .collect();
    for call in &mut calls {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    assert_eq!((client.stats().in_flight, client.stats().waiting), (2, 3));
    let mut calls = calls.into_iter();
    for number in 0..5_u8 {
        let (id, text) = request(&mut peer);
        assert_eq!(text, [number]);
        answer(&mut peer, id, &text);
        assert_eq!(block_on(calls.next().unwrap()).unwrap(), [number]);
        // The next one that waited has its turn now.
        for waiting in calls.as_mut_slice() {
            assert!(poll_once(waiting.as_mut()).is_pending());
        }
    }
}

#[test]
fn the_loss_of_the_connection_fails_every_call_with_the_reason() {
    type End = (fn(Peer), fn(&std::io::Error) -> bool);
    let ends: [End; 3] = [
        (drop, |error| {
            let closed = error.get_ref().and_then(|why| why.downcast_ref::<Closed>());
            matches!(closed, Some(closed) if matches!(closed.reason, CloseReason::PeerFin))
        }),
        (Peer::reset, |error| {
            // Of a Unix socket whose peer has read everything it is no reset.
            crate::KIND == Kind::Unix || error.kind() == ErrorKind::ConnectionReset
        }),
        (
            |mut peer| {
                peer.send(&[0xff; 4]);
                peer.receive_all().ok();
            },
            |error| error.kind() == ErrorKind::ConnectionAborted,
        ),
    ];
    for (end, is_told) in ends {
        let (client, mut peer) = client(|_| ());
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let client = client.clone();
                std::thread::spawn(move || block_on(call(&client, b"?")).unwrap_err())
            })
            .collect();
        for _ in 0..4 {
            request(&mut peer);
        }
        end(peer);
        for caller in callers {
            let error = caller.join().unwrap();
            assert!(is_told(&error), "{error:?}");
        }
        let late = block_on(call(&client, b"late")).unwrap_err();
        assert!(is_told(&late), "{late:?}");
        assert_eq!(client.stats().in_flight, 0);
    }
}

#[test]
fn a_peer_that_does_not_read_holds_calls_up_to_their_time_and_no_longer() {
    let (client, peer) = client(|options| options.timeout = Some(5 * A_WHILE));
    let mut callers: Vec<_> = (0..64)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || block_on(call(&client, &[7; 100_000])).unwrap_err())
        })
        .collect();
    for caller in callers.drain(..) {
        assert_eq!(caller.join().unwrap().kind(), ErrorKind::TimedOut);
    }
    assert_eq!(client.stats().in_flight, 0);
    drop(peer);
}

#[test]
fn a_client_that_dials_makes_one_connection_for_all_and_another_after_its_loss() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let client = Client::dialing(Dialer::new(), addr, codec(), options(|_| ())).unwrap();
    for round in 1..=3 {
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let client = client.clone();
                std::thread::spawn(move || block_on(call(&client, b"hello")))
            })
            .collect();
        let (accepted, _) = listener.accept().unwrap();
        let mut peer = Peer::of(accepted.into());
        for _ in 0..8 {
            let (id, text) = request(&mut peer);
            answer(&mut peer, id, &text);
        }
        for caller in callers {
            assert_eq!(caller.join().unwrap().unwrap(), b"hello");
        }
        assert_eq!(client.stats().connections, round);
        drop(peer);
        eventually("the loss", || !client.is_connected());
    }
}

#[test]
fn after_a_dial_that_failed_calls_fail_at_once_until_the_back_off_is_over() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::dialing(
        Dialer::new(),
        addr,
        codec(),
        options(|options| {
            options.backoff.first = 4 * A_WHILE;
            options.backoff.longest = 4 * A_WHILE;
        }),
    )
    .unwrap();
    let refused = block_on(call(&client, b"?")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let failed = Instant::now();
    let listener = std::net::TcpListener::bind(addr).unwrap();
    let again = block_on(call(&client, b"?")).unwrap_err();
    if failed.elapsed() < A_WHILE {
        assert_eq!(again.kind(), ErrorKind::ConnectionRefused, "not dialed yet");
        assert_eq!(again.raw_os_error(), refused.raw_os_error());
    }
    let caller = std::thread::spawn(move || {
        let deadline = Instant::now() + LIMIT;
        loop {
            match block_on(call(&client, b"!")) {
                Ok(answer) => return answer,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let mut peer = Peer::of(listener.accept().unwrap().0.into());
    let (id, _) = request(&mut peer);
    answer(&mut peer, id, b"back");
    assert_eq!(caller.join().unwrap(), b"back");
    assert!(
        failed.elapsed() >= 2 * A_WHILE,
        "half of the back-off at least"
    );
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let (conn, _peer) = pair();
    let zero = options(|options| options.max_in_flight = 0);
    let refused = Client::with_options(conn, codec(), zero).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("max_in_flight"), "{refused}");
    let (client, mut peer) = client(|_| ());
    let large = block_on(call(&client, &vec![0; 9 << 20])).unwrap_err();
    assert!(large.kind() == ErrorKind::InvalidInput, "{large:?}");
    // And has sent nothing.
    let mut small = Box::pin(call(&client, b"small"));
    assert!(poll_once(small.as_mut()).is_pending());
    let (id, text) = request(&mut peer);
    answer(&mut peer, id, &text);
    assert_eq!(block_on(small).unwrap(), b"small");
}

#[test]
fn tasks_of_tokio_call_and_are_woken() {
    let server = server(async |request| Ok(request));
    let client = client_of(&server);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build();
    runtime.unwrap().block_on(async move {
        let tasks: Vec<_> = (0..100_u8)
            .map(|number| {
                let client = client.clone();
                tokio::spawn(async move { call(&client, &[number]).await.unwrap() == [number] })
            })
            .collect();
        for task in tasks {
            assert!(task.await.unwrap());
        }
    });
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn the_last_client_that_is_dropped_closes_the_connection() {
    let (client, mut peer) = client(|_| ());
    let other = client.clone();
    drop(client);
    let mut call = Box::pin(call(&other, b"?"));
    assert!(poll_once(call.as_mut()).is_pending());
    request(&mut peer);
    drop(call);
    drop(other);
    assert_eq!(peer.receive_all().unwrap(), b"");
}
