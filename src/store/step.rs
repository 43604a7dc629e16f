//! Changes of one database that are made together: as many as wait for memory at the same time.

use smallvec::SmallVec;

use super::hash::KeyHasher;
use super::table::Table;
use super::together::{self, WINDOW};
use crate::command::Mutation;

/// Some changes in their order, each with the hash of its key.
pub struct Step(SmallVec<[(u64, Mutation); WINDOW]>);

impl Step {
    /// The next of these changes; `None` if there are no more.
    pub fn next(changes: &mut impl Iterator<Item = Mutation>, hasher: &KeyHasher) -> Option<Step> {
        let hashed = |mutation: Mutation| (hasher.hash(mutation.key()), mutation);
        let step: SmallVec<_> = changes.take(WINDOW).map(hashed).collect();
        (!step.is_empty()).then_some(Step(step))
    }

    /// The changes.
    pub fn mutations(&self) -> impl Iterator<Item = &Mutation> {
        self.0.iter().map(|(_, mutation)| mutation)
    }

    /// Fetches the entries before them, for keys whose database has a table.
    pub fn fetch<'a>(&self, table_of: impl Fn(&[u8]) -> Option<&'a Table>) {
        let keyed = self.0.iter().filter(|(_, mutation)| !matches!(mutation, Mutation::Clear));
        together::fetch(
            keyed.filter_map(|(hash, mutation)| Some((table_of(mutation.key())?, *hash))),
        );
    }

    /// Hands on the changes with their hashes.
    pub fn for_each(self, mut make: impl FnMut(u64, Mutation)) {
        self.0.into_iter().for_each(|(hash, mutation)| make(hash, mutation));
    }
}
