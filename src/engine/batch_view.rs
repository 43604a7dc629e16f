//! The data as the commands of a batch see and change it: the store with the batch's changes on top.

use super::audience::News;
use super::batch::{Batch, Sums, Takes};
use super::changes::{Below, Found};
use super::events;
use super::layer::Layer;
use super::view::{StoreView, count_read};
use super::watches::Seen;
use crate::command::{
    Command, Database, Edit, EventClass, Key, Mutation, Refusal, Scope, Shape, Space, View, look,
};
use crate::entry::Entry;
use crate::metrics::Metrics;
use crate::store::{Store, bytes_of_entry};

/// Bytes of all values that the commands of a transaction may make out of existing ones, even if later ones
/// replace them: as much as a client may send for one transaction. It bounds the memory that a short
/// transaction takes (COPY of a long value, again and again) and the time that it holds others up (APPEND to
/// a long value). The first value is always made: no command alone makes more than one.
pub(super) const MADE_BYTES: usize = 1 << 30;

/// One database of a store with a batch on top.
pub struct BatchView<'a> {
    /// The batch.
    pub batch: &'a mut Batch,
    /// Where reads are counted.
    pub metrics: &'a Metrics,
    pub(super) store: &'a dyn Store,
    /// The number of the database.
    number: u16,
}

impl<'a> BatchView<'a> {
    /// The data as it will be after this batch, in the database with this number.
    pub fn over(
        batch: &'a mut Batch,
        store: &'a dyn Store,
        metrics: &'a Metrics,
        number: u16,
    ) -> BatchView<'a> {
        BatchView { batch, store, metrics, number }
    }

    /// A key as a connection that begins to watch it sees it.
    pub fn seen(&mut self, key: &[u8]) -> Seen {
        self.shape(key).map_or(Seen::Missing, |shape| Seen::There(shape.expiry))
    }

    /// Keeps the changes of the running command.
    pub fn keep(&mut self) {
        let swapped = self.batch.order_before().differing(self.batch.order());
        if !swapped.is_empty() && !self.batch.watches.is_empty() {
            // Taken out of the batch, because `has` looks at that meanwhile.
            let mut watches = std::mem::take(&mut self.batch.watches);
            let selected = self.number;
            for number in swapped {
                self.number = number;
                watches.touch_swapped(number, |key| self.has(key));
            }
            self.number = selected;
            self.batch.watches = watches;
        }
        self.batch.keep();
    }

    /// Whether a key has expired and is still to be removed.
    pub fn has_expired(&mut self, key: &[u8]) -> bool {
        let (now, space) = (self.batch.now, self.space());
        let is_expired = |entry: &Entry| entry.is_expired(now);
        match found(&mut self.batch.layers, space, key) {
            Found::Set(entry) => is_expired(entry),
            Found::Altered(altered) => altered.shape.is_expired(now),
            Found::Gone => false,
            Found::Unchanged => {
                let mut expired = false;
                let look = &mut |entry: Option<&Entry>| expired = entry.is_some_and(is_expired);
                self.store.get(Database::Space(space), key, look);
                expired
            }
        }
    }

    /// Selects the database that a space is.
    pub fn select_space(&mut self, space: Space) {
        self.number = self.batch.order().number_of(space);
    }

    pub(super) fn space(&self) -> Space {
        self.batch.order().space_of(self.number)
    }

    /// How much more the database takes up after a change that sets an entry of this many bytes.
    pub(super) fn grown_with(&mut self, mutation: &Mutation, bytes: usize) -> Result<i64, Refusal> {
        match mutation {
            Mutation::Set(_) | Mutation::Patch(_) | Mutation::Expire(_) => {
                self.grown_after(mutation.key(), Some(bytes))
            }
            Mutation::Delete(key) => self.grown_after(key, None),
            Mutation::Clear if self.batch.most_memory.is_some() => {
                let (space, store) = (self.space(), self.store);
                let stored = || store.bytes_of(Database::Space(space)) as i64;
                Ok(-self.batch.used_by(space, stored))
            }
            Mutation::Clear => Ok(0),
        }
    }

    /// How much more the database takes up after a key has an entry of this many bytes, or none. The old entry
    /// is looked up only if memory is limited.
    fn grown_after(&mut self, key: &[u8], bytes: Option<usize>) -> Result<i64, Refusal> {
        let Some(most) = self.batch.most_memory else {
            return Ok(0);
        };
        let before = self.shape(key);
        let before = before.map_or(0, |old| bytes_of_entry(old.bytes_with(key.len())));
        let grown = bytes.map_or(0, bytes_of_entry) as i64 - before as i64;
        if self.batch.may_grow && grown > 0 && self.batch.sums.used + grown > most {
            return Err(Refusal::NoMemory);
        }
        Ok(grown)
    }

    /// Gathers what there is to tell of a change that is about to be made.
    pub(super) fn note_events(&mut self, mutation: &Mutation) -> Result<(), Refusal> {
        let (wanted, cause, key) = (self.batch.events, self.batch.cause, mutation.key());
        let mut found = Vec::new();
        if matches!(mutation, Mutation::Clear) {
            return Ok(());
        }
        // Redis removes an expired key when a command comes to it, and tells of that first.
        if !events::is_reclaim(cause) && self.has_expired(key) {
            found.push((EventClass::Expired, "expired"));
        }
        if mutation.keeps_key() && !self.has(key) {
            found.push((EventClass::New, "new"));
        }
        events::of_change(cause, mutation, |class, name| found.push((class, name)));
        for (_, name) in found.into_iter().filter(|(class, _)| wanted.wants(*class)) {
            let (key, database) = (Key::from(key), self.number);
            self.batch.news.push(News::Event { name, key, database })?;
        }
        Ok(())
    }

    /// Notes that the client wants to know when what a command reads changes.
    pub fn note_read(&mut self, command: &Command) -> Result<(), Refusal> {
        let client = self.batch.client;
        let mut noted = Ok(());
        command.read_keys(&mut |key| {
            if noted.is_ok() {
                noted = self.batch.news.push(News::Read { client, key: key.into() });
            }
        });
        noted
    }

    fn below(&self) -> StoreView<'_> {
        let (store, now, metrics) = (self.store, self.batch.now, self.metrics);
        let (databases, number) = (self.batch.databases, self.number);
        let of = Database::Space(self.space());
        StoreView { store, now, metrics, audience: None, databases, number, of }
    }
}

