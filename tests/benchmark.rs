//! The parts of the benchmark in which a mistake could hide: what a load means, replies that are arrays, rows that
//! are read back, and pictures in which nothing is cut off or lies on something else. What it measures is no test.

#[path = "../benches/load/load.rs"]
#[expect(dead_code, reason = "the tests drive no server")]
mod load;
#[path = "../benches/load/pictures/mod.rs"]
mod pictures;
#[path = "../benches/load/protocol.rs"]
#[expect(dead_code, reason = "the tests drive no server")]
mod protocol;
#[path = "../benches/load/report.rs"]
#[expect(dead_code, reason = "the tests print no table")]
mod report;

use load::Load;
use pictures::samples::Samples;
use pictures::{PALE_INK, PAPER, SERVERS, SLOWER, WIDTH, bars, curves, table};
use plotters::style::RGBColor;

const HEADER: &str =
    "load,server,ops/s,p50 ms,p99 ms,p99.9 ms,longest ms,server CPU µs/op,ops/sync,round";
const NAMES: [&str; 3] = ["post-gres-rs", "Redis", "Valkey"];

fn load(text: &str) -> Load {
    text.parse().expect("a load")
}

#[test]
fn a_stranger_reads_what_a_load_is() {
    let words = [
        ("set:1:1", "1 client writes"),
        ("set:50:16+1ms", "50 clients write, 16 at a time, sync +1 ms"),
        ("get:200:1", "200 clients read"),
        ("mget:50:100", "50 clients read 100 keys with each MGET"),
        ("mixed:1:16", "1 client writes and reads in turn, 16 at a time"),
        ("readers:50:8", "50 clients read while 8 write"),
    ];
    for (text, said) in words {
        assert_eq!(load(text).in_words(0), said, "{text}");
    }
    assert_eq!(load("readers:50:1+5ms").in_words(1), "1 client writes while 50 read, sync +5 ms");
}

#[test]
fn a_load_says_how_slow_the_disk_is() {
    assert_eq!(load("set:8:1").slowed, None);
    let slow = load("readers:50:8+5ms");
    assert_eq!(slow.slowed.map(|time| time.as_micros()), Some(5000));
    assert_eq!(slow.groups[1].label, "readers:50:8+5ms writers");
    for wrong in
        ["set:8:1+5", "set:8:1+ms", "set:8:1+-1ms", "set:8", "set:0:1", "mget:5:0", "add:1:1"]
    {
        assert!(wrong.parse::<Load>().is_err(), "{wrong}");
    }
}

#[test]
fn a_reply_of_many_values_is_counted_when_its_last_byte_is_there() {
    let reply = b"*3\r\n$2\r\nab\r\n$0\r\n\r\n$3\r\nc\r\n\r\n";
    for length in 0..reply.len() {
        assert_eq!(protocol::reply_length(&reply[..length]).unwrap(), None, "{length} bytes");
    }
    let followed = [&reply[..], b"+OK\r\n"].concat();
    assert_eq!(protocol::reply_length(&followed).unwrap(), Some(reply.len()));
    protocol::expect_success(reply).unwrap();
    assert!(protocol::expect_success(b"*2\r\n$1\r\na\r\n$-1\r\n").is_err(), "a key is missing");
    assert!(protocol::expect_success(b"*2\r\n$1\r\na\r\n-ERR no\r\n").is_err(), "an error");
}

#[test]
fn rows_are_read_back_without_the_round_that_warmed_up() {
    let rows = "server,load,round,p99 ms,p50 ms,ops/s,server CPU µs/op\n\
                ours,set:1:1,0,9,9,9,9\n\
                ours,set:1:1,2,0.5,0.25,200,8\n\
                Redis,set:1:1,1,0.75,0.375,50,7\n\
                ours,set:1:1,1,0.5,0.25,100,8\n";
    let samples = Samples::read(rows).unwrap();
    assert_eq!(samples.servers(), ["ours", "Redis"]);
    assert_eq!(samples.loads(), ["set:1:1"]);
    let of = |server, what: fn(&_) -> f64| samples.rounds("set:1:1", server, what);
    assert_eq!(of("ours", |sample| sample.ops_per_second), [100.0, 200.0], "by their rounds");
    assert_eq!(of("Redis", |sample| sample.p50_millis), [0.375]);
    assert_eq!(of("Redis", |sample| sample.p99_millis), [0.75]);
    assert_eq!(of("Redis", |sample| sample.cpu_micros), [7.0]);
}

