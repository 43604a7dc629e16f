//! The commit window: on a slow disk the committer waits for the clients that it has just answered, so that
//! they share the next sync.
//!
//! Without it, clients that write in step split in two: a client that is answered comes back while the next
//! sync is running already, and waits for the one after it, so that each sync carries only half of them. Let
//! a sync take S, answering all clients A, and the wait W: all clients every S + A + W are more commits than
//! half of them every S + A/2, as long as W is less than S. The committer waits only if W is expected to be
//! short, and never long: a lone client or a fast disk costs nothing, and clients that are slow to come back
//! cost a few waits, until that is known.
//!
//! A *round* is the clients that one batch answers. How long they take to come back is measured in every round
//! of more than one client, even if the committer does not wait; if some have not submitted again when the next
//! replies are sent, the round was late. All of this is under the queue's lock, where arrivals are seen.
//!
//! PostgreSQL's `commit_delay` is such a wait, of a fixed length that is recommended to be half of a sync, and
//! blind to how many clients will come; Silo's epochs (Tu et al., SOSP 2013) have a fixed length, too.

use std::time::{Duration, Instant};

/// The longest wait, in syncs. More than one, because clients that have split keep the processors
/// busy while the disk works, and make each sync longer. (Tried with 2 to 200 clients and syncs of 0.2,
/// 1.2 and 5.2 ms: 1.0 is up to a tenth slower with 8 and 24 clients and 0.2 ms, 2.0 is like 1.5.)
const LONGEST_WAIT: f64 = 1.5;

/// A round still incomplete when the next one begins is recorded as this many syncs long. A wait in vain costs
/// 1.5 syncs and one that pays wins less than one, so waits stop when a third of them are in vain; but not at
/// once, because clients that have all stopped together were not slow.
const LATE: f64 = 4.0;

/// A sync is recorded as no longer than this many usual ones: a disk that stands still for a second is no reason
/// to wait for a second.
const LONGEST_SYNC: f64 = 4.0;

/// How fast estimates follow: an eighth of the way at each look.
const WEIGHT: f64 = 0.125;

/// Estimates, in seconds, and the running round.
#[derive(Default)]
pub struct Window {
    /// How long a sync takes.
    sync: f64,
    /// The time from the last reply of a round until all of its clients have submitted again.
    round: f64,
    /// The number of clients in a round. Both are averages, so that two clients that come back as slowly as
    /// forty do not count as twenty times as slow.
    clients: f64,
    running: Round,
}

/// Clients that were answered, on their way back.
///
/// - `complete_at` is set if and only if as many have `arrived` as were `answered`, and at least one was.
#[derive(Default)]
struct Round {
    answered: usize,
    /// Those, and the clients that were waiting for the next batch by then.
    writers: usize,
    arrived: usize,
    /// When the last of them was answered.
    replied: Option<Instant>,
    complete_at: Option<Instant>,
}

impl Window {
    /// A batch was written and synced in this time.
    pub fn note_sync(&mut self, elapsed: Duration) {
        let (elapsed, usual) = (elapsed.as_secs_f64(), self.sync);
        match usual > 0.0 {
            true => follow(&mut self.sync, elapsed.min(usual * LONGEST_SYNC)),
            false => self.sync = elapsed,
        }
    }

    /// The replies of a batch are about to be sent, after which `answered` clients may submit again. Called
    /// before the first is sent: that client may submit again before the last one is answered.
    pub fn begin_round(&mut self, answered: usize, writers: usize) {
        debug_assert!(answered <= writers, "a client that is answered is one that writes");
        let before = std::mem::replace(&mut self.running, Round::new(answered, writers));
        // A lone client may take its time, and says nothing about many.
        if before.answered > 0 && before.writers > 1 {
            self.note_round(before.answered, before.took());
        }
    }

    /// A client submits something.
    pub fn note_arrival(&mut self) {
        let round = &mut self.running;
        round.arrived += 1;
        if round.arrived == round.answered {
            debug_assert!(round.complete_at.is_none(), "a round is complete once");
            round.complete_at = Some(Instant::now());
        }
    }

    /// The last reply of the round was sent. Returns the deadline of the wait for its clients, or `None` if
    /// waiting would not pay.
    pub fn note_replied(&mut self, at: Instant) -> Option<Instant> {
        self.running.replied = Some(at);
        self.longest_wait(self.running.writers).map(|longest| at + longest)
    }

    /// Whether all clients of the round have submitted again.
    pub fn is_complete(&self) -> bool {
        self.running.arrived >= self.running.answered
    }

