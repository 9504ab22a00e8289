// SPDX-License-Identifier: MIT OR Apache-2.0
//! The work of a poller after each run of a source: send its output, update its epoll interest,
//! take over its deadline, and return it to its slot or remove it.

use std::io;

use netpoll_sys::Interest;

use super::Poller;
use super::notifier;
use super::registry::RunningSource;
use super::source::{EndOfInput, NextAction, Source};
use super::token::Token;
use crate::guard::guard;
use crate::timestamp::Timestamp;

/// Whether a source stays with its poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Keep,
    Remove,
}

impl Poller {
    /// Applies the result of a run: sends, updates the interest, and puts the source back or
    /// removes it.
    pub(super) fn apply(&mut self, mut run: RunningSource, next: NextAction) {
        let fate = match next {
            NextAction::Unchanged => Fate::Keep,
            next => self.apply_action(&mut run, next),
        };
        notifier::set_running(None);
        match fate {
            Fate::Keep => self.registry.put_back(run),
            Fate::Remove => self.remove(run),
        }
    }

    /// Sends the source's output and applies its interest and deadline. Returns whether the source
    /// stays.
    #[inline]
    fn apply_action(&mut self, run: &mut RunningSource, next: NextAction) -> Fate {
        let mut next = self.send_for(run, next);
        if let NextAction::Replace(replacement) = next {
            next = self.replace(run, replacement);
        }
        let interest = match next {
            NextAction::Remove => return Fate::Remove,
            NextAction::NoInterest => None,
            NextAction::Yield(interest) => {
                self.schedule_yield(run.token);
                Some(interest)
            }
            NextAction::Wait(interest) => Some(interest),
            NextAction::OutputDrained => Some(Interest::READABLE),
            NextAction::Replace(_) | NextAction::Unchanged => None,
        };
        if let Err(error) = self.apply_interest(run, interest) {
            // epoll cannot register the descriptor, so no event will ever come. This ends the
            // input, and nothing more is sent.
            notifier::set_running(None);
            match run
                .source
                .on_input_end(EndOfInput::Error(error), &mut self.context)
            {
                NextAction::Remove => return Fate::Remove,
                NextAction::Yield(_) => self.schedule_yield(run.token),
                NextAction::Wait(_)
                | NextAction::OutputDrained
                | NextAction::Unchanged
                | NextAction::NoInterest
                | NextAction::Replace(_) => {}
            }
        }
        self.apply_deadline(run.token);
        Fate::Keep
    }

    /// Puts `replacement` in the slot of the running source, and repeats if that one asks to be
    /// replaced at once.
    #[cold]
    fn replace(&mut self, run: &mut RunningSource, replacement: Box<dyn Source>) -> NextAction {
        let mut next = NextAction::Replace(replacement);
        while let NextAction::Replace(replacement) = next {
            discard(std::mem::replace(&mut run.source, replacement));
            run.watch.replace(run.source.as_ref());
            next = run.source.on_register(&mut self.context);
            if let Some(request) = self.shutdown {
                // The source before it may have ignored the request.
                next = run.source.on_shutdown(request, &mut self.context);
            }
            next = self.send_for(run, next);
        }
        next
    }

    /// Registers the interest of the source with the driver, and write interest while its output is
    /// blocked.
    #[inline]
    fn apply_interest(
        &mut self,
        run: &mut RunningSource,
        interest: Option<Interest>,
    ) -> io::Result<()> {
        let mut wanted = interest.map(|interest| interest.union(run.watch.extra));
        if !self.spurious.is_empty() && self.spurious.is_paused(run.token) {
            wanted = None;
        }
        if wanted == run.watch.interest {
            return Ok(());
        }
        let Some(fd) = run.source.fd() else {
            return Ok(());
        };
        let before = std::mem::replace(&mut run.watch.interest, wanted);
        let watched = self.driver.update_interest(fd, run.token, before, wanted);
        if watched.is_err() {
            run.watch.interest = None;
        }
        watched
    }

    pub(super) fn remove(&mut self, mut run: RunningSource) {
        let (token, watch) = (run.token, run.watch);
        let source = run.take_source();
        // With a duplicate of the descriptor open, the kernel keeps the registration. A
        // level-triggered one would report readiness without end, an edge-triggered one once for
        // each arrival.
        if let Some(watched) = watch.interest
            && let Some(fd) = source.fd()
            && !(watched.is_edge_triggered() && source.has_no_more_events())
        {
            // A descriptor that the kernel has already removed needs no deregistration.
            let _deleted = self
                .driver
                .update_interest(fd, token, Some(watched), None)
                .ok();
        }
        if let Some(entry) = self.registry.get_mut(token)
            && let Some(key) = entry.timer.take()
        {
            self.timers.cancel(key);
        }
        self.registry.remove(token);
        if !self.spurious.is_empty() {
            self.spurious.remove(token);
        }
        self.context.deadline = None;
        discard(source);
    }

    /// Takes over the deadline that the running source left in the context.
    #[inline]
    fn apply_deadline(&mut self, token: Token) {
        let Some(deadline) = self.context.deadline.take() else {
            return;
        };
        let Some(entry) = self.registry.get_mut(token) else {
            return;
        };
        entry.deadline = deadline;
        if let Some(when) = deadline.map(Timestamp::from_instant) {
            match entry.timer {
                Some(timer) if self.timers.fires_by(timer, when) => {}
                timer => {
                    timer.into_iter().for_each(|key| self.timers.cancel(key));
                    entry.timer = Some(self.timers.set(token, when));
                }
            }
        }
    }
}

/// Drops a source: it may hold a handler's future and state, which are user code.
fn discard(source: Box<dyn Source>) {
    let _panicked = guard(|| drop(source)).is_err();
}

#[cfg(test)]
mod tests;
