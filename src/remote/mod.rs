//! A small client of a running server, for scripts and health checks: `ping`, `get`, `set`, `del`, `stats`.
//!
//! It speaks RESP over one connection, with one deadline for everything, and believes no length that a server announces.
//! Unless it is told otherwise it goes where a server with the same environment and file of flags listens.
//!
//! | | exit code 0 | 1 | 2 |
//! |-|-------------|---|---|
//! | `ping` | the server serves, and its log is neither closed nor full; with `-leader`, it leads | otherwise, or it cannot be reached | wrong flags |
//! | `get` | the value was printed | there is none | failed |
//! | `set`, `del`, `stats` | done | – | failed |

mod figures;
mod link;
mod replies;
mod stream;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;
#[cfg(feature = "stats")]
mod watch;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;

use anyhow::{bail, ensure};

use figures::Figures;
use link::{Door, Link};
use replies::Reply;

/// The longest value that a server can be told to take (`-maxvalue`).
const MOST_VALUE: u64 = 1 << 30;

/// The most bytes of INFO that are read: some fifty times what a server with statistics of all commands sends.
const MOST_INFO: u64 = 1 << 20;

/// For replies of one line, and those that are not shown.
const MOST_LINE: u64 = 64 << 10;

/// Flags of `ping`.
#[derive(Clone, Debug, clap::Args)]
pub struct Ping {
    #[command(flatten)]
    door: Door,

    /// Fail also on a server that follows another one
    #[arg(long)]
    leader: bool,
}

/// The end of `ping --help`.
pub const PING_HELP: &str = "\
Example: post-gres-rs ping -port 4242 || echo 'not well'

Exit code 0: it serves, and its log is neither closed nor full. 1: it does not, or
its log is, and stderr says why. A server that follows another one is well too,
unless -leader is given.";

/// Asks whether a server is well. An error says why it is not.
pub fn ping(ping: &Ping, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut link = Link::open(&ping.door)?;
    match link.ask(&[b"PING"], MOST_LINE)? {
        Reply::Text(text) if text == "PONG" => {}
        other => bail!("{}: PING was answered with {}", link.address(), other.shown()),
    }
    let figures = Figures::ask(&mut link)?;
    if let Some(why) = figures.unwell() {
        bail!("{}: {why}", link.address());
    }
    let role = figures.text("role");
    ensure!(!ping.leader || role == "master", "{}: it is no leader, but a {role}", link.address());
    writeln!(out, "PONG")?;
    Ok(())
}

/// Flags of `get`.
#[derive(Clone, Debug, clap::Args)]
pub struct Get {
    #[command(flatten)]
    door: Door,

    /// The key
    #[arg(value_name = "KEY", allow_negative_numbers = true)]
    key: OsString,
}

/// The end of `get --help`.
pub const GET_HELP: &str = "\
Example: post-gres-rs get greeting

Exit code 0: the bytes of the value are on stdout, and nothing else. 1: there is no such key. 2: failed.";

/// Prints the bytes of a value. False if there is none.
pub fn get(get: &Get, out: &mut dyn Write) -> anyhow::Result<bool> {
    let mut link = Link::open(&get.door)?;
    match link.ask(&[b"GET", get.key.as_bytes()], MOST_VALUE)? {
        Reply::Bytes(bytes) => {
            out.write_all(&bytes)?;
            // On a terminal the prompt would follow in the same line.
            if io::stdout().is_terminal() {
                writeln!(out)?;
            }
            Ok(true)
        }
        Reply::Nothing => Ok(false),
        other => bail!("GET was answered with {}", other.shown()),
    }
}

/// Flags of `set`.
#[derive(Clone, Debug, clap::Args)]
pub struct Set {
    #[command(flatten)]
    door: Door,

    /// Seconds until the key expires
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    expire: Option<u64>,

    /// The key
    #[arg(value_name = "KEY", allow_negative_numbers = true)]
    key: OsString,

    /// The value; without it, or with -, the bytes of stdin
    #[arg(value_name = "VALUE", allow_negative_numbers = true)]
    value: Option<OsString>,
}

/// What `set --help` ends with.
pub const SET_HELP: &str = "\
Examples: post-gres-rs set greeting hello
          post-gres-rs set -expire 60 picture < picture.png
          post-gres-rs set -- -key '-5 degrees'

Exit code 0: it is on disk, if the server keeps anything there. 2: failed.";

/// Sets a key.
pub fn set(set: &Set, out: &mut dyn Write) -> anyhow::Result<()> {
    let value = match &set.value {
        Some(value) if value != "-" => value.as_bytes().to_vec(),
        _ => from_stdin()?,
    };
    let seconds = set.expire.map(|seconds| seconds.to_string());
    let mut words = vec![b"SET", set.key.as_bytes(), &value];
    if let Some(seconds) = &seconds {
        words.extend([&b"EX"[..], seconds.as_bytes()]);
    }
    match Link::open(&set.door)?.ask(&words, MOST_LINE)? {
        Reply::Text(text) if text == "OK" => Ok(writeln!(out, "OK")?),
        other => bail!("SET was answered with {}", other.shown()),
    }
}

fn from_stdin() -> anyhow::Result<Vec<u8>> {
    let mut value = Vec::new();
    io::stdin().lock().take(MOST_VALUE + 1).read_to_end(&mut value)?;
    ensure!(value.len() as u64 <= MOST_VALUE, "no server takes a value above {MOST_VALUE} bytes");
    Ok(value)
}

/// Flags of `del`.
#[derive(Clone, Debug, clap::Args)]
pub struct Del {
    #[command(flatten)]
    door: Door,

    /// The keys
    #[arg(value_name = "KEY", required = true, allow_negative_numbers = true)]
    keys: Vec<OsString>,
}

/// What `del --help` ends with.
pub const DEL_HELP: &str = "\
Example: post-gres-rs del a b c

Prints how many of them there were. Exit code 0: they are gone. 2: failed.";

/// Removes keys, and prints how many there were.
pub fn del(del: &Del, out: &mut dyn Write) -> anyhow::Result<()> {
    let words: Vec<&[u8]> =
        [&b"DEL"[..]].into_iter().chain(del.keys.iter().map(|key| key.as_bytes())).collect();
    match Link::open(&del.door)?.ask(&words, MOST_LINE)? {
        Reply::Number(count) => Ok(writeln!(out, "{count}")?),
        other => bail!("DEL was answered with {}", other.shown()),
    }
}

/// Flags of `stats`.
#[derive(Clone, Debug, clap::Args)]
pub struct Stats {
    #[command(flatten)]
    door: Door,

    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,

    /// Draw them on the terminal, again each second, until q
    #[cfg(feature = "stats")]
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

/// What `stats --help` ends with.
pub const STATS_HELP: &str = "\
Examples: post-gres-rs stats
          post-gres-rs stats -json | jq .commands_per_second
          post-gres-rs stats -watch

Exit code 0: done. 2: failed.";

/// Prints the main figures of a server, once or on and on.
pub fn stats(stats: &Stats, out: &mut dyn Write) -> anyhow::Result<()> {
    #[cfg(feature = "stats")]
    if stats.watch {
        return watch::run(&stats.door);
    }
    let mut link = Link::open(&stats.door)?;
    let figures = Figures::ask(&mut link)?;
    match stats.json {
        true => writeln!(out, "{}", figures.json(link.address()))?,
        false => {
            for (name, text) in figures.rows(link.address()) {
                writeln!(out, "{name:9} {text}")?;
            }
        }
    }
    Ok(())
}
