// SPDX-License-Identifier: MIT OR Apache-2.0
//! A model of [`LinkBuffer`](netpoll_buffer::LinkBuffer): after any operations, in any order and
//! with any arguments, two buffers hold the bytes that two plain queues hold, reject the calls that
//! those reject, and free all memory.
//!
//! The operations are a value, `op::ModelStep`, so that random sequences, a fuzzer and its stored
//! inputs all drive the same model. The contents are checked after every step; slices and buffers
//! that were split off are checked at the end:
//!
//! ```text
//!   strategy (random)  ─┐                          ┌─ read  write  reservations  traits
//!   bytes of a fuzzer  ─┴─▶  [ModelStep]  ─▶ Model ─┤
//!                                                  └─ two buffers beside two queues, the slices
//!                                                     and parts taken from them, two sockets
//! ```
//!
//! The model of the codecs of `netpoll` compares each with the same format over a flat slice.
//!
//! `fuzz/` has a target for each function here; `tests/corpus.rs` runs the inputs that those have
//! found.
#![forbid(unsafe_code)]

mod codecs;
mod model;
mod op;
mod read;
mod reservations;
mod search;
#[cfg(test)]
mod strategy;
mod trait_ops;
mod write;

use std::panic;
use std::thread;

use arbitrary::{Arbitrary, Unstructured};
use netpoll_buffer::Pool;

use model::Model;
use op::{ModelStep, Op, ReadOp, TransferOp, WriteOp};

pub use codecs::codecs;
pub use search::until;

/// The most operations of one sequence.
const MAX_STEPS: usize = 120;

/// Runs the sequence of operations that `data` encodes; returns their number.
///
/// # Panics
///
/// If the buffers and the queues differ, or memory is leaked.
pub fn operations(data: &[u8]) -> usize {
    let steps = steps(data, |_any| true);
    run(&steps);
    steps.len()
}

/// Runs only the operations that move contents between two buffers, and those that they need.
///
/// # Panics
///
/// As [`operations`].
pub fn append_split(data: &[u8]) -> usize {
    let steps = steps(data, |op| {
        matches!(
            op,
            Op::Transfer(
                TransferOp::Append
                    | TransferOp::AppendPart(_)
                    | TransferOp::Prepend { .. }
                    | TransferOp::Compact
            ) | Op::Read(ReadOp::SplitTo(_) | ReadOp::Slice(_) | ReadOp::Skip(_) | ReadOp::Peek(_))
                | Op::Write(
                    WriteOp::Put(_) | WriteOp::Push(_) | WriteOp::Window(_) | WriteOp::FillTail(_)
                )
                | Op::Reservation(_)
        )
    });
    run(&steps);
    steps.len()
}

/// Decodes the operations of `data` that are `wanted`.
fn steps(data: &[u8], wanted: impl Fn(&Op) -> bool) -> Vec<ModelStep> {
    let mut data = Unstructured::new(data);
    let steps = std::iter::from_fn(|| {
        (!data.is_empty())
            .then(|| ModelStep::arbitrary(&mut data).ok())
            .flatten()
    });
    steps
        .filter(|step| wanted(&step.op))
        .take(MAX_STEPS)
        .collect()
}

/// Runs all steps on a thread with a pool of its own, to which all memory has to return.
fn run(steps: &[ModelStep]) {
    with_own_pool(|| {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
            model.check();
        }
        model.finish();
    });
}

/// Runs `act` on a thread with a pool of its own, to which all memory has to return.
fn with_own_pool(act: impl FnOnce() + Send) {
    let pool = Pool::default();
    let inside = pool.clone();
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            inside.enter();
            act();
        });
        if let Err(panicked) = thread.join() {
            panic::resume_unwind(panicked);
        }
    });
    assert_eq!(pool.stats().in_use, 0, "all memory is released");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, proptest};
    use proptest::test_runner::RngAlgorithm;

    use super::*;

    /// Number of sequences, unless `PROPTEST_CASES` in the environment gives another.
    const CASES: u32 = 2000;

    fn config() -> ProptestConfig {
        let cases = std::env::var("PROPTEST_CASES").ok();
        ProptestConfig {
            cases: cases.and_then(|cases| cases.parse().ok()).unwrap_or(CASES),
            failure_persistence: None,
            // In a debug build the default generator takes more time than all the buffers.
            rng_algorithm: RngAlgorithm::XorShift,
            ..ProptestConfig::default()
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn two_buffers_match_two_queues_of_bytes(steps in strategy::steps()) {
            run(&steps);
        }

        #[test]
        fn frames_in_pieces_match_those_of_a_flat_stream(case in strategy::case()) {
            codecs::run(&case);
        }
    }
}
