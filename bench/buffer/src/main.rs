// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a [`LinkBuffer`](netpoll_buffer::LinkBuffer) costs beside a `BytesMut` with a
//! `VecDeque<Bytes>`, a `LinkedBytes` and a plain `Vec<u8>`.
//!
//! ```sh
//! cargo bench --manifest-path bench/buffer/Cargo.toml                 # some four minutes
//! cargo bench --manifest-path bench/buffer/Cargo.toml -- --quick      # less than one
//! cargo bench --manifest-path bench/buffer/Cargo.toml -- parse_frames # a part of it
//! ```
//!
//! First it is checked that forwarding copies nothing; then criterion measures; then the ratios
//! are printed beside their targets, and written to `criterion/ratios.json` in the target folder.
//! Only ratios of one run mean something: nanoseconds depend on the machine and on who else is on
//! it. Inputs are made and dropped outside of what is timed, everywhere.
#![forbid(unsafe_code)]

mod copies;
mod forward;
mod landed;
mod parse_frames;
mod ratios;
mod slice;
mod write_read;

use std::path::Path;
use std::time::{Duration, SystemTime};

use criterion::Criterion;

fn main() {
    copies::check();
    let started = SystemTime::now();
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("criterion");
    let mut criterion = Criterion::default()
        .output_directory(&results)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    write_read::bench(&mut criterion);
    parse_frames::bench(&mut criterion);
    forward::bench(&mut criterion);
    slice::bench(&mut criterion);
    criterion.final_summary();
    ratios::report(&results, started);
}
