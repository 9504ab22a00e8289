// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ratios of a run: one median of criterion's estimates divided by another, with the targets.
//!
//! Only the results of this run count. Criterion keeps results of earlier runs, and a ratio of two
//! runs is meaningless.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::{slice, write_read};

/// Two benchmarks and how they are compared.
struct Ratio {
    /// Our `group/function`.
    ours: String,
    /// The `group/function` that ours is compared with.
    other: String,
    is: Is,
    target: Option<f64>,
}

/// The direction of a ratio.
#[derive(Clone, Copy)]
enum Is {
    /// Their time divided by ours; the target is a minimum.
    Speed,
    /// Our time divided by theirs; the target is a maximum.
    Cost,
}

/// Prints the table and writes it to `ratios.json` beside criterion's results. Does nothing if
/// there are no results since `started`.
pub(crate) fn report(results: &Path, started: SystemTime) {
    let rows: Vec<Value> = all()
        .iter()
        .filter_map(|ratio| ratio.row(results, started))
        .collect();
    if rows.is_empty() {
        return;
    }
    print_table(&rows);
    let path = results.join("ratios.json");
    let written = fs::write(
        &path,
        format!("{:#}\n", json!({ "bytes_copied": 0, "ratios": rows })),
    );
    written.expect("criterion's folder can be written to");
    println!("\n{}", path.display());
}

/// Returns all comparisons in the order of the table, those with targets first.
fn all() -> Vec<Ratio> {
    let mut all = Vec::new();
    let targets = [("cursor", Some(0.9)), ("bytes_mut", Some(1.5))];
    all.extend(speeds("parse_frames", &targets));
    for group in ["parse_frames", "parse_frames_bare"] {
        all.push(Ratio {
            ours: format!("{group}/link_buffer_pieces"),
            other: format!("{group}/cursor"),
            is: Is::Speed,
            target: targets[0].1,
        });
    }
    all.extend(speeds("parse_frames_bare", &targets));
    for way in ["whole", "body", "reframed"] {
        for (ours, target) in [("link_buffer", Some(1.2)), ("link_buffer_chain", None)] {
            all.push(Ratio {
                ours: format!("forward_{way}_1m/{ours}"),
                other: format!("forward_{way}_64k/link_buffer"),
                is: Is::Cost,
                target,
            });
        }
    }
    for (group, _) in write_read::GROUPS {
        let others = ["bytes_mut", "bytes_queue", "linked_bytes", "vec"];
        all.extend(speeds(group, &others.map(|other| (other, None))));
    }
    for way in ["whole", "body", "reframed"] {
        for size in ["64k", "1m"] {
            let others = ["bytes_queue", "linked_bytes", "vec"];
            let group = format!("forward_{way}_{size}");
            all.extend(speeds(&group, &others.map(|other| (other, None))));
        }
    }
    for (group, _) in slice::GROUPS {
        all.extend(speeds(group, &[("bytes", None), ("vec", None)]));
    }
    all
}

/// Returns the comparisons of a LinkBuffer with each of `others`, with the minimum speed.
fn speeds(group: &str, others: &[(&str, Option<f64>)]) -> impl Iterator<Item = Ratio> {
    others.iter().map(move |(other, target)| Ratio {
        ours: format!("{group}/link_buffer"),
        other: format!("{group}/{other}"),
        is: Is::Speed,
        target: *target,
    })
}

impl Ratio {
    /// Returns one row, if this run measured both sides.
    fn row(&self, results: &Path, started: SystemTime) -> Option<Value> {
        let ours = median(&results.join(&self.ours), started)?;
        let other = median(&results.join(&self.other), started)?;
        let (ratio, meaning) = match self.is {
            Is::Speed => (other / ours, "speed"),
            Is::Cost => (ours / other, "cost"),
        };
        let met = self.target.map(|target| match self.is {
            Is::Speed => ratio >= target,
            Is::Cost => ratio <= target,
        });
        Some(json!({
            "ours": self.ours, "ours_ns": ours, "other": self.other, "other_ns": other,
            "is": meaning, "ratio": ratio, "target": self.target, "met": met,
        }))
    }
}

/// Returns the median in nanoseconds of a benchmark that this run measured.
fn median(benchmark: &Path, started: SystemTime) -> Option<f64> {
    let estimates = benchmark.join("new/estimates.json");
    let written = fs::metadata(&estimates).and_then(|file| file.modified());
    if written.ok()? < started {
        return None;
    }
    let estimates: Value = serde_json::from_slice(&fs::read(estimates).ok()?).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}

fn print_table(rows: &[Value]) {
    println!("\n| ours | ns | beside | ns | ratio | target | |");
    println!("|---|---:|---|---:|---:|---|---|");
    for row in rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| row[key].as_f64().unwrap_or_default();
        let (word, sign) = match text("is").as_str() {
            "cost" => ("the cost", "at most"),
            _ => ("the speed", "at least"),
        };
        let target = row["target"]
            .as_f64()
            .map(|target| format!("{sign} {target}"));
        let met = row["met"]
            .as_bool()
            .map(|met| if met { "met" } else { "MISSED" });
        println!(
            "| {} | {:.1} | {} | {:.1} | {:.2} x {word} | {} | {} |",
            text("ours"),
            number("ours_ns"),
            text("other"),
            number("other_ns"),
            number("ratio"),
            target.unwrap_or_default(),
            met.unwrap_or_default(),
        );
    }
}
