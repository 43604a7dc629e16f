//! The write-ahead log: batches of opaque records, each durable as a whole before the next.
//!
//! Keeps promises 4, 5 and 6 of the crate. It holds no lock (everything that writes takes
//! `&mut self`), knows no keys, and never tries a failed write or sync again.
//!
//! Reading order: [`frame`] is the format, [`segment`] one file, [`snapshot`] what replaces older
//! ones; [`health`] says whether writes are taken; `rotation` goes on from one segment to the next, and
//! [`preparer`] works ahead of it. [`files`], [`reader`] and [`recovery`] are the way back, [`torn`] cuts
//! what a crash left; [`disk`] and [`block`] are what they all stand on, [`lock`] keeps a second server
//! out, and [`guard`] is what stands beside the log.

pub mod block;
pub mod disk;
pub mod files;
pub mod frame;
pub mod guard;
pub mod health;
pub mod lock;
pub mod preparer;
pub mod reader;
pub mod recovery;
mod rotation;
pub mod segment;
pub mod snapshot;
pub mod torn;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use block::{BLOCK_BYTES, BlockBuffer};
use disk::{Access, Disk};
use files::{Chain, Files};
use frame::{FIRST_FRAME, FRAME_HEADER_BYTES, FrameHeader, Kind, checksum_of};
use guard::reserve::{self, Reserve};
use guard::syncer::{Syncer, WhenDone};
use guard::watch::Watch;
use guard::witness::Known;
use health::{Health, Room};
use lock::Lock;
use preparer::{Preparer, Site};
use recovery::Replay;
use segment::{LARGE_PIECE, Names, Segment, anew};

pub use health::Failure;

/// Where the log is if nobody says.
pub const DEFAULT_PATH: &str = "./wal_files/wal_file";

/// A fresh server that holds three keys should not take up much: a first segment of 1 MiB, and
/// one of 4 MiB prepared.
pub const FIRST_SEGMENT_BYTES: u64 = 1 << 20;
/// Segments grow fourfold up to this size: a change of segment costs four syncs, which among some
/// ten thousand batches is nothing.
pub const LARGEST_SEGMENT_BYTES: u64 = 64 << 20;

/// Memory for frames that is kept from batch to batch.
const KEPT_FRAME_BYTES: usize = 4 << 20;

/// A commit that takes longer is reported: so slow a disk is about to fail, or overloaded.
const SLOW_COMMIT: Duration = Duration::from_secs(1);

/// When a batch is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before anyone is told that it is.
    Always,
    /// Whenever [`Wal::sync`] or [`Wal::begin_sync`] is called.
    Later,
}

/// Where the log is and how it is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The segment being written; the other files stand beside it.
    pub path: PathBuf,
    /// When a batch is made durable.
    pub sync: SyncPolicy,
    /// Length of the first segment.
    pub first_segment_bytes: u64,
    /// Length that no prepared segment exceeds.
    pub largest_segment_bytes: u64,
    /// Held by whoever opens the log, where that is a server.
    pub lock: Option<Arc<Lock>>,
}

impl Options {
    /// Whether the lock file says that a log was here.
    pub fn has_served(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.has_served())
    }
}

