// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any operations on two buffers, compared with two queues of bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    netpoll_model::operations(data);
});
