// SPDX-License-Identifier: MIT OR Apache-2.0
//! Output: sends, partial sends, discards and limits.

use super::*;
use crate::foreign::register;
use crate::poll::notifier::Role;
use std::task::Waker;

const WATERMARKS: Watermarks = Watermarks {
    high: 100,
    limit: 200,
};

fn wait_until_sent(output_buffer: &mut OutputBuffer, most: usize, wait: Wait) {
    register(Waker::noop(), |caller_waker| {
        output_buffer.wait_until_sent(most, caller_waker, wait)
    });
}

fn output_buffer() -> OutputBuffer {
    OutputBuffer::new()
}

fn text(text: &str) -> LinkBuffer {
    LinkBuffer::from(text.as_bytes().to_vec())
}

fn put(output_buffer: &mut OutputBuffer, bytes: usize) -> PutOutcome {
    if output_buffer.put_in_place(&[&vec![1; bytes]]) {
        return PutOutcome::Unchanged;
    }
    output_buffer.put_slices(&[&vec![1; bytes]], || WATERMARKS, || Role::Poller)
}

#[test]
fn first_byte_and_high_watermark_are_reported_once() {
    let mut output_buffer = output_buffer();
    assert_eq!(put(&mut output_buffer, 0), PutOutcome::Unchanged);
    assert_eq!(put(&mut output_buffer, 10), PutOutcome::FirstByte);
    assert_eq!(put(&mut output_buffer, 10), PutOutcome::Unchanged);
    assert_eq!(put(&mut output_buffer, 80), PutOutcome::HighWatermark);
    assert_eq!(put(&mut output_buffer, 1), PutOutcome::Unchanged);
}

#[test]
fn small_puts_reach_each_watermark_at_the_exact_byte() {
    let mut output_buffer = output_buffer();
    let outcome: Vec<PutOutcome> = (1..=201).map(|_| put(&mut output_buffer, 1)).collect();
    let position_of = |wanted| {
        outcome
            .iter()
            .position(|&outcome| outcome == wanted)
            .map(|at| at + 1)
    };
    assert_eq!(position_of(PutOutcome::FirstByte), Some(1));
    assert_eq!(position_of(PutOutcome::HighWatermark), Some(100));
    assert_eq!(position_of(PutOutcome::Overflow), Some(201));
    assert_eq!(
        outcome
            .iter()
            .filter(|&&outcome| outcome != PutOutcome::Unchanged)
            .count(),
        3
    );
}

#[test]
fn first_put_after_a_take_is_reported_again() {
    let mut output_buffer = output_buffer();
    assert_eq!(put(&mut output_buffer, 1), PutOutcome::FirstByte);
    output_buffer.take().unwrap();
    // A put on another thread reports nothing, and leaves a tail to write behind.
    let off = output_buffer.put_slices(&[b"ab"], || WATERMARKS, || Role::OtherThread);
    assert_eq!(off, PutOutcome::Unchanged);
    assert_eq!(put(&mut output_buffer, 1), PutOutcome::FirstByte);
}

#[test]
fn appended_bytes_count_toward_the_watermarks() {
    let mut output_buffer = output_buffer();
    assert_eq!(put(&mut output_buffer, 1), PutOutcome::FirstByte);
    let outcome: Vec<PutOutcome> = (2..=100)
        .map(|_| {
            let mut part = LinkBuffer::new();
            part.put_u8(1);
            output_buffer.append(part, || WATERMARKS, || Role::Poller)
        })
        .collect();
    assert_eq!(
        outcome
            .iter()
            .position(|&outcome| outcome == PutOutcome::HighWatermark),
        Some(98)
    );
}

