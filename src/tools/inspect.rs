//! Reads the files of a log in order and changes nothing: the way in for the tools, which look at logs
//! that a server may be writing, or that no server would start on.
//!
//! It takes no lock, syncs nothing and renames nothing; with a [`crate::wal::read_only::ReadOnlyDisk`] it could
//! not. As at a start, [`crate::wal::recovery`] decides which bytes are a frame and which are damage.
//!
//! **Beside a running server.** All files are opened first. The list of names is taken before and after;
//! if it differs, the log was rotated in between, and everything is done again. From then on the open files
//! hold everything that was acknowledged up to now, whatever they are called later. Their frames are read
//! in order, up to the first place that holds no frame, where the server may just be writing. Two things
//! would be damage in a log at rest, and are not here: a later frame that says this place is durable, if
//! there is a frame at this place by now (it is durable before a later one is begun); and a file that has
//! become shorter, if it is no longer the last segment (full ones are cut to their content).
//!
//! A log may have more files than a process may open. Then only the newest are held open, and the others are
//! opened when their turn comes; if a compaction has deleted one by then, that is an error, but no damage.
//!
//! The tools read by [`Log::walk`], and what is damaged also by [`super::salvage`]: a new kind of file has to
//! be added in both.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::process::{Resource, getrlimit};

use super::progress::Amount;
use crate::wal::block::BLOCK_BYTES;
use crate::wal::chain::Tail;
use crate::wal::damage::Damage;
use crate::wal::disk::{Access, Disk, DiskFile};
use crate::wal::files::{self, Last, Layout};
use crate::wal::frame::{Kind, MAGIC, NotAHeader, SegmentHeader};
use crate::wal::guard::witness::{self, Known};
use crate::wal::names::Names;
use crate::wal::read_only::has_served;
use crate::wal::reader::{Reader, Replayed};
use crate::wal::recovery::{LogReader, Recovered};
use crate::wal::snapshot;
use crate::wal::torn::{self, Torn};

/// How often to begin again if the log is rotated while its files are opened: a rotation takes longer than
/// the opening, so even two in a row are rare.
const ATTEMPTS: usize = 100;

/// Takes the batches of a log in order, and says whether to go on. An error means that the batch does not
/// hold valid records: that is damage.
pub type Visit<'a> = dyn FnMut(&Replayed<'_>) -> anyhow::Result<ControlFlow<()>> + 'a;

/// What was found at a log's path.
pub enum Found {
    /// Nothing.
    Nothing,
    /// An empty file where no log has been: a start would begin one.
    Empty,
    /// A file that does not begin as a segment does.
    Foreign,
    /// A log.
    Log(Box<Log>),
}

/// The files of a log, open.
pub struct Log {
    names: Names,
    snapshot: Option<(PathBuf, Box<dyn DiskFile>)>,
    files: Vec<(PathBuf, Held)>,
    last: Last,
    /// Length of all files.
    bytes: u64,
    /// How far the log was durable before its files were opened, as [`witness`] has noted it.
    known: Option<Known>,
}

/// An open file; `None` if it is opened when its turn comes.
type Held = Option<Box<dyn DiskFile>>;

/// What was read of a log.
pub struct Inspection {
    /// The snapshot that replaces older segments. It is like a segment, but its records are counted from 1,
    /// and its header describes the segment that follows it.
    pub snapshot: Option<Segment>,
    /// The whole segments, and the damaged one as far as it is whole.
    pub segments: Vec<Segment>,
    /// How the log ends; an error if that is not known, and [`Damage`] if it cannot be what was written.
    pub tail: anyhow::Result<Ending>,
}

/// A segment or a snapshot, as far as it was read.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The file.
    pub path: PathBuf,
    /// Batches in it.
    pub batches: u64,
    /// Records in it.
    pub records: u64,
    /// Bytes that were read of it.
    pub bytes: u64,
    /// The LSN up to which a snapshot replaces the log; `None` for a segment.
    pub covers: Option<u64>,
    /// Where the last batch ends.
    pub tail: Tail,
}

/// How a log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing was ever written.
    Empty,
    /// With the mark of an ordered stop.
    Closed,
    /// With an idle mark: all of it was durable.
    Idle,
    /// With a whole batch.
    Open,
    /// With bytes that a start would cut.
    Torn(Torn),
    /// A server is writing after what was read.
    Running,
    /// Not known: the visitor stopped the walk.
    Stopped,
}

impl Log {
    /// Opens all files of the log.
    pub fn open(disk: &dyn Disk, names: &Names) -> anyhow::Result<Found> {
        for _ in 1..ATTEMPTS {
            match Log::open_once(disk, names) {
                Ok(None) => {}
                Err(error) if is_not_found(&error) => {}
                Ok(Some(stands)) => return Ok(stands),
                Err(error) => return Err(error),
            }
        }
        Log::open_once(disk, names)?.with_context(|| {
            let shown = names.active().display();
            format!("{shown}: its files change faster than they can be opened; try again")
        })
    }

