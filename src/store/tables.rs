//! The tables of one shard, one for each database that has keys there, under the shard's lock.
//!
//! The order of the databases lies beside them, so that a reader finds the table of a number under the same
//! lock as the entry in it: a SWAPDB, which takes all locks, is seen as a whole or not at all. An empty database
//! has no table and costs nothing, except the first, whose table is there from the start.

use super::hash::KeyHasher;
use super::table::Table;
use super::{Counts, Totals};
use crate::command::{Change, Changed, Database, FIRST, Mutation, Order, Space};
use crate::entry::Entry;

/// See the head of this file.
///
/// - `others` has a place for each space after the first, as far as one of them has had keys. In it is a table
///   with keys, or a small one that has lost its last key.
pub struct Tables {
    first: Table,
    others: Vec<Option<Box<Table>>>,
    order: Order,
    hasher: KeyHasher,
}

impl Tables {
    /// Tables of which the first has room for `capacity` keys.
    pub fn new(capacity: usize, hasher: KeyHasher) -> Tables {
        let first = Table::new(capacity, hasher.clone());
        Tables { first, others: Vec::new(), order: Order::default(), hasher }
    }

    /// Which database has which number.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// The same from now on.
    pub fn set_order(&mut self, order: &Order) {
        self.order.clone_from(order);
    }

    /// The table of a database; `None` if that has no keys here.
    pub fn table(&self, of: Database) -> Option<&Table> {
        let space = match of {
            Database::Number(number) => self.order.space_of(number),
            Database::Space(space) => space,
        };
        match space.0.checked_sub(1) {
            None => Some(&self.first),
            Some(place) => self.others.get(usize::from(place))?.as_deref(),
        }
    }

    /// The entry of a key.
    pub fn get(&self, of: Database, key: &[u8]) -> Option<&Entry> {
        self.table(of)?.get(key)
    }

    /// Makes a change of a database, of a key with this hash.
    pub fn apply(&mut self, space: Space, hash: u64, mutation: Mutation) {
        match mutation {
            Mutation::Clear => self.clear(space),
            Mutation::Set(_) | Mutation::Patch(_) | Mutation::Expire(_) => {
                self.table_mut(space).apply(hash, mutation);
            }
            Mutation::Delete(_) => {
                if let Some(table) = self.present_mut(space) {
                    table.apply(hash, mutation);
                    self.drop_if_idle(space);
                }
            }
        }
    }

    /// Removes all keys of all databases.
    pub fn clear_all(&mut self) {
        self.first.clear();
        self.others = Vec::new();
    }

    /// Makes many changes.
    pub fn load(&mut self, changed: &Changed<Change<'_>>) {
        if changed.clears_all {
            self.clear_all();
        }
        for (space, changes) in &changed.spaces {
            if changes.is_empty() {
                continue;
            }
            self.table_mut(*space).load(changes);
            self.drop_if_idle(*space);
        }
        if let Some(order) = &changed.order {
            self.set_order(order);
        }
    }

    /// What is counted of all databases together.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (_, table) in self.all() {
            totals.keys += table.len();
            totals.expiring += table.expiring();
            totals.bytes += table.bytes();
            totals.index_bytes += table.index_bytes();
        }
        totals
    }

    /// Adds to `all` what is counted of each database that has keys here.
    pub fn count(&self, all: &mut Vec<Counts>) {
        for (space, table) in self.all().filter(|(_, table)| table.len() > 0) {
            let place = all.binary_search_by_key(&space, |counts| counts.space);
            let place = place.unwrap_or_else(|place| {
                let number = self.order.number_of(space);
                all.insert(place, Counts { space, number, ..Counts::default() });
                place
            });
            all[place].keys += table.len();
            all[place].expiring += table.expiring();
            all[place].expiries += table.expiries();
        }
    }

    fn all(&self) -> impl Iterator<Item = (Space, &Table)> {
        let others = (1..).zip(&self.others);
        let others = others.filter_map(|(n, table)| Some((Space(n), table.as_deref()?)));
        std::iter::once((FIRST, &self.first)).chain(others)
    }

    fn clear(&mut self, space: Space) {
        match space.0.checked_sub(1) {
            None => self.first.clear(),
            Some(place) => {
                self.others.get_mut(usize::from(place)).into_iter().for_each(|table| *table = None);
            }
        }
    }

    fn present_mut(&mut self, space: Space) -> Option<&mut Table> {
        match space.0.checked_sub(1) {
            None => Some(&mut self.first),
            Some(place) => self.others.get_mut(usize::from(place))?.as_deref_mut(),
        }
    }

    fn table_mut(&mut self, space: Space) -> &mut Table {
        let Tables { first, others, hasher, .. } = self;
        let Some(place) = space.0.checked_sub(1).map(usize::from) else {
            return first;
        };
        if others.len() <= place {
            others.resize_with(place + 1, || None);
        }
        others[place].get_or_insert_with(|| Box::new(Table::new(0, hasher.clone())))
    }

    /// Drops the table of a database that has lost its last key, if it had grown. A small one stays: an
    /// application that takes and releases its only lock would otherwise make a table for each SET.
    fn drop_if_idle(&mut self, space: Space) {
        if space != FIRST && self.present_mut(space).is_some_and(|table| table.is_idle()) {
            self.clear(space);
        }
    }
}
