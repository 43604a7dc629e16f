//! `import`: brings a log into etcd, or out of it.
//!
//! Into etcd it goes as a snapshot of the keys that the log leaves, under a name that has no log yet; how that keeps apart
//! from other imports and from servers is in [`crate::replicated`]. Values that a log in etcd cannot hold are refused
//! before anything is written. Out of etcd it is what `backup` does.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

use super::backup::{DEFAULT_NAME, copy_etcd, tell};
use super::check::Report;
use super::contents::Contents;
use super::inspect::{Inspection, Visit};
use super::json::line;
use super::progress::Amount;
use super::{Outcome, Place, etcd, open, place, refuse_if_in_use};
use crate::command::Order;
use crate::entry::Entry;
use crate::quote;
use crate::record::New;
use crate::replicated::{LONGEST_RECORD, LONGEST_VALUE};
use crate::wal::names::Names;
use crate::wal::read_only::ReadOnlyDisk;

/// What `import --help` ends with.
pub const HELP: &str = "\
Examples: post-gres-rs import ./wal_files/wal_file etcd://HOST:2379,HOST:2379,HOST:2379/NAME
          post-gres-rs import etcd://HOST:2379/NAME ./wal_files

Exit code 0: the target has all of it, and was read back. 2: refused, or failed.";

/// Flags of `import`.
#[derive(Clone, Debug, clap::Args)]
pub struct Import {
    /// The log: its path, its directory, or etcd://HOST:PORT,HOST:PORT,HOST:PORT/NAME. No server may use it, if it is in
    /// files
    #[arg(value_name = "SOURCE")]
    source: PathBuf,

    /// Where it goes: etcd://HOST:PORT,HOST:PORT,HOST:PORT/NAME, a name that has no log; or, from etcd, a directory
    /// that is empty or not there yet
    #[arg(value_name = "TARGET")]
    target: PathBuf,

    #[command(flatten)]
    credentials: etcd::Credentials,

    /// Print JSON, for scripts
    #[arg(long)]
    pub(super) json: bool,
}

/// Brings a log from one place to another, and prints what is there then.
pub fn run(import: &Import, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let credentials = &import.credentials;
    let target = etcd::Address::of(&import.target, credentials)?;
    let source = match import.source.is_dir() {
        true => import.source.join(DEFAULT_NAME),
        false => import.source.clone(),
    };
    let source = match etcd::Address::of(&source, credentials)? {
        Some(address) => Place::Etcd(address),
        None => place(&source, &Default::default())?,
    };
    match (source, target) {
        (Place::Etcd(source), None) => {
            let copy = Names::new(&import.target.join(DEFAULT_NAME));
            copy_etcd(&source, &copy)?;
            tell(&copy, import.json, out)
        }
        (Place::Files(_), None) => bail!(
            "{}: import brings a log into etcd or out of it; backup copies one in files",
            import.target.display()
        ),
        (source, Some(target)) => into_etcd(&source, &target, import.json, out),
    }
}

fn into_etcd(
    source: &Place,
    target: &etcd::Address,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let (contents, lsn) = match source {
        Place::Files(names) => of_files(names)?,
        Place::Etcd(address) => etcd::until_read(|| {
            let mut log = address.open()?;
            gather(log.amount(), |visit| log.walk(visit))
        })?,
    };
    refuse_what_is_too_long(&contents)?;
    write(&contents, lsn, target)?;
    let report = etcd::until_read(|| Report::of_etcd(target))?;
    match as_json {
        true => writeln!(out, "{}", line(&report.json()))?,
        false => {
            writeln!(out, "{}: imported, and read back", target.text())?;
            report.print(out)?;
        }
    }
    ensure!(report.outcome() == Outcome::Well, "the log in etcd is not whole; see above");
    Ok(Outcome::Well)
}

/// What is in a log, and its last LSN.
type Gathered = (Contents<Box<Entry>>, u64);

fn of_files(names: &Names) -> anyhow::Result<Gathered> {
    refuse_if_in_use(names)?;
    let Some(log) = open(&ReadOnlyDisk, names)? else {
        bail!("{}: is empty; there is nothing to import", names.active().display());
    };
    let gathered = gather(log.amount(), |visit| Ok(log.walk(&ReadOnlyDisk, visit)))?;
    // One that was started meanwhile would go on writing here.
    refuse_if_in_use(names)?;
    Ok(gathered)
}

fn gather(
    amount: Amount,
    walk: impl FnOnce(&mut Visit<'_>) -> anyhow::Result<Inspection>,
) -> anyhow::Result<Gathered> {
    let (contents, inspection) = Contents::read(amount, walk)?;
    let lsn = inspection.last_lsn();
    inspection.tail.context("nothing was imported")?;
    Ok((contents, lsn))
}

/// Refuses values that no server with a log in etcd would take.
fn refuse_what_is_too_long(contents: &Contents<Box<Entry>>) -> anyhow::Result<()> {
    let is_too_long = |entry: &&Entry| {
        let (key, value) = (entry.key().len() as u64, entry.value().len() as u64);
        value > LONGEST_VALUE || key + value > LONGEST_RECORD
    };
    let all = contents.all().map(|(_, entry)| &**entry);
    let mut too_long: Vec<&Entry> = all.filter(is_too_long).collect();
    too_long.sort_unstable_by_key(|entry| entry.key());
    let Some(entry) = too_long.first() else { return Ok(()) };
    let key = entry.key();
    let mut shown = Vec::new();
    quote::print(&key[..key.len().min(SHOWN_BYTES)], &mut shown);
    bail!(
        "{} values are too long for a log in etcd, the first of them {} with {} bytes (its key has {}): a value may have \
         {LONGEST_VALUE}, with its key {LONGEST_RECORD}. Nothing was written",
        too_long.len(),
        String::from_utf8_lossy(&shown),
        entry.value().len(),
        key.len()
    )
}

/// Bytes of a key that are shown.
const SHOWN_BYTES: usize = 200;

fn write(contents: &Contents<Box<Entry>>, lsn: u64, target: &etcd::Address) -> anyhow::Result<()> {
    let mut import = target.import(lsn)?;
    let mut push_all = || {
        if contents.order != Order::default() {
            import.push(New::Order(&contents.order))?;
        }
        for (space, keys) in &contents.spaces {
            for entry in keys.values() {
                import.push(New::Entry(*space, entry))?;
            }
        }
        import.finish()
    };
    let Err(error) = push_all() else { return Ok(()) };
    let left = match import.give_up() {
        Ok(()) => "nothing is left of it in etcd",
        Err(_) => {
            "its pieces cannot be deleted now; no server serves them, and another import replaces them"
        }
    };
    Err(error.context(format!("{}: not imported; {left}", target.text())))
}
