// SPDX-License-Identifier: MIT OR Apache-2.0
//! The number of requests of a run with `--requests`, as a share of each thread.
//!
//! The threads do not communicate, so each gets a part of the requests before it starts, in
//! proportion to its connections.

use super::pacing::RateShare;

/// How many requests a thread may still start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance(Option<u64>);

impl Allowance {
    /// Returns the share of a thread in `requests`; `None` is no limit.
    pub(crate) fn of_thread(requests: Option<u64>, share: RateShare) -> Self {
        let before = |connections: usize| {
            let part = |all: u64| u128::from(all) * connections as u128 / share.all as u128;
            // At most `requests`, which is a `u64`.
            requests.map(|all| part(all) as u64)
        };
        let (first, end) = (before(share.before), before(share.before + share.own));
        Self(end.zip(first).map(|(end, first)| end - first))
    }

    /// Takes up to `count` requests, and returns how many may start.
    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> usize {
        let Some(left) = &mut self.0 else {
            return count;
        };
        let taken = usize::try_from(*left).map_or(count, |left| left.min(count));
        *left -= taken as u64;
        taken
    }

    /// Returns whether no more requests may start.
    #[inline]
    pub(crate) fn is_spent(self) -> bool {
        self.0 == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(before: usize, own: usize, all: usize) -> RateShare {
        RateShare { before, own, all }
    }

    #[test]
    fn the_shares_of_all_threads_are_the_requests() {
        for requests in [0, 1, 7, 1_000, u64::MAX] {
            let parts = [share(0, 3, 10), share(3, 3, 10), share(6, 4, 10)];
            let shares = parts.map(|part| Allowance::of_thread(Some(requests), part).0.unwrap());
            assert_eq!(
                shares.iter().map(|&n| u128::from(n)).sum::<u128>(),
                requests.into()
            );
        }
    }

    #[test]
    fn a_spent_allowance_gives_no_more() {
        let mut allowance = Allowance::of_thread(Some(5), share(0, 1, 1));
        assert_eq!((allowance.take(3), allowance.is_spent()), (3, false));
        assert_eq!((allowance.take(3), allowance.is_spent()), (2, true));
        assert_eq!(allowance.take(3), 0);
        let mut unlimited = Allowance::of_thread(None, share(0, 1, 1));
        assert_eq!((unlimited.take(3), unlimited.is_spent()), (3, false));
    }
}
