// SPDX-License-Identifier: MIT OR Apache-2.0
//! The settings of a test program: where handlers run, and the kind of sockets.
//!
//! They come from the environment, so that one build serves every variation.
//! `behaviour/settings.rs` runs its own program again for each.

use std::env;
use std::sync::LazyLock;

use netpoll::Runner;

/// The number of handler threads, if handlers do not run on pollers.
pub(crate) const THREADS: usize = 2;

/// The variable that sets where handlers run.
pub(crate) const RUNS: &str = "NETPOLL_TEST_RUNS";

/// The variable that sets the kind of sockets.
pub(crate) const KIND: &str = "NETPOLL_TEST_KIND";

/// Where handlers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    /// On the connection's poller. Default.
    Inline,
    /// On two threads, each call on one thread.
    Pinned,
    /// On two threads; each wake may move a call to the other one.
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
}

/// The kind of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TCP over loopback. Default.
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

/// Returns where handlers run in this process.
pub(crate) fn runs() -> Runs {
    static HERE: LazyLock<Runs> =
        LazyLock::new(|| env::var(RUNS).map_or(Runs::Inline, |name| Runs::named(&name)));
    *HERE
}

/// Returns the kind of sockets in this process.
pub(crate) fn kind() -> Kind {
    static HERE: LazyLock<Kind> =
        LazyLock::new(|| env::var(KIND).map_or(Kind::Tcp, |name| Kind::named(&name)));
    *HERE
}
