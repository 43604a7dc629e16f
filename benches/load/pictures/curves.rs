//! The latency of SET against the number of clients, on disks that differ: half of all requests are answered
//! after p50, all but one in a hundred after p99.
//!
//! Both axes are logarithmic, so an equal distance up is an equal factor. The two panels of a disk share an axis.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Result, ensure};
use plotters::coord::combinators::BindKeyPoints;
use plotters::prelude::*;

use super::super::load::{Load, Work};
use super::super::report::median;
use super::samples::{Sample, Samples, range};
use super::{HEADING, INK, Ink, LINES, MARGIN, PALE_INK, Page, TEXT, TITLE, WIDTH};
use super::{colours, page, write};

const TITLE_ROWS: i32 = 66;
const HEADING_ROW: i32 = 34;
/// One panel, with its title above and the numbers of its axis below.
const PANEL: i32 = 154;
const PANEL_TITLE: i32 = 22;
const CLIENTS_AXIS: i32 = 22;
const MILLIS_AXIS: i32 = 42;
/// To the right of the lines, for the servers' names.
const NAMES: i32 = 96;
/// Between two names.
const NAME_ROW: i32 = 15;
/// Between two numbers of an axis, at least: each is up to three digits wide, or a line high.
const TICKS_APART: i32 = 30;
const AFTER_PANEL: i32 = 6;
const NOTE_ROW: i32 = 17;
const NOTES: [&str; 2] = [
    "Lines: the median round. Strokes: from the lowest",
    "to the highest. All axes are logarithmic.",
];

/// Loads of one disk by their clients.
type Sweep = BTreeMap<usize, String>;
type Quantile = (&'static str, fn(&Sample) -> f64);

const QUANTILES: [Quantile; 2] = [
    ("p50: half are done by then", |sample| sample.p50_millis),
    ("p99: 99 of 100 are", |sample| sample.p99_millis),
];

/// One server's line in one panel.
struct Line<'a> {
    server: &'a str,
    colour: RGBColor,
    bold: bool,
    /// Clients, and the milliseconds of each round.
    points: Vec<(f64, Vec<f64>)>,
}

/// The whole file, from all loads of SETs without a pipeline.
pub fn svg(samples: &Samples) -> Result<String> {
    let servers = samples.servers();
    let colours = colours(&servers)?;
    let sweeps = sweeps(samples);
    ensure!(!sweeps.is_empty(), "no load set:CLIENTS:1");
    let panels = sweeps.len() * QUANTILES.len();
    let panel_rows = PANEL + AFTER_PANEL;
    let height = TITLE_ROWS
        + HEADING_ROW * sweeps.len() as i32
        + panel_rows * panels as i32
        + AFTER_PANEL
        + NOTE_ROW * NOTES.len() as i32
        + MARGIN;

    page(height, |page| {
        write(page, "How long a write takes", (MARGIN, 20), &Ink::new(INK, TITLE).bold())?;
        let axes = "Milliseconds, by the number of clients that write.";
        write(page, axes, (MARGIN, 44), &Ink::new(PALE_INK, TEXT))?;
        let mut y = TITLE_ROWS;
        for (slowed, sweep) in &sweeps {
            write_heading(page, *slowed, y)?;
            y += HEADING_ROW;
            let panels = QUANTILES.map(|(name, quantile)| {
                (name, lines(samples, sweep, &servers, &colours, quantile))
            });
            let all = panels.iter().flat_map(|(_, lines)| lines);
            let millis = range(&all.flat_map(Line::rounds).collect::<Vec<_>>());
            ensure!(millis.0 > 0.0, "a latency of 0 ms has no place on a logarithmic axis");
            for (name, lines) in &panels {
                draw_panel(page, name, lines, millis, y)?;
                y += panel_rows;
            }
        }
        y += AFTER_PANEL;
        for note in NOTES {
            write(page, note, (MARGIN, y + NOTE_ROW / 2), &Ink::new(PALE_INK, TEXT))?;
            y += NOTE_ROW;
        }
        Ok(())
    })
}

