// SPDX-License-Identifier: MIT OR Apache-2.0
//! A handler that computes on its poller for every tenth request of a connection, as a handler does
//! that was written without regard to the poller. The delay shows in the latencies of the other
//! requests.

use netpoll::{BoxError, Connection};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Requests of one connection so far.
struct RequestCount(u64);

/// Attaches the request count to a new connection.
pub(super) async fn count(conn: &mut Connection) -> Result<(), BoxError> {
    conn.attach(RequestCount(0));
    Ok(())
}

/// Answers one frame with the same frame; computes before every tenth response.
pub(super) async fn answer(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer, count) = conn.split_with::<RequestCount>()?;
    let len = reader.read_u32().await?;
    let body = reader.next(len as usize).await?;
    count.0 += 1;
    if count.0.is_multiple_of(COMPUTE_EVERY) {
        compute();
    }
    writer.put_slices(&[&len.to_be_bytes(), body]);
    Ok(())
}

/// Uses the processor for 100 us of the thread's own CPU clock. Time that the thread waits for a
/// processor does not count, so the work is the same on a busy machine.
fn compute() {
    let start = clock_gettime(ClockId::ThreadCPUTime);
    while nanoseconds_since(start) < COMPUTE_TIME_NS {
        std::hint::spin_loop();
    }
}

fn nanoseconds_since(start: Timespec) -> i64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    (now.tv_sec - start.tv_sec) * 1_000_000_000 + now.tv_nsec - start.tv_nsec
}

/// One request in this many computes.
const COMPUTE_EVERY: u64 = 10;

/// 100 us in nanoseconds.
const COMPUTE_TIME_NS: i64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compute_uses_100_us_of_processor_time() {
        let start = clock_gettime(ClockId::ThreadCPUTime);
        compute();
        assert!(nanoseconds_since(start) >= COMPUTE_TIME_NS);
    }
}
