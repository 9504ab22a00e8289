// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections that are dialed on any thread, and owned by the code that dialed them.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::pin::pin;
use std::time::Duration;

use netpoll::{Addr, BoxError, CloseReason, Connection, Dialer};

use crate::support::{
    Server, Whole, alone_twice, block_on, bytes, call, eventually, invalid_option,
    open_descriptors, poll_once, rpc,
};

#[test]
fn a_plain_thread_dials_a_server() {
    let server = Server::rpc();
    block_on(async {
        let mut conn = Dialer::new().dial(server.addr).await.unwrap();
        assert_eq!(conn.peer_addr(), server.addr);
        for size in [0, 1, 100, 10_000, 500_000, 3] {
            call(&mut conn, &bytes(size, 1)).await.unwrap();
        }
    });
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn a_refused_dial_keeps_its_errno() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let error = block_on(Dialer::new().dial(addr)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(error.raw_os_error(), Some(111), "{error:?}");
}

#[test]
fn an_invalid_dial_is_rejected_with_the_name_of_its_field() {
    let field = |dialer: Dialer, addr: Addr| {
        let error = block_on(dialer.dial(addr)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        invalid_option(&error).unwrap().0
    };
    let addr: Addr = "127.0.0.1:1".parse().unwrap();
    let hasty = Dialer::new().connect_timeout(Duration::ZERO);
    assert_eq!(field(hasty, addr), "connect_timeout");
    assert_eq!(field(Dialer::new(), Addr::Unnamed), "addr");
    let options = netpoll::options::ConnOptions::default().max_frame(0);
    assert_eq!(field(Dialer::new().options(options), addr), "max_frame");
}

#[test]
fn an_unanswered_dial_times_out() {
    // The backlog is full: the kernel drops further connects.
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(1).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let dialer = Dialer::new().connect_timeout(Duration::from_millis(100));
    let dials: Vec<_> = (0..4).map(|_| block_on(dialer.dial(addr))).collect();
    let last = dials.last().unwrap().as_ref().unwrap_err();
    assert_eq!(last.kind(), ErrorKind::TimedOut);
}

/// Relays requests and answers between two connections until the first FIN.
async fn relay(mut from: Connection, mut to: Connection) -> Result<(), BoxError> {
    loop {
        let Some(request) = from.reader().chunk().await? else {
            return Ok(());
        };
        let mut expected = request.len();
        to.writer().append(request);
        while expected > 0 {
            let Some(answer) = to.reader().chunk().await? else {
                return Ok(());
            };
            expected = expected.saturating_sub(answer.len());
            from.writer().append(answer);
        }
    }
}

#[test]
fn a_proxy_dials_inside_its_handler_and_relays() {
    let upstream = Server::rpc();
    let addr = upstream.addr;
    let proxy = Server::start(
        crate::support::builder().pollers(2),
        whole!([], |conn| {
            let upstream_conn = Dialer::new().dial(addr).await?;
            relay(conn, upstream_conn).await
        }),
    );
    let mut peers: Vec<_> = (0..10).map(|_| proxy.connect()).collect();
    for round in 0..10 {
        for peer in &mut peers {
            peer.call(&bytes(round * 1000, 1));
        }
    }
    drop(peers);
    for _ in 0..10 {
        assert!(matches!(upstream.ending(), CloseReason::PeerFin));
        assert!(matches!(proxy.ending(), CloseReason::PeerFin));
    }
}

#[test]
fn a_proxy_whose_upstream_is_gone_closes_with_its_handlers_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let proxy = Server::start(
        crate::support::builder().pollers(1),
        whole!([], |conn| {
            let upstream_conn = Dialer::new().dial(addr).await?;
            relay(conn, upstream_conn).await
        }),
    );
    let mut peer = proxy.connect();
    assert_eq!(peer.receive_all().unwrap(), b"");
    drop(peer);
    assert!(matches!(proxy.ending(), CloseReason::Handler(_)));
}

#[test]
fn dropped_dials_leave_no_descriptor() {
    alone_twice("dial::dropped_dials_leave_no_descriptor", || {
        let server = Server::rpc();
        let addr = server.addr;
        // Both loops run, and one connection has ended, before anything is counted.
        let mut first = block_on(Dialer::new().dial(addr)).unwrap();
        block_on(call(&mut first, b"one")).unwrap();
        drop(first);
        server.ending();
        let mut before = open_descriptors();
        eventually("a stable number of descriptors", || {
            std::mem::replace(&mut before, open_descriptors()) == before
        });
        for round in 0..200 {
            let dialer = Dialer::new();
            let mut dial = pin!(dialer.dial(addr));
            let mut polls = 0..round % 3;
            while polls.next().is_some() && poll_once(dial.as_mut()).is_pending() {}
        }
        eventually("as many descriptors as before", || {
            open_descriptors() <= before
        });
        eventually("no connection", || server.handle.connections() == 0);
    });
}

#[test]
fn a_dialed_connection_sees_the_end_of_its_server() {
    let server = Server::start(
        crate::support::builder().pollers(1),
        Whole(async |mut conn: Connection| {
            conn.writer().put_str("bye");
            Ok(())
        }),
    );
    let mut conn = block_on(Dialer::new().dial(server.addr)).unwrap();
    let mut reader = conn.reader();
    assert_eq!(block_on(reader.read_string(3)).unwrap(), "bye");
    assert!(block_on(reader.chunk()).unwrap().is_none());
}

#[test]
fn many_threads_dial_at_once() {
    let server = Server::start(crate::support::builder().pollers(2), rpc);
    let addr = server.addr;
    let dial = move |seed| {
        for _ in 0..20 {
            let mut conn = block_on(Dialer::new().dial(addr)).unwrap();
            block_on(call(&mut conn, &bytes(100, seed))).unwrap();
        }
    };
    let threads: Vec<_> = (0..8)
        .map(|seed| std::thread::spawn(move || dial(seed)))
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    eventually("no connection", || server.handle.connections() == 0);
}
