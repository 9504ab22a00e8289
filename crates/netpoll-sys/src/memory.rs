// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory the process may have: that of the machine, or what its control group allows.

use std::fs;
use std::path::{Path, PathBuf};

/// The bytes of memory that the process may use: the least of what the machine has and what the
/// control groups allow that it is in (`memory.max`, or `memory.limit_in_bytes` of the first
/// version). Reads a few files of `/proc` and `/sys`; what cannot be read does not bound it.
#[must_use]
pub fn memory_limit() -> u64 {
    let machine = read("/proc/meminfo".as_ref()).and_then(|text| total(&text));
    let groups = read("/proc/self/cgroup".as_ref()).unwrap_or_default();
    let limits = files_of_limits(&groups);
    let allowed = limits.iter().filter_map(|file| number(&read(file)?));
    allowed.chain(machine).min().unwrap_or(u64::MAX)
}

fn read(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok()
}

/// `MemTotal` of `/proc/meminfo`, which is in KiB whatever it says.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// A limit; `max` is none.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The files that have the limits of the groups in `/proc/self/cgroup`, those of the groups above
/// them among them, because each of them holds.
fn files_of_limits(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for group in groups.lines() {
        let mut parts = group.splitn(3, ':');
        let (_, Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let inside = Path::new(path.trim_start_matches('/'));
        let above = inside
            .ancestors()
            .map(|group| Path::new(root).join(group).join(name));
        files.extend(above);
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_may_have_some_and_not_more_than_the_machine() {
        let machine = total(&fs::read_to_string("/proc/meminfo").unwrap()).unwrap();
        let limit = memory_limit();
        assert!(limit > 1 << 20 && limit <= machine, "{limit} of {machine}");
    }

    #[test]
    fn the_machines_memory_is_in_kibibytes() {
        assert_eq!(
            total("Nothing: 1\nMemTotal:     1000 kB\n"),
            Some(1_024_000)
        );
        assert_eq!(total("MemFree: 7 kB"), None);
    }

    #[test]
    fn each_group_and_those_above_it_bound_the_process() {
        let second = files_of_limits("0::/a/b\n");
        let names: Vec<_> = second.iter().map(|file| file.to_str().unwrap()).collect();
        let root = "/sys/fs/cgroup";
        assert_eq!(
            names,
            [
                format!("{root}/a/b/memory.max"),
                format!("{root}/a/memory.max"),
                format!("{root}/memory.max")
            ]
        );
        let first = files_of_limits("3:cpu:/x\n5:memory:/y\nnonsense");
        assert_eq!(first.len(), 2);
        assert!(first[0].ends_with("memory/y/memory.limit_in_bytes"));
    }

    #[test]
    fn no_limit_is_none() {
        assert_eq!(number("max\n"), None);
        assert_eq!(number("4096\n"), Some(4096));
    }
}
