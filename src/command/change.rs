//! Changes in absolute terms: nothing else reaches the log and the store.

use super::space::{Order, Space};
use crate::entry::{Entry, Parts};

/// A key without a value.
pub type Key = Box<[u8]>;

/// A change of one database in absolute terms: the state after it, whatever was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// This key has this value.
    Set(Box<Entry>),
    /// This key is not there.
    Delete(Key),
    /// No key is there.
    Clear,
}

/// A [`Mutation`] that borrows from the log's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// This key has this value.
    Set(Parts<'a>),
    /// This key is not there.
    Delete(&'a [u8]),
    /// No key is there.
    Clear,
}

/// What a record of the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logged<'a> {
    /// A change of one database.
    In(Space, Change<'a>),
    /// No key is there, in no database.
    ClearAll,
    /// Which database has which number.
    Order(Order),
}

/// Changes of any databases that become visible together: a batch, or a piece of a log.
///
/// - Spaces are listed in their order, none twice; what one database has is independent of the others, so only the changes of
///   one are in order.
/// - If all is cleared, that comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed<M = Mutation> {
    /// Whether every database is empty at first.
    pub clears_all: bool,
    /// The changes of each database, in order.
    pub spaces: Vec<(Space, Vec<M>)>,
    /// Which database has which number from then on; `None` if that stays as it is.
    pub order: Option<Order>,
}

impl<M> Default for Changed<M> {
    fn default() -> Changed<M> {
        Changed { clears_all: false, spaces: Vec::new(), order: None }
    }
}

impl<M> Changed<M> {
    /// Changes of one database.
    pub fn of(space: Space, changes: Vec<M>) -> Changed<M> {
        Changed { spaces: vec![(space, changes)], ..Changed::default() }
    }

    /// The changes of a database, to be added to.
    pub fn in_space(&mut self, space: Space) -> &mut Vec<M> {
        let place = self.spaces.binary_search_by_key(&space, |(listed, _)| *listed);
        let place = place.unwrap_or_else(|place| {
            self.spaces.insert(place, (space, Vec::new()));
            place
        });
        &mut self.spaces[place].1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        let nothing = self.spaces.iter().all(|(_, changes)| changes.is_empty());
        nothing && !self.clears_all && self.order.is_none()
    }
}

impl Changed {
    /// Whether it does more than to remove something.
    pub fn grows(&self) -> bool {
        let mut all = self.spaces.iter().flat_map(|(_, changes)| changes);
        self.order.is_some() || all.any(|mutation| matches!(mutation, Mutation::Set(_)))
    }
}

impl<'a> Changed<Change<'a>> {
    /// Adds what a record says.
    pub fn add(&mut self, logged: Logged<'a>) {
        match logged {
            Logged::In(space, change) => self.in_space(space).push(change),
            Logged::ClearAll => {
                self.spaces.iter_mut().for_each(|(_, changes)| changes.clear());
                self.clears_all = true;
            }
            Logged::Order(order) => self.order = Some(order),
        }
    }
}

impl<'a> Change<'a> {
    /// A copy to keep.
    pub fn to_mutation(self) -> Mutation {
        match self {
            Change::Set(parts) => Mutation::Set(parts.to_entry()),
            Change::Delete(key) => Mutation::Delete(key.into()),
            Change::Clear => Mutation::Clear,
        }
    }

    /// The key that it is about; none for [`Change::Clear`], which is about all.
    pub fn key(self) -> &'a [u8] {
        match self {
            Change::Set(parts) => parts.key,
            Change::Delete(key) => key,
            Change::Clear => &[],
        }
    }
}

impl Mutation {
    /// The key that it is about; none for [`Mutation::Clear`], which is about all.
    pub fn key(&self) -> &[u8] {
        match self {
            Mutation::Set(entry) => entry.key(),
            Mutation::Delete(key) => key,
            Mutation::Clear => &[],
        }
    }
}
