// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shape of the sources: imports point one way, files have one subject, unsafe code stays
//! where it is explained.

use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a file, its tests not counted.
const LONGEST_FILE: usize = 400;

/// The most lines of an example.
const LONGEST_EXAMPLE: usize = 80;

/// The modules of `netpoll`, from the floor up. A module may name those of its own row and below.
const NETPOLL: &[&[&str]] = &[
    &[
        "addr",
        "budget",
        "around",
        "codec",
        "entrance",
        "error",
        "event",
        "fairness",
        "foreign",
        "guard",
        "limits",
        "moment",
        "options",
        "parking",
        "per_thread",
        "permits",
        "stats",
        "sync",
        "timeouts",
        "trace",
    ],
    &["poll", "runner"],
    &["census", "task", "time"],
    &["connection"],
    &["listener", "dialer"],
    &["event_loop", "mux", "pool"],
    &["compat", "models"],
];

/// The modules of `netpoll-buffer`. A block knows the pool it goes home to.
const BUFFER: &[&[&str]] = &[
    &["sync", "error"],
    &["block", "pool"],
    &["segment"],
    &["tail"],
    &["write_tail"],
    &["link_buffer"],
    &["buf_stream"],
];

/// The modules of `netpoll-sys`.
const SYS: &[&[&str]] = &[
    &["faults", "site"],
    &[
        "addr",
        "budget",
        "clock",
        "credentials",
        "interest",
        "memory",
        "process",
        "retry",
        "tcp_info",
        "test_waker",
    ],
    &[
        "epoll",
        "eventfd",
        "folder_lock",
        "options",
        "roll",
        "socket",
        "transfer",
    ],
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace")
}

/// All Rust files below `folder`, with their text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
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

/// A source without its unit tests, which stand last.
fn without_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod tests")
        .map_or(text, |end| &text[..end])
}

/// The first module below `src` that a file belongs to.
fn module_of(crate_folder: &str, path: &Path) -> String {
    let inside = path
        .strip_prefix(root().join(crate_folder).join("src"))
        .expect("a source");
    let first = inside
        .components()
        .next()
        .expect("a name")
        .as_os_str()
        .to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules that a text names as `crate::name`, comments aside.
fn named(text: &str) -> Vec<String> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let after = |line: &str| -> Vec<String> {
        let word = |rest: &str| {
            rest.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect::<String>()
        };
        line.split("crate::").skip(1).map(word).collect()
    };
    code.flat_map(after).collect()
}

fn row(rows: &[&[&str]], module: &str) -> Option<usize> {
    rows.iter().position(|row| row.contains(&module))
}

fn upward_imports(crate_folder: &str, rows: &[&[&str]]) -> Vec<String> {
    let mut upward = Vec::new();
    for (path, text) in sources(&format!("{crate_folder}/src")) {
        let module = module_of(crate_folder, &path);
        if module == "lib" {
            continue;
        }
        let own = row(rows, &module).unwrap_or_else(|| panic!("{module} is in no row"));
        for name in named(without_tests(&text)) {
            if row(rows, &name).is_some_and(|other| other > own) {
                upward.push(format!("{} names {name}", path.display()));
            }
        }
    }
    upward
}

fn all_sources() -> Vec<(PathBuf, String)> {
    ["crates", "cli", "examples", "fuzz/targets"]
        .into_iter()
        .flat_map(sources)
        .collect()
}

#[test]
fn imports_point_one_way() {
    assert_eq!(upward_imports("crates/netpoll", NETPOLL), [""; 0]);
    assert_eq!(upward_imports("crates/netpoll-buffer", BUFFER), [""; 0]);
    assert_eq!(upward_imports("crates/netpoll-sys", SYS), [""; 0]);
}

#[test]
fn an_upward_import_would_be_seen() {
    assert_eq!(
        named("use crate::event_loop::X;\n// crate::not_this"),
        ["event_loop"]
    );
    assert!(row(NETPOLL, "event_loop") > row(NETPOLL, "poll"));
}

#[test]
fn no_file_is_longer_than_its_subject() {
    for (path, text) in all_sources() {
        let lines = without_tests(&text).lines().count();
        assert!(lines <= LONGEST_FILE, "{}: {lines} lines", path.display());
    }
}

#[test]
fn no_example_is_longer_than_a_screen_and_a_half() {
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
fn a_module_lies_beside_its_folder() {
    for (path, _) in all_sources() {
        assert!(!path.ends_with("mod.rs"), "{}", path.display());
    }
}

#[test]
fn every_source_names_its_licence_and_says_what_it_is_for() {
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
fn unsafe_code_is_only_where_it_is_explained() {
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
fn the_crates_that_need_no_unsafe_code_forbid_it() {
    for crate_root in [
        "crates/netpoll/src/lib.rs",
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
fn atomics_and_locks_come_from_one_place() {
    for folder in ["crates/netpoll", "crates/netpoll-buffer"] {
        for (path, text) in sources(&format!("{folder}/src")) {
            // Those count what a checker runs, outside of it.
            let counts_runs = path.ends_with("models.rs") || path.ends_with("composed.rs");
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

/// Whether a line of code names a waker otherwise than by reference: keeps, takes or clones it.
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
fn a_waker_is_kept_where_it_cannot_be_woken_or_dropped_under_a_lock() {
    for (path, text) in sources("crates/netpoll/src") {
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
fn a_raw_waker_would_be_seen() {
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
        "Waker::from(link)",
        "// a Waker",
        "use x::Waker;",
    ] {
        assert!(!has_raw_waker(fine), "{fine}");
    }
}
