// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections that are owned outside of handlers, on any thread.

use std::io::ErrorKind;
use std::sync::mpsc::channel;

use netpoll::{CloseReason, Dialer};

use crate::support::{Gate, LIMIT, Server, block_on, bytes, call, eventually};

#[test]
fn an_owned_connection_can_be_used_on_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    let server = Server::rpc();
    let mut conn = block_on(Dialer::new().dial(server.addr)).unwrap();
    is_send(&conn);
    block_on(call(&mut conn, b"here")).unwrap();
    let moved = std::thread::spawn(move || {
        block_on(call(&mut conn, b"there")).unwrap();
        conn
    });
    let mut conn = moved.join().unwrap();
    block_on(call(&mut conn, b"back")).unwrap();
}

#[test]
fn an_accepted_connection_can_be_moved_out_of_its_handler() {
    let (moved, owned) = channel();
    let server = Server::start(
        crate::support::builder().pollers(1),
        whole!([moved], |conn| {
            moved.send(conn)?;
            Ok(())
        }),
    );
    let mut peer = server.connect();
    let mut conn = owned.recv_timeout(LIMIT).unwrap();
    for word in [b"one", b"two"] {
        peer.send(word);
        assert_eq!(block_on(conn.reader().next(3)).unwrap(), word);
        conn.writer().put_slice(word);
        block_on(conn.writer().flush()).unwrap();
        assert_eq!(peer.receive(3), word);
    }
    assert_eq!(server.handle.connections(), 1);
    drop(conn);
    assert_eq!(peer.receive_all().unwrap(), b"");
}

#[test]
fn a_connection_with_paused_input_can_be_used_on_another_thread() {
    const HELD: usize = 100_000;
    let (moved, owned) = channel();
    let gate = Gate::default();
    let at = gate.clone();
    let server = Server::start(
        crate::support::builder().pollers(1),
        whole!([at, moved], |mut conn| {
            at.pass().await;
            // The poller has paused its reads. This wait resumes them.
            conn.reader().wait(HELD).await?;
            moved.send(conn)?;
            Ok(())
        }),
    );
    let mut peer = server.connect();
    eventually("a waiting handler", || gate.is_waited_at());
    let all = bytes(4 << 20, 1);
    peer.send(&all[..HELD + 1000]);
    // Each accepted connection is a poller iteration, in which the poller reads every connection.
    let mut others = Vec::new();
    for count in 2..20 {
        others.push(server.connect());
        eventually("a poller iteration", || {
            server.handle.connections() == count
        });
    }
    let sending = peer.send_aside(all[HELD + 1000..].to_vec());
    gate.open();
    let mut conn = owned.recv_timeout(LIMIT).unwrap();
    assert!(block_on(conn.reader().read_vec(4 << 20)).unwrap() == all);
    sending.join().unwrap().unwrap();
    conn.writer().put_str("reply");
    let (sender, answered) = channel();
    let flushing = std::thread::spawn(move || {
        block_on(conn.writer().flush()).unwrap();
        sender.send(()).unwrap();
    });
    assert_eq!(peer.receive(5), b"reply");
    answered.recv_timeout(LIMIT).unwrap();
    flushing.join().unwrap();
}

#[test]
fn a_connection_dialed_on_a_poller_closes_with_its_loop() {
    let upstream = Server::rpc();
    let addr = upstream.addr;
    let (moved, owned) = channel();
    let server = Server::start(
        crate::support::builder().pollers(1),
        handler!([moved], |conn| {
            conn.reader().skip(1).await?;
            let dialed = Dialer::new().dial(addr).await?;
            moved.send(dialed)?;
            Ok(())
        }),
    );
    let mut peer = server.connect();
    peer.send(b"?");
    let mut conn = owned.recv_timeout(LIMIT).unwrap();
    block_on(call(&mut conn, b"one")).unwrap();
    drop(peer);
    assert_eq!(server.of_which_some_is_kept().shut_down(LIMIT), 0);
    let error = block_on(call(&mut conn, b"two")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    assert!(matches!(upstream.ending(), CloseReason::PeerFin));
}
