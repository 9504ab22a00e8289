// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results of a demo as a page: one self-contained file that loads nothing.
//!
//! The page is for readers who have never seen the code: it explains what was run, what a bar
//! means, which direction is better, and what the figures do not show.

use std::fmt::Write;

use crate::error::CliError;
use crate::measurement::load::{Report, latency, thousands};
use crate::measurement::page::{Page, Section, escaped, section};
use crate::measurement::plot::{self, Bar, BarGroup, Curve};

use super::DemoResults;
use super::scenario::{DemoServer, ScenarioPair};
use super::table;

/// Renders the page.
pub(crate) fn render(results: &DemoResults) -> Result<String, CliError> {
    let throughput = bars(results, |report| BarValue {
        amount: report.requests_per_second,
        text: format!(
            "{} per second",
            thousands(report.requests_per_second as u64)
        ),
    });
    let processor_time = bars(results, |report| BarValue {
        amount: report.server_cpu_us_per_request.unwrap_or(0.0),
        text: table::processor_time(report),
    });
    let sections = vec![
        section(
            "Requests answered per second",
            "Longer is better. Bars are to scale within a scenario, not between scenarios.",
            &plot::bars("Requests per second in each scenario", &throughput)?,
        ),
        section(
            "Processor time of the server for one request",
            "Shorter is better: the cost of a request on a machine that does other work, too.",
            &plot::bars("Processor time a request in each scenario", &processor_time)?,
        ),
        latencies(results)?,
        section(
            "Memory of an idle connection",
            &idle_words(results),
            &plot::bars("Memory of an idle connection", &[idle_bars(results)])?,
        ),
        figures(results),
        method(results),
    ];
    let page = Page {
        title: "netpoll on this machine",
        machine: &results.machine,
        introduction: introduction(results),
        summary: summary(results),
        sections,
    };
    Ok(page.render())
}

/// Returns a sentence for each scenario.
fn summary(results: &DemoResults) -> Vec<String> {
    let of_scenario = |measured: &ScenarioPair| {
        let [(_, netpoll), _] = measured.sides();
        let report = netpoll.report()?;
        let noise = match measured.is_beyond_limit() {
            true => " (noise)",
            false => "",
        };
        Some(format!(
            "<b>{}</b>: {} requests/s, {:.0} % of the bare loop's{noise}; {} of processor time for \
             each.",
            measured.scenario.name,
            thousands(report.requests_per_second as u64),
            100.0 * measured.share_of_limit()?,
            table::processor_time(&report),
        ))
    };
    let idle = format!(
        "An idle connection takes <b>{} bytes</b>.",
        thousands(results.idle.netpoll_bytes as u64)
    );
    let scenarios = results.scenarios.iter().filter_map(of_scenario);
    scenarios.chain([idle]).collect()
}

/// The value of a bar.
struct BarValue {
    amount: f64,
    text: String,
}

fn bars(results: &DemoResults, value: impl Fn(&Report) -> BarValue) -> Vec<BarGroup> {
    let group = |measured: &ScenarioPair| BarGroup {
        title: measured.scenario.to_string(),
        bars: measured
            .sides()
            .into_iter()
            .filter_map(|(side, total)| {
                let BarValue { amount, text } = value(&total.report()?);
                Some(Bar {
                    name: side.to_string(),
                    color: side.color(),
                    value: amount,
                    range: None,
                    text,
                })
            })
            .collect(),
    };
    results.scenarios.iter().map(group).collect()
}

fn introduction(results: &DemoResults) -> String {
    let legend = [DemoServer::Netpoll, DemoServer::BareLoop].map(|side| {
        let color = plot::css_color(side.color());
        format!("<span class=\"key\"><i style=\"background:{color}\"></i>{side}</span>")
    });
    let meanings: String = results
        .scenarios
        .iter()
        .map(|measured| {
            let scenario = &measured.scenario;
            format!(
                "<dt>{}</dt><dd>{} <small>{}</small></dd>\n",
                scenario.name,
                scenario.meaning,
                scenario.shape()
            )
        })
        .collect();
    format!(
        "<p class=\"lead\">netpoll is a network framework for RPC servers in Rust. \
         <code>netpoll demo</code> has started a server on this machine, sent requests to it, and \
         measured their rate, their latency and their cost.</p>\n\
         <p>Beside it stands a <b>bare loop</b>: a program of a few hundred lines that answers the \
         same requests with the same system calls and does nothing else. It has no timeouts, no \
         limits, no user code to call. It is not a competitor but the limit, and the distance to \
         it is what the framework costs.</p>\n\
         <p class=\"legend\">{}</p>\n<dl>\n{meanings}</dl>\n",
        legend.concat()
    )
}

