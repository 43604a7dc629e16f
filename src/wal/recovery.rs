//! What a start does with the files that [`super::files`] has found: sync them, read them in order,
//! hand every batch on, and decide what the end of the log is.
//!
//! **Torn or damaged?** A batch is written only after the one before it is durable, or else says
//! in its header how far the log was. So behind a block that is no valid frame:
//! - a later frame that knows the missing LSN as durable proves that it was there: this is damage,
//!   and the start is refused;
//! - if there is none, the block is where the crash came, nobody was told that it is safe, and it
//!   is cut: kept in a file beside the log, then overwritten with zeros.
//!
//! (Pebble's sync-chunk headers, 2025, carry the same knowledge.) Only the last segment may end
//! torn: the header of each names the last batch of the one before.
//!
//! Every step may be interrupted and done again. Nothing is changed before all of it has been
//! read. What is then cut, [`super::torn`] cuts; that needs no new space to succeed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::block::BLOCK_BYTES;
use super::disk::{Access, Disk, DiskFile};
use super::files::Chain;
use super::frame::{
    FIRST_FRAME, FrameHeader, Kind, MAGIC, NotAHeader, SEALED, SegmentHeader, checksum_of,
};
use super::guard::witness::{self, Known};
use super::reader::{Found, Reader};
use super::segment::Names;
use super::snapshot;
use super::torn::Torn;

/// How long a replay is silent.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A batch read from the log.
pub struct Replayed<'a> {
    /// Whether it is in a snapshot, where records are counted from 1.
    pub is_snapshot: bool,
    /// LSN of its first record.
    pub first_lsn: u64,
    /// How many records it holds.
    pub records: u32,
    /// Its records, as they were given to the log.
    pub payload: &'a [u8],
    /// The file it is in.
    pub path: &'a Path,
    /// What that file says of itself.
    pub segment: &'a SegmentHeader,
    /// Where in the file its frame stands.
    pub offset: u64,
    /// Its frame.
    pub frame: FrameHeader,
}

/// Takes the batches of a log in order. An error that is no [`Damage`] means that the records in the
/// batch are none, and is reported as damage there.
pub trait Replay {
    /// The next batch.
    fn batch(&mut self, batch: Replayed<'_>) -> anyhow::Result<()>;

    /// There are no more, and nothing has been changed yet. Nothing is, if this fails.
    fn end(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl<F: FnMut(Replayed<'_>) -> anyhow::Result<()>> Replay for F {
    fn batch(&mut self, batch: Replayed<'_>) -> anyhow::Result<()> {
        self(batch)
    }
}

/// Bytes in the log that cannot be what was acknowledged.
#[derive(Debug)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// The first record that is missing.
    pub lsn: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}. Nothing was changed. Restore the file from a backup, or move all files of the log \
             away to start without its data",
            self.place()
        )
    }
}

impl std::error::Error for Damage {}

impl Damage {
    /// What is wrong and where, and nothing about what to do.
    pub fn place(&self) -> String {
        let Damage { path, offset, lsn, what } = self;
        format!("{}: damaged at offset {offset}, LSN {lsn}: {what}", path.display())
    }

    /// What is wrong with a batch whose records are none.
    pub const NOT_AS_WRITTEN: &str = "the records here are not as they were written";

    /// Says where an error came from that a batch's taker gave, if it does not say so itself: who
    /// takes batches to other threads finds an earlier one wrong.
    pub fn in_batch(self, error: anyhow::Error) -> anyhow::Error {
        if error.is::<Damage>() { error } else { error.context(self) }
    }
}

/// How the files of a log end.
pub struct Recovered {
    /// The header of the last segment.
    pub header: SegmentHeader,
    /// Where its next frame goes.
    pub end: u64,
    /// The checksum that frame has to follow.
    pub last_checksum: u32,
    /// The LSN of its next record.
    pub next_lsn: u64,
    /// How long the file has to be, if it was not closed: as long as its last batch says, or the mark
    /// behind that.
    pub file_bytes: u64,
    /// Bytes of the mark at the end, 0 if there is none.
    pub mark_bytes: u64,
    /// What has to be cut.
    pub torn: Option<Torn>,
    /// Whether the last server stopped in order.
    pub closed: bool,
    /// Whether it says that another segment follows.
    pub sealed: bool,
    /// Segments read.
    pub segments: usize,
    /// Batches read.
    pub batches: u64,
    /// Records read.
    pub records: u64,
    /// Bytes of the snapshot.
    pub snapshot_bytes: u64,
    /// Bytes of the segments.
    pub bytes: u64,
}

