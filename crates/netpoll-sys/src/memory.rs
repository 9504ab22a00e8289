// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory limit of the process: the machine's memory, or the limit of its control group or of
//! its resource limits.

use std::fs;
use std::path::{Path, PathBuf};

/// The source of a memory limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemorySource {
    /// The memory of the machine.
    Machine,
    /// A control group of the process, or one above it.
    ControlGroup,
    /// `RLIMIT_AS` (`ulimit -v`): the address space of the process.
    AddressSpace,
    /// `RLIMIT_DATA` (`ulimit -d`): the data segment of the process.
    Data,
}

/// A memory limit and its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBound {
    /// The limit, in bytes.
    pub bytes: u64,
    /// The source of the limit.
    pub source: MemorySource,
}

/// Returns the memory limit of the process and its source: the smallest of the machine's memory,
/// the limits of its control groups (`memory.max`, or `memory.limit_in_bytes` of cgroup v1), and
/// its soft `RLIMIT_AS` and `RLIMIT_DATA`. Reads a few files of `/proc` and `/sys`; a file that
/// cannot be read sets no limit.
#[must_use]
pub fn memory_bound() -> MemoryBound {
    memory_bound_at(Path::new("/"))
}

/// Returns the number of [`memory_bound`] alone, in bytes.
#[must_use]
pub fn memory_limit() -> u64 {
    memory_bound().bytes
}

/// As [`memory_bound`], with the files below `root`.
fn memory_bound_at(root: &Path) -> MemoryBound {
    let text = |file: &Path| read(&root.join(file));
    let of = |source| move |bytes| MemoryBound { bytes, source };
    let machine = text(Path::new("proc/meminfo")).and_then(|text| total(&text));
    let groups = text(Path::new("proc/self/cgroup")).unwrap_or_default();
    let files = files_of_limits(&groups);
    let groups = files.iter().filter_map(|file| number(&text(file)?));
    let limits = text(Path::new("proc/self/limits")).unwrap_or_default();
    let space = soft_limit(&limits, "Max address space");
    let data = soft_limit(&limits, "Max data size");
    let all = machine
        .map(of(MemorySource::Machine))
        .into_iter()
        .chain(groups.map(of(MemorySource::ControlGroup)))
        .chain(space.map(of(MemorySource::AddressSpace)))
        .chain(data.map(of(MemorySource::Data)));
    // The first of equal ones: a limit of the machine's own size is no limit.
    all.min_by_key(|bound| bound.bytes).unwrap_or(MemoryBound {
        bytes: u64::MAX,
        source: MemorySource::Machine,
    })
}

fn read(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok()
}

/// Parses a soft limit of `/proc/self/limits`; `unlimited` is `None`.
fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Parses `MemTotal` of `/proc/meminfo`, which is in KiB although it prints kB.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Parses a limit; `max` is `None`.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Returns the limit files of the groups in `/proc/self/cgroup` and of all groups above them,
/// because each of these limits applies.
fn files_of_limits(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for group in groups.lines() {
        let mut parts = group.splitn(3, ':');
        let (_, Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (root, name) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            "memory" => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
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
    fn the_memory_limit_is_at_most_the_machines_memory() {
        let machine = total(&fs::read_to_string("/proc/meminfo").unwrap()).unwrap();
        let limit = memory_limit();
        assert!(limit > 1 << 20 && limit <= machine, "{limit} of {machine}");
    }

    #[test]
    fn mem_total_is_parsed_as_kibibytes() {
        assert_eq!(
            total("Nothing: 1\nMemTotal:     1000 kB\n"),
            Some(1_024_000)
        );
        assert_eq!(total("MemFree: 7 kB"), None);
    }

    #[test]
    fn the_limit_files_of_a_group_and_its_ancestors_are_listed() {
        let second = files_of_limits("0::/a/b\n");
        let names: Vec<_> = second.iter().map(|file| file.to_str().unwrap()).collect();
        let root = "sys/fs/cgroup";
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
    fn max_parses_as_no_limit() {
        assert_eq!(number("max\n"), None);
        assert_eq!(number("4096\n"), Some(4096));
    }

    /// A folder of made-up files, removed with its test.
    struct Files(PathBuf);

    impl Files {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let name = format!("netpoll-memory-{}-{name}", std::process::id());
            let root = std::env::temp_dir().join(name);
            for (file, text) in files {
                let path = root.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 1 kB\n");

    fn limits(space: &str, data: &str) -> String {
        format!(
            "Limit            Soft Limit    Hard Limit   Units\n\
             Max data size    {data}        unlimited    bytes\n\
             Max address space  {space}     999999999    bytes\n"
        )
    }

    fn bound(name: &str, files: &[(&str, &str)]) -> (u64, MemorySource) {
        let files = Files::new(name, files);
        let MemoryBound { bytes, source } = memory_bound_at(&files.0);
        (bytes, source)
    }

    #[test]
    fn the_smallest_limit_wins_and_names_its_source() {
        let none = limits("unlimited", "unlimited");
        let machine = bound("machine", &[MEMINFO, ("proc/self/limits", &none)]);
        assert_eq!(machine, (1_024_000, MemorySource::Machine));
        let second = [
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.max", "500000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
        ];
        let second = bound("second", &second);
        assert_eq!(second, (500_000, MemorySource::ControlGroup));
        let first = [
            MEMINFO,
            ("proc/self/cgroup", "4:memory:/x\n0::/\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "700000\n"),
        ];
        assert_eq!(
            bound("first", &first),
            (700_000, MemorySource::ControlGroup)
        );
        let space = limits("400000", "unlimited");
        let space = bound("space", &[MEMINFO, ("proc/self/limits", &space)]);
        assert_eq!(space, (400_000, MemorySource::AddressSpace));
        let data = limits("400000", "300000");
        let data = bound("data", &[MEMINFO, ("proc/self/limits", &data)]);
        assert_eq!(data, (300_000, MemorySource::Data));
        let large = limits("99999999999", "unlimited");
        let large = bound("large", &[MEMINFO, ("proc/self/limits", &large)]);
        assert_eq!(large, (1_024_000, MemorySource::Machine));
        assert_eq!(bound("nothing", &[("x", "")]).0, u64::MAX);
    }
}
