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
//! A copy also goes to stdout, see `stream`, and into a directory of many, see `kept`.
//!
//! The copy of a log in etcd is an ordinary log in files, with the same LSNs, as it was when the head was read.

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::check::Report;
use super::copying::{Anew, Copying};
use super::inspect::Log;
use super::json::line;
use super::kept::Kept;
use super::progress::Progress;
use super::stream::Outflow;
use super::{Outcome, Place, Source, etcd, open};
use crate::record;
use crate::wal::disk::{Disk, SystemDisk};
use crate::wal::frame::SegmentHeader;
use crate::wal::names::Names;
use crate::wal::place;
use crate::wal::read_only::ReadOnlyDisk;

/// What `backup --help` ends with.
pub const HELP: &str = "\
Examples: post-gres-rs backup -wal ./wal_files/wal_file /backups/monday
          post-gres-rs backup -wal etcd://HOST:2379/NAME /backups/monday
          post-gres-rs backup -keep 7 /backups
          post-gres-rs backup - | ssh HOST 'cat > monday.tar'
          post-gres-rs restore /backups/monday

Exit code 0: the copy is there, durable, and was read back; or all of it went to stdout. 2: refused, or failed.";

/// The name of the file in a copy of a log in etcd, which has no file.
pub const DEFAULT_NAME: &str = "wal_file";

/// Flags of `backup`.
#[derive(Clone, Debug, clap::Args)]
pub struct Backup {
    #[command(flatten)]
    pub(super) source: Source,

    /// Where the copy goes: a directory that is empty, or not there yet. Or -: a tar archive to stdout, for restore
    #[arg(value_name = "DIRECTORY|-")]
    directory: PathBuf,

    /// Make the copy in a new directory within DIRECTORY, named by the time, and then remove the oldest of this log that
    /// were made so, until N are left
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    keep: Option<u64>,
}

/// Copies a log, reads the copy back, and prints what is in it.
pub fn run(backup: &Backup, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let place = backup.source.place()?;
    match (backup.directory == Path::new("-"), backup.keep) {
        (true, None) => to_stdout(&place),
        (true, Some(_)) => anyhow::bail!("-keep is for backups in a directory"),
        (false, None) => to_directory(&place, &backup.directory, backup.source.json, out),
        (false, Some(keep)) => {
            let name = name_of(&place)?;
            let all = Kept::open(&backup.directory, &name)?;
            let partial = all.begin()?;
            let copied = copy_to(&place, &partial).and_then(|copy| read_back(&copy, out));
            let (report, directory) = all.end(&partial, copied, keep)?;
            tell_of(report, &directory.join(name), backup.source.json, out)
        }
    }
}

/// The name of a copy's own file.
fn name_of(place: &Place) -> anyhow::Result<OsString> {
    match place {
        Place::Files(names) => {
            let name = names.active().file_name().context("the log's path names no file")?;
            Ok(name.to_owned())
        }
        Place::Etcd(_) => Ok(DEFAULT_NAME.into()),
    }
}

fn to_directory(
    place: &Place,
    directory: &Path,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    tell(&copy_to(place, directory)?, as_json, out)
}

/// Copies a log into a directory, and returns the names of the copy.
fn copy_to(place: &Place, directory: &Path) -> anyhow::Result<Names> {
    let copy = Names::new(&directory.join(name_of(place)?));
    match place {
        Place::Files(names) => copy_files(names, &copy, directory)?,
        Place::Etcd(address) => copy_etcd(address, &copy)?,
    }
    Ok(copy)
}

/// Sends a copy to stdout. What is told goes to stderr.
fn to_stdout(place: &Place) -> anyhow::Result<Outcome> {
    let Place::Files(names) = place else {
        anyhow::bail!("a log in etcd is copied to a directory, not to stdout");
    };
    let stdout = io::stdout();
    anyhow::ensure!(!stdout.is_terminal(), "stdout is a terminal; send the backup to a file");
    let stdout = stdout.as_fd().try_clone_to_owned().context("cannot write to stdout")?;
    let log = open_filled(names)?;
    let copy = Names::new(Path::new(DEFAULT_NAME));
    let counting = Outflow::counting();
    let end = copy_up_to(&log, Copying::new(&counting, &copy), "counting", None)?;
    let sending = Outflow::sending(Box::new(Descriptor(stdout)), counting.files());
    copy_up_to(&log, Copying::new(&sending, &copy), "sending", Some(end))
        .and_then(|_| sending.finish())
        // Its text alone: that the reader has gone is no failure of other tools, and is one here.
        .map_err(|error| {
            anyhow::anyhow!("the backup is not complete, and restore will refuse it: {error:#}")
        })?;
    eprintln!("post-gres-rs backup: all up to LSN {} was sent", end.0);
    Ok(Outcome::Well)
}

