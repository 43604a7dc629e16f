//! How changes of a part of an entry are added to others, and found among them.

use super::altered::{Altered, BYTES_PER_CHANGE, PARTIAL_BYTES, partial_bytes};
use super::changes::Changes;
use crate::command::{Mutation, OwnPatch, Shape};
use crate::entry::Entry;

impl Changes {
    /// Adds a partial change, after which, and after others that follow at once, the entry has this shape. A whole value
    /// among these changes is changed itself.
    pub fn alter(&mut self, mutation: Mutation, shape: Shape) {
        let key = mutation.key();
        if let Some(at) = self.index.find(&self.mutations, key)
            && let Mutation::Set(entry) = &mut self.mutations[at]
        {
            *entry = mutation.alter(std::mem::take(entry));
            return;
        }
        let new = || {
            let (base, places, bytes, whole) = (None, Vec::new(), 0, None);
            Altered { shape, base, places, bytes, whole, looked_through: 0 }
        };
        let altered = self.altered.entry(key.into()).or_insert_with(new);
        altered.shape = shape;
        altered.whole = altered.whole.take().map(|whole| mutation.alter(whole));
        altered.bytes += partial_bytes(&mutation);
        if let Some(&last) = altered.places.last()
            && join(&mut self.mutations[last], &mutation)
        {
            altered.bytes -= PARTIAL_BYTES + mutation.key().len();
            return;
        }
        altered.places.push(self.mutations.len());
        self.mutations.push(mutation);
    }

    /// The key's partial changes, if its last change is one.
    pub fn altered(&self, key: &[u8]) -> Option<&Altered> {
        self.altered.get(key)
    }

    /// Bytes that the key's partial changes add to the log.
    pub fn altered_bytes(&self, key: &[u8]) -> usize {
        self.altered.get(key).map_or(0, |altered| altered.bytes)
    }

    /// The whole value before an altered key's partial changes, if it is here and not below.
    pub fn base(&self, altered: &Altered) -> Option<&Entry> {
        altered.base.map(|at| match &self.mutations[at] {
            Mutation::Set(entry) => &**entry,
            _ => unreachable!("it was a whole value"),
        })
    }

    /// The entry of a key whose last change is a whole value. Only after [`Changes::find`] of a key.
    pub fn entry(&self, key: &[u8]) -> Option<&Entry> {
        match &self.mutations[self.index.known(&self.mutations, key)?] {
            Mutation::Set(entry) => Some(entry),
            _ => None,
        }
    }

    /// The bytes that an altered key's changes write, in their order.
    pub fn patches(&self, altered: &Altered) -> impl Iterator<Item = &OwnPatch> {
        altered.places.iter().filter_map(|&at| match &self.mutations[at] {
            Mutation::Patch(patch) => Some(&**patch),
            _ => None,
        })
    }

    /// Whether all of an altered key's changes may be looked through for a part of its value. Once that has been done so
    /// often that to make the value would have cost no more, it is to be made.
    pub fn may_look_through(&mut self, key: &[u8]) -> bool {
        let altered = self.altered.get_mut(key).expect("it is altered");
        altered.looked_through += altered.places.len();
        altered.whole.is_none() && altered.looked_through < altered.shape.length / BYTES_PER_CHANGE
    }

    /// Keeps the entry of an altered key, for commands that ask for it again.
    pub fn keep_whole(&mut self, key: &[u8], whole: Box<Entry>) -> &Entry {
        let altered = self.altered.get_mut(key).expect("it is altered");
        debug_assert_eq!(Shape::of(&whole), altered.shape, "it is the entry after all changes");
        altered.whole.insert(whole)
    }

    /// Moves what `later` knows of altered keys, before its changes themselves.
    pub(super) fn append_altered(&mut self, later: &mut Changes) {
        if self.altered.is_empty() && later.altered.is_empty() {
            return;
        }
        if !self.altered.is_empty() {
            let whole = later.mutations.iter().filter(|mutation| !mutation.is_partial());
            whole.for_each(|mutation| drop(self.altered.remove(mutation.key())));
        }
        let start = self.mutations.len();
        for (key, mut new) in later.altered.drain() {
            debug_assert_eq!(new.base, None, "a whole value there would have been changed itself");
            if let Some(old) = self.altered.remove(&key) {
                let alter = |whole, at: &usize| later.mutations[*at].alter(whole);
                let kept = |whole| new.places.iter().fold(whole, alter);
                new.whole = new.whole.take().or_else(|| old.whole.map(kept));
                new.places.iter_mut().for_each(|at| *at += start);
                let places = std::mem::replace(&mut new.places, old.places);
                new.places.extend(places);
                (new.base, new.bytes) = (old.base, old.bytes + new.bytes);
                new.looked_through += old.looked_through;
            } else {
                new.places.iter_mut().for_each(|at| *at += start);
                new.base = self.index.find(&self.mutations, &key);
            }
            self.altered.insert(key, new);
        }
    }
}

/// Joins a partial change to the one of the same key before it, if one can say both.
fn join(before: &mut Mutation, later: &Mutation) -> bool {
    match (before, later) {
        (Mutation::Patch(before), Mutation::Patch(later)) => before.join(later),
        (Mutation::Expire(before), Mutation::Expire(later)) => {
            before.at = later.at;
            true
        }
        _ => false,
    }
}
