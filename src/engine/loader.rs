//! Loads the log into the store at a start, on as many threads as there are processors.
//!
//! ```text
//!  the reader of the log          loader threads
//!  ── read, check frames ──┬──► the records of its shards ──► store
//!                          └──► the records of its shards ──► store
//! ```
//!
//! Every loader sees every record and keeps those whose keys are in its own shards. So the records of
//! one key stay in the order of the log, no loader hands anything to another, and a record that removes every
//! key, or says which database has which number, needs no agreement: each loader does that in its shards. To
//! look at a key and pass it by costs a tenth of what it costs to store it.
//!
//! However long the log is, a few chunks of it are in memory, or a few batches if those are longer than a
//! chunk. Nothing here knows files.

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, Scope, ScopedJoinHandle};

use anyhow::Context;

use crate::command::{Change, Changed, FIRST};
use crate::record::{self, NotRecords};
use crate::store::Store;
use crate::wal::damage::Damage;
use crate::wal::reader::{Replay, Replayed};

/// Batches are handed on when they have this many bytes: enough for each shard to have many records, so
/// that what it needs of the table stays in the processor's cache while they are stored; and few enough
/// to stay there themselves. (4 MiB took a quarter longer.)
const CHUNK_BYTES: usize = 1 << 20;

/// Chunks that may wait for a loader.
const CHUNKS_WAITING: usize = 1;

/// Some batches, as they stood in the log.
struct Chunk {
    payloads: Vec<u8>,
    batches: Vec<Batch>,
}

/// A batch in a chunk: its number among all that are read, and where in the log it stood.
struct Batch {
    number: u64,
    payload_bytes: usize,
    records: u32,
    path: Arc<Path>,
    offset: u64,
    first_lsn: u64,
}

/// Hands everything that `read` reads to the loaders, and returns when it is in the store.
pub fn load<T>(
    store: &dyn Store,
    read: impl FnOnce(&mut dyn Replay) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let count = processors.min(store.shards());
    thread::scope(|scope| {
        let loaders = (0..count).map(|number| Loader::start(scope, store, number, count));
        let loaders = loaders.collect::<std::io::Result<_>>();
        let loaders = loaders.context("cannot start a loader thread")?;
        let mut feeder = Feeder {
            loaders,
            chunk: Chunk::new(),
            sent: Vec::new(),
            path: Path::new("").into(),
            batches: 0,
        };
        read(&mut feeder).or_else(|error| {
            // Damage that a loader has found comes before the place where reading failed.
            feeder.join()?;
            Err(error)
        })
    })
}

/// Stores one batch that another machine has written, on the caller's thread.
pub fn store_batch(store: &dyn Store, payload: &[u8], records: u32) -> Result<(), NotRecords> {
    let part = Part { store, number: 0, count: 1 };
    let none = |_| Changed::of(FIRST, Vec::new());
    let mut shards: Vec<Changed<Change<'_>>> = part.shards().map(none).collect();
    part.sort(payload, records, &mut shards)?;
    part.shards().zip(&shards).for_each(|(shard, changed)| store.load(shard, changed));
    Ok(())
}

impl Chunk {
    fn new() -> Chunk {
        // A batch of many small records is not much longer than what fills up the chunk.
        Chunk { payloads: Vec::with_capacity(2 * CHUNK_BYTES), batches: Vec::new() }
    }

    /// The same memory for other batches, but not that of one huge value.
    fn emptied(mut self) -> Chunk {
        self.payloads.clear();
        self.payloads.shrink_to(2 * CHUNK_BYTES);
        self.batches.clear();
        self
    }
}

/// Copies what is read into chunks.
///
/// - `chunk` is being filled; those in `sent` may still be in use.
struct Feeder<'scope> {
    loaders: Vec<Loader<'scope>>,
    chunk: Chunk,
    sent: Vec<Arc<Chunk>>,
    /// The file of the last batch.
    path: Arc<Path>,
    /// Batches read so far.
    batches: u64,
}

/// A batch that is not made of records.
struct Refused {
    number: u64,
    damage: Damage,
}

struct Loader<'scope> {
    chunks: SyncSender<Arc<Chunk>>,
    thread: ScopedJoinHandle<'scope, Result<(), Refused>>,
}

impl Replay for Feeder<'_> {
    fn batch(&mut self, batch: Replayed<'_>) -> anyhow::Result<()> {
        let (payload, records, first_lsn) =
            (batch.frame.payload(), batch.records(), batch.first_lsn());
        let Replayed { path, offset, .. } = batch;
        if *self.path != *path {
            self.path = path.into();
        }
        let path = self.path.clone();
        self.chunk.payloads.extend_from_slice(payload);
        let payload_bytes = payload.len();
        let number = self.batches;
        self.batches += 1;
        self.chunk.batches.push(Batch { number, payload_bytes, records, path, offset, first_lsn });
        match self.chunk.payloads.len() >= CHUNK_BYTES {
            true => self.hand_on(),
            false => Ok(()),
        }
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.hand_on()?;
        self.join()
    }
}

