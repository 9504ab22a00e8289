// SPDX-License-Identifier: MIT OR Apache-2.0
//! A notifier wakes a waiting thread once, for any number of notifications from any thread.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use netpoll_sys::{Epoll, EventFd, Events, Interest};
use rustix::io::FdFlags;

const LIMIT: Duration = Duration::from_secs(60);

/// Returns whether the notifier is readable within `timeout`.
fn is_notified(notifier: &EventFd, timeout: Duration) -> bool {
    let epoll = Epoll::new().expect("an epoll");
    epoll
        .add(notifier.as_fd(), 0, Interest::READABLE)
        .expect("to watch");
    let mut events = Events::with_capacity(1);
    epoll.wait(&mut events, Some(timeout)).expect("to wait") == 1
}

#[test]
fn many_notifies_wake_once() {
    for count in [1, 2, 1000] {
        let notifier = EventFd::new().unwrap();
        assert!(!is_notified(&notifier, Duration::ZERO));
        for _ in 0..count {
            notifier.notify().unwrap();
        }
        assert!(
            is_notified(&notifier, LIMIT) && is_notified(&notifier, LIMIT),
            "until cleared"
        );
        notifier.clear().unwrap();
        assert!(!is_notified(&notifier, Duration::ZERO));
    }
}

#[test]
fn clear_without_a_notify_succeeds() {
    let notifier = EventFd::new().unwrap();
    notifier.clear().unwrap();
    notifier.clear().unwrap();
    notifier.notify().unwrap();
    assert!(is_notified(&notifier, LIMIT));
}

#[test]
fn notify_on_a_full_counter_succeeds_and_wakes() {
    let notifier = EventFd::new().unwrap();
    rustix::io::write(&notifier, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    notifier.notify().unwrap();
    assert!(is_notified(&notifier, LIMIT));
    notifier.clear().unwrap();
    assert!(!is_notified(&notifier, Duration::ZERO));
}

#[test]
fn notify_wakes_a_waiting_thread() {
    let notifier = Arc::new(EventFd::new().unwrap());
    let clone = Arc::clone(&notifier);
    let sender = thread::spawn(move || clone.notify());
    assert!(is_notified(&notifier, LIMIT));
    sender.join().unwrap().unwrap();
}

#[test]
fn a_notify_between_clear_and_wait_is_not_lost() {
    const COUNT: usize = 2000;
    let there = Arc::new(EventFd::new().unwrap());
    let back = Arc::new(EventFd::new().unwrap());
    let (theirs, answer) = (Arc::clone(&there), Arc::clone(&back));
    let other = thread::spawn(move || {
        for _ in 0..COUNT {
            assert!(is_notified(&theirs, LIMIT));
            theirs.clear().unwrap();
            answer.notify().unwrap();
        }
    });
    for _ in 0..COUNT {
        there.notify().unwrap();
        assert!(is_notified(&back, LIMIT));
        back.clear().unwrap();
    }
    other.join().unwrap();
}

#[test]
fn epoll_and_eventfd_descriptors_are_close_on_exec() {
    let (notifier, epoll) = (EventFd::new().unwrap(), Epoll::new().unwrap());
    for fd in [notifier.as_fd(), epoll.as_fd()] {
        assert!(
            rustix::io::fcntl_getfd(fd)
                .unwrap()
                .contains(FdFlags::CLOEXEC)
        );
    }
}
