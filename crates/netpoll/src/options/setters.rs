// SPDX-License-Identifier: MIT OR Apache-2.0
//! The setters of the options of a connection, written once for each type that has them:
//! [`ConnOptions`](super::ConnOptions), [`Builder`](crate::Builder) and [`Dialer`](crate::Dialer).
//! One option has one name on all of them.

/// Expands to the setters, inside an `impl` of a type with a method `conn_options` that returns
/// `&mut ConnOptions`.
macro_rules! conn_option_setters {
    () => {
        /// Sets the most bytes that one read may request. A longer length sent by the peer ends
        /// the connection before memory is allocated. Default: 4 MiB.
        #[must_use = "a setter returns the changed options"]
        pub fn max_frame(mut self, bytes: usize) -> Self {
            self.conn_options().max_frame = bytes;
            self
        }

        /// Sets how many bytes may wait for the handler. With that many, reading stops, unless the
        /// handler waits for more. Default: 64 KiB.
        #[must_use = "a setter returns the changed options"]
        pub fn read_high(mut self, bytes: usize) -> Self {
            self.conn_options().read_high = bytes;
            self
        }

        /// Sets the high watermark of the output. With this much unsent output or more, the
        /// handler is not called and nothing is read. Default: 64 KiB.
        #[must_use = "a setter returns the changed options"]
        pub fn write_high(mut self, bytes: usize) -> Self {
            self.conn_options().write_high = bytes;
            self
        }

        /// Sets the low watermark of the output. Below this much unsent output, both resume.
        /// Default: 32 KiB.
        #[must_use = "a setter returns the changed options"]
        pub fn write_low(mut self, bytes: usize) -> Self {
            self.conn_options().write_low = bytes;
            self
        }

        /// Sets the most unsent output. Above it, writes are discarded and the connection ends.
        /// Default: `None`, which is `write_high` plus twice `max_frame` and leaves space for one
        /// call.
        #[must_use = "a setter returns the changed options"]
        pub fn max_output(mut self, bytes: impl Into<Option<usize>>) -> Self {
            self.conn_options().max_output = bytes.into();
            self
        }

        /// Sets whether small writes are sent at once (`TCP_NODELAY`). Default: on.
        #[must_use = "a setter returns the changed options"]
        pub fn nodelay(mut self, on: bool) -> Self {
            self.conn_options().nodelay = on;
            self
        }

        /// Sets when the kernel probes a silent peer; `None` is never. Default: 60 s idle, 15 s
        /// interval, 4 probes: a vanished peer is detected after two minutes, and three lost probes
        /// end nothing.
        #[must_use = "a setter returns the changed options"]
        pub fn keepalive(mut self, keepalive: impl Into<Option<$crate::tcp::Keepalive>>) -> Self {
            self.conn_options().keepalive = keepalive.into();
            self
        }

        /// Sets how long sent bytes may stay unacknowledged, or unread by the peer
        /// (`TCP_USER_TIMEOUT`). `None` is the kernel's own limit, about 15 minutes. Default: 60 s.
        ///
        /// On an idle connection the kernel uses it instead of the count of `keepalive`: the
        /// connection ends at the first due probe after a silence of this length. So the default of
        /// 60 s follows `keepalive` where that is set, and the socket gets `idle + count *
        /// interval`: 2 minutes by default, 3 s for 1 s, 1 s, 2, and none if the sum exceeds 15
        /// minutes. Any other value is set unchanged. A value below `idle + 2 * interval` ends an
        /// idle connection after one lost probe. With a large value, or with `None` and
        /// unacknowledged bytes, a dead peer is detected later than `keepalive` specifies.
        #[must_use = "a setter returns the changed options"]
        pub fn user_timeout(mut self, time: impl Into<Option<::std::time::Duration>>) -> Self {
            self.conn_options().user_timeout = time.into();
            self
        }

        /// Sets all timeouts of a connection. See [`Timeouts`](crate::options::Timeouts) for their
        /// meaning and defaults; the methods below set one each.
        #[must_use = "a setter returns the changed options"]
        pub fn timeouts(mut self, timeouts: $crate::options::Timeouts) -> Self {
            self.conn_options().timeouts = timeouts;
            self
        }

        /// Sets [`Timeouts::first_byte`](crate::options::Timeouts::first_byte).
        #[must_use = "a setter returns the changed options"]
        pub fn first_byte_timeout(
            mut self,
            time: impl Into<Option<::std::time::Duration>>,
        ) -> Self {
            self.conn_options().timeouts.first_byte = time.into();
            self
        }

        /// Sets [`Timeouts::read`](crate::options::Timeouts::read).
        #[must_use = "a setter returns the changed options"]
        pub fn read_timeout(mut self, time: impl Into<Option<::std::time::Duration>>) -> Self {
            self.conn_options().timeouts.read = time.into();
            self
        }

        /// Sets [`Timeouts::min_rate`](crate::options::Timeouts::min_rate).
        #[must_use = "a setter returns the changed options"]
        pub fn min_rate(mut self, rate: impl Into<Option<$crate::options::MinRate>>) -> Self {
            self.conn_options().timeouts.min_rate = rate.into();
            self
        }

        /// Sets [`Timeouts::write`](crate::options::Timeouts::write).
        #[must_use = "a setter returns the changed options"]
        pub fn write_timeout(mut self, time: impl Into<Option<::std::time::Duration>>) -> Self {
            self.conn_options().timeouts.write = time.into();
            self
        }

        /// Sets [`Timeouts::idle`](crate::options::Timeouts::idle).
        #[must_use = "a setter returns the changed options"]
        pub fn idle_timeout(mut self, time: impl Into<Option<::std::time::Duration>>) -> Self {
            self.conn_options().timeouts.idle = time.into();
            self
        }

        /// Sets [`Timeouts::max_age`](crate::options::Timeouts::max_age).
        #[must_use = "a setter returns the changed options"]
        pub fn max_age(mut self, time: impl Into<Option<::std::time::Duration>>) -> Self {
            self.conn_options().timeouts.max_age = time.into();
            self
        }

        /// Sets [`Timeouts::linger`](crate::options::Timeouts::linger).
        #[must_use = "a setter returns the changed options"]
        pub fn linger(mut self, time: ::std::time::Duration) -> Self {
            self.conn_options().timeouts.linger = time;
            self
        }
    };
}

pub(crate) use conn_option_setters;
