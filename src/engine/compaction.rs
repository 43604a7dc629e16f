//! The `compactor` thread: keeps the log short, while clients read and write.
//!
//! It has the committer seal the log between two batches, walks the store in short steps, writes what
//! it finds as a snapshot, and deletes what that covers. There is no fork and no second copy of the
//! data; the store is locked for one step at a time. What changes meanwhile is in the log behind the
//! seal, and is made durable there before the snapshot counts (promise 7). A compaction that fails is
//! reported, tried again later, and harms nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};

use super::{Operation, Recipient, Room, Shared, Submission, record};
use crate::command::Key;
use crate::entry::Entry;
use crate::store::Store;
use crate::sync::{Condvar, Mutex};
use crate::wal::disk::Disk;
use crate::wal::frame::SegmentHeader;
use crate::wal::guard::reserve::Reserve;
use crate::wal::names::Names;
use crate::wal::{Refused, Wal, snapshot};

/// How often it looks whether the log has become too long.
const INTERVAL: Duration = Duration::from_millis(500);

/// It begins early, where space is short, only once so much was logged: less would free little.
const LEAST_EARLY_BYTES: u64 = 256 << 10;

/// Nor before the log has grown by this part of its snapshot, lest the disk do little else.
const EARLY_PART: u64 = 8;

/// What a snapshot takes beside the entries, as they are in memory: padding of its frames (a block for
/// each 256 KiB), numbers in its records. A part of the data, and a length.
const SNAPSHOT_PART: u64 = 16;
const SNAPSHOT_LEAST: u64 = 64 << 10;

/// Room for a segment to follow, beside the snapshot, where there is none yet.
const SEAL_ROOM: u64 = 512 << 10;

/// How long it waits for that segment where none could be made before it gave up the reserve.
const SEAL_PATIENCE: Duration = Duration::from_secs(2);

/// How long it waits until the committer can seal the log without waiting itself.
const SEAL_RETRY: Duration = Duration::from_millis(10);

/// Entries it looks at under one lock: whole leaves, so at least one.
const STEP: usize = 1;

/// A longer value is copied under a lock of its own, so that a step is short.
const LONG_VALUE_BYTES: usize = 4 << 10;

/// After each step and each frame it rests this many times as long as that took, so that it has at most
/// a third of one core and of the disk. A thread that is always busy is the one that the scheduler puts
/// off, and if that happens to this one while it has a shard's lock, the committer waits with it: so it
/// rests often. (To rest only after frames left clients a fifth to a third fewer SETs. To rest as long as
/// it worked made the slowest of a hundred SETs 2.1 to 2.5 times as slow as without a compaction; twice as
/// long, 1.8; three times as long, no less.)
const RESTS: u32 = 2;

/// But not longer than this, for the disk may just have been slow; and not at all once the log
/// behind the seal is as long as the data, lest it fill the disk. (50 clients with values of 64 KiB
/// write 0.7 GB a second.)
const LONGEST_REST: Duration = Duration::from_millis(100);

/// After a failure it waits this long, and twice as long after each further one, up to an hour.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);

/// When the log is compacted by itself.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// When the log since the last snapshot is that many times as long as the snapshot.
    pub factor: u64,
    /// But not before it has that many bytes.
    pub least_bytes: u64,
}

impl Default for Policy {
    /// A log no longer than its snapshot, as with Redis; below 64 MiB a replay takes no time.
    fn default() -> Policy {
        Policy { factor: 1, least_bytes: 64 << 20 }
    }
}

/// What the compactor, the committer and those who ask share.
pub struct Compaction {
    policy: Policy,
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes of the log, all that was ever read and written.
    logged: AtomicU64,
    /// Those of them that the last snapshot covers.
    covered: AtomicU64,
    snapshot_bytes: AtomicU64,
}

#[derive(Default)]
struct State {
    stop: bool,
    /// Somebody wants a compaction.
    asked: bool,
    /// Space may be short: whether to compact is to be decided at once.
    look: bool,
    deciding: bool,
    running: bool,
    /// The segment that is being written.
    segment: u64,
    favour: Favour,
    /// The segment that was being written when the seal was first asked for.
    asked_in: Option<u64>,
}

