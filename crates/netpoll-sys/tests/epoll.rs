// SPDX-License-Identifier: MIT OR Apache-2.0
//! The events that epoll reports for real sockets, how often, and under which token.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use netpoll_sys::{Epoll, EventFd, Events, Interest, Readiness, socket, transfer};
use rustix::io::DupFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

const LIMIT: Duration = Duration::from_secs(60);

/// Returns the events of one wait, of which there has to be one at least.
fn some(epoll: &Epoll) -> Vec<(u64, Readiness)> {
    let events = events(epoll, Some(LIMIT));
    assert!(!events.is_empty(), "no event within the limit");
    events
}

/// Returns the pending events.
fn now(epoll: &Epoll) -> Vec<(u64, Readiness)> {
    events(epoll, Some(Duration::ZERO))
}

fn events(epoll: &Epoll, timeout: Option<Duration>) -> Vec<(u64, Readiness)> {
    let mut events = Events::with_capacity(16);
    let count = epoll.wait(&mut events, timeout).expect("to wait");
    assert_eq!((count, count == 0), (events.len(), events.is_empty()));
    assert_eq!(events.get(count), None, "no event past the last");
    (0..count)
        .map(|index| events.get(index).expect("an event"))
        .collect()
}

/// Returns an epoll instance, our watched end of a pair, and the peer's end.
fn watched(token: u64, interest: Interest) -> (Epoll, OwnedFd, OwnedFd) {
    let epoll = Epoll::new().expect("an epoll");
    let (ours, theirs) = socket::pair().expect("a pair");
    epoll
        .add(ours.as_fd(), token, interest)
        .expect("to watch it");
    (epoll, ours, theirs)
}

#[test]
fn readiness_is_reported_until_all_is_read() {
    let (epoll, ours, theirs) = watched(7, Interest::READABLE);
    assert_eq!(now(&epoll), []);
    transfer::send(theirs.as_fd(), b"ab").unwrap();
    for _ in 0..3 {
        assert_eq!(some(&epoll), [(7, Readiness::READABLE)]);
    }
    transfer::receive(ours.as_fd(), &mut [0; 1]).unwrap();
    assert_eq!(some(&epoll), [(7, Readiness::READABLE)], "a byte is left");
    transfer::receive(ours.as_fd(), &mut [0; 1]).unwrap();
    assert_eq!(now(&epoll), []);
}

#[test]
fn only_registered_interest_is_reported() {
    let (epoll, ours, theirs) = watched(1, Interest::WRITABLE);
    transfer::send(theirs.as_fd(), b"x").unwrap();
    assert_eq!(some(&epoll), [(1, Readiness::WRITABLE)]);
    let both = Interest::READABLE.union(Interest::WRITABLE);
    epoll.modify(ours.as_fd(), 1, both).unwrap();
    let seen = Readiness::READABLE.union(Readiness::WRITABLE);
    assert_eq!(some(&epoll), [(1, seen)]);
}

#[test]
fn a_full_socket_is_writable_only_when_the_peer_has_read() {
    let (epoll, ours, theirs) = watched(1, Interest::WRITABLE);
    let bytes = vec![0; 1 << 20];
    while transfer::send(ours.as_fd(), &bytes).is_ok() {}
    assert_eq!(now(&epoll), []);
    let mut room = vec![0; 1 << 20];
    while transfer::receive(theirs.as_fd(), &mut room).is_ok() {}
    assert_eq!(some(&epoll), [(1, Readiness::WRITABLE)]);
}

#[test]
fn modify_replaces_the_interest_and_the_token() {
    let (epoll, ours, theirs) = watched(1, Interest::READABLE);
    transfer::send(theirs.as_fd(), b"x").unwrap();
    assert_eq!(some(&epoll), [(1, Readiness::READABLE)]);
    epoll
        .modify(ours.as_fd(), u64::MAX, Interest::WRITABLE)
        .unwrap();
    assert_eq!(some(&epoll), [(u64::MAX, Readiness::WRITABLE)]);
    epoll.modify(ours.as_fd(), 0, Interest::NONE).unwrap();
    assert_eq!(now(&epoll), []);
}

#[test]
fn a_hang_up_is_reported_without_interest() {
    let (epoll, _ours, theirs) = watched(3, Interest::NONE);
    transfer::send(theirs.as_fd(), b"unheard").unwrap();
    socket::shutdown(theirs.as_fd(), Shutdown::Write).unwrap();
    assert_eq!(now(&epoll), []);
    drop(theirs);
    assert_eq!(some(&epoll), [(3, Readiness::HANG_UP)]);
}

