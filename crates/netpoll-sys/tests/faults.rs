// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of faults reaches every call of the crate, and changes nothing but its outcome.
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

use netpoll_sys::faults::{Errno, Fault, Installed, Plan, Site, When};
use netpoll_sys::options::{self, Keepalive};
use netpoll_sys::socket::{self, Connect, Ipv6Listen, ListenOptions};
use netpoll_sys::{Addr, Epoll, EventFd, Events, Interest, UnixAddr, credentials, transfer};

/// The table is the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn plan(site: Site, when: When, fault: Fault) -> Installed {
    Plan::new(when, move |called| (called == site).then_some(fault)).install()
}

/// Every call of `site` fails with an errno that the kernel has for none of them.
fn fails<T>(site: Site, call: impl FnOnce() -> io::Result<T>) {
    let installed = plan(site, When::From(1), Fault::Errno(Errno::XFULL));
    let error = call().map(drop).expect_err("a fault");
    assert_eq!(error.raw_os_error(), Some(Errno::XFULL.raw_os_error()));
    assert_eq!(installed.struck(), 1, "{site:?}");
}

fn loopback() -> Addr {
    "127.0.0.1:0".parse().expect("an address")
}

#[test]
fn whatever_comes_into_being_can_fail() {
    let _alone = alone();
    let name = UnixAddr::path(std::env::temp_dir().join("netpoll-sys-faults")).unwrap();
    let bind = |addr| socket::listen(addr, ListenOptions::default());
    fails(Site::EpollCreate, Epoll::new);
    fails(Site::EventFdCreate, EventFd::new);
    fails(Site::Socketpair, socket::pair);
    fails(Site::Socket, || socket::stream_socket(loopback()));
    fails(Site::Setsockopt, || bind(loopback()));
    fails(Site::Bind, || bind(loopback()));
    fails(Site::Listen, || bind(loopback()));
    fails(Site::Bind, || bind(name.into()));
    fails(Site::Fchmod, || bind(name.into()));
    let mut both = ListenOptions::default();
    both.family = Ipv6Listen::Dual;
    let anywhere = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let installed = plan(Site::Setsockopt, When::Nth(2), Fault::Errno(Errno::INVAL));
    socket::listen(anywhere, both).unwrap_err();
    assert_eq!(installed.struck(), 1);
}

#[test]
fn whatever_is_done_with_a_socket_can_fail() {
    let _alone = alone();
    let listener = socket::listen(loopback(), ListenOptions::default()).unwrap();
    let addr = socket::local_addr(&listener).unwrap();
    let fd = socket::stream_socket(addr).unwrap();
    let fd = fd.as_fd();
    fails(Site::Connect, || socket::connect(fd, addr));
    fails(Site::Accept, || socket::accept(listener.as_fd()));
    fails(Site::SocketError, || socket::take_error(fd));
    fails(Site::Getsockname, || socket::local_addr(fd));
    fails(Site::Getpeername, || socket::peer_addr(fd));
    fails(Site::Shutdown, || socket::shutdown(fd, Shutdown::Write));
    fails(Site::Fcntl, || socket::adopt(fd));
    fails(Site::Fionread, || transfer::bytes_waiting(fd));
    fails(Site::Getsockopt, || socket::is_listener(fd));
    fails(Site::Getsockopt, || options::nodelay(fd));
    fails(Site::Getsockopt, || credentials::peer_credentials(fd));
    fails(Site::Setsockopt, || options::set_nodelay(fd, true));
    let probes = Keepalive::default();
    fails(Site::Setsockopt, || options::set_keepalive(fd, probes));
    fails(Site::Setsockopt, || options::unset_keepalive(fd));
    fails(Site::Setsockopt, || options::set_user_timeout(fd, None));
    fails(Site::Setsockopt, || {
        options::set_busy_poll(fd, Duration::ZERO)
    });
    fails(Site::Setsockopt, || options::set_send_buffer(fd, 1));
    fails(Site::Setsockopt, || options::set_receive_buffer(fd, 1));
    fails(Site::Setsockopt, || options::set_reset_on_close(fd));
}

