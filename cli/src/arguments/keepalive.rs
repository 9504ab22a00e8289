// SPDX-License-Identifier: MIT OR Apache-2.0
//! TCP keepalive on the command line: `IDLE,INTERVAL,COUNT`, such as `60s,15s,4`.

use std::time::Duration;

use netpoll::tcp::Keepalive;

use super::duration;

/// Whether and how the kernel probes silent peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepaliveSetting {
    /// No probes: `none`.
    Off,
    /// Probes with these parameters.
    On(Keepalive),
}

impl KeepaliveSetting {
    /// Returns the parameters; `None` if disabled.
    pub(crate) fn keepalive(self) -> Option<Keepalive> {
        match self {
            Self::Off => None,
            Self::On(keepalive) => Some(keepalive),
        }
    }
}

/// The longest idle time and interval that the kernel accepts.
const MAX_INTERVAL: Duration = Duration::from_secs(32_767);

/// The largest probe count that the kernel accepts.
const MAX_PROBES: u32 = 127;

/// Parses the three parameters, or `none`.
///
/// # Errors
///
/// One line that states the valid form.
pub(crate) fn parse(text: &str) -> Result<KeepaliveSetting, String> {
    if text == "none" {
        return Ok(KeepaliveSetting::Off);
    }
    let wrong = || {
        String::from(
            "must be IDLE,INTERVAL,COUNT, such as 60s,15s,4, in whole seconds up to 32767s and at \
             most 127 probes; none disables it",
        )
    };
    let seconds = |text: &str| {
        let time = duration::parse(text).ok()?;
        (time <= MAX_INTERVAL && time.subsec_nanos() == 0).then_some(time)
    };
    let numbers: Vec<_> = text.split(',').collect();
    let [idle, interval, count] = numbers[..] else {
        return Err(wrong());
    };
    let count = count
        .parse()
        .ok()
        .filter(|count| (1..=MAX_PROBES).contains(count));
    match (seconds(idle), seconds(interval), count) {
        (Some(idle), Some(interval), Some(count)) => {
            Ok(KeepaliveSetting::On(Keepalive::new(idle, interval, count)))
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_parameters_enable_keepalive_and_none_disables_it() {
        let second = Duration::from_secs(1);
        let expected = Keepalive::new(60 * second, 15 * second, 4);
        assert_eq!(parse("60s,15s,4"), Ok(KeepaliveSetting::On(expected)));
        assert_eq!(parse("1m,15000ms,4"), Ok(KeepaliveSetting::On(expected)));
        assert_eq!(parse("none").map(KeepaliveSetting::keepalive), Ok(None));
    }

    #[test]
    fn invalid_keepalives_are_rejected_with_the_valid_form() {
        let texts = [
            "",
            "60s",
            "60s,15s",
            "60s,15s,0",
            "60s,15s,128",
            "60s,15s,4,1",
            "0s,15s,4",
            "500ms,15s,4",
            "32768s,1s,1",
            "a,b,c",
            "60,15,4",
        ];
        for text in texts {
            assert!(parse(text).unwrap_err().contains("60s,15s,4"), "{text}");
        }
    }
}
