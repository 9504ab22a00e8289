// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sources of a poller, by token.
//!
//! Slots are reused; generations are not (for 2^28 uses of a slot). A token whose generation is not
//! the slot's finds nothing. So anything that arrives late for a removed source (an event, a wake,
//! a timer) is dropped here and reaches no other source.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use netpoll_sys::Interest;
use slab::Slab;

use super::recovery::keep_interrupted;
use super::source::{NextAction, ShutdownRequest, Source, SourceContext};
use super::timers::TimerKey;
use super::token::Token;

/// The state that a poller keeps of one source.
pub(super) struct SourceEntry {
    /// `None` while the source runs.
    source: Option<Box<dyn Source>>,
    /// The interest when the source was last put back.
    watch: FdInterest,
    /// Whether it is queued to be called again: once per iteration is enough.
    pub(super) yielded: YieldState,
    /// When the source's `on_timeout` is due.
    pub(super) deadline: Option<Instant>,
    /// Its next timer, which fires by the deadline, rounded up to a tick.
    pub(super) timer: Option<TimerKey>,
    generation: u32,
}

impl SourceEntry {
    /// Returns whether the source is registered with the driver for exactly `interest`.
    #[inline]
    pub(super) fn is_watched_for(&self, interest: Option<Interest>) -> bool {
        self.watch.interest.is_some() && self.watch.interest == interest
    }
}

/// The registered interest of a source's descriptor, and the known state of its kernel buffers.
#[derive(Clone, Copy, Debug)]
pub(super) struct FdInterest {
    /// The interest registered with the driver; `None` if the descriptor is not registered.
    pub(super) interest: Option<Interest>,
    /// Interest that the poller adds to the source's: writable while it is
    /// [blocked](Self::is_blocked), and [`Interest::EDGE`] as long as every event has been read to
    /// the end. Without `EDGE` the driver reports again what is left.
    pub(super) extra: Interest,
}

impl FdInterest {
    /// Returns the interest of a new source: not registered yet.
    pub(super) fn new(source: &dyn Source) -> Self {
        Self {
            interest: None,
            extra: edge_interest(source),
        }
    }

    /// Adapts to `source`, which replaces the one before.
    pub(super) fn replace(&mut self, source: &dyn Source) {
        self.disable_edge();
        self.extra = self.extra.union(edge_interest(source));
    }

    /// Makes the source level-triggered: not all that was reported has been read.
    pub(super) fn disable_edge(&mut self) {
        self.extra = self.extra.without(Interest::EDGE);
    }

    /// Returns whether the last send was partial: nothing more is sent until the descriptor is
    /// writable.
    #[inline]
    pub(super) fn is_blocked(self) -> bool {
        self.extra.is_writable()
    }

    /// Records a partial send.
    pub(super) fn block(&mut self) {
        self.extra = self.extra.union(Interest::WRITABLE);
    }

    /// Ends the block: the descriptor is writable, or will never be.
    #[inline]
    pub(super) fn unblock(&mut self) {
        self.extra = self.extra.without(Interest::WRITABLE);
    }
}

/// Returns `EDGE` if edge-triggered events suffice for `source` as long as it is read to the end.
fn edge_interest(source: &dyn Source) -> Interest {
    Interest::EDGE.when(source.short_read_empties())
}

/// A running source, out of its slot, with its interest.
pub(super) struct RunningSource {
    pub(super) token: Token,
    pub(super) source: Box<dyn Source>,
    pub(super) watch: FdInterest,
}

impl RunningSource {
    /// Takes the source out, to put it back into its slot or to drop it.
    #[inline]
    pub(super) fn take_source(&mut self) -> Box<dyn Source> {
        std::mem::replace(&mut self.source, Box::new(Placeholder))
    }
}

impl Drop for RunningSource {
    #[inline]
    fn drop(&mut self) {
        if std::thread::panicking() {
            keep_interrupted(Self {
                token: self.token,
                source: self.take_source(),
                watch: self.watch,
            });
        }
    }
}

/// Takes the place of a source that was taken out of its run. Zero-sized: its box allocates
/// nothing.
struct Placeholder;

impl Source for Placeholder {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn on_register(&mut self, _context: &mut SourceContext) -> NextAction {
        NextAction::Remove
    }

    fn on_notify(&mut self, _context: &mut SourceContext) -> NextAction {
        NextAction::Remove
    }

    fn on_shutdown(
        &mut self,
        _request: ShutdownRequest,
        _context: &mut SourceContext,
    ) -> NextAction {
        NextAction::Remove
    }
}

/// Whether a source is queued to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum YieldState {
    NotQueued,
    Queued,
}

/// All sources of one poller.
#[derive(Default)]
pub(super) struct Registry {
    entries: Slab<SourceEntry>,
    /// The generation that the next source of each slot gets.
    generations: Vec<u32>,
}

impl Registry {
    /// Returns the token of the next source that [`Registry::insert`] gets.
    pub(super) fn next_token(&self) -> Token {
        let slot = self.entries.vacant_key();
        let generation = self.generations.get(slot).copied().unwrap_or(0);
        Token::source(u32::try_from(slot).unwrap_or(u32::MAX), generation)
    }

    pub(super) fn insert(&mut self, source: Box<dyn Source>) -> Token {
        let token = self.next_token();
        if self.generations.len() <= token.slot() {
            self.generations.resize(token.slot() + 1, 0);
        }
        self.entries.insert(SourceEntry {
            watch: FdInterest::new(source.as_ref()),
            source: Some(source),
            yielded: YieldState::NotQueued,
            deadline: None,
            timer: None,
            generation: token.generation(),
        });
        token
    }

