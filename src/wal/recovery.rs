//! What a start does with the files that [`super::files`] has found: sync them, read them in order,
//! and hand every batch on.
//!
//! Only the last segment may end torn, which [`super::torn`] decides. Every other end is checked by
//! the header of the next segment, which names the last batch before it.
//!
//! Every step may be interrupted and done again. Nothing is changed before all of it has been read.
//! Then [`super::torn`] cuts a torn end, which needs no new space to succeed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::chain::Tail;
use super::damage::Damage;
use super::disk::{Access, Disk, DiskFile};
use super::files::Existing;
use super::frame::{FIRST_FRAME, SegmentHeader};
use super::guard::witness::{self, Known};
use super::names::Names;
use super::reader::{Reader, Replay, Replayed, Source, read_batches, read_header};
use super::snapshot;
use super::torn::{self, End, Torn};

/// Time between two messages about the progress of a replay.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What a start found in the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Segments read.
    pub segments: usize,
    /// Batches read.
    pub batches: u64,
    /// Records read.
    pub records: u64,
    /// Bytes of the snapshot before them.
    pub snapshot_bytes: u64,
    /// Bytes read of the segments.
    pub bytes: u64,
    /// Whether the last server stopped in order. A fresh log counts as closed.
    pub closed: bool,
    /// Bytes of a torn batch that were cut.
    pub cut_bytes: u64,
}

/// How the files of a log end.
pub struct Recovered {
    /// The end of the last segment.
    pub end: End,
    /// What has to be cut.
    pub torn: Option<Torn>,
    /// What was read.
    pub summary: Summary,
}

/// Reads the snapshot, if there is one, then all segments, and hands their batches on. Changes
/// nothing.
pub fn read(
    disk: &Arc<dyn Disk>,
    names: &Names,
    files: &Existing,
    replay: &mut dyn Replay,
) -> anyhow::Result<Recovered> {
    // What was written but never synced is in the page cache only. It must not be served and then
    // be gone after a power cut, so it is made durable before anything is believed.
    // One file after the other: a log may have more of them than a process may open.
    let mut bytes = 0;
    for path in files.snapshot.iter().chain(&files.segments) {
        let file = disk.open(path, Access::Direct)?;
        file.sync()?;
        bytes += file.len()?;
    }
    disk.sync_directory(names.directory())?;

    let mut log = LogReader::new(bytes, witness::read(&**disk, names)?);
    if let Some(path) = &files.snapshot {
        log.read_snapshot(path, &*disk.open(path, Access::Direct)?, replay)?;
    }
    for (index, path) in files.segments.iter().enumerate() {
        let file = disk.open(path, Access::Direct)?;
        log.read_segment(path, &*file, index + 1 == files.segments.len(), replay)?;
    }
    replay.end()?;
    log.recovered.context("a log has at least one segment")
}

/// Reads segments one after the other and checks each against the one before.
pub struct LogReader {
    /// How far the log was durable, as the note beside it says.
    known: Option<Known>,
    /// How the log ends, as far as it has been read.
    pub recovered: Option<Recovered>,
    /// The file whose end `recovered` describes.
    path: PathBuf,
    progress: Progress,
}

impl LogReader {
    /// A reader for files of `bytes` in all.
    pub fn new(bytes: u64, known: Option<Known>) -> LogReader {
        let progress = Progress::new(bytes);
        LogReader { known, recovered: None, path: PathBuf::new(), progress }
    }

