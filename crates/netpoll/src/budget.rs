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
use netpoll_sys::memory::memory_limit;

use crate::error::InvalidConfig;

/// What a connection may hold and still be read for, when memory is short: a small request has
/// been served before it is counted.
pub(crate) const SMALL: usize = 4 << 10;

/// The part of the memory of the process that a budget is unless told otherwise.
const PART: u64 = 4;

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
    /// A quarter of the memory that the process may have, as its machine and its control group say
    /// now. Reads a few files.
    fn default() -> Self {
        Self::new(usize::try_from(memory_limit() / PART).unwrap_or(usize::MAX))
    }
}

impl Budget {
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

    /// Whether nothing should grow: 95 % are held. One load.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.is_used(95)
    }

    /// Whether nobody should be let in: 98 % are held.
    pub(crate) fn is_spent(&self) -> bool {
        self.is_used(98)
    }

    #[inline]
    fn is_used(&self, percent: usize) -> bool {
        self.pool.in_use() >= self.limit / 100 * percent
    }

    /// Refuses what cannot work.
    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        // Each poller has a block to read into and one to write into, and that is not yet a byte
        // for a connection.
        if self.limit < 1 << 20 {
            let expected = "must be at least 1 MiB; Budget::unlimited() is no bound";
            return Err(InvalidConfig::new("budget", expected));
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
            while !budget.is_short() {
                assert!(!budget.is_spent());
                held.put_slice(&[7; 64 << 10]);
            }
            assert!(clone.is_short());
            while !budget.is_spent() {
                held.put_slice(&[7; 64 << 10]);
            }
            let used = budget.stats().in_use;
            assert!(used <= budget.limit(), "{used}");
            drop(held);
            assert!(!clone.is_short());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_would_be_right() {
        let error = Budget::new(1000).check().unwrap_err();
        assert_eq!(error.field, "budget");
        assert!(error.expected.contains("1 MiB"));
        assert_eq!(Budget::unlimited().check(), Ok(()));
        assert!(!Budget::unlimited().is_short());
    }
}
