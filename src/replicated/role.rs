//! The `role` thread of a node: reads the log, follows the leader, takes over when that is gone, leads, follows again.
//!
//! ```text
//!  loading ──► following ──► standing ──► leading ──► following …
//!     ▲            │ what comes next was trimmed
//!     └────────────┘
//! ```
//!
//! It never waits for a client, and changes the store only by errands. A node leads once its decision to take over is
//! done *and* everything up to the head that it replaced is in its store.

use std::sync::Arc;
use std::time::Duration;

use super::candidate::{Candidate, Seen};
use super::client::Transport;
use super::clock::{Clock, Moment};
use super::decide::{Decision, Outcome, attempt_time, decide};
use super::follower::{Follower, Read, untold};
use super::head::{Head, Tenure};
use super::json::Freshness;
use super::kv::{Op, Refusal};
use super::node::{self, Lead, Node};
use crate::command::{Node as Machine, Passing};
use crate::wal::chain::Tail;

/// How often the head is looked at. A takeover is late by this on average.
const POLL: Duration = Duration::from_millis(50);

/// After a look that failed.
const REST: Duration = Duration::from_millis(200);

/// A member may lag for this many TTLs.
const LONGEST_LAG: u32 = 5;

/// Called when another node leads than before.
pub type Heed = Box<dyn Fn(Passing) + Send>;

/// See the head of this file.
pub struct RoleThread<T> {
    pub follower: Follower<T>,
    pub candidate: Candidate,
    /// Tells the server.
    pub heed: Heed,
    /// The leader that it was told of.
    pub told: Option<Machine>,
    /// Since when every head that was read is older than one before.
    pub older_since: Option<Moment>,
    /// What failed last, so that it is said once.
    pub complaint: Option<String>,
}

impl<T: Transport> RoleThread<T> {
    fn node(&self) -> &Arc<Node> {
        &self.follower.node
    }

    /// Works until the node stops.
    pub fn run(mut self) {
        while !self.node().is_to_stop() {
            if self.node().health.failure().is_some() {
                // The log is not as it was left: this process leads no more, and says why in INFO.
                self.node().wait(REST);
                continue;
            }
            match self.follow() {
                Ok(Next::Wait) => self.node().wait(POLL),
                Ok(Next::GoOn) => {}
                Ok(Next::Lead(lead)) => self.lead(lead),
                Err(error) => {
                    self.complain(&error);
                    self.node().wait(REST);
                }
            }
        }
    }

    /// One look at the log.
    fn follow(&mut self) -> anyhow::Result<Next> {
        if self.follower.tail.is_none() {
            self.follower.read_snapshot()?;
        }
        let Some(head) = self.follower.head(Freshness::AnyAge).map_err(untold)? else {
            self.found()?;
            return Ok(Next::GoOn);
        };
        let now = self.node().clock.now();
        match self.candidate.see(head.clone(), now) {
            Seen::Older => {
                // Its member lags; but none lags for ever.
                self.follower.client.next_member();
                let since = *self.older_since.get_or_insert(now);
                anyhow::ensure!(
                    now.since(since) < self.node().lease.ttl() * LONGEST_LAG,
                    "the log in etcd has gone back to {head}: etcd was restored from an older state, and writes that were \
                     acknowledged are gone. Restart every server to go on without them"
                );
                return Ok(Next::Wait);
            }
            Seen::Twin => {
                anyhow::bail!("two processes believe that they are the one that wrote {head}")
            }
            Seen::New | Seen::Same => self.older_since = None,
        }
        let head = self.candidate.head().expect("one was seen").clone();
        self.node().see(&head);
        // This node's own lead is told of once it has begun.
        if head.tenure == Tenure::Held && head.process != self.node().process {
            node::machine(&head.node, head.process)
                .into_iter()
                .for_each(|leader| self.tell(leader));
        }
        match self.follower.read_on(&head, Freshness::AnyAge)? {
            Read::Some => return Ok(Next::GoOn),
            Read::Trimmed => {
                self.follower.tail = None;
                return Ok(Next::GoOn);
            }
            Read::Nothing => {}
        }
        self.complaint = None;
        if self.follower.lsn() >= head.lsn {
            self.node().set_loading(false);
        }
        // A head of this process is nobody else's, and whoever looks here knows that the lead is over.
        let was_own = head.process == self.node().process && self.follower.lsn() >= head.lsn;
        match was_own || self.candidate.may_stand(self.follower.lsn(), self.node().clock.now()) {
            true => self.stand(&head),
            false => Ok(Next::Wait),
        }
    }

    /// Creates the log. If another node was first, its head is read next.
    fn found(&mut self) -> anyhow::Result<()> {
        let node = self.node().clone();
        let time = attempt_time(node.lease.ttl());
        let format = self.follower.client.get(&node.keys.format(), Freshness::Current, time);
        anyhow::ensure!(
            format.map_err(untold)?.is_none(),
            "the head of the log in etcd is gone, and the log is not: {} is there. Restore etcd, or delete all keys of the \
             log if it is to begin anew",
            node.keys.format()
        );
        let head = Head::first(node.own.clone(), node.process).freed(node.next_beat());
        let ops = vec![Op::Put(node.keys.format(), FORMAT.as_bytes().to_vec())];
        let mut decision = Decision::new(&node.keys, None, head, ops);
        self.decide(&mut decision).map(drop)
    }

