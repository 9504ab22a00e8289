// SPDX-License-Identifier: MIT OR Apache-2.0
//! What users of a loop see when one of its pollers fails. No user code can have it fail, so these tests
//! register a source that panics.

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

use super::builder::Builder;
use super::{EventLoop, LoopHandle};
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
use crate::runner::Runner;
use crate::sync::{Arc, Mutex, lock};
use crate::time::sleep;

const LIMIT: Duration = Duration::from_secs(20);

/// Panics when it is first called, and when it is asked to end, if it is to.
struct FailingSource {
    panics_at_shutdown: bool,
}

impl Source for FailingSource {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn on_register(&mut self, _turn: &mut SourceContext) -> NextAction {
        panic!("a source of a test")
    }

    fn on_notify(&mut self, _turn: &mut SourceContext) -> NextAction {
        NextAction::Remove
    }

    fn on_shutdown(&mut self, _ask: ShutdownRequest, _turn: &mut SourceContext) -> NextAction {
        assert!(!self.panics_at_shutdown, "a source of a test, again");
        NextAction::Remove
    }
}

fn failing_source(panics_at_shutdown: bool) -> SourceFactory {
    Box::new(move |_: RegisterContext| Box::new(FailingSource { panics_at_shutdown }))
}

/// A loop that runs, and what it has reported.
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
        let addr = event_loop.local_addrs().unwrap()[0].as_tcp().unwrap();
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

    /// A client that was answered.
    fn client(&self) -> TcpStream {
        let mut client = TcpStream::connect(self.addr).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        request(&mut client).unwrap();
        client
    }

    /// Has the poller at `index` fail.
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
        let _asked = self.handle.shutdown(Duration::ZERO);
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

fn until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "not within the limit");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_poller_that_fails_ends_its_connections_and_serves_new_ones() {
    for also_at_its_end in [false, true] {
        let scene = FailureTest::new(echo().pollers(1));
        let mut clients: Vec<_> = (0..5).map(|_| scene.client()).collect();
        scene.fail(0, failing_source(also_at_its_end));
        for client in &mut clients {
            assert!(request(client).is_err(), "its connection has ended");
        }
        until(|| lock(&scene.ends).len() == 5);
        let ends = lock(&scene.ends).clone();
        assert!(
            ends.iter()
                .all(|end| matches!(end, CloseReason::PollerFailed))
        );
        // The observer hears of an end before the connection is gone.
        until(|| scene.handle.connections() == 0);
        scene.client();
        let event = Event::PollerFailed {
            poller: 0,
            failure: PollerFailure::Panic,
            connections: 5,
            restarted: true,
        };
        // A busy machine has slow calls too.
        let mut events = scene.events();
        events.retain(|event| !matches!(event, Event::SlowCall { .. }));
        assert_eq!(events, [event]);
        let stats = scene.handle.stats();
        assert_eq!((stats.total().failures, stats.closed.poller_failed), (1, 5));
        scene.end();
    }
}

#[test]
fn the_connections_of_the_other_pollers_go_on_and_both_get_new_ones() {
    for index in [0, 1] {
        let scene = FailureTest::new(echo().pollers(2));
        let mut clients: Vec<_> = (0..4).map(|_| scene.client()).collect();
        scene.fail(index, failing_source(false));
        let alive = clients.iter_mut().filter_map(|client| request(client).ok());
        assert_eq!(alive.count(), 2);
        let _more: Vec<_> = (0..4).map(|_| scene.client()).collect();
        let stats = scene.handle.stats();
        let opened: Vec<_> = stats.pollers.iter().map(|poller| poller.opened).collect();
        assert!(opened.iter().all(|&opened| opened >= 3), "{opened:?}");
        scene.end();
    }
}

