// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads an uncompressed tar archive of plain files (POSIX.1-1988 ustar) in memory.
//!
//! A file is a header of one block of 512 bytes and its contents, filled up to whole blocks. Of the
//! header, this uses the name (offset 0, 100 bytes), the size (offset 124, 12 octal digits at most),
//! the type (offset 156) and the magic (offset 257). Two blocks of zeros end the archive.

use std::str;

const BLOCK: usize = 512;

/// Returns the name and the contents of every file, in the order of the archive.
///
/// # Errors
///
/// An archive that is cut short, or an entry that is no plain file: an input never goes missing
/// silently.
pub(crate) fn files(archive: &[u8]) -> Result<Vec<(&str, &[u8])>, String> {
    let mut files = Vec::new();
    let mut rest = archive;
    loop {
        let (header, behind) = rest
            .split_first_chunk::<BLOCK>()
            .ok_or("no end of the archive")?;
        if header.iter().all(|&byte| byte == 0) {
            return Ok(files);
        }
        if &header[257..262] != b"ustar" || header[156] != b'0' {
            return Err(format!(
                "entry {} is no plain file of a ustar archive",
                files.len()
            ));
        }
        let name = text(&header[..100])?;
        let size = usize::from_str_radix(text(&header[124..136])?.trim(), 8)
            .map_err(|error| format!("size of {name}: {error}"))?;
        let contents = behind
            .get(..size)
            .ok_or_else(|| format!("{name} is cut short"))?;
        files.push((name, contents));
        rest = behind
            .get(size.next_multiple_of(BLOCK)..)
            .ok_or("no end of the archive")?;
    }
}

/// Returns the text of a field, without the zeros that fill it up.
fn text(field: &[u8]) -> Result<&str, String> {
    let end = field
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(field.len());
    str::from_utf8(&field[..end]).map_err(|error| error.to_string())
}

#[test]
fn archive_that_is_cut_short_is_an_error() {
    let mut archive = vec![0; 4 * BLOCK];
    archive[..5].copy_from_slice(b"input");
    archive[124..135].copy_from_slice(b"00000001001");
    archive[156] = b'0';
    archive[257..262].copy_from_slice(b"ustar");
    archive[BLOCK..2 * BLOCK + 1].fill(7);
    assert_eq!(files(&archive), Ok(vec![("input", &[7; 513][..])]));
    for end in [0, BLOCK, BLOCK + 513, 3 * BLOCK, 4 * BLOCK - 1] {
        assert!(
            files(&archive[..end]).is_err(),
            "{end} bytes are a whole archive"
        );
    }
    archive[156] = b'5';
    assert!(files(&archive).is_err(), "a folder counts as a file");
}
