//! What the records of a log leave, key by key: for what `check` counts, and for what an import brings in.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use super::inspect::{Inspection, Visit};
use super::progress::{Amount, Progress};
use crate::command::{Change, Key, Logged, Order, Space};
use crate::entry::Parts;
use crate::record;

/// The keys that the records leave, each with what is kept of its value. Keys that have expired count: a start loads
/// them, too.
pub struct Contents<V> {
    /// The keys of each database.
    pub spaces: BTreeMap<Space, HashMap<Key, V>>,
    /// Which database has which number.
    pub order: Order,
    keep: fn(Parts<'_>) -> V,
}

impl<V> Contents<V> {
    /// Nothing yet. `keep` says what is kept of a key.
    pub fn new(keep: fn(Parts<'_>) -> V) -> Contents<V> {
        Contents { spaces: BTreeMap::new(), order: Order::default(), keep }
    }

    /// Follows every record of a log that `walk` goes through. `keep` says what is kept of a key.
    pub fn read(
        keep: fn(Parts<'_>) -> V,
        amount: Amount,
        walk: impl FnOnce(&mut Visit<'_>) -> anyhow::Result<Inspection>,
    ) -> anyhow::Result<(Contents<V>, Inspection)> {
        let (mut progress, mut contents) = (Progress::new("reading", amount), Contents::new(keep));
        let inspection = walk(&mut |batch| {
            progress.add(batch);
            record::read_batch(batch.frame.payload(), batch.records(), |logged| {
                contents.apply(logged)
            })?;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((contents, inspection))
    }

    /// Follows a record.
    fn apply(&mut self, logged: Logged<'_>) {
        let (space, change) = match logged {
            Logged::In(space, change) => (space, change),
            Logged::ClearAll => return self.spaces.clear(),
            Logged::Order(order) => return self.order = order,
        };
        let keys = self.spaces.entry(space).or_default();
        match change {
            Change::Set(parts) => drop(keys.insert(parts.key.into(), (self.keep)(parts))),
            Change::Delete(key) => drop(keys.remove(key)),
            Change::Clear => drop(self.spaces.remove(&space)),
        }
    }

    /// Every key.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &V)> {
        self.spaces.values().flatten()
    }

    /// Each database that has keys, by number, with their count.
    pub fn databases(&self) -> BTreeMap<u16, usize> {
        let filled = self.spaces.iter().filter(|(_, keys)| !keys.is_empty());
        filled.map(|(space, keys)| (self.order.number_of(*space), keys.len())).collect()
    }
}