/// What the committer does for it, one thing at a time.
#[derive(Default)]
enum Favour {
    #[default]
    None,
    /// To begin a new segment, if that needs no waiting.
    Seal,
    /// To make everything durable that is in the store.
    Sync,
    Done(Result<Option<Sealed>, Refused>),
}

struct Sealed {
    following: SegmentHeader,
    /// Bytes logged before it.
    logged: u64,
}

/// What a compaction did.
struct Outcome {
    keys: u64,
    before: u64,
    after: u64,
}

impl Compaction {
    /// For a log of which so many bytes were read, behind a snapshot of so many.
    pub fn new(policy: Policy, logged: u64, snapshot_bytes: u64) -> Compaction {
        Compaction {
            policy,
            state: Mutex::default(),
            changed: Condvar::new(),
            logged: logged.into(),
            covered: 0.into(),
            snapshot_bytes: snapshot_bytes.into(),
        }
    }

    /// Asks for a compaction; false if one is running.
    pub fn ask(&self) -> bool {
        let mut state = self.state.lock();
        let is_new = !state.running;
        state.asked |= is_new;
        self.changed.notify_all();
        is_new
    }

    /// Whether one was asked for that has not begun.
    pub fn is_asked(&self) -> bool {
        self.state.lock().asked
    }

    /// The committer has no room for a batch.
    pub fn call_for_room(&self) {
        self.state.lock().look = true;
        self.changed.notify_all();
    }

