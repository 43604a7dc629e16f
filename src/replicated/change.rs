//! A change of the log by the node that leads: the batch of a commit, a renewal of the lease, a new snapshot.
//!
//! Only the committing thread makes one, between two others, and has it settled before it goes on. If that cannot be,
//! or another node was faster, the lead is over when this returns.

use std::time::Duration;

use super::client::{Client, Transport};
use super::clock::Clock;
use super::decide::{Batch, Decision, Found, Outcome, Unsettled, attempt_time, decide};
use super::head::{Head, Tenure};
use super::history::{self, Another};
use super::kv::{Op, Refusal};
use super::node::{Lead, Node};

/// Clients wait this long for a batch whose outcome is not known. etcd replaces a leader of its own in 1 to 2.3 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a node leads no more.
#[derive(Debug)]
pub enum Lost {
    /// Another node leads, and nothing was done.
    PassedOn,
    /// It was done, and then another node took over.
    Done,
    /// Whether it was done is not known.
    Unknown(String),
    /// It is another log by now, or none: etcd was restored from a backup, or its keys were deleted.
    Broken(String),
}

/// How a change went: `None` without a lead. A refusal leaves everything as it was.
pub type Changes = Option<Result<Result<(), Refusal>, Lost>>;

/// Replaces the head of the running lead, and carries out some operations with it: what `make` says. Then `done` has
/// the lead go on from there.
pub fn change<T: Transport>(
    node: &Node,
    client: &mut Client<T>,
    make: impl FnOnce(&Lead) -> (Head, Vec<Op>),
    done: impl FnOnce(&mut Lead),
) -> Changes {
    node.with_lead(|lead| {
        let (new, ops) = make(lead);
        let mut decision = Decision::new(&node.keys, Some(&lead.head), new, ops);
        let until = node.clock.now() + PATIENCE;
        let time = attempt_time(node.lease.ttl());
        let outcome = decide(&mut decision, client, &node.clock, time, until);
        if let Ok(Outcome::Fenced { by: Found::Head(head), .. } | Outcome::WentBack(head)) =
            &outcome
            && let Err(another) = history::compare(&lead.head, head)
        {
            return Err(Lost::Broken(another.to_string()));
        }
        match outcome {
            Ok(Outcome::Done { sent }) => {
                lead.head = decision.head().clone();
                done(lead);
                // What is given back is not extended: another node may have it already.
                if lead.head.tenure == Tenure::Held {
                    node.lease.extend(sent);
                }
                node.see(&lead.head);
                Ok(Ok(()))
            }
            Ok(Outcome::Refused(refusal)) => Ok(Err(refusal)),
            Ok(Outcome::Fenced { by, batch }) => Err(match (batch, by) {
                (Batch::Done, _) => {
                    lead.head = decision.head().clone();
                    done(lead);
                    Lost::Done
                }
                (_, Found::Nothing) => Lost::Broken(Another::Gone.to_string()),
                (_, Found::Strange(why)) => Lost::Broken(why),
                (Batch::NotDone, Found::Head(_)) => Lost::PassedOn,
                (Batch::Unknown, Found::Head(_)) => {
                    Lost::Unknown("the part of the log with it was trimmed".into())
                }
            }),
            Ok(Outcome::WentBack(_)) => Err(Lost::Broken(Another::Shorter.to_string())),
            Err(Unsettled { why, .. }) => Err(Lost::Unknown(why)),
        }
    })
}
