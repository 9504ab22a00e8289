// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parses gungraun's output, one line of JSON for each bench, into instructions per operation: per
//! request, frame or message.

use std::error::Error;

use serde_json::Value;

use crate::TIMES;
use crate::run::{Run, START};

/// The count of one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    /// The function and the bench: `parse/of_128b`, `serve/churn`.
    pub name: String,
    /// Instructions per operation.
    pub instructions: f64,
}

/// Returns all counts in the order of the benches.
///
/// # Errors
///
/// A line that is not a summary of gungraun's, or no `start` run for the runs of a server.
pub fn read(lines: &str) -> Result<Vec<Counted>, Box<dyn Error>> {
    let benches: Vec<_> = lines.lines().map(bench).collect::<Result<_, _>>()?;
    let start = benches.iter().find(|bench| bench.is_run(START));
    let mut counted = Vec::new();
    for bench in benches.iter().filter(|bench| !bench.is_run(START)) {
        let (all, times) = match Run::named(&bench.id) {
            Some(run) => {
                let start = start.ok_or("a server was driven, but none only started")?;
                let rest = bench.instructions.checked_sub(start.instructions);
                let rest = rest.ok_or("a run that took less than its start")?;
                (rest, run.requests())
            }
            None => (bench.instructions, TIMES),
        };
        counted.push(Counted {
            name: format!("{}/{}", bench.function, bench.id),
            instructions: all as f64 / times as f64,
        });
    }
    Ok(counted)
}

/// One summary of gungraun's.
struct Bench {
    function: String,
    id: String,
    instructions: u64,
}

impl Bench {
    fn is_run(&self, name: &str) -> bool {
        self.id == name
    }
}

fn bench(line: &str) -> Result<Bench, Box<dyn Error>> {
    let summary: Value = serde_json::from_str(line)?;
    let text = |key: &str| summary[key].as_str().map(String::from);
    let all = &summary["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]["new"];
    let (Some(function), Some(id), Some(instructions)) =
        (text("function_name"), text("id"), all.as_u64())
    else {
        return Err(format!("gungraun said something else: {line}").into());
    };
    Ok(Bench {
        function,
        id,
        instructions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(function: &str, id: &str, instructions: u64) -> String {
        let metrics = serde_json::json!({ "Ir": { "values": { "new": instructions } } });
        serde_json::json!({
            "function_name": function, "id": id,
            "profiles": [{ "data": { "total": { "metrics": metrics } } }],
        })
        .to_string()
    }

    #[test]
    fn a_run_is_counted_for_each_request_and_without_the_start() {
        let run = Run::named("churn").expect("a run");
        let all = 500 + 70 * run.requests() as u64;
        let lines = [
            summary("serve", "start", 500),
            summary("serve", "churn", all),
        ];
        let counted = read(&lines.join("\n")).expect("two summaries");
        let churn = Counted {
            name: "serve/churn".into(),
            instructions: 70.0,
        };
        assert_eq!(counted, [churn]);
    }

    #[test]
    fn a_path_is_counted_for_each_time() {
        let line = summary("parse", "of_128b", 30 * TIMES as u64);
        let counted = read(&line).expect("a summary");
        assert_eq!(counted[0].instructions, 30.0);
    }

    #[test]
    fn what_is_no_summary_is_refused() {
        assert!(read("warning: something").is_err());
        assert!(read("{}").is_err());
        assert!(read(&summary("serve", "churn", 1)).is_err());
    }
}
