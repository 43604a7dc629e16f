//! One file of the log: what it is called, how it is made, how frames are put into it.
//!
//! A segment is filled with zeros and synced before its first frame, so that a commit overwrites
//! blocks that exist and touches no metadata: one write and one flush. (Growing a file, or first
//! touching a block of one that was only reserved, makes ext4 commit its journal too: three
//! writes and two flushes.) A durable block is never written again.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::{BLOCK_BYTES, Block, BlockBuffer, bytes_of};
use super::disk::{Access, Disk, DiskFile};
use super::frame::{FIRST_FRAME, FrameHeader, Kind, MAGIC, SEALED, SegmentHeader};
use super::lock;

/// Zeros are written in pieces of this size where nobody waits for the disk at the same time, or where they
/// are needed soon: large enough to be quick.
pub const LARGE_PIECE: usize = 64;

/// Beside commits in pieces of this size: a commit's flush queues behind no more.
pub const SMALL_PIECE: usize = 16;

static ZEROS: [Block; LARGE_PIECE] = [Block::ZERO; LARGE_PIECE];

/// The names of a log's files, all in the directory of the one that the user named.
#[derive(Clone, Debug)]
pub struct Names {
    active: PathBuf,
}

impl Names {
    /// Names for the log at `path`.
    pub fn new(path: &Path) -> Names {
        Names { active: path.to_owned() }
    }

    /// The segment that is being written.
    pub fn active(&self) -> &Path {
        &self.active
    }

    /// The segment that is prepared to follow it.
    pub fn next(&self) -> PathBuf {
        self.beside("next")
    }

    /// The file of zeros that a full disk has to spare.
    pub fn reserve(&self) -> PathBuf {
        self.beside("reserve")
    }

    /// The file whose lock says that a server is at work here.
    pub fn lock(&self) -> PathBuf {
        self.beside("lock")
    }

    /// Where the seed's log goes once it is imported.
    pub fn imported(&self) -> PathBuf {
        self.beside("imported")
    }

    /// Where such a log is made.
    pub fn importing(&self) -> PathBuf {
        self.beside("importing")
    }

    /// Where a file of a backup is written, before it gets its name.
    pub fn copying(&self) -> PathBuf {
        self.beside("copying")
    }

    /// Where the bytes of a torn batch go, named by the LSN it would have had; with a number where
    /// there is such a file already.
    pub fn torn(&self, lsn: u64, number: u32) -> PathBuf {
        match number {
            0 => self.beside(&format!("{lsn}.torn")),
            _ => self.beside(&format!("{lsn}.{number}.torn")),
        }
    }

    /// Where it is noted how far the log is durable.
    pub fn durable(&self) -> PathBuf {
        self.beside("durable")
    }

    /// Whether only a log that was there leaves such a file: what was cut off it, or noted of it.
    pub fn is_trace(&self, path: &Path) -> bool {
        let is_left = |name: &[u8]| {
            name == b".durable" || name.ends_with(b".torn") || name.ends_with(b".cut")
        };
        self.suffix_of(path).is_some_and(is_left)
    }

    /// Where a snapshot is written.
    pub fn snapshotting(&self) -> PathBuf {
        self.beside("snapshotting")
    }

    /// The snapshot of everything up to this LSN.
    pub fn snapshot(&self, lsn: u64) -> PathBuf {
        self.beside(&format!("{lsn}.snapshot"))
    }

    /// The LSN in the name of a snapshot of this log.
    pub fn snapshot_of(&self, path: &Path) -> Option<u64> {
        let lsn = self.number_in(path, b".snapshot")?;
        (self.snapshot(lsn).file_name() == path.file_name()).then_some(lsn)
    }

    /// A segment that is full.
    pub fn archived(&self, sequence: u64) -> PathBuf {
        self.beside(&format!("{sequence:010}.log"))
    }

