//! What the log takes up on disk while the same keys are overwritten for a long time: whether its
//! size stays within bounds, and how much room a compaction needs at its worst. Each server
//! compacts when it sees fit.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::Options;
use crate::clients::{drive, random_keys};
use crate::disk::allocated_bytes;
use crate::protocol::ZERO_KEY;
use crate::report::Table;
use crate::server::Program;

/// Enough pipeline that the log grows fast.
const LOAD: &str = "set:50:16";
/// A compaction's files are short-lived, so the directory is looked at more often than a row is shown.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The table has about this many rows, or fewer: at most one a second.
const ROWS: u32 = 60;

/// What one server's log took up.
struct Run {
    ops: u64,
    ops_per_second: f64,
    /// For each row the most bytes that were seen since the last.
    rows: Vec<u64>,
}

pub fn compare(options: &Options, programs: &[Program], time: Duration) -> Result<String> {
    let every = (time / ROWS).max(Duration::from_secs(1));
    let mut runs = Vec::new();
    for program in programs {
        let run = measure(options, program, time, every);
        runs.push(run.with_context(|| program.name.clone())?);
    }

    let table = table_over_time(programs, &runs, every);
    if let Some(path) = &options.csv {
        fs::write(path, csv(programs, &runs, every)).context("--csv")?;
    }
    let live_bytes = options.keys * (ZERO_KEY.len() + options.value_bytes) as u64;
    let mut summary = Table::new("overwrite,server,ops/s,MiB set,highest MiB,highest/live");
    for (program, run) in programs.iter().zip(&runs) {
        let set_mib = mib(run.ops * (ZERO_KEY.len() + options.value_bytes) as u64);
        let highest = run.rows.iter().copied().max().unwrap_or_default();
        summary.push(&format!(
            "{} s,{},{:.0},{set_mib:.1},{:.1},{:.1}",
            time.as_secs_f64(),
            program.name,
            run.ops_per_second,
            mib(highest),
            highest as f64 / live_bytes as f64,
        ));
    }
    Ok(format!(
        "{table}\n{summary}\nBlocks allocated to all files of the log; each row shows the most \
         since the last one. Keys and values that are live take up {:.1} MiB.\n",
        mib(live_bytes)
    ))
}

fn measure(options: &Options, program: &Program, time: Duration, every: Duration) -> Result<Run> {
    eprintln!("{} overwrites {} keys for {time:?}", program.name, options.keys);
    let home = program.new_home()?;
    let server = program.start(&home)?;
    let (end, ended) = mpsc::channel();
    let (outcome, rows) = thread::scope(|scope| {
        let watcher = thread::Builder::new().name("watches the log".into());
        let home = home.path();
        let watcher = watcher.spawn_scoped(scope, move || watch(home, every, ended))?;
        let outcome = drive(&server, &LOAD.parse()?, random_keys(options.seed, options.keys), time);
        drop(end);
        let rows = watcher.join().expect("watching does not panic");
        anyhow::Ok((outcome?, rows?))
    })?;
    server.stop()?;
    Ok(Run { ops: outcome.latencies[0].len(), ops_per_second: outcome.ops_per_second(0), rows })
}

/// Looks until the other end of the channel is gone.
fn watch(home: &Path, every: Duration, ended: mpsc::Receiver<()>) -> Result<Vec<u64>> {
    let mut rows = Vec::new();
    let mut highest = 0;
    let mut row_ends = Instant::now() + every;
    loop {
        let is_over = ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Disconnected);
        highest = highest.max(allocated_bytes(home)?);
        // The load runs a little over its time; the little belongs to the last row.
        let now = Instant::now();
        match rows.last_mut() {
            Some(last) if is_over && now + every / 2 < row_ends => *last = highest.max(*last),
            _ if is_over || now >= row_ends => {
                rows.push(highest);
                (highest, row_ends) = (0, row_ends + every);
            }
            _ => (),
        }
        if is_over {
            return Ok(rows);
        }
    }
}

fn table_over_time(programs: &[Program], runs: &[Run], every: Duration) -> Table {
    let names = programs.iter().map(|program| format!(",{} MiB", program.name));
    let mut table = Table::new(&format!("overwrite,until s{}", names.collect::<String>()));
    let longest = runs.iter().map(|run| run.rows.len()).max().unwrap_or_default();
    for row in 0..longest {
        let cells = runs.iter().map(|run| match run.rows.get(row) {
            Some(&bytes) => format!(",{:.1}", mib(bytes)),
            None => ",-".to_string(),
        });
        let until = every.as_secs_f64() * (row + 1) as f64;
        table.push(&format!("disk,{until:.1}{}", cells.collect::<String>()));
    }
    table
}

fn csv(programs: &[Program], runs: &[Run], every: Duration) -> String {
    let mut lines = "server,until s,bytes\n".to_string();
    for (program, run) in programs.iter().zip(runs) {
        for (row, bytes) in run.rows.iter().enumerate() {
            let until = every.as_secs_f64() * (row + 1) as f64;
            lines += &format!("{},{until:.1},{bytes}\n", program.name);
        }
    }
    lines
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
