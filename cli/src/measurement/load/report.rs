// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report of a run: one JSON object for scripts, a few lines for people.
//!
//! The names of the fields are stable. A figure that is not available is `null`, never 0.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::description::RunDescription;
use super::plan::LoadPlan;
use super::run::LoadResult;

/// The figures of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Responses within the measured interval.
    pub(crate) requests: u64,
    /// Requests that will have no response.
    pub(crate) errors: u64,
    /// The length of the measured interval in seconds.
    pub(crate) seconds: f64,
    /// `requests` divided by `seconds`.
    pub(crate) requests_per_second: f64,
    /// 50 % of the requests took no longer.
    pub(crate) p50_us: Option<f64>,
    /// 90 % of the requests took no longer.
    pub(crate) p90_us: Option<f64>,
    /// 99 % of the requests took no longer.
    pub(crate) p99_us: Option<f64>,
    /// 99.9 % of the requests took no longer.
    pub(crate) p999_us: Option<f64>,
    /// Processor time of the server per response, in microseconds.
    pub(crate) server_cpu_us_per_request: Option<f64>,
    /// The number of processors that the server kept busy.
    pub(crate) server_busy: Option<f64>,
}

/// The figures of a run, and what was run.
#[derive(Debug, Serialize)]
struct DescribedReport<'a> {
    #[serde(flatten)]
    figures: &'a Report,
    /// The cause of the first error.
    error: Option<&'a str>,
    run: RunDescription,
}

impl Report {
    /// Computes the figures of `result`.
    pub(crate) fn of(result: &LoadResult) -> Self {
        let requests = result.requests as f64;
        let at = |quantile| percentile(&result.latency, quantile);
        let cpu = result.server.map(|server| server.used.as_secs_f64());
        Self {
            requests: result.requests,
            errors: result.errors,
            seconds: round(result.seconds, 6),
            requests_per_second: round(result.rate(), 1),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            server_cpu_us_per_request: cpu
                .and_then(|cpu| quotient(cpu * 1e6, requests))
                .map(|micros| round(micros, 4)),
            server_busy: result
                .server
                .and_then(|server| quotient(server.used.as_secs_f64(), server.passed.as_secs_f64()))
                .map(|share| round(share, 3)),
        }
    }

    /// Returns one JSON object on one line: the figures, the cause of the first error, and what was
    /// run.
    pub(crate) fn json(&self, plan: &LoadPlan, result: &LoadResult) -> String {
        let described = DescribedReport {
            figures: self,
            error: result.cause.as_deref(),
            run: RunDescription::of(plan),
        };
        serde_json::to_string(&described).expect("numbers, texts and nulls can always be written")
    }

    /// Returns the figures as text for people, below the plan.
    pub(crate) fn table(&self, plan: &LoadPlan) -> String {
        let mut table = format!("{plan}\n");
        let mut row = |name: &str, value: &str| {
            // Writing to a string does not fail.
            writeln!(table, "  {name:<12} {value}").ok();
        };
        row("requests", &thousands(self.requests));
        row("errors", &thousands(self.errors));
        row(
            "throughput",
            &format!("{} requests/s", thousands(self.requests_per_second as u64)),
        );
        let percentiles = [
            ("p50", self.p50_us),
            ("p90", self.p90_us),
            ("p99", self.p99_us),
            ("p99.9", self.p999_us),
        ];
        let percentiles = percentiles.map(|(name, value)| format!("{name} {}", latency(value)));
        row("latency", &percentiles.join("   "));
        if let (Some(cpu), Some(busy)) = (self.server_cpu_us_per_request, self.server_busy) {
            let text =
                format!("{cpu:.2} us of processor time per request, {busy:.2} processors busy");
            row("server", &text);
        }
        table.trim_end().to_owned()
    }
}

/// Returns the latency at a quantile in microseconds, if there are any latencies.
pub(crate) fn percentile(latency: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!latency.is_empty()).then(|| round(latency.value_at_quantile(quantile) as f64 / 1e3, 3))
}

/// Formats a latency for people, in a unit that suits it.
pub(crate) fn latency(micros: Option<f64>) -> String {
    match micros {
        None => "-".into(),
        Some(micros) if micros < 100.0 => format!("{micros:.1} us"),
        Some(micros) if micros < 1_000.0 => format!("{micros:.0} us"),
        Some(micros) if micros < 100_000.0 => format!("{:.1} ms", micros / 1e3),
        Some(micros) if micros < 1_000_000.0 => format!("{:.0} ms", micros / 1e3),
        Some(micros) => format!("{:.1} s", micros / 1e6),
    }
}

/// Formats a number with commas between groups of three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn quotient(dividend: f64, divisor: f64) -> Option<f64> {
    (divisor > 0.0).then(|| dividend / divisor)
}

/// Rounds to `digits` decimals: more digits than were measured would suggest precision.
fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::recorder::empty_histogram;
    use super::super::run::ServerTime;
    use super::*;

    fn result() -> LoadResult {
        let mut latency = empty_histogram();
        latency.record_n(20_000, 999).unwrap();
        latency.record_n(5_000_000, 1).unwrap();
        LoadResult {
            requests: 1_000,
            errors: 0,
            cause: None,
            seconds: 0.5,
            latency,
            server: Some(ServerTime {
                used: Duration::from_millis(3),
                passed: Duration::from_millis(500),
            }),
        }
    }

    #[test]
    fn figures_are_computed_from_the_result() {
        let report = Report::of(&result());
        assert_eq!(report.requests_per_second, 2_000.0);
        assert_eq!(report.server_cpu_us_per_request, Some(3.0));
        assert_eq!(report.server_busy, Some(0.006));
        assert!((report.p50_us.unwrap() - 20.0).abs() < 0.1);
        assert!(report.p999_us.unwrap() < 21.0);
    }

    #[test]
    fn an_unknown_figure_is_null_and_not_zero() {
        let json = serde_json::to_string(&Report::of(&LoadResult::empty(1.0))).unwrap();
        assert!(json.contains(r#""p99_us":null"#), "{json}");
        assert!(
            json.contains(r#""server_cpu_us_per_request":null"#),
            "{json}"
        );
        assert!(!json.contains('\n'));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(12_345_678), "12,345,678");
    }

    #[test]
    fn a_latency_is_shown_in_the_unit_that_suits_it() {
        assert_eq!(latency(Some(4.25)), "4.2 us");
        assert_eq!(latency(Some(420.0)), "420 us");
        assert_eq!(latency(Some(4_200.0)), "4.2 ms");
        assert_eq!(latency(Some(420_000.0)), "420 ms");
        assert_eq!(latency(Some(4_200_000.0)), "4.2 s");
        assert_eq!(latency(None), "-");
    }
}
