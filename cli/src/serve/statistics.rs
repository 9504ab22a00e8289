// SPDX-License-Identifier: MIT OR Apache-2.0
//! Statistics of a server: one line on stderr at a fixed interval.
//!
//! Each line covers the time since the previous one. Counts of zero are left out, so that the line
//! of an idle server is short and a close reason stands out.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use netpoll::LoopHandle;
use netpoll::stats::{AcceptStats, LoopStats};

use crate::output;

/// The statistics thread; printing stops when this is dropped.
#[derive(Debug)]
pub(crate) struct Statistics {
    _stop: Sender<()>,
}

/// Starts a thread that prints a line every `every`.
///
/// # Errors
///
/// The thread cannot be started.
pub(crate) fn start(handle: LoopHandle, every: Duration) -> io::Result<Statistics> {
    let (ends, ended) = channel();
    let print = move || {
        let (mut before, mut at) = (handle.stats(), Instant::now());
        let mut lost = 0;
        while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            let (stats, now) = (handle.stats(), Instant::now());
            let all = output::dropped_lines();
            let dropped = all - std::mem::replace(&mut lost, all);
            output::log(line(&before, &stats, now - at, dropped));
            (before, at) = (stats, now);
        }
    };
    thread::Builder::new()
        .name(String::from("statistics"))
        .spawn(print)?;
    Ok(Statistics { _stop: ends })
}

/// Formats the changes between two snapshots that are `time` apart, and the number of log lines
/// dropped meanwhile.
fn line(before: &LoopStats, now: &LoopStats, time: Duration, dropped: u64) -> String {
    let (then, total) = (before.total(), now.total());
    let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / time.as_secs_f64();
    let mut parts = vec![
        format!("connections {}", now.connections),
        format!("requests/s {:.0}", rate(then.requests, total.requests)),
        format!("in {}", bytes(rate(then.received, total.received))),
        format!("out {}", bytes(rate(then.sent, total.sent))),
    ];
    let slow = total.slow_calls - then.slow_calls;
    if slow > 0 {
        parts.push(format!("slow calls {slow}"));
    }
    parts.extend(accepting(&before.accept, &now.accept));
    let closed = now.closed.iter().zip(before.closed.iter());
    let closed: Vec<_> = closed
        .map(|((reason, now), (_, before))| (reason, now - before))
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    if !closed.is_empty() {
        parts.push(format!("closed {}", closed.join(" ")));
    }
    if dropped > 0 {
        parts.push(format!("log lines dropped {dropped}"));
    }
    parts.extend(shares(before, now));
    parts.join(", ")
}

/// Formats the counts of accepts that failed for lack of a resource and of pauses at a limit.
fn accepting(before: &AcceptStats, now: &AcceptStats) -> impl Iterator<Item = String> {
    let failed = |accept: &AcceptStats| {
        accept.process_out_of_descriptors + accept.system_out_of_files + accept.out_of_memory
    };
    let paused = |accept: &AcceptStats| {
        accept.pauses_at_limit + accept.pauses_for_rate + accept.pauses_for_memory
    };
    let parts = [
        ("failed accepts", failed(now) - failed(before)),
        ("accept pauses", paused(now) - paused(before)),
    ];
    let happened = parts.into_iter().filter(|(_, count)| *count > 0);
    happened.map(|(what, count)| format!("{what} {count}"))
}

/// Formats the share of the requests that each poller served; `None` without requests or with one
/// poller.
fn shares(before: &LoopStats, now: &LoopStats) -> Option<String> {
    let pollers = now.pollers.iter().zip(&before.pollers);
    let requests: Vec<_> = pollers
        .map(|(now, before)| now.requests - before.requests)
        .collect();
    let all: u64 = requests.iter().sum();
    if all == 0 || requests.len() < 2 {
        return None;
    }
    let share = |&part: &u64| format!("{:.0}%", part as f64 * 100.0 / all as f64);
    let shares: Vec<_> = requests.iter().map(share).collect();
    Some(format!("pollers {}", shares.join(" ")))
}

/// Formats a rate of bytes in its largest unit.
fn bytes(rate: f64) -> String {
    let units = [(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")];
    match units.into_iter().find(|(unit, _)| rate >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", rate / unit),
        None => format!("{rate:.0} B/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netpoll::stats::PollerStats;

    fn poller(requests: u64, received: u64, slow_calls: u64) -> PollerStats {
        let mut stats = PollerStats::default();
        (stats.requests, stats.received, stats.slow_calls) = (requests, received, slow_calls);
        stats
    }

    #[test]
    fn a_line_covers_the_time_since_the_previous_one() {
        let mut before = LoopStats::default();
        before.pollers = vec![poller(100, 1000, 1), poller(100, 0, 0)];
        before.closed.local = 5;
        let mut now = before.clone();
        now.connections = 3;
        now.pollers = vec![poller(400, 3_001_000, 2), poller(200, 0, 0)];
        now.closed.peer_fin = 2;
        now.accept.system_out_of_files = 3;
        now.accept.process_out_of_descriptors = 4;
        now.accept.pauses_at_limit = 6;
        assert_eq!(
            line(&before, &now, Duration::from_secs(2), 4),
            "connections 3, requests/s 200, in 1.5 MB/s, out 0 B/s, slow calls 1, \
             failed accepts 7, accept pauses 6, closed peer_fin 2, log lines dropped 4, \
             pollers 75% 25%"
        );
    }

    #[test]
    fn zero_counts_are_left_out() {
        let mut stats = LoopStats::default();
        stats.pollers = vec![poller(7, 7, 0); 2];
        let line = line(&stats, &stats, Duration::from_secs(1), 0);
        assert_eq!(line, "connections 0, requests/s 0, in 0 B/s, out 0 B/s");
    }

    #[test]
    fn bytes_are_shown_in_their_largest_unit() {
        assert_eq!(bytes(999.0), "999 B/s");
        assert_eq!(bytes(1500.0), "1.5 kB/s");
        assert_eq!(bytes(2.5e9), "2.5 GB/s");
    }
}
