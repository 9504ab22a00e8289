// SPDX-License-Identifier: MIT OR Apache-2.0
//! Async closures with captures, as handlers of either kind of builder.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use netpoll::{Connection, EventLoop, LoopHandle, Runner};

use super::{HOUR, call, connect, free_listener};

/// Installs handlers that count connections by 100 and requests by 1,
/// and spawns the loop.
macro_rules! counting {
    ($builder:expr, $count:expr) => {{
        let (connects, requests) = (Arc::clone($count), Arc::clone($count));
        $builder
            .pollers(1)
            .on_connect(async move |_: &mut Connection| {
                connects.fetch_add(100, Ordering::SeqCst);
                Ok(())
            })
            .on_request(async move |conn: &mut Connection| {
                let (mut reader, mut writer) = conn.split();
                reader.until(b'\n', 64).await?;
                requests.fetch_add(1, Ordering::SeqCst);
                writer.put_str("counted\n");
                Ok(())
            })
            .listen(free_listener())
            .build()
            .unwrap()
            .spawn()
            .unwrap()
    }};
}

fn counts(handle: &LoopHandle, count: &Arc<AtomicUsize>) {
    let addr = handle.local_addrs()[0];
    let mut clients = [
        connect(addr).expect("a connection"),
        connect(addr).expect("a connection"),
    ];
    for client in &mut clients {
        for _ in 0..3 {
            assert_eq!(call(client, b"?\n", 8), b"counted\n");
        }
    }
    drop(clients);
    assert_eq!(handle.shutdown(HOUR).wait(), 0);
    assert_eq!(count.load(Ordering::SeqCst), 206);
    handle.wait().expect("an orderly end");
}

#[test]
fn a_closure_that_captures_an_arc_is_a_handler_of_either_builder() {
    let new = || Arc::new(AtomicUsize::new(0));
    let count = new();
    counts(&counting!(EventLoop::builder(), &count), &count);
    let count = new();
    let on_threads = EventLoop::builder().handler_threads(2);
    counts(&counting!(on_threads, &count), &count);
    for runner in [Runner::Inline, Runner::Threads(2)] {
        let count = new();
        counts(&counting!(EventLoop::builder_on(runner), &count), &count);
    }
}

#[test]
fn a_closure_that_owns_its_connection_captures_on_any_runner() {
    for runner in [Runner::Inline, Runner::Threads(2)] {
        let greeting: Arc<str> = Arc::from("hello\n");
        let handle = EventLoop::builder_on(runner)
            .on_connection(async move |mut conn: Connection| {
                conn.reader().until(b'\n', 64).await?;
                conn.writer().put_str(&greeting);
                conn.writer().flush().await?;
                Ok(())
            })
            .listen(free_listener())
            .build()
            .unwrap()
            .spawn()
            .unwrap();
        for _ in 0..2 {
            let mut client = connect(handle.local_addrs()[0]).unwrap();
            assert_eq!(call(&mut client, b"?\n", 6), b"hello\n");
        }
        assert_eq!(handle.shutdown(HOUR).wait(), 0);
    }
}
