// SPDX-License-Identifier: MIT OR Apache-2.0
//! The futures of timers, tasks, loops and shutdowns, and executors of the user.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netpoll::runner::Spawn;
use netpoll::time::{sleep, timeout};
use netpoll::{Connection, Dialer, EventLoop, Listener, Runner};

use crate::hostile::{Scene, survives};
use crate::reading::ask;
use crate::support::{Gate, Peer, Server, eventually, pair};

const SOON: Duration = Duration::from_millis(30);

#[test]
fn sleep_and_timeout_survive_hostile_wakers() {
    survives("sleep", || Scene::new(sleep(SOON), || (), || ()));
    survives("timeout", || {
        let (mut conn, peer) = pair();
        let handle = conn.handle();
        let waits = async move {
            let waited = timeout(SOON, conn.reader().wait(1)).await;
            assert!(waited.is_err(), "nothing comes");
        };
        Scene::new(waits, move || ask(&handle), move || peer)
    });
}

#[test]
fn completed_and_panicked_tasks_survive_hostile_wakers() {
    for panics in [false, true] {
        survives("Task", || {
            let gate = Gate::default();
            let opens = gate.clone();
            let task = netpoll::spawn(async move {
                gate.pass().await;
                assert!(!panics, "a task");
            });
            let task = task.expect("a poller");
            let waits = async move { assert_eq!(task.await.is_err(), panics) };
            Scene::new(waits, || (), move || opens.open())
        });
    }
}

/// The output of a task is a user's value, and may be dropped on any thread.
#[test]
fn task_output_may_panic_when_dropped() {
    struct Output;
    impl Drop for Output {
        fn drop(&mut self) {
            panic!("the output of a task");
        }
    }
    for is_done in [false, true] {
        crate::hostile::watched("dropped", || {
            let gate = Gate::default();
            let passes = gate.clone();
            let task = netpoll::spawn(async move {
                passes.pass().await;
                Output
            });
            let task = task.expect("a poller");
            if is_done {
                gate.open();
                eventually("the end", || format!("{task:?}").contains("true"));
            }
            drop(task);
            gate.open();
        });
    }
}

#[test]
fn shutdown_survives_hostile_wakers() {
    survives("shutdown", || {
        let serve = async |conn: &mut Connection| conn.reader().skip(1).await.map_err(Into::into);
        let server = Server::start_unobserved(EventLoop::builder().pollers(1).on_request(serve));
        let mut peer = Peer::connect(server.addr);
        eventually("a connection", || server.handle.connections() == 1);
        peer.send(&[0; 1]);
        let shutdown = server.handle.shutdown(4 * SOON);
        let asked = server.handle.clone();
        let waits = async move {
            let _cut = shutdown.await;
        };
        let enter = move || {
            let _stats = (asked.stats(), asked.connections(), asked.accept_stats());
        };
        Scene::new(waits, enter, move || {
            drop(peer);
            drop(server);
        })
    });
}

#[test]
fn dial_before_its_loop_runs_survives_hostile_wakers() {
    survives("a loop that does not run yet", || {
        let listener = Listener::bind("127.0.0.1:0").expect("a free port");
        let builder = EventLoop::builder().pollers(1).listen(listener);
        let lives = builder
            .on_request(async |conn: &mut Connection| {
                conn.reader().skip(1).await.map_err(Into::into)
            })
            .build()
            .expect("a loop");
        let addr = lives.local_addrs()[0];
        let (asked, ends) = (lives.handle(), lives.handle());
        let dialer = Dialer::new().on(&ends);
        let ends_after = Arc::new(());
        let under_way = Arc::clone(&ends_after);
        let waits = async move {
            let _under_way = under_way;
            drop(dialer.dial(addr).await.expect("a loop that runs"));
        };
        let enter = move || {
            let _stats = (asked.stats(), asked.connections());
        };
        Scene::new(waits, enter, move || {
            std::thread::spawn(move || lives.run().expect("a loop"));
            std::thread::spawn(move || {
                // The loop may accept the connection before the dial has completed.
                eventually("the dial", || Arc::strong_count(&ends_after) == 1);
                drop(ends.shutdown(Duration::ZERO));
            });
        })
    });
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An executor that keeps its tasks for the test to poll.
#[derive(Default)]
struct Kept(Mutex<Vec<Task>>);

impl Spawn for Kept {
    fn spawn(&self, task: Task) {
        self.0.lock().expect("no panic under it").push(task);
    }
}

#[test]
fn handler_on_another_executor_survives_hostile_wakers() {
    for cuts in [false, true] {
        survives("an offloaded handler", || {
            let kept = Arc::<Kept>::default();
            let runner = Runner::Spawn(Arc::<Kept>::clone(&kept));
            let builder = EventLoop::builder_on(runner).pollers(1);
            let server =
                Server::start_unobserved(builder.on_connection(async |mut conn: Connection| {
                    conn.reader().wait(1).await.map_err(Into::into)
                }));
            let mut peer = Peer::connect(server.addr);
            let taken = || kept.0.lock().expect("no panic under it").pop();
            let mut task = None;
            eventually("a task", || {
                task = taken();
                task.is_some()
            });
            let waits = task.expect("it is there");
            let asked = server.handle.clone();
            let enter = move || {
                let _stats = (asked.stats(), asked.connections());
            };
            Scene::new(waits, enter, move || {
                match cuts {
                    true => drop(server.handle.shutdown(Duration::ZERO)),
                    false => peer.send(b"a"),
                }
                drop(peer);
                // Dropping the server ends the loop, once the task has completed or was dropped.
                std::thread::spawn(move || drop(server));
            })
        });
    }
}

#[test]
fn draining_future_survives_hostile_wakers() {
    survives("draining", || {
        let kept = Arc::new(Mutex::new(None));
        let keeps = Arc::clone(&kept);
        let builder = EventLoop::builder().pollers(1);
        let server =
            Server::start_unobserved(builder.on_connection(async move |mut conn: Connection| {
                let waits: Task = Box::pin(conn.draining());
                *keeps.lock().expect("no panic under it") = Some((waits, conn.handle()));
                let _end = conn.reader().wait(1).await;
                Ok(())
            }));
        let peer = Peer::connect(server.addr);
        let mut given = None;
        eventually("a handler that waits", || {
            given = kept.lock().expect("no panic under it").take();
            given.is_some()
        });
        let (waits, handle) = given.expect("it is there");
        Scene::new(
            waits,
            move || ask(&handle),
            move || {
                drop(server.handle.shutdown(4 * SOON));
                (peer, server)
            },
        )
    });
}