impl Edit for BatchView<'_> {
    fn push(&mut self, mutation: Mutation) -> Result<(), Refusal> {
        if !self.batch.takes.allows(&mutation) {
            return Err(Refusal::NoRoom);
        }
        let bytes = match &mutation {
            Mutation::Set(entry) => entry.bytes(),
            Mutation::Delete(_) | Mutation::Clear | Mutation::Patch(_) | Mutation::Expire(_) => 0,
        };
        let grown = self.grown_with(&mutation, bytes)?;
        if self.batch.events.is_on() {
            self.note_events(&mutation)?;
        }
        let (space, Sums { bytes: before, used }) = (self.space(), self.batch.sums);
        let of_space = if mutation == Mutation::Clear { 0 } else { grown };
        let sums = Sums { bytes: before + bytes, used: (used + grown).max(0) };
        self.batch.add(sums).put(space, mutation, of_space);
        Ok(())
    }

    fn patch(&mut self, key: &[u8], offset: usize, bytes: &[u8]) -> Result<(), Refusal> {
        self.change_part(key, offset, bytes)
    }

    fn expire(&mut self, key: &[u8], at: Option<i64>) -> Result<(), Refusal> {
        self.change_expiry(key, at)
    }

    fn clear_all(&mut self) -> Result<(), Refusal> {
        if !self.batch.takes.allows_clear() {
            return Err(Refusal::NoRoom);
        }
        let sums = Sums { used: 0, ..self.batch.sums };
        self.batch.add(sums).clear_all();
        Ok(())
    }

    fn swap(&mut self, one: u16, other: u16) -> Result<(), Refusal> {
        if !self.batch.takes.allows_swap() {
            return Err(Refusal::NoRoom);
        }
        if one != other {
            let order = self.batch.order().swapped(one, other);
            self.batch.add(self.batch.sums).set_order(order);
        }
        Ok(())
    }

    fn derive(
        &mut self,
        (from, to): (&[u8], &[u8]),
        length: usize,
        expiry: Option<i64>,
        fill: &dyn Fn(&[u8], &mut [u8]),
    ) -> Result<(), Refusal> {
        self.announce(to, length, expiry)?;
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
        self.look_through(length)?;
        Ok(look(self, from, |old| {
            let old = old.map_or(&[][..], Entry::value);
            Entry::filled(to, length, expiry, |new| fill(old, new))
        }))
    }

    fn announce(&mut self, key: &[u8], length: usize, expiry: Option<i64>) -> Result<(), Refusal> {
        let bytes = Entry::bytes_with(key.len(), length, expiry.is_some());
        self.grown_after(key, Some(bytes)).map(drop)
    }

    fn look_through(&mut self, bytes: usize) -> Result<(), Refusal> {
        let made_bytes = self.batch.made_bytes.saturating_add(bytes);
        if self.batch.made_bytes > 0 && made_bytes > MADE_BYTES {
            return Err(Refusal::TooMuch);
        }
        self.batch.made_bytes = made_bytes;
        Ok(())
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
        let (now, space) = (self.batch.now, self.space());
        match found(&mut self.batch.layers, space, key) {
            Found::Set(entry) => look(Some(entry).filter(|entry| !entry.is_expired(now))),
            Found::Altered(altered) if altered.shape.is_expired(now) => look(None),
            Found::Altered(_) => look(Some(self.whole(key))),
            Found::Gone => look(None),
            Found::Unchanged => self.below().get(key, look),
        }
    }

    fn shape(&mut self, key: &[u8]) -> Option<Shape> {
        let (now, space) = (self.batch.now, self.space());
        let shape = match found(&mut self.batch.layers, space, key) {
            Found::Set(entry) => Some(Shape::of(entry)),
            Found::Altered(altered) => Some(altered.shape),
            Found::Gone => None,
            Found::Unchanged => self.below().shape(key),
        };
        shape.filter(|shape| !shape.is_expired(now))
    }

    fn part(
        &mut self,
        key: &[u8],
        (from, to): (usize, usize),
        show: &mut dyn FnMut(Option<&[u8]>),
    ) {
        let space = self.space();
        match found(&mut self.batch.layers, space, key) {
            Found::Altered(altered) => {
                let length = altered.shape.length;
                show(Some(&self.altered_part(key, from.min(length), to.min(length))));
            }
            Found::Set(_) | Found::Gone | Found::Unchanged => self.get(key, &mut |entry| {
                show(entry.map(|entry| {
                    let value = entry.value();
                    &value[from.min(value.len())..to.min(value.len())]
                }));
            }),
        }
    }

    fn shapes(&mut self, keys: &[&[u8]], tell: &mut dyn FnMut(Option<Shape>)) {
        keys.iter().for_each(|key| tell(self.shape(key)));
    }

    fn get_all(&mut self, keys: &[&[u8]], look: &mut dyn FnMut(Option<&Entry>)) {
        // No other thread changes anything meanwhile, so one after the other is one moment.
        keys.iter().for_each(|key| self.get(key, look));
    }

    fn databases(&self) -> u16 {
        self.batch.databases
    }

    fn database(&self) -> u16 {
        self.number
    }

    fn select(&mut self, number: u16) {
        assert!(number < self.batch.databases, "a command checks the number that it is given");
        self.number = number;
    }

    fn count(&mut self) -> usize {
        let (space, store) = (self.space(), self.store);
        let mut count = store.count(Database::Space(space));
        for layer in 0..self.batch.layers.len() {
            let (layers, rest) = self.batch.layers.split_at_mut(layer);
            count = rest[0].count(space, &mut Under { store, layers, space }, count);
        }
        count
    }

    /// Of an entry that has changed in part its key is as it is, and the rest may be as it was. Cursors are the store's. A key that the batch has changed is shown where the store will have it, so that
    /// a walk that goes on in the store misses nothing. A step ends after `count` changed keys, even in the
    /// middle of what the store shows at a time: the next step shows the rest.
    fn scan(&mut self, cursor: u64, count: usize, look: &mut dyn FnMut(&Entry)) -> u64 {
        let (store, now, end) = (self.store, self.batch.now, self.store.cursors());
        if self.batch.layers.iter().all(Layer::is_empty) {
            return self.below().scan(cursor, count, look);
        }
        let space = self.space();
        let layers = &mut self.batch.layers;
        let mut next = end;
        for layer in 0..layers.len() {
            let (layers, rest) = layers.split_at_mut(layer);
            let mut below = Under { store, layers, space };
            let of_layer = rest[0].cursor_after(space, &mut below, cursor, count);
            next = next.min(of_layer.unwrap_or(end));
        }
        let mut look = |entry: &Entry| {
            if !entry.is_expired(now) {
                look(entry);
            }
        };
        if !layers.iter().any(|layer| layer.hides(space)) {
            let of_store = store.scan(Database::Space(space), cursor, count, &mut |entry| {
                let key = entry.key();
                let is_here = (cursor..next).contains(&store.cursor_of(key));
                if is_here && base(layers, space, key) == Found::Unchanged {
                    look(entry);
                }
            });
            next = next.min(if of_store == 0 { end } else { of_store });
        }
        for layer in 0..layers.len() {
            let (below, above) = layers.split_at_mut(layer + 1);
            for entry in below[layer].between(space, cursor, next) {
                if base(above, space, entry.key()) == Found::Unchanged {
                    look(entry);
                }
            }
        }
        if next >= end { 0 } else { next }
    }

    fn cursors(&self) -> u64 {
        self.store.cursors()
    }

    fn count_quietly(&mut self, found: bool) {
        count_read(self.metrics, found);
    }

    fn count_read(&mut self, key: &[u8], found: bool) {
        count_read(self.metrics, found);
        if !found && self.batch.events.tells(EventClass::Miss) {
            // A script that misses so many keys that there is no room for more events is carried out all the same.
            let _ = self.batch.news.push(News::missed(key, self.number));
        }
    }

    /// Those who hear are counted now, and hear it when the batch is durable.
    fn publish(&mut self, scope: Scope, channel: &[u8], message: &[u8]) -> Result<i64, Refusal> {
        // It may tell of what is not going to be written.
        if matches!(self.batch.takes, Takes::Nothing(_)) {
            return Err(Refusal::NoRoom);
        }
        let audience = self.batch.audience.as_ref();
        let hearers = audience.map_or(0, |audience| audience.hearers(scope, channel));
        if hearers > 0 {
            let (channel, message) = (channel.into(), message.into());
            self.batch.news.push(News::Message { scope, channel, message })?;
        }
        Ok(hearers as i64)
    }
}

