// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`spawn_local`]: a future that stays on the poller where it was spawned.
//!
//! A command to a poller may cross threads, so it cannot hold such a future. The future waits on its
//! own thread, and the command has its key.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::thread::{self, ThreadId};

use super::{JoinHandle, JoinShared, SpawnedFuture};
use crate::error::ErrorKind;
use crate::poll::notifier::is_poller_thread;
use crate::poll::placement::register_source;
use crate::poll::source::{RegisterContext, Source, SourceFactory};
use crate::sync::{Arc, thread_local};

/// Makes the source of a future on the thread of its poller.
type LocalFactory = Box<dyn FnOnce(RegisterContext) -> Box<dyn Source>>;

thread_local! {
    /// The futures that their poller has not started yet.
    static PENDING: RefCell<BTreeMap<u64, LocalFactory>> = const { RefCell::new(BTreeMap::new()) };
}

thread_local! {
    static NEXT_KEY: Cell<u64> = const { Cell::new(0) };
}

/// Runs `future`, which need not be `Send`, on the current poller: in a handler that runs on its
/// poller, or in a spawned future. The future is polled and dropped on this thread. Otherwise as
/// [`spawn`](super::spawn).
///
/// # Errors
///
/// [`ErrorKind::NotOnPoller`] (`Unsupported`) on any other thread; the future is dropped.
///
/// ```
/// use std::rc::Rc;
///
/// # fn main() -> std::io::Result<()> {
/// let outer = netpoll::spawn(async {
///     let here = Rc::new(42);
///     netpoll::task::spawn_local(async move { *here })?.await
/// })?;
/// assert_eq!(outer.wait()??, 42);
/// assert!(netpoll::task::spawn_local(async {}).is_err(), "this thread is no poller");
/// # Ok(()) }
/// ```
pub fn spawn_local<F>(future: F) -> io::Result<JoinHandle<F::Output>>
where
    F: Future + 'static,
{
    if !is_poller_thread() {
        return Err(ErrorKind::NotOnPoller.into());
    }
    let outcome = Arc::<JoinShared<F::Output>>::default();
    let running = SpawnedFuture {
        future: Some(Box::pin(future)),
        shared: Arc::clone(&outcome),
    };
    let pending = PendingFuture::keep(Box::new(move |registration| {
        running.into_source(registration)
    }));
    let factory: SourceFactory = Box::new(move |registration| pending.start(registration));
    register_source(factory)?;
    Ok(JoinHandle { shared: outcome })
}

/// The key of a pending future. Its drop drops the future; on another thread, that is left to the
/// end of the future's thread.
struct PendingFuture {
    key: u64,
    thread: ThreadId,
}

impl PendingFuture {
    fn keep(factory: LocalFactory) -> Self {
        let key = NEXT_KEY.with(|next| next.replace(next.get() + 1));
        PENDING.with(|pending| pending.borrow_mut().insert(key, factory));
        Self {
            key,
            thread: thread::current().id(),
        }
    }

    fn take(&self) -> Option<LocalFactory> {
        if self.thread != thread::current().id() {
            return None;
        }
        let take = |pending: &RefCell<BTreeMap<_, _>>| pending.borrow_mut().remove(&self.key);
        PENDING.try_with(take).ok().flatten()
    }

    /// Makes the source, on the thread of its poller.
    fn start(&self, registration: RegisterContext) -> Box<dyn Source> {
        let factory = self.take();
        factory.expect("a command runs on the poller that it was sent to")(registration)
    }
}

impl Drop for PendingFuture {
    fn drop(&mut self) {
        // Bound, so that nothing is borrowed while the future is dropped.
        let unstarted = self.take();
        drop(unstarted);
    }
}
