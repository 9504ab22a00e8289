// SPDX-License-Identifier: MIT OR Apache-2.0
//! The receive buffer of a peer whose library fills a slice and provides no buffer.

use std::ops::Range;

use crate::{BUFFER, Calls};

/// Received bytes without a response, and space after them. The memory is zeroed once and used for
/// the lifetime of the connection.
#[derive(Debug)]
pub struct Input {
    memory: Vec<u8>,
    unread: Range<usize>,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            memory: vec![0; BUFFER],
            unread: 0..0,
        }
    }
}

impl Input {
    /// Returns the space for the next read: the rest of an incomplete frame, or at least [`BUFFER`]
    /// bytes.
    pub fn room(&mut self) -> &mut [u8] {
        let missing = Calls::missing(self.unread());
        if self.memory.len() - self.unread.end < missing.max(BUFFER / 2) {
            self.memory.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            let all = self.unread.end + missing.max(BUFFER / 2);
            self.memory.resize(all.max(self.memory.len()), 0);
        }
        &mut self.memory[self.unread.end..]
    }

    /// Marks this many bytes of the space as received.
    ///
    /// # Panics
    ///
    /// If the space was smaller.
    pub fn came(&mut self, count: usize) {
        assert!(self.unread.end + count <= self.memory.len(), "beyond room");
        self.unread.end += count;
    }

    /// Returns the received bytes that were not [taken](Self::take).
    pub fn unread(&self) -> &[u8] {
        &self.memory[self.unread.clone()]
    }

    /// Takes this many bytes from the front.
    ///
    /// # Panics
    ///
    /// If there are fewer bytes.
    pub fn take(&mut self, count: usize) {
        assert!(count <= self.unread.len(), "more than has come");
        self.unread.start += count;
        if self.unread.is_empty() {
            self.unread = 0..0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Input;
    use crate::BUFFER;

    #[test]
    fn a_rest_moves_to_the_front_when_room_is_short_and_stays_what_it_was() {
        let mut input = Input::default();
        input.room().fill(7);
        input.came(BUFFER);
        input.take(BUFFER - 3);
        assert!(input.room().len() >= BUFFER / 2);
        assert_eq!(input.unread(), [7; 3]);
    }

    #[test]
    fn there_is_room_for_the_rest_of_a_large_frame() {
        let mut input = Input::default();
        let header = (1u32 << 20).to_be_bytes();
        input.room()[..4].copy_from_slice(&header);
        input.came(4);
        assert!(input.room().len() >= 1 << 20);
        assert_eq!(input.unread(), header);
    }

    #[test]
    fn what_is_all_taken_leaves_all_the_room() {
        let mut input = Input::default();
        input.came(BUFFER - 1);
        input.take(BUFFER - 1);
        assert_eq!(input.room().len(), BUFFER);
    }
}
