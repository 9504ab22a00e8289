// SPDX-License-Identifier: MIT OR Apache-2.0
//! The behaviour of a loop when one of its pollers fails. User code cannot make a poller fail, so
//! these tests register a source that panics.

use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::EventLoop;
use super::builder::Builder;
use super::handle::LoopHandle;
use crate::block_on::block_on;
use crate::connection::Connection;
use crate::dialer::Dialer;
use crate::error::CloseReason;
use crate::event::{Event, PollerFailure};
use crate::listener::Listener;
use crate::poll::placement::register_source;
use crate::poll::source::{
    NextAction, RegisterContext, ShutdownRequest, Source, SourceContext, SourceFactory,
};
use crate::sync::{Arc, Mutex, lock};
use crate::time::sleep;

const LIMIT: Duration = Duration::from_secs(60);

/// Panics when it is registered, and at a shutdown if `panics_at_shutdown` is set.
struct FailingSource {
    panics_at_shutdown: bool,
}

impl Source for FailingSource {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn on_register(&mut self, _context: &mut SourceContext) -> NextAction {
        panic!("a test source")
    }

    fn on_notify(&mut self, _context: &mut SourceContext) -> NextAction {
        NextAction::Remove
    }

    fn on_shutdown(
        &mut self,
        _request: ShutdownRequest,
        _context: &mut SourceContext,
    ) -> NextAction {
        assert!(!self.panics_at_shutdown, "a test source at shutdown");
        NextAction::Remove
    }
}

fn failing_source(panics_at_shutdown: bool) -> SourceFactory {
    Box::new(move |_: RegisterContext| Box::new(FailingSource { panics_at_shutdown }))
}

/// A running loop, with the events and close reasons it reported.
struct FailureTest {
    handle: LoopHandle,
    addr: SocketAddr,
    events: Arc<Mutex<Vec<Event>>>,
    ends: Arc<Mutex<Vec<CloseReason>>>,
    running: Option<std::thread::JoinHandle<std::io::Result<()>>>,
}

impl FailureTest {
    fn new(builder: Builder) -> Self {
        let (events, ends) = (
            Arc::<Mutex<Vec<_>>>::default(),
            Arc::<Mutex<Vec<_>>>::default(),
        );
        let (reported, ended) = (Arc::clone(&events), Arc::clone(&ends));
        let event_loop = builder
            .on_event(move |event| lock(&reported).push(event.clone()))
            .on_disconnect(move |_, reason| lock(&ended).push(reason.clone()))
            .listen(Listener::bind("127.0.0.1:0").unwrap())
            .build()
            .unwrap();
        let addr = event_loop.local_addrs()[0].as_tcp().unwrap();
        let handle = event_loop.handle();
        let running = std::thread::spawn(|| event_loop.run());
        Self {
            handle,
            addr,
            events,
            ends,
            running: Some(running),
        }
    }

    /// Returns a client that has received an answer.
    fn client(&self) -> TcpStream {
        let mut client = TcpStream::connect(self.addr).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        request(&mut client).unwrap();
        client
    }

    /// Makes the poller at `index` fail.
    fn fail(&self, index: usize, factory: SourceFactory) {
        let failures = || self.handle.stats().pollers[index].failures;
        let before = failures();
        self.handle.control.pollers().nth(index).register(factory);
        until(|| failures() > before);
    }

    fn events(&self) -> Vec<Event> {
        lock(&self.events).clone()
    }

    fn end(mut self) {
        let _shutdown = self.handle.shutdown(Duration::ZERO);
        self.running.take().unwrap().join().unwrap().unwrap();
    }
}

fn echo() -> Builder {
    EventLoop::builder().on_request(async |conn: &mut Connection| {
        let byte = conn.reader().read_u8().await?;
        conn.writer().put_u8(byte);
        Ok(())
    })
}

fn request(client: &mut TcpStream) -> std::io::Result<()> {
    client.write_all(b"x")?;
    client.read_exact(&mut [0])
}

