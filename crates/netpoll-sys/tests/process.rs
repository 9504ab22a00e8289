// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process settings are those that the kernel reports.

use std::thread;

use netpoll_sys::process;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};

/// Returns the processors that the calling thread may use.
fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(None).expect("a set");
    (0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect()
}

#[test]
fn the_descriptor_limit_is_raised_to_the_hard_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let hard = maximum.unwrap_or(u64::MAX);
    let current = Some(100.min(hard));
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    assert_eq!(process::descriptor_limit(), 100.min(hard));
    for _ in 0..2 {
        assert_eq!(process::raise_descriptor_limit().unwrap(), hard);
        assert_eq!(process::descriptor_limit(), hard);
    }
    assert_eq!(getrlimit(Resource::Nofile).maximum, maximum);
}

#[test]
fn pin_thread_pins_the_calling_thread_only_and_wraps_the_index() {
    let before = allowed();
    for index in [
        0,
        1,
        before.len() - 1,
        before.len(),
        before.len() + 1,
        usize::MAX,
    ] {
        let pinned = thread::spawn(move || {
            process::pin_thread(index).expect("to pin");
            allowed()
        });
        assert_eq!(pinned.join().unwrap(), [before[index % before.len()]]);
    }
    assert_eq!(allowed(), before);
}

#[test]
fn pin_thread_stays_within_the_allowed_set() {
    let all = allowed();
    let last = all.len() - 1;
    let pinned = thread::spawn(move || {
        process::pin_thread(last).expect("to pin");
        process::pin_thread(0).expect("to pin again");
        allowed()
    });
    assert_eq!(pinned.join().unwrap(), [all[last]]);
}
