// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processor time and memory of another process, as the kernel reports them.
//!
//! Processor time is the sum over the threads that are alive, from `/proc/PID/task/*/schedstat`,
//! which counts nanoseconds (`/proc/PID/stat` counts ticks of 10 ms). A thread that ends between
//! two reads takes its share with it, so the difference of two reads is exact only for servers
//! whose threads live as long as the server.

use std::fs;
use std::io;
use std::time::Duration;

/// Returns the processor time, user and kernel, that the live threads of a process have used. Reads
/// one small file per thread.
pub(crate) fn processor_time(pid: u32) -> io::Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the read; that is not an error.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        total += first_number(&text).map_or(Duration::ZERO, Duration::from_nanos);
    }
    Ok(total)
}

/// Returns the resident memory of a process in bytes. Uses the exact sum of `smaps_rollup` where
/// the kernel provides it: `VmRSS` in `status` is counted per processor and may be off by a quarter
/// of a megabyte.
///
/// # Errors
///
/// `NotFound` if there is no such process, `InvalidData` if the kernel does not report the value.
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

/// Returns the number in the line that begins with `name`.
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
    fn the_time_and_memory_of_this_process_are_read() {
        let pid = std::process::id();
        let before = processor_time(pid).unwrap();
        let mut sum = 0u64;
        while processor_time(pid).unwrap() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(resident_bytes(pid).unwrap() > 100 * 1024);
    }

    #[test]
    fn a_missing_process_is_reported_as_not_found() {
        let error = processor_time(u32::MAX - 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(resident_bytes(u32::MAX - 1).is_err());
    }

    #[test]
    fn only_the_named_line_is_read() {
        let text = "VmPeak:\t  9 kB\nVmRSS:\t    1234 kB\nThreads:\t1\n";
        assert_eq!(kibibytes(text, "VmRSS:"), Some(1234));
        assert_eq!(kibibytes(text, "VmHWM:"), None);
    }
}
