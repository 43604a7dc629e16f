//! The `compactor` thread: keeps the log short, while clients read and write.
//!
//! It has the committer seal the log between two batches, walks the store in short steps, writes what
//! it finds as a snapshot, and deletes what that covers. There is no fork and no second copy of the
//! data. Changes made meanwhile are in the log after the seal, and are made durable there before the
//! snapshot counts (promise 7). A compaction that fails is reported, tried again later, and harms nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};

use super::snapshots::{Size, Snapshot, Snapshots, Spend};
use super::walk::Walk;
use crate::command::Order;
use crate::engine::log::{Log, NotCommitted, Sealed};
use crate::engine::{Compactor, Handle};
use crate::sync::{Condvar, Mutex};

/// How often the compactor checks whether the log has become too long.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long it waits for the next segment, if none could be made before it gave up the reserve.
const SEAL_PATIENCE: Duration = Duration::from_secs(2);

/// How long it waits before it asks the committer again to seal the log.
const SEAL_RETRY: Duration = Duration::from_millis(10);

/// After a failure it waits this long, and twice as long after each further one, up to an hour.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);

const STOPS: &str = "the server stops";

/// When the log is compacted without being asked.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// When the log since the last snapshot is this many per cent as long as the snapshot; never if zero,
    pub percent: u64,
    /// but not before it has this many bytes.
    pub least_bytes: u64,
}

impl Default for Policy {
    /// A log no longer than its snapshot, as in Redis; the replay of less than 64 MiB takes no time.
    fn default() -> Policy {
        Policy { percent: 100, least_bytes: 64 << 20 }
    }
}

/// Shared by the compactor's thread and all threads that ask it.
pub struct Compaction {
    engine: Handle,
    policy: Mutex<Policy>,
    snapshots: Arc<dyn Snapshots>,
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes of the log that the last snapshot covers.
    covered: AtomicU64,
    snapshot_bytes: AtomicU64,
}

/// At most one of `deciding` and `running` is set.
#[derive(Default)]
struct State {
    stop: bool,
    /// A client wants a compaction.
    asked: bool,
    /// Space may be short: whether to compact is to be decided at once.
    look: bool,
    deciding: bool,
    running: bool,
}

/// The result of a compaction.
struct Outcome {
    keys: u64,
    before: u64,
    after: u64,
}

impl Compactor for Compaction {
    fn ask(&self) -> bool {
        let mut state = self.state.lock();
        let is_new = !state.running;
        state.asked |= is_new;
        self.changed.notify_all();
        is_new
    }

    fn is_asked(&self) -> bool {
        self.state.lock().asked
    }

    fn look(&self) {
        self.state.lock().look = true;
        self.changed.notify_all();
    }

    fn may_make_room(&self) -> bool {
        let state = self.state.lock();
        !state.stop && (state.asked || state.look || state.deciding || state.running)
    }

    fn ask_again(&self) -> bool {
        let mut state = self.state.lock();
        state.asked = true;
        self.changed.notify_all();
        !state.running
    }

    fn due_at(&self) -> Option<u64> {
        let Policy { percent, least_bytes } = *self.policy.lock();
        let snapshot = self.log_bytes().0;
        let longest = (u128::from(snapshot) * u128::from(percent) / 100) as u64;
        // As in Redis, zero per cent is never.
        (percent > 0).then_some(least_bytes.max(longest))
    }

    fn policy(&self) -> (u64, u64) {
        let Policy { percent, least_bytes } = *self.policy.lock();
        (percent, least_bytes)
    }

    fn set_policy(&self, percent: u64, least_bytes: u64) {
        *self.policy.lock() = Policy { percent, least_bytes };
        self.look();
    }

    fn log_bytes(&self) -> (u64, u64) {
        let own = || {
            let covered = self.covered.load(Ordering::Relaxed);
            let since = self.engine.logged_bytes().saturating_sub(covered);
            (self.snapshot_bytes.load(Ordering::Relaxed), since)
        };
        self.snapshots.last().unwrap_or_else(own)
    }
}

