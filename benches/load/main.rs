//! The load program: `cargo bench --bench load -- [options]`.
//!
//! It starts post-gres-rs and its peers side by side on one disk, drives them over loopback, round
//! by round in turn (A B A B), and prints one Markdown table: what each server did, and how ours
//! compares. It measures from outside, by what a client sees and what the kernel counts; only from
//! ours it also reads INFO. Unless a signal ends it, it leaves no server running and no file of one.
//!
//! Reading order: [`throughput`], [`memory`], [`restart`], [`compaction`], [`overwrite`] and
//! [`idle`] are the comparisons; [`clients`] drives a server and [`server`] starts and stops one;
//! the rest are small and stand alone.

mod clients;
mod compaction;
mod disk;
mod footprint;
mod idle;
mod limits;
mod load;
mod memory;
mod overwrite;
mod pictures;
mod protocol;
mod report;
mod restart;
mod server;
mod throughput;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, thread};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use load::Load;
use pictures::samples::Samples;
use pictures::{bars, curves, table};
use protocol::Protocol;
use server::Program;

/// Ours and Redis under the same promise: a reply only after its change is on disk.
const OURS: &str = "post-gres-rs={ours} -port {port} -wal {dir}/wal_file";
const REDIS: &str = "Redis=redis-server --port {port} --dir {dir} --bind 127.0.0.1 \
                     --appendonly yes --appendfsync always --save \"\" --maxclients 19900";

/// Few clients and many, a pipeline, reads alone and beside synced writes: about three minutes.
const DEFAULT_LOADS: [&str; 6] =
    ["set:1:1", "set:50:1", "set:200:1", "set:50:16", "get:50:1", "readers:50:8"];
/// The loads of --sweep: the points of a line, evenly spaced on a logarithmic axis, on each of these disks.
const SWEEP_CLIENTS: [usize; 9] = [1, 2, 5, 10, 25, 50, 100, 200, 400];
const SWEEP_DISKS: [&str; 3] = ["", "+1ms", "+5ms"];

/// Drives post-gres-rs and its peers over loopback, in turn, and compares them.
#[derive(Parser)]
#[command(name = "load")]
pub struct Options {
    /// set:CLIENTS:PIPELINE, get:…, mixed:… (SET and GET in turn), mget:CLIENTS:KEYS, or
    /// readers:READERS:WRITERS; with +MILLISECONDSms at its end (and --preload) each sync takes that
    /// much longer; repeatable
    /// [default: set:1:1,set:50:1,set:200:1,set:50:16,get:50:1,readers:50:8]
    #[arg(long = "load", value_name = "LOAD", value_delimiter = ',', group = "comparison")]
    loads: Vec<Load>,

    /// Instead of the loads: SET by 1, 2, 5 and up to 400 clients, and again with each sync 1 ms and
    /// 5 ms slower (with --preload); --svg then draws latencies
    #[arg(long, group = "comparison")]
    sweep: bool,

    /// How long each load runs, per server and round
    #[arg(long, default_value = "3", value_parser = parse_seconds)]
    seconds: Duration,

    /// Rounds that count, after one warm-up that does not
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,

    /// How many keys the requests are spread over
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,

    /// Length of every value, in plain letters; beyond 64 KB ours needs --protocol resp
    #[arg(long, default_value_t = 32)]
    value_bytes: usize,

    /// Every key that is set expires after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    expire: Option<u64>,

    /// Where the random keys begin; the same seed draws the same keys
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// The servers' files go below here, into directories that are removed afterwards
    #[arg(long, default_value_os_t = env::temp_dir(), value_parser = parse_path)]
    dir: PathBuf,

    /// How to speak to ours
    #[arg(long, value_enum, default_value_t = Protocol::Text)]
    protocol: Protocol,

    /// More flags for ours, as one argument
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    ours_args: String,