#[test]
fn the_table_has_medians_and_the_medians_of_ratios() {
    let row = |server: &str, ops: [u32; 3], p99: [f64; 3], cpu: f64| -> String {
        let round = |i| format!("set:1:1,{server},{},1,{},1,1,{cpu},-,{}\n", ops[i], p99[i], i + 1);
        (0..3).map(round).collect()
    };
    let rows = row("ours", [100, 300, 200], [0.5, 0.7, 0.6], 3.0)
        + &row("Redis", [100, 200, 50], [12.25, 12.0, 13.0], 4.0)
        + &row("Valkey", [1000, 300, 400], [120.4, 100.0, 130.0], 1.0);
    let samples = Samples::read(&format!("{HEADER}\n{rows}")).unwrap();
    let table = table::markdown(&samples, &[load("set:1:1")]).unwrap();
    assert_eq!(
        table,
        "| load | ours, ops/s | Redis | Valkey | over Redis | over Valkey | ours, p99 ms | Redis | Valkey \
         | CPU over Redis |\n\
         | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n\
         | 1 client writes | 200 | 100 | 400 | 1.50 | 0.50 | 0.60 | 12.2 | 120 | 0.75 |\n"
    );
    assert!(table::markdown(&samples, &[load("set:2:1")]).is_err(), "it was not measured");
}

#[test]
fn rows_that_cannot_be_are_named() {
    let read = |row: &str| match Samples::read(&format!("{HEADER}\n{row}\n")) {
        Ok(_) => String::new(),
        Err(error) => format!("{error:#}"),
    };
    assert!(read("set:1:1,ours,NaN,1,1,1,1,1,-,1").starts_with("line 2: "));
    assert!(read("set:1:1,ours,-1,1,1,1,1,1,-,1").contains("-1 cannot be"));
    assert!(read("set:1:1,ours,1,1").contains("4 cells, not 10"));
    assert!(read("set:1:1,ours,1,1,1,1,1,1,-,0").contains("no round that counts"));
    assert!(format!("{:#}", Samples::read("a,b\n").err().unwrap()).contains("no column \"load\""));
}

#[test]
fn numbers_in_a_picture_are_short_and_true() {
    let rates = [
        (7.4, "7"),
        (999.6, "1,000"),
        (1446.0, "1,450"),
        (94_831.0, "94,800"),
        (3_702_785.0, "3,700,000"),
    ];
    for (per_second, written) in rates {
        assert_eq!(bars::rate(per_second), written);
    }
    for (ratio, written) in [(0.684, "0.68×"), (9.996, "10.0×"), (18.32, "18.3×"), (123.4, "123×")]
    {
        assert_eq!(bars::times(ratio), written);
    }
    assert_eq!(curves::ticks((0.13, 2.2), 150), [0.2, 0.5, 1.0, 2.0]);
    assert_eq!(curves::ticks((0.13, 22.0), 150), [0.3, 1.0, 3.0, 10.0], "not 0.2, which crowds");
    assert_eq!(curves::ticks((1.0, 400.0), 50), [1.0, 100.0]);
    let clients = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 400.0];
    assert_eq!(curves::thin_out(&clients, 230), [400.0, 100.0, 25.0, 5.0, 1.0]);
    assert_eq!(curves::thin_out(&clients, 2300).len(), clients.len());
}

