//! What the program is asked to measure: its flags.

use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs};

use anyhow::Result;
use clap::Parser;

use crate::load::Load;
use crate::protocol::Protocol;

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
    pub loads: Vec<Load>,

    /// Instead of the loads: SET by 1, 2, 5 and up to 400 clients, and again with each sync 1 ms and
    /// 5 ms slower (with --preload); --svg then draws latencies
    #[arg(long, group = "comparison")]
    pub sweep: bool,

    /// How long each load runs, per server and round
    #[arg(long, default_value = "3", value_parser = parse_seconds)]
    pub seconds: Duration,

    /// Rounds that count, after one warm-up that does not
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: u64,

    /// How many keys the requests are spread over
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,

    /// Length of every value, in plain letters; beyond 64 KB ours needs --protocol resp
    #[arg(long, default_value_t = 32)]
    pub value_bytes: usize,

    /// Every key that is set expires after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub expire: Option<u64>,

    /// Where the random keys begin; the same seed draws the same keys
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// The servers' files go below here, into directories that are removed afterwards
    #[arg(long, default_value_os_t = env::temp_dir(), value_parser = parse_path)]
    pub dir: PathBuf,

    /// How to speak to ours
    #[arg(long, value_enum, default_value_t = Protocol::Text)]
    pub protocol: Protocol,

    /// More flags for ours, as one argument
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub ours_args: String,

    /// "[NAME=]COMMAND LINE" of a peer that speaks RESP, {port} and {dir} replaced, "" an empty
    /// word; {ours} is our binary, to compare it with itself under other flags; --memory,
    /// --restart and --compaction ask peers for what Redis has: INFO, BGREWRITEAOF, its flags;
    /// repeatable
    /// [default: the redis-server on PATH, appendfsync always]
    #[arg(long = "peer", value_name = "PEER")]
    pub peers: Vec<String>,

    /// Leave ours out
    #[arg(long, conflicts_with = "only_ours")]
    pub only_peers: bool,

    /// Leave the peers out
    #[arg(long)]
    pub only_ours: bool,

    /// A library that slows every sync: LD_PRELOAD in the servers' environment
    #[arg(long, value_name = "PATH.so", value_parser = parse_path)]
    pub preload: Option<PathBuf>,

    /// By how much it slows them: SLOWSYNC_US in the servers' environment
    #[arg(long, value_name = "N", requires = "preload")]
    pub slow_us: Option<u64>,

    /// File for every round of the loads, or every row of --overwrite, as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,

    /// File for what is printed at the end, with tables in Markdown
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,

    /// File for a picture of the loads, or of --sweep
    #[arg(long, value_name = "FILE", conflicts_with_all =
          ["only_ours", "only_peers", "memory", "restart", "compaction", "overwrite", "idle"])]
    pub svg: Option<PathBuf>,

    /// Measures nothing: draws --svg from a file that --csv wrote, and prints it as a table, of these
    /// --load or all
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["csv", "markdown"])]
    pub draw: Option<PathBuf>,

    /// Instead of the loads: how long a start with this many keys takes, from the log as it was
    /// written and from a compacted one, and its memory; repeatable
    #[arg(long, value_name = "KEYS", value_delimiter = ',', group = "comparison",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub restart: Vec<u64>,

    /// Instead of the loads: what this many keys cost in memory, and the longest pause while they
    /// are stored
    #[arg(long, value_name = "KEYS", group = "comparison",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub memory: Option<u64>,

    /// Instead of the loads: what a compaction of this many keys does to clients and to memory
    #[arg(long, value_name = "KEYS", group = "comparison",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub compaction: Option<u64>,

    /// Instead of the loads: what the log takes up on disk while its keys are overwritten for this long
    #[arg(long, value_name = "SECONDS", group = "comparison", value_parser = parse_seconds)]
    pub overwrite: Option<Duration>,

    /// Instead of the loads: what this many idle connections cost in memory
    #[arg(long, value_name = "N", group = "comparison")]
    pub idle: Option<usize>,

    /// `cargo bench` passes this to every program; it means nothing here
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Options {
    /// The loads that are asked for; none, if another comparison is.
    pub fn loads(&self) -> Result<Vec<Load>> {
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
    pub fn draws_keys(&self) -> bool {
        let counts = [self.memory, self.compaction];
        self.restart.is_empty() && self.idle.is_none() && counts.iter().all(Option::is_none)
    }
}

fn parse_seconds(text: &str) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

/// A path must exist: a library that cannot be preloaded would slow nothing, unnoticed.
fn parse_path(text: &str) -> Result<PathBuf> {
    Ok(fs::canonicalize(text)?)
}