fn latencies(results: &DemoResults) -> Result<Section, CliError> {
    let mut plots = String::from("<div class=\"grid\">\n");
    for measured in &results.scenarios {
        let curves: Vec<Curve<'_>> = measured
            .sides()
            .into_iter()
            .filter_map(|(side, total)| {
                Some(Curve {
                    color: side.color(),
                    latency: &total.result()?.latency,
                })
            })
            .collect();
        let name = &measured.scenario.to_string();
        let svg = plot::curves(&format!("Latency, {name}"), &curves)?;
        // Writing to a string does not fail.
        writeln!(
            plots,
            "<figure><figcaption>{name}</figcaption>{svg}</figure>"
        )
        .ok();
    }
    plots.push_str("</div>\n");
    Ok(section(
        "How long a request took",
        "Lower is better. A point of a curve says that this share of the requests took no longer \
         than this; the right end is the slowest request in ten thousand. Requests in flight wait \
         for each other, so the more of them, the longer each takes, however fast the server is.",
        &plots,
    ))
}

fn idle_bars(results: &DemoResults) -> BarGroup {
    let idle = &results.idle;
    let bar = |side: DemoServer, bytes: f64| Bar {
        name: side.to_string(),
        color: side.color(),
        value: bytes,
        range: None,
        text: format!("{} bytes", thousands(bytes as u64)),
    };
    BarGroup {
        title: format!(
            "{} idle connections, each",
            thousands(idle.connections as u64)
        ),
        bars: vec![
            bar(DemoServer::Netpoll, idle.netpoll_bytes),
            bar(DemoServer::BareLoop, idle.bare_loop_bytes),
        ],
    }
}

fn idle_words(results: &DemoResults) -> String {
    let note = table::scaled_down(&results.idle);
    let note = note.map_or_else(String::new, |note| format!(" ({note})"));
    format!(
        "Shorter is better. Each connection was used once and then left alone; what is counted is \
         the growth of the server's process, without the kernel's memory for the socket.{note}"
    )
}

fn figures(results: &DemoResults) -> Section {
    let mut rows = String::new();
    for measured in &results.scenarios {
        for (side, total) in measured.sides() {
            let Some(report) = total.report() else {
                continue;
            };
            let cells = [
                thousands(report.requests_per_second as u64),
                latency(report.p50_us),
                latency(report.p99_us),
                latency(report.p999_us),
                table::processor_time(&report),
            ];
            let share = match side {
                DemoServer::Netpoll => table::share_of_limit(measured),
                DemoServer::BareLoop => String::new(),
            };
            let cells = cells.map(|cell| format!("<td>{cell}</td>")).concat();
            let name = measured.scenario.name;
            writeln!(
                rows,
                "<tr><th>{name}</th><th>{side}</th>{cells}<td>{share}</td></tr>"
            )
            .ok();
        }
    }
    let names = [
        "scenario",
        "server",
        "requests/s",
        "p50",
        "p99",
        "p99.9",
        "CPU/request",
        "of the limit",
    ];
    let names = names.map(|name| format!("<th>{name}</th>")).concat();
    let table = format!(
        "<div class=\"wide\"><table>\n<thead><tr>{names}</tr></thead>\n<tbody>\n{rows}</tbody>\n\
         </table></div>\n"
    );
    section(
        "The figures",
        "p50, p99 and p99.9: so many percent of the requests took no longer. Of the limit: the throughput beside the bare \
         loop's, the median of the rounds. More than all of the limit is noise of the machine.",
        &table,
    )
}

fn method(results: &DemoResults) -> Section {
    let content = format!(
        "<ul>\n<li>{}.</li>\n<li>{}; the two servers take turns, so that what else the machine does \
         meets both.</li>\n<li>Each server has one thread on the first processor, the load one \
         thread on the second; client and server talk over the loopback.</li>\n<li>The load keeps \
         a fixed number of requests in flight: it shows how much a server can do. How long users \
         wait at a given rate is what <code>netpoll load --rate</code> measures.</li>\n\
         <li>A virtual machine, a browser next door or a processor that slows down when it is hot \
         move all figures; compare within this page, and run it again before you conclude.</li>\n\
         </ul>\n",
        escaped(&results.machine.to_string()),
        results.effort
    );
    let words = "Nothing here is more exact than the machine was quiet.";
    section("How it was measured", words, &content)
}
