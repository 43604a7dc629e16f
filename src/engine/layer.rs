//! A layer of changes of all databases, on top of a store or of another layer.
//!
//! The changes of each database are on their own, so that to empty one costs nothing for the changes of the
//! others. Which space a number stands for is part of the layer.

use super::altered::Altered;
use super::changes::{Below, Changes, Found};
use crate::command::{Changed, Mutation, Order, Shape, Space};
use crate::entry::Entry;

/// See the head of this file.
///
/// - `spaces` is in the order of the spaces. Changes without anything in them mean nothing, except for the
///   memory that they keep for the next batch.
#[derive(Default)]
pub struct Layer {
    spaces: Vec<(Space, Changes)>,
    /// Everything below is hidden.
    clears_all: bool,
    order: Option<Order>,
}

impl Layer {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        let is_nothing = |changes: &Changes| changes.is_empty() && !changes.hides_all();
        !self.clears_all
            && self.order.is_none()
            && self.spaces.iter().all(|(_, changes)| is_nothing(changes))
    }

    /// Whether it changes no more than one key.
    pub fn is_about_one_key(&self) -> bool {
        let changed: usize = self.spaces.iter().map(|(_, all)| all.mutations().len()).sum();
        !self.clears_all && self.order.is_none() && changed <= 1
    }

    /// Which space each number stands for, if it says so.
    pub fn order(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    /// Each space that it changes, with the changes; not those that are only emptied with all others.
    pub fn changed(&self) -> impl Iterator<Item = (Space, &[Mutation])> {
        self.spaces.iter().map(|(space, changes)| (*space, changes.mutations()))
    }

    /// Whether every database is empty before the changes of this layer.
    pub fn clears_all(&self) -> bool {
        self.clears_all
    }

    /// Whether nothing below is seen of a database.
    pub fn hides(&self, space: Space) -> bool {
        self.clears_all || self.find_space(space).is_some_and(Changes::hides_all)
    }

    /// Adds a change, after which the database takes up this much more than before it.
    pub fn put(&mut self, space: Space, mutation: Mutation, grown: i64) {
        let hidden = self.clears_all;
        let changes = self.in_space(space);
        if hidden && mutation == Mutation::Clear {
            return changes.hide_all();
        }
        changes.put(mutation);
        changes.grown += grown;
    }

    /// Adds a partial change, after which the entry has this shape, and the database takes up this much more.
    pub fn alter(&mut self, space: Space, mutation: Mutation, shape: Shape, grown: i64) {
        let changes = self.in_space(space);
        changes.alter(mutation, shape);
        changes.grown += grown;
    }

    /// A key whose last change is partial, with the changes of its database.
    pub fn altered(&self, space: Space, key: &[u8]) -> Option<(&Changes, &Altered)> {
        let changes = self.find_space(space)?;
        changes.altered(key).map(|altered| (changes, altered))
    }

    /// Bytes that the key's partial changes add to the log.
    pub fn altered_bytes(&self, space: Space, key: &[u8]) -> usize {
        self.find_space(space).map_or(0, |changes| changes.altered_bytes(key))
    }

    /// See [`Changes::may_look_through`].
    pub fn may_look_through(&mut self, space: Space, key: &[u8]) -> bool {
        self.in_space(space).may_look_through(key)
    }

    /// Keeps the entry of an altered key.
    pub fn keep_whole(&mut self, space: Space, key: &[u8], whole: Box<Entry>) -> &Entry {
        self.in_space(space).keep_whole(key, whole)
    }

    /// The whole value that a key has here, without its partial changes. Only after [`Layer::find_base`] of it.
    pub fn base(&self, space: Space, key: &[u8]) -> Option<&Entry> {
        match self.altered(space, key) {
            Some((changes, altered)) => changes.base(altered),
            None => self.find_space(space).and_then(|changes| changes.entry(key)),
        }
    }

    /// The last whole change of a key, as if the partial ones after it were not there.
    pub fn find_base(&mut self, space: Space, key: &[u8]) -> Found<'_> {
        if self.altered(space, key).is_some() {
            let base = self.altered(space, key).and_then(|(all, altered)| all.base(altered));
            return base.map_or(Found::Unchanged, Found::Set);
        }
        self.find(space, key)
    }

    /// Every database is empty.
    pub fn clear_all(&mut self) {
        self.spaces.iter_mut().for_each(|(_, changes)| changes.hide_all());
        self.clears_all = true;
    }

    /// From here on numbers stand for these spaces.
    pub fn set_order(&mut self, order: Order) {
        self.order = Some(order);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.spaces.truncate(1);
        self.spaces.iter_mut().for_each(|(_, changes)| changes.clear());
        (self.clears_all, self.order) = (false, None);
    }

    /// Moves all changes of `later` to the end of these.
    pub fn append(&mut self, later: &mut Layer) {
        self.take(later, Changes::append);
    }

    /// Moves all changes of `later` here; each replaces an earlier one of the same key.
    pub fn absorb(&mut self, later: &mut Layer) {
        self.take(later, Changes::absorb);
    }

    fn take(&mut self, later: &mut Layer, take: fn(&mut Changes, &mut Changes)) {
        if later.clears_all {
            self.clear_all();
        }
        for (space, changes) in &mut later.spaces {
            if !changes.is_empty() || changes.hides_all() {
                take(self.in_space(*space), changes);
            }
        }
        self.order = later.order.take().or(self.order.take());
        later.clear();
    }

    /// Hands the changes over, to be logged and applied. Their memory comes back with
    /// [`Layer::give_back`].
    pub fn hand_over(&mut self, changed: &mut Changed) {
        changed.clears_all = self.clears_all;
        changed.order = self.order.take();
        for (space, changes) in &mut self.spaces {
            changed.spaces.push((*space, changes.take()));
        }
        self.clear();
    }

    /// Takes the memory back of what was handed over, and is applied or forgotten by now.
    pub fn give_back(&mut self, changed: &mut Changed) {
        let Changed { clears_all, spaces, order } = changed;
        (*clears_all, *order) = (false, None);
        for (space, mut memory) in spaces.drain(..).take(1) {
            memory.clear();
            self.in_space(space).reuse(memory);
        }
    }

    /// The last change of a key, if there is one.
    pub fn find(&mut self, space: Space, key: &[u8]) -> Found<'_> {
        let hidden = if self.clears_all { Found::Gone } else { Found::Unchanged };
        match self.place(space) {
            Err(_) => hidden,
            Ok(place) => match self.spaces[place].1.find(key) {
                Found::Unchanged => hidden,
                found => found,
            },
        }
    }

    /// What the changes of a database add to the memory that it takes up: to that of what is below, or to
    /// none if that is hidden.
    pub fn grown(&self, space: Space) -> i64 {
        self.find_space(space).map_or(0, |changes| changes.grown)
    }

    /// The number of keys of a database, if there are `count` below.
    pub fn count(&mut self, space: Space, below: &mut dyn Below, count: usize) -> usize {
        self.in_space(space).count(below, count)
    }

    /// See [`Changes::cursor_after`].
    pub fn cursor_after(
        &mut self,
        space: Space,
        below: &mut dyn Below,
        cursor: u64,
        count: usize,
    ) -> Option<u64> {
        self.in_space(space).cursor_after(below, cursor, count)
    }

    /// See [`Changes::between`].
    pub fn between(&self, space: Space, from: u64, to: u64) -> impl Iterator<Item = &Entry> {
        self.find_space(space).into_iter().flat_map(move |changes| changes.between(from, to))
    }

    fn place(&self, space: Space) -> Result<usize, usize> {
        self.spaces.binary_search_by_key(&space, |(listed, _)| *listed)
    }

    fn find_space(&self, space: Space) -> Option<&Changes> {
        self.place(space).ok().map(|place| &self.spaces[place].1)
    }

    fn in_space(&mut self, space: Space) -> &mut Changes {
        let place = self.place(space).unwrap_or_else(|place| match &self.spaces[..] {
            // Its memory is taken over.
            [(_, changes)] if changes.is_empty() && (self.clears_all || !changes.hides_all()) => {
                self.spaces[0].0 = space;
                0
            }
            _ => {
                self.spaces.insert(place, (space, Changes::default()));
                place
            }
        });
        let changes = &mut self.spaces[place].1;
        if self.clears_all && !changes.hides_all() {
            changes.hide_all();
        }
        changes
    }
}
