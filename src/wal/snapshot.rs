//! A snapshot: records that rebuild everything the log held before one of its segments, so that the
//! segments before that one can go.
//!
//! It is a file of the same frames as a segment. Its header is that of the segment that follows it,
//! under another magic number, with an epoch of its own: so it says
//! which segment comes next and what that one must say of the segment before it. Its records are
//! counted from 1; a closing mark ends it, and without that it is none.
//!
//! Keeps promise 4: it is written under another name, synced, read back from the device and verified,
//! and only then renamed; what it replaces is deleted after the directory has been synced. A crash at
//! any line leaves a log that starts by itself, with leftovers that the start removes.
//!
//! While it is written the store goes on changing, and later values slip in. That does no harm: their
//! records are in the log behind it, and records are absolute (promise 3).

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::block::BlockBuffer;
use super::disk::{Access, Disk, DiskFile};
use super::frame::{
    self, FIRST_FRAME, FRAME_HEADER_BYTES, FrameHeader, Kind, NotAHeader, SNAPSHOT_MAGIC,
    SegmentHeader, VERSION, checksum_of,
};
use super::reader::{Found, Reader};
use super::recovery::{Damage, Replay, Replayed};
use super::segment::{Names, random};

/// A frame is written when it has so many bytes: large enough to be quick, small enough that a
/// commit's flush does not queue behind much of it.
pub const FRAME_BYTES: usize = 256 << 10;

/// It is synced each time it has grown by so much, so that no sync takes long: a stop has to wait for one
/// that runs. (A second's worth where a disk takes 64 MB/s through the page cache.)
const SYNC_BYTES: u64 = 64 << 20;

/// A snapshot being written.
///
/// - `frame` is the frame that is being built: room for a header, then the payload.
pub struct Writer {
    file: Box<dyn DiskFile>,
    header: SegmentHeader,
    frame: BlockBuffer,
    records: u32,
    next: u64,
    end: u64,
    last_checksum: u32,
}

/// A snapshot that has been read.
pub struct Read {
    /// The header of the segment that follows it, but for the epoch and what a snapshot alone has.
    pub header: SegmentHeader,
    /// Batches in it.
    pub batches: u64,
    /// Records in it.
    pub records: u64,
    /// Its length.
    pub bytes: u64,
}

impl Writer {
    /// Begins a snapshot of everything before the segment that begins with `following`.
    pub fn create(disk: &dyn Disk, names: &Names, following: &SegmentHeader) -> io::Result<Writer> {
        let file = disk.create(&names.snapshotting(), Access::Direct)?;
        let header = SegmentHeader { epoch: random()?, file_bytes: 0, ..*following };
        let mut block = BlockBuffer::default();
        block.extend_from_slice(&header.encode(SNAPSHOT_MAGIC));
        file.write_at(block.padded(), 0)?;
        let mut frame = BlockBuffer::default();
        frame.resize(FRAME_HEADER_BYTES);
        Ok(Writer { file, header, frame, records: 0, next: 1, end: FIRST_FRAME, last_checksum: 0 })
    }

    /// Adds a record: whatever `write` appends. The caller sees to it that frames stay small.
    pub fn push(&mut self, write: impl FnOnce(&mut BlockBuffer)) {
        write(&mut self.frame);
        self.records += 1;
    }

    /// Whether there is enough for a frame.
    pub fn is_full(&self) -> bool {
        self.frame.len() >= FRAME_BYTES
    }

    /// How long it is so far.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// Writes what has been added.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.records > 0 {
            self.write(Kind::Batch)?;
        }
        Ok(())
    }

    /// Ends the snapshot: it is durable, read back and verified, and stands under its own name. Says
    /// how long it is. Asks before each frame that is read back whether to `go_on`.
    pub fn finish(
        mut self,
        disk: &dyn Disk,
        names: &Names,
        go_on: &dyn Fn() -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        self.flush()?;
        self.write(Kind::Closed)?;
        self.file.sync()?;
        let path = names.snapshotting();
        let records = self.next - 1;
        go_on()?;
        let file = disk.open(&path, Access::Direct)?;
        let found = read(&path, &*file, &mut |_: Replayed<'_>| go_on());
        let found = found.context("what was written is not what the device gives back")?.records;
        anyhow::ensure!(found == records, "{found} records were written, not {records}");
        disk.rename(&path, &names.snapshot(self.header.first_lsn - 1))?;
        disk.sync_directory(names.directory())?;
        Ok(self.end)
    }

    fn write(&mut self, kind: Kind) -> io::Result<()> {
        let epoch = self.header.epoch;
        let payload = &self.frame.as_bytes()[FRAME_HEADER_BYTES..];
        let mut header = FrameHeader {
            kind,
            records: self.records,
            payload_bytes: payload.len() as u64,
            first_lsn: self.next,
            durable_lsn: 0,
            previous_checksum: self.last_checksum,
            payload_checksum: frame::payload_checksum(epoch, self.next, payload),
            file_bytes: 0,
        };
        header.file_bytes = self.end + header.frame_bytes();
        let bytes = header.encode(epoch);
        self.frame.as_mut_bytes()[..FRAME_HEADER_BYTES].copy_from_slice(&bytes);
        self.file.write_at(self.frame.padded(), self.end)?;
        if header.file_bytes / SYNC_BYTES > self.end / SYNC_BYTES {
            self.file.sync()?;
        }
        self.last_checksum = checksum_of(&bytes);
        self.end = header.file_bytes;
        self.next += u64::from(self.records);
        self.records = 0;
        // One huge value is not to be kept in memory to the end.
        self.frame.clear(2 * FRAME_BYTES);
        self.frame.resize(FRAME_HEADER_BYTES);
        Ok(())
    }
}

