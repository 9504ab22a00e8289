// SPDX-License-Identifier: MIT OR Apache-2.0
//! The source that accepts from a [`Listener`].
//!
//! One acceptor, on one poller, takes connections in batches and hands each to the poller that has
//! the fewest. When descriptors or kernel memory have run out it looks away and tries again after
//! 10 ms, then twice that, up to a second; existing connections notice nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use netpoll_sys::{Interest, socket};

use super::Listener;
use crate::addr::Addr;
use crate::census::{Door, Presence};
use crate::connection::service::{Newcomer, Service};
use crate::poll::set::{PollerHandle, PollerSet};
use crate::poll::source::{Ask, Birth, Next, Source, Turn};
use crate::sync::Arc;

/// The most connections accepted in one go.
const BATCH: usize = 64;

/// The most connections that a queue of the kernel's holds: a backlog is a `u16`.
const LONGEST_QUEUE: usize = 1 << 16;

/// The most failures in one go that are taken for those of connections.
const FAILURES: usize = 16;

/// The first pause after descriptors ran out, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts on its poller.
pub(crate) struct Acceptor {
    listener: Listener,
    pollers: Arc<PollerSet>,
    service: Arc<dyn Service>,
    /// The pause after the next failure; `None` while all is well.
    pause: Option<Duration>,
    /// A shutdown waits for it: it accepts what is queued before it goes.
    _door: Door,
}

impl Acceptor {
    /// What makes an acceptor for `listener` on its poller.
    pub(crate) fn birth(
        listener: Listener,
        pollers: Arc<PollerSet>,
        service: Arc<dyn Service>,
    ) -> Birth {
        listener.hand_down(&service.terms().options);
        let door = Door::new(&service.terms().census);
        Box::new(move |_place| {
            Box::new(Self {
                listener,
                pollers,
                service,
                pause: None,
                _door: door,
            })
        })
    }

    /// Takes at most `limit` connections.
    fn accept(&mut self, limit: usize, turn: &mut Turn) -> Next {
        let mut failures = 0;
        for _ in 0..limit {
            match socket::accept(self.listener.as_fd()) {
                Ok((fd, peer)) => {
                    self.pause = None;
                    self.hand_out(fd, peer, turn);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if has_run_out(&error) => return self.look_away(turn),
                // A connection that died in the queue is its own affair (accept(2)). A listener
                // that fails again and again is ours: it is not asked without end.
                Err(_) if failures < FAILURES => failures += 1,
                Err(_) => return self.look_away(turn),
            }
        }
        Next::Wait(Interest::READABLE)
    }

    fn look_away(&mut self, turn: &mut Turn) -> Next {
        let pause = self
            .pause
            .map_or(FIRST_PAUSE, |pause| (2 * pause).min(LONGEST_PAUSE));
        self.pause = Some(pause);
        let deadline = turn.now() + pause;
        turn.expire_at(Some(deadline));
        Next::Wait(Interest::NONE)
    }

    fn hand_out(&self, fd: OwnedFd, peer: Addr, turn: &mut Turn) {
        let poller = self.pollers.least_connections();
        let presence = Presence::new(&self.service.terms().census);
        let newcomer = Newcomer {
            fd,
            peer,
            seat: poller.sit(),
            presence,
        };
        register(poller, Arc::clone(&self.service), newcomer, turn);
    }
}

/// Makes a session of a newcomer on `poller`.
fn register(poller: &PollerHandle, service: Arc<dyn Service>, newcomer: Newcomer, turn: &mut Turn) {
    let birth: Birth = Box::new(move |place| service.session(newcomer, place));
    if poller.is_here() {
        turn.register(birth);
    } else {
        poller.register(birth);
    }
}

/// Whether accepting failed for want of descriptors or memory, which only time can mend.
fn has_run_out(error: &io::Error) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const ENOBUFS: i32 = 105;
    const ENOMEM: i32 = 12;
    matches!(
        error.raw_os_error(),
        Some(EMFILE | ENFILE | ENOBUFS | ENOMEM)
    )
}

impl Source for Acceptor {
    fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    fn born(&mut self, _turn: &mut Turn) -> Next {
        Next::Wait(Interest::READABLE)
    }

    fn woken(&mut self, turn: &mut Turn) -> Next {
        self.accept(BATCH, turn)
    }

    fn asked(&mut self, ask: Ask, turn: &mut Turn) -> Next {
        if ask == Ask::Drain {
            // What the kernel has queued was accepted as far as its peer knows: it is served. No
            // queue is longer than this; more than that came after the request.
            self.listener.hide();
            self.accept(LONGEST_QUEUE, turn);
        }
        Next::Gone
    }
}
