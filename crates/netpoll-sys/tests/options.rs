// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each option has its effect, as the kernel reports it afterwards.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use netpoll_sys::options::{self, Keepalive};
use netpoll_sys::socket::{self, ListenOptions};
use netpoll_sys::{Epoll, Events, Interest, transfer};
use socket2::SockRef;

const LIMIT: Duration = Duration::from_secs(60);

fn tcp() -> OwnedFd {
    socket::stream_socket(any()).expect("a socket")
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn await_readable(fd: impl AsFd) {
    let epoll = Epoll::new().expect("an epoll");
    epoll
        .add(fd.as_fd(), 0, Interest::READABLE)
        .expect("to watch");
    let mut events = Events::with_capacity(1);
    let count = epoll.wait(&mut events, Some(LIMIT)).expect("to wait");
    assert_eq!(count, 1, "not ready within the limit");
}

#[test]
fn nodelay_is_read_as_it_was_set() {
    let fd = tcp();
    assert!(!options::nodelay(fd.as_fd()).unwrap());
    for on in [true, true, false] {
        options::set_nodelay(fd.as_fd(), on).unwrap();
        assert_eq!(options::nodelay(fd.as_fd()).unwrap(), on);
    }
    let (unix, _peer) = socket::pair().unwrap();
    assert!(options::set_nodelay(unix.as_fd(), true).is_err());
    assert!(options::nodelay(unix.as_fd()).is_err());
}

#[test]
fn all_three_keepalive_numbers_are_set() {
    let fd = tcp();
    let seconds = Duration::from_secs;
    for (given, idle, interval, count) in [
        (Keepalive::new(seconds(7), seconds(8), 9), 7, 8, 9),
        (Keepalive::default(), 60, 15, 4),
        (Keepalive::new(Duration::ZERO, Duration::ZERO, 0), 1, 1, 1),
        (
            Keepalive::new(Duration::from_millis(2900), seconds(1), 1),
            2,
            1,
            1,
        ),
    ] {
        options::set_keepalive(fd.as_fd(), given).unwrap();
        let there = SockRef::from(&fd);
        assert!(there.keepalive().unwrap());
        assert_eq!(there.tcp_keepalive_time().unwrap(), seconds(idle));
        assert_eq!(there.tcp_keepalive_interval().unwrap(), seconds(interval));
        assert_eq!(there.tcp_keepalive_retries().unwrap(), count);
        options::unset_keepalive(fd.as_fd()).unwrap();
        assert!(!there.keepalive().unwrap());
    }
}

#[test]
fn a_number_that_the_kernel_rejects_is_an_error() {
    let fd = tcp();
    let ages = Duration::from_secs(1 << 20);
    let error = options::set_keepalive(fd.as_fd(), Keepalive::new(ages, ages, 4)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn the_user_timeout_is_set_and_unset_and_a_short_one_stays_set() {
    let fd = tcp();
    let there = || SockRef::from(&fd).tcp_user_timeout().unwrap();
    let millis = Duration::from_millis;
    assert_eq!(there(), None);
    for (given, read) in [
        (Some(millis(1234)), Some(millis(1234))),
        (None, None),
        (Some(Duration::from_nanos(1)), Some(millis(1))),
        (Some(Duration::ZERO), Some(millis(1))),
        (Some(Duration::MAX), Some(millis(i32::MAX as u64))),
    ] {
        options::set_user_timeout(fd.as_fd(), given).unwrap();
        assert_eq!(there(), read, "{given:?}");
    }
}

#[test]
fn the_busy_poll_time_is_rounded_up_and_limited_to_an_int() {
    let (tcp, (unix, _peer)) = (tcp(), socket::pair().unwrap());
    for (given, read) in [
        (Duration::from_micros(50), 50),
        (Duration::ZERO, 0),
        (Duration::from_nanos(1), 1),
        (Duration::from_nanos(2001), 3),
        (Duration::MAX, i32::MAX as u32),
    ] {
        for fd in [&tcp, &unix] {
            let there = SockRef::from(fd).busy_poll().unwrap();
            match options::set_busy_poll(fd.as_fd(), given) {
                Ok(()) => assert_eq!(SockRef::from(fd).busy_poll().unwrap(), read, "{given:?}"),
                // Without the permission to raise it, lowering is allowed.
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                    assert!(there < read, "{given:?}");
                }
            }
        }
    }
}

#[test]
fn a_larger_requested_buffer_is_never_smaller() {
    let fd = tcp();
    let there = SockRef::from(&fd);
    let (mut sends, mut receives) = (0, 0);
    for bytes in [4096, 16 << 10, 64 << 10, 1 << 31, 1 << 32, usize::MAX] {
        options::set_send_buffer(fd.as_fd(), bytes).unwrap();
        options::set_receive_buffer(fd.as_fd(), bytes).unwrap();
        let (send, receive) = (
            there.send_buffer_size().unwrap(),
            there.recv_buffer_size().unwrap(),
        );
        assert!(send >= bytes.min(64 << 10) && receive >= bytes.min(64 << 10));
        assert!(send >= sends && receive >= receives, "{bytes}");
        (sends, receives) = (send, receive);
    }
}

#[test]
fn a_reset_on_close_reaches_the_peer() {
    let listener = socket::listen(any(), ListenOptions::default()).unwrap();
    let addr = socket::local_addr(&listener).unwrap().as_tcp().unwrap();
    let client = std::net::TcpStream::connect(addr).unwrap();
    await_readable(&listener);
    let (accepted, _) = socket::accept(listener.as_fd()).unwrap();
    options::set_reset_on_close(accepted.as_fd()).unwrap();
    transfer::send(accepted.as_fd(), b"lost").unwrap();
    drop(accepted);
    await_readable(&client);
    // Bytes that arrived before the reset may still be read.
    let mut room = [0; 8];
    let end = loop {
        match transfer::receive(client.as_fd(), &mut room) {
            Ok(4) => await_readable(&client),
            other => break other,
        }
    };
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn the_user_timeout_of_a_keepalive_outlasts_all_probes_but_the_last() {
    let seconds = Duration::from_secs;
    let of = |idle, interval, count| {
        Keepalive::new(seconds(idle), seconds(interval), count).user_timeout()
    };
    assert_eq!(Keepalive::default().user_timeout(), Some(seconds(120)));
    assert_eq!(of(1, 1, 2), Some(seconds(3)));
    assert_eq!(of(0, 0, 0), Some(seconds(2)), "as passed to the kernel");
    assert_eq!(
        of(300, 10, 3),
        Some(seconds(360)),
        "the last probe but one may be so late"
    );
    assert_eq!(of(7200, 75, 9), None);
    assert_eq!(of(u64::MAX, u64::MAX, u32::MAX), None);
    for (idle, interval, count) in [(1, 1, 3), (60, 15, 4), (10, 5, 3), (30, 30, 5), (120, 1, 9)] {
        let timeout = of(idle, interval, count).unwrap().as_secs();
        let before = idle + u64::from(count - 1) * interval;
        assert!(timeout >= before + before / 8, "{idle} {interval} {count}");
        assert!(timeout >= idle + u64::from(count) * interval);
    }
}