    /// "[NAME=]COMMAND LINE" of a peer that speaks RESP, {port} and {dir} replaced, "" an empty
    /// word; {ours} is our binary, to compare it with itself under other flags; --memory,
    /// --restart and --compaction ask peers for what Redis has: INFO, BGREWRITEAOF, its flags;
    /// repeatable
    /// [default: the redis-server on PATH, appendfsync always]
    #[arg(long = "peer", value_name = "PEER")]
    peers: Vec<String>,

    /// Leave ours out
    #[arg(long, conflicts_with = "only_ours")]
    only_peers: bool,

    /// Leave the peers out
    #[arg(long)]
    only_ours: bool,

    /// A library that slows every sync: LD_PRELOAD in the servers' environment
    #[arg(long, value_name = "PATH.so", value_parser = parse_path)]
    preload: Option<PathBuf>,

    /// By how much it slows them: SLOWSYNC_US in the servers' environment
    #[arg(long, value_name = "N", requires = "preload")]
    slow_us: Option<u64>,

    /// File for every round of the loads, or every row of --overwrite, as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// File for what is printed at the end, with tables in Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// File for a picture of the loads, or of --sweep
    #[arg(long, value_name = "FILE", conflicts_with_all =
          ["only_ours", "only_peers", "memory", "restart", "compaction", "overwrite", "idle"])]
    svg: Option<PathBuf>,

    /// Measures nothing: draws --svg from a file that --csv wrote, and prints it as a table, of these
    /// --load or all
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["csv", "markdown"])]
    draw: Option<PathBuf>,

    /// Instead of the loads: how long a start with this many keys takes, from the log as it was
    /// written and from a compacted one, and its memory; repeatable
    #[arg(long, value_name = "KEYS", value_delimiter = ',', group = "comparison",
          value_parser = clap::value_parser!(u64).range(1..))]
    restart: Vec<u64>,

    /// Instead of the loads: what this many keys cost in memory, and the longest pause while they
    /// are stored
    #[arg(long, value_name = "KEYS", group = "comparison",
          value_parser = clap::value_parser!(u64).range(1..))]
    memory: Option<u64>,

    /// Instead of the loads: what a compaction of this many keys does to clients and to memory
    #[arg(long, value_name = "KEYS", group = "comparison",
          value_parser = clap::value_parser!(u64).range(1..))]
    compaction: Option<u64>,

    /// Instead of the loads: what the log takes up on disk while its keys are overwritten for this long
    #[arg(long, value_name = "SECONDS", group = "comparison", value_parser = parse_seconds)]
    overwrite: Option<Duration>,

    /// Instead of the loads: what this many idle connections cost in memory
    #[arg(long, value_name = "N", group = "comparison")]
    idle: Option<usize>,

    /// `cargo bench` passes this to every program; it means nothing here
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// The loads that are asked for; none, if another comparison is.
    fn loads(&self) -> Result<Vec<Load>> {
        // Only what is preloaded can slow a sync.
        let disks = if self.preload.is_some() { &SWEEP_DISKS[..] } else { &SWEEP_DISKS[..1] };
        let sweep = disks.iter().flat_map(|disk| {
            SWEEP_CLIENTS.iter().map(move |clients| format!("set:{clients}:1{disk}"))
        });
        match self.sweep {
            true => sweep.map(|load| load.parse()).collect(),
            false if self.loads.is_empty() => {
                DEFAULT_LOADS.iter().map(|load| load.parse()).collect()
            }
            false => Ok(self.loads.clone()),
        }
    }

    /// Whether the requests are spread over `keys`; the other comparisons have counts of their own.
    fn draws_keys(&self) -> bool {
        let counts = [self.memory, self.compaction];
        self.restart.is_empty() && self.idle.is_none() && counts.iter().all(Option::is_none)
    }
}

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

fn parse_seconds(text: &str) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

/// A path must exist: a library that cannot be preloaded would slow nothing, unnoticed.
fn parse_path(text: &str) -> Result<PathBuf> {
    Ok(fs::canonicalize(text)?)
}
