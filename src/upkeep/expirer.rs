//! The `expirer` thread: finds keys that have expired and has the committer remove them.
//!
//! No client sees an expired key, whether or not it has been removed; the removal only frees its memory. It
//! goes through the log like any other change, so that an expired key stays gone if the clock goes back.
//!
//! The expirer walks through the store, a millisecond at a time. The more expired keys a walk finds, the
//! sooner the next one begins; after a full walk there is no pause. Beside clients that write, its share of the
//! committer's time is the share of expired keys among those that can expire: a tenth if a tenth have expired,
//! all that it can get if nearly all have, because nothing else would bound the memory then. A removal is
//! small, so that a client's write waits for one of them at most.
//!
//! There is no index by time: it would cost some 24 bytes for each key with an expiry, only to find sooner what
//! no client can see. Without it, at most a thirtieth of all keys are expired ones until walks come back full.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::command::{Command, Database, Dialect, FIRST, Key, Reply, RespVersion, Space};
use crate::engine::{Handle, Operation, Recipient, Submission};
use crate::entry::now_millis;
use crate::sync::{Condvar, Mutex};

/// How often it looks if nothing expires, and how long at a time: a hundredth of one core at most.
const INTERVAL: Duration = Duration::from_millis(100);
const WORK: Duration = Duration::from_millis(1);

/// Entries it looks at under one lock.
const STEP: usize = 200;

/// The most keys that are removed at a time, and their bytes with values: half a millisecond for the
/// committer. (Freeing a long value takes long.)
const RECLAIMED: usize = 1000;
const RECLAIMED_BYTES: usize = 1 << 20;

/// Shared by the expirer's thread, the committer, and the thread that stops it.
pub struct Expirer {
    engine: Handle,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stop: bool,
    /// A removal is queued.
    waiting: bool,
    /// Keys that the last removal has removed.
    removed: u64,
}

/// What a walk has found.
#[derive(Default)]
struct Walk {
    expired: Vec<(Space, Key)>,
    found: usize,
    /// Bytes of their entries.
    bytes: usize,
    /// Entries that can expire.
    expiring: usize,
}

impl Walk {
    fn is_full(&self) -> bool {
        self.found >= RECLAIMED || self.bytes >= RECLAIMED_BYTES
    }

    /// The pause after this walk. `beside_clients` is how long its removal took beside clients that write, `None`
    /// if none writes.
    fn pause(&self, beside_clients: Option<Duration>) -> Duration {
        let found = self.found;
        let unhurried = match self.is_full() {
            true => Duration::ZERO,
            false => INTERVAL.mul_f64(1.0 - found as f64 / RECLAIMED as f64),
        };
        let alive = self.expiring.saturating_sub(found) as f64;
        let rest = beside_clients.map_or(0.0, |took| took.as_secs_f64() * alive / found as f64);
        unhurried.max(Duration::from_secs_f64(rest.min(INTERVAL.as_secs_f64())))
    }
}

impl Expirer {
    /// An expirer for this engine, without its thread.
    pub fn new(engine: Handle) -> Expirer {
        Expirer { engine, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Works until it is stopped.
    pub fn run(self: &Arc<Self>) {
        let engine = &self.engine;
        let (mut place, mut pause) = ((FIRST, 0), INTERVAL);
        while self.pause(pause) {
            pause = INTERVAL;
            engine.metrics().peak_memory.raise(engine.store().bytes() as u64);
            let may_write = engine.leads() && engine.health().failure().is_none();
            if !may_write || engine.store().expiring() == 0 {
                continue;
            }
            let mut walk = self.look(&mut place);
            let expired = std::mem::take(&mut walk.expired);
            if expired.is_empty() {
                continue;
            }
            let began = Instant::now();
            let Some(removed) = self.remove(expired) else {
                return;
            };
            engine.metrics().expired.add(removed);
            if removed == 0 {
                // Refused, or all set anew. An immediate walk could find the same again.
                continue;
            }
            pause = walk.pause((engine.writers() > 0).then(|| began.elapsed()));
        }
    }

    /// Has the committer remove these keys. Returns how many it has removed; `None` if the engine is closed.
    fn remove(self: &Arc<Self>, keys: Vec<(Space, Key)>) -> Option<u64> {
        let dialect = Dialect::Resp(RespVersion::V2);
        let operations = vec![Operation::new(Command::Reclaim(keys), dialect, None)];
        self.state.lock().waiting = true;
        self.engine.submit(Submission::new(self.clone(), operations)).ok()?;
        let mut state = self.state.lock();
        while state.waiting && !state.stop {
            self.changed.wait(&mut state);
        }
        Some(std::mem::take(&mut state.removed))
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// Waits for the next look; false if there will be none.
    fn pause(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.stop && !time.is_zero() {
            self.changed.wait_for(&mut state, time);
        }
        !state.stop
    }

    /// Goes on at a place in a database, through all of them at most.
    fn look(&self, (space, cursor): &mut (Space, u64)) -> Walk {
        let (started, now, store) = (Instant::now(), now_millis(), self.engine.store());
        let (mut walk, all) = (Walk::default(), store.databases());
        let next = |space: Space| {
            let with_expiry = || all.iter().filter(|counts| counts.expiring > 0);
            let later = with_expiry().find(|counts| counts.space > space);
            later.or_else(|| with_expiry().next()).map_or(FIRST, |counts| counts.space)
        };
        let mut left = all.len();
        while started.elapsed() < WORK && !walk.is_full() {
            *cursor = store.scan(Database::Space(*space), *cursor, STEP, &mut |entry| {
                let Some(expiry) = entry.expiry() else { return };
                walk.expiring += 1;
                if expiry <= now {
                    walk.found += 1;
                    walk.bytes += entry.bytes();
                    walk.expired.push((*space, entry.key().into()));
                }
            });
            if *cursor == 0 {
                *space = next(*space);
                left = left.saturating_sub(1);
                if left == 0 {
                    break;
                }
            }
        }
        walk
    }
}

impl Recipient for Expirer {
    fn deliver(self: Arc<Self>, answered: &mut Vec<Operation>) {
        let mut state = self.state.lock();
        // A removal that the log has refused has removed nothing.
        if let Some(Operation { reply: Reply::Integer(removed), .. }) = answered.first() {
            state.removed = removed.unsigned_abs();
        }
        state.waiting = false;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(found: usize, expiring: usize) -> Walk {
        Walk { found, expiring, ..Walk::default() }
    }

    #[test]
    fn the_more_has_expired_the_shorter_the_pause_and_after_a_full_walk_there_is_none() {
        assert_eq!(walk(RECLAIMED, 100_000).pause(None), Duration::ZERO);
        assert_eq!(walk(RECLAIMED / 2, 100_000).pause(None), INTERVAL / 2);
        assert_eq!(walk(1, 1).pause(None), INTERVAL.mul_f64(0.999));
    }

    #[test]
    fn beside_clients_its_share_of_time_is_the_share_of_expired_keys() {
        let took = Duration::from_millis(2);
        assert_eq!(walk(RECLAIMED, 2 * RECLAIMED).pause(Some(took)), took);
        assert_eq!(walk(RECLAIMED, 4 * RECLAIMED).pause(Some(took)), 3 * took);
        assert_eq!(walk(RECLAIMED, RECLAIMED).pause(Some(took)), Duration::ZERO);
        assert_eq!(walk(RECLAIMED, 1000 * RECLAIMED).pause(Some(took)), INTERVAL);
    }
}
