// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the inputs of `fuzz/corpus`, which together reach all the code that a fuzzer has reached.
//! Each target has one archive, `fuzz/corpus/TARGET.tar`, which `ci/fuzz TARGET --minimize` writes.

#[path = "corpus/archive.rs"]
mod archive;

use std::fs;
use std::path::Path;

/// Runs `target` on every input of its archive, and asserts that they contain operations.
#[track_caller]
fn replay(name: &str, target: impl Fn(&[u8]) -> usize) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let bytes = fs::read(corpus.join(format!("{name}.tar"))).expect("an archive of inputs");
    let inputs = archive::files(&bytes).unwrap_or_else(|error| panic!("{name}.tar: {error}"));
    let mut operations = 0;
    for (input, contents) in &inputs {
        operations += std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target(contents)))
            .unwrap_or_else(|_| panic!("{name}/{input} fails"));
    }
    let inputs = inputs.len();
    assert!(inputs >= 100, "only {inputs} inputs");
    assert!(operations >= 3 * inputs, "only {operations} operations");
}

#[test]
fn fuzzed_operations_match_two_queues() {
    replay("operations", netpoll_model::operations);
}

#[test]
fn fuzzed_moves_between_two_buffers_match_two_queues() {
    replay("append_split", netpoll_model::append_split);
}

#[test]
fn fuzzed_searches_match_a_plain_search() {
    replay("until", netpoll_model::until);
}

#[test]
fn fuzzed_streams_decode_as_a_flat_stream() {
    replay("codecs", netpoll_model::codecs);
}