#[test]
fn names_at_the_ends_of_lines_keep_apart_and_in_order() {
    let mut heights = [100, 101, 101, 160];
    curves::spread(&mut heights, 15, 90..165);
    assert!(heights.windows(2).all(|two| two[1] - two[0] >= 15), "{heights:?}");
    assert_eq!(heights[3], 160, "the one that was far away has not moved");
    let mut heights = [100, 101, 102];
    curves::spread(&mut heights, 15, 70..105);
    assert_eq!(heights, [75, 90, 105], "they stay in their frame");
    curves::spread(&mut heights, 15, 95..125);
    assert_eq!(heights, [95, 110, 125]);
}

/// Rows for these loads: ours `ratio` times as fast as Redis, and each round somewhat faster.
fn rows(loads: &[&str], speed: f64, ratio: f64) -> Samples {
    let mut rows = format!("{HEADER}\n");
    for (i, load) in loads.iter().enumerate() {
        for (server, factor) in NAMES.into_iter().zip([ratio, 1.0, 1.04]) {
            for round in 0..=3 {
                let speed = speed * factor * (1.0 + f64::from(round) / 20.0);
                let millis = 10f64.powi(i as i32 % 3 - 1) / factor;
                let p99 = millis * f64::from(round + 1);
                rows += &format!("{load},{server},{speed:.0},{millis},{p99},1,1,1,-,{round}\n");
            }
        }
    }
    Samples::read(&rows).expect("rows")
}

#[test]
fn the_bars_have_all_their_text_inside_and_none_on_another() {
    let labels = [
        "set:1:1",
        "set:1000:128",
        "set:200:1+5ms",
        "set:50:16+1ms",
        "get:50:1",
        "get:1000:128",
        "mget:50:100",
        "mixed:50:16",
        "mixed:200:1+1ms",
        "readers:50:8",
        "readers:1000:100+5ms",
    ];
    let loads = labels.map(load);
    for (speed, ratio) in [(5.0, 1.0), (9_400_000.0, 0.07), (48_000.0, 118.0), (1_000_000.0, 1.3)] {
        let svg = bars::svg(&rows(&labels, speed, ratio), &loads).unwrap();
        check(&svg, labels.len() * 3 * 2);
    }
}

#[test]
fn the_curves_have_all_their_text_inside_and_none_on_another() {
    let clients = [1, 2, 5, 10, 25, 50, 100, 200, 400];
    let disk = |end: &str| clients.map(|clients| format!("set:{clients}:1{end}"));
    let labels = ["", "+1ms", "+5ms"].map(disk).concat();
    let labels: Vec<&str> = labels.iter().map(|label| &label[..]).collect();
    for ratio in [0.1, 1.0, 1.01, 7.0] {
        check(&curves::svg(&rows(&labels, 1000.0, ratio)).unwrap(), 3 * 2 * 3);
    }
    // One disk only, and loads that do not belong there.
    let svg =
        curves::svg(&rows(&["get:9:1", "set:1:1", "set:50:16", "set:4:1"], 1000.0, 2.0)).unwrap();
    check(&svg, 2 * 3);
    assert!(!svg.contains("slower"), "only the disk as it is");
}

#[test]
fn a_load_that_was_not_measured_is_not_drawn() {
    let samples = rows(&["set:1:1"], 1000.0, 2.0);
    let error = bars::svg(&samples, &[load("set:8:1")]).unwrap_err();
    assert!(error.to_string().contains("no round of set:8:1"), "{error}");
    assert!(curves::svg(&samples).is_err(), "a line needs two points");
}

#[test]
fn a_latency_that_rounds_to_nothing_is_an_error_and_not_an_endless_axis() {
    let row = |clients: u32, p50: f64| format!("set:{clients}:1,ours,9,{p50},0.1,1,1,1,-,1\n");
    let rows = format!("{HEADER}\n{}{}", row(1, 0.0), row(2, 0.1));
    let error = curves::svg(&Samples::read(&rows).unwrap()).unwrap_err();
    assert!(error.to_string().contains("0 ms"), "{error}");
}

