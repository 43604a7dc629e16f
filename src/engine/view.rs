//! What a command sees: the store as it is, or as it will be after the running batch.
//!
//! Either way a key that has expired is not there, whether or not it has been reclaimed.

use super::audience::{Audience, News};
use crate::command::{Database, EventClass, Refusal, Scope, View};
use crate::entry::Entry;
use crate::metrics::Metrics;
use crate::store::Store;

/// One database of the store as it is.
pub struct StoreView<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// Milliseconds of Unix time.
    pub now: i64,
    /// Where reads are counted.
    pub metrics: &'a Metrics,
    /// Those who hear what is published, if there is a server.
    pub audience: Option<&'a dyn Audience>,
    /// How many databases there are.
    pub databases: u16,
    /// The number of the database.
    pub number: u16,
    /// How the store finds it.
    pub of: Database,
}

impl View for StoreView<'_> {
    fn now(&self) -> i64 {
        self.now
    }

    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Option<&Entry>)) {
        let now = self.now;
        let mut live = |entry: Option<&Entry>| look(entry.filter(|entry| !entry.is_expired(now)));
        self.store.get(self.of, key, &mut live);
    }

    fn get_all(&mut self, keys: &[&[u8]], look: &mut dyn FnMut(Option<&Entry>)) {
        let now = self.now;
        let mut live = |entry: Option<&Entry>| look(entry.filter(|entry| !entry.is_expired(now)));
        self.store.get_all(self.of, keys, &mut live);
    }

    fn databases(&self) -> u16 {
        self.databases
    }

    fn database(&self) -> u16 {
        self.number
    }

    fn select(&mut self, number: u16) {
        assert!(number < self.databases, "a command checks the number that it is given");
        (self.number, self.of) = (number, Database::Number(number));
    }

    fn count(&mut self) -> usize {
        self.store.count(self.of)
    }

    /// The steps of one command stay in the database that the first one was in, so that a SWAPDB meanwhile does
    /// not make one list of the keys of two.
    fn scan(&mut self, cursor: u64, count: usize, look: &mut dyn FnMut(&Entry)) -> u64 {
        let now = self.now;
        let mut live = |entry: &Entry| {
            if !entry.is_expired(now) {
                look(entry);
            }
        };
        if let Database::Number(number) = self.of {
            self.of = Database::Space(self.store.order().space_of(number));
        }
        self.store.scan(self.of, cursor, count, &mut live)
    }

    fn cursors(&self) -> u64 {
        self.store.cursors()
    }

    fn count_quietly(&mut self, found: bool) {
        count_read(self.metrics, found);
    }

    fn count_read(&mut self, key: &[u8], found: bool) {
        self.count_reads(&[key], &[found]);
    }

    fn count_reads(&mut self, keys: &[&[u8]], found: &[bool]) {
        let hits = found.iter().filter(|found| **found).count();
        count_reads(self.metrics, hits, found.len() - hits);
        if hits < found.len()
            && let Some(audience) = self.audience
            && audience.events().tells(EventClass::Miss)
        {
            let missed = keys.iter().zip(found).filter(|(_, found)| !**found);
            let mut news = missed.map(|(key, _)| News::missed(key, self.number)).collect();
            audience.tell(&mut news);
        }
    }

    /// At once: every earlier write of this connection is durable.
    fn publish(&mut self, scope: Scope, channel: &[u8], message: &[u8]) -> Result<i64, Refusal> {
        let heard = self.audience.map_or(0, |audience| audience.publish(scope, channel, message));
        Ok(heard as i64)
    }
}

/// Counts a read as a hit or a miss.
pub fn count_read(metrics: &Metrics, found: bool) {
    count_reads(metrics, usize::from(found), usize::from(!found));
}

fn count_reads(metrics: &Metrics, hits: usize, misses: usize) {
    for (counter, count) in [(&metrics.hits, hits), (&metrics.misses, misses)] {
        if count > 0 {
            counter.add(count as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Changed, FIRST, Mutation, Space};
    use crate::store::ShardedMapStore;

    #[test]
    fn a_walk_stays_in_its_database_when_that_is_swapped_meanwhile() {
        const KEYS: usize = 300;
        let (store, metrics) = (ShardedMapStore::new(4, 0), Metrics::default());
        let mut changed = Changed::default();
        for (space, name) in [(FIRST, "here"), (Space(1), "there")] {
            let entry = |key: usize| Entry::new(format!("{name}{key}").as_bytes(), b"");
            changed.in_space(space).extend((0..KEYS).map(entry).map(Mutation::Set));
        }
        store.apply(&mut changed, true);
        let (databases, of) = (16, Database::Number(0));
        let (store, metrics, audience) = (&store, &metrics, None);
        let mut view = StoreView { store, now: 0, metrics, audience, databases, number: 0, of };
        let (mut cursor, mut seen) = (0, Vec::new());
        loop {
            cursor = view.scan(cursor, 10, &mut |entry| seen.push(entry.key().to_vec()));
            if cursor == 0 {
                break;
            }
            let order = Some(store.order().swapped(0, 1));
            store.apply(&mut Changed { order, ..Changed::default() }, true);
        }
        assert!(seen.iter().all(|key| key.starts_with(b"here")), "keys of another database");
        assert_eq!(seen.len(), KEYS);
    }
}
