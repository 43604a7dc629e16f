//! Whole nodes on an etcd in memory that was restored from a backup, or whose keys were deleted, or written by a server
//! of an older version: tests of what a node does when the log is not the one that it began with.

#[cfg(test)]
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::entry;
use super::fake::FakeEtcd;
use super::format;
use super::group::{PATIENCE, Running, Way, error_of};
use super::head::{Head, Node};
use super::keys::{Keys, Range};
use super::kv::{Condition, Kv, Op, Txn};
use crate::command::{Command, FIRST, Reply, SetOptions};
use crate::entry::Entry;
use crate::record;
use crate::wal::chain::{Frame, Tail};

/// A leader and a follower, and a log of five records.
fn two_nodes(etcd: &Arc<Mutex<FakeEtcd>>) -> (Running, Running) {
    let leader = Running::start(etcd, 1001);
    leader.wait_until("it leads", Running::leads);
    let follower = Running::start(etcd, 1002);
    write(&leader, "old", 5);
    follower.wait_until("it follows", |node| node.nodes.group().lsn == 5);
    (leader, follower)
}

fn write(node: &Running, value: &str, times: u64) {
    for number in 0..times {
        assert_eq!(node.set(&format!("key{number}"), value), Reply::Ok);
    }
}

/// All of some keys in one batch.
fn write_at_once(node: &Running, records: u64) {
    let set = |n| {
        Command::Set(Entry::new(format!("at once {n}").as_bytes(), b"new"), SetOptions::default())
    };
    let reply = node.run(Command::Transaction((0..records).map(set).collect(), None));
    assert_eq!(reply, Reply::Array(vec![Reply::Ok; records as usize]));
}

/// Waits until a node has closed its log, and checks that it says so to all.
fn closes(node: &Running, why: &str) {
    let failure = |node: &Running| node.engine.health().failure().map(|it| it.0.to_string());
    node.wait_until(why, |node| failure(node).is_some());
    let said = failure(node).expect("it has failed");
    assert!(said.contains(why), "{said}");
    assert!(said.contains("restart it"), "{said}");
    let refused = node.get("key0").expect_err("it shows nothing");
    assert!(refused.starts_with("MISCONF") && refused.contains(why), "{refused}");
    let refused = error_of(&node.set("key0", "more"));
    assert!(refused.starts_with("MISCONF") && refused.contains(why), "{refused}");
    // A write that happens to change nothing shows what was there.
    let refused = error_of(&node.run(Command::Del(vec![b"nothing"[..].into()])));
    assert!(refused.starts_with("MISCONF"), "{refused}");
}

fn head_of(etcd: &Mutex<FakeEtcd>) -> Head {
    Head::parse(&etcd.lock().value("/shop/head").expect("a head")).expect("a head")
}

fn carry_out(etcd: &Arc<Mutex<FakeEtcd>>, ops: Vec<Op>) {
    assert!(
        Way::to(etcd).client().txn(&Txn::new(Condition::Always, ops, Vec::new()), PATIENCE).is_ok()
    );
}

fn delete_all(etcd: &Arc<Mutex<FakeEtcd>>) {
    carry_out(etcd, vec![Op::DeleteRange(Range { from: "/shop/".into(), to: "/shop0".into() })]);
}

#[test]
fn a_leader_and_a_follower_close_when_etcd_was_restored_from_an_older_state() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let (leader, follower) = two_nodes(&etcd);
    let backup = etcd.lock().clone();
    write(&leader, "acknowledged and gone", 5);
    follower.wait_until("it follows", |node| node.nodes.group().lsn == 10);
    let restored = head_of(&Mutex::new(backup.clone()));
    *etcd.lock() = backup;
    closes(&leader, "restored from an older state");
    closes(&follower, "restored from an older state");
    assert_eq!(head_of(&etcd), restored, "neither of them has written on");
    let third = Running::start(&etcd, 1003);
    third.wait_until("a restart begins with what is there", Running::leads);
    assert_eq!(third.get("key0"), Ok(Reply::bulk(b"old")));
}

