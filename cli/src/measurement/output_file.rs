// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file a page goes to.
//!
//! It is reserved before the measurements, because it would be a pity to learn only after them that
//! it cannot be written, and given up again if there is no page in the end.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use crate::error::CliError;

/// A file that can be written.
#[derive(Debug)]
pub(crate) struct OutputFile<'a> {
    path: &'a Path,
    /// A file that this process made and has not written yet.
    empty: Cell<bool>,
}

impl<'a> OutputFile<'a> {
    /// Makes the file, unless it is there and can be written.
    ///
    /// # Errors
    ///
    /// What keeps it from being written.
    pub(crate) fn reserve(path: &'a Path) -> Result<Self, CliError> {
        let made = File::create_new(path).is_ok();
        if !made {
            let open = OpenOptions::new().write(true).open(path);
            open.map_err(|error| failed(path, &error))?;
        }
        Ok(Self {
            path,
            empty: Cell::new(made),
        })
    }

    /// Writes the page, in the place of what was there.
    ///
    /// # Errors
    ///
    /// As [`Place::reserve`].
    pub(crate) fn write(&self, page: &str) -> Result<(), CliError> {
        fs::write(self.path, page).map_err(|error| failed(self.path, &error))?;
        self.empty.set(false);
        Ok(())
    }
}

impl Drop for OutputFile<'_> {
    /// A measurement that failed leaves no empty page behind.
    fn drop(&mut self) {
        if self.empty.get() {
            fs::remove_file(self.path).ok();
        }
    }
}

fn failed(path: &Path, error: &io::Error) -> CliError {
    CliError::io(format_args!("write {}", path.display()), error)
}
