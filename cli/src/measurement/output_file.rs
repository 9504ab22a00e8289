// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file for results.
//!
//! It is reserved before the measurements, so that an unwritable path fails at once and not after
//! minutes. It is removed if there are no results in the end.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use crate::error::CliError;

/// A writable file.
#[derive(Debug)]
pub(crate) struct OutputFile<'a> {
    path: &'a Path,
    /// This process has created the file and has not written it yet.
    empty: Cell<bool>,
}

impl<'a> OutputFile<'a> {
    /// Creates the file, or checks that an existing file is writable.
    ///
    /// # Errors
    ///
    /// The error of the creation or of opening it for writing.
    pub(crate) fn reserve(path: &'a Path) -> Result<Self, CliError> {
        let created = File::create_new(path).is_ok();
        if !created {
            let open = OpenOptions::new().write(true).open(path);
            open.map_err(|error| failed(path, &error))?;
        }
        Ok(Self {
            path,
            empty: Cell::new(created),
        })
    }

    /// Replaces the content of the file.
    ///
    /// # Errors
    ///
    /// The error of the write.
    pub(crate) fn write(&self, page: &str) -> Result<(), CliError> {
        fs::write(self.path, page).map_err(|error| failed(self.path, &error))?;
        self.empty.set(false);
        Ok(())
    }
}

impl Drop for OutputFile<'_> {
    /// Removes a file that is still empty: a failed measurement leaves no file behind.
    fn drop(&mut self) {
        if self.empty.get() {
            fs::remove_file(self.path).ok();
        }
    }
}

fn failed(path: &Path, error: &io::Error) -> CliError {
    CliError::io(format_args!("write {}", path.display()), error)
}