#[test]
fn a_follower_closes_when_another_server_has_written_on_from_an_older_state() {
    // Up to its own LSN, beyond it in batches of one record, and with one batch across its LSN.
    for (batches, at_once) in [(5, 0), (8, 0), (4, 3)] {
        let etcd = Arc::<Mutex<FakeEtcd>>::default();
        let (leader, follower) = two_nodes(&etcd);
        let backup = etcd.lock().clone();
        write(&leader, "acknowledged and gone", 5);
        follower.wait_until("it follows", |node| node.nodes.group().lsn == 10);
        follower.way.cut(true);
        leader.kill();
        *etcd.lock() = backup;
        let third = Running::start(&etcd, 1003);
        third.wait_until("it leads", Running::leads);
        write(&third, "new", batches);
        if at_once > 0 {
            write_at_once(&third, at_once);
        }
        let lsn = 5 + batches + at_once;
        assert_eq!(head_of(&etcd).lsn, lsn);
        follower.way.cut(false);
        closes(&follower, "has gone another way");
        drop(follower);
        let again = Running::start(&etcd, 1004);
        again.wait_until("it follows", |node| node.nodes.group().lsn == lsn);
        third.kill();
        again.wait_until("it leads", Running::leads);
        assert_eq!(again.get("key0"), Ok(Reply::bulk(b"new")));
    }
}

#[test]
fn a_leader_that_was_cut_off_closes_when_another_server_has_written_on_from_an_older_state() {
    for batches in [2, 5] {
        let etcd = Arc::<Mutex<FakeEtcd>>::default();
        let (leader, follower) = two_nodes(&etcd);
        drop(follower);
        let backup = etcd.lock().clone();
        write(&leader, "acknowledged and gone", 5);
        leader.way.cut(true);
        // Until it leads no more.
        assert!(error_of(&leader.set("key0", "lost")).contains("not known whether"));
        *etcd.lock() = backup;
        let third = Running::start(&etcd, 1003);
        third.wait_until("it leads", Running::leads);
        write(&third, "new", batches);
        leader.way.cut(false);
        closes(&leader, "has gone another way");
    }
}

#[test]
fn a_write_that_meets_another_log_is_answered_with_that_and_so_is_the_read_after_it() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let (leader, follower) = two_nodes(&etcd);
    drop(follower);
    let backup = etcd.lock().clone();
    write(&leader, "acknowledged and gone", 1);
    leader.way.cut(true);
    *etcd.lock() = backup;
    let set = Command::Set(Entry::new(b"key0", b"lost"), SetOptions::default());
    let both = vec![set, Command::Get(b"key1"[..].into())];
    let replies = std::thread::scope(|scope| {
        let waits = scope.spawn(|| leader.run_all(both));
        let third = Running::start(&etcd, 1003);
        third.wait_until("it leads", Running::leads);
        write(&third, "new", 1);
        leader.way.cut(false);
        waits.join().expect("it is answered")
    });
    for reply in &replies {
        let refused = error_of(reply);
        assert!(refused.starts_with("MISCONF the log in etcd has gone another way"), "{refused}");
    }
}

#[test]
fn a_node_does_not_begin_a_log_anew_whose_keys_were_deleted_while_it_had_it() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let (leader, follower) = two_nodes(&etcd);
    let before = etcd.lock().clone();
    delete_all(&etcd);
    closes(&leader, "its keys were deleted");
    closes(&follower, "its keys were deleted");
    assert_eq!(etcd.lock().value("/shop/head"), None);
    // They have waited for so long that they would take over at once.
    *etcd.lock() = before;
    let term = head_of(&etcd).term;
    let third = Running::start(&etcd, 1003);
    third.wait_until("it leads", Running::leads);
    assert_eq!(head_of(&etcd).term, term + 1, "a closed node leads no more, whatever comes back");
}

#[test]
fn a_node_neither_leads_nor_follows_another_log_that_has_the_name_of_its_own() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let (leader, follower) = two_nodes(&etcd);
    let before = etcd.lock().revision();
    follower.way.cut(true);
    leader.kill();
    delete_all(&etcd);
    let third = Running::start(&etcd, 1004);
    third.wait_until("it leads", Running::leads);
    write(&third, "new", 7);
    follower.way.cut(false);
    closes(&follower, "another log has this name now");

    // A member that lags shows the log that was deleted, and nobody falls for it.
    let late = Running::start(&etcd, 1005);
    late.wait_until("it follows", |node| node.nodes.group().lsn == 7);
    let asked = late.way.asked();
    late.wait_until("it was shown old heads", |node| {
        let mut etcd = etcd.lock();
        etcd.lag = etcd.revision() - before;
        node.way.asked() > asked + 20
    });
    etcd.lock().lag = 0;
    assert!(late.engine.health().failure().is_none());
    write(&third, "newer", 1);
    late.wait_until("it follows", |node| node.nodes.group().lsn == 8);
}

/// A log as a server of the first version leaves it: heads without a history, and no id.
struct OldServer {
    etcd: Arc<Mutex<FakeEtcd>>,
    keys: Keys,
    head: Head,
    tail: Tail,
}

