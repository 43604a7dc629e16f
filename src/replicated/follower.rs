//! Reads the log into the store, as far as it goes: at a start, behind a leader, and at a takeover.
//!
//! A snapshot comes first if there is one, then entry after entry, each checked against the one before. The store is
//! changed by errands on the committing thread alone, so that what a lead has committed and what is read from the log
//! never meet. Nothing here says what may be shown.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};

use super::client::{Client, MOST_BATCHES, Transport};
use super::decide::attempt_time;
use super::entry::{self, Entry};
use super::format;
use super::head::Head;
use super::history::{self, Another};
use super::json::{Freshness, Page};
use super::keys::Range;
use super::kv::{Kv, Trouble, Txn};
use super::node::Node;
use super::pointer::Pointer;
use crate::engine::{Handle, store_batch};
use crate::record;
use crate::wal::chain::Tail;

/// How far the node is, and how it gets on.
pub struct Follower<T> {
    pub node: Arc<Node>,
    pub client: Client<T>,
    pub engine: Handle,
    /// Everything before its end is in the store; `None` if the store has to be filled anew.
    pub tail: Option<Tail>,
}

/// How a look at the log went.
pub enum Read {
    /// There is nothing after what is stored.
    Nothing,
    /// There was something, and it is stored now.
    Some,
    /// What comes next has been trimmed: a snapshot replaces it.
    Trimmed,
}

impl<T: Transport> Follower<T> {
    /// The last LSN that is in the store.
    pub fn lsn(&self) -> u64 {
        self.tail.as_ref().map_or(0, |tail| tail.next_lsn - 1)
    }

    /// Reads the head; `None` if there is no log yet.
    pub fn head(&mut self, freshness: Freshness) -> Result<Option<Head>, Trouble> {
        let time = attempt_time(self.node.lease.ttl());
        let found = self.client.get(&self.node.keys.head(), freshness, time)?;
        let head = found.map(|value| Head::parse(&value)).transpose();
        head.map_err(Trouble::Unknown)
    }

    /// Reads a key, so that no member and no flaw of etcd's reads can show an older value: through etcd's own log.
    fn certain(&mut self, key: String) -> Result<Option<Vec<u8>>, Trouble> {
        let time = attempt_time(self.node.lease.ttl());
        let read = self.client.txn(&Txn::read(key, self.node.keys.nothing()), time)?;
        Ok(read.found.into_iter().next().expect("one for each read of the transaction"))
    }

    /// The head as it certainly is now, or was a moment ago.
    pub fn certain_head(&mut self) -> Result<Option<Head>, Trouble> {
        let found = self.certain(self.node.keys.head())?;
        found.map(|value| Head::parse(&value)).transpose().map_err(Trouble::Unknown)
    }

    /// Whether the log in etcd is one that this node can have read up to where it is. Called when something is
    /// amiss, since it costs etcd two writes.
    pub fn check_history(&mut self) -> Result<Result<(), Another>, Trouble> {
        let Some(tail) = self.tail else { return Ok(Ok(())) };
        // The batch first: what is not there then, and was not trimmed by the time at which the head is read, is not
        // in this log.
        let next = self.certain(self.node.keys.batch(tail.next_lsn))?;
        let Some(head) = self.certain_head()? else { return Ok(Err(Another::Gone)) };
        Ok(match next {
            _ if head.lsn < self.lsn() => Err(Another::Shorter),
            _ if head.lsn == self.lsn() => {
                history::compare_end(&head, self.lsn(), tail.last_checksum)
            }
            _ if head.first_log_lsn > tail.next_lsn => Ok(()),
            Some(value) if entry::follows(&value, &tail) => Ok(()),
            // It may have been written between the two reads.
            None if self.certain(self.node.keys.batch(tail.next_lsn))?.is_some() => Ok(()),
            Some(_) | None => Err(Another::Fork),
        })
    }

    /// Whether the format of the log is one that this program knows.
    pub fn check_format(&mut self, head: &Head) -> anyhow::Result<()> {
        let time = attempt_time(self.node.lease.ttl());
        let found = self.client.get(&self.node.keys.format(), Freshness::Current, time);
        format::check(found.map_err(untold)?.as_deref(), head).map_err(|why| anyhow!(why))
    }