    /// `None` if the log was rotated meanwhile.
    fn open_once(disk: &dyn Disk, names: &Names) -> anyhow::Result<Option<Found>> {
        let known = witness::read(disk, names)?;
        let found = files::look(disk, names)?;
        let evidence = found.evidence(names, has_served(&names.lock())?);
        let mut paths: Vec<PathBuf> = found.archived.iter().map(|&n| names.archived(n)).collect();
        match found.last {
            Last::Active => paths.push(names.active().to_owned()),
            Last::Prepared(_) => paths.push(names.next()),
            Last::Nowhere if paths.is_empty() && found.snapshot.is_none() => {
                return match &evidence {
                    Some(evidence) => Err(files::lost(names, "missing", evidence)),
                    None => Ok(Some(Found::Nothing)),
                };
            }
            Last::Nowhere => {}
        }
        let opened = open_all(disk, found.snapshot.clone(), paths);
        if files::look(disk, names)? != found {
            return Ok(None);
        }
        let (snapshot, files, bytes) = opened?;
        if let (None, [(_, Some(only))]) = (&snapshot, &files[..])
            && found.last == Last::Active
        {
            let mut reader = Reader::new(&**only, 0)?;
            let first = reader.bytes(0, BLOCK_BYTES)?;
            match evidence {
                Some(evidence) if first.is_empty() => {
                    return Err(files::lost(names, "empty", &evidence));
                }
                None if first.is_empty() => return Ok(Some(Found::Empty)),
                _ => {}
            }
            let is_foreign = SegmentHeader::decode(MAGIC, first) == Err(NotAHeader::Foreign);
            if is_foreign && found.trace.is_none() {
                return Ok(Some(Found::Foreign));
            }
        }
        let Layout { last, .. } = found;
        Ok(Some(Found::Log(Box::new(Log {
            names: names.clone(),
            snapshot,
            files,
            last,
            bytes,
            known,
        }))))
    }

    /// The segments, in order.
    pub fn paths(&self) -> impl DoubleEndedIterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// The header of the snapshot, if there is one.
    pub fn snapshot_header(&self) -> anyhow::Result<Option<SegmentHeader>> {
        let header = |(path, file): &(PathBuf, Box<dyn DiskFile>)| snapshot::header(path, &**file);
        self.snapshot.as_ref().map(header).transpose()
    }

    /// How far the log was durable, as [`witness`] has noted it; 0 without a note.
    pub fn known_lsn(&self) -> u64 {
        self.known.map_or(0, |known| known.lsn)
    }

    /// Whether a rotation was interrupted, which a start would finish.
    pub fn is_unfinished(&self) -> bool {
        matches!(self.last, Last::Prepared(_))
    }

    /// Length of all files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How much there is to read.
    pub fn amount(&self) -> Amount {
        Amount::Bytes(self.bytes)
    }

    /// Reads everything and hands every batch to `visit`.
    pub fn walk(&self, disk: &dyn Disk, visit: &mut Visit<'_>) -> Inspection {
        let mut inspection =
            Inspection { snapshot: None, segments: Vec::new(), tail: Ok(Ending::Stopped) };
        inspection.tail = self.try_walk(disk, visit, &mut inspection);
        inspection
    }

    fn try_walk(
        &self,
        disk: &dyn Disk,
        visit: &mut Visit<'_>,
        inspection: &mut Inspection,
    ) -> anyhow::Result<Ending> {
        let mut log = LogReader::new(self.bytes(), self.known);
        if let Some((path, file)) = &self.snapshot {
            let header = snapshot::header(path, &**file)?;
            let begun = Segment {
                covers: Some(header.first_lsn - 1),
                ..Segment::begin(path, Tail::of_snapshot(header))
            };
            let read = inspection.snapshot.insert(begun);
            let mut stopped = false;
            let done = log.read_snapshot(path, &**file, &mut |batch: Replayed<'_>| {
                stopped = visit(&batch)?.is_break();
                read.follow(&batch);
                anyhow::ensure!(!stopped, "enough");
                Ok(())
            });
            if stopped {
                return Ok(Ending::Stopped);
            }
            done?;
        }
        for (path, held) in &self.files {
            let opened;
            let file = match held {
                Some(file) => file,
                None => {
                    opened = disk.open(path, Access::Direct).context(
                        "it was there when the log was opened; if a server has compacted the log, try again",
                    )?;
                    &opened
                }
            };
            let mut segment = None;
            let mut stopped = false;
            let read = log.read_segment(path, &**file, false, &mut |batch: Replayed<'_>| {
                stopped = visit(&batch)?.is_break();
                segment
                    .get_or_insert_with(|| Segment::begin(path, Tail::of_segment(*batch.segment)))
                    .follow(&batch);
                anyhow::ensure!(!stopped, "enough");
                Ok(())
            });
            if read.is_ok()
                && let Some(recovered) = &log.recovered
            {
                segment.get_or_insert_with(|| {
                    Segment::begin(path, Tail::of_segment(recovered.end.tail.header))
                });
            }
            inspection.segments.extend(segment);
            if stopped {
                return Ok(Ending::Stopped);
            }
            read?;
        }
        let recovered = log.recovered.context("a log has at least one segment")?;
        if self.last == Last::Nowhere {
            let what = "this file is missing, though older segments of the log are there";
            bail!(Damage::at(self.names.active(), 0, recovered.end.tail.next_lsn, what));
        }
        self.tail(disk, &recovered)
    }

    fn tail(&self, disk: &dyn Disk, recovered: &Recovered) -> anyhow::Result<Ending> {
        let Some((path, Some(file))) = self.files.last() else {
            bail!("a log has at least one segment, and the last one is open");
        };
        let mut reader = Reader::new(&**file, recovered.end.tail.header.epoch)?;
        let torn = match torn::find(&mut reader, path, &recovered.end, self.known) {
            Ok(torn) => torn,
            Err(error) if error.is::<Damage>() && goes_on(disk, path, &**file, recovered)? => {
                return Ok(Ending::Running);
            }
            Err(error) => return Err(error),
        };
        if let Some(torn) = torn {
            return Ok(Ending::Torn(torn));
        }
        Ok(match reader.frame_at(recovered.end.tail.end)? {
            Ok(mark) => match mark.header.kind {
                Kind::Closed => Ending::Closed,
                Kind::Idle => Ending::Idle,
                Kind::Batch => Ending::Running,
            },
            Err(_) => Ending::Open,
        })
    }
}

