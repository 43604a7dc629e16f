//! Operations per second, load by load: a bar for each server, with its rate, and beside a peer's how many
//! times as fast ours is.
//!
//! Rates differ by a factor of a thousand from load to load, so the longest bar of each load is as long as the
//! room for it, and lengths compare the servers of one load only.

use anyhow::{Result, ensure};
use plotters::prelude::*;

use super::super::load::{Load, Work};
use super::super::report::{median, ratios};
use super::samples::{Samples, range};
use super::{HEADING, INK, Ink, LINES, MARGIN, PALE_INK, Page, SLOWER, TEXT, TITLE, WIDTH};
use super::{colours, page, write};

/// Where the names begin, the bars, and the room for a rate after the longest bar; where the ratios end.
const NAMES: i32 = MARGIN;
const BARS: i32 = 106;
const LONGEST: i32 = 150;
const RATIOS: i32 = WIDTH - MARGIN;
/// Between a bar, or its whisker, and its rate.
const SPACE: i32 = 5;

const TITLE_ROWS: i32 = 62;
const HEADING_ROW: i32 = 34;
const LOAD_ROW: i32 = 20;
const BAR_ROW: i32 = 17;
const BAR: i32 = 12;
const WHISKER: i32 = 3;
/// Paler than its name, so that the whisker shows on it.
const BAR_STRENGTH: f64 = 0.7;
const AFTER_LOAD: i32 = 8;
const NOTE_ROW: i32 = 17;
const NOTES: [&str; 3] = [
    "Bars: the median round. Whiskers: from the slowest to",
    "the fastest. Each load has a scale of its own.",
    "×: post-gres-rs over them, the median of the rounds.",
];

/// The loads that a stranger looks for first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Writes,
    SlowWrites,
    Reads,
    Mixed,
}

const KINDS: [(Kind, &str); 4] = [
    (Kind::Writes, "Writes, fast disk"),
    (Kind::SlowWrites, "Writes, slower disk"),
    (Kind::Reads, "Reads"),
    (Kind::Mixed, "Reads and writes"),
];

/// The whole file: these loads, those of a kind together, each by its first group of clients.
pub fn svg(samples: &Samples, loads: &[Load]) -> Result<String> {
    let servers = samples.servers();
    let colours = colours(&servers)?;
    let loads_of = |kind| loads.iter().filter(move |load| kind_of(load) == kind);
    let groups: Vec<(&str, Vec<&Load>)> = KINDS
        .iter()
        .map(|&(kind, heading)| (heading, loads_of(kind).collect()))
        .filter(|(_, loads): &(_, Vec<_>)| !loads.is_empty())
        .collect();
    let load_rows = LOAD_ROW + BAR_ROW * servers.len() as i32 + AFTER_LOAD;
    let height = TITLE_ROWS
        + HEADING_ROW * groups.len() as i32
        + load_rows * loads.len() as i32
        + AFTER_LOAD
        + NOTE_ROW * NOTES.len() as i32
        + MARGIN;

    page(height, |page| {
        write_title(page)?;
        let mut y = TITLE_ROWS;
        for (heading, loads) in groups {
            write_heading(page, heading, y)?;
            y += HEADING_ROW;
            for load in loads {
                let title = (NAMES, y + LOAD_ROW / 2);
                write(page, &load.in_words(0), title, &Ink::new(INK, TEXT).bold())?;
                draw_bars(page, samples, load, &servers, &colours, y + LOAD_ROW)?;
                y += load_rows;
            }
        }
        y += AFTER_LOAD;
        for note in NOTES {
            write(page, note, (NAMES, y + NOTE_ROW / 2), &Ink::new(PALE_INK, TEXT))?;
            y += NOTE_ROW;
        }
        Ok(())
    })
}

fn kind_of(load: &Load) -> Kind {
    let alone = load.groups.len() == 1;
    match load.groups[0].work {
        Work::Set | Work::Del if load.slowed.is_none() => Kind::Writes,
        Work::Set | Work::Del => Kind::SlowWrites,
        Work::Get | Work::Mget(_) if alone => Kind::Reads,
        Work::Get | Work::Mget(_) | Work::Mixed => Kind::Mixed,
    }
}

