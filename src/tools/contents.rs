//! What the records of a log leave, key by key: for what `check` counts, and for what an import brings in.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use super::inspect::{Inspection, Visit};
use super::progress::{Amount, Progress};
use crate::command::{Change, Key, Logged, Order, Patch, Space};
use crate::entry::{Entry, Parts};
use crate::record;

/// The part of a key's value that is kept.
pub trait Kept {
    /// Of a whole value.
    fn of(parts: Parts<'_>) -> Self;
    /// The length of the value.
    fn length(&self) -> usize;
    /// After a change in place.
    fn patch(&mut self, patch: Patch<'_>);
    /// With another expiry.
    fn expire(&mut self, at: Option<i64>);
}

impl Kept for Box<Entry> {
    fn of(parts: Parts<'_>) -> Box<Entry> {
        parts.to_entry()
    }

    fn length(&self) -> usize {
        self.value().len()
    }

    fn patch(&mut self, patch: Patch<'_>) {
        *self = std::mem::take(self).patched(patch.offset, patch.bytes);
    }

    fn expire(&mut self, at: Option<i64>) {
        *self = std::mem::take(self).with_expiry(at);
    }
}

/// The keys that the records leave, each with what is kept of its value. Keys that have expired count: a start loads
/// them, too.
pub struct Contents<V> {
    /// The keys of each database.
    pub spaces: BTreeMap<Space, HashMap<Key, V>>,
    /// Which database has which number.
    pub order: Order,
}

impl<V> Default for Contents<V> {
    fn default() -> Contents<V> {
        Contents { spaces: BTreeMap::new(), order: Order::default() }
    }
}

impl<V: Kept> Contents<V> {
    /// Follows every record of a log that `walk` goes through.
    pub fn read(
        amount: Amount,
        walk: impl FnOnce(&mut Visit<'_>) -> anyhow::Result<Inspection>,
    ) -> anyhow::Result<(Contents<V>, Inspection)> {
        let (mut progress, mut contents) = (Progress::new("reading", amount), Contents::default());
        let inspection = walk(&mut |batch| {
            progress.add(batch);
            record::read_batch(batch.frame.payload(), batch.records(), |logged| {
                contents.follow(&logged);
            })?;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((contents, inspection))
    }

    /// Follows a record. Returns whether it was carried out: a change in place of a value that is missing is not, as at
    /// a start.
    pub fn follow(&mut self, logged: &Logged<'_>) -> bool {
        let (space, change) = match logged {
            Logged::In(space, change) => (*space, *change),
            Logged::ClearAll => {
                self.spaces.clear();
                return true;
            }
            Logged::Order(order) => {
                self.order.clone_from(order);
                return true;
            }
        };
        let keys = self.spaces.entry(space).or_default();
        match change {
            Change::Set(parts) => drop(keys.insert(parts.key.into(), V::of(parts))),
            Change::Delete(key) => drop(keys.remove(key)),
            Change::Clear => drop(self.spaces.remove(&space)),
            Change::Patch(patch) => {
                let kept = keys.get_mut(patch.key).filter(|kept| patch.fits(kept.length()));
                return kept.map(|kept| kept.patch(patch)).is_some();
            }
            Change::Expire(key, at) => {
                return keys.get_mut(key).map(|kept| kept.expire(at)).is_some();
            }
        }
        true
    }
}

impl<V> Contents<V> {
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
