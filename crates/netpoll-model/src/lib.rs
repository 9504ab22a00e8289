// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a [`LinkBuffer`](netpoll_buffer::LinkBuffer) must do: whatever is done to two of them, in
//! whatever order and with whatever arguments, they hold what two plain queues of bytes hold,
//! refuse what those would refuse, and give all memory back.
//!
//! The operations are a value, `op::ModelStep`, so that random sequences, a fuzzer and its stored
//! inputs all drive the one model. What they do is checked after every step; what was taken out and
//! kept, at the end:
//!
//! ```text
//!   strategy (random)  ─┐                 ┌─ read  write  open  foreign
//!   bytes of a fuzzer  ─┴─▶  [Step]  ─▶ world ── two buffers beside two queues, a ledger of what
//!                                              is kept, and a pair of sockets
//! ```
//!
//! The codecs of `netpoll` are beside it, each with the same format over a flat slice.
//!
//! `fuzz/` has a target for each function here; `tests/corpus.rs` runs what those have found.
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

/// Runs the sequence of operations that `data` stands for, and says how many those are.
///
/// # Panics
///
/// If the buffers do anything else than the queues, or keep memory.
pub fn operations(data: &[u8]) -> usize {
    let steps = steps(data, |_any| true);
    run(&steps);
    steps.len()
}

/// The same, of operations that move contents between two buffers, and what is needed around them.
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

/// The operations that `data` stands for, of those that are `wanted`.
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

/// Takes all steps on a thread with a pool of its own, to which everything has to come back.
fn run(steps: &[ModelStep]) {
    with_own_pool(|| {
        let mut world = Model::new();
        for step in steps {
            world.step(step);
            world.check();
        }
        world.finish();
    });
}

/// Runs `act` on a thread with a pool of its own, to which everything has to come back.
fn with_own_pool(act: impl FnOnce() + Send) {
    let pool = Pool::default();
    let inside = pool.clone();
    thread::scope(|scope| {
        let acting = scope.spawn(move || {
            inside.enter();
            act();
        });
        if let Err(panicked) = acting.join() {
            panic::resume_unwind(panicked);
        }
    });
    assert_eq!(pool.stats().in_use, 0, "memory that did not come home");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, proptest};
    use proptest::test_runner::RngAlgorithm;

    use super::*;

    /// How many sequences, unless `PROPTEST_CASES` in the environment says another number.
    const CASES: u32 = 2000;

    fn config() -> ProptestConfig {
        let asked = std::env::var("PROPTEST_CASES").ok();
        ProptestConfig {
            cases: asked.and_then(|cases| cases.parse().ok()).unwrap_or(CASES),
            failure_persistence: None,
            // Unoptimised, the other one takes more time than all the buffers.
            rng_algorithm: RngAlgorithm::XorShift,
            ..ProptestConfig::default()
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn two_buffers_are_two_queues_of_bytes(steps in strategy::steps()) {
            run(&steps);
        }

        #[test]
        fn frames_in_pieces_are_those_of_a_flat_stream(case in strategy::case()) {
            codecs::run(&case);
        }
    }
}
