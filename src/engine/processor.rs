//! Keeps the committer on one processor, where the user has named it.
//!
//! It sleeps and wakes up thousands of times a second, at every sync and at every batch. Left to
//! itself it is woken up now on this processor, now on that, and each move costs an interrupt to a
//! processor that may be asleep, and cold caches. On the one that takes the disk's interrupts
//! (`/proc/interrupts`) it needs none of that. Measured on 2 processors and a disk with one
//! interrupt line, in SETs a second from 1 to 200 clients, all committed by this thread: there 2 to
//! 32 % more, on the other one between 18 % less and 14 % more. With 1,000 clients, or pipelines of
//! 128, where the processors are busy anyway, it was 7 to 13 % less. And a thread that is kept
//! cannot make way: beside a busy one that is kept on the same processor, the slowest of a hundred
//! SETs took 2.8 ms instead of 0.6. So it is for the user to say, as with Redis's `server_cpulist`.
//!
//! Also tried: to keep clients' threads on processors, which gained nothing more; time slices of 0.1 to
//! 20 ms (`sched_setattr`), for all or for the committer, which changed nothing; and `SCHED_BATCH` for all
//! threads, with which a thread that wakes up displaces no other: it made SETs sixty times slower beside
//! programs that are always busy.

use anyhow::{Context, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Fails if this process may not use the processor.
pub fn check(processor: usize) -> anyhow::Result<()> {
    let allowed = sched_getaffinity(None).context("cannot ask which processors there are")?;
    let all = 0..CpuSet::MAX_CPU;
    let list: Vec<usize> = all.filter(|&processor| allowed.is_set(processor)).collect();
    ensure!(list.contains(&processor), "no processor {processor} for this process, but {list:?}");
    Ok(())
}

/// Keeps the calling thread there. If that fails it goes on as it was: nothing depends on it but speed.
pub fn keep_to(processor: usize) {
    let mut only = CpuSet::new();
    only.set(processor);
    if let Err(errno) = sched_setaffinity(None, &only) {
        log::warn!("the committer is not kept on processor {processor}: {errno}");
    }
}