/// Why a batch was not written.
#[derive(Clone, Debug)]
pub enum Refused {
    /// The log takes no more writes.
    Closed(Failure),
    /// There is no room for it, for this reason. Nothing was written, and nothing is closed.
    NoRoom(Arc<str>),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Refused {
        Refused::Closed(failure)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Refused::Closed(Failure(why)) | Refused::NoRoom(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for Refused {}

/// What a start found in the log.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Segments read.
    pub segments: usize,
    /// Batches read.
    pub batches: u64,
    /// Records read.
    pub records: u64,
    /// Bytes of the snapshot before them.
    pub snapshot_bytes: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Whether the last server stopped in order. A fresh log counts as such.
    pub closed: bool,
    /// Bytes of a torn batch that were cut.
    pub cut_bytes: u64,
}

/// What a commit took.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    /// Records in the batch.
    pub records: u32,
    /// Bytes written.
    pub bytes: u64,
    /// Time for the write, and the sync if there was one.
    pub elapsed: Duration,
}

/// The log, open for writing.
///
/// - `frame` holds the batch that is being built: room for a header, then the payload.
/// - Everything up to `durable_lsn` is on disk; `next_lsn - 1` is the last record written.
/// - Once `health` tells of a failure nothing is written any more.
pub struct Wal {
    disk: Arc<dyn Disk>,
    names: Names,
    options: Options,
    segment: Segment,
    /// None while the log is still being made: it then grows in its one segment.
    preparer: Option<Preparer>,
    /// None as long.
    watch: Option<Watch>,
    /// None before the first sync beside the batches.
    syncer: Option<Syncer>,
    /// When the sync was begun that is not taken notice of yet.
    syncing_since: Option<Instant>,
    frame: BlockBuffer,
    records: u32,
    next_lsn: u64,
    durable_lsn: u64,
    /// Bytes of all frames that were read and written, those of a snapshot not among them.
    total_bytes: u64,
    marked: bool,
    /// The last batch that was too large for a segment had no room, and none was taken since that adds.
    refused_large: bool,
    health: Arc<Health>,
    reserve: Arc<Reserve>,
}

impl Wal {
    /// Opens the log at `options.path`, or begins one, and hands all its batches to `replay`.
    ///
    /// Fails, with nothing changed, on any damage and on a file that is no log of ours.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        replay: &mut dyn Replay,
    ) -> anyhow::Result<(Wal, Summary)> {
        let names = Names::new(&options.path);
        match files::find(&*disk, &names, options.has_served())? {
            Files::Fresh => Wal::begin(disk, names, options),
            Files::Log(chain) => Wal::resume(disk, names, options, &chain, replay),
            Files::Foreign => {
                anyhow::bail!("{}: not a log of this program", options.path.display())
            }
        }
    }

    /// Begins a log whose only segment is at `path`, with no segment prepared.
    pub fn create(
        disk: Arc<dyn Disk>,
        names: Names,
        options: Options,
        path: &Path,
    ) -> io::Result<Wal> {
        let (reserve, len) = (Reserve::default(), options.first_segment_bytes);
        let pace = &mut |_, _| LARGE_PIECE;
        let file = reserve.prepare_segment(&*disk, &names, path, &options, len, pace)?;
        let segment = Segment::begin(file, anew(None)?)?;
        disk.sync_directory(names.directory())?;
        Ok(Wal::assemble(disk, names, options, segment, 1))
    }

    fn begin(
        disk: Arc<dyn Disk>,
        names: Names,
        options: Options,
    ) -> anyhow::Result<(Wal, Summary)> {
        let next = names.next();
        let mut wal = Wal::create(disk, names, options, &next)?;
        wal.disk.rename(&wal.names.next(), wal.names.active())?;
        wal.disk.sync_directory(wal.names.directory())?;
        wal.start_preparer()?;
        wal.start_watch()?;
        Ok((wal, Summary { closed: true, ..Summary::default() }))
    }

