// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where handlers run.
//!
//! A handler's type says where it may. The futures of [`on_request`](crate::Builder::on_request)
//! and [`on_connection`](crate::Builder::on_connection) need not be `Send`: each is made, polled and
//! dropped on one thread, the connection's poller or one of some [`thread_pool`]. Those of
//! [`on_request_send`](crate::Builder::on_request_send) and
//! [`on_connection_send`](crate::Builder::on_connection_send) may run anywhere.

pub(crate) mod thread_pool;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::error::InvalidConfig;
use crate::sync::Arc;
use thread_pool::ThreadPool;

/// The most threads of a loop's own.
const MAX_THREADS: usize = 4096;

/// Where handlers run.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Runner {
    /// On the connection's poller: no hand-off, no lock. A handler that blocks holds up every
    /// connection of that poller; one that awaits holds up nobody.
    #[default]
    Inline,
    /// On so many threads of the loop's own, at most 4096, whichever is free. For handlers that block or compute.
    /// One that awaits holds none of them.
    Threads(usize),
    /// As tasks of an executor. For handlers whose futures are `Send` only.
    Spawn(Arc<dyn Spawn>),
}

/// Carries out tasks: an executor of the user's own.
///
/// ```
/// use std::pin::Pin;
/// use std::sync::Arc;
/// use netpoll::{Runner, Spawn};
///
/// struct OnItsOwnThread;
///
/// impl Spawn for OnItsOwnThread {
///     fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
///         std::thread::spawn(move || pollster(task));
///     }
/// }
/// # fn pollster(_task: Pin<Box<dyn Future<Output = ()> + Send>>) {}
///
/// let runner = Runner::Spawn(Arc::new(OnItsOwnThread));
/// ```
pub trait Spawn: Send + Sync {
    /// Polls `task` to its end. Called on a poller, for each burst of requests that a connection
    /// has: it must not block, nor poll the task itself. A task that is dropped instead closes its
    /// connection.
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>);
}

/// A runner that calls can be given to.
#[derive(Clone)]
pub(crate) enum PreparedRunner {
    Inline,
    Threads(Arc<ThreadPool>),
    Spawn(Arc<dyn Spawn>),
}

impl Runner {
    /// What calls are given to. Threads do not run yet.
    pub(crate) fn prepare(&self) -> Result<PreparedRunner, InvalidConfig> {
        match self {
            Self::Inline => Ok(PreparedRunner::Inline),
            Self::Threads(0) => Err(InvalidConfig::new("runner", "needs at least 1 thread")),
            Self::Threads(count) if *count > MAX_THREADS => Err(InvalidConfig::new(
                "runner",
                "must have at most 4096 threads",
            )),
            Self::Threads(count) => Ok(PreparedRunner::Threads(Arc::new(ThreadPool::new(*count)))),
            Self::Spawn(spawn) => Ok(PreparedRunner::Spawn(Arc::clone(spawn))),
        }
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline => f.write_str("Inline"),
            Self::Threads(count) => f.debug_tuple("Threads").field(count).finish(),
            Self::Spawn(_) => f.write_str("Spawn(..)"),
        }
    }
}
