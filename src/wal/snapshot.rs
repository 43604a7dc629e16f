//! A snapshot: records that rebuild everything the log held before one of its segments, so that the
//! segments before that one can go.
//!
//! It is a file of the same frames as a segment. Its header is that of the segment that follows it,
//! under another magic number, with an epoch of its own, so it says which segment comes next and
//! what that one must say of the segment before it. Its records are counted from 1; a closing mark
//! ends it, and without that it is not a snapshot.
//!
//! Keeps promise 4: it is written under another name, synced, read back from the device and verified,
//! and only then renamed; what it replaces is deleted after the directory has been synced. A crash at
//! any line leaves a log that starts by itself, with leftovers that the start removes.
//!
//! While it is written the store goes on changing, and later values slip in. That does no harm: their
//! records are in the log after it, and records are absolute (promise 3).

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::block::{BLOCK_BYTES, BlockBuffer};
use super::chain::{Frame, Tail, random};
use super::damage::Damage;
use super::disk::{Access, Disk, DiskFile};
use super::frame::{Kind, SNAPSHOT_MAGIC, SegmentHeader};
use super::names::Names;
use super::reader::{Reader, Replay, Replayed, Source, read_batches, read_header};

/// A frame is written when it has this many bytes: large enough to be quick, small enough that a
/// commit's flush does not wait for much of it.
pub const FRAME_BYTES: usize = 256 << 10;

/// A snapshot is synced each time it has grown by this much, so that no sync takes long: a stop has
/// to wait for a running sync. (A second's worth where a disk takes 64 MB/s through the page
/// cache.)
const SYNC_BYTES: u64 = 64 << 20;

/// A snapshot being written.
///
/// - All frames before the end of `tail` are in the file; `frame` comes next.
pub struct Writer {
    file: Box<dyn DiskFile>,
    tail: Tail,
    frame: Frame,
}

/// A snapshot that has been read.
pub struct Read {
    /// Its header is that of the segment that follows it, except the epoch and the length of the
    /// file.
    pub tail: Tail,
    /// Its length.
    pub bytes: u64,
}

impl Read {
    /// Records in it.
    pub fn records(&self) -> u64 {
        self.tail.next_lsn - 1
    }
}

impl Writer {
    /// Begins a snapshot of everything before the segment that begins with `following`.
    pub fn create(disk: &dyn Disk, names: &Names, following: &SegmentHeader) -> io::Result<Writer> {
        assert!(following.first_lsn > 0 && following.sequence > 0, "a log counts from 1");
        let file = disk.create(&names.snapshotting(), Access::Direct)?;
        let header = SegmentHeader { epoch: random()?, file_bytes: 0, ..*following };
        let mut block = BlockBuffer::default();
        block.extend_from_slice(&header.encode(SNAPSHOT_MAGIC));
        file.write_at(block.padded(), 0)?;
        Ok(Writer { file, tail: Tail::of_snapshot(header), frame: Frame::default() })
    }

    /// Adds a record: what `write` appends. The caller sees to it that frames stay small.
    pub fn push(&mut self, write: impl FnOnce(&mut BlockBuffer)) {
        self.frame.push(write);
    }

    /// Whether there is enough for a frame.
    pub fn is_full(&self) -> bool {
        self.frame.len() >= FRAME_BYTES as u64
    }

    /// How long it is so far.
    pub fn bytes(&self) -> u64 {
        self.tail.end
    }

    /// Writes what has been added.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let file_bytes = self.tail.end + self.frame.len().next_multiple_of(BLOCK_BYTES as u64);
        let (header, blocks) = self.frame.complete(&self.tail, Kind::Batch, 0, file_bytes);
        self.file.write_at(blocks, self.tail.end)?;
        if file_bytes / SYNC_BYTES > self.tail.end / SYNC_BYTES {
            self.file.sync()?;
        }
        self.tail.follow(&header);
        assert_eq!(self.tail.end, file_bytes, "a frame tells where it ends");
        // One huge value must not stay in memory to the end.
        self.frame.clear(2 * FRAME_BYTES);
        Ok(())
    }

    /// Ends the snapshot: makes it durable, reads it back, verifies it and gives it its name.
    /// Returns its length. Calls `go_on` before each frame that is read back, and gives up if that
    /// fails.
    pub fn finish(
        mut self,
        disk: &dyn Disk,
        names: &Names,
        go_on: &dyn Fn() -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        self.flush()?;
        let file_bytes = self.tail.end + BLOCK_BYTES as u64;
        let (_, mark) = self.frame.complete(&self.tail, Kind::Closed, 0, file_bytes);
        self.file.write_at(mark, self.tail.end)?;
        self.file.sync()?;
        go_on()?;
        let path = names.snapshotting();
        let file = disk.open(&path, Access::Direct)?;
        let found = read(&path, &*file, &mut |_: Replayed<'_>| go_on())
            .context("what was written is not what the device gives back")?;
        let (found, written) = (found.records(), self.tail.next_lsn - 1);
        anyhow::ensure!(
            found == written,
            "{found} records were read back, and {written} were written"
        );
        disk.rename(&path, &names.snapshot(self.tail.header.first_lsn - 1))?;
        disk.sync_directory(names.directory())?;
        Ok(file_bytes)
    }
}

/// The header of the snapshot at `path`.
pub fn header(path: &Path, file: &dyn DiskFile) -> anyhow::Result<SegmentHeader> {
    read_header(path, file, Source::Snapshot, 1)
}

/// Hands on all records of the snapshot at `path`. It is whole, or this fails: there is no torn
/// snapshot, because it has its name only once it is durable.
pub fn read(path: &Path, file: &dyn DiskFile, replay: &mut dyn Replay) -> anyhow::Result<Read> {
    let header = header(path, file)?;
    let mut reader = Reader::new(file, header.epoch)?;
    let mut tail = Tail::of_snapshot(header);
    let ended = read_batches(&mut reader, path, Source::Snapshot, &mut tail, replay)?;
    let damage = |offset, what| Damage::at(path, offset, tail.next_lsn, what);
    let bytes = match ended {
        Ok(mark) if mark.kind == Kind::Closed => tail.end + mark.frame_bytes(),
        _ => bail!(damage(
            tail.end,
            "there is no closing mark here, so the rest of the snapshot is lost"
        )),
    };
    if reader.file_bytes() != bytes {
        bail!(damage(bytes, "the snapshot ends here, but its file does not"));
    }
    Ok(Read { tail, bytes })
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
