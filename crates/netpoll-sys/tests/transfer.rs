// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes move in order, as many as are there or fit, and the end of a stream and a reset are
//! reported as such.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netpoll_sys::{Epoll, Events, Interest, options, socket, transfer};

const LIMIT: Duration = Duration::from_secs(60);

fn await_readable(fd: impl AsFd) {
    let epoll = Epoll::new().expect("an epoll");
    epoll
        .add(fd.as_fd(), 0, Interest::READABLE)
        .expect("to watch");
    let mut events = Events::with_capacity(1);
    let count = epoll.wait(&mut events, Some(LIMIT)).expect("to wait");
    assert_eq!(count, 1, "not ready within the limit");
}

fn pair() -> (OwnedFd, OwnedFd) {
    socket::pair().expect("a pair")
}

#[test]
fn a_receive_of_nothing_would_block_even_on_a_blocking_socket() {
    let (ours, _theirs) = pair();
    let stream = std::os::unix::net::UnixStream::from(ours);
    stream.set_nonblocking(false).unwrap();
    let error = transfer::receive(stream.as_fd(), &mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_send_to_a_full_socket_would_block_even_on_a_blocking_one() {
    let (ours, _theirs) = pair();
    let stream = std::os::unix::net::UnixStream::from(ours);
    stream.set_nonblocking(false).unwrap();
    let bytes = vec![0; 1 << 20];
    for vectored in [false, true] {
        let mut sent = 0;
        let error = loop {
            let result = if vectored {
                transfer::send_vectored(stream.as_fd(), &[IoSlice::new(&bytes)])
            } else {
                transfer::send(stream.as_fd(), &bytes)
            };
            match result {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(sent > 0, !vectored, "the first filled it");
    }
}

#[test]
fn the_end_of_a_stream_is_zero_bytes_after_the_last_and_stays_so() {
    let (ours, theirs) = pair();
    transfer::send(theirs.as_fd(), b"last").unwrap();
    drop(theirs);
    let mut room = [0; 8];
    assert_eq!(transfer::receive(ours.as_fd(), &mut room).unwrap(), 4);
    for _ in 0..3 {
        assert_eq!(transfer::receive(ours.as_fd(), &mut room).unwrap(), 0);
    }
    let mut vectored = [IoSliceMut::new(&mut room)];
    let end = transfer::receive_vectored(ours.as_fd(), &mut vectored);
    assert_eq!(end.unwrap(), 0);
}

#[test]
fn a_receive_takes_at_most_its_buffer_length() {
    let (ours, theirs) = pair();
    transfer::send(theirs.as_fd(), b"abcdef").unwrap();
    let mut room = *b"........";
    assert_eq!(transfer::receive(ours.as_fd(), &mut room[..4]).unwrap(), 4);
    assert_eq!(&room, b"abcd....");
    assert_eq!(transfer::receive(ours.as_fd(), &mut room).unwrap(), 2);
    assert_eq!(&room, b"efcd....");
}

#[test]
fn receive_vectored_fills_the_slices_in_order() {
    let (ours, theirs) = pair();
    transfer::send(theirs.as_fd(), b"abcdefg").unwrap();
    let (mut one, mut none, mut two, mut three) = ([0; 2], [0; 0], [0; 3], *b"....");
    let mut room = [
        IoSliceMut::new(&mut one),
        IoSliceMut::new(&mut none),
        IoSliceMut::new(&mut two),
        IoSliceMut::new(&mut three),
    ];
    let count = transfer::receive_vectored(ours.as_fd(), &mut room).unwrap();
    assert_eq!(count, 7);
    assert_eq!((&one, &two, &three), (b"ab", b"cde", b"fg.."));
    let error = transfer::receive_vectored(ours.as_fd(), &mut [IoSliceMut::new(&mut one)]);
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn vectored_calls_use_at_most_64_slices() {
    let (ours, theirs) = pair();
    let bytes: Vec<u8> = (0..100).collect();
    let slices: Vec<IoSlice<'_>> = bytes.chunks(1).map(IoSlice::new).collect();
    let sent = transfer::send_vectored(ours.as_fd(), &slices).unwrap();
    assert_eq!((sent, transfer::MAX_SLICES), (64, 64));
    assert_eq!(
        transfer::send_vectored(ours.as_fd(), &slices[64..]).unwrap(),
        36
    );
    let mut room = [255; 100];
    let mut places: Vec<IoSliceMut<'_>> = room.chunks_mut(1).map(IoSliceMut::new).collect();
    let received = transfer::receive_vectored(theirs.as_fd(), &mut places).unwrap();
    assert_eq!(received, 64);
    assert_eq!(room[..64], bytes[..64]);
    assert_eq!(room[64..], [255; 36]);
    assert_eq!(transfer::receive(theirs.as_fd(), &mut room).unwrap(), 36);
    assert_eq!(room[..36], bytes[64..]);
}

#[test]
fn a_vectored_send_keeps_the_order_and_stops_where_the_socket_is_full() {
    let (ours, theirs) = pair();
    options::set_send_buffer(ours.as_fd(), 16 << 10).unwrap();
    let bytes: Vec<u8> = (0..1 << 20).map(|n| (n % 251) as u8).collect();
    let slices: Vec<IoSlice<'_>> = bytes.chunks(32 << 10).map(IoSlice::new).collect();
    let sent = transfer::send_vectored(ours.as_fd(), &slices).unwrap();
    assert!(0 < sent && sent < bytes.len());
    drop(ours);
    let mut stream = std::os::unix::net::UnixStream::from(theirs);
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert!(received == bytes[..sent]);
}

#[test]
fn a_send_to_a_closed_peer_is_a_broken_pipe_and_raises_no_signal() {
    let caught = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::clone(&caught)).unwrap();
    let (ours, theirs) = pair();
    drop(theirs);
    let error = transfer::send(ours.as_fd(), b"x").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    let error = transfer::send_vectored(ours.as_fd(), &[IoSlice::new(b"x")]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(!caught.load(Ordering::Relaxed));
    signal_hook::low_level::raise(signal_hook::consts::SIGPIPE).unwrap();
    assert!(caught.load(Ordering::Relaxed), "the handler is there");
}

#[test]
fn bytes_waiting_counts_and_consumes_nothing() {
    let (ours, theirs) = pair();
    assert_eq!(transfer::bytes_waiting(ours.as_fd()).unwrap(), 0);
    transfer::send(theirs.as_fd(), &[0; 300]).unwrap();
    assert_eq!(transfer::bytes_waiting(ours.as_fd()).unwrap(), 300);
    transfer::receive(ours.as_fd(), &mut [0; 100]).unwrap();
    assert_eq!(transfer::bytes_waiting(ours.as_fd()).unwrap(), 200);
    assert_eq!(transfer::bytes_waiting(theirs.as_fd()).unwrap(), 0);
}

#[test]
fn a_reset_is_reported_as_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    // A close with unread bytes is a reset: tcp(7).
    transfer::send(accepted.as_fd(), b"unread").unwrap();
    await_readable(&client);
    drop(client);
    await_readable(&accepted);
    let error = transfer::receive(accepted.as_fd(), &mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(error.raw_os_error(), Some(104));
}

#[test]
fn empty_sends_and_receives_return_zero() {
    let (ours, theirs) = pair();
    assert_eq!(transfer::send(ours.as_fd(), b"").unwrap(), 0);
    assert_eq!(transfer::send_vectored(ours.as_fd(), &[]).unwrap(), 0);
    assert_eq!(transfer::bytes_waiting(theirs.as_fd()).unwrap(), 0);
}
