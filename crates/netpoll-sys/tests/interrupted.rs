// SPDX-License-Identifier: MIT OR Apache-2.0
//! A signal ends a wait without an error.
//!
//! A signal to a process is delivered to its first thread if that does not block it, so the wait
//! has to run there: this test is a program of its own, without the harness and its threads.

use std::os::fd::AsFd;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use netpoll_sys::{Epoll, EventFd, Events, Interest};
use rustix::process::{Signal, getpid, kill_process};

/// The interval of the signals, and their number: ten seconds in all.
const EVERY: Duration = Duration::from_millis(5);
const AT_MOST: u32 = 2000;

fn main() {
    let caught = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&caught))
        .expect("a handler");
    let over = Arc::new(AtomicBool::new(false));
    let sender = thread::spawn({
        let over = Arc::clone(&over);
        move || send_until(&over)
    });

    let epoll = Epoll::new().expect("an epoll");
    let silent = EventFd::new().expect("a notifier");
    epoll
        .add(silent.as_fd(), 0, Interest::READABLE)
        .expect("to watch");
    let mut events = Events::with_capacity(1);
    for timeout in [None, Some(Duration::from_secs(3600))] {
        let count = epoll
            .wait(&mut events, timeout)
            .expect("an interrupted wait is no error");
        assert_eq!((count, events.len()), (0, 0));
    }
    assert!(caught.load(Ordering::Relaxed), "a signal ended the wait");

    over.store(true, Ordering::Relaxed);
    sender.join().expect("the sender");
    println!("test a_signal_ends_a_wait_without_an_error ... ok");
}

/// Signals repeatedly, because a signal before the wait does not end it.
fn send_until(over: &AtomicBool) {
    for _ in 0..AT_MOST {
        if over.load(Ordering::Relaxed) {
            return;
        }
        kill_process(getpid(), Signal::USR1).expect("a signal");
        thread::sleep(EVERY);
    }
    eprintln!("no signal ended the wait");
    exit(1);
}
