// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts: by the poller and by other threads, and after the end of the output.

use super::*;
use crate::error::ErrorKind;

const WATERMARKS: Watermarks = Watermarks {
    high: 100,
    limit: 200,
};

fn put(output_buffer: &mut OutputBuffer, bytes: usize, role: Role) -> PutOutcome {
    output_buffer.put_slices(&[&vec![1; bytes]], || WATERMARKS, || role)
}

#[test]
fn put_by_the_running_connection_needs_no_notification() {
    let mut output_buffer = OutputBuffer::new();
    assert_eq!(
        put(&mut output_buffer, 1, Role::Running),
        PutOutcome::Unchanged
    );
    assert!(
        output_buffer.put_in_place(&[b"ab"]),
        "the engine sends when the handler has run"
    );
    assert_eq!(
        put(&mut output_buffer, 1, Role::Poller),
        PutOutcome::Unchanged
    );
    assert_eq!(
        put(&mut output_buffer, 96, Role::Running),
        PutOutcome::HighWatermark
    );
    output_buffer.take().unwrap();
    assert!(
        !output_buffer.put_in_place(&[b"ab"]),
        "output after a take needs a new send"
    );
    assert_eq!(
        put(&mut output_buffer, 1, Role::Running),
        PutOutcome::Unchanged
    );
    assert!(output_buffer.put_in_place(&[b"ab"]));
}

#[test]
fn off_poller_puts_take_the_slow_path_until_the_poller_is_notified() {
    let mut output_buffer = OutputBuffer::new();
    assert_eq!(
        put(&mut output_buffer, 1, Role::OtherThread),
        PutOutcome::Unchanged
    );
    assert!(
        !output_buffer.put_in_place(&[b"ab"]),
        "no send is scheduled"
    );
    assert_eq!(
        put(&mut output_buffer, 1, Role::OtherThread),
        PutOutcome::Unchanged
    );
    assert_eq!(
        put(&mut output_buffer, 1, Role::Poller),
        PutOutcome::FirstByte
    );
    assert!(output_buffer.put_in_place(&[b"ab"]));
    assert_eq!(
        put(&mut output_buffer, 1, Role::OtherThread),
        PutOutcome::Unchanged
    );
    assert!(output_buffer.put_in_place(&[b"ab"]));
}

#[test]
fn high_watermark_is_reported_off_the_poller() {
    let mut output_buffer = OutputBuffer::new();
    assert_eq!(
        put(&mut output_buffer, 99, Role::OtherThread),
        PutOutcome::Unchanged
    );
    assert_eq!(
        put(&mut output_buffer, 1, Role::OtherThread),
        PutOutcome::HighWatermark
    );
    assert_eq!(
        put(&mut output_buffer, 1, Role::Poller),
        PutOutcome::Unchanged
    );
    assert!(output_buffer.put_in_place(&[&[1; 98]]), "up to the limit");
    assert!(!output_buffer.put_in_place(&[&[1; 1]]));
    assert_eq!(
        put(&mut output_buffer, 1, Role::OtherThread),
        PutOutcome::Unchanged
    );
    assert_eq!(
        put(&mut output_buffer, 1, Role::OtherThread),
        PutOutcome::Overflow
    );
}

#[test]
fn empty_put_is_not_reported() {
    for role in [Role::Running, Role::Poller] {
        let mut output_buffer = OutputBuffer::new();
        assert_eq!(put(&mut output_buffer, 0, role), PutOutcome::Unchanged);
        assert!(!output_buffer.put_in_place(&[b"a"]), "no send is scheduled");
    }
}

/// Tries a put, by `put_slices` if `way` is 0 and by `accepts_put` otherwise. Returns whether a
/// flush still reports the earlier output as sent.
fn flushes_after_a_put(output_buffer: &mut OutputBuffer, way: usize) -> bool {
    let before = output_buffer.unsent();
    assert!(!output_buffer.put_in_place(&[b"a"]));
    let outcome = match way {
        0 => put(output_buffer, 1, Role::Poller),
        _ => {
            assert!(!output_buffer.accepts_put());
            PutOutcome::Unchanged
        }
    };
    assert_eq!(
        (outcome, output_buffer.unsent()),
        (PutOutcome::Unchanged, before)
    );
    output_buffer
        .flush_result(before)
        .is_some_and(|sent| sent.is_ok())
}

#[test]
fn put_after_shutdown_fails_the_flush() {
    for way in 0..2 {
        for fin_sent in [false, true] {
            let mut output_buffer = OutputBuffer::new();
            put(&mut output_buffer, 5, Role::Poller);
            drop(output_buffer.shut_down());
            if fin_sent {
                output_buffer.set_fin_sent();
            }
            assert!(
                output_buffer.flush_result(5).unwrap().is_ok(),
                "no put was discarded"
            );
            assert!(!flushes_after_a_put(&mut output_buffer, way));
            let why = output_buffer.put_error().expect("a reason");
            assert!(matches!(
                ErrorKind::payload(&why),
                Some(ErrorKind::WriteAfterShutdown)
            ));
        }
    }
}

#[test]
fn put_after_detach_or_close_does_not_fail_the_flush() {
    for way in 0..2 {
        let mut detaching = OutputBuffer::new();
        drop(detaching.begin_detach());
        assert!(flushes_after_a_put(&mut detaching, way));
        let mut closed = OutputBuffer::new();
        closed.close(CloseReason::Local);
        let outcome = put(&mut closed, 1, Role::Poller);
        assert_eq!(
            (outcome, closed.shutdown_state),
            (PutOutcome::Unchanged, ShutdownState::Open)
        );
    }
}
