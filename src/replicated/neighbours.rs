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
use super::follower::untold;
use super::json::{Freshness, Status};
use super::kv::{Condition, Kv, Op, Trouble, Txn};
use super::node::{self, Node};
use super::{head, keys::Keys};
use crate::command::{Keeper, KeeperStatus, Node as Machine};

const INTERVAL: Duration = Duration::from_secs(5);
const GONE_AFTER: Duration = Duration::from_secs(15);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// The most nodes of a group that are told of.
const MOST_NODES: u64 = 64;

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
            let time = attempt_time(self.node.lease.ttl());
            self.watch_keepers(time);
            if let Err(trouble) = self.look(time) {
                log::debug!("neighbours: {trouble:?}");
            }
            self.node.wait(INTERVAL);
        }
        let gone = vec![Op::Delete(self.node.keys.node(self.node.own.id()))];
        let time = attempt_time(self.node.lease.ttl());
        // Otherwise the others notice later.
        let _ = self.client.txn(&Txn::new(Condition::Always, gone, Vec::new()), time);
    }

    fn look(&mut self, time: Duration) -> Result<(), Trouble> {
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

    /// Asks every member how it is, and notes the space that they have.
    fn watch_keepers(&mut self, time: Duration) {
        let mut keepers = Vec::new();
        for _ in 0..self.client.members() {
            if self.node.is_to_stop() {
                return;
            }
            let address = self.client.member().to_owned();
            let status = self.client.status(time);
            if self.client.member() == address {
                self.client.next_member();
            }
            let status = status.map(keeper).map_err(|trouble| untold(trouble).to_string());
            keepers.push(Keeper { address, status });
        }
        keepers.sort_unstable_by(|one, other| one.address.cmp(&other.address));
        let known = keepers.iter().filter_map(|keeper| keeper.status.as_ref().ok());
        self.node.space.note(known, self.quota, &self.node.health);
        self.node.set_keepers(keepers);
    }
}

fn keeper(status: Status) -> KeeperStatus {
    let Status { version, id, file_bytes, used_bytes, leader, errors } = status;
    let leads = leader == id && id != 0;
    KeeperStatus { version, leads, file_bytes, used_bytes, alarms: errors }
}

fn machine(keys: &Keys, key: &str, value: &[u8]) -> Option<Machine> {
    let id = key.strip_prefix(&keys.node(""))?;
    let mut words = std::str::from_utf8(value).ok()?.split(' ');
    let node = head::Node::new(id, words.next()?).ok()?;
    node::machine(&node, u64::from_str_radix(words.next()?, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::super::fake::FakeEtcd;
    use super::super::group::Way;
    use super::*;
    use crate::engine::Room;

    const TIME: Duration = Duration::from_secs(1);

    fn neighbours(etcd: &Arc<Mutex<FakeEtcd>>, process: u64, quota: u64) -> Neighbours<Way> {
        let own = head::Node::new(&format!("{process:016x}"), "10.0.0.7:1").expect("a node");
        let machine = node::machine(&own, process).expect("an address");
        let node = Node::new("shop".into(), own, machine, process, Duration::from_secs(3));
        Neighbours::new(Arc::new(node), Way::to(etcd).client(), quota)
    }

    fn others(it: &Neighbours<Way>) -> usize {
        use crate::command::Nodes;
        it.node.group().others.len()
    }

    #[test]
    fn a_node_that_says_nothing_for_long_is_gone_and_its_key_is_deleted_later() {
        let etcd = Arc::<Mutex<FakeEtcd>>::default();
        let (mut one, mut two) = (neighbours(&etcd, 1, 1 << 30), neighbours(&etcd, 2, 1 << 30));
        let key = two.node.keys.node(two.node.own.id());
        two.look(TIME).expect("etcd is there");
        one.look(TIME).expect("etcd is there");
        assert_eq!(others(&one), 1);
        let silent_for = |one: &mut Neighbours<Way>, time: Duration| {
            let since = Instant::now().checked_sub(time).expect("the machine has run for so long");
            one.seen.get_mut(&key).expect("it was seen").1 = since;
            one.look(TIME).expect("etcd is there");
        };
        silent_for(&mut one, GONE_AFTER);
        assert_eq!(others(&one), 0);
        assert!(etcd.lock().value(&key).is_some(), "it may come back");
        two.look(TIME).expect("etcd is there");
        one.look(TIME).expect("etcd is there");
        assert_eq!(others(&one), 1, "it has come back");
        silent_for(&mut one, FORGOTTEN_AFTER);
        assert_eq!(etcd.lock().value(&key), None);
        one.look(TIME).expect("etcd is there");
        assert!(!one.seen.contains_key(&key), "nothing is kept of it");
    }

    #[test]
    fn writes_have_room_while_every_member_has() {
        let etcd = Arc::<Mutex<FakeEtcd>>::default();
        // An empty file of the fake has 16384 bytes.
        let mut full = neighbours(&etcd, 1, 20_000);
        full.watch_keepers(TIME);
        assert!(matches!(full.node.health.room(), Room::Full(why) if why.contains("defragment")));
        let mut fine = neighbours(&etcd, 2, 1 << 20);
        fine.watch_keepers(TIME);
        assert_eq!(fine.node.health.room(), Room::Enough);
        etcd.lock().quota = 1;
        fine.look(TIME).expect_err("etcd is full");
        fine.watch_keepers(TIME);
        assert!(matches!(fine.node.health.room(), Room::Full(_)), "it has an alarm");
        etcd.lock().disarm();
        fine.watch_keepers(TIME);
        assert_eq!(fine.node.health.room(), Room::Enough);
    }
}
