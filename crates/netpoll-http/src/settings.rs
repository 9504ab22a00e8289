// SPDX-License-Identifier: MIT OR Apache-2.0
//! The limits of a server, with their defaults.

use std::time::Duration;

/// The limits of HTTP that a user can change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// From the first byte of a head to its last.
    pub(crate) head_timeout: Duration,
    /// Without a request.
    pub(crate) keep_alive: Duration,
    /// Bytes per second, and the time over which they are averaged.
    pub(crate) min_body_rate: Option<(u32, Duration)>,
    pub(crate) max_body: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            min_body_rate: Some((240, Duration::from_secs(30))),
            max_body: None,
        }
    }
}

/// The time from the accept of a connection to its first byte.
pub(crate) const FIRST_BYTE: Duration = Duration::from_secs(10);

/// The largest head of an HTTP/1 request, in bytes.
pub(crate) const MAX_HEAD: usize = 64 << 10;

/// The largest header list of an HTTP/2 request, in bytes.
pub(crate) const MAX_HEADER_LIST: u32 = 16 << 10;

/// The streams that an HTTP/2 peer may have open.
pub(crate) const MAX_STREAMS: u32 = 128;

/// The flow control windows of an HTTP/2 stream and of its connection, in bytes.
pub(crate) const STREAM_WINDOW: u32 = 64 << 10;
pub(crate) const CONNECTION_WINDOW: u32 = 1 << 20;

/// How many streams an HTTP/2 peer may reset before they are accepted.
pub(crate) const MAX_PENDING_RESETS: usize = 20;

/// How often an HTTP/2 peer is pinged, and how long its answer may take.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(20);
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a new connection may stay silent once the server drains: its request may be on its way.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_secs(5);
