// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handlers that await tokio futures: as tokio tasks, and on netpoll's pollers within a runtime.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use netpoll::{BoxError, Builder, CloseReason, Connection, EventLoop, Runner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::tokio_here::{runtime, started};
use crate::support::{AnyBuilder, Gate, Server, eventually, frame, rpc};

const PAUSE: Duration = Duration::from_millis(30);

fn one_poller() -> Builder {
    EventLoop::builder().pollers(1)
}

/// Both ways to use tokio in a handler.
fn ways() -> [AnyBuilder; 2] {
    let handle = runtime().handle();
    let runner = Runner::tokio(handle.clone());
    [
        EventLoop::builder_on(runner).pollers(1).into(),
        one_poller().enter_tokio(handle.clone()).into(),
    ]
}

/// The number of sleeping handlers and its peak.
static ASLEEP: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

async fn sleeps(conn: &mut Connection) -> Result<(), BoxError> {
    let byte = conn.reader().read_u8().await?;
    let [now, most] = &ASLEEP;
    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    tokio::time::sleep(PAUSE).await;
    now.fetch_sub(1, Ordering::SeqCst);
    conn.writer().put_u8(byte);
    Ok(())
}

#[test]
fn a_current_thread_runtime_is_rejected_with_the_field_name() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let builder = one_poller().on_request(sleeps);
    let refused = builder
        .enter_tokio(runtime.handle().clone())
        .listen(netpoll::Listener::bind("127.0.0.1:0").unwrap())
        .build()
        .unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    assert!(
        refused.to_string().starts_with("enter_tokio: "),
        "{refused}"
    );
}

#[test]
fn handlers_can_use_tokio_sleep_concurrently() {
    for builder in ways() {
        let server = Server::start_as_given(builder.on_request(sleeps));
        let mut peers: Vec<_> = (0..20).map(|_| server.connect()).collect();
        let began = Instant::now();
        for peer in &mut peers {
            peer.send(b"z");
        }
        for peer in &mut peers {
            assert_eq!(peer.receive(1), b"z");
        }
        let took = began.elapsed();
        assert!(took >= PAUSE, "{took:?}");
        let most = ASLEEP[1].swap(0, Ordering::SeqCst);
        assert!(most > 1, "one after the other: {took:?}");
    }
}

#[test]
fn a_handler_can_call_another_server_over_tokio_sockets() {
    let upstream = Server::rpc();
    let addr = upstream.addr.as_tcp().unwrap();
    let relay = handler!([], |conn| {
        let len = conn.reader().read_u32().await?;
        let body = conn.reader().read_vec(len as usize).await?;
        let mut beyond = TcpStream::connect(addr).await?;
        beyond.write_all(&frame(&body)).await?;
        let mut answer = vec![0; body.len() + 4];
        beyond.read_exact(&mut answer).await?;
        conn.writer().put_slice(&answer);
        Ok(())
    });
    for builder in ways() {
        let server = Server::start_as_given(builder.on_request(relay));
        let mut peer = server.connect();
        for size in [0, 10, 100_000] {
            peer.call(&vec![7; size]);
        }
    }
}

#[test]
fn connections_close_when_their_runtime_shuts_down() {
    let (runtime, gate) = (started(), Gate::default());
    let at = gate.clone();
    let waits = handler!([at], |conn| {
        if conn.reader().peek(5).await?[4] == b'w' {
            at.pass().await;
        }
        rpc(conn).await
    });
    let builder = EventLoop::builder_on(Runner::tokio(runtime.handle().clone())).pollers(1);
    let server = Server::start_as_given(builder.on_request(waits));
    let (mut idle, mut waiting) = (server.connect(), server.connect());
    idle.call(b"one");
    waiting.send(&frame(b"wait"));
    eventually("a waiting handler", || gate.is_waited_at());
    runtime.shutdown_timeout(Duration::from_secs(5));
    assert_eq!(waiting.receive_all().unwrap(), b"");
    idle.send(&frame(b"not served"));
    assert_eq!(idle.receive_all().unwrap(), b"");
    drop((idle, waiting));
    for _ in 0..2 {
        assert!(matches!(server.ending(), CloseReason::Local));
    }
}