#[test]
fn puts_behind_unsent_output_reach_the_watermark_sooner() {
    let mut output_buffer = output_buffer();
    put(&mut output_buffer, 150);
    let mut taken = output_buffer.take().unwrap();
    assert_eq!(
        put(&mut output_buffer, 1),
        PutOutcome::FirstByte,
        "past the watermark, which was reported before"
    );
    taken.skip(60).unwrap();
    drop(output_buffer.return_unsent(&mut taken));
    assert_eq!(output_buffer.unsent(), 91);
    assert_eq!(put(&mut output_buffer, 8), PutOutcome::Unchanged);
    assert_eq!(put(&mut output_buffer, 1), PutOutcome::HighWatermark);
}

#[test]
fn next_put_on_the_poller_reports_output_put_elsewhere() {
    let mut output_buffer = output_buffer();
    let off = output_buffer.append(text("ab"), || WATERMARKS, || Role::OtherThread);
    assert_eq!(off, PutOutcome::Unchanged);
    assert_eq!(put(&mut output_buffer, 1), PutOutcome::FirstByte);
    assert_eq!(put(&mut output_buffer, 1), PutOutcome::Unchanged);
}

#[test]
fn output_of_a_failed_send_is_not_reported_as_sent() {
    for off_poller in [false, true] {
        let mut output_buffer = output_buffer();
        put(&mut output_buffer, 10);
        let taken = output_buffer.take().unwrap();
        if off_poller {
            // A failed sender may have no bytes to return.
            drop(taken);
            let failed = Err(io::ErrorKind::BrokenPipe.into());
            let (flushed, poller_must_act) =
                output_buffer.return_unsent_off_poller(&mut LinkBuffer::new(), failed);
            assert!(flushed.is_none() && poller_must_act);
        }
        assert!(
            output_buffer.flush_result(0).is_none(),
            "the failed send has no result yet"
        );
        assert!(output_buffer.discard(CloseReason::Local).0.is_none());
        assert_eq!(output_buffer.unsent(), 0);
        assert!(output_buffer.flush_result(0).unwrap().is_err());
    }
}

#[test]
fn output_over_the_limit_is_discarded() {
    let mut output_buffer = output_buffer();
    assert_eq!(put(&mut output_buffer, 201), PutOutcome::Overflow);
    assert_eq!(put(&mut output_buffer, 1), PutOutcome::Unchanged);
    assert_eq!(
        output_buffer.unsent(),
        0,
        "the put behind it is discarded, too"
    );
}

#[test]
fn uncommitted_bytes_count_toward_the_limit() {
    let mut output_buffer = output_buffer();
    let (_, outcome) = output_buffer.reserve(150, || WATERMARKS, || Role::Poller);
    assert_eq!(
        (outcome, output_buffer.uncommitted_len()),
        (PutOutcome::Unchanged, 150)
    );
    assert_eq!(put(&mut output_buffer, 50), PutOutcome::Unchanged);
    assert_eq!(put(&mut output_buffer, 1), PutOutcome::Overflow);
    assert_eq!(output_buffer.uncommitted_len(), 0);
    assert!(output_buffer.take_overflowed().is_some());
}

#[test]
fn unsent_output_is_sent_before_new_output() {
    let mut output_buffer = output_buffer();
    output_buffer.append(text("abcd"), || WATERMARKS, || Role::Poller);
    let mut taken = output_buffer.take().unwrap();
    output_buffer.append(text("ef"), || WATERMARKS, || Role::Poller);
    assert_eq!(output_buffer.unsent(), 6);
    taken.skip(2).unwrap();
    assert!(output_buffer.return_unsent(&mut taken).is_none());
    assert_eq!(output_buffer.take().unwrap().read_vec(4).unwrap(), b"cdef");
}

#[test]
fn closed_output_buffer_discards_new_puts_and_keeps_queued_output() {
    let mut output_buffer = output_buffer();
    put(&mut output_buffer, 5);
    output_buffer.close(CloseReason::Local);
    assert_eq!(put(&mut output_buffer, 5), PutOutcome::Unchanged);
    assert_eq!(output_buffer.unsent(), 5);
}

