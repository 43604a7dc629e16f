//! Bars in an SVG file: how ours compares with each peer, load by load.
//!
//! One horizontal bar for each ratio, with its number at its end, and a line at 1, where both are
//! equally fast. The axis begins at 0, so that a bar twice as long is twice as fast.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// The chart is legible where it is shown this many pixels wide.
const WIDTH: u32 = 800;
/// Room for the labels to the left of the bars, and for the numbers of the axis below them.
const LABELS: u32 = 230;
const AXIS: u32 = 50;
/// Title, axis and margins.
const FRAME: u32 = 110;
const ROW: u32 = 28;
/// Between two bars, half above and half below each.
const GAP: u32 = 10;
/// The axis ends a tenth after the longest bar, which leaves room for its number.
const ROOM: f64 = 1.1;
/// Plotters' points are four fifths of a pixel.
const TEXT: (&str, u32) = ("sans-serif", 16);
const FASTER: RGBColor = RGBColor(42, 127, 98);
const SLOWER: RGBColor = RGBColor(181, 82, 59);

/// One bar.
pub struct Bar {
    pub label: String,
    pub ratio: f64,
}

/// The whole file.
pub fn svg(title: &str, axis: &str, bars: &[Bar]) -> Result<String> {
    let longest = bars.iter().map(|bar| bar.ratio).fold(1.0, f64::max);
    let rows = bars.len().max(1) as u32;
    let row = |row: usize| SegmentValue::Exact(row as u32);
    let mut text = String::new();
    let page = SVGBackend::with_string(&mut text, (WIDTH, FRAME + ROW * rows)).into_drawing_area();
    page.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&page)
        .caption(title, ("sans-serif", 21))
        .margin(10)
        .x_label_area_size(AXIS)
        .y_label_area_size(LABELS)
        .build_cartesian_2d(0.0..longest * ROOM, (0..rows - 1).into_segmented())?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .max_light_lines(1)
        .label_style(TEXT)
        .axis_desc_style(TEXT)
        .x_desc(axis)
        .y_labels(bars.len())
        .y_label_formatter(&|row| match row {
            // From the top down, in the order given.
            SegmentValue::CenterOf(row) => {
                bars.iter().rev().nth(*row as usize).map_or("", |bar| &bar.label).to_owned()
            }
            _ => String::new(),
        })
        .draw()?;
    chart.draw_series(bars.iter().rev().enumerate().map(|(at, bar)| {
        let colour = if bar.ratio < 1.0 { SLOWER } else { FASTER };
        let corners = [(0.0, row(at)), (bar.ratio, row(at + 1))];
        let mut shape = Rectangle::new(corners, colour.filled());
        shape.set_margin(GAP / 2, GAP / 2, 0, 0);
        shape
    }))?;
    chart.draw_series(bars.iter().rev().enumerate().map(|(at, bar)| {
        let style = TEXT.into_text_style(&page).pos(Pos::new(HPos::Left, VPos::Center));
        let place = (bar.ratio + longest / 100.0, SegmentValue::CenterOf(at as u32));
        Text::new(format!("{:.2}", bar.ratio), place, style)
    }))?;
    let equal = [(1.0, row(0)), (1.0, row(bars.len()))];
    chart.draw_series([PathElement::new(equal, BLACK)])?;
    drop(chart);
    page.present()?;
    drop(page);
    Ok(text)
}
