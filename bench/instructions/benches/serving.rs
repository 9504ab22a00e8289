// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole runs of a server: of `netpoll serve rpc` with one poller, or of the command in
//! `INSTRUCTIONS_SERVER`, followed by `--addr ADDR`. All instructions of its process are counted.
//! The `start` run counts the start alone, so that it can be subtracted.
//!
//! The client is what gungraun calls the setup of a bench, and runs in parallel.
#![forbid(unsafe_code)]

use std::path::Path;

use gungraun::{
    BinaryBenchmarkConfig, Callgrind, Command, ExitWith, binary_benchmark, binary_benchmark_group,
    main,
};
use netpoll_instructions_bench::run::Run;
use netpoll_instructions_bench::{SAME_COPIES, client};

#[binary_benchmark(setup = drive)]
#[bench::start("start")]
#[bench::frames_of_1k("frames_of_1k")]
#[bench::frames_of_64k("frames_of_64k")]
#[bench::pipelined_128b_by_32("pipelined_128b_by_32")]
#[bench::pipelined_128b_by_64("pipelined_128b_by_64")]
#[bench::churn("churn")]
fn serve(name: &str) -> Command {
    let server = std::env::var("INSTRUCTIONS_SERVER").expect("ci/instructions says which server");
    let mut words = server.split_whitespace();
    let program = Path::new(words.next().expect("a program"));
    // netpoll shuts down gracefully. The peers need no shutdown, and the signal ends them.
    let ends = match program.ends_with("netpoll") {
        true => ExitWith::Success,
        false => ExitWith::Signal(SIGTERM),
    };
    Command::new(program)
        .args(words)
        .exit_with(ends)
        .args(["--addr", &run(name).addr().to_string()])
        .setup_parallel(true)
        .build()
}

const SIGTERM: i32 = 15;

fn drive(name: &str) {
    client::drive(run(name)).expect("a server that answers");
}

fn run(name: &str) -> &'static Run {
    Run::named(name).expect("a bench has the name of its run")
}

binary_benchmark_group!(name = serving, benchmarks = serve);

main!(
    config = BinaryBenchmarkConfig::default()
        .tool(Callgrind::with_args(["--cache-sim=no"]))
        .env("GLIBC_TUNABLES", SAME_COPIES),
    binary_benchmark_groups = serving
);
