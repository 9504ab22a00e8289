// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Budget`]: how much memory all connections of a loop, or of several, may hold.
//!
//! A budget is a pool of memory and a limit. What is lent out of the pool is counted by whole
//! blocks, because that is what it costs. Near the limit, first nothing grows: a connection that
//! holds input gets no more of it, until there is room again. Nearer to it, nobody is let in.
//! What is held then is given back as handlers consume, as peers take their answers, and in the end
//! because the timeouts of those who do neither run out.

use std::fmt;

use netpoll_buffer::{Pool, PoolStats};
use netpoll_sys::memory::{MemoryBound, MemorySource, memory_bound};

use crate::error::InvalidConfig;
use crate::event::Event;

/// What a connection may hold and still be read for, when memory is short: a small request has
/// been served before it is counted.
pub(crate) const SHORTAGE_ALLOWANCE: usize = 4 << 10;

/// What each poller has of a budget before any connection has some: a block to read into and one to
/// write into, each of 64 KiB and a page.
const POLLER_RESERVE: usize = 2 * (68 << 10);

/// The least that a budget may be, whatever it is for.
const MIN_BUDGET: usize = 1 << 20;

/// The largest memory that comes in sizes of powers of two; what is larger is of its own size.
const MAX_SIZE_CLASS: usize = 8 << 20;

/// What a block may have more than its size says.
const BLOCK_OVERHEAD: usize = 4 << 10;

/// The part of the memory of the process that a budget is unless told otherwise.
const DEFAULT_DIVISOR: u64 = 4;

/// A bound of the memory that connections hold: what has come and was not consumed, and what was
/// put and has not left. Clones are one budget; a loop has one of its own unless it is given one
/// ([`Builder::budget`](crate::Builder::budget)).
///
/// Counted is what is in blocks of the budget's [`Pool`], from which the threads of the loop take:
/// not what was pushed, which is its giver's, nor what handlers write on threads of a foreign
/// executor.
///
/// ```
/// use netpoll::{Budget, EventLoop};
///
/// let budget = Budget::new(256 << 20);
/// let builder = EventLoop::builder().budget(budget.clone());
/// assert_eq!(budget.stats().in_use, 0);
/// ```
#[derive(Clone)]
pub struct Budget {
    pool: Pool,
    limit: usize,
}

impl Default for Budget {
    /// A quarter of the memory that the process may have, as its machine, its control group and its
    /// limits (`RLIMIT_AS`, `RLIMIT_DATA`) say now. Reads a few files.
    fn default() -> Self {
        Self::from_memory_bound(memory_bound(), MIN_BUDGET)
    }
}

impl Budget {
    /// The part of what `bound` says that connections may hold, and not less than `least`, without
    /// which no loop is built.
    fn from_memory_bound(bound: MemoryBound, least: usize) -> Self {
        let part = usize::try_from(bound.bytes / DEFAULT_DIVISOR).unwrap_or(usize::MAX);
        Self::new(part.max(least))
    }

    /// The budget of a loop that was given `given`, and what there is to tell of it: that the default
    /// is less than the machine would allow, or that what was given is more than the process may have.
    pub(crate) fn for_loop(given: Option<Self>, least: usize) -> (Self, Option<Event>) {
        Self::for_loop_bounded(given, least, memory_bound())
    }

    fn for_loop_bounded(
        given: Option<Self>,
        least: usize,
        bound: MemoryBound,
    ) -> (Self, Option<Event>) {
        let MemoryBound { bytes, source } = bound;
        match given {
            None => {
                let budget = Self::from_memory_bound(bound, least);
                let limited = source != MemorySource::Machine;
                let event = limited.then_some(Event::BudgetLimited {
                    budget: budget.limit,
                    memory: bytes,
                    source: source.into(),
                });
                (budget, event)
            }
            Some(given) => {
                let above = given.limit != usize::MAX && given.limit as u64 > bytes;
                let event = above.then_some(Event::BudgetAboveMemory {
                    budget: given.limit,
                    memory: bytes,
                    source: source.into(),
                });
                (given, event)
            }
        }
    }

