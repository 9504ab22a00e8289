// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every run is held to, whatever failed in it: it ends in time, nothing panics, and every
//! descriptor is closed.

use std::collections::BTreeMap;
use std::fs;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use netpoll::{Dialer, Listener};

use crate::support::{LIMIT, block_on, bound, eventually};

/// How long a run may take.
pub(crate) const HANG: Duration = LIMIT.saturating_mul(2);

/// How long after a run descriptors may still be open.
const SETTLE: Duration = LIMIT;

/// Panics of all threads.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// The table of faults is the process's: one test at a time. What every run uses is up from here on.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    static READY: Once = Once::new();
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    READY.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            told(panic);
        }));
        let before = descriptors().len();
        let listener = Listener::bind("127.0.0.1:0").expect("a free port");
        drop(block_on(Dialer::new().dial(bound(&listener))));
        drop(listener);
        // The pollers of dials have one that waits and one that rings, and keep them.
        eventually("the end of the first dial", || {
            descriptors().len() == before + 2
        });
    });
    alone
}

/// As [`account_within`], within the limit of a run.
pub(crate) fn account(
    name: &str,
    body: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    account_within(HANG, name, body)
}

/// Runs `body` on a thread of its own, and says what it is to be blamed for besides what it says
/// itself. A run that hangs ends the test: its threads hold what the next would be blamed for.
pub(crate) fn account_within(
    limit: Duration,
    name: &str,
    body: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    let (descriptors, panics) = (descriptors(), PANICS.load(Ordering::SeqCst));
    let (end, ended) = channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let thread = thread.spawn(move || {
        let said = body();
        // Nobody hears it who has given up.
        let _heard = end.send(said).is_ok();
    });
    let said = match ended.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => panic!("{name}: hangs"),
        Err(RecvTimeoutError::Disconnected) => Err("panicked".to_owned()),
        Ok(said) => said,
    };
    let joined = thread.expect("a thread").join();
    said?;
    let panicked = PANICS.load(Ordering::SeqCst) - panics;
    if joined.is_err() || panicked > 0 {
        return Err(format!("{panicked} panics"));
    }
    settle(&descriptors)
}

/// Waits until the descriptors are those that were open `before`.
fn settle(before: &BTreeMap<String, String>) -> Result<(), String> {
    let limit = Instant::now() + SETTLE;
    loop {
        let now = descriptors();
        if now == *before {
            return Ok(());
        }
        if Instant::now() > limit {
            let other = now
                .iter()
                .filter(|(fd, what)| before.get(*fd) != Some(what));
            let missing = before.keys().filter(|fd| !now.contains_key(*fd));
            let (other, missing): (Vec<_>, Vec<_>) = (other.collect(), missing.collect());
            return Err(format!("leaves {other:?}, misses {missing:?}"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The open descriptors, and what each of them is.
fn descriptors() -> BTreeMap<String, String> {
    let entries = fs::read_dir("/proc/self/fd").expect("procfs");
    let known = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        // The folder that is being read is no more by the time it is looked at.
        let what = fs::read_link(&path).ok()?;
        let number = path.file_name()?.to_string_lossy().into_owned();
        Some((number, what.to_string_lossy().into_owned()))
    });
    known.filter(|(_, what)| !what.ends_with("/fd")).collect()
}
