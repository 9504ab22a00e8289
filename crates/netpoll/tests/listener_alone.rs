// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listeners that accept without an event loop.

#[path = "listener_alone/limits.rs"]
mod limits;
#[allow(dead_code, reason = "other test programs use the rest")]
#[path = "support/process.rs"]
mod process;
#[path = "listener_alone/queue.rs"]
mod queue;
#[allow(dead_code, reason = "other test programs use the rest")]
#[path = "support/waiting.rs"]
mod waiting;
#[path = "listener_alone/with_loop.rs"]
mod with_loop;

use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_core::Stream;
use netpoll::listener::ConnInfo;
use netpoll::{Addr, Connection, Listener};
use waiting::{block_on, eventually, poll_once};

/// The time after which a wait fails its test.
const LIMIT: Duration = Duration::from_secs(60);

type Accepted = io::Result<(Connection, ConnInfo)>;
type Accepting<'a> = Pin<Box<dyn Future<Output = Accepted> + 'a>>;

fn listen() -> (Listener, Addr) {
    let listener = Listener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("a bound address");
    (listener, addr)
}

/// Connects a client that sends `number`.
fn client(addr: Addr, number: u32) -> TcpStream {
    let addr = addr.as_tcp().expect("a TCP address");
    let mut stream = TcpStream::connect(addr).expect("a listener");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    stream.write_all(&number.to_be_bytes()).expect("a peer");
    stream
}

/// Reads to the end of a stream, which is FIN or a reset.
fn expect_closed(mut stream: &TcpStream) {
    match stream.read(&mut [0]) {
        Ok(count) => assert_eq!(count, 0),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

/// Returns the number that the client of an accepted connection has sent.
async fn number(accepted: Accepted) -> u32 {
    let (mut connection, _info) = accepted.expect("a connection");
    connection.reader().read_u32().await.expect("a number")
}

/// Polls until a connection is there, without a waker.
fn poll_until_ready(accepting: &mut Accepting<'_>) -> Accepted {
    let mut accepted = None;
    eventually("a connection", || {
        if let Poll::Ready(result) = poll_once(accepting.as_mut()) {
            accepted = Some(result);
        }
        accepted.is_some()
    });
    accepted.expect("just set")
}

/// Polls one call of accept, and drops it.
fn poll_and_drop(listener: &Listener) -> Option<Accepted> {
    match poll_once(Box::pin(listener.accept()).as_mut()) {
        Poll::Ready(accepted) => Some(accepted),
        Poll::Pending => None,
    }
}

/// Waits until the process's poller has run all sources that were notified before.
fn pass_the_poller() {
    for _ in 0..3 {
        let task = netpoll::spawn(async {}).expect("a poller");
        task.wait().expect("a task that ends");
    }
}

/// Blocks the process's poller until it is dropped.
struct BlockedPoller {
    release: Option<Sender<()>>,
    task: Option<netpoll::task::JoinHandle<()>>,
}

impl BlockedPoller {
    fn new() -> Self {
        let (release, released) = channel();
        let (blocked, is_blocked) = channel();
        let task = netpoll::spawn(async move {
            blocked.send(()).expect("a test that waits");
            // It fails once the test drops its end.
            released.recv().unwrap_or_default();
        });
        is_blocked.recv_timeout(LIMIT).expect("a blocked poller");
        Self {
            release: Some(release),
            task: Some(task.expect("a poller")),
        }
    }
}

impl Drop for BlockedPoller {
    fn drop(&mut self) {
        drop(self.release.take());
        let task = self.task.take().expect("a task");
        task.wait().expect("a task that ends");
    }
}

fn next<'a, S: Stream + Unpin>(stream: &'a mut S) -> impl Future<Output = Option<S::Item>> + 'a {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context))
}

/// Counts how often it is woken.
#[derive(Default)]
struct WakeCount(AtomicUsize);

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll_with(accepting: &mut Accepting<'_>, count: &Arc<WakeCount>) -> Poll<Accepted> {
    let waker = Waker::from(Arc::clone(count));
    accepting.as_mut().poll(&mut Context::from_waker(&waker))
}

#[test]
fn accept_returns_tcp_connections_and_their_addresses() {
    let (listener, addr) = listen();
    let mut peer = client(addr, 7);
    let (mut connection, info) = block_on(listener.accept()).expect("a connection");
    let peer_addr = Addr::Tcp(peer.local_addr().expect("a connected socket"));
    assert_eq!((info.peer_addr(), info.local_addr()), (peer_addr, addr));
    assert_eq!(connection.peer_addr(), peer_addr);
    let answer = block_on(connection.reader().read_u32()).expect("a number");
    connection.writer().put_u32(answer + 1);
    drop(connection);
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).expect("an answer and FIN");
    assert_eq!(answer, 8_u32.to_be_bytes());
}

#[test]
fn accept_returns_unix_connections() {
    let path = std::env::temp_dir().join(format!("netpoll-alone-{}.sock", std::process::id()));
    let listener = Listener::unix(&path).expect("a free path");
    let mut peer = UnixStream::connect(&path).expect("a listener");
    peer.write_all(&7_u32.to_be_bytes()).expect("a peer");
    let (mut connection, info) = block_on(listener.accept()).expect("a connection");
    assert_eq!(info.local_addr(), listener.local_addr().expect("a path"));
    let credentials = connection.peer_credentials().expect("a Unix socket");
    assert_eq!(credentials.pid, Some(std::process::id()));
    let received = block_on(connection.reader().read_u32()).expect("a number");
    assert_eq!(received, 7);
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn accept_works_in_every_executor() {
    let (listener, addr) = listen();
    let _peers: Vec<_> = (0..3).map(|number| client(addr, number)).collect();
    let blocking = listener.accept_blocking();
    assert_eq!(block_on(number(blocking)), 0);
    let tokio = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    assert_eq!(
        tokio.block_on(async { number(listener.accept().await).await }),
        1
    );
    let on_poller = netpoll::spawn(async move {
        let blocked = listener.accept_blocking().expect_err("a poller's thread");
        (blocked.kind(), number(listener.accept().await).await)
    });
    let on_poller = on_poller.and_then(netpoll::task::JoinHandle::wait);
    let expected = (io::ErrorKind::WouldBlock, 2);
    assert_eq!(on_poller.expect("a task that ends"), expected);
}

#[test]
fn incoming_is_a_stream_of_connections() {
    let (listener, addr) = listen();
    let mut incoming = listener.incoming();
    for expected in 0..50 {
        let _peer = client(addr, expected);
        let item = block_on(next(&mut incoming)).expect("a stream without end");
        assert_eq!(block_on(number(item)), expected);
    }
}
