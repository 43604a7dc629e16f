//! The commit window: on a slow disk, those who were just answered make the next sync.
//!
//! Without it, clients that write in step split: who is answered comes back while the next sync is
//! running already, and waits for the one after it, so that each sync carries only half of them. So
//! the committer waits, before it begins a batch, until as many clients have queued as were answered
//! last and were waiting by then. With S for a sync, R for the round from the first reply until all
//! have queued again, and D for the part of a round that a sync cannot hide, half of the clients each
//! S + D are fewer than all of them each S + R as long as R is less than S + 2 D. It waits only if the
//! round is expected to be shorter than that, from how long it took before, and never longer: a lone
//! client, a fast disk, and clients that are slow to come back cost nothing.
//!
//! PostgreSQL's `commit_delay` is such a wait, of a fixed time, recommended to be half of a sync, and
//! blind to how many will come; Silo's epochs (Tu et al., SOSP 2013) are one of a fixed length.

use std::time::Duration;

/// A round longer than this many syncs does not pay: D is some eighth of a sync where rounds are near
/// the limit. (Tried: 0.75, 1.0 and 1.5.)
const LONGEST_ROUND: f64 = 1.25;

/// How fast estimates follow: an eighth of the way at each look. But a round in which everybody came in
/// time is believed at once, so that a wait that pays is found with the first try.
const WEIGHT: f64 = 0.125;

/// Where it has not paid it is tried again after so many batches, because the load may have changed.
const PROBE_EVERY: u32 = 32;

/// Estimates, in seconds.
#[derive(Default)]
pub struct Window {
    /// What a sync takes.
    sync: f64,
    /// What it takes until one more client has queued, from the first reply on.
    per_client: f64,
    batches_without: u32,
}

impl Window {
    /// A batch was written and synced in this time.
    pub fn note_sync(&mut self, elapsed: Duration) {
        follow(&mut self.sync, elapsed.as_secs_f64());
    }

    /// How long to wait for so many clients, from the first of their replies on, if it pays.
    pub fn longest_wait(&mut self, clients: usize) -> Option<Duration> {
        // Where nothing is synced there is nothing to share.
        let clients = if self.sync > 0.0 { clients } else { 0 };
        let longest = self.sync * LONGEST_ROUND;
        let pays = clients > 1 && self.per_client * clients as f64 <= longest;
        self.batches_without = if pays { 0 } else { self.batches_without + 1 };
        let probes = clients > 1 && self.batches_without % PROBE_EVERY == PROBE_EVERY - 1;
        (pays || probes).then(|| Duration::from_secs_f64(longest))
    }

    /// So many clients of those who were waited for had queued so long after the first reply.
    pub fn note_wait(&mut self, elapsed: Duration, queued: usize, clients: usize) {
        // Clients that have all stopped at once were not slow. So a wait in vain counts as a round
        // twice as long, not as one of a client each: it takes a few of them to stop, and a pause of
        // everybody does not split those who come after it.
        let came = queued.max(clients.div_ceil(2));
        let seen = elapsed.as_secs_f64() / came as f64;
        match queued >= clients && seen < self.per_client {
            true => self.per_client = seen,
            false => follow(&mut self.per_client, seen),
        }
    }
}

fn follow(estimate: &mut f64, seen: f64) {
    *estimate += (seen - *estimate) * WEIGHT;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(sync_micros: u64, per_client_micros: u64) -> Window {
        let mut window = Window::default();
        for _ in 0..100 {
            window.note_sync(Duration::from_micros(sync_micros));
            window.note_wait(Duration::from_micros(per_client_micros * 50), 50, 50);
        }
        window
    }

    #[test]
    fn it_waits_where_the_round_of_replies_is_short_against_a_sync() {
        assert!(window(2000, 5).longest_wait(50).is_some());
        assert!(Window::default().longest_wait(50).is_none(), "no syncs");
        assert!(window(2000, 5).longest_wait(1).is_none(), "a lone client");
        assert!(window(200, 20).longest_wait(50).is_none(), "a fast disk");
        assert!(window(2000, 60).longest_wait(50).is_none(), "slow clients");
    }

    #[test]
    fn one_round_that_pays_is_enough_and_it_takes_some_that_do_not_to_stop() {
        let mut window = window(2000, 500);
        assert!(window.longest_wait(50).is_none());
        window.note_wait(Duration::from_micros(1000), 50, 50);
        assert!(window.longest_wait(50).is_some());
        let mut waits = 0;
        while window.longest_wait(50).is_some() {
            window.note_wait(Duration::from_micros(2500), 30, 50);
            waits += 1;
        }
        assert!((3..20).contains(&waits), "{waits}");
    }

    #[test]
    fn clients_that_stop_together_do_not_stop_it_and_clients_that_never_come_do() {
        let mut window = window(5000, 20);
        let mut waits = 0;
        while window.longest_wait(50).is_some() {
            window.note_wait(Duration::from_micros(6250), 0, 50);
            waits += 1;
        }
        assert!((3..20).contains(&waits), "{waits}");
    }

    #[test]
    fn where_it_has_not_paid_it_is_tried_now_and_then() {
        let mut window = window(200, 20);
        let tried = (0..PROBE_EVERY * 3).filter(|_| window.longest_wait(50).is_some()).count();
        assert_eq!(tried, 3);
    }
}
