//! What the threads of one node share: its part in the group, its lease, and what it knows of the others.
//!
//! Two threads change it. The committing one appends to the log and renews the lease while the node leads
//! ([`super::log`]); the `role` thread follows, takes over, and hands the lead to the committer by an errand, so between
//! two batches ([`super::role`]). Whoever finds that the node leads no more ends the lease first, and then the lead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::clock::{Boottime, Clock, Moment};
use super::head::{self, Head};
use super::keys::Keys;
use super::lease::Lease;
use super::marks::Marks;
use super::space::Space;
use crate::command::{Group, Keeper, Node as Machine, Nodes, Role, Text};
use crate::engine::log::Gate;
use crate::engine::{Health, Room};
use crate::sync::{Condvar, Mutex};
use crate::wal::Failure;
use crate::wal::chain::Tail;

const LOADING: &str = "LOADING this server reads the log";
const FOLLOWS: &str = "READONLY You can't read from or write against a server that follows another; ask SENTINEL which one leads";
const NO_LEASE: &str = "TRYAGAIN this server leads, but the log has not confirmed it for a while";

/// See the head of this file.
pub struct Node {
    pub name: String,
    pub keys: Keys,
    /// As the head of the log names it.
    pub own: head::Node,
    /// As clients are told of it.
    pub machine: Machine,
    /// A random number of this process.
    pub process: u64,
    pub clock: Boottime,
    pub lease: Lease,
    pub health: Arc<Health>,
    /// Counts the heads that this process has tried to write.
    beat: AtomicU64,
    /// Held while the committing thread talks to etcd; no other thread takes it.
    lead: Mutex<Option<Lead>>,
    /// The term that it leads, 0 if none.
    led: AtomicU64,
    known: Mutex<Known>,
    covered: Mutex<Covered>,
    /// The lead has ended, or the node is to stop.
    changed: Condvar,
    /// The last LSN that is in the store.
    stored: AtomicU64,
    /// Bytes of entries that were read since the snapshot, or written.
    pub logged: AtomicU64,
    /// Where entries begin.
    pub marks: Marks,
    /// What etcd has left.
    pub space: Space,
    is_loading: AtomicBool,
    stops: AtomicBool,
}

/// What a leader goes on from.
///
/// - `head` is in etcd, or was until another node replaced it; `tail` ends with its LSN.
pub struct Lead {
    pub head: Head,
    pub tail: Tail,
    /// When the decision to take over was sent.
    pub sent: Moment,
}

/// The last snapshot that this node knows of, its own or another's: what a compaction decides by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Covered {
    /// It has everything up to here.
    pub lsn: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes that this node had read or written of the log up to there.
    pub logged: u64,
}

/// What a lead leaves: where the log went on to, as far as this node knows.
pub struct Left {
    pub head: Head,
    pub tail: Tail,
}

/// What a node knows of the others.
#[derive(Default)]
struct Known {
    head: Option<Head>,
    /// When that was seen first.
    seen: Option<Moment>,
    others: Vec<Machine>,
    keepers: Vec<Keeper>,
    /// Where the last lead ended.
    left: Option<Left>,
}

impl Node {
    pub fn new(
        name: String,
        own: head::Node,
        machine: Machine,
        process: u64,
        ttl: Duration,
    ) -> Node {
        Node {
            keys: Keys::new(&name),
            name,
            own,
            machine,
            process,
            clock: Boottime,
            lease: Lease::new(ttl),
            health: Arc::default(),
            beat: AtomicU64::new(0),
            lead: Mutex::new(None),
            led: AtomicU64::new(0),
            known: Mutex::default(),
            covered: Mutex::default(),
            changed: Condvar::new(),
            stored: AtomicU64::new(0),
            logged: AtomicU64::new(0),
            marks: Marks::default(),
            space: Space::default(),
            is_loading: AtomicBool::new(true),
            stops: AtomicBool::new(false),
        }
    }

