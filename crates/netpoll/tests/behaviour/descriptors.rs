// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sockets become connections, and connections sockets again. Neither direction loses a byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Mutex;
use std::sync::mpsc::channel;

use netpoll::buffer::LinkBuffer;
use netpoll::{Addr, CloseReason, Connection, Dialer, EventLoop};
use socket2::Socket;

use crate::support::{
    Gate, LIMIT, Peer, Server, block_on, bytes, call, eventually, invalid_option, pair, poll_once,
};

/// Returns the unread input and then the rest of the socket's stream.
fn all_of(mut unread: LinkBuffer, socket: &mut Socket) -> Vec<u8> {
    let mut all = unread.read_vec(unread.len()).expect("the unread input");
    socket.read_to_end(&mut all).expect("a stream that ends");
    all
}

/// Turns a descriptor from `into_fd` into a blocking socket.
fn blocking(fd: OwnedFd) -> Socket {
    let socket = Socket::from(fd);
    assert!(socket.nonblocking().expect("an open socket"));
    socket.set_nonblocking(false).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a socket");
    socket
}

#[test]
fn a_socket_of_any_origin_becomes_a_connection_that_sends_requests() {
    let server = Server::rpc();
    let stream = Peer::connect(server.addr).stream;
    stream.set_cloexec(false).unwrap();
    let descriptor = stream.as_raw_fd();
    let peer = stream.peer_addr().unwrap();
    let mut conn = block_on(Connection::from_fd(stream.into())).unwrap();
    assert_eq!(conn.peer_addr().as_tcp(), peer.as_socket());
    for size in [0, 10, 100_000] {
        block_on(call(&mut conn, &bytes(size, 7))).unwrap();
    }
    // The kernel shows the flags of a descriptor in octal.
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
    assert_eq!(flags & 0o4000, 0o4000, "non-blocking");
    assert_eq!(flags & 0o2_000_000, 0o2_000_000, "close-on-exec");
    drop(conn);
    assert!(matches!(server.ending(), CloseReason::PeerFin));
}

