// SPDX-License-Identifier: MIT OR Apache-2.0
//! `closed` futures and `on_close` callbacks report the close of a connection once, with its reason.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use netpoll::connection::ConnectionHandle;
use netpoll::event::{Callback, Event};
use netpoll::{CloseReason, Connection, EventLoop};

use crate::support::{Gate, Kind, LIMIT, RESET, Server, block_on, errno_of, eventually, pair};

/// Returns the output of `other`, or `None` if `one` completes first.
async fn either<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> Option<B> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|context| {
        if let Poll::Ready(value) = other.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        one.as_mut().poll(context).map(|_| None)
    })
    .await
}

/// A channel from handlers to their test.
fn shared_channel<T>() -> (Mutex<Sender<T>>, Receiver<T>) {
    let (sender, receiver) = channel();
    (Mutex::new(sender), receiver)
}

fn send<T>(to: &Mutex<Sender<T>>, value: T) {
    // The receiver is gone when the test has ended.
    let _sent = to.lock().expect("no panic under it").send(value).is_ok();
}

#[test]
fn a_handler_that_awaits_something_else_is_notified_of_the_fin_and_can_still_answer() {
    let database = Gate::default();
    let at = database.clone();
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_request(
        async move |conn: &mut Connection| {
            conn.reader().skip(4).await?;
            let reason = either(at.pass(), conn.closed()).await.expect("a close");
            assert!(matches!(reason, CloseReason::PeerFin));
            // Bytes before the FIN are readable, and a peer that half-closed still receives.
            let rest = conn.reader().read_vec(4).await?;
            conn.writer().put_slice(&rest);
            Ok(())
        },
    ));
    let mut peer = server.connect();
    peer.send(b"wait");
    eventually("a waiting handler", || database.is_waited_at());
    peer.send(b"last");
    peer.finish();
    assert_eq!(peer.receive_all().unwrap(), b"last");
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn closed_returns_the_reason_for_every_kind_of_close() {
    let (sender, receiver) = shared_channel();
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_connection(
        async move |conn: Connection| {
            send(&sender, conn);
            Ok(())
        },
    ));
    let taken = || {
        let peer = server.connect();
        (peer, receiver.recv_timeout(LIMIT).unwrap())
    };
    let (_peer, conn) = taken();
    let waiting = conn.closed();
    conn.handle().close();
    assert!(matches!(block_on(waiting), CloseReason::Local));
    assert!(matches!(block_on(conn.closed()), CloseReason::Local));
    let (peer, conn) = taken();
    let waiting = conn.closed();
    peer.reset();
    match block_on(waiting) {
        CloseReason::PeerFin => assert!(crate::support::kind() == Kind::Unix),
        reason => assert_eq!(errno_of(&reason), Some(RESET)),
    }
    let (_peer, conn) = taken();
    let waiting = conn.handle().closed();
    server.shut_down(std::time::Duration::ZERO);
    assert!(matches!(block_on(waiting), CloseReason::Shutdown));
}

#[test]
fn closed_can_be_awaited_many_times_on_any_thread() {
    let (conn, peer) = pair();
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let (handle, own) = (conn.handle(), conn.closed());
            std::thread::spawn(move || (block_on(handle.closed()), block_on(own)))
        })
        .collect();
    peer.finish();
    for thread in waiting {
        let (one, other) = thread.join().unwrap();
        assert!(matches!(one, CloseReason::PeerFin));
        assert!(matches!(other, CloseReason::PeerFin));
    }
}

/// A waker that counts its wakes.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_dropped_closed_future_keeps_no_waker_and_a_repolled_one_wakes_the_last_waker() {
    let (conn, peer) = pair();
    let wakers: Vec<_> = (0..3).map(|_| Arc::new(Counted::default())).collect();
    let poll = |waiting: &mut (dyn Future<Output = CloseReason> + Unpin), index: usize| {
        let waker = Waker::from(Arc::clone(&wakers[index]));
        let mut context = Context::from_waker(&waker);
        Pin::new(waiting).poll(&mut context).is_pending()
    };
    let (mut dropped, mut kept) = (conn.closed(), conn.closed());
    assert!(poll(&mut dropped, 0));
    assert!(poll(&mut kept, 1));
    assert!(poll(&mut kept, 2));
    drop(dropped);
    let held: Vec<_> = wakers.iter().map(Arc::strong_count).collect();
    assert_eq!(held, [1, 1, 2]);
    peer.finish();
    block_on(conn.closed());
    eventually("the wake", || wakers[2].0.load(Ordering::Relaxed) == 1);
    assert_eq!(wakers[0].0.load(Ordering::Relaxed), 0);
    assert_eq!(wakers[1].0.load(Ordering::Relaxed), 0);
}

/// Waits until the connection is freed.
fn wait_until_freed(handle: &ConnectionHandle) {
    eventually("a freed connection", || handle.timeouts().is_none());
}

#[test]
fn a_closed_future_does_not_keep_the_connection_and_still_returns_the_reason() {
    let (conn, mut peer) = pair();
    let (handle, waiting) = (conn.handle(), conn.closed());
    drop(conn);
    assert_eq!(peer.receive_all().unwrap(), b"");
    drop(peer);
    wait_until_freed(&handle);
    assert!(matches!(block_on(waiting), CloseReason::Local));
    let late = block_on(handle.closed());
    assert!(matches!(late, CloseReason::Forgotten));
}

