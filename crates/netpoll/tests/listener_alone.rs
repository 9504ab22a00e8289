// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listeners that accept without an event loop.

#[allow(dead_code, reason = "other test programs use the rest")]
#[path = "support/process.rs"]
mod process;
#[allow(dead_code, reason = "other test programs use the rest")]
#[path = "support/waiting.rs"]
mod waiting;

use std::fs::File;
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
use netpoll::{
    Accept, Addr, ConnInfo, ConnOptions, Connection, EventLoop, InvalidConfig, Listener, LoopHandle,
};
use process::alone_twice_with;
use waiting::{block_on, eventually, poll_once};

/// The time after which a wait fails its test.
const LIMIT: Duration = Duration::from_secs(60);

/// The most connections that are accepted ahead of their callers.
const QUEUE_CAPACITY: usize = 16;

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
    task: Option<netpoll::JoinHandle<()>>,
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
    let on_poller = on_poller.and_then(netpoll::JoinHandle::wait);
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

#[test]
fn cancelled_accepts_lose_no_connection() {
    const CONNECTIONS: u32 = 1000;
    let (listener, addr) = listen();
    let clients = std::thread::spawn(move || (0..CONNECTIONS).for_each(|n| drop(client(addr, n))));
    let mut cancelled = 0;
    for expected in 0..CONNECTIONS {
        let mut accepted = None;
        eventually("a connection", || {
            accepted = poll_and_drop(&listener);
            cancelled += usize::from(accepted.is_none());
            accepted.is_some()
        });
        assert_eq!(block_on(number(accepted.expect("just set"))), expected);
    }
    clients.join().expect("clients that connect");
    assert!(cancelled > 0, "the first call finds no connection");
    assert_eq!(listener.accept_stats().accepted, u64::from(CONNECTIONS));
}