    /// At most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self::of(Pool::default(), limit)
    }

    /// At most `limit` bytes of `pool`.
    #[must_use]
    pub fn of(pool: Pool, limit: usize) -> Self {
        Self { pool, limit }
    }

    /// No bound.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// How much there may be.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// What is held now, and what is kept for the next taker.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.pool.stats()
    }

    /// The pool whose memory it counts. Threads of a foreign executor may
    /// [enter](Pool::enter) it, for what handlers write there to count too.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The least limit with which `pollers` pollers can have one frame of `max_frame` bytes come in.
    /// Below it the connection with such a frame would not be read any more before the frame is whole,
    /// and end for its slowness.
    ///
    /// A frame lies in one block, whose size is a power of two up to 8 MiB, each poller has two blocks
    /// of 64 KiB, and at 95 % of the limit nothing is read for who holds much. So it is a little above
    /// `max_frame`, and at most about twice that; never below 1 MiB.
    ///
    /// ```
    /// use netpoll::Budget;
    ///
    /// let least = Budget::least(4 << 20, 2);
    /// assert!((4 << 20..5 << 20).contains(&least));
    /// ```
    #[must_use]
    pub fn least(max_frame: usize, pollers: usize) -> usize {
        let frame = match max_frame.checked_next_power_of_two() {
            Some(size) if size <= MAX_SIZE_CLASS => size,
            _ => max_frame,
        };
        let blocks = pollers.saturating_mul(POLLER_RESERVE);
        let held = frame.saturating_add(BLOCK_OVERHEAD).saturating_add(blocks);
        // Held must be below 95 of a hundred parts.
        let part = held / 95 + 1;
        part.saturating_mul(100).max(MIN_BUDGET)
    }

    /// Whether nothing should grow: 95 % are held. One load.
    #[inline]
    pub(crate) fn is_low(&self) -> bool {
        self.is_used_above(95)
    }

    /// Whether nobody should be let in: 98 % are held.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.is_used_above(98)
    }

    #[inline]
    fn is_used_above(&self, percent: usize) -> bool {
        self.pool.in_use() >= self.limit / 100 * percent
    }

    /// The memory of a loop with so many `pollers`.
    pub(crate) fn of_pollers(&self, pollers: usize) -> LoopMemory {
        LoopMemory {
            limit: self.limit,
            pollers,
        }
    }

    /// Refuses what cannot work for frames of at most `max_frame` bytes.
    pub(crate) fn check(&self, max_frame: usize, pollers: usize) -> Result<(), InvalidConfig> {
        if self.limit < MIN_BUDGET {
            let expected = "must be at least 1 MiB; Budget::unlimited() is no bound";
            return Err(InvalidConfig::new("budget", expected));
        }
        if self.limit < Self::least(max_frame, pollers) {
            let expected = "must hold a frame of max_frame bytes and two blocks of 64 KiB for each \
                            poller: give at least Budget::least(max_frame, pollers), or a smaller \
                            max_frame";
            return Err(InvalidConfig::new("budget", expected));
        }
        Ok(())
    }
}

/// How much memory a loop may use, and how many pollers share it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoopMemory {
    limit: usize,
    pollers: usize,
}

impl Default for LoopMemory {
    /// No bound.
    fn default() -> Self {
        Self {
            limit: usize::MAX,
            pollers: 1,
        }
    }
}