    /// Tries to take over from the leader that wrote `head`.
    fn stand(&mut self, head: &Head) -> anyhow::Result<Next> {
        let node = self.node().clone();
        let new = head.taken_over(node.own.clone(), node.process, node.next_beat());
        let mut decision = Decision::new(&node.keys, Some(head), new.clone(), Vec::new());
        let Some(sent) = self.decide(&mut decision)? else { return Ok(Next::Wait) };
        log::info!("took over in term {}, with the log up to LSN {}", new.term, new.lsn);
        self.candidate.see(new.clone(), node.clock.now());
        self.catch_up(new, sent)
    }

    /// Reads what is left of the log, with the lease renewed meanwhile: nothing is shown before.
    fn catch_up(&mut self, mut head: Head, mut sent: Moment) -> anyhow::Result<Next> {
        let node = self.node().clone();
        while self.follower.lsn() < head.lsn {
            match self.follower.read_on(&head, Freshness::Current)? {
                Read::Some => {}
                Read::Trimmed => self.follower.read_snapshot()?,
                Read::Nothing => anyhow::bail!(
                    "the log in etcd ends at LSN {}, and its head says {}",
                    self.follower.lsn(),
                    head.lsn
                ),
            }
            if node.clock.now().since(sent) > node.lease.ttl() / 4 {
                let renewed = head.renewed(node.next_beat());
                let mut decision = Decision::new(&node.keys, Some(&head), renewed, Vec::new());
                let Some(again) = self.decide(&mut decision)? else { return Ok(Next::Wait) };
                (head, sent) = (decision.head().clone(), again);
            }
        }
        if self.follower.lsn() > head.lsn {
            let (own, lsn) = (self.follower.lsn(), head.lsn);
            let why = format!(
                "the log in etcd ends at LSN {lsn}, and this server has read it up to LSN {own}: etcd was restored from \
                 an older state"
            );
            node.health.fail(&why);
            anyhow::bail!(why);
        }
        Ok(Next::Lead(Box::new(Lead { tail: self.tail_of(&head), head, sent })))
    }

    /// The end of the log, where entries of the head's term go on.
    fn tail_of(&self, head: &Head) -> Tail {
        let mut tail = self.follower.tail.expect("it has been read");
        (tail.header.sequence, tail.header.epoch) = (head.term, head.term);
        tail
    }

    /// Leads until that ends.
    fn lead(&mut self, lead: Box<Lead>) {
        let node = self.node().clone();
        let (handed, term) = (node.clone(), lead.head.term);
        node.set_loading(false);
        if self.follower.engine.errand(move |_| handed.begin_lead(*lead)).is_none() {
            return;
        }
        log::info!("this server leads in term {term}");
        self.tell(node.machine.clone());
        let left = loop {
            if node.is_to_stop() {
                return;
            }
            if let Some(left) = node.wait_for_end(REST) {
                break left;
            }
        };
        // After this the last batch is in the store, and the log ends where it did then.
        if self.follower.engine.errand(|_| {}).is_none() {
            return;
        }
        log::warn!("this server leads no more");
        self.follower.tail = Some(left);
        (self.heed)(Passing::Ended);
    }

    /// Settles a decision. `None` if another node was faster; the time at which it was sent if it is done.
    fn decide(&mut self, decision: &mut Decision) -> anyhow::Result<Option<Moment>> {
        let node = self.node().clone();
        let ttl = node.lease.ttl();
        let until = node.clock.now() + ttl;
        let time = attempt_time(ttl);
        match decide(decision, &mut self.follower.client, &node.clock, time, until) {
            Ok(Outcome::Done { sent }) => Ok(Some(sent)),
            Ok(Outcome::Fenced { .. }) => Ok(None),
            Ok(Outcome::Refused(Refusal::NoSpace)) => {
                anyhow::bail!(
                    "etcd has no space left, so that no server can lead: give it more, compact and defragment it"
                )
            }
            Ok(Outcome::Refused(refusal)) => anyhow::bail!("etcd refuses a transaction: {refusal}"),
            Ok(Outcome::WentBack(head)) => anyhow::bail!(
                "the log in etcd has gone back to {head}: etcd was restored from an older state, and writes that were \
                 acknowledged are gone. Restart every server to go on without them"
            ),
            Err(unsettled) => anyhow::bail!("etcd does not answer: {}", unsettled.why),
        }
    }

    /// Tells the server which node leads, if that is another than before.
    fn tell(&mut self, leader: Machine) {
        if self.told.as_ref() != Some(&leader) {
            let from = self.told.replace(leader.clone());
            (self.heed)(Passing::Leader { from, to: leader });
        }
    }

    fn complain(&mut self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        if self.complaint.as_ref() != Some(&text) {
            log::error!("{text}");
            self.complaint = Some(text);
        }
    }
}

/// What comes after a look.
enum Next {
    /// Another look, later.
    Wait,
    /// Another look.
    GoOn,
    /// To lead.
    Lead(Box<Lead>),
}

/// The value of the key `format`: the version of all keys of this log.
const FORMAT: &str = "v1";