    /// Whether a compaction runs, or may begin at once, that makes room.
    pub fn may_make_room(&self) -> bool {
        let state = self.state.lock();
        !state.stop && (state.asked || state.look || state.deciding || state.running)
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// The committer tells how long the log is, and does what is asked for.
    pub fn between_batches(&self, wal: &mut Wal) {
        self.logged.store(wal.total_bytes(), Ordering::Relaxed);
        let mut state = self.state.lock();
        let segment = wal.running().sequence;
        if state.segment != segment {
            // With each segment there is less space.
            (state.segment, state.look) = (segment, true);
            self.changed.notify_all();
        }
        let done = match state.favour {
            Favour::None | Favour::Done(_) => return,
            Favour::Seal => seal(wal, &mut state.asked_in, self.covered.load(Ordering::Relaxed)),
            Favour::Sync => wal.sync().map(|()| None).map_err(Refused::Closed),
        };
        state.favour = Favour::Done(done);
        self.changed.notify_all();
    }

    /// Bytes of the snapshot, and of the log behind it.
    pub fn log_bytes(&self) -> (u64, u64) {
        let logged = self.logged.load(Ordering::Relaxed);
        let covered = self.covered.load(Ordering::Relaxed);
        (self.snapshot_bytes.load(Ordering::Relaxed), logged.saturating_sub(covered))
    }

    /// Works until it is stopped.
    pub(super) fn run(self: &Arc<Self>, shared: &Shared, place: &Place) {
        let mut backoff = FIRST_BACKOFF;
        let mut not_before = Instant::now();
        while self.pause() {
            let due =
                (self.is_due() || self.is_due_early(shared, place)) && Instant::now() >= not_before;
            let is_possible = shared.health.failure().is_none();
            // Looked at under the lock: it may have been asked for since the pause was over.
            let mut state = self.state.lock();
            let goes = (state.asked || due) && is_possible;
            if goes {
                // It runs before it is no longer asked for, so that a client that waits for both sees no gap.
                shared.metrics.compaction.begin();
            }
            (state.asked, state.deciding, state.running) = (false, false, goes);
            drop(state);
            if !goes {
                continue;
            }
            let started = Instant::now();
            let outcome = self.compact(shared, place);
            // Before it is told that it is over, so that then another one can be asked for.
            self.state.lock().running = false;
            if self.is_stopped() && outcome.is_err() {
                log::info!("the server stops, the running compaction is given up");
            } else {
                self.report(shared, &outcome, started.elapsed());
            }
            match outcome {
                Ok(_) => backoff = FIRST_BACKOFF,
                Err(_) => {
                    place.remove_unfinished();
                    not_before = Instant::now() + backoff;
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                }
            }
        }
    }

    fn report(&self, shared: &Shared, outcome: &anyhow::Result<Outcome>, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        match outcome {
            Ok(Outcome { keys, before, after }) => {
                shared.metrics.compaction.end(Ok((*before, *after)), elapsed);
                log::info!(
                    "compacted the log: {before} bytes before, {after} after, {keys} records, \
                     {seconds:.3} s"
                );
            }
            Err(error) => {
                shared.metrics.compaction.end(Err(format!("{error:#}")), elapsed);
                log::error!("the log could not be compacted, and is as it was: {error:#}");
            }
        }
    }

    fn compact(self: &Arc<Self>, shared: &Shared, place: &Place) -> anyhow::Result<Outcome> {
        let Place { disk, names, reserve } = place;
        let (snapshot_bytes, since) = self.log_bytes();
        let before = snapshot_bytes + since;
        let need = snapshot_room(shared);
        let is_short = shared.health.room() != Room::Enough;
        let free = place.free_for(need, if is_short { SEAL_ROOM } else { 0 })?;
        ensure!(
            need <= free,
            "the snapshot may need {need} bytes, and {free} are free: delete keys, or make room on the \
             volume"
        );

        let sealed = self.seal(shared)?;
        let written = match self.write(shared, place, &sealed, need) {
            // What is free is only what the file system says; another may have been quicker, too.
            Err(error) if is_about_space(&error) && place.give_up_reserve() => {
                log::info!("the snapshot is begun anew: {error:#}");
                place.remove_unfinished();
                self.write(shared, place, &sealed, need)
            }
            written => written,
        };
        let (writer, keys) = written?;
        self.sync_log(shared)?;
        let go_on = || {
            ensure!(!self.is_stopped(), "the server stops");
            Ok(())
        };
        let after = writer.finish(&**disk, names, &go_on)?;
        // From here on a start reads the snapshot; what it covers is only in the way.
        let found = disk.list(names.directory())?;
        let covered = snapshot::leftovers(&found, names, Some(&sealed.following));
        snapshot::delete(&**disk, names, &covered);
        self.covered.store(sealed.logged, Ordering::Relaxed);
        self.snapshot_bytes.store(after, Ordering::Relaxed);
        reserve.keep(snapshot_room(shared));
        Ok(Outcome { keys, before, after })
    }

    /// Writes what is in the store, and says how many keys that are.
    fn write(
        &self,
        shared: &Shared,
        place: &Place,
        sealed: &Sealed,
        room: u64,
    ) -> anyhow::Result<(snapshot::Writer, u64)> {
        let Place { disk, names, reserve } = place;
        let least = self.policy.least_bytes.max(shared.store.bytes() as u64);
        let mut walk = Walk {
            compaction: self,
            late_from: sealed.logged.saturating_add(least),
            writer: snapshot::Writer::create(&**disk, names, &sealed.following)?,
            keys: 0,
            reserve,
            room,
        };
        walk.all(&*shared.store)?;
        // Also the rest, while more room can be made for it.
        walk.writer.flush().context("cannot write the snapshot")?;
        Ok((walk.writer, walk.keys))
    }

    /// Has the committer begin a new segment between two batches. Where none can be made, for want of
    /// space, the one that is being written will do: all before it is in the store.
    fn seal(self: &Arc<Self>, shared: &Shared) -> anyhow::Result<Sealed> {
        self.state.lock().asked_in = None;
        let until = Instant::now() + SEAL_PATIENCE;
        loop {
            match self.ask_committer(shared, Favour::Seal)? {
                Ok(Some(sealed)) => return Ok(sealed),
                Err(Refused::NoRoom(_)) if Instant::now() < until => {}
                Err(why) => return Err(anyhow!("no segment can follow: {why}")),
                Ok(None) => {}
            }
            self.pause_for(SEAL_RETRY);
        }
    }

    /// The walk has seen what was in the store, and not all of that is durable where batches are
    /// not synced. If the snapshot alone were, a power cut could leave it with half of a batch.
    fn sync_log(self: &Arc<Self>, shared: &Shared) -> anyhow::Result<()> {
        let synced = self.ask_committer(shared, Favour::Sync)?;
        synced.map_err(|why| anyhow!("the log cannot be synced: {why}"))?;
        Ok(())
    }

    fn ask_committer(
        self: &Arc<Self>,
        shared: &Shared,
        favour: Favour,
    ) -> anyhow::Result<Result<Option<Sealed>, Refused>> {
        self.state.lock().favour = favour;
        // An empty submission wakes the committer up.
        let wake = Submission { recipient: self.clone(), operations: Vec::new() };
        ensure!(shared.queue.push(wake).is_ok(), "the server stops");
        let mut state = self.state.lock();
        loop {
            match std::mem::take(&mut state.favour) {
                Favour::Done(done) => return Ok(done),
                waiting => state.favour = waiting,
            }
            ensure!(!state.stop, "the server stops");
            self.changed.wait(&mut state);
        }
    }

    fn pause_for(&self, time: Duration) {
        let mut state = self.state.lock();
        if !state.stop {
            self.changed.wait_for(&mut state, time);
        }
    }

    fn is_due(&self) -> bool {
        let (snapshot_bytes, since) = self.log_bytes();
        let Policy { factor, least_bytes } = self.policy;
        since >= least_bytes.max(snapshot_bytes.saturating_mul(factor))
    }

    /// Whether space is so short that the log has to become shorter before it is due: it is longer than
    /// what a snapshot would leave free. Says also what to leave free for that snapshot.
    fn is_due_early(&self, shared: &Shared, place: &Place) -> bool {
        let need = snapshot_room(shared);
        place.reserve.keep(need);
        let free = match place.disk.free_bytes(place.names.directory()) {
            Ok(free) => free,
            Err(error) => {
                log::warn!("cannot tell how much space is free: {error}");
                return false;
            }
        };
        let (snapshot_bytes, since) = self.log_bytes();
        let least = LEAST_EARLY_BYTES.min(self.policy.least_bytes).max(snapshot_bytes / EARLY_PART);
        // A reserve that stands is for those that a client asks for, unless there is no other way.
        let is_full = matches!(shared.health.room(), Room::Full(_));
        let is_possible = need <= free || is_full && need <= free + place.reserve_bytes();
        is_possible && since >= least.max(free.saturating_sub(need))
    }

    /// Waits for something to do; false if it is to end.
    fn pause(&self) -> bool {
        let mut state = self.state.lock();
        if !state.stop && !state.asked && !state.look {
            self.changed.wait_for(&mut state, INTERVAL);
        }
        (state.look, state.deciding) = (false, true);
        !state.stop
    }

    fn is_stopped(&self) -> bool {
        self.state.lock().stop
    }

    /// Lets others have the processor and the disk, [`RESTS`] times as long as it has had them, as long as
    /// fewer bytes than `late_from` were logged.
    fn rest(&self, since: Instant, late_from: u64) -> anyhow::Result<()> {
        let is_late = self.logged.load(Ordering::Relaxed) >= late_from;
        let mut state = self.state.lock();
        if !state.stop && !is_late {
            self.changed.wait_for(&mut state, (since.elapsed() * RESTS).min(LONGEST_REST));
        }
        ensure!(!state.stop, "the server stops");
        Ok(())
    }
}

impl Recipient for Compaction {
    fn deliver(self: Arc<Self>, _answered: &[Operation]) {}
}

/// Where the log is.
pub struct Place {
    /// Its disk.
    pub disk: Arc<dyn Disk>,
    /// Its files.
    pub names: Names,
    /// What it leaves free.
    pub reserve: Arc<Reserve>,
}

impl Place {
    /// What is free, with the reserve if that is not enough for the snapshot and for what is to be `beside`
    /// it. The reserve stays if even so there is no room for the snapshot.
    fn free_for(&self, snapshot: u64, beside: u64) -> io::Result<u64> {
        let free = || self.disk.free_bytes(self.names.directory());
        let before = free()?;
        let helps = before < snapshot + beside && snapshot <= before + self.reserve_bytes();
        if !(helps && self.give_up_reserve()) {
            return Ok(before);
        }
        Ok(free()?.max(self.reserve.bytes()))
    }

