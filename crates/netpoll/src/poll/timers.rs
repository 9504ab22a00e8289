// SPDX-License-Identifier: MIT OR Apache-2.0
//! The timers of a poller: a hierarchical timing wheel of seven levels.
//!
//! ```text
//!   level 0   64 slots of     1 ms     due within the next 64 ms
//!   level 1   64 slots of    64 ms     … 4 s
//!   level 2   64 slots of     4 s      … 4 min
//!    …
//!   level 6   64 slots of    2 years   … 139 years, and later
//! ```
//!
//! A timer is in the innermost level in which its tick differs from now; when time reaches its slot
//! it fires or moves inwards. Setting and cancelling a timer take a few instructions, however many
//! there are. An empty slot has no memory: otherwise each slot would keep the memory of the largest
//! number of timers it ever had. Time is counted in ticks of 1 ms from the creation of the wheel,
//! and a timer is rounded up to a tick: it never fires early, and at most one tick late.
//!
//! A *deadline* is kept in the source's entry; the wheel has only timers. A deadline that moves to
//! a later time leaves its timer unchanged; the timer then fires early and is set again. So a
//! deadline that moves with every request costs nothing here until the first timer fires.

use std::time::Duration;

use slab::Slab;

use super::token::Token;
use crate::timestamp::Timestamp;

/// One millisecond, in nanoseconds.
const NANOS_PER_TICK: u64 = 1_000_000;

const LEVELS: usize = 7;
const SLOTS: usize = 64;

/// The bits of a tick that select the slot of a level.
const BITS_PER_LEVEL: u32 = SLOTS.trailing_zeros();

/// The last tick. A later timer fires then and is set again.
const MAX_TICK: u64 = (1 << (BITS_PER_LEVEL * LEVELS as u32)) - 1;

/// A timing wheel.
#[derive(Debug)]
pub(super) struct Timers {
    start: Timestamp,
    /// Timers up to this tick have been taken out of the levels.
    elapsed: u64,
    /// No occupied slot is reached before this tick.
    next_tick: u64,
    entries: Slab<TimerEntry>,
    levels: [WheelLevel; LEVELS],
    /// Keys of timers that are due and were not returned yet, the first at the end.
    due: Vec<u32>,
}

/// The key of a timer. There are at most as many timers as sources, whose number fits into 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimerKey(u32);

#[derive(Debug)]
struct TimerEntry {
    tick: u64,
    token: Token,
    location: EntryLocation,
}

/// Where a timer is.
#[derive(Clone, Copy, Debug)]
enum EntryLocation {
    /// At `index` of a slot.
    Slot { level: u8, slot: u8, index: u32 },
    /// Taken out of the levels.
    Due,
}

#[derive(Debug)]
struct WheelLevel {
    /// A bit for each occupied slot.
    occupied: u64,
    slots: [Vec<u32>; SLOTS],
}

impl Default for WheelLevel {
    fn default() -> Self {
        Self {
            occupied: 0,
            slots: std::array::from_fn(|_| Vec::new()),
        }
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            start: Timestamp::now(),
            elapsed: 0,
            next_tick: u64::MAX,
            entries: Slab::new(),
            levels: std::array::from_fn(|_| WheelLevel::default()),
            due: Vec::new(),
        }
    }
}

impl Timers {
    /// Sets a timer for `token` at `when`.
    pub(super) fn set(&mut self, token: Token, when: Timestamp) -> TimerKey {
        let tick = self.tick_of(when);
        let key = self.entries.insert(TimerEntry {
            tick,
            token,
            location: EntryLocation::Due,
        });
        let key = key as u32;
        self.insert(key, tick);
        TimerKey(key)
    }

