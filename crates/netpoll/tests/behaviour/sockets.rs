// SPDX-License-Identifier: MIT OR Apache-2.0
//! TCP sockets as the kernel has them, dials that have no time, and addresses of IPv6.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use netpoll::{Addr, Connection, Dialer, EventLoop, Listener};
use socket2::SockRef;

use crate::support::{Peer, Server, Whole, block_on, bound, call, eventually, rpc};

/// Whether small packets are not held back, and how silence is asked after: when, how often, how
/// many times.
fn options_of(conn: &Connection) -> std::io::Result<(bool, bool, u64, u64, u32)> {
    let socket = SockRef::from(conn);
    Ok((
        socket.tcp_nodelay()?,
        socket.keepalive()?,
        socket.tcp_keepalive_time()?.as_secs(),
        socket.tcp_keepalive_interval()?.as_secs(),
        socket.tcp_keepalive_retries()?,
    ))
}

#[test]
fn both_ends_have_nodelay_and_the_three_numbers_of_keepalive() {
    let server = Server::start(
        EventLoop::builder().pollers(1),
        Whole(async |mut conn: Connection| {
            assert_eq!(options_of(&conn)?, (true, true, 60, 15, 4));
            conn.writer().put_str("as they should be");
            Ok(())
        }),
    );
    let mut conn = block_on(Dialer::new().dial(server.addr)).unwrap();
    assert_eq!(options_of(&conn).unwrap(), (true, true, 60, 15, 4));
    assert_eq!(
        block_on(conn.reader().next(17)).unwrap(),
        b"as they should be"
    );
}

#[test]
fn who_connects_before_the_loop_is_built_has_the_options_too() {
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let early: Vec<Peer> = (0..70).map(|_| Peer::connect(bound(&listener))).collect();
    let builder = EventLoop::builder().pollers(2);
    let server = Server::start_on(
        listener,
        builder,
        Whole(async |mut conn: Connection| {
            assert_eq!(options_of(&conn)?, (true, true, 60, 15, 4));
            conn.writer().put_str("in time");
            Ok(())
        }),
    );
    for mut peer in early.into_iter().chain([server.connect()]) {
        assert_eq!(peer.receive(7), b"in time");
    }
}

#[test]
fn a_hundred_dials_of_a_millisecond_connect_or_time_out() {
    let server = Server::rpc();
    let hasty = Dialer::new().connect_timeout(Some(Duration::from_millis(1)));
    for _ in 0..100 {
        match block_on(hasty.dial(server.addr)) {
            Ok(conn) => conn.close(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}"),
        }
    }
    eventually("no connection", || server.handle.connections() == 0);
    let mut conn = block_on(Dialer::new().dial(server.addr)).unwrap();
    block_on(call(&mut conn, b"in time")).unwrap();
}

#[test]
fn a_server_on_ipv6_is_dialed_with_and_without_a_zone() {
    let listener = Listener::bind("[::1]:0").unwrap();
    let Addr::Tcp(addr) = bound(&listener) else {
        panic!("an address of TCP");
    };
    let server = Server::start_on(listener, EventLoop::builder().pollers(1), rpc);
    // The first interface is the loopback.
    for zone in [0, 1] {
        let with = SocketAddrV6::new(Ipv6Addr::LOCALHOST, addr.port(), 0, zone);
        let mut conn = block_on(Dialer::new().dial(Addr::Tcp(with.into()))).unwrap();
        block_on(call(&mut conn, b"six")).unwrap();
    }
    assert_eq!(server.handle.accept_stats().accepted, 2);
}

#[test]
fn a_socket_whose_peer_has_gone_is_adopted_with_what_was_left() {
    use std::io::Write;
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"last").unwrap();
    drop(theirs);
    let mut conn = block_on(Connection::from_fd(ours.into())).unwrap();
    assert_eq!(block_on(conn.reader().next(4)).unwrap(), b"last");
    assert!(block_on(conn.reader().chunk()).unwrap().is_none());
}
