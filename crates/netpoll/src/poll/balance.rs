// SPDX-License-Identifier: MIT OR Apache-2.0
//! The choice of a poller for the next connection.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

use crate::guard::guard;
use crate::sync::{Arc, AtomicUsize, Ordering};

/// How accepted connections are placed on pollers. A connection stays where it was placed.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Balance {
    /// The poller with the fewest connections. The right choice in most cases: it evens out
    /// connections that end early.
    #[default]
    LeastConnections,
    /// One poller after the other, regardless of their load.
    RoundRobin,
    /// A random poller, each with the same probability.
    Random,
    /// The poller whose index the function returns, given the loads of all. It is called on a
    /// poller for each connection, and must not block. If it panics or returns an index that does
    /// not exist, the poller with the fewest connections is taken.
    Custom(Arc<PollerSelector>),
}

/// Returns the index of a poller, given the loads of all.
type PollerSelector = dyn Fn(&[PollerLoad]) -> usize + Send + Sync;

/// The load of a poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PollerLoad {
    /// The connections that were placed on it and whose descriptors are open.
    pub connections: usize,
}

impl Balance {
    /// Returns whether user code chooses.
    pub(crate) fn is_custom(&self) -> bool {
        matches!(self, Self::Custom(_))
    }

    /// Returns the index of the poller that gets the next connection. `loads` has the number of
    /// connections of each, at least one. `counter` is the state of `RoundRobin`. `panicked` is
    /// called if the user's function panics.
    pub(super) fn select(
        &self,
        loads: impl Iterator<Item = usize>,
        counter: &AtomicUsize,
        panicked: impl FnOnce(),
    ) -> usize {
        match self {
            Self::LeastConnections => least_loaded(loads),
            // Relaxed: no other memory depends on the count.
            Self::RoundRobin => counter.fetch_add(1, Ordering::Relaxed) % loads.count().max(1),
            Self::Random => random() % loads.count().max(1),
            Self::Custom(choose) => {
                let loads: Vec<_> = loads
                    .map(|connections| PollerLoad { connections })
                    .collect();
                let chosen = guard(|| choose(&loads));
                if chosen.is_err() {
                    panicked();
                }
                match chosen {
                    Ok(index) if index < loads.len() => index,
                    _ => least_loaded(loads.iter().map(|load| load.connections)),
                }
            }
        }
    }
}

fn least_loaded(loads: impl Iterator<Item = usize>) -> usize {
    let fewest = loads
        .enumerate()
        .min_by_key(|&(_, connections)| connections);
    fewest.map_or(0, |(index, _)| index)
}

/// Returns a random number, good enough to spread load over pollers or time: the standard library
/// seeds its keys at random once per thread, and they differ from call to call.
pub(crate) fn random() -> usize {
    RandomState::new().build_hasher().finish() as usize
}

impl fmt::Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeastConnections => "LeastConnections",
            Self::RoundRobin => "RoundRobin",
            Self::Random => "Random",
            Self::Custom(_) => "Custom",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(balance: &Balance, loads: &[usize], counter: &AtomicUsize) -> usize {
        balance.select(loads.iter().copied(), counter, || {})
    }

    #[test]
    fn least_connections_picks_the_fewest_and_round_robin_ignores_load() {
        let counter = AtomicUsize::new(0);
        assert_eq!(
            selected(&Balance::LeastConnections, &[3, 1, 2], &counter),
            1
        );
        let round: Vec<_> = (0..5)
            .map(|_| selected(&Balance::RoundRobin, &[9, 0, 0], &counter))
            .collect();
        assert_eq!(round, [0, 1, 2, 0, 1]);
    }

    #[test]
    fn random_selection_is_uniform() {
        let counter = AtomicUsize::new(0);
        let mut counts = [0; 4];
        for _ in 0..4000 {
            counts[selected(&Balance::Random, &[0; 4], &counter)] += 1;
        }
        assert!(
            counts.iter().all(|&n| (800..1200).contains(&n)),
            "{counts:?}"
        );
    }

    #[test]
    fn an_invalid_custom_choice_falls_back_to_least_connections() {
        let counter = AtomicUsize::new(0);
        let own = |choose: fn(&[PollerLoad]) -> usize| Balance::Custom(Arc::new(choose));
        let most = own(|loads| {
            let most = loads
                .iter()
                .enumerate()
                .max_by_key(|(_, load)| load.connections);
            most.map_or(0, |(index, _)| index)
        });
        assert_eq!(selected(&most, &[3, 1, 2], &counter), 0);
        assert_eq!(selected(&own(|loads| loads.len()), &[3, 1, 2], &counter), 1);
        assert_eq!(selected(&own(|_| usize::MAX), &[3, 1, 2], &counter), 1);
        assert_eq!(
            selected(
                &own(|_| panic!("custom balance panics")),
                &[3, 2, 1],
                &counter
            ),
            2
        );
    }
}
