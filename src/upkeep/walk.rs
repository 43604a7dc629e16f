//! A walk through the store that writes it into a snapshot.
//!
//! The store is locked for one step at a time, and after each step and each frame the walk rests, so that
//! clients are held up little.

use std::time::{Duration, Instant};

use super::snapshots::Snapshot;
use crate::command::{self, Database, Key, Order};
use crate::entry::Entry;
use crate::record::New;
use crate::store::Store;

/// Entries it looks at under one lock: whole leaves, so at least one.
const STEP: usize = 1;

/// A longer value is copied under a lock of its own, so that a step is short.
const LONG_VALUE_BYTES: usize = 4 << 10;

/// After each step and each frame it rests this many times as long as that took, so that it has at most
/// a third of one core and of the disk. The scheduler makes a thread that is always busy wait; if that
/// happens to this one while it has a shard's lock, the committer waits with it. So it rests often.
/// (Resting only after frames left clients a fifth to a third fewer SETs. The slowest of a hundred SETs was
/// 2.1 to 2.5 times as slow as without a compaction with 1 here, 1.8 with 2, and no faster with 3.)
const RESTS: u32 = 2;

/// The longest rest, for the disk may just have been slow.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// See the head of this file.
pub struct Walk<'a> {
    /// Waits, as long as it may; fails at a stop.
    pub pause: &'a dyn Fn(Duration) -> anyhow::Result<()>,
    pub snapshot: &'a mut dyn Snapshot,
    /// Keys written.
    pub keys: u64,
}

impl Walk<'_> {
    /// Goes through all databases, which have had this order at the seal. Every later order is in the log after
    /// the snapshot.
    pub fn all(&mut self, store: &dyn Store, order: &Order) -> anyhow::Result<()> {
        if *order != Order::default() {
            self.snapshot.push(New::Order(order));
        }
        // One that is filled later is in the log after the snapshot.
        for counts in store.databases() {
            self.database(store, counts.space)?;
        }
        // The rest is written here, while more room can still be made for it.
        self.snapshot.flush()
    }

    /// Goes through all shards side by side, a step in each, so that a start finds records of every
    /// shard in every part of the snapshot, and all of its loaders have something to do.
    fn database(&mut self, store: &dyn Store, space: command::Space) -> anyhow::Result<()> {
        let span = store.cursors() / store.shards() as u64;
        let mut cursors: Vec<(usize, u64)> =
            (0..store.shards()).map(|shard| (shard, shard as u64 * span)).collect();
        while !cursors.is_empty() {
            for (shard, cursor) in &mut cursors {
                *cursor = self.step((store, space), *shard, *cursor)?;
            }
            // The last cursor of a shard is the first one of the next, or 0.
            cursors.retain(|(shard, cursor)| cursor / span == *shard as u64 && *cursor != 0);
        }
        Ok(())
    }

    fn step(
        &mut self,
        (store, space): (&dyn Store, command::Space),
        shard: usize,
        cursor: u64,
    ) -> anyhow::Result<u64> {
        let of = Database::Space(space);
        let mut long: Vec<Key> = Vec::new();
        let began = Instant::now();
        let next = store.scan(of, cursor, STEP, &mut |entry| {
            // After an empty shard the step goes on into the next one.
            if store.shard_of(entry.key()) != shard {
                return;
            }
            match entry.value().len() > LONG_VALUE_BYTES {
                true => long.push(entry.key().into()),
                false => self.push(space, entry),
            }
        });
        debug_assert!(next == 0 || next > cursor, "a walk goes on, or ends");
        self.rest(began)?;
        self.write_if_full()?;
        for key in long {
            // A key that is gone by now is deleted in the log after the seal.
            let began = Instant::now();
            store.get(of, &key, &mut |entry| {
                entry.into_iter().for_each(|entry| self.push(space, entry));
            });
            self.rest(began)?;
            self.write_if_full()?;
        }
        Ok(next)
    }

    fn push(&mut self, space: command::Space, entry: &Entry) {
        self.snapshot.push(New::Entry(space, entry));
        self.keys += 1;
    }

    fn write_if_full(&mut self) -> anyhow::Result<()> {
        if self.snapshot.is_full() {
            let began = Instant::now();
            self.snapshot.flush()?;
            self.rest(began)?;
        }
        Ok(())
    }

    /// Lets others have the processor and the disk, [`RESTS`] times as long as the walk has had them.
    fn rest(&self, since: Instant) -> anyhow::Result<()> {
        (self.pause)((since.elapsed() * RESTS).min(LONGEST_REST))
    }
}