impl LoopMemory {
    /// Refuses a connection whose largest frame could never come in.
    pub(crate) fn check_max_frame(self, max_frame: usize) -> Result<(), InvalidConfig> {
        if self.limit < Budget::least(max_frame, self.pollers) {
            let expected = "must fit into the budget of the loop that the connection belongs to: give \
                            ConnOptions a smaller max_frame, or the loop a budget of at least \
                            Budget::least(max_frame, pollers)";
            return Err(InvalidConfig::new("max_frame", expected));
        }
        Ok(())
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("limit", &self.limit)
            .field("in_use", &self.pool.in_use())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use netpoll_buffer::LinkBuffer;

    use super::*;

    #[test]
    fn a_budget_is_short_before_it_is_spent_and_clones_are_one() {
        let budget = Budget::new(64 << 20);
        let clone = budget.clone();
        std::thread::spawn(move || {
            clone.pool().enter();
            let mut held = LinkBuffer::new();
            while !budget.is_low() {
                assert!(!budget.is_exhausted());
                held.put_slice(&[7; 64 << 10]);
            }
            assert!(clone.is_low());
            while !budget.is_exhausted() {
                held.put_slice(&[7; 64 << 10]);
            }
            let used = budget.stats().in_use;
            assert!(used <= budget.limit(), "{used}");
            drop(held);
            assert!(!clone.is_low());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_would_be_right() {
        let error = Budget::new(1000).check(1, 1).unwrap_err();
        assert_eq!(error.field, "budget");
        assert!(error.expected.contains("1 MiB"));
        assert_eq!(Budget::unlimited().check(usize::MAX, usize::MAX), Ok(()));
        assert!(!Budget::unlimited().is_low());
    }

    #[test]
    fn a_budget_that_holds_no_largest_frame_is_refused_and_one_that_just_does_is_not() {
        let frames = [
            1,
            1000,
            64 << 10,
            1 << 20,
            4 << 20,
            5 << 20,
            8 << 20,
            9 << 20,
            1 << 30,
        ];
        for max_frame in frames {
            for pollers in [1, 2, 64] {
                let least = Budget::least(max_frame, pollers);
                assert!(least > max_frame);
                assert_eq!(Budget::new(least).check(max_frame, pollers), Ok(()));
                let error = Budget::new(least - 1)
                    .check(max_frame, pollers)
                    .unwrap_err();
                assert_eq!(error.field, "budget");
            }
        }
        let error = Budget::new(4 << 20).check(4 << 20, 1).unwrap_err();
        assert!(error.expected.contains("max_frame"));
    }

    fn bound(bytes: u64, source: MemorySource) -> MemoryBound {
        MemoryBound { bytes, source }
    }

    #[test]
    fn the_default_is_a_quarter_of_the_least_bound_and_says_so_if_it_is_not_the_machines() {
        let machine = bound(64 << 30, MemorySource::Machine);
        let (budget, event) = Budget::for_loop_bounded(None, MIN_BUDGET, machine);
        assert_eq!((budget.limit(), event), (16 << 30, None));
        for source in [MemorySource::ControlGroup, MemorySource::AddressSpace] {
            let (budget, event) =
                Budget::for_loop_bounded(None, MIN_BUDGET, bound(256 << 20, source));
            assert_eq!(budget.limit(), 64 << 20);
            let expected = Event::BudgetLimited {
                budget: 64 << 20,
                memory: 256 << 20,
                source: source.into(),
            };
            assert_eq!(event, Some(expected));
        }
        let (least, _) =
            Budget::for_loop_bounded(None, MIN_BUDGET, bound(4096, MemorySource::Data));
        assert_eq!(least.limit(), MIN_BUDGET);
    }

    #[test]
    fn a_budget_that_is_given_is_kept_and_told_if_it_is_more_than_there_may_be() {
        let small = bound(256 << 20, MemorySource::AddressSpace);
        let (budget, event) =
            Budget::for_loop_bounded(Some(Budget::new(1 << 30)), MIN_BUDGET, small);
        assert_eq!(budget.limit(), 1 << 30);
        assert!(
            matches!(event, Some(Event::BudgetAboveMemory { .. })),
            "{event:?}"
        );
        for given in [Budget::new(256 << 20), Budget::unlimited()] {
            let limit = given.limit();
            let (budget, event) = Budget::for_loop_bounded(Some(given), MIN_BUDGET, small);
            assert_eq!((budget.limit(), event), (limit, None));
        }
    }
}
