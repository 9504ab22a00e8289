// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sleeps and timeouts, which run on a poller's timers, awaited on any thread.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use netpoll::time::{sleep, sleep_until, timeout, timeout_at};
use netpoll::{Connection, EventLoop};

use crate::support::{LIMIT, Server, block_on, eventually, frame, poll_once, rpc};

/// A pause that is long enough to measure and short enough for a test.
const A_WHILE: Duration = Duration::from_millis(30);

#[test]
fn a_sleep_lasts_its_full_duration_without_a_runtime() {
    let begun = Instant::now();
    block_on(sleep(A_WHILE));
    assert!(begun.elapsed() >= A_WHILE);
    assert!(begun.elapsed() < LIMIT);
    block_on(sleep_until(begun));
    block_on(sleep(Duration::ZERO));
    let mut never = pin!(sleep(Duration::MAX));
    assert!(poll_once(never.as_mut()).is_pending());
}

#[test]
fn sleeps_end_in_the_order_of_their_deadlines() {
    let (sender, receiver) = channel();
    let begun = Instant::now();
    let sleepers: Vec<_> = [3, 1, 2]
        .into_iter()
        .map(|times| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                block_on(sleep_until(begun + times * 3 * A_WHILE));
                sender.send(times).unwrap();
            })
        })
        .collect();
    let order: Vec<u32> = receiver.iter().take(3).collect();
    assert_eq!(order, [1, 2, 3]);
    for sleeper in sleepers {
        sleeper.join().unwrap();
    }
}

#[test]
fn a_sleeping_handler_does_not_delay_another_connection() {
    let server = Server::start(
        crate::support::builder().pollers(1),
        handler!([], |conn| {
            if conn.reader().peek(5).await?[4] == b'z' {
                sleep(10 * A_WHILE).await;
            }
            rpc(conn).await
        }),
    );
    let (mut sleeper, mut other) = (server.connect(), server.connect());
    // A busy machine may delay a round for as long as the sleep takes.
    eventually("calls without a delay", || {
        let begun = Instant::now();
        sleeper.send(&frame(b"z"));
        for _ in 0..10 {
            other.call(b"a");
        }
        let took = begun.elapsed();
        assert_eq!(sleeper.receive(5), frame(b"z"));
        assert!(begun.elapsed() >= 10 * A_WHILE);
        took < 10 * A_WHILE
    });
}

#[test]
fn timeout_drops_a_late_future_and_returns_a_timely_result() {
    let never = std::future::pending::<()>();
    let error = std::io::Error::from(block_on(timeout(A_WHILE, never)).unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(block_on(timeout(Duration::ZERO, async { 7 })), Ok(7));
    assert_eq!(block_on(timeout(Duration::MAX, async { 8 })), Ok(8));
    let soon = timeout_at(Instant::now() + LIMIT, sleep(A_WHILE));
    assert_eq!(block_on(soon), Ok(()));
}

#[test]
fn a_sleep_continues_after_the_loop_it_started_on_has_ended() {
    let (sender, receiver) = channel();
    let sender = std::sync::Mutex::new(sender);
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_request(
        async move |conn: &mut Connection| {
            conn.reader().skip(1).await?;
            let mut asleep = Box::pin(sleep(20 * A_WHILE));
            assert!(poll_once(asleep.as_mut()).is_pending());
            sender.lock().unwrap().send(asleep)?;
            Ok(())
        },
    ));
    let begun = Instant::now();
    let mut peer = server.connect();
    peer.send(b"?");
    let asleep = receiver.recv_timeout(LIMIT).unwrap();
    drop(peer);
    assert_eq!(server.shut_down(LIMIT), 0);
    block_on(asleep);
    assert!(begun.elapsed() >= 20 * A_WHILE);
    assert!(begun.elapsed() < LIMIT);
}

#[test]
fn a_dropped_sleep_drops_its_waker() {
    struct NoopWake;
    impl Wake for NoopWake {
        fn wake(self: Arc<Self>) {}
    }
    let sleeper = Arc::new(NoopWake);
    let waker = Waker::from(Arc::clone(&sleeper));
    for _ in 0..100 {
        let mut asleep = sleep(Duration::from_secs(3600));
        let polled = Pin::new(&mut asleep).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        drop(asleep);
        assert_eq!(Arc::strong_count(&sleeper), 2, "this owner and the waker");
    }
}
