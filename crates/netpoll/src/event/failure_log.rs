// SPDX-License-Identifier: MIT OR Apache-2.0
//! The log of failed connections of loops without a sink: one line a second and kind, on standard
//! error.
//!
//! A write to standard error may block: on a full pipe, on a stopped terminal, on a slow disk. The
//! descriptor is shared with other processes, so it cannot be made non-blocking, and an answer of
//! `poll(2)` may be out of date by the time of the write. So a thread of its own writes, and a
//! poller only leaves the line for it. The thread starts with the first line. While it is blocked,
//! one line of each kind waits, and further failures are counted. If standard error is closed, the
//! lines are lost.
//!
//! The thread also reports the count of suppressed lines when no further failure comes. With a
//! `tracing` subscriber, lines go there instead, on the thread of the failure.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use super::failure::{Failure, FailureKind};
use crate::guard::guard;
use crate::sync::{Condvar, Mutex, OnceLock, lock, wait, wait_timeout};
use crate::trace;

/// A line of a kind closes the kind for this long.
const WINDOW: Duration = Duration::from_secs(1);

/// How long the end of a loop waits for lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest line, in bytes. A pipe takes a write of this size as a whole.
const MAX_LINE: usize = 1024;

/// The longest text of a failure in a line.
const MAX_TEXT: usize = MAX_LINE - 64;

/// Standard error is one, so its log is, too.
static LOG: OnceLock<FailureLog> = OnceLock::new();

#[derive(Default)]
struct FailureLog {
    state: Mutex<LogState>,
    /// Notified by new lines, and when lines were written.
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    slots: [Slot; FailureKind::ALL.len()],
    thread: LogThread,
    /// Whether counts are to be reported now.
    flushes: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LogThread {
    #[default]
    None,
    Waiting,
    Writing,
}

/// The failures of one kind.
#[derive(Default)]
struct Slot {
    /// When the last line was admitted.
    admitted: Option<Instant>,
    /// A line that is not written yet.
    line: Option<String>,
    /// The failures since, which got no line.
    suppressed: u64,
}

impl Slot {
    /// Returns how many failures got no line before this one, which gets one. `None` if this one
    /// gets none either.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let is_open = |since| now.saturating_duration_since(since) >= WINDOW;
        if self.line.is_some() || !self.admitted.is_none_or(is_open) {
            self.suppressed += 1;
            return None;
        }
        self.admitted = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }

    /// Returns when the count of suppressed failures gets a line of its own, if there are any and no
    /// further failure reports it before. Failures are suppressed without a notification of the
    /// thread, which looks then.
    fn count_check(&self) -> Option<Instant> {
        Some(self.admitted? + 2 * WINDOW)
    }

