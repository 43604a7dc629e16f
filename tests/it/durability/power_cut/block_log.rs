//! What a disk was asked to do, in order, and the disk as a power cut could leave it.
//!
//! The log has the format of the kernel's dm-log-writes. All numbers are little-endian, every part
//! is padded to a sector, and an entry is logged when its request is done:
//!
//! | part | fields of 8 bytes |
//! |------|-------------------|
//! | superblock | magic, version, number of entries, sector size (4 bytes) |
//! | entry | sector, number of sectors, flags, bytes of a mark; then the data, unless it is a discard |
//!
//! After a cut the disk holds everything up to the last flush that was done. Of each later write it
//! holds all, nothing, or some of its sectors. A write that reached the disk between the start and the
//! end of a flush counts as flushed, so not every possible disk is built, but no impossible one.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::common::Rng;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// What a disk writes as a whole, and the unit of the log.
const SECTOR_BYTES: usize = 512;

/// The superblock of ext4 is somewhere in the first bytes of the disk, this many. It is two sectors
/// with one checksum, and outside the journal when a file system is mounted: ext4 relies on these
/// being written as a whole and cannot be mounted if they are torn, whatever a server does. They may
/// be lost, but are not torn here.
const SUPERBLOCK_BYTES: usize = 4096;

/// Memory for a disk is taken in pieces of this size, and only where it is not zero.
const CHUNK_BYTES: usize = 64 << 10;

/// A disk's content in memory.
#[derive(Clone)]
pub struct Disk {
    chunks: Vec<Option<Box<[u8]>>>,
}

impl Disk {
    /// What is in an image.
    pub fn read(path: &Path) -> Disk {
        let bytes = fs::read(path).expect("an image");
        let chunk = |bytes: &[u8]| bytes.iter().any(|&byte| byte != 0).then(|| bytes.into());
        Disk { chunks: bytes.chunks(CHUNK_BYTES).map(chunk).collect() }
    }

    /// Makes it an image, sparse where it is zero. It is a new file, because a loop device of the
    /// one before may not be gone yet, and `mount` would use it again with what it has cached.
    pub fn save(&self, path: &Path) -> File {
        let _ = fs::remove_file(path);
        let file = File::create(path).expect("an image can be made");
        file.set_len((self.chunks.len() * CHUNK_BYTES) as u64).expect("room for an image");
        for (index, chunk) in self.chunks.iter().enumerate() {
            if let Some(chunk) = chunk.as_deref().filter(|chunk| chunk.iter().any(|&b| b != 0)) {
                file.write_all_at(chunk, (index * CHUNK_BYTES) as u64).expect("room for an image");
            }
        }
        file
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let (index, within) = ((at + done) / CHUNK_BYTES, (at + done) % CHUNK_BYTES);
            let count = (CHUNK_BYTES - within).min(bytes.len() - done);
            let chunk = self.chunks[index].get_or_insert_with(|| vec![0; CHUNK_BYTES].into());
            chunk[within..within + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
    }
}

/// Everything a disk was asked to do.
pub struct BlockLog {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

struct Entry {
    /// Where in the log it begins.
    start: usize,
    /// Where on the disk it goes.
    at: usize,
    data: Range<usize>,
    flags: u64,
}

impl BlockLog {
    /// A log that is complete.
    pub fn read(path: &Path) -> BlockLog {
        let bytes = fs::read(path).expect("a block log");
        let field = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        assert_eq!(field(0), MAGIC, "a block log begins with its magic number");
        assert_eq!(field(24) as u32 as usize, SECTOR_BYTES);
        let mut entries = Vec::new();
        let mut start = SECTOR_BYTES;
        for _ in 0..field(16) {
            let flags = field(start + 16);
            let length = field(start + 8) as usize * SECTOR_BYTES;
            let begin = start + SECTOR_BYTES;
            // A discarded sector has any content; zeros, here.
            let data = if flags & DISCARD != 0 { begin..begin } else { begin..begin + length };
            let end = data.end;
            entries.push(Entry { start, at: field(start) as usize * SECTOR_BYTES, data, flags });
            start = end;
        }
        assert!(start <= bytes.len(), "the log holds all its entries");
        BlockLog { bytes, entries }
    }

    /// How long the log was when the first `position` entries were in it.
    pub fn length_at(&self, position: usize) -> u64 {
        self.entries.get(position).map_or(self.bytes.len(), |entry| entry.start) as u64
    }

