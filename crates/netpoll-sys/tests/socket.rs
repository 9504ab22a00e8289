// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sockets are created with the right flags, and failures keep the kernel's errno.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use netpoll_sys::socket::{self, ConnectStatus, Ipv6Mode, ListenOptions};
use netpoll_sys::{Addr, Epoll, Events, Interest, transfer};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_getfd};

const LIMIT: Duration = Duration::from_secs(60);
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const LOOPBACK_6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

fn listen(addr: SocketAddr) -> (OwnedFd, SocketAddr) {
    let listener = socket::listen(addr, ListenOptions::default()).expect("a listener");
    let addr = addr_of(&listener);
    (listener, addr)
}

fn addr_of(fd: &OwnedFd) -> SocketAddr {
    let addr = socket::local_addr(fd).expect("an address");
    addr.as_tcp().expect("an internet address")
}

fn await_ready(fd: BorrowedFd<'_>, interest: Interest) {
    let epoll = Epoll::new().expect("an epoll");
    epoll.add(fd, 0, interest).expect("to watch");
    let mut events = Events::with_capacity(1);
    let count = epoll.wait(&mut events, Some(LIMIT)).expect("to wait");
    assert_eq!(count, 1, "not ready within the limit");
}

fn accept(listener: &OwnedFd) -> (OwnedFd, Addr) {
    await_ready(listener.as_fd(), Interest::READABLE);
    socket::accept(listener.as_fd()).expect("a connection")
}

/// Returns two ends of a TCP connection: the one that connected, and the one that was accepted.
fn connection() -> (OwnedFd, OwnedFd) {
    let (listener, addr) = listen(LOOPBACK);
    let fd = socket::stream_socket(addr).expect("a socket");
    socket::connect(fd.as_fd(), addr).expect("to start");
    let (accepted, _) = accept(&listener);
    await_ready(fd.as_fd(), Interest::WRITABLE);
    (fd, accepted)
}

#[test]
fn every_socket_is_created_non_blocking_and_close_on_exec() {
    let (listener, addr) = listen(LOOPBACK);
    let client = TcpStream::connect(addr).unwrap();
    let (accepted, _) = accept(&listener);
    let (one, two) = socket::pair().unwrap();
    let (fresh, fresh_6) = (
        socket::stream_socket(LOOPBACK).unwrap(),
        socket::stream_socket(LOOPBACK_6),
    );
    for fd in [listener, accepted, one, two, fresh]
        .into_iter()
        .chain(fresh_6)
    {
        assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
        assert!(fcntl_getfl(&fd).unwrap().contains(OFlags::NONBLOCK));
    }
    drop(client);
}

#[test]
fn port_zero_is_resolved_to_the_port_that_takes_connections() {
    let (listener, addr) = listen(LOOPBACK);
    assert_ne!(addr.port(), 0);
    assert_eq!(addr.ip(), LOOPBACK.ip());
    let client = TcpStream::connect(addr).unwrap();
    let (accepted, peer) = accept(&listener);
    let client_addr = Addr::Tcp(client.local_addr().unwrap());
    assert_eq!(peer, client_addr);
    assert_eq!(socket::peer_addr(&accepted).unwrap(), client_addr);
    assert_eq!(socket::local_addr(&accepted).unwrap(), Addr::Tcp(addr));
    assert_eq!(socket::local_addr(&client).unwrap(), client_addr);
}

#[test]
fn accept_of_an_empty_queue_would_block() {
    let (listener, addr) = listen(LOOPBACK);
    let refused = |listener: &OwnedFd| socket::accept(listener.as_fd()).unwrap_err().kind();
    assert_eq!(refused(&listener), io::ErrorKind::WouldBlock);
    let _client = TcpStream::connect(addr).unwrap();
    accept(&listener);
    assert_eq!(refused(&listener), io::ErrorKind::WouldBlock);
}

#[test]
fn a_connect_completes_and_both_ends_exchange_bytes() {
    let (client, accepted) = connection();
    assert!(socket::take_error(client.as_fd()).unwrap().is_none());
    transfer::send(client.as_fd(), b"hello").unwrap();
    await_ready(accepted.as_fd(), Interest::READABLE);
    let mut room = [0; 8];
    assert_eq!(transfer::receive(accepted.as_fd(), &mut room).unwrap(), 5);
    assert_eq!(&room[..5], b"hello");
}

#[test]
fn a_connect_of_a_connected_socket_is_connected() {
    let (client, _accepted) = connection();
    let addr = socket::peer_addr(&client).unwrap();
    // The first result after an asynchronous connect only states that it has completed.
    socket::connect(client.as_fd(), addr).unwrap();
    assert_eq!(
        socket::connect(client.as_fd(), addr).unwrap(),
        ConnectStatus::Connected
    );
}

