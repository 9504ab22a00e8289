// SPDX-License-Identifier: MIT OR Apache-2.0
//! TCP socket options in the kernel, dials with short timeouts, and IPv6 addresses.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use netpoll::listener::Accept;
use netpoll::options::ConnOptions;
use netpoll::tcp::Keepalive;
use netpoll::{Addr, Connection, Dialer, Listener};
use socket2::{SockFilter, SockRef};

use crate::support::{
    Host, LIMIT, Peer, Server, Whole, block_on, bound, call, errno_of, eventually, pair_with, rpc,
};

/// The values of `TCP_NODELAY` and keepalive: on or off, idle seconds, interval seconds, probes.
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
fn both_ends_have_nodelay_and_all_three_keepalive_values() {
    let server = Server::start(
        crate::support::builder().pollers(1),
        Whole(async |mut conn: Connection| {
            assert_eq!(options_of(&conn)?, (true, true, 60, 15, 4));
            conn.writer().put_str("options are right");
            Ok(())
        }),
    );
    let mut conn = block_on(Dialer::new().dial(server.addr)).unwrap();
    assert_eq!(options_of(&conn).unwrap(), (true, true, 60, 15, 4));
    assert_eq!(
        block_on(conn.reader().next(17)).unwrap(),
        b"options are right"
    );
}

/// The value of `TCP_USER_TIMEOUT` in seconds.
fn user_timeout(socket: impl AsFd) -> Option<u64> {
    let timeout = SockRef::from(&socket).tcp_user_timeout().expect("TCP");
    timeout.map(|timeout| timeout.as_secs())
}

fn probing(idle: u64, interval: u64, count: u32) -> ConnOptions {
    let (idle, interval) = (Duration::from_secs(idle), Duration::from_secs(interval));
    ConnOptions::for_dialing().keepalive(Keepalive::new(idle, interval, count))
}

#[test]
fn the_user_timeout_matches_the_keepalive_however_a_connection_is_made() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let report = move |conn: &Connection| sender.lock().unwrap().send(user_timeout(conn)).unwrap();
    let report = Arc::new(report);
    let served = |options: Option<ConnOptions>, own: Option<ConnOptions>| {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let early = Peer::connect(bound(&listener));
        let mut builder = crate::support::builder().pollers(1);
        if let Some(options) = options {
            builder = builder.options(options);
        }
        if let Some(own) = own {
            builder = builder.on_accept(move |_| Accept::Accept(own.clone()));
        }
        let report = Arc::clone(&report);
        let handler = whole!([report], |conn| {
            report(&conn);
            Ok(())
        });
        let server = Server::start_on(listener, builder, handler);
        let _late = server.connect();
        let found = [(); 2].map(|()| receiver.recv_timeout(LIMIT).unwrap());
        drop(early);
        assert_eq!(found[0], found[1]);
        found[0]
    };
    assert_eq!(served(None, None), Some(120));
    assert_eq!(served(Some(probing(1, 1, 2)), None), Some(3));
    assert_eq!(served(None, Some(probing(2, 1, 4))), Some(6));
    let explicit = probing(1, 1, 2).user_timeout(Duration::from_secs(7));
    assert_eq!(served(Some(explicit.clone()), None), Some(7));
    assert_eq!(served(None, Some(explicit)), Some(7));

    let host = Host::new();
    let dialed = |dialer: Dialer| block_on(dialer.dial(host.addr)).unwrap();
    assert_eq!(user_timeout(dialed(Dialer::new())), Some(120));
    let short = Dialer::new().options(probing(1, 2, 3));
    assert_eq!(user_timeout(dialed(short.clone())), Some(7));
    let stream = std::net::TcpStream::connect(host.addr.as_tcp().unwrap()).unwrap();
    let adopted = block_on(short.adopt(stream.into())).unwrap();
    assert_eq!(user_timeout(adopted), Some(7));
}

/// Makes the socket of `peer` drop every received packet.
fn lose_all(peer: &Peer) {
    // The filter keeps 0 bytes of each packet.
    let nothing = [SockFilter::new(0x06, 0, 0, 0)];
    peer.stream.attach_filter(&nothing).expect("an open socket");
}

#[test]
fn a_dead_peer_is_detected_by_lost_keepalive_probes() {
    let builder = crate::support::builder()
        .pollers(1)
        .options(probing(1, 1, 2));
    let server = Server::start(builder, rpc);
    let mut accepted = server.connect();
    accepted.call(b"alive");
    let (mut dialed, peer) = pair_with(&Dialer::new().options(probing(1, 1, 2)));
    let begun = Instant::now();
    lose_all(&accepted);
    lose_all(&peer);
    const TIMED_OUT: i32 = 110;
    assert_eq!(errno_of(&server.ending()), Some(TIMED_OUT));
    let error = block_on(dialed.reader().wait(1)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(TIMED_OUT));
    // After two lost probes, not one, and before the kernel's default of a minute.
    assert!(
        begun.elapsed() > Duration::from_millis(2500),
        "{:?}",
        begun.elapsed()
    );
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
}

#[test]
fn two_lost_probes_do_not_close_the_connection() {
    // The probes at 2 s and 4 s are lost. The peer answers the third.
    let options = || probing(2, 2, 4);
    let builder = crate::support::builder().pollers(1).options(options());
    let server = Server::start(builder, rpc);
    let mut accepted = server.connect();
    accepted.call(b"alive");
    lose_all(&accepted);
    std::thread::sleep(Duration::from_millis(4500));
    accepted.stream.detach_filter().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    accepted.call(b"still alive");
}

#[test]
fn connections_made_before_the_loop_is_built_get_the_options() {
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let early: Vec<Peer> = (0..70).map(|_| Peer::connect(bound(&listener))).collect();
    let builder = crate::support::builder().pollers(2);
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
fn a_hundred_dials_with_a_one_millisecond_timeout_connect_or_time_out() {
    let server = Server::rpc();
    let hasty = Dialer::new().connect_timeout(Duration::from_millis(1));
    for _ in 0..100 {
        match block_on(hasty.dial(server.addr)) {
            Ok(conn) => conn.close(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}"),
        }
    }
    eventually("the close of all connections", || {
        server.handle.connections() == 0
    });
    let mut conn = block_on(Dialer::new().dial(server.addr)).unwrap();
    block_on(call(&mut conn, b"in time")).unwrap();
}

#[test]
fn a_server_on_ipv6_is_dialed_with_and_without_a_zone() {
    let listener = Listener::bind("[::1]:0").unwrap();
    let Addr::Tcp(addr) = bound(&listener) else {
        panic!("a TCP address");
    };
    let server = Server::start_on(listener, crate::support::builder().pollers(1), rpc);
    // The first interface is the loopback.
    for zone in [0, 1] {
        let with = SocketAddrV6::new(Ipv6Addr::LOCALHOST, addr.port(), 0, zone);
        let mut conn = block_on(Dialer::new().dial(Addr::Tcp(with.into()))).unwrap();
        block_on(call(&mut conn, b"six")).unwrap();
    }
    assert_eq!(server.handle.accept_stats().accepted, 2);
}

#[test]
fn an_adopted_socket_with_a_closed_peer_returns_the_remaining_bytes() {
    use std::io::Write;
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"last").unwrap();
    drop(theirs);
    let mut conn = block_on(Connection::from_fd(ours.into())).unwrap();
    assert_eq!(block_on(conn.reader().next(4)).unwrap(), b"last");
    assert!(block_on(conn.reader().chunk()).unwrap().is_none());
}
