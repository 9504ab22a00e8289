// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shutdown of a loop by SIGTERM and SIGINT, with the feature `signals`.
//!
//! A thread waits for the signals on a self-pipe, so no code of this crate runs inside a signal
//! handler. The thread and the registrations end with the loop.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::builder::Builder;
use super::handle::LoopHandle;
use super::handler_kind::HandlerKind;

impl<K: HandlerKind> Builder<K> {
    /// Shuts the loop down when the process receives SIGTERM or SIGINT. Feature `signals`.
    ///
    /// The first signal begins a graceful shutdown, as
    /// [`LoopHandle::shutdown(within)`](LoopHandle::shutdown); the second aborts the connections
    /// that remain. If a shutdown is in progress by other means, the first signal can only bring
    /// its deadline forward. Signals that arrive before the loop runs have their default action,
    /// which ends the process.
    ///
    /// Costs a thread, which sleeps until a signal arrives, and two descriptors. The default action
    /// of the signals is replaced for the whole process and not restored: after the end of the
    /// loop, they are ignored unless the program handles them. Each loop with this option is shut
    /// down, and handlers that the program has registered with `signal-hook` run as well.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// netpoll::EventLoop::builder()
    ///     .on_request(async |conn: &mut netpoll::Connection| {
    ///         let (mut reader, mut writer) = conn.split();
    ///         writer.put_slice(reader.until(b'\n', 1024).await?);
    ///         Ok(())
    ///     })
    ///     .shutdown_on_signals(Duration::from_secs(10))
    ///     .serve("127.0.0.1:8080")
    /// # }
    /// ```
    pub fn shutdown_on_signals(mut self, within: Duration) -> Self {
        self.shutdown_on_signals = Some(within);
        self
    }
}

/// Shuts a loop down when the process receives a signal, until it is dropped.
pub(super) struct SignalWatcher {
    signals: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalWatcher {
    /// Registers the signals and starts the thread that waits for them.
    pub(super) fn start(handle: LoopHandle, within: Duration) -> io::Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let registration = signals.handle();
        let watch = move || {
            let mut within = within;
            for _signal in signals.forever() {
                // From the second signal on, the deadline is now.
                drop(handle.shutdown(std::mem::take(&mut within)));
            }
        };
        let thread = std::thread::Builder::new()
            .name("netpoll-signals".into())
            .spawn(watch)?;
        Ok(Self {
            signals: registration,
            thread: Some(thread),
        })
    }
}

impl Drop for SignalWatcher {
    fn drop(&mut self) {
        self.signals.close();
        if let Some(thread) = self.thread.take() {
            // The panic hook has already reported a panic.
            let _panicked = thread.join().is_err();
        }
    }
}