    /// Reads a snapshot: afterwards it is as if all segments that the snapshot covers had been
    /// read.
    pub fn read_snapshot(
        &mut self,
        path: &Path,
        file: &dyn DiskFile,
        replay: &mut dyn Replay,
    ) -> anyhow::Result<()> {
        let progress = &mut self.progress;
        let mut bytes = FIRST_FRAME;
        let mut summary = Summary::default();
        let found = snapshot::read(path, file, &mut |batch: Replayed<'_>| {
            let frame = batch.frame.header;
            replay.batch(batch)?;
            summary.batches += 1;
            bytes += frame.frame_bytes();
            progress.report(bytes, frame.first_lsn);
            Ok(())
        })?;
        (summary.records, summary.snapshot_bytes) = (found.records(), found.bytes);
        let tail = Tail { end: found.bytes, ..Tail::before(&found.tail.header) };
        let end = End { tail, file_bytes: found.bytes, mark: None };
        self.recovered = Some(Recovered { end, torn: None, summary });
        self.path = path.to_owned();
        Ok(())
    }

    /// Reads the segment that has to follow. After an error nothing more can be read.
    pub fn read_segment(
        &mut self,
        path: &Path,
        file: &dyn DiskFile,
        is_last: bool,
        replay: &mut dyn Replay,
    ) -> anyhow::Result<()> {
        let header = self.header(path, file)?;
        let before = self.recovered.take();
        let mut summary = before.map_or_else(Summary::default, |before| before.summary);
        summary.segments += 1;
        summary.bytes += FIRST_FRAME;
        let (mut tail, mut file_bytes) = (Tail::of_segment(header), header.file_bytes);
        let mut reader = Reader::new(file, header.epoch)?;
        let progress = &mut self.progress;
        let mut take = |batch: Replayed<'_>| {
            let frame = batch.frame.header;
            replay.batch(batch)?;
            file_bytes = frame.file_bytes;
            summary.batches += 1;
            summary.records += u64::from(frame.records);
            summary.bytes += frame.frame_bytes();
            let last = frame.first_lsn + u64::from(frame.records) - 1;
            progress.report(summary.snapshot_bytes + summary.bytes, last);
            Ok(())
        };
        let ended = read_batches(&mut reader, path, Source::Segment, &mut tail, &mut take)?;
        let mark = ended.ok();
        // The next batch replaces the mark, and may be torn; then the batch before the mark says
        // how long the file has to be.
        file_bytes = file_bytes.max(mark.map_or(0, |mark| mark.file_bytes));
        let end = End { tail, file_bytes, mark };
        summary.closed = end.is_closed();
        let torn = match is_last {
            true => torn::find(&mut reader, path, &end, self.known)?,
            false => None,
        };
        self.recovered = Some(Recovered { end, torn, summary });
        self.path = path.to_owned();
        Ok(())
    }

    /// Reads the header and checks that the segment is the one that has to follow.
    fn header(&self, path: &Path, file: &dyn DiskFile) -> anyhow::Result<SegmentHeader> {
        let before = self.recovered.as_ref().map(|before| &before.end.tail);
        let lsn = before.map_or(1, |before| before.next_lsn);
        let damage = |what: String| Damage::at(path, 0, lsn, what);
        let header = read_header(path, file, Source::Segment, lsn)?;

        let sequence = before.map_or(1, |before| before.header.sequence.saturating_add(1));
        if header.sequence != sequence {
            let what = format!("segment {sequence} is missing, found {}", header.sequence);
            bail!(damage(what));
        }
        if let Some(known) = self.known.filter(|known| known.store_id != header.store_id) {
            let what = format!(
                "the segment belongs to log {:032x}, but the file .durable beside it to log {:032x}. (If the \
                 log was put here on purpose, move that file away)",
                header.store_id, known.store_id
            );
            bail!(damage(what));
        }
        let Some(before) = before else {
            if header.first_lsn != 1 {
                bail!(damage(format!("the first segment begins with LSN {}", header.first_lsn)));
            }
            return Ok(header);
        };
        if header.store_id != before.header.store_id {
            bail!(damage("the segment belongs to another log".to_owned()));
        }
        if header.previous_epoch != before.header.epoch
            || header.previous_checksum != before.last_checksum
            || header.first_lsn != before.next_lsn
        {
            let what = format!(
                "the log ends here with LSN {}, but the segment after it, {}, goes on with {}",
                before.next_lsn - 1,
                path.display(),
                header.first_lsn
            );
            bail!(Damage::at(&self.path, before.end, lsn, what));
        }
        Ok(header)
    }
}

/// Reports the progress of a long replay.
struct Progress {
    total: u64,
    started: Instant,
    reported: Instant,
}

impl Progress {
    fn new(total: u64) -> Progress {
        let now = Instant::now();
        Progress { total, started: now, reported: now }
    }

    fn report(&mut self, bytes: u64, records: u64) {
        if self.reported.elapsed() < PROGRESS_INTERVAL {
            return;
        }
        self.reported = Instant::now();
        let done = bytes as f64 / self.total.max(1) as f64;
        let left = self.started.elapsed().mul_f64((1.0 - done).max(0.0) / done.max(1e-9));
        log::info!(
            "replaying the log: {:.0} %, {records} records, about {:.0} s left",
            done * 100.0,
            left.as_secs_f64()
        );
    }
}
