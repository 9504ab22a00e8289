// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel says of another process: the processor time it used and the memory it holds.
//!
//! Processor time is summed over the threads that are alive when it is asked for, from
//! `/proc/PID/task/*/schedstat`, which counts nanoseconds where `/proc/PID/stat` counts ticks of
//! ten milliseconds. A thread that ends between two questions takes its share with it, so the
//! difference is right for servers whose threads live as long as they do.

use std::fs;
use std::io;
use std::time::Duration;

/// The processor time that the living threads of a process have used so far, in user code and in
/// the kernel. Reads one small file a thread.
///
/// # Errors
///
/// `NotFound` if there is no such process.
pub(crate) fn processor_time(pid: u32) -> io::Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the reading; that is not an error.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        total += first_number(&text).map_or(Duration::ZERO, Duration::from_nanos);
    }
    Ok(total)
}

/// The bytes of memory that a process holds in RAM. The exact sum where the kernel offers it:
/// the figure in `status` is kept per processor and may be off by a quarter of a megabyte.
///
/// # Errors
///
/// `NotFound` if there is no such process, `InvalidData` if the kernel does not say.
pub(crate) fn resident_bytes(pid: u32) -> io::Result<u64> {
    let exact = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .ok()
        .and_then(|text| kibibytes(&text, "Rss:"));
    let kibibytes = match exact {
        Some(kibibytes) => kibibytes,
        None => kibibytes(
            &fs::read_to_string(format!("/proc/{pid}/status"))?,
            "VmRSS:",
        )
        .ok_or(io::ErrorKind::InvalidData)?,
    };
    Ok(kibibytes * 1024)
}

/// The number of the line that begins with `name`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(first_number)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_holds_memory() {
        let pid = std::process::id();
        let before = processor_time(pid).unwrap();
        let mut sum = 0u64;
        while processor_time(pid).unwrap() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(resident_bytes(pid).unwrap() > 100 * 1024);
    }

    #[test]
    fn a_process_that_is_not_there_is_not_found() {
        let error = processor_time(u32::MAX - 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(resident_bytes(u32::MAX - 1).is_err());
    }

    #[test]
    fn the_named_line_is_read_and_no_other() {
        let text = "VmPeak:\t  9 kB\nVmRSS:\t    1234 kB\nThreads:\t1\n";
        assert_eq!(kibibytes(text, "VmRSS:"), Some(1234));
        assert_eq!(kibibytes(text, "VmHWM:"), None);
    }
}
