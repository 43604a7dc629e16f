//! The `watch` thread: looks after the files beside a log that is being written.
//!
//! Once a second it
//!
//! - notes how far the log is durable, in a second place (see [`super::witness`]), with a sync of
//!   its own, and does so when the log falls idle, too;
//! - checks that the lock file is still the one that it has locked (see [`crate::wal::lock`]).
//!
//! It never touches a segment, and no commit waits for it: the log only leaves a number where this
//! thread finds it. A lock file that was deleted or replaced is locked again, and no second server
//! gets the log meanwhile, because the segment is locked as well. If another process has locked the
//! new file, it believes that it has the log, and may be a server of an earlier version, which
//! looks at the lock file alone: once it has kept that lock for two checks, the log takes no more
//! writes.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::witness::{Known, Witness};
use crate::sync::{Stop, Worker};
use crate::wal::disk::Disk;
use crate::wal::health::Health;
use crate::wal::lock::{Held, Lock};
use crate::wal::names::Names;

/// How often the thread works: zeros at the end of a log may take the batches of this time
/// unnoticed, and a sync each second is nothing beside those of the commits.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What the log and the thread share.
pub struct Watch {
    durable_lsn: AtomicU64,
    health: Arc<Health>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    idle: bool,
    stop: bool,
}

impl Watch {
    /// Notes what is known now, and starts the thread.
    pub fn start(
        disk: &dyn Disk,
        names: &Names,
        lock: Option<Arc<Lock>>,
        health: Arc<Health>,
        known: Known,
    ) -> io::Result<Worker<Watch>> {
        // A start must not fail for lack of space, nor because of a file that the log can do
        // without.
        let witness = Witness::open(disk, names, known).map_err(report).ok();
        let (durable_lsn, state, changed) = (known.lsn.into(), Mutex::default(), Condvar::new());
        let watch = Watch { durable_lsn, health, state, changed };
        Worker::start("watch", watch, move |watch| watch.run(witness, lock.as_deref()))
    }

    /// Notes that everything up to `lsn` is durable. Costs one atomic store.
    pub fn note_durable(&self, lsn: u64) {
        self.durable_lsn.store(lsn, Ordering::Relaxed);
    }

    /// The log is idle: the thread is to note now what is durable.
    pub fn note_idle(&self) {
        self.state.lock().idle = true;
        self.changed.notify_one();
    }

    fn run(&self, mut witness: Option<Witness>, mut lock: Option<&Lock>) {
        let (mut looked, mut suspect) = (Instant::now(), None);
        loop {
            let mut state = self.state.lock();
            if !state.idle && !state.stop {
                self.changed.wait_for(&mut state, INTERVAL);
            }
            state.idle = false;
            let stop = state.stop;
            drop(state);
            if let Some(held) = lock
                && looked.elapsed() >= INTERVAL
            {
                if self.look_at(held, &mut suspect).is_break() {
                    lock = None;
                }
                looked = Instant::now();
            }
            // After a failed write the content of the file is unknown; it is never tried again.
            let lsn = self.durable_lsn.load(Ordering::Relaxed);
            if let Some(open) = &mut witness
                && open.note(lsn).map_err(report).is_err()
            {
                witness = None;
            }
            if stop {
                return;
            }
        }
    }

    /// Checks the lock file; breaks if there is no use in checking again. `suspect` is the inode of
    /// the file that another process had locked at the last check: a server that is refused the
    /// segment unlocks it at once.
    fn look_at(&self, lock: &Lock, suspect: &mut Option<u64>) -> ControlFlow<()> {
        let before = suspect.take();
        match lock.check() {
            Ok(Held::Still) => ControlFlow::Continue(()),
            Ok(Held::Again) => {
                log::error!(
                    "the lock file was deleted or replaced; it is locked again. Leave it alone"
                );
                ControlFlow::Continue(())
            }
            Ok(Held::ByAnother(inode, _)) if before != Some(inode) => {
                *suspect = Some(inode);
                ControlFlow::Continue(())
            }
            Ok(Held::ByAnother(_, process)) => {
                let why = format!(
                    "the lock file was replaced, and process {process} has locked the new one; two servers \
                     must not write one log"
                );
                self.health.fail(&why);
                ControlFlow::Break(())
            }
            Err(error) => {
                log::error!("the lock file is gone, and cannot be locked again: {error:#}");
                ControlFlow::Break(())
            }
        }
    }
}

impl Stop for Watch {
    /// The thread notes what is durable before it ends.
    fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_one();
    }
}

fn report(error: io::Error) {
    log::error!("until a restart it is not noted beside the log how far it is durable: {error}");
}
