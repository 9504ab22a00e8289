// SPDX-License-Identifier: MIT OR Apache-2.0
//! A log that never blocks its callers: a bounded queue of lines, and a thread that writes them.
//!
//! A pipe that is not read takes 64 KiB and then blocks its writer. The callers are pollers that
//! serve thousands of connections each, so they only append to a queue. If the queue is full, the
//! line is dropped and counted. A report of the count takes the place of the dropped lines: between
//! the last line before them and the first line after them. The queue's lock is never held during a
//! write.
//!
//! Our own, because appenders that drop lines report the number only when asked, and a reader of the
//! log has to see where lines are missing.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The maximum number of queued lines.
const CAPACITY: usize = 1024;

/// The maximum length of a line in bytes; a longer line is truncated.
const MAX_LINE_BYTES: usize = 4096;

/// A queue of lines and the thread that writes them. The thread runs until the process ends.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    shared: Arc<LogShared>,
}

#[derive(Debug, Default)]
struct LogShared {
    queue: Mutex<LogQueue>,
    /// Notified when a line is queued.
    filled: Condvar,
    /// Notified when all lines are written.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct LogQueue {
    lines: VecDeque<String>,
    /// The thread is writing a line.
    writing: bool,
    /// Lines dropped since the last report.
    unreported: u64,
    /// All lines dropped so far.
    dropped: u64,
}

impl LogQueue {
    /// Appends `line`, after a report of the lines dropped before it.
    fn append(&mut self, line: String) {
        let report = self.take_report();
        self.lines.extend(report.into_iter().chain([line]));
    }

    /// Takes the next line to write: a queued line, else the report of lines dropped after the last
    /// one.
    fn pop(&mut self) -> Option<String> {
        self.lines.pop_front().or_else(|| self.take_report())
    }

    /// Returns a line that reports the lines dropped since the last report, if there are any.
    fn take_report(&mut self) -> Option<String> {
        let dropped = std::mem::take(&mut self.unreported);
        (dropped > 0).then(|| format!("netpoll: {dropped} lines dropped: the log was not read"))
    }
}

