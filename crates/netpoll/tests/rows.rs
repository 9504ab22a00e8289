// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page that maps behaviour to tests: every test that it names exists, and every row has an
//! answer.

use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../../docs/internals/go-test-parity.md");

/// The fewest tests that the page must name; with fewer, this search is broken.
const FEWEST: usize = 100;

/// Returns all Rust files of all crates.
fn sources() -> Vec<PathBuf> {
    let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let (mut found, mut paths) = (Vec::new(), vec![PathBuf::from(crates)]);
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(path).expect("a folder");
            paths.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Returns the tests that the page names: a file, from any folder down, and a test in it.
fn named() -> impl Iterator<Item = (&'static str, &'static str)> {
    let quoted = PAGE.split('`').skip(1).step_by(2);
    quoted.filter_map(|text| text.split_once(".rs::"))
}

/// Returns whether `path` has a test of that name, at most a few lines below `#[test]`.
fn has_test(path: &Path, name: &str) -> bool {
    let text = fs::read_to_string(path).expect("a text");
    let Some((before, _)) = text.split_once(&format!("fn {name}(")) else {
        return false;
    };
    let mut above = before.lines().rev().take(5);
    above.any(|line| line.trim() == "#[test]")
}

#[test]
fn every_test_named_by_the_page_exists() {
    let sources = sources();
    for (file, name) in named() {
        let mut files = sources
            .iter()
            .filter(|path| path.ends_with(format!("{file}.rs")));
        assert!(
            files.any(|path| has_test(path, name)),
            "{file}.rs has no test {name}"
        );
    }
    assert!(named().count() > FEWEST);
}

#[test]
fn every_row_names_a_test_or_a_reason() {
    let rows = PAGE.lines().filter(|line| line.starts_with("| "));
    let heads = ["| Go test", "| Go callback", "| what", "| event"];
    for row in rows.filter(|row| !heads.iter().any(|head| row.starts_with(head))) {
        let answers = [".rs::", "no place", "no test yet", "a doctest of `"];
        assert!(answers.iter().any(|answer| row.contains(answer)), "{row}");
    }
}
