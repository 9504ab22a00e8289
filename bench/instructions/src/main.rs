// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guard: compares the counts, on stdin in gungraun's format, with the baselines.
//!
//! ```text
//! guard check BASELINES MADE-WITH     status 1 and the names if a path is above its limit
//! guard renew BASELINES MADE-WITH     writes the file
//! guard print                         prints the counts only
//! ```
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;
use std::process::ExitCode;

use netpoll_instructions_bench::baseline::Baselines;
use netpoll_instructions_bench::counted::{self, Counted};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let counted = counted::read(&std::io::read_to_string(std::io::stdin())?)?;
    match words[..] {
        ["check", file, made_with] => check(file, &counted, made_with),
        ["renew", file, made_with] => {
            let made_with = made_with.into();
            let baselines = Baselines {
                made_with,
                paths: counted,
            };
            fs::write(file, baselines.to_string())?;
            print!("{baselines}");
            Ok(ExitCode::SUCCESS)
        }
        ["print"] => {
            for Counted { name, instructions } in counted {
                println!("{name:<28} {instructions:>9.1}");
            }
            Ok(ExitCode::SUCCESS)
        }
        _ => Err("guard check|renew BASELINES MADE-WITH, or guard print".into()),
    }
}

fn check(file: &str, counted: &[Counted], made_with: &str) -> Result<ExitCode, Box<dyn Error>> {
    let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let baselines = Baselines::read(&text)?;
    let judgement = baselines.judge(counted, made_with);
    print!("{}", judgement.allowed);
    if baselines.made_with != made_with {
        println!(
            "The baselines were made with {}, this with {made_with}: the limit is wider. Renew them.",
            baselines.made_with
        );
    } else if judgement.better {
        println!("To guard what was won: ci/instructions --renew, and commit {file}");
    }
    if judgement.failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprint!(
        "These paths need too many instructions, or are not known:\n{}",
        judgement.failed
    );
    eprintln!("If that is the price of what was wanted: ci/instructions --renew, and say so.");
    Ok(ExitCode::FAILURE)
}
