// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any codec on any stream in any pieces, compared with the same format over a flat slice.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    netpoll_model::codecs(data);
});
