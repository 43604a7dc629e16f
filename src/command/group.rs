//! The machines that write one log in turn, as a client is told of them. One leads; the others follow it and take
//! over when it is gone.

use std::time::Duration;

/// One of the machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// 40 hexadecimal digits, other ones after each start.
    pub id: String,
    /// Where clients reach it.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// What a machine does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It alone writes, and answers reads.
    Leading,
    /// It has what the leader has written, but for the last moment.
    Following,
    /// It reads a snapshot, or a long part of the log.
    Loading,
}

/// A member of the cluster that keeps the log, as it answered when it was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    /// `host:port`.
    pub address: String,
    /// What it said; without an answer, why not.
    pub status: Result<KeeperStatus, String>,
}

/// See [`Keeper`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeeperStatus {
    /// Its version.
    pub version: String,
    /// Whether it leads the cluster.
    pub leads: bool,
    /// Bytes of its file, which its quota counts.
    pub file_bytes: u64,
    /// Bytes of the file that are in use.
    pub used_bytes: u64,
    /// What it complains about, such as a file without space.
    pub alarms: Vec<String>,
}

/// All machines, as one of them knows them.
#[derive(Clone, Debug)]
pub struct Group {
    /// The name that clients ask for.
    pub name: String,
    /// The machine that is asked.
    pub own: Node,
    /// What it does.
    pub role: Role,
    /// The one that leads; none while that is not known to hold.
    pub leader: Option<Node>,
    /// All other machines that are up.
    pub others: Vec<Node>,
    /// How often the lead has passed on.
    pub term: u64,
    /// The last record that this machine has stored.
    pub lsn: u64,
    /// Records of the log that it has not stored yet, as of its last look.
    pub lag: u64,
    /// How long a leader that is gone keeps the others waiting.
    pub lease: Duration,
    /// How long this machine may show data if it confirms its lead no more; zero if it does not lead.
    pub lease_left: Duration,
    /// The id of the log, in 16 hexadecimal digits; empty while it is not known.
    pub store: String,
    /// The cluster that keeps the log.
    pub keepers: Vec<Keeper>,
}

/// What happens in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passing {
    /// This machine leads no more.
    Ended,
    /// Another machine leads than before, perhaps this one.
    Leader {
        /// The one before, if it is known.
        from: Option<Node>,
        /// The one that leads.
        to: Node,
    },
}

/// Knows the group.
pub trait Nodes: Send + Sync {
    /// The group as this machine knows it now. Waits for no network.
    fn group(&self) -> Group;
}
