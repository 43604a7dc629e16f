//! `backup`: a consistent copy of a log, whether a server is writing it or not.
//!
//! It needs no help from the server and takes no lock. It opens all files of the log, then reads frames in
//! order, each checked against its checksums and the frame before it, and writes them to the copy, up to the
//! first place in the last segment that holds no frame. So the copy is the log as it was at one moment:
//!
//! - Everything acknowledged before the backup began is in it: it was on disk, in the files that were
//!   opened, before its reply was sent.
//! - Nothing is in it without everything before it. Each frame names the one before, and none is skipped.
//! - No batch is in it in part. A batch that the server was just writing fails its checksum, and the copy
//!   ends before it.
//!
//! A copy block by block (`cp`) promises none of that: it may hold one block read before a batch was
//! written and another read after, or files from before a rotation beside files from after it.
//!
//! The file at the copy's own path gets its name last, after all of the copy is durable (promise 4), so
//! a backup that was cut short has nothing at its path. A log with damage is not copied.
//!
//! The copy of a log in etcd is an ordinary log in files, with the same LSNs, as it was when the head was read.

use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::check::Report;
use super::copying::{Anew, Copying};
use super::json::line;
use super::progress::Progress;
use super::{Outcome, Place, Source, etcd, open};
use crate::record;
use crate::wal::disk::{Disk, SystemDisk};
use crate::wal::names::Names;
use crate::wal::place;
use crate::wal::read_only::ReadOnlyDisk;

/// What `backup --help` ends with.
pub const HELP: &str = "\
Examples: post-gres-rs backup -wal ./wal_files/wal_file /backups/monday
          post-gres-rs backup -wal etcd://HOST:2379/NAME /backups/monday
          post-gres-rs -wal /backups/monday/wal_file

Exit code 0: the copy is there, durable, and was read back. 2: refused, or failed.";

/// The name of the file in a copy of a log in etcd, which has no file.
pub const DEFAULT_NAME: &str = "wal_file";

/// Flags of `backup`.
#[derive(Clone, Debug, clap::Args)]
pub struct Backup {
    #[command(flatten)]
    pub(super) source: Source,

    /// Where the copy goes: a directory that is empty, or not there yet
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

/// Copies a log, reads the copy back, and prints what is in it.
pub fn run(backup: &Backup, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let (place, directory) = (backup.source.place()?, &backup.directory);
    let copy = match &place {
        Place::Files(names) => {
            let name = names.active().file_name().context("the log's path names no file")?;
            Names::new(&directory.join(name))
        }
        Place::Etcd(_) => Names::new(&directory.join(DEFAULT_NAME)),
    };
    match &place {
        Place::Files(names) => copy_files(names, &copy, directory)?,
        Place::Etcd(address) => copy_etcd(address, &copy)?,
    }
    tell(&copy, backup.source.json, out)
}

/// Copies a log in etcd to an ordinary log with these names, in a directory that is empty or not there yet.
pub fn copy_etcd(address: &etcd::Address, copy: &Names) -> anyhow::Result<()> {
    let directory = copy.directory();
    // Before anything is made here.
    let mut first = Some(address.open()?);
    make_empty(&SystemDisk, directory)?;
    let done = etcd::until_read(|| {
        // A try that a compaction has overtaken leaves files.
        for path in SystemDisk.list(directory)? {
            SystemDisk.remove(&path)?;
        }
        let mut log = first.take().map_or_else(|| address.open(), Ok)?;
        let mut progress = Progress::new("copying", log.amount());
        let mut anew = Anew::begin(Copying::new(&SystemDisk, copy), log.covered())?;
        let mut failed = None;
        let inspection = log.walk(&mut |batch| {
            progress.add(batch);
            failed = anew.add(batch).err();
            Ok(if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        failed.map_or(Ok(()), Err)?;
        inspection.tail?;
        anew.finish()
    });
    done.with_context(|| failed_in(directory))
}

fn copy_files(names: &Names, copy: &Names, directory: &Path) -> anyhow::Result<()> {
    let Some(log) = open(&ReadOnlyDisk, names)? else {
        anyhow::bail!("{}: is empty; there is nothing to copy", names.active().display());
    };
    make_empty(&SystemDisk, directory)?;

    let mut progress = Progress::new("copying", log.amount());
    let mut copying = Copying::new(&SystemDisk, copy);
    // A snapshot may be empty, and has to be there all the same.
    if let Some(header) = log.snapshot_header()? {
        copying.enter(&header, true)?;
    }
    let mut failed = None;
    let inspection = log.walk(&ReadOnlyDisk, &mut |batch| {
        progress.add(batch);
        record::read_batch(batch.frame.payload(), batch.records(), drop)?;
        failed = copying.add(batch).err();
        Ok(if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    drop(progress);
    let done = match (failed, inspection.tail, inspection.segments.last()) {
        (Some(error), _, _) | (None, Err(error), _) => Err(error),
        (None, Ok(_), Some(last)) => copying.finish(&last.tail.header),
        (None, Ok(_), None) => Err(anyhow::anyhow!("the log has no segment")),
    };
    done.with_context(|| failed_in(directory))
}

fn failed_in(directory: &Path) -> String {
    let shown = directory.display();
    format!("{shown}: no backup was made; remove what is in it, and try again")
}

/// Reads a copy back, and prints what is in it.
pub fn tell(copy: &Names, as_json: bool, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let report = Report::of(&ReadOnlyDisk, copy)?;
    match as_json {
        true => writeln!(out, "{}", line(&report.json()))?,
        false => {
            writeln!(out, "{}: copied, and read back", copy.active().display())?;
            report.print(out)?;
        }
    }
    anyhow::ensure!(report.outcome() == Outcome::Well, "the copy is not whole; see above");
    Ok(Outcome::Well)
}

/// Makes the directory, durably, or makes sure that there is nothing in it.
fn make_empty(disk: &dyn Disk, directory: &Path) -> anyhow::Result<()> {
    match disk.list(directory) {
        Ok(found) => anyhow::ensure!(
            found.is_empty(),
            "{}: is not empty; nothing was copied. Name a new directory",
            directory.display()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => place::create_directory(directory)?,
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
