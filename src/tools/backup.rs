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

use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::check::Report;
use super::inspect::Segment;
use super::json::line;
use super::progress::Progress;
use super::{Outcome, Place, Source, open};
use crate::record;
use crate::wal::block::{BLOCK_BYTES, BlockBuffer};
use crate::wal::chain::{Tail, closing_mark};
use crate::wal::disk::{Access, Disk, DiskFile, SystemDisk};
use crate::wal::frame::{MAGIC, SNAPSHOT_MAGIC, SegmentHeader};
use crate::wal::guard::witness::{Known, Witness};
use crate::wal::names::Names;
use crate::wal::place;
use crate::wal::read_only::ReadOnlyDisk;
use crate::wal::reader::Replayed;

/// What `backup --help` ends with.
pub const HELP: &str = "\
Example: post-gres-rs backup -wal ./wal_files/wal_file /backups/monday
         post-gres-rs -wal /backups/monday/wal_file

Exit code 0: the copy is there, durable, and was read back. 2: refused, or failed.";

/// Bytes that are written to the copy at a time: large enough to be quick.
const WRITE_BYTES: usize = 1 << 20;

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
    let names = match backup.source.place()? {
        Place::Files(names) => names,
        Place::Etcd(address) => anyhow::bail!("{}: is not copied by this version", address.text()),
    };
    let name = names.active().file_name().context("the log's path names no file")?;
    let copy = Names::new(&backup.directory.join(name));
    let Some(log) = open(&ReadOnlyDisk, &names)? else {
        anyhow::bail!("{}: is empty; there is nothing to copy", names.active().display());
    };
    make_empty(&SystemDisk, &backup.directory)?;

    let mut progress = Progress::new("copying", log.amount());
    let mut copying = Copying { disk: &SystemDisk, names: copy.clone(), file: None };
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
        (None, Ok(_), Some(last)) => copying.finish(last),
        (None, Ok(_), None) => Err(anyhow::anyhow!("the log has no segment")),
    };
    done.with_context(|| {
        format!(
            "{}: no backup was made; remove what is in it, and try again",
            backup.directory.display()
        )
    })?;

    let report = Report::of(&ReadOnlyDisk, &copy)?;
    match backup.source.json {
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

/// A copy that is being written.
struct Copying<'a> {
    disk: &'a dyn Disk,
    names: Names,
    file: Option<FileCopy>,
}

/// One file of the copy. `buffer` holds what was added and not yet written, in whole blocks.
struct FileCopy {
    /// Where the copy ends.
    tail: Tail,
    is_snapshot: bool,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    written: u64,
    buffer: BlockBuffer,
}

impl Copying<'_> {
    fn add(&mut self, batch: &Replayed<'_>) -> anyhow::Result<()> {
        let file = self.enter(batch.segment, batch.is_snapshot)?;
        file.buffer.extend_from_slice(batch.frame.bytes);
        file.end_block();
        file.tail.follow(&batch.frame.header);
        assert_eq!(file.written + file.buffer.len() as u64, file.tail.end, "the copy is the chain");
        if file.buffer.len() >= WRITE_BYTES {
            file.write()?;
        }
        Ok(())
    }

    /// The copy of the file with this header. If that is the next file, the one before it is completed first.
    fn enter(
        &mut self,
        header: &SegmentHeader,
        is_snapshot: bool,
    ) -> anyhow::Result<&mut FileCopy> {
        if self.file.as_ref().is_none_or(|file| file.tail.header.epoch != header.epoch) {
            self.end_file(false)?;
            self.file = Some(FileCopy::begin(self.disk, &self.names, header, is_snapshot)?);
        }
        self.file.as_mut().context("a file was just begun")
    }

    /// Makes a file durable, and only then gives it its name. A snapshot and the last segment end with
    /// a closing mark.
    fn end_file(&mut self, is_last: bool) -> anyhow::Result<()> {
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        if file.is_snapshot || is_last {
            file.buffer.extend_from_slice(closing_mark(&file.tail).1.as_bytes());
            file.end_block();
        }
        file.write()?;
        file.file.sync()?;
        let header = &file.tail.header;
        let name = match (file.is_snapshot, is_last) {
            (true, _) => self.names.snapshot(header.first_lsn - 1),
            (false, true) => self.names.active().to_owned(),
            (false, false) => self.names.archived(header.sequence),
        };
        if is_last {
            let known = Known { store_id: header.store_id, lsn: file.tail.next_lsn - 1 };
            Witness::open(self.disk, &self.names, known)?;
        }
        self.disk.rename(&file.path, &name)?;
        self.disk.sync_directory(self.names.directory())?;
        Ok(())
    }

    /// Ends the copy as an ordered stop would.
    fn finish(mut self, last: &Segment) -> anyhow::Result<()> {
        self.enter(&last.tail.header, false)?;
        self.end_file(true)
    }
}

impl FileCopy {
    fn begin(
        disk: &dyn Disk,
        names: &Names,
        header: &SegmentHeader,
        is_snapshot: bool,
    ) -> anyhow::Result<FileCopy> {
        let path = names.copying();
        let file = disk.create(&path, Access::Buffered)?;
        let (magic, tail) = match is_snapshot {
            true => (SNAPSHOT_MAGIC, Tail::of_snapshot(*header)),
            false => (MAGIC, Tail::of_segment(*header)),
        };
        let mut buffer = BlockBuffer::default();
        buffer.extend_from_slice(&header.encode(magic));
        Ok(FileCopy { tail, is_snapshot, path, file, written: 0, buffer })
    }

    /// Fills the current block up with zeros.
    fn end_block(&mut self) {
        let missing = self.buffer.len().next_multiple_of(BLOCK_BYTES) - self.buffer.len();
        self.buffer.extend_from_slice(&[0; BLOCK_BYTES][..missing]);
    }

    fn write(&mut self) -> anyhow::Result<()> {
        self.file.write_at(self.buffer.padded(), self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear(WRITE_BYTES);
        Ok(())
    }
}
