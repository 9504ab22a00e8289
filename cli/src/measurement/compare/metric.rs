// SPDX-License-Identifier: MIT OR Apache-2.0
//! The metrics of a server: their names, units and formats.

use crate::measurement::load::{Report, latency, thousands};

/// One metric of a server. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    CpuPerRequest,
    P50,
    P99,
    P999,
    RequestsPerSecond,
    OfferedPerSecond,
    BytesPerSecond,
    CpuPerConnection,
    CpuPerMebibyte,
    ResidentBytes,
    ServerBusy,
}

/// Which of two values is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BetterDirection {
    Lower,
    Higher,
    /// Neither: the metric explains the others.
    None,
}

impl Metric {
    /// Returns the name in a row.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CpuPerRequest => "server_cpu_us_per_request",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
            Self::P999 => "p999_us",
            Self::RequestsPerSecond => "requests_per_second",
            Self::OfferedPerSecond => "offered_per_second",
            Self::BytesPerSecond => "bytes_per_second",
            Self::CpuPerConnection => "server_cpu_us_per_connection",
            Self::CpuPerMebibyte => "cpu_us_per_MiB",
            Self::ResidentBytes => "resident_bytes_per_connection",
            Self::ServerBusy => "server_busy",
        }
    }

    /// Returns the unit.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::CpuPerRequest | Self::CpuPerConnection | Self::CpuPerMebibyte => "us",
            Self::P50 | Self::P99 | Self::P999 => "us",
            Self::ResidentBytes => "B",
            Self::RequestsPerSecond | Self::OfferedPerSecond => "1/s",
            Self::BytesPerSecond => "B/s",
            Self::ServerBusy => "processors",
        }
    }

    /// Returns the column header.
    pub(crate) fn short(self) -> &'static str {
        match self {
            Self::CpuPerRequest => "CPU/request",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::RequestsPerSecond => "requests/s",
            Self::OfferedPerSecond => "offered/s",
            Self::BytesPerSecond => "bytes/s",
            Self::CpuPerConnection => "CPU/connection",
            Self::CpuPerMebibyte => "CPU/MiB",
            Self::ResidentBytes => "memory",
            Self::ServerBusy => "busy",
        }
    }

    /// Returns an explanation for readers who have never seen the code.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::CpuPerRequest => "Processor time of the server for one request",
            Self::P50 => "Half of the requests took no longer",
            Self::P99 => "99 in 100 requests took no longer",
            Self::P999 => "999 in 1,000 requests took no longer",
            Self::RequestsPerSecond => "Requests answered per second",
            Self::OfferedPerSecond => {
                "Requests per second that the load offered to a server that was not busy"
            }
            Self::BytesPerSecond => "Bytes of payload answered per second",
            Self::CpuPerConnection => {
                "Processor time of the server for one connection with one request"
            }
            Self::CpuPerMebibyte => {
                "Processor time of the proxy for each MiB answered, forwarded in both directions"
            }
            Self::ResidentBytes => "Resident memory of the server for each idle connection",
            Self::ServerBusy => "How busy the server kept its processor",
        }
    }

    /// Returns which of two values is better.
    pub(crate) fn better(self) -> BetterDirection {
        match self {
            Self::CpuPerRequest | Self::CpuPerConnection | Self::CpuPerMebibyte => {
                BetterDirection::Lower
            }
            Self::P50 | Self::P99 | Self::P999 | Self::ResidentBytes => BetterDirection::Lower,
            Self::RequestsPerSecond | Self::BytesPerSecond => BetterDirection::Higher,
            Self::OfferedPerSecond | Self::ServerBusy => BetterDirection::None,
        }
    }

    /// Returns whether a ratio of two values is meaningful.
    pub(crate) fn is_comparable(self) -> bool {
        self.better() != BetterDirection::None
    }

    /// Returns whether the value describes the server only if the server was busy all the time.
    pub(crate) fn is_throughput(self) -> bool {
        matches!(self, Self::RequestsPerSecond | Self::BytesPerSecond)
    }

    /// Returns the value from a run with `size` payload bytes a request; `None` if it was not
    /// measured.
    pub(crate) fn of(self, report: &Report, size: usize) -> Option<f64> {
        match self {
            Self::CpuPerRequest | Self::CpuPerConnection => report.server_cpu_us_per_request,
            Self::CpuPerMebibyte => {
                let mebibytes = size as f64 / f64::from(1 << 20);
                let micros = report.server_cpu_us_per_request?;
                (mebibytes > 0.0).then(|| micros / mebibytes)
            }
            Self::ResidentBytes => None,
            Self::P50 => report.p50_us,
            Self::P99 => report.p99_us,
            Self::P999 => report.p999_us,
            Self::RequestsPerSecond | Self::OfferedPerSecond => Some(report.requests_per_second),
            Self::BytesPerSecond => Some(report.requests_per_second * size as f64),
            Self::ServerBusy => report.server_busy,
        }
    }

    /// Formats a value for people.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::CpuPerRequest if value < 1.0 => format!("{value:.3} us"),
            Self::CpuPerRequest if value < 10.0 => format!("{value:.2} us"),
            Self::CpuPerRequest | Self::CpuPerConnection | Self::CpuPerMebibyte => {
                latency(Some(value))
            }
            Self::P50 | Self::P99 | Self::P999 => latency(Some(value)),
            Self::ResidentBytes => format!("{} B", thousands(value as u64)),
            Self::RequestsPerSecond | Self::OfferedPerSecond => thousands(value as u64),
            Self::BytesPerSecond if value < 1e9 => format!("{:.1} MB/s", value / 1e6),
            Self::BytesPerSecond => format!("{:.2} GB/s", value / 1e9),
            Self::ServerBusy => format!("{:.0} %", value * 100.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_shown_with_its_significant_digits() {
        assert_eq!(Metric::CpuPerRequest.show(0.5912), "0.591 us");
        assert_eq!(Metric::CpuPerRequest.show(6.253), "6.25 us");
        assert_eq!(Metric::CpuPerRequest.show(353.4), "353 us");
        assert_eq!(Metric::RequestsPerSecond.show(155_908.4), "155,908");
        assert_eq!(Metric::BytesPerSecond.show(2.9e9), "2.90 GB/s");
        assert_eq!(Metric::ServerBusy.show(0.97), "97 %");
    }
}