/// Reads the snapshot, if there is one, then all segments, and hands their batches on. Changes
/// nothing.
pub fn read(
    disk: &Arc<dyn Disk>,
    names: &Names,
    chain: &Chain,
    replay: &mut dyn Replay,
) -> anyhow::Result<Recovered> {
    // What was written but never synced is in the page cache only. It must not be served and then
    // be gone after a power cut, so it is made durable before anything is believed.
    // One file after the other: a log may have more of them than a process may open.
    let mut bytes = 0;
    for path in chain.snapshot.iter().chain(&chain.segments) {
        let file = disk.open(path, Access::Direct)?;
        file.sync()?;
        bytes += file.len()?;
    }
    disk.sync_directory(names.directory())?;

    let mut log = LogReader::new(bytes, witness::read(&**disk, names)?);
    if let Some(path) = &chain.snapshot {
        log.read_snapshot(path, &*disk.open(path, Access::Direct)?, replay)?;
    }
    for (index, path) in chain.segments.iter().enumerate() {
        let file = disk.open(path, Access::Direct)?;
        log.read_segment(path, &*file, index + 1 == chain.segments.len(), replay)?;
    }
    replay.end()?;
    log.recovered.context("a log has at least one segment")
}

/// Reads segments one after the other and holds each against the one before.
pub struct LogReader {
    /// How far the log was durable, as is known from elsewhere.
    known: Option<Known>,
    /// How the log ends as far as it was read.
    pub recovered: Option<Recovered>,
    /// The segment that `recovered` tells the end of.
    path: PathBuf,
    progress: Progress,
}

impl LogReader {
    /// For files of this many bytes.
    pub fn new(bytes: u64, known: Option<Known>) -> LogReader {
        let progress = Progress::new(bytes);
        LogReader { known, recovered: None, path: PathBuf::new(), progress }
    }

    /// After it the log is as if all segments that it covers had been read.
    pub fn read_snapshot(
        &mut self,
        path: &Path,
        file: &dyn DiskFile,
        replay: &mut dyn Replay,
    ) -> anyhow::Result<()> {
        let progress = &mut self.progress;
        let mut bytes = FIRST_FRAME;
        let found = snapshot::read(path, file, &mut |batch: Replayed<'_>| {
            bytes += batch.payload.len() as u64;
            progress.report(bytes, batch.first_lsn);
            replay.batch(batch)
        })?;
        let following = found.header;
        let sequence = following.sequence.saturating_sub(1);
        self.recovered = Some(Recovered {
            header: SegmentHeader { sequence, epoch: following.previous_epoch, ..following },
            end: found.bytes,
            last_checksum: following.previous_checksum,
            next_lsn: following.first_lsn,
            file_bytes: found.bytes,
            mark_bytes: 0,
            torn: None,
            closed: false,
            sealed: false,
            segments: 0,
            batches: found.batches,
            records: found.records,
            snapshot_bytes: found.bytes,
            bytes: 0,
        });
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
        let mut now = Recovered {
            header,
            end: FIRST_FRAME,
            last_checksum: header.previous_checksum,
            next_lsn: header.first_lsn,
            file_bytes: header.file_bytes,
            mark_bytes: 0,
            torn: None,
            closed: false,
            sealed: false,
            segments: before.as_ref().map_or(0, |before| before.segments) + 1,
            batches: before.as_ref().map_or(0, |before| before.batches),
            records: before.as_ref().map_or(0, |before| before.records),
            snapshot_bytes: before.as_ref().map_or(0, |before| before.snapshot_bytes),
            bytes: before.as_ref().map_or(0, |before| before.bytes) + FIRST_FRAME,
        };
        let mut reader = Reader::new(file, header.epoch)?;
        let damage = |offset: u64, lsn: u64, what: &str| Damage {
            path: path.to_owned(),
            offset,
            lsn,
            what: what.to_owned(),
        };
        loop {
            let (offset, lsn) = (now.end, now.next_lsn);
            let (frame, payload) = match reader.frame_at(offset)? {
                Found::Frame(frame, payload) => (frame, payload),
                Found::Nothing | Found::BadPayload => break,
            };
            if frame.first_lsn != lsn {
                let what = format!("the batch here begins with LSN {}", frame.first_lsn);
                bail!(damage(offset, lsn, &what));
            }
            if frame.previous_checksum != now.last_checksum {
                bail!(damage(offset, lsn, "the batch here does not follow the one before it"));
            }
            if frame.kind != Kind::Batch {
                // The next batch takes the mark's place, and may be torn; then the one before it is the
                // last.
                now.file_bytes = now.file_bytes.max(frame.file_bytes);
                now.mark_bytes = frame.frame_bytes();
                now.closed = frame.kind == Kind::Closed;
                now.sealed = frame.records == SEALED;
                break;
            }
            let records = frame.records;
            let segment = &header;
            let batch = Replayed {
                is_snapshot: false,
                first_lsn: lsn,
                records,
                payload,
                path,
                segment,
                offset,
                frame,
            };
            let wrong = |error| damage(offset, lsn, Damage::NOT_AS_WRITTEN).in_batch(error);
            replay.batch(batch).map_err(wrong)?;
            now.last_checksum = checksum_of(&frame.encode(header.epoch));
            now.next_lsn += u64::from(records);
            now.end += frame.frame_bytes();
            now.file_bytes = frame.file_bytes;
            now.batches += 1;
            now.records += u64::from(records);
            now.bytes += frame.frame_bytes();
            self.progress.report(now.snapshot_bytes + now.bytes, now.next_lsn - 1);
        }
        if is_last {
            now.torn = find_torn(&mut reader, &now, self.known, &damage)?;
        }
        self.recovered = Some(now);
        self.path = path.to_owned();
        Ok(())
    }

    /// Reads the header and checks that the segment is the one that has to follow.
    fn header(&self, path: &Path, file: &dyn DiskFile) -> anyhow::Result<SegmentHeader> {
        let shown = path.display();
        let mut reader = Reader::new(file, 0)?;
        let header = SegmentHeader::decode(MAGIC, reader.bytes(0, BLOCK_BYTES)?);
        let before = self.recovered.as_ref();
        let lsn = before.map_or(1, |before| before.next_lsn);
        let damage = |offset, what: String| Damage { path: path.to_owned(), offset, lsn, what };
        let header = header.map_err(|why| match why {
            NotAHeader::Newer(version) => anyhow::anyhow!(
                "{shown}: this log has format version {version} (at offset 16), and this program reads \
                 versions up to {}. Nothing was changed. Use the newer program",
                super::frame::VERSION
            ),
            NotAHeader::Foreign => damage(0, "this is no segment of a log".to_owned()).into(),
            NotAHeader::Damaged => damage(0, "the segment's header is wrong".to_owned()).into(),
        })?;

        let sequence = before.map_or(1, |before| before.header.sequence.saturating_add(1));
        if header.sequence != sequence {
            let what = format!("segment {sequence} is missing, found {}", header.sequence);
            bail!(damage(0, what));
        }
        if let Some(known) = self.known.filter(|known| known.store_id != header.store_id) {
            let what = format!(
                "the segment is of log {:032x}, but the file .durable beside it tells of log {:032x}. (If the \
                 log was put here on purpose, move that file away)",
                header.store_id, known.store_id
            );
            bail!(damage(0, what));
        }
        let Some(before) = before else {
            if header.first_lsn != 1 {
                bail!(damage(0, format!("the first segment begins with LSN {}", header.first_lsn)));
            }
            return Ok(header);
        };
        if header.store_id != before.header.store_id {
            bail!(damage(0, "the segment belongs to another log".to_owned()));
        }
        if header.previous_epoch != before.header.epoch
            || header.previous_checksum != before.last_checksum
            || header.first_lsn != before.next_lsn
        {
            let what = format!(
                "the log ends here with LSN {}, but the segment after it, {shown}, goes on with {}",
                before.next_lsn - 1,
                header.first_lsn
            );
            bail!(Damage { path: self.path.clone(), offset: before.end, lsn, what });
        }
        Ok(header)
    }
}

