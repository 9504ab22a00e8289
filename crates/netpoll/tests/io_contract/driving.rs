// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs one row on each implementation, with its peer on a thread.

use std::future::{Future, poll_fn};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::mpsc::channel;
use std::task::Poll;
use std::thread::{JoinHandle, spawn};

use netpoll::{Connection, Dialer, EventLoop, Listener};

use super::{LIMIT, Seen};

/// A server whose one connection is the peer of a row.
struct Peer {
    listener: TcpListener,
    script: fn(TcpStream),
}

impl Peer {
    fn new(script: fn(TcpStream)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self { listener, script }
    }

    fn addr(&self) -> std::net::SocketAddr {
        self.listener.local_addr().expect("an address")
    }

    /// Accepts the connection and runs the peer.
    fn start(self) -> JoinHandle<()> {
        spawn(move || {
            let (stream, _) = self.listener.accept().expect("a connection");
            run_script(self.script, stream);
        })
    }
}

fn run_script(script: fn(TcpStream), stream: TcpStream) {
    stream.set_nodelay(true).expect("TCP");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    stream.set_write_timeout(Some(LIMIT)).expect("a timeout");
    script(stream);
}

/// Runs `test` in a tokio runtime.
fn block_on<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let limited = runtime.block_on(async { tokio::time::timeout(LIMIT, test).await });
    limited.expect("a row that ends")
}

/// Runs the row on tokio's stream.
pub(crate) fn on_tokio<F>(run: fn(tokio::net::TcpStream) -> F, script: fn(TcpStream)) -> Seen
where
    F: Future<Output = Seen>,
{
    let peer = Peer::new(script);
    let addr = peer.addr();
    let running = peer.start();
    let seen = block_on(async {
        let stream = tokio::net::TcpStream::connect(addr).await;
        run(stream.expect("a connection")).await
    });
    running.join().expect("a peer without a panic");
    seen
}

/// Runs the row on a connection, in a task whose thread is no poller.
pub(crate) fn off_poller<F>(run: fn(Connection) -> F, script: fn(TcpStream)) -> Seen
where
    F: Future<Output = Seen>,
{
    let peer = Peer::new(script);
    let addr = peer.addr();
    let running = peer.start();
    let seen = block_on(async {
        let conn = Dialer::new().dial(addr).await;
        run(conn.expect("a connection")).await
    });
    running.join().expect("a peer without a panic");
    seen
}

/// Runs the row in a handler on the connection's poller.
pub(crate) fn on_poller<F>(run: fn(Connection) -> F, script: fn(TcpStream)) -> Seen
where
    F: Future<Output = Seen> + 'static,
{
    let (sender, results) = channel();
    let server = EventLoop::builder()
        .pollers(1)
        .on_connection(async move |conn: Connection| {
            // Only the test's thread receives, and it may have failed.
            let _received = sender.send(run(conn).await).is_ok();
            Ok(())
        })
        .listen(Listener::bind("127.0.0.1:0").expect("a free port"))
        .build()
        .expect("a loop");
    let handle = server.handle();
    let addr = handle.local_addrs()[0].as_tcp().expect("TCP");
    let serving = spawn(move || server.run().expect("a loop that runs"));
    let running = spawn(move || {
        run_script(script, TcpStream::connect(addr).expect("a server"));
    });
    let seen = results.recv_timeout(LIMIT).expect("a row that ends");
    running.join().expect("a peer without a panic");
    assert_eq!(handle.shutdown(LIMIT).wait(), 0);
    serving.join().expect("no panic");
    seen
}

/// Returns the outputs of two futures, which are polled together.
pub(crate) async fn both<A: Future, B: Future>(one: A, other: B) -> (A::Output, B::Output) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    poll_fn(|context| {
        if first.is_none()
            && let Poll::Ready(output) = one.as_mut().poll(context)
        {
            first = Some(output);
        }
        if second.is_none()
            && let Poll::Ready(output) = other.as_mut().poll(context)
        {
            second = Some(output);
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (done, also) => {
                (first, second) = (done, also);
                Poll::Pending
            }
        }
    })
    .await
}
