//! Whether a client's thread displaces others when it wakes up.
//!
//! A thread that wakes up for a request may displace the one that runs. For a read that is right: the
//! sooner it runs, the sooner its reply. A write among many only gets into the queue, and its batch begins no
//! sooner than the current sync ends; meanwhile the displaced thread, another client's or the committer's between
//! two replies, is held up, at the cost of two context switches. So the thread of a client that only writes, while
//! many clients write, lets others finish (`SCHED_BATCH`, sched(7)).
//!
//! Measured on 2 processors: 50 clients that SET get 11 to 14 % more done, 200 get 3 to 20 %, with a fifth less
//! processor time, and the slowest of a hundred is no slower. Not for reads: 50 clients that GET got 22 % more
//! done, but the slowest of a hundred took twice as long, and the longest of 200 clients 100 ms instead of 9,
//! because a thread that runs goes on with its next request while others wait. Not for a few: a lone client beside two
//! programs that are always busy got only a quarter of its SETs done. A shorter time slice did not help.
//!
//! The policy of a server that was started with one of its own is never changed. Only speed depends on all this.

use std::io;

/// This many clients that write at a time are many.
const MANY: usize = 16;

/// Below this many they no longer are. (Half, so that the policy does not change with every batch.)
const FEW: usize = MANY / 2;

/// A client counts as one that only writes after this many submissions of nothing but writes in a row. A change of
/// policy costs about as much as a wake-up, so it would not pay for a client that soon reads again.
const ONLY_WRITES: u32 = 16;

/// Whether the calling thread displaces others.
#[derive(Default)]
pub struct Preemption {
    /// Submissions of nothing but writes in a row.
    writes: u32,
    lets_others_finish: bool,
    /// The policy cannot be changed, or is not ours to change.
    fixed: bool,
}

impl Preemption {
    /// The client submits nothing but writes, and is one of this many `writers`.
    pub fn note_write(&mut self, writers: usize) {
        self.writes = self.writes.saturating_add(1);
        let enough = if self.lets_others_finish { FEW } else { MANY };
        self.let_others_finish(self.writes >= ONLY_WRITES && writers >= enough);
    }

    /// The client has asked for a read. (The wake-up for that did not displace another thread yet.)
    pub fn note_read(&mut self) {
        self.writes = 0;
        self.let_others_finish(false);
    }

    fn let_others_finish(&mut self, wanted: bool) {
        if self.fixed || self.lets_others_finish == wanted {
            return;
        }
        let (from, to) = match wanted {
            true => (libc::SCHED_OTHER, libc::SCHED_BATCH),
            false => (libc::SCHED_BATCH, libc::SCHED_OTHER),
        };
        match change_policy(from, to) {
            Ok(changed) => self.fixed = !changed,
            Err(error) => {
                log::debug!("a client's thread keeps its scheduling policy: {error}");
                self.fixed = true;
            }
        }
        self.lets_others_finish = wanted;
    }
}

/// Changes the scheduling policy of the calling thread, if it is `from`; says whether it was.
fn change_policy(from: libc::c_int, to: libc::c_int) -> io::Result<bool> {
    // `struct sched_param` as the kernel has it. Policies other than real-time ones have no other priority; the
    // nice value is independent of it and stays.
    let priority: libc::c_int = 0;
    // Neither std nor rustix has these calls, musl's libc refuses them, and the crate `thread-priority` sets the
    // nice value along with them.
    // SAFETY: 0 stands for the calling thread. The first call takes no pointer; the second reads one
    // integer at its pointer, which lives until after it. No memory of ours is changed.
    #[expect(unsafe_code, reason = "two system calls that no sound crate offers")]
    let status = unsafe {
        if libc::syscall(libc::SYS_sched_getscheduler, 0) != libc::c_long::from(from) {
            return Ok(false);
        }
        libc::syscall(libc::SYS_sched_setscheduler, 0, to, &raw const priority)
    };
    if status == 0 { Ok(true) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scheduling policy of the calling thread, as the kernel tells it (proc(5), field 41).
    fn policy() -> libc::c_int {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("proc is mounted");
        let (_, after_name) = stat.rsplit_once(')').expect("a name in parentheses");
        let field = after_name.split_whitespace().nth(38).expect("field 41");
        field.parse().expect("a number")
    }

    fn write(preemption: &mut Preemption, times: u32, writers: usize) -> libc::c_int {
        (0..times).for_each(|_| preemption.note_write(writers));
        policy()
    }

    /// Runs on a thread of its own, because the test's thread may go on to another test.
    fn on_a_thread(body: impl FnOnce() + Send) {
        if !change_policy(libc::SCHED_OTHER, libc::SCHED_OTHER).is_ok_and(|is_other| is_other) {
            return eprintln!("skipped: the tests run under another policy, or may not change it");
        }
        std::thread::scope(|scope| scope.spawn(body).join().expect("the test holds"));
    }

    #[test]
    fn a_client_that_only_writes_among_many_lets_others_finish_and_one_that_reads_does_not() {
        on_a_thread(|| {
            let mut thread = Preemption::default();
            assert_eq!(write(&mut thread, ONLY_WRITES - 1, MANY), libc::SCHED_OTHER);
            assert_eq!(write(&mut thread, 1, MANY), libc::SCHED_BATCH);
            thread.note_read();
            assert_eq!(policy(), libc::SCHED_OTHER);
            assert_eq!(write(&mut thread, ONLY_WRITES - 1, MANY), libc::SCHED_OTHER);
            assert_eq!(write(&mut thread, 1, MANY), libc::SCHED_BATCH);
        });
    }

    #[test]
    fn a_client_that_writes_displaces_others_as_soon_as_they_are_few() {
        on_a_thread(|| {
            let mut thread = Preemption::default();
            assert_eq!(write(&mut thread, 2 * ONLY_WRITES, MANY - 1), libc::SCHED_OTHER);
            assert_eq!(write(&mut thread, 1, MANY), libc::SCHED_BATCH);
            assert_eq!(write(&mut thread, ONLY_WRITES, FEW), libc::SCHED_BATCH);
            assert_eq!(write(&mut thread, 1, FEW - 1), libc::SCHED_OTHER);
        });
    }

    #[test]
    fn a_thread_with_a_policy_of_its_own_keeps_it() {
        on_a_thread(|| {
            let changed = change_policy(libc::SCHED_OTHER, libc::SCHED_IDLE);
            assert!(changed.expect("the call is allowed"));
            let mut thread = Preemption::default();
            assert_eq!(write(&mut thread, 2 * ONLY_WRITES, MANY), libc::SCHED_IDLE);
            thread.note_read();
            assert_eq!(policy(), libc::SCHED_IDLE);
        });
    }
}
