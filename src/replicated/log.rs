//! The log of the node that leads, as the engine uses it: one batch is one transaction of etcd.
//!
//! One decision is on its way at a time. While it is, the next batch gathers; two or three at a time gained nothing
//! that could be relied on, and cost the order. Each renews the lease; an idle leader renews it by itself. A node that
//! finds that it does not lead, or cannot tell, ends its lead before it answers, and every client gets an error: what
//! is not known to be done is never shown, and is applied only if it is read from the log afterwards.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::change::{Changes, Lost, change};
use super::client::{Client, Transport};
use super::entry;
use super::kv::{LARGEST_TXN_BYTES, Op, Refusal};
use super::node::{Lead, Node};
use crate::command::{Changed, Text};
use crate::engine::log::{Log, NotCommitted, Sealed};
use crate::engine::{Health, Room};
use crate::metrics::Metrics;
use crate::record;
use crate::wal::Failure;
use crate::wal::chain::Frame;
use crate::wal::frame::{FrameHeader, SegmentHeader};

/// An idle leader renews its lease after this part of the TTL.
const RENEWALS: u32 = 4;

/// Memory that stays with the log between two batches.
const KEPT_BYTES: usize = 1 << 20;

/// A batch ends when it has this many bytes. With one value of the longest more, it is within [`LONGEST_ENTRY`]. A
/// member of etcd keeps its last 5,000 batches and those since its own last snapshot in memory, whatever they have: of
/// 256 KiB they took 2.9 GB, of 64 KiB 1.3 GB.
const BATCH_BYTES: usize = 64 << 10;

/// The most bytes of an entry: a batch that is longer is refused, because etcd would refuse it.
pub const LONGEST_ENTRY: usize = LARGEST_TXN_BYTES - 4096;

/// What NotCommitted says of a lead that has passed on, before anything was done.
const PASSED_ON: &str =
    "READONLY another server has taken over, and nothing was done; ask SENTINEL which one leads";
const UNKNOWN: &str =
    "ERR the log did not answer in time, and it is not known whether this was done";
const TOO_LONG: &str = "ERR the changes of this batch are longer than the log takes at a time (1.5 MiB), and nothing was done";

/// See the head of this file.
pub struct EtcdLog<T> {
    node: Arc<Node>,
    client: Client<T>,
    metrics: Arc<Metrics>,
    frame: Frame,
    /// The term in which its records were evaluated.
    framed_in: u64,
    /// When the lease was last renewed, or a renewal last tried.
    renewed: Instant,
}

impl<T: Transport> EtcdLog<T> {
    pub fn new(node: Arc<Node>, client: Client<T>, metrics: Arc<Metrics>) -> EtcdLog<T> {
        EtcdLog {
            node,
            client,
            metrics,
            frame: Frame::default(),
            framed_in: 0,
            renewed: Instant::now(),
        }
    }

    /// Renews the lease. Fails if the node does not lead any more.
    fn renew(&mut self) -> Result<(), NotCommitted> {
        self.renewed = Instant::now();
        let renewal = |lead: &Lead| (lead.head.renewed(self.node.next_beat()), Vec::new());
        let renewed = change(&self.node, &mut self.client, renewal, |_| {});
        self.judge(renewed)
    }

    /// What a change of the head comes to for the batch.
    fn judge(&mut self, changed: Changes) -> Result<(), NotCommitted> {
        let withheld = |text: Text| Err(NotCommitted::Withheld(text));
        match changed {
            None => withheld(self.node.refusal()),
            Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(Refusal::NoSpace))) => {
                let reason: Arc<str> = Refusal::NoSpace.to_string().into();
                self.node.health.is_full(&reason);
                Err(NotCommitted::NoRoom(reason))
            }
            Some(Ok(Err(Refusal::ForNow(why) | Refusal::ForGood(why)))) => {
                log::warn!("etcd refuses a transaction: {why}");
                withheld(format!("ERR nothing was done, because etcd refuses it: {why}").into())
            }
            Some(Err(Lost::Done)) => {
                log::warn!("another server has taken over");
                Ok(())
            }
            Some(Err(Lost::PassedOn)) => {
                log::warn!("another server has taken over");
                withheld(PASSED_ON.into())
            }
            Some(Err(Lost::Unknown(why))) => {
                log::error!("this server leads no more, because etcd does not answer: {why}");
                withheld(UNKNOWN.into())
            }
            Some(Err(Lost::Broken(why))) => {
                self.node.health.fail(&why);
                // Not as a log that is only closed: what its reads have found may be outdated.
                withheld(self.node.refusal())
            }
        }
    }
}

impl<T: Transport> Log for EtcdLog<T> {
    fn frame(&mut self, changed: &Changed) {
        self.framed_in = self.node.led_term();
        for new in record::of(changed) {
            self.frame.push(|frame| new.encode(|piece| frame.extend_from_slice(piece)));
        }
        self.metrics.log_memory.set(self.frame.capacity() as u64);
    }

