// SPDX-License-Identifier: MIT OR Apache-2.0
//! How late the machine runs threads, for tests in which a peer must act before a timeout.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::LIMIT;

/// The interval at which a measuring thread reads the clock.
const TICK: Duration = Duration::from_millis(1);

/// Measures how late threads run that read the clock each millisecond, one thread for each core.
struct Lateness {
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    over: AtomicBool,
    /// The largest lateness, in microseconds.
    most: AtomicU64,
}

impl Lateness {
    fn watch() -> Self {
        let state = Arc::<State>::default();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let watch = |_| {
            let state = Arc::clone(&state);
            thread::spawn(move || state.look())
        };
        let threads = (0..cores).map(watch).collect();
        Self { state, threads }
    }

    /// Stops, and returns the largest lateness.
    fn stop(self) -> Duration {
        self.state.over.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("a thread that reads the clock");
        }
        Duration::from_micros(self.state.most.load(Ordering::SeqCst))
    }
}

impl State {
    fn look(&self) {
        while !self.over.load(Ordering::SeqCst) {
            let due = Instant::now() + TICK;
            thread::sleep(TICK);
            let late = due.elapsed().as_micros();
            let late = u64::try_from(late).unwrap_or(u64::MAX);
            self.most.fetch_max(late, Ordering::SeqCst);
        }
    }
}

/// Runs a test whose peers must act before a timeout. If the test fails while the machine runs threads
/// later than by `slack`, the timeout was right: the test runs again, until [`LIMIT`].
pub(crate) fn retry_if_late(slack: Duration, mut test: impl FnMut()) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let lateness = Lateness::watch();
        let outcome = catch_unwind(AssertUnwindSafe(&mut test));
        let late = lateness.stop();
        match outcome {
            Ok(()) => return,
            Err(_) if late > slack && Instant::now() < deadline => {}
            Err(panic) => resume_unwind(panic),
        }
    }
}