impl OldServer {
    fn new(etcd: &Arc<Mutex<FakeEtcd>>) -> OldServer {
        let node = Node::new("old", "h:1").expect("a node");
        let head = Head { history: None, ..Head::first(node, 7, 9) };
        let keys = Keys::new("shop");
        let it = OldServer { etcd: etcd.clone(), keys, head, tail: entry::tail(1, 1, 0) };
        let format = Op::Put(it.keys.format(), b"v1".to_vec());
        carry_out(etcd, vec![format, it.put_head()]);
        it
    }

    fn put_head(&self) -> Op {
        Op::Put(self.keys.head(), self.head.to_string().into_bytes())
    }

    fn set(&mut self, key: &str, value: &str) {
        let mut frame = Frame::default();
        let entry = Entry::new(key.as_bytes(), value.as_bytes());
        let set = record::New::Entry(FIRST, &entry);
        frame.push(|frame| set.encode(|piece| frame.extend_from_slice(piece)));
        let key = self.keys.batch(self.tail.next_lsn);
        let (header, value) = entry::encode(&mut frame, &self.tail);
        self.tail.follow(&header);
        (self.head.lsn, self.head.beat) = (self.tail.next_lsn - 1, self.head.beat + 1);
        let head = self.put_head();
        carry_out(&self.etcd, vec![Op::Put(key, value), head]);
    }
}

#[test]
fn a_log_of_the_first_version_gets_an_id_and_a_checksum_by_the_first_takeover() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let mut old = OldServer::new(&etcd);
    old.set("key0", "old");
    let first = Running::start(&etcd, 1001);
    let second = Running::start(&etcd, 1002);
    second.wait_until("it follows", |node| node.nodes.group().lsn == 1);
    old.set("key1", "old");
    second.wait_until("it still follows", |node| node.nodes.group().lsn == 2);
    let one_leads = |_: &Running| first.leads() || second.leads();
    first.wait_until("one of them leads", one_leads);
    let head = head_of(&etcd);
    let history = head.history.expect("of version 2");
    assert_eq!((head.lsn, history.checksum), (2, old.tail.last_checksum));
    assert_eq!(etcd.lock().value("/shop/format"), Some(format::value(history.store)));
    let (leader, follower) = if first.leads() { (first, second) } else { (second, first) };
    assert_eq!(leader.get("key1"), Ok(Reply::bulk(b"old")));
    write(&leader, "new", 1);
    follower.wait_until("it follows", |node| node.nodes.group().lsn == 3);
    assert!(follower.engine.health().failure().is_none());
}

#[test]
fn a_follower_of_an_old_log_notices_by_its_checksum_that_it_was_restored_and_written_on() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let mut old = OldServer::new(&etcd);
    old.set("key0", "old");
    let backup = etcd.lock().clone();
    let node = Running::start(&etcd, 1001);
    old.set("key1", "acknowledged and gone");
    node.wait_until("it follows", |node| node.nodes.group().lsn == 2);
    node.way.cut(true);
    *etcd.lock() = backup;
    let third = Running::start(&etcd, 1002);
    third.wait_until("it leads", Running::leads);
    write(&third, "new", 1);
    node.way.cut(false);
    closes(&node, "has gone another way");
}

#[test]
fn a_log_of_a_version_that_is_not_known_is_neither_shown_nor_led() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let (leader, follower) = two_nodes(&etcd);
    drop(follower);
    let head = head_of(&etcd);
    assert!(leader.engine.close(), "in order");
    for (key, value) in [
        ("/shop/format", "v3 0000000000000001".to_owned()),
        ("/shop/head", format!("v3{}", &head.to_string()[2..])),
    ] {
        let kept = etcd.lock().clone();
        carry_out(&etcd, vec![Op::Put(key.into(), value.into_bytes())]);
        let before = etcd.lock().value("/shop/head");
        let node = Running::start(&etcd, 1003);
        node.wait_until("it asks often", |node| node.way.asked() > 30);
        assert!(node.get("key0").is_err_and(|why| why.starts_with("LOADING")), "{key}");
        assert_eq!(etcd.lock().value("/shop/head"), before, "{key}");
        drop(node);
        *etcd.lock() = kept;
    }
}

#[test]
fn a_node_that_was_without_etcd_for_long_goes_on_if_it_is_still_the_same_log() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let (leader, follower) = two_nodes(&etcd);
    follower.way.cut(true);
    write(&leader, "new", 5);
    leader.kill();
    let third = Running::start(&etcd, 1003);
    third.wait_until("it leads", Running::leads);
    write(&third, "newer", 5);
    write_at_once(&third, 3);
    follower.way.cut(false);
    let began = Instant::now();
    follower.wait_until("it follows", |node| node.nodes.group().lsn == 18);
    assert!(began.elapsed() < PATIENCE - Duration::from_secs(1));
    assert!(follower.engine.health().failure().is_none());
}