    /// Stores what comes next, up to the LSN of `head`.
    pub fn read_on(&mut self, head: &Head, freshness: Freshness) -> anyhow::Result<Read> {
        let Some(tail) = self.tail else { return Ok(Read::Trimmed) };
        if tail.next_lsn < head.first_log_lsn {
            return Ok(Read::Trimmed);
        }
        if tail.next_lsn > head.lsn {
            return Ok(Read::Nothing);
        }
        let keys = self.node.keys.batches(tail.next_lsn, head.lsn.saturating_add(1));
        let page = self.page(&keys, freshness)?;
        let mut next = tail;
        let (mut batches, mut bytes) = (Vec::new(), 0);
        for (key, value) in page.pairs {
            if key != self.node.keys.batch(next.next_lsn) {
                // It was trimmed after the head was read, which is read again.
                break;
            }
            let read = entry::decode(&value, &mut next);
            let Entry { payload, header, .. } =
                read.map_err(|why| anyhow!("the log in etcd is damaged at {key}: {why}"))?;
            bytes += value.len() as u64;
            batches.push((payload.to_vec(), header.records));
        }
        if batches.is_empty() {
            return Ok(Read::Nothing);
        }
        self.store(batches)?;
        self.tail = Some(next);
        self.node.note_stored(self.lsn());
        let logged = self.node.logged.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.node.marks.note(next.next_lsn, logged);
        Ok(Read::Some)
    }

    /// Empties the store, and fills it from the snapshot, if there is one.
    pub fn read_snapshot(&mut self) -> anyhow::Result<()> {
        self.node.set_loading(true);
        self.tail = None;
        let mut all_gone = Vec::new();
        record::New::ClearAll.encode(|piece| all_gone.extend_from_slice(piece));
        self.store(vec![(all_gone, 1)])?;
        let time = attempt_time(self.node.lease.ttl());
        let found = self.client.get(&self.node.keys.snapshot(), Freshness::Current, time);
        let Some(value) = found.map_err(untold)? else {
            self.tail = Some(entry::tail(0, 1, 0));
            return Ok(());
        };
        let pointer = Pointer::parse(&value).map_err(|why| anyhow!(why))?;
        self.read_pieces(&pointer)?;
        self.tail = Some(entry::tail(0, pointer.lsn + 1, pointer.last_checksum));
        self.node.note_stored(pointer.lsn);
        log::info!("read a snapshot of {} records up to LSN {}", pointer.records, pointer.lsn);
        Ok(())
    }

    fn read_pieces(&mut self, pointer: &Pointer) -> anyhow::Result<()> {
        let mut chain = entry::tail(pointer.writer, 1, 0);
        let mut next = 0;
        while next < pointer.pieces {
            let keys = self.node.keys.pieces_from(pointer.lsn, pointer.writer, next);
            let page = self.page(&keys, Freshness::Current)?;
            let mut batches = Vec::new();
            for (key, value) in page.pairs {
                ensure!(
                    key == self.node.keys.piece(pointer.lsn, pointer.writer, next),
                    "piece {next} of the snapshot is not there; another one may have replaced it"
                );
                let read = entry::decode(&value, &mut chain);
                let Entry { payload, header, .. } =
                    read.map_err(|why| anyhow!("the snapshot in etcd is damaged at {key}: {why}"))?;
                batches.push((payload.to_vec(), header.records));
                next += 1;
            }
            ensure!(
                !batches.is_empty(),
                "the snapshot ends at piece {next}; another one may have replaced it"
            );
            self.store(batches)?;
        }
        let is_whole =
            chain.next_lsn - 1 == pointer.records && chain.last_checksum == pointer.checksum;
        ensure!(is_whole, "the snapshot in etcd is not the one that its pointer names");
        Ok(())
    }

    fn page(&mut self, keys: &Range, freshness: Freshness) -> anyhow::Result<Page> {
        let time = attempt_time(self.node.lease.ttl()).max(LEAST_PAGE_TIME);
        self.client.range(keys, MOST_BATCHES, freshness, time).map_err(untold)
    }

    fn store(&self, batches: Vec<(Vec<u8>, u32)>) -> anyhow::Result<()> {
        let engine = self.engine.clone();
        let stored = self.engine.errand(move |_| {
            let store = |(payload, records): &(Vec<u8>, u32)| {
                store_batch(engine.store(), payload, *records)
            };
            batches.iter().try_for_each(store)
        });
        match stored.context("the server stops")? {
            Ok(()) => Ok(()),
            Err(record::NotRecords) => bail!("a batch of the log in etcd is not made of records"),
        }
    }
}

/// A page of batches may have many megabytes.
const LEAST_PAGE_TIME: Duration = Duration::from_secs(5);

/// A read that did not succeed, and changed nothing.
pub fn untold(trouble: Trouble) -> anyhow::Error {
    match trouble {
        Trouble::Refused(refusal) => anyhow!("etcd refuses a read: {refusal}"),
        Trouble::NoSpace => anyhow!("etcd has no space left"),
        Trouble::Unknown(why) => anyhow!("etcd does not answer: {why}"),
    }
}