    fn resume(
        disk: Arc<dyn Disk>,
        names: Names,
        options: Options,
        chain: &Chain,
        replay: &mut dyn Replay,
    ) -> anyhow::Result<(Wal, Summary)> {
        // Another process may have the log under another name.
        let file = disk.open(names.active(), options.access())?;
        segment::lock_segment(&*file, names.active())?;
        let found = recovery::read(&disk, &names, chain, replay)?;
        // What was prepared and not used may be what fills the disk. It goes first.
        reserve::remove(&*disk, &names, &names.next());
        if let Some(torn) = &found.torn {
            torn::cut(&*disk, &names, torn)?;
        }
        // All of the log has been read from the device by now, the snapshot too.
        snapshot::delete(&*disk, &names, &chain.leftovers);
        // No longer than need be: the start waits for it. The next segment is prepared meanwhile.
        let first = options.first_segment_bytes;
        let len = (found.end + first / 2).next_multiple_of(first);
        // What is behind `file_bytes` was never filled, but for the mark of a full segment: that has to
        // stay until a batch takes its place.
        let filled = file.len()?.min(found.file_bytes).max(found.end + found.mark_bytes);
        let segment = Segment::resume(file, found.header, found.end, found.last_checksum, filled);
        let mut wal = Wal::assemble(disk, names, options, segment, found.next_lsn);
        // Without the headers: what was logged before the running segment is more than that only if there
        // is a segment before it.
        wal.total_bytes = found.bytes.saturating_sub(found.segments as u64 * FIRST_FRAME);
        if wal.unless_failed(|wal| wal.segment.fill_up(len, found.file_bytes)).is_ok() {
            wal.start_preparer()?;
        }
        wal.start_watch()?;
        let summary = Summary {
            segments: found.segments,
            batches: found.batches,
            records: found.records,
            snapshot_bytes: found.snapshot_bytes,
            bytes: found.bytes,
            closed: found.closed,
            cut_bytes: found.torn.map_or(0, |torn| torn.end - torn.offset),
        };
        Ok((wal, summary))
    }

    fn assemble(
        disk: Arc<dyn Disk>,
        names: Names,
        options: Options,
        segment: Segment,
        next_lsn: u64,
    ) -> Wal {
        let mut frame = BlockBuffer::default();
        frame.resize(FRAME_HEADER_BYTES);
        let reserve = Arc::new(Reserve::new(&options));
        Wal {
            disk,
            names,
            options,
            segment,
            preparer: None,
            watch: None,
            syncer: None,
            syncing_since: None,
            frame,
            records: 0,
            next_lsn,
            durable_lsn: next_lsn - 1,
            total_bytes: 0,
            marked: false,
            refused_large: false,
            health: Arc::default(),
            reserve,
        }
    }

    fn start_preparer(&mut self) -> io::Result<()> {
        let len = self.next_segment_bytes();
        let site = Site {
            disk: self.disk.clone(),
            names: self.names.clone(),
            options: self.options.clone(),
            reserve: self.reserve.clone(),
            health: self.health.clone(),
        };
        self.preparer = Some(Preparer::start(site, len)?);
        Ok(())
    }

    fn start_watch(&mut self) -> io::Result<()> {
        let (store_id, lsn) = (self.segment.header().store_id, self.durable_lsn);
        let lock = self.options.lock.clone();
        let known = Known { store_id, lsn };
        let health = self.health.clone();
        self.watch = Some(Watch::start(&*self.disk, &self.names, lock, health, known)?);
        Ok(())
    }

    /// Adds a record to the batch that is being built: whatever `write` appends.
    pub fn push(&mut self, write: impl FnOnce(&mut BlockBuffer)) {
        write(&mut self.frame);
        self.records += 1;
    }

    /// Memory in which a batch is built.
    pub fn buffer_bytes(&self) -> usize {
        self.frame.capacity()
    }

    /// Forgets the batch that is being built.
    pub fn discard(&mut self) {
        self.frame.clear(KEPT_FRAME_BYTES);
        self.frame.resize(FRAME_HEADER_BYTES);
        self.records = 0;
    }

    /// Writes the batch, and with [`SyncPolicy::Always`] makes it durable. The first error closes
    /// the log: it is returned from then on, and nothing is written. Where there is no room for the
    /// batch nothing of it is written. What is refused stays for another try or for [`Wal::discard`]. What
    /// `grows` the data is refused sooner than what only removes something.
    pub fn commit(&mut self, grows: bool) -> Result<Committed, Refused> {
        self.make_room(grows)?;
        let committed = self.unless_failed(Wal::try_commit)?;
        self.discard();
        if self.refused_large && grows {
            self.refused_large = false;
            self.preparer.iter().for_each(Preparer::note_room);
        }
        Ok(committed)
    }

