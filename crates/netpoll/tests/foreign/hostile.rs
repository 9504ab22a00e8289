// SPDX-License-Identifier: MIT OR Apache-2.0
//! Wakers that do harm, and what a future that waits is put through with them.

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

/// What foreign code does that is called back.
pub(crate) type Enter = Arc<dyn Fn() + Send + Sync>;

/// A future that waits, and what is around it.
pub(crate) struct Scene {
    /// Waits until it `happens`, and checks what it comes to.
    pub(crate) waits: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Calls the handles that belong to it.
    pub(crate) enter: Enter,
    /// Has come about what it waits for, and gives what is to stay for it.
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

/// What one of the three does.
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
            // A second panic at once would abort, whoever catches the first.
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

/// Aborts with the name of what runs if it does not end: a dead-lock cannot be caught otherwise.
struct Watchdog {
    _over: Sender<()>,
}

impl Watchdog {
    fn over(what: String) -> Self {
        let (over, heard) = channel();
        std::thread::spawn(move || {
            if heard.recv_timeout(3 * LIMIT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{what}: hangs");
                std::process::abort();
            }
        });
        Self { _over: over }
    }
}

/// Nothing is written of panics that are wanted; there are hundreds.
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

/// One poll. A panic of the waker's clone comes out of it, and nothing else does.
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

/// Drops what may panic.
fn forget(value: impl Sized) {
    drop(catch_unwind(AssertUnwindSafe(|| drop(value))));
}

/// Two wakers one after the other, and then what is waited for. Says whether it came to its end.
fn put_through(mut scene: Scene, kind: Kind) -> bool {
    // A clone that panics finds another waker there.
    let first = match kind {
        Kind::ClonePanics => Kind::WakePanics,
        other => other,
    };
    let hostile = [first, kind].map(|kind| kind.hostile(&scene.enter));
    let wakers = [0, 1].map(|which| waker(Arc::clone(&hostile[which])));
    let (mut done, mut panicked) = (false, false);
    // The second time it is the one that is known.
    for waker in [&wakers[0], &wakers[0], &wakers[1]] {
        if !done {
            let polled = poll(&mut scene, kind, waker);
            done = polled == Some(Poll::Ready(()));
            panicked = polled.is_none();
        }
    }
    let Scene { waits, happens, .. } = scene;
    if panicked {
        // What has panicked is not polled again.
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

/// It waits no more before what is waited for.
fn give_up(mut scene: Scene, kind: Kind) {
    let hostile = [(); 2].map(|()| kind.hostile(&scene.enter));
    let wakers = [0, 1].map(|which| waker(Arc::clone(&hostile[which])));
    // What is done or has panicked is not polled again.
    let mut waits = wakers.iter();
    while let Some(waker) = waits.next()
        && poll(&mut scene, kind, waker) == Some(Poll::Pending)
    {}
    let Scene { waits, happens, .. } = scene;
    drop(waits);
    drop(happens());
    wakers.into_iter().for_each(forget);
}

/// The shared poller serves another connection, and a dial works.
pub(crate) fn still_serves() {
    let (mut conn, mut peer) = pair();
    peer.send(b"a");
    block_on(conn.reader().wait(1)).expect("a byte");
    conn.writer().put_u8(b'b');
    block_on(conn.writer().flush()).expect("a peer that reads");
    assert_eq!(peer.receive(1), b"b");
}

/// Runs `run`, watched, and looks whether all goes on then.
pub(crate) fn watched(what: &str, run: impl FnOnce()) {
    quiet();
    let _watchdog = Watchdog::over(what.to_owned());
    run();
    still_serves();
}

/// Puts the scenes that `make` makes through all of it.
pub(crate) fn survives(what: &str, make: impl Fn() -> Scene) {
    for kind in Kind::ALL {
        watched(&format!("{what}, {kind:?}"), || {
            let done = put_through(make(), kind);
            assert!(done || kind == Kind::ClonePanics, "{what}");
        });
        watched(&format!("{what}, {kind:?}, given up"), || {
            give_up(make(), kind);
        });
    }
}
