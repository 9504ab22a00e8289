// SPDX-License-Identifier: MIT OR Apache-2.0
//! A shutdown keeps its deadline while user code blocks threads, and reports the code that runs on.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netpoll::event::{Callback, CallbackLocation, Event};
use netpoll::event_loop::Balance;
use netpoll::event_loop::HandlerKind;
use netpoll::listener::{Accept, ListenOptions};
use netpoll::runner::Spawn;
use netpoll::{Builder, Connection, EventLoop, Listener, LoopHandle, Runner};

/// The time that the test gives a shutdown.
const WITHIN: Duration = Duration::from_millis(200);

/// When the shutdown has to be over, on a busy machine. Blocked code would block for good.
const LIMIT: Duration = Duration::from_secs(10);

/// Blocks the threads that reach it until it is opened.
#[derive(Clone)]
struct Barrier {
    begun: Sender<()>,
    open: Arc<Mutex<Receiver<()>>>,
}

/// The test's side of a barrier. Its drop opens the barrier.
struct Guard {
    begun: Receiver<()>,
    _open: Sender<()>,
}

fn barrier() -> (Barrier, Guard) {
    let (begun, is_begun) = channel();
    let (open, opened) = channel();
    let barrier = Barrier {
        begun,
        open: Arc::new(Mutex::new(opened)),
    };
    let guard = Guard {
        begun: is_begun,
        _open: open,
    };
    (barrier, guard)
}

impl Barrier {
    fn block(&self) {
        self.begun.send(()).ok();
        // Ends with the guard.
        self.open.lock().expect("no panic under it").recv().ok();
    }
}

impl Guard {
    fn wait(&self) {
        self.begun
            .recv_timeout(LIMIT)
            .expect("user code that blocks");
    }
}

/// A running loop, and the events it has reported.
struct Server {
    addr: SocketAddr,
    handle: LoopHandle,
    events: Arc<Mutex<Vec<Event>>>,
    running: JoinHandle<std::io::Result<()>>,
}

impl Server {
    fn start<K: HandlerKind>(builder: Builder<K>) -> Self {
        Self::on(
            builder,
            Listener::bind("127.0.0.1:0").expect("a port"),
            |_| (),
        )
    }

    fn on<K: HandlerKind>(
        builder: Builder<K>,
        listener: Listener,
        observer: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Self {
        let events = Arc::<Mutex<Vec<Event>>>::default();
        let log = Arc::clone(&events);
        let addr = listener.local_addr().expect("an address");
        let event_loop = builder
            .on_event(move |event| {
                log.lock().expect("no panic under it").push(event.clone());
                observer(event);
            })
            .listen(listener)
            .build()
            .expect("a loop");
        Self {
            addr: addr.as_tcp().unwrap_or(([127, 0, 0, 1], 0).into()),
            handle: event_loop.handle(),
            events,
            running: std::thread::spawn(|| event_loop.run()),
        }
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.addr).expect("a connection");
        client.set_read_timeout(Some(LIMIT)).expect("an option");
        client
    }

    /// Shuts down. Returns the number of aborted connections, and the abandoned callbacks.
    fn end(self) -> (usize, Vec<Event>) {
        let begun = Instant::now();
        let aborted = self.handle.shutdown(WITHIN).wait();
        self.running
            .join()
            .expect("no panic")
            .expect("an orderly end");
        assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
        let is_abandoned = |event: &Event| matches!(event, Event::CallbackAbandoned { .. });
        let abandoned = || {
            self.events
                .lock()
                .expect("no panic under it")
                .clone()
                .into_iter()
                .filter(is_abandoned)
        };
        (aborted, abandoned().collect())
    }
}

