// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the model for a long time: random sequences of operations on all processors, numbered, so
//! that a failing one can be run again alone.
//!
//! ```sh
//! cargo run --release -p netpoll-model --example sequences -- 10000000       # from number 0 on
//! cargo run --release -p netpoll-model --example sequences -- 1 1234         # number 1234
//! ```

use std::panic;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};

/// The bytes of one sequence, which encode about forty operations.
const BYTES: usize = 560;

/// Sequences between two updates of the progress bar.
const BATCH: u64 = 1000;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let (Some(Ok(count)), first) = (numbers.next(), numbers.next().unwrap_or(Ok(0))) else {
        eprintln!("how many sequences? `sequences COUNT [FIRST]`");
        return ExitCode::from(2);
    };
    let Ok(first) = first else {
        eprintln!("FIRST is the number of a sequence");
        return ExitCode::from(2);
    };
    let bar = ProgressBar::new(count).with_style(
        ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} sequences, {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let (next, operations) = (AtomicU64::new(0), AtomicU64::new(0));
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let failed = thread::scope(|scope| {
        let workers: Vec<_> = (0..processors)
            .map(|_| scope.spawn(|| work(first, count, &next, &operations, &bar)))
            .collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().unwrap_or(Some(first)))
            .min()
    });
    bar.finish_and_clear();
    if let Some(number) = failed {
        eprintln!("sequence {number} fails");
        return ExitCode::FAILURE;
    }
    let operations = operations.into_inner();
    println!("{count} sequences from number {first} on, {operations} operations, no divergence");
    ExitCode::SUCCESS
}

/// Runs batches until none are left; returns the number of a failing sequence.
fn work(
    first: u64,
    count: u64,
    next: &AtomicU64,
    operations: &AtomicU64,
    bar: &ProgressBar,
) -> Option<u64> {
    loop {
        // Relaxed: the counts are only read when all threads have ended.
        let start = next.fetch_add(BATCH, Ordering::Relaxed);
        if start >= count {
            return None;
        }
        let end = count.min(start + BATCH);
        for number in first + start..first + end {
            match panic::catch_unwind(|| netpoll_model::operations(&bytes(number))) {
                Ok(done) => operations.fetch_add(done as u64, Ordering::Relaxed),
                Err(_panicked) => {
                    next.store(count, Ordering::Relaxed);
                    return Some(number);
                }
            };
        }
        bar.inc(end - start);
    }
}

/// Returns the bytes of sequence `number`: SplitMix64 from a seed of its own.
fn bytes(number: u64) -> [u8; BYTES] {
    let mut state = number.wrapping_mul(0xD134_2543_DE82_EF95);
    let mut bytes = [0; BYTES];
    for eight in bytes.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        eight.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    bytes
}
