// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a [`Reader`] waits for bytes, and takes those that have come.
//!
//! A waiting reader first returns its unread bytes to the input buffer, so that later input is
//! received right behind them. It takes all of the buffer when there is enough.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use super::Reader;
use crate::budget::SHORTAGE_ALLOWANCE;
use crate::connection::input_buffer::{
    InputEnd, LastWait, ReadTimeoutPolicy, ReadWaiter, WaitNotice,
};
use crate::connection::shared::Shared;
use crate::error::{ErrorKind, Timeout};
use crate::fairness;
use crate::foreign::{CallerWaker, CloneRequired, WakerSlot, register, wake_by_ref};
use crate::poll::notifier::Notice;
use crate::sync::Arc;
use crate::timeouts::Wait;

/// From this many bytes on, waiting input is not compacted: the blocks that it keeps alive are no
/// multiple of it, at most sixteen read blocks of a poller. So a wait does not go through all of a
/// large input each time.
const COMPACT_MAX: usize = 64 << 10;

/// The wait of a call, once it has begun. Dropping it ends the wait.
#[derive(Default)]
pub(in crate::connection) struct ReadWait<'a>(Option<ReadWaitState<'a>>);

/// Since when a call waits, and where it is registered.
#[derive(Clone, Copy)]
pub(super) struct ReadWaitState<'a> {
    since: Instant,
    /// The connection whose input buffer has the waker.
    registered: Option<&'a Arc<Shared>>,
}

/// A [`ReadWait`] without its borrow: since when it waits, and whether it is registered.
#[derive(Debug, Default)]
pub(in crate::connection) struct SuspendedWait(Option<(Instant, Registration)>);

/// Whether the input buffer has the waker of a suspended wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registration {
    None,
    Registered,
}

impl<'a> ReadWait<'a> {
    /// Continues a suspended wait on the connection `shared`, which is that of before.
    pub(in crate::connection) fn resume(wait: SuspendedWait, shared: &'a Arc<Shared>) -> Self {
        Self(wait.0.map(|(since, registration)| ReadWaitState {
            since,
            registered: (registration == Registration::Registered).then_some(shared),
        }))
    }

    /// Suspends the wait. It stays registered.
    pub(in crate::connection) fn suspend(mut self) -> SuspendedWait {
        SuspendedWait(self.0.take().map(|wait| {
            let registration = match wait.registered {
                Some(_) => Registration::Registered,
                None => Registration::None,
            };
            (wait.since, registration)
        }))
    }
}

impl Drop for ReadWait<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(wait) = self.0 {
            wait.deregister();
        }
    }
}

impl ReadWaitState<'_> {
    #[cold]
    pub(super) fn deregister(self) {
        if let Some(shared) = self.registered {
            shared.deregister_reader();
        }
    }
}

impl Shared {
    /// Returns how many bytes the input buffer has.
    pub(super) fn input_len(&self) -> usize {
        let input_buffer = self.input_buffer_if_any();
        input_buffer.map_or(0, |input_buffer| input_buffer.buffer.len())
    }

    /// Returns the wait of an earlier poll, if one is registered or has timed out unseen.
    fn registered_wait(&self) -> Option<ReadWaitState<'_>> {
        let since = self.input_buffer_if_any()?.waiting_since()?;
        Some(ReadWaitState {
            since,
            registered: None,
        })
    }

    /// Ends the wait of the reader.
    fn deregister_reader(&self) {
        let mut input_buffer = self.input_buffer();
        let waker = input_buffer.clear_waiter();
        input_buffer.last_wait = LastWait::None;
        // This wait may have let in more input than the limit, which applies again.
        input_buffer.update_level(self.options.read_high);
        drop(input_buffer);
        drop(waker);
    }
}