#[test]
fn waits_of_handlers_and_owners_end_wherever_they_are() {
    for runner in [Runner::Inline, Runner::Threads(2)] {
        let errors = Arc::<Mutex<Vec<_>>>::default();
        let reported = Arc::clone(&errors);
        let builder =
            EventLoop::builder()
                .runner(runner)
                .on_connection(async move |mut conn: Connection| {
                    let byte = conn.reader().read_u8().await?;
                    conn.writer().put_u8(byte);
                    let waited = conn.reader().read_u8().await;
                    lock(&reported).push(waited.unwrap_err().kind());
                    Ok(())
                });
        let scene = FailureTest::new(builder.pollers(1));
        let _client = scene.client();
        let owned = Dialer::new()
            .on(&scene.handle)
            .dial_blocking(scene.addr)
            .unwrap();
        let (mut owned, closed) = (owned, Arc::<Mutex<Option<CloseReason>>>::default());
        let reported = Arc::clone(&closed);
        owned.on_close(move |reason| *lock(&reported) = Some(reason.clone()));
        let waiting = std::thread::spawn(move || block_on(owned.reader().read_u8()).unwrap_err());
        scene.fail(0, failing_source(false));
        assert_eq!(waiting.join().unwrap().kind(), ErrorKind::ConnectionAborted);
        until(|| lock(&closed).is_some());
        assert!(matches!(*lock(&closed), Some(CloseReason::PollerFailed)));
        until(|| lock(&scene.ends).len() == 2);
        assert_eq!(scene.handle.connections(), 0);
        scene.end();
    }
}

#[test]
fn tasks_and_sleeps_of_a_poller_that_fails_go_on() {
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
    let scene = FailureTest::new(builder.pollers(1));
    let _client = scene.client();
    let task = lock(&slept).take().unwrap();
    scene.fail(0, failing_source(false));
    assert_eq!(task.wait().unwrap(), 7);
    scene.end();
}

#[test]
fn a_dial_under_way_fails_with_its_poller_and_a_later_one_works() {
    let scene = FailureTest::new(echo().pollers(1));
    // The loop runs.
    scene.client();
    let path = std::env::temp_dir().join(format!("netpoll-failing-{}", std::process::id()));
    let full = UnixListener::bind(&path).unwrap();
    let _queued = fill(&full, &path);
    let target = format!("unix:{}", path.display());
    let dialer = Dialer::new().on(&scene.handle).connect_timeout(None);
    let mut dial = pin!(dialer.dial(target.as_str()));
    // The poller has it before what fails: a poller reads its letters in their order.
    let mut context = Context::from_waker(Waker::noop());
    assert!(dial.as_mut().poll(&mut context).is_pending());
    scene.fail(0, failing_source(false));
    let error = block_on(dial).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
    std::fs::remove_file(&path).unwrap();
    let dialed = Dialer::new().on(&scene.handle).dial_blocking(scene.addr);
    assert!(dialed.is_ok());
    scene.end();
}

/// Fills the listener's queue, so that no further connect has room while the sockets live.
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
fn a_blocking_dial_begins_when_its_loop_does() {
    for _ in 0..20 {
        let event_loop = echo()
            .pollers(1)
            .listen(Listener::bind("127.0.0.1:0").unwrap())
            .build()
            .unwrap();
        let addr = event_loop.local_addrs().unwrap()[0].as_tcp().unwrap();
        let handle = event_loop.handle();
        let dialer = Dialer::new().on(&handle).connect_timeout(Some(LIMIT * 3));
        let begun = Instant::now();
        let dial = std::thread::spawn(move || dialer.dial_blocking(addr));
        let running = std::thread::spawn(|| event_loop.run());
        drop(dial.join().unwrap().unwrap());
        assert!(begun.elapsed() < LIMIT, "not for the timeout alone");
        let _asked = handle.shutdown(Duration::ZERO);
        running.join().unwrap().unwrap();
    }
}

#[test]
fn the_pollers_that_the_process_shares_begin_anew_too() {
    let scene = FailureTest::new(echo().pollers(1));
    let mut before = Dialer::new().dial_blocking(scene.addr).unwrap();
    register_source(failing_source(false)).unwrap();
    let error = block_on(before.reader().read_u8()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
    let mut after = Dialer::new().dial_blocking(scene.addr).unwrap();
    after.writer().put_u8(1);
    block_on(after.writer().flush()).unwrap();
    assert_eq!(block_on(after.reader().read_u8()).unwrap(), 1);
    block_on(sleep(Duration::from_millis(1)));
    scene.end();
}

#[test]
fn connections_that_come_while_a_poller_fails_are_served_or_closed() {
    let scene = FailureTest::new(echo().pollers(2));
    for round in 0..20 {
        let clients: Vec<_> = (0..10)
            .map(|_| TcpStream::connect(scene.addr).unwrap())
            .collect();
        scene.fail(round % 2, failing_source(false));
        for mut client in clients {
            client.set_read_timeout(Some(LIMIT)).unwrap();
            if let Err(error) = request(&mut client) {
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "it is left alone");
            }
        }
    }
    until(|| scene.handle.connections() == 0);
    scene.client();
    scene.end();
}
