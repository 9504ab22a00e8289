// SPDX-License-Identifier: MIT OR Apache-2.0
//! Searches for a delimiter through a chain of pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    netpoll_model::until(data);
});
