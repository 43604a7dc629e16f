//! A log in etcd, as the tools see it: batches in order, as those of a log in files are.
//!
//! The file of a batch is its key, and its offset there 0. Reading, checks, and how a log is read that servers write are
//! [`crate::replicated`]'s.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde_json::{Value, json};

use super::inspect::{Ending, Inspection, Segment, Visit};
use super::progress::Amount;
use super::salvage::{self, Take};
pub use crate::replicated::Credentials;
use crate::replicated::clock::Boottime;
use crate::replicated::{
    Access, Batch, Damage, Head, Http, IMPORTER, Import, LogReader, Overtaken, Piece, Pointer,
    Tenure, Url,
};
use crate::wal::chain::Tail;
use crate::wal::frame::SegmentHeader;
use crate::wal::place::is_address;
use crate::wal::reader::{Frame, Replayed};

/// How often a tool begins again, because a compaction was faster. A compaction comes after at least a megabyte of
/// new log, so that even two in a row are rare.
const TRIES: usize = 10;

/// Where a log in etcd is, and how it is reached.
pub struct Address {
    text: String,
    url: Url,
    access: Access,
}

/// A log in etcd.
pub struct Log(LogReader<Http>);

impl Address {
    /// The address that a path is; `None` if it is a path.
    pub fn of(path: &Path, credentials: &Credentials) -> anyhow::Result<Option<Address>> {
        if !is_address(path) {
            return Ok(None);
        }
        let text = path.to_str().unwrap_or_default();
        let url = Url::parse(text).map_err(|why| anyhow!("{text}: {why}"))?;
        let access = Access::of(&url, credentials)?;
        Ok(Some(Address { text: text.to_owned(), url, access }))
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Claims its name for a log that ends with the record `lsn`; an error if there is one already.
    pub fn import(&self, lsn: u64) -> anyhow::Result<Import<Http, Boottime>> {
        Import::begin(self.access.connect(&self.url, None)?, Boottime, &self.url.name, lsn)
    }

    /// Looks at the log; an error if there is none.
    pub fn open(&self) -> anyhow::Result<Log> {
        let found = LogReader::open(self.access.connect(&self.url, None)?, &self.url.name)?;
        let none = || anyhow!("{}: there is no log of this name in etcd; name another", self.text);
        found.map(Log).ok_or_else(none)
    }
}

/// Reads a log in etcd from its beginning, again if a compaction was faster.
pub fn until_read<R>(mut read: impl FnMut() -> anyhow::Result<R>) -> anyhow::Result<R> {
    for _ in 1..TRIES {
        match read() {
            Err(error) if is_overtaken(&error) => {}
            done => return done,
        }
    }
    read()
}

/// Whether a log in etcd was not read because a compaction was faster.
pub fn is_overtaken(error: &anyhow::Error) -> bool {
    error.is::<Overtaken>()
}

/// Damage to a log in etcd, for scripts.
pub fn damage_json(error: &anyhow::Error) -> Option<Value> {
    let Damage { key, lsn, what } = error.downcast_ref()?;
    Some(json!({"key_in_etcd": key, "lsn": lsn, "what": what}))
}

impl Log {
    /// How much there is to read.
    pub fn amount(&self) -> Amount {
        Amount::Records(self.0.records())
    }

    /// The LSN that its snapshot covers; `None` without one.
    pub fn covered(&self) -> Option<u64> {
        self.0.pointer().map(|pointer| pointer.lsn)
    }

    /// Who leads, as the head says: a sentence, and the same for scripts.
    pub fn leader(&self) -> Option<(String, Value)> {
        let Head { term, tenure, node, .. } = self.0.head()?;
        let (address, leads) = (node.address(), *tenure == Tenure::Held);
        let text = match tenure {
            Tenure::Held => format!("{address}, in term {term}, unless it is gone"),
            Tenure::Free if node.id() == IMPORTER => "none yet; the log was imported".to_owned(),
            Tenure::Free => format!("none; {address} gave the lead back in term {term}"),
        };
        Some((text, json!({"address": address, "term": term, "leads": leads})))
    }

