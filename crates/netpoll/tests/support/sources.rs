// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the workspace's sources, for tests of their structure.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace")
}

/// Returns all Rust files below `folder`, with their text.
pub(crate) fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a text");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

/// Returns the sources of a crate's library or program, without the files of its unit tests.
pub(crate) fn product_sources(crate_folder: &str) -> Vec<(PathBuf, String)> {
    let folder = format!("{crate_folder}/src");
    let is_product = |path: &Path| {
        let inside = path.strip_prefix(root().join(&folder)).expect("a source");
        !inside.iter().any(|part| {
            let name = part.to_string_lossy();
            let name = name.trim_end_matches(".rs");
            name == "tests" || name.ends_with("_tests")
        })
    };
    let mut found = sources(&folder);
    found.retain(|(path, _)| is_product(path));
    found
}

/// Returns a source without its unit tests, which are last.
pub(crate) fn without_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod tests")
        .map_or(text, |end| &text[..end])
}

/// Returns the lines of a text that are code.
pub(crate) fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

pub(crate) fn all_sources() -> Vec<(PathBuf, String)> {
    ["crates", "cli", "examples", "fuzz/targets"]
        .into_iter()
        .flat_map(sources)
        .collect()
}
