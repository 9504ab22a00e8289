// SPDX-License-Identifier: MIT OR Apache-2.0
//! `liveness` reports whether a connection can be used, as a pool checks it, and consumes nothing.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use netpoll::connection::Liveness;
use netpoll::tcp::TcpState;
use netpoll::{Connection, EventLoop};

use crate::support::{Gate, Kind, LIMIT, Server, block_on, eventually, pair};

#[test]
fn liveness_reports_alive_data_pending_and_closed_and_consumes_nothing() {
    let (mut conn, mut peer) = pair();
    let handle = conn.handle();
    assert_eq!(conn.liveness(), Liveness::Alive);
    assert_eq!(handle.liveness(), Liveness::Alive);
    peer.send(b"late");
    eventually("data", || conn.liveness() == Liveness::DataPending);
    assert_eq!(handle.liveness(), Liveness::DataPending);
    assert!(conn.is_active());
    assert_eq!(block_on(conn.reader().peek(4)).unwrap(), b"late");
    assert_eq!(
        conn.liveness(),
        Liveness::DataPending,
        "received and not consumed"
    );
    assert_eq!(block_on(conn.reader().next(4)).unwrap(), b"late");
    assert_eq!(conn.liveness(), Liveness::Alive);
    peer.send(b"last");
    peer.finish();
    eventually("the close", || conn.liveness() == Liveness::Closed);
    assert_eq!(handle.liveness(), Liveness::Closed);
    assert!(!conn.is_active() && !handle.is_active());
    assert_eq!(block_on(conn.reader().next(4)).unwrap(), b"last");
}

#[test]
fn liveness_reports_a_local_close_at_once() {
    let (conn, _peer) = pair();
    conn.handle().close();
    assert_eq!(conn.liveness(), Liveness::Closed);
    let (conn, peer) = pair();
    let handle = conn.handle();
    drop((conn, peer));
    assert!(!handle.is_active());
}

#[test]
fn liveness_reports_a_closed_peer_before_the_poller_reads() {
    let (sender, receiver) = channel();
    let (sender, gate) = (Mutex::new(sender), Gate::default());
    let at = gate.clone();
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_request(
        async move |conn: &mut Connection| {
            conn.reader().skip(1).await?;
            at.pass().await;
            // The handler occupies the poller, so the poller does not read the socket.
            let before = conn.liveness();
            sender.lock().unwrap().send(before)?;
            loop {
                if conn.liveness() == Liveness::Closed {
                    return Ok(());
                }
                std::thread::yield_now();
            }
        },
    ));
    let mut peer = server.connect();
    peer.send(b"?");
    eventually("a waiting handler", || gate.is_waited_at());
    gate.open();
    assert_eq!(receiver.recv_timeout(LIMIT).unwrap(), Liveness::Alive);
    drop(peer);
    server.ending();
}

#[test]
fn tcp_info_returns_kernel_counters_and_fails_on_a_unix_socket() {
    let (mut conn, mut peer) = pair();
    let info = conn.tcp_info();
    if crate::support::kind() == Kind::Unix {
        let error = info.unwrap_err();
        let known = [libc_errno::EOPNOTSUPP, libc_errno::ENOPROTOOPT];
        assert!(known.contains(&error.raw_os_error().unwrap()), "{error}");
        return;
    }
    let before = info.unwrap();
    assert_eq!(before.state, TcpState::Established);
    assert!(before.snd_cwnd > 0 && before.snd_mss > 0 && !before.rto.is_zero());
    conn.writer().put_slice(&[7; 1000]);
    block_on(conn.writer().flush()).unwrap();
    peer.receive(1000);
    peer.send(&[7; 500]);
    block_on(conn.reader().skip(500)).unwrap();
    eventually("the acknowledgement", || {
        let after = conn.tcp_info().unwrap();
        after.bytes_acked >= before.bytes_acked + 1000 && after.unacked == 0
    });
    let after = conn.tcp_info().unwrap();
    assert_eq!(after.bytes_received, before.bytes_received + 500);
    assert!(after.delivered > before.delivered && !after.rtt.is_zero());
    assert_eq!((after.lost, after.total_retrans), (0, 0));
    peer.finish();
    eventually("the FIN", || {
        conn.tcp_info().unwrap().state == TcpState::CloseWait
    });
}

/// Errnos without an `ErrorKind` in the standard library.
mod libc_errno {
    pub(super) const ENOPROTOOPT: i32 = 92;
    pub(super) const EOPNOTSUPP: i32 = 95;
}