/// A snapshot and segments, held open up to [`most_held`], and their total length.
type Opened = (Option<(PathBuf, Box<dyn DiskFile>)>, Vec<(PathBuf, Held)>, u64);

/// Opens each file, and holds the newest.
fn open_all(
    disk: &dyn Disk,
    snapshot: Option<PathBuf>,
    paths: Vec<PathBuf>,
) -> anyhow::Result<Opened> {
    let mut bytes = 0;
    let mut open = |path: PathBuf| {
        let file = disk.open(&path, Access::Direct)?;
        bytes += file.len()?;
        anyhow::Ok((path, file))
    };
    let snapshot = snapshot.map(&mut open).transpose()?;
    let first_held = paths.len().saturating_sub(most_held());
    let files = paths.into_iter().enumerate().map(|(index, path)| {
        let (path, file) = open(path)?;
        Ok((path, (index >= first_held).then_some(file)))
    });
    let files = files.collect::<anyhow::Result<Vec<_>>>()?;
    Ok((snapshot, files, bytes))
}

/// How many files may be held open: half of what the process may open, because it has others.
fn most_held() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit / 2).unwrap_or(usize::MAX)).max(1)
}

/// Whether what looks like damage is a server's doing, see the head of this file.
fn goes_on(
    disk: &dyn Disk,
    path: &Path,
    file: &dyn DiskFile,
    recovered: &Recovered,
) -> anyhow::Result<bool> {
    // The epoch is random for each segment, so it says whether a file is still the same.
    let header = match files::first_block(disk, path) {
        Ok(block) => SegmentHeader::decode(MAGIC, &block),
        Err(error) if is_not_found(&error) => return Ok(true),
        Err(error) => return Err(error),
    };
    if header.is_ok_and(|header| header.epoch != recovered.end.tail.header.epoch) {
        return Ok(true);
    }
    // By a new reader: one that was used may answer from what it read before.
    let mut reader = Reader::new(file, recovered.end.tail.header.epoch)?;
    Ok(match reader.frame_at(recovered.end.tail.end)? {
        Ok(frame) => match frame.header.kind {
            Kind::Batch => frame.header.first_lsn == recovered.end.tail.next_lsn,
            Kind::Closed => !recovered.end.is_closed(),
            Kind::Idle => false,
        },
        Err(_) => false,
    })
}

fn is_not_found(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

impl Segment {
    /// A file of which nothing but the header was read.
    pub fn begin(path: &Path, tail: Tail) -> Segment {
        let (path, bytes) = (path.to_owned(), tail.end);
        Segment { path, batches: 0, records: 0, bytes, covers: None, tail }
    }

    /// Advances past a batch. If that is in the next segment, this becomes that segment.
    pub fn follow(&mut self, batch: &Replayed<'_>) {
        if self.tail.header.epoch != batch.segment.epoch {
            *self = Segment::begin(batch.path, Tail::of_segment(*batch.segment));
        }
        assert_eq!(batch.offset, self.tail.end, "a batch stands where the one before it ends");
        self.batches += 1;
        self.records += u64::from(batch.records());
        self.tail.follow(&batch.frame.header);
        self.bytes = self.tail.end;
    }
}

impl Inspection {
    /// The snapshot, if there is one, and the segments.
    pub fn files(&self) -> impl Iterator<Item = &Segment> {
        self.snapshot.iter().chain(&self.segments)
    }

    /// The last record that was read.
    pub fn last_lsn(&self) -> u64 {
        let covered =
            self.snapshot.as_ref().map_or(0, |snapshot| snapshot.tail.header.first_lsn - 1);
        self.segments.last().map_or(covered, |segment| segment.tail.next_lsn - 1)
    }

    /// The damage, if that is how the log ends.
    pub fn damage(&self) -> Option<&Damage> {
        self.tail.as_ref().err().and_then(|error| error.downcast_ref())
    }
}
