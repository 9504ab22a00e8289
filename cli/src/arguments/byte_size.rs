// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes on the command line: bytes, or a number and `k`, `M` or `G`, which are powers of 1024. `KiB`
//! and `kB` mean the same here, as for most options that limit memory.

use parse_size::Config;

/// Parses a size such as `1024`, `64k` or `4M`.
pub(super) fn parse(text: &str) -> Option<u64> {
    let is_size = text.starts_with(|c: char| c.is_ascii_digit());
    let parsed = Config::new().with_binary().parse_size(text).ok();
    parsed.filter(|_| is_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_powers_of_1024() {
        let sizes = [
            ("0", 0),
            ("1024", 1 << 10),
            ("64k", 64 << 10),
            ("64K", 64 << 10),
            ("4M", 4 << 20),
            ("4MiB", 4 << 20),
            ("2G", 2 << 30),
            ("1.5k", 1536),
        ];
        for (text, bytes) in sizes {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_sizes() {
        for wrong in ["", "M", "-1", "4X", "many", "4 M M", "99999999999G"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
