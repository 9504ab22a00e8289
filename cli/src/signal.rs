// SPDX-License-Identifier: MIT OR Apache-2.0
//! SIGINT and SIGTERM, in the two forms that programs here wait for them.
//!
//! A server sleeps in the kernel and must be woken: it gets a descriptor that becomes readable. A
//! measurement looks at a flag between two waits. Neither runs anything inside a signal handler
//! but what is allowed there.
//!
//! Whoever has asked once decides alone how the process ends: the signal no longer kills it.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// A descriptor that becomes readable with the first SIGINT or SIGTERM, and stays so as long as
/// nobody reads it.
pub(crate) fn descriptor() -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGINT, write.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGTERM, write)?;
    Ok(read)
}

/// Whether somebody wants the process to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    flag: Arc<AtomicBool>,
}

impl Interrupt {
    /// An interrupt that comes with SIGINT or SIGTERM.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupt.flag))?;
        }
        Ok(interrupt)
    }

    /// As if somebody had asked.
    #[cfg(test)]
    pub(crate) fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether it has come. Costs one load.
    pub(crate) fn is_set(&self) -> bool {
        // Relaxed: the flag says that something happened and guards no other memory.
        self.flag.load(Ordering::Relaxed)
    }
}
