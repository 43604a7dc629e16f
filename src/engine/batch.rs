//! A batch being evaluated: the store as it will be once the batch is durable.
//!
//! Commands are evaluated one after the other against the store plus what the batch has changed so far,
//! by the one thread on the commit path, so that no lock is needed. The result is a list of absolute
//! [`Mutation`]s.
//!
//! The changes of one command, or of one transaction, gather on top of the others until all of it is
//! evaluated. Then they are kept, of each key only the last one, or forgotten as if they had never been:
//! a command that would exceed the memory limit is refused before it takes the memory (promise 8), and as a
//! whole (promise 7).

use super::changes::{Below, Changes, Found};
use super::view::{StoreView, count_read};
use super::watches::{Seen, Watches};
use crate::command::{Edit, Mutation, Refusal, Reply, View, look};
use crate::entry::Entry;
use crate::metrics::Metrics;
use crate::store::{Store, bytes_of_entry};

/// Bytes of all values that the commands of a transaction may make out of existing ones, even if later ones
/// replace them: as much as a client may send for one transaction. It bounds the memory that a short
/// transaction takes (COPY of a long value, again and again) and the time that it holds others up (APPEND to
/// a long value). The first value is always made: no command alone makes more than one.
const MADE_BYTES: usize = 1 << 30;

/// Changes on top of a store.
pub struct Batch {
    /// The time at which it is evaluated.
    pub now: i64,
    /// The longest value.
    pub max_value: usize,
    /// Whether readers have to see all of it at once, because some command changes several keys.
    pub together: bool,
    /// WATCH flags by key. Only the committing thread touches them, so that setting one cannot race with
    /// EXEC looking at it.
    pub watches: Watches,
    /// Bytes of the entries that were kept.
    pub bytes: usize,
    /// Of the commands that are evaluated.
    kept: Changes,
    /// Of the command, or the transaction, that is being evaluated.
    running: Changes,
    running_bytes: usize,
    made_bytes: usize,
    /// Whether the running command may be refused for what it adds.
    pub may_grow: bool,
    /// The reply to a command that does more than remove something, while the log has no room for it.
    pub no_room: Option<Reply<'static>>,
    memory: Option<Memory>,
}

/// Bytes that the store takes up and may take up.
#[derive(Clone, Copy)]
struct Memory {
    most: i64,
    /// After the changes that are kept.
    used: i64,
    /// And after those of the running command.
    used_then: i64,
}

impl Batch {
    /// An empty batch.
    pub fn new(max_value: usize) -> Batch {
        Batch {
            now: 0,
            max_value,
            together: false,
            watches: Watches::default(),
            bytes: 0,
            kept: Changes::default(),
            running: Changes::default(),
            running_bytes: 0,
            made_bytes: 0,
            may_grow: false,
            no_room: None,
            memory: None,
        }
    }

    /// Begins anew at this time, on a store with these bytes in use and allowed. Watches stay.
    pub fn begin(&mut self, now: i64, used_and_most: Option<(usize, usize)>) {
        self.clear();
        debug_assert!(self.kept.is_empty() && self.running.is_empty(), "a batch begins empty");
        self.now = now;
        let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.memory = used_and_most.map(|(used, most)| {
            let (used, most) = (signed(used), signed(most));
            Memory { most, used, used_then: used }
        });
    }

    /// Forgets everything but the watches.
    pub fn clear(&mut self) {
        self.forget();
        self.kept.clear();
        self.together = false;
        self.bytes = 0;
        self.memory = None;
    }

    /// The changes to be logged and applied, in order.
    pub fn mutations(&self) -> &[Mutation] {
        self.kept.mutations()
    }

    /// Hands over the changes to be applied.
    pub fn take_mutations(&mut self, apply: impl FnOnce(&mut Vec<Mutation>)) {
        self.kept.take(apply);
    }

