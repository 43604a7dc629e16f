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
use super::entry;
use super::format;
use super::head::Head;
use super::history::{self, Another};
use super::json::{Freshness, Page};
use super::keys::Range;
use super::kv::{Kv, Refusal, Trouble, Txn};
use super::node::{Covered, Node};
use super::pointer::Pointer;
use super::reading::{Batch, Chain, tail_after};
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
        let node = self.node.clone();
        let mut chain = Chain::log(&node.keys, tail, head.lsn);
        let Some(rest) = chain.rest() else { return Ok(Read::Nothing) };
        // If it ends early, the log was trimmed after the head was read, which is read again.
        let batches = chain.read_page(self.page(&rest, freshness)?)?;
        if batches.is_empty() {
            return Ok(Read::Nothing);
        }
        let (next, bytes) = (chain.tail(), batches.iter().map(Batch::bytes).sum());
        self.store(batches)?;
        self.tail = Some(next);
        let logged = self.node.logged.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.node.marks.note(next.next_lsn, logged);
        self.node.note_stored(self.lsn());
        Ok(Read::Some)
    }

    /// Empties the store, and fills it from the snapshot, if there is one.
    pub fn read_snapshot(&mut self) -> anyhow::Result<()> {
        self.node.set_loading(true);
        self.tail = None;
        self.empty_store()?;
        let time = attempt_time(self.node.lease.ttl());
        let found = self.client.get(&self.node.keys.snapshot(), Freshness::Current, time);
        let Some(value) = found.map_err(untold)? else {
            self.tail = Some(tail_after(None));
            return Ok(());
        };
        let pointer = Pointer::parse(&value).map_err(|why| anyhow!(why))?;
        self.read_pieces(&pointer)?;
        self.tail = Some(tail_after(Some(&pointer)));
        self.node.note_stored(pointer.lsn);
        let logged = self.node.logged.load(Ordering::Relaxed);
        self.node.note_covered(Covered { lsn: pointer.lsn, bytes: pointer.bytes, logged });
        log::info!("read a snapshot of {} records up to LSN {}", pointer.records, pointer.lsn);
        Ok(())
    }

    /// Notes a snapshot that the leader before has written, so that this one does not write it anew at once.
    pub fn note_snapshot(&mut self) -> anyhow::Result<()> {
        let time = attempt_time(self.node.lease.ttl());
        let found = self.client.get(&self.node.keys.snapshot(), Freshness::Current, time);
        let Some(value) = found.map_err(untold)? else { return Ok(()) };
        let Pointer { lsn, bytes, .. } = Pointer::parse(&value).map_err(|why| anyhow!(why))?;
        let logged = self.node.marks.logged_before(lsn + 1).unwrap_or(self.node.covered().logged);
        self.node.note_covered(Covered { lsn, bytes, logged });
        Ok(())
    }

    fn read_pieces(&mut self, pointer: &Pointer) -> anyhow::Result<()> {
        let node = self.node.clone();
        let mut chain = Chain::snapshot(&node.keys, pointer);
        while let Some(rest) = chain.rest() {
            let batches = chain.read_page(self.page(&rest, Freshness::Current)?)?;
            ensure!(
                !batches.is_empty(),
                "{} is not there; another snapshot may have replaced this one",
                chain.next_key()
            );
            self.store(batches)?;
        }
        Ok(chain.check_end()?)
    }

    fn page(&mut self, keys: &Range, freshness: Freshness) -> anyhow::Result<Page> {
        let time = attempt_time(self.node.lease.ttl()).max(LEAST_PAGE_TIME);
        self.client.range(keys, MOST_BATCHES, freshness, time).map_err(untold)
    }

    fn empty_store(&self) -> anyhow::Result<()> {
        let mut all_gone = Vec::new();
        record::New::ClearAll.encode(|piece| all_gone.extend_from_slice(piece));
        let engine = self.engine.clone();
        self.change_store(move || store_batch(engine.store(), &all_gone, 1))
    }

    fn store(&self, batches: Vec<Batch>) -> anyhow::Result<()> {
        let engine = self.engine.clone();
        self.change_store(move || {
            let store = |it: &Batch| store_batch(engine.store(), it.payload(), it.header.records);
            batches.iter().try_for_each(store)
        })
    }

    /// Changes the store on the committing thread.
    fn change_store(
        &self,
        change: impl FnOnce() -> Result<(), record::NotRecords> + Send + 'static,
    ) -> anyhow::Result<()> {
        let stored = self.engine.errand(move |_| change());
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
        Trouble::Unknown(why) | Trouble::Refused(Refusal::ForNow(why)) => {
            anyhow!("etcd gives no answer to go on with: {why}")
        }
        Trouble::Refused(Refusal::ForGood(why)) => anyhow!("etcd refuses a read: {why}"),
        Trouble::NoSpace | Trouble::Refused(Refusal::NoSpace) => anyhow!("etcd has no space left"),
    }
}