#[test]
fn on_close_callbacks_run_once_in_reverse_order_after_on_disconnect_and_survive_a_panic() {
    let (sender, receiver) = shared_channel();
    let sender = Arc::new(sender);
    let (observing, panics) = (Arc::clone(&sender), Arc::clone(&sender));
    let builder = EventLoop::builder()
        .pollers(1)
        .on_request(async move |conn: &mut Connection| {
            conn.reader().skip(1).await?;
            let (handle, first, last) = (conn.handle(), Arc::clone(&sender), Arc::clone(&sender));
            conn.on_close(move |reason| send(&first, ("first", reason.to_string())));
            conn.on_close(|_| panic!("a callback that panics, on purpose"));
            handle.on_close(move |reason| send(&last, ("last", reason.to_string())));
            conn.writer().put_u8(b'!');
            Ok(())
        })
        .on_disconnect(move |_, reason| send(&observing, ("observer", reason.to_string())))
        .on_event(move |event| {
            let panicked = matches!(
                event,
                Event::CallbackPanicked {
                    callback: Callback::OnClose,
                    ..
                }
            );
            if panicked {
                send(&panics, ("event", String::new()));
            }
        });
    let server = Server::start_unobserved(builder);
    let mut peer = server.connect();
    peer.send(b"?");
    assert_eq!(peer.receive(1), b"!");
    peer.finish();
    let reason = CloseReason::PeerFin.to_string();
    for expected in ["observer", "last", "first"] {
        let received = receiver.recv_timeout(LIMIT).unwrap();
        assert_eq!(received, (expected, reason.clone()));
    }
    assert_eq!(receiver.recv_timeout(LIMIT).unwrap().0, "event");
    let mut other = server.connect();
    other.send(b"?");
    assert_eq!(other.receive(1), b"!", "the poller still serves");
    assert_eq!(receiver.try_iter().count(), 0, "nothing ran twice");
}

#[test]
fn on_close_callbacks_run_after_the_handler_returns() {
    let (sender, receiver) = shared_channel();
    let (sender, gate) = (Arc::new(sender), Gate::default());
    let at = gate.clone();
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_request(
        async move |conn: &mut Connection| {
            conn.reader().skip(1).await?;
            let later = Arc::clone(&sender);
            conn.on_close(move |_| send(&later, "over"));
            let reason = conn.closed().await;
            assert!(matches!(reason, CloseReason::PeerFin));
            conn.abort();
            at.pass().await;
            send(&sender, "returned");
            Ok(())
        },
    ));
    let mut peer = server.connect();
    peer.send(b"?");
    peer.finish();
    eventually("a waiting handler", || gate.is_waited_at());
    let _other = server.connect();
    eventually("a poller iteration", || server.handle.connections() == 2);
    gate.open();
    assert_eq!(receiver.recv_timeout(LIMIT).unwrap(), "returned");
    assert_eq!(receiver.recv_timeout(LIMIT).unwrap(), "over");
}

#[test]
fn on_close_callbacks_of_an_owned_connection_run_as_soon_as_it_closes() {
    let (conn, _peer) = pair();
    let (sender, receiver) = channel();
    let again = sender.clone();
    conn.on_close(move |reason| sender.send(reason.to_string()).unwrap());
    conn.handle().abort();
    let local = CloseReason::Local.to_string();
    assert_eq!(receiver.recv_timeout(LIMIT).unwrap(), local);
    let caller = std::thread::current().id();
    conn.on_close(move |reason| {
        assert_eq!(std::thread::current().id(), caller);
        again.send(reason.to_string()).unwrap();
    });
    assert_eq!(receiver.try_recv().unwrap(), local, "at once");
    drop(conn);
    assert!(receiver.recv_timeout(LIMIT).is_err(), "not a second time");
}

#[test]
fn a_reset_runs_the_on_close_callbacks_of_an_owned_connection() {
    if crate::support::kind() == Kind::Unix {
        // A Unix socket reports the end of the stream and no reset.
        return;
    }
    let (mut conn, mut peer) = pair();
    let (sender, receiver) = channel();
    conn.on_close(move |reason| sender.send(errno_of(reason)).unwrap());
    peer.send(b"last");
    assert_eq!(block_on(conn.reader().peek(4)).unwrap(), b"last");
    peer.reset();
    assert_eq!(receiver.recv_timeout(LIMIT).unwrap(), Some(RESET));
    assert_eq!(block_on(conn.reader().next(4)).unwrap(), b"last");
    let error = block_on(conn.reader().read_u8()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(RESET));
}

#[test]
fn an_on_close_callback_added_after_the_close_runs_at_once() {
    let (conn, peer) = pair();
    let handle = conn.handle();
    drop((conn, peer));
    wait_until_freed(&handle);
    let (sender, receiver) = channel();
    handle.on_close(move |reason| sender.send(reason.clone()).unwrap());
    assert!(matches!(
        receiver.try_recv().unwrap(),
        CloseReason::Forgotten
    ));
}

#[test]
fn on_close_callbacks_added_by_many_threads_during_a_close_all_run_once() {
    const THREADS: usize = 4;
    const EACH: usize = 100;
    for round in 0..20 {
        let (conn, peer) = pair();
        let ran: Arc<Vec<AtomicUsize>> =
            Arc::new((0..THREADS * EACH).map(|_| AtomicUsize::new(0)).collect());
        let adding: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (handle, ran) = (conn.handle(), Arc::clone(&ran));
                std::thread::spawn(move || {
                    for index in thread * EACH..(thread + 1) * EACH {
                        let ran = Arc::clone(&ran);
                        handle.on_close(move |_| {
                            ran[index].fetch_add(1, Ordering::Relaxed);
                        });
                    }
                })
            })
            .collect();
        if round % 2 == 0 {
            conn.abort();
        } else {
            drop(conn);
        }
        drop(peer);
        adding.into_iter().for_each(|thread| thread.join().unwrap());
        eventually("every callback", || {
            ran.iter().all(|count| count.load(Ordering::Relaxed) > 0)
        });
        assert!(ran.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }
}
