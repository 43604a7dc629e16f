//! Reads what can be read of a log that is damaged, or of a file that was cut from one, and names each gap.
//!
//! It is for a user who has lost something, and decides nothing: no start and no repair relies on it. Every
//! batch that it hands on has the checksums of its segment (see [`crate::wal::frame`]), so nothing is made up; but
//! what came before it may be missing. After a place that holds no frame it looks, block by block, for the
//! next frame of the same epoch.
//!
//! A segment's epoch is in its header, which may be damaged, and in no frame. So several are tried: the one in
//! the header, valid or not, then those that the headers of all files give for themselves and for the segment
//! before them. A file of bytes that were cut has no header at all: its epoch is found in the files beside it.

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::wal::block::BLOCK_BYTES;
use crate::wal::disk::{Access, Disk, DiskFile};
use crate::wal::files;
use crate::wal::frame::{FIRST_FRAME, Kind, MAGIC, NotAFrame, SNAPSHOT_MAGIC, SegmentHeader};
use crate::wal::guard::witness;
use crate::wal::names::{Names, is_listed};
use crate::wal::reader::{Reader, Replayed};

/// A piece of what is read, in order.
pub enum Piece<'a> {
    /// A whole batch.
    Batch(&'a Replayed<'a>),
    /// A place without a whole batch, in words.
    Gap(&'a dyn fmt::Display),
}

/// Takes the pieces. An error means that a batch does not hold valid records: then it is a gap, too.
pub type Take<'a> = dyn FnMut(Piece<'_>) -> anyhow::Result<ControlFlow<()>> + 'a;

/// A place where something is missing.
#[derive(Clone, Debug)]
pub struct Gap {
    /// The file.
    pub path: PathBuf,
    /// Offset at which the gap begins.
    pub from: u64,
    /// Offset at which it ends; the same if the bytes are missing altogether.
    pub to: u64,
    /// The first record that is missing, and the last one; `None` if that is not known.
    pub lsns: (Option<u64>, Option<u64>),
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gap { path, from, to, lsns, what } = self;
        write!(f, "{}: offset {from} to {to}, ", path.display())?;
        match *lsns {
            (Some(first), Some(last)) if last < first => write!(f, "no record is missing")?,
            (Some(first), Some(last)) => write!(f, "LSN {first} to {last}")?,
            (Some(first), None) => write!(f, "LSN {first} and later")?,
            (None, _) => write!(f, "LSN unknown")?,
        }
        write!(f, ": {what}")
    }
}

/// How far the reading has come.
struct Salvage<'a, 'b> {
    take: &'a mut Take<'b>,
    /// The record that has to come next, if that is known.
    next: Option<u64>,
    stopped: bool,
}

/// Reads all files of a log.
pub fn read_log(disk: &dyn Disk, names: &Names, take: &mut Take<'_>) -> anyhow::Result<()> {
    let known = witness::read(disk, names)?;
    let paths = paths(disk, names)?;
    anyhow::ensure!(!paths.is_empty(), "{}: there is no log", names.active().display());
    let epochs = epochs(disk, &paths)?;
    let mut salvage = Salvage { take, next: None, stopped: false };
    for path in &paths {
        if !salvage.stopped {
            salvage.file(disk, path, &epochs)?;
        }
    }
    let missing = known.filter(|known| salvage.next.is_some_and(|next| next <= known.lsn));
    if let Some(known) = missing.filter(|_| !salvage.stopped) {
        salvage.gap(names.active(), (0, 0), Some(known.lsn), "this was on disk, and is gone")?;
    }
    Ok(())
}

/// Reads one file: a segment, a snapshot, or what was cut off one.
pub fn read_file(disk: &dyn Disk, path: &Path, take: &mut Take<'_>) -> anyhow::Result<()> {
    let directory = Names::new(path).directory().to_owned();
    let beside = disk.list(&directory)?;
    let epochs = epochs(disk, &beside)?;
    Salvage { take, next: None, stopped: false }.file(disk, path, &epochs)
}

/// The files of a log by name alone, in the order in which they are read.
fn paths(disk: &dyn Disk, names: &Names) -> anyhow::Result<Vec<PathBuf>> {
    let found = disk.list(names.directory())?;
    let snapshot = found.iter().filter_map(|path| names.snapshot_of(path)).max();
    let snapshot = snapshot.map(|lsn| names.snapshot(lsn));
    let mut from = 0;
    if let Some(path) = &snapshot {
        let block = files::first_block(disk, path)?;
        from = SegmentHeader::decode(SNAPSHOT_MAGIC, &block).map_or(0, |header| header.sequence);
    }
    let mut full: Vec<u64> = found.iter().filter_map(|path| names.sequence_of(path)).collect();
    full.retain(|&sequence| sequence >= from);
    full.sort_unstable();
    let last = [names.active().to_owned(), names.next()];
    let last = last.into_iter().find(|name| is_listed(&found, name));
    Ok(snapshot
        .into_iter()
        .chain(full.into_iter().map(|n| names.archived(n)))
        .chain(last)
        .collect())
}