    /// Keeps the changes of the running command.
    pub fn keep(&mut self) {
        if !self.running.is_empty() {
            self.together |= self.running.mutations().len() > 1;
            self.watches.touch(self.running.mutations());
            self.kept.append(&mut self.running);
            self.bytes += self.running_bytes;
        }
        if let Some(memory) = &mut self.memory {
            memory.used = memory.used_then;
        }
        (self.running_bytes, self.made_bytes) = (0, 0);
    }

    /// Forgets the changes of the running command.
    pub fn forget(&mut self) {
        self.running.clear();
        if let Some(memory) = &mut self.memory {
            memory.used_then = memory.used;
        }
        (self.running_bytes, self.made_bytes) = (0, 0);
    }

    /// How many changes the running command has.
    pub fn running_changes(&self) -> usize {
        self.running.mutations().len()
    }

    /// Whether nothing may be added.
    pub fn is_full(&self) -> bool {
        self.memory.is_some_and(|memory| memory.used_then > memory.most)
    }

    /// The data as it will be.
    pub fn over<'a>(&'a mut self, store: &'a dyn Store, metrics: &'a Metrics) -> BatchView<'a> {
        BatchView { batch: self, store, metrics }
    }
}

/// A store with a batch on top.
pub struct BatchView<'a> {
    /// The batch.
    pub batch: &'a mut Batch,
    /// Where reads are counted.
    pub metrics: &'a Metrics,
    store: &'a dyn Store,
}

impl BatchView<'_> {
    /// A key as a connection that begins to watch it sees it.
    pub fn seen(&mut self, key: &[u8]) -> Seen {
        look(self, key, |entry| entry.map_or(Seen::Missing, |entry| Seen::There(entry.expiry())))
    }

    fn used_with(&mut self, mutation: &Mutation, bytes: usize) -> Result<Option<i64>, Refusal> {
        match mutation {
            Mutation::Set(entry) => self.used_after(entry.key(), Some(bytes)),
            Mutation::Delete(key) => self.used_after(key, None),
            Mutation::Clear => Ok(self.batch.memory.map(|_| 0)),
        }
    }

    /// Bytes that the store will take up after a key has an entry of this many bytes, or none. The old entry is
    /// looked up only if memory is limited.
    fn used_after(&mut self, key: &[u8], bytes: Option<usize>) -> Result<Option<i64>, Refusal> {
        let Some(Memory { most, used_then, .. }) = self.batch.memory else {
            return Ok(None);
        };
        let before = look(self, key, |entry| entry.map_or(0, |old| bytes_of_entry(old.bytes())));
        let grown = bytes.map_or(0, bytes_of_entry) as i64 - before as i64;
        if self.batch.may_grow && grown > 0 && used_then + grown > most {
            return Err(Refusal::NoMemory);
        }
        Ok(Some(used_then + grown))
    }

    /// Whether a key has expired and is still to be removed.
    pub fn has_expired(&mut self, key: &[u8]) -> bool {
        let Batch { kept, running, now, .. } = &mut *self.batch;
        let is_expired = |entry: &Entry| entry.is_expired(*now);
        match found(running, kept, key) {
            Found::Set(entry) => is_expired(entry),
            Found::Gone => false,
            Found::Unchanged => {
                let mut expired = false;
                self.store.get(key, &mut |entry| expired = entry.is_some_and(is_expired));
                expired
            }
        }
    }

    fn below(&self) -> StoreView<'_> {
        StoreView { store: self.store, now: self.batch.now, metrics: self.metrics }
    }
}

