//! Pictures for those who have ten seconds, drawn from the rows that `--csv` writes, as SVG.
//!
//! They are narrow and tall, so that a phone shows them without making their text too small, and have a
//! background of their own, so that a dark page does not swallow it. Names stand beside what they name: there
//! is no legend. What a picture leaves out is in the rows.

pub mod bars;
pub mod curves;
pub mod samples;
pub mod table;

use anyhow::{Result, ensure};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontStyle;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Pixels across: about what a page has on a phone 375 pixels wide.
pub const WIDTH: i32 = 400;
pub const MARGIN: i32 = 12;
/// The size of most text, in pixels; a phone makes it 11.
pub const TEXT: i32 = 13;
pub const HEADING: i32 = 15;
pub const TITLE: i32 = 18;
/// SVGBackend divides the size of a font by this.
const POINTS_PER_PIXEL: f64 = 1.24;

/// All inks are legible on it at the smallest size: a contrast of 4.5 or more.
pub const PAPER: RGBColor = RGBColor(252, 252, 250);
pub const INK: RGBColor = RGBColor(31, 35, 40);
pub const PALE_INK: RGBColor = RGBColor(89, 99, 110);
pub const SLOWER: RGBColor = RGBColor(176, 58, 30);
pub const LINES: RGBColor = RGBColor(208, 212, 217);
/// For the servers in their order; ours is the first.
pub const SERVERS: [RGBColor; 5] = [
    RGBColor(11, 110, 79),
    RGBColor(193, 80, 40),
    RGBColor(101, 88, 196),
    RGBColor(20, 104, 160),
    RGBColor(150, 60, 130),
];

pub type Page<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// How a text looks, and which of its points its place means.
pub struct Ink {
    pub colour: RGBColor,
    pub size: i32,
    pub bold: bool,
    pub side: HPos,
}

impl Ink {
    pub fn new(colour: RGBColor, size: i32) -> Ink {
        Ink { colour, size, bold: false, side: HPos::Left }
    }

    pub fn bold(self) -> Ink {
        Ink { bold: true, ..self }
    }

    pub fn ends_here(self) -> Ink {
        Ink { side: HPos::Right, ..self }
    }

    pub fn style(&self) -> TextStyle<'static> {
        let weight = if self.bold { FontStyle::Bold } else { FontStyle::Normal };
        let points = f64::from(self.size) * POINTS_PER_PIXEL;
        let font = FontDesc::new(FontFamily::SansSerif, points, weight);
        font.color(&self.colour).pos(Pos::new(self.side, VPos::Center))
    }
}

/// A page of this height, on which `draw` draws.
fn page(height: i32, draw: impl FnOnce(&Page<'_>) -> Result<()>) -> Result<String> {
    let mut text = String::new();
    let size = (WIDTH as u32, height as u32);
    let page = SVGBackend::with_string(&mut text, size).into_drawing_area();
    page.fill(&PAPER)?;
    draw(&page)?;
    page.present()?;
    drop(page);
    Ok(text)
}

/// Text at a height, from `x` to the right, or up to it from the left.
fn write(page: &Page<'_>, text: &str, (x, y): (i32, i32), ink: &Ink) -> Result<()> {
    page.draw(&Text::new(text, (x, y), ink.style()))?;
    Ok(())
}

/// The colour of each server.
fn colours(servers: &[&str]) -> Result<Vec<RGBColor>> {
    let most = SERVERS.len();
    ensure!(servers.len() <= most, "a picture of more than {most} servers would be illegible");
    Ok(SERVERS[..servers.len()].to_vec())
}
