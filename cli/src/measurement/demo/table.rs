// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results of a demo as a table for a terminal, at most 100 columns wide.

use std::fmt::Write;

use crate::measurement::load::{Report, latency, thousands};

use super::DemoResults;
use super::idle::IdleCost;
use super::scenario::{DemoServer, ScenarioPair};

/// Renders the table, without a trailing newline.
pub(crate) fn render(results: &DemoResults) -> String {
    let mut table = format!(
        "{:<24} {:<9} {:>10} {:>8} {:>8} {:>8} {:>11} {:>11}\n",
        "", "", "requests/s", "p50", "p99", "p99.9", "CPU/request", "of limit"
    );
    for measured in &results.scenarios {
        for (side, total) in measured.sides() {
            if let Some(report) = total.report() {
                row(&mut table, measured, side, &report);
            }
        }
    }
    idle(&mut table, &results.idle);
    table.push_str("\nThe bare loop only echoes frames: it is the limit, not a framework. ");
    table.push_str("One poller;\n");
    write!(table, "{}.\n{}.", results.effort, results.machine).ok();
    table
}

/// Formats the processor time of a request for people.
pub(crate) fn processor_time(report: &Report) -> String {
    match report.server_cpu_us_per_request {
        Some(micros) if micros < 1.0 => format!("{micros:.3} us"),
        Some(micros) if micros < 10.0 => format!("{micros:.2} us"),
        Some(micros) => format!("{micros:.1} us"),
        None => "-".into(),
    }
}

/// Formats the framework's share of the bare loop's throughput for people.
pub(crate) fn share_of_limit(measured: &ScenarioPair) -> String {
    match measured.share_of_limit() {
        Some(share) if measured.is_beyond_limit() => format!("{:.0} % noise", 100.0 * share),
        Some(share) => format!("{:.0} %", 100.0 * share),
        None => "-".into(),
    }
}

/// Returns a note if the descriptor limit has reduced the number of connections.
pub(crate) fn scaled_down(idle: &IdleCost) -> Option<String> {
    (idle.connections < idle.wanted).then(|| {
        format!(
            "{} instead of {}: the limit of open descriptors allows no more",
            thousands(idle.connections as u64),
            thousands(idle.wanted as u64)
        )
    })
}

fn row(table: &mut String, measured: &ScenarioPair, side: DemoServer, report: &Report) {
    // The name on the first line of a scenario, the load on the second.
    let (left, share) = match side {
        DemoServer::Netpoll => (measured.scenario.name.to_owned(), share_of_limit(measured)),
        DemoServer::BareLoop => (
            format!("  {}", measured.scenario.short_shape()),
            String::new(),
        ),
    };
    let line = format!(
        "{left:<24} {side:<9} {:>10} {:>8} {:>8} {:>8} {:>11} {share:>11}",
        thousands(report.requests_per_second as u64),
        latency(report.p50_us),
        latency(report.p99_us),
        latency(report.p999_us),
        processor_time(report),
    );
    // Writing to a string does not fail.
    writeln!(table, "{}", line.trim_end()).ok();
}

fn idle(table: &mut String, idle: &IdleCost) {
    let count = format!("  {} connections", thousands(idle.connections as u64));
    let lines = [
        ("idle", DemoServer::Netpoll, idle.netpoll_bytes),
        (count.as_str(), DemoServer::BareLoop, idle.bare_loop_bytes),
    ];
    for (left, side, bytes) in lines {
        let bytes = thousands(bytes as u64);
        writeln!(
            table,
            "{left:<24} {side:<9} {bytes:>10} bytes of memory for each"
        )
        .ok();
    }
    if let Some(note) = scaled_down(idle) {
        writeln!(table, "  ({note})").ok();
    }
}
