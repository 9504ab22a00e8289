// SPDX-License-Identifier: MIT OR Apache-2.0
//! Process-wide settings of a server: the descriptor limit, its user, its processors.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::CpuSet;

/// Raises the soft limit of open descriptors to the hard one, and returns it (`u64::MAX` if there
/// is none).
///
/// # Errors
///
/// The kernel's error; raising the limit up to the hard one does not fail in practice.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        )?;
    }
    Ok(maximum.unwrap_or(u64::MAX))
}

/// Returns the soft limit of open descriptors (`u64::MAX` if there is none).
#[must_use]
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Returns the user whose permissions the process has (`geteuid(2)`).
#[must_use]
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Pins the calling thread to one of the processors it may use: the `index`-th, modulo their
/// number. Respects the set the process was given (`taskset`, cgroups).
///
/// # Errors
///
/// The kernel's error.
pub fn pin_thread(index: usize) -> io::Result<()> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let processors: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&processor| allowed.is_set(processor))
        .collect();
    let Some(&processor) = processors.get(index % processors.len().max(1)) else {
        return Ok(());
    };
    let mut one = CpuSet::new();
    one.set(processor);
    Ok(rustix::thread::sched_setaffinity(None, &one)?)
}
