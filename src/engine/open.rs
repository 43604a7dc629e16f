//! Opens an engine on a log in local files: takes its lock, replays it into the store, and refuses keys that no
//! client could reach. If anything fails, nothing of the log has been changed.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::local_log::LocalLog;
use super::queue::CommitQueue;
use super::{Engine, Fsync, LogFiles, Opened, Options, loader};
use crate::metrics::Metrics;
use crate::store::{Counts, Store};
use crate::wal::disk::Disk;
use crate::wal::lock::Lock;
use crate::wal::names::Names;
use crate::wal::reader::Replay;
use crate::wal::{self, SyncPolicy, Wal};

/// Takes the lock of the log at `path`. A missing directory is made, if it may be.
pub fn lock(path: &Path, may_make_directory: bool) -> anyhow::Result<Arc<Lock>> {
    let names = Names::new(path);
    let lock = Lock::acquire(&names.lock(), may_make_directory)?;
    wal::disk::warn_if_in_memory(names.directory());
    Ok(Arc::new(lock))
}

impl Engine {
    /// Replays the log into the store, which is empty, and starts on both. The caller holds the log's
    /// [`Lock`].
    pub fn open(
        disk: Arc<dyn Disk>,
        log: wal::Options,
        options: &Options,
        store: Box<dyn Store>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Engine> {
        let log = wal::Options { sync: sync_policy(options.fsync), ..log };
        let started = Instant::now();
        let path = log.path.clone();
        let read = |replay: &mut dyn Replay| Wal::open(disk.clone(), log, replay);
        let (wal, summary) = loader::load(&*store, read)?;
        report_start(&path, &summary, store.len(), started);
        check_databases(&path, &*store, options.databases)?;
        metrics.durable_lsn.set(wal.durable_lsn());
        let reserve = wal.reserve();
        let snapshot_bytes = summary.snapshot_bytes;
        let files = LogFiles { disk, names: Names::new(&path), reserve, snapshot_bytes };
        let queue = Arc::<CommitQueue>::default();
        let queued = Arc::downgrade(&queue);
        // An errand wakes the committer's thread, which takes notice of the sync that has ended.
        let notice = move || {
            queued.upgrade().inspect(|queue| queue.push_errand(Box::new(|_| {})));
        };
        let log = LocalLog::new(wal, options.fsync, metrics.clone(), Arc::new(notice));
        let opened = Opened { log: Box::new(log), files: Some(files), gate: None };
        Engine::start(store, queue, Some(opened), options, metrics)
    }
}

fn report_start(path: &Path, summary: &wal::Summary, keys: usize, started: Instant) {
    let shown = path.display();
    ::log::info!(
        "{shown}: {} records in {} batches, {keys} keys, {} bytes in {} segments after a snapshot of \
         {}, read in {:.3} s; {}",
        summary.records,
        summary.batches,
        summary.bytes,
        summary.segments,
        summary.snapshot_bytes,
        started.elapsed().as_secs_f64(),
        match (summary.cut_bytes, summary.closed) {
            (0, true) => "closed in order".to_owned(),
            (0, false) => "not closed in order, nothing cut".to_owned(),
            (cut, _) => format!("not closed in order, {cut} bytes cut that nobody relied on"),
        }
    );
}

/// Refuses a log with keys in a database that clients could not select: nobody would see that they are there.
fn check_databases(path: &Path, store: &dyn Store, databases: u16) -> anyhow::Result<()> {
    let last = store.databases().into_iter().max_by_key(|counts| counts.number);
    if let Some(Counts { number, keys, .. }) = last.filter(|last| last.number >= databases) {
        anyhow::bail!(
            "{}: database {number} has {keys} key{}, and with -databases {databases} no client could \
             select it. Nothing was changed. Start with -databases {} or more",
            path.display(),
            if keys == 1 { "" } else { "s" },
            number + 1
        );
    }
    Ok(())
}

fn sync_policy(fsync: Fsync) -> SyncPolicy {
    match fsync {
        Fsync::Always => SyncPolicy::Always,
        Fsync::EverySecond | Fsync::Never => SyncPolicy::Later,
    }
}
