//! How the numbers of several rounds become one, and how they are shown.

use std::fmt::{self, Display, Formatter};

use hdrhistogram::Histogram;

/// A Markdown table that is aligned as it stands. A row comes as a line with commas between its
/// cells; the first two columns are words, the rest numbers.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(header: &str) -> Table {
        let mut table = Table { rows: Vec::new() };
        table.push(header);
        let rule = (0..table.rows[0].len()).map(|column| if column < 2 { "---" } else { "--:" });
        table.rows.push(rule.map(String::from).collect());
        table
    }

    pub fn push(&mut self, row: &str) {
        self.rows.push(row.split(',').map(String::from).collect());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                let lengths = self.rows.iter().map(|row| row[column].chars().count());
                let width = lengths.max().unwrap_or(0);
                match column {
                    0 | 1 => write!(f, "| {cell:<width$} ")?,
                    _ => write!(f, "| {cell:>width$} ")?,
                }
            }
            writeln!(f, "|")?;
        }
        Ok(())
    }
}

/// The middle one, or the mean of the middle two.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    assert!(!values.is_empty(), "there is always a round that counts");
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

/// Cells for p50, p99, p99.9 and longest, in milliseconds: medians over the rounds, except that the
/// longest is the longest of all rounds.
pub fn latency_cells<'a>(rounds: impl Iterator<Item = &'a Histogram<u64>> + Clone) -> String {
    let millis = |nanos: u64| nanos as f64 / 1e6;
    let quantile =
        |share| median(rounds.clone().map(|round| millis(round.value_at_quantile(share))));
    let (p50, p99, p999) = (quantile(0.5), quantile(0.99), quantile(0.999));
    let longest = millis(rounds.clone().map(Histogram::max).max().unwrap_or_default());
    format!("{p50:.3},{p99:.3},{p999:.3},{longest:.3}")
}

/// `1.35 (1.20–1.41)`: the median, the least and the most.
pub fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    let middle = median(values.iter().copied());
    format!("{middle:.2} ({least:.2}–{most:.2})")
}

/// The spread of the ratios round by round: what the two have in common in a round cancels out.
pub fn ratios(over: &[f64], under: &[f64]) -> Vec<f64> {
    over.iter().zip(under).map(|(over, under)| over / under).collect()
}