    /// False if there is none.
    fn give_up_reserve(&self) -> bool {
        let given = self.reserve.give_up(&*self.disk, &self.names);
        if given {
            log::info!("the reserve is given up, so that the log can be compacted");
        }
        given
    }

    fn reserve_bytes(&self) -> u64 {
        if self.reserve.stands() { self.reserve.bytes() } else { 0 }
    }

    fn remove_unfinished(&self) {
        let found = self.disk.list(self.names.directory()).unwrap_or_default();
        snapshot::delete(&*self.disk, &self.names, &snapshot::leftovers(&found, &self.names, None));
    }
}

/// Whether with more room it would not have happened.
fn is_about_space(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::StorageFull)
}

/// The most that a snapshot of what is in the store will take, about.
fn snapshot_room(shared: &Shared) -> u64 {
    let bytes = shared.store.bytes() as u64;
    bytes + bytes / SNAPSHOT_PART + SNAPSHOT_LEAST
}

/// A walk through the store, on the way into a snapshot.
struct Walk<'a> {
    compaction: &'a Compaction,
    /// With so many bytes logged it is in a hurry.
    late_from: u64,
    writer: snapshot::Writer,
    keys: u64,
    /// What is left free for the rest of the snapshot.
    reserve: &'a Reserve,
    room: u64,
}