/// Decides what the end of the last segment is; see the head of this file.
pub fn find_torn(
    reader: &mut Reader<'_>,
    now: &Recovered,
    known: Option<Known>,
    damage: &dyn Fn(u64, u64, &str) -> Damage,
) -> anyhow::Result<Option<Torn>> {
    let mut at = now.end;
    while let Some((offset, later)) = reader.header_behind(at)? {
        if later.durable_lsn >= now.next_lsn {
            let what = format!(
                "there is no valid batch here, but the frame at offset {offset} was written when \
                 everything up to LSN {} was on disk",
                later.durable_lsn
            );
            bail!(damage(now.end, now.next_lsn, &what));
        }
        at = offset;
    }
    if now.sealed {
        let what =
            format!("segment {} has followed this one, and is missing", now.header.sequence + 1);
        bail!(damage(now.end, now.next_lsn, &what));
    }
    if let Some(known) = known.filter(|known| known.lsn >= now.next_lsn) {
        let what = format!(
            "the log ends here, but everything up to LSN {} was on disk, as the file .durable beside it \
             says. (An older copy that was put here on purpose starts without that file)",
            known.lsn
        );
        bail!(damage(now.end, now.next_lsn, &what));
    }
    if reader.file_bytes() < now.file_bytes && !now.closed {
        let what = format!(
            "the file was {} bytes long when it was last written, and ends here without a mark \
             that it was closed",
            now.file_bytes
        );
        bail!(damage(reader.file_bytes(), now.next_lsn, &what));
    }
    // The file is made as long again, so nothing impossible may be believed: a segment is prepared up
    // to a limit, or filled up by less than that behind its content.
    if now.file_bytes > now.end + super::LARGEST_SEGMENT_BYTES {
        let what = format!("the file cannot have been {} bytes long", now.file_bytes);
        bail!(damage(now.end, now.next_lsn, &what));
    }
    // A mark is the end of the log, not something torn.
    let begin = match reader.frame_at(now.end)? {
        Found::Frame(mark, _) if mark.kind != Kind::Batch => now.end + mark.frame_bytes(),
        _ => now.end,
    };
    let end = reader.content_end(begin)?;
    Ok((end > begin).then_some(Torn { offset: begin, end, lsn: now.next_lsn }))
}

/// Says how far a long replay is.
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