fn until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(
            begun.elapsed() < LIMIT,
            "the condition did not hold within the limit"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn failed_poller_closes_its_connections_and_serves_new_ones() {
    for also_at_its_end in [false, true] {
        let test = FailureTest::new(echo().pollers(1));
        let mut clients: Vec<_> = (0..5).map(|_| test.client()).collect();
        test.fail(0, failing_source(also_at_its_end));
        for client in &mut clients {
            assert!(request(client).is_err(), "its connection has ended");
        }
        until(|| lock(&test.ends).len() == 5);
        let ends = lock(&test.ends).clone();
        assert!(
            ends.iter()
                .all(|end| matches!(end, CloseReason::PollerFailed))
        );
        // `on_disconnect` runs before the connection is counted as closed.
        until(|| test.handle.connections() == 0);
        test.client();
        let event = Event::PollerFailed {
            poller: 0,
            failure: PollerFailure::Panic,
            connections: 5,
            restarted: true,
        };
        // A busy machine may report slow calls as well.
        let mut events = test.events();
        events.retain(|event| !matches!(event, Event::SlowCall { .. }));
        assert_eq!(events, [event]);
        let stats = test.handle.stats();
        assert_eq!((stats.total().failures, stats.closed.poller_failed), (1, 5));
        test.end();
    }
}

#[test]
fn other_pollers_keep_their_connections() {
    for index in [0, 1] {
        let test = FailureTest::new(echo().pollers(2));
        let mut clients: Vec<_> = (0..4).map(|_| test.client()).collect();
        test.fail(index, failing_source(false));
        let alive = clients.iter_mut().filter_map(|client| request(client).ok());
        assert_eq!(alive.count(), 2);
        let _more: Vec<_> = (0..4).map(|_| test.client()).collect();
        let stats = test.handle.stats();
        let opened: Vec<_> = stats.pollers.iter().map(|poller| poller.opened).collect();
        assert!(opened.iter().all(|&opened| opened >= 3), "{opened:?}");
        test.end();
    }
}

#[test]
fn poller_failure_ends_pending_waits() {
    for builder in [
        EventLoop::builder(),
        EventLoop::builder().handler_threads(2),
    ] {
        let errors = Arc::<Mutex<Vec<_>>>::default();
        let reported = Arc::clone(&errors);
        let builder = builder.on_connection(async move |mut conn: Connection| {
            let byte = conn.reader().read_u8().await?;
            conn.writer().put_u8(byte);
            let waited = conn.reader().read_u8().await;
            lock(&reported).push(waited.unwrap_err().kind());
            Ok(())
        });
        let test = FailureTest::new(builder.pollers(1));
        let _client = test.client();
        let owned = Dialer::new()
            .on(&test.handle)
            .dial_blocking(test.addr)
            .unwrap();
        let (mut owned, closed) = (owned, Arc::<Mutex<Option<CloseReason>>>::default());
        let reported = Arc::clone(&closed);
        owned.on_close(move |reason| *lock(&reported) = Some(reason.clone()));
        let waiting = std::thread::spawn(move || block_on(owned.reader().read_u8()).unwrap_err());
        test.fail(0, failing_source(false));
        assert_eq!(waiting.join().unwrap().kind(), ErrorKind::ConnectionAborted);
        until(|| lock(&closed).is_some());
        assert!(matches!(*lock(&closed), Some(CloseReason::PollerFailed)));
        until(|| lock(&test.ends).len() == 2);
        assert_eq!(test.handle.connections(), 0);
        test.end();
    }
}

#[test]
fn tasks_and_sleeps_survive_a_poller_failure() {
    let slept = Arc::<Mutex<Option<crate::task::JoinHandle<u32>>>>::default();
    let spawned = Arc::clone(&slept);
    let builder = EventLoop::builder().on_request(async move |conn: &mut Connection| {
        let byte = conn.reader().read_u8().await?;
        let task = crate::task::spawn(async {
            sleep(Duration::from_millis(300)).await;
            7
        })?;
        *lock(&spawned) = Some(task);
        conn.writer().put_u8(byte);
        Ok(())
    });
    let test = FailureTest::new(builder.pollers(1));
    let _client = test.client();
    let task = lock(&slept).take().unwrap();
    test.fail(0, failing_source(false));
    assert_eq!(task.wait().unwrap(), 7);
    test.end();
}

#[test]
fn pending_dial_fails_with_its_poller() {
    let test = FailureTest::new(echo().pollers(1));
    // Wait until the loop runs.
    test.client();
    let path = std::env::temp_dir().join(format!("netpoll-failing-{}", std::process::id()));
    let full = UnixListener::bind(&path).unwrap();
    let _queued = fill(&full, &path);
    let target = format!("unix:{}", path.display());
    let dialer = Dialer::new().on(&test.handle).connect_timeout(None);
    let mut dial = pin!(dialer.dial(target.as_str()));
    // The poller gets the dial before the failing source, since commands keep their order.
    let mut context = Context::from_waker(Waker::noop());
    assert!(dial.as_mut().poll(&mut context).is_pending());
    test.fail(0, failing_source(false));
    let error = block_on(dial).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
    std::fs::remove_file(&path).unwrap();
    let dialed = Dialer::new().on(&test.handle).dial_blocking(test.addr);
    assert!(dialed.is_ok());
    test.end();
}

/// Fills the listener's queue: while the returned sockets live, a further connect has no room.
fn fill(listener: &UnixListener, path: &Path) -> Vec<Socket> {
    SockRef::from(listener).listen(0).unwrap();
    let mut queued = Vec::new();
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&SockAddr::unix(path).unwrap()) {
            Ok(()) => queued.push(socket),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                return queued;
            }
        }
    }
}