    /// Returns the entry of a token, if its source is still registered.
    #[inline]
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut SourceEntry> {
        self.entries
            .get_mut(token.slot())
            .filter(|entry| entry.generation == token.generation())
    }

    /// Takes a source out of its slot. Call [`put_back`](Self::put_back) or
    /// [`remove`](Self::remove) afterwards.
    #[inline]
    pub(super) fn take_out(&mut self, token: Token) -> Option<RunningSource> {
        let entry = self.get_mut(token)?;
        let watch = entry.watch;
        let source = entry.source.take()?;
        Some(RunningSource {
            token,
            source,
            watch,
        })
    }

    /// Puts a source back into its slot after a run.
    #[inline(always)]
    pub(super) fn put_back(&mut self, mut run: RunningSource) {
        if let Some(entry) = self.get_mut(run.token) {
            entry.watch = run.watch;
            entry.source = Some(run.take_source());
        }
    }

    /// Removes the source of a token. The slot's next source has another generation.
    pub(super) fn remove(&mut self, token: Token) {
        if self.get_mut(token).is_some() {
            self.entries.remove(token.slot());
            self.generations[token.slot()] = Token::next_generation(token.generation());
        }
    }

    /// Resets the interest and the timer of each source: the driver and the timers are new.
    pub(super) fn reset_interests(&mut self) {
        for (_, entry) in &mut self.entries {
            entry.watch.interest = None;
            entry.watch.unblock();
            entry.watch.disable_edge();
            entry.yielded = YieldState::NotQueued;
            entry.deadline = None;
            entry.timer = None;
        }
    }

    /// Removes entries whose source was lost in a panic.
    pub(super) fn remove_lost(&mut self) {
        for token in self.tokens() {
            if self
                .get_mut(token)
                .is_some_and(|entry| entry.source.is_none())
            {
                self.remove(token);
            }
        }
    }

    /// Returns the tokens of all sources.
    pub(super) fn tokens(&self) -> Vec<Token> {
        let token = |(slot, entry): (usize, &SourceEntry)| {
            Token::source(u32::try_from(slot).unwrap_or(u32::MAX), entry.generation)
        };
        self.entries.iter().map(token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    struct ListenerSource(std::net::TcpListener);

    impl Source for ListenerSource {
        fn fd(&self) -> Option<BorrowedFd<'_>> {
            Some(std::os::fd::AsFd::as_fd(&self.0))
        }

        fn on_register(&mut self, _context: &mut SourceContext) -> NextAction {
            NextAction::Remove
        }

        fn on_notify(&mut self, _context: &mut SourceContext) -> NextAction {
            NextAction::Remove
        }

        fn on_shutdown(
            &mut self,
            _request: ShutdownRequest,
            _context: &mut SourceContext,
        ) -> NextAction {
            NextAction::Remove
        }
    }

    fn listener_source() -> Box<dyn Source> {
        Box::new(ListenerSource(
            std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
        ))
    }

    #[test]
    fn an_entry_is_six_words() {
        // There are as many entries as connections, and one more byte would cost one more word.
        assert!(
            size_of::<SourceEntry>() <= 48,
            "{}",
            size_of::<SourceEntry>()
        );
    }

    #[test]
    fn a_stale_token_finds_nothing_in_a_reused_slot() {
        let mut registry = Registry::default();
        let first = registry.insert(listener_source());
        assert!(registry.get_mut(first).is_some());
        registry.remove(first);
        let second = registry.insert(listener_source());
        assert_eq!(first.slot(), second.slot());
        assert!(
            registry.get_mut(first).is_none(),
            "the slot has another generation"
        );
        assert!(registry.get_mut(second).is_some());
    }

    #[test]
    fn removing_with_a_stale_token_leaves_the_successor_alone() {
        let mut registry = Registry::default();
        let first = registry.insert(listener_source());
        registry.remove(first);
        let second = registry.insert(listener_source());
        registry.remove(first);
        assert!(registry.get_mut(second).is_some());
    }

    #[test]
    fn next_token_predicts_the_token_of_insert() {
        let mut registry = Registry::default();
        for _ in 0..3 {
            let predicted = registry.next_token();
            assert_eq!(registry.insert(listener_source()), predicted);
        }
        let tokens = registry.tokens();
        registry.remove(tokens[1]);
        let predicted = registry.next_token();
        assert_eq!(predicted.slot(), tokens[1].slot());
        assert_eq!(registry.insert(listener_source()), predicted);
    }

    #[test]
    fn the_interest_of_a_source_is_kept_while_it_runs() {
        let mut registry = Registry::default();
        let token = registry.insert(listener_source());
        let mut run = registry.take_out(token).unwrap();
        assert!(run.watch.interest.is_none() && !run.watch.is_blocked());
        assert!(registry.take_out(token).is_none(), "the source runs");
        run.watch.interest = Some(Interest::READABLE);
        run.watch.block();
        registry.put_back(run);
        let again = registry.take_out(token).unwrap();
        assert_eq!(again.watch.interest, Some(Interest::READABLE));
        assert!(again.watch.is_blocked());
    }

    #[test]
    fn a_source_removed_while_it_runs_is_not_put_back() {
        let mut registry = Registry::default();
        let first = registry.insert(listener_source());
        let mut run = registry.take_out(first).unwrap();
        run.watch.block();
        registry.remove(first);
        let second = registry.insert(listener_source());
        assert_eq!(first.slot(), second.slot());
        let of_first = run.source.fd().map(|fd| fd.as_raw_fd());
        registry.put_back(run);
        assert!(registry.take_out(first).is_none());
        let replacement = registry.take_out(second).unwrap();
        assert_ne!(replacement.source.fd().map(|fd| fd.as_raw_fd()), of_first);
        assert!(!replacement.watch.is_blocked());
    }
}
