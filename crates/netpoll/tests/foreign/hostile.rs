// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hostile wakers, and the polls and drops that a pending future goes through with them.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Once};
use std::task::{Context, Poll, Waker};

use netpoll_sys::test_waker::{WakerHooks, waker};

use crate::support::{LIMIT, block_on, eventually, pair};

/// A call back into the framework, made by foreign code.
pub(crate) type Enter = Arc<dyn Fn() + Send + Sync>;

/// A pending future and its surroundings.
pub(crate) struct Scene {
    /// Resolves after `happens`, and checks its output.
    pub(crate) waits: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Calls the handles that belong to the future.
    pub(crate) enter: Enter,
    /// Causes the event that the future waits for, and returns what must stay alive for it.
    pub(crate) happens: Box<dyn FnOnce() -> Box<dyn Any> + Send>,
}

impl Scene {
    pub(crate) fn new<T: 'static>(
        waits: impl Future<Output = ()> + Send + 'static,
        enter: impl Fn() + Send + Sync + 'static,
        happens: impl FnOnce() -> T + Send + 'static,
    ) -> Self {
        Self {
            waits: Box::pin(waits),
            enter: Arc::new(enter),
            happens: Box::new(move || Box::new(happens())),
        }
    }
}

/// The action of a wake, a clone or a drop.
#[derive(Clone)]
pub(crate) enum Act {
    Nothing,
    Panic,
    Enter(Enter),
}

const PANIC: &str = "foreign code panics";

impl Act {
    pub(crate) fn run(&self) {
        match self {
            Self::Nothing => {}
            // A second panic while unwinding would abort the process.
            Self::Panic if std::thread::panicking() => {}
            Self::Panic => std::panic::panic_any(PANIC),
            Self::Enter(enter) => enter(),
        }
    }
}

struct Hostile {
    wake: Act,
    clone: Act,
    drop: Act,
    woken: AtomicUsize,
}

impl WakerHooks for Hostile {
    fn on_wake(&self) {
        self.woken.fetch_add(1, Ordering::SeqCst);
        self.wake.run();
    }

    fn on_clone(&self) {
        self.clone.run();
    }

    fn on_drop(&self) {
        self.drop.run();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    WakePanics,
    ClonePanics,
    DropPanics,
    CallsHandles,
}

impl Kind {
    const ALL: [Self; 4] = [
        Self::WakePanics,
        Self::ClonePanics,
        Self::DropPanics,
        Self::CallsHandles,
    ];

    fn hostile(self, enter: &Enter) -> Arc<Hostile> {
        let act = |kind| match self {
            Self::CallsHandles => Act::Enter(Arc::clone(enter)),
            own if own == kind => Act::Panic,
            _ => Act::Nothing,
        };
        Arc::new(Hostile {
            wake: act(Self::WakePanics),
            clone: act(Self::ClonePanics),
            drop: act(Self::DropPanics),
            woken: AtomicUsize::new(0),
        })
    }
}

/// Aborts the process with the name of the case if it does not end in time: a deadlock cannot be
/// reported otherwise.
struct Watchdog {
    _over: Sender<()>,
}

impl Watchdog {
    fn over(what: String) -> Self {
        let (over, ended) = channel();
        std::thread::spawn(move || {
            if ended.recv_timeout(3 * LIMIT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{what}: hangs");
                std::process::abort();
            }
        });
        Self { _over: over }
    }
}

/// Silences the messages of intended panics, of which there are hundreds.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&PANIC) {
                before(info);
            }
        }));
    });
}

/// Polls once. Only a panic of the waker's clone may propagate.
fn poll(scene: &mut Scene, kind: Kind, waker: &Waker) -> Option<Poll<()>> {
    let waits = scene.waits.as_mut();
    let polled = catch_unwind(AssertUnwindSafe(|| {
        waits.poll(&mut Context::from_waker(waker))
    }));
    match polled {
        Ok(poll) => Some(poll),
        Err(payload) => {
            assert_eq!(payload.downcast_ref::<&str>(), Some(&PANIC));
            assert_eq!(kind, Kind::ClonePanics, "a panic of a wake or a drop");
            None
        }
    }
}

/// Drops a value whose drop may panic.
fn forget(value: impl Sized) {
    drop(catch_unwind(AssertUnwindSafe(|| drop(value))));
}

/// Polls with two wakers in turn, then causes the event. Returns whether the future completed.
fn put_through(mut scene: Scene, kind: Kind) -> bool {
    // The waker whose clone panics replaces another one.
    let first = match kind {
        Kind::ClonePanics => Kind::WakePanics,
        other => other,
    };
    let hostile = [first, kind].map(|kind| kind.hostile(&scene.enter));
    let wakers = [0, 1].map(|which| waker(Arc::clone(&hostile[which])));
    let (mut done, mut panicked) = (false, false);
    // The second poll has the waker that is registered already.
    for waker in [&wakers[0], &wakers[0], &wakers[1]] {
        if !done {
            let polled = poll(&mut scene, kind, waker);
            done = polled == Some(Poll::Ready(()));
            panicked = polled.is_none();
        }
    }
    let Scene { waits, happens, .. } = scene;
    if panicked {
        // A future that has panicked is not polled again.
        drop(waits);
        drop(happens());
    } else {
        let stays = happens();
        if !done {
            eventually("a wake", || hostile[1].woken.load(Ordering::SeqCst) > 0);
            block_on(waits);
            done = true;
        }
        drop(stays);
    }
    wakers.into_iter().for_each(forget);
    done
}

/// Polls, and drops the future before the event.
fn abandon(mut scene: Scene, kind: Kind) {
    let hostile = [(); 2].map(|()| kind.hostile(&scene.enter));
    let wakers = [0, 1].map(|which| waker(Arc::clone(&hostile[which])));
    // A future that has completed or panicked is not polled again.
    let mut waits = wakers.iter();
    while let Some(waker) = waits.next()
        && poll(&mut scene, kind, waker) == Some(Poll::Pending)
    {}
    let Scene { waits, happens, .. } = scene;
    drop(waits);
    drop(happens());
    wakers.into_iter().for_each(forget);
}

/// Checks that the shared poller serves another connection and a dial works.
pub(crate) fn still_serves() {
    let (mut conn, mut peer) = pair();
    peer.send(b"a");
    block_on(conn.reader().wait(1)).expect("a byte");
    conn.writer().put_u8(b'b');
    block_on(conn.writer().flush()).expect("a peer that reads");
    assert_eq!(peer.receive(1), b"b");
}

/// Runs `run` under a watchdog, and then checks that the poller still serves.
pub(crate) fn watched(what: &str, run: impl FnOnce()) {
    quiet();
    let _watchdog = Watchdog::over(what.to_owned());
    run();
    still_serves();
}

/// Runs scenes from `make` with every kind of hostile waker, to their end and abandoned.
pub(crate) fn survives(what: &str, make: impl Fn() -> Scene) {
    for kind in Kind::ALL {
        watched(&format!("{what}, {kind:?}"), || {
            let done = put_through(make(), kind);
            assert!(done || kind == Kind::ClonePanics, "{what}");
        });
        watched(&format!("{what}, {kind:?}, abandoned"), || {
            abandon(make(), kind);
        });
    }
}
