// SPDX-License-Identifier: MIT OR Apache-2.0
//! Concurrent calls over one connection, in each executor.

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::time::{Duration, Instant};

use netpoll::codec::LengthField;
use netpoll::error::ErrorExt;
use netpoll::mux::{self, Client, ClientOptions, Message, Numbered};
use netpoll::time::sleep;
use netpoll::{BoxError, CloseReason, Dialer, EventLoop};

use crate::support::{
    Kind, LIMIT, Peer, Server, all, block_on, pair, poll_once, until, with_a_peer_in_each_executor,
};

pub(crate) type TestClient = Client<Numbered<LengthField>>;

/// A pause that is long enough to measure and short enough for a test.
pub(crate) const A_WHILE: Duration = Duration::from_millis(30);

pub(crate) fn codec() -> Numbered<LengthField> {
    Numbered::new(LengthField::new())
}

/// Runs `calls` in each executor against the server `serves` on a thread of its own.
fn in_each<F, P>(
    options: ClientOptions,
    serves: impl Fn(Peer) -> P + Clone + Send + Sync + 'static,
    calls: impl Fn(TestClient) -> F + Send + Sync + 'static,
) where
    F: Future<Output = ()>,
    P: Send + 'static,
{
    with_a_peer_in_each_executor(serves, move |conn| {
        let client = Client::with_options(conn, codec(), options.clone());
        calls(client.expect("valid options"))
    });
}

/// Polls each call once and fails unless all are pending.
#[track_caller]
fn all_wait<F: Future>(calls: &mut [Pin<Box<F>>]) {
    for call in calls {
        assert!(poll_once(call.as_mut()).is_pending());
    }
}

/// Answers `count` requests, each with its own body.
pub(crate) fn echo(peer: &mut Peer, count: usize) {
    for _ in 0..count {
        let (id, text) = request(peer);
        answer(peer, id, &text);
    }
}

pub(crate) fn body(message: Message) -> Vec<u8> {
    let mut body = message.body;
    body.read_vec(body.len()).expect("the whole body")
}

/// Makes a call with the body `text` and returns the body of the answer.
pub(crate) async fn call(client: &TestClient, text: &[u8]) -> std::io::Result<Vec<u8>> {
    client.call(Message::new(text)).await.map(body)
}

/// Receives the next request at `peer` and returns its id and body.
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

/// Starts a mux server with `handler`.
pub(crate) fn server<H>(handler: H) -> Server
where
    H: AsyncFn(Message) -> Result<Message, BoxError> + Send + Sync + 'static,
{
    let builder = EventLoop::builder().pollers(1);
    Server::start_as_given(builder.on_connection(mux::serve(codec(), handler)))
}

/// Connects a client to `server`.
pub(crate) fn client_of(server: &Server) -> TestClient {
    let conn = block_on(Dialer::new().dial(server.addr)).expect("a server that accepts");
    Client::new(conn, codec())
}

