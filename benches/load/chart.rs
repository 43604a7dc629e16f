//! Bars in an SVG file: how ours compares with each peer, load by load.
//!
//! One horizontal bar for each ratio, with its number at its end, and a line at 1, where both are
//! equally fast. The axis is linear and begins at 0, so that a bar twice as long is twice as fast.
//! Only what any browser has: plain shapes and its own sans-serif.

/// Everything is measured in this: the chart is legible where it is shown 800 pixels wide.
const WIDTH: f64 = 800.0;
/// Where the bars begin; to the left is room for their labels, to the right for the last number.
const LEFT: f64 = 230.0;
const RIGHT: f64 = 740.0;
/// Where the first bar begins; above are the title and the name of the axis.
const TOP: f64 = 66.0;
const BAR: f64 = 18.0;
const ROW: f64 = 28.0;
/// Below the bars: the numbers of the axis.
const BOTTOM: f64 = 36.0;
/// The axis has about so many numbers.
const TICKS: f64 = 6.0;
const FASTER: &str = "#2a7f62";
const SLOWER: &str = "#b5523b";
/// Keeps a number legible where the line at 1 runs through it.
const HALO: &str = "stroke=\"white\" stroke-width=\"3\" paint-order=\"stroke\"";

/// One bar.
pub struct Bar {
    pub label: String,
    pub ratio: f64,
}

/// The whole file.
pub fn svg(title: &str, axis: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.ratio).fold(1.0, f64::max);
    let step = step(most / TICKS);
    let end = (most / step).ceil() * step;
    let x = |value: f64| LEFT + (RIGHT - LEFT) * value / end;
    let floor = TOP + ROW * bars.len() as f64;
    let height = floor + BOTTOM;

    let mut lines = vec![
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\" \
             role=\"img\">"
        ),
        format!("<title>{}</title>", escape(title)),
        format!("<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>"),
        text(LEFT, 26.0, "font-size=\"17\" font-weight=\"bold\"", title),
        text(LEFT, 48.0, "fill=\"#555\"", axis),
    ];
    for tick in 0..=(end / step).round() as u32 {
        let value = f64::from(tick) * step;
        lines.push(vertical(x(value), floor, "stroke=\"#ddd\""));
        let number = format!("{}", (value * 100.0).round() / 100.0);
        lines.push(text(x(value), floor + 20.0, "fill=\"#555\" text-anchor=\"middle\"", &number));
    }
    let mut numbers = Vec::new();
    for (row, bar) in bars.iter().enumerate() {
        let top = TOP + ROW * row as f64 + (ROW - BAR) / 2.0;
        let base = top + BAR - 4.0;
        let (width, color) = (x(bar.ratio) - LEFT, if bar.ratio < 1.0 { SLOWER } else { FASTER });
        lines.push(text(LEFT - 8.0, base, "text-anchor=\"end\"", &bar.label));
        lines.push(format!(
            "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{width:.1}\" height=\"{BAR}\" \
             fill=\"{color}\"/>"
        ));
        numbers.push(text(x(bar.ratio) + 5.0, base, HALO, &format!("{:.2}", bar.ratio)));
    }
    lines.push(vertical(x(1.0), floor, "stroke=\"black\" stroke-dasharray=\"4 3\""));
    lines.extend(numbers);
    lines.push("</svg>\n".to_string());
    lines.join("\n")
}

/// The next of 1, 2 and 5 times a power of ten.
fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let multiple = [1.0, 2.0, 5.0].into_iter().find(|multiple| multiple * power >= least);
    multiple.unwrap_or(10.0) * power
}

fn vertical(x: f64, floor: f64, style: &str) -> String {
    let top = TOP - 4.0;
    format!("<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{floor}\" {style}/>")
}

fn text(x: f64, y: f64, style: &str, words: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>", escape(words))
}

/// The names of peers come from the command line and may hold anything.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
