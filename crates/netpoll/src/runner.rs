// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where handlers run: on the connection's poller, on a pool of threads, or on an executor.
//!
//! The builder decides it, and with it which futures handlers may have:
//!
//! | builder | handlers run | futures |
//! |---|---|---|
//! | [`EventLoop::builder()`] | on the connection's poller | stay on one thread, need not be `Send` |
//! | the same, with [`handler_threads(n)`] | on `n` threads of the loop's own | stay on one thread, need not be `Send` |
//! | [`EventLoop::builder_on(runner)`] | where the [`Runner`] says | may move between threads, must be `Send` |
//!
//! ```no_run
//! use netpoll::{Connection, EventLoop, Runner};
//!
//! # fn main() -> std::io::Result<()> {
//! EventLoop::builder_on(Runner::Threads(8))
//!     .on_request(async |conn: &mut Connection| {
//!         let len = conn.reader().read_u32().await?;
//!         // May block: this is no poller's thread.
//!         std::thread::sleep(std::time::Duration::from_millis(u64::from(len)));
//!         conn.writer().put_u32(len);
//!         Ok(())
//!     })
//!     .serve("127.0.0.1:8080")
//! # }
//! ```
//!
//! [`EventLoop::builder()`]: crate::EventLoop::builder
//! [`handler_threads(n)`]: crate::Builder::handler_threads
//! [`EventLoop::builder_on(runner)`]: crate::EventLoop::builder_on

pub(crate) mod thread_pool;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::error::InvalidConfig;
use crate::sync::Arc;
use thread_pool::ThreadPool;

/// The most threads of a thread pool.
const MAX_THREADS: usize = 4096;

/// Where the handlers of [`EventLoop::builder_on`](crate::EventLoop::builder_on) run.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Runner {
    /// On the connection's poller: no hand-off, no lock. A handler that blocks delays every
    /// connection of that poller; a handler that awaits delays none.
    #[default]
    Inline,
    /// On this many threads of the loop's own, at most 4096. For handlers that block or compute. A
    /// handler that awaits occupies no thread, and any of the threads continues it.
    Threads(usize),
    /// As tasks of an executor.
    Spawn(Arc<dyn Spawn>),
}

/// Runs tasks: the interface to the user's own executor.
///
/// ```
/// use std::pin::Pin;
/// use std::sync::Arc;
/// use netpoll::runner::Spawn;
/// use netpoll::Runner;
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an executor that netpoll can spawn tasks on",
    label = "does not implement `netpoll::runner::Spawn`",
    note = "implement `Spawn` for a type of yours that passes the task to the executor",
    note = "the feature `tokio` implements it for `tokio::runtime::Handle`: `Runner::tokio(handle)`"
)]
pub trait Spawn: Send + Sync {
    /// Polls `task` to completion. Called on a poller, for each request batch of a connection, so
    /// it must not block, nor poll the task itself. Dropping an unfinished task closes its
    /// connection.
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>);
}

/// A checked [`Runner`], with its thread pool.
#[derive(Clone)]
pub(crate) enum PreparedRunner {
    Inline,
    Threads(Arc<ThreadPool>),
    Spawn(Arc<dyn Spawn>),
}

impl Runner {
    /// Checks the runner and creates its thread pool. Starts no thread.
    pub(crate) fn prepare(&self) -> Result<PreparedRunner, InvalidConfig> {
        match self {
            Self::Inline => Ok(PreparedRunner::Inline),
            Self::Threads(count) => Ok(PreparedRunner::Threads(thread_pool("runner", *count)?)),
            Self::Spawn(spawn) => Ok(PreparedRunner::Spawn(Arc::clone(spawn))),
        }
    }
}

/// Creates a pool of `count` threads, as set with `option`. Starts no thread.
pub(crate) fn thread_pool(
    option: &'static str,
    count: usize,
) -> Result<Arc<ThreadPool>, InvalidConfig> {
    match count {
        0 => Err(InvalidConfig::new(option, "must have at least 1 thread")),
        1..=MAX_THREADS => Ok(Arc::new(ThreadPool::new(count))),
        _ => Err(InvalidConfig::new(option, "must have at most 4096 threads")),
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
