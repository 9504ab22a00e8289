// SPDX-License-Identifier: MIT OR Apache-2.0
//! Instruction counts of netpoll's most frequent operations: the hot paths of the buffer and the
//! codecs one by one, and whole runs of `netpoll serve rpc`.
//!
//! ```sh
//! ci/instructions              # counts, and fails if a path needs 3 % more than its baseline
//! ci/instructions --renew      # counts, and writes the counts as the baselines
//! ```
//!
//! Callgrind counts, run by gungraun: `benches/paths.rs` counts one function each;
//! `benches/serving.rs` counts a server process, while an uncounted client drives it from another
//! process. A count does not depend on the machine or its other work, so a small limit is possible.
//! It is not time: it contains neither the kernel's work nor cache misses.
//!
//! This library is shared by the benches and the guard (`src/main.rs`).
#![forbid(unsafe_code)]

pub mod baseline;
pub mod client;
pub mod counted;
pub mod run;

/// Operations in one bench of `benches/paths.rs`; the report is per operation.
pub const TIMES: usize = 1_000;

/// The value of `GLIBC_TUNABLES`. By default, the C library selects its copy loop by the processor;
/// with this value, it uses one that every processor supports and that copies several bytes an
/// instruction.
pub const SAME_COPIES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM";
