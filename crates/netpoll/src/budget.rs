// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Budget`]: limits the memory that all connections of a loop, or of several, may hold.
//!
//! A budget is a pool of memory and a limit. Memory is counted in whole blocks of the pool, because
//! that is what it costs. Near the limit, growth stops first: a connection that holds input is not
//! read until memory is free again. Still nearer, no connection is accepted. Memory is freed as
//! handlers consume and as peers read their answers; where neither happens, timeouts end the
//! connections.

use std::fmt;

use netpoll_buffer::{Pool, PoolStats};
use netpoll_sys::memory::{MemoryBound, MemorySource, memory_bound};

use crate::error::InvalidConfig;
use crate::event::Event;

/// How much input a connection may hold and still be read while memory is low: enough to serve a
/// small request.
pub(crate) const SHORTAGE_ALLOWANCE: usize = 4 << 10;

/// The memory that each poller uses before any connection does: a block to read into and one to
/// write into, each of 64 KiB and a page.
const POLLER_RESERVE: usize = 2 * (68 << 10);

/// The smallest budget.
const MIN_BUDGET: usize = 1 << 20;

/// The largest block whose size is rounded up to a power of two; larger blocks are not rounded.
const MAX_SIZE_CLASS: usize = 8 << 20;

/// The most that a block is larger than its nominal size.
const BLOCK_OVERHEAD: usize = 4 << 10;

/// The default budget is the memory limit of the process divided by this.
const DEFAULT_DIVISOR: u64 = 4;

/// Limits the memory that connections hold: received bytes that were not consumed, and written
/// bytes that were not sent. Clones share one budget. A loop has a budget of its own unless
/// [`Builder::budget`](crate::Builder::budget) sets one.
///
/// It counts the blocks of the budget's [`Pool`], from which the threads of the loop allocate. It
/// does not count pushed memory, which belongs to the caller, nor what handlers write on threads of
/// a foreign executor.
///
/// ```
/// use netpoll::options::Budget;
/// use netpoll::EventLoop;
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
    /// Returns a quarter of the memory limit of the process, which is the smallest of the machine's
    /// memory, its control group and its limits (`RLIMIT_AS`, `RLIMIT_DATA`). Reads a few files.
    fn default() -> Self {
        Self::from_memory_bound(memory_bound(), MIN_BUDGET)
    }
}

impl Budget {
    /// Returns the default share of `bound`, at least `least`, below which no loop is built.
    fn from_memory_bound(bound: MemoryBound, least: usize) -> Self {
        let part = usize::try_from(bound.bytes / DEFAULT_DIVISOR).unwrap_or(usize::MAX);
        Self::new(part.max(least))
    }

    /// Returns the budget of a loop that was built with `given`, and the event to report: that the
    /// default is smaller than the machine would allow, or that `given` exceeds the memory limit.
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

    /// Creates a budget of `limit` bytes with a pool of its own.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self::of(Pool::default(), limit)
    }

    /// Creates a budget of `limit` bytes of `pool`.
    #[must_use]
    pub fn of(pool: Pool, limit: usize) -> Self {
        Self { pool, limit }
    }

    /// Creates a budget without a limit.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// Returns the limit, in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the memory that is in use, and the free memory that the pool keeps.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.pool.stats()
    }

    /// Returns the pool whose memory it counts. Threads of a foreign executor may
    /// [enter](Pool::enter) it, so that what handlers write there counts too.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Returns the smallest limit with which `pollers` pollers can receive one frame of `max_frame`
    /// bytes. Below it, a connection with such a frame would stop being read before the frame is
    /// complete, and time out.
    ///
    /// A frame is stored in one block, whose size is a power of two up to 8 MiB. Each poller has
    /// two blocks of 64 KiB. At 95 % of the limit, connections that hold much input are not read.
    /// So the result is a little above `max_frame`, at most about twice that, and at least 1 MiB.
    ///
    /// ```
    /// use netpoll::options::Budget;
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
        // `held` must stay below 95 percent of the limit.
        let part = held / 95 + 1;
        part.saturating_mul(100).max(MIN_BUDGET)
    }

    /// Returns whether memory is low: 95 % are in use. One load.
    #[inline]
    pub(crate) fn is_low(&self) -> bool {
        self.is_used_above(95)
    }

    /// Returns whether accepting has to pause: 98 % are in use.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.is_used_above(98)
    }

    #[inline]
    fn is_used_above(&self, percent: usize) -> bool {
        self.pool.in_use() >= self.limit / 100 * percent
    }

    /// Returns the memory of a loop with this many `pollers`.
    pub(crate) fn of_pollers(&self, pollers: usize) -> LoopMemory {
        LoopMemory {
            limit: self.limit,
            pollers,
        }
    }

    /// Rejects a budget that cannot work for frames of at most `max_frame` bytes.
    pub(crate) fn check(&self, max_frame: usize, pollers: usize) -> Result<(), InvalidConfig> {
        if self.limit < MIN_BUDGET {
            let expected = "must be at least 1 MiB; use Budget::unlimited() for no limit";
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

/// The memory limit of a loop, and the number of pollers that share it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoopMemory {
    limit: usize,
    pollers: usize,
}

impl Default for LoopMemory {
    /// No limit.
    fn default() -> Self {
        Self {
            limit: usize::MAX,
            pollers: 1,
        }
    }
}

impl LoopMemory {
    /// Rejects a `max_frame` that the loop could never receive.
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
    fn budget_is_low_before_it_is_exhausted_and_clones_share_it() {
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
    fn invalid_budget_is_rejected_with_the_expected_value() {
        let error = Budget::new(1000).check(1, 1).unwrap_err();
        assert_eq!(error.option, "budget");
        assert!(error.expected.contains("1 MiB"));
        assert_eq!(Budget::unlimited().check(usize::MAX, usize::MAX), Ok(()));
        assert!(!Budget::unlimited().is_low());
    }

    #[test]
    fn budget_below_the_largest_frame_is_rejected_and_the_minimum_is_accepted() {
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
                assert_eq!(error.option, "budget");
            }
        }
        let error = Budget::new(4 << 20).check(4 << 20, 1).unwrap_err();
        assert!(error.expected.contains("max_frame"));
    }

    fn bound(bytes: u64, source: MemorySource) -> MemoryBound {
        MemoryBound { bytes, source }
    }

    #[test]
    fn default_is_a_quarter_of_the_smallest_bound_and_reports_a_bound_below_the_machine() {
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
    fn given_budget_is_kept_and_reported_if_above_the_memory_bound() {
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
