//! Tools for a log, apart from any server: check it, dump it, repair it, copy it, bring it into etcd. And the small client.
//!
//! None of them needs a server's help, and only `repair --yes` changes a log, and only `restore` makes one, under the server's lock.
//! They print to stdout, and to stderr what went wrong. They read a log in files by [`inspect`], and what is damaged
//! by [`salvage`]; one in etcd by [`etcd`], which hands on the same batches.
//!
//! | tool | exit code 0 | 1 | 2 |
//! |------|-------------|---|---|
//! | `check` | a start would serve all of it | a start would cut a torn batch | damaged, or cannot be read |
//! | `dump` | all was printed | all but the gaps was | printed up to the damage, or cannot be read |
//! | `repair` | nothing to do, or done | there is something to do, and no `--yes` | refused, or failed |
//! | `backup` | the copy is there, and was read back | – | refused, or failed |
//! | `restore` | the log is there, and was read back | – | refused, or failed |
//! | `import` | the target has all of it, and was read back | – | refused, or failed |
//!
//! Those that ask a running server are in [`crate::remote`].

mod as_commands;
pub mod backup;
mod bases;
pub mod check;
mod contents;
mod copying;
pub mod cut_back;
pub mod dump;
#[cfg_attr(not(feature = "replicated"), path = "no_etcd.rs")]
pub mod etcd;
pub mod import;
pub mod inspect;
pub mod json;
mod kept;
mod progress;
pub mod repair;
pub mod restore;
pub mod salvage;
mod stream;
#[cfg(feature = "replicated")]
pub mod transfer;

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::remote;
use crate::wal::names::Names;
use crate::wal::read_only::user;
use crate::wal::{self, disk::Disk};
use inspect::{Found, Log};

/// How a tool ends; the number is its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Well = 0,
    /// There is something that a start would cut, or that `repair` would do; no key, or a server that is not well.
    ToDo = 1,
    /// Damage, or something that cannot be read or done.
    Bad = 2,
}

/// A tool and what it is to do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Tool {
    /// Says what a start would find in the log; changes nothing
    #[command(after_help = check::HELP)]
    Check(check::Check),
    /// Prints every record of the log; changes nothing
    #[command(after_help = dump::HELP)]
    Dump(dump::Dump),
    /// Cuts what a start would refuse, or takes the log back to an earlier record
    #[command(after_help = repair::HELP)]
    Repair(repair::Repair),
    /// Copies the log of a server, running or not, to another directory
    #[command(after_help = backup::HELP)]
    Backup(backup::Backup),
    /// Puts a backup where a server finds its log
    #[command(after_help = restore::HELP)]
    Restore(restore::Restore),
    /// Brings a log into etcd, under a name that has none, or out of it
    #[cfg(feature = "replicated")]
    #[command(after_help = transfer::HELP)]
    Import(transfer::Import),
    /// Asks a running server whether it is well
    #[command(after_help = remote::PING_HELP)]
    Ping(remote::Ping),
    /// Prints the value of a key of a running server
    #[command(after_help = remote::GET_HELP)]
    Get(remote::Get),
    /// Sets a key of a running server
    #[command(after_help = remote::SET_HELP)]
    Set(remote::Set),
    /// Removes keys of a running server
    #[command(after_help = remote::DEL_HELP)]
    Del(remote::Del),
    /// Prints the main figures of a running server
    #[command(after_help = remote::STATS_HELP)]
    Stats(remote::Stats),
}

/// Which log, and in what form to print it.
#[derive(Clone, Debug, clap::Args)]
pub struct Source {
    /// Path of the log; its other files are beside it. Or a log in etcd: etcd://HOST:PORT,HOST:PORT,HOST:PORT/NAME
    #[arg(long, default_value = wal::DEFAULT_PATH, value_name = "PATH")]
    wal: PathBuf,

    #[command(flatten)]
    credentials: etcd::Credentials,

    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// Where a log is.
enum Place {
    /// In files of these names.
    Files(Names),
    /// In an etcd cluster.
    Etcd(etcd::Address),
}

impl Source {
    /// Where the log is; symbolic links are followed.
    fn place(&self) -> anyhow::Result<Place> {
        place(&self.wal, &self.credentials)
    }
}

fn place(path: &Path, credentials: &etcd::Credentials) -> anyhow::Result<Place> {
    if let Some(address) = etcd::Address::of(path, credentials)? {
        return Ok(Place::Etcd(address));
    }
    credentials.refuse()?;
    Ok(Place::Files(Names::new(&wal::place::resolve(path)?)))
}

/// Runs a tool.
pub fn run(tool: &Tool) -> ExitCode {
    let done = |()| Outcome::Well;
    let found = |found| if found { Outcome::Well } else { Outcome::ToDo };
    let mut out = BufWriter::new(io::stdout().lock());
    let (name, json, result) = match tool {
        Tool::Check(check) => ("check", check.source.json, check::run(check, &mut out)),
        Tool::Dump(dump) => ("dump", dump.source.json, dump::run(dump, &mut out)),
        Tool::Repair(repair) => ("repair", repair.source.json, repair::run(repair, &mut out)),
        Tool::Backup(backup) => ("backup", backup.source.json, backup::run(backup, &mut out)),
        Tool::Restore(restore) => ("restore", restore.json, restore::run(restore, &mut out)),
        #[cfg(feature = "replicated")]
        Tool::Import(import) => ("import", import.json, transfer::run(import, &mut out)),
        Tool::Ping(ping) => ("ping", false, remote::ping(ping, &mut out).map(done)),
        Tool::Get(get) => ("get", false, remote::get(get, &mut out).map(found)),
        Tool::Set(set) => ("set", false, remote::set(set, &mut out).map(done)),
        Tool::Del(del) => ("del", false, remote::del(del, &mut out).map(done)),
        Tool::Stats(stats) => ("stats", stats.json, remote::stats(stats, &mut out).map(done)),
    };
    let result = result.and_then(|outcome| {
        out.flush()?;
        Ok(outcome)
    });
    let outcome = match result {
        Ok(outcome) => outcome,
        // The program that reads the output has closed it, such as `head`.
        Err(error) if is_closed_pipe(&error) => Outcome::Well,
        Err(error) => {
            if json {
                let line = json::line(&serde_json::json!({"error": format!("{error:#}")}));
                // If stdout is gone, the message below must do.
                let _ = writeln!(out, "{line}").and_then(|()| out.flush());
            }
            eprintln!("post-gres-rs {name}: {error:#}");
            // For a health check, a server that is not well is an answer.
            if matches!(tool, Tool::Ping(_)) { Outcome::ToDo } else { Outcome::Bad }
        }
    };
    ExitCode::from(outcome as u8)
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// The log itself; an error if there is none. `None` if it is empty.
fn open(disk: &dyn Disk, names: &Names) -> anyhow::Result<Option<Log>> {
    let shown = names.active().display();
    match Log::open(disk, names)? {
        Found::Log(log) => Ok(Some(*log)),
        Found::Empty => Ok(None),
        Found::Nothing => anyhow::bail!("{shown}: there is no log; name another with -wal"),
        Found::Foreign => anyhow::bail!(
            "{shown}: damaged at offset 0, or not a log of this program. If the seed's program wrote it, \
             a start imports it"
        ),
    }
}

/// Refuses a log that a server is using.
fn refuse_if_in_use(names: &Names) -> anyhow::Result<()> {
    if let Some(process) = user(names)? {
        anyhow::bail!(
            "{}: the log is in use by process {process}; stop it first, or look at a backup",
            names.active().display()
        );
    }
    Ok(())
}

/// A file's name without its directory.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