    /// Waits until there may be room for more, but not longer than `time`.
    pub fn wait_for_room(&self, time: Duration) {
        self.preparer.iter().for_each(|preparer| preparer.wait(time));
    }

    /// Makes all batches durable.
    pub fn sync(&mut self) -> Result<(), Failure> {
        self.unless_failed(|wal| {
            wal.finish_sync()?;
            wal.segment.sync()?;
            wal.durable_lsn = wal.next_lsn - 1;
            Ok(())
        })
    }

    /// Begins to make all batches durable, beside those that follow, unless that is going on already.
    /// `when_done` is called when it has ended; then [`Wal::settle`] is to be called.
    pub fn begin_sync(&mut self, when_done: WhenDone) -> Result<(), Failure> {
        if self.syncing_since.is_some() {
            return Ok(());
        }
        let syncer = match self.syncer.take().map_or_else(Syncer::start, Ok) {
            Ok(syncer) => syncer,
            Err(error) => {
                log::warn!("writers wait for a sync, no thread can be started for it: {error}");
                return self.sync();
            }
        };
        let begun = self.unless_failed(|wal| {
            syncer.begin(wal.segment.file(), wal.next_lsn - 1, when_done);
            wal.syncing_since = Some(Instant::now());
            Ok(())
        });
        self.syncer = Some(syncer);
        begun
    }

    /// When the sync was begun that goes on beside the batches, if one does.
    pub fn syncing_since(&self) -> Option<Instant> {
        self.syncing_since
    }

    /// Takes notice of a sync beside the batches, if it has ended; says whether it has.
    pub fn settle(&mut self) -> Result<bool, Failure> {
        let ended = self.syncer.as_ref().and_then(Syncer::result);
        ended.map_or(Ok(false), |ended| {
            self.unless_failed(|wal| wal.note_synced(ended).map(|()| true))
        })
    }

    /// The same, and waits for its end.
    pub fn wait_for_sync(&mut self) -> Result<(), Failure> {
        self.unless_failed(Wal::finish_sync)
    }

    /// Before the file is synced by anyone else: of two who sync it, the kernel tells only one of an error.
    fn finish_sync(&mut self) -> io::Result<()> {
        match (&self.syncer, self.syncing_since) {
            (Some(syncer), Some(_)) => {
                let ended = syncer.wait();
                self.note_synced(ended)
            }
            _ => Ok(()),
        }
    }

    fn note_synced(&mut self, ended: io::Result<u64>) -> io::Result<()> {
        self.syncing_since = None;
        self.durable_lsn = self.durable_lsn.max(ended?);
        Ok(())
    }

    /// Whether there are batches that a power cut could take.
    pub fn has_unsynced(&self) -> bool {
        self.durable_lsn + 1 < self.next_lsn
    }

    /// Says in the log that all of it is durable. Costs a write without a sync; call it when the
    /// log has been idle. It is what tells later damage to the last batch from a torn one.
    pub fn mark_idle(&mut self) {
        if self.marked || self.has_unsynced() {
            return;
        }
        // In a full segment the file grows by a block, which is cut off at the change of segment, and is
        // no room for a batch; on a full disk it does not, and the mark can be done without.
        if !self.segment.has_room(BLOCK_BYTES as u64)
            && self.segment.allocate(BLOCK_BYTES as u64).is_err()
        {
            self.marked = true;
            return;
        }
        // A failure closes the log, and the next client that writes is told.
        if self.unless_failed(|wal| wal.mark(Kind::Idle).map(drop)).is_ok() {
            self.watch.iter().for_each(Watch::note_idle);
        }
    }

    /// Whether [`Wal::mark_idle`] would have nothing to do.
    pub fn is_marked(&self) -> bool {
        self.marked
    }

    /// Bytes of all frames that were read at the start and written since.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Why the log takes no more writes, if it does not.
    pub fn failure(&self) -> Option<&Failure> {
        self.health.failure()
    }

