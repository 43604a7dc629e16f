//! Starts an engine on a log in etcd, with the threads of its node.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::access::Access;
use super::candidate::Candidate;
use super::client::{Client, Transport};
use super::follower::Follower;
use super::head;
use super::http::Http;
use super::log::EtcdLog;
use super::neighbours::Neighbours;
use super::node::{self, Node};
use super::role::{Heed, RoleThread};
use super::snapshots::EtcdSnapshots;
use super::url::{Compaction, Url};
use crate::command::Nodes;
use crate::engine::{self, Engine};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::sync::spawn_vital;
use crate::upkeep::Snapshots;
use crate::wal::chain;

/// How a node is set up.
pub struct Options {
    /// Where the log is.
    pub url: Url,
    /// Where clients reach this node, `host:port`.
    pub announce: String,
    /// How long a leader that is gone keeps the others waiting.
    pub lease: Duration,
    /// Bytes that etcd's file may have.
    pub quota: u64,
}

/// An engine on a log in etcd, and its node, whose threads do not run yet.
pub struct Opened<T> {
    /// The engine; it refuses data until the node leads.
    pub engine: Arc<Engine>,
    node: Arc<Node>,
    snapshots: Arc<EtcdSnapshots<T>>,
    pub(super) follower: Follower<T>,
    neighbours: Neighbours<T>,
}

/// Opens the log in a real etcd.
pub fn open_at(
    options: &Options,
    access: &Access,
    engine_options: &engine::Options,
    store: Box<dyn Store>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Opened<Http>> {
    let url = &options.url;
    let own_host = options.announce.rsplit_once(':').map(|(host, _)| host);
    let connect = || access.connect(url, own_host);
    open(options, connect, engine_options, store, metrics)
}

/// Opens the log. `connect` makes a client for each role, so that none waits for another's request. Nothing is read
/// yet.
pub fn open<T: Transport + 'static>(
    options: &Options,
    connect: impl Fn() -> anyhow::Result<Client<T>>,
    engine_options: &engine::Options,
    store: Box<dyn Store>,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Opened<T>> {
    let Options { url, announce, lease, quota } = options;
    let process = chain::random().context("no random numbers")?;
    let own = head::Node::new(&format!("{process:016x}"), announce).map_err(|why| anyhow!(why))?;
    let machine = node::machine(&own, process)
        .with_context(|| format!("{announce} is no address: it has to be HOST:PORT"))?;
    let node = Arc::new(Node::new(url.name.clone(), own, machine, process, *lease));
    let log = Box::new(EtcdLog::new(node.clone(), connect()?, metrics.clone()));
    let engine = Arc::new(Engine::over(log, node.clone(), engine_options, store, metrics)?);
    let forgets = url.compaction == Compaction::Ours;
    let snapshots = Arc::new(EtcdSnapshots::new(node.clone(), connect()?, forgets));
    snapshots.attach(engine.handle());
    let follower =
        Follower { node: node.clone(), client: connect()?, engine: engine.handle(), tail: None };
    let neighbours = Neighbours::new(node.clone(), connect()?, *quota);
    Ok(Opened { engine, node, snapshots, follower, neighbours })
}

impl<T: Transport + 'static> Opened<T> {
    /// What clients are told of the group.
    pub fn nodes(&self) -> Arc<dyn Nodes> {
        self.node.clone()
    }

    /// Where the compactor writes snapshots.
    pub fn snapshots(&self) -> Arc<dyn Snapshots> {
        self.snapshots.clone()
    }

    /// Starts the node's threads, which the engine stops before it closes. `heed` is called each time that
    /// another node leads than before.
    pub fn run(self, heed: Heed) -> anyhow::Result<()> {
        let Opened { engine, node, follower, neighbours, .. } = self;
        let candidate = Candidate::new(node.lease.ttl(), node.own.id());
        let role = RoleThread {
            follower,
            candidate,
            heed,
            told: None,
            older_since: None,
            complaints: Vec::new(),
        };
        let role = spawn_vital("role", move || role.run()).context("cannot start a thread")?;
        let neighbours =
            spawn_vital("neighbours", move || neighbours.run()).context("cannot start a thread")?;
        engine.stop_first(Box::new(move || {
            node.stop();
            for thread in [role, neighbours] {
                thread.join().expect("its panic ends the process");
            }
        }));
        Ok(())
    }
}
