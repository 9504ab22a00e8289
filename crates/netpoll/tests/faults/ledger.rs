// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules of every run, under any fault: it ends in time, nothing panics, and every descriptor
//! is closed.

use std::collections::BTreeMap;
use std::fs;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use netpoll::{Dialer, Listener};

use crate::support::{LIMIT, block_on, bound, eventually};

/// The time limit of a run.
pub(crate) const HANG: Duration = LIMIT.saturating_mul(2);

/// How long descriptors may stay open after a run.
const SETTLE: Duration = LIMIT;

/// The number of panics on all threads.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Locks the table of faults, which is the process's: one test at a time. Starts what every run
/// uses.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    static READY: Once = Once::new();
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    READY.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            previous(panic);
        }));
        let before = descriptors().len();
        let listener = Listener::bind("127.0.0.1:0").expect("a free port");
        drop(block_on(Dialer::new().dial(bound(&listener))));
        drop(listener);
        // The dialers' poller keeps two descriptors: its epoll and its notifier.
        eventually("the end of the first dial", || {
            descriptors().len() == before + 2
        });
    });
    alone
}

/// As [`account_within`], with the time limit of a run.
pub(crate) fn account(
    name: &str,
    body: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    account_within(HANG, name, body)
}

/// Runs `body` on a thread of its own. Returns its error, or a description of a broken rule. A run
/// that hangs ends the test, since its threads hold descriptors that the next run would be blamed
/// for.
pub(crate) fn account_within(
    limit: Duration,
    name: &str,
    body: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    let (descriptors, panics) = (descriptors(), PANICS.load(Ordering::SeqCst));
    let (end, ended) = channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let thread = thread.spawn(move || {
        let result = body();
        // The receiver may have timed out.
        let _sent = end.send(result).is_ok();
    });
    let result = match ended.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => panic!("{name}: hangs"),
        Err(RecvTimeoutError::Disconnected) => Err("panicked".to_owned()),
        Ok(result) => result,
    };
    let joined = thread.expect("a thread").join();
    result?;
    let panicked = PANICS.load(Ordering::SeqCst) - panics;
    if joined.is_err() || panicked > 0 {
        return Err(format!("{panicked} panics"));
    }
    settle(&descriptors)
}

/// Waits until the open descriptors are those of `before`.
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

/// Returns the open descriptors and their targets.
fn descriptors() -> BTreeMap<String, String> {
    let entries = fs::read_dir("/proc/self/fd").expect("procfs");
    let known = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        // The directory's own descriptor is closed by the time it is read.
        let what = fs::read_link(&path).ok()?;
        let number = path.file_name()?.to_string_lossy().into_owned();
        Some((number, what.to_string_lossy().into_owned()))
    });
    known.filter(|(_, what)| !what.ends_with("/fd")).collect()
}
