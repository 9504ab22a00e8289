// SPDX-License-Identifier: MIT OR Apache-2.0
//! The types that all pollers share: the interest of a registration, and the readiness that a
//! poller reports.

/// The events that a registration wants. An interest is a state, not a delta: each registration
/// gives the whole of it.
///
/// Errors and hang-ups are always reported, as `epoll_ctl(2)` does; an empty interest
/// ([`Interest::NONE`]) keeps a descriptor registered for those alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Interest(u8);

impl Interest {
    /// Errors and hang-ups only.
    pub const NONE: Self = Self(0);
    /// Bytes to read, a connection to accept, or the peer's end of its stream.
    pub const READABLE: Self = Self(1);
    /// Space to write, or the end of a connect.
    pub const WRITABLE: Self = Self(2);
    /// Together with [`READABLE`](Self::READABLE) alone: each arrival is reported once (`EPOLLET`),
    /// and urgent data, too. For readers that read until the socket is empty; it saves the kernel a
    /// second check of each descriptor. With any other interest it has no effect.
    pub const EDGE: Self = Self(4);

    /// Returns both interests.
    #[inline]
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns this interest without the other.
    #[inline]
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns this interest if `condition` holds, else none.
    #[inline]
    #[must_use]
    pub const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }

    /// Returns whether reading is of interest.
    #[inline]
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.0 & Self::READABLE.0 != 0
    }

    /// Returns whether writing is of interest.
    #[inline]
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.0 & Self::WRITABLE.0 != 0
    }

    /// Returns whether the kernel reports arrivals instead of states: [`EDGE`](Self::EDGE) with
    /// reading alone.
    #[inline]
    #[must_use]
    pub const fn is_edge_triggered(self) -> bool {
        self.0 == Self::READABLE.union(Self::EDGE).0
    }
}

/// The readiness of one descriptor, as a poller reports it. A hint: a read may still return no
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Readiness(u8);

impl Readiness {
    /// There are bytes to read, or the peer has ended its stream.
    pub const READABLE: Self = Self(1);
    /// There is space to write, or a connect has ended.
    pub const WRITABLE: Self = Self(2);
    /// Both directions have ended. No read or write can return more than the kernel has already
    /// received.
    pub const HANG_UP: Self = Self(4);
    /// Behind the bytes there is another event: the peer's end of its stream, or a mark of urgent
    /// data. A read that returns less than it was given space for may have stopped at that.
    pub const READ_CLOSED_OR_PRIORITY: Self = Self(8);
    /// The descriptor holds an error, or its error queue is not empty. Both directions may still be
    /// open: a read reports which.
    pub const ERROR: Self = Self(16);
    /// No readiness.
    pub const NONE: Self = Self(0);

    /// Returns both readinesses.
    #[inline]
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns this readiness if `condition` holds, else none.
    #[inline]
    #[must_use]
    pub const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }

    /// Returns whether a read is worth trying.
    #[inline]
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.0 & Self::READABLE.0 != 0
    }

    /// Returns whether a write is worth trying.
    #[inline]
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.0 & Self::WRITABLE.0 != 0
    }

    /// Returns whether both directions have ended.
    #[inline]
    #[must_use]
    pub const fn is_hang_up(self) -> bool {
        self.0 & Self::HANG_UP.0 != 0
    }

    /// Returns whether the descriptor holds an error, and has not ended in both directions.
    #[inline]
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 & Self::ERROR.0 != 0
    }

    /// Returns whether the connection may have ended; a read or a write reports how.
    #[inline]
    #[must_use]
    pub const fn may_have_ended(self) -> bool {
        self.0 & (Self::HANG_UP.0 | Self::ERROR.0) != 0
    }

    /// Returns whether a read that returns less than it was given space for may not have been the
    /// last.
    #[inline]
    #[must_use]
    pub const fn needs_read_until_would_block(self) -> bool {
        self.0 & (Self::READ_CLOSED_OR_PRIORITY.0 | Self::HANG_UP.0 | Self::ERROR.0) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn union_adds_interests_and_none_is_empty() {
        let both = Interest::READABLE.union(Interest::WRITABLE);
        assert!(both.is_readable() && both.is_writable());
        assert_eq!(both.without(Interest::READABLE), Interest::WRITABLE);
        assert!(!Interest::NONE.is_readable() && !Interest::NONE.is_writable());
        assert_eq!(Interest::WRITABLE.when(false), Interest::NONE);
        assert_eq!(Interest::WRITABLE.when(true), Interest::WRITABLE);
    }

    #[test]
    fn a_hang_up_alone_is_neither_readable_nor_writable() {
        let gone = Readiness::HANG_UP;
        assert!(gone.is_hang_up() && !gone.is_readable() && !gone.is_writable());
        assert!(
            gone.needs_read_until_would_block(),
            "an error is found by reading on"
        );
        assert!(
            !Readiness::READABLE
                .union(Readiness::WRITABLE)
                .needs_read_until_would_block()
        );
    }
}
