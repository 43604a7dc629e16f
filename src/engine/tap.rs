//! Where the commit path is watched: which thread committed a batch, whose operations it took, how long each step
//! took.
//!
//! It changes nothing and waits for nothing. A batch that is not sampled costs one atomic load, and a comparison at
//! each step.

use std::time::{Duration, Instant};

use super::Submission;
use crate::metrics::{
    BETWEEN_SAMPLES, BatchSeen, Brought, Ending, Leader, MOST_CLIENTS, Metrics, Step,
};

/// The batch that is being sampled, if one is.
#[derive(Default)]
pub struct Tap {
    sample: Option<Box<Sample>>,
    /// No batch is sampled before.
    next: Option<Instant>,
    /// The thread that is on the path.
    leader: Leader,
}

struct Sample {
    seen: BatchSeen,
    began: Instant,
    /// When the last step ended.
    last: Instant,
    /// The counters at the beginning.
    records: u64,
    bytes: u64,
}

impl Tap {
    /// The next batch is committed by its client's own thread.
    pub fn note_leader(&mut self) {
        self.leader = Leader::Client;
    }

    /// A batch begins.
    pub fn begin(&mut self, metrics: &Metrics) {
        let leader = std::mem::take(&mut self.leader);
        self.sample = None;
        if !metrics.batches_seen.are_watched() {
            return;
        }
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            return;
        }
        let at = now.saturating_duration_since(metrics.run.began);
        let seen = BatchSeen { at, leader, ..BatchSeen::default() };
        let (records, bytes) = (metrics.records.get(), metrics.log_bytes.get());
        self.sample = Some(Box::new(Sample { seen, began: now, last: now, records, bytes }));
    }

    /// A step has ended.
    pub fn mark(&mut self, step: Step) {
        if let Some(sample) = &mut self.sample {
            let now = Instant::now();
            sample.seen.steps[step as usize] = Some(now - sample.last);
            sample.last = now;
        }
    }

    /// The commands of these submissions were carried out.
    pub fn note_evaluated(&mut self, evaluated: &[Submission]) {
        self.mark(Step::Evaluated);
        let Some(sample) = &mut self.sample else { return };
        let (seen, began) = (&mut sample.seen, sample.began);
        let of_clients = || evaluated.iter().filter(|submission| submission.is_of_client());
        seen.client_count = of_clients().count();
        seen.operations = of_clients().map(|submission| submission.operations.len()).sum();
        seen.clients = of_clients().take(MOST_CLIENTS).map(brought).collect();
        let oldest = evaluated.iter().filter_map(|submission| submission.arrived).min();
        let waited = oldest.map(|oldest| began.saturating_duration_since(oldest));
        seen.steps[Step::Waited as usize] = waited;
    }

    /// The batch was not committed.
    pub fn note_ending(&mut self, ending: Ending) {
        if let Some(sample) = &mut self.sample {
            sample.seen.ending = ending;
        }
    }

    /// The batch is about to be answered; `clients` more have come meanwhile.
    pub fn note_meanwhile(&mut self, clients: usize) {
        if let Some(sample) = &mut self.sample {
            sample.seen.meanwhile = clients;
        }
    }

    /// The batch has been answered. One that was not a client's is not kept.
    pub fn end(&mut self, metrics: &Metrics) {
        self.mark(Step::Answered);
        let Some(sample) = self.sample.take() else { return };
        let Sample { mut seen, began, records, bytes, .. } = *sample;
        if seen.client_count > 0 {
            seen.records = metrics.records.get() - records;
            seen.bytes = metrics.log_bytes.get() - bytes;
            metrics.batches_seen.keep(seen);
            self.next = Some(began + BETWEEN_SAMPLES);
        }
    }
}

fn brought(submission: &Submission) -> Brought {
    Brought {
        client: submission.recipient.client(),
        operations: submission.operations.len(),
        command: submission.operations.first().and_then(|first| first.id),
    }
}

/// Counts how long a client has waited, from its submission on, if somebody watches.
pub fn count_wait(metrics: &Metrics, arrived: Option<Instant>) {
    if let Some(arrived) = arrived {
        let waited: Duration = arrived.elapsed();
        metrics.batches_seen.waits.add(waited.as_nanos() as u64);
    }
}
