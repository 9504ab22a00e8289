// SPDX-License-Identifier: MIT OR Apache-2.0
//! `peer_addr` matches the kernel's peer address, however the connection was made.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::channel;
use std::time::Duration;

use netpoll::addr::UnixAddr;
use netpoll::listener::{Accept, Ipv6Mode, ListenOptions};
use netpoll::pool::ConnPool;
use netpoll::{Addr, Connection, Dialer, Listener};

use crate::support::{Folder, LIMIT, Peer, Server, block_on, bound, call, rpc, says, unused_port};

const MAPPED: Ipv6Addr = Ipv4Addr::LOCALHOST.to_ipv6_mapped();

/// The dialed addresses and the peer addresses that they lead to.
const FORMS: [(IpAddr, IpAddr); 6] = [
    (
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(Ipv4Addr::LOCALHOST),
    ),
    (
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V4(Ipv4Addr::LOCALHOST),
    ),
    (
        IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ),
    (
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ),
    (IpAddr::V6(MAPPED), IpAddr::V6(MAPPED)),
    (
        IpAddr::V6(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped()),
        IpAddr::V6(MAPPED),
    ),
];

/// A listener for IPv4 and IPv6.
fn dual() -> Listener {
    let options = ListenOptions::default().ipv6(Ipv6Mode::DualStack);
    Listener::bind_with("[::]:0", options).expect("a dual-stack listener")
}

/// The result of `getpeername(2)`.
fn kernel_peer(conn: &Connection) -> Addr {
    let addr = socket2::SockRef::from(conn).peer_addr().expect("connected");
    Addr::Tcp(addr.as_socket().expect("an IP address"))
}

#[test]
fn peer_addr_matches_the_kernel_for_every_dialed_form_at_both_ends() {
    let (sender, receiver) = channel();
    let filter = sender.clone();
    let builder = crate::support::builder().pollers(1).on_accept(move |info| {
        filter.send(("info", info.peer_addr())).unwrap();
        Accept::Accept(info.options().clone())
    });
    let handler = handler!([sender], |conn| {
        sender.send(("conn", conn.peer_addr()))?;
        sender.send(("kernel", kernel_peer(conn)))?;
        rpc(conn).await
    });
    let server = Server::start_on(dual(), builder, handler);
    let port = server.addr.as_tcp().unwrap().port();
    let pool = ConnPool::new(Dialer::new());
    for (form, peer) in FORMS {
        let target = SocketAddr::new(form, port);
        let named = Dialer::new().resolver(says(&[target]));
        let dials: [&dyn Fn() -> Connection; 3] = [
            &|| block_on(Dialer::new().dial(target)).unwrap(),
            &|| block_on(named.dial("somewhere:1")).unwrap(),
            &|| block_on(pool.get(target.into())).unwrap().detach(),
        ];
        for dial in dials {
            let mut conn = dial();
            let expected = Addr::Tcp(SocketAddr::new(peer, port));
            assert_eq!(conn.peer_addr(), expected, "dialed {target}");
            assert_eq!(conn.peer_addr(), kernel_peer(&conn), "dialed {target}");
            let (reader, writer) = block_on(Dialer::new().dial(target)).unwrap().into_split();
            assert_eq!(
                (reader.peer_addr(), writer.peer_addr()),
                (expected, expected)
            );
            block_on(call(&mut conn, b"hello")).unwrap();
            let local = conn.local_addr().unwrap();
            let seen = |kind: &str| {
                let seen = std::iter::from_fn(|| receiver.recv_timeout(LIMIT).ok());
                seen.filter(|(of, _)| *of == kind).find(|(_, seen)| {
                    // A dual-stack listener reports IPv4 peers as IPv4-mapped IPv6 addresses.
                    seen.to_canonical() == local.to_canonical()
                        && matches!(seen, Addr::Tcp(SocketAddr::V6(_)))
                })
            };
            for kind in ["info", "conn", "kernel"] {
                assert!(seen(kind).is_some(), "{kind} of {local}");
            }
        }
    }
}

#[test]
fn peer_addr_of_an_adopted_socket_matches_the_kernel() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for form in ["0.0.0.0", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]"] {
        let addr: SocketAddr = format!("{form}:{port}").parse().unwrap();
        let conn = block_on(Connection::from_fd(
            TcpStream::connect(addr).unwrap().into(),
        ))
        .unwrap();
        assert_eq!(conn.peer_addr(), kernel_peer(&conn));
        let canonical: SocketAddr = ([127, 0, 0, 1], port).into();
        assert_eq!(conn.peer_addr().to_canonical(), canonical.into());
    }
}

#[test]
fn a_dial_that_connects_to_itself_is_refused_for_every_dialed_form() {
    for (form, peer) in FORMS {
        let any = match form {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        for (from, target) in [(any, form), (any, peer), (form, form), (peer, form)] {
            // A port without a listener, which the dialer binds too.
            let port = unused_port(peer);
            let dialer = Dialer::new().local_addr(SocketAddr::new(from, port));
            let error = block_on(dialer.dial(SocketAddr::new(target, port))).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::ConnectionRefused,
                "{from} {target}"
            );
        }
    }
}

#[test]
fn a_dial_with_a_zone_that_connects_to_itself_is_refused() {
    let port = unused_port(Ipv6Addr::LOCALHOST.into());
    let dialer = Dialer::new().local_addr(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port));
    let error = block_on(dialer.dial(format!("[::1%1]:{port}"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_dial_to_a_port_without_a_listener_never_connects_to_itself() {
    let dialer = Dialer::new().connect_timeout(Duration::from_secs(5));
    for _ in 0..200 {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        // Another test may use the port by now.
        if let Ok(conn) = block_on(dialer.dial(("0.0.0.0", port))) {
            assert_ne!(conn.local_addr().unwrap(), conn.peer_addr());
        }
    }
}

#[test]
fn peer_addr_of_a_unix_dial_is_the_path_the_server_is_bound_to() {
    let folder = Folder::new();
    let (path, link) = (folder.file("a.sock"), folder.file("link"));
    let _listener = UnixListener::bind(&path).unwrap();
    symlink(&path, &link).unwrap();
    let conn = block_on(Dialer::new().dial(UnixAddr::path(&link).unwrap())).unwrap();
    assert_eq!(conn.peer_addr(), UnixAddr::path(&path).unwrap().into());
}

#[test]
fn peer_addr_is_the_dialed_address_when_the_peer_resets_at_once() {
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let addr = bound(&listener);
    let accepting = TcpListener::from(listener.into_fd());
    accepting.set_nonblocking(false).unwrap();
    let resetting = std::thread::spawn(move || {
        for _ in 0..50 {
            let (stream, _) = accepting.accept().unwrap();
            Peer::of(stream.into()).reset();
        }
    });
    for _ in 0..50 {
        if let Ok(conn) = block_on(Dialer::new().dial(addr)) {
            assert_eq!(conn.peer_addr(), addr);
        }
    }
    resetting.join().unwrap();
}
