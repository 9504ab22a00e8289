// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interface of [`EventLoop`], its builder and its handle: the blocking and the spawned form,
//! handles that exist before the loop, handlers with captures and of single listeners, and shutdown
//! by signals.

#[path = "event_loop_api/captures.rs"]
mod captures;
#[path = "event_loop_api/listeners.rs"]
mod listeners;
#[cfg(feature = "signals")]
#[path = "event_loop_api/signals.rs"]
mod signals;

use std::future::pending;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use netpoll::{Addr, BoxError, Builder, Connection, ErrorExt, EventLoop, Listener, LoopHandle};

/// Only a test that hangs takes this long.
const LIMIT: Duration = Duration::from_secs(120);

/// A drain deadline that no test waits for.
const HOUR: Duration = Duration::from_secs(3600);

/// Answers each line with the same line.
async fn echo(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    writer.put_slice(reader.until(b'\n', 1024).await?);
    Ok(())
}

/// Consumes a byte and never returns.
async fn stall(conn: &mut Connection) -> Result<(), BoxError> {
    conn.reader().skip(1).await?;
    conn.writer().put_u8(b'!');
    conn.writer().flush().await?;
    pending().await
}

fn free_listener() -> Listener {
    Listener::bind("127.0.0.1:0").expect("a free port")
}