    /// A number for the next head that is tried.
    pub fn next_beat(&self) -> u64 {
        self.beat.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Hands the lead to the committing thread; called on that, between two batches.
    pub fn begin_lead(&self, lead: Lead) {
        let mut current = self.lead.lock();
        assert!(current.is_none(), "a node leads once at a time");
        assert_eq!(lead.tail.next_lsn - 1, lead.head.lsn, "a leader has stored the whole log");
        let history = lead.head.history.expect("a leader writes heads with a history");
        assert_eq!(lead.tail.last_checksum, history.checksum, "a leader has stored this log");
        self.see(&lead.head);
        self.lease.begin(lead.head.term, lead.sent);
        self.led.store(lead.head.term, Ordering::SeqCst);
        *current = Some(lead);
    }

    /// Does something with the lead, if there is one. Only the committing thread calls this. If it returns
    /// `Err`, the lead ends.
    pub fn with_lead<T, E>(
        &self,
        act: impl FnOnce(&mut Lead) -> Result<T, E>,
    ) -> Option<Result<T, E>> {
        let mut current = self.lead.lock();
        let done = act(current.as_mut()?);
        if done.is_err() {
            self.lease.end();
            self.led.store(0, Ordering::SeqCst);
            let lead = current.take().expect("it was there a moment ago");
            self.known.lock().left = Some(Left { head: lead.head, tail: lead.tail });
            self.changed.notify_all();
        }
        Some(done)
    }

    /// The term that the node leads, 0 if it does not.
    pub fn led_term(&self) -> u64 {
        self.led.load(Ordering::SeqCst)
    }

    /// Waits until the lead has ended, or the node is to stop, or for this long. Returns where the lead ended.
    pub fn wait_for_end(&self, time: Duration) -> Option<Left> {
        let mut known = self.known.lock();
        if known.left.is_none() && !self.is_to_stop() {
            self.changed.wait_for(&mut known, time);
        }
        known.left.take()
    }

    /// Waits for this long, or until the node is to stop.
    pub fn wait(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut known = self.known.lock();
        while !self.is_to_stop() && Instant::now() < until {
            self.changed.wait_until(&mut known, until);
        }
    }

    /// Ends the node's threads.
    pub fn stop(&self) {
        let _known = self.known.lock();
        self.stops.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    pub fn is_to_stop(&self) -> bool {
        self.stops.load(Ordering::SeqCst)
    }

    /// Notes a head that was read or written.
    pub fn see(&self, head: &Head) {
        let mut known = self.known.lock();
        if known.head.as_ref().is_none_or(|before| before.is_before(head)) {
            known.head = Some(head.clone());
            known.seen = Some(self.clock.now());
        }
    }

    pub fn set_others(&self, others: Vec<Machine>) {
        self.known.lock().others = others;
    }

    pub fn set_keepers(&self, keepers: Vec<Keeper>) {
        self.known.lock().keepers = keepers;
    }

    pub fn set_loading(&self, is_loading: bool) {
        self.is_loading.store(is_loading, Ordering::Relaxed);
    }

    /// Notes the last record that is in the store.
    pub fn note_stored(&self, lsn: u64) {
        self.stored.store(lsn, Ordering::Relaxed);
    }

    /// Notes a snapshot, if it is later than the one that is known.
    pub fn note_covered(&self, snapshot: Covered) {
        let mut covered = self.covered.lock();
        if covered.lsn < snapshot.lsn {
            *covered = snapshot;
        }
    }

    /// The last snapshot.
    pub fn covered(&self) -> Covered {
        *self.covered.lock()
    }

    /// The reply to a client that asks for data while the node does not lead.
    pub fn refusal(&self) -> Text {
        if let Some(Failure(why)) = self.health.failure() {
            return format!("MISCONF {why}").into();
        }
        let role = match () {
            () if self.is_loading.load(Ordering::Relaxed) => LOADING,
            () if self.led_term() > 0 => NO_LEASE,
            () => FOLLOWS,
        };
        role.into()
    }

    /// Whether etcd has room for more.
    pub fn room(&self) -> Room {
        self.health.room()
    }
}

impl Gate for Node {
    fn term(&self) -> Result<u64, Text> {
        self.lease.term(&self.clock).ok_or_else(|| self.refusal())
    }
}

impl Nodes for Node {
    fn group(&self) -> Group {
        let leads = self.lease.may_show(&self.clock);
        let is_loading = self.is_loading.load(Ordering::Relaxed);
        let known = self.known.lock();
        let lsn = self.stored.load(Ordering::Relaxed);
        // An address is told while the head was renewed within a TTL: after that the leader may be gone.
        let is_held =
            known.seen.is_some_and(|seen| self.clock.now().since(seen) < self.lease.ttl());
        let head = known.head.as_ref();
        let leader = head.filter(|head| is_held && head.tenure == head::Tenure::Held);
        let leader = match leader {
            _ if leads => Some(self.machine.clone()),
            // It says itself when it leads.
            Some(head) if head.process == self.process => None,
            Some(head) => machine(&head.node, head.process),
            None => None,
        };
        let store = head.and_then(|head| head.history).map(|history| history.store);
        Group {
            name: self.name.clone(),
            own: self.machine.clone(),
            role: match () {
                () if leads => Role::Leading,
                () if is_loading => Role::Loading,
                () => Role::Following,
            },
            leader,
            others: known.others.clone(),
            term: head.map_or(0, |head| head.term),
            lsn,
            lag: head.map_or(0, |head| head.lsn.saturating_sub(lsn)),
            lease: self.lease.ttl(),
            lease_left: self.lease.rest(&self.clock),
            store: store.map(|store| format!("{store:016x}")).unwrap_or_default(),
            keepers: known.keepers.clone(),
        }
    }
}

/// A node as clients are told of it.
pub fn machine(node: &head::Node, process: u64) -> Option<Machine> {
    let (host, port) = node.address().rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Machine { id: format!("{process:040x}"), host, port: port.parse().ok()? })
}
