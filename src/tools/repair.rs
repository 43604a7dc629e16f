//! `repair`: cuts what a start would refuse, or takes a log back to an earlier record.
//!
//! Without `--yes` it only says what it would do. It never touches a log that a server is using, never
//! cuts within a batch (promise 7), and never throws bytes away: the tail of the segment that becomes the
//! last goes to `<file>.<lsn>.cut`, whole segments after it to `<file>.cut`. It says beforehand, by LSN,
//! what may be lost. The cutting itself, and why a crash in the middle of it does no harm, is in
//! [`super::cut_back`].

use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::bail;
use serde_json::{Value, json};

use super::bases::{Bases, Origin, named};
use super::check::Report;
use super::cut_back::{CutBack, free_name};
use super::inspect::{Ending, Inspection, Log, Segment};
use super::json::{line, set_bytes};
use super::progress::Progress;
use super::salvage::{self, Piece};
use super::{Outcome, Place, Source, file_name, open, refuse_if_in_use};
use crate::command::Key;
use crate::record;
use crate::wal::block::BLOCK_BYTES;
use crate::wal::chain::{Tail, anew};
use crate::wal::damage::Damage;
use crate::wal::disk::{Access, Disk, DiskFile, SystemDisk};
use crate::wal::files;
use crate::wal::frame::{FIRST_FRAME, Kind, MAGIC, SegmentHeader};
use crate::wal::lock::Lock;
use crate::wal::names::Names;
use crate::wal::read_only::ReadOnlyDisk;
use crate::wal::reader::Reader;
use crate::wal::segment::lock_segment;
use crate::wal::torn::Torn;

/// What `repair --help` ends with.
pub const HELP: &str = "\
Examples: post-gres-rs repair -wal ./wal_files/wal_file
          post-gres-rs repair -wal ./wal_files/wal_file -to-lsn 1000 -yes

Exit code 0: nothing to do, or done. 1: there is something to do, and no -yes. 2: refused, or failed.";

/// Flags of `repair`.
#[derive(Clone, Debug, clap::Args)]
pub struct Repair {
    #[command(flatten)]
    pub(super) source: Source,

    /// Keep the whole batches up to this LSN, and cut everything after them
    #[arg(long, value_name = "LSN")]
    to_lsn: Option<u64>,

    /// Do it; without this flag, repair only says what it would do
    #[arg(long)]
    yes: bool,
}

/// Says what is to be cut, and cuts it with `--yes`.
pub fn run(repair: &Repair, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let names = match repair.source.place()? {
        Place::Files(names) => names,
        Place::Etcd(address) => bail!(
            "{}: repair is for a log in files. In etcd no batch is ever torn. Where a server leads, SAVE there \
             replaces what is damaged by a new snapshot; otherwise see check and dump -skip-damage, and import a \
             backup into another name",
            address.text()
        ),
    };
    refuse_if_in_use(&names)?;
    let json = repair.source.json;
    let Some(plan) = Plan::of(&ReadOnlyDisk, &names, repair.to_lsn)? else {
        match json {
            true => writeln!(out, "{}", line(&json!({"state": "nothing to do"})))?,
            false => writeln!(out, "Nothing to do: {} is whole.", names.active().display())?,
        }
        return Ok(Outcome::Well);
    };
    if !repair.yes {
        match json {
            true => writeln!(out, "{}", line(&plan.json("to do")))?,
            false => {
                plan.print(out)?;
                writeln!(out, "Nothing was changed. Say -yes to do it.")?;
            }
        }
        return Ok(Outcome::ToDo);
    }

    let _lock = Lock::acquire(&names.lock(), false)?;
    let _segment = lock_last(&SystemDisk, &names)?;
    // A server may have come and gone since the plan was made.
    let Some(plan) = Plan::of(&ReadOnlyDisk, &names, repair.to_lsn)? else {
        anyhow::bail!("{}: was changed meanwhile; try again", names.active().display());
    };
    if !json {
        plan.print(out)?;
        out.flush()?;
    }
    plan.cut_back.carry_out(&SystemDisk, &names)?;
    let report = Report::of(&ReadOnlyDisk, &names)?;
    match json {
        true => {
            let mut done = plan.json("done");
            done["check"] = report.json();
            writeln!(out, "{}", line(&done))?;
        }
        false => {
            writeln!(out, "Done. The log is now:")?;
            report.print(out)?;
        }
    }
    anyhow::ensure!(report.outcome() == Outcome::Well, "the log is still not whole; see above");
    Ok(Outcome::Well)
}

