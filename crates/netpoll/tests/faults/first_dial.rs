// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pollers that all dials of a process share start with the first dial, which may fail. Each
//! test runs in a process of its own.

use netpoll::{Dialer, Listener};
use netpoll_sys::faults::{Errno, Fault, Syscall, Trigger};

use crate::cells::Strike;
use crate::support::{alone, block_on, bound, open_descriptors};

/// Checks that the first dial of the process returns the error `errno` of `site` and leaks nothing,
/// and that the second succeeds.
fn fails_once(site: Syscall, errno: Errno) {
    let listener = Listener::bind("127.0.0.1:0").expect("a free port");
    let before = open_descriptors();
    let dial = || block_on(Dialer::new().dial(bound(&listener)));
    let strike = Strike {
        site,
        fault: Fault::Errno(errno),
        when: Trigger::Nth(1),
    };
    let installed = strike.install();
    let error = dial().map(drop).expect_err("a fault");
    assert_eq!(error.raw_os_error(), Some(errno.raw_os_error()));
    assert_eq!(installed.injected(), 1);
    assert_eq!(open_descriptors(), before);
    drop(dial().expect("a server"));
}

#[test]
fn second_dial_succeeds_after_the_first_got_no_poller_descriptor() {
    let name = "first_dial::second_dial_succeeds_after_the_first_got_no_poller_descriptor";
    alone(name, || fails_once(Syscall::EpollCreate, Errno::MFILE));
}

#[test]
fn second_dial_succeeds_after_the_first_got_no_notifier_descriptor() {
    let name = "first_dial::second_dial_succeeds_after_the_first_got_no_notifier_descriptor";
    alone(name, || fails_once(Syscall::EventFdCreate, Errno::NFILE));
}

#[test]
fn second_dial_succeeds_after_the_first_poller_could_not_watch_its_notifier() {
    let name =
        "first_dial::second_dial_succeeds_after_the_first_poller_could_not_watch_its_notifier";
    alone(name, || fails_once(Syscall::EpollAdd, Errno::NOSPC));
}
