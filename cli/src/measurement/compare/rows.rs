// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results for scripts: one array of rows. A row is a figure of a peer in a scenario, or the
//! reason why it is missing.

use serde::Serialize;

use super::results::CompareResults;

/// One row. The names of the fields are stable.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ResultRow<'a> {
    Figure {
        peer: &'a str,
        scenario: String,
        metric: &'a str,
        unit: &'a str,
        median: f64,
        min: f64,
        max: f64,
    },
    Missing {
        peer: &'a str,
        scenario: String,
        metric: &'a str,
        why: &'a str,
    },
}

/// Renders the array, one row a line.
pub(crate) fn render(results: &CompareResults) -> String {
    let rows: Vec<String> = rows(results)
        .iter()
        .map(|row| serde_json::to_string(row).expect("numbers and strings can always be written"))
        .collect();
    format!("[\n{}\n]\n", rows.join(",\n"))
}

fn rows(results: &CompareResults) -> Vec<ResultRow<'_>> {
    let mut rows = Vec::new();
    for measured in &results.scenarios {
        let scenario = || measured.scenario.id();
        for entry in &measured.entries {
            let peer = entry.peer.name;
            if let Some(why) = entry.missing() {
                rows.push(ResultRow::Missing {
                    peer,
                    scenario: scenario(),
                    metric: "unavailable",
                    why,
                });
            }
            rows.extend(
                measured
                    .figures(entry)
                    .iter()
                    .map(|figure| ResultRow::Figure {
                        peer,
                        scenario: scenario(),
                        metric: figure.metric.name(),
                        unit: figure.metric.unit(),
                        median: rounded(figure.spread.median),
                        min: rounded(figure.spread.min),
                        max: rounded(figure.spread.max),
                    }),
            );
        }
    }
    rows
}

/// Rounds to four decimals: more digits than were measured would suggest precision.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::metric::Metric;
    use super::super::results::{PeerResult, ScenarioResult};
    use super::super::selection::{peer, scenarios_to_run};
    use super::*;
    use crate::measurement::process::machine::Machine;

    #[test]
    fn a_row_is_a_figure_or_the_reason_for_a_missing_one() {
        let mut entry = PeerResult::new(peer("netpoll").unwrap(), None);
        entry.add(vec![(Metric::CpuPerRequest, 1.000_04)]);
        entry.add(vec![(Metric::CpuPerRequest, 3.0)]);
        let missing = PeerResult::new(peer("gnet").unwrap(), Some("no go".into()));
        let results = CompareResults {
            scenarios: vec![ScenarioResult::new(
                scenarios_to_run(&[], false)[1],
                vec![entry, missing],
            )],
            machine: Machine::this(),
            effort: String::new(),
            warnings: Vec::new(),
        };
        let rows: Value = serde_json::from_str(&render(&results)).unwrap();
        let expected = json!([
            {"peer": "netpoll", "scenario": "pingpong/100", "metric": "server_cpu_us_per_request",
             "unit": "us", "median": 2.0, "min": 1.0, "max": 3.0},
            {"peer": "gnet", "scenario": "pingpong/100", "metric": "unavailable", "why": "no go"},
        ]);
        assert_eq!(rows, expected);
    }
}
