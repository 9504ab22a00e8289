// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listeners with handlers of their own, and what they share.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netpoll::error::ErrorKind;
use netpoll::event::Event;
use netpoll::listener::ListenOptions;
use netpoll::runner::Spawn;
use netpoll::{
    Addr, BoxError, Builder, Connection, ErrorExt, EventLoop, Listener, LoopHandle, Runner,
};

use super::{HOUR, LIMIT, call, connect, echo, eventually, free_listener, stall};

/// Answers each line with the number of open connections.
fn admin(handle: LoopHandle) -> impl AsyncFn(&mut Connection) -> Result<(), BoxError> {
    async move |conn: &mut Connection| {
        conn.reader().until(b'\n', 1024).await?;
        let connections = handle.connections();
        conn.writer().put_str(&format!("{connections} open"));
        Ok(())
    }
}

#[test]
fn each_listener_has_its_handler_and_all_share_the_limits_and_statistics() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let builder = EventLoop::builder();
    let own = builder.handle();
    let handle = builder
        .pollers(2)
        .max_connections(2)
        .on_request(echo)
        .listen(free_listener())
        .listen_with(free_listener(), admin(own))
        .on_connect(async |conn: &mut Connection| {
            conn.writer().put_str("hello ");
            Ok(())
        })
        .on_disconnect(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .build()
        .unwrap()
        .spawn()
        .unwrap();
    let addrs = handle.local_addrs();
    let mut echoed = connect(addrs[0]).unwrap();
    assert_eq!(call(&mut echoed, b"one\n", 10), b"hello one\n");
    let mut asked = connect(addrs[1]).unwrap();
    assert_eq!(call(&mut asked, b"?\n", 12), b"hello 2 open");

    // The limit holds over both listeners.
    let mut queued = [connect(addrs[0]).unwrap(), connect(addrs[1]).unwrap()];
    eventually(|| handle.accept_stats().pauses_at_limit > 0);
    assert_eq!(handle.accept_stats().accepted, 2);
    drop((echoed, asked));
    assert_eq!(call(&mut queued[0], b"two\n", 10), b"hello two\n");
    let answer = call(&mut queued[1], b"?\n", 12);
    assert!(answer.starts_with(b"hello ") && answer.ends_with(b" open"));
    drop(queued);
    assert_eq!(handle.shutdown(HOUR).wait(), 0);
    let stats = handle.stats();
    assert_eq!((stats.accept.accepted, stats.total().requests), (4, 4));
    assert_eq!(ended.load(Ordering::SeqCst), 4);
}

#[test]
fn the_loop_needs_a_handler_only_for_listeners_that_have_none() {
    let handle = EventLoop::builder()
        .pollers(2)
        .listen_with(
            Listener::bind_per_poller("127.0.0.1:0", ListenOptions::default()).unwrap(),
            echo,
        )
        .listen_with(free_listener(), echo)
        .build()
        .unwrap()
        .spawn()
        .unwrap();
    let addrs = handle.local_addrs();
    assert_eq!(addrs.len(), 2, "the address of all pollers counts once");
    for addr in addrs {
        for _ in 0..8 {
            let mut client = connect(addr).unwrap();
            assert_eq!(call(&mut client, b"one\n", 4), b"one\n");
        }
    }
    assert_eq!(handle.shutdown(HOUR).wait(), 0);

    let mixed = EventLoop::builder()
        .listen_with(free_listener(), echo)
        .listen(free_listener());
    assert_eq!(rejected_field(mixed), "handler");
}

fn rejected_field(builder: Builder) -> &'static str {
    let error = builder.build().expect_err("invalid");
    match error.netpoll_kind() {
        Some(ErrorKind::InvalidConfig { option, .. }) => option,
        kind => panic!("{kind:?}"),
    }
}

/// Runs each task on a thread of its own.
struct ThreadEach;

impl Spawn for ThreadEach {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        std::thread::spawn(move || tokio_runtime().block_on(task));
    }
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
}

#[test]
fn a_listener_has_a_handler_of_its_own_on_any_runner() {
    let spawning = EventLoop::builder_on(Runner::Spawn(Arc::new(ThreadEach)));
    let movable = spawning.listen_with(free_listener(), echo);
    let handle = movable.build().unwrap().spawn().unwrap();
    let mut client = connect(handle.local_addrs()[0]).unwrap();
    assert_eq!(call(&mut client, b"one\n", 4), b"one\n");
    drop(client);
    assert_eq!(handle.shutdown(HOUR).wait(), 0);
}

/// Blocks its poller for longer than [`events_name_the_handler_of_the_listener`] allows.
async fn block_briefly(conn: &mut Connection) -> Result<(), BoxError> {
    conn.reader().skip(1).await?;
    std::thread::sleep(Duration::from_millis(5));
    conn.writer().put_u8(b'.');
    Ok(())
}

#[test]
fn events_name_the_handler_of_the_listener() {
    let (sender, names) = channel();
    let handle = EventLoop::builder()
        .slow_handler(Duration::from_millis(1))
        .on_event(move |event| {
            if let Event::SlowCall { handler, peer, .. } = event {
                let _received = sender.send((*handler, *peer)).is_ok();
            }
        })
        .on_request(stall)
        .listen(free_listener())
        .listen_with(free_listener(), block_briefly)
        .build()
        .unwrap()
        .spawn()
        .unwrap();
    let mut client = connect(handle.local_addrs()[1]).unwrap();
    let own = Addr::from(client.local_addr().unwrap());
    assert_eq!(call(&mut client, b"x", 1), b".");
    let name = loop {
        let (name, peer) = names.recv_timeout(LIMIT).unwrap();
        if peer == own {
            break name;
        }
    };
    assert!(name.ends_with("block_briefly"), "{name}");
    drop(client);
    assert_eq!(handle.shutdown(HOUR).wait(), 0);
}

#[test]
fn a_blocked_poller_of_several_handlers_is_reported_as_such() {
    let (release, blocked) = channel::<()>();
    let blocked = Mutex::new(blocked);
    let (sender, names) = channel();
    let handle = EventLoop::builder()
        .pollers(1)
        .on_event(move |event| {
            if let Event::CallbackAbandoned { handler, .. } = event {
                let _received = sender.send(*handler).is_ok();
            }
        })
        .on_request(stall)
        .listen(free_listener())
        .listen_with(free_listener(), async move |conn: &mut Connection| {
            conn.reader().skip(1).await?;
            conn.writer().put_u8(b'.');
            conn.writer().flush().await?;
            let _released = blocked.lock().unwrap().recv();
            Ok(())
        })
        .build()
        .unwrap()
        .spawn()
        .unwrap();
    let mut client = connect(handle.local_addrs()[1]).unwrap();
    assert_eq!(call(&mut client, b"x", 1), b".");
    assert_eq!(handle.shutdown(Duration::ZERO).wait(), 1);
    assert_eq!(
        names.recv_timeout(LIMIT).unwrap(),
        "one of several handlers"
    );
    drop(release);
}