    /// The sequence number in the name of a full segment of this log.
    pub fn sequence_of(&self, path: &Path) -> Option<u64> {
        let sequence = self.number_in(path, b".log")?;
        (self.archived(sequence).file_name() == path.file_name()).then_some(sequence)
    }

    fn number_in(&self, path: &Path, suffix: &[u8]) -> Option<u64> {
        let number = self.suffix_of(path)?.strip_prefix(b".")?.strip_suffix(suffix)?;
        std::str::from_utf8(number).ok()?.parse().ok()
    }

    /// What a name has after that of the log. By name only: the same directory may be spelled in several
    /// ways.
    fn suffix_of<'a>(&self, path: &'a Path) -> Option<&'a [u8]> {
        let (name, active) = (path.file_name()?, self.active.file_name()?);
        name.as_encoded_bytes().strip_prefix(active.as_encoded_bytes())
    }

    /// The directory they are all in.
    pub fn directory(&self) -> &Path {
        match self.active.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.active.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }
}

/// A segment open for writing.
///
/// - Everything before `end` is frames; from `end` to `len` there are zeros, or one mark that the
///   next batch replaces.
/// - `last_checksum` is that of the last batch before `end`, or of the segment before.
pub struct Segment {
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    end: u64,
    len: u64,
    last_checksum: u32,
}

impl Segment {
    /// Creates a file of `len` zeros, written as `pace` says, and makes them durable. It is no segment before
    /// [`Segment::begin`].
    pub fn prepare(
        disk: &dyn Disk,
        path: &Path,
        access: Access,
        len: u64,
        pace: &mut dyn FnMut(u64) -> usize,
    ) -> io::Result<Box<dyn DiskFile>> {
        let file = disk.create(path, access)?;
        // Before it can become the segment that is written: so there is no moment without a lock.
        lock_segment(&*file, path)?;
        // Whether there is room is known before anything is written.
        file.allocate(0, len)?;
        fill_with_zeros(&*file, 0, len, pace)?;
        file.sync()?;
        Ok(file)
    }

    /// Makes a prepared file a segment by writing its header, durably. The header's length of the
    /// file is filled in.
    pub fn begin(file: Box<dyn DiskFile>, header: SegmentHeader) -> io::Result<Segment> {
        let len = file.len()?;
        let header = SegmentHeader { file_bytes: len, ..header };
        let mut block = BlockBuffer::default();
        block.extend_from_slice(&header.encode(MAGIC));
        file.write_synced_at(block.padded(), 0)?;
        let last_checksum = header.previous_checksum;
        let file = file.into();
        Ok(Segment { file, header, end: FIRST_FRAME, len, last_checksum })
    }

    /// Goes on with a segment that recovery has read up to `end`, and that is filled up to `filled`.
    pub fn resume(
        file: Box<dyn DiskFile>,
        header: SegmentHeader,
        end: u64,
        last_checksum: u32,
        filled: u64,
    ) -> Segment {
        let len = filled.next_multiple_of(BLOCK_BYTES as u64);
        Segment { file: file.into(), header, end, len, last_checksum }
    }

    /// Makes room up to `len`, if there is less: an ordered stop has cut the file. What is filled with
    /// zeros is written to without a journal. Where there is no space for that there is only the room that
    /// there was: a start must not fail for want of space, and what is there can be read.
    ///
    /// The next batch overwrites the mark of that stop. If it is torn, the batch before it is the last,
    /// and recovery holds the file against the `file_bytes` it had then. So it gets them back, without
    /// a write: the part behind `len` is a hole, and no batch goes there. (After a crash it may be taken
    /// for filled. Then the next start allocates it, which costs a journal's commit for each block of it.)
    pub fn fill_up(&mut self, len: u64, file_bytes: u64) -> io::Result<()> {
        let before = self.file.len()?;
        if let Err(error) = self.try_fill(len) {
            log::warn!("there is no space to make more room in the log: {error}");
        }
        let needed = before.max(file_bytes).max(self.len);
        let is_changed = self.file.len()? != needed;
        if is_changed {
            self.file.set_len(needed)?;
        }
        if is_changed || needed != before {
            self.file.sync()?;
        }
        Ok(())
    }

