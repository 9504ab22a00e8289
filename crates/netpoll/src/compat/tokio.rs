// SPDX-License-Identifier: MIT OR Apache-2.0
//! tokio: handlers as its tasks, and handlers of ours that await what is tokio's.

use std::future::Future;
use std::pin::Pin;

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::error::InvalidConfig;
use crate::event_loop::builder::Builder;
use crate::runner::{Runner, Spawn};
use crate::sync::Arc;

impl Spawn for Handle {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        // Its end is told through the connection, so nobody joins it.
        drop(Self::spawn(self, task));
    }
}

impl Runner {
    /// As tasks of a tokio runtime: [`Runner::Spawn`] of its handle. The runtime has to outlive the
    /// loop; connections whose tasks it drops are closed. One of the current thread will do as long as
    /// another thread is in its `block_on`: tasks are polled there and nowhere else.
    #[must_use]
    pub fn tokio(handle: Handle) -> Self {
        Self::Spawn(Arc::new(handle))
    }
}

impl Builder {
    /// Runs the loop's threads inside of a tokio runtime, so that handlers which run on them may
    /// await its timers and sockets, and what is built on them. The runtime has to be of several
    /// threads, and to outlive the loop: its timers and its I/O are driven there, not here.
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
    /// [`build`](Self::build) refuses a runtime of the current thread, on which nothing of tokio's would
    /// ever come to its end.
    pub fn enter_tokio(self, handle: Handle) -> Self {
        if handle.runtime_flavor() == RuntimeFlavor::CurrentThread {
            let expected = "needs a runtime of several threads (Builder::new_multi_thread): nothing \
                            drives the timers and sockets of a current-thread one here";
            return self.reject(InvalidConfig::new("enter_tokio", expected));
        }
        self.with_thread_hook(Arc::new(move |body| {
            let _entered = handle.enter();
            body();
        }))
    }
}
