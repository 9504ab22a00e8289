// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cost of a [`LinkBuffer`](netpoll_buffer::LinkBuffer) in comparison with a `BytesMut` plus
//! `VecDeque<Bytes>`, a `LinkedBytes` and a plain `Vec<u8>`.
//!
//! ```sh
//! cargo bench --manifest-path bench/buffer/Cargo.toml                 # about four minutes
//! cargo bench --manifest-path bench/buffer/Cargo.toml -- --quick      # less than one
//! cargo bench --manifest-path bench/buffer/Cargo.toml -- parse_frames # a part of it
//! ```
//!
//! The program first checks that forwarding copies nothing. Then criterion measures. At the end,
//! the ratios are printed with their targets, and written to `criterion/ratios.json` in the target
//! directory. Only ratios within one run are meaningful: nanoseconds depend on the machine and its
//! other work. The creation and the drop of inputs are never timed.
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