/// Every epoch that the headers of these files name.
fn epochs(disk: &dyn Disk, paths: &[PathBuf]) -> anyhow::Result<Vec<u64>> {
    let mut epochs = Vec::new();
    for path in paths {
        // What cannot be opened names none.
        let Ok(file) = disk.open(path, Access::Direct) else { continue };
        let block = Reader::new(&*file, 0)?.bytes(0, BLOCK_BYTES)?.to_vec();
        let header = [MAGIC, SNAPSHOT_MAGIC].map(|magic| SegmentHeader::decode(magic, &block));
        for header in header.into_iter().flatten() {
            epochs.extend([header.epoch, header.previous_epoch]);
        }
    }
    Ok(epochs)
}

impl Salvage<'_, '_> {
    fn file(&mut self, disk: &dyn Disk, path: &Path, epochs: &[u64]) -> anyhow::Result<()> {
        let file = disk.open(path, Access::Direct)?;
        let block = Reader::new(&*file, 0)?.bytes(0, BLOCK_BYTES)?.to_vec();
        let is_cut = path.extension().is_some_and(|suffix| suffix == "torn" || suffix == "cut");
        if let Ok(header) = SegmentHeader::decode(SNAPSHOT_MAGIC, &block) {
            // Its records are counted from 1, and replace everything up to its LSN.
            self.next = Some(1);
            self.frames(path, &*file, &header, (FIRST_FRAME, true))?;
            self.next = Some(header.first_lsn);
            return Ok(());
        }
        if let Ok(header) = SegmentHeader::decode(MAGIC, &block) {
            self.next = self.next.or(Some(header.first_lsn));
            return self.frames(path, &*file, &header, (FIRST_FRAME, false));
        }
        let is_snapshot = path.extension().is_some_and(|suffix| suffix == "snapshot");
        let said = SegmentHeader::unchecked(&block);
        let said_epoch = said.as_ref().map(|header| header.epoch);
        let (begin, what) = match is_cut {
            true => (
                0,
                "no epoch that is known here has a frame in it; put it beside the log it was cut from",
            ),
            false => (FIRST_FRAME, "the header is wrong, and no frame is found without its epoch"),
        };
        for epoch in said_epoch.into_iter().chain(epochs.iter().copied()) {
            if has_frame(&*file, epoch, begin)? {
                if !is_cut {
                    self.gap(
                        path,
                        (0, FIRST_FRAME),
                        self.next.map(|next| next - 1),
                        "the header is wrong",
                    )?;
                }
                // Only what the frames say is believed.
                let blank = SegmentHeader::unchecked(&[0; BLOCK_BYTES]);
                if let Some(header) = said.or(blank) {
                    let header = SegmentHeader { epoch, ..header };
                    self.next = if is_snapshot { Some(1) } else { self.next };
                    self.frames(path, &*file, &header, (begin, is_snapshot))?;
                    self.next = if is_snapshot { None } else { self.next };
                }
                return Ok(());
            }
        }
        self.gap(path, (0, file.len()?), None, what)
    }

    /// Hands on the frames of one file.
    fn frames(
        &mut self,
        path: &Path,
        file: &dyn DiskFile,
        segment: &SegmentHeader,
        (begin, is_snapshot): (u64, bool),
    ) -> anyhow::Result<()> {
        let mut reader = Reader::new(file, segment.epoch)?;
        let mut at = begin;
        let mut lost_from = None;
        while at < reader.file_bytes() && !self.stopped {
            let fits = |first_lsn: u64| self.next.is_none_or(|next| first_lsn >= next);
            let frame = match reader.frame_at(at)? {
                Ok(frame) if fits(frame.header.first_lsn) => frame,
                Ok(_) | Err(_) => {
                    lost_from.get_or_insert(at);
                    match reader.header_after(at)? {
                        Some((offset, _)) => at = offset,
                        None => break,
                    }
                    continue;
                }
            };
            let (header, first_lsn) = (frame.header, frame.header.first_lsn);
            let from = lost_from.take();
            if from.is_some() || self.next.is_some_and(|next| next < first_lsn) {
                let what = "no batch here is as it was written";
                self.gap(path, (from.unwrap_or(at), at), Some(first_lsn - 1), what)?;
            }
            self.next = Some(first_lsn);
            let offset = at;
            at += header.frame_bytes();
            if header.kind != Kind::Batch {
                continue;
            }
            let batch = Replayed { is_snapshot, path, segment, offset, frame };
            match (self.take)(Piece::Batch(&batch)) {
                Ok(flow) => {
                    self.stopped = flow.is_break();
                    self.next = Some(first_lsn + u64::from(header.records));
                }
                Err(_) => lost_from = Some(offset),
            }
        }
        if self.stopped {
            return Ok(());
        }
        let from = lost_from.unwrap_or(at);
        let end = reader.content_end(from)?;
        if end > from {
            self.gap(path, (from, end), None, "no batch here is as it was written")?;
        }
        Ok(())
    }

    fn gap(
        &mut self,
        path: &Path,
        (from, to): (u64, u64),
        last: Option<u64>,
        what: &'static str,
    ) -> anyhow::Result<()> {
        let gap = Gap { path: path.to_owned(), from, to, lsns: (self.next, last), what };
        self.stopped |= (self.take)(Piece::Gap(&gap))?.is_break();
        Ok(())
    }
}

fn has_frame(file: &dyn DiskFile, epoch: u64, begin: u64) -> anyhow::Result<bool> {
    let mut reader = Reader::new(file, epoch)?;
    let begins_with_one = !matches!(reader.frame_at(begin)?, Err(NotAFrame::NoHeader));
    Ok(begins_with_one || reader.header_after(begin)?.is_some())
}