impl Feeder<'_> {
    fn hand_on(&mut self) -> anyhow::Result<()> {
        // Takes a chunk that all loaders are done with: memory from the system costs more than filling it.
        let done = self.sent.iter().position(|chunk| Arc::strong_count(chunk) == 1);
        let used = done.and_then(|place| Arc::into_inner(self.sent.swap_remove(place)));
        self.sent.retain(|chunk| Arc::strong_count(chunk) > 1);
        let next = used.map_or_else(Chunk::new, Chunk::emptied);
        let chunk = Arc::new(std::mem::replace(&mut self.chunk, next));
        self.sent.push(chunk.clone());
        for loader in &self.loaders {
            if loader.chunks.send(chunk.clone()).is_err() {
                // The loader has ended early; its result says why.
                return self.join();
            }
        }
        Ok(())
    }

    /// Waits for all loaders, and reports what is wrong in the first batch that any of them refused.
    fn join(&mut self) -> anyhow::Result<()> {
        let mut refused = None;
        for Loader { chunks, thread } in self.loaders.drain(..) {
            drop(chunks);
            let loaded = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            refused = refused.into_iter().chain(loaded.err()).min_by_key(|batch| batch.number);
        }
        refused.map_or(Ok(()), |Refused { damage, .. }| Err(damage.into()))
    }
}

impl<'scope> Loader<'scope> {
    /// The loader of the shards whose number leaves the remainder `number` when it is divided by
    /// `count`.
    fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        store: &'env dyn Store,
        number: usize,
        count: usize,
    ) -> std::io::Result<Loader<'scope>> {
        let (chunks, received) = mpsc::sync_channel(CHUNKS_WAITING);
        let part = Part { store, number, count };
        let thread = thread::Builder::new().name(format!("loader-{number}"));
        let thread = thread.spawn_scoped(scope, move || part.run(&received))?;
        Ok(Loader { chunks, thread })
    }
}

/// The shards of one loader.
struct Part<'env> {
    store: &'env dyn Store,
    number: usize,
    count: usize,
}