    /// Where to cut: just before and just after every flush, which makes many cuts during a rotation,
    /// then other places at random, in order. If there are no others left, those before a flush are
    /// taken again: what survives there is decided anew.
    pub fn cuts(&self, count: usize, rng: &mut Rng) -> Vec<usize> {
        let flushes = || (0..self.entries.len()).filter(|&at| self.entries[at].flags & FLUSH != 0);
        let mut cuts: Vec<usize> = flushes()
            .flat_map(|at| [at, at + 1])
            .chain([0, self.entries.len()])
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let near: BTreeSet<usize> = cuts.iter().copied().collect();
        let mut others: Vec<usize> =
            (0..=self.entries.len()).filter(|at| !near.contains(at)).collect();
        let again: Vec<usize> = flushes().collect();
        while cuts.len() < count && !again.is_empty() {
            match others.len() {
                0 => cuts.push(again[rng.below(again.len())]),
                left => cuts.push(others.swap_remove(rng.below(left))),
            }
        }
        cuts.sort_unstable();
        cuts
    }

    /// Any `count` of [`BlockLog::cuts`].
    pub fn some_cuts(&self, count: usize, rng: &mut Rng) -> Vec<usize> {
        let mut all = self.cuts(count, rng);
        while all.len() > count {
            all.swap_remove(rng.below(all.len()));
        }
        all.sort_unstable();
        all
    }
}

/// Goes through a log from cut to cut.
///
/// - `disk` holds the first `applied` entries, and the last of these is a flush, if there is one.
pub struct Cutter<'a> {
    log: &'a BlockLog,
    disk: Disk,
    applied: usize,
}

impl<'a> Cutter<'a> {
    /// At the beginning of a log that was begun on `disk`.
    pub fn new(log: &'a BlockLog, disk: Disk) -> Cutter<'a> {
        Cutter { log, disk, applied: 0 }
    }

    /// Makes an image of the disk after a cut after the first `position` entries. Positions may
    /// not go back.
    pub fn cut(&mut self, position: usize, rng: &mut Rng, image: &Path) {
        let done = &self.log.entries[self.applied..position];
        let flushed =
            done.iter().rposition(|entry| entry.flags & FLUSH != 0).map_or(0, |at| at + 1);
        for entry in &done[..flushed] {
            self.disk.write(entry.at, &self.log.bytes[entry.data.clone()]);
        }
        self.applied += flushed;

        let file = self.disk.save(image);
        let fate = Fate::any(rng);
        for entry in &done[flushed..] {
            let data = &self.log.bytes[entry.data.clone()];
            for (from, to) in fate.survivors(entry, data.len() / SECTOR_BYTES, rng) {
                let bytes = from * SECTOR_BYTES..to * SECTOR_BYTES;
                let at = (entry.at + bytes.start) as u64;
                file.write_all_at(&data[bytes], at).expect("room for an image");
            }
        }
    }
}

/// What happens to the writes that no flush covers.
enum Fate {
    None,
    All,
    /// One in this many is lost, and one in this many of the others is torn.
    Some(usize),
}

impl Fate {
    fn any(rng: &mut Rng) -> Fate {
        match rng.below(8) {
            0 => Fate::None,
            1 => Fate::All,
            2 => Fate::Some(8),
            3 => Fate::Some(1),
            _ => Fate::Some(2),
        }
    }

    /// Which sectors of a write are on the disk, as pairs of a first one and the end.
    fn survivors(&self, entry: &Entry, sectors: usize, rng: &mut Rng) -> Vec<(usize, usize)> {
        let one_in = match self {
            _ if sectors == 0 => return Vec::new(),
            _ if entry.flags & FUA != 0 => return vec![(0, sectors)],
            Fate::None => return Vec::new(),
            Fate::All => return vec![(0, sectors)],
            Fate::Some(one_in) => *one_in,
        };
        if one_in > 1 && rng.below(one_in) == 0 {
            return Vec::new();
        }
        if entry.at < SUPERBLOCK_BYTES {
            return vec![(0, sectors)];
        }
        match rng.below(one_in * 3) {
            0 => vec![(0, rng.below(sectors + 1))],
            1 => vec![(rng.below(sectors), sectors)],
            2 => (0..sectors).filter(|_| rng.below(2) == 0).map(|at| (at, at + 1)).collect(),
            _ => vec![(0, sectors)],
        }
    }
}