#[test]
fn the_end_of_the_peers_stream_is_readable_and_no_hang_up() {
    let (epoll, ours, theirs) = watched(3, Interest::READABLE);
    socket::shutdown(theirs.as_fd(), Shutdown::Write).unwrap();
    let ended = Readiness::READABLE.union(Readiness::READ_CLOSED_OR_PRIORITY);
    assert_eq!(some(&epoll), [(3, ended)]);
    assert_eq!(transfer::receive(ours.as_fd(), &mut [0; 8]).unwrap(), 0);
    drop(theirs);
    assert_eq!(some(&epoll), [(3, ended.union(Readiness::HANG_UP))]);
}

#[test]
fn edge_triggered_arrivals_are_reported_once_and_again_after_modify() {
    const EDGE: Interest = Interest::READABLE.union(Interest::EDGE);
    let (epoll, ours, theirs) = watched(3, EDGE);
    for byte in [b"x", b"y"] {
        transfer::send(theirs.as_fd(), byte).unwrap();
        assert_eq!(some(&epoll), [(3, Readiness::READABLE)]);
        assert_eq!(now(&epoll), []);
    }
    epoll.modify(ours.as_fd(), 4, EDGE).unwrap();
    assert_eq!(some(&epoll), [(4, Readiness::READABLE)]);
    assert_eq!(now(&epoll), []);
    let both = Interest::READABLE.union(Interest::WRITABLE);
    epoll
        .modify(ours.as_fd(), 4, both.union(Interest::EDGE))
        .unwrap();
    for _ in 0..2 {
        let seen = Readiness::READABLE.union(Readiness::WRITABLE);
        assert_eq!(
            some(&epoll),
            [(4, seen)],
            "with another interest events are level-triggered"
        );
    }
}

#[test]
fn a_read_of_a_unix_socket_stops_at_a_passed_descriptor() {
    let (epoll, ours, theirs) = watched(3, Interest::READABLE);
    send_with_descriptor(theirs.as_fd(), b"with it");
    transfer::send(theirs.as_fd(), b"behind").unwrap();
    assert_eq!(some(&epoll), [(3, Readiness::READABLE)]);
    let mut room = [0; 64];
    assert_eq!(transfer::receive(ours.as_fd(), &mut room).unwrap(), 7);
    assert_eq!(transfer::receive(ours.as_fd(), &mut room).unwrap(), 6);
}

/// Sends `bytes` with a descriptor.
fn send_with_descriptor(socket: BorrowedFd<'_>, bytes: &[u8]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [socket];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let bytes = [IoSlice::new(bytes)];
    sendmsg(socket, &bytes, &mut control, SendFlags::empty()).expect("an open socket");
}

#[test]
fn a_deleted_descriptor_is_not_reported_until_it_is_added_again() {
    let (epoll, ours, theirs) = watched(3, Interest::READABLE);
    transfer::send(theirs.as_fd(), b"x").unwrap();
    epoll.delete(ours.as_fd()).unwrap();
    assert_eq!(now(&epoll), []);
    epoll.add(ours.as_fd(), 4, Interest::READABLE).unwrap();
    assert_eq!(some(&epoll), [(4, Readiness::READABLE)]);
}

#[test]
fn a_closed_descriptor_is_forgotten_and_its_number_carries_the_new_token() {
    let (epoll, mut ours, theirs) = watched(1, Interest::READABLE);
    transfer::send(theirs.as_fd(), b"x").unwrap();
    assert_eq!(some(&epoll), [(1, Readiness::READABLE)]);
    // Closes the file behind the number and gives the number another one, in one step.
    let (another, peer) = socket::pair().unwrap();
    rustix::io::dup3(&another, &mut ours, DupFlags::CLOEXEC).unwrap();
    assert_eq!(now(&epoll), [], "a close deletes the registration");
    epoll.add(ours.as_fd(), 2, Interest::READABLE).unwrap();
    assert_eq!(now(&epoll), []);
    transfer::send(peer.as_fd(), b"x").unwrap();
    assert_eq!(some(&epoll), [(2, Readiness::READABLE)]);
}

