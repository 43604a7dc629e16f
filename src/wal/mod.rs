//! The write-ahead log: batches of opaque records, each written as a whole, and with
//! [`SyncPolicy::Always`] durable, before the next.
//!
//! Keeps promises 4, 5 and 6 of the crate. It holds no lock (everything that writes takes
//! `&mut self`), knows no keys, and never tries a failed write or sync again.
//!
//! Reading order: [`frame`] is the format, [`chain`] the position of a reader or writer of frames,
//! [`segment`] one file, `writer` a batch on its way into it, `rotation` the step to the next one,
//! which [`preparer`] makes ahead of time. [`files`], [`reader`] and [`recovery`] are the way back,
//! and [`torn`] cuts what a crash left; [`snapshot`] replaces older segments. All of them use
//! [`disk`], [`block`] and [`names`]; [`health`] tells whether writes are taken, [`lock`] keeps a
//! second server out, and [`guard`] holds the helpers beside the log.

pub mod block;
pub mod chain;
pub mod damage;
pub mod disk;
pub mod files;
pub mod frame;
pub mod guard;
pub mod health;
pub mod lock;
pub mod names;
mod options;
pub mod place;
pub mod preparer;
pub mod read_only;
pub mod reader;
pub mod recovery;
mod rotation;
pub mod segment;
pub mod snapshot;
pub mod torn;
mod writer;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chain::{Frame, anew};
use disk::Disk;
use files::{Existing, Files};
use frame::FIRST_FRAME;
use guard::reserve::{self, Reserve};
use guard::syncer::Syncer;
use guard::watch::Watch;
use guard::witness::Known;
use health::Health;
use names::Names;
use preparer::{Preparer, Site};
use reader::Replay;
use segment::{LARGE_PIECE, Segment};

use crate::sync::Worker;

pub use health::Failure;
pub use options::{DEFAULT_PATH, FIRST_SEGMENT_BYTES, LARGEST_SEGMENT_BYTES, Options, SyncPolicy};
pub use recovery::Summary;

/// Why a batch was not written.
#[derive(Clone, Debug)]
pub enum Refused {
    /// The log takes no more writes.
    Closed(Failure),
    /// There is no room for it, for this reason. Nothing was written, and the log stays open.
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
/// - `frame` is the batch that is being built.
/// - Everything up to `durable_lsn` is on disk; records after it, if there are any, are all in
///   `segment`.
/// - Once `health` holds a failure, nothing more is written.
pub struct Wal {
    disk: Arc<dyn Disk>,
    names: Names,
    options: Options,
    segment: Segment,
    /// `None` while the log is being made, and grows in its only segment.
    preparer: Option<Worker<Preparer>>,
    /// `None` while the log is being made.
    watch: Option<Worker<Watch>>,
    /// `None` before the first sync beside the batches.
    syncer: Option<Worker<Syncer>>,
    /// When the sync beside the batches began, until its result has been taken.
    syncing_since: Option<Instant>,
    frame: Frame,
    durable_lsn: u64,
    /// Bytes of all frames that were read and written, without those of a snapshot.
    total_bytes: u64,
    marked: bool,
    /// A batch too large for a segment was refused for lack of room, and no batch that adds data
    /// has been committed since.
    refused_large: bool,
    health: Arc<Health>,
    reserve: Arc<Reserve>,
}

impl Wal {
    /// Opens the log at `options.path`, or begins one, and hands all its batches to `replay`.
    ///
    /// Fails, with nothing changed, on any damage and on a file that is not a log of this program.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        replay: &mut dyn Replay,
    ) -> anyhow::Result<(Wal, Summary)> {
        let names = Names::new(&options.path);
        match files::find(&*disk, &names, options.has_served())? {
            Files::Fresh => Wal::begin(disk, names, options),
            Files::Log(files) => Wal::resume(disk, names, options, &files, replay),
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
        Ok(Wal::assemble(disk, names, options, segment))
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
        files: &Existing,
        replay: &mut dyn Replay,
    ) -> anyhow::Result<(Wal, Summary)> {
        // Another process may have the log under another name.
        let file = disk.open(names.active(), options.access())?;
        segment::lock_segment(&*file, names.active())?;
        let found = recovery::read(&disk, &names, files, replay)?;
        // A prepared segment that was never used may be what fills the disk, so it goes first.
        reserve::remove(&*disk, &names, &names.next());
        if let Some(torn) = &found.torn {
            torn::cut(&*disk, &names, torn)?;
        }
        // All of the log has been read from the device by now, the snapshot too.
        snapshot::delete(&*disk, &names, &files.leftovers);
        // As short as possible, because the start waits for it. The next segment is prepared
        // meanwhile.
        let first = options.first_segment_bytes;
        let len = (found.end.tail.end + first / 2).next_multiple_of(first);
        // Nothing after `file_bytes` was ever filled, except the mark of a full segment, which has
        // to stay until a batch replaces it.
        let filled = file.len()?.min(found.end.file_bytes).max(found.end.marked_end());
        let segment = Segment::resume(file, found.end.tail, filled);
        let mut wal = Wal::assemble(disk, names, options, segment);
        let mut summary = found.summary;
        // Without the headers, so that a log of one segment has no more than that one's
        // `active_bytes`.
        wal.total_bytes = summary.bytes.saturating_sub(summary.segments as u64 * FIRST_FRAME);
        if wal.unless_failed(|wal| wal.segment.fill_up(len, found.end.file_bytes)).is_ok() {
            wal.start_preparer()?;
        }
        wal.start_watch()?;
        summary.cut_bytes = found.torn.map_or(0, |torn| torn.end - torn.offset);
        Ok((wal, summary))
    }

    fn assemble(disk: Arc<dyn Disk>, names: Names, options: Options, segment: Segment) -> Wal {
        let reserve = Arc::new(Reserve::new(&options));
        let durable_lsn = segment.tail().next_lsn - 1;
        Wal {
            disk,
            names,
            options,
            segment,
            preparer: None,
            watch: None,
            syncer: None,
            syncing_since: None,
            frame: Frame::default(),
            durable_lsn,
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
        let (store_id, lsn) = (self.segment.tail().header.store_id, self.durable_lsn);
        let lock = self.options.lock.clone();
        let known = Known { store_id, lsn };
        let health = self.health.clone();
        self.watch = Some(Watch::start(&*self.disk, &self.names, lock, health, known)?);
        Ok(())
    }
}
