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

use anyhow::{Context, bail, ensure};

use super::candidate::{Candidate, Seen};
use super::client::Transport;
use super::clock::{Clock, Moment};
use super::decide::{Decision, Outcome, attempt_time, decide};
use super::follower::{Follower, Read, untold};
use super::format;
use super::head::{Head, History, Tenure};
use super::history::{self, Another};
use super::json::Freshness;
use super::kv::{Op, Refusal};
use super::node::{self, Lead, Node};
use crate::command::{Node as Machine, Passing};
use crate::wal::chain::{self, Tail};

/// How often the head is looked at. A takeover is late by this on average.
const POLL: Duration = Duration::from_millis(50);

/// After a look that failed.
const REST: Duration = Duration::from_millis(200);

/// Complaints until a look goes well; more of them say nothing new.
const MOST_COMPLAINTS: usize = 16;

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
    /// Since when every head that was read is older than one before; a member may lag, but not for a TTL.
    pub older_since: Option<Moment>,
    /// What has failed since a look went well, so that each is said once: the members fail in turn.
    pub complaints: Vec<String>,
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
            let next = self.follow();
            if next.is_ok() {
                self.complaints.clear();
            }
            match next {
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
        let Some(head) = self.look()? else { return Ok(Next::Wait) };
        self.node().see(&head);
        if self.follower.tail.is_none() {
            self.follower.check_format(&head)?;
            self.follower.read_snapshot()?;
        }
        // This node's own lead is told of once it has begun.
        if head.tenure == Tenure::Held && head.process != self.node().process {
            node::machine(&head.node, head.process)
                .into_iter()
                .for_each(|leader| self.tell(leader));
        }
        match self.read_on(&head)? {
            Read::Some => return Ok(Next::GoOn),
            Read::Trimmed => {
                self.follower.tail = None;
                return Ok(Next::GoOn);
            }
            Read::Nothing => {}
        }
        self.compare_end(&head)?;
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

    /// Reads the head; returns the latest that was ever seen, or `None` if there is nothing to go on from yet. A member
    /// that lags may show an older one, or that of a log that was deleted: before this node closes, it makes certain.
    fn look(&mut self) -> anyhow::Result<Option<Head>> {
        let shown = self.follower.head(Freshness::AnyAge).map_err(untold)?;
        let now = self.node().clock.now();
        let seen = shown.map(|head| self.candidate.see(head, now));
        match seen {
            Some(Seen::New | Seen::Same) => self.older_since = None,
            Some(Seen::Older) => {
                self.follower.client.next_member();
                let since = *self.older_since.get_or_insert(now);
                if now.since(since) < self.node().lease.ttl() {
                    return Ok(None);
                }
                // None lags for ever.
                self.older_since = None;
                self.make_certain()?;
            }
            Some(Seen::Foreign(_)) => self.make_certain()?,
            None if self.candidate.head().is_some() => self.make_certain()?,
            None => {
                self.found()?;
                return Ok(None);
            }
        }
        Ok(self.candidate.head().cloned())
    }

    /// Reads the head as it certainly is, and closes the log if it is not that of the log that was seen before.
    fn make_certain(&mut self) -> anyhow::Result<()> {
        let now = self.node().clock.now();
        let told = match self.follower.certain_head().map_err(untold)? {
            None => Another::Gone,
            Some(head) => match self.candidate.see(head, now) {
                Seen::New | Seen::Same => return Ok(()),
                Seen::Older => Another::Shorter,
                Seen::Foreign(another) => another,
            },
        };
        self.close(told)
    }

    /// Fails, and has this node neither lead nor follow any more.
    fn close<R>(&mut self, told: Another) -> anyhow::Result<R> {
        let told = told.to_string();
        self.node().health.fail(&told);
        // That has been said.
        self.complaints.push(told.clone());
        bail!(told)
    }

    /// Stores what comes next. If that cannot be, the reason may be that it is another log by now.
    fn read_on(&mut self, head: &Head) -> anyhow::Result<Read> {
        let mut read = self.follower.read_on(head, Freshness::AnyAge);
        let is_behind = self.follower.lsn() < head.lsn;
        if matches!(read, Ok(Read::Nothing)) && is_behind {
            // A member that lags has shown less than the one that has shown the head; or it was trimmed.
            read = self.follower.read_on(head, Freshness::Current);
        }
        let is_amiss = read.is_err() || (matches!(read, Ok(Read::Nothing)) && is_behind);
        if is_amiss && let Err(another) = self.follower.check_history().map_err(untold)? {
            return self.close(another);
        }
        read
    }

    /// Whether the store ends as the log does.
    fn compare_end(&mut self, head: &Head) -> anyhow::Result<()> {
        let Some(tail) = self.follower.tail else { return Ok(()) };
        match history::compare_end(head, self.follower.lsn(), tail.last_checksum) {
            Ok(()) => Ok(()),
            Err(another) => self.close(another),
        }
    }

    /// Creates the log. If another node was first, its head is read next.
    fn found(&mut self) -> anyhow::Result<()> {
        let node = self.node().clone();
        if self.follower.head(Freshness::Current).map_err(untold)?.is_some() {
            // The member that was asked before lags.
            return Ok(());
        }
        let time = attempt_time(node.lease.ttl());
        let format = self.follower.client.get(&node.keys.format(), Freshness::Current, time);
        ensure!(
            format.map_err(untold)?.is_none(),
            "the head of the log in etcd is gone, and the log is not: {} is there. Restore etcd, or delete all keys of the \
             log if it is to begin anew",
            node.keys.format()
        );
        let store = random_id()?;
        let head = Head::first(node.own.clone(), node.process, store).freed(node.next_beat());
        let ops = vec![Op::Put(node.keys.format(), format::value(store))];
        let mut decision = Decision::new(&node.keys, None, head, ops);
        self.decide(&mut decision).map(drop)
    }

    /// Tries to take over from the leader that wrote `head`.
    fn stand(&mut self, head: &Head) -> anyhow::Result<Next> {
        let node = self.node().clone();
        let mut new = head.taken_over(node.own.clone(), node.process, node.next_beat());
        let mut ops = Vec::new();
        if head.history.is_none() {
            // A log of the first version gets its id by the first takeover, and its checksum from a node that has it.
            let Some(tail) = self.follower.tail.filter(|tail| tail.next_lsn - 1 == head.lsn) else {
                return Ok(Next::Wait);
            };
            let store = random_id()?;
            new = new.upgraded(History { store, checksum: tail.last_checksum });
            ops.push(Op::Put(node.keys.format(), format::value(store)));
        }
        let mut decision = Decision::new(&node.keys, Some(head), new.clone(), ops);
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
                Read::Nothing => {
                    if let Err(another) = self.follower.check_history().map_err(untold)? {
                        return self.close(another);
                    }
                    bail!(
                        "the log in etcd ends at LSN {}, and its head says {}",
                        self.follower.lsn(),
                        head.lsn
                    )
                }
            }
            if node.clock.now().since(sent) > node.lease.ttl() / 4 {
                let renewed = head.renewed(node.next_beat());
                let mut decision = Decision::new(&node.keys, Some(&head), renewed, Vec::new());
                let Some(again) = self.decide(&mut decision)? else { return Ok(Next::Wait) };
                (head, sent) = (decision.head().clone(), again);
            }
        }
        if self.follower.lsn() > head.lsn {
            return self.close(Another::Shorter);
        }
        self.compare_end(&head)?;
        if let Err(error) = self.follower.note_snapshot() {
            log::warn!("a compaction may begin early: {error:#}");
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
        self.follower.tail = Some(left.tail);
        self.candidate.see(left.head, node.clock.now());
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
            // The head that is there is read next, as any head is.
            Ok(Outcome::Fenced { .. } | Outcome::WentBack(_)) => Ok(None),
            Ok(Outcome::Refused(Refusal::NoSpace)) => {
                bail!(
                    "etcd has no space left, so that no server can lead: give it more, compact and defragment it"
                )
            }
            Ok(Outcome::Refused(refusal)) => bail!("etcd refuses a transaction: {refusal}"),
            Err(unsettled) => bail!("etcd does not answer: {}", unsettled.why),
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
        if self.complaints.len() < MOST_COMPLAINTS && !self.complaints.contains(&text) {
            log::error!("{text}");
            self.complaints.push(text);
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

/// An id of a store.
fn random_id() -> anyhow::Result<u64> {
    Ok(chain::random().context("no random numbers")?.max(1))
}

#[cfg(test)]
mod takeover;