/// Returns whether the connection of the peer has ended.
fn has_ended(client: &mut TcpStream) -> bool {
    match client.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

fn silent() -> Builder {
    EventLoop::builder().on_request(async |conn: &mut Connection| {
        conn.reader().skip(1).await?;
        Ok(())
    })
}

/// Ways to block a poller, with the callback that is reported.
#[expect(clippy::too_many_lines, reason = "a table")]
fn ways(barrier: &Barrier) -> Vec<(&'static str, Builder, Callback)> {
    let at = || barrier.clone();
    let (request, whole, connect, accept) = (at(), at(), at(), at());
    let (observer, task, balance) = (at(), at(), at());
    vec![
        (
            "on_request",
            EventLoop::builder().on_request(async move |conn: &mut Connection| {
                conn.reader().skip(1).await?;
                request.block();
                Ok(())
            }),
            Callback::Handler,
        ),
        (
            "on_connection",
            EventLoop::builder().on_connection(async move |mut conn: Connection| {
                conn.reader().skip(1).await?;
                whole.block();
                Ok(())
            }),
            Callback::Handler,
        ),
        (
            "on_connect",
            silent().on_connect(async move |_: &mut Connection| {
                connect.block();
                Ok(())
            }),
            Callback::Handler,
        ),
        (
            "on_accept",
            silent().on_accept(move |info| {
                accept.block();
                Accept::Accept(info.options().clone())
            }),
            Callback::OnAccept,
        ),
        (
            "on_disconnect",
            silent().on_disconnect(move |_, _| observer.block()),
            Callback::OnDisconnect,
        ),
        (
            "a spawned task",
            EventLoop::builder().on_request(async move |conn: &mut Connection| {
                conn.reader().skip(1).await?;
                let task = task.clone();
                drop(netpoll::spawn(async move { task.block() })?);
                Ok(())
            }),
            Callback::Task,
        ),
        (
            "a balance",
            silent().balance(Balance::Custom(Arc::new(move |_| {
                balance.block();
                0
            }))),
            Callback::Balance,
        ),
    ]
}

#[test]
fn a_shutdown_keeps_its_deadline_while_user_code_blocks_a_poller() {
    let (all, _) = barrier();
    for index in 0..ways(&all).len() {
        let (barrier, guard) = barrier();
        let (name, builder, expected) = ways(&barrier).swap_remove(index);
        drop(barrier);
        let server = Server::start(builder.pollers(1).slow_handler(None));
        let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
        // One of them is the connection that the code is called for.
        if expected != Callback::OnAccept && expected != Callback::Balance && name != "on_connect" {
            crate::support::eventually("three connections", || server.handle.connections() == 3);
        }
        let mut last = clients.pop().unwrap();
        last.write_all(b"x").ok();
        if name == "on_disconnect" {
            drop(last);
        } else {
            clients.push(last);
        }
        guard.wait();
        let addr = server.addr;
        let (handle, open) = (server.handle.clone(), server.handle.connections());
        let (aborted, abandoned) = server.end();
        assert_eq!(aborted, open, "{name}");
        let [
            Event::CallbackAbandoned {
                location,
                callback,
                handler,
                connections,
                ..
            },
        ] = &abandoned[..]
        else {
            panic!("{name}: {abandoned:?}");
        };
        assert_eq!(
            (*location, *callback, *connections),
            (CallbackLocation::Poller(0), expected, open)
        );
        assert!(handler.contains("blocked_shutdown"), "{name}: {handler}");
        for client in &mut clients {
            assert!(has_ended(client), "{name}");
        }
        assert!(TcpStream::connect(addr).is_err(), "{name}: listening");
        TcpListener::bind(addr).expect("the port is free");
        drop(guard);
        crate::support::eventually("the end of the blocked code", || handle.connections() == 0);
        assert_eq!(handle.shutdown(WITHIN).wait(), aborted, "{name}: again");
    }
}

#[test]
fn a_blocked_on_event_does_not_delay_a_shutdown() {
    let (barrier, guard) = barrier();
    let builder = EventLoop::builder().on_request(async |conn: &mut Connection| {
        conn.reader().skip(1).await?;
        std::thread::sleep(Duration::from_millis(30));
        Ok(())
    });
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let server = Server::on(builder.pollers(1), listener, move |_| barrier.block());
    let mut client = server.connect();
    client.write_all(b"x").unwrap();
    // The loop reports a slow call.
    guard.wait();
    let begun = Instant::now();
    assert_eq!(server.handle.shutdown(WITHIN).wait(), 1);
    server.running.join().unwrap().unwrap();
    assert!(begun.elapsed() < LIMIT);
    assert!(has_ended(&mut client));
}

#[test]
fn a_poller_that_runs_ends_in_order_beside_a_blocked_one() {
    let (barrier, guard) = barrier();
    let builder = EventLoop::builder().on_request(async move |conn: &mut Connection| {
        if conn.reader().read_u8().await? == b'b' {
            barrier.block();
        }
        conn.writer().put_u8(1);
        Ok(())
    });
    let builder = builder.pollers(2).balance(Balance::RoundRobin);
    let server = Server::start(builder.slow_handler(None));
    let mut clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    clients[1].write_all(b"b").unwrap();
    guard.wait();
    let (aborted, abandoned) = server.end();
    assert_eq!(aborted, 2, "the connections of its poller");
    assert_eq!(abandoned.len(), 1, "{abandoned:?}");
    assert!(clients.iter_mut().all(has_ended));
}

#[test]
fn a_blocked_shutdown_closes_every_listener_and_removes_socket_paths() {
    let (barrier, guard) = barrier();
    let builder = EventLoop::builder().on_request(async move |conn: &mut Connection| {
        conn.reader().skip(1).await?;
        barrier.block();
        Ok(())
    });
    let path = std::env::temp_dir().join(format!("netpoll-blocked-{}", std::process::id()));
    let builder = builder.listen(Listener::unix(&path).unwrap());
    let options = ListenOptions::default();
    let listener = Listener::bind_per_poller("127.0.0.1:0", options).unwrap();
    let server = Server::on(builder.pollers(2).slow_handler(None), listener, |_| ());
    let clients: Vec<_> = (0..2).map(|_| server.connect()).collect();
    (&clients[0]).write_all(b"x").unwrap();
    guard.wait();
    let addr = server.addr;
    server.end();
    assert!(!path.exists());
    assert!(TcpStream::connect(addr).is_err());
    TcpListener::bind(addr).expect("the port is free");
    drop(clients);
}

/// Runs each task on a thread of its own.
struct OnThreads;

impl Spawn for OnThreads {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        std::thread::spawn(|| crate::support::block_on(task));
    }
}

