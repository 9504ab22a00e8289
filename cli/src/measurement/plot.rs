// SPDX-License-Identifier: MIT OR Apache-2.0
//! SVG plots: groups of bars, and latency curves over percentiles.
//!
//! The bars of a group are drawn to the scale of the longest one and carry their value as text.
//! Scenarios differ by a factor of a hundred; on one common scale, the slow ones would be
//! invisible. Latency has a logarithmic scale, and so has the share of slower requests: the few
//! slowest requests get as much room as all others.
//!
//! Text stays text, in a font that every browser has; nothing is loaded.

use std::fmt;

use hdrhistogram::Histogram;
use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Rectangle, Text};
use plotters::prelude::{IntoLogRange, SVGBackend};
use plotters::series::LineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, IntoTextStyle, RGBColor, TextStyle, WHITE};

use crate::error::CliError;
use crate::measurement::load::latency;

/// The color of a server, the same in every plot of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeriesColor {
    /// The framework.
    Ours,
    /// Another framework.
    Peer,
    /// An upper limit for all frameworks.
    Limit,
}

/// Bars with a common scale.
#[derive(Debug)]
pub(crate) struct BarGroup {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) color: SeriesColor,
    pub(crate) value: f64,
    /// The minimum and the maximum, if the value is a median.
    pub(crate) range: Option<(f64, f64)>,
    /// The value as text.
    pub(crate) text: String,
}

/// The latencies of one server.
#[derive(Debug)]
pub(crate) struct Curve<'a> {
    pub(crate) color: SeriesColor,
    pub(crate) latency: &'a Histogram<u64>,
}

/// Draws groups of horizontal bars, one below the other.
///
/// # Errors
///
/// Errors of the drawing library; no input is known to cause one.
pub(crate) fn bars(name: &str, groups: &[BarGroup]) -> Result<String, CliError> {
    let rows: usize = groups.iter().map(|group| group.bars.len()).sum();
    let height = rows as i32 * BAR_STEP + groups.len() as i32 * (TITLE_STEP + GROUP_GAP);
    let mut svg = String::new();
    let start = bars_start(groups);
    {
        let area = blank(&mut svg, (BARS_WIDTH as u32, height as u32))?;
        let mut top = 0;
        for group in groups {
            let title = text(16, DARK, HPos::Left);
            area.draw(&Text::new(group.title.clone(), (0, top + 12), title))
                .map_err(failed)?;
            top += TITLE_STEP;
            let reach = |bar: &Bar| bar.range.map_or(bar.value, |range| range.1.max(bar.value));
            let longest = group.bars.iter().map(reach).fold(0.0, f64::max);
            for bar in &group.bars {
                let scale = Scale { start, longest };
                draw_bar(&area, bar, scale, top)?;
                top += BAR_STEP;
            }
            top += GROUP_GAP;
        }
        area.present().map_err(failed)?;
    }
    Ok(labelled(&svg, name))
}

/// Draws latency over the share of requests that took no longer. Returns an empty text if there are
/// no latencies.
///
/// # Errors
///
/// As [`bars`].
pub(crate) fn curves(name: &str, curves: &[Curve<'_>]) -> Result<String, CliError> {
    let points: Vec<Vec<(f64, f64)>> = curves.iter().map(|one| curve(one.latency)).collect();
    let all = || points.iter().flatten();
    let lowest = all().map(|point| point.1).fold(f64::MAX, f64::min);
    let highest = all().map(|point| point.1).fold(lowest, f64::max);
    if all().next().is_none() {
        return Ok(String::new());
    }
    let mut svg = String::new();
    {
        let area = blank(&mut svg, CURVES_SIZE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .margin_right(32)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..MOST_NINES, (lowest * 0.7..highest * 1.4).log_scale())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_labels(5)
            .y_labels(6)
            .x_label_formatter(&|nines| share_of_requests(*nines))
            .y_label_formatter(&|micros| latency(Some(*micros)))
            .x_desc("share of requests that took no longer")
            .label_style(text(13, SOFT, HPos::Center))
            .axis_desc_style(text(13, SOFT, HPos::Center))
            .axis_style(FAINT)
            .bold_line_style(FAINT)
            .light_line_style(WHITE)
            .draw()
            .map_err(failed)?;
        // The first curve is drawn last, so that it is on top.
        for (one, points) in curves.iter().zip(points).rev() {
            let style = color(one.color).stroke_width(3);
            chart
                .draw_series(LineSeries::new(points, style))
                .map_err(failed)?;
        }
        area.present().map_err(failed)?;
    }
    Ok(labelled(&svg, name))
}

/// Returns the color as CSS.
pub(crate) fn css_color(paint: SeriesColor) -> String {
    let RGBColor(red, green, blue) = color(paint);
    format!("rgb({red} {green} {blue})")
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn blank(svg: &mut String, size: (u32, u32)) -> Result<Area<'_>, CliError> {
    let area = SVGBackend::with_string(svg, size).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    Ok(area)
}

/// The start of the bars, and the value of the longest one in a group.
#[derive(Clone, Copy, Debug)]
struct Scale {
    start: i32,
    longest: f64,
}

impl Scale {
    /// Returns the end of a bar with this value.
    fn end(self, value: f64) -> i32 {
        let share = if self.longest > 0.0 {
            value / self.longest
        } else {
            0.0
        };
        self.start + (f64::from(BAR_END - self.start) * share) as i32
    }
}

/// Returns the start of the bars: after the longest name.
fn bars_start(groups: &[BarGroup]) -> i32 {
    let bars = groups.iter().flat_map(|group| &group.bars);
    let longest = bars.map(|bar| bar.name.len()).max().unwrap_or(0);
    BAR_START.max(longest as i32 * LETTER + 18)
}

fn draw_bar(area: &Area<'_>, bar: &Bar, scale: Scale, top: i32) -> Result<(), CliError> {
    let (start, end) = (scale.start, scale.end(bar.value));
    let middle = top + BAR_HEIGHT / 2;
    let name = Text::new(
        bar.name.clone(),
        (start - 10, middle),
        text(15, SOFT, HPos::Right),
    );
    let corners = [(start, top), (end.max(start + 2), top + BAR_HEIGHT)];
    let range = bar.range.map(|(least, most)| {
        let (from, to) = (scale.end(least), scale.end(most));
        let corners = [(from, middle - 1), (to.max(from + 1), middle + 1)];
        Rectangle::new(corners, DARK.filled())
    });
    let furthest = bar.range.map_or(end, |range| end.max(scale.end(range.1)));
    let value = Text::new(
        bar.text.clone(),
        (furthest + 8, middle),
        text(15, DARK, HPos::Left),
    );
    area.draw(&name)
        .and_then(|()| area.draw(&Rectangle::new(corners, color(bar.color).filled())))
        .and_then(|()| range.map_or(Ok(()), |range| area.draw(&range)))
        .and_then(|()| area.draw(&value))
        .map_err(failed)
}

/// Returns the points of a latency curve: nines of the share of requests, and microseconds. The
/// curve ends where less than one request would be slower.
fn curve(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    if latency.is_empty() {
        return Vec::new();
    }
    let nines = (latency.len() as f64).log10().min(MOST_NINES);
    let steps = (nines * 50.0) as u32;
    (0..=steps)
        .map(|step| f64::from(step) / 50.0)
        .map(|nines| {
            let quantile = 1.0 - 10f64.powf(-nines);
            let nanos = latency.value_at_quantile(quantile).max(1);
            (nines, nanos as f64 / 1e3)
        })
        .collect()
}

/// Formats a number of nines as a percentage: 0 is 0 %, 1 is 90 %, 2 is 99 %, 3 is 99.9 %.
fn share_of_requests(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10f64.powf(-nines));
    let digits = (nines.ceil() as usize).saturating_sub(2);
    format!("{percent:.digits$} %")
}

