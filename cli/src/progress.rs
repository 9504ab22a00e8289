// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far a measurement is, on stderr: a bar on a terminal, plain lines elsewhere.
//!
//! A log file wants few lines that each make sense alone; a person at a terminal wants to see that
//! something moves. Neither is a result, so neither goes to stdout.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::{duration, output};

/// Shows how far something of known length is.
#[derive(Debug)]
pub(crate) struct ProgressDisplay {
    total: Duration,
    form: ProgressForm,
}

#[derive(Debug)]
enum ProgressForm {
    Bar(ProgressBar),
    /// When the next line is due.
    Lines(Cell<Duration>),
}

impl ProgressDisplay {
    /// Begins to show something that takes `total`.
    pub(crate) fn new(total: Duration, title: String) -> Self {
        let form = if io::stderr().is_terminal() {
            let bar = ProgressBar::new(total.as_millis() as u64);
            let style =
                ProgressStyle::with_template("{prefix}\n{bar:40.cyan/black} {percent:>3} %  {msg}")
                    .expect("the template is a constant that indicatif accepts");
            bar.set_style(style);
            bar.set_prefix(title);
            ProgressForm::Bar(bar)
        } else {
            output::log(title);
            ProgressForm::Lines(Cell::new(LINE_INTERVAL))
        };
        Self { total, form }
    }

    /// Names what comes next.
    pub(crate) fn set_stage(&self, name: impl fmt::Display) {
        match &self.form {
            ProgressForm::Bar(bar) => bar.set_prefix(name.to_string()),
            ProgressForm::Lines(_) => output::log(name),
        }
    }

    /// So far it is, and this is worth saying.
    pub(crate) fn update(&self, elapsed: Duration, note: impl fmt::Display) {
        let elapsed = elapsed.min(self.total);
        match &self.form {
            ProgressForm::Bar(bar) => {
                bar.set_message(note.to_string());
                bar.set_position(elapsed.as_millis() as u64);
            }
            ProgressForm::Lines(due) if elapsed >= due.get() => {
                due.set(elapsed + LINE_INTERVAL);
                let passed = duration::display(Duration::from_secs(elapsed.as_secs()));
                output::log(format_args!("  after {passed}: {note}"));
            }
            ProgressForm::Lines(_) => {}
        }
    }

    /// Clears the bar away, so that the results stand alone.
    pub(crate) fn finish(&self) {
        if let ProgressForm::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

/// A log of a minute has a dozen of them.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