#[test]
fn whatever_moves_bytes_or_wakes_can_fail() {
    let _alone = alone();
    let (one, other) = socket::pair().unwrap();
    let (fd, peer) = (one.as_fd(), other.as_fd());
    let mut room = [0; 8];
    fails(Site::Send, || transfer::send(fd, b"x"));
    fails(Site::Sendmsg, || {
        transfer::send_vectored(fd, &[IoSlice::new(b"x")])
    });
    fails(Site::Recv, || transfer::receive(peer, &mut room));
    fails(Site::Readv, || {
        transfer::receive_vectored(peer, &mut [IoSliceMut::new(&mut room)])
    });
    let (epoll, bell) = (Epoll::new().unwrap(), EventFd::new().unwrap());
    fails(Site::EpollAdd, || epoll.add(fd, 1, Interest::READABLE));
    fails(Site::EpollModify, || {
        epoll.modify(fd, 1, Interest::READABLE)
    });
    fails(Site::EpollDelete, || epoll.delete(fd));
    let mut events = Events::with_capacity(4);
    fails(Site::EpollWait, || epoll.wait(&mut events, None));
    fails(Site::EventFdWrite, || bell.ring());
    fails(Site::EventFdRead, || bell.clear());
}

#[test]
fn an_injected_interruption_is_met_by_the_loop_that_meets_signals() {
    let _alone = alone();
    let (one, other) = socket::pair().unwrap();
    let every_second = Plan::new(When::Every(2), |_| Some(Fault::Errno(Errno::INTR)));
    let installed = every_second.install();
    for byte in 0..10 {
        assert_eq!(transfer::send(one.as_fd(), &[byte]).unwrap(), 1);
        let mut room = [0; 4];
        assert_eq!(transfer::receive(other.as_fd(), &mut room).unwrap(), 1);
        assert_eq!(room[0], byte);
    }
    assert_eq!(installed.struck(), 19);
}

#[test]
fn a_transfer_moves_no_more_than_it_may() {
    let _alone = alone();
    let (one, other) = socket::pair().unwrap();
    let three = Plan::new(When::From(1), |_| Some(Fault::AtMost(3))).install();
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
fn a_wait_brings_nothing_few_or_what_is_over() {
    let _alone = alone();
    let (epoll, now) = (Epoll::new().unwrap(), Some(Duration::ZERO));
    let bells = [EventFd::new().unwrap(), EventFd::new().unwrap()];
    for (token, bell) in (7..).zip(&bells) {
        epoll.add(bell.as_fd(), token, Interest::READABLE).unwrap();
        bell.ring().unwrap();
    }
    let mut events = Events::with_capacity(4);
    let mut answers = [Fault::Stale, Fault::AtMost(0), Fault::AtMost(1)].into_iter();
    let installed = Plan::new(When::From(1), move |_| answers.next()).install();
    assert_eq!(epoll.wait(&mut events, now).unwrap(), 0, "none was before");
    assert_eq!(epoll.wait(&mut events, now).unwrap(), 0);
    assert_eq!(epoll.wait(&mut events, now).unwrap(), 1);
    drop(installed);
    assert_eq!(epoll.wait(&mut events, now).unwrap(), 2);
    let seen = events.get(0);
    bells.iter().for_each(|bell| bell.clear().unwrap());
    let installed = plan(Site::EpollWait, When::From(1), Fault::Stale);
    assert_eq!(epoll.wait(&mut events, now).unwrap(), 1);
    assert_eq!((events.get(0), installed.struck()), (seen, 1));
}

#[test]
fn what_an_errno_says_has_been_done_is_done() {
    let _alone = alone();
    let listener = socket::listen(loopback(), ListenOptions::default()).unwrap();
    let addr = socket::local_addr(&listener).unwrap();
    let fd = socket::stream_socket(addr).unwrap();
    let interrupted = plan(Site::Connect, When::From(1), Fault::Errno(Errno::INTR));
    let how = socket::connect(fd.as_fd(), addr).unwrap();
    assert_eq!((how, interrupted.struck()), (Connect::UnderWay, 1));
    assert!(socket::peer_addr(&fd).is_ok());
    let (epoll, bell) = (Epoll::new().unwrap(), EventFd::new().unwrap());
    let watched = plan(Site::EpollAdd, When::From(1), Fault::Errno(Errno::EXIST));
    epoll
        .add(bell.as_fd(), 1, Interest::READABLE)
        .expect_err("it is watched");
    drop(watched);
    let _full = plan(
        Site::EventFdWrite,
        When::From(1),
        Fault::Errno(Errno::AGAIN),
    );
    bell.ring().unwrap();
    let mut events = Events::with_capacity(1);
    assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 1);
}
