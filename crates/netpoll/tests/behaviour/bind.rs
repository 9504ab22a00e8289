// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dialing from a chosen local address.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use netpoll::addr::UnixAddr;
use netpoll::dialer::ToTarget;
use netpoll::{Addr, Dialer};

use crate::support::{
    Server, alone_twice, block_on, call, eventually, in_each_executor, invalid_option,
    open_descriptors, says, unused_addr,
};

fn from(addr: &str) -> Dialer {
    Dialer::new().local_addr(addr.parse().expect("an address"))
}

fn refused_field(dialer: &Dialer, target: impl ToTarget) -> &'static str {
    let error = block_on(dialer.dial(target)).expect_err("an error for this target");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    invalid_option(&error).expect("a reason").0
}

#[test]
fn a_dialed_connection_has_the_requested_local_address() {
    let server = Server::rpc();
    let target = server.addr;
    let locals = in_each_executor(move || async move {
        let mut conn = from("127.0.0.2:0").dial(target).await.unwrap();
        call(&mut conn, b"hello").await.unwrap();
        conn.local_addr().unwrap()
    });
    let ended = server.endings.iter().take(locals.len());
    let peers: Vec<Addr> = ended.map(|(peer, _)| peer).collect();
    for local in locals {
        assert!(peers.contains(&local), "{local} in {peers:?}");
        let local = local.as_tcp().unwrap();
        assert_eq!(local.ip(), Ipv4Addr::new(127, 0, 0, 2));
        assert_ne!(local.port(), 0);
    }
}

#[test]
fn a_target_of_another_family_than_local_addr_is_rejected_or_skipped() {
    let server = Server::rpc();
    let addr = server.addr.as_tcp().unwrap();
    let (four, six) = (from("127.0.0.1:0"), from("[::1]:0"));
    assert_eq!(refused_field(&six, addr), "local_addr");
    assert_eq!(refused_field(&four, "[::1]:1"), "local_addr");
    let path = UnixAddr::path("/nowhere").unwrap();
    assert_eq!(refused_field(&four, path), "local_addr");
    let other: SocketAddr = "[::1]:1".parse().unwrap();
    let named = six.resolver(says(&[addr]));
    assert_eq!(refused_field(&named, "somewhere:80"), "local_addr");
    let both = four.resolver(says(&[other, addr]));
    let conn = block_on(both.dial("somewhere:80")).unwrap();
    assert_eq!(conn.peer_addr(), server.addr);
}

#[test]
fn an_unavailable_local_address_fails_with_the_error_of_the_kernel() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let server = Server::rpc();
    let error = block_on(Dialer::new().local_addr(taken).dial(server.addr)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let error = block_on(from("203.0.113.1:0").dial(server.addr)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn one_local_port_connects_to_each_peer_once_and_is_reused_after_a_close() {
    let (one, other) = (Server::rpc(), Server::rpc());
    let dialer = Dialer::new().local_addr(unused_addr());
    let mut first = block_on(dialer.dial(one.addr)).unwrap();
    let mut second = block_on(dialer.dial(other.addr)).unwrap();
    assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
    block_on(call(&mut first, b"one")).unwrap();
    block_on(call(&mut second, b"other")).unwrap();
    let twice = block_on(dialer.dial(one.addr)).unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AddrNotAvailable);
    drop(second);
    other.ending();
    // The kernel remembers the ended connection, so the next one has a peer at another port.
    let third = Server::rpc();
    let mut again = block_on(dialer.dial(third.addr)).unwrap();
    block_on(call(&mut again, b"again")).unwrap();
}

#[test]
fn a_dial_that_connects_to_itself_is_refused() {
    alone_twice("bind::a_dial_that_connects_to_itself_is_refused", || {
        let dialed = in_each_executor(|| {
            // One port for each executor: a socket that was connected to itself may linger.
            let free = unused_addr();
            async move {
                let dialer = Dialer::new().local_addr(free);
                let error = dialer.dial(free).await.map(drop).unwrap_err();
                (free, error.kind(), error.raw_os_error())
            }
        });
        for (free, kind, errno) in dialed {
            assert_eq!(kind, ErrorKind::ConnectionRefused);
            assert_eq!(errno, None, "not an error of the kernel");
            // The port is free again.
            eventually("the port", || TcpListener::bind(free).is_ok());
        }
        assert!(open_descriptors() > 0);
    });
}