impl Walk<'_> {
    /// Goes through all shards side by side, a step in each, so that a start finds records of every
    /// shard in every part of the snapshot, and all of its loaders have something to do.
    fn all(&mut self, store: &dyn Store) -> anyhow::Result<()> {
        let span = store.cursors() / store.shards() as u64;
        let mut cursors: Vec<(usize, u64)> =
            (0..store.shards()).map(|shard| (shard, shard as u64 * span)).collect();
        while !cursors.is_empty() {
            for (shard, cursor) in &mut cursors {
                *cursor = self.step(store, *shard, *cursor)?;
            }
            // The last cursor of a shard is the first one of the next, or 0.
            cursors.retain(|(shard, cursor)| cursor / span == *shard as u64 && *cursor != 0);
        }
        Ok(())
    }

    fn step(&mut self, store: &dyn Store, shard: usize, cursor: u64) -> anyhow::Result<u64> {
        let mut long: Vec<Key> = Vec::new();
        let began = Instant::now();
        let next = store.scan(cursor, STEP, &mut |entry| {
            // Behind an empty shard the step goes on into the next one.
            if store.shard_of(entry.key()) != shard {
                return;
            }
            match entry.value().len() > LONG_VALUE_BYTES {
                true => long.push(entry.key().into()),
                false => self.push(entry),
            }
        });
        self.compaction.rest(began, self.late_from)?;
        self.write_if_full()?;
        for key in long {
            // One that is gone by now is deleted in the log behind the seal.
            let began = Instant::now();
            store.get(&key, &mut |entry| entry.into_iter().for_each(|entry| self.push(entry)));
            self.compaction.rest(began, self.late_from)?;
            self.write_if_full()?;
        }
        Ok(next)
    }

    fn push(&mut self, entry: &Entry) {
        self.writer.push(|frame| record::encode_set(entry, |piece| frame.extend_from_slice(piece)));
        self.keys += 1;
    }

    fn write_if_full(&mut self) -> anyhow::Result<()> {
        if self.writer.is_full() {
            let began = Instant::now();
            self.writer.flush().context("cannot write the snapshot")?;
            self.reserve.keep(self.room.saturating_sub(self.writer.bytes()));
            self.compaction.rest(began, self.late_from)?;
        }
        Ok(())
    }
}

/// Begins a new segment, or takes one that has begun since this was first asked for: all before it
/// is in the store by now. (Where the disk is so busy that each segment is only just ready when it
/// is needed, there is no other.) On a full disk the one that is being written will do as well, if there
/// is something before it.
fn seal(
    wal: &mut Wal,
    asked_in: &mut Option<u64>,
    covered: u64,
) -> Result<Option<Sealed>, Refused> {
    if let Some(failure) = wal.failure() {
        return Err(failure.clone().into());
    }
    let sequence = wal.running().sequence;
    let is_new = *asked_in.get_or_insert(sequence) != sequence;
    let sealed = if is_new { Ok(Some(*wal.running())) } else { wal.seal() };
    let logged = wal.total_bytes().saturating_sub(wal.running_bytes());
    let following = match sealed {
        Err(Refused::NoRoom(_)) if logged > covered => Some(*wal.running()),
        sealed => sealed?,
    };
    Ok(following.map(|following| Sealed { following, logged }))
}
