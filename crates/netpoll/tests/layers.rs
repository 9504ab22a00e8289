// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layers of the crates: imports point downwards, and a type name has one owner.

#[allow(dead_code, reason = "the other test program uses the rest")]
#[path = "support/sources.rs"]
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sources::{code_lines, product_sources, root, without_tests};

/// The modules of `netpoll`, lowest layer first. A module may import from its own layer and below.
const NETPOLL: &[&[&str]] = &[
    &[
        "active_timeouts",
        "addr",
        "admission",
        "block_on",
        "buffer",
        "budget",
        "codec",
        "error",
        "event",
        "fairness",
        "foreign",
        "guard",
        "options",
        "per_thread",
        "semaphore",
        "stats",
        "sync",
        "tcp",
        "thread_hook",
        "timeouts",
        "timestamp",
        "trace",
    ],
    &["poll", "runner"],
    &["task", "time", "tracker"],
    &["connection"],
    &["dialer", "listener"],
    &["event_loop", "mux", "pool"],
    &["compat", "models"],
];

/// The modules of `netpoll-buffer`. A block refers to the pool that it returns to.
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
    &["faults", "syscall"],
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
        "dir_lock",
        "options",
        "socket",
        "socket_set",
        "transfer",
    ],
];

/// The parts of the measuring tools of the command.
const CLI_MEASUREMENT: &[&[&str]] = &[
    &["output_file", "process", "progress", "spread"],
    &["load"],
    &["idle_memory", "plot"],
    &["page"],
    &["demo"],
    &["compare"],
];

/// Returns the first module below a folder that a file belongs to.
fn module_of(source_folder: &str, path: &Path) -> String {
    let inside = path
        .strip_prefix(root().join(source_folder))
        .expect("a source");
    let first = inside
        .components()
        .next()
        .expect("a name")
        .as_os_str()
        .to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Returns the depth of a file's module below a folder: `a/b.rs` is two.
fn depth_of(source_folder: &str, path: &Path) -> usize {
    path.strip_prefix(root().join(source_folder))
        .map_or(0, |inside| inside.components().count())
}

/// Returns the modules below `parent`, such as `crate::`, that a text names: by that path, or by as
/// many `super::` as lead to the parent from a module of that depth.
fn named(text: &str, parent: &str, depth: usize) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let root_path = "super::".repeat(depth);
    let mut names = Vec::new();
    for line in code_lines(text) {
        for prefix in [parent, root_path.as_str()] {
            for (at, _) in line.match_indices(prefix) {
                let starts_path = !line[..at].ends_with(is_word) && !line[..at].ends_with("::");
                let name: String = line[at + prefix.len()..]
                    .chars()
                    .take_while(|c| is_word(*c))
                    .collect();
                if starts_path && name != "super" {
                    names.push(name);
                }
            }
        }
    }
    names
}

/// Returns the types that a text defines, except those inside a trait or its implementation.
fn defined_types(text: &str) -> Vec<String> {
    let of_line = |line: &str| {
        let line = line.trim_start_matches("pub ");
        let line = match line.strip_prefix("pub(") {
            Some(rest) => rest.split_once(") ").map_or(line, |(_, after)| after),
            None => line,
        };
        let keyword = ["struct ", "enum ", "union ", "trait ", "type "];
        let rest = keyword
            .iter()
            .find_map(|keyword| line.strip_prefix(keyword))?;
        let name = rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_');
        Some(name.collect())
    };
    // Indented definitions are inside of a function or a trait.
    code_lines(text).filter_map(of_line).collect()
}

fn row(rows: &[&[&str]], module: &str) -> Option<usize> {
    rows.iter().position(|row| row.contains(&module))
}

fn upward_imports(crate_folder: &str, rows: &[&[&str]]) -> Vec<String> {
    upward_imports_below(crate_folder, "src", "crate::", rows)
}

/// As `upward_imports`, for the modules of a folder of the crate, whose path is `parent`.
fn upward_imports_below(
    crate_folder: &str,
    folder: &str,
    parent: &str,
    rows: &[&[&str]],
) -> Vec<String> {
    let source_folder = format!("{crate_folder}/{folder}");
    let mut sources = product_sources(crate_folder);
    sources.retain(|(path, _)| path.starts_with(root().join(&source_folder)));
    assert!(!sources.is_empty(), "{source_folder} has no sources");
    let mut upward = Vec::new();
    for (path, text) in sources {
        let module = module_of(&source_folder, &path);
        if module == "lib" {
            continue;
        }
        let own = row(rows, &module).unwrap_or_else(|| panic!("{module} is in no row"));
        let depth = depth_of(&source_folder, &path);
        for name in named(without_tests(&text), parent, depth) {
            if row(rows, &name).is_some_and(|other| other > own) {
                upward.push(format!("{} names {name}", path.display()));
            }
        }
    }
    upward
}

#[test]
fn imports_point_downwards() {
    assert_eq!(upward_imports("crates/netpoll", NETPOLL), [""; 0]);
    assert_eq!(upward_imports("crates/netpoll-buffer", BUFFER), [""; 0]);
    assert_eq!(upward_imports("crates/netpoll-sys", SYS), [""; 0]);
}

#[test]
fn imports_of_the_measuring_tools_point_downwards() {
    let parent = "crate::measurement::";
    let upward = upward_imports_below("cli", "src/measurement", parent, CLI_MEASUREMENT);
    assert_eq!(upward, [""; 0]);
}

#[test]
fn the_servers_and_the_measuring_tools_of_the_command_do_not_import_each_other() {
    let mut seen = BTreeSet::new();
    for (path, text) in product_sources("cli") {
        let module = module_of("cli/src", &path);
        let foreign = match module.as_str() {
            "serve" => "measurement",
            "measurement" => "serve",
            _ => continue,
        };
        let depth = depth_of("cli/src", &path);
        let names = named(without_tests(&text), "crate::", depth);
        assert!(!names.contains(&foreign.to_owned()), "{}", path.display());
        seen.insert(module);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn upward_import_is_detected() {
    let text = "use crate::event_loop::X;\n// crate::not_this\nuse super::super::mux::Y;\n";
    assert_eq!(named(text, "crate::", 2), ["event_loop", "mux"]);
    assert_eq!(named("use super::own::Z;", "crate::", 2), [""; 0]);
    assert_eq!(named("use super::mux::Y;", "crate::", 1), ["mux"]);
    assert!(row(NETPOLL, "event_loop") > row(NETPOLL, "poll"));
}

#[test]
fn type_names_are_unique_within_a_crate() {
    for folder in [
        "crates/netpoll",
        "crates/netpoll-buffer",
        "crates/netpoll-http",
        "crates/netpoll-model",
        "crates/netpoll-sys",
        "cli",
    ] {
        let mut owners = BTreeMap::<String, Vec<String>>::new();
        for (path, text) in product_sources(folder) {
            let names: BTreeSet<_> = defined_types(without_tests(&text)).into_iter().collect();
            for name in names {
                owners
                    .entry(name)
                    .or_default()
                    .push(path.display().to_string());
            }
        }
        owners.retain(|_, paths| paths.len() > 1);
        assert_eq!(owners, BTreeMap::new());
    }
}

#[test]
fn type_definition_is_detected() {
    let text = "pub(crate) struct A<T>(T);\nenum B {\npub trait C: D {\n    type Inside;\ntype E = u8;\n// struct F\n";
    assert_eq!(defined_types(text), ["A", "B", "C", "E"]);
}
