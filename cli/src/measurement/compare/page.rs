// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results as a page: one self-contained file that loads nothing.
//!
//! The page is for readers who have never seen the code: it explains what was done with each
//! server, what a bar means, which direction is better, and what was not measured.

use std::fmt::Write;

use crate::error::CliError;
use crate::measurement::page::{Page, Section, escaped, section};
use crate::measurement::plot::{self, Bar, BarGroup, SeriesColor};

use super::metric::{BetterDirection, Metric};
use super::results::{CompareResults, Figure, ScenarioResult};

/// Renders the page.
pub(crate) fn render(results: &CompareResults) -> Result<String, CliError> {
    let mut sections = Vec::new();
    for measured in &results.scenarios {
        sections.push(scenario(measured)?);
    }
    sections.extend([missing(results), method(results)]);
    let page = Page {
        title: "netpoll beside its peers",
        machine: &results.machine,
        introduction: introduction(results),
        summary: results.scenarios.iter().filter_map(summary).collect(),
        sections,
    };
    Ok(page.render())
}

/// Returns netpoll's deciding figure in a scenario, and the ratios of the others.
fn summary(measured: &ScenarioResult) -> Option<String> {
    let deciding = |entry| measured.figures(entry).into_iter().next();
    let netpoll = measured
        .entries
        .iter()
        .find(|entry| entry.peer.is_netpoll())?;
    let figure = deciding(netpoll)?;
    let others: Vec<String> = measured
        .entries
        .iter()
        .filter(|entry| !entry.peer.is_netpoll())
        .filter_map(|entry| {
            let other = deciding(entry).filter(|other| other.metric == figure.metric)?;
            let noise = if other.beyond_limit { " noise" } else { "" };
            Some(format!("{} {:.2}{noise}", entry.peer.name, other.ratio?))
        })
        .collect();
    let noise = if figure.beyond_limit { " (noise)" } else { "" };
    let beside = match others.is_empty() {
        true => String::new(),
        false => format!("; times that of netpoll: {}", others.join(", ")),
    };
    Some(format!(
        "<b>{}</b>, {}: {}{noise}{beside}.",
        measured.scenario.id(),
        title(figure.metric),
        figure.metric.show(figure.spread.median),
    ))
}

fn introduction(results: &CompareResults) -> String {
    let legend = [
        (
            SeriesColor::Ours,
            "netpoll, also with its handlers on other threads",
        ),
        (
            SeriesColor::Peer,
            "a peer: the same server with another framework",
        ),
        (
            SeriesColor::Limit,
            "a bare loop: an upper limit, not a peer",
        ),
    ];
    let legend = legend.map(|(paint, words)| {
        let color = plot::css_color(paint);
        format!("<span class=\"key\"><i style=\"background:{color}\"></i>{words}</span>")
    });
    let warnings: String = results
        .warnings
        .iter()
        .map(|warning| format!("<p><strong>{}</strong></p>\n", escaped(warning)))
        .collect();
    format!(
        "<p class=\"lead\">netpoll is a network framework for RPC servers in Rust. \
         <code>netpoll compare</code> has started the same server with netpoll and with other \
         frameworks on this machine, driven each with the same loads, and measured the cost.</p>\n\
         <p>A bar is the median over the rounds, and the thin line on it spans the rounds from \
         the least to the most. Where two such lines overlap, the difference between the two \
         servers is not significant. Bars are to scale within one plot. The number in brackets is \
         the ratio to netpoll's figure. A figure beyond that of the bare loop is noise, and is called \
         so.</p>\n\
         <p class=\"legend\">{}</p>\n{warnings}",
        legend.concat()
    )
}

fn scenario(measured: &ScenarioResult) -> Result<Section, CliError> {
    let scenario = measured.scenario;
    let mut words = format!("{} {}.", scenario.meaning, scenario.shape());
    if let Some(note) = &measured.note {
        write!(words, " <strong>{}.</strong>", escaped(note)).ok();
    }
    let groups = groups(measured);
    if groups.is_empty() {
        let nothing = "<p>No server could be measured here; the reasons are below.</p>\n";
        return Ok(section(&scenario.id(), &words, nothing));
    }
    let plot = plot::bars(&scenario.id(), &groups)?;
    let content = format!("{plot}{}", figures(measured));
    Ok(section(&scenario.id(), &words, &content))
}

/// Returns a group of bars for each metric that some server has.
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

/// Returns the title of a plot: the metric and which direction is better.
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
    let noise = if figure.beyond_limit { " noise" } else { "" };
    match figure.ratio {
        Some(ratio) => format!("{value} ({ratio:.2}){noise}"),
        None => format!("{value}{noise}"),
    }
}

/// Returns all figures of a scenario as a collapsed table.
fn figures(measured: &ScenarioResult) -> String {
    let mut rows = String::new();
    for entry in &measured.entries {
        for figure in measured.figures(entry) {
            let (metric, spread) = (figure.metric, figure.spread);
            let ratio = figure
                .ratio
                .map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let noise = if figure.beyond_limit { " noise" } else { "" };
            let cells = [spread.median, spread.min, spread.max].map(|value| metric.show(value));
            let cells = cells.map(|cell| format!("<td>{cell}</td>")).concat();
            // Writing to a string does not fail.
            writeln!(
                rows,
                "<tr><th>{}</th><th>{}</th>{cells}<td>{ratio}{noise}</td></tr>",
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

fn missing(results: &CompareResults) -> Section {
    let mut rows = String::new();
    for one in results.not_measured() {
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
        "Results that are missing above, and limits of the method.",
        &format!("<ul>\n{rows}{always}</ul>\n"),
    )
}

fn method(results: &CompareResults) -> Section {
    let content = format!(
        "<ul>\n<li>{}.</li>\n<li>{}; the servers take turns, each turn \
         with a fresh process.</li>\n<li>A server has the first processor and one thread, poller \
         or worker on it, the load one thread on the second.</li>\n<li>Processor time is that of \
         all threads of the server, in user code and in the kernel.</li>\n<li>Throughput is \
         compared only where both servers kept their processor at least 90 % busy in every round; \
         elsewhere the load was the slower one.</li>\n</ul>\n",
        escaped(&results.machine.to_string()),
        escaped(&results.effort)
    );
    let words = "Nothing here is more exact than the machine was quiet.";
    section("How it was measured", words, &content)
}