fn write_title(page: &Page<'_>) -> Result<()> {
    write(page, "Operations per second", (NAMES, 20), &Ink::new(INK, TITLE).bold())?;
    let promise = "Every write is on disk before its reply.";
    write(page, promise, (NAMES, 44), &Ink::new(PALE_INK, TEXT))
}

fn write_heading(page: &Page<'_>, heading: &str, y: i32) -> Result<()> {
    let line = [(NAMES, y + 4), (RATIOS, y + 4)];
    page.draw(&PathElement::new(line, LINES))?;
    let middle = y + HEADING_ROW / 2 + 3;
    write(page, heading, (NAMES, middle), &Ink::new(PALE_INK, HEADING).bold())?;
    write(page, "times as fast", (RATIOS, middle), &Ink::new(PALE_INK, TEXT).ends_here())
}

/// The bars of one load, from `y` on down.
fn draw_bars(
    page: &Page<'_>,
    samples: &Samples,
    load: &Load,
    servers: &[&str],
    colours: &[RGBColor],
    mut y: i32,
) -> Result<()> {
    let label = &load.groups[0].label;
    let speeds = |server: &&str| samples.rounds(label, server, |sample| sample.ops_per_second);
    let speeds: Vec<Vec<f64>> = servers.iter().map(speeds).collect();
    let fastest = speeds.iter().map(|rounds| range(rounds).1).fold(0.0, f64::max);
    ensure!(fastest > 0.0, "no round of {label}");
    let x = |speed: f64| BARS + (speed / fastest * f64::from(LONGEST)).round() as i32;

    for (i, (server, rounds)) in servers.iter().zip(&speeds).enumerate() {
        ensure!(rounds.len() == speeds[0].len(), "{label} has not as many rounds of {server}");
        let middle = y + BAR_ROW / 2;
        let ink = Ink::new(colours[i], TEXT);
        let ink = if i == 0 { ink.bold() } else { ink };
        write(page, server, (NAMES, middle), &ink)?;
        let speed = median(rounds.iter().copied());
        let (least, most) = range(rounds);
        draw_bar(page, middle, [x(least), x(speed), x(most)], colours[i])?;
        write(page, &rate(speed), (x(most) + SPACE, middle), &Ink::new(INK, TEXT))?;
        if i > 0 {
            let ratio = median(ratios(&speeds[0], rounds));
            let colour = if ratio < 1.0 { SLOWER } else { colours[0] };
            let ink = Ink::new(colour, TEXT).bold().ends_here();
            write(page, &times(ratio), (RATIOS, middle), &ink)?;
        }
        y += BAR_ROW;
    }
    Ok(())
}

/// A bar about a height, and on it a whisker from the least to the most.
fn draw_bar(
    page: &Page<'_>,
    middle: i32,
    [least, median, most]: [i32; 3],
    colour: RGBColor,
) -> Result<()> {
    let corners = [(BARS, middle - BAR / 2), (median, middle + BAR / 2)];
    page.draw(&Rectangle::new(corners, colour.mix(BAR_STRENGTH).filled()))?;
    page.draw(&PathElement::new([(least, middle), (most, middle)], INK))?;
    for end in [least, most] {
        let ends = [(end, middle - WHISKER), (end, middle + WHISKER)];
        page.draw(&PathElement::new(ends, INK))?;
    }
    Ok(())
}

/// Three digits and zeros, in groups: more would be noise.
pub fn rate(per_second: f64) -> String {
    let digits = per_second.max(1.0).log10().floor() as i32 + 1;
    let unit = 10f64.powi((digits - 3).max(0));
    let number = ((per_second / unit).round() * unit) as u64;
    let number = number.to_string();
    let groups = number.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// `0.68×`, `18.3×`
pub fn times(ratio: f64) -> String {
    match ratio {
        below if below < 9.995 => format!("{ratio:.2}×"),
        below if below < 99.95 => format!("{ratio:.1}×"),
        _ => format!("{ratio:.0}×"),
    }
}