#[test]
fn blocking_dial_starts_with_its_loop() {
    for _ in 0..20 {
        let event_loop = echo()
            .pollers(1)
            .listen(Listener::bind("127.0.0.1:0").unwrap())
            .build()
            .unwrap();
        let addr = event_loop.local_addrs()[0].as_tcp().unwrap();
        let handle = event_loop.handle();
        let dialer = Dialer::new().on(&handle).connect_timeout(Some(LIMIT * 3));
        let begun = Instant::now();
        let dial = std::thread::spawn(move || dialer.dial_blocking(addr));
        let running = std::thread::spawn(|| event_loop.run());
        drop(dial.join().unwrap().unwrap());
        assert!(
            begun.elapsed() < LIMIT,
            "the dial ended only at its timeout"
        );
        let _asked = handle.shutdown(Duration::ZERO);
        running.join().unwrap().unwrap();
    }
}

#[test]
fn shared_pollers_restart_after_a_failure() {
    let test = FailureTest::new(echo().pollers(1));
    let mut before = Dialer::new().dial_blocking(test.addr).unwrap();
    register_source(failing_source(false)).unwrap();
    let error = block_on(before.reader().read_u8()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
    let mut after = Dialer::new().dial_blocking(test.addr).unwrap();
    after.writer().put_u8(1);
    block_on(after.writer().flush()).unwrap();
    assert_eq!(block_on(after.reader().read_u8()).unwrap(), 1);
    block_on(sleep(Duration::from_millis(1)));
    test.end();
}

#[test]
fn connections_accepted_during_a_failure_are_served_or_closed() {
    let test = FailureTest::new(echo().pollers(2));
    for round in 0..20 {
        let clients: Vec<_> = (0..10)
            .map(|_| TcpStream::connect(test.addr).unwrap())
            .collect();
        test.fail(round % 2, failing_source(false));
        for mut client in clients {
            client.set_read_timeout(Some(LIMIT)).unwrap();
            if let Err(error) = request(&mut client) {
                assert_ne!(
                    error.kind(),
                    ErrorKind::WouldBlock,
                    "the connection is neither served nor closed"
                );
            }
        }
    }
    until(|| test.handle.connections() == 0);
    test.client();
    test.end();
}