#[test]
fn a_shutdown_does_not_wait_for_handlers_that_block_other_threads() {
    for (runner, expected) in [
        (Runner::Threads(2), CallbackLocation::Threads(1)),
        (
            Runner::Spawn(Arc::new(OnThreads)),
            CallbackLocation::Executor,
        ),
    ] {
        let (barrier, guard) = barrier();
        let handler = handler!([barrier], |conn| {
            conn.reader().skip(1).await?;
            barrier.block();
            Ok(())
        });
        let server = Server::start(EventLoop::builder_on(runner).on_request(handler));
        let mut client = server.connect();
        client.write_all(b"x").unwrap();
        guard.wait();
        let addr = server.addr;
        let (aborted, abandoned) = server.end();
        assert_eq!(aborted, 1);
        let [Event::CallbackAbandoned { location, .. }] = &abandoned[..] else {
            panic!("{abandoned:?}");
        };
        assert_eq!(*location, expected);
        assert!(has_ended(&mut client));
        TcpListener::bind(addr).expect("the port is free");
    }
}

#[test]
fn code_that_returns_before_the_deadline_is_awaited_and_not_reported() {
    let builder = EventLoop::builder().on_request(async |conn: &mut Connection| {
        conn.reader().skip(1).await?;
        std::thread::sleep(Duration::from_millis(600));
        conn.writer().put_u8(7);
        Ok(())
    });
    let server = Server::start(builder.pollers(1).slow_handler(None));
    let mut client = server.connect();
    client.write_all(b"x").unwrap();
    crate::support::eventually("one connection", || server.handle.connections() == 1);
    let shutdown = server.handle.shutdown(LIMIT);
    client.read_exact(&mut [0]).unwrap();
    drop(client);
    assert_eq!(shutdown.wait(), 0);
    server.running.join().unwrap().unwrap();
    assert!(server.events.lock().unwrap().is_empty());
}
