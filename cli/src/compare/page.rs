// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings as a page: one file, nothing loaded from anywhere.
//!
//! It is written for somebody who has never seen the code: what was done with each server, what a
//! bar means, which direction is better, and what was not measured.

use std::fmt::Write;

use crate::error::CliError;
use crate::measurement::page::{end, escaped, head, section};
use crate::measurement::plot::{self, Bar, BarGroup, SeriesColor};

use super::metric::{BetterDirection, Metric};
use super::results::{CompareResults, Figure, ScenarioResult};

/// The whole page.
///
/// # Errors
///
/// Those of [`plot`].
pub(crate) fn render(findings: &CompareResults) -> Result<String, CliError> {
    let mut page = head("netpoll beside its peers");
    page.push_str(&introduction(findings));
    for measured in &findings.scenarios {
        page.push_str(&scenario(measured)?);
    }
    page.push_str(&missing(findings));
    page.push_str(&method(findings));
    page.push_str(&end());
    Ok(page)
}

fn introduction(findings: &CompareResults) -> String {
    let legend = [
        (
            SeriesColor::Ours,
            "netpoll, also with its handlers elsewhere",
        ),
        (
            SeriesColor::Peer,
            "a peer: the same server with another framework",
        ),
        (SeriesColor::Limit, "a bare loop: the limit, not a peer"),
    ];
    let legend = legend.map(|(paint, words)| {
        let color = plot::css_color(paint);
        format!("<span class=\"key\"><i style=\"background:{color}\"></i>{words}</span>")
    });
    let doubts: String = findings
        .warnings
        .iter()
        .map(|doubt| format!("<p><strong>{}</strong></p>\n", escaped(doubt)))
        .collect();
    format!(
        "<h1>netpoll beside its peers</h1>\n\
         <p class=\"lead\">netpoll is a network framework for RPC servers in Rust. \
         <code>netpoll compare</code> has started the same server with netpoll and with other \
         frameworks on this machine, used each in the same ways, and measured what that cost.</p>\n\
         <p>A bar is the median over the rounds, and the thin line on it goes from the least round \
         to the most. Where two such lines overlap, the two servers were not told apart. Bars are \
         to scale within one plot. In brackets stands how many times netpoll's figure it is.</p>\n\
         <p class=\"legend\">{}</p>\n{doubts}",
        legend.concat()
    )
}

fn scenario(measured: &ScenarioResult) -> Result<String, CliError> {
    let scenario = measured.scenario;
    let mut words = format!("{} {}.", scenario.meaning, scenario.shape());
    if let Some(note) = &measured.note {
        write!(words, " <strong>{}.</strong>", escaped(note)).ok();
    }
    let groups = groups(measured);
    if groups.is_empty() {
        let nothing = "<p>Nobody could be measured here; the reasons are below.</p>\n";
        return Ok(section(&scenario.id(), &words, nothing));
    }
    let plot = plot::bars(&scenario.id(), &groups)?;
    let content = format!("{plot}{}", figures(measured));
    Ok(section(&scenario.id(), &words, &content))
}

/// A group of bars for each figure that somebody has.
fn groups(measured: &ScenarioResult) -> Vec<BarGroup> {
    let mut groups: Vec<(Metric, BarGroup)> = Vec::new();
    for entry in &measured.entries {
        for figure in measured.figures(entry) {
            if figure.metric == Metric::ServerBusy {
                continue;
            }
            let bar = Bar {
                name: entry.peer.name.to_owned(),
                color: entry.peer.color(),
                value: figure.spread.median,
                range: Some((figure.spread.min, figure.spread.max)),
                text: words(&figure),
            };
            match groups
                .iter_mut()
                .find(|(metric, _)| *metric == figure.metric)
            {
                Some((_, group)) => group.bars.push(bar),
                None => groups.push((
                    figure.metric,
                    BarGroup {
                        title: title(figure.metric),
                        bars: vec![bar],
                    },
                )),
            }
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// What a plot shows, and which direction is better.
fn title(metric: Metric) -> String {
    let direction = match metric.better() {
        BetterDirection::Lower => " (shorter is better)",
        BetterDirection::Higher => " (longer is better)",
        BetterDirection::None => "",
    };
    format!("{}{direction}", metric.meaning())
}

fn words(figure: &Figure) -> String {
    let value = figure.metric.show(figure.spread.median);
    match figure.ratio {
        Some(ratio) => format!("{value} ({ratio:.2})"),
        None => value,
    }
}

/// All figures of a scenario as a table, folded away.
fn figures(measured: &ScenarioResult) -> String {
    let mut rows = String::new();
    for entry in &measured.entries {
        for figure in measured.figures(entry) {
            let (metric, spread) = (figure.metric, figure.spread);
            let ratio = figure
                .ratio
                .map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let cells = [spread.median, spread.min, spread.max].map(|value| metric.show(value));
            let cells = cells.map(|cell| format!("<td>{cell}</td>")).concat();
            // Writing to a string does not fail.
            writeln!(
                rows,
                "<tr><th>{}</th><th>{}</th>{cells}<td>{ratio}</td></tr>",
                entry.peer,
                metric.name()
            )
            .ok();
        }
    }
    let names = [
        "server",
        "figure",
        "median",
        "least",
        "most",
        "of netpoll's",
    ];
    let names = names.map(|name| format!("<th>{name}</th>")).concat();
    format!(
        "<details><summary>The figures</summary><div class=\"wide\"><table>\n\
         <thead><tr>{names}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div></details>\n"
    )
}

fn missing(findings: &CompareResults) -> String {
    let mut rows = String::new();
    for one in findings.not_measured() {
        writeln!(
            rows,
            "<li><b>{}</b>, {}: {}</li>",
            one.peer,
            one.scenarios.join(", "),
            escaped(one.why)
        )
        .ok();
    }
    let always = "<li>Loopback has no network: no loss, no interrupts of a card, no propagation \
                  delay.</li>\n<li>One processor for each server says nothing about scaling over \
                  processors.</li>\n<li>A closed loop shows how much a server can do; its latencies \
                  are those of the queue that the loop itself builds.</li>\n";
    section(
        "What was not measured",
        "What is missing above, and what no figure above can say.",
        &format!("<ul>\n{rows}{always}</ul>\n"),
    )
}

fn method(findings: &CompareResults) -> String {
    let content = format!(
        "<ul>\n<li>{}.</li>\n<li>{}; the servers take turns, each turn \
         with a fresh process.</li>\n<li>A server has the first processor and one thread, poller \
         or worker on it, the load one thread on the second.</li>\n<li>Processor time is that of \
         all threads of the server, in user code and in the kernel.</li>\n<li>Throughput is \
         compared only where both servers kept their processor at least 90 % busy in every round; \
         elsewhere the load was the slower one.</li>\n</ul>\n",
        escaped(&findings.machine.to_string()),
        escaped(&findings.effort)
    );
    let words = "Nothing here is more exact than the machine was quiet.";
    section("How it was measured", words, &content)
}
