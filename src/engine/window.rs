//! The commit window: on a slow disk, those who were just answered make the next sync.
//!
//! Without it, clients that write in step split: who is answered comes back while the next sync is
//! running already, and waits for the one after it, so that each sync carries only half of them. So
//! the committer waits, before it begins a batch, until as many clients have queued as were answered
//! last and have queued since. It waits only if they are expected within three quarters of a sync, from how
//! long they took before, and never longer: a lone client, a fast disk, and a machine that takes
//! longer for the round of replies than the disk for a sync pay nothing.
//!
//! PostgreSQL's `commit_delay` is such a wait, of a fixed time, recommended to be half of a sync, and
//! blind to how many will come; Silo's epochs (Tu et al., SOSP 2013) are one of a fixed length.

use std::time::{Duration, Instant};

/// A window pays only if it is over within this part of a sync.
const PART_OF_SYNC: f64 = 0.75;

/// How fast estimates follow: an eighth of the way at each look.
const WEIGHT: f64 = 0.125;

/// Where it has not paid it is tried again after so many batches, because the load may have changed.
const PROBE_EVERY: u32 = 32;

/// Estimates, in seconds.
#[derive(Default)]
pub struct Window {
    /// What a sync takes.
    sync: f64,
    /// What it takes until one more client has queued, from the moment the replies are sent.
    per_client: f64,
    batches_without: u32,
}

impl Window {
    /// A batch was written and synced in this time.
    pub fn note_sync(&mut self, elapsed: Duration) {
        follow(&mut self.sync, elapsed.as_secs_f64());
    }

    /// Until when to wait for so many clients, if it pays.
    pub fn deadline(&mut self, clients: usize) -> Option<Instant> {
        // Where nothing is synced there is nothing to share.
        let clients = if self.sync > 0.0 { clients } else { 0 };
        let longest = self.sync * PART_OF_SYNC;
        let pays = clients > 1 && self.per_client * clients as f64 <= longest;
        self.batches_without = if pays { 0 } else { self.batches_without + 1 };
        let probes = clients > 1 && self.batches_without % PROBE_EVERY == PROBE_EVERY - 1;
        (pays || probes).then(|| Instant::now() + Duration::from_secs_f64(longest))
    }

    /// So many clients had queued when the wait was over.
    pub fn note_wait(&mut self, waited: Duration, queued: usize) {
        follow(&mut self.per_client, waited.as_secs_f64() / queued.max(1) as f64);
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
            window.note_wait(Duration::from_micros(per_client_micros * 50), 50);
        }
        window
    }

    #[test]
    fn it_waits_where_the_round_of_replies_is_short_against_a_sync() {
        assert!(window(2000, 5).deadline(50).is_some());
        assert!(Window::default().deadline(50).is_none(), "no syncs");
        assert!(window(2000, 5).deadline(1).is_none(), "a lone client");
        assert!(window(200, 5).deadline(50).is_none(), "a fast disk");
        assert!(window(2000, 50).deadline(50).is_none(), "slow clients");
    }

    #[test]
    fn where_it_has_not_paid_it_is_tried_now_and_then() {
        let mut window = window(200, 5);
        let tried = (0..PROBE_EVERY * 3).filter(|_| window.deadline(50).is_some()).count();
        assert_eq!(tried, 3);
    }
}