    fn try_fill(&mut self, len: u64) -> io::Result<()> {
        let filled = std::mem::replace(&mut self.len, self.end);
        if filled > self.end {
            self.file.allocate(self.end, filled - self.end)?;
            self.len = filled;
        }
        if filled < len {
            self.file.allocate(filled, len - filled)?;
            fill_with_zeros(&*self.file, filled, len, &mut |_| LARGE_PIECE)?;
            self.len = len;
        }
        Ok(())
    }

    /// Its file, to be synced on another thread.
    pub fn file(&self) -> Arc<dyn DiskFile> {
        self.file.clone()
    }

    /// What the segment says of itself.
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Bytes written, the header among them.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes there are.
    pub fn file_bytes(&self) -> u64 {
        self.len
    }

    /// The checksum that the next batch has to follow.
    pub fn last_checksum(&self) -> u32 {
        self.last_checksum
    }

    /// How long the file will be with another frame of this size in it.
    pub fn file_bytes_with(&self, frame_bytes: u64) -> u64 {
        self.len.max(self.end + frame_bytes)
    }

    /// Whether a frame of this size goes into what there is.
    pub fn has_room(&self, frame_bytes: u64) -> bool {
        self.end + frame_bytes <= self.len
    }

    /// Makes room for so many bytes: a batch larger than a segment makes its file grow, the one commit that
    /// pays for a journal. No byte of the log is written, and after an error the file is as it was. Only
    /// with a sync behind it the new length may be relied on.
    pub fn grow(&mut self, bytes: u64) -> io::Result<()> {
        self.allocate(bytes)?;
        self.len = self.len.max(self.end + bytes);
        Ok(())
    }

    /// The same for a mark: batches go on to the next segment, as if the file had not grown.
    pub fn allocate(&self, bytes: u64) -> io::Result<()> {
        let before = self.file.len()?;
        self.file.allocate(self.end, bytes).inspect_err(|_| {
            // It does no harm if it stays as long as it has become.
            let _ = self.file.set_len(before);
        })
    }

    /// Writes a batch behind the last one. After an error nobody knows what the file holds, and
    /// the segment must not be written again.
    pub fn append(&mut self, frame: &[Block], checksum: u32, synced: bool) -> io::Result<()> {
        match synced {
            true => self.file.write_synced_at(frame, self.end)?,
            false => self.file.write_at(frame, self.end)?,
        }
        self.end += bytes_of(frame).len() as u64;
        self.len = self.len.max(self.end);
        self.last_checksum = checksum;
        Ok(())
    }

    /// Writes a mark where the next batch will stand. Nothing that was acknowledged is in it, so
    /// that it may be lost, and overwritten.
    pub fn mark(&self, frame: &[Block]) -> io::Result<()> {
        self.file.write_at(frame, self.end)
    }

    /// Says behind the last batch that another segment follows, and where this one ends then. It is written
    /// without a sync, once that other one has its name. So a start on this file alone, by whatever name it is
    /// reached, is refused.
    pub fn seal(&self, next_lsn: u64) -> io::Result<u64> {
        let header = &self.header;
        let mark = FrameHeader::mark(Kind::Idle, header.epoch, next_lsn, self.last_checksum);
        let mark = FrameHeader { records: SEALED, file_bytes: self.len, ..mark };
        let mut block = BlockBuffer::default();
        block.extend_from_slice(&mark.encode(header.epoch));
        self.file.write_at(block.padded(), self.end)?;
        Ok(self.end + mark.frame_bytes())
    }

    /// Makes everything in it durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// Cuts the zeros off behind the closing mark of `mark_bytes`.
    pub fn cut(&self, mark_bytes: u64) -> io::Result<()> {
        self.file.set_len(self.end + mark_bytes)?;
        self.file.sync()
    }
}

