//! All samples of some loads as one Markdown table, with more than the picture has: rates, their ratios, p99,
//! and what an operation costs the processor beside the first peer.

use anyhow::{Result, ensure};

use super::super::load::Load;
use super::super::report::{median, ratios};
use super::bars::rate;
use super::samples::{Sample, Samples};

/// The table, a line for each group of each load.
pub fn markdown(samples: &Samples, loads: &[Load]) -> Result<String> {
    let servers = samples.servers();
    let [ours, peers @ ..] = &servers[..] else {
        return Ok(String::new());
    };
    let mut header = vec!["load".to_string(), format!("{ours}, ops/s")];
    header.extend(peers.iter().map(ToString::to_string));
    header.extend(peers.iter().map(|peer| format!("over {peer}")));
    header.push(format!("{ours}, p99 ms"));
    header.extend(peers.iter().map(ToString::to_string));
    header.extend(peers.first().map(|peer| format!("CPU over {peer}")));

    let rule = (0..header.len()).map(|column| if column == 0 { "---" } else { "--:" });
    let mut table = line(&header) + &line(&rule.map(String::from).collect::<Vec<_>>());
    for load in loads {
        for (i, group) in load.groups.iter().enumerate() {
            table += &line(&cells(samples, &group.label, load.in_words(i), &servers)?);
        }
    }
    Ok(table)
}

fn cells(samples: &Samples, label: &str, words: String, servers: &[&str]) -> Result<Vec<String>> {
    let of_all = |what: fn(&Sample) -> f64| -> Vec<Vec<f64>> {
        servers.iter().map(|server| samples.rounds(label, server, what)).collect()
    };
    let speeds = of_all(|sample| sample.ops_per_second);
    let p99s = of_all(|sample| sample.p99_millis);
    let cpu = of_all(|sample| sample.cpu_micros);
    let same = speeds.iter().all(|rounds| !rounds.is_empty() && rounds.len() == speeds[0].len());
    ensure!(same, "{label} has not as many rounds of each server, or none");

    let median = |rounds: &Vec<f64>| median(rounds.iter().copied());
    let over =
        |all: &[Vec<f64>], peer: usize| format!("{:.2}", median(&ratios(&all[0], &all[peer])));
    let mut cells = vec![words];
    cells.extend(speeds.iter().map(|rounds| rate(median(rounds))));
    cells.extend((1..servers.len()).map(|peer| over(&speeds, peer)));
    cells.extend(p99s.iter().map(|rounds| millis(median(rounds))));
    if servers.len() > 1 {
        cells.push(over(&cpu, 1));
    }
    Ok(cells)
}

/// Three digits, as of a rate.
fn millis(time: f64) -> String {
    match time {
        ..9.995 => format!("{time:.2}"),
        ..99.95 => format!("{time:.1}"),
        _ => format!("{time:.0}"),
    }
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}
