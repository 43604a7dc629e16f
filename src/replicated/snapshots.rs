//! Snapshots in etcd: pieces of 64 KiB, then the pointer to them, which counts.
//!
//! The walk through the store is the local log's. Its pieces are written by a client of its own, so that no batch
//! queues behind one; they are read back before the pointer is written, in one transaction with the head, by an
//! errand between two batches: a node that leads no more cannot write it. What a snapshot covers is deleted after that,
//! with some slack, so that a node which reads the log a moment behind does not have to begin anew.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};

use super::change::{Lost, change};
use super::client::{Client, MOST_BATCHES, Transport};
use super::clock::Clock;
use super::decide::attempt_time;
use super::follower::untold;
use super::json::Freshness;
use super::keys::Range;
use super::kv::{Condition, Kv, Op, Trouble, Txn};
use super::marks::Slack;
use super::node::{Covered, Lead, Node};
use super::pieces::{Pieces, read_back};
use super::pointer::Pointer;
use crate::engine::log::Sealed;
use crate::engine::{Handle, Room};
use crate::record;
use crate::sync::Mutex;
use crate::upkeep::{Size, Snapshot, Snapshots, Spend};

/// LSNs whose entries are deleted by one transaction.
const DELETED: u64 = 1000;

/// A piece or a deletion is tried again for this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A compaction begins early only if it can free something.
const LEAST_EARLY_BYTES: u64 = 1 << 20;

/// See the head of this file.
pub struct EtcdSnapshots<T> {
    node: Arc<Node>,
    client: Arc<Mutex<Client<T>>>,
    engine: OnceLock<Handle>,
    /// Whether etcd is told to forget old revisions.
    forgets: bool,
}

impl<T: Transport + 'static> EtcdSnapshots<T> {
    pub fn new(node: Arc<Node>, client: Client<T>, forgets: bool) -> EtcdSnapshots<T> {
        EtcdSnapshots {
            node,
            client: Arc::new(Mutex::new(client)),
            engine: OnceLock::new(),
            forgets,
        }
    }

    /// Lets it know the engine, whose committing thread writes the pointer.
    pub fn attach(&self, engine: Handle) {
        assert!(self.engine.set(engine).is_ok(), "there is one engine");
    }

    /// Tries something again until it is done, or refused for good, or for too long.
    fn insist<R>(
        &self,
        mut act: impl FnMut(&mut Client<T>, Duration) -> Result<R, Trouble>,
    ) -> anyhow::Result<R> {
        let (mut client, began) = (self.client.lock(), Instant::now());
        let time = attempt_time(self.node.lease.ttl());
        loop {
            match act(&mut client, time) {
                Ok(done) => return Ok(done),
                Err(trouble) if began.elapsed() > PATIENCE || self.node.led_term() == 0 => {
                    return Err(untold(trouble));
                }
                Err(Trouble::NoSpace) => bail!("etcd has no space left"),
                Err(_) => self.node.clock.rest(Duration::from_millis(50)),
            }
        }
    }

    /// Deletes the entries of these LSNs, a part at a time.
    fn delete_entries(&self, from: u64, before: u64) -> anyhow::Result<()> {
        // What a deletion that failed has left.
        let left = self.node.keys.batches(0, from);
        self.insist(|client, time| client.delete_range(&left, time))?;
        for start in (from..before).step_by(DELETED as usize) {
            let keys = self.node.keys.batches(start, before.min(start + DELETED));
            self.insist(|client, time| client.delete_range(&keys, time))?;
        }
        Ok(())
    }

    /// Has the committing thread write the pointer, together with the first LSN that the log keeps. Returns which
    /// entries may be deleted now: those from the first LSN on, and before the second.
    fn point_to(&self, pointer: Pointer, trim_to: Option<u64>) -> anyhow::Result<(u64, u64)> {
        let (node, client) = (self.node.clone(), self.client.clone());
        let engine = self.engine.get().context("the engine is not there yet")?;
        let answer = engine.errand(move |_| {
            let kept = Cell::new((0, 0));
            if node.led_term() != pointer.writer {
                return (None, kept.get());
            }
            let make = |lead: &Lead| {
                let first = lead.head.first_log_lsn;
                kept.set((first, trim_to.map_or(first, |lsn| lsn.max(first))));
                let head = lead.head.trimmed(kept.get().1, node.next_beat());
                (head, vec![Op::Put(node.keys.snapshot(), pointer.to_string().into_bytes())])
            };
            (change(&node, &mut client.lock(), make, |_| {}), kept.get())
        });
        let (changed, kept) = answer.context("the server stops")?;
        match changed {
            Some(Ok(Ok(())) | Err(Lost::Done)) => Ok(kept),
            Some(Ok(Err(refusal))) => bail!("etcd refuses the pointer to the snapshot: {refusal}"),
            Some(Err(lost)) => bail!("this server leads no more: {lost:?}"),
            None => bail!("this server leads no more"),
        }
    }

    /// Has etcd forget all revisions before now, of all its keys: that is what a cluster for this log alone is for.
    fn forget(&self) -> anyhow::Result<()> {
        let key = self.node.keys.head();
        let head = Range { to: format!("{key}\0"), from: key };
        let page = self.insist(|client, time| client.range(&head, 1, Freshness::Current, time))?;
        self.insist(|client, time| client.compact(page.revision, time))
    }

    /// The pointer that counts.
    fn pointer(&self) -> anyhow::Result<Option<Pointer>> {
        let key = self.node.keys.snapshot();
        let found = self.insist(|client, time| client.get(&key, Freshness::Current, time))?;
        found.map(|value| Pointer::parse(&value)).transpose().map_err(|why| anyhow!(why))
    }
}

