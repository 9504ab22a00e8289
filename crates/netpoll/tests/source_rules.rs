// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules for every source file: its length, its first lines, and where unsafe code, atomics and
//! wakers are allowed.

#[allow(dead_code, reason = "the other test program uses the rest")]
#[path = "support/sources.rs"]
mod sources;

use std::fs;

use sources::{all_sources, product_sources, root, sources, without_tests};

/// The most lines of a file, its unit tests not counted.
const LONGEST_FILE: usize = 400;

/// The most lines of an example.
const LONGEST_EXAMPLE: usize = 80;

#[test]
fn files_have_at_most_400_lines() {
    for (path, text) in all_sources() {
        let lines = without_tests(&text).lines().count();
        assert!(lines <= LONGEST_FILE, "{}: {lines} lines", path.display());
    }
}

#[test]
fn examples_have_at_most_80_lines() {
    for (path, text) in sources("examples") {
        let lines = text.lines().count();
        assert!(
            lines <= LONGEST_EXAMPLE,
            "{}: {lines} lines",
            path.display()
        );
    }
}

#[test]
fn modules_lie_beside_their_folders() {
    for (path, _) in all_sources() {
        assert!(!path.ends_with("mod.rs"), "{}", path.display());
    }
}

#[test]
fn every_source_starts_with_its_license_and_an_essay() {
    for (path, text) in all_sources() {
        let mut lines = text.lines();
        let licence = lines.next().unwrap_or_default();
        assert_eq!(
            licence,
            "// SPDX-License-Identifier: MIT OR Apache-2.0",
            "{}",
            path.display()
        );
        let essay = lines.next().unwrap_or_default();
        assert!(
            essay.starts_with("//!"),
            "{} opens without an essay",
            path.display()
        );
    }
}

#[test]
fn unsafe_code_is_in_two_crates_only() {
    for (path, text) in all_sources() {
        let folder = path
            .strip_prefix(root())
            .expect("inside")
            .to_string_lossy()
            .into_owned();
        let explained = ["crates/netpoll-sys/src", "crates/netpoll-buffer/src"];
        if explained.iter().any(|allowed| folder.starts_with(allowed)) {
            continue;
        }
        let keyword = ["un", "safe "].concat();
        let found = text.lines().find(|line| {
            !line.trim_start().starts_with("//") && line.contains(&keyword) && !line.contains('"')
        });
        assert_eq!(found, None, "{folder}");
    }
}

#[test]
fn safe_crates_forbid_unsafe_code() {
    for crate_root in [
        "crates/netpoll/src/lib.rs",
        "crates/netpoll-http/src/lib.rs",
        "crates/netpoll-model/src/lib.rs",
        "cli/src/main.rs",
    ] {
        let text = fs::read_to_string(root().join(crate_root)).expect("a crate root");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{crate_root}");
    }
    for (path, text) in sources("examples") {
        assert!(
            text.contains("#![forbid(unsafe_code)]"),
            "{}",
            path.display()
        );
    }
}

#[test]
fn atomics_and_locks_come_from_the_sync_module() {
    for folder in ["crates/netpoll", "crates/netpoll-buffer"] {
        for (path, text) in product_sources(folder) {
            // These files count the runs of a model checker, outside of it.
            let counts_runs = path.ends_with("models.rs") || path.ends_with("combined.rs");
            if !path.ends_with("sync.rs") && !counts_runs {
                let mut code = without_tests(&text).lines();
                let found = code.any(|line| {
                    line.contains("std::sync::atomic") && !line.trim_start().starts_with("//")
                });
                assert!(!found, "{} has atomics of its own", path.display());
            }
        }
    }
}

/// Returns whether a line of code names a waker by value: stores, takes or clones it.
fn has_raw_waker(line: &str) -> bool {
    let code = line.trim_start();
    if code.starts_with("//") || code.starts_with("use ") || code.starts_with("impl ") {
        return false;
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices("Waker").any(|(at, word)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        let whole = !before.ends_with(is_word) && !after.starts_with(is_word);
        let made_here = after.starts_with("::from(") || after.starts_with("::noop(");
        whole && !before.ends_with('&') && !made_here
    })
}

#[test]
fn wakers_are_stored_by_the_foreign_module_only() {
    for (path, text) in product_sources("crates/netpoll") {
        if path.ends_with("foreign.rs")
            || path.starts_with(root().join("crates/netpoll/src/models"))
        {
            continue;
        }
        let code = text.split("\nmod tests").next().unwrap_or_default();
        let found = code.lines().find(|line| has_raw_waker(line));
        assert_eq!(found, None, "{}: see src/foreign.rs", path.display());
    }
}

#[test]
fn raw_waker_is_detected() {
    for raw in [
        "waker: Option<Waker>,",
        "for_each(Waker::wake)",
        "x: std::task::Waker",
    ] {
        assert!(has_raw_waker(raw), "{raw}");
    }
    for fine in [
        "waker: &Waker",
        "WakerSlot",
        "Waker::from(shared)",
        "// a Waker",
        "use x::Waker;",
    ] {
        assert!(!has_raw_waker(fine), "{fine}");
    }
}
