//! The commit window: on a slow disk, those who were just answered make the next sync.
//!
//! Without it, clients that write in step split: who is answered comes back while the next sync is
//! running already, and waits for the one after it, so that each sync carries only half of them. So
//! the committer waits, after the last reply, until as many have queued as it has answered. With S for
//! a sync, A for answering everybody and W for the wait, all of them each S + A + W are more than
//! half of them each S + A/2 as long as W is less than S. It waits only if W is expected to be short,
//! and never long: a lone client and a fast disk cost nothing, clients that are slow to come back a
//! few waits until that is known.
//!
//! How long they take is looked at in every round of more than one client, also where nobody waits for
//! them: until the next replies go, all have queued again, or they were late.
//!
//! PostgreSQL's `commit_delay` is such a wait, of a fixed time, recommended to be half of a sync, and
//! blind to how many will come; Silo's epochs (Tu et al., SOSP 2013) are one of a fixed length.

use std::time::Duration;

/// The longest wait, in syncs. More than one, because clients that have split keep the processors
/// busy while the disk works, and make each sync longer. (Tried with 2 to 200 clients and syncs of 0.2,
/// 1.2 and 5.2 ms: 1.0 is up to a tenth slower with 8 and 24 clients and 0.2 ms, 2.0 is like 1.5.)
const LONGEST_WAIT: f64 = 1.5;

/// Who was late counts as if the round had taken so many syncs; nobody knows how many it will take. A
/// wait in vain costs 1.5 syncs and one that pays wins less than one, so waits stop when a third of
/// them are in vain; but not at once, because clients that have all stopped together were not slow.
const LATE: f64 = 4.0;

/// A sync counts for no more than so many usual ones: a disk that stands still for a second is no reason
/// to wait for a second.
const LONGEST_SYNC: f64 = 4.0;

/// How fast estimates follow: an eighth of the way at each look.
const WEIGHT: f64 = 0.125;

/// Estimates, in seconds.
#[derive(Default)]
pub struct Window {
    /// What a sync takes.
    sync: f64,
    /// How long after the last reply of a round all of it have queued again.
    round: f64,
    /// How many that are. Both are averages, so that two clients that come back as slowly as forty do
    /// not count as twenty times as slow.
    clients: f64,
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

    /// So many clients had queued again so long after the last reply, or not before the next round.
    pub fn note_round(&mut self, clients: usize, took: Option<Duration>) {
        let late = self.sync * LATE;
        follow(&mut self.round, took.map_or(late, |took| took.as_secs_f64().min(late)));
        follow(&mut self.clients, clients as f64);
    }

    /// How long to wait for so many clients, from the last reply on, if it pays.
    pub fn longest_wait(&self, clients: usize) -> Option<Duration> {
        let longest = self.sync * LONGEST_WAIT;
        // Where nothing is synced there is nothing to share.
        let pays =
            longest > 0.0 && clients > 1 && self.round * clients as f64 <= longest * self.clients;
        pays.then(|| Duration::from_secs_f64(longest))
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

    /// How many rounds of so many clients, each late, it takes until none of `all` is waited for.
    fn waits_in_vain(window: &mut Window, clients: usize, all: usize) -> usize {
        let mut waits_again = || {
            window.note_round(clients, None);
            window.longest_wait(all).is_some()
        };
        (0..100).take_while(|_| waits_again()).count()
    }

    #[test]
    fn it_waits_where_clients_come_back_sooner_than_a_sync_takes() {
        assert!(window(2000, 1000).longest_wait(CLIENTS).is_some());
        assert!(Window::default().longest_wait(CLIENTS).is_none(), "no syncs");
        assert!(window(2000, 1000).longest_wait(1).is_none(), "a lone client");
        assert!(window(200, 1000).longest_wait(CLIENTS).is_none(), "a fast disk");
        assert!(window(2000, 3500).longest_wait(CLIENTS).is_none(), "slow clients");
        assert!(window(2000, 1000).longest_wait(CLIENTS * 4).is_none(), "four times as many");
    }

    #[test]
    fn clients_that_stop_together_do_not_stop_it_and_clients_that_never_come_do() {
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
    fn a_disk_that_stood_still_once_is_not_waited_as_long() {
        let mut window = window(5000, 1000);
        window.note_sync(Duration::from_secs(1));
        let longest = window.longest_wait(CLIENTS).expect("it pays");
        assert!(longest < Duration::from_micros(12_000), "{longest:?}");
    }
}
