//! The `neighbours` thread of a node: tells the others where it is, learns where they are, and watches etcd's space.
//!
//! Each node writes its key every few seconds. One whose value has not changed for three times as long counts as gone;
//! its key is deleted after ten minutes, by a clock of the node that does it. All of it is for SENTINEL and INFO: who leads, the
//! head alone says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{Client, Transport};
use super::decide::attempt_time;
use super::json::Freshness;
use super::kv::{Condition, Kv, Op, Trouble, Txn};
use super::node::{self, Node};
use super::{head, keys::Keys};
use crate::command::Node as Machine;

const INTERVAL: Duration = Duration::from_secs(5);
const GONE_AFTER: Duration = Duration::from_secs(15);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// The most nodes of a group that are told of.
const MOST_NODES: u64 = 64;

/// Writes are refused once etcd's file has this part of its quota: the leader must be able to renew its lease, and to
/// write a snapshot, which is the way out.
const FULL_PERCENT: u64 = 80;

/// See the head of this file.
pub struct Neighbours<T> {
    pub node: Arc<Node>,
    pub client: Client<T>,
    /// Bytes that etcd's file may have.
    pub quota: u64,
    /// Of each node its last value, and since when it has that.
    seen: HashMap<String, (Vec<u8>, Instant)>,
    beats: u64,
}

impl<T: Transport> Neighbours<T> {
    pub fn new(node: Arc<Node>, client: Client<T>, quota: u64) -> Neighbours<T> {
        Neighbours { node, client, quota, seen: HashMap::new(), beats: 0 }
    }

    /// Works until the node stops.
    pub fn run(mut self) {
        while !self.node.is_to_stop() {
            if let Err(trouble) = self.look() {
                log::debug!("neighbours: {trouble:?}");
            }
            self.node.wait(INTERVAL);
        }
        let gone = vec![Op::Delete(self.node.keys.node(self.node.own.id()))];
        let time = attempt_time(self.node.lease.ttl());
        // Otherwise the others notice later.
        let _ = self.client.txn(&Txn::new(Condition::Always, gone, Vec::new()), time);
    }

    fn look(&mut self) -> Result<(), Trouble> {
        let time = attempt_time(self.node.lease.ttl());
        self.watch_space(time)?;
        self.beats += 1;
        let (own, keys) = (&self.node.own, &self.node.keys);
        let value = format!("{} {:016x} {}", own.address(), self.node.process, self.beats);
        let put = vec![Op::Put(keys.node(own.id()), value.into_bytes())];
        self.client.txn(&Txn::new(Condition::Always, put, Vec::new()), time)?;
        let page = self.client.range(&keys.nodes(), MOST_NODES, Freshness::AnyAge, time)?;
        let now = Instant::now();
        let is_listed = |key: &String| page.pairs.iter().any(|(other, _)| other == key);
        self.seen.retain(|key, _| is_listed(key));
        for (key, value) in page.pairs {
            let entry = self.seen.entry(key).or_insert_with(|| (Vec::new(), now));
            if entry.0 != value {
                *entry = (value, now);
            }
        }
        let own_key = keys.node(own.id());
        let others = self
            .seen
            .iter()
            .filter(|(key, (_, since))| **key != own_key && since.elapsed() < GONE_AFTER);
        let mut others: Vec<Machine> =
            others.filter_map(|(key, (value, _))| machine(keys, key, value)).collect();
        others.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        // One that was killed cannot delete its key itself.
        let forgotten = self.seen.iter().find(|(_, (_, since))| since.elapsed() > FORGOTTEN_AFTER);
        if let Some((key, _)) = forgotten {
            let delete = Txn::new(Condition::Always, vec![Op::Delete(key.clone())], Vec::new());
            self.client.txn(&delete, time)?;
        }
        self.node.set_others(others);
        Ok(())
    }

    /// Refuses what adds something while etcd is short of space.
    fn watch_space(&mut self, time: Duration) -> Result<(), Trouble> {
        let status = self.client.status(time)?;
        let is_full = status.errors.iter().any(|error| error.contains("NOSPACE"));
        let health = &self.node.health;
        if is_full || status.file_bytes >= self.quota / 100 * FULL_PERCENT {
            health.is_full(
                &format!(
                    "etcd's file has {} bytes of {} ({} in use): compact and defragment its members, or give them a \
                     larger --quota-backend-bytes, and -wal a larger quota",
                    status.file_bytes, self.quota, status.used_bytes
                )
                .into(),
            );
        } else {
            health.has_room();
        }
        Ok(())
    }
}

fn machine(keys: &Keys, key: &str, value: &[u8]) -> Option<Machine> {
    let id = key.strip_prefix(&keys.node(""))?;
    let mut words = std::str::from_utf8(value).ok()?.split(' ');
    let node = head::Node::new(id, words.next()?).ok()?;
    node::machine(&node, u64::from_str_radix(words.next()?, 16).ok()?)
}