    /// What it leaves free on its volume.
    pub fn reserve(&self) -> Arc<Reserve> {
        self.reserve.clone()
    }

    /// How it is, for everyone to ask.
    pub fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// The last LSN that is on disk.
    pub fn durable_lsn(&self) -> u64 {
        self.durable_lsn
    }

    /// Ends the log in order: everything durable, a mark that says so, no zeros behind it.
    pub fn close(mut self) -> Result<(), Failure> {
        self.preparer = None;
        self.sync()?;
        // A start makes a new one in any case; and the mark may need the space.
        if let Err(error) = self.disk.remove(&self.names.next()) {
            log::debug!("the prepared segment stays: {error}");
        }
        self.unless_failed(|wal| {
            let bytes = wal.mark(Kind::Closed)?;
            wal.segment.sync()?;
            // On a full disk what the file has is room for deletes after the next start.
            if wal.health.room() == Room::Enough { wal.segment.cut(bytes) } else { Ok(()) }
        })
    }

    fn unless_failed<T>(
        &mut self,
        act: impl FnOnce(&mut Wal) -> io::Result<T>,
    ) -> Result<T, Failure> {
        if let Some(failure) = self.health.failure() {
            return Err(failure.clone());
        }
        let done = act(self);
        if let Some(watch) = &self.watch {
            watch.note_durable(self.durable_lsn);
        }
        done.map_err(|error| self.health.fail(&error.to_string()))
    }

    fn try_commit(&mut self) -> io::Result<Committed> {
        let started = Instant::now();
        let synced = self.options.sync == SyncPolicy::Always;
        let epoch = self.segment.header().epoch;
        let payload = &self.frame.as_bytes()[FRAME_HEADER_BYTES..];
        let header = FrameHeader {
            kind: Kind::Batch,
            records: self.records,
            payload_bytes: payload.len() as u64,
            first_lsn: self.next_lsn,
            durable_lsn: self.durable_lsn,
            previous_checksum: self.segment.last_checksum(),
            payload_checksum: frame::payload_checksum(epoch, self.next_lsn, payload),
            file_bytes: self.segment.file_bytes_with(self.frame.len() as u64),
        };
        let header = header.encode(epoch);
        self.frame.as_mut_bytes()[..FRAME_HEADER_BYTES].copy_from_slice(&header);
        let before = self.segment.end();
        self.segment.append(self.frame.padded(), checksum_of(&header), synced)?;
        self.total_bytes += self.segment.end() - before;
        if let Some(preparer) = &self.preparer {
            preparer.note_used(self.segment.end(), self.segment.file_bytes());
        }

        self.marked = false;
        self.next_lsn += u64::from(self.records);
        if synced {
            self.durable_lsn = self.next_lsn - 1;
        }
        let elapsed = started.elapsed();
        if elapsed > SLOW_COMMIT {
            log::warn!("slow disk: a commit took {:.1} s", elapsed.as_secs_f64());
        }
        Ok(Committed { records: self.records, bytes: self.frame.len() as u64, elapsed })
    }

    /// Writes a mark and says how many bytes it takes up.
    fn mark(&mut self, kind: Kind) -> io::Result<u64> {
        let epoch = self.segment.header().epoch;
        let header = FrameHeader {
            durable_lsn: self.durable_lsn,
            file_bytes: self.segment.file_bytes(),
            ..FrameHeader::mark(kind, epoch, self.next_lsn, self.segment.last_checksum())
        };
        let mut block = BlockBuffer::default();
        block.extend_from_slice(&header.encode(epoch));
        self.segment.mark(block.padded())?;
        self.marked = true;
        Ok(header.frame_bytes())
    }
}

impl Options {
    /// A log that is synced on every batch gains nothing from the page cache.
    fn access(&self) -> Access {
        match self.sync {
            SyncPolicy::Always => Access::Direct,
            SyncPolicy::Later => Access::Buffered,
        }
    }
}
