// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ends of a connection, as a socket has them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Waker};
use std::time::Duration;

use netpoll::{CloseReason, Connection, ErrorExt, EventLoop, Listener};
use socket2::SockRef;

use crate::{FlushMode, Wakes, block_on, eventually, once, pair, read_to_end, wait};

/// What the poll functions of a handler return once its connection has ended.
#[derive(Debug)]
struct Seen {
    read: std::io::Result<usize>,
    flush: std::io::Result<()>,
    write: std::io::Result<usize>,
    shutdown: std::io::Result<()>,
}

fn look(conn: &mut Connection, read: std::io::Result<usize>) -> Seen {
    Seen {
        read,
        flush: wait(|context| conn.poll_flush(context, FlushMode::EndOfPoll)),
        write: wait(|context| conn.poll_write(context, b"more")),
        shutdown: wait(|context| conn.poll_shutdown(context)),
    }
}

#[test]
fn idle_connection_ends_as_a_stream() {
    let (mut conn, mut peer) = pair();
    let timeouts = conn.timeouts().idle(Duration::from_millis(100));
    conn.set_timeouts(timeouts).unwrap();
    peer.write_all(b"ab").unwrap();
    assert_eq!(read_to_end(&mut conn).unwrap(), b"ab");
    let seen = look(&mut conn, Ok(0));
    seen.flush.unwrap();
    seen.shutdown.unwrap();
    let refused = seen.write.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
    assert!(matches!(
        refused.close_reason(),
        Some(CloseReason::Timeout(_))
    ));
    let reason = wait(|context| conn.poll_closed(context));
    assert!(matches!(reason, CloseReason::Timeout(_)), "{reason}");
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn drained_handler_reads_the_end_of_its_stream() {
    let (seen, results) = channel();
    let server = EventLoop::builder()
        .pollers(1)
        .on_connection(async move |mut conn: Connection| {
            let mut target = [0; 10];
            let first = std::future::poll_fn(|context| conn.poll_read(context, &mut target)).await;
            assert_eq!(first.unwrap(), 2);
            let end = std::future::poll_fn(|context| conn.poll_read(context, &mut target)).await;
            seen.send(look(&mut conn, end)).unwrap();
            Ok(())
        })
        .listen(Listener::bind("127.0.0.1:0").unwrap());
    let server = server.build().unwrap();
    let handle = server.handle();
    let addr = handle.local_addrs()[0].as_tcp().unwrap();
    let running = std::thread::spawn(move || server.run().unwrap());
    let mut peer = TcpStream::connect(addr).unwrap();
    peer.write_all(b"ab").unwrap();
    eventually("a connection", || handle.connections() == 1);
    let shutdown = handle.shutdown(Duration::from_secs(60));
    let seen = results.recv_timeout(crate::LIMIT).unwrap();
    assert_eq!(seen.read.unwrap(), 0);
    seen.flush.unwrap();
    assert_eq!(seen.write.unwrap(), 4, "a drain ends the input alone");
    seen.shutdown.unwrap();
    let mut received = Vec::new();
    peer.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"more");
    drop(peer);
    assert_eq!(shutdown.wait(), 0);
    running.join().unwrap();
}

#[test]
fn local_close_aborts_a_read_and_breaks_the_writes() {
    let (mut conn, _peer) = pair();
    let handle = conn.handle();
    assert!(once(|context| conn.poll_fill_buf(context).map(drop)).is_pending());
    handle.close();
    let aborted = wait(|context| conn.poll_fill_buf(context).map_ok(drop)).unwrap_err();
    assert_eq!(aborted.kind(), ErrorKind::ConnectionAborted);
    let seen = look(&mut conn, Ok(0));
    assert_eq!(seen.write.unwrap_err().kind(), ErrorKind::BrokenPipe);
    seen.flush.unwrap();
    seen.shutdown.unwrap();
}

#[test]
fn reset_keeps_its_errno_behind_the_bytes_before_it() {
    let (mut conn, mut peer) = pair();
    peer.write_all(b"ab").unwrap();
    eventually("the bytes", || conn.reader().available() == 2);
    SockRef::from(&peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(peer);
    let broken = block_on(conn.closed());
    assert!(matches!(broken, CloseReason::Broken(_)), "{broken}");
    let mut target = [0; 10];
    assert_eq!(
        wait(|context| conn.poll_read(context, &mut target)).unwrap(),
        2
    );
    let reset = wait(|context| conn.poll_read(context, &mut target)).unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    assert!(reset.raw_os_error().is_some());
    let seen = look(&mut conn, Ok(0));
    assert!(seen.write.unwrap_err().raw_os_error().is_some());
    assert!(seen.flush.unwrap_err().raw_os_error().is_some());
    assert!(seen.shutdown.unwrap_err().raw_os_error().is_some());
}

#[test]
fn closed_is_ready_for_the_connection_and_its_writer_from_the_fin_on() {
    for split in [false, true] {
        let (mut conn, peer) = pair();
        let poll = |conn: Connection| {
            let (reader, mut writer) = conn.into_split();
            let reason = wait(|context| writer.poll_closed(context));
            drop(reader);
            reason
        };
        let wakes = Arc::<Wakes>::default();
        let waker = Waker::from(Arc::clone(&wakes));
        let polled = conn.poll_closed(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        peer.shutdown(Shutdown::Write).unwrap();
        eventually("a wake", || wakes.count() == 1);
        let reason = match split {
            true => poll(conn),
            false => wait(|context| conn.poll_closed(context)),
        };
        assert!(matches!(reason, CloseReason::PeerFin), "{reason}");
    }
}