#[test]
fn connection_of_a_dropped_caller_goes_to_the_next_caller() {
    let (listener, addr) = listen();
    let [first, second] = [Arc::<WakeCount>::default(), Arc::default()];
    let mut callers: [Accepting<'_>; 2] =
        [Box::pin(listener.accept()), Box::pin(listener.accept())];
    assert!(poll_with(&mut callers[0], &first).is_pending());
    assert!(poll_with(&mut callers[1], &second).is_pending());
    let _peer = client(addr, 3);
    eventually("a wake", || first.0.load(Ordering::SeqCst) == 1);
    assert!(
        poll_with(&mut callers[1], &second).is_pending(),
        "it is second"
    );
    assert_eq!(second.0.load(Ordering::SeqCst), 0);
    let [dropped, mut next] = callers;
    drop(dropped);
    assert_eq!(second.0.load(Ordering::SeqCst), 1);
    match poll_with(&mut next, &second) {
        Poll::Ready(accepted) => assert_eq!(block_on(number(accepted)), 3),
        Poll::Pending => panic!("the connection is lost"),
    }
}

#[test]
fn callers_get_connections_in_the_order_of_their_first_poll() {
    const CALLERS: u32 = 40;
    let (listener, addr) = listen();
    let mut callers: Vec<Option<Accepting<'_>>> = Vec::new();
    for _ in 0..CALLERS {
        let mut caller: Accepting<'_> = Box::pin(listener.accept());
        assert!(poll_once(caller.as_mut()).is_pending());
        callers.push(Some(caller));
    }
    let _peers: Vec<_> = (0..CALLERS).map(|number| client(addr, number)).collect();
    let mut numbers = vec![None; callers.len()];
    eventually("all connections", || {
        // The last caller is polled first.
        for (caller, received) in callers.iter_mut().zip(&mut numbers).rev() {
            let ready = caller.as_mut().map(|caller| poll_once(caller.as_mut()));
            if let Some(Poll::Ready(accepted)) = ready {
                *caller = None;
                *received = Some(block_on(number(accepted)));
            }
        }
        numbers.iter().all(Option::is_some)
    });
    assert_eq!(numbers, (0..CALLERS).map(Some).collect::<Vec<_>>());
}

#[test]
fn at_most_16_connections_are_accepted_ahead_of_their_callers() {
    const CONNECTIONS: u32 = 100;
    let (listener, addr) = listen();
    let _peers: Vec<_> = (0..CONNECTIONS)
        .map(|number| client(addr, number))
        .collect();
    assert_eq!(listener.accept_stats().accepted, 0, "before the first call");
    let accepted = || listener.accept_stats().accepted as usize;
    let first = poll_and_drop(&listener);
    assert!(first.is_none());
    eventually("a full queue", || accepted() >= QUEUE_CAPACITY);
    for returned in 0..CONNECTIONS {
        if returned % 20 == 0 {
            pass_the_poller();
        }
        assert!(accepted() <= returned as usize + QUEUE_CAPACITY);
        let next = block_on(number(block_on(listener.accept())));
        assert_eq!(next, returned);
    }
}

#[test]
fn drop_of_a_listener_closes_queued_connections_and_frees_the_address() {
    let (listener, addr) = listen();
    let mut peers: Vec<_> = (0..20).map(|number| client(addr, number)).collect();
    assert!(poll_and_drop(&listener).is_none());
    eventually("a full queue", || {
        listener.accept_stats().accepted as usize == QUEUE_CAPACITY
    });
    // Neither the close nor the free address waits for the poller.
    let blocked = BlockedPoller::new();
    drop(listener);
    let again = Listener::bind(addr);
    drop(blocked);
    again.expect("a free address");
    for peer in &mut peers {
        match peer.read(&mut [0]) {
            Ok(count) => assert_eq!(count, 0),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }
}

#[test]
fn acceptor_of_a_listener_that_is_closed_early_leaks_no_descriptor() {
    let name = "acceptor_of_a_listener_that_is_closed_early_leaks_no_descriptor";
    alone_twice_with(64, name, || {
        let blocked = BlockedPoller::new();
        let (listener, _addr) = listen();
        assert!(poll_and_drop(&listener).is_none());
        drop(listener);
        drop(blocked);
        pass_the_poller();
    });
}

#[test]
fn accept_continues_after_descriptors_were_exhausted() {
    let name = "accept_continues_after_descriptors_were_exhausted";
    alone_twice_with(64, name, || {
        let (listener, addr) = listen();
        let listener = listener.max_connections(1000);
        let _first_peer = client(addr, 1);
        let _first = block_on(listener.accept()).expect("a connection");
        let mut held = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            held.push(file);
        }
        let mut accepting: Accepting<'_> = Box::pin(listener.accept());
        assert!(poll_once(accepting.as_mut()).is_pending());
        let failures = || listener.accept_stats().process_out_of_descriptors;
        let before = failures();
        held.pop();
        let _peer = client(addr, 2);
        eventually("an accept that fails", || failures() > before);
        assert!(poll_once(accepting.as_mut()).is_pending());
        drop(held);
        assert_eq!(block_on(number(poll_until_ready(&mut accepting))), 2);
    });
}

#[test]
fn accept_waits_at_the_connection_limit_until_a_connection_ends() {
    let (listener, addr) = listen();
    let listener = listener.max_connections(2);
    let mut peers: Vec<_> = (0..3).map(|number| client(addr, number)).collect();
    let first = block_on(listener.accept()).expect("a connection");
    let _second = block_on(listener.accept()).expect("a connection");
    let mut third: Accepting<'_> = Box::pin(listener.accept());
    eventually("a pause", || listener.accept_stats().pauses_at_limit > 0);
    pass_the_poller();
    assert!(poll_once(third.as_mut()).is_pending());
    assert_eq!(listener.accept_stats().accepted, 2);
    drop(first);
    drop(peers.remove(0));
    assert_eq!(block_on(number(poll_until_ready(&mut third))), 2);
}

#[test]
fn filter_rejects_connections_and_sets_their_options() {
    let (listener, addr) = listen();
    let seen = AtomicUsize::new(0);
    let listener = listener.on_accept(move |incoming| {
        if seen.fetch_add(1, Ordering::Relaxed) == 0 {
            return Accept::Reject;
        }
        let mut options = incoming.options().clone();
        options.max_frame = 3;
        Accept::Accept(options)
    });
    let mut rejected = client(addr, 0);
    let _peer = client(addr, 1);
    let (mut connection, info) = block_on(listener.accept()).expect("a connection");
    assert_eq!(info.options().max_frame, 3);
    let too_large = block_on(connection.reader().read_u32()).expect_err("4 bytes");
    assert_eq!(too_large.kind(), io::ErrorKind::InvalidData);
    assert!(matches!(rejected.read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(listener.accept_stats().rejected, 1);
}

#[test]
fn invalid_options_are_reported_by_name() {
    let mut options = ConnOptions::default();
    options.read_high = 0;
    let field = |listener: Listener| {
        let error = listener.accept_blocking().expect_err("an invalid option");
        let source = error.get_ref().and_then(|source| source.downcast_ref());
        source.map(|invalid: &InvalidConfig| invalid.field)
    };
    assert_eq!(field(listen().0.options(options)), Some("read_high"));
    assert_eq!(
        field(listen().0.max_connections(0)),
        Some("max_connections")
    );
    assert_eq!(field(listen().0.accept_rate(0)), Some("accept_rate"));
}

/// Returns a loop that echoes one byte, its handle, and the address of its listener.
fn echo_loop(listener: Listener) -> (EventLoop, LoopHandle) {
    let builder = EventLoop::builder().on_request(async |connection: &mut Connection| {
        let (mut reader, mut writer) = connection.split();
        writer.put_u32(reader.read_u32().await?);
        Ok(())
    });
    let event_loop = builder.listen(listener).pollers(1).build();
    let event_loop = event_loop.expect("valid options");
    let handle = event_loop.handle();
    (event_loop, handle)
}

#[test]
fn listener_on_a_loop_waits_for_its_start_and_ends_with_it() {
    let (event_loop, handle) = echo_loop(listen().0);
    let (listener, addr) = listen();
    let listener = listener.on(&handle);
    let _peer = client(addr, 5);
    let mut incoming = listener.incoming();
    let waker = &mut Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut incoming).poll_next(waker).is_pending());
    let running = std::thread::spawn(move || event_loop.run());
    let (mut connection, _info) = block_on(next(&mut incoming))
        .expect("a stream without end")
        .expect("a connection");
    let received = block_on(connection.reader().read_u32());
    assert_eq!(received.expect("a number"), 5);
    assert!(handle.stats().total().opened > 0, "on a poller of the loop");
    assert_eq!(handle.connections(), 0, "it belongs to its owner");
    let count = Arc::<WakeCount>::default();
    let waker = Waker::from(Arc::clone(&count));
    let context = &mut Context::from_waker(&waker);
    assert!(Pin::new(&mut incoming).poll_next(context).is_pending());
    handle.stop_accepting();
    eventually("a wake", || count.0.load(Ordering::SeqCst) > 0);
    let end = block_on(next(&mut incoming)).expect("an error before the end");
    let kind = end.expect_err("a loop that stops").kind();
    assert_eq!(kind, io::ErrorKind::ConnectionAborted);
    assert!(block_on(next(&mut incoming)).is_none());
    drop(handle.shutdown(Duration::ZERO));
    running.join().expect("no panic").expect("a loop that ran");
}

#[test]
fn loop_that_gets_a_listener_accepts_in_its_place() {
    let (listener, addr) = listen();
    let _first = client(addr, 1);
    assert_eq!(block_on(number(block_on(listener.accept()))), 1);
    let mut queued = client(addr, 2);
    eventually("a queued connection", || {
        listener.accept_stats().accepted == 2
    });
    let (event_loop, handle) = echo_loop(listener);
    let running = std::thread::spawn(move || event_loop.run());
    for number in 0..20_u32 {
        let mut answer = [0; 4];
        client(addr, number)
            .read_exact(&mut answer)
            .expect("an echo");
        assert_eq!(answer, number.to_be_bytes());
    }
    assert!(
        matches!(queued.read(&mut [0]), Ok(0) | Err(_)),
        "it is closed"
    );
    drop(handle.shutdown(Duration::ZERO));
    running.join().expect("no panic").expect("a loop that ran");
}