impl Edit for BatchView<'_> {
    fn push(&mut self, mutation: Mutation) -> Result<(), Refusal> {
        if self.batch.no_room.is_some() && matches!(mutation, Mutation::Set(_)) {
            return Err(Refusal::NoRoom);
        }
        let bytes = match &mutation {
            Mutation::Set(entry) => entry.bytes(),
            Mutation::Delete(_) | Mutation::Clear => 0,
        };
        let used_then = self.used_with(&mutation, bytes)?;
        if let (Some(memory), Some(used_then)) = (&mut self.batch.memory, used_then) {
            memory.used_then = used_then;
        }
        self.batch.running_bytes += bytes;
        self.batch.running.put(mutation);
        Ok(())
    }

    fn derive(
        &mut self,
        (from, to): (&[u8], &[u8]),
        length: usize,
        expiry: Option<i64>,
        fill: &dyn Fn(&[u8], &mut [u8]),
    ) -> Result<(), Refusal> {
        let bytes = Entry::bytes_with(to.len(), length, expiry.is_some());
        self.used_after(to, Some(bytes))?;
        let made = self.make((from, to), length, expiry, fill)?;
        self.push(Mutation::Set(made))
    }

    fn make(
        &mut self,
        (from, to): (&[u8], &[u8]),
        length: usize,
        expiry: Option<i64>,
        fill: &dyn Fn(&[u8], &mut [u8]),
    ) -> Result<Box<Entry>, Refusal> {
        let made_bytes = self.batch.made_bytes.saturating_add(length);
        if self.batch.made_bytes > 0 && made_bytes > MADE_BYTES {
            return Err(Refusal::TooMuch);
        }
        self.batch.made_bytes = made_bytes;
        Ok(look(self, from, |old| {
            let old = old.map_or(&[][..], Entry::value);
            Entry::filled(to, length, expiry, |new| fill(old, new))
        }))
    }

    fn max_value(&self) -> usize {
        self.batch.max_value
    }

    fn grow(&mut self) -> Result<(), Refusal> {
        self.batch.may_grow = true;
        if self.batch.is_full() { Err(Refusal::NoMemory) } else { Ok(()) }
    }
}

impl View for BatchView<'_> {
    fn now(&self) -> i64 {
        self.batch.now
    }

    fn get(&mut self, key: &[u8], look: &mut dyn FnMut(Option<&Entry>)) {
        let Batch { kept, running, now, .. } = &mut *self.batch;
        match found(running, kept, key) {
            Found::Set(entry) => look(Some(entry).filter(|entry| !entry.is_expired(*now))),
            Found::Gone => look(None),
            Found::Unchanged => self.below().get(key, look),
        }
    }

    fn get_all(&mut self, keys: &[&[u8]], look: &mut dyn FnMut(Option<&Entry>)) {
        // No other thread changes anything meanwhile, so one after the other is one moment.
        keys.iter().for_each(|key| self.get(key, look));
    }

    fn count(&mut self) -> usize {
        let Batch { kept, running, .. } = &mut *self.batch;
        let mut below = OfStore(self.store);
        let count = kept.count(&mut below, self.store.len());
        running.count(&mut OfBatch(below, kept), count)
    }

    /// Cursors are the store's. A key that the batch has changed is shown where the store will have it, so that
    /// a walk that goes on in the store misses nothing. A step ends after `count` changed keys, even in the
    /// middle of what the store shows at a time: the next step shows the rest.
    fn scan(&mut self, cursor: u64, count: usize, look: &mut dyn FnMut(&Entry)) -> u64 {
        let Batch { kept, running, now, .. } = &mut *self.batch;
        let (store, metrics, now, end) = (self.store, self.metrics, *now, self.store.cursors());
        if kept.is_empty() && running.is_empty() {
            return self.below().scan(cursor, count, look);
        }
        let of_kept = kept.cursor_after(&mut OfStore(store), cursor, count);
        let mut below = OfBatch(OfStore(store), kept);
        let of_running = running.cursor_after(&mut below, cursor, count);
        let mut next = of_kept.into_iter().chain(of_running).min().unwrap_or(end);
        if !running.hides_all() && !kept.hides_all() {
            let of_store = StoreView { store, now, metrics }.scan(cursor, count, &mut |entry| {
                let key = entry.key();
                if (cursor..next).contains(&store.cursor_of(key))
                    && running.find(key) == Found::Unchanged
                    && kept.find(key) == Found::Unchanged
                {
                    look(entry);
                }
            });
            next = next.min(if of_store == 0 { end } else { of_store });
        }
        let mut look = |entry: &Entry| {
            if !entry.is_expired(now) {
                look(entry);
            }
        };
        for entry in kept.between(cursor, next) {
            if running.find(entry.key()) == Found::Unchanged {
                look(entry);
            }
        }
        running.between(cursor, next).for_each(look);
        if next >= end { 0 } else { next }
    }

    fn cursors(&self) -> u64 {
        self.store.cursors()
    }

    fn count_read(&mut self, found: bool) {
        count_read(self.metrics, found);
    }
}