#[test]
fn a_descriptor_that_is_no_connected_stream_is_rejected() {
    let unconnected = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagram.connect("127.0.0.1:9").unwrap();
    let packets = Socket::pair(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None).unwrap();
    let refused: [OwnedFd; 6] = [
        unconnected.into(),
        listener.into(),
        datagram.into(),
        packets.0.into(),
        UnixDatagram::pair().unwrap().0.into(),
        std::fs::File::open("/dev/null").unwrap().into(),
    ];
    for fd in refused {
        let error = block_on(Connection::from_fd(fd)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(invalid_option(&error).unwrap().0, "fd");
    }
}

#[test]
fn an_adopted_connection_has_the_options_of_its_dialer() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let options = netpoll::options::ConnOptions::for_dialing().max_frame(10);
    let adopting = Dialer::new().options(options);
    let mut conn = block_on(adopting.adopt(ours.into())).unwrap();
    assert_eq!(conn.peer_addr(), Addr::Unnamed);
    theirs.write_all(b"0123456789A").unwrap();
    assert_eq!(block_on(conn.reader().next(10)).unwrap(), b"0123456789");
    let error = block_on(conn.reader().next(11)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

#[test]
fn a_dropped_adoption_closes_the_descriptor() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(LIMIT)).unwrap();
    let mut adopting = Box::pin(Connection::from_fd(ours.into()));
    // It may have completed already.
    drop(poll_once(adopting.as_mut()));
    drop(adopting);
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_connection_adopted_on_a_poller_belongs_to_its_loop() {
    let (moved, owned) = channel();
    let moved = Mutex::new(moved);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let ours = Mutex::new(Some(ours));
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_request(
        async move |conn: &mut Connection| {
            conn.reader().skip(1).await?;
            let fd = ours.lock().unwrap().take().expect("one request");
            let adopted = Connection::from_fd(fd.into()).await?;
            moved.lock().unwrap().send(adopted)?;
            Ok(())
        },
    ));
    let mut peer = server.connect();
    peer.send(b"?");
    let mut conn = owned.recv_timeout(LIMIT).unwrap();
    theirs.write_all(b"here").unwrap();
    assert_eq!(block_on(conn.reader().next(4)).unwrap(), b"here");
    drop(peer);
    assert_eq!(server.of_which_some_is_kept().shut_down(LIMIT), 0);
    let error = block_on(conn.reader().read_u8()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
}

#[test]
fn pair_returns_two_connections_to_each_other() {
    let (mut one, mut other) = block_on(Connection::pair()).unwrap();
    let big = bytes(1 << 20, 1);
    one.writer().put_slice(&big);
    assert!(block_on(other.reader().read_vec(1 << 20)).unwrap() == big);
    other.writer().put_str("back");
    block_on(other.writer().flush()).unwrap();
    assert_eq!(block_on(one.reader().next(4)).unwrap(), b"back");
    drop(one);
    assert!(block_on(other.reader().chunk()).unwrap().is_none());
}

#[test]
fn into_fd_during_a_stream_of_input_loses_no_byte() {
    let (taken, receiver) = channel();
    let taken = Mutex::new(taken);
    let server = Server::start_as_given(EventLoop::builder().pollers(1).on_connection(
        async move |mut conn: Connection| {
            let first = conn.reader().read_u32().await?;
            conn.reader().skip(first as usize).await?;
            let both = conn.into_fd().await?;
            taken.lock().unwrap().send(both)?;
            Ok(())
        },
    ));
    for first in [0, 1, 1000, 70_000, 500_000] {
        let mut peer = server.connect();
        let all = bytes(4 << 20, 11);
        let mut stream = u32::try_from(first).unwrap().to_be_bytes().to_vec();
        stream.extend_from_slice(&all);
        let ending = peer.stream.try_clone().unwrap();
        let sending = peer.send_aside(stream);
        let (fd, unread) = receiver.recv_timeout(LIMIT).unwrap();
        let mut socket = blocking(fd);
        let closing = std::thread::spawn(move || {
            sending.join().unwrap().unwrap();
            ending.shutdown(std::net::Shutdown::Write).unwrap();
        });
        assert!(
            all_of(unread, &mut socket) == all[first..],
            "after {first} bytes"
        );
        closing.join().unwrap();
        assert!(matches!(server.ending(), CloseReason::Local));
        // The connection has ended, and its socket is still open.
        socket.write_all(b"still here").unwrap();
        assert_eq!(peer.receive(10), b"still here");
    }
}

#[test]
fn into_fd_sends_the_output_and_returns_the_unread_input() {
    let (mut conn, mut peer) = pair();
    let (sender, receiver) = channel();
    conn.on_close(move |reason| sender.send(reason.to_string()).unwrap());
    peer.send(b"read, unread,");
    assert_eq!(block_on(conn.reader().next(5)).unwrap(), b"read,");
    block_on(conn.reader().wait(8)).unwrap();
    // More than the kernel buffers for a peer that does not read.
    let output = bytes(7 << 20, 2);
    conn.writer().put_slice(&output);
    let mut taking = Box::pin(conn.into_fd());
    assert!(poll_once(taking.as_mut()).is_pending());
    let receiving = std::thread::spawn(move || {
        let received = peer.receive(7 << 20);
        peer.send(b" late");
        peer.finish();
        (peer, received)
    });
    let (fd, unread) = block_on(taking).unwrap();
    let mut socket = blocking(fd);
    assert_eq!(all_of(unread, &mut socket), b" unread, late");
    let (mut peer, received) = receiving.join().unwrap();
    assert!(received == output);
    assert_eq!(
        receiver.recv_timeout(LIMIT).unwrap(),
        CloseReason::Local.to_string()
    );
    socket.write_all(b"on").unwrap();
    drop(socket);
    assert_eq!(peer.receive_all().unwrap(), b"on");
}

#[test]
fn a_socket_from_into_fd_becomes_a_connection_again() {
    let server = Server::rpc();
    let mut conn = block_on(Dialer::new().dial(server.addr)).unwrap();
    for round in 0..20 {
        block_on(call(&mut conn, &bytes(1000, round))).unwrap();
        let (fd, unread) = block_on(conn.into_fd()).unwrap();
        assert!(unread.is_empty());
        conn = block_on(Connection::from_fd(fd)).unwrap();
    }
    block_on(call(&mut conn, b"last")).unwrap();
}

#[test]
fn into_fd_returns_after_a_requested_fin_is_sent() {
    let (mut conn, mut peer) = pair();
    conn.writer().put_str("all");
    conn.writer().shutdown();
    let (fd, _) = block_on(conn.into_fd()).unwrap();
    assert_eq!(peer.receive_all().unwrap(), b"all");
    peer.send(b"answer");
    peer.finish();
    assert_eq!(all_of(LinkBuffer::new(), &mut blocking(fd)), b"answer");
}

#[test]
fn into_fd_of_an_aborted_connection_fails_with_the_reason() {
    let (conn, _peer) = pair();
    conn.abort();
    let error = block_on(conn.into_fd()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    // Unsent output delays `into_fd` until the connection ends.
    let (mut conn, peer) = pair();
    conn.writer().put_slice(&bytes(8 << 20, 1));
    let handle = conn.handle();
    let gate = Gate::default();
    let opening = gate.clone();
    let taking = std::thread::spawn(move || {
        let mut taking = Box::pin(conn.into_fd());
        assert!(poll_once(taking.as_mut()).is_pending());
        opening.open();
        block_on(taking).map(|_| ())
    });
    block_on(gate.pass());
    assert!(handle.push("too late".into()).is_err());
    handle.abort();
    let error = taking.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    drop(peer);
}

#[test]
fn a_close_from_another_thread_wakes_into_fd() {
    for _ in 0..200 {
        let (conn, peer) = pair();
        let handle = conn.handle();
        let closing = std::thread::spawn(move || handle.close());
        match block_on(conn.into_fd()) {
            Ok((fd, _)) => assert!(TcpStream::from(fd).write_all(b"ours").is_ok()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionAborted),
        }
        closing.join().unwrap();
        drop(peer);
    }
}

#[test]
fn a_dropped_into_fd_closes_the_connection() {
    let (mut conn, mut peer) = pair();
    // More than the kernel takes in one call.
    conn.writer().put_slice(&bytes(7 << 20, 1));
    let handle = conn.handle();
    let mut taking = Box::pin(conn.into_fd());
    assert!(poll_once(taking.as_mut()).is_pending());
    drop(taking);
    assert!(peer.receive_all().unwrap() == bytes(7 << 20, 1));
    drop(peer);
    eventually("the end", || handle.timeouts().is_none());
}
