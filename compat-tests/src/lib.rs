// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server on netpoll's pollers, and a runtime for its clients, for the tests of libraries that
//! know nothing of netpoll.

#![forbid(unsafe_code)]

use std::future::Future;
use std::thread::JoinHandle;
use std::time::Duration;

use netpoll::{Addr, BoxError, Connection, Dialer, EventLoop, Listener, LoopHandle};

/// The time after which a wait fails its test.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A loop with one poller, which runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    addr: Addr,
    handle: LoopHandle,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Calls `handler` once for each connection, on the connection's poller.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub fn on_poller<H>(handler: H) -> Self
    where
        H: AsyncFn(Connection) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        let server = EventLoop::builder()
            .pollers(1)
            .on_connection(handler)
            .listen(Listener::bind("127.0.0.1:0").expect("a free port"))
            .build()
            .expect("a loop");
        let handle = server.handle();
        Self {
            addr: handle.local_addrs()[0],
            handle,
            thread: Some(std::thread::spawn(move || {
                server.run().expect("a loop that runs")
            })),
        }
    }

    /// Connects a client, whose poller is another one.
    ///
    /// # Panics
    ///
    /// If the server does not accept.
    pub async fn connect(&self) -> Connection {
        Dialer::new()
            .dial(self.addr)
            .await
            .expect("a server that accepts")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.handle.shutdown(Duration::from_millis(100)));
        if let Some(thread) = self.thread.take() {
            // Its panic has failed a call of the client.
            let _ended = thread.join().is_ok();
        }
    }
}

/// Runs a test in a tokio runtime. It fails after [`LIMIT`].
///
/// # Panics
///
/// If the test does.
pub fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("two threads");
    runtime.block_on(async {
        tokio::time::timeout(LIMIT, test)
            .await
            .expect("a test that ends")
    })
}

/// Returns `length` bytes that differ by position.
#[must_use]
pub fn bytes(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index as u8).wrapping_mul(31))
        .collect()
}
