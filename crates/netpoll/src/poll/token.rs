// SPDX-License-Identifier: MIT OR Apache-2.0
//! The 64 bits that an event carries: kind 4, generation 28, slot 32.
//!
//! A slot is reused; its generation grows each time. So an event for a removed source carries an
//! old generation and finds nothing. No pointer is ever given to the kernel.

use std::fmt;

/// Identifies one source of one poller, once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token(u64);

/// The kind of thing a token identifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// An entry of the registry.
    Source,
    /// The poller's mailbox.
    Mailbox,
}

const GENERATION_BITS: u32 = 28;
const SLOT_BITS: u32 = 32;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

impl Token {
    /// The mailbox of the poller that receives the event.
    pub(crate) const MAILBOX: Self = Self(2 << (GENERATION_BITS + SLOT_BITS));

    /// Creates the token of the source in `slot` with `generation`.
    pub(crate) fn source(slot: u32, generation: u32) -> Self {
        let generation = u64::from(generation & GENERATION_MASK) << SLOT_BITS;
        Self(1 << (GENERATION_BITS + SLOT_BITS) | generation | u64::from(slot))
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Returns the kind; `None` for bits that are no token of a poller.
    pub(crate) fn kind(self) -> Option<TokenKind> {
        match self.0 >> (GENERATION_BITS + SLOT_BITS) {
            1 => Some(TokenKind::Source),
            2 => Some(TokenKind::Mailbox),
            _ => None,
        }
    }

    pub(crate) fn slot(self) -> usize {
        self.0 as u32 as usize
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> SLOT_BITS) as u32 & GENERATION_MASK
    }

    /// Returns the generation after `generation`; it wraps after 2^28.
    pub(crate) fn next_generation(generation: u32) -> u32 {
        generation.wrapping_add(1) & GENERATION_MASK
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}@{})", self.slot(), self.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_round_trips_through_its_bits() {
        for (slot, generation) in [(0, 0), (7, 1), (u32::MAX, GENERATION_MASK)] {
            let token = Token::from_bits(Token::source(slot, generation).bits());
            assert_eq!(token.kind(), Some(TokenKind::Source));
            assert_eq!(token.slot(), slot as usize);
            assert_eq!(token.generation(), generation);
        }
    }

    #[test]
    fn the_mailbox_token_is_not_a_source_and_zero_is_invalid() {
        assert_eq!(Token::MAILBOX.kind(), Some(TokenKind::Mailbox));
        assert_eq!(Token::from_bits(0).kind(), None);
    }

    #[test]
    fn a_generation_wraps_within_its_bits() {
        assert_eq!(Token::next_generation(GENERATION_MASK), 0);
        assert_eq!(Token::next_generation(0), 1);
    }
}