/// Looks a key up among the running changes, then among those that are kept.
fn found<'a>(running: &'a mut Changes, kept: &'a mut Changes, key: &[u8]) -> Found<'a> {
    match running.find(key) {
        Found::Unchanged => kept.find(key),
        found => found,
    }
}

/// The store below the kept changes.
struct OfStore<'a>(&'a dyn Store);

impl Below for OfStore<'_> {
    fn cursor_of(&self, key: &[u8]) -> u64 {
        self.0.cursor_of(key)
    }

    fn holds(&mut self, key: &[u8]) -> bool {
        let mut there = false;
        self.0.get(key, &mut |entry| there = entry.is_some());
        there
    }
}

/// The store and the kept changes, below those of the running command.
struct OfBatch<'a>(OfStore<'a>, &'a mut Changes);

impl Below for OfBatch<'_> {
    fn cursor_of(&self, key: &[u8]) -> u64 {
        self.0.cursor_of(key)
    }

    fn holds(&mut self, key: &[u8]) -> bool {
        match self.1.find(key) {
            Found::Set(_) => true,
            Found::Gone => false,
            Found::Unchanged => self.0.holds(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Dialect, RespVersion, SetOptions};
    use crate::commands::command;
    use crate::engine::evaluate::carry_out;

    fn set(key: &[u8], value: &[u8]) -> Command {
        Command::Set(Entry::new(key, value), SetOptions::default())
    }

    fn ask(batch: &mut Batch, store: &dyn Store, mut command: Command) -> Reply<'static> {
        let dialect = Dialect::Resp(RespVersion::V2);
        let metrics = Metrics::default();
        carry_out(&mut batch.over(store, &metrics), &mut command, dialect, usize::MAX)
    }

    fn flush() -> Command {
        command(&[b"flushall"]).expect("it is one")
    }

    fn with_one_key() -> (Box<dyn Store>, Batch) {
        let store = crate::store::new(2, 0);
        store.apply(&mut vec![Mutation::Set(Entry::new(b"old", b"1"))], false);
        (store, Batch::new(1000))
    }

    #[test]
    fn operations_see_earlier_changes_of_the_batch_and_readers_of_the_store_do_not() {
        let (store, mut batch) = with_one_key();
        let mut ask = |command| ask(&mut batch, &*store, command);
        let del = |key: &[u8]| Command::Del(vec![key.into()]);
        assert_eq!(ask(del(b"old")), Reply::Integer(1));
        assert_eq!(ask(del(b"old")), Reply::Integer(0));
        assert_eq!(ask(set(b"old", b"2")), Reply::Ok);
        assert_eq!(ask(set(b"new", b"3")), Reply::Ok);
        assert_eq!(ask(del(b"new")), Reply::Integer(1));
        assert_eq!(ask(Command::Get(b"old"[..].into())), Reply::bulk(b"2"));
        assert_eq!(batch.over(&*store, &Metrics::default()).count(), 1);
        assert_eq!(batch.mutations().len(), 4);
        store.get(b"old", &mut |entry| assert_eq!(entry.map(Entry::value), Some(&b"1"[..])));
    }

    #[test]
    fn after_a_clear_the_batch_sees_nothing_of_the_store() {
        let (store, mut batch) = with_one_key();
        ask(&mut batch, &*store, set(b"before", b""));
        ask(&mut batch, &*store, flush());
        ask(&mut batch, &*store, set(b"after", b""));
        let metrics = Metrics::default();
        let mut view = batch.over(&*store, &metrics);
        assert!(!view.has(b"old") && !view.has(b"before") && view.has(b"after"));
        assert_eq!(view.count(), 1);
        let mut seen = Vec::new();
        assert_eq!(view.scan(0, 10, &mut |entry| seen.push(entry.key().to_vec())), 0);
        assert_eq!(seen, [b"after".to_vec()]);
    }

    /// All keys, each as often as it is shown, in steps of `count`.
    fn walk(view: &mut dyn View, count: usize) -> Vec<Vec<u8>> {
        let (mut keys, mut cursor) = (Vec::new(), 0);
        loop {
            cursor = view.scan(cursor, count, &mut |entry| keys.push(entry.key().to_vec()));
            if cursor == 0 {
                break;
            }
        }
        keys.sort_unstable();
        keys
    }

    #[test]
    fn a_walk_over_a_batch_shows_each_key_once_and_one_that_goes_on_in_the_store_misses_none() {
        for clears in [false, true] {
            let store = crate::store::new(8, 0);
            let key = |number: u32| number.to_le_bytes();
            let set = |number| set(&key(number), b"");
            let set_now = |number| Mutation::Set(Entry::new(&key(number), b""));
            store.apply(&mut (0..3000).map(set_now).collect(), false);
            let mut batch = Batch::new(1000);
            if clears {
                ask(&mut batch, &*store, flush());
            }
            for number in 1000..5000 {
                let all = [set(number), Command::Del(vec![key(number / 8)[..].into()])].into();
                ask(&mut batch, &*store, Command::Transaction(all, None));
            }
            let metrics = Metrics::default();
            let mut view = batch.over(&*store, &metrics);
            let expected = walk(&mut view, usize::MAX);
            assert!(expected.windows(2).all(|pair| pair[0] != pair[1]));
            assert_eq!(expected.len(), view.count());
            for count in [1, 10, 1000] {
                assert_eq!(walk(&mut view, count), expected, "{count} at a time");
            }
            // The first steps over the batch, the others over the store.
            let (mut keys, mut cursor) = (Vec::new(), 0);
            for _ in 0..10 {
                cursor = view.scan(cursor, 10, &mut |entry| keys.push(entry.key().to_vec()));
            }
            batch.take_mutations(|all| store.apply(all, true));
            while cursor != 0 {
                cursor = store.scan(cursor, 10, &mut |entry| keys.push(entry.key().to_vec()));
            }
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys, expected);
        }
    }

    #[test]
    fn a_transaction_keeps_the_last_value_of_a_key_and_one_that_is_refused_leaves_nothing() {
        let (store, mut batch) = with_one_key();
        batch.begin(0, Some((store.bytes(), store.bytes() + 5000)));
        let lengthen = |to| {
            let to: usize = to;
            command(&[b"setrange", b"k", to.to_string().as_bytes(), b"x"]).expect("it is one")
        };
        let transaction = Command::Transaction((0..900).map(lengthen).collect(), None);
        assert!(
            matches!(ask(&mut batch, &*store, transaction), Reply::Array(all) if all.len() == 900)
        );
        assert_eq!(batch.mutations().len(), 1);

        let copies =
            (0..20_u8).map(|to| command(&[b"copy", b"k", &[to], b"replace"]).expect("it is one"));
        let all = [set(b"old", b"2"), flush(), lengthen(999)].into_iter().chain(copies);
        let refused = ask(&mut batch, &*store, Command::Transaction(all.collect(), None));
        assert!(matches!(refused, Reply::Error(text) if text.starts_with("EXECABORT")));
        assert_eq!(batch.mutations().len(), 1);
        let metrics = Metrics::default();
        let mut view = batch.over(&*store, &metrics);
        assert_eq!(view.count(), 2);
        assert_eq!(
            look(&mut view, b"old", |entry| entry.map(|entry| entry.value().to_vec())),
            Some(vec![b'1'])
        );
    }
}
