// SPDX-License-Identifier: MIT OR Apache-2.0
//! Servers, peers and waits that the behaviour tests share.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use netpoll::{BoxError, Builder, CloseReason, Connection, EventLoop, Listener, LoopHandle};

/// How long anything may take before the test fails instead of hanging.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A loop that runs in a thread of its own until it is dropped.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) handle: LoopHandle,
    /// The reasons for which connections ended, in order.
    pub(crate) endings: Receiver<CloseReason>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves what `builder` describes on a free port of loopback.
    pub(crate) fn start(builder: Builder) -> Self {
        let listener = Listener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener
            .local_addr()
            .expect("a bound address")
            .as_tcp()
            .expect("TCP");
        let (ended, endings) = channel();
        let ended = Mutex::new(ended);
        let observer = move |_: &Connection, reason: &CloseReason| {
            // A test that has ended looks no more.
            let _seen = ended
                .lock()
                .expect("no panic under it")
                .send(reason.clone())
                .is_ok();
        };
        let running = builder
            .on_disconnect(observer)
            .listen(listener)
            .build()
            .expect("a loop");
        let handle = running.handle();
        let thread = std::thread::spawn(move || running.run().expect("a loop that runs"));
        Self {
            addr,
            handle,
            endings,
            thread: Some(thread),
        }
    }

    /// Serves the rpc wire with one poller.
    pub(crate) fn rpc() -> Self {
        Self::start(EventLoop::builder().pollers(1).on_request(rpc))
    }

    /// A peer that is connected.
    pub(crate) fn connect(&self) -> Peer {
        Peer::connect(self.addr)
    }

    /// The reason the next connection ended for.
    pub(crate) fn ending(&self) -> CloseReason {
        self.endings
            .recv_timeout(LIMIT)
            .expect("a connection that ends")
    }

    /// Shuts down, and says how many connections were cut.
    pub(crate) fn shut_down(mut self, within: Duration) -> usize {
        let cut = self.handle.shutdown(within).wait();
        self.join();
        cut
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a loop that ends");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.handle.shutdown(Duration::from_millis(100)));
        if !std::thread::panicking() {
            self.join();
        }
    }
}

/// The rpc wire: a length, so many bytes, and the same back.
pub(crate) async fn rpc(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    let len = reader.read_u32().await?;
    let body = reader.next(len as usize).await?;
    writer.put_u32(len);
    writer.put_slice(body);
    Ok(())
}

/// A frame of the rpc wire.
pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len())
        .expect("a short body")
        .to_be_bytes()
        .to_vec();
    frame.extend_from_slice(body);
    frame
}

/// `length` bytes that differ from each other and by `seed`.
pub(crate) fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length)
        .map(|index| (index as u8).wrapping_mul(31).wrapping_add(seed))
        .collect()
}

/// A blocking client that is not netpoll.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
}

impl Peer {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("a server that accepts");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        stream.set_write_timeout(Some(LIMIT)).expect("a timeout");
        stream.set_nodelay(true).expect("TCP");
        Self { stream }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("a server that reads");
    }

    /// Exactly `n` bytes.
    pub(crate) fn receive(&mut self, n: usize) -> Vec<u8> {
        let mut received = vec![0; n];
        self.stream
            .read_exact(&mut received)
            .expect("an answer in time");
        received
    }

    /// Everything up to the end of the stream.
    pub(crate) fn receive_all(&mut self) -> std::io::Result<Vec<u8>> {
        let mut received = Vec::new();
        self.stream.read_to_end(&mut received)?;
        Ok(received)
    }

    /// Sends a frame, and checks that the same comes back.
    pub(crate) fn call(&mut self, body: &[u8]) {
        let frame = frame(body);
        self.send(&frame);
        assert!(
            self.receive(frame.len()) == frame,
            "the answer is the request"
        );
    }

    /// Ends this side's stream.
    pub(crate) fn finish(&self) {
        self.stream
            .shutdown(std::net::Shutdown::Write)
            .expect("an open stream");
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket
            .set_linger(Some(Duration::ZERO))
            .expect("an open socket");
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::yield_now();
    }
}

/// Runs a future on this thread, no executor around.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let deadline = Instant::now() + LIMIT;
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => {
                assert!(Instant::now() < deadline, "a future did not end in time");
                std::thread::park_timeout(LIMIT);
            }
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
