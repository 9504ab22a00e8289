// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fault injection: a table of results that replace the kernel's, for tests. Only with `--cfg
//! netpoll_faults`.
//!
//! A test installs a [`FaultPlan`], which selects calls by kind ([`Syscall`]) and by number
//! ([`Trigger`]), and gives their result ([`Fault`]). Only the result of the call differs; the code
//! around it is the code that ships. The table belongs to the process, and there is one plan at a
//! time.
//!
//! A call that is to fail is not made, as the kernel would not have performed it. The exceptions
//! are errnos which state that something *is* so: without the call it would not be, and the table
//! would simulate an impossible kernel.
//!
//! | site | errno | meaning |
//! |---|---|---|
//! | `connect` | `EINPROGRESS`, `EINTR`, `EALREADY`, `EISCONN` | the connection is made or in progress |
//! | `epoll_ctl` add | `EEXIST` | the descriptor is watched |
//! | `write` to an eventfd | `EAGAIN` | the counter is full, so it is readable |
//!
//! While a plan is installed, [`Interest::EDGE`](crate::Interest::EDGE) is ignored: a read that the
//! table cuts short leaves bytes behind that no edge would report, which no read of a real kernel
//! does.
//!
//! ```
//! use netpoll_sys::faults::{Errno, Fault, FaultPlan, Syscall, Trigger};
//! use netpoll_sys::socket;
//!
//! # fn main() -> std::io::Result<()> {
//! let no_room = |site| (site == Syscall::Socketpair).then_some(Fault::Errno(Errno::NFILE));
//! let installed = FaultPlan::new(Trigger::Nth(2), no_room).install();
//! socket::pair()?;
//! assert_eq!(socket::pair().unwrap_err().raw_os_error(), Some(Errno::NFILE.raw_os_error()));
//! socket::pair()?;
//! assert_eq!((installed.seen(), installed.injected()), (3, 1));
//! # Ok(()) }
//! ```

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use rustix::io::Errno;

pub use crate::syscall::Syscall;

/// The injected result of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The call fails.
    Errno(Errno),
    /// The call moves at most so many bytes, or returns at most so many events; with 0 it is not
    /// made.
    AtMost(usize),
    /// A wait returns an event that it returned before, and no other. Its descriptor may be closed
    /// by now.
    Stale,
}

/// Selects among the calls that a plan has a fault for, which are counted from 1, over all threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trigger {
    /// The call of that number.
    Nth(u64),
    /// The call of that number and all later ones.
    From(u64),
    /// Every `n`-th call.
    Every(u64),
    /// No call: calls are only counted.
    Never,
}

impl Trigger {
    fn includes(self, call: u64) -> bool {
        match self {
            Self::Nth(only) => call == only,
            Self::From(first) => call >= first,
            Self::Every(period) => call.is_multiple_of(period),
            Self::Never => false,
        }
    }
}

/// The calls to inject faults into, and their faults.
pub struct FaultPlan {
    when: Trigger,
    fault: Box<dyn FnMut(Syscall) -> Option<Fault> + Send>,
}

impl FaultPlan {
    /// Creates a plan. `fault` returns the fault for a call of a site; a site for which it returns
    /// `None` is left alone and not counted. It is called for each system call, and must make none.
    pub fn new(
        when: Trigger,
        fault: impl FnMut(Syscall) -> Option<Fault> + Send + 'static,
    ) -> Self {
        Self {
            when,
            fault: Box::new(fault),
        }
    }

    /// Installs the plan in place of the previous one.
    #[must_use]
    pub fn install(self) -> FaultGuard {
        let active = ActivePlan {
            plan: self,
            seen: 0,
            injected: 0,
        };
        *table() = Some(active);
        // Relaxed: the lock of the table orders; a call that misses the flag happened before the
        // plan.
        ARMED.store(true, Ordering::Relaxed);
        FaultGuard(())
    }
}

impl fmt::Debug for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultPlan")
            .field("when", &self.when)
            .finish_non_exhaustive()
    }
}

/// An installed plan; its drop removes it.
#[derive(Debug)]
pub struct FaultGuard(());

impl FaultGuard {
    /// Returns the number of calls that the plan has a fault for.
    #[must_use]
    pub fn seen(&self) -> u64 {
        table().as_ref().map_or(0, |active| active.seen)
    }

    /// Returns the number of injected faults.
    #[must_use]
    pub fn injected(&self) -> u64 {
        table().as_ref().map_or(0, |active| active.injected)
    }
}

impl Drop for FaultGuard {
    fn drop(&mut self) {
        // Relaxed: as in `install`.
        ARMED.store(false, Ordering::Relaxed);
        *table() = None;
    }
}

/// A plan and its counts.
struct ActivePlan {
    plan: FaultPlan,
    seen: u64,
    injected: u64,
}

/// Whether a plan is installed; the table's lock orders it.
static ARMED: AtomicBool = AtomicBool::new(false);

static TABLE: Mutex<Option<ActivePlan>> = Mutex::new(None);

fn table() -> MutexGuard<'static, Option<ActivePlan>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns whether a plan is installed.
pub(crate) fn is_armed() -> bool {
    // Relaxed: as in `install`.
    ARMED.load(Ordering::Relaxed)
}

/// Returns the fault for a call of `site` that is about to be made, if the plan selects it.
pub(crate) fn inject(site: Syscall) -> Option<Fault> {
    if !is_armed() {
        return None;
    }
    let mut table = table();
    let active = table.as_mut()?;
    let fault = (active.plan.fault)(site)?;
    active.seen += 1;
    if !active.plan.when.includes(active.seen) {
        return None;
    }
    active.injected += 1;
    Some(fault)
}

/// Returns the errno for a call that moves no bytes, if it is to fail.
pub(crate) fn errno(site: Syscall) -> Option<Errno> {
    match inject(site)? {
        Fault::Errno(errno) => Some(errno),
        Fault::AtMost(_) | Fault::Stale => None,
    }
}

/// Returns whether `errno` states that a call of `site` has had its effect; see the module.
pub(crate) fn performs_call(site: Syscall, errno: Errno) -> bool {
    match site {
        Syscall::Connect => {
            let made = [
                Errno::INPROGRESS,
                Errno::INTR,
                Errno::ALREADY,
                Errno::ISCONN,
            ];
            made.contains(&errno)
        }
        Syscall::EpollAdd => errno == Errno::EXIST,
        Syscall::EventFdWrite => errno == Errno::AGAIN,
        _ => false,
    }
}

/// Returns the first `most` bytes of `slices`.
pub(crate) fn truncated<'a>(slices: &'a [IoSlice<'_>], mut most: usize) -> Vec<IoSlice<'a>> {
    let first = |slice: &'a IoSlice<'_>| {
        let count = slice.len().min(most);
        most -= count;
        IoSlice::new(&slice[..count])
    };
    slices.iter().map(first).collect()
}

/// Returns the first `most` bytes of `buffer`.
pub(crate) fn truncated_mut<'a>(
    buffer: &'a mut [IoSliceMut<'_>],
    mut most: usize,
) -> Vec<IoSliceMut<'a>> {
    let first = |slice: &'a mut IoSliceMut<'_>| {
        let count = slice.len().min(most);
        most -= count;
        IoSliceMut::new(&mut slice[..count])
    };
    buffer.iter_mut().map(first).collect()
}
