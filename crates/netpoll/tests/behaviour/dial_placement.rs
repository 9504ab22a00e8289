// SPDX-License-Identifier: MIT OR Apache-2.0
//! The poller that a dialed connection belongs to, and the failure of a dial without one.

use std::collections::HashSet;
use std::future::Future;
use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use netpoll::error::{ErrorExt, ErrorKind as Kind};
use netpoll::runner::Spawn;
use netpoll::{Connection, Dialer, EventLoop, LoopHandle, Runner};

use crate::support::{LIMIT, Server, Silent, block_on, frame, free_listener, rpc};

/// Returns the thread of the poller that `conn` belongs to.
fn poller_of(conn: Connection) -> ThreadId {
    let (sender, receiver) = channel();
    let mut conn = conn;
    conn.writer().put_slice(&frame(b"where"));
    let served = conn.serve(async move |conn: &mut Connection| {
        conn.reader().skip(9).await?;
        sender.send(std::thread::current().id())?;
        Ok(())
    });
    let thread = receiver.recv_timeout(LIMIT).expect("an answer");
    drop(served);
    thread
}

fn is_not_running(error: &Error) -> bool {
    error.kind() == ErrorKind::ConnectionAborted
        && matches!(error.netpoll_kind(), Some(Kind::NotRunning))
}

#[test]
fn connections_dialed_for_a_loop_are_spread_over_its_pollers() {
    let upstream = Server::rpc();
    let server = Server::start(crate::support::builder().pollers(3), rpc);
    let dialer = Dialer::new().on(&server.handle);
    let dial = |_| block_on(dialer.dial(upstream.addr)).unwrap();
    let conns: Vec<_> = (0..9).map(dial).collect();
    let threads: Vec<_> = conns.into_iter().map(poller_of).collect();
    let distinct: HashSet<_> = threads.iter().collect();
    assert_eq!(distinct.len(), 3);
    for thread in distinct {
        assert_eq!(threads.iter().filter(|own| *own == thread).count(), 3);
    }
    let shared = poller_of(block_on(Dialer::new().dial(upstream.addr)).unwrap());
    assert!(!threads.contains(&shared));
}

#[test]
fn a_socket_adopted_for_a_loop_runs_on_its_poller() {
    let server = Server::start(crate::support::builder().pollers(1), rpc);
    let dialer = Dialer::new().on(&server.handle);
    let dialed = block_on(dialer.dial(server.addr)).unwrap();
    let stream = std::net::TcpStream::connect(server.addr.as_tcp().unwrap()).unwrap();
    let adopted = block_on(dialer.adopt(stream.into())).unwrap();
    assert_eq!(poller_of(dialed), poller_of(adopted));
}

/// Calls `dial` in a handler. Returns the handler's thread and the dialed connection.
fn dial_in_handler(
    dial: impl AsyncFn() -> Connection + Send + Sync + 'static,
) -> (ThreadId, Connection) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_request(
        async move |conn: &mut Connection| {
            conn.reader().skip(1).await?;
            let dialed = dial().await;
            let result = (std::thread::current().id(), dialed);
            sender.lock().expect("no panic under it").send(result)?;
            Ok(())
        },
    ));
    let server = server.of_which_some_is_kept();
    server.connect().send(b"?");
    receiver.recv_timeout(LIMIT).expect("a dial")
}

#[test]
fn a_dialer_with_a_loop_uses_it_on_the_poller_of_another_loop() {
    let upstream = Server::rpc();
    let addr = upstream.addr;
    let handle = upstream.handle.clone();
    let (_, dialed) =
        dial_in_handler(async move || Dialer::new().on(&handle).dial(addr).await.unwrap());
    let outside = block_on(Dialer::new().on(&upstream.handle).dial(addr)).unwrap();
    assert_eq!(poller_of(dialed), poller_of(outside));
}

#[test]
fn a_dial_on_a_poller_of_its_loop_stays_on_that_poller() {
    let upstream = Server::rpc();
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let addr = upstream.addr;
    let own = Arc::new(Mutex::new(None::<LoopHandle>));
    let known = Arc::clone(&own);
    let server = Server::start_as_given(EventLoop::builder().pollers(3).on_request(
        async move |conn: &mut Connection| {
            conn.reader().skip(1).await?;
            let handle = known.lock().unwrap().clone().ok_or("a handle")?;
            for dialer in [Dialer::new().on(&handle), Dialer::new()] {
                let dialed = dialer.dial(addr).await?;
                sender
                    .lock()
                    .unwrap()
                    .send((std::thread::current().id(), dialed))?;
            }
            Ok(())
        },
    ));
    *own.lock().unwrap() = Some(server.handle.clone());
    let mut peers: Vec<_> = (0..3).map(|_| server.connect()).collect();
    peers.iter_mut().for_each(|peer| peer.send(b"?"));
    for _ in 0..2 * peers.len() {
        let (here, dialed) = receiver.recv_timeout(LIMIT).unwrap();
        assert_eq!(poller_of(dialed), here);
    }
}

