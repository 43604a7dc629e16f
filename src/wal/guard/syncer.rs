//! The `syncer` thread: makes a log durable beside the batches, where these do not wait for it (`-fsync
//! everysec`).
//!
//! It is handed a file and told how far that is written, and says whether that much is durable; what is
//! written meanwhile is for the next sync. One sync at a time. It decides nothing: a failed sync closes the
//! log when the log takes notice of it (promise 6), and no frame says that something is durable before that.

use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::sync::spawn_vital;
use crate::sync::thread::JoinHandle;
use crate::wal::disk::DiskFile;

/// Called when a sync has ended.
pub type WhenDone = Box<dyn FnOnce() + Send>;

/// Handle to the thread.
pub struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
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
    pub fn start() -> io::Result<Syncer> {
        let shared = Arc::<Shared>::default();
        let for_thread = shared.clone();
        let thread = spawn_vital("syncer", move || for_thread.run())?;
        Ok(Syncer { shared, thread: Some(thread) })
    }

    /// Begins a sync of a file in which everything up to `lsn` is written. The one before has been taken
    /// notice of.
    pub fn begin(&self, file: Arc<dyn DiskFile>, lsn: u64, when_done: WhenDone) {
        let mut state = self.shared.state.lock();
        assert!(state.task.is_none() && state.done.is_none(), "one sync at a time");
        state.task = Some(Task { file, lsn, when_done });
        self.shared.changed.notify_all();
    }

    /// What became of the sync that was begun: up to which LSN all is durable. `None` if it still runs.
    pub fn result(&self) -> Option<io::Result<u64>> {
        self.shared.state.lock().done.take()
    }

    /// The same, and waits for it.
    pub fn wait(&self) -> io::Result<u64> {
        let mut state = self.shared.state.lock();
        loop {
            match state.done.take() {
                Some(done) => return done,
                None => self.shared.changed.wait(&mut state),
            }
        }
    }
}

impl Drop for Syncer {
    /// Waits for a sync that runs.
    fn drop(&mut self) {
        self.shared.state.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("its panic ends the process");
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock();
        while !state.stop {
            let Some(Task { file, lsn, when_done }) = state.task.take() else {
                self.changed.wait(&mut state);
                continue;
            };
            drop(state);
            let synced = file.sync().map(|()| lsn);
            // Before anyone knows: with the file goes its lock, if it is a segment that is full.
            drop(file);
            self.state.lock().done = Some(synced);
            self.changed.notify_all();
            when_done();
            state = self.state.lock();
        }
    }
}
