// SPDX-License-Identifier: MIT OR Apache-2.0
//! A listener that accepts on the pollers of a loop, or is passed to one.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::Duration;

use futures_core::Stream;
use netpoll::{Connection, EventLoop, Listener, LoopHandle};

use super::waiting::{block_on, eventually};
use super::{WakeCount, client, expect_closed, listen, next, number};

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
fn stream_of_a_loop_that_never_runs_ends_after_an_error() {
    let (event_loop, handle) = echo_loop(listen().0);
    let listener = listen().0.on(&handle);
    drop(event_loop);
    let mut incoming = listener.incoming();
    let error = block_on(next(&mut incoming)).expect("an error before the end");
    let kind = error.expect_err("no loop").kind();
    assert_eq!(kind, io::ErrorKind::ConnectionAborted);
    assert!(block_on(next(&mut incoming)).is_none());
}

#[test]
fn loop_that_gets_a_listener_accepts_in_its_place() {
    let (listener, addr) = listen();
    let _first = client(addr, 1);
    assert_eq!(block_on(number(block_on(listener.accept()))), 1);
    let queued = client(addr, 2);
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
    expect_closed(&queued);
    drop(handle.shutdown(Duration::ZERO));
    running.join().expect("no panic").expect("a loop that ran");
}
