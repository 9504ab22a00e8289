// SPDX-License-Identifier: MIT OR Apache-2.0
//! The handle of a spawned future.

#[allow(dead_code, reason = "other test programs use the rest")]
#[path = "support/waiting.rs"]
mod waiting;

use std::future::{pending, poll_fn};
use std::io::ErrorKind;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::task::Poll;
use std::time::Duration;

use netpoll::task::spawn_local;
use netpoll::time::sleep;
use netpoll::{CloseReason, ErrorExt, spawn};

use waiting::block_on;

/// After this time a wait fails its test. No test passes because of it.
const LIMIT: Duration = Duration::from_secs(60);

/// Reports its drop, and the thread that dropped it.
struct Dropped(Sender<std::thread::ThreadId>);

impl Drop for Dropped {
    fn drop(&mut self) {
        // The test may be over.
        let _ended = self.0.send(std::thread::current().id());
    }
}

fn is_local_close(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::ConnectionAborted
        && matches!(error.close_reason(), Some(CloseReason::Local))
}

#[test]
fn abort_drops_a_waiting_future_on_its_poller_before_the_handle_returns() {
    let (dropped, drops) = channel();
    let (started, starts) = channel();
    let task = spawn(async move {
        let _guard = Dropped(dropped);
        started.send(std::thread::current().id()).unwrap();
        pending::<()>().await;
    });
    let task = task.unwrap();
    let poller = starts.recv().unwrap();
    assert!(drops.try_recv().is_err(), "the future waits");
    task.abort();
    task.abort();
    let error = block_on(task).unwrap_err();
    assert!(is_local_close(&error), "{error:?}");
    assert_eq!(drops.try_recv(), Ok(poller));
}

#[test]
fn future_that_is_aborted_before_its_first_poll_does_not_run() {
    let (ran, runs) = channel();
    // Both run on one poller, which starts the second only after the first has returned.
    let outer = spawn(async move {
        let inner = spawn(async move { ran.send(()).unwrap() }).expect("a poller");
        inner.abort();
        inner.await
    });
    let error = block_on(outer.unwrap()).unwrap().unwrap_err();
    assert!(is_local_close(&error), "{error:?}");
    assert!(
        runs.recv_timeout(LIMIT) == Err(RecvTimeoutError::Disconnected),
        "the sender was dropped unused"
    );
}

#[test]
fn abort_after_the_end_leaves_the_output() {
    let (done, is_done) = channel();
    let task = spawn(async move {
        done.send(()).unwrap();
        7
    });
    let task = task.unwrap();
    is_done.recv().unwrap();
    // The output is there once a task that was spawned later on the same poller has run.
    spawn(sleep(Duration::from_millis(1)))
        .unwrap()
        .wait()
        .unwrap();
    task.abort();
    assert_eq!(task.wait().unwrap(), 7);
}

#[test]
fn dropped_handle_detaches_its_future() {
    let (wake, wakes) = channel::<std::task::Waker>();
    let (done, is_done) = channel();
    let mut polls = 0;
    let task = spawn(async move {
        poll_fn(|context| {
            polls += 1;
            if polls == 2 {
                return Poll::Ready(());
            }
            wake.send(context.waker().clone()).unwrap();
            Poll::Pending
        })
        .await;
        done.send(()).unwrap();
    });
    let waker = wakes.recv().unwrap();
    drop(task.unwrap());
    waker.wake();
    assert_eq!(is_done.recv_timeout(LIMIT), Ok(()));
}

#[test]
fn local_future_stays_on_its_poller() {
    let outer = spawn(async {
        let here = std::rc::Rc::new(std::thread::current().id());
        let inner = spawn_local(async move {
            sleep(Duration::from_millis(1)).await;
            (*here, std::thread::current().id())
        });
        inner.unwrap().await.unwrap()
    });
    let (spawned, ran) = outer.unwrap().wait().unwrap();
    assert_eq!(spawned, ran);
    assert_ne!(ran, std::thread::current().id());
}

#[test]
fn local_future_is_refused_by_name_on_other_threads() {
    let error = spawn_local(async {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let kind = error.netpoll_kind();
    assert!(matches!(kind, Some(netpoll::error::ErrorKind::NotOnPoller)));
}

#[test]
fn aborted_local_future_is_dropped_on_its_poller_without_a_poll() {
    let (dropped, drops) = channel();
    let outer = spawn(async move {
        let guard = Dropped(dropped);
        let task = spawn_local(async move {
            let _guard = guard;
            panic!("polled");
        })
        .unwrap();
        task.abort();
        assert!(is_local_close(&task.await.unwrap_err()));
        std::thread::current().id()
    });
    let poller = outer.unwrap().wait().unwrap();
    assert_eq!(drops.try_recv(), Ok(poller));
}