fn text(size: u32, color: RGBColor, across: HPos) -> TextStyle<'static> {
    ("sans-serif", size)
        .into_font()
        .color(&color)
        .into_text_style(&(0, 0))
        .pos(Pos::new(across, VPos::Center))
}

fn color(paint: SeriesColor) -> RGBColor {
    match paint {
        SeriesColor::Ours => RGBColor(37, 99, 235),
        SeriesColor::Peer => RGBColor(232, 150, 62),
        SeriesColor::Limit => RGBColor(148, 156, 170),
    }
}

/// Adds a label to a plot, for screen readers.
fn labelled(svg: &str, name: &str) -> String {
    let label = format!("<svg role=\"img\" aria-label=\"{name}\" ");
    svg.replacen("<svg ", &label, 1)
}

fn failed(error: impl fmt::Display) -> CliError {
    CliError::new(format!("cannot draw a plot: {error}"))
}

const DARK: RGBColor = RGBColor(30, 36, 48);
const SOFT: RGBColor = RGBColor(84, 94, 110);
const FAINT: RGBColor = RGBColor(222, 226, 232);

const BARS_WIDTH: i32 = 860;
const BAR_START: i32 = 90;
/// The width of a letter in pixels, above the average.
const LETTER: i32 = 8;
/// The end of the longest bar; the value is printed to the right of it.
const BAR_END: i32 = 690;
const BAR_HEIGHT: i32 = 22;
const BAR_STEP: i32 = 27;
const TITLE_STEP: i32 = 30;
const GROUP_GAP: i32 = 18;

const CURVES_SIZE: (u32, u32) = (520, 320);

/// Beyond 99.99 %, a run of seconds has too few requests to be meaningful.
const MOST_NINES: f64 = 4.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_requests_have_as_many_digits_as_needed() {
        let labels: Vec<_> = (0..5)
            .map(|nines| share_of_requests(f64::from(nines)))
            .collect();
        assert_eq!(labels, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn a_curve_rises_and_ends_at_its_last_request() {
        let mut latency = Histogram::new(3).unwrap();
        for micros in 1..=100 {
            latency.record(micros * 1_000).unwrap();
        }
        let points = curve(&latency);
        assert!(points.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        assert!((points.last().unwrap().0 - 2.0).abs() < 0.03);
        assert!(curve(&Histogram::new(3).unwrap()).is_empty());
    }

    #[test]
    fn bars_carry_their_values_as_text() {
        let bar = |paint, value, text: &str| Bar {
            name: String::from("a server"),
            color: paint,
            value,
            range: Some((value / 2.0, value)),
            text: text.into(),
        };
        let group = BarGroup {
            title: "ping <pong>".into(),
            bars: vec![
                bar(SeriesColor::Ours, 1.0, "1 us"),
                bar(SeriesColor::Limit, 0.0, "none"),
            ],
        };
        let svg = bars("a name", &[group]).unwrap();
        for part in [
            "<svg role=",
            "a name",
            "ping &lt;pong&gt;",
            "1 us",
            "none",
            "</svg>",
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
    }
}