    fn commit(&mut self, grows: bool) -> Result<Option<Duration>, NotCommitted> {
        // What was evaluated on another state of the data is not written on top of this one.
        if self.framed_in == 0 || self.framed_in != self.node.led_term() {
            return Err(NotCommitted::Withheld(self.node.refusal()));
        }
        if let (true, Room::Full(reason)) = (grows, self.node.room()) {
            return Err(NotCommitted::NoRoom(reason));
        }
        if self.frame.len() as usize > LONGEST_ENTRY - entry::ENTRY_HEADER_BYTES {
            return Err(NotCommitted::Withheld(TOO_LONG.into()));
        }
        let started = Instant::now();
        let records = self.frame.records();
        let mut frame = std::mem::take(&mut self.frame);
        let written = Cell::new(None);
        let mut bytes = 0;
        let node = &self.node;
        self.renewed = started;
        let changed = change(
            node,
            &mut self.client,
            |lead| {
                let first_lsn = lead.tail.next_lsn;
                let (header, value) = entry::encode(&mut frame, &lead.tail);
                bytes = value.len() as u64;
                written.set(Some(header));
                let last = first_lsn + u64::from(records) - 1;
                let head = lead.head.appended(last, header.checksum, node.next_beat());
                (head, vec![Op::Put(node.keys.batch(first_lsn), value)])
            },
            |lead| lead.tail.follow(&written.get().expect("it was made")),
        );
        self.frame = frame;
        self.judge(changed)?;
        self.frame.clear(KEPT_BYTES);
        let elapsed = started.elapsed();
        let lsn = written
            .get()
            .map_or(0, |header: FrameHeader| header.first_lsn + u64::from(header.records) - 1);
        self.node.note_stored(lsn);
        let logged = self.node.logged.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.node.marks.note(lsn + 1, logged);
        self.metrics.log_memory.set(self.frame.capacity() as u64);
        self.metrics.count_batch(records, bytes, elapsed, true);
        self.metrics.durable_lsn.set(lsn);
        Ok(Some(elapsed))
    }

    fn confirm(&mut self) -> Result<(), NotCommitted> {
        match self.node.lease.may_show(&self.node.clock) {
            true => Ok(()),
            // Without a lease nothing is shown, even if it is only for lack of space.
            false => self.renew().map_err(|why| match why {
                NotCommitted::NoRoom(reason) => NotCommitted::Withheld(
                    format!("TRYAGAIN this server cannot renew its lease: {reason}").into(),
                ),
                other => other,
            }),
        }
    }

    fn batch_bytes(&self) -> usize {
        BATCH_BYTES
    }

    fn discard(&mut self) {
        self.frame.clear(KEPT_BYTES);
    }

    fn wait_for_room(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn health(&self) -> Arc<Health> {
        self.node.health.clone()
    }

    fn total_bytes(&self) -> u64 {
        self.node.logged.load(Ordering::Relaxed)
    }

    fn seal(&mut self) -> Result<Option<Sealed>, NotCommitted> {
        Ok(Some(self.last_seal()))
    }

    /// Any place between two batches will do; it is as long as the running term.
    fn last_seal(&self) -> Sealed {
        let at = |lead: &mut Lead| Ok::<_, ()>((lead.tail, lead.head.term));
        let (first_lsn, checksum, term) = match self.node.with_lead(at) {
            Some(Ok((tail, term))) => (tail.next_lsn, tail.last_checksum, term),
            _ => (1, 0, 0),
        };
        let following = SegmentHeader {
            store_id: 0,
            sequence: term,
            epoch: term,
            first_lsn,
            previous_epoch: term,
            previous_checksum: checksum,
            file_bytes: 0,
        };
        Sealed { following, logged: self.total_bytes() }
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.node.health.failure().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    fn note_freed(&self) {}

    fn note_sync_ended(&mut self) {}

    fn next_timer(&self) -> Option<Instant> {
        (self.node.led_term() > 0).then(|| self.renewed + self.node.lease.ttl() / RENEWALS)
    }

    fn on_timer(&mut self, now: Instant) {
        if self.next_timer().is_some_and(|due| now >= due) {
            // What became of it the node knows.
            let _ = self.renew();
        }
    }

    fn close(mut self: Box<Self>) {
        self.node.lease.end();
        let freed = |lead: &Lead| (lead.head.freed(self.node.next_beat()), Vec::new());
        match change(&self.node, &mut self.client, freed, |_| {}) {
            None => {}
            Some(Ok(Ok(()))) => log::info!("the next server may take over at once"),
            Some(_) => log::warn!("the others take over once the lease is over"),
        }
    }
}
