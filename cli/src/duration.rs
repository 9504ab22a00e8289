// SPDX-License-Identifier: MIT OR Apache-2.0
//! Durations as they are written on a command line: a whole number and one of `us ms s m`.
//!
//! `0` is refused, since a reader cannot know whether it means "at once" or "never"; what has an
//! off position takes the word `none` for it. The unit is not optional for the same reason.

use std::time::Duration;

/// A duration that a command may leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionalDuration {
    /// Switched off: `none`.
    Off,
    /// So long.
    Set(Duration),
}

impl OptionalDuration {
    /// The duration, zero when switched off.
    pub(crate) fn or_zero(self) -> Duration {
        match self {
            Self::Off => Duration::ZERO,
            Self::Set(duration) => duration,
        }
    }
}

/// Reads a duration such as `10s` or `500ms`.
///
/// # Errors
///
/// One line that says what would have been right.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    match amount(text)? {
        Duration::ZERO => Err("0 is no time at all; give at least 1us, such as 500ms".into()),
        duration => Ok(duration),
    }
}

/// Reads a duration, or `none` for no time at all.
///
/// # Errors
///
/// As [`parse`].
pub(crate) fn parse_optional(text: &str) -> Result<OptionalDuration, String> {
    if text == "none" {
        return Ok(OptionalDuration::Off);
    }
    match amount(text)? {
        Duration::ZERO => Err("0 may mean two things; `none` switches it off".into()),
        duration => Ok(OptionalDuration::Set(duration)),
    }
}

/// The shortest usual way to write a duration: `500 ms`, `10 s`.
pub(crate) fn display(duration: Duration) -> String {
    let micros = duration.as_micros();
    if micros < 1_000 {
        format!("{micros} us")
    } else if micros < 1_000_000 {
        format!("{} ms", micros / 1_000)
    } else if micros.is_multiple_of(1_000_000) {
        format!("{} s", micros / 1_000_000)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

fn amount(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let number: u64 = digits.parse().map_err(|_| {
        String::from("a duration is a whole number and one of us, ms, s, m, such as 500ms")
    })?;
    if number == 0 {
        return Ok(Duration::ZERO);
    }
    let micros = match unit {
        "us" => Some(number),
        "ms" => number.checked_mul(1_000),
        "s" => number.checked_mul(1_000_000),
        "m" => number.checked_mul(60_000_000),
        "" => return Err(format!("a unit is missing: {number}us, ms, s or m")),
        other => return Err(format!("`{other}` is not a unit; use us, ms, s or m")),
    };
    match micros {
        Some(micros) if micros <= MAX_DURATION.as_micros() as u64 => {
            Ok(Duration::from_micros(micros))
        }
        _ => Err("more than a week is not a duration for this command".into()),
    }
}

/// Nothing here runs longer, and sums of such durations stay far from any overflow.
const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        assert_eq!(parse("7us"), Ok(Duration::from_micros(7)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
    }

    #[test]
    fn zero_is_refused_with_what_would_be_right() {
        for zero in ["0", "0s", "0ms", "00us"] {
            assert!(parse(zero).unwrap_err().contains("at least 1us"), "{zero}");
            assert!(parse_optional(zero).unwrap_err().contains("none"), "{zero}");
        }
    }

    #[test]
    fn none_switches_off_what_has_an_off_position() {
        assert_eq!(parse_optional("none"), Ok(OptionalDuration::Off));
        assert!(parse("none").is_err());
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for wrong in [
            "",
            "s",
            "-1s",
            "1.5s",
            "10",
            "10h",
            "1 s",
            "99999999999999999999s",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("18446744073709551615m").is_err());
        assert!(parse("10081m").is_err());
    }

    #[test]
    fn a_duration_is_shown_in_its_largest_whole_unit() {
        assert_eq!(display(Duration::from_micros(7)), "7 us");
        assert_eq!(display(Duration::from_millis(500)), "500 ms");
        assert_eq!(display(Duration::from_secs(10)), "10 s");
        assert_eq!(display(Duration::from_millis(1500)), "1.5 s");
    }
}