    /// Cancels a timer that has not fired.
    pub(super) fn cancel(&mut self, TimerKey(key): TimerKey) {
        match self.entries.remove(key as usize).location {
            EntryLocation::Slot { level, slot, index } => {
                let WheelLevel { occupied, slots } = &mut self.levels[usize::from(level)];
                let keys = &mut slots[usize::from(slot)];
                keys.swap_remove(index as usize);
                if let Some(&moved) = keys.get(index as usize) {
                    self.entries[moved as usize].location =
                        EntryLocation::Slot { level, slot, index };
                } else if keys.is_empty() {
                    *keys = Vec::new();
                    *occupied &= !(1 << slot);
                }
            }
            EntryLocation::Due => self.due.retain(|&due| due != key),
        }
        if self.entries.is_empty() {
            self.next_tick = u64::MAX;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns a time during which no timer fires; `None` if there are none. It may be shorter than
    /// the time to the next one.
    pub(super) fn until_next(&self, now: Timestamp) -> Option<Duration> {
        if !self.due.is_empty() {
            return Some(Duration::ZERO);
        }
        if self.entries.is_empty() {
            return None;
        }
        let next = self.next_tick.saturating_mul(NANOS_PER_TICK);
        Some(Duration::from_nanos(
            next.saturating_sub(now.nanos_since(self.start)),
        ))
    }

    /// Removes the next timer that is due and returns its token.
    pub(super) fn next_due(&mut self, now: Timestamp) -> Option<Token> {
        if self.due.is_empty() {
            self.advance_to(now);
        }
        let key = self.due.pop()?;
        Some(self.entries.remove(key as usize).token)
    }

    /// Returns whether a timer that has not fired does so by `when`, rounded up to a tick.
    pub(super) fn fires_by(&self, TimerKey(key): TimerKey, when: Timestamp) -> bool {
        self.entries[key as usize].tick <= self.tick_of(when)
    }

    /// Returns the tick at which `when` has passed.
    fn tick_of(&self, when: Timestamp) -> u64 {
        when.nanos_since(self.start)
            .div_ceil(NANOS_PER_TICK)
            .min(MAX_TICK)
    }

    fn insert(&mut self, key: u32, tick: u64) {
        if tick <= self.elapsed {
            self.due.push(key);
            return;
        }
        let level = ((tick ^ self.elapsed).ilog2() / BITS_PER_LEVEL) as usize;
        let slot = (tick >> (BITS_PER_LEVEL * level as u32)) as usize % SLOTS;
        let keys = &mut self.levels[level].slots[slot];
        self.entries[key as usize].location = EntryLocation::Slot {
            level: level as u8,
            slot: slot as u8,
            index: keys.len() as u32,
        };
        keys.push(key);
        self.levels[level].occupied |= 1 << slot;
        let shift = BITS_PER_LEVEL * level as u32;
        self.next_tick = self.next_tick.min(tick >> shift << shift);
    }

    /// Returns the next slot that time reaches, and its tick: of the innermost occupied level. In
    /// every level, the slots before the current one are empty.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        let slot = self.levels[level].occupied.trailing_zeros() as usize;
        let shift = BITS_PER_LEVEL * level as u32;
        let cycle_start = self.elapsed >> (shift + BITS_PER_LEVEL) << (shift + BITS_PER_LEVEL);
        Some((level, slot, cycle_start + ((slot as u64) << shift)))
    }

    /// Takes the timers that are due by `now` out of the levels.
    #[inline]
    fn advance_to(&mut self, now: Timestamp) {
        let now = (now.nanos_since(self.start) / NANOS_PER_TICK).min(MAX_TICK);
        if now < self.next_tick {
            self.elapsed = self.elapsed.max(now);
        } else {
            self.advance_levels(now);
        }
    }

    fn advance_levels(&mut self, now: u64) {
        while let Some((level, slot, tick)) = self.next_slot()
            && tick <= now
        {
            self.elapsed = tick;
            let keys = std::mem::take(&mut self.levels[level].slots[slot]);
            self.levels[level].occupied &= !(1 << slot);
            for key in keys {
                let entry = &mut self.entries[key as usize];
                entry.location = EntryLocation::Due;
                let tick = entry.tick;
                self.insert(key, tick);
            }
        }
        self.elapsed = self.elapsed.max(now);
        self.next_tick = self.next_slot().map_or(u64::MAX, |(_, _, tick)| tick);
        if self.due.len() > 1 {
            // Returned from the end: the earliest first, and of one tick the one that was set
            // first.
            self.due.reverse();
            self.due
                .sort_by_key(|&key| std::cmp::Reverse(self.entries[key as usize].tick));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timers: &Timers, ms: u64) -> Timestamp {
        timers.start + Duration::from_millis(ms)
    }

    fn token(slot: u32) -> Token {
        Token::source(slot, 0)
    }

    /// Returns all that is due, in order.
    fn due(timers: &mut Timers, ms: u64) -> Vec<usize> {
        let now = at(timers, ms);
        std::iter::from_fn(|| timers.next_due(now))
            .map(Token::slot)
            .collect()
    }

    #[test]
    fn timers_fire_earliest_first_and_never_early() {
        let mut timers = Timers::default();
        for (slot, ms) in [(1, 30), (2, 10), (3, 20)] {
            timers.set(token(slot), at(&timers, ms));
        }
        assert_eq!(due(&mut timers, 9), [0; 0]);
        assert_eq!(due(&mut timers, 25), [2, 3]);
        assert_eq!(due(&mut timers, 30), [1]);
        assert!(timers.is_empty());
    }

    #[test]
    fn a_partial_tick_rounds_up() {
        let mut timers = Timers::default();
        timers.set(token(1), timers.start + Duration::from_micros(10_001));
        assert_eq!(due(&mut timers, 10), [0; 0]);
        assert_eq!(due(&mut timers, 11), [1]);
    }

    #[test]
    fn a_timer_of_any_distance_fires_at_its_tick() {
        for step in [1, 7, 63, 64, 65, 1000, 4096, 70_000] {
            let mut timers = Timers::default();
            let distances = [
                1, 2, 63, 64, 65, 127, 128, 4095, 4096, 4097, 262_144, 300_001,
            ];
            for (slot, ms) in (0..).zip(distances) {
                timers.set(token(slot), at(&timers, ms));
            }
            let mut seen = Vec::new();
            for now in (0..400_000).step_by(step) {
                for slot in due(&mut timers, now) {
                    let distance = distances[slot];
                    assert!(
                        now >= distance && now < distance + step as u64,
                        "{distance}"
                    );
                    seen.push(slot);
                }
            }
            assert_eq!(seen, (0..distances.len()).collect::<Vec<_>>(), "{step}");
        }
    }

    #[test]
    fn waits_never_pass_the_next_timer_and_reach_it() {
        let mut timers = Timers::default();
        let when = at(&timers, 75_000);
        timers.set(token(1), when);
        let mut now = timers.start;
        let mut waits = 0;
        while timers.next_due(now).is_none() {
            let wait = timers.until_next(now).unwrap();
            assert!(!wait.is_zero() && now + wait <= when);
            now = now + wait;
            waits += 1;
        }
        assert_eq!(now, when);
        assert!(waits <= LEVELS, "{waits} waits for one timer");
        assert_eq!(timers.until_next(now), None);
    }

    #[test]
    fn a_timer_of_an_outer_level_fires_before_a_later_one_of_an_inner_level() {
        let mut timers = Timers::default();
        timers.set(token(1), at(&timers, 70));
        assert_eq!(due(&mut timers, 65), [0; 0]);
        timers.set(token(2), at(&timers, 127));
        assert_eq!(due(&mut timers, 75), [1]);
        assert_eq!(due(&mut timers, 127), [2]);
    }

    #[test]
    fn cancelled_timers_never_fire_and_the_others_do() {
        let mut timers = Timers::default();
        let keys: Vec<TimerKey> = (0..50)
            .map(|slot| timers.set(token(slot), at(&timers, 100 + u64::from(slot) % 3)))
            .collect();
        for key in keys.iter().step_by(2) {
            timers.cancel(*key);
        }
        let mut left = due(&mut timers, 200);
        left.sort_unstable();
        assert_eq!(left, (1..50).step_by(2).collect::<Vec<_>>());
        assert!(timers.is_empty());
    }

    #[test]
    fn a_due_timer_can_be_cancelled() {
        let mut timers = Timers::default();
        let now = at(&timers, 10);
        timers.set(token(1), now);
        let second = timers.set(token(2), now);
        assert!(timers.next_due(now).is_some());
        timers.cancel(second);
        assert_eq!(timers.next_due(now), None);
        assert!(timers.is_empty());
    }

    #[test]
    fn fires_by_is_true_from_the_timers_time_on() {
        let mut timers = Timers::default();
        let key = timers.set(token(1), at(&timers, 10));
        assert!(!timers.fires_by(key, at(&timers, 9)));
        assert!(timers.fires_by(key, at(&timers, 10)));
        assert!(timers.fires_by(key, at(&timers, 11)));
    }

    #[test]
    fn a_timer_entry_is_three_words() {
        assert!(size_of::<TimerEntry>() <= 24);
    }

    #[test]
    fn a_past_timer_is_due_at_once_and_one_beyond_all_levels_is_kept() {
        let mut timers = Timers::default();
        assert_eq!(due(&mut timers, 5000), [0; 0]);
        timers.set(token(1), timers.start);
        let far = timers.start + Duration::from_secs(1 << 40);
        timers.set(token(2), far);
        assert_eq!(due(&mut timers, 5000), [1]);
        assert!(timers.until_next(at(&timers, 5000)).is_some());
        assert!(!timers.is_empty());
    }
}