#[test]
fn calls_from_many_threads_each_get_their_own_answer_in_any_order() {
    let server = server(async |request| {
        // Later requests may be answered first.
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
        (stats.in_flight, stats.unmatched_answers, stats.connections),
        (0, 0, 1)
    );
    drop(client);
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn reordered_duplicate_and_unknown_answers_harm_no_call() {
    let serves = |mut peer: Peer| {
        let requests: Vec<_> = (0..4).map(|_| request(&mut peer)).collect();
        answer(&mut peer, 7 << 40, b"unknown");
        for (id, text) in requests.iter().rev() {
            answer(&mut peer, *id, &[text[0] + 100]);
            answer(&mut peer, *id, b"duplicate");
        }
        peer
    };
    in_each(ClientOptions::default(), serves, |client| async move {
        let calls = (0..4_u8).map(async |number| call(&client, &[number]).await);
        for (number, answer) in all(calls).await.into_iter().enumerate() {
            assert_eq!(answer.unwrap(), [number as u8 + 100]);
        }
        until("the unmatched answers", || {
            client.stats().unmatched_answers == 5
        })
        .await;
        assert_eq!(client.stats().in_flight, 0);
    });
}

#[test]
fn a_timed_out_call_frees_its_slot_and_its_late_answer_is_discarded() {
    let serves = |mut peer: Peer| {
        let (slow, _) = request(&mut peer);
        let (next, _) = request(&mut peer);
        answer(&mut peer, slow, b"late");
        answer(&mut peer, next, b"next");
        let [(far, _), _near, (last, _)] = [(); 3].map(|()| request(&mut peer));
        answer(&mut peer, far, b"in time");
        answer(&mut peer, last, b"last");
        peer
    };
    in_each(
        ClientOptions::default().timeout(A_WHILE),
        serves,
        |client| async move {
            let begun = Instant::now();
            let error = call(&client, b"slow").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(begun.elapsed() >= A_WHILE);
            assert_eq!(client.stats().in_flight, 0);
            let by = |deadline, text: &[u8]| client.call_by(deadline, Message::new(text));
            let next = by(Instant::now() + LIMIT, b"next").await.unwrap();
            assert_eq!(
                (body(next), client.stats().unmatched_answers),
                (b"next".to_vec(), 1)
            );
            // Each call has its own deadline, in any order.
            let mut far = Box::pin(by(Instant::now() + LIMIT, b"far"));
            assert!(poll_once(far.as_mut()).is_pending());
            let near = by(Instant::now() + A_WHILE, b"near").await.unwrap_err();
            assert_eq!(near.kind(), ErrorKind::TimedOut);
            let last = by(Instant::now() + LIMIT, b"last").await.unwrap();
            assert_eq!(body(last), b"last");
            assert_eq!(body(far.await.unwrap()), b"in time");
            let past = by(begun, b"?").await.unwrap_err();
            assert_eq!(past.kind(), ErrorKind::TimedOut);
        },
    );
}

/// Returns to the executor once.
async fn poll_again() {
    let mut polls = 0;
    poll_fn(|context| {
        polls += 1;
        context.waker().wake_by_ref();
        if polls == 2 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[test]
fn a_dropped_call_frees_its_slot_and_its_answer_is_discarded() {
    let serves = |mut peer: Peer| {
        let dropped: Vec<_> = (0..10).map(|_| request(&mut peer).0).collect();
        let (last, text) = request(&mut peer);
        assert_eq!(text, b"last");
        for id in dropped {
            answer(&mut peer, id, b"discarded");
        }
        answer(&mut peer, last, b"answered");
        peer
    };
    let options = ClientOptions::default().max_in_flight(1);
    in_each(options, serves, |client| async move {
        for _ in 0..10 {
            // A poll that lasts for too long yields at its next wait: each round has one of its own.
            poll_again().await;
            let mut both = [b"sends", b"waits"].map(|text| Box::pin(call(&client, text)));
            all_wait(&mut both);
            assert_eq!((client.stats().in_flight, client.stats().waiting), (1, 1));
            let [sends, waits] = both;
            drop(waits);
            drop(sends);
            assert_eq!((client.stats().in_flight, client.stats().waiting), (0, 0));
        }
        assert_eq!(call(&client, b"last").await.unwrap(), b"answered");
        assert_eq!(client.stats().unmatched_answers, 10);
    });
}

#[test]
fn calls_in_flight_are_limited_and_start_in_order() {
    let begun = Arc::new(Barrier::new(2));
    let barrier = Arc::clone(&begun);
    let serves = move |mut peer: Peer| {
        barrier.wait();
        for number in 0..5 {
            let (id, text) = request(&mut peer);
            assert_eq!(text, [number]);
            answer(&mut peer, id, &text);
        }
        peer
    };
    let options = ClientOptions::default().max_in_flight(2);
    in_each(options, serves, move |client| {
        let begun = Arc::clone(&begun);
        async move {
            let calls = (0..5_u8).map(async |number| call(&client, &[number]).await);
            let mut calls: Vec<_> = calls.map(Box::pin).collect();
            all_wait(&mut calls);
            assert_eq!((client.stats().in_flight, client.stats().waiting), (2, 3));
            begun.wait();
            for (number, answer) in all(calls).await.into_iter().enumerate() {
                assert_eq!(answer.unwrap(), [number as u8]);
            }
        }
    });
}

#[test]
fn a_lost_connection_fails_every_call_with_the_reason() {
    type End = (fn(Peer), fn(&std::io::Error) -> bool);
    let ends: [End; 3] = [
        (drop, |error| {
            matches!(error.close_reason(), Some(CloseReason::PeerFin))
        }),
        (Peer::reset, |error| {
            // A Unix socket whose peer has read everything reports no reset.
            crate::support::kind() == Kind::Unix || error.kind() == ErrorKind::ConnectionReset
        }),
        (
            |mut peer| {
                peer.send(&[0xff; 4]);
                peer.receive_all().ok();
            },
            |error| error.kind() == ErrorKind::ConnectionAborted,
        ),
    ];
    for (end, is_expected) in ends {
        let serves = move |mut peer: Peer| {
            (0..4).for_each(|_| drop(request(&mut peer)));
            end(peer);
        };
        in_each(ClientOptions::default(), serves, move |client| async move {
            for lost in all((0..4).map(|_| call(&client, b"?"))).await {
                let error = lost.unwrap_err();
                assert!(is_expected(&error), "{error:?}");
            }
            let late = call(&client, b"late").await.unwrap_err();
            assert!(is_expected(&late), "{late:?}");
            assert_eq!(client.stats().in_flight, 0);
        });
    }
}

#[test]
fn calls_to_a_peer_that_does_not_read_time_out() {
    let timeout = ClientOptions::default().timeout(5 * A_WHILE);
    in_each(timeout, std::convert::identity, |client| async move {
        for late in all((0..64).map(|_| call(&client, &[7; 100_000]))).await {
            assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        }
        assert_eq!(client.stats().in_flight, 0);
    });
}

#[test]
fn invalid_options_and_oversized_messages_are_rejected() {
    let (conn, _peer) = pair();
    let zero = ClientOptions::default().max_in_flight(0);
    let refused = Client::with_options(conn, codec(), zero).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("max_in_flight"), "{refused}");
    let serves = |mut peer: Peer| {
        // The oversized message was not sent.
        echo(&mut peer, 1);
        peer
    };
    in_each(ClientOptions::default(), serves, |client| async move {
        let large = call(&client, &vec![0; 9 << 20]).await.unwrap_err();
        assert_eq!(large.kind(), ErrorKind::InvalidInput);
        assert_eq!(call(&client, b"small").await.unwrap(), b"small");
    });
}

#[test]
fn tokio_tasks_can_make_calls() {
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
fn dropping_the_last_client_closes_the_connection() {
    let serves = |mut peer: Peer| {
        request(&mut peer);
        assert_eq!(peer.receive_all().unwrap(), b"");
    };
    in_each(ClientOptions::default(), serves, |client| async move {
        let other = client.clone();
        drop(client);
        let mut call = Box::pin(call(&other, b"?"));
        assert!(poll_once(call.as_mut()).is_pending());
        drop(call);
        drop(other);
    });
}
