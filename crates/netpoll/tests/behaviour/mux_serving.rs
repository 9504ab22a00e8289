// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many requests of one connection at once.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use netpoll::mux::{self, Client, Message};
use netpoll::time::sleep;
use netpoll::{BoxError, CloseReason, Connection, Dialer, EventLoop, Spawn};

use crate::mux::{A_WHILE, answer, call, client_of, codec, request, server};
use crate::support::{Server, block_on};

#[test]
fn requests_of_one_connection_are_under_way_at_once_up_to_the_limit() {
    let (most, now) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (peak, running) = (Arc::clone(&most), Arc::clone(&now));
    let handler = async move |request: Message| {
        let count = running.fetch_add(1, Ordering::SeqCst) + 1;
        peak.fetch_max(count, Ordering::SeqCst);
        sleep(A_WHILE).await;
        running.fetch_sub(1, Ordering::SeqCst);
        Ok(request)
    };
    let builder = EventLoop::builder().pollers(1);
    let served = mux::serve_within(8, codec(), handler);
    let server = Server::start_as_given(builder.on_connection(served));
    let client = client_of(&server);
    let begun = Instant::now();
    let callers: Vec<_> = (0..32_u8)
        .map(|number| {
            let client = client.clone();
            std::thread::spawn(move || block_on(call(&client, &[number])))
        })
        .collect();
    for (number, caller) in callers.into_iter().enumerate() {
        assert_eq!(caller.join().unwrap().unwrap(), [number as u8]);
    }
    assert!(begun.elapsed() >= 4 * A_WHILE);
    assert_eq!(most.load(Ordering::SeqCst), 8);
    assert_eq!(now.load(Ordering::SeqCst), 0);
}

/// A task of each request on a thread of its own.
struct Threads;

impl Spawn for Threads {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        std::thread::spawn(move || block_on(task));
    }
}

/// Serves on threads, at most `in_flight` requests of a connection at once.
fn on_threads<F>(in_flight: usize, handler: fn(Message) -> F) -> Server
where
    F: Future<Output = Result<Message, BoxError>> + Send + 'static,
{
    let served = mux::serve_on(Arc::new(Threads), in_flight, codec(), handler);
    Server::start_as_given(EventLoop::builder().pollers(1).on_connection_send(served))
}

#[test]
fn requests_of_one_connection_that_block_run_on_many_threads() {
    let server = on_threads(16, |request| async {
        std::thread::sleep(A_WHILE);
        Ok(request)
    });
    let mut peer = server.connect();
    let begun = Instant::now();
    for id in 0..32 {
        answer(&mut peer, id, &[7; 1000]);
    }
    peer.finish();
    let mut ids: Vec<_> = (0..32).map(|_| request(&mut peer).0).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..32));
    let took = begun.elapsed();
    assert!(took >= 2 * A_WHILE && took < 16 * A_WHILE, "{took:?}");
    assert_eq!(peer.receive_all().unwrap(), b"");
    drop(peer);
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn a_task_that_fails_or_panics_ends_its_connection_behind_what_was_answered() {
    let server = on_threads(1, |request| async {
        match request.id {
            1 => Err("no".into()),
            2 => panic!("of a test"),
            _ => Ok(request),
        }
    });
    for id in [1, 2] {
        let mut peer = server.connect();
        answer(&mut peer, 0, b"good");
        answer(&mut peer, id, b"bad");
        assert_eq!(request(&mut peer), (0, b"good".to_vec()));
        assert_eq!(peer.receive_all().unwrap(), b"");
        drop(peer);
        let reason = server.ending();
        let told = match id {
            1 => matches!(&reason, CloseReason::Handler(error) if error.to_string() == "no"),
            _ => matches!(reason, CloseReason::HandlerPanic),
        };
        assert!(told, "{reason}");
    }
}

#[test]
fn a_peer_that_ends_its_stream_gets_the_answers_that_are_under_way() {
    let server = server(async |request| {
        sleep(A_WHILE).await;
        Ok(request)
    });
    let mut peer = server.connect();
    for id in 0..10 {
        answer(&mut peer, id, b"a request");
    }
    peer.finish();
    let mut ids: Vec<_> = (0..10).map(|_| request(&mut peer).0).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..10));
    assert_eq!(peer.receive_all().unwrap(), b"");
    drop(peer);
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn a_request_that_fails_panics_or_is_no_message_ends_its_connection() {
    let server = server(async |request| match request.id {
        1 => Err("no".into()),
        2 => panic!("of a test"),
        _ => Ok(request),
    });
    for id in [1, 2] {
        let mut peer = server.connect();
        answer(&mut peer, 0, b"good");
        answer(&mut peer, id, b"bad");
        let (first, _) = request(&mut peer);
        assert_eq!(first, 0, "what was answered before is sent");
        assert_eq!(peer.receive_all().unwrap(), b"");
        drop(peer);
        let reason = server.ending();
        match id {
            1 => assert!(matches!(reason, CloseReason::Handler(_)), "{reason}"),
            _ => assert!(matches!(reason, CloseReason::HandlerPanic), "{reason}"),
        }
    }
    let mut peer = server.connect();
    peer.send(&[0, 0, 0, 3, 1, 2, 3]);
    assert_eq!(peer.receive_all().unwrap(), b"");
    drop(peer);
    assert!(matches!(server.ending(), CloseReason::Handler(_)));
    block_on(call(&client_of(&server), b"others go on")).unwrap();
}

#[test]
fn a_handler_calls_another_server_on_its_own_poller() {
    let upstream = server(async |request| Ok(request));
    let addr = upstream.addr;
    let proxy = server(async move |request| {
        let id = request.id;
        let conn = Dialer::new().dial(addr).await?;
        let client = Client::new(conn, codec());
        let answer = client.call(Message::from(request.body)).await?;
        Ok(Message::of(id, answer.body))
    });
    let client = client_of(&proxy);
    for number in 0..20 {
        assert_eq!(block_on(call(&client, &[number])).unwrap(), [number]);
    }
}

#[test]
fn a_pair_of_connections_is_enough_for_both_sides() {
    block_on(async {
        let (near, far) = Connection::pair().await.unwrap();
        let client = Client::new(near, codec());
        let serving = mux::serve(codec(), async |request: Message| Ok(request));
        let (mut serving, mut call) = (pin!(serving(far)), pin!(call(&client, b"hello")));
        let answer = std::future::poll_fn(|context| {
            use std::future::Future;
            let _going_on = serving.as_mut().poll(context).is_pending();
            call.as_mut().poll(context)
        });
        assert_eq!(answer.await.unwrap(), b"hello");
    });
}

#[test]
fn large_calls_and_answers_at_once_do_not_wait_for_each_other() {
    let server = server(async |request| Ok(request));
    let client = client_of(&server);
    let callers: Vec<_> = (0..48_u8)
        .map(|number| {
            let client = client.clone();
            std::thread::spawn(move || {
                let text = vec![number; 1 << 20];
                block_on(call(&client, &text)).unwrap() == text
            })
        })
        .collect();
    for caller in callers {
        assert!(caller.join().unwrap());
    }
}