/// Writes past the buffer of stdout, which looks for the ends of lines.
struct Descriptor(OwnedFd);

impl Write for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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

/// Copies a log in files to another with these names, in a directory that is empty or not there yet.
pub fn copy_files(names: &Names, copy: &Names, directory: &Path) -> anyhow::Result<()> {
    let log = open_filled(names)?;
    make_empty(&SystemDisk, directory)?;
    let done = copy_up_to(&log, Copying::new(&SystemDisk, copy), "copying", None);
    done.map(drop).with_context(|| failed_in(directory))
}

fn open_filled(names: &Names) -> anyhow::Result<Box<Log>> {
    match open(&ReadOnlyDisk, names)? {
        Some(log) => Ok(Box::new(log)),
        None => {
            anyhow::bail!("{}: is empty; there is nothing to copy", names.active().display())
        }
    }
}

/// Where a copy ends: after this LSN, in the segment with this header.
type End = (u64, SegmentHeader);

/// Copies an open log up to its end, or up to where an earlier copy of it ended.
fn copy_up_to(
    log: &Log,
    mut copying: Copying<'_>,
    what: &'static str,
    end: Option<End>,
) -> anyhow::Result<End> {
    let mut progress = Progress::new(what, log.amount());
    // A snapshot may be empty, and has to be there all the same.
    if let Some(header) = log.snapshot_header()? {
        copying.enter(&header, true)?;
    }
    let mut failed = None;
    let inspection = log.walk(&ReadOnlyDisk, &mut |batch| {
        if !batch.is_snapshot && end.is_some_and(|(lsn, _)| batch.first_lsn() > lsn) {
            return Ok(ControlFlow::Break(()));
        }
        progress.add(batch);
        record::read_batch(batch.frame.payload(), batch.records(), drop)?;
        failed = copying.add(batch).err();
        Ok(if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    drop(progress);
    let last = inspection.segments.last().map(|last| last.tail.header);
    let reached = end.or(last.map(|last| (inspection.last_lsn(), last)));
    match (failed, inspection.tail, reached) {
        (Some(error), _, _) | (None, Err(error), _) => Err(error),
        (None, Ok(_), Some((lsn, last))) => {
            copying.finish(&last)?;
            Ok((lsn, last))
        }
        (None, Ok(_), None) => Err(anyhow::anyhow!("the log has no segment")),
    }
}

fn failed_in(directory: &Path) -> String {
    let shown = directory.display();
    format!("{shown}: no backup was made; remove what is in it, and try again")
}

/// Reads a copy back, and prints what is in it.
pub fn tell(copy: &Names, as_json: bool, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let report = read_back(copy, out)?;
    tell_of(report, copy.active(), as_json, out)
}

/// Reads a copy back. If it is not whole, prints why.
fn read_back(copy: &Names, out: &mut dyn Write) -> anyhow::Result<Report> {
    let report = Report::of(&ReadOnlyDisk, copy)?;
    if report.outcome() != Outcome::Well {
        report.print(out)?;
        anyhow::bail!("the copy is not whole; see above");
    }
    Ok(report)
}

fn tell_of(
    report: Report,
    path: &Path,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let head = format!("{}: copied, and read back", path.display());
    print(&report.named(path), &head, as_json, out)?;
    Ok(Outcome::Well)
}

/// Prints what is in a copy.
pub fn print(
    report: &Report,
    head: &str,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match as_json {
        true => writeln!(out, "{}", line(&report.json()))?,
        false => {
            writeln!(out, "{head}")?;
            report.print(out)?;
        }
    }
    Ok(())
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