fn connect(addr: Addr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr.as_tcp().expect("a TCP address"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Sends `request` and returns the answer, which has `len` bytes.
fn call(stream: &mut TcpStream, request: &[u8], len: usize) -> Vec<u8> {
    stream.write_all(request).expect("an open connection");
    let mut answer = vec![0; len];
    stream.read_exact(&mut answer).expect("an answer");
    answer
}

fn eventually(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "the condition never holds");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Spawns a loop whose only connection has a handler that never returns.
fn stalled_loop(builder: Builder) -> (LoopHandle, TcpStream) {
    let handle = builder
        .on_request(stall)
        .spawn("127.0.0.1:0")
        .expect("a running loop");
    let mut client = connect(handle.local_addrs()[0]).expect("a connection");
    assert_eq!(call(&mut client, b"x", 1), b"!");
    (handle, client)
}

/// Waits until the shutdown of the loop has closed its listeners, and one connection is left.
fn wait_until_draining(handle: &LoopHandle) {
    let addr = handle.local_addrs()[0];
    eventually(|| connect(addr).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused));
    eventually(|| handle.connections() == 1);
}

#[test]
fn a_spawned_loop_serves_until_its_handle_shuts_it_down() {
    let handle = EventLoop::builder()
        .on_request(echo)
        .spawn("127.0.0.1:0")
        .unwrap();
    handle.wait_until_serving().unwrap();
    let addr = handle.local_addrs()[0];
    let mut client = connect(addr).unwrap();
    assert_eq!(call(&mut client, b"one\n", 4), b"one\n");
    let (sender, ended) = channel();
    let waiting = handle.clone();
    let waiter = std::thread::spawn(move || sender.send(waiting.wait().is_ok()).unwrap());
    assert_eq!(call(&mut client, b"two\n", 4), b"two\n");
    assert!(ended.try_recv().is_err(), "wait returned before the end");
    drop(client);
    assert_eq!(handle.shutdown(HOUR).wait(), 0);
    assert!(ended.recv_timeout(LIMIT).unwrap(), "the loop failed");
    waiter.join().unwrap();
    handle.wait().unwrap();
    assert_eq!(handle.local_addrs(), [addr], "known after the end, too");
    assert_eq!(handle.accept_stats().accepted, 1, "counted after the end");
    assert!(connect(addr).is_err());
}

#[test]
fn dropping_every_handle_leaves_the_loop_running() {
    let handle = EventLoop::builder()
        .on_request(echo)
        .spawn("127.0.0.1:0")
        .unwrap();
    let addr = handle.local_addrs()[0];
    drop(handle);
    for _ in 0..3 {
        let mut client = connect(addr).unwrap();
        assert_eq!(call(&mut client, b"one\n", 4), b"one\n");
    }
}

#[test]
fn waiting_for_the_loop_is_refused_on_a_poller() {
    let builder = EventLoop::builder();
    let own = builder.handle();
    let handle = builder
        .on_request(async move |conn: &mut Connection| {
            conn.reader().skip(1).await?;
            let refusal = own.wait().expect_err("a poller waits for itself");
            let refused = refusal.kind() == ErrorKind::WouldBlock
                && refusal.netpoll_kind().is_some_and(|kind| {
                    matches!(kind, netpoll::error::ErrorKind::BlockingOnPoller)
                });
            conn.writer().put_u8(u8::from(refused));
            Ok(())
        })
        .spawn("127.0.0.1:0")
        .unwrap();
    let mut client = connect(handle.local_addrs()[0]).unwrap();
    assert_eq!(call(&mut client, b"x", 1), [1]);
    drop(client);
    assert_eq!(handle.shutdown(HOUR).wait(), 0);
}

#[test]
fn a_handler_shuts_its_own_loop_down() {
    let on_thread = EventLoop::builder().handler_threads(1);
    for builder in [EventLoop::builder(), on_thread] {
        let own = builder.handle();
        let handle = builder
            .on_request(async move |conn: &mut Connection| {
                conn.reader().skip(1).await?;
                conn.writer().put_u8(b'.');
                drop(own.shutdown(HOUR));
                Ok(())
            })
            .spawn("127.0.0.1:0")
            .unwrap();
        let mut client = connect(handle.local_addrs()[0]).unwrap();
        assert_eq!(call(&mut client, b"x", 1), b".");
        drop(client);
        handle.wait().unwrap();
    }
}

#[test]
fn a_shutdown_requested_before_the_loop_is_built_is_remembered() {
    let builder = EventLoop::builder();
    let handle = builder.handle();
    assert_eq!(handle.local_addrs(), []);
    assert_eq!(handle.stats().pollers.len(), 0);
    assert_eq!(handle.budget().limit(), usize::MAX);
    let shutdown = handle.shutdown(HOUR);
    let event_loop = builder
        .on_request(echo)
        .pollers(2)
        .budget(netpoll::options::Budget::new(64 << 20))
        .listen(free_listener())
        .build()
        .unwrap();
    assert_eq!(handle.local_addrs(), event_loop.local_addrs());
    assert_eq!(handle.local_addrs().len(), 1);
    assert_eq!(handle.stats().pollers.len(), 2);
    assert_eq!(handle.budget().limit(), 64 << 20);
    event_loop.run().unwrap();
    assert_eq!(shutdown.wait(), 0);
    handle.wait().unwrap();
}

#[test]
fn a_loop_that_never_runs_completes_its_shutdowns_and_reports_that_it_never_ran() {
    let never_built = EventLoop::builder();
    let first = never_built.handle();
    let shutdown = first.shutdown(HOUR);
    drop(never_built);
    assert_eq!(shutdown.wait(), 0);

    let invalid = EventLoop::builder().on_request(echo);
    let second = invalid.handle();
    invalid.build().expect_err("no listener");

    let never_run = EventLoop::builder()
        .on_request(echo)
        .listen(free_listener());
    let third = never_run.handle();
    drop(never_run.build().unwrap());

    for handle in [first, second, third] {
        let error = handle.wait().expect_err("it never ran");
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        assert!(
            error
                .netpoll_kind()
                .is_some_and(|kind| matches!(kind, netpoll::error::ErrorKind::NotRunning))
        );
        handle.wait_until_serving().expect_err("it never ran");
    }
}

#[test]
fn a_later_shutdown_brings_the_deadline_forward() {
    let (handle, _client) = stalled_loop(EventLoop::builder());
    let first = handle.shutdown(HOUR);
    wait_until_draining(&handle);
    assert_eq!(handle.shutdown(Duration::ZERO).wait(), 1);
    assert_eq!(first.wait(), 1);
}

#[test]
fn a_later_shutdown_does_not_postpone_the_deadline() {
    let (handle, _client) = stalled_loop(EventLoop::builder());
    drop(handle.shutdown(Duration::ZERO));
    assert_eq!(handle.shutdown(HOUR).wait(), 1);
}

#[test]
fn a_callback_that_owns_a_handle_is_dropped_at_the_end_of_the_loop() {
    let token = Arc::new(());
    let builder = EventLoop::builder();
    let (in_handler, in_sink) = (Arc::clone(&token), Arc::clone(&token));
    let (first, second) = (builder.handle(), builder.handle());
    let handle = builder
        .on_request(async move |conn: &mut Connection| {
            let _captured = (&in_handler, &first);
            echo(conn).await
        })
        .on_event(move |_| {
            let _captured = (&in_sink, &second);
        })
        .spawn("127.0.0.1:0")
        .unwrap();
    assert_eq!(Arc::strong_count(&token), 3);
    assert_eq!(handle.shutdown(HOUR).wait(), 0);
    eventually(|| Arc::strong_count(&token) == 1);
}
