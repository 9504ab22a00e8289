// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bell wakes whoever waits, once, however often and from wherever it was rung.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use netpoll_sys::{Epoll, EventFd, Events, Interest};
use rustix::io::FdFlags;

const LIMIT: Duration = Duration::from_secs(10);

/// Whether the bell is heard within `timeout`.
fn heard(bell: &EventFd, timeout: Duration) -> bool {
    let epoll = Epoll::new().expect("an epoll");
    epoll
        .add(bell.as_fd(), 0, Interest::READABLE)
        .expect("to watch");
    let mut events = Events::with_capacity(1);
    epoll.wait(&mut events, Some(timeout)).expect("to wait") == 1
}

#[test]
fn many_notifies_wake_once() {
    for rings in [1, 2, 1000] {
        let bell = EventFd::new().unwrap();
        assert!(!heard(&bell, Duration::ZERO));
        for _ in 0..rings {
            bell.notify().unwrap();
        }
        assert!(heard(&bell, LIMIT) && heard(&bell, LIMIT), "until cleared");
        bell.clear().unwrap();
        assert!(!heard(&bell, Duration::ZERO));
    }
}

#[test]
fn clear_without_a_notify_succeeds() {
    let bell = EventFd::new().unwrap();
    bell.clear().unwrap();
    bell.clear().unwrap();
    bell.notify().unwrap();
    assert!(heard(&bell, LIMIT));
}

#[test]
fn notify_on_a_full_counter_succeeds_and_wakes() {
    let bell = EventFd::new().unwrap();
    rustix::io::write(&bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    bell.notify().unwrap();
    assert!(heard(&bell, LIMIT));
    bell.clear().unwrap();
    assert!(!heard(&bell, Duration::ZERO));
}

#[test]
fn notify_wakes_a_waiting_thread() {
    let bell = Arc::new(EventFd::new().unwrap());
    let ringing = Arc::clone(&bell);
    let ringer = thread::spawn(move || ringing.notify());
    assert!(heard(&bell, LIMIT));
    ringer.join().unwrap().unwrap();
}

#[test]
fn a_notify_between_clear_and_wait_is_not_lost() {
    const RINGS: usize = 2000;
    let there = Arc::new(EventFd::new().unwrap());
    let back = Arc::new(EventFd::new().unwrap());
    let (theirs, answer) = (Arc::clone(&there), Arc::clone(&back));
    let other = thread::spawn(move || {
        for _ in 0..RINGS {
            assert!(heard(&theirs, LIMIT));
            theirs.clear().unwrap();
            answer.notify().unwrap();
        }
    });
    for _ in 0..RINGS {
        there.notify().unwrap();
        assert!(heard(&back, LIMIT));
        back.clear().unwrap();
    }
    other.join().unwrap();
}

#[test]
fn epoll_and_eventfd_descriptors_are_close_on_exec() {
    let (bell, epoll) = (EventFd::new().unwrap(), Epoll::new().unwrap());
    for fd in [bell.as_fd(), epoll.as_fd()] {
        assert!(
            rustix::io::fcntl_getfd(fd)
                .unwrap()
                .contains(FdFlags::CLOEXEC)
        );
    }
}