/// The header of the snapshot at `path`.
pub fn header(path: &Path, file: &dyn DiskFile) -> anyhow::Result<SegmentHeader> {
    let mut reader = Reader::new(file, 0)?;
    let block = reader.bytes(0, FIRST_FRAME as usize)?;
    SegmentHeader::decode(SNAPSHOT_MAGIC, block).map_err(|why| match why {
        NotAHeader::Newer(version) => anyhow::anyhow!(
            "{}: this snapshot has format version {version} (at offset 16), and this program reads \
             versions up to {VERSION}. Nothing was changed. Use the newer program",
            path.display()
        ),
        NotAHeader::Foreign | NotAHeader::Damaged => {
            damage(path, 0, 1, "the snapshot's header is wrong").into()
        }
    })
}

/// Hands on all records of the snapshot at `path`. It is whole, or this fails: there is no torn
/// snapshot, because it has its name only once it is durable.
pub fn read(path: &Path, file: &dyn DiskFile, replay: &mut dyn Replay) -> anyhow::Result<Read> {
    let header = header(path, file)?;
    let mut reader = Reader::new(file, header.epoch)?;
    let (mut end, mut next, mut last_checksum, mut batches) = (FIRST_FRAME, 1, 0, 0);
    loop {
        let Found::Frame(frame, payload) = reader.frame_at(end)? else {
            bail!(damage(path, end, next, "the snapshot goes on here, and what it holds is lost"));
        };
        if frame.first_lsn != next || frame.previous_checksum != last_checksum {
            bail!(damage(path, end, next, "the frame here does not follow the one before it"));
        }
        let at = end;
        end += frame.frame_bytes();
        if frame.kind == Kind::Closed {
            break;
        }
        let (first_lsn, records) = (next, frame.records);
        let (is_snapshot, segment, offset) = (true, &header, at);
        let batch =
            Replayed { is_snapshot, first_lsn, records, payload, path, segment, offset, frame };
        let wrong = |error| damage(path, at, next, Damage::NOT_AS_WRITTEN).in_batch(error);
        replay.batch(batch).map_err(wrong)?;
        last_checksum = checksum_of(&frame.encode(header.epoch));
        next += u64::from(frame.records);
        batches += 1;
    }
    if reader.file_bytes() != end {
        bail!(damage(path, end, next, "the snapshot ends here, and the file does not"));
    }
    Ok(Read { header, batches, records: next - 1, bytes: end })
}

fn damage(path: &Path, offset: u64, lsn: u64, what: &str) -> Damage {
    Damage { path: path.to_owned(), offset, lsn, what: what.to_owned() }
}

/// The files that a snapshot has made superfluous: segments that it covers, older snapshots, and one
/// that was never finished.
pub fn leftovers(
    found: &[PathBuf],
    names: &Names,
    snapshot: Option<&SegmentHeader>,
) -> Vec<PathBuf> {
    let is_left = |path: &&PathBuf| {
        let unfinished = path.file_name() == names.snapshotting().file_name();
        let covered = snapshot.is_some_and(|header| {
            names.sequence_of(path).is_some_and(|sequence| sequence < header.sequence)
                || names.snapshot_of(path).is_some_and(|lsn| lsn + 1 < header.first_lsn)
        });
        unfinished || covered
    };
    found.iter().filter(is_left).cloned().collect()
}

/// Deletes what is left over. A file that stays does no harm.
pub fn delete(disk: &dyn Disk, names: &Names, leftovers: &[PathBuf]) {
    let deleted = leftovers.iter().try_for_each(|path| disk.remove(path)).and_then(|()| {
        if leftovers.is_empty() { Ok(()) } else { disk.sync_directory(names.directory()) }
    });
    if let Err(error) = deleted {
        log::warn!("a file that is not needed any more stays: {error}");
    }
}
