//! The log in local files, as the engine uses it: `wal` and its timers.
//!
//! With `-fsync everysec` a sync is begun every second, on a thread of its own; a log that has been idle is
//! marked so. Nothing here waits for a client, and a failure is kept by the log itself (promise 6).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::log::{Log, NotCommitted, Sealed};
use super::{Fsync, IDLE_BEFORE_MARK};
use crate::command::Changed;
use crate::metrics::Metrics;
use crate::record;
use crate::wal::health::Health;
use crate::wal::{Failure, Wal};

/// How often the log is synced with `-fsync everysec`.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// The committer waits for a sync that takes longer, as Redis does, so that no more can be lost than was
/// written until then.
const SYNC_PATIENCE: Duration = Duration::from_secs(2);

/// The write-ahead log and its timers.
pub struct LocalLog {
    wal: Wal,
    fsync: Fsync,
    metrics: Arc<Metrics>,
    /// Called when a sync beside the batches has ended; then [`Log::note_sync_ended`] is due.
    notice: Arc<dyn Fn() + Send + Sync>,
    last_sync: Instant,
    /// When the last batch was written.
    idle_since: Instant,
}

impl LocalLog {
    pub fn new(
        wal: Wal,
        fsync: Fsync,
        metrics: Arc<Metrics>,
        notice: Arc<dyn Fn() + Send + Sync>,
    ) -> LocalLog {
        let now = Instant::now();
        LocalLog { wal, fsync, metrics, notice, last_sync: now, idle_since: now }
    }

    fn is_sync_wanted(&self) -> bool {
        self.fsync == Fsync::EverySecond
            && self.wal.has_unsynced()
            && self.wal.syncing_since().is_none()
    }

    fn begin_sync(&mut self, now: Instant) {
        self.last_sync = now;
        let notice = self.notice.clone();
        // The log keeps a failure; INFO and the next batch ask it.
        let _ = self.wal.begin_sync(Box::new(move || notice()));
        self.metrics.running_syncs.set(u64::from(self.wal.syncing_since().is_some()));
    }
}

impl Log for LocalLog {
    fn frame(&mut self, changed: &Changed) {
        for new in record::of(changed) {
            self.wal.push(|frame| new.encode(|piece| frame.extend_from_slice(piece)));
        }
        self.metrics.log_memory.set(self.wal.buffer_bytes() as u64);
    }

    fn commit(&mut self, grows: bool) -> Result<Option<Duration>, NotCommitted> {
        let committed = self.wal.commit(grows)?;
        self.idle_since = Instant::now();
        let synced = self.fsync == Fsync::Always;
        let metrics = &self.metrics;
        metrics.log_memory.set(self.wal.buffer_bytes() as u64);
        metrics.count_batch(committed.records, committed.bytes, committed.elapsed, synced);
        metrics.durable_lsn.set(self.wal.durable_lsn());
        Ok(synced.then_some(committed.elapsed))
    }

    fn confirm(&mut self) -> Result<(), NotCommitted> {
        let failure = self.wal.failure();
        failure.map_or(Ok(()), |failure| Err(NotCommitted::Closed(failure.clone())))
    }

    fn discard(&mut self) {
        self.wal.discard();
    }

    fn wait_for_room(&self, time: Duration) {
        self.wal.wait_for_room(time);
    }

    fn health(&self) -> Arc<Health> {
        self.wal.health()
    }

    fn total_bytes(&self) -> u64 {
        self.wal.total_bytes()
    }

    fn seal(&mut self) -> Result<Option<Sealed>, NotCommitted> {
        let begun = self.wal.seal()?;
        Ok(begun.map(|_| self.last_seal()))
    }

    fn last_seal(&self) -> Sealed {
        let logged = self.wal.total_bytes().saturating_sub(self.wal.active_bytes());
        Sealed { following: *self.wal.active(), logged }
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.wal.sync()
    }

    fn note_freed(&self) {
        self.wal.note_freed();
    }

    fn note_sync_ended(&mut self) {
        let Some(since) = self.wal.syncing_since().filter(|_| self.wal.failure().is_none()) else {
            return;
        };
        let ended = match self.wal.note_sync_ended() {
            Ok(false) if since.elapsed() > SYNC_PATIENCE => {
                self.metrics.delayed_syncs.add(1);
                self.wal.wait_for_sync().map(|()| true)
            }
            ended => ended,
        };
        if self.wal.syncing_since().is_none() {
            self.metrics.running_syncs.set(0);
        }
        if ended.is_ok_and(|ended| ended) {
            self.metrics.syncs.add(1);
            self.metrics.durable_lsn.set(self.wal.durable_lsn());
        }
    }

    fn next_timer(&self) -> Option<Instant> {
        if self.wal.failure().is_some() {
            return None;
        }
        let sync = self.is_sync_wanted().then_some(self.last_sync + SYNC_INTERVAL);
        let may_mark = !self.wal.is_marked() && !self.wal.has_unsynced();
        sync.or(may_mark.then_some(self.idle_since + IDLE_BEFORE_MARK))
    }

    fn on_timer(&mut self, now: Instant) {
        if now.duration_since(self.idle_since) >= IDLE_BEFORE_MARK {
            self.wal.mark_idle();
        }
        if self.wal.failure().is_none()
            && self.is_sync_wanted()
            && now.duration_since(self.last_sync) >= SYNC_INTERVAL
        {
            self.begin_sync(now);
        }
    }

    fn close(self: Box<Self>) {
        // Its health tells whether it could be closed.
        let _ = self.wal.close();
    }
}
