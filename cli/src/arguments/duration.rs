// SPDX-License-Identifier: MIT OR Apache-2.0
//! Durations on the command line: numbers with the units `us ms s m h`, such as `1m30s`.
//!
//! `0` is rejected, since it could mean "immediately" or "never"; a duration that can be disabled
//! takes the word `none`. The unit is required for the same reason.

use std::time::Duration;

/// A duration that can be disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionalDuration {
    /// Disabled: `none`.
    Off,
    /// Enabled, with this value.
    Set(Duration),
}

impl OptionalDuration {
    /// Returns the duration; zero if disabled.
    pub(crate) fn or_zero(self) -> Duration {
        match self {
            Self::Off => Duration::ZERO,
            Self::Set(duration) => duration,
        }
    }
}

/// Parses a duration such as `10s` or `500ms`.
///
/// # Errors
///
/// One line that states the valid form.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    match amount(text)? {
        Duration::ZERO => Err("0 is not a duration; give at least 1us, such as 500ms".into()),
        duration => Ok(duration),
    }
}

/// Parses a duration, or `none` for a disabled one.
///
/// # Errors
///
/// As [`parse`].
pub(crate) fn parse_optional(text: &str) -> Result<OptionalDuration, String> {
    if text == "none" {
        return Ok(OptionalDuration::Off);
    }
    match amount(text)? {
        Duration::ZERO => Err("0 is ambiguous; `none` disables it".into()),
        duration => Ok(OptionalDuration::Set(duration)),
    }
}

/// Formats a duration for people: `500 ms`, `10 s`.
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
    let form = || {
        let text = "a duration is numbers and units of us, ms, s, m, h, such as 500ms or 1m30s";
        String::from(text)
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() && duration < Duration::from_micros(1) => {
            Err("the shortest duration is 1us".into())
        }
        Ok(duration) if duration <= MAX_DURATION => Ok(duration),
        Ok(_) => Err("the longest duration is a week, 168h".into()),
        Err(_) if is_number && !text.is_empty() => {
            Err(format!("a unit is missing: {text}us, ms, s, m or h"))
        }
        Err(_) => Err(form()),
    }
}

/// The longest duration: far above any run, and sums of such durations do not overflow.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_parsed() {
        assert_eq!(parse("7us"), Ok(Duration::from_micros(7)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(parse("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
    }

    #[test]
    fn zero_is_rejected_with_the_valid_form() {
        for zero in ["0", "0s", "0ms", "00us"] {
            assert!(parse(zero).unwrap_err().contains("at least 1us"), "{zero}");
            assert!(parse_optional(zero).unwrap_err().contains("none"), "{zero}");
        }
    }

    #[test]
    fn none_disables_an_optional_duration() {
        assert_eq!(parse_optional("none"), Ok(OptionalDuration::Off));
        assert!(parse("none").is_err());
    }

    #[test]
    fn invalid_durations_are_rejected() {
        for wrong in ["", "s", "-1s", "10", "10x", "5ns", "99999999999999999999s"] {
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