fn write_heading(page: &Page<'_>, slowed: Duration, y: i32) -> Result<()> {
    page.draw(&PathElement::new([(MARGIN, y), (WIDTH - MARGIN, y)], LINES))?;
    let heading = match slowed.as_millis() {
        0 => "The disk as it is".to_string(),
        millis => format!("Each sync {millis} ms slower"),
    };
    write(page, &heading, (MARGIN, y + HEADING_ROW / 2), &Ink::new(PALE_INK, HEADING).bold())
}

/// The loads that belong here, by how much their disk is slowed.
fn sweeps(samples: &Samples) -> BTreeMap<Duration, Sweep> {
    let mut sweeps: BTreeMap<Duration, Sweep> = BTreeMap::new();
    for label in samples.loads() {
        // The second group of `readers` has no load of its own.
        let Ok(Load { groups, slowed }) = label.parse() else {
            continue;
        };
        if groups[0].work == Work::Set && groups[0].pipeline == 1 {
            let sweep = sweeps.entry(slowed.unwrap_or_default()).or_default();
            sweep.insert(groups[0].clients, label.to_string());
        }
    }
    // A line needs two points.
    sweeps.retain(|_, sweep| sweep.len() > 1);
    sweeps
}

fn lines<'a>(
    samples: &Samples,
    sweep: &Sweep,
    servers: &[&'a str],
    colours: &[RGBColor],
    quantile: fn(&Sample) -> f64,
) -> Vec<Line<'a>> {
    let line = |(i, server): (usize, &&'a str)| {
        let point = |(clients, load): (&usize, &String)| {
            (*clients as f64, samples.rounds(load, server, quantile))
        };
        let points = sweep.iter().map(point).filter(|(_, rounds)| !rounds.is_empty());
        Line { server, colour: colours[i], bold: i == 0, points: points.collect() }
    };
    servers.iter().enumerate().map(line).filter(|line| !line.points.is_empty()).collect()
}

impl Line<'_> {
    fn rounds(&self) -> impl Iterator<Item = f64> {
        self.points.iter().flat_map(|(_, rounds)| rounds.iter().copied())
    }

    fn clients(&self) -> impl Iterator<Item = f64> {
        self.points.iter().map(|(clients, _)| *clients)
    }

    fn medians(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().map(|(clients, rounds)| (*clients, median(rounds.iter().copied())))
    }
}

