//! Which files a log has, and in which order they are read.
//!
//! Looks only at names and first blocks. Only [`find`] changes anything: it does the second rename
//! of a rotation that a crash interrupted (promise 4), which needs no new space.

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::block::BLOCK_BYTES;
use super::damage::Damage;
use super::disk::{Access, Disk};
use super::frame::{MAGIC, NotAHeader, SegmentHeader};
use super::names::{Names, is_listed};
use super::reader::Reader;
use super::segment::lock_segment;
use super::snapshot;

/// What is at the log's path.
pub enum Files {
    /// No file or an empty one, and nothing beside it that only a log leaves: nothing was ever
    /// written.
    Fresh,
    /// A file that does not begin like a segment, with no other file of a log beside it.
    Foreign,
    /// A log.
    Log(Existing),
}

/// The files of a log, in the order in which they are read.
pub struct Existing {
    /// It replaces all segments before the first of `segments`.
    pub snapshot: Option<PathBuf>,
    /// The last one is at the log's own path.
    pub segments: Vec<PathBuf>,
    /// Files that a snapshot has made superfluous.
    pub leftovers: Vec<PathBuf>,
}

/// Which files of a log there are, before anything is read of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// It replaces all segments before the first of `archived`.
    pub snapshot: Option<PathBuf>,
    /// The sequence numbers of the full segments, in order.
    pub archived: Vec<u64>,
    /// Where the segment after them is.
    pub last: Last,
    /// Files that a snapshot has made superfluous.
    pub leftovers: Vec<PathBuf>,
    /// A file that only a log leaves beside itself, if there is one.
    pub trace: Option<PathBuf>,
}

impl Layout {
    /// A file that shows that a log was here, other than the one at its own path; `None` if none
    /// does.
    pub fn evidence(&self, names: &Names, has_served: bool) -> Option<PathBuf> {
        let segment = self.archived.first().map(|&number| names.archived(number));
        let found = segment.or_else(|| self.snapshot.clone()).or_else(|| self.trace.clone());
        found.or_else(|| has_served.then(|| names.lock()))
    }
}

/// The error if `evidence` shows that there was a log: absent or emptied data is never taken for
/// new data.
pub fn lost(names: &Names, how: &str, evidence: &Path) -> anyhow::Error {
    let shown = names.active().display();
    anyhow::anyhow!(
        "{shown}: damaged at offset 0, LSN 1: the log is {how}, though {} is there, so there was one. \
         Nothing was changed. Restore it from a backup, or, to begin a new log, move every file whose \
         name begins with {shown} away",
        evidence.display()
    )
}

/// Where the last segment of a log is.
#[derive(Debug, PartialEq, Eq)]
pub enum Last {
    /// At the log's own path.
    Active,
    /// In the prepared file, which has its header already: a crash came between the two renames of
    /// a rotation, so there is no file at the log's path.
    Prepared(SegmentHeader),
    /// There is none.
    Nowhere,
}

/// Lists the files of a log. Changes nothing.
pub fn look(disk: &dyn Disk, names: &Names) -> anyhow::Result<Layout> {
    let found = disk.list(names.directory())?;
    let mut archived: Vec<u64> = found.iter().filter_map(|path| names.sequence_of(path)).collect();
    archived.sort_unstable();
    let (snapshot, following) = match newest_snapshot(disk, names, &found)? {
        Some((path, header)) => (Some(path), Some(header)),
        None => (None, None),
    };
    let leftovers = snapshot::leftovers(&found, names, following.as_ref());
    let from = following.map_or(0, |header| header.sequence);
    archived.retain(|&sequence| sequence >= from);
    let trace = found.iter().filter(|path| names.is_trace(path)).min().cloned();
    let last = if is_listed(&found, names.active()) {
        Last::Active
    } else if is_listed(&found, &names.next())
        && let Ok(header) = SegmentHeader::decode(MAGIC, &first_block(disk, &names.next())?)
    {
        Last::Prepared(header)
    } else {
        Last::Nowhere
    };
    Ok(Layout { snapshot, archived, last, leftovers, trace })
}

/// Looks for the files of a log, and finishes a rotation that a crash interrupted. `has_served` is
/// whether the lock file says that a log was here.
pub fn find(disk: &dyn Disk, names: &Names, has_served: bool) -> anyhow::Result<Files> {
    let layout = look(disk, names)?;
    let evidence = layout.evidence(names, has_served);
    let Layout { snapshot, archived, last, leftovers, trace } = layout;
    match (last, &evidence) {
        (Last::Active, _) => {}
        (Last::Prepared(header), _) => {
            finish_rotation(disk, names, header, archived.last().copied())?;
        }
        (Last::Nowhere, None) => return Ok(Files::Fresh),
        (Last::Nowhere, Some(evidence)) => return Err(lost(names, "missing", evidence)),
    }

    let first = first_block(disk, names.active())?;
    if first.is_empty() {
        return evidence.map_or(Ok(Files::Fresh), |found| Err(lost(names, "empty", &found)));
    }
    let is_alone = archived.is_empty() && snapshot.is_none() && trace.is_none();
    if is_alone && SegmentHeader::decode(MAGIC, &first) == Err(NotAHeader::Foreign) {
        return Ok(Files::Foreign);
    }
    let mut segments: Vec<PathBuf> =
        archived.iter().map(|&number| names.archived(number)).collect();
    segments.push(names.active().to_owned());
    Ok(Files::Log(Existing { snapshot, segments, leftovers }))
}

/// The newest snapshot. It is whole, because it got its name only when it was durable and verified;
/// if it is not, nothing else may be taken for the data that it held.
fn newest_snapshot(
    disk: &dyn Disk,
    names: &Names,
    found: &[PathBuf],
) -> anyhow::Result<Option<(PathBuf, SegmentHeader)>> {
    let Some(lsn) = found.iter().filter_map(|path| names.snapshot_of(path)).max() else {
        return Ok(None);
    };
    let path = names.snapshot(lsn);
    let header = snapshot::header(&path, &*disk.open(&path, Access::Direct)?)?;
    if header.first_lsn != lsn.saturating_add(1) {
        let what = format!("the snapshot's header says that LSN {} follows it", header.first_lsn);
        bail!(Damage::at(&path, 0, lsn, what));
    }
    Ok(Some((path, header)))
}

/// Does the second rename of a rotation.
fn finish_rotation(
    disk: &dyn Disk,
    names: &Names,
    header: SegmentHeader,
    last: Option<u64>,
) -> anyhow::Result<()> {
    // Its header is written only when it is about to follow the last one.
    let expected = last.unwrap_or(0).saturating_add(1);
    if header.sequence != expected {
        bail!(
            "{}: is segment {} and the next to be written, but segment {expected} has to follow. \
             Older segments are missing. Nothing was changed. Restore them from a backup, or move \
             this one away to start without its data",
            names.next().display(),
            header.sequence
        );
    }
    // A server whose lock file was deleted may be about to do this rename itself.
    let next = disk.open(&names.next(), Access::Direct)?;
    lock_segment(&*next, &names.next())?;
    disk.rename(&names.next(), names.active())?;
    disk.sync_directory(names.directory())?;
    log::info!("{}: finished an interrupted rotation", names.active().display());
    Ok(())
}

/// The first block of a file, or all of a shorter one.
pub fn first_block(disk: &dyn Disk, path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = disk.open(path, Access::Direct)?;
    let mut reader = Reader::new(&*file, 0)?;
    Ok(reader.bytes(0, BLOCK_BYTES)?.to_vec())
}