impl Compaction {
    /// A compaction of this engine's log, without its thread.
    pub fn new(engine: Handle, policy: Policy, snapshots: Arc<dyn Snapshots>) -> Compaction {
        assert!(engine.has_log(), "without a log there is nothing to compact");
        let snapshot_bytes = snapshots.bytes_at_start().into();
        let (state, changed, covered) = (Mutex::default(), Condvar::new(), 0.into());
        let policy = Mutex::new(policy);
        Compaction { engine, policy, snapshots, state, changed, covered, snapshot_bytes }
    }

    /// Ends the thread; it gives up a running compaction.
    pub fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// Works until it is stopped.
    pub fn run(&self) {
        let mut backoff = FIRST_BACKOFF;
        let mut not_before = Instant::now();
        while self.pause() {
            let is_due = self.is_due() && Instant::now() >= not_before;
            let Some(spend) = self.begin(is_due) else { continue };
            let started = Instant::now();
            let outcome = self.compact(spend);
            // Before the report, so that a client that sees the end can ask for another one.
            self.state.lock().running = false;
            if self.go_on().is_err() && outcome.is_err() {
                log::info!("{STOPS}, the running compaction is given up");
            } else {
                self.report(&outcome, started.elapsed());
            }
            match outcome {
                Ok(_) => backoff = FIRST_BACKOFF,
                Err(_) => {
                    if let Err(error) = self.snapshots.remove_leftovers(None) {
                        log::warn!("an unfinished snapshot stays: {error}");
                    }
                    not_before = Instant::now() + backoff;
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                }
            }
        }
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

    fn is_due(&self) -> bool {
        let size = self.size();
        let least_bytes = self.policy.lock().least_bytes;
        let is_long = self.due_at().is_some_and(|due_at| size.since >= due_at);
        is_long || self.snapshots.is_due_early(size, least_bytes, &self.engine.health().room())
    }

    /// Whether a compaction begins now, and if so, whether it may give up the reserve.
    fn begin(&self, is_due: bool) -> Option<Spend> {
        let may_write = self.engine.leads() && self.engine.health().failure().is_none();
        // Read under the lock: a client may have asked since the pause was over.
        let mut state = self.state.lock();
        let asked = std::mem::take(&mut state.asked);
        let begins = (asked || is_due) && may_write;
        if begins {
            // Shown as running before `asked` is cleared for others, so that a client that polls sees no gap.
            self.engine.metrics().compaction.begin();
        }
        (state.deciding, state.running) = (false, begins);
        drop(state);
        let spend = if asked { Spend::Reserve } else { self.snapshots.frees_enough(self.size()) };
        begins.then_some(spend)
    }

    fn size(&self) -> Size {
        Size::of(self.engine.store(), self.log_bytes())
    }

    fn report(&self, outcome: &anyhow::Result<Outcome>, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        let metrics = &self.engine.metrics().compaction;
        match outcome {
            Ok(Outcome { keys, before, after }) => {
                metrics.end(Ok((*before, *after)), elapsed);
                log::info!(
                    "compacted the log: {before} bytes before, {after} after, {keys} records, \
                     {seconds:.3} s"
                );
            }
            Err(error) => {
                metrics.end(Err(format!("{error:#}")), elapsed);
                log::error!("the log could not be compacted, and is as it was: {error:#}");
            }
        }
    }

    fn compact(&self, spend: Spend) -> anyhow::Result<Outcome> {
        let (size, snapshots) = (self.size(), &self.snapshots);
        snapshots.make_room(size.need, &self.engine.health().room(), spend)?;
        let (sealed, order) = self.seal()?;
        let written = match self.write(&sealed, &order, size.need) {
            Err(error) if spend == Spend::Reserve => {
                if !snapshots.make_more_room(size.need, &error)? {
                    return Err(error);
                }
                log::info!("the snapshot is begun anew: {error:#}");
                self.write(&sealed, &order, size.need)
            }
            written => written,
        };
        let (snapshot, keys) = written?;
        self.sync_log()?;
        let after = snapshot.finish(&|| self.go_on())?;
        // From here on a start reads the snapshot; what it covers is only in the way.
        snapshots.remove_leftovers(Some(&sealed))?;
        let covered_before = self.covered.swap(sealed.logged, Ordering::Relaxed);
        assert!(covered_before <= sealed.logged, "a snapshot covers what the one before did");
        self.snapshot_bytes.store(after, Ordering::Relaxed);
        snapshots.keep_room(self.size().need);
        self.engine.errand(|log| log.note_freed()).context(STOPS)?;
        Ok(Outcome { keys, before: size.before(), after })
    }

    /// Writes the store into a snapshot, and returns the number of keys.
    fn write(
        &self,
        sealed: &Sealed,
        order: &Order,
        room: u64,
    ) -> anyhow::Result<(Box<dyn Snapshot + '_>, u64)> {
        let least = self.policy.lock().least_bytes.max(self.engine.store().bytes() as u64);
        // The walk rests no more once the log after the seal is as long as the data; otherwise that could fill
        // the disk. (50 clients with values of 64 KiB write 0.7 GB a second.)
        let late_from = sealed.logged.saturating_add(least);
        let pause = |time| {
            if self.engine.logged_bytes() < late_from {
                self.pause_for(time);
            }
            self.go_on()
        };
        let mut snapshot = self.snapshots.begin(sealed, room)?;
        let mut walk = Walk { pause: &pause, snapshot: &mut *snapshot, keys: 0 };
        walk.all(self.engine.store(), order)?;
        let keys = walk.keys;
        Ok((snapshot, keys))
    }

    /// Has the committer begin a new segment between two batches, and tells which database has which number
    /// then. If there is no space for one, the active
    /// segment will do: everything before it is in the store.
    fn seal(&self) -> anyhow::Result<(Sealed, Order)> {
        let until = Instant::now() + SEAL_PATIENCE;
        let covered = self.covered.load(Ordering::Relaxed);
        let mut asked_in = None;
        loop {
            let first_asked_in = asked_in;
            let engine = self.engine.clone();
            let answer = self.engine.errand(move |log| {
                let active = log.last_seal().following.sequence;
                let asked_in = first_asked_in.unwrap_or(active);
                (seal(log, asked_in, covered), asked_in, engine.store().order())
            });
            let (sealed, first, order) = answer.context(STOPS)?;
            asked_in = Some(first);
            match sealed {
                Ok(Some(sealed)) => return Ok((sealed, order)),
                Err(NotCommitted::NoRoom(_)) if Instant::now() < until => {}
                Err(why) => return Err(anyhow!("no segment can follow: {why}")),
                Ok(None) => {}
            }
            self.pause_for(SEAL_RETRY);
            self.go_on()?;
        }
    }

    /// Makes durable what the walk has seen: with a weaker `-fsync` not all is. If only the snapshot were durable,
    /// a power cut could leave it with half of a batch.
    fn sync_log(&self) -> anyhow::Result<()> {
        let synced = self.engine.errand(|log| log.sync()).context(STOPS)?;
        synced.map_err(|failure| {
            anyhow!("the log cannot be synced: {}", NotCommitted::Closed(failure))
        })
    }

    /// Waits for this long, or until a stop.
    fn pause_for(&self, time: Duration) {
        let mut state = self.state.lock();
        if !state.stop {
            self.changed.wait_for(&mut state, time);
        }
    }

    /// Fails if it is to stop.
    fn go_on(&self) -> anyhow::Result<()> {
        ensure!(!self.state.lock().stop, STOPS);
        Ok(())
    }
}

/// Begins a new segment, or takes one that has begun since this was first asked for: everything before it
/// is in the store by now. (If the disk is so busy that each segment is only just ready when it is needed,
/// there is no other.) On a full disk the active segment will do, if it has something before it that no
/// snapshot covers.
fn seal(log: &mut dyn Log, asked_in: u64, covered: u64) -> Result<Option<Sealed>, NotCommitted> {
    if let Some(failure) = log.health().failure() {
        return Err(NotCommitted::Closed(failure.clone()));
    }
    let active = log.last_seal();
    if active.following.sequence != asked_in {
        return Ok(Some(active));
    }
    match log.seal() {
        Err(NotCommitted::NoRoom(_)) if active.logged > covered => Ok(Some(active)),
        sealed => sealed,
    }
}
