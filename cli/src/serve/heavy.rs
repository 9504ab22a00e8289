// SPDX-License-Identifier: MIT OR Apache-2.0
//! A handler that computes now and then, where it was called, as one that does not know better does:
//! what it holds up shows in how long the requests of others take.

use netpoll::{BoxError, Connection};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Requests of one connection so far.
struct RequestCount(u64);

/// Begins to count the requests of a connection.
pub(super) async fn count(conn: &mut Connection) -> Result<(), BoxError> {
    conn.attach(RequestCount(0));
    Ok(())
}

/// Answers one frame with the same frame, every tenth after some computing.
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

/// Uses the processor for a while. By the thread's own clock: who has to wait for a processor
/// meanwhile computes as much as who has not.
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

/// One request in so many computes.
const COMPUTE_EVERY: u64 = 10;

/// 100 us in nanoseconds.
const COMPUTE_TIME_NS: i64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burning_uses_the_processor_for_a_tenth_of_a_millisecond() {
        let start = clock_gettime(ClockId::ThreadCPUTime);
        compute();
        assert!(nanoseconds_since(start) >= COMPUTE_TIME_NS);
    }
}