/// The header of an empty segment: that which follows the snapshot, or the first one of a new log.
pub fn anew(snapshot: Option<&SegmentHeader>) -> io::Result<SegmentHeader> {
    let epoch = random()?;
    Ok(match snapshot {
        Some(following) => SegmentHeader { epoch, ..*following },
        None => SegmentHeader {
            store_id: u128::from(random()?) << 64 | u128::from(random()?),
            sequence: 1,
            epoch,
            first_lsn: 1,
            previous_epoch: 0,
            previous_checksum: 0,
            file_bytes: 0,
        },
    })
}

/// Store ids and epochs come from the kernel: nobody may guess an epoch, since it is what keeps
/// a value from passing for a frame.
pub fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    let count = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    assert_eq!(count, bytes.len(), "the kernel gives up to 256 random bytes whole");
    Ok(u64::from_le_bytes(bytes))
}

/// Takes the lock of a segment that is to be written. It ends when the file is closed.
pub fn lock_segment(file: &dyn DiskFile, path: &Path) -> io::Result<()> {
    if lock::insist(|| file.try_lock())? {
        return Ok(());
    }
    let what = format!(
        "{}: the log is in use by another process, which has it under another name, or whose lock file was \
         deleted; stop it first, or name another log",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::WouldBlock, what))
}

/// Zeros from `start` to `end`, both on block boundaries. `pace` is told before each piece how far
/// it is, may wait, and says how many blocks the piece has, up to [`LARGE_PIECE`]. 0 is the end of it.
pub fn fill_with_zeros(
    file: &dyn DiskFile,
    start: u64,
    end: u64,
    pace: &mut dyn FnMut(u64) -> usize,
) -> io::Result<()> {
    let mut at = start;
    while at < end {
        let blocks = pace(at).min((end - at).div_ceil(BLOCK_BYTES as u64) as usize);
        if blocks == 0 {
            return Err(io::Error::new(ErrorKind::Interrupted, "nobody needs the zeros any more"));
        }
        file.write_at(&ZEROS[..blocks], at)?;
        at += (blocks * BLOCK_BYTES) as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_that_nobody_needs_any_more_are_not_written_to_the_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("segment");
        let pieces = std::cell::Cell::new(0);
        let mut pace = |_| {
            pieces.set(pieces.get() + 1);
            if pieces.get() <= 3 { SMALL_PIECE } else { 0 }
        };
        let disk = super::super::disk::SystemDisk;
        let prepared = Segment::prepare(&disk, &path, Access::Buffered, 64 << 20, &mut pace);
        assert_eq!(prepared.err().map(|error| error.kind()), Some(ErrorKind::Interrupted));
        assert_eq!(pieces.get(), 4, "nothing is asked for after the end");
    }

    #[test]
    fn names_stand_beside_the_log_and_are_told_from_those_of_another() {
        let names = Names::new(Path::new("wal_files/wal_file"));
        assert_eq!(names.archived(7), Path::new("wal_files/wal_file.0000000007.log"));
        assert_eq!(names.sequence_of(&names.archived(7)), Some(7));
        assert_eq!(names.sequence_of(Path::new("wal_files/wal_file.7.log")), None);
        assert_eq!(names.sequence_of(Path::new("wal_files/other.0000000007.log")), None);
        assert_eq!(names.sequence_of(&names.next()), None);
        assert_eq!(names.snapshot_of(&names.snapshot(42)), Some(42));
        assert_eq!(names.snapshot_of(Path::new("wal_files/wal_file.042.snapshot")), None);
        assert_eq!(names.snapshot_of(&names.snapshotting()), None);
        // A log in the working directory is listed with the directory's name before it.
        let names = Names::new(Path::new("log"));
        assert_eq!(names.directory(), Path::new("."));
        assert_eq!(names.sequence_of(Path::new("./log.0000000003.log")), Some(3));
    }
}
