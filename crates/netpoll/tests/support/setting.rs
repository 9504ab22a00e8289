// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run of a test program varies: where handlers run, and what connections go over.
//!
//! The environment says it, so one build serves every variation. `behaviour/settings.rs` runs its
//! own program again for each.

use std::env;
use std::sync::LazyLock;

use netpoll::Runner;

/// How many threads handlers run on, where they are not the pollers'.
pub(crate) const THREADS: usize = 2;

/// The variable that says where handlers run.
pub(crate) const RUNS: &str = "NETPOLL_TEST_RUNS";

/// The variable that says what connections go over.
pub(crate) const KIND: &str = "NETPOLL_TEST_KIND";

/// Where handlers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    /// On the connection's poller. The default.
    Inline,
    /// On two threads, each call on the one that took it.
    Pinned,
    /// On two threads, whichever is free at each wake.
    Moving,
    /// As tasks of a tokio runtime.
    #[cfg(feature = "tokio")]
    Tokio,
}

impl Runs {
    fn named(name: &str) -> Self {
        match name {
            "inline" => Self::Inline,
            "pinned" => Self::Pinned,
            "moving" => Self::Moving,
            #[cfg(feature = "tokio")]
            "tokio" => Self::Tokio,
            _ => panic!("{RUNS}: {name} is not inline, pinned, moving or tokio (a feature)"),
        }
    }

    pub(crate) fn runner(self) -> Runner {
        match self {
            Self::Inline => Runner::Inline,
            Self::Pinned | Self::Moving => Runner::Threads(THREADS),
            #[cfg(feature = "tokio")]
            Self::Tokio => Runner::tokio(super::tokio_here::runtime().handle().clone()),
        }
    }

    /// Whether futures stay on one thread.
    pub(crate) fn pins(self) -> bool {
        matches!(self, Self::Inline | Self::Pinned)
    }
}

/// What connections go over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Loopback. The default.
    Tcp,
    Unix,
}

impl Kind {
    fn named(name: &str) -> Self {
        match name {
            "tcp" => Self::Tcp,
            "unix" => Self::Unix,
            _ => panic!("{KIND}: {name} is not tcp or unix"),
        }
    }
}

/// Where handlers run in this process.
pub(crate) fn runs() -> Runs {
    static HERE: LazyLock<Runs> =
        LazyLock::new(|| env::var(RUNS).map_or(Runs::Inline, |name| Runs::named(&name)));
    *HERE
}

/// What connections go over in this process.
pub(crate) fn kind() -> Kind {
    static HERE: LazyLock<Kind> =
        LazyLock::new(|| env::var(KIND).map_or(Kind::Tcp, |name| Kind::named(&name)));
    *HERE
}
