//! The commit window: on a slow disk, those who were just answered make the next sync.
//!
//! Without it, clients that write in step split: who is answered comes back while the next sync is
//! running already, and waits for the one after it, so that each sync carries only half of them. So
//! the committer waits, after the last reply, until as many have queued as it has answered. With S for
//! a sync, A for answering everybody and W for the wait, all of them each S + A + W are more than
//! half of them each S + A/2 as long as W is less than S. It waits only if W is expected to be short,
//! and never longer: a lone client, a fast disk, and clients that are slow to come back cost nothing.
//!
//! How long they take is looked at in every round, also where nobody waits for them: until the next
//! replies go, all have queued again, or they count as slow.
//!
//! PostgreSQL's `commit_delay` is such a wait, of a fixed time, recommended to be half of a sync, and
//! blind to how many will come; Silo's epochs (Tu et al., SOSP 2013) are one of a fixed length.

use std::time::Duration;

/// The longest wait, in syncs. More than one, because clients that have split keep the processors
/// busy while the disk works, and make each sync longer. (Tried with 2 to 200 clients and syncs of 0.2,
/// 1.2 and 5.2 ms: 1.0 is up to a tenth slower with 8 and 24 clients and 0.2 ms, 2.0 is like 1.5.)
const LONGEST_WAIT: f64 = 1.5;

/// Clients that have not all come back when the next replies go count as if they had taken so many
/// syncs. Nobody knows how long they will take; and if all of them have stopped together they were
/// not slow, so a few such rounds are to pass before the wait is given up.
const TOO_LATE: f64 = 2.0;

/// How fast estimates follow: an eighth of the way at each look.
const WEIGHT: f64 = 0.125;

/// Estimates, in seconds.
#[derive(Default)]
pub struct Window {
    /// What a sync takes.
    sync: f64,
    /// How long after the last reply everybody has queued again, for each client.
    per_client: f64,
}

impl Window {
    /// A batch was written and synced in this time.
    pub fn note_sync(&mut self, elapsed: Duration) {
        follow(&mut self.sync, elapsed.as_secs_f64());
    }

    /// So many clients had queued again so long after the last reply, or not before the next round.
    pub fn note_round(&mut self, clients: usize, took: Option<Duration>) {
        if clients > 1 {
            let late = self.sync * TOO_LATE;
            let took = took.map_or(late, |took| took.as_secs_f64().min(late));
            follow(&mut self.per_client, took / clients as f64);
        }
    }

    /// How long to wait for so many clients, from the last reply on, if it pays.
    pub fn longest_wait(&self, clients: usize) -> Option<Duration> {
        let longest = self.sync * LONGEST_WAIT;
        // Where nothing is synced there is nothing to share.
        let pays = longest > 0.0 && clients > 1 && self.per_client * clients as f64 <= longest;
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

    fn window(sync_micros: u64, per_client_micros: u64) -> Window {
        let mut window = Window::default();
        for _ in 0..100 {
            window.note_sync(Duration::from_micros(sync_micros));
            note(&mut window, per_client_micros);
        }
        window
    }

    fn note(window: &mut Window, per_client_micros: u64) {
        let took = Duration::from_micros(per_client_micros * CLIENTS as u64);
        window.note_round(CLIENTS, Some(took));
    }

    #[test]
    fn it_waits_where_clients_come_back_sooner_than_a_sync_takes() {
        assert!(window(2000, 20).longest_wait(CLIENTS).is_some());
        assert!(Window::default().longest_wait(CLIENTS).is_none(), "no syncs");
        assert!(window(2000, 20).longest_wait(1).is_none(), "a lone client");
        assert!(window(200, 20).longest_wait(CLIENTS).is_none(), "a fast disk");
        assert!(window(2000, 70).longest_wait(CLIENTS).is_none(), "slow clients");
    }

    #[test]
    fn clients_that_stop_together_do_not_stop_it_and_clients_that_never_come_do() {
        let mut window = window(5000, 20);
        let mut waits_again = || {
            window.note_round(CLIENTS, None);
            window.longest_wait(CLIENTS).is_some()
        };
        let waits = (0..100).take_while(|_| waits_again()).count();
        assert!((3..20).contains(&waits), "{waits}");
        note(&mut window, 20);
        note(&mut window, 20);
        assert!(window.longest_wait(CLIENTS).is_some(), "they are seen to come back");
    }

    #[test]
    fn a_long_pause_counts_no_more_than_clients_that_are_too_late() {
        let mut window = window(5000, 20);
        note(&mut window, 1_000_000);
        assert!(window.longest_wait(CLIENTS).is_some());
    }

    #[test]
    fn a_lone_client_says_nothing_about_many() {
        let mut window = window(200, 20);
        for _ in 0..100 {
            window.note_round(1, Some(Duration::from_micros(1)));
        }
        assert!(window.longest_wait(CLIENTS).is_none());
    }
}
