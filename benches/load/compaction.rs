//! How a compaction affects clients, and what it takes in memory while they go on writing.
//!
//! In each round a server is driven three times by the same clients: quiet; from just before a
//! compaction is asked for until it has ended; and once more so with memory sampled. Sampling walks
//! the page tables with a lock held that the server needs, so it would be seen in the latencies.
//! No server compacts on its own here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::Options;
use crate::clients::{Outcome, drive, random_keys, store_keys};
use crate::footprint::shared_out_kib;
use crate::load::Load;
use crate::report::{Table, latency_cells, median, spread};
use crate::server::{Program, Server};

/// Half read and half write: enough clients to keep a server busy, few enough that each waits only briefly.
const LOAD: &str = "readers:25:25";
/// What the two groups of [`LOAD`] do.
const GROUPS: [&str; 2] = ["GET", "SET"];
/// How often memory is looked at. A fork's peak builds up over its whole life.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// One round with one server.
struct Round {
    quiet: Outcome,
    compacting: Outcome,
    seconds: f64,
    before_mib: f64,
    peak_mib: f64,
}

pub fn compare(options: &Options, programs: &[Program], keys: u64) -> Result<String> {
    let homes: Vec<TempDir> = programs.iter().map(Program::new_home).collect::<Result<_>>()?;
    let mut servers = Vec::new();
    for (program, home) in programs.iter().zip(&homes) {
        eprintln!("{} stores {keys} keys", program.name);
        let server = program.start(home)?;
        store_keys(&server, keys)?;
        servers.push(server);
    }

    let mut rounds: Vec<Vec<Round>> = servers.iter().map(|_| Vec::new()).collect();
    for number in 0..options.rounds {
        for (server, rounds) in servers.iter().zip(&mut rounds) {
            let name = &server.program.name;
            let round = measure(options, server, keys, number).with_context(|| name.clone())?;
            eprintln!("{name} compacts in {:.3} s, peak {:.1} MiB", round.seconds, round.peak_mib);
            rounds.push(round);
        }
    }
    servers.into_iter().try_for_each(Server::stop)?;
    Ok(report(programs, &rounds, keys))
}

fn measure(options: &Options, server: &Server, keys: u64, number: u64) -> Result<Round> {
    let random = |phase| random_keys(options.seed.wrapping_add(3 * number + phase), keys);
    let (quiet, ()) = drive_during(server, random(0), || {
        thread::sleep(options.seconds);
        Ok(())
    })?;
    let (compacting, took) = drive_during(server, random(1), || server.compact())?;
    let before_kib = shared_out_kib(server.id())?;
    let (_, peak_kib) = drive_during(server, random(2), || peak_while_compacting(server))?;
    Ok(Round {
        quiet,
        compacting,
        seconds: took.as_secs_f64(),
        before_mib: before_kib as f64 / 1024.0,
        peak_mib: peak_kib as f64 / 1024.0,
    })
}

/// Drives the server from just before something is done until it is done.
fn drive_during<T: Send>(
    server: &Server,
    keys: impl Iterator<Item = u64>,
    deed: impl FnOnce() -> Result<T> + Send,
) -> Result<(Outcome, T)> {
    let load: Load = LOAD.parse()?;
    let is_done = &AtomicBool::new(false);
    let (begin, begun) = mpsc::channel();
    thread::scope(|scope| {
        let beside = thread::Builder::new().name("beside the load".into());
        let beside = beside.spawn_scoped(scope, move || {
            // An error means that the load failed before its first request.
            let result = begun.recv().context("no load").and_then(|()| deed());
            is_done.store(true, Ordering::Relaxed);
            result
        })?;

        let mut begin = Some(begin);
        let keys = keys.map_while(move |key| {
            if let Some(begin) = begin.take() {
                // This fails only if the thread beside has panicked, which `join` reports.
                let _ = begin.send(());
            }
            (!is_done.load(Ordering::Relaxed)).then_some(key)
        });
        let outcome = drive(server, &load, keys, Duration::MAX);
        let done = beside.join().expect("the thread beside the load does not panic");
        Ok((outcome?, done?))
    })
}

/// The most that the server and its children had in memory while it compacted.
fn peak_while_compacting(server: &Server) -> Result<u64> {
    thread::scope(|scope| {
        let compactor = thread::Builder::new().name("asks for a compaction".into());
        let compactor = compactor.spawn_scoped(scope, || server.compact())?;
        let mut peak = 0;
        while !compactor.is_finished() {
            peak = peak.max(shared_out_kib(server.id())?);
            thread::sleep(SAMPLE_EVERY);
        }
        compactor.join().expect("asking does not panic")?;
        Ok(peak)
    })
}

fn report(programs: &[Program], rounds: &[Vec<Round>], keys: u64) -> String {
    let mut felt = Table::new("what clients see,server,ops/s,p50 ms,p99 ms,p99.9 ms,longest ms");
    for (group, what) in GROUPS.iter().enumerate() {
        for (program, rounds) in programs.iter().zip(rounds) {
            let mut row = |phase, outcome: fn(&Round) -> &Outcome| {
                let outcomes = || rounds.iter().map(outcome);
                let speed = median(outcomes().map(|outcome| outcome.ops_per_second(group)));
                let latencies = latency_cells(outcomes().map(|outcome| &outcome.latencies[group]));
                felt.push(&format!("{what} {phase},{},{speed:.0},{latencies}", program.name));
            };
            row("quiet", |round| &round.quiet);
            row("compacting", |round| &round.compacting);
        }
    }

    let mut taken = Table::new("compaction,server,seconds,MiB before,MiB at the peak,peak/before");
    for (program, rounds) in programs.iter().zip(rounds) {
        let all = |number: fn(&Round) -> f64| rounds.iter().map(number).collect::<Vec<f64>>();
        taken.push(&format!(
            "{keys} keys,{},{},{:.1},{},{}",
            program.name,
            spread(&all(|round| round.seconds)),
            median(all(|round| round.before_mib)),
            spread(&all(|round| round.peak_mib)),
            spread(&all(|round| round.peak_mib / round.before_mib)),
        ));
    }
    let rounds = rounds.first().map_or(0, Vec::len);
    format!(
        "{felt}\n{taken}\n25 clients GET and 25 SET, one request at a time. Memory is Pss of the \
         server and its children.\nMedians over {rounds} rounds; of the longest, the longest.\n"
    )
}
