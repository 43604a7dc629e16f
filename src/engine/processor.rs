//! Keeps the committer on one processor.
//!
//! It sleeps and wakes up thousands of times a second, at every sync and at every batch. Left to
//! itself it is woken up now on this processor, now on that, and each move costs an interrupt to a
//! processor that may be asleep, and cold caches. Measured on 2 processors: 6 to 26 % more SETs a second
//! on a fast disk, as many as before on a slow one, and more, too, beside programs that keep every
//! processor busy. On the first processor, which sees to most interrupts, they were up to 18 % less.
//! (To keep clients' threads where they are gained nothing more. `SCHED_BATCH`, with which a thread
//! that wakes up displaces no other, gave a fifth more GETs and half as many SETs again, but made a
//! SET sixty times slower beside busy programs.)

use rustix::io;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps the calling thread on one of the processors that it may use: any but the first, and not the
/// same one for every server. Who starts the server under `taskset` chooses.
pub fn keep_to_one() {
    let kept =
        sched_getaffinity(None).and_then(|allowed| match choose(&allowed, std::process::id()) {
            None => Ok(()),
            Some(processor) => keep_to(processor),
        });
    if let Err(errno) = kept {
        log::debug!("the committer is not kept to one processor: {errno}");
    }
}

fn keep_to(processor: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(processor);
    sched_setaffinity(None, &only)?;
    log::debug!("the committer keeps to processor {processor}");
    Ok(())
}

/// One of the allowed ones, if there is a choice.
fn choose(allowed: &CpuSet, number: u32) -> Option<usize> {
    let processors = || (0..CpuSet::MAX_CPU).filter(|&processor| allowed.is_set(processor)).skip(1);
    let choices = processors().count();
    processors().nth(number as usize % choices.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_of_the_allowed_ones_but_not_the_first_and_not_always_the_same() {
        let mut allowed = CpuSet::new();
        assert_eq!(choose(&allowed, 1), None);
        allowed.set(3);
        assert_eq!(choose(&allowed, 1), None, "there is nothing to choose");
        allowed.set(5);
        assert_eq!([1, 2, 3].map(|number| choose(&allowed, number)), [Some(5); 3]);
        allowed.set(1000);
        assert_eq!(
            [1, 2, 3].map(|number| choose(&allowed, number)),
            [Some(1000), Some(5), Some(1000)]
        );
    }
}