impl LogShared {
    fn lock(&self) -> MutexGuard<'_, LogQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until there is a line to write.
    fn next(&self) -> String {
        let mut queue = self.lock();
        queue.writing = false;
        loop {
            if let Some(line) = queue.pop() {
                queue.writing = true;
                return line;
            }
            self.drained.notify_all();
            queue = self
                .filled
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Log {
    /// Creates a log and starts the thread `name`, which writes the lines to `target`.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(crate) fn to(name: &str, mut target: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<LogShared>::default();
        let lines = Arc::clone(&shared);
        thread::Builder::new()
            .name(String::from(name))
            .spawn(move || {
                loop {
                    let mut line = lines.next();
                    line.push('\n');
                    // One write for each line, so that lines of several processes do not mix. A
                    // failed write is ignored: there is no other output to report it on.
                    target
                        .write_all(line.as_bytes())
                        .and_then(|()| target.flush())
                        .ok();
                }
            })?;
        Ok(Self { shared })
    }

    /// Queues a line, or drops it if the queue is full. Never blocks.
    pub(crate) fn write(&self, mut line: String) {
        if line.len() > MAX_LINE_BYTES {
            let end = (0..=MAX_LINE_BYTES)
                .rev()
                .find(|&at| line.is_char_boundary(at));
            line.truncate(end.unwrap_or_default());
        }
        let mut queue = self.shared.lock();
        if queue.lines.len() >= CAPACITY {
            queue.unreported += 1;
            queue.dropped += 1;
            return;
        }
        queue.append(line);
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// Returns the number of lines dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.lock().dropped
    }

    /// Waits until all lines are written, for at most `bound`. Returns whether they are.
    pub(crate) fn flush(&self, bound: Duration) -> bool {
        let is_busy =
            |queue: &mut LogQueue| queue.writing || !queue.lines.is_empty() || queue.unreported > 0;
        let queue = self.shared.lock();
        let waited = self
            .shared
            .drained
            .wait_timeout_while(queue, bound, is_busy);
        let (_queue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// A pipe that accepts a line when the test receives one.
    struct Pipe(SyncSender<String>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let line = String::from_utf8(bytes.to_vec()).map_err(io::Error::other)?;
            self.0
                .send(line)
                .map_err(|_| io::ErrorKind::BrokenPipe.into())
                .map(|()| bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log() -> (Log, Receiver<String>) {
        let (sender, receiver) = sync_channel(0);
        (Log::to("log", Pipe(sender)).unwrap(), receiver)
    }

    #[test]
    fn lines_are_written_in_order_and_flush_waits_for_the_last() {
        let (log, lines) = log();
        (0..100).for_each(|number| log.write(format!("line {number}")));
        assert!(
            !log.flush(Duration::from_millis(1)),
            "the pipe is not read yet"
        );
        let reading = thread::spawn(move || lines.iter().take(100).collect::<Vec<_>>());
        assert!(log.flush(LIMIT));
        let lines = reading.join().unwrap();
        let expected: Vec<_> = (0..100).map(|number| format!("line {number}\n")).collect();
        assert_eq!(lines, expected);
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn a_full_log_drops_lines_and_reports_the_count() {
        let (log, lines) = log();
        let (sent, done) = channel();
        let writer = log.clone();
        // The thread holds the first line before the queue fills.
        log.write(String::from("0"));
        let queue = || log.shared.queue.lock().expect("no panic under the lock");
        while !queue().lines.is_empty() {
            thread::yield_now();
        }
        thread::spawn(move || {
            (1..3 * CAPACITY).for_each(|number| writer.write(number.to_string()));
            sent.send(()).unwrap();
        });
        done.recv_timeout(LIMIT).expect("a write does not block");
        let dropped = log.dropped() as usize;
        let kept = 3 * CAPACITY - dropped;
        assert_eq!(kept, CAPACITY + 1, "the queue and the line of the thread");
        for number in 0..kept {
            assert_eq!(lines.recv_timeout(LIMIT).unwrap(), format!("{number}\n"));
        }
        let report = lines.recv_timeout(LIMIT).unwrap();
        assert_eq!(
            report,
            format!("netpoll: {dropped} lines dropped: the log was not read\n")
        );
        log.write(String::from("again"));
        assert_eq!(
            lines.recv_timeout(LIMIT).unwrap(),
            "again\n",
            "reported once"
        );
        assert!(log.flush(LIMIT));
    }

    #[test]
    fn dropped_lines_are_reported_in_their_place_while_writes_continue() {
        let (log, lines) = log();
        (0..2 * CAPACITY).for_each(|number| log.write(number.to_string()));
        let kept = 2 * CAPACITY - log.dropped() as usize;
        // A line is written for each line read, so the queue is never empty again.
        let next = || {
            log.write(String::from("after"));
            lines.recv_timeout(LIMIT).unwrap()
        };
        for number in 0..kept {
            assert_eq!(next(), format!("{number}\n"));
        }
        let report = next();
        assert!(report.contains(" lines dropped: "), "{report}");
        assert_eq!(next(), "after\n");
    }

    #[test]
    fn a_log_without_a_reader_accepts_lines() {
        let (log, lines) = log();
        drop(lines);
        (0..10 * CAPACITY).for_each(|number| log.write(number.to_string()));
        assert!(log.flush(LIMIT));
    }

    #[test]
    fn a_long_line_is_truncated_at_a_character_boundary() {
        let (log, lines) = log();
        log.write("ä".repeat(MAX_LINE_BYTES));
        assert_eq!(lines.recv_timeout(LIMIT).unwrap().len(), MAX_LINE_BYTES + 1);
    }
}
