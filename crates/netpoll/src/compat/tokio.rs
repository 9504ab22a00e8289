// SPDX-License-Identifier: MIT OR Apache-2.0
//! tokio: runs handlers as tokio tasks, and lets handlers on netpoll threads await tokio futures.

use std::future::Future;
use std::pin::Pin;

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::error::InvalidConfig;
use crate::event_loop::builder::Builder;
use crate::event_loop::handler_kind::HandlerKind;
use crate::runner::{Runner, Spawn};
use crate::sync::Arc;

impl Spawn for Handle {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        // The connection reports the end of the task, so the join handle is not needed.
        drop(Self::spawn(self, task));
    }
}

impl Runner {
    /// Runs handlers as tasks of a tokio runtime: [`Runner::Spawn`] of its handle. The runtime must
    /// outlive the loop; connections whose tasks it drops are closed. A current-thread runtime
    /// works while another thread is in its `block_on`: tasks are polled there and nowhere else.
    #[must_use]
    pub fn tokio(handle: Handle) -> Self {
        Self::Spawn(Arc::new(handle))
    }
}

impl<K: HandlerKind> Builder<K> {
    /// Runs the loop's threads inside a tokio runtime, so that handlers on them can await its
    /// timers and sockets, and libraries built on these. The runtime must be multi-threaded and
    /// must outlive the loop: it drives its timers and its I/O on its own threads.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use netpoll::{Connection, EventLoop};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = tokio::runtime::Runtime::new()?;
    /// EventLoop::builder()
    ///     .on_request(async |conn: &mut Connection| {
    ///         let line = conn.reader().until(b'\n', 1024).await?.to_vec();
    ///         tokio::time::sleep(Duration::from_millis(10)).await;
    ///         conn.writer().put_slice(&line);
    ///         Ok(())
    ///     })
    ///     .enter_tokio(runtime.handle().clone())
    ///     .serve("127.0.0.1:8080")
    /// # }
    /// ```
    ///
    /// [`build`](Self::build) rejects a current-thread runtime, in which no future of tokio would
    /// ever
    /// complete.
    pub fn enter_tokio(self, handle: Handle) -> Self {
        if handle.runtime_flavor() == RuntimeFlavor::CurrentThread {
            let expected = "needs a multi-threaded runtime (Builder::new_multi_thread): a \
                            current-thread runtime does not drive its timers and sockets here";
            return self.reject(InvalidConfig::new("enter_tokio", expected));
        }
        self.with_thread_hook(Arc::new(move |body| {
            let _entered = handle.enter();
            body();
        }))
    }
}
