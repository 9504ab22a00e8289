// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection as its poller drives it.
//!
//! The session owns the connection while it is idle and lends it to the handler while there is
//! input. It is told what landed and what left, and answers what it wants next. All its
//! transitions are on its poller's thread. How it calls the handler is in
//! [`calling`](super::calling), how much may wait on either side in [`flow`](super::flow), and how
//! it ends in [`teardown`](super::teardown).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netpoll_sys::{Interest, Readiness};

use super::Connection;
use super::burst::Stage;
use super::calling::{Caller, Calls, Holder, Script};
use super::clock::Clock;
use super::flow::{Flow, Memory, More};
use super::inbox::{self, InputEnd};
use super::link::Link;
use super::state::{Life, Phase};
use super::watchdog::Ran;
use super::write_queue::Told;
use crate::census::Presence;
use crate::error::{CloseReason, Limit};
use crate::foreign::OwnWaker;
use crate::moment::Moment;
use crate::poll::source::{Ask, End, Landed, Next, Outgoing, Room, Source, Turn};
use crate::sync::{Arc, lock};

/// From this size on, a connection that sends such frames gets its next one into a block of its
/// own from the first byte.
const LARGE_FRAME: usize = 32 << 10;

/// What such a block has more than the frame, for its header.
const HEADER_ROOM: usize = 512;

/// Where bytes land for a connection that nobody has.
#[inline]
fn room_of(connection: &mut Connection) -> Room {
    let input = connection.input();
    if input.expected() < LARGE_FRAME {
        return Room::Shared;
    }
    let block = input.expected() + HEADER_ROOM;
    Room::Own(input.chain.landing(block, block))
}

/// One connection and its handler.
pub(crate) struct Session<C: Caller> {
    pub(super) link: Arc<Link>,
    pub(super) waker: OwnWaker,
    pub(super) script: Script<C>,
    pub(super) holder: Holder<C::Call>,
    pub(super) life: Life,
    pub(super) presence: Option<Presence>,
    pub(super) flow: Flow,
    pub(super) clock: Clock,
}

impl<C: Caller> Session<C> {
    /// A session that holds a new connection.
    pub(crate) fn new(link: Arc<Link>, script: Script<C>, presence: Option<Presence>) -> Self {
        let connection = Connection::new(Arc::clone(&link));
        Self::held(link, Holder::Session(connection), script, presence)
    }

    /// A session whose connection somebody owns.
    pub(crate) fn owned(link: Arc<Link>, script: Script<C>) -> Self {
        Self::held(link, Holder::Owner, script, None)
    }

    fn held(
        link: Arc<Link>,
        holder: Holder<C::Call>,
        script: Script<C>,
        presence: Option<Presence>,
    ) -> Self {
        let waker = OwnWaker::new(Arc::clone(&link));
        let now = Moment::now();
        link.tally.moved(now);
        link.bell.counters().poller.opened.add(1);
        Self {
            link,
            waker,
            script,
            holder,
            life: Life::new(),
            presence,
            flow: Flow::default(),
            clock: Clock::new(now),
        }
    }

    /// What the session wants next, as its whole state says.
    #[inline]
    pub(super) fn next(&mut self, turn: &mut Turn) -> Next {
        self.after_handler(turn);
        if self.wants_input_only(turn) {
            return Next::Wait(Interest::READABLE);
        }
        self.next_in_motion(turn)
    }

    #[inline]
    fn wants_input_only(&self, turn: &Turn) -> bool {
        self.is_at_rest() || self.is_awaited(turn)
    }

    /// As [`next`](Self::next), when the deadline is to be computed although nothing may have moved.
    pub(super) fn next_with_deadline(&mut self, turn: &mut Turn) -> Next {
        if self.wants_input_only(turn) {
            // At rest nothing is held, and what is awaited is read: memory that was short is no more.
            self.flow.memory = Memory::Enough;
            self.set_deadline(turn);
        }
        self.next(turn)
    }

    fn next_in_motion(&mut self, turn: &mut Turn) -> Next {
        self.hear_endings();
        if self.life.phase() == Phase::Open {
            self.finish_output();
            self.leave_if_asked();
        }
        if self.life.phase() == Phase::Open {
            self.review_input();
            self.end_if_done();
        }
        if self.life.phase() != Phase::Open {
            return self.next_of_the_end(turn);
        }
        let interest = Interest::READABLE.when(self.wants_input(turn));
        self.set_deadline(turn);
        if self.life.broken().is_some() && interest == Interest::NONE && self.flow.more == More::No
        {
            // Only hang-ups could be heard, for ever.
            return Next::Unwatched;
        }
        if self.flow.more != More::No && !self.is_congested() {
            Next::Again(interest)
        } else {
            Next::Wait(interest)
        }
    }

