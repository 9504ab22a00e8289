// SPDX-License-Identifier: MIT OR Apache-2.0
//! Concurrent requests of one connection.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use netpoll::mux::{self, Client, Message};
use netpoll::runner::Spawn;
use netpoll::time::sleep;
use netpoll::{BoxError, CloseReason, Connection, Dialer, EventLoop, Runner};

use crate::mux::{A_WHILE, answer, call, client_of, codec, request, server};
use crate::support::tokio_here::runtime;
use crate::support::{Peer, Server, block_on, eventually, until, with_a_peer_in_each_executor};

/// Serves the requests of one connection with each serve function in each executor, at most
/// [`AT_ONCE`] at once. `asks` sends the requests from a thread.
fn in_each<F>(
    asks: impl Fn(Peer) + Clone + Send + Sync + 'static,
    handler: impl Fn(Message) -> F + Clone + Send + Sync + 'static,
) -> Vec<Result<(), BoxError>>
where
    F: Future<Output = Result<Message, BoxError>> + Send + 'static,
{
    let (on_threads, asks_again) = (handler.clone(), asks.clone());
    let mut ends = with_a_peer_in_each_executor(asks, move |conn| {
        let handler = handler.clone();
        let handler = async move |request| handler(request).await;
        let serving = mux::serve_within(AT_ONCE, codec(), handler);
        async move { serving(conn).await }
    });
    ends.extend(with_a_peer_in_each_executor(asks_again, move |conn| {
        let serving = mux::serve_on(Arc::new(Threads), AT_ONCE, codec(), on_threads.clone());
        async move { serving(conn).await }
    }));
    ends
}

const AT_ONCE: usize = 8;

/// Sends one request for each of `ids`.
fn ask(peer: &mut Peer, ids: impl IntoIterator<Item = u64>) {
    for id in ids {
        answer(peer, id, b"a request");
    }
}

/// Fails unless `peer` receives one answer for each id below `count` and then the end of the stream.
fn expect_all(peer: &mut Peer, count: u64) {
    let mut ids: Vec<_> = (0..count).map(|_| request(peer).0).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..count));
    assert_eq!(peer.receive_all().expect("an end of the stream"), b"");
}

/// A server for each serve function and each runner that can run it, with at most `in_flight`
/// requests of a connection at once.
fn servers<F>(in_flight: usize, handler: fn(Message) -> F) -> Vec<Server>
where
    F: Future<Output = Result<Message, BoxError>> + Send + 'static,
{
    let on_poller = EventLoop::builder();
    let on_threads = EventLoop::builder().handler_threads(2);
    let within = [on_poller, on_threads].map(|builder| {
        let served = mux::serve_within(in_flight, codec(), handler);
        Server::start_as_given(builder.pollers(1).on_connection(served))
    });
    let spawned = Runner::Spawn(Arc::new(Tokio));
    let apart = [Runner::Inline, Runner::Threads(2), spawned].map(|runner| {
        let served = mux::serve_on(Arc::new(Tokio), in_flight, codec(), handler);
        let builder = EventLoop::builder_on(runner).pollers(1);
        Server::start_as_given(builder.on_connection(served))
    });
    within.into_iter().chain(apart).collect()
}

/// Runs the task of each request on a thread of its own.
struct Threads;

impl Spawn for Threads {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        std::thread::spawn(move || block_on(task));
    }
}

/// Runs the task of each request in tokio.
struct Tokio;

impl Spawn for Tokio {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(runtime().spawn(task));
    }
}

#[test]
fn requests_run_concurrently_up_to_the_limit_and_are_answered_after_a_fin() {
    let (most, now) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (peak, running) = (Arc::clone(&most), Arc::clone(&now));
    let asks = move |mut peer: Peer| {
        let begun = Instant::now();
        ask(&mut peer, 0..20);
        peer.finish();
        expect_all(&mut peer, 20);
        assert!(begun.elapsed() >= 3 * A_WHILE);
        assert_eq!(most.swap(0, Ordering::SeqCst), AT_ONCE);
    };
    let ends = in_each(asks, move |request| {
        let (peak, running) = (Arc::clone(&peak), Arc::clone(&running));
        async move {
            peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // On a busy machine the last of them may start late.
            until("the limit of concurrent requests", || {
                peak.load(Ordering::SeqCst) >= AT_ONCE
            })
            .await;
            sleep(A_WHILE).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(request)
        }
    });
    for end in ends {
        end.unwrap();
    }
    assert_eq!(now.load(Ordering::SeqCst), 0);
}

#[test]
fn requests_wait_while_the_peer_does_not_read_answers() {
    const ALL: u64 = 64;
    let begun = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&begun);
    let asks = move |mut peer: Peer| {
        ask(&mut peer, 0..ALL);
        eventually("requests", || seen.load(Ordering::SeqCst) > 0);
        let mut before = 0;
        eventually("a pause", || {
            std::thread::sleep(A_WHILE);
            let now = seen.load(Ordering::SeqCst);
            std::mem::replace(&mut before, now) == now
        });
        assert!(before < ALL as usize / 2, "{before} were started");
        peer.finish();
        expect_all(&mut peer, ALL);
        assert_eq!(seen.swap(0, Ordering::SeqCst), ALL as usize);
    };
    let ends = in_each(asks, move |request| {
        begun.fetch_add(1, Ordering::SeqCst);
        async move { Ok(Message::of(request.id, vec![7; 512 << 10].into())) }
    });
    for end in ends {
        end.unwrap();
    }
}

