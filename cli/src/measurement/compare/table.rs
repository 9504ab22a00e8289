// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results for a terminal: a table for each scenario, at most 100 columns wide.

use std::fmt::Write;

use super::metric::Metric;
use super::results::{CompareResults, Figure, PeerResult, ScenarioResult};
use super::scenario::ScenarioLoad;

/// Renders all tables, without a trailing newline.
pub(crate) fn render(results: &CompareResults) -> String {
    let mut text = String::new();
    for measured in &results.scenarios {
        scenario(&mut text, measured);
    }
    text.push_str(
        "A figure is the median over the rounds; in brackets the deviation of the furthest round; last\n\
         the ratio to netpoll (the median over the rounds). A throughput without a ratio is the load's:\n\
         a server was not busy. The references are bare loops: limits, not peers.\n",
    );
    // Writing to a string does not fail. The machine has its own line: its names may be long.
    writeln!(text, "{}.\n{}.", results.effort, results.machine).ok();
    for warning in &results.warnings {
        writeln!(text, "{warning}").ok();
    }
    let missing = results.not_measured();
    if !missing.is_empty() {
        text.push_str("\nNot measured:\n");
    }
    for one in missing {
        let scenarios = one.scenarios.join(", ");
        writeln!(text, "  {}, {scenarios}: {}", one.peer, one.why).ok();
    }
    text.trim_end().to_owned()
}

fn scenario(text: &mut String, measured: &ScenarioResult) {
    let (id, shape) = (measured.scenario.id(), measured.scenario.shape());
    writeln!(text, "{id}: {shape}").ok();
    if let Some(note) = &measured.note {
        writeln!(text, "  ({note})").ok();
    }
    let mut heads: Option<Vec<&str>> = None;
    for entry in &measured.entries {
        let figures = columns(measured, entry);
        if figures.is_empty() {
            continue;
        }
        // A column has another name if a throughput is the load's and not the server's.
        let names: Vec<_> = figures.iter().map(|figure| figure.metric.short()).collect();
        if heads.as_ref() != Some(&names) {
            let columns: String = figures.iter().map(|figure| head(figure.metric)).collect();
            writeln!(text, "  {:<20}{}", "", columns.trim_end()).ok();
            heads = Some(names);
        }
        row(text, entry, &figures);
    }
    text.push('\n');
}

/// Returns the figures that fit. The rate of an open loop is in the note, the same for all.
fn columns(measured: &ScenarioResult, entry: &PeerResult) -> Vec<Figure> {
    let rate_is_in_note = matches!(measured.scenario.load, ScenarioLoad::Rate(..));
    let mut figures = measured.figures(entry);
    figures.retain(|figure| !rate_is_in_note || figure.metric != Metric::OfferedPerSecond);
    figures
}

fn row(text: &mut String, entry: &PeerResult, figures: &[Figure]) {
    let cells: String = figures.iter().map(cell).collect();
    writeln!(text, "  {:<20}{}", entry.peer, cells.trim_end()).ok();
    let beyond = figures.iter().filter(|figure| figure.beyond_limit);
    let beyond: Vec<_> = beyond.map(|figure| figure.metric.short()).collect();
    if !beyond.is_empty() {
        let names = beyond.join(", ");
        writeln!(text, "    noise: beyond the bare loop in {names}").ok();
    }
}

/// Returns the width of a column without the space before it: of `1,820,976 (28%) 10.60`, or of a
/// figure alone.
fn width(metric: Metric) -> usize {
    if metric.is_comparable() { 21 } else { 10 }
}

fn head(metric: Metric) -> String {
    format!(" {:>1$}", metric.short(), width(metric))
}

/// Formats a figure as `6.25 us (3%) 1.00`; the brackets are left out if all rounds are equal.
fn cell(figure: &Figure) -> String {
    let (value, width) = (
        figure.metric.show(figure.spread.median),
        width(figure.metric),
    );
    if !figure.metric.is_comparable() {
        return format!(" {value:>width$}");
    }
    let rounds_differ = figure.spread.min < figure.spread.max;
    let deviation = figure.spread.deviation().filter(|_| rounds_differ);
    let deviation = deviation.map_or_else(String::new, |share| format!("({:.0}%) ", share * 100.0));
    let ratio = figure
        .ratio
        .map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"));
    format!(" {:>width$}", format!("{value} {deviation}{ratio}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::spread::Spread;

    fn figure(metric: Metric, samples: &[f64], ratio: Option<f64>) -> Figure {
        let spread = Spread::of(samples).unwrap();
        Figure {
            metric,
            spread,
            ratio,
            beyond_limit: false,
        }
    }

    #[test]
    fn the_widest_figures_fit_and_stay_separated() {
        let requests = [1_920_976.0, 3_000_000.0, 1_000_000.0];
        let row = [
            figure(Metric::CpuPerRequest, &[0.546, 0.9, 0.3], Some(10.6)),
            figure(Metric::P99, &[868.0, 1400.0, 300.0], Some(10.6)),
            figure(Metric::RequestsPerSecond, &requests, Some(10.6)),
            figure(Metric::ServerBusy, &[1.0], None),
        ];
        let line: String = row.iter().map(cell).collect();
        let heads: String = row.iter().map(|figure| head(figure.metric)).collect();
        assert_eq!(line.len(), heads.len());
        assert!(2 + 20 + line.len() <= 100, "{line}");
        assert_eq!(line.split_whitespace().count(), 13, "{line}");
    }
}