    /// Returns the suppressed failures if they are due.
    fn take_count(&mut self, now: Instant, flushes: bool) -> Option<u64> {
        if self.suppressed == 0 || (!flushes && self.count_check()? > now) {
            return None;
        }
        self.admitted = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

impl LogState {
    /// Takes the lines to write.
    fn take_lines(&mut self, now: Instant) -> Vec<String> {
        let flushes = std::mem::take(&mut self.flushes);
        let mut lines = Vec::new();
        for (slot, kind) in self.slots.iter_mut().zip(FailureKind::ALL) {
            lines.extend(slot.line.take());
            let count = slot.take_count(now, flushes);
            lines.extend(count.map(|count| count_line(kind, count)));
        }
        lines
    }

    fn has_lines(&self) -> bool {
        let has_line = |slot: &Slot| slot.line.is_some() || slot.suppressed > 0;
        self.thread == LogThread::Writing || self.slots.iter().any(has_line)
    }
}

fn count_line(kind: FailureKind, count: u64) -> String {
    format!("netpoll: and {count} more: {kind}")
}

/// Returns the line of `failure`, which also reports `before` failures without one.
fn line_of(failure: &Failure<'_>, before: u64) -> String {
    let text = guard(|| failure.to_string());
    let mut text = text.unwrap_or_else(|_| {
        let Failure { handler, peer, .. } = failure;
        format!("handler failed ({peer}), and the text of its error panics; see {handler}")
    });
    if text.len() > MAX_TEXT {
        let mut ends = (0..=MAX_TEXT).rev();
        let end = ends.find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
    let text = text.replace(char::is_control, " ");
    match before {
        0 => format!("netpoll: {text}"),
        _ => format!("netpoll: {text} (and {before} more before it)"),
    }
}

/// Logs `failure`, or counts it.
#[cold]
pub(super) fn report(failure: &Failure<'_>) {
    // A model checker has no threads that outlive a run.
    if cfg!(any(netpoll_loom, netpoll_shuttle)) {
        return;
    }
    let Some(kind) = failure.kind() else {
        return;
    };
    let log = LOG.get_or_init(FailureLog::default);
    let admitted = lock(&log.state).slots[kind as usize].admit(Instant::now());
    let Some(before) = admitted else {
        return;
    };
    // Under no lock: the text of the error is user code.
    let line = line_of(failure, before);
    if trace::has_subscriber() {
        trace::warn(&line);
    } else {
        log.write(kind, line);
    }
}

/// Reports the counts of suppressed lines, at the end of a loop. Waits for at most a second until the
/// lines are written.
pub(super) fn flush() {
    if let Some(log) = LOG.get() {
        log.flush();
    }
}

impl FailureLog {
    /// Leaves `line` for the thread, which is started if there is none.
    fn write(&'static self, kind: FailureKind, line: String) {
        let mut state = lock(&self.state);
        state.slots[kind as usize].line = Some(line);
        let starts = state.thread == LogThread::None;
        if starts {
            state.thread = LogThread::Waiting;
        }
        drop(state);
        self.changed.notify_all();
        let thread = std::thread::Builder::new().name("netpoll-log".into());
        if starts && thread.spawn(|| self.run()).is_err() {
            let mut state = lock(&self.state);
            state.thread = LogThread::None;
            // The next failure tries again, and reports this one.
            let slot = &mut state.slots[kind as usize];
            slot.suppressed += u64::from(slot.line.take().is_some());
        }
    }

    /// Writes lines for the rest of the process.
    fn run(&self) {
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            let lines = state.take_lines(now);
            if !lines.is_empty() {
                state.thread = LogThread::Writing;
                drop(state);
                for mut line in lines {
                    line.push('\n');
                    // There is no place to report an error of the log.
                    let _written = io::stderr().lock().write_all(line.as_bytes()).is_ok();
                }
                state = lock(&self.state);
                state.thread = LogThread::Waiting;
                self.changed.notify_all();
                continue;
            }
            let checks = state.slots.iter().filter_map(Slot::count_check);
            state = match checks.filter(|&check| check > now).min() {
                None => wait(&self.changed, state),
                Some(check) => wait_timeout(&self.changed, state, check - now).0,
            };
        }
    }

    fn flush(&self) {
        let mut state = lock(&self.state);
        if trace::has_subscriber() {
            state.flushes = true;
            let lines = state.take_lines(Instant::now());
            drop(state);
            lines.iter().for_each(|line| trace::warn(line));
            return;
        }
        if state.thread == LogThread::None {
            return;
        }
        let until = Instant::now() + FLUSH_TIMEOUT;
        while state.has_lines() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state.flushes = true;
            self.changed.notify_all();
            state = wait_timeout(&self.changed, state, left).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::CloseReason;

    #[test]
    fn a_kind_gets_one_line_a_second_and_the_rest_are_counted() {
        let mut slot = Slot::default();
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        assert_eq!(slot.admit(at(0)), Some(0));
        assert_eq!(slot.take_count(at(2000), false), None, "there are none");
        for millis in 1..=37 {
            assert_eq!(slot.admit(at(millis)), None);
        }
        assert_eq!(slot.take_count(at(1999), false), None);
        assert_eq!(slot.admit(at(1000)), Some(37));
        assert_eq!(slot.admit(at(1500)), None);
        assert_eq!(slot.count_check(), Some(at(3000)));
        assert_eq!(slot.take_count(at(3000), false), Some(1));
        assert_eq!(slot.take_count(at(9000), true), None);
        assert_eq!(slot.admit(at(3999)), None, "the count was a line, too");
        assert_eq!(slot.take_count(at(3999), true), Some(1), "a flush");
    }

    #[test]
    fn a_line_that_waits_for_the_thread_suppresses_further_ones() {
        let mut slot = Slot::default();
        let begin = Instant::now();
        assert_eq!(slot.admit(begin), Some(0));
        slot.line = Some(String::from("waits"));
        assert_eq!(slot.admit(begin + 10 * WINDOW), None);
        slot.line = None;
        assert_eq!(slot.admit(begin + 10 * WINDOW), Some(1));
    }

    #[test]
    fn a_line_is_short_and_has_no_line_break() {
        let long = format!("first\nsecond\x1b[2J {}", "ä".repeat(5000));
        let reason = CloseReason::Handler(Arc::new(long.into()));
        let failure = Failure {
            reason: &reason,
            limit_error: None,
            peer: crate::addr::Addr::Unnamed,
            handler: "my::handler",
            max_output: 1,
        };
        let line = line_of(&failure, u64::MAX);
        assert!(line.len() < MAX_LINE, "{}", line.len());
        assert!(!line.contains(char::is_control), "{line}");
        assert!(line.starts_with("netpoll: handler failed: first second"));
        assert!(line.contains("handle the error in my::handler"), "{line}");
        assert!(line.ends_with("(and 18446744073709551615 more before it)"));
    }
}
