// SPDX-License-Identifier: MIT OR Apache-2.0
//! The HTML frame of a results page: one self-contained file that loads nothing and runs nothing.
//!
//! A page begins with what was run: the version, the time, the machine. Then come a summary and the
//! contents, then the sections. Its colors follow the reader's choice of light or dark.

use std::fmt::Write;
use std::time::SystemTime;

use super::process::machine::Machine;

/// A page before it is rendered.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    pub(crate) title: &'a str,
    pub(crate) machine: &'a Machine,
    /// HTML below the title: what the page shows.
    pub(crate) introduction: String,
    /// The results in a sentence each, as HTML.
    pub(crate) summary: Vec<String>,
    pub(crate) sections: Vec<Section>,
}

/// A part of a page, with an entry in its contents.
#[derive(Debug)]
pub(crate) struct Section {
    title: String,
    html: String,
}

/// Returns a section: title, explanation and content.
pub(crate) fn section(title: &str, words: &str, content: &str) -> Section {
    Section {
        title: title.to_owned(),
        html: format!("<p>{words}</p>\n{content}"),
    }
}

impl Page<'_> {
    /// Renders the page. Its time is now.
    pub(crate) fn render(&self) -> String {
        let Self { title, machine, .. } = self;
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
             <body>\n<main>\n<h1>{title}</h1>\n\
             <p class=\"run\">netpoll {}, {}. {}.</p>\n{}",
            env!("CARGO_PKG_VERSION"),
            time_of_day(SystemTime::now()),
            escaped(&machine.to_string()),
            self.introduction,
        );
        let list = |items: &mut dyn Iterator<Item = String>| -> String {
            items.map(|item| format!("<li>{item}</li>\n")).collect()
        };
        // Writing to a string does not fail.
        write!(
            html,
            "<section>\n<h2>Summary</h2>\n<ul>\n{}</ul>\n</section>\n",
            list(&mut self.summary.iter().cloned())
        )
        .ok();
        let entry = |(index, section): (usize, &Section)| {
            format!("<a href=\"#section-{index}\">{}</a>", section.title)
        };
        write!(
            html,
            "<nav>\n<h2>Contents</h2>\n<ol>\n{}</ol>\n</nav>\n",
            list(&mut self.sections.iter().enumerate().map(entry))
        )
        .ok();
        for (index, Section { title, html: body }) in self.sections.iter().enumerate() {
            write!(
                html,
                "<section id=\"section-{index}\">\n<h2>{title}</h2>\n{body}</section>\n"
            )
            .ok();
        }
        html.push_str("</main>\n</body>\n</html>\n");
        html
    }
}

/// Returns a time in UTC, to the minute: `2006-01-02 15:04 UTC`.
fn time_of_day(time: SystemTime) -> String {
    let rfc3339 = humantime::format_rfc3339_seconds(time).to_string();
    let (date, clock) = rfc3339.split_once('T').unwrap_or((&rfc3339, ""));
    let minutes = clock.rsplit_once(':').map_or(clock, |(minutes, _)| minutes);
    format!("{date} {minutes} UTC")
}

/// Escapes text for HTML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

const STYLE: &str = include_str!("page.css");

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn text_is_escaped_for_html() {
        assert_eq!(escaped("a<b> & c"), "a&lt;b> &amp; c");
    }

    #[test]
    fn a_time_is_shown_in_utc_to_the_minute() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_136_214_245);
        assert_eq!(time_of_day(time), "2006-01-02 15:04 UTC");
    }

    #[test]
    fn a_page_begins_with_the_run_a_summary_and_its_contents() {
        let page = Page {
            title: "a title",
            machine: &Machine::this(),
            introduction: String::from("<p>words</p>\n"),
            summary: vec![String::from("netpoll is first")],
            sections: vec![section("one", "a", "b"), section("two", "c", "d")],
        };
        let html = page.render();
        let positions = [
            "<h1>a title</h1>",
            concat!("netpoll ", env!("CARGO_PKG_VERSION")),
            " UTC. ",
            "<p>words</p>",
            "<li>netpoll is first</li>",
            "<li><a href=\"#section-0\">one</a></li>",
            "<li><a href=\"#section-1\">two</a></li>",
            "<section id=\"section-0\">\n<h2>one</h2>\n<p>a</p>\nb</section>",
            "<section id=\"section-1\">\n<h2>two</h2>\n<p>c</p>\nd</section>",
            "</html>",
        ]
        .map(|part| {
            html.find(part)
                .unwrap_or_else(|| panic!("{part} in {html}"))
        });
        assert!(positions.is_sorted(), "{html}");
    }
}
