// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection as a blocking stream of the standard library.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use netpoll::error::{ErrorExt, ErrorKind as Kind};
use netpoll::options::Timeouts;
use netpoll::{Connection, Dialer, EventLoop};

use crate::support::{LIMIT, Server, bytes, eventually, frame, pair, rpc};

/// Returns whether the error is that of a blocking call on a poller thread.
fn is_on_poller(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
        && matches!(error.netpoll_kind(), Some(Kind::BlockingOnPoller))
}

#[test]
fn a_program_without_an_executor_sends_requests_and_reads_answers() {
    let server = Server::rpc();
    let mut conn = Dialer::new().dial_blocking(server.addr).unwrap();
    let mut stream = conn.blocking();
    for size in [0, 1, 1000, 100_000, 1 << 20] {
        let request = frame(&bytes(size, 5));
        // No flush before the read: a read that waits sends the output first.
        stream.write_all(&request).unwrap();
        let mut answer = vec![0; request.len()];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer == request, "{size} bytes");
    }
}

#[test]
fn lines_are_read_from_the_input_buffer_to_the_end_of_the_stream() {
    let (mut conn, mut peer) = pair();
    peer.send(b"one\ntwo\nlast");
    peer.finish();
    let lines: Vec<_> = conn.blocking().lines().map(Result::unwrap).collect();
    assert_eq!(lines, ["one", "two", "last"]);
    assert_eq!(conn.blocking().read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(conn.blocking().fill_buf().unwrap(), b"");
}

#[test]
fn a_read_returns_the_available_bytes_and_leaves_the_rest() {
    let (mut conn, mut peer) = pair();
    peer.send(b"0123456789");
    let mut some = [0; 4];
    assert_eq!(conn.blocking().read(&mut []).unwrap(), 0);
    assert_eq!(conn.blocking().read(&mut some).unwrap(), 4);
    assert_eq!(&some, b"0123");
    let mut stream = conn.blocking();
    assert_eq!(stream.fill_buf().unwrap(), b"456789");
    stream.consume(5);
    assert_eq!(stream.fill_buf().unwrap(), b"9");
    stream.consume(100);
    peer.finish();
    assert_eq!(stream.read(&mut some).unwrap(), 0);
}

#[test]
fn a_large_write_blocks_until_the_peer_reads_and_ends_no_connection() {
    let (mut conn, mut peer) = pair();
    let all = bytes(20 << 20, 3);
    let expected = all.clone();
    let receiving = std::thread::spawn(move || peer.receive(20 << 20) == expected);
    let mut stream = conn.blocking();
    stream.write_all(&all).unwrap();
    stream.flush().unwrap();
    assert!(receiving.join().unwrap());
}

#[test]
fn every_blocking_call_on_a_poller_thread_fails_without_effect() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let upstream = Server::rpc();
    let addr = upstream.addr;
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_request(
        async move |conn: &mut Connection| {
            let mut stream = conn.blocking();
            let errors = [
                stream.read(&mut [0]).unwrap_err(),
                stream.fill_buf().map(<[u8]>::len).unwrap_err(),
                stream.write(b"not to be sent").unwrap_err(),
                stream.flush().unwrap_err(),
                Dialer::new().dial_blocking(addr).unwrap_err(),
            ];
            sender.lock().unwrap().send(errors)?;
            rpc(conn).await
        },
    ));
    let mut peer = server.connect();
    peer.call(b"waits as a future");
    let errors = receiver.recv_timeout(LIMIT).unwrap();
    assert!(errors.iter().all(is_on_poller), "{errors:?}");
}

#[test]
fn a_blocking_stream_reports_timeouts_and_aborts() {
    let (mut conn, _peer) = pair();
    let timeouts = Timeouts::for_dialing().read(Duration::from_millis(20));
    conn.set_timeouts(timeouts).unwrap();
    let error = conn.blocking().read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(matches!(error.netpoll_kind(), Some(Kind::TimedOut { .. })));
    conn.abort();
    let error = conn.blocking().read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    let mut ends = conn.blocking();
    eventually("an error", || ends.write(b"unsent").is_err());
    let error = ends.write(b"unsent").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
}