/// What the topmost of these layers that has a change of a key says about it.
fn found<'a>(layers: &'a mut [Layer], space: Space, key: &[u8]) -> Found<'a> {
    let layers = layers.iter_mut().rev();
    let mut all = layers.map(|layer| layer.find(space, key));
    all.find(|found| *found != Found::Unchanged).unwrap_or(Found::Unchanged)
}

/// The same as if no entry had changed in part.
fn base<'a>(layers: &'a mut [Layer], space: Space, key: &[u8]) -> Found<'a> {
    let layers = layers.iter_mut().rev();
    let mut all = layers.map(|layer| layer.find_base(space, key));
    all.find(|found| *found != Found::Unchanged).unwrap_or(Found::Unchanged)
}

/// What is below a layer: a database of the store, and the layers on it.
struct Under<'a> {
    store: &'a dyn Store,
    layers: &'a mut [Layer],
    space: Space,
}

impl Below for Under<'_> {
    fn cursor_of(&self, key: &[u8]) -> u64 {
        self.store.cursor_of(key)
    }

    fn holds(&mut self, key: &[u8]) -> bool {
        match found(self.layers, self.space, key) {
            Found::Set(_) | Found::Altered(_) => true,
            Found::Gone => false,
            Found::Unchanged => {
                let mut there = false;
                let look = &mut |entry: Option<&Entry>| there = entry.is_some();
                self.store.get(Database::Space(self.space), key, look);
                there
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Change, Patch};
    use std::collections::BTreeMap;

    use crate::command::{
        Changed, Command, CommandId, Dialect, FIRST, Keys, Order, Packed, Reply, RespVersion, Run,
        SetOptions, Spec, Words,
    };
    use crate::commands::command;
    use crate::engine::evaluate::carry_out;
    use crate::engine::store_batch;
    use crate::record;

    /// The changes of the first database that are kept so far.
    fn kept(batch: &Batch) -> &[Mutation] {
        let mut all = batch.layers[0].changed();
        all.find_map(|(space, changes)| (space == FIRST).then_some(changes)).unwrap_or_default()
    }

    fn apply(store: &dyn Store, mutations: Vec<Mutation>) {
        store.apply(&mut Changed::of(FIRST, mutations), false);
    }

    fn set(key: &[u8], value: &[u8]) -> Command {
        Command::Set(Entry::new(key, value), SetOptions::default())
    }

    fn ask(batch: &mut Batch, store: &dyn Store, mut command: Command) -> Reply<'static> {
        let dialect = Dialect::Resp(RespVersion::V2);
        let metrics = Metrics::default();
        carry_out(
            &mut BatchView::over(batch, store, &metrics, 0),
            &mut command,
            dialect,
            usize::MAX,
        )
    }

    fn flush() -> Command {
        command(&[b"flushall"]).expect("it is one")
    }

    fn with_one_key() -> (Box<dyn Store>, Batch) {
        let store = crate::store::new(2, 0);
        apply(&*store, vec![Mutation::Set(Entry::new(b"old", b"1"))]);
        (store, Batch::new(1000, 16, Order::default()))
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
        assert_eq!(BatchView::over(&mut batch, &*store, &Metrics::default(), 0).count(), 1);
        assert_eq!(kept(&batch).len(), 4);
        let look =
            &mut |entry: Option<&Entry>| assert_eq!(entry.map(Entry::value), Some(&b"1"[..]));
        store.get(Database::Space(FIRST), b"old", look);
    }

    /// This batch has begun decades ago.
    #[test]
    fn a_key_without_time_to_live_is_gone_for_the_next_command_of_a_batch_that_began_earlier() {
        for expire in ["pexpire old 0", "expire old 0", "pexpire old -1"] {
            let (store, mut batch) = with_one_key();
            let mut ask = |words: &str| {
                let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
                ask(&mut batch, &*store, command(&words).expect("it is one"))
            };
            assert_eq!(ask(expire), Reply::Integer(1));
            assert_eq!(ask("exists old"), Reply::Integer(0));
            assert_eq!(ask("append old new"), Reply::Integer(3));
            assert_eq!(ask("ttl old"), Reply::Integer(-1));
        }
    }

    #[test]
    fn after_a_clear_the_batch_sees_nothing_of_the_store() {
        let (store, mut batch) = with_one_key();
        ask(&mut batch, &*store, set(b"before", b""));
        ask(&mut batch, &*store, flush());
        ask(&mut batch, &*store, set(b"after", b""));
        let metrics = Metrics::default();
        let mut view = BatchView::over(&mut batch, &*store, &metrics, 0);
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
            apply(&*store, (0..3000).map(set_now).collect());
            let mut batch = Batch::new(1000, 16, Order::default());
            if clears {
                ask(&mut batch, &*store, flush());
            }
            for number in 1000..5000 {
                let all = [set(number), Command::Del(vec![key(number / 8)[..].into()])].into();
                ask(&mut batch, &*store, Command::Transaction(all, None));
            }
            let metrics = Metrics::default();
            let mut view = BatchView::over(&mut batch, &*store, &metrics, 0);
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
            batch.changed();
            batch.apply(|all, together| store.apply(all, together));
            while cursor != 0 {
                let look = &mut |entry: &Entry| keys.push(entry.key().to_vec());
                cursor = store.scan(Database::Space(FIRST), cursor, 10, look);
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
        assert_eq!(kept(&batch).len(), 1);

        let copies =
            (0..20_u8).map(|to| command(&[b"copy", b"k", &[to], b"replace"]).expect("it is one"));
        let all = [set(b"old", b"2"), flush(), lengthen(999)].into_iter().chain(copies);
        let refused = ask(&mut batch, &*store, Command::Transaction(all.collect(), None));
        assert!(matches!(refused, Reply::Error(text) if text.starts_with("EXECABORT")));
        assert_eq!(kept(&batch).len(), 1);
        let metrics = Metrics::default();
        let mut view = BatchView::over(&mut batch, &*store, &metrics, 0);
        assert_eq!(view.count(), 2);
        assert_eq!(
            look(&mut view, b"old", |entry| entry.map(|entry| entry.value().to_vec())),
            Some(vec![b'1'])
        );
    }

    /// Sets `a` and `b`, removes `old`, and then finds a mistake.
    fn fail_half_way(view: &mut dyn Edit, _: &Words<'_>) -> Result<Reply<'static>, Refusal> {
        view.push(Mutation::Set(Entry::new(b"a", b"wrong")))?;
        view.push(Mutation::Set(Entry::new(b"b", b"wrong")))?;
        view.push(Mutation::Delete(b"old"[..].into()))?;
        Err("ERR half-way".into())
    }

    static FAILING: Spec = Spec {
        name: "failing",
        arity: 1,
        flags: &[],
        groups: &[],
        keys: Keys::NONE,
        run: Run::Write(fail_half_way),
        id: CommandId(0),
        parent: None,
        children: 0,
    };

    #[test]
    fn a_command_that_fails_half_way_takes_back_its_own_changes_and_its_transaction_goes_on() {
        let (store, mut batch) = with_one_key();
        batch.begin(0, Some((store.bytes(), store.bytes() + 5000)));
        let failing = || Command::Call(&FAILING, Packed::new(&[b"failing"]));
        assert_eq!(ask(&mut batch, &*store, failing()), Reply::Error("ERR half-way".into()));
        assert_eq!((kept(&batch), batch.bytes()), (&[][..], 0));
        let append = || command(&[b"append", b"a", b"1"]).expect("it is one");
        let commands = [set(b"c", b"1"), append(), failing(), append(), set(b"c", b"2")];
        let all = Command::Transaction(commands.into(), None);
        let Reply::Array(replies) = ask(&mut batch, &*store, all) else {
            panic!("it is carried out");
        };
        assert_eq!(replies[2], Reply::Error("ERR half-way".into()));
        assert_eq!(replies[3], Reply::Integer(2));
        let entry = |key, value| Mutation::Set(Entry::new(key, value));
        assert_eq!(kept(&batch), [entry(b"c", b"2"), entry(b"a", b"11")]);
        let (memory, bytes) = (batch.sums.used, batch.bytes());
        // The same without the failure adds up to the same.
        let (store, mut batch) = with_one_key();
        batch.begin(0, Some((store.bytes(), store.bytes() + 5000)));
        let all = [set(b"c", b"1"), append(), append(), set(b"c", b"2")].into();
        ask(&mut batch, &*store, Command::Transaction(all, None));
        assert_eq!((batch.sums.used, batch.bytes()), (memory, bytes));
    }

    /// Bytes that these commands add to the log, alone or as a transaction.
    fn logged(commands: Vec<Command>, is_transaction: bool) -> usize {
        let (store, mut batch) =
            (crate::store::new(2, 0), Batch::new(10_000, 16, Order::default()));
        apply(&*store, vec![Mutation::Set(Entry::new(b"long", &[0; 2000]))]);
        let mut ask = |command| {
            let reply = ask(&mut batch, &*store, command);
            assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
        };
        match is_transaction {
            true => ask(Command::Transaction(commands, None)),
            false => commands.into_iter().for_each(ask),
        }
        let mut bytes = 0;
        record::of(batch.changed()).for_each(|new| new.encode(|piece| bytes += piece.len()));
        bytes
    }

    #[test]
    fn what_is_logged_of_a_long_value_is_what_is_new_and_in_a_transaction_no_more_than_twice_the_value()
     {
        let all = |words: &dyn Fn(usize) -> Vec<String>| -> Vec<Command> {
            let command = |n| {
                let words = words(n);
                let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
                command(&words).expect("it is one")
            };
            (0..1000).map(command).collect()
        };
        let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let bits = || all(&|n| words(&format!("setbit long {} 1", n * 15)));
        assert!(logged(bits(), false) < 1000 * 60);
        assert!(logged(bits(), true) < 3 * 2000);
        // One at the end of the other is one.
        assert!(logged(all(&|_| words("append long x")), true) < 1200);
        let expire = |n| words(&format!("pexpireat long {}", 4_102_444_800_000_usize + n));
        assert!(logged(all(&expire), true) < 100);
        let both = |n: usize| if n.is_multiple_of(2) { expire(n) } else { words("append long x") };
        assert!(logged(all(&both), true) < 3 * 2500);
    }

    /// Each key of three databases with its value and expiry, by number.
    type Model = [BTreeMap<u8, (Vec<u8>, Option<i64>)>; 3];

    /// Makes a change of one key of the model.
    fn change(map: &mut BTreeMap<u8, (Vec<u8>, Option<i64>)>, key: u8, mutation: &Mutation) {
        match mutation {
            Mutation::Clear => map.clear(),
            Mutation::Delete(_) => drop(map.remove(&key)),
            Mutation::Set(entry) => drop(map.insert(key, (entry.value().into(), entry.expiry()))),
            Mutation::Expire(expiry) => map.get_mut(&key).expect("it is there").1 = expiry.at,
            Mutation::Patch(patch) => {
                let value = &mut map.get_mut(&key).expect("it is there").0;
                value.resize(patch.borrowed().length(), 0);
                value[patch.offset..][..patch.bytes.len()].copy_from_slice(&patch.bytes);
            }
        }
    }

    #[test]
    fn parts_and_commands_are_kept_and_forgotten_as_copies_of_maps_are() {
        let seed = 1_u64;
        let mut state = seed;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let metrics = Metrics::default();
        const NOW: i64 = 1000;
        const LENGTHS: [usize; 6] = [0, 1, 1023, 1024, 1500, 5000];
        for round in 0..300 {
            // The other one gets the same from the records of the batch.
            let [store, other] = [4, 3].map(|shards| crate::store::new(shards, 0));
            let mut kept = Model::default();
            for store in [&store, &other] {
                let mut changed = Changed::default();
                for (space, map) in kept.iter_mut().enumerate() {
                    let keys = 0..8 * (2 - space as u8) / 2;
                    let value = |key| vec![key; LENGTHS[usize::from(key) % 6]];
                    map.extend(keys.clone().map(|key| (key, (value(key), None))));
                    let all = keys.map(|key| Mutation::Set(Entry::new(&[key], &value(key))));
                    changed.in_space(Space(space as u16)).extend(all);
                }
                store.apply(&mut changed, false);
            }
            let mut batch = Batch::new(1000, 3, Order::default());
            let (mut running, mut part): (Model, Option<Model>) = (kept.clone(), None);
            batch.begin(NOW, Some((store.bytes(), usize::MAX)));
            let mut sums = [batch.sums; 3];
            let mut last = (0, 3);
            for _ in 0..random(80) {
                // A partial change is often of the same key as the one before.
                let what = random(18);
                let chosen = match what {
                    12.. if random(2) == 0 => last,
                    _ => (random(3) as u16, random(12) as u8),
                };
                last = if what < 12 { last } else { chosen };
                let (number, key) = chosen;
                let mut view = BatchView::over(&mut batch, &*store, &metrics, number);
                match (what, &mut part) {
                    (0, None) => {
                        view.batch.begin_part();
                        (part, sums[2]) = (Some(running.clone()), view.batch.sums);
                    }
                    (0, Some(_)) => {
                        view.batch.keep_part();
                        running = part.take().expect("it was begun");
                    }
                    (1, Some(_)) => {
                        view.batch.forget_part();
                        part = None;
                        assert_eq!(view.batch.sums, sums[2]);
                    }
                    (1, None) => {
                        view.keep();
                        (kept, sums[1]) = (running.clone(), view.batch.sums);
                    }
                    (2, _) => {
                        view.batch.forget();
                        (running, part) = (kept.clone(), None);
                        assert_eq!(view.batch.sums, sums[1]);
                    }
                    (what, part) => {
                        let all = part.as_mut().unwrap_or(&mut running);
                        let map = &mut all[usize::from(view.database())];
                        let expiry = [None, Some(NOW), Some(NOW + 1)][random(3) as usize];
                        let live = map.get(&key).filter(|(_, at)| at.is_none_or(|at| at > NOW));
                        if let (12.., Some((value, _))) = (what, live) {
                            let before = value.len();
                            let offset = random(before as u64 + 1) as usize;
                            let offset = [offset, before][random(2) as usize];
                            let bytes =
                                vec![random(256) as u8; [0, 1, 40, 3000][random(4) as usize]];
                            let patch = Patch { key: &[key], before, offset, bytes: &bytes };
                            let at = [None, Some(NOW + 1)][random(2) as usize];
                            let done = match what {
                                12..16 => Change::Patch(patch).to_mutation(),
                                _ => Change::Expire(&[key], at).to_mutation(),
                            };
                            match what {
                                12..16 => view.patch(&[key], offset, &bytes),
                                _ => view.expire(&[key], at),
                            }
                            .expect("there is room");
                            change(map, key, &done);
                            continue;
                        }
                        let mutation = match what {
                            3 if random(4) == 0 => Mutation::Clear,
                            4 if random(8) == 0 => {
                                view.clear_all().expect("there is room");
                                all.iter_mut().for_each(BTreeMap::clear);
                                continue;
                            }
                            5 if random(4) == 0 => {
                                let other = random(3) as u16;
                                view.swap(view.database(), other).expect("there is room");
                                all.swap(view.database().into(), other.into());
                                continue;
                            }
                            3..6 => Mutation::Delete([key].into()),
                            _ => {
                                let value = vec![b'v'; LENGTHS[random(6) as usize]];
                                Mutation::Set(Entry::expiring(&[key], &value, expiry))
                            }
                        };
                        change(map, key, &mutation);
                        view.push(mutation).expect("there is room");
                    }
                }
                let all = part.as_ref().unwrap_or(&running);
                for (number, now) in all.iter().enumerate() {
                    view.select(number as u16);
                    let is_expired = |(_, at): &(_, Option<i64>)| at.is_some_and(|at| at <= NOW);
                    assert_eq!(view.count(), now.len(), "round {round} of seed {seed}");
                    for key in 0..12 {
                        let expected = now.get(&key);
                        assert_eq!(view.has_expired(&[key]), expected.is_some_and(is_expired));
                        let expected = expected.filter(|found| !is_expired(found));
                        let shape = |(value, expiry): &(Vec<u8>, _)| Shape {
                            length: value.len(),
                            expiry: *expiry,
                        };
                        assert_eq!(view.shape(&[key]), expected.map(shape));
                        let value = expected.map(|(value, _)| &value[..]);
                        match random(10) {
                            0 => look(&mut view, &[key], |found| {
                                assert_eq!(found.map(Entry::value), value, "round {round}");
                                assert_eq!(found.map(Shape::of), expected.map(shape));
                            }),
                            1 | 2 => {
                                let from = random(5000) as usize;
                                let to = from + random(100) as usize;
                                view.part(&[key], (from, to), &mut |part| {
                                    let cut = |value: &[u8]| {
                                        value[from.min(value.len())..to.min(value.len())].to_vec()
                                    };
                                    assert_eq!(part.map(<[u8]>::to_vec), value.map(cut));
                                });
                            }
                            _ => {}
                        }
                    }
                    let live = now.iter().filter(|(_, found)| !is_expired(found));
                    let live: Vec<_> = live.map(|(key, _)| vec![*key]).collect();
                    assert_eq!(walk(&mut view, 1 + random(3) as usize), live);
                }
            }
            // The store has exactly the kept changes then, and so has one that reads the records, even twice.
            batch.forget();
            let (mut payload, mut records) = (Vec::new(), 0);
            for new in record::of(batch.changed()) {
                records += 1;
                new.encode(|piece| payload.extend_from_slice(piece));
            }
            batch.apply(|all, together| store.apply(all, together));
            for times in 0..3 {
                let store = if times == 0 { &store } else { &other };
                if times > 0 {
                    store_batch(&**store, &payload, records).expect("they are records");
                }
                for (number, expected) in (0..).zip(&kept) {
                    let of = Database::Number(number);
                    assert_eq!(store.count(of), expected.len(), "round {round} of seed {seed}");
                    for key in 0..12 {
                        store.get(of, &[key], &mut |entry| {
                            let found = entry.map(|entry| (entry.value().to_vec(), entry.expiry()));
                            assert_eq!(found.as_ref(), expected.get(&key), "round {round}");
                        });
                    }
                }
                let walked: usize =
                    (0..3).map(|number| store.bytes_of(Database::Number(number))).sum();
                assert_eq!(walked, store.bytes());
            }
        }
    }
}