impl Part<'_> {
    fn run(&self, chunks: &Receiver<Arc<Chunk>>) -> Result<(), Refused> {
        for chunk in chunks {
            let records: usize = chunk.batches.iter().map(|batch| batch.records as usize).sum();
            // A frame may claim any number of records, but not more bytes than there are.
            let share =
                records.min(chunk.payloads.len() / record::LEAST_BYTES) / self.store.shards();
            let room = |_| Changed::of(FIRST, Vec::with_capacity(share + share / 4));
            let mut shards: Vec<Changed<Change<'_>>> = self.shards().map(room).collect();
            let mut rest = &chunk.payloads[..];
            for batch in &chunk.batches {
                let payload;
                (payload, rest) = rest.split_at(batch.payload_bytes);
                let Batch { number, records, offset, first_lsn: lsn, .. } = *batch;
                self.sort(payload, records, &mut shards).map_err(|NotRecords| {
                    let what = Damage::NOT_AS_WRITTEN.to_owned();
                    let path = batch.path.to_path_buf();
                    Refused { number, damage: Damage { path, offset, lsn, what } }
                })?;
            }
            for (shard, changed) in self.shards().zip(&shards) {
                self.store.load(shard, changed);
            }
        }
        Ok(())
    }

    /// Adds the records of a batch to those of their shards.
    fn sort<'a>(
        &self,
        payload: &'a [u8],
        records: u32,
        shards: &mut [Changed<Change<'a>>],
    ) -> Result<(), NotRecords> {
        for record in record::cut(payload, records) {
            let record = record?;
            let shard = self.store.shard_of(record.key());
            // Each record is checked by one loader, and one that is about no single key by all.
            if record.is_about_all() {
                let logged = record.read()?;
                shards.iter_mut().for_each(|changed| changed.add(logged.clone()));
            } else if shard % self.count == self.number {
                shards[shard / self.count].add(record.read()?);
            }
        }
        Ok(())
    }

    /// The shards that are its own.
    fn shards(&self) -> impl Iterator<Item = usize> + use<> {
        (self.number..self.store.shards()).step_by(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Database, Mutation, Patch};
    use crate::entry::Entry;
    use crate::wal::frame::{FRAME_HEADER_BYTES, FrameHeader, Kind, SegmentHeader};
    use crate::wal::reader::Frame;

    /// Loads batches of encoded records, as if they had been read from a log.
    fn load_all(store: &dyn Store, batches: &[(u32, Vec<u8>)]) -> anyhow::Result<()> {
        let segment = SegmentHeader {
            store_id: 1,
            sequence: 1,
            epoch: 1,
            first_lsn: 1,
            previous_epoch: 0,
            previous_checksum: 0,
            file_bytes: 0,
        };
        load(store, |replay| {
            let mut first_lsn = 1;
            for (records, payload) in batches {
                let header = FrameHeader {
                    kind: Kind::Batch,
                    records: *records,
                    payload_bytes: payload.len() as u64,
                    first_lsn,
                    durable_lsn: 0,
                    previous_checksum: 0,
                    payload_checksum: 0,
                    file_bytes: 0,
                    checksum: 0,
                };
                let bytes = [&[0; FRAME_HEADER_BYTES], &payload[..]].concat();
                replay.batch(Replayed {
                    is_snapshot: false,
                    path: Path::new("a log"),
                    segment: &segment,
                    offset: first_lsn * 100,
                    frame: Frame { header, bytes: &bytes },
                })?;
                first_lsn += u64::from(*records);
            }
            replay.end()
        })
    }

    /// Bytes of a record before its text.
    const HEADER: usize = 12;

    fn batch(mutations: &[Mutation]) -> (u32, Vec<u8>) {
        let mut payload = Vec::new();
        for mutation in mutations {
            let new = record::New::In(FIRST, mutation);
            new.encode(|piece| payload.extend_from_slice(piece));
        }
        (mutations.len() as u32, payload)
    }

    #[test]
    fn every_key_is_as_its_last_record_has_it_whatever_the_number_of_shards() {
        // More than one chunk, and keys that come again in the same one and in later ones.
        let mut batches = Vec::new();
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for number in 0..400_usize {
            let mut mutations: Vec<Mutation> = (0..100)
                .map(|_| {
                    let key = random(1000).to_string();
                    match random(4) {
                        0 => Mutation::Delete(key.as_bytes().into()),
                        _ => {
                            let value = random(u64::MAX).to_string().repeat(random(10) as usize);
                            let expiry = (random(2) == 0).then_some(random(1 << 31) as i64);
                            let entry = Entry::expiring(key.as_bytes(), value.as_bytes(), expiry);
                            Mutation::Set(entry)
                        }
                    }
                })
                .collect();
            if number == 77 || number == 380 {
                mutations.insert(random(100) as usize, Mutation::Clear);
            }
            batches.push((mutations.clone(), batch(&mutations)));
        }
        let payloads: usize = batches.iter().map(|(_, (_, payload))| payload.len()).sum();
        assert!(payloads > 2 * CHUNK_BYTES, "{payloads} bytes are not several chunks");
        let encoded: Vec<_> = batches.iter().map(|(_, batch)| batch.clone()).collect();
        let expected = crate::store::new(1, 0);
        for (mutations, _) in batches {
            expected.apply(&mut Changed::of(FIRST, mutations), false);
        }
        let first = Database::Space(FIRST);

        for shards in [1, 2, 3, 8] {
            let store = crate::store::new(shards, 0);
            load_all(&*store, &encoded).expect("it is a log");
            assert_eq!((store.len(), store.expiring()), (expected.len(), expected.expiring()));
            let mut cursor = 0;
            loop {
                cursor = expected.scan(first, cursor, 1, &mut |entry| {
                    store.get(first, entry.key(), &mut |found| assert_eq!(found, Some(entry)));
                });
                if cursor == 0 {
                    break;
                }
            }
        }
    }

    /// As `crate::record` argues: a walk comes to each key at a moment of its own, and the log goes on from before all
    /// of them.
    #[test]
    fn a_log_over_a_snapshot_of_any_later_moment_of_each_key_leaves_the_last_state() {
        let first = Database::Space(FIRST);
        let seed = 1_u64;
        let mut state = seed;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        let keys: Vec<[u8; 1]> = (0..8).map(|key| [key]).collect();
        for round in 0..200 {
            // Every state of each key, from the seal on; each record changes one.
            let value = |length| Entry::new(b"", &vec![b'0'; length]).value().to_vec();
            let mut states: Vec<Vec<Option<Box<Entry>>>> = keys
                .iter()
                .map(|key| vec![(random(4) > 0).then(|| Entry::new(key, &value(random(2000))))])
                .collect();
            let mut log = Vec::new();
            for _ in 0..random(60) {
                let (place, fill) = (random(keys.len()), random(256) as u8);
                let (key, now) = (&keys[place], states[place].last().expect("the first").clone());
                let part = vec![fill; random(900)];
                let at = [None, Some(random(1000) as i64)][random(2)];
                let mutation = match (now.as_ref(), random(12)) {
                    (None, _) | (_, 0) => Mutation::Set(Entry::expiring(key, &part, at)),
                    (_, 1) if random(2) == 0 => Mutation::Delete((*key).into()),
                    (_, 1 | 2) => Change::Expire(key, at).to_mutation(),
                    (Some(now), _) => {
                        let before = now.value().len();
                        let offset = [before, random(before + 1)][random(2)];
                        Change::Patch(Patch { key, before, offset, bytes: &part }).to_mutation()
                    }
                };
                states[place].push(match (&mutation, now) {
                    (Mutation::Set(entry), _) => Some(entry.clone()),
                    (Mutation::Delete(_), _) => None,
                    (partial, now) => now.map(|now| partial.alter(now)),
                });
                log.push(batch(&[mutation]));
            }
            let moments: Vec<usize> = states.iter().map(|all| random(all.len())).collect();
            for shards in [1, 3] {
                let store = crate::store::new(shards, 0);
                let seen = states.iter().zip(&moments).filter_map(|(all, at)| all[*at].clone());
                let snapshot = batch(&seen.map(Mutation::Set).collect::<Vec<_>>());
                let all: Vec<_> = std::iter::once(snapshot).chain(log.clone()).collect();
                load_all(&*store, &all).expect("it is a log");
                for (key, states) in keys.iter().zip(&states) {
                    let last = states.last().expect("the first").as_deref();
                    let at = format!("round {round} of seed {seed}, from {moments:?}");
                    store.get(first, key, &mut |found| assert_eq!(found, last, "{at}"));
                }
            }
        }
    }

    #[test]
    fn a_change_in_place_of_a_value_that_is_missing_or_too_short_is_passed_over() {
        let patch = |key, before, offset| {
            Change::Patch(Patch { key, before, offset, bytes: b"xyz" }).to_mutation()
        };
        for length in [5, 5000] {
            let value = vec![b'0'; length];
            let all = [
                Mutation::Set(Entry::new(b"there", &value)),
                patch(b"there", length + 1, 0),
                patch(b"missing", 0, 0),
                Change::Expire(b"missing", Some(1)).to_mutation(),
            ];
            let store = crate::store::new(1, 0);
            load_all(&*store, &[batch(&all)]).expect("it is a log");
            let same =
                |found: Option<&Entry>| assert_eq!(found.map(Entry::value), Some(&value[..]));
            store.get(Database::Space(FIRST), b"there", &mut |found| same(found));
            assert_eq!((store.len(), store.expiring()), (1, 0));
        }
    }

    #[test]
    fn bytes_that_are_no_record_are_reported_with_their_place() {
        let set = |value: &[u8]| Mutation::Set(Entry::new(b"key", value));
        let mut batches: Vec<_> = (0..5_u8).map(|value| batch(&[set(&[value; 400_000])])).collect();
        let place = batches[2].1.iter().rposition(|&byte| byte == 2).expect("a value");
        batches[2].1[place + 1] = b'x';
        for shards in [1, 8] {
            let store = crate::store::new(shards, 0);
            let error = load_all(&*store, &batches).expect_err("it is no log");
            let damage = error.downcast::<Damage>().expect("damage");
            assert_eq!((damage.offset, damage.lsn), (300, 3));
            assert!(damage.to_string().starts_with("a log: damaged at offset 300, LSN 3"));
        }
        // The first of several is reported, whichever loader finds it.
        let mut batches: Vec<_> = (0..40_u8)
            .map(|key| batch(&[Mutation::Set(Entry::new(&[key], &[key; 100]))]))
            .collect();
        batches[3..].iter_mut().for_each(|(_, payload)| payload[HEADER + 4] ^= 1);
        for _ in 0..10 {
            let store = crate::store::new(8, 0);
            let error = load_all(&*store, &batches).expect_err("it is no log");
            assert_eq!(error.downcast::<Damage>().expect("damage").lsn, 4);
        }
        // Two records where the frame says one.
        let mut two = batch(&[set(b"1"), set(b"2")]);
        two.0 = 1;
        let store = crate::store::new(8, 0);
        assert!(load_all(&*store, &[two]).is_err());
    }

    #[test]
    fn loading_fails_with_the_error_of_reading() {
        let store = crate::store::new(8, 0);
        let failed = load(&*store, |_| -> anyhow::Result<()> { anyhow::bail!("no disk") });
        assert_eq!(failed.expect_err("an error").to_string(), "no disk");
    }
}
