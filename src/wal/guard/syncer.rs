//! The `syncer` thread: makes the log durable beside the batches, if these do not wait for it
//! (`-fsync everysec`).
//!
//! It is handed a file and the last LSN written to it, and reports whether that is durable; what is
//! written meanwhile is for the next sync. One sync at a time. It decides nothing: a failed sync
//! closes the log when the log takes its result (promise 6), and no frame says that something is
//! durable before that.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::sync::{Stop, Worker};
use crate::wal::Wal;
use crate::wal::disk::DiskFile;
use crate::wal::health::Failure;

/// Called when a sync has ended.
pub type WhenDone = Box<dyn FnOnce() + Send>;

/// What the log and the thread share: one sync at a time.
#[derive(Default)]
pub struct Syncer {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    task: Option<Task>,
    done: Option<io::Result<u64>>,
    stop: bool,
}

struct Task {
    file: Arc<dyn DiskFile>,
    /// The last record that is written to it.
    lsn: u64,
    when_done: WhenDone,
}

impl Syncer {
    /// Starts the thread.
    pub fn start() -> io::Result<Worker<Syncer>> {
        Worker::start("syncer", Syncer::default(), Syncer::run)
    }

    /// Begins a sync of a file in which everything up to `lsn` is written. The result of the one
    /// before must have been taken.
    pub fn begin(&self, file: Arc<dyn DiskFile>, lsn: u64, when_done: WhenDone) {
        let mut state = self.state.lock();
        assert!(state.task.is_none() && state.done.is_none(), "one sync at a time");
        state.task = Some(Task { file, lsn, when_done });
        self.changed.notify_all();
    }

    /// The result of the sync: the LSN up to which everything is durable. `None` while it still
    /// runs.
    pub fn result(&self) -> Option<io::Result<u64>> {
        self.state.lock().done.take()
    }

    /// The same, and waits for it.
    pub fn wait(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        loop {
            match state.done.take() {
                Some(done) => return done,
                None => self.changed.wait(&mut state),
            }
        }
    }

    fn run(&self) {
        let mut state = self.state.lock();
        while !state.stop {
            let Some(Task { file, lsn, when_done }) = state.task.take() else {
                self.changed.wait(&mut state);
                continue;
            };
            drop(state);
            let synced = file.sync().map(|()| lsn);
            // Before the result can be seen: closing the file of a segment that is full by now ends
            // its lock.
            drop(file);
            self.state.lock().done = Some(synced);
            self.changed.notify_all();
            when_done();
            state = self.state.lock();
        }
    }
}

impl Stop for Syncer {
    /// A running sync goes on to its end.
    fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }
}

impl Wal {
    /// Begins to make all batches so far durable, beside those that follow, unless a sync is
    /// running already. `when_done` is called when it has ended; the committer then has to call
    /// [`Wal::note_sync_ended`].
    pub fn begin_sync(&mut self, when_done: WhenDone) -> Result<(), Failure> {
        if self.syncing_since.is_some() {
            return Ok(());
        }
        let syncer = match self.syncer.take().map_or_else(Syncer::start, Ok) {
            Ok(syncer) => syncer,
            Err(error) => {
                log::warn!(
                    "writers wait for a sync, because no thread can be started for it: {error}"
                );
                return self.sync();
            }
        };
        let begun = self.unless_failed(|wal| {
            syncer.begin(wal.segment.file(), wal.segment.tail().next_lsn - 1, when_done);
            wal.syncing_since = Some(Instant::now());
            Ok(())
        });
        self.syncer = Some(syncer);
        begun
    }

    /// When the sync that runs beside the batches began, if one runs.
    pub fn syncing_since(&self) -> Option<Instant> {
        self.syncing_since
    }

    /// Takes the result of a sync beside the batches, if it has ended; returns whether it has.
    pub fn note_sync_ended(&mut self) -> Result<bool, Failure> {
        let ended = self.syncer.as_ref().and_then(|syncer| syncer.result());
        ended.map_or(Ok(false), |ended| {
            self.unless_failed(|wal| wal.note_synced(ended).map(|()| true))
        })
    }

    /// The same, and waits for its end.
    pub fn wait_for_sync(&mut self) -> Result<(), Failure> {
        self.unless_failed(Wal::finish_sync)
    }

    /// Waits for a running sync before this thread syncs the file: if two threads sync it, the
    /// kernel reports an error to only one of them.
    pub(in crate::wal) fn finish_sync(&mut self) -> io::Result<()> {
        match (&self.syncer, self.syncing_since) {
            (Some(syncer), Some(_)) => {
                let ended = syncer.wait();
                self.note_synced(ended)
            }
            _ => Ok(()),
        }
    }

    fn note_synced(&mut self, ended: io::Result<u64>) -> io::Result<()> {
        self.syncing_since = None;
        self.durable_lsn = self.durable_lsn.max(ended?);
        assert!(self.durable_lsn < self.segment.tail().next_lsn, "only what is written is durable");
        Ok(())
    }
}