fn idle_loop() -> EventLoop {
    let builder = EventLoop::builder_on(Runner::Inline)
        .pollers(1)
        .on_request(rpc);
    builder.listen(free_listener()).build().expect("a loop")
}

#[test]
fn a_dial_for_a_loop_that_does_not_run_yet_waits_up_to_its_timeout() {
    let upstream = Server::rpc();
    let running = idle_loop();
    let handle = running.handle();
    let dialer = Dialer::new().on(&handle);
    let hasty = dialer.clone().connect_timeout(Duration::from_millis(20));
    let error = block_on(hasty.dial(upstream.addr)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let addr = upstream.addr;
    let early = std::thread::spawn(move || poller_of(block_on(dialer.dial(addr)).unwrap()));
    let thread = std::thread::spawn(move || running.run().expect("a loop that runs"));
    early.join().unwrap();
    assert_eq!(handle.shutdown(LIMIT).wait(), 0);
    thread.join().unwrap();
}

#[test]
fn a_dial_for_an_ended_loop_fails_with_not_running() {
    let upstream = Server::rpc();
    let never = idle_loop();
    let dialer = Dialer::new().on(&never.handle());
    drop(never);
    let error = block_on(dialer.dial(upstream.addr)).unwrap_err();
    assert!(is_not_running(&error), "{error:?}");
    let server = Server::rpc();
    let dialer = Dialer::new().on(&server.handle);
    drop(block_on(dialer.dial(upstream.addr)).unwrap());
    server.shut_down(LIMIT);
    let error = block_on(dialer.dial(upstream.addr)).unwrap_err();
    assert!(is_not_running(&error), "{error:?}");
}

#[test]
fn a_pending_dial_fails_when_its_loop_ends() {
    let silent = Silent::new();
    let server = Server::rpc();
    let dialer = Dialer::new().on(&server.handle).connect_timeout(None);
    let addr = silent.addr;
    let waiting = std::thread::spawn(move || block_on(dialer.dial(addr)).map(drop));
    // Whether the dial has begun or not, it cannot complete.
    server.shut_down(Duration::ZERO);
    let error = waiting.join().unwrap().unwrap_err();
    assert!(is_not_running(&error), "{error:?}");
}

#[test]
fn a_connection_dialed_for_a_loop_ends_with_it() {
    let upstream = Server::rpc();
    let server = Server::rpc();
    let dialer = Dialer::new().on(&server.handle);
    let mut conn = block_on(dialer.dial(upstream.addr)).unwrap();
    server.of_which_some_is_kept().shut_down(LIMIT);
    let error = block_on(conn.reader().next(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error:?}");
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs each task on a thread of its own.
struct OnThreads;

impl Spawn for OnThreads {
    fn spawn(&self, task: Task) {
        std::thread::spawn(move || block_on(task));
    }
}

#[test]
fn a_dial_in_a_handler_whose_loop_has_ended_fails() {
    let upstream = Server::rpc();
    let addr = upstream.addr;
    let (sender, receiver) = channel();
    let (release, held) = channel::<()>();
    let (sender, held) = (Arc::new(Mutex::new(sender)), Arc::new(Mutex::new(held)));
    let handler = handler!([sender, held], |conn| {
        conn.reader().skip(1).await?;
        sender.lock().unwrap().send(Ok(()))?;
        // This blocks outside any await point, so the shutdown cannot drop the handler here.
        held.lock().unwrap().recv()?;
        let dialed = Dialer::new().dial(addr).await.map(drop);
        sender.lock().unwrap().send(dialed)?;
        Ok(())
    });
    let builder = EventLoop::builder_on(Runner::Spawn(Arc::new(OnThreads))).pollers(1);
    let server = Server::start_unobserved(builder.on_request(handler));
    let mut peer = server.connect();
    peer.send(b"?");
    receiver.recv_timeout(LIMIT).unwrap().unwrap();
    let server = server.of_which_some_is_kept();
    let end = server.handle.shutdown(Duration::ZERO);
    assert_eq!(end.wait(), 1, "the connection was aborted");
    release.send(()).unwrap();
    let error = receiver.recv_timeout(LIMIT).unwrap().unwrap_err();
    assert!(is_not_running(&error), "{error:?}");
    drop(server);
}
