// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the compiler says about a first program that does not compile.
//!
//! `diagnostics/refused.rs` is a program with one mistake in each function, and the lines that the
//! compiler has to print for it. The compiler runs on it once. Only these lines are compared: the
//! rest of a message differs between compilers.

use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = "tests/diagnostics/refused.rs";

/// A mistake, and what the compiler has to say about it.
#[derive(Debug)]
struct Mistake<'a> {
    name: &'a str,
    /// The line of its function.
    line: usize,
    expected: Vec<&'a str>,
}

/// Returns the mistakes of `program`: each is a function behind comments that start with `//~`.
fn mistakes(program: &str) -> Vec<Mistake<'_>> {
    let mut mistakes = Vec::new();
    let mut expected = Vec::new();
    for (index, line) in program.lines().enumerate() {
        if let Some(text) = line.strip_prefix("//~ ") {
            expected.push(text);
        } else if let Some(name) = line.strip_prefix("fn ").filter(|_| !expected.is_empty()) {
            mistakes.push(Mistake {
                name: name.split('(').next().unwrap_or(name),
                line: index + 1,
                expected: std::mem::take(&mut expected),
            });
        }
    }
    mistakes
}

/// Returns the newest library of this crate beside this test program: the one that cargo has built
/// for it.
fn library(directory: &Path) -> PathBuf {
    let files = std::fs::read_dir(directory).expect("the directory of this program");
    let libraries = files.flatten().filter(|file| {
        let name = file.file_name().into_string().unwrap_or_default();
        name.starts_with("libnetpoll-") && name.ends_with(".rlib")
    });
    let newest = libraries.max_by_key(|file| file.metadata().and_then(|file| file.modified()).ok());
    newest.expect("the library of this crate").path()
}

/// Compiles the program, and returns the messages of the compiler.
fn messages() -> String {
    let this = std::env::current_exe().expect("a path");
    let directory = this.parent().expect("a directory");
    // The messages quote lines of this crate, whose paths are relative to the workspace.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.ancestors().nth(2).expect("a workspace");
    let mut library_flag = std::ffi::OsString::from("netpoll=");
    library_flag.push(library(directory));
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args([
            "--edition=2024",
            "--crate-type=bin",
            "--emit=metadata",
            "--color=never",
        ])
        .args(["-o", "/dev/null", "-L"])
        .arg(directory)
        .arg("--extern")
        .arg(library_flag)
        .arg(package.join(PROGRAM))
        .current_dir(workspace)
        .output()
        .expect("a compiler");
    assert!(!output.status.success(), "the program compiles");
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// Returns the messages whose first place is in the function that starts at `line`.
fn messages_of<'a>(messages: &[&'a str], line: usize, end: usize) -> Vec<&'a str> {
    let place = |message: &str| -> Option<usize> {
        let place = message
            .lines()
            .find_map(|line| line.trim().strip_prefix("--> "))?;
        place.rsplit(':').nth(1)?.parse().ok()
    };
    let is_inside = |message: &&&str| place(message).is_some_and(|at| (line..end).contains(&at));
    messages.iter().filter(is_inside).copied().collect()
}

#[test]
fn the_compiler_says_what_is_wrong_and_what_to_do() {
    let program = include_str!("diagnostics/refused.rs");
    let all = messages();
    let messages: Vec<&str> = all.split("\n\n").collect();
    let mistakes = mistakes(program);
    assert!(mistakes.len() >= 10, "{mistakes:?}");
    let ends = mistakes
        .iter()
        .skip(1)
        .map(|next| next.line)
        .chain([usize::MAX]);
    for (mistake, end) in mistakes.iter().zip(ends) {
        let said = messages_of(&messages, mistake.line, end).join("\n\n");
        for expected in &mistake.expected {
            assert!(
                said.contains(expected),
                "{}: no {expected:?} in\n{said}\n(all: {all})",
                mistake.name
            );
        }
    }
}