impl<T: Transport + 'static> Snapshots for EtcdSnapshots<T> {
    /// At the start nothing has been read yet.
    fn bytes_at_start(&self) -> u64 {
        0
    }

    fn last(&self) -> Option<(u64, u64)> {
        let Covered { bytes, logged, .. } = self.node.covered();
        Some((bytes, self.node.logged.load(Ordering::Relaxed).saturating_sub(logged)))
    }

    fn is_due_early(&self, size: Size, least_bytes: u64, room: &Room) -> bool {
        self.node.space.is_due_early(size, LEAST_EARLY_BYTES.min(least_bytes), room)
    }

    fn frees_enough(&self, _: Size) -> Spend {
        Spend::Nothing
    }

    fn make_room(&self, need: u64, _room: &Room, _: Spend) -> anyhow::Result<()> {
        self.node.space.make_room(need)
    }

    fn make_more_room(&self, _need: u64, _: &anyhow::Error) -> anyhow::Result<bool> {
        Ok(false)
    }

    fn begin(&self, sealed: &Sealed, _room: u64) -> anyhow::Result<Box<dyn Snapshot + '_>> {
        let writer = sealed.following.epoch;
        ensure!(writer > 0 && writer == self.node.led_term(), "this server leads no more");
        let following = &sealed.following;
        let pieces = Pieces::new(following.first_lsn - 1, following.previous_checksum, writer);
        Ok(Box::new(NewSnapshot { to: self, sealed: *sealed, pieces }))
    }

    /// Deletes the pieces of other snapshots than the one that counts.
    fn remove_leftovers(&self, _: Option<&Sealed>) -> anyhow::Result<()> {
        // Before the pointer is read: whoever takes over while this thread is stopped has a higher term, and pieces of
        // that are left alone. The pointer to pieces of this term or before, no other node writes any more.
        let term = self.node.led_term();
        if term == 0 {
            return Ok(());
        }
        let kept = self.pointer()?.map(|pointer| (pointer.lsn, pointer.writer));
        let mut all = self.node.keys.all_pieces();
        loop {
            let page =
                self.insist(|client, time| client.range(&all, 1, Freshness::Current, time))?;
            let Some((key, _)) = page.pairs.first() else { return Ok(()) };
            let Some((lsn, writer)) = self.node.keys.snapshot_of_piece(key) else {
                bail!("{key} is no piece of a snapshot")
            };
            let pieces = self.node.keys.pieces_from(lsn, writer, 0);
            if writer <= term && kept != Some((lsn, writer)) {
                self.insist(|client, time| client.delete_range(&pieces, time))?;
            }
            all.from = pieces.to;
        }
    }

    fn keep_room(&self, _need: u64) {}
}

/// A snapshot that is being written.
struct NewSnapshot<'a, T> {
    to: &'a EtcdSnapshots<T>,
    sealed: Sealed,
    pieces: Pieces,
}

impl<T: Transport + 'static> Snapshot for NewSnapshot<'_, T> {
    fn push(&mut self, record: record::New<'_>) {
        self.pieces.push(record);
    }

    fn is_full(&self) -> bool {
        self.pieces.is_full()
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let Some((key, value)) = self.pieces.cut(&self.to.node.keys) else { return Ok(()) };
        let put = Txn::new(Condition::Always, vec![Op::Put(key, value)], Vec::new());
        self.to
            .insist(|client, time| client.txn(&put, time))
            .context("cannot write the snapshot")?;
        Ok(())
    }

    fn finish(mut self: Box<Self>, go_on: &dyn Fn() -> anyhow::Result<()>) -> anyhow::Result<u64> {
        self.flush()?;
        let NewSnapshot { to, sealed, pieces } = *self;
        let pointer = *pieces.pointer();
        let page = |range: &Range| {
            go_on()?;
            let read = |client: &mut Client<T>, time| {
                client.range(range, MOST_BATCHES, Freshness::Current, time)
            };
            to.insist(read)
        };
        read_back(&to.node.keys, &pointer, page)
            .context("what was written is not what etcd gives back")?;
        let slack = match to.node.space.is_short(pointer.bytes, &to.node.room()) {
            true => Slack::GivenUp,
            false => Slack::Kept,
        };
        let trim_to = to.node.marks.last_before(&sealed, slack);
        let (from, before) = to.point_to(pointer, trim_to)?;
        let Pointer { lsn, bytes, .. } = pointer;
        to.node.note_covered(Covered { lsn, bytes, logged: sealed.logged });
        to.delete_entries(from, before)?;
        if to.forgets {
            to.forget()?;
        }
        Ok(pointer.bytes)
    }
}
