// SPDX-License-Identifier: MIT OR Apache-2.0
//! SIGINT and SIGTERM, as a descriptor and as a flag.
//!
//! A server sleeps in the kernel, so a signal makes a descriptor readable that wakes it. A
//! measurement checks a flag between two waits. Both forms run only async-signal-safe code in the
//! signal handler.
//!
//! Once one of them is registered, the signals no longer kill the process; the command decides how
//! it ends.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Returns a descriptor that becomes readable with the first SIGINT or SIGTERM and stays readable
/// until it is read.
pub(crate) fn descriptor() -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGINT, write.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGTERM, write)?;
    Ok(read)
}

/// A flag that a signal sets, to end the command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    flag: Arc<AtomicBool>,
}

impl Interrupt {
    /// Returns a flag that SIGINT and SIGTERM set.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupt.flag))?;
        }
        Ok(interrupt)
    }

    /// Sets the flag as a signal does.
    #[cfg(test)]
    pub(crate) fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Returns whether a signal has arrived. Costs one load.
    pub(crate) fn is_set(&self) -> bool {
        // Relaxed: the flag guards no other memory.
        self.flag.load(Ordering::Relaxed)
    }
}
