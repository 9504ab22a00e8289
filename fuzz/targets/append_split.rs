// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations that move contents between two buffers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    netpoll_model::append_split(data);
});