#[test]
fn all_that_is_written_is_legible_on_its_paper() {
    for ink in SERVERS.into_iter().chain([PALE_INK, SLOWER]) {
        let (paper, ink) = (brightness(PAPER), brightness(ink));
        let contrast = (paper + 0.05) / (ink + 0.05);
        assert!(contrast >= 4.5, "a contrast of {contrast:.2}; 4.5 is what WCAG asks of text");
    }
}

/// WCAG's relative luminance.
fn brightness(RGBColor(red, green, blue): RGBColor) -> f64 {
    let linear = |level: u8| match f64::from(level) / 255.0 {
        dark if dark <= 0.040_45 => dark / 12.92,
        light => ((light + 0.055) / 1.055).powf(2.4),
    };
    0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
}

/// Where a text is at most: left, right, top, bottom.
struct Place {
    text: String,
    edges: [f64; 4],
}

impl Place {
    fn overlaps(&self, other: &Place) -> bool {
        let ([left, right, top, bottom], [l, r, t, b]) = (self.edges, other.edges);
        left < r && l < right && top < b && t < bottom
    }
}

/// Every text lies within the picture and on no other, and there are at least so many.
fn check(svg: &str, at_least: usize) {
    let number = |name: &str| attribute(svg, name).parse::<f64>().expect("a number");
    let (width, height) = (number("width"), number("height"));
    assert_eq!(width, f64::from(WIDTH));
    let places: Vec<Place> = svg.split("<text ").skip(1).map(place_of).collect();
    assert!(places.len() >= at_least, "{} texts, not {at_least}", places.len());
    for (i, one) in places.iter().enumerate() {
        let [left, right, top, bottom] = one.edges;
        let inside = left >= 0.0 && right <= width && top >= 0.0 && bottom <= height;
        assert!(inside, "{:?} is cut off: {:?} in {width} × {height}", one.text, one.edges);
        for other in &places[..i] {
            assert!(!one.overlaps(other), "{:?} lies on {:?}", one.text, other.text);
        }
    }
}

fn place_of(text: &str) -> Place {
    let number = |name: &str| attribute(text, name).parse::<f64>().expect("a number");
    let (x, y, size) = (number("x"), number("y"), number("font-size"));
    let (_, rest) = text.split_once(">\n").expect("the end of a tag");
    let said = rest.split_once("\n</text>").expect("the end of a text").0;
    let bold = if text.contains("font-weight=\"bold\"") { 1.12 } else { 1.0 };
    let width = said.chars().map(width_of).sum::<f64>() * size * bold;
    let left = match attribute(text, "text-anchor") {
        "start" => x,
        "middle" => x - width / 2.0,
        _ => x - width,
    };
    // From the height of capitals to the depth of a p, about the line of the digits.
    let (above, below) = match attribute(text, "dy") {
        "0.76em" => (0.0, 1.0),
        "0.5ex" => (0.5, 0.5),
        _ => (1.0, 0.0),
    };
    let edges = [left, left + width, y - above * size, y + below * size];
    Place { text: said.to_string(), edges }
}

fn attribute<'a>(tag: &'a str, name: &str) -> &'a str {
    let start = format!(" {name}=\"");
    let found = format!(" {tag}");
    let at = found.find(&start).unwrap_or_else(|| panic!("no {name} in {tag:.80}"));
    let from = at + start.len() - 1;
    &tag[from..][..tag[from..].find('"').expect("the end of an attribute")]
}

/// In parts of the font's size, from DejaVu Sans, the widest of those that browsers take for sans-serif.
fn width_of(letter: char) -> f64 {
    match letter {
        'i' | 'j' | 'l' | ' ' | '.' | ',' | ':' | ';' => 0.34,
        'f' | 'r' | 't' | '-' => 0.42,
        'm' | 'w' | 'M' | 'W' | '×' | '+' => 0.98,
        'A'..='Z' => 0.77,
        _ => 0.64,
    }
}
