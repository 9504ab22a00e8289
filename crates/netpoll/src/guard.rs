// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one entry from a poller into user code.
//!
//! A poll of a handler, the *drop* of its future, a callback, the drop of a panic's payload: each
//! may panic, and must not take a poller and its other connections down. Every such call goes
//! through [`guard`], under no lock of ours, because user code may call any handle. A build with
//! debug assertions panics, outside of the guard, if a lock is held.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::assert_unlocked;

/// User code panicked. The panic hook has already reported where and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CaughtPanic;

/// Runs `entry`, and catches a panic.
///
/// After a panic, values that `entry` borrows are only dropped or replaced. This makes the
/// assertion of unwind safety true.
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

/// The most nested payloads that are dropped before one is leaked.
const MAX_NESTED_PANICS: u32 = 8;

/// Drops a payload, which is user code, too: its drop may panic again, with another payload.
#[cold]
fn drop_payload(mut payload: Box<dyn std::any::Any + Send>) {
    for _ in 0..MAX_NESTED_PANICS {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    // This could go on without end, so the last payload is leaked.
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
