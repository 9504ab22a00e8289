// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many instructions netpoll needs for what it does most: the hot paths of the buffer and of the
//! codecs one by one, and whole runs of `netpoll serve rpc`.
//!
//! ```sh
//! ci/instructions              # counts, and fails where a path needs 3 % more than its baseline
//! ci/instructions --renew      # counts, and writes what it has counted as the baselines
//! ```
//!
//! Counts are callgrind's, run by gungraun: those of `benches/paths.rs` are of one function, those of
//! `benches/serving.rs` of a process that serves, while its client, which is counted by nobody, drives
//! it from another. A count does not depend on the machine or on who else is on it, so a small limit
//! can be held to. It is not time: what the kernel does is not in it, nor is what a cache misses.
//!
//! This library is what the benches and the guard (`src/main.rs`) share.
#![forbid(unsafe_code)]

pub mod baseline;
pub mod client;
pub mod counted;
pub mod run;

/// Every path of `benches/paths.rs` does what it does so many times; what is reported is one time.
pub const TIMES: usize = 1_000;

/// For `GLIBC_TUNABLES`. The C library copies in the loop that it thinks best for the processor it
/// runs on; with this it takes one that each has, and that copies several bytes an instruction.
pub const SAME_COPIES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM";
