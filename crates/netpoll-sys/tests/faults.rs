// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fault table reaches every call of the crate, and changes only its result.
//!
//! ```sh
//! RUSTFLAGS="--cfg netpoll_faults" cargo test -p netpoll-sys --test faults
//! ```
#![cfg(netpoll_faults)]

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use netpoll_sys::faults::{Errno, Fault, FaultGuard, FaultPlan, Syscall, Trigger};
use netpoll_sys::options::{self, Keepalive};
use netpoll_sys::socket::{self, ConnectStatus, Ipv6Mode, ListenOptions};
use netpoll_sys::{Addr, Epoll, EventFd, Events, Interest, UnixAddr, credentials, transfer};

/// The table belongs to the process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn plan(site: Syscall, when: Trigger, fault: Fault) -> FaultGuard {
    FaultPlan::new(when, move |called| (called == site).then_some(fault)).install()
}

/// Asserts that every call of `site` fails with an injected errno that the kernel returns for none
/// of them.
fn fails<T>(site: Syscall, call: impl FnOnce() -> io::Result<T>) {
    let installed = plan(site, Trigger::From(1), Fault::Errno(Errno::XFULL));
    let error = call().map(drop).expect_err("a fault");
    assert_eq!(error.raw_os_error(), Some(Errno::XFULL.raw_os_error()));
    assert_eq!(installed.injected(), 1, "{site:?}");
}

fn loopback() -> Addr {
    "127.0.0.1:0".parse().expect("an address")
}

#[test]
fn every_call_that_creates_a_descriptor_can_fail() {
    let _alone = alone();
    let name = UnixAddr::path(std::env::temp_dir().join("netpoll-sys-faults")).unwrap();
    let bind = |addr| socket::listen(addr, ListenOptions::default());
    fails(Syscall::EpollCreate, Epoll::new);
    fails(Syscall::EventFdCreate, EventFd::new);
    fails(Syscall::Socketpair, socket::pair);
    fails(Syscall::Socket, || socket::stream_socket(loopback()));
    fails(Syscall::Setsockopt, || bind(loopback()));
    fails(Syscall::Bind, || bind(loopback()));
    fails(Syscall::Listen, || bind(loopback()));
    fails(Syscall::Bind, || bind(name.into()));
    fails(Syscall::Fchmod, || bind(name.into()));
    let both = ListenOptions::default().ipv6(Ipv6Mode::DualStack);
    let anywhere = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let installed = plan(
        Syscall::Setsockopt,
        Trigger::Nth(2),
        Fault::Errno(Errno::INVAL),
    );
    socket::listen(anywhere, both).unwrap_err();
    assert_eq!(installed.injected(), 1);
}

#[test]
fn every_call_on_a_socket_can_fail() {
    let _alone = alone();
    let listener = socket::listen(loopback(), ListenOptions::default()).unwrap();
    let addr = socket::local_addr(&listener).unwrap();
    let fd = socket::stream_socket(addr).unwrap();
    let fd = fd.as_fd();
    fails(Syscall::Connect, || socket::connect(fd, addr));
    fails(Syscall::Accept, || socket::accept(listener.as_fd()));
    fails(Syscall::SocketError, || socket::take_error(fd));
    fails(Syscall::Getsockname, || socket::local_addr(fd));
    fails(Syscall::Getpeername, || socket::peer_addr(fd));
    fails(Syscall::Shutdown, || socket::shutdown(fd, Shutdown::Write));
    fails(Syscall::Fcntl, || socket::adopt(fd));
    fails(Syscall::Fionread, || transfer::bytes_waiting(fd));
    fails(Syscall::Getsockopt, || socket::is_listener(fd));
    fails(Syscall::Getsockopt, || options::nodelay(fd));
    fails(Syscall::Getsockopt, || credentials::peer_credentials(fd));
    fails(Syscall::Setsockopt, || options::set_nodelay(fd, true));
    let probes = Keepalive::default();
    fails(Syscall::Setsockopt, || options::set_keepalive(fd, probes));
    fails(Syscall::Setsockopt, || options::unset_keepalive(fd));
    fails(Syscall::Setsockopt, || options::set_user_timeout(fd, None));
    fails(Syscall::Setsockopt, || {
        options::set_busy_poll(fd, Duration::ZERO)
    });
    fails(Syscall::Setsockopt, || options::set_send_buffer(fd, 1));
    fails(Syscall::Setsockopt, || options::set_receive_buffer(fd, 1));
    fails(Syscall::Setsockopt, || options::set_reset_on_close(fd));
}

#[test]
fn every_call_that_moves_bytes_or_wakes_can_fail() {
    let _alone = alone();
    let (one, other) = socket::pair().unwrap();
    let (fd, peer) = (one.as_fd(), other.as_fd());
    let mut room = [0; 8];
    fails(Syscall::Send, || transfer::send(fd, b"x"));
    fails(Syscall::Sendmsg, || {
        transfer::send_vectored(fd, &[IoSlice::new(b"x")])
    });
    fails(Syscall::Recv, || transfer::receive(peer, &mut room));
    fails(Syscall::Readv, || {
        transfer::receive_vectored(peer, &mut [IoSliceMut::new(&mut room)])
    });
    let (epoll, notifier) = (Epoll::new().unwrap(), EventFd::new().unwrap());
    fails(Syscall::EpollAdd, || epoll.add(fd, 1, Interest::READABLE));
    fails(Syscall::EpollModify, || {
        epoll.modify(fd, 1, Interest::READABLE)
    });
    fails(Syscall::EpollDelete, || epoll.delete(fd));
    let mut events = Events::with_capacity(4);
    fails(Syscall::EpollWait, || epoll.wait(&mut events, None));
    fails(Syscall::EventFdWrite, || notifier.notify());
    fails(Syscall::EventFdRead, || notifier.clear());
}

