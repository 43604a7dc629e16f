//! The rows of `--csv`, read back: one for each round of each load on each server.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// The result of a round.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub load: String,
    pub server: String,
    pub round: u64,
    pub ops_per_second: f64,
    pub p50_millis: f64,
    pub p99_millis: f64,
    /// Processor time of the server for each operation.
    pub cpu_micros: f64,
}

/// All rounds that count of a measurement.
pub struct Samples(Vec<Sample>);

impl Samples {
    /// Reads what `--csv` has written. Columns are known by their names, so others may be beside them.
    pub fn read(text: &str) -> Result<Samples> {
        let mut lines = text.lines();
        let names = lines.next().context("an empty file")?.split(',').collect::<Vec<_>>();
        let column = |name: &str| {
            let place = names.iter().position(|found| *found == name);
            place.with_context(|| format!("no column {name:?}"))
        };
        let words = [column("load")?, column("server")?];
        let numbers = [
            column("round")?,
            column("ops/s")?,
            column("p50 ms")?,
            column("p99 ms")?,
            column("server CPU µs/op")?,
        ];
        let row = |line: &str| -> Result<Sample> {
            let cells: Vec<&str> = line.split(',').collect();
            ensure!(cells.len() == names.len(), "{} cells, not {}", cells.len(), names.len());
            let number = |column: usize| {
                let number: f64 = cells[column].parse()?;
                ensure!(number.is_finite() && number >= 0.0, "{number} cannot be");
                Ok(number)
            };
            Ok(Sample {
                load: cells[words[0]].to_string(),
                server: cells[words[1]].to_string(),
                round: cells[numbers[0]].parse()?,
                ops_per_second: number(numbers[1])?,
                p50_millis: number(numbers[2])?,
                p99_millis: number(numbers[3])?,
                cpu_micros: number(numbers[4])?,
            })
        };
        let rows = lines.enumerate().map(|(at, line)| {
            // The line of names is the first.
            row(line).with_context(|| format!("line {}: {line}", at + 2))
        });
        let mut samples = rows.collect::<Result<Vec<_>>>()?;
        // Round 0 warmed up.
        samples.retain(|sample| sample.round > 0);
        ensure!(!samples.is_empty(), "no round that counts");
        Ok(Samples(samples))
    }

    /// The servers, ours first as everywhere.
    pub fn servers(&self) -> Vec<&str> {
        distinct(self.0.iter().map(|sample| &sample.server[..]))
    }

    /// The loads in their order.
    pub fn loads(&self) -> Vec<&str> {
        distinct(self.0.iter().map(|sample| &sample.load[..]))
    }

    /// One number of each round of a load on a server, in the order of the rounds.
    pub fn rounds(&self, load: &str, server: &str, what: impl Fn(&Sample) -> f64) -> Vec<f64> {
        let of_both = |sample: &&Sample| sample.load == load && sample.server == server;
        let rounds: BTreeMap<u64, f64> =
            self.0.iter().filter(of_both).map(|sample| (sample.round, what(sample))).collect();
        rounds.into_values().collect()
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// The least and the most of some rounds.
pub fn range(rounds: &[f64]) -> (f64, f64) {
    let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
    (least, rounds.iter().copied().fold(0.0, f64::max))
}
