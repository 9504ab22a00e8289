// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one door through which a poller enters user code.
//!
//! A poll of a handler, the *drop* of its future, a callback, the drop of a panic's payload: each
//! may panic, and none may take a poller and its other connections along. Every such entry goes
//! through [`guard`]. No lock of ours is held there: the callee may call any handle. A build with debug
//! assertions panics where that is not so, outside of the guard.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::assert_unlocked;

/// User code panicked. The panic hook has already said where and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CaughtPanic;

/// Runs `entry`; a panic inside ends there.
///
/// What `entry` borrows is not looked at again after a panic except to be dropped or replaced,
/// which is what makes the assertion of unwind safety true.
#[inline]
#[track_caller]
pub(crate) fn guard<R>(entry: impl FnOnce() -> R) -> Result<R, CaughtPanic> {
    assert_unlocked();
    match catch_unwind(AssertUnwindSafe(entry)) {
        Ok(value) => Ok(value),
        Err(payload) => {
            drop_payload(payload);
            Err(CaughtPanic)
        }
    }
}

/// The most payloads of payloads that are dropped before one is given up.
const MAX_NESTED_PANICS: u32 = 8;

/// A payload is user code too: its drop may panic again, with another payload.
#[cold]
fn drop_payload(mut payload: Box<dyn std::any::Any + Send>) {
    for _ in 0..MAX_NESTED_PANICS {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    // This could go on without end; the memory of the last one is the price of an answer.
    Box::leak(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsOnDrop;

    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn guard_returns_the_value_and_catches_a_panic() {
        assert_eq!(guard(|| 7), Ok(7));
        assert_eq!(guard(|| -> u8 { panic!("inside") }), Err(CaughtPanic));
    }

    #[test]
    fn guard_catches_a_payload_that_panics_on_drop() {
        assert_eq!(
            guard(|| std::panic::panic_any(PanicsOnDrop)),
            Err(CaughtPanic)
        );
    }
}