#[test]
fn registration_errors_keep_their_errno() {
    let (epoll, ours, theirs) = watched(1, Interest::READABLE);
    let errno = |result: io::Result<()>| result.expect_err("an error").raw_os_error();
    let twice = epoll.add(ours.as_fd(), 2, Interest::READABLE);
    assert_eq!(errno(twice), Some(17), "EEXIST");
    let unknown = epoll.modify(theirs.as_fd(), 2, Interest::READABLE);
    assert_eq!(errno(unknown), Some(2), "ENOENT");
    assert_eq!(errno(epoll.delete(theirs.as_fd())), Some(2), "ENOENT");
    let directory = std::fs::File::open("/").unwrap();
    let cannot_be_polled = epoll.add(directory.as_fd(), 2, Interest::READABLE);
    assert_eq!(errno(cannot_be_polled), Some(1), "EPERM");
    transfer::send(theirs.as_fd(), b"x").unwrap();
    assert_eq!(some(&epoll), [(1, Readiness::READABLE)], "nothing changed");
}

#[test]
fn a_wait_without_events_lasts_at_least_its_timeout() {
    let (epoll, _ours, _theirs) = watched(1, Interest::READABLE);
    for micros in [1, 999, 1000, 1001, 1500, 20_000] {
        let timeout = Duration::from_micros(micros);
        let begin = Instant::now();
        assert_eq!(events(&epoll, Some(timeout)), []);
        assert!(begin.elapsed() >= timeout, "{micros} µs");
    }
}

#[test]
fn a_wait_without_a_timeout_ends_with_the_first_event() {
    for timeout in [
        None,
        Some(Duration::MAX),
        Some(Duration::from_secs(1 << 40)),
    ] {
        let (epoll, _ours, theirs) = watched(5, Interest::READABLE);
        let late = thread::spawn(move || {
            transfer::send(theirs.as_fd(), b"x").expect("to send");
            theirs
        });
        assert_eq!(events(&epoll, timeout), [(5, Readiness::READABLE)]);
        late.join().unwrap();
    }
}

#[test]
fn events_above_the_capacity_are_reported_by_the_next_wait() {
    let epoll = Epoll::new().unwrap();
    let notifiers: Vec<EventFd> = (0..5).map(|_| EventFd::new().unwrap()).collect();
    for (notifier, token) in notifiers.iter().zip(0..) {
        epoll
            .add(notifier.as_fd(), token, Interest::READABLE)
            .unwrap();
        notifier.notify().unwrap();
    }
    let mut seen = Vec::new();
    let mut room = Events::with_capacity(0);
    for _ in 0..5 {
        assert_eq!(epoll.wait(&mut room, Some(LIMIT)).unwrap(), 1);
        let (token, _) = room.get(0).unwrap();
        notifiers[token as usize].clear().unwrap();
        seen.push(token);
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[test]
fn a_wait_without_events_clears_the_previous_ones() {
    let (epoll, ours, theirs) = watched(5, Interest::READABLE);
    transfer::send(theirs.as_fd(), b"x").unwrap();
    let mut events = Events::with_capacity(4);
    epoll.wait(&mut events, Some(LIMIT)).unwrap();
    assert!(format!("{events:?}").contains('5'));
    epoll.delete(ours.as_fd()).unwrap();
    assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
    assert_eq!((events.len(), events.get(0)), (0, None));
    assert_eq!(format!("{events:?}"), "[]");
}

#[test]
fn a_failed_connect_is_a_hang_up() {
    // Bound, so that no other process takes the port, and not listening.
    let bound = socket::stream_socket(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let addr = socket::local_addr(&bound).unwrap();
    let fd = socket::stream_socket(addr).unwrap();
    if let Err(error) = socket::connect(fd.as_fd(), addr) {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
    let epoll = Epoll::new().unwrap();
    epoll.add(fd.as_fd(), 9, Interest::WRITABLE).unwrap();
    let (token, seen) = some(&epoll)[0];
    assert_eq!(token, 9);
    assert!(seen.is_hang_up() && seen.is_writable(), "{seen:?}");
}

#[test]
fn one_poller_watches_another() {
    let (inner, _ours, theirs) = watched(1, Interest::READABLE);
    let outer = Epoll::new().unwrap();
    outer.add(inner.as_fd(), 2, Interest::READABLE).unwrap();
    assert_eq!(now(&outer), []);
    transfer::send(theirs.as_fd(), b"x").unwrap();
    assert_eq!(some(&outer), [(2, Readiness::READABLE)]);
}
