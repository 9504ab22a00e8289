// SPDX-License-Identifier: MIT OR Apache-2.0
//! A table of what the kernel is to answer, for tests. Only with `--cfg netpoll_faults`.
//!
//! A test installs a [`FaultPlan`]: of which calls ([`Syscall`]), the how-manieth ([`Trigger`]), comes out how
//! ([`Fault`]). Only the outcome of a call is another then; what runs around it is the code that
//! ships. The table is the process's, and there is one plan at a time.
//!
//! A call that is to fail is not made, as the kernel would not have done it. The exceptions are
//! errnos that say that something *is* so: without the call it would not be, and the table would
//! tell of a kernel that there is not.
//!
//! | site | errno | what it says |
//! |---|---|---|
//! | `connect` | `EINPROGRESS`, `EINTR`, `EALREADY`, `EISCONN` | the connection is made, or under way |
//! | `epoll_ctl` add | `EEXIST` | it is watched |
//! | `write` to an eventfd | `EAGAIN` | the counter is full, so it is readable |
//!
//! While there is a plan, [`Interest::EDGE`](crate::Interest::EDGE) is ignored: a read that the table
//! cuts short, or has find nothing, leaves bytes behind of which nothing would tell, as no read of a
//! kernel's does.
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

/// How one call comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It fails.
    Errno(Errno),
    /// It moves at most so many bytes, or brings so many events; with 0 it is not made.
    AtMost(usize),
    /// A wait brings an event that it brought before, and nothing else. What it tells of may be
    /// long over, or gone.
    Stale,
}

/// Which of the calls that a plan has a fault for: they are counted from 1, over all threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trigger {
    /// That one.
    Nth(u64),
    /// That one and all behind it.
    From(u64),
    /// Every so-manieth.
    Every(u64),
    /// None: they are only counted.
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

/// Which calls come out how.
pub struct FaultPlan {
    when: Trigger,
    fault: Box<dyn FnMut(Syscall) -> Option<Fault> + Send>,
}

impl FaultPlan {
    /// `fault` says what a call of a site may come out as; a site for which that is `None` is left
    /// alone and not counted. It is asked for each call, and must make none.
    pub fn new(
        when: Trigger,
        fault: impl FnMut(Syscall) -> Option<Fault> + Send + 'static,
    ) -> Self {
        Self {
            when,
            fault: Box::new(fault),
        }
    }

    /// Puts the plan into the table, and the one that was there out of it.
    #[must_use]
    pub fn install(self) -> FaultGuard {
        let active = ActivePlan {
            plan: self,
            seen: 0,
            injected: 0,
        };
        *table() = Some(active);
        // Relaxed: the lock of the table orders; a call that misses the flag came before the plan.
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

/// A plan in the table; dropped, the kernel answers again.
#[derive(Debug)]
pub struct FaultGuard(());

impl FaultGuard {
    /// How many calls there were that the plan has a fault for.
    #[must_use]
    pub fn seen(&self) -> u64 {
        table().as_ref().map_or(0, |active| active.seen)
    }

    /// How many of them came out as planned.
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

/// Whether the table need be looked at: its partner is the table's lock.
static ARMED: AtomicBool = AtomicBool::new(false);

static TABLE: Mutex<Option<ActivePlan>> = Mutex::new(None);

fn table() -> MutexGuard<'static, Option<ActivePlan>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a plan is in the table.
pub(crate) fn is_armed() -> bool {
    // Relaxed: as in `install`.
    ARMED.load(Ordering::Relaxed)
}

/// How a call of `site` that is about to be made comes out, if the kernel is not to say.
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

/// What a call that moves nothing fails with, if it is to fail.
pub(crate) fn errno(site: Syscall) -> Option<Errno> {
    match inject(site)? {
        Fault::Errno(errno) => Some(errno),
        Fault::AtMost(_) | Fault::Stale => None,
    }
}

/// Whether `errno` says of a call of `site` that what it is for has been done; see the module.
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

/// The first `most` bytes of `slices`.
pub(crate) fn truncated<'a>(slices: &'a [IoSlice<'_>], mut most: usize) -> Vec<IoSlice<'a>> {
    let first = |slice: &'a IoSlice<'_>| {
        let count = slice.len().min(most);
        most -= count;
        IoSlice::new(&slice[..count])
    };
    slices.iter().map(first).collect()
}

/// The first `most` bytes of `room`.
pub(crate) fn truncated_mut<'a>(
    room: &'a mut [IoSliceMut<'_>],
    mut most: usize,
) -> Vec<IoSliceMut<'a>> {
    let first = |slice: &'a mut IoSliceMut<'_>| {
        let count = slice.len().min(most);
        most -= count;
        IoSliceMut::new(&mut slice[..count])
    };
    room.iter_mut().map(first).collect()
}