#[test]
fn an_injected_interruption_is_retried_as_a_signal_is() {
    let _alone = alone();
    let (one, other) = socket::pair().unwrap();
    let every_second = FaultPlan::new(Trigger::Every(2), |_| Some(Fault::Errno(Errno::INTR)));
    let installed = every_second.install();
    for byte in 0..10 {
        assert_eq!(transfer::send(one.as_fd(), &[byte]).unwrap(), 1);
        let mut room = [0; 4];
        assert_eq!(transfer::receive(other.as_fd(), &mut room).unwrap(), 1);
        assert_eq!(room[0], byte);
    }
    assert_eq!(installed.injected(), 19);
}

#[test]
fn a_transfer_moves_at_most_the_injected_number_of_bytes() {
    let _alone = alone();
    let (one, other) = socket::pair().unwrap();
    let three = FaultPlan::new(Trigger::From(1), |_| Some(Fault::AtMost(3))).install();
    let slices = [
        IoSlice::new(b"ab"),
        IoSlice::new(b"cd"),
        IoSlice::new(b"ef"),
    ];
    assert_eq!(transfer::send_vectored(one.as_fd(), &slices).unwrap(), 3);
    assert_eq!(transfer::send(one.as_fd(), b"wxyz").unwrap(), 3);
    let (mut first, mut second) = ([0; 2], [0; 2]);
    let mut room = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    assert_eq!(
        transfer::receive_vectored(other.as_fd(), &mut room).unwrap(),
        3
    );
    assert_eq!((first, second), (*b"ab", *b"c\0"));
    let mut room = [0; 8];
    assert_eq!(transfer::receive(other.as_fd(), &mut room).unwrap(), 3);
    assert_eq!(&room[..3], b"wxy");
    drop(three);
    assert_eq!(transfer::send(one.as_fd(), b"wxyz").unwrap(), 4);
}

#[test]
fn a_wait_can_return_no_events_fewer_events_or_a_stale_one() {
    let _alone = alone();
    let (epoll, now) = (Epoll::new().unwrap(), Some(Duration::ZERO));
    let bells = [EventFd::new().unwrap(), EventFd::new().unwrap()];
    for (token, notifier) in (7..).zip(&bells) {
        epoll
            .add(notifier.as_fd(), token, Interest::READABLE)
            .unwrap();
        notifier.notify().unwrap();
    }
    let mut events = Events::with_capacity(4);
    let mut answers = [Fault::Stale, Fault::AtMost(0), Fault::AtMost(1)].into_iter();
    let installed = FaultPlan::new(Trigger::From(1), move |_| answers.next()).install();
    assert_eq!(
        epoll.wait(&mut events, now).unwrap(),
        0,
        "no event was stored before"
    );
    assert_eq!(epoll.wait(&mut events, now).unwrap(), 0);
    assert_eq!(epoll.wait(&mut events, now).unwrap(), 1);
    drop(installed);
    assert_eq!(epoll.wait(&mut events, now).unwrap(), 2);
    let seen = events.get(0);
    bells.iter().for_each(|notifier| notifier.clear().unwrap());
    let installed = plan(Syscall::EpollWait, Trigger::From(1), Fault::Stale);
    assert_eq!(epoll.wait(&mut events, now).unwrap(), 1);
    assert_eq!((events.get(0), installed.injected()), (seen, 1));
}

#[test]
fn an_errno_that_states_success_performs_the_call() {
    let _alone = alone();
    let listener = socket::listen(loopback(), ListenOptions::default()).unwrap();
    let addr = socket::local_addr(&listener).unwrap();
    let fd = socket::stream_socket(addr).unwrap();
    let interrupted = plan(
        Syscall::Connect,
        Trigger::From(1),
        Fault::Errno(Errno::INTR),
    );
    let how = socket::connect(fd.as_fd(), addr).unwrap();
    assert_eq!(
        (how, interrupted.injected()),
        (ConnectStatus::InProgress, 1)
    );
    assert!(socket::peer_addr(&fd).is_ok());
    let (epoll, notifier) = (Epoll::new().unwrap(), EventFd::new().unwrap());
    let watched = plan(
        Syscall::EpollAdd,
        Trigger::From(1),
        Fault::Errno(Errno::EXIST),
    );
    epoll
        .add(notifier.as_fd(), 1, Interest::READABLE)
        .expect_err("EEXIST");
    drop(watched);
    let _full = plan(
        Syscall::EventFdWrite,
        Trigger::From(1),
        Fault::Errno(Errno::AGAIN),
    );
    notifier.notify().unwrap();
    let mut events = Events::with_capacity(1);
    assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 1);
}
