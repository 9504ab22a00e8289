// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`HandlerKind`]: the type parameter of a [`Builder`](super::Builder), which decides where its
//! handlers may run.

use std::fmt;

use crate::connection::request_batch::{OnConnect, OnConnectSend};
use crate::error::InvalidConfig;
use crate::runner::thread_pool::ThreadPool;
use crate::runner::{PreparedRunner, Runner, thread_pool};
use crate::sync::Arc;

/// Whether the futures of a loop's handlers may move between threads: [`LocalHandlers`] or
/// [`SendHandlers`].
///
/// The parameter of [`Builder`](crate::Builder). Code that configures a builder of either kind is
/// generic over it:
///
/// ```
/// use netpoll::Builder;
/// use netpoll::event_loop::HandlerKind;
///
/// fn with_our_limits<K: HandlerKind>(builder: Builder<K>) -> Builder<K> {
///     builder.max_connections(10_000).max_frame(64 << 10)
/// }
/// # drop(with_our_limits(netpoll::EventLoop::builder()));
/// ```
///
/// This trait is sealed: other crates cannot implement it.
#[expect(
    private_bounds,
    reason = "seals the trait against other implementations"
)]
pub trait HandlerKind: Execution {}

/// The handlers of [`EventLoop::builder`](crate::EventLoop::builder): each future is created, polled
/// and dropped on one thread, and need not be `Send`.
#[derive(Debug)]
#[non_exhaustive]
pub struct LocalHandlers;

/// The handlers of [`EventLoop::builder_on`](crate::EventLoop::builder_on): their futures are `Send`,
/// and different threads may poll them.
#[derive(Debug)]
#[non_exhaustive]
pub struct SendHandlers;

impl HandlerKind for LocalHandlers {}

impl HandlerKind for SendHandlers {}

/// How the handlers of a kind are run.
pub(crate) trait Execution: Sized + 'static {
    /// Where handlers run, as set by the user.
    type Runner: fmt::Debug;

    /// The same, checked, with its thread pool.
    type PreparedRunner: Clone;

    /// The handler of `on_connect`.
    type OnConnect: ?Sized + Send + Sync + 'static;

    /// Checks `runner` and creates its thread pool. Starts no thread.
    fn prepare(runner: &Self::Runner) -> Result<Self::PreparedRunner, InvalidConfig>;

    /// Returns the threads of the loop's own that `runner` uses.
    fn thread_pool(runner: &Self::PreparedRunner) -> Option<&Arc<ThreadPool>>;
}

impl Execution for LocalHandlers {
    /// The number of handler threads; `None` is the connection's poller.
    type Runner = Option<usize>;

    type PreparedRunner = Option<Arc<ThreadPool>>;

    type OnConnect = OnConnect;

    fn prepare(threads: &Option<usize>) -> Result<Option<Arc<ThreadPool>>, InvalidConfig> {
        let pool = threads.map(|count| thread_pool("handler_threads", count));
        pool.transpose()
    }

    fn thread_pool(threads: &Option<Arc<ThreadPool>>) -> Option<&Arc<ThreadPool>> {
        threads.as_ref()
    }
}

impl Execution for SendHandlers {
    type Runner = Runner;

    type PreparedRunner = PreparedRunner;

    type OnConnect = OnConnectSend;

    fn prepare(runner: &Runner) -> Result<PreparedRunner, InvalidConfig> {
        runner.prepare()
    }

    fn thread_pool(runner: &PreparedRunner) -> Option<&Arc<ThreadPool>> {
        match runner {
            PreparedRunner::Threads(threads) => Some(threads),
            PreparedRunner::Inline | PreparedRunner::Spawn(_) => None,
        }
    }
}