#[test]
fn a_refused_connect_keeps_its_errno() {
    // Bound, so that no other process takes the port, and not listening.
    let bound = socket::stream_socket(LOOPBACK).unwrap();
    rustix::net::bind(&bound, &LOOPBACK).unwrap();
    let addr = addr_of(&bound);
    let fd = socket::stream_socket(addr).unwrap();
    let error = match socket::connect(fd.as_fd(), addr) {
        Err(error) => error,
        Ok(how) => {
            assert_eq!(how, ConnectStatus::InProgress);
            await_ready(fd.as_fd(), Interest::WRITABLE);
            socket::take_error(fd.as_fd()).unwrap().unwrap()
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(error.raw_os_error(), Some(111));
    let taken = socket::take_error(fd.as_fd()).unwrap();
    assert!(taken.is_none(), "take_error clears the error");
}

#[test]
fn connect_reports_an_immediate_error() {
    let fd = socket::stream_socket(LOOPBACK).unwrap();
    let error = socket::connect(fd.as_fd(), LOOPBACK_6).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(97), "EAFNOSUPPORT");
    let elsewhere: Addr = "192.0.2.1:0".parse().unwrap();
    let error = socket::listen(elsewhere, ListenOptions::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    let error = socket::peer_addr(&fd).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
}

#[test]
fn a_taken_port_is_in_use() {
    let (_listener, addr) = listen(LOOPBACK);
    let error = socket::listen(addr, ListenOptions::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn reuse_port_lets_several_listeners_share_a_port() {
    let shared = ListenOptions::default().reuse_port(true);
    let first = socket::listen(LOOPBACK, shared).unwrap();
    let addr = addr_of(&first);
    let second = socket::listen(addr, shared).unwrap();
    assert_eq!(addr_of(&second), addr);
    let error = socket::listen(addr, ListenOptions::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_port_can_be_rebound_at_once() {
    let (listener, addr) = listen(LOOPBACK);
    let client = TcpStream::connect(addr).unwrap();
    // The end that closes first keeps the port in TIME_WAIT.
    let (accepted, _) = accept(&listener);
    drop((accepted, listener));
    await_ready(client.as_fd(), Interest::READABLE);
    drop(client);
    socket::listen(addr, ListenOptions::default()).unwrap();
}

#[test]
fn an_ipv6_listener_accepts_ipv4_as_configured() {
    let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    for (family, only) in [(Ipv6Mode::V6Only, true), (Ipv6Mode::DualStack, false)] {
        let options = ListenOptions::default().ipv6(family);
        let Ok(listener) = socket::listen(any, options) else {
            return; // The machine has no IPv6.
        };
        assert_eq!(socket2::SockRef::from(&listener).only_v6().unwrap(), only);
        let port = addr_of(&listener).port();
        let through_4 = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        assert_eq!(through_4.is_err(), only);
        if let Ok(client) = through_4 {
            let (_, peer) = accept(&listener);
            let peer = peer.as_tcp().unwrap();
            assert_eq!(peer.port(), client.local_addr().unwrap().port());
            assert_eq!(peer.ip().to_canonical(), Ipv4Addr::LOCALHOST);
        }
        socket::listen(LOOPBACK, options).expect("ignored for IPv4");
    }
}

#[test]
fn a_pair_exchanges_bytes_both_ways() {
    let (one, two) = socket::pair().unwrap();
    for (from, to) in [(&one, &two), (&two, &one)] {
        transfer::send(from.as_fd(), b"hello").unwrap();
        let mut room = [0; 8];
        assert_eq!(transfer::receive(to.as_fd(), &mut room).unwrap(), 5);
    }
    assert_eq!(socket::local_addr(&one).unwrap(), Addr::Unnamed);
}

#[test]
fn a_shutdown_may_be_repeated_and_may_follow_the_end() {
    let (client, accepted) = connection();
    for how in [Shutdown::Write, Shutdown::Read, Shutdown::Both] {
        socket::shutdown(client.as_fd(), how).unwrap();
        socket::shutdown(client.as_fd(), how).unwrap();
    }
    drop(client);
    await_ready(accepted.as_fd(), Interest::READABLE);
    socket::shutdown(accepted.as_fd(), Shutdown::Both).unwrap();
    let fresh = socket::stream_socket(LOOPBACK).unwrap();
    socket::shutdown(fresh.as_fd(), Shutdown::Both).unwrap();
    let not_a_socket = std::fs::File::open("/").unwrap();
    let error = socket::shutdown(not_a_socket.as_fd(), Shutdown::Both).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(88), "ENOTSOCK");
}

#[test]
fn a_half_close_leaves_the_other_half_open() {
    let (client, accepted) = connection();
    socket::shutdown(client.as_fd(), Shutdown::Write).unwrap();
    await_ready(accepted.as_fd(), Interest::READABLE);
    let mut room = [0; 8];
    assert_eq!(transfer::receive(accepted.as_fd(), &mut room).unwrap(), 0);
    transfer::send(accepted.as_fd(), b"answer").unwrap();
    await_ready(client.as_fd(), Interest::READABLE);
    assert_eq!(transfer::receive(client.as_fd(), &mut room).unwrap(), 6);
    let error = transfer::send(client.as_fd(), b"x").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