fn draw_panel(
    page: &Page<'_>,
    name: &str,
    lines: &[Line<'_>],
    (least, most): (f64, f64),
    y: i32,
) -> Result<()> {
    let title = (MARGIN + MILLIS_AXIS, y + PANEL_TITLE / 2);
    write(page, name, title, &Ink::new(INK, TEXT).bold())?;

    let mut measured: Vec<f64> = lines.iter().flat_map(Line::clients).collect();
    measured.sort_by(f64::total_cmp);
    measured.dedup();
    let clients = range(&measured);
    // A tenth to spare keeps the strokes off the frame.
    let millis = (least / 1.1, most * 1.1);
    let size = (WIDTH - 2 * MARGIN - NAMES, PANEL - PANEL_TITLE);
    let panel = page.clone().shrink((MARGIN, y + PANEL_TITLE), size);
    let clients_ticks = thin_out(&measured, size.0 - MILLIS_AXIS);
    let millis_ticks = ticks(millis, size.1 - CLIENTS_AXIS);
    let mut chart = ChartBuilder::on(&panel)
        .margin_right(6)
        .x_label_area_size(CLIENTS_AXIS)
        .y_label_area_size(MILLIS_AXIS)
        .build_cartesian_2d(
            (clients.0..clients.1).log_scale().with_key_points(clients_ticks),
            (millis.0..millis.1).log_scale().with_key_points(millis_ticks),
        )?;
    let labels = Ink::new(PALE_INK, TEXT).style();
    chart
        .configure_mesh()
        .max_light_lines(0)
        .bold_line_style(LINES)
        .axis_style(LINES)
        .x_label_formatter(&|clients| format!("{clients:.0}"))
        .y_label_formatter(&|millis| millis.to_string())
        .label_style(labels)
        .draw()?;

    let mut ends = Vec::new();
    // Ours last, on top of the others.
    for line in lines.iter().rev() {
        let strokes = line.points.iter().map(|(clients, rounds)| {
            let (least, most) = range(rounds);
            PathElement::new([(*clients, least), (*clients, most)], line.colour)
        });
        chart.draw_series(strokes)?;
        let width = if line.bold { 3 } else { 2 };
        let medians = line.medians().collect::<Vec<_>>();
        chart.draw_series([PathElement::new(medians, line.colour.stroke_width(width))])?;
        if let Some(last) = line.medians().last() {
            ends.push((chart.backend_coord(&last), line));
        }
    }
    let frame = chart.plotting_area().get_pixel_range().1;
    write_names(page, ends, frame)
}

/// Each name beside the end of its line, or as near as the others leave room.
fn write_names(
    page: &Page<'_>,
    mut ends: Vec<((i32, i32), &Line<'_>)>,
    frame: Range<i32>,
) -> Result<()> {
    ends.sort_by_key(|((_, y), _)| *y);
    let mut heights: Vec<i32> = ends.iter().map(|((_, y), _)| *y).collect();
    spread(&mut heights, NAME_ROW, frame);
    for (y, (_, line)) in heights.into_iter().zip(ends) {
        let ink = Ink::new(line.colour, TEXT);
        let ink = if line.bold { ink.bold() } else { ink };
        write(page, line.server, (WIDTH - MARGIN - NAMES, y), &ink)?;
    }
    Ok(())
}

/// Moves heights that are in order at least `apart` from each other, each cluster about its middle, and all into
/// the frame if it is large enough.
pub fn spread(heights: &mut [i32], apart: i32, frame: Range<i32>) {
    // Each pass moves the two of a pair by half of what is missing; a few settle a handful of names.
    for _ in 0..heights.len() * heights.len() {
        for i in 1..heights.len() {
            let missing = apart - (heights[i] - heights[i - 1]);
            if missing > 0 {
                heights[i - 1] -= missing / 2;
                heights[i] += missing - missing / 2;
            }
        }
    }
    for i in (0..heights.len()).rev() {
        let limit = heights.get(i + 1).map_or(frame.end, |next| next - apart);
        heights[i] = heights[i].min(limit);
    }
    for i in 0..heights.len() {
        let limit = if i == 0 { frame.start } else { heights[i - 1] + apart };
        heights[i] = heights[i].max(limit);
    }
}

/// The last of these numbers, and of those before it every one, every second, … so that none crowds the next on a
/// logarithmic axis that is so many pixels long.
pub fn thin_out(numbers: &[f64], pixels: i32) -> Vec<f64> {
    let every = |step: &usize| numbers.iter().copied().rev().step_by(*step).collect::<Vec<_>>();
    let (least, most) = range(numbers);
    let length = f64::from(pixels) / (most / least).log10();
    let apart = |few: &Vec<f64>| {
        few.windows(2).all(|two| (two[0] / two[1]).log10() * length >= f64::from(TICKS_APART))
    };
    (1..=numbers.len()).map(|step| every(&step)).find(apart).unwrap_or_default()
}

/// The numbers of an axis that is so many pixels long: the most that are round and do not crowd.
pub fn ticks((least, most): (f64, f64), pixels: i32) -> Vec<f64> {
    let (lowest, highest) = (least.log10().floor() as i32, most.log10().ceil() as i32);
    let every = |decades: usize, multiples: &[f64]| {
        let powers = (lowest..=highest).step_by(decades);
        let all = powers.flat_map(|power| multiples.iter().map(move |&times| number(times, power)));
        all.filter(|tick| (least..=most).contains(tick)).collect::<Vec<_>>()
    };
    let apart = |ticks: &Vec<f64>| {
        let length = f64::from(pixels) / (most / least).log10();
        ticks.windows(2).all(|two| (two[1] / two[0]).log10() * length >= f64::from(TICKS_APART))
    };
    let mut finer =
        [every(1, &[1.0, 2.0, 5.0]), every(1, &[1.0, 3.0]), every(1, &[1.0])].into_iter();
    finer.find(apart).unwrap_or_else(|| every(2, &[1.0]))
}

/// By division where it has a fraction, so that 0.2 is the number that is written so.
fn number(times: f64, power: i32) -> f64 {
    match power {
        0.. => times * 10f64.powi(power),
        _ => times / 10f64.powi(-power),
    }
}
