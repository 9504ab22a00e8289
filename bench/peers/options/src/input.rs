// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a peer reads into whose library fills a slice and has no buffer of its own to offer.

use std::ops::Range;

use crate::{BUFFER, Calls};

/// Bytes that have come and are not answered, with room behind them. The memory is filled with zeros
/// once and used for as long as the connection lives.
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
    /// Room for the next read: for the rest of the frame that has begun, and for [`BUFFER`] bytes at
    /// least if nothing has.
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

    /// So many bytes of the room have come.
    ///
    /// # Panics
    ///
    /// If there was no room for them.
    pub fn came(&mut self, count: usize) {
        assert!(self.unread.end + count <= self.memory.len(), "beyond room");
        self.unread.end += count;
    }

    /// What has come and was not [taken](Self::take).
    pub fn unread(&self) -> &[u8] {
        &self.memory[self.unread.clone()]
    }

    /// Done with so many bytes at the front.
    ///
    /// # Panics
    ///
    /// If there are not so many.
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