impl<'a> Reader<'a> {
    /// Waits for `n` bytes, as a part of a call that may have begun to wait before.
    #[inline]
    pub(in crate::connection) async fn wait_in(
        &mut self,
        began: &mut ReadWait<'a>,
        n: usize,
    ) -> io::Result<()> {
        poll_fn(|context| {
            self.poll_available(context, &mut began.0, ReadTimeoutPolicy::FailCall, n)
        })
        .await
    }

    /// Lets other tasks run first, if this poll has gone on for long.
    #[inline]
    pub(in crate::connection) async fn proceed(&mut self) {
        poll_fn(|context| match fairness::may_proceed() {
            true => Poll::Ready(()),
            false => self.yield_now(context),
        })
        .await;
    }

    /// Lets other tasks run. Bytes held by this reader count toward the limit of the input buffer
    /// meanwhile.
    #[cold]
    pub(in crate::connection) fn yield_now<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        let held = self.state.buffer.len();
        self.shared
            .input_buffer()
            .set_reader_held(held, self.shared.options.read_high);
        wake_by_ref(context.waker());
        Poll::Pending
    }

    /// The slow path of a [`ReadFuture`](super::read_future::ReadFuture), which has to wait, to
    /// copy, or to let other tasks run first.
    #[inline(never)]
    pub(super) fn poll_slow(
        &mut self,
        context: &mut Context<'_>,
        began: &mut Option<ReadWaitState<'a>>,
        need: usize,
    ) -> Poll<io::Result<()>> {
        if self.state.has_contiguous(need) || !self.state.may_proceed() {
            return self.yield_now(context);
        }
        self.poll_available(context, began, ReadTimeoutPolicy::FailCall, need)
    }

    /// As [`wait_in`](Self::wait_in), with a policy for a wait that exceeds the read timeout.
    pub(in crate::connection) fn poll_wait_in(
        &mut self,
        context: &mut Context<'_>,
        began: &mut ReadWait<'a>,
        timeout_policy: ReadTimeoutPolicy,
        n: usize,
    ) -> Poll<io::Result<()>> {
        self.poll_available(context, &mut began.0, timeout_policy, n)
    }

    /// Waits for `n` bytes without a state of its own: continues the wait that an earlier poll has
    /// registered, with its beginning. It stays registered if the caller does not poll again.
    pub(in crate::connection) fn poll_registered(
        &mut self,
        context: &mut Context<'_>,
        n: usize,
    ) -> Poll<io::Result<()>> {
        let mut began = self.shared.registered_wait();
        self.poll_available(context, &mut began, ReadTimeoutPolicy::FailCall, n)
    }

    /// Returns `Ready` once there are `n` bytes; until then registers this call. When it is ready,
    /// `began` is registered nowhere.
    pub(super) fn poll_available(
        &mut self,
        context: &mut Context<'_>,
        began: &mut Option<ReadWaitState<'a>>,
        timeout_policy: ReadTimeoutPolicy,
        n: usize,
    ) -> Poll<io::Result<()>> {
        if n > self.state.max_frame {
            let max_frame = self.state.max_frame;
            Poll::Ready(Err(self.shared.frame_too_large("max_frame", max_frame, n)))
        } else if n <= self.state.buffer.len() {
            Poll::Ready(Ok(()))
        } else {
            self.poll_wait(context, began, timeout_policy, n)
        }
    }

    fn poll_wait(
        &mut self,
        context: &mut Context<'_>,
        began: &mut Option<ReadWaitState<'a>>,
        timeout_policy: ReadTimeoutPolicy,
        need: usize,
    ) -> Poll<io::Result<()>> {
        let mut since = began.as_ref().map(|wait| wait.since);
        let polled = register(context.waker(), |caller_waker| {
            self.try_wait(caller_waker, &mut since, timeout_policy, need)
        });
        *began = since.map(|since| ReadWaitState {
            since,
            registered: polled.is_pending().then_some(self.shared),
        });
        polled
    }

    fn try_wait(
        &mut self,
        caller_waker: &mut CallerWaker<'_>,
        began: &mut Option<Instant>,
        timeout_policy: ReadTimeoutPolicy,
        need: usize,
    ) -> Result<Poll<io::Result<()>>, CloneRequired> {
        let input = &mut *self.state;
        let mut input_buffer = self.shared.input_buffer();
        let resumed = input_buffer.resume();
        input.take(std::mem::take(&mut input_buffer.buffer));
        input_buffer.reader_held = input.buffer.len();
        if input.buffer.len() >= need {
            let waker = input_buffer.clear_waiter();
            input.satisfied(need);
            drop(input_buffer);
            drop(waker);
            self.resume(resumed);
            return Ok(Poll::Ready(Ok(())));
        }
        if let Some(end) = &input_buffer.end {
            let have = input.buffer.len();
            return Ok(Poll::Ready(Err(match end {
                InputEnd::Fin => ErrorKind::UnexpectedEof { have, need }.into(),
                InputEnd::Closed(reason) | InputEnd::Drained(reason) => reason.to_error(),
            })));
        }
        let last_wait = std::mem::take(&mut input_buffer.last_wait);
        // A dropped call may have left its result behind: the first look clears it.
        let is_over = match *began {
            None => self.deadline.is_some_and(|by| by <= Instant::now()),
            Some(_) => last_wait != LastWait::None,
        };
        if is_over {
            drop(input_buffer);
            self.resume(resumed);
            return Ok(Poll::Ready(Err(timeout_error(*began))));
        }
        let mut waker = WakerSlot::from(input_buffer.clear_waiter());
        if let Err(not_cloned) = waker.set(caller_waker) {
            // If the clone panics, no wait is registered, and this reader has all input.
            drop(input_buffer);
            self.resume(resumed);
            return Err(not_cloned);
        }
        // A small input is moved to memory of its own size, into the block in which the rest is
        // received.
        if input.buffer.len() < COMPACT_MAX {
            input.buffer.compact();
        }
        input.return_unread(&mut input_buffer.buffer);
        input_buffer.reader_held = 0;
        let resumed = resumed || input_buffer.on_wait == WaitNotice::NotifyPoller;
        input_buffer.waiter = Some(ReadWaiter {
            need,
            largest: input.largest,
            wait: Wait {
                since: *began.get_or_insert_with(Instant::now),
                deadline: self.deadline,
            },
            at: input.consumed(),
            timeout_policy,
            waker,
        });
        drop(input_buffer);
        self.resume(resumed);
        if self.deadline.is_some() {
            self.shared.notifier.notify_unless_running(Notice::Deadline);
        }
        self.shared.send_unless_running();
        Ok(Poll::Pending)
    }

    /// Takes all received input.
    pub(in crate::connection) fn take_input_buffer(&mut self) {
        // Bytes held by the reader count toward the limit of the input buffer, unless they are few.
        let input_buffer = match self.state.buffer.len() {
            ..=SHORTAGE_ALLOWANCE => self.shared.input_buffer_if_any(),
            _ => Some(self.shared.input_buffer()),
        };
        let Some(mut input_buffer) = input_buffer else {
            return;
        };
        let resumed = input_buffer.resume();
        // A poll may have left its wait registered.
        let waker = input_buffer.clear_waiter();
        self.state.take(std::mem::take(&mut input_buffer.buffer));
        input_buffer.reader_held = self.state.buffer.len();
        drop(input_buffer);
        drop(waker);
        self.resume(resumed);
    }

    /// Has the poller read again, if it had paused because of the input buffer.
    fn resume(&self, paused: bool) {
        if paused {
            self.shared.notifier.notify_unless_running(Notice::Send);
        }
    }
}

/// Returns the error of a read that has waited since `began`.
#[cold]
fn timeout_error(began: Option<Instant>) -> io::Error {
    let timeout = Timeout::Read;
    let after = began.map(|began| began.elapsed());
    ErrorKind::TimedOut { timeout, after }.into()
}