    /// Where bytes land on a connection that is not simply at rest.
    fn room_in_motion(&mut self, turn: &Turn) -> Room {
        if self.life.phase() == Phase::Lingering {
            return Room::Shared;
        }
        if !self.wants_input(turn) {
            return Room::Closed;
        }
        let may_grow = !turn.is_short_of_memory();
        match &mut self.holder {
            Holder::Session(connection) if may_grow => room_of(connection),
            Holder::Session(_) => Room::Shared,
            _ => match self.link.inbox_if_any() {
                Some(inbox) if inbox.has_enough() => Room::Closed,
                Some(mut inbox) if may_grow => inbox.room(),
                _ => Room::Shared,
            },
        }
    }

    /// Nothing more will land. What the handler left is offered once more: now it knows that.
    pub(super) fn end_input(&mut self, end: InputEnd) {
        self.life.end_input();
        self.life.over();
        let mut inbox = self.link.inbox();
        let waker = inbox.finish(end);
        let reason = inbox.reason();
        drop(inbox);
        if let Some(reason) = reason {
            self.link.tell_end_begun(&reason);
        }
        self.wake_waiter(waker);
        self.link.tell_end();
        if self.flow.stalled {
            self.flow.more = More::Fin;
        }
    }

    /// Nothing more can be sent. What has arrived is offered all the same.
    pub(super) fn output_broke(&mut self, error: io::Error) -> InputEnd {
        let reason = if self.link.is_aborted() {
            // The kernel tells of our own reset: the cause is whatever `hear_endings` says.
            CloseReason::Local
        } else {
            let reason = CloseReason::Broken(Arc::new(error));
            self.life.break_off(reason.clone());
            reason
        };
        if self.life.phase() != Phase::Open {
            self.die(reason.clone());
        }
        let waker = self.link.discard(reason.clone());
        self.link.tell_end_begun(&reason);
        self.flow.unsent = 0;
        self.wake_waiter(waker);
        InputEnd::Closed(reason)
    }

    /// Has the handler see what there is: called if it is not running, woken if it waits.
    pub(super) fn offer(&mut self) {
        match &self.holder {
            Holder::Session(_) if self.script.calls == Calls::PerRequest => {
                if !self.is_congested() {
                    self.call_handler();
                } else if self.flow.more == More::No {
                    self.flow.more = More::Input;
                }
            }
            _ => {}
        }
    }
}

