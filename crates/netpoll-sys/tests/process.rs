// SPDX-License-Identifier: MIT OR Apache-2.0
//! The limits of the process are what the kernel says they are.

use std::thread;

use netpoll_sys::process;
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};

/// The processors the calling thread may use.
fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(None).expect("a set");
    (0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect()
}

#[test]
fn the_descriptor_limit_goes_up_to_the_hard_one_and_stays() {
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    assert!(process::descriptor_limit() <= hard);
    for _ in 0..2 {
        assert_eq!(process::raise_descriptor_limit().unwrap(), hard);
        assert_eq!(process::descriptor_limit(), hard);
    }
    assert_eq!(
        getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
        hard
    );
}

#[test]
fn a_thread_is_pinned_to_one_processor_counted_round_and_others_are_not() {
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
fn a_pinned_thread_is_not_let_out_of_the_set_it_was_given() {
    let all = allowed();
    let last = all.len() - 1;
    let pinned = thread::spawn(move || {
        process::pin_thread(last).expect("to pin");
        process::pin_thread(0).expect("to pin again");
        allowed()
    });
    assert_eq!(pinned.join().unwrap(), [all[last]]);
}
