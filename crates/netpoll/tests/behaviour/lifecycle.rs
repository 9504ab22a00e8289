// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole lifecycles of connections, after the tests of Go netpoll.
//! `docs/internals/go-test-parity.md` maps those tests to these.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use netpoll::listener::Accept;
use netpoll::{BoxError, CloseReason, Connection, Dialer};

use crate::support::{Greeted, LIMIT, Peer, Server, block_on, eventually, pair, rpc};

/// Answers each `ping` with a `pong` until the stream ends between two pings. Returns the count.
async fn pongs(conn: &mut Connection) -> Result<usize, BoxError> {
    let (mut reader, mut writer) = conn.split();
    let mut answered = 0;
    loop {
        match reader.next(4).await {
            Ok(ping) => assert_eq!(ping, b"ping"),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
                assert_eq!(reader.available(), 0);
                return Ok(answered);
            }
        }
        writer.put_str("pong");
        writer.flush().await?;
        answered += 1;
    }
}

#[test]
fn on_connect_can_serve_1024_requests() {
    let (sender, answers) = channel();
    let on_connect = handler!([sender], |conn| {
        sender.send(pongs(conn).await?)?;
        Ok(())
    });
    let server = Server::start(
        crate::support::builder().pollers(1),
        Greeted(on_connect, rpc),
    );
    let mut peer = server.connect();
    for _ in 0..1024 {
        peer.send(b"ping");
        assert_eq!(peer.receive(4), b"pong");
    }
    peer.finish();
    assert_eq!(answers.recv_timeout(LIMIT).unwrap(), 1024);
    assert_eq!(peer.receive_all().unwrap(), b"");
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn all_data_of_peers_that_close_at_once_arrives() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&arrived);
    let handler = handler!([count], |conn| {
        if let Some(chunk) = conn.reader().chunk().await? {
            count.fetch_add(chunk.len(), Ordering::SeqCst);
        }
        Ok(())
    });
    let server = Server::start(crate::support::builder().pollers(2), handler);
    let (addr, mut expected) = (server.addr, 0);
    for (threads, peers, size) in [(10, 10, 1024), (5, 2, 5000)] {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(move || {
                    for _ in 0..peers {
                        Peer::connect(addr).send(&vec![7; size]);
                    }
                });
            }
        });
        expected += threads * peers * size;
        eventually("every byte", || arrived.load(Ordering::SeqCst) == expected);
    }
    eventually("the close of all connections", || {
        server.handle.connections() == 0
    });
}

#[test]
fn callbacks_run_in_lifecycle_order_on_both_sides() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = |what: &'static str| {
        let seen = Arc::clone(&seen);
        move || seen.lock().expect("no panic under it").push(what)
    };
    let (accepts, connects, serves) = (note("accept"), note("connect"), note("request"));
    let (ends, closes, pings) = (note("end"), note("closed"), note("ping"));
    let on_connect = handler!([connects], |conn| {
        conn.attach(7_u8);
        connects();
        conn.writer().put_str("ping");
        Ok(())
    });
    let handler = handler!([serves], |conn| {
        assert_eq!(conn.reader().next(4).await?, b"pong");
        assert_eq!(conn.attached::<u8>(), Some(&mut 7));
        serves();
        conn.close();
        Ok(())
    });
    let filter = move |info: &netpoll::listener::IncomingConnection<'_>| {
        accepts();
        Accept::Accept(info.options().clone())
    };
    let builder = crate::support::builder().pollers(1).on_accept(filter);
    let observer = move |conn: &mut Connection, reason: &CloseReason| {
        assert_eq!(conn.attached::<u8>(), Some(&mut 7));
        assert!(matches!(reason, CloseReason::Local));
        ends();
    };
    let server = Server::start_observed(builder, Greeted(on_connect, handler), observer);
    let conn = block_on(Dialer::new().dial(server.addr)).unwrap();
    conn.on_close(move |_| closes());
    let handle = conn.serve(crate::support::handling(move |conn: &mut Connection| {
        let pings = pings.clone();
        Box::pin(async move {
            assert_eq!(conn.reader().next(4).await?, b"ping");
            pings();
            conn.writer().put_str("pong");
            Ok(())
        })
    }));
    assert!(matches!(block_on(handle.closed()), CloseReason::PeerFin));
    eventually("both close callbacks", || seen.lock().unwrap().len() == 6);
    let seen = seen.lock().unwrap();
    // The order of the two close callbacks is not specified. Neither is the order of the dialer's
    // handler and the rest of the server's `on_connect`.
    assert_eq!(seen[0], "accept");
    assert_eq!(seen[1..4], ["connect", "ping", "request"]);
    assert!(seen[4..].contains(&"end") && seen[4..].contains(&"closed"));
}

#[test]
fn an_on_close_callback_added_in_on_connect_runs_when_the_peer_closes() {
    let (sender, reasons) = channel();
    let on_connect = handler!([sender], |conn| {
        conn.on_close(move |reason| {
            // The receiver is gone when the test has ended.
            let _sent = sender.send(reason.clone()).is_ok();
        });
        Ok(())
    });
    let server = Server::start(
        crate::support::builder().pollers(1),
        Greeted(on_connect, rpc),
    );
    for _ in 0..20 {
        let mut peer = server.connect();
        peer.call(b"one");
        drop(peer);
        let reason = reasons.recv_timeout(LIMIT).unwrap();
        assert!(matches!(reason, CloseReason::PeerFin));
        server.ending();
        assert!(reasons.try_recv().is_err(), "once");
    }
}

#[test]
fn ten_thousand_small_messages_are_read_one_by_one() {
    let (mut conn, mut peer) = pair();
    let message = |n: usize| [n as u8; 256];
    let all: Vec<u8> = (0..10_000).flat_map(message).collect();
    let sending = peer.send_aside(all.clone());
    for n in 0..10_000 {
        assert_eq!(block_on(conn.reader().next(256)).unwrap(), message(n));
    }
    sending.join().unwrap().unwrap();
    let reading = std::thread::spawn(move || peer.receive(all.len()) == all);
    for n in 0..10_000 {
        conn.writer().put_slice(&message(n));
        block_on(conn.writer().flush()).unwrap();
    }
    assert!(reading.join().unwrap());
}

#[test]
fn a_read_waits_for_the_second_half_of_a_packet() {
    let (mut conn, mut peer) = pair();
    for round in 0..20 {
        peer.send(&[round; 8 << 10]);
        let mut reader = conn.reader();
        block_on(reader.wait(8 << 10)).unwrap();
        {
            let mut whole = std::pin::pin!(reader.next(16 << 10));
            assert!(crate::support::poll_once(whole.as_mut()).is_pending());
            peer.send(&[round; 8 << 10]);
            assert_eq!(block_on(whole).unwrap(), [round; 16 << 10]);
        }
        assert_eq!(reader.available(), 0);
    }
}

#[test]
fn until_reads_two_thousand_lines_and_leaves_the_incomplete_one() {
    let (mut conn, mut peer) = pair();
    let mut line = vec![b'x'; 500];
    line.push(b'\n');
    let lines = 2000;
    let mut all = line.repeat(lines);
    all.extend_from_slice(b"the rest");
    let sending = std::thread::spawn(move || {
        peer.send(&all);
        peer.finish();
        peer
    });
    let mut reader = conn.reader();
    for _ in 0..lines {
        assert_eq!(block_on(reader.until(b'\n', 501)).unwrap(), line);
    }
    let error = block_on(reader.until(b'\n', 501)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(block_on(reader.next(8)).unwrap(), b"the rest");
    let _peer: Peer = sending.join().unwrap();
}
