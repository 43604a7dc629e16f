//! What each server does under load: operations per second, latencies, processor time, syncs.
//!
//! For each load the servers start afresh and stay up until its last round; in each round they are
//! driven in turn (A B A B), so that changes on the machine affect them all.

use std::fs::File;
use std::io::Write;
use std::slice;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::Options;
use crate::clients::{Outcome, drive, random_keys, store_keys};
use crate::load::Load;
use crate::report::{Table, latency_cells, median, ratios, spread};
use crate::server::{Program, Server};

/// A row's cells. The table adds the ratio to them, the raw rows their round.
const COLUMNS: &str =
    "load,server,ops/s,p50 ms,p99 ms,p99.9 ms,longest ms,server CPU µs/op,ops/sync";

/// What one round of a load showed of one server.
struct Round {
    clients: Outcome,
    /// Over the operations of all groups.
    cpu_micros_per_op: f64,
    /// Changes that shared one sync; `None` if the server does not tell, or nothing was synced.
    ops_per_sync: Option<f64>,
}

/// The report, and the rows of `--csv`.
pub fn compare(
    options: &Options,
    programs: &[Program],
    loads: &[Load],
) -> Result<(String, String)> {
    let mut raw = Raw { text: String::new(), file: None };
    raw.file = options.csv.as_ref().map(File::create).transpose().context("--csv")?;
    raw.push(&format!("{COLUMNS},round"))?;

    let mut table = Table::new(&format!("{COLUMNS},ours/peer"));
    for load in loads {
        let servers = run(options, load, programs, &mut raw)?;
        for (group, settings) in load.groups.iter().enumerate() {
            let speed = |round: &Round| round.clients.ops_per_second(group);
            let speeds = |rounds: &Vec<Round>| rounds.iter().map(speed).collect();
            let speeds: Vec<Vec<f64>> = servers.iter().map(speeds).collect();
            for (i, program) in programs.iter().enumerate() {
                let row = row(&settings.label, program, &servers[i], group);
                if !programs[0].is_ours || i == 0 {
                    table.push(&format!("{row},-"));
                    continue;
                }
                let ratios = ratios(&speeds[0], &speeds[i]);
                table.push(&format!("{row},{}", spread(&ratios)));
            }
        }
    }
    let rounds = options.rounds;
    let report = format!("{table}\nMedians over {rounds} rounds; of the longest, the longest.\n");
    Ok((report, raw.text))
}

/// Every row as it is measured: on the terminal, in the file for it, and kept for the picture.
struct Raw {
    text: String,
    file: Option<File>,
}

impl Raw {
    fn push(&mut self, row: &str) -> Result<()> {
        eprintln!("{row}");
        self.text += &format!("{row}\n");
        self.file.as_mut().map_or(Ok(()), |file| writeln!(file, "{row}")).context("--csv")
    }
}

/// The rounds that count, for each server.
fn run(
    options: &Options,
    load: &Load,
    programs: &[Program],
    raw: &mut Raw,
) -> Result<Vec<Vec<Round>>> {
    let homes: Vec<TempDir> = programs.iter().map(Program::new_home).collect::<Result<_>>()?;
    let mut servers = Vec::new();
    for (program, home) in programs.iter().zip(&homes) {
        let server = program.start_slowed(home, load.slowed)?;
        if load.reads() {
            store_keys(&server, options.keys)?;
        }
        servers.push(server);
    }

    let mut rounds: Vec<Vec<Round>> = servers.iter().map(|_| Vec::new()).collect();
    for number in 0..=options.rounds {
        for (server, rounds) in servers.iter().zip(&mut rounds) {
            let round = measure(options, load, server, number);
            let round =
                round.with_context(|| format!("{} in round {number}", server.program.name))?;
            for (group, settings) in load.groups.iter().enumerate() {
                let row = row(&settings.label, server.program, slice::from_ref(&round), group);
                raw.push(&format!("{row},{number}"))?;
            }
            // Round 0 warmed up.
            if number > 0 {
                rounds.push(round);
            }
        }
    }
    servers.into_iter().try_for_each(Server::stop)?;
    Ok(rounds)
}

fn measure(options: &Options, load: &Load, server: &Server, number: u64) -> Result<Round> {
    // In the same round every server is asked for the same keys.
    let keys = random_keys(options.seed.wrapping_add(number), options.keys);
    let log_before = server.log_counters()?;
    let cpu_before = server.cpu_time()?;
    let clients = drive(server, load, keys, options.seconds)?;
    let cpu = server.cpu_time()? - cpu_before;
    let log = log_before.zip(server.log_counters()?);

    let counts = clients.latencies.iter().map(|latencies| latencies.len());
    let ops: u64 = counts.sum();
    let cpu_micros_per_op = cpu.as_secs_f64() * 1e6 / ops as f64;
    let ops_per_sync = log.and_then(|(before, after)| {
        let (records, syncs) = (after.records - before.records, after.syncs - before.syncs);
        (syncs > 0).then(|| records as f64 / syncs as f64)
    });
    Ok(Round { clients, cpu_micros_per_op, ops_per_sync })
}

/// One group of a load on one server: a cell for each of [`COLUMNS`].
fn row(label: &str, program: &Program, rounds: &[Round], group: usize) -> String {
    let latencies = latency_cells(rounds.iter().map(|round| &round.clients.latencies[group]));
    let name = &program.name;
    let speed = median(rounds.iter().map(|round| round.clients.ops_per_second(group)));
    let cpu = median(rounds.iter().map(|round| round.cpu_micros_per_op));
    let per_sync: Option<Vec<f64>> = rounds.iter().map(|round| round.ops_per_sync).collect();
    let per_sync = per_sync.map_or("-".to_string(), |per_sync| format!("{:.1}", median(per_sync)));
    format!("{label},{name},{speed:.0},{latencies},{cpu:.2},{per_sync}")
}