#[test]
fn requests_that_block_run_on_several_threads() {
    // Each request returns only after another has started on another thread.
    let met = Arc::new(std::sync::Barrier::new(2));
    let served = mux::serve_on(Arc::new(Threads), 16, codec(), move |request| {
        let met = Arc::clone(&met);
        async move {
            met.wait();
            Ok(request)
        }
    });
    let builder = EventLoop::builder().pollers(1);
    let server = Server::start_as_given(builder.on_connection(served));
    let mut peer = server.connect();
    ask(&mut peer, 0..32);
    peer.finish();
    expect_all(&mut peer, 32);
}

#[test]
fn a_peer_that_half_closes_gets_the_answers_in_flight() {
    let servers = servers(10, |request| async {
        sleep(A_WHILE).await;
        Ok(request)
    });
    for server in servers {
        let mut peer = server.connect();
        ask(&mut peer, 0..10);
        peer.finish();
        expect_all(&mut peer, 10);
        drop(peer);
        assert!(matches!(server.ending(), CloseReason::PeerFin));
    }
}

/// More than the socket buffers hold.
const LARGE: usize = 3 << 20;

/// Fails, panics, never answers, or returns a large answer, by id.
async fn some_fail(request: Message) -> Result<Message, BoxError> {
    match request.id {
        0 => Ok(Message::of(0, vec![7; LARGE].into())),
        1 => {
            sleep(A_WHILE).await;
            Err("no".into())
        }
        2 => panic!("of a test"),
        3 => {
            drop(request);
            std::future::pending().await
        }
        _ => Ok(request),
    }
}

#[test]
fn a_failed_panicking_or_malformed_request_closes_its_connection_after_earlier_answers() {
    for server in servers(1, some_fail) {
        for id in [1, 2] {
            let mut peer = server.connect();
            ask(&mut peer, [0, id]);
            assert!(request(&mut peer) == (0, vec![7; LARGE]));
            assert_eq!(peer.receive_all().unwrap(), b"");
            drop(peer);
            let reason = server.ending();
            match id {
                1 => assert_eq!(reason.to_string(), "the handler failed: no"),
                _ => assert!(matches!(reason, CloseReason::HandlerPanic), "{reason}"),
            }
        }
        let mut peer = server.connect();
        peer.send(&[0, 0, 0, 3, 1, 2, 3]);
        assert_eq!(peer.receive_all().unwrap(), b"");
        drop(peer);
        assert!(matches!(server.ending(), CloseReason::Handler(_)));
        block_on(call(&client_of(&server), b"still served")).unwrap();
    }
}

#[test]
fn no_request_is_served_after_a_failed_one() {
    for server in servers(1, some_fail) {
        let behind: [fn(&mut Peer); 2] = [|peer| ask(peer, [4]), |peer| peer.finish()];
        for comes in behind {
            let mut peer = server.connect();
            ask(&mut peer, [1]);
            comes(&mut peer);
            assert_eq!(peer.receive_all().unwrap(), b"");
            drop(peer);
            let reason = server.ending();
            assert!(matches!(reason, CloseReason::Handler(_)), "{reason}");
        }
    }
}

#[test]
fn a_failed_request_closes_its_connection_without_waiting_for_others() {
    for server in servers(2, some_fail) {
        let mut peer = server.connect();
        ask(&mut peer, [3, 1]);
        peer.finish();
        assert_eq!(peer.receive_all().unwrap(), b"");
        drop(peer);
        let reason = server.ending();
        assert!(matches!(reason, CloseReason::Handler(_)), "{reason}");
    }
}

#[test]
fn a_task_dropped_by_its_executor_closes_the_connection() {
    struct Drops;
    impl Spawn for Drops {
        fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
            drop(task);
        }
    }
    let served = mux::serve_on(Arc::new(Drops), 1, codec(), async |request| Ok(request));
    let builder = EventLoop::builder().pollers(1);
    let server = Server::start_as_given(builder.on_connection(served));
    let mut peer = server.connect();
    ask(&mut peer, [0]);
    assert_eq!(peer.receive_all().unwrap(), b"");
    drop(peer);
    let reason = server.ending();
    assert!(matches!(reason, CloseReason::Local), "{reason}");
}

#[test]
fn a_handler_can_call_another_server_from_its_poller() {
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
fn client_and_server_work_over_a_connection_pair() {
    block_on(async {
        let (near, far) = Connection::pair().await.unwrap();
        let client = Client::new(near, codec());
        let serving = mux::serve(codec(), async |request: Message| Ok(request));
        let (mut serving, mut call) = (pin!(serving(far)), pin!(call(&client, b"hello")));
        let answer = poll_fn(|context| {
            let _going_on = serving.as_mut().poll(context).is_pending();
            call.as_mut().poll(context)
        });
        assert_eq!(answer.await.unwrap(), b"hello");
    });
}

#[test]
fn concurrent_large_calls_and_answers_do_not_deadlock() {
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
