// SPDX-License-Identifier: MIT OR Apache-2.0
//! hyper's timer and executors on pollers.

#[allow(dead_code, reason = "other test programs use the rest")]
#[path = "support/waiting.rs"]
mod waiting;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use hyper::rt::{Executor as _, Timer as _};
use netpoll::hyper::{Executor, LocalExecutor, Timer};

use waiting::block_on;

/// After this time a wait fails its test. No test passes because of it.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a future on a poller.
fn on_poller<F: Future<Output = ()> + 'static>(make: impl FnOnce() -> F + Send + 'static) {
    let task = netpoll::spawn(async move { netpoll::task::spawn_local(make())?.await });
    let task = task.expect("a poller");
    task.wait().expect("no panic").expect("no panic");
}

/// Completes once `gate` is open.
async fn wait_for(gate: Rc<Gate>) {
    poll_fn(|context| {
        gate.waker.replace(Some(context.waker().clone()));
        match gate.open.get() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

#[derive(Default)]
struct Gate {
    open: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Gate {
    fn open(&self) {
        self.open.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[test]
fn timer_keeps_a_sleep_that_is_reset() {
    block_on(async {
        let begun = Instant::now();
        let mut sleep = Timer.sleep(Duration::from_secs(3600));
        let address = std::ptr::from_ref(&*sleep).cast::<()>();
        Timer.reset(&mut sleep, begun + Duration::from_millis(20));
        assert_eq!(address, std::ptr::from_ref(&*sleep).cast());
        sleep.await;
        assert!(begun.elapsed() >= Duration::from_millis(20));
        Timer.sleep_until(begun).await;
    });
}

#[test]
fn executor_runs_futures_on_the_poller_of_the_caller() {
    let (ran, runs) = channel();
    let here = netpoll::spawn(async move {
        Executor.execute(async move { ran.send(thread::current().id()).unwrap() });
        thread::current().id()
    });
    assert_eq!(here.unwrap().wait().unwrap(), runs.recv().unwrap());
}

#[test]
fn local_executor_runs_futures_beside_the_connection_and_drops_the_rest() {
    on_poller(async || {
        let executor = LocalExecutor::default();
        let (first, second, gate) = (executor.clone(), executor.clone(), Rc::<Gate>::default());
        let left = Rc::new(());
        let (opened, held) = (Rc::clone(&gate), Rc::clone(&left));
        let served = executor.run(async move {
            first.execute(async move {
                let _held = held;
                pending::<()>().await;
            });
            // A future that another future passes on, and which waits.
            first.execute(async move {
                second.execute(async move {
                    netpoll::time::sleep(Duration::from_millis(1)).await;
                    opened.open();
                });
            });
            wait_for(gate).await;
            7
        });
        assert_eq!(served.await, 7);
        assert_eq!(Rc::strong_count(&left), 1, "the pending future was dropped");
    });
}

#[test]
fn future_that_panics_leaves_the_others() {
    on_poller(async || {
        let executor = LocalExecutor::default();
        let (tasks, gate) = (executor.clone(), Rc::<Gate>::default());
        let opened = Rc::clone(&gate);
        let served = executor.run(async move {
            tasks.execute(async { panic!("one request") });
            tasks.execute(async move { opened.open() });
            wait_for(gate).await;
        });
        served.await;
    });
}
