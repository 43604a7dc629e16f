//! The log in an etcd cluster, so that what was acknowledged survives the loss of a machine with its disks.
//!
//! The store stays in memory and the consensus stays etcd's. One node leads and writes; others follow, and one of
//! them takes over when the leader is gone. The engine sees a log like any
//! other (`log`) and a gate that says what may be shown. [`machines`](crate::machines) is for who runs it.
//!
//! # One key decides
//!
//! Under `/<name>/` each batch has a key of its own, `log/<lsn>`, and one key, `head`, says which node leads and
//! how far the log goes ([`head`], [`keys`]). *Every* change of the log is one transaction that also replaces the
//! head, on the condition that its value is still the one that this node saw last ([`mod@decide`]):
//!
//! ```text
//! append     if head == mine  { head = (my term, lsn + n),  log/<lsn + 1> = batch }
//! renew      if head == mine  { head = (my term, lsn, next beat) }
//! take over  if head == seen  { head = (term + 1, lsn) }
//! ```
//!
//! No value of the head is ever written twice, so a comparison of values is a comparison of histories. From that
//! follows what a log needs:
//!
//! - **One writer.** After a take-over no transaction of the leader before can succeed: each expects a head that
//!   will never be there again. Nobody has to know that it is gone.
//! - **No gap, no fork.** A batch at some LSN replaces the head that ended just before it.
//! - **Any attempt may be repeated.** A transaction that succeeded has removed its own condition. So when an answer
//!   is lost, the leader sends the same again, to another member, until it is told: it is done if the head is
//!   the new one. If it is another, the batch may have been done before that was written; what is at its LSN tells.
//!
//! # A lease without a clock in etcd
//!
//! A leader that was replaced without noticing must not answer reads. It shows data only until 0.9 TTL after it
//! *sent* its last successful change ([`lease`]). Another node polls the head, and tries to take over only when it
//! has seen one and the same value for a whole TTL ([`candidate`]):
//!
//! ```text
//! leader        ├ sent ──────────────── 0.9 TTL ┤ shows nothing any more
//! etcd             ├ written
//! other node            ├ seen ─────────────────────── TTL ┤ if head is still this: take over
//! ```
//!
//! It was sent before it was written, and written before it was seen; so the lease is over first, wherever the
//! network and the schedulers took their time. If the leader has written anything else meanwhile, the condition
//! of the take-over does not hold. Nothing here depends on two clocks that show the same time, only on clocks
//! whose rates differ by less than a tenth. etcd's own leases and elections are not used: 3.4 revokes leases that
//! are alive after its leader's disk was frozen.
//!
//! # Done, not done, or unknown
//!
//! Everything rests on never taking one of these for another ([`kv`], [`refusals`]). Of all errors only those on
//! a list mean that nothing was done. A timeout, a 503, a reply that does not fit its request: unknown, and the
//! decision stays open, settled before any other is begun. A member whose quota is used up answers with an error
//! even to the transaction that used it up, and that one *was* done.
//!
//! # Reading order
//!
//! | file | |
//! |------|-|
//! | [`head`], [`keys`] | what is stored, and under which names |
//! | [`mod@decide`] | append, renew and take over, whatever happens to single attempts |
//! | [`lease`], [`candidate`], [`clock`] | who may show data, and who may take over, by time |
//! | [`kv`], [`refusals`] | a transaction, and what the end of an attempt says |
//! | [`client`], [`json`], [`members`], [`http`], `addresses` | the same on the wire |
//! | [`url`], `access` | the address; certificates and passwords |
//! | [`history`], [`format`](mod@format) | whether it is still the log that this node began with |
//! | `entry`, `pointer` | the value of a batch's key, and of the key that names the snapshot |
//! | `node` | what the threads of a node share: its lead, its lease, what it knows of the others |
//! | `change`, `log` | what the leader writes; the log as the engine uses it |
//! | `reading`, `pieces` | entries that follow one another, as they are read; a snapshot, as it is written |
//! | `follower`, `role` | what is read into the store; who follows, takes over, leads |
//! | `snapshots`, `marks`, `space` | how the log stays short, and within what etcd has left |
//! | `neighbours`, `open` | where the others are; the start |
//! | `reader`, `import` | a whole log, for the tools: read, and brought in |
//!
//! Tests run all of it against an etcd in memory (`fake.rs`), with faults at every point (`scripted.rs`), and
//! three nodes in a world in which anything may happen at any time (`model.rs`, `world.rs`); `damages.rs` breaks what is
//! stored. Those in `tests/it/replicated` ask a real etcd, where there is one. `failover.rs` has whole nodes that are killed and cut off (`group.rs` starts them),
//! `outcomes.rs` those that are replaced while they wait for an answer. `tests/it/replicated/trial` has three machines in network
//! namespaces, whole servers, and thirteen faults.
//!
//! Each of these ways to break it was tried. "The trial" is the one with thirteen faults; what it passes over is in one
//! moment that no fault of a whole machine hits on purpose.
//!
//! | broken | noticed by |
//! |--------|------------|
//! | the gate does not ask for the lease | the trial: stale reads; `a_leader_that_is_cut_off_shows_nothing_…` |
//! | a lease runs from the reply | `an_answer_that_comes_late_gives_no_lease_…`, `a_lease_runs_from_the_time_…` |
//! | what is unknown is acknowledged | the trial: stale reads; `a_write_whose_answer_never_came_…` |
//! | a takeover that does not wait | the trial: stale reads; `model.rs`, `a_node_stands_after_the_same_head_…` |
//! | a takeover that does not read the log to its end | `a_node_that_stands_early_leads_only_with_the_whole_log_…` |
//! | "fenced" is always "not done" | `a_batch_that_was_done_before_another_node_took_over_…`, `model.rs` |
//! | "fenced" is always "done" | `a_batch_that_another_node_was_faster_than_…`, `model.rs` |
//! | a follower answers reads | the trial; `one_node_leads_and_the_others_have_…` |
//! | the lease is asked for only before a read | `a_read_shows_what_it_has_found_only_if_…` |
//! | a write that changes nothing needs no lease | `a_leader_that_cannot_renew_its_lease_…` |

mod access;
mod addresses;
pub mod candidate;
mod change;
pub mod client;
pub mod clock;
#[cfg(test)]
mod damages;
pub mod decide;
mod entry;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod fake;
mod follower;
pub mod format;
#[cfg(test)]
mod group;
pub mod head;
#[cfg(test)]
mod histories;
pub mod history;
pub mod http;
mod import;
pub mod json;
pub mod keys;
pub mod kv;
pub mod lease;
mod log;
mod marks;
pub mod members;
#[cfg(test)]
mod model;
mod neighbours;
mod node;
mod open;
#[cfg(test)]
mod outcomes;
mod pieces;
mod pointer;
mod reader;
mod reading;
pub mod refusals;
mod role;
#[cfg(test)]
mod scripted;
mod snapshots;
mod space;
pub mod url;
#[cfg(test)]
mod world;

pub use access::{Access, Credentials};
pub use head::{Head, Tenure};
pub use http::Http;
pub use import::{IMPORTER, Import, LONGEST_KEY, LONGEST_RECORD, LONGEST_VALUE};
pub use open::{Opened, Options, open, open_at};
pub use pointer::Pointer;
pub use reader::{LogReader, Overtaken, Piece};
pub use reading::{Batch, Damage};
pub use url::Url;
