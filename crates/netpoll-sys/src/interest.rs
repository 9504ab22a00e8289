// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words all pollers share: what one wants to hear of, and what there was to hear.

/// What a registration wants to hear of. States, not deltas: a registration says the whole of
/// what it wants each time.
///
/// Errors and hang-ups are always reported, as `epoll_ctl(2)` does it; wanting nothing
/// ([`Interest::NONE`]) keeps a descriptor registered for those alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Interest(u8);

impl Interest {
    /// Errors and hang-ups only.
    pub const NONE: Self = Self(0);
    /// Bytes to read, a connection to accept, or the peer's end of its stream.
    pub const READABLE: Self = Self(1);
    /// Room to write, or the end of a connect.
    pub const WRITABLE: Self = Self(2);
    /// Beside [`READABLE`](Self::READABLE) alone: each arrival is reported once (`EPOLLET`), and urgent
    /// data, too. For whoever reads until there is nothing left, and saves the kernel a second look at
    /// each descriptor. With any other interest it means nothing.
    pub const EDGE: Self = Self(4);

    /// Both interests.
    #[inline]
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This interest, less the other.
    #[inline]
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// This interest if `condition` holds, else none.
    #[inline]
    #[must_use]
    pub const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }

    /// Whether reading is of interest.
    #[inline]
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.0 & Self::READABLE.0 != 0
    }

    /// Whether writing is of interest.
    #[inline]
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.0 & Self::WRITABLE.0 != 0
    }

    /// Whether the kernel tells of arrivals, and not of what is there: so it does with
    /// [`EDGE`](Self::EDGE) for reading alone.
    #[inline]
    #[must_use]
    pub const fn is_edge_triggered(self) -> bool {
        self.0 == Self::READABLE.union(Self::EDGE).0
    }
}

/// What a poller saw on one descriptor. A hint, as every readiness is: a read may still find
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Readiness(u8);

impl Readiness {
    /// There is something to read, or the peer has ended its stream.
    pub const READABLE: Self = Self(1);
    /// There is room to write, or a connect has ended.
    pub const WRITABLE: Self = Self(2);
    /// Both directions are over. No read or write can bring more than what the kernel has already
    /// received.
    pub const HANG_UP: Self = Self(4);
    /// Behind the bytes there is something else: the peer's end of its stream, or a mark of urgent
    /// data. A read that brings less than there is room for may have stopped at that.
    pub const READ_CLOSED_OR_PRIORITY: Self = Self(8);
    /// The descriptor holds an error, or its error queue something, and no direction need be over for
    /// that: a read says which.
    pub const ERROR: Self = Self(16);
    /// Nothing at all.
    pub const NONE: Self = Self(0);

    /// Both readinesses.
    #[inline]
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This readiness if `condition` holds, else none.
    #[inline]
    #[must_use]
    pub const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }

    /// Whether a read is worth trying.
    #[inline]
    #[must_use]
    pub const fn is_readable(self) -> bool {
        self.0 & Self::READABLE.0 != 0
    }

    /// Whether a write is worth trying.
    #[inline]
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.0 & Self::WRITABLE.0 != 0
    }

    /// Whether both directions are over.
    #[inline]
    #[must_use]
    pub const fn is_hang_up(self) -> bool {
        self.0 & Self::HANG_UP.0 != 0
    }

    /// Whether it holds an error, and is not over both ways.
    #[inline]
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 & Self::ERROR.0 != 0
    }

    /// Whether a read or a write would say how it ended, if it did.
    #[inline]
    #[must_use]
    pub const fn may_have_ended(self) -> bool {
        self.0 & (Self::HANG_UP.0 | Self::ERROR.0) != 0
    }

    /// Whether a read that brings less than there is room for may not have been the last.
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
    fn interests_add_up_and_none_wants_nothing() {
        let both = Interest::READABLE.union(Interest::WRITABLE);
        assert!(both.is_readable() && both.is_writable());
        assert_eq!(both.without(Interest::READABLE), Interest::WRITABLE);
        assert!(!Interest::NONE.is_readable() && !Interest::NONE.is_writable());
        assert_eq!(Interest::WRITABLE.when(false), Interest::NONE);
        assert_eq!(Interest::WRITABLE.when(true), Interest::WRITABLE);
    }

    #[test]
    fn a_hang_up_is_neither_readable_nor_writable_by_itself() {
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
