// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing by a handler that runs on its connection's poller.

use std::future::poll_fn;
use std::io::Read;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use netpoll::{Connection, EventLoop, Listener};

use crate::{FlushMode, LIMIT, bytes, once};

/// Runs `handler` on the poller of a connection, and returns its result, which it has while `peer`
/// runs.
fn on_poller<T: Send + 'static>(
    handler: impl Fn(&mut Connection, &Receiver<()>) -> T + Send + Sync + 'static,
    peer: impl FnOnce(TcpStream, &dyn Fn()),
) -> T {
    let (result, results) = channel();
    let (go, going) = channel();
    let going = std::sync::Mutex::new(Some(going));
    let server = EventLoop::builder()
        .pollers(1)
        .on_connection(async move |mut conn: Connection| {
            let going = going
                .lock()
                .ok()
                .and_then(|mut going| going.take())
                .expect("one connection");
            // One poll, in which the peer receives.
            let returned = poll_fn(|_| Poll::Ready(handler(&mut conn, &going))).await;
            result.send(returned).expect("a test that waits");
            Ok(())
        })
        .listen(Listener::bind("127.0.0.1:0").expect("a free port"))
        .build()
        .expect("a loop");
    let handle = server.handle();
    let addr = handle.local_addrs()[0].as_tcp().expect("TCP");
    let running = std::thread::spawn(move || server.run().expect("a loop that runs"));
    let stream = TcpStream::connect(addr).expect("a server");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    // A handler that does not wait for it may have returned.
    peer(stream, &|| {
        let _awaited = go.send(()).is_ok();
    });
    let returned = results.recv_timeout(LIMIT).expect("a handler that returns");
    assert_eq!(handle.shutdown(Duration::from_secs(60)).wait(), 0);
    running.join().expect("no panic");
    returned
}

fn write(conn: &mut Connection, bytes: &[u8]) -> usize {
    match once(|context| conn.poll_write(context, bytes)) {
        Poll::Ready(taken) => taken.expect("an open connection"),
        Poll::Pending => panic!("there is room"),
    }
}

fn expect(mut peer: TcpStream, expected: &[u8], received: &dyn Fn()) {
    let mut bytes = vec![0; expected.len()];
    peer.read_exact(&mut bytes).expect("output");
    assert!(bytes == expected);
    received();
}

#[test]
fn flush_of_the_kernel_sends_within_the_poll() {
    let unsent = on_poller(
        |conn, received| {
            write(conn, b"hello");
            assert_eq!(conn.writer().unsent(), 5);
            assert!(once(|context| conn.poll_flush(context, FlushMode::Kernel)).is_ready());
            received.recv_timeout(LIMIT).unwrap();
            conn.writer().unsent()
        },
        |peer, received| expect(peer, b"hello", received),
    );
    assert_eq!(unsent, 0);
}

#[test]
fn flush_at_the_end_of_the_poll_is_ready_at_once() {
    let unsent = on_poller(
        |conn, _| {
            write(conn, b"hello");
            assert!(once(|context| conn.poll_flush(context, FlushMode::EndOfPoll)).is_ready());
            conn.writer().unsent()
        },
        |peer, received| expect(peer, b"hello", received),
    );
    assert_eq!(unsent, 5, "the poller sends when the poll has ended");
}

#[test]
fn large_write_is_sent_within_the_poll_and_only_behind_what_is_queued() {
    let sent = bytes(40_000);
    let expected = [b"before".to_vec(), sent.clone(), b"after".to_vec()].concat();
    let unsent = on_poller(
        move |conn, received| {
            write(conn, b"before");
            assert_eq!(write(conn, &sent[..20_000]), 20_000);
            let queued = conn.writer().unsent();
            assert!(once(|context| conn.poll_flush(context, FlushMode::Kernel)).is_ready());
            assert_eq!(write(conn, &sent[20_000..]), 20_000);
            let direct = conn.writer().unsent();
            write(conn, b"after");
            assert!(once(|context| conn.poll_flush(context, FlushMode::Kernel)).is_ready());
            received.recv_timeout(LIMIT).unwrap();
            (queued, direct)
        },
        move |peer, received| expect(peer, &expected, received),
    );
    assert_eq!(unsent, (20_006, 0));
}

#[test]
fn large_bytes_are_shared_with_the_output_and_small_ones_copied() {
    let unique = on_poller(
        |conn, _| {
            [100, 20_000].map(|length| {
                let whole = Bytes::from(bytes(length));
                let mut rest = whole.clone();
                let taken = once(|context| conn.poll_write_bytes(context, &mut rest));
                assert!(matches!(taken, Poll::Ready(Ok(count)) if count == length));
                assert!(rest.is_empty());
                drop(rest);
                whole.is_unique()
            })
        },
        |peer, received| expect(peer, &[bytes(100), bytes(20_000)].concat(), received),
    );
    assert_eq!(unique, [true, false]);
}
