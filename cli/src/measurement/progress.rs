// SPDX-License-Identifier: MIT OR Apache-2.0
//! The progress of a measurement on stderr: a bar on a terminal, plain lines elsewhere.
//!
//! A log file gets few lines, each readable on its own; a terminal gets a bar that moves. Progress
//! is not a result, so it does not go to stdout.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::duration;
use crate::output;

/// Shows the progress of a measurement whose duration is known.
#[derive(Debug)]
pub(crate) struct ProgressDisplay {
    total: Duration,
    form: ProgressForm,
}

#[derive(Debug)]
enum ProgressForm {
    Bar(ProgressBar),
    /// The elapsed time at which the next line is due.
    Lines(Cell<Duration>),
}

impl ProgressDisplay {
    /// Starts to show the progress of a measurement that takes `total`.
    pub(crate) fn new(total: Duration, title: String) -> Self {
        let form = if io::stderr().is_terminal() {
            let bar = ProgressBar::new(BAR_LENGTH);
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

    /// Shows the name of the next stage.
    pub(crate) fn set_stage(&self, name: impl fmt::Display) {
        match &self.form {
            ProgressForm::Bar(bar) => bar.set_prefix(name.to_string()),
            ProgressForm::Lines(_) => output::log(name),
        }
    }

    /// Shows the elapsed time and a note.
    pub(crate) fn update(&self, elapsed: Duration, note: impl fmt::Display) {
        let elapsed = elapsed.min(self.total);
        let share = elapsed.as_secs_f64() / self.total.as_secs_f64();
        self.update_share(share, elapsed, note);
    }

    /// Shows how much is done, from 0 to 1, the elapsed time and a note.
    pub(crate) fn update_share(&self, share: f64, elapsed: Duration, note: impl fmt::Display) {
        match &self.form {
            ProgressForm::Bar(bar) => {
                bar.set_message(note.to_string());
                bar.set_position((share * BAR_LENGTH as f64) as u64);
            }
            ProgressForm::Lines(due) if elapsed >= due.get() => {
                due.set(elapsed + LINE_INTERVAL);
                let passed = duration::display(Duration::from_secs(elapsed.as_secs()));
                output::log(format_args!("  after {passed}: {note}"));
            }
            ProgressForm::Lines(_) => {}
        }
    }

    /// Removes the bar, so that only the results stay on the terminal.
    pub(crate) fn finish(&self) {
        if let ProgressForm::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

/// The steps of a bar.
const BAR_LENGTH: u64 = 1_000;

/// The interval between lines: a run of a minute logs a dozen.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
