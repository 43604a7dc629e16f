//! The load program: `cargo bench --bench load -- [options]`.
//!
//! It starts post-gres-rs and its peers side by side on one disk, drives them over loopback, round
//! by round in turn (A B A B), and prints one Markdown table: what each server did, and how ours
//! compares. It measures from outside, by what a client sees and what the kernel counts; only from
//! ours it also reads INFO. Unless a signal ends it, it leaves no server running and no file of one.
//!
//! Reading order: [`throughput`], [`memory`], [`restart`], [`compaction`], [`overwrite`] and
//! [`idle`] are the comparisons; [`clients`] drives a server and [`server`] starts and stops one;
//! [`pictures`] shows the samples; the rest are small and stand alone.

mod clients;
mod compaction;
mod disk;
mod footprint;
mod idle;
mod limits;
mod load;
mod memory;
mod options;
mod overwrite;
mod pictures;
mod protocol;
mod report;
mod restart;
mod server;
mod throughput;

use std::path::Path;
use std::process::Command;
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use load::Load;
use options::Options;
use pictures::samples::Samples;
use pictures::{bars, curves, table};
use server::Program;

/// Ours and Redis under the same promise: a reply only after its change is on disk.
const OURS: &str = "post-gres-rs={ours} -port {port} -wal {dir}/wal_file";
const REDIS: &str = "Redis=redis-server --port {port} --dir {dir} --bind 127.0.0.1 \
                     --appendonly yes --appendfsync always --save \"\" --maxclients 19900";

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(path) = &options.draw {
        return draw_again(&options, path);
    }
    limits::allow_many_connections()?;
    let loads = options.loads()?;
    let slowed = loads.iter().any(|load| load.slowed.is_some());
    ensure!(!slowed || options.preload.is_some(), "a load with slower syncs needs --preload");
    let clients = |load: &Load| load.groups.iter().map(|group| group.clients).sum();
    let most = loads.iter().map(clients).max().unwrap_or(0);
    limits::check(most.max(options.idle.unwrap_or(0)))?;

    let mut programs = programs(&options)?;
    let keys = match options.draws_keys() {
        true => format!("{} keys", options.keys),
        false => "Keys".to_string(),
    };
    let scene = format!(
        "Disk: {}.\n{keys} of {} bytes, values of {} bytes, seed {}, {} cores shared with this \
         program, {}.\n",
        describe_disk(&options)?,
        protocol::ZERO_KEY.len(),
        options.value_bytes,
        options.seed,
        thread::available_parallelism()?,
        describe_grouping(),
    );
    println!("{scene}");
    let report = if !options.restart.is_empty() {
        programs.iter_mut().for_each(Program::compact_only_on_demand);
        restart::compare(&options, &programs)?
    } else if let Some(keys) = options.memory {
        memory::compare(&options, &programs, keys)?
    } else if let Some(keys) = options.compaction {
        programs.iter_mut().for_each(Program::compact_only_on_demand);
        compaction::compare(&options, &programs, keys)?
    } else if let Some(time) = options.overwrite {
        overwrite::compare(&options, &programs, time)?
    } else if let Some(connections) = options.idle {
        idle::compare(&programs, connections)?
    } else {
        let (report, rows) = throughput::compare(&options, &programs, &loads)?;
        draw(&options, &Samples::read(&rows)?, &loads)?;
        report
    };
    print!("{report}");
    if let Some(path) = &options.markdown {
        fs::write(path, format!("{scene}\n{report}")).context("--markdown")?;
    }
    Ok(())
}

/// Draws what `--svg` asks for, if it does.
fn draw(options: &Options, samples: &Samples, loads: &[Load]) -> Result<()> {
    let Some(path) = &options.svg else {
        return Ok(());
    };
    let svg = match options.sweep {
        true => curves::svg(samples)?,
        false => bars::svg(samples, loads)?,
    };
    fs::write(path, svg).context("--svg")
}

/// `--draw`: the picture and the table of what was measured before.
fn draw_again(options: &Options, path: &Path) -> Result<()> {
    let rows = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let samples = Samples::read(&rows)?;
    // The second group of `readers` has a blank in its name, and belongs to the load of the first.
    let labels = samples.loads().into_iter().filter(|label| !label.contains(' '));
    let loads = match options.loads.is_empty() {
        true => labels.map(str::parse).collect::<Result<Vec<_>>>()?,
        false => options.loads.clone(),
    };
    print!("{}", table::markdown(&samples, &loads)?);
    draw(options, &samples, &loads)
}

/// The servers to compare: ours first, then the peers in the order given.
fn programs(options: &Options) -> Result<Vec<Program<'_>>> {
    let mut command_lines = Vec::new();
    if !options.only_peers {
        command_lines.push(format!("{OURS} {}", options.ours_args));
    }
    if !options.only_ours {
        let redis = Command::new("redis-server").arg("--version").output();
        match options.peers.is_empty() {
            false => command_lines.extend(options.peers.iter().cloned()),
            true if redis.is_ok() => command_lines.push(REDIS.to_string()),
            true => println!("No --peer, and no redis-server on PATH: nothing to compare with."),
        }
    }
    ensure!(!command_lines.is_empty(), "no server to measure");
    let programs = command_lines.iter().map(|line| Program::new(line, options));
    programs.collect()
}

/// The file system below `--dir`. It decides what a sync costs: without it the numbers say little.
fn describe_disk(options: &Options) -> Result<String> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let above = mounts.lines().filter_map(|line| {
        let [device, point, kind, flags, ..] = line.split(' ').collect::<Vec<_>>()[..] else {
            return None;
        };
        let found = format!("{kind} ({flags}) on {device}");
        options.dir.starts_with(point).then_some((point.len(), found))
    });
    let (_, nearest) = above.max().context("no file system above --dir")?;
    Ok(match options.slow_us {
        Some(micros) => format!("{nearest}, each sync slowed by {micros} µs"),
        None => nearest,
    })
}

/// Whether the scheduler weighs sessions against each other and against the kernel's own threads, instead of
/// thread against thread. With it, on Linux 6.18, the kernel thread that a loop device needs for a flush was
/// left waiting for 200 ms and more beside 50 busy threads.
fn describe_grouping() -> String {
    match fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled") {
        Ok(value) => format!("kernel.sched_autogroup_enabled={}", value.trim()),
        Err(_) => "no kernel.sched_autogroup_enabled".to_string(),
    }
}
