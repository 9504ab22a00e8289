// SPDX-License-Identifier: MIT OR Apache-2.0
//! The baselines: a text with one line a path, its name and its instructions, after a line with the
//! tools that produced them; and the comparison of counts with them.
//!
//! Another compiler inlines differently, so its counts say less about a change. The limit is then
//! wider, not absent: a guard without a limit until the baselines are renewed would guard nothing.

use std::error::Error;
use std::fmt::{self, Write as _};

use crate::counted::Counted;

/// The growth that a path may show over its baseline.
pub const LIMIT: f64 = 0.03;

/// The same for baselines that other tools produced.
pub const OTHER_LIMIT: f64 = 0.10;

/// The instructions of each path when the baselines were written.
#[derive(Clone, Debug, PartialEq)]
pub struct Baselines {
    /// The compiler and the C library that produced them.
    pub made_with: String,
    /// The paths in the order of the count.
    pub paths: Vec<Counted>,
}

impl Baselines {
    /// Parses the output of [`Display`](fmt::Display).
    ///
    /// # Errors
    ///
    /// A line that is neither a path with its count nor a comment.
    pub fn read(text: &str) -> Result<Self, Box<dyn Error>> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let made_with = lines.next().and_then(|line| line.strip_prefix(MADE_WITH));
        let made_with = made_with.ok_or("the baselines do not say what they were made with")?;
        let path = |line: &str| {
            let (name, count) = line.split_once(' ').ok_or("a path without a count")?;
            let instructions = count.trim().parse()?;
            Ok(Counted {
                name: name.into(),
                instructions,
            })
        };
        Ok(Self {
            made_with: made_with.into(),
            paths: lines.map(path).collect::<Result<_, Box<dyn Error>>>()?,
        })
    }

    /// Compares `counted`, from this compiler and C library, with the baselines.
    #[must_use]
    pub fn judge(&self, counted: &[Counted], made_with: &str) -> Judgement {
        let limit = if self.made_with == made_with {
            LIMIT
        } else {
            OTHER_LIMIT
        };
        let mut judgement = Judgement::default();
        for now in counted {
            let Some(before) = find(&self.paths, &now.name) else {
                judgement.fail(format_args!("{} has no baseline", now.name));
                continue;
            };
            let ratio = now.instructions / before.instructions;
            let counts = format!(
                "{:<28} {:>9.1} before {:>9.1} now {ratio:>7.3}",
                now.name, before.instructions, now.instructions
            );
            if ratio > 1.0 + limit {
                let more = (ratio - 1.0) * 100.0;
                let limit = limit * 100.0;
                judgement.fail(format_args!(
                    "{counts}  {more:.1} % more, {limit:.0} % are allowed"
                ));
            } else if ratio < 1.0 - LIMIT {
                judgement.better = true;
                judgement.append(format_args!("{counts}  better: renew its baseline"));
            } else {
                judgement.append(format_args!("{counts}"));
            }
        }
        for path in &self.paths {
            if find(counted, &path.name).is_none() {
                judgement.fail(format_args!(
                    "{} has a baseline, but is not counted",
                    path.name
                ));
            }
        }
        judgement
    }
}

fn find<'a>(paths: &'a [Counted], name: &str) -> Option<&'a Counted> {
    paths.iter().find(|path| path.name == name)
}

impl fmt::Display for Baselines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Instructions of one time, by path. `ci/instructions --renew` writes this file."
        )?;
        writeln!(f, "{MADE_WITH}{}", self.made_with)?;
        for Counted { name, instructions } in &self.paths {
            writeln!(f, "{name:<28} {instructions:>9.1}")?;
        }
        Ok(())
    }
}

/// The result of the comparison, one line a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Every path is within its limit.
    pub allowed: String,
    /// The paths above their limits.
    pub failed: String,
    /// Whether a path needs so much less that its baseline no longer guards it.
    pub better: bool,
}

impl Judgement {
    fn append(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        writeln!(self.allowed, "{line}").ok();
    }

    fn fail(&mut self, line: fmt::Arguments<'_>) {
        writeln!(self.failed, "{line}").ok();
    }
}

const MADE_WITH: &str = "made with ";

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(counts: &[(&str, f64)]) -> Vec<Counted> {
        let path = |(name, instructions): &(&str, f64)| Counted {
            name: (*name).into(),
            instructions: *instructions,
        };
        counts.iter().map(path).collect()
    }

    fn baselines() -> Baselines {
        Baselines {
            made_with: "rustc 1".into(),
            paths: paths(&[("parse/a", 100.0), ("serve/b", 2_000.0)]),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let read = Baselines::read(&baselines().to_string());
        assert_eq!(read.expect("baselines"), baselines());
    }

    #[test]
    fn three_in_a_hundred_are_allowed_and_more_are_not() {
        let counted = paths(&[("parse/a", 103.0), ("serve/b", 2_061.0)]);
        let judgement = baselines().judge(&counted, "rustc 1");
        assert!(judgement.allowed.starts_with("parse/a"));
        assert!(judgement.failed.starts_with("serve/b"));
        assert!(judgement.failed.contains("3.0 % more"));
    }

    #[test]
    fn with_another_compiler_the_limit_is_wider_and_not_gone() {
        let counted = paths(&[("parse/a", 109.0), ("serve/b", 2_220.0)]);
        let judgement = baselines().judge(&counted, "rustc 2");
        assert!(judgement.allowed.starts_with("parse/a"));
        assert!(judgement.failed.starts_with("serve/b"));
    }

    #[test]
    fn what_needs_less_passes_and_is_told_of() {
        let counted = paths(&[("parse/a", 90.0), ("serve/b", 2_000.0)]);
        let judgement = baselines().judge(&counted, "rustc 1");
        assert!(judgement.better && judgement.failed.is_empty());
    }

    #[test]
    fn a_path_that_appears_or_disappears_is_no_silent_matter() {
        let counted = paths(&[("parse/a", 100.0), ("parse/new", 1.0)]);
        let failed = baselines().judge(&counted, "rustc 1").failed;
        assert!(failed.contains("parse/new has no baseline"));
        assert!(failed.contains("serve/b has a baseline"));
    }
}
