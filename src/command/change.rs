//! Changes in absolute terms: nothing else reaches the log and the store.
//!
//! A long value is changed in place: a [`Patch`] says which bytes are where, and no more of the value is logged, nor copied
//! in memory. It is absolute like any other change, and does nothing to a value that is not the one it was made for, as far
//! as lengths can tell. [`crate::record`] has the argument why replaying it is harmless.

use smallvec::SmallVec;

use super::space::{Order, Space};
use crate::entry::{Entry, Parts};

/// A key without a value.
pub type Key = Box<[u8]>;

/// The key that a GET asks for, without an allocation if it is as short as most are.
pub type ShortKey = SmallVec<[u8; 24]>;

/// A change of one database in absolute terms: the state after it, whatever was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// This key has this value.
    Set(Box<Entry>),
    /// This key is not there.
    Delete(Key),
    /// No key is there.
    Clear,
    /// The value of this key has these bytes at this place.
    Patch(Box<OwnPatch>),
    /// This key expires then.
    Expire(Box<Expiry>),
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
    /// The value of this key has these bytes at this place.
    Patch(Patch<'a>),
    /// This key expires then, or not at all.
    Expire(&'a [u8], Option<i64>),
}

/// Bytes of a value, at their place.
///
/// - `offset <= before`: a value that grows has every byte that it grows by among these, so that a short record can never
///   make a long value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch<'a> {
    /// The key of the value.
    pub key: &'a [u8],
    /// The length of the value before.
    pub before: usize,
    /// Where the bytes begin.
    pub offset: usize,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// A [`Patch`] with bytes of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPatch {
    /// The key of the value.
    pub key: Key,
    /// The length of the value before.
    pub before: usize,
    /// Where the bytes begin.
    pub offset: usize,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// When a key expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The key.
    pub key: Key,
    /// Milliseconds of Unix time; `None` if it does not expire.
    pub at: Option<i64>,
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
        self.order.is_some() || all.any(Mutation::keeps_key)
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
            Change::Patch(patch) => Mutation::Patch(Box::new(patch.to_owned())),
            Change::Expire(key, at) => Mutation::Expire(Box::new(Expiry { key: key.into(), at })),
        }
    }

    /// The key that it is about; none for [`Change::Clear`], which is about all.
    pub fn key(self) -> &'a [u8] {
        match self {
            Change::Set(parts) => parts.key,
            Change::Delete(key) | Change::Expire(key, _) => key,
            Change::Patch(patch) => patch.key,
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
            Mutation::Patch(patch) => &patch.key,
            Mutation::Expire(expiry) => &expiry.key,
            Mutation::Clear => &[],
        }
    }

    /// Whether its key is there after it.
    pub fn keeps_key(&self) -> bool {
        match self {
            Mutation::Set(_) | Mutation::Patch(_) | Mutation::Expire(_) => true,
            Mutation::Delete(_) | Mutation::Clear => false,
        }
    }

    /// Whether it changes a part of an entry, and the rest stays as it was.
    pub fn is_partial(&self) -> bool {
        match self {
            Mutation::Patch(_) | Mutation::Expire(_) => true,
            Mutation::Set(_) | Mutation::Delete(_) | Mutation::Clear => false,
        }
    }

    /// Makes this change of an entry; only if it is partial, and of the entry's key.
    pub fn alter(&self, entry: Box<Entry>) -> Box<Entry> {
        match self {
            Mutation::Patch(patch) => entry.patched(patch.offset, &patch.bytes),
            Mutation::Expire(expiry) => entry.with_expiry(expiry.at),
            Mutation::Set(_) | Mutation::Delete(_) | Mutation::Clear => {
                unreachable!("it is no change of a part")
            }
        }
    }
}

impl Patch<'_> {
    /// The length of the value after it.
    pub fn length(&self) -> usize {
        self.before.max(self.offset + self.bytes.len())
    }

    /// Whether a value of this length may be the one that it was made for, or a later one of the same key: within a
    /// walk that writes a snapshot it may have grown already. A shorter one is not.
    pub fn fits(&self, length: usize) -> bool {
        length >= self.before
    }

    /// One with bytes of its own.
    pub fn to_owned(self) -> OwnPatch {
        let Patch { key, before, offset, bytes } = self;
        OwnPatch { key: key.into(), before, offset, bytes: bytes.into() }
    }
}

impl OwnPatch {
    /// The same, borrowed.
    pub fn borrowed(&self) -> Patch<'_> {
        let OwnPatch { key, before, offset, bytes } = self;
        Patch { key, before: *before, offset: *offset, bytes }
    }

    /// Whether another one, made right after it, could be joined to it: then it was.
    pub fn join(&mut self, later: &OwnPatch) -> bool {
        let Some(at) = later.offset.checked_sub(self.offset).filter(|at| *at <= self.bytes.len())
        else {
            return false;
        };
        let over = later.bytes.len().min(self.bytes.len() - at);
        self.bytes[at..][..over].copy_from_slice(&later.bytes[..over]);
        self.bytes.extend_from_slice(&later.bytes[over..]);
        true
    }
}