#[test]
fn flush_is_woken_when_all_output_is_sent() {
    let mut output_buffer = output_buffer();
    put(&mut output_buffer, 5);
    let wait = Wait {
        since: Instant::now(),
        deadline: None,
    };
    wait_until_sent(&mut output_buffer, 0, wait);
    let mut taken = output_buffer.take().unwrap();
    taken.skip(4).unwrap();
    assert!(output_buffer.return_unsent(&mut taken).is_none());
    let mut rest = output_buffer.take().unwrap();
    rest.skip(1).unwrap();
    assert!(output_buffer.return_unsent(&mut rest).is_some());
}

#[test]
fn writer_waiting_for_space_is_woken_at_its_threshold() {
    let mut output_buffer = output_buffer();
    put(&mut output_buffer, 90);
    let wait = Wait {
        since: Instant::now(),
        deadline: None,
    };
    wait_until_sent(&mut output_buffer, 40, wait);
    let mut taken = output_buffer.take().unwrap();
    taken.skip(49).unwrap();
    assert!(
        output_buffer.return_unsent(&mut taken).is_none(),
        "41 bytes stay unsent"
    );
    let mut taken = output_buffer.take().unwrap();
    taken.skip(1).unwrap();
    assert!(output_buffer.return_unsent(&mut taken).is_some());
}

#[test]
fn one_send_runs_at_a_time_and_the_poller_handles_a_full_socket() {
    let mut output_buffer = output_buffer();
    put(&mut output_buffer, 10);
    let mut first = output_buffer.take_off_poller().unwrap();
    put(&mut output_buffer, 5);
    assert!(
        output_buffer.take().is_none(),
        "the current sender checks again when it is done"
    );
    let (_, poller_must_act) = output_buffer.return_unsent_off_poller(&mut first, Ok(0));
    assert!(poller_must_act);
    assert_eq!(output_buffer.blocked_len(), 15);
    assert!(output_buffer.take_off_poller().is_none());
    let all = output_buffer.take().unwrap();
    assert_eq!(all.len(), 15);
    drop(output_buffer.return_unsent(&mut LinkBuffer::new()));
    assert_eq!(output_buffer.blocked_len(), 0);
}

#[test]
fn output_returned_after_discard_is_discarded() {
    let mut output_buffer = output_buffer();
    put(&mut output_buffer, 10);
    let mut taken = output_buffer.take_off_poller().unwrap();
    drop(output_buffer.discard(CloseReason::Local));
    drop(output_buffer.return_unsent_off_poller(&mut taken, Ok(0)));
    assert_eq!(output_buffer.unsent(), 0);
}

#[test]
fn direct_send_holds_up_other_senders_and_its_rest_goes_first() {
    let mut output_buffer = output_buffer();
    assert!(output_buffer.begin_direct_send(10));
    assert_eq!(output_buffer.unsent(), 10);
    put(&mut output_buffer, 3);
    assert!(output_buffer.take().is_none(), "a send is under way");
    assert!(!output_buffer.begin_direct_send(1));
    assert!(output_buffer.flush_result(0).is_none());
    let mut rest = text("rest");
    let (_, poller_must_act) = output_buffer.return_unsent_off_poller(&mut rest, Ok(6));
    assert!(poller_must_act && output_buffer.sent == 6);
    assert!(!output_buffer.begin_direct_send(1), "output is queued");
    let mut all = output_buffer.take().expect("output");
    assert_eq!(all.read_vec(all.len()).unwrap(), b"rest\x01\x01\x01");
}

#[test]
fn direct_send_needs_an_open_output_without_a_reservation() {
    let mut closed = output_buffer();
    closed.close(CloseReason::Local);
    assert!(!closed.begin_direct_send(1));
    let mut reserved = output_buffer();
    let (reservation, _) = reserved.reserve(1, || WATERMARKS, || Role::Poller);
    assert!(reservation.is_ok() && !reserved.begin_direct_send(1));
}