    /// Records how long after its last reply a round of `clients` was complete; `None` if it was late.
    fn note_round(&mut self, clients: usize, took: Option<Duration>) {
        let late = self.sync * LATE;
        follow(&mut self.round, took.map_or(late, |took| took.as_secs_f64().min(late)));
        follow(&mut self.clients, clients as f64);
    }

    /// The longest wait for this many clients, from the last reply on, if it pays.
    fn longest_wait(&self, clients: usize) -> Option<Duration> {
        let longest = self.sync * LONGEST_WAIT;
        // Without syncs there is nothing to share.
        let pays =
            longest > 0.0 && clients > 1 && self.round * clients as f64 <= longest * self.clients;
        pays.then(|| Duration::from_secs_f64(longest))
    }
}

impl Round {
    fn new(answered: usize, writers: usize) -> Round {
        Round { answered, writers, ..Round::default() }
    }

    /// The time until it was complete, if it is.
    fn took(&self) -> Option<Duration> {
        let (replied, complete_at) = (self.replied?, self.complete_at?);
        Some(complete_at.saturating_duration_since(replied))
    }
}

fn follow(estimate: &mut f64, seen: f64) {
    *estimate += (seen - *estimate) * WEIGHT;
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENTS: usize = 50;

    fn window(sync_micros: u64, round_micros: u64) -> Window {
        let mut window = Window::default();
        for _ in 0..100 {
            window.note_sync(Duration::from_micros(sync_micros));
            window.note_round(CLIENTS, Some(Duration::from_micros(round_micros)));
        }
        window
    }

    /// How many late rounds of `clients` it takes until the committer no longer waits for `all`.
    fn waits_in_vain(window: &mut Window, clients: usize, all: usize) -> usize {
        let mut waits_again = || {
            window.note_round(clients, None);
            window.longest_wait(all).is_some()
        };
        (0..100).take_while(|_| waits_again()).count()
    }

    #[test]
    fn it_waits_if_clients_come_back_sooner_than_a_sync_takes() {
        assert!(window(2000, 1000).longest_wait(CLIENTS).is_some());
        assert!(Window::default().longest_wait(CLIENTS).is_none(), "no syncs");
        assert!(window(2000, 1000).longest_wait(1).is_none(), "a lone client");
        assert!(window(200, 1000).longest_wait(CLIENTS).is_none(), "a fast disk");
        assert!(window(2000, 3500).longest_wait(CLIENTS).is_none(), "slow clients");
        assert!(window(2000, 1000).longest_wait(CLIENTS * 4).is_none(), "four times as many");
    }

    #[test]
    fn clients_that_stop_together_do_not_end_the_waits_and_clients_that_never_come_do() {
        let mut window = window(5000, 1000);
        let waits = waits_in_vain(&mut window, CLIENTS, CLIENTS);
        assert!((2..6).contains(&waits), "{waits}");
        for _ in 0..3 {
            window.note_round(CLIENTS, Some(Duration::from_micros(1000)));
        }
        assert!(window.longest_wait(CLIENTS).is_some(), "they are seen to come back");
    }

    #[test]
    fn two_slow_clients_that_are_answered_in_turn_are_not_waited_for_long() {
        let mut fresh = Window::default();
        fresh.note_sync(Duration::from_micros(5000));
        assert!(waits_in_vain(&mut fresh, 1, 2) < 6);
        assert!(waits_in_vain(&mut window(5000, 1000), 1, 2) < 20);
    }

    #[test]
    fn a_few_clients_that_take_as_long_as_many_do_not_keep_the_many_split() {
        let mut window = window(5000, 1000);
        for clients in [2, 48].repeat(50) {
            window.note_round(clients, Some(Duration::from_micros(2000)));
            assert!(window.longest_wait(CLIENTS).is_some());
        }
    }

    #[test]
    fn a_long_pause_counts_no_more_than_clients_that_are_late() {
        let mut window = window(5000, 1000);
        window.note_round(CLIENTS, Some(Duration::from_secs(3600)));
        assert!(window.longest_wait(CLIENTS).is_some());
    }

    #[test]
    fn a_disk_that_stood_still_once_does_not_make_waits_as_long() {
        let mut window = window(5000, 1000);
        window.note_sync(Duration::from_secs(1));
        let longest = window.longest_wait(CLIENTS).expect("it pays");
        assert!(longest < Duration::from_micros(12_000), "{longest:?}");
    }
}
