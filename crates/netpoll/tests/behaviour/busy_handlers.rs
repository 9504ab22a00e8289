// SPDX-License-Identifier: MIT OR Apache-2.0
//! User code that never waits yields to the other connections of its thread.
//!
//! Each test has a *hog*, a loop that runs until the end of the test, and a *victim*, a connection
//! on the same thread. The victim is answered while the hog runs, and the hog makes a limited
//! number of steps in one round trip.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use netpoll::buffer::LinkBuffer;
use netpoll::pool::ConnPool;
use netpoll::time::{sleep, timeout};
use netpoll::{BoxError, Builder, Connection, Dialer, EventLoop};

use crate::support::{Server, eventually};

/// How long one step of a hog takes.
const STEP: Duration = Duration::from_micros(50);

/// The maximum of steps of a hog in the quickest round trip of its victim.
const MOST: usize = 500;

/// The number of round trips.
const TRIPS: usize = 30;

/// The state that a hog shares with its test.
#[derive(Clone, Default)]
pub(crate) struct Hog {
    steps: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Hog {
    /// Makes a step, which takes `STEP`. Returns whether the hog continues.
    pub(crate) fn step(&self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < STEP {
            std::hint::spin_loop();
        }
        self.steps.fetch_add(1, Ordering::SeqCst);
        !self.is_over.load(Ordering::SeqCst)
    }

    fn steps(&self) -> usize {
        self.steps.load(Ordering::SeqCst)
    }

    /// Checks that round trips of the victim are answered while the hog runs.
    pub(crate) fn does_not_hold_up(&self, what: &str, mut trip: impl FnMut()) {
        eventually(what, || self.steps() > 0);
        let mut least = usize::MAX;
        for _ in 0..TRIPS {
            let before = self.steps();
            trip();
            least = least.min(self.steps() - before);
        }
        assert!(least <= MOST, "{what}: {least} steps in a round trip");
        let before = self.steps();
        eventually(what, || self.steps() > before);
        self.is_over.store(true, Ordering::SeqCst);
    }
}

/// Yields once.
pub(crate) async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Calls that complete without a wait.
const WAYS: [&str; 9] = [
    "yield", "sleep", "timeout", "ready", "flush", "writable", "queue", "pool", "dial",
];

/// Runs the hog with calls that complete without a wait.
async fn run(hog: &Hog, way: &str, conn: &mut Connection) -> Result<(), BoxError> {
    let pool = ConnPool::new(Dialer::new());
    let kept = match way {
        "pool" => Some(pool.get(conn.local_addr()?).await?),
        _ => None,
    };
    let addr = kept.as_ref().map(|kept| kept.peer_addr());
    if let Some(kept) = kept {
        give_back(kept);
    }
    while hog.step() {
        match way {
            "yield" => yield_once().await,
            "sleep" => sleep(Duration::ZERO).await,
            "timeout" => drop(timeout(Duration::ZERO, std::future::pending::<()>()).await),
            "ready" => timeout(Duration::from_secs(60), async {}).await?,
            "flush" => conn.writer().flush().await?,
            "writable" => conn.writer().writable().await?,
            "queue" => conn.write_queue().send(LinkBuffer::new()).await?,
            "dial" => drop(Dialer::new().dial(netpoll::Addr::Unnamed).await),
            "pool" => give_back(pool.get(addr.ok_or("an address")?).await?),
            _ => unreachable!("{way}"),
        }
    }
    Ok(())
}

/// Returns the connection to its pool.
fn give_back(conn: netpoll::pool::Pooled) {
    drop(conn);
}

/// Reads a byte. Returns whether it asks for the hog; a victim is answered.
pub(crate) async fn is_hog(conn: &mut Connection) -> Result<bool, BoxError> {
    let asked = conn.reader().read_u8().await?;
    if asked == b'v' {
        conn.writer().put_u8(b'!');
    }
    Ok(asked == b'h')
}

pub(crate) fn victim(server: &Server) -> impl FnMut() + use<> {
    let mut peer = server.connect();
    move || {
        peer.send(b"v");
        assert_eq!(peer.receive(1), b"!");
    }
}

/// Returns a builder with one poller, which runs the handlers.
pub(crate) fn one_poller() -> Builder {
    EventLoop::builder().pollers(1)
}

/// Returns builders with one thread for handlers: the poller, or a thread beside it.
pub(crate) fn one_thread() -> [Builder; 2] {
    [one_poller(), one_poller().handler_threads(1)]
}

#[test]
fn a_handler_that_never_waits_yields_to_others_on_its_thread() {
    for way in WAYS {
        for builder in one_thread() {
            let hog = Hog::default();
            let runs = hog.clone();
            let builder =
                builder.on_request(
                    async move |conn: &mut Connection| match is_hog(conn).await? {
                        true => run(&runs, way, conn).await,
                        false => Ok(()),
                    },
                );
            let server = Server::start_as_given(builder);
            let mut peer = server.connect();
            peer.send(b"h");
            hog.does_not_hold_up(way, victim(&server));
        }
    }
}

#[test]
fn a_connection_handler_that_never_waits_yields_to_others_on_its_thread() {
    for way in WAYS {
        for builder in one_thread() {
            let hog = Hog::default();
            let runs = hog.clone();
            let builder = builder.on_connection(async move |mut conn: Connection| {
                loop {
                    if is_hog(&mut conn).await? {
                        run(&runs, way, &mut conn).await?;
                    }
                }
            });
            let server = Server::start_as_given(builder);
            let mut peer = server.connect();
            peer.send(b"h");
            hog.does_not_hold_up(way, victim(&server));
        }
    }
}

#[test]
fn a_spawned_task_that_never_waits_yields_to_the_connections_of_its_poller() {
    for way in ["yield", "sleep", "timeout", "ready"] {
        let hog = Hog::default();
        let runs = hog.clone();
        let builder = one_poller().on_request(async move |conn: &mut Connection| {
            if is_hog(conn).await? {
                let hog = runs.clone();
                drop(netpoll::spawn(async move {
                    while hog.step() {
                        match way {
                            "yield" => yield_once().await,
                            "sleep" => sleep(Duration::ZERO).await,
                            "ready" => timeout(Duration::MAX / 4, async {}).await.unwrap(),
                            _ => drop(timeout(Duration::ZERO, yield_once()).await),
                        }
                    }
                })?);
            }
            Ok(())
        });
        let server = Server::start_as_given(builder);
        let mut peer = server.connect();
        peer.send(b"h");
        hog.does_not_hold_up(way, victim(&server));
    }
}

#[test]
fn tasks_that_spawn_each_other_yield_to_the_connections_of_their_poller() {
    fn spawn_chain(hog: Hog) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            if hog.step() {
                drop(netpoll::spawn(spawn_chain(hog.clone())));
            }
        })
    }
    let hog = Hog::default();
    let runs = hog.clone();
    let builder = one_poller().on_request(async move |conn: &mut Connection| {
        if is_hog(conn).await? {
            spawn_chain(runs.clone()).await;
        }
        Ok(())
    });
    let server = Server::start_as_given(builder);
    let mut peer = server.connect();
    peer.send(b"h");
    hog.does_not_hold_up("spawn_chain", victim(&server));
}

#[test]
fn a_handler_of_a_dialed_connection_yields_to_others_on_its_poller() {
    let hog = Hog::default();
    let runs = hog.clone();
    let echo = Server::start_as_given(one_poller().on_request(async |conn: &mut Connection| {
        let chunk = conn.reader().chunk().await?;
        conn.writer().append(chunk.unwrap_or_default());
        Ok(())
    }));
    let addr = echo.addr;
    let builder = one_poller().on_request(async move |conn: &mut Connection| {
        if is_hog(conn).await? {
            let mut dialed = Dialer::new().dial(addr).await?;
            dialed.writer().put_u8(b'?');
            let hog = runs.clone();
            dialed.serve(async move |conn: &mut Connection| {
                conn.reader().read_u8().await?;
                while hog.step() {
                    yield_once().await;
                }
                Ok(())
            });
        }
        Ok(())
    });
    let server = Server::start_as_given(builder);
    let mut peer = server.connect();
    peer.send(b"h");
    hog.does_not_hold_up("served", victim(&server));
}