    /// Reads everything and hands every batch to `visit`, whose errors are its own. Fails if a compaction was faster.
    pub fn walk(&mut self, visit: &mut Visit<'_>) -> anyhow::Result<Inspection> {
        let mut inspection =
            Inspection { snapshot: None, segments: Vec::new(), tail: Ok(Ending::Stopped) };
        let prefix = PathBuf::from(self.0.keys().prefix());
        let pointer = self.0.pointer().copied();
        inspection.snapshot = pointer.map(|pointer| Segment {
            covers: Some(pointer.lsn),
            bytes: 0,
            ..Segment::begin(&prefix.join("snapshot"), Tail::of_snapshot(snapshot_header(&pointer)))
        });
        let first_lsn = pointer.map_or(1, |pointer| pointer.lsn.saturating_add(1));
        let mut log = Segment::begin(&prefix.join("log"), Tail::of_segment(header(0, first_lsn)));
        log.bytes = 0;
        log.tail.last_checksum = pointer.map_or(0, |pointer| pointer.last_checksum);
        let mut is_enough = false;
        let read = self.0.read(&mut |piece| {
            let flow = hand_on(&piece, visit)?;
            is_enough = flow.is_break();
            match piece {
                Piece::Snapshot(_, batch) => {
                    let snapshot = inspection.snapshot.as_mut();
                    snapshot.expect("its pointer was read").add(batch);
                }
                Piece::Log(batch) => log.add(batch),
            }
            Ok(flow)
        });
        inspection.segments.push(log);
        inspection.tail = match read {
            Err(error) if is_overtaken(&error) => return Err(error),
            Err(error) => Err(error),
            Ok(()) if is_enough => Ok(Ending::Stopped),
            Ok(()) => self.ending(),
        };
        Ok(inspection)
    }

    fn ending(&mut self) -> anyhow::Result<Ending> {
        Ok(match self.0.head().map(|head| head.tenure) {
            Some(Tenure::Free) => Ending::Closed,
            _ if self.0.is_written()? => Ending::Running,
            _ => Ending::Open,
        })
    }

    /// Reads what can be read, and names each gap.
    pub fn salvage(&mut self, take: &mut Take<'_>) -> anyhow::Result<()> {
        self.0.salvage(&mut |read| match read {
            Ok(piece) => hand_on(&piece, &mut |batch| take(salvage::Piece::Batch(batch))),
            Err(Damage { key, lsn, what }) => {
                let gap = format!("{key}: LSN {lsn} and perhaps later: {what}");
                take(salvage::Piece::Gap(&gap))
            }
        })
    }
}

fn hand_on(piece: &Piece<'_>, visit: &mut Visit<'_>) -> anyhow::Result<ControlFlow<()>> {
    let (batch, segment) = match piece {
        Piece::Snapshot(pointer, batch) => (batch, snapshot_header(pointer)),
        Piece::Log(batch) => (batch, header(batch.term, batch.header.first_lsn)),
    };
    visit(&Replayed {
        is_snapshot: matches!(piece, Piece::Snapshot(..)),
        path: Path::new(&batch.key),
        segment: &segment,
        offset: 0,
        frame: Frame { header: batch.header, bytes: batch.frame() },
    })
}

/// The header that a file would have: that of the part of the log that follows.
fn snapshot_header(pointer: &Pointer) -> SegmentHeader {
    header(pointer.writer, pointer.lsn.saturating_add(1))
}

fn header(term: u64, first_lsn: u64) -> SegmentHeader {
    SegmentHeader {
        store_id: 0,
        sequence: term,
        epoch: term,
        first_lsn,
        previous_epoch: 0,
        previous_checksum: 0,
        file_bytes: 0,
    }
}

impl Segment {
    /// Advances past an entry; the sequence number of a log in etcd is the term.
    fn add(&mut self, batch: &Batch) {
        self.batches += 1;
        self.records += u64::from(batch.header.records);
        self.bytes += batch.bytes();
        self.tail.follow(&batch.header);
        self.tail.header.sequence = batch.term;
    }
}
