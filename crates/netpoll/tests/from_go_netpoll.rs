// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page for users of Go netpoll is complete and correct: every name of ours in its tables
//! exists in the sources, and every exported name of Go netpoll has a row.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

const PAGE: &str = include_str!("../../../docs/guide/from-go-netpoll.md");

/// The setters that a macro gives to several types.
const SETTERS: &str = include_str!("../src/options/setters.rs");

/// The number of names that netpoll v0.7.2 and its mux export.
const EXPORTED: usize = 167;

/// Names that the page has before the sources do. A name that exists must be removed here.
const COMING: &[&str] = &[];

/// The text before the name of a type in its definition or in an `impl`.
const TYPE: [&str; 5] = [
    "struct ",
    "enum ",
    "impl ",
    "impl<K: HandlerKind> ",
    " for ",
];

/// The text before a function, field or constant, and before a variant or a row of a macro.
const PART: [&str; 4] = ["fn ", "pub ", "const ", "\n    "];

/// Returns the sources and tests of all crates, without their comments.
fn sources() -> Vec<String> {
    let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let (mut found, mut paths) = (Vec::new(), vec![PathBuf::from(crates)]);
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(path).expect("a folder");
            paths.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let mut text = fs::read_to_string(path).expect("a text");
            if text.contains("conn_option_setters!();") {
                text.push_str(SETTERS);
            }
            let is_code = |line: &&str| !line.trim_start().starts_with("//");
            found.push(text.lines().filter(is_code).collect::<Vec<_>>().join("\n"));
        }
    }
    found
}

/// Returns the rows of all tables: Go's name, ours, the differences.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    page.lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| Go"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

/// Returns the texts between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Returns whether `code` has `name` as a whole word right behind one of `words`.
fn has(code: &str, words: &[&str], name: &str) -> bool {
    let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let follows = |word: &str| {
        let mut places = code.match_indices(name);
        places.any(|(at, _)| code[..at].ends_with(word) && !goes_on(&code[at + name.len()..]))
    };
    words.iter().copied().any(follows)
}

/// Returns whether a type, a function, or a part of a type has this path.
fn exists(path: &str, sources: &[String]) -> bool {
    let (owner, name) = path.rsplit_once("::").unwrap_or(("", path));
    let (_, owner) = owner.rsplit_once("::").unwrap_or(("", owner));
    let is_type = |word: &str| word.starts_with(char::is_uppercase);
    sources.iter().any(|code| match is_type(owner) {
        true => has(code, &PART, name) && has(code, &TYPE, owner),
        false if is_type(name) => has(code, &TYPE, name),
        false => has(code, &PART, name),
    })
}

#[test]
fn every_netpoll_name_on_the_page_exists() {
    let sources = sources();
    for cells in rows(PAGE) {
        let is_path = |text: &&str| text.contains("::") && !text.contains(['(', '.']);
        let in_text = quoted(cells[2]).filter(is_path);
        for path in quoted(cells[1]).chain(in_text.filter(|path| !path.starts_with("std"))) {
            let is_coming = COMING.iter().any(|name| path.starts_with(name));
            assert_ne!(exists(path, &sources), is_coming, "{path}, of {cells:?}");
        }
        let answers = ["`", "not offered", "not yet", "unnecessary"];
        let answered = answers.map(|answer| cells[1].starts_with(answer));
        assert!(answered.contains(&true) && cells.len() == 3, "{cells:?}");
    }
}

#[test]
fn every_exported_go_name_is_listed_once() {
    let mut parts = PAGE.split("\n## ");
    let list = parts.find(|part| part.starts_with("Every exported name\n"));
    let rows = rows(list.expect("the list"));
    let names: Vec<&str> = rows.flat_map(|cells| quoted(cells[0])).collect();
    assert_eq!(names.len(), EXPORTED);
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), EXPORTED);
}
