// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a poller does each time a source has run: it sends what the source wants to send, watches
//! what it wants to hear of, takes over its deadline, and puts it back into its slot or lets it go.

use std::io;

use netpoll_sys::Interest;

use super::Poller;
use super::bell;
use super::registry::Run;
use super::source::{End, Next, Source};
use super::token::Token;
use crate::guard::guard;
use crate::moment::Moment;

/// Whether a source stays with its poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stays {
    Yes,
    No,
}

impl Poller {
    /// After a source has run: sends, watches, and puts it back or lets it go.
    pub(super) fn conclude(&mut self, mut run: Run, next: Next) {
        let stays = match next {
            Next::AsBefore => Stays::Yes,
            next => self.see_to(&mut run, next),
        };
        bell::set_running(None);
        match stays {
            Stays::Yes => self.registry.put_back(run),
            Stays::No => self.remove(run),
        }
    }

    /// Sends what the source gives, and has the driver and the timers do what it wants then. Says
    /// whether it stays.
    #[inline]
    fn see_to(&mut self, run: &mut Run, next: Next) -> Stays {
        let mut next = self.send_for(run, next);
        if let Next::Become(successor) = next {
            next = self.succeed(run, successor);
        }
        let interest = match next {
            Next::Gone => return Stays::No,
            Next::Unwatched => None,
            Next::Again(interest) => {
                self.call_again(run.token);
                Some(interest)
            }
            Next::Wait(interest) => Some(interest),
            Next::Rest => Some(Interest::READABLE),
            Next::Become(_) | Next::AsBefore => None,
        };
        if let Err(error) = self.watch(run, interest) {
            // The kernel has no room for the registration. No event will ever come, so this is
            // the end of the input.
            match run.source.ended(End::Broken(error), &mut self.turn) {
                Next::Gone => return Stays::No,
                Next::Again(_) => self.call_again(run.token),
                Next::Wait(_) | Next::Rest | Next::AsBefore | Next::Unwatched | Next::Become(_) => {
                }
            }
        }
        self.set_deadline(run.token);
        Stays::Yes
    }

    /// Puts `successor` in the place of the source that ran, and whoever it makes way for at once.
    #[cold]
    fn succeed(&mut self, run: &mut Run, successor: Box<dyn Source>) -> Next {
        let mut next = Next::Become(successor);
        while let Next::Become(successor) = next {
            discard(std::mem::replace(&mut run.source, successor));
            next = run.source.born(&mut self.turn);
            if let Some(ask) = self.asked {
                // The one before may have had nothing to do with it.
                next = run.source.asked(ask, &mut self.turn);
            }
            next = self.send_for(run, next);
        }
        next
    }

    /// Makes the driver watch what the source wants, and writing while its output is blocked.
    #[inline]
    fn watch(&mut self, run: &mut Run, interest: Option<Interest>) -> io::Result<()> {
        let blocked = Interest::WRITABLE.when(run.watch.blocked);
        let wanted = interest.map(|interest| interest.and(blocked));
        if wanted == run.watch.interest {
            return Ok(());
        }
        let Some(fd) = run.source.fd() else {
            return Ok(());
        };
        let before = std::mem::replace(&mut run.watch.interest, wanted);
        let watched = self.driver.watch(fd, run.token, before, wanted);
        if watched.is_err() {
            run.watch.interest = None;
        }
        watched
    }

    pub(super) fn remove(&mut self, run: Run) {
        let Run {
            token,
            source,
            watch,
        } = run;
        if let Some(watched) = watch.interest
            && let Some(fd) = source.fd()
        {
            // A descriptor that the kernel has already forgotten needs no deleting.
            let _deleted = self.driver.watch(fd, token, Some(watched), None).ok();
        }
        if let Some(entry) = self.registry.get_mut(token)
            && let Some(key) = entry.look.take()
        {
            self.timers.cancel(key);
        }
        self.registry.remove(token);
        self.turn.deadline = None;
        discard(source);
    }

    /// Takes over the deadline that the source which ran has left in the turn.
    #[inline]
    fn set_deadline(&mut self, token: Token) {
        let Some(deadline) = self.turn.deadline.take() else {
            return;
        };
        let Some(entry) = self.registry.get_mut(token) else {
            return;
        };
        entry.deadline = deadline;
        if let Some(when) = deadline.map(Moment::of) {
            match entry.look {
                Some(look) if self.timers.comes_by(look, when) => {}
                look => {
                    look.into_iter().for_each(|key| self.timers.cancel(key));
                    entry.look = Some(self.timers.set(token, when));
                }
            }
        }
    }
}

/// Drops a source: it may hold a handler's future and state, which are user code.
fn discard(source: Box<dyn Source>) {
    let _panicked = guard(|| drop(source)).is_err();
}