/// Locks the segment that a server would write; `None` if there is none.
fn lock_last(disk: &dyn Disk, names: &Names) -> anyhow::Result<Option<Box<dyn DiskFile>>> {
    match disk.open(names.active(), Access::Direct) {
        Ok(file) => {
            lock_segment(&*file, names.active())?;
            Ok(Some(file))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is to be done, and what it costs.
pub struct Plan {
    /// What is done to the files.
    pub cut_back: CutBack,
    reason: String,
    /// The last LSN that any frame after the cut names.
    last_seen: u64,
    /// Whether there may have been records after that.
    more_may_be_lost: bool,
    /// Whole batches after the cut, and the records in them.
    readable: (u64, u64),
    /// The keys of values that the kept part of the log changes in place, on top of a snapshot that may be later.
    perhaps_mixed: Vec<Key>,
}

impl Plan {
    /// What is to be done about a log; `None` if nothing is. Changes nothing.
    pub fn of(disk: &dyn Disk, names: &Names, to_lsn: Option<u64>) -> anyhow::Result<Option<Plan>> {
        let Some(log) = open(disk, names)? else {
            return Ok(None);
        };
        let Kept { inspection, wanted, bases } = read(disk, &log, to_lsn.unwrap_or(u64::MAX));
        let damage = inspection.damage().map(|damage| format!("{}.", damage.place()));
        let in_snapshot = |damage: &Damage| names.snapshot_of(&damage.path).is_some();
        if let Some(damage) = inspection.damage().filter(|damage| in_snapshot(damage)) {
            bail!(
                "{damage}. What a snapshot held is nowhere else: repair cannot mend it. What can still be read \
                 of the log: post-gres-rs dump -skip-damage"
            );
        }
        let covered =
            inspection.snapshot.as_ref().map_or(0, |snapshot| snapshot.tail.header.first_lsn - 1);
        if let Some(lsn) = to_lsn.filter(|&lsn| lsn < covered) {
            bail!(
                "{}: the records up to LSN {covered} are in a snapshot, which holds only the \
                 keys that they left. Nothing was changed. {covered} is the first LSN to go back to, not {lsn}",
                names.active().display()
            );
        }
        let more_may_be_lost = damage.is_some();
        // After a torn batch nothing was written, nor seen by a snapshot.
        let is_cut = damage.is_some() || matches!(inspection.tail, Ok(Ending::Stopped));
        let mixed = is_cut.then(|| bases.perhaps_mixed().into_iter().cloned().collect());
        let perhaps_mixed = mixed.unwrap_or_default();
        let (reason, keep) = match (inspection.tail, damage) {
            (Ok(Ending::Stopped), _) => {
                let lsn = to_lsn.unwrap_or(u64::MAX);
                (format!("Asked for: keep the whole batches up to LSN {lsn}."), wanted)
            }
            (Ok(Ending::Torn(torn)), _) => (torn_text(&torn), inspection.segments.last().cloned()),
            (Ok(_), _) => return Ok(None),
            (Err(_), Some(damage)) => (damage, inspection.segments.last().cloned()),
            (Err(error), None) => return Err(error),
        };
        let cut_back = cut_back_to(disk, names, &log, keep)?;
        let last_seen = last_seen(disk, &log, cut_back.keep.as_ref())?.max(log.known_lsn());
        let readable = (0, 0);
        let mut plan =
            Plan { cut_back, reason, last_seen, more_may_be_lost, readable, perhaps_mixed };
        plan.readable = readable_after(disk, names, plan.kept_lsn())?;
        Ok(Some(plan))
    }

    fn kept_lsn(&self) -> u64 {
        self.cut_back.kept_lsn()
    }

    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{}\n", self.reason)?;
        let CutBack { keep, tail, moved, .. } = &self.cut_back;
        match keep {
            Some(keep) => writeln!(
                out,
                "Keep    everything up to LSN {}: the files up to {}, and that up to offset {}.",
                self.kept_lsn(),
                file_name(&keep.path),
                keep.tail.end
            )?,
            None if self.kept_lsn() > 0 => {
                writeln!(out, "Keep    the snapshot, and nothing after it.")?
            }
            None => writeln!(out, "Keep    nothing: the log will be empty.")?,
        }
        if let Some((tail, aside)) = tail {
            let bytes = tail.end - tail.offset;
            writeln!(out, "Cut     the {bytes} bytes after it, kept in {}.", file_name(aside))?;
        }
        for (from, to) in moved {
            writeln!(out, "Move    {} to {}.", file_name(from), file_name(to))?;
        }
        let kept = self.kept_lsn();
        match (self.last_seen > kept, self.more_may_be_lost) {
            (true, more) => writeln!(
                out,
                "Lose    LSN {} to {}, {} records{}.",
                kept + 1,
                self.last_seen,
                self.last_seen - kept,
                if more { " or more" } else { "" }
            ),
            (false, true) => writeln!(out, "Lose    whatever there was from LSN {} on.", kept + 1),
            (false, false) => writeln!(out, "Lose    nothing that anybody was told is safe."),
        }?;
        let mixed = &self.perhaps_mixed;
        if !mixed.is_empty() {
            writeln!(
                out,
                "Doubt   values that the snapshot has, and that were changed in place after it: {}. If it was still being \
                 written at LSN {kept}, newer bytes may be among older ones there. Compare them, or set them anew.",
                named(mixed.iter())
            )?;
        }
        let (batches, records) = self.readable;
        if batches > 0 {
            writeln!(
                out,
                "Whole   {records} records in {batches} batches of what is cut can be read: post-gres-rs dump \
                 -skip-damage prints them before a repair, dump FILE.cut after it."
            )?;
        }
        Ok(())
    }

    fn json(&self, state: &str) -> Value {
        let CutBack { keep, tail, moved, .. } = &self.cut_back;
        let mut object = json!({
            "state": state,
            "reason": self.reason,
            "kept_lsn": self.kept_lsn(),
            "lost_records": self.last_seen.saturating_sub(self.kept_lsn()),
            "more_may_be_lost": self.more_may_be_lost,
            "readable_batches": self.readable.0,
            "readable_records": self.readable.1,
        });
        if let (Some(keep), Some((tail, aside))) = (keep, tail) {
            object["cut"] = json!({
                "file": file_name(&keep.path),
                "offset": tail.offset,
                "bytes": tail.end - tail.offset,
                "kept_in": file_name(aside),
            });
        }
        let moved =
            moved.iter().map(|(from, to)| json!({"from": file_name(from), "to": file_name(to)}));
        object["moved"] = moved.collect();
        if !self.perhaps_mixed.is_empty() {
            let key = |key: &Key| {
                let mut object = json!({});
                set_bytes(&mut object, "key", key);
                object
            };
            object["perhaps_mixed"] = self.perhaps_mixed.iter().map(key).collect();
        }
        object
    }
}

fn torn_text(torn: &Torn) -> String {
    format!(
        "A torn batch of {} bytes at offset {}, LSN {}; nobody was told that it is safe, and a start \
         would cut it, too.",
        torn.end - torn.offset,
        torn.offset,
        torn.lsn
    )
}

/// What is kept of a log.
struct Kept {
    inspection: Inspection,
    /// How the log stands where it is to be cut; `None` if nothing is before.
    wanted: Option<Segment>,
    bases: Bases,
}

/// Reads a log up to the first batch that has a record after `to_lsn`.
fn read(disk: &dyn Disk, log: &Log, to_lsn: u64) -> Kept {
    let mut progress = Progress::new("reading", log.amount());
    let (mut wanted, mut bases) = (None, Bases::default());
    let inspection = log.walk(disk, &mut |batch| {
        progress.add(batch);
        let last = batch.first_lsn() + u64::from(batch.records());
        let is_kept = batch.is_snapshot || last <= to_lsn.saturating_add(1);
        let origin = if batch.is_snapshot { Origin::Snapshot } else { Origin::Log };
        record::read_batch(batch.frame.payload(), batch.records(), |logged| {
            if is_kept {
                bases.follow(&logged, origin);
            }
        })?;
        if batch.is_snapshot {
            return Ok(ControlFlow::Continue(()));
        }
        if !is_kept {
            return Ok(ControlFlow::Break(()));
        }
        let begin = || Segment::begin(batch.path, Tail::of_segment(*batch.segment));
        wanted.get_or_insert_with(begin).follow(batch);
        Ok(ControlFlow::Continue(()))
    });
    // With LSN 0 the first segment stays, empty.
    let first = inspection.segments.first();
    let empty = |first: &Segment| Segment::begin(&first.path, Tail::of_segment(first.tail.header));
    let wanted = wanted.or_else(|| first.map(empty));
    Kept { inspection, wanted, bases }
}

/// How the files have to be changed for the log to end as `keep` says.
fn cut_back_to(
    disk: &dyn Disk,
    names: &Names,
    log: &Log,
    keep: Option<Segment>,
) -> anyhow::Result<CutBack> {
    let listed = disk.list(names.directory())?;
    let stays = |path: &&Path| keep.as_ref().is_none_or(|keep| keep.path != *path);
    // If no segment is kept, the new one replaces a prepared one, which has no records.
    let is_in_the_way = |path: &&Path| keep.is_some() || *path != names.next();
    let moved = log.paths().rev().take_while(stays).filter(is_in_the_way);
    let moved = moved.map(|path| (path.to_owned(), free_name(&listed, path, "cut"))).collect();
    let tail = match &keep {
        Some(keep) => {
            let file = disk.open(&keep.path, Access::Direct)?;
            let Tail { header, end: offset, next_lsn: lsn, .. } = keep.tail;
            let end = Reader::new(&*file, header.epoch)?.content_end(offset)?;
            let suffix = format!("{lsn}.cut");
            let torn = Torn { offset, end, lsn };
            (end > offset).then(|| (torn, free_name(&listed, &keep.path, &suffix)))
        }
        None => None,
    };
    let anew = anew(log.snapshot_header()?.as_ref())?;
    Ok(CutBack { keep, anew, tail, moved })
}

/// How many whole batches after `kept_lsn` there are, and the records in them.
fn readable_after(disk: &dyn Disk, names: &Names, kept_lsn: u64) -> anyhow::Result<(u64, u64)> {
    let (mut batches, mut all) = (0, 0);
    salvage::read_log(disk, names, &mut |piece| {
        if let Piece::Batch(batch) = piece
            && !batch.is_snapshot
            && batch.first_lsn() > kept_lsn
        {
            record::read_batch(batch.frame.payload(), batch.records(), drop)?;
            batches += 1;
            all += u64::from(batch.records());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((batches, all))
}

/// The last LSN that anything after `keep` names: batches, marks, and headers of segments.
fn last_seen(disk: &dyn Disk, log: &Log, keep: Option<&Segment>) -> anyhow::Result<u64> {
    let mut seen = 0;
    for path in log.paths().rev() {
        let block = files::first_block(disk, path)?;
        let kept = keep.filter(|keep| keep.path == path);
        if let Ok(header) = SegmentHeader::decode(MAGIC, &block) {
            seen = seen.max(header.first_lsn.saturating_sub(1));
            let file = disk.open(path, Access::Direct)?;
            let mut reader = Reader::new(&*file, header.epoch)?;
            let mut at = kept.map_or(FIRST_FRAME, |keep| keep.tail.end) - BLOCK_BYTES as u64;
            while let Some((offset, frame)) = reader.header_after(at)? {
                at = offset;
                // Only a later program knows what LSN its frame names.
                let Ok(frame) = frame else { continue };
                let records = if frame.kind == Kind::Batch { frame.records } else { 0 };
                seen = seen.max((frame.first_lsn - 1).saturating_add(records.into()));
            }
        }
        if kept.is_some() {
            break;
        }
    }
    Ok(seen)
}