impl<C: Caller> Source for Session<C> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.link.as_fd())
    }

    /// Of TCP, which `epoll(7)` says it of. A Unix socket ends a read at each descriptor that was sent
    /// along, whatever comes behind it.
    fn short_read_empties(&self) -> bool {
        self.link.is_tcp()
    }

    fn is_silent(&self) -> bool {
        self.life.has_ended_both_ways()
    }

    fn born(&mut self, turn: &mut Turn) -> Next {
        self.before_handler(turn);
        let called = self.script.calls == Calls::Once || self.script.stage == Stage::Connect;
        if called && matches!(self.holder, Holder::Session(_)) {
            self.call_handler();
        }
        self.next_with_deadline(turn)
    }

    #[inline]
    fn room(&mut self, turn: &mut Turn) -> Room {
        if turn.is_short_of_memory() || !self.is_at_rest() {
            return self.room_in_motion(turn);
        }
        match &mut self.holder {
            Holder::Session(connection) => room_of(connection),
            _ => Room::Shared,
        }
    }

    #[inline]
    fn landed(&mut self, landed: Landed, turn: &mut Turn) -> Next {
        let count = match &landed {
            Landed::Shared(window) => window.len(),
            Landed::Own(_, count) => *count,
        };
        self.drain_received(count);
        if count > 0 {
            self.link.tally.received.add(count as u64);
            self.link.tally.note(turn);
            self.note_debt(count);
        }
        if self.life.phase() != Phase::Open {
            self.throw_away(count);
            return self.next(turn);
        }
        match &mut self.holder {
            Holder::Session(connection) => {
                let input = connection.input();
                inbox::append(&mut input.chain, landed);
                input.count(count);
                if count > 0 {
                    self.offer();
                }
            }
            _ => {
                let mut inbox = self.link.inbox();
                let waker = inbox.append(landed);
                inbox.mark(self.link.options.read_high);
                drop(inbox);
                self.wake_waiter(waker);
            }
        }
        self.next(turn)
    }

    fn ended(&mut self, end: End, turn: &mut Turn) -> Next {
        self.before_handler(turn);
        let end = match end {
            // Of a Unix socket, our own end of both directions reads as the peer's.
            End::Fin if self.link.is_aborted() => InputEnd::Closed(CloseReason::Local),
            End::Fin => InputEnd::Fin,
            End::Broken(error) => self.output_broke(error),
        };
        self.end_input(end);
        self.next(turn)
    }

    fn outgoing(&mut self) -> Option<Outgoing> {
        if self.life.phase() == Phase::Closed {
            None
        } else {
            self.link.take_output()
        }
    }

    #[inline]
    fn sent(&mut self, mut rest: Outgoing, result: io::Result<usize>, turn: &mut Turn) -> Next {
        match result {
            Ok(count) => {
                let mut outbox = lock(&self.link.outbox);
                outbox.sent += count as u64;
                let flushed = outbox.give_back(&mut rest);
                self.flow.unsent = outbox.held_up();
                drop(outbox);
                if count > 0 {
                    self.link.tally.note(turn);
                }
                self.clock.sent(count, self.flow.unsent);
                let told = self.link.tell_line();
                if told == Told::Nobody
                    && flushed.is_none()
                    && self.script.ran == Ran::Nothing
                    && self.is_at_rest()
                {
                    // Nobody but the handler puts, and it has not run since.
                    return Next::Rest;
                }
                self.wake_waiter(flushed);
            }
            Err(error) => self.sending_failed(error),
        }
        self.next(turn)
    }

    fn ready(&mut self, readiness: Readiness, turn: &mut Turn) -> Next {
        if readiness.is_readable() || readiness.may_have_ended() {
            self.pause_for_inbox();
        }
        match self.next(turn) {
            // What this peer has sent will be of no use, and what it holds is wanted by others.
            _ if readiness.is_hang_up() && self.flow.memory == Memory::Short => {
                self.die(CloseReason::Limit(Limit::Memory));
                self.next(turn)
            }
            // Both directions are over and nothing is read now: the event would come for ever.
            // Whatever wants to read again watches again, and hears of it.
            Next::Wait(interest) if readiness.is_hang_up() && interest == Interest::NONE => {
                Next::Unwatched
            }
            next => next,
        }
    }

    fn woken(&mut self, turn: &mut Turn) -> Next {
        let signals = self.link.bell.take();
        if signals.is_empty() {
            // What it rang for is done.
            return Next::AsBefore;
        }
        self.heard(signals, turn)
    }

    fn again(&mut self, turn: &mut Turn) -> Next {
        let signals = self.link.bell.take();
        self.heard(signals, turn)
    }

    fn expired(&mut self, turn: &mut Turn) -> Next {
        if self.life.phase() == Phase::Open {
            let now = turn.woke().unwrap_or_else(|| turn.moment());
            self.look_at_the_clock(now.instant());
        } else {
            self.time_is_up();
        }
        self.next_with_deadline(turn)
    }

    fn abandoned(&mut self) {
        self.abandon_waits();
    }

    fn asked(&mut self, ask: Ask, turn: &mut Turn) -> Next {
        self.before_handler(turn);
        match ask {
            Ask::StopAccepting => {}
            Ask::Drain if self.is_of_a_client() => {}
            Ask::Drain => self.drain_for(CloseReason::Shutdown, turn.now()),
            Ask::Force => self.force(),
            Ask::Fail => self.fail(),
        }
        self.next(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Held;
    use crate::connection::burst::{Finished, Shared};
    use crate::connection::inline::Inline;
    use std::future::Ready;

    type Idle = Inline<(), fn(Shared<()>, Connection, Stage) -> Ready<Finished>, Ready<Finished>>;

    #[test]
    fn an_idle_connection_of_ipv4_is_three_small_allocations() {
        let sizes = (
            size_of::<Session<Idle>>(),
            // The span of a connection is there with the feature `tracing` only.
            size_of::<Link>() - size_of::<crate::trace::Span>(),
            size_of::<Held>(),
        );
        assert!(
            sizes.0 <= 160 && sizes.1 <= 216 && sizes.2 <= 104,
            "{sizes:?}"
        );
    }
}
