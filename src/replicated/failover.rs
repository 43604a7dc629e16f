//! Whole nodes on an etcd in memory that are killed, cut off, stopped and short of space: tests of what clients see.

#[cfg(test)]
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::fake::FakeEtcd;
use super::group::*;
use super::head::Head;
use super::keys::Keys;
use super::kv::{Condition, Kv, Op, Txn};
use crate::command::{Command, Reply, Role, SetOptions};
use crate::engine::log::Sealed;
use crate::entry::Entry;
use crate::wal::frame::SegmentHeader;

#[test]
fn one_node_leads_and_the_others_have_what_it_wrote_when_it_is_killed() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    let second = Running::start(&etcd, 1002);
    for number in 0..100 {
        assert_eq!(first.set(&format!("key{number}"), &format!("value{number}")), Reply::Ok);
    }
    second.wait_until("it follows", |node| node.nodes.group().lsn == 100);
    assert_eq!(second.nodes.group().leader.map(|leader| leader.port), Some(1001));
    assert!(second.get("key1").expect_err("it does not lead").starts_with("READONLY"));
    assert!(error_of(&second.set("key1", "other")).starts_with("READONLY"));
    first.kill();
    second.wait_until("it leads", Running::leads);
    for number in 0..100 {
        let expected = Reply::bulk(format!("value{number}").as_bytes());
        assert_eq!(second.get(&format!("key{number}")), Ok(expected));
    }
    assert_eq!(second.set("key1", "other"), Reply::Ok);
    assert_eq!(second.nodes.group().term, 3);
}

#[test]
fn an_orderly_stop_hands_the_lead_over_at_once() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    let second = Running::start(&etcd, 1002);
    second.wait_until("it follows", |node| node.nodes.group().role == Role::Following);
    assert!(first.engine.close(), "in order");
    let value = etcd.lock().value("/shop/head").expect("a head");
    second.wait_until("it leads", Running::leads);
    assert!(String::from_utf8_lossy(&value).ends_with(" free"), "{value:?}");
    assert!(first.get("key").is_err(), "what is given back is not shown");
}

#[test]
fn a_leader_that_is_cut_off_shows_nothing_once_another_may_lead_and_follows_when_it_is_back() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    assert_eq!(first.set("key", "1"), Reply::Ok);
    let second = Running::start(&etcd, 1002);
    second.wait_until("it follows", |node| node.nodes.group().lsn == 1);
    first.way.is_cut.store(true, Ordering::SeqCst);
    first.wait_until("its lease is over", |node| !node.leads());
    assert_eq!(first.nodes.group().leader, None, "it tells nobody of itself any more");
    second.wait_until("it leads", Running::leads);
    assert!(first.get("key").is_err(), "its lease was over before the other's began");
    assert_eq!(second.set("key", "2"), Reply::Ok);
    // By then it may have found out by itself, when it renewed its lease.
    let refused = error_of(&first.set("key", "3"));
    let unknown = refused.contains("not known whether this was done");
    assert!(unknown || refused.starts_with("READONLY"), "{refused}");
    first.way.is_cut.store(false, Ordering::SeqCst);
    first.wait_until("it follows", |node| node.nodes.group().lsn == 2);
    assert_eq!(first.passed.load(Ordering::SeqCst), 1);
    assert_eq!(first.nodes.group().leader.map(|leader| leader.port), Some(1002));
    second.kill();
    first.wait_until("it leads again", Running::leads);
    assert_eq!(first.get("key"), Ok(Reply::bulk(b"2")));
}

#[test]
fn a_write_whose_answer_never_came_is_applied_only_as_the_log_has_it() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let node = Running::start(&etcd, 1001);
    node.wait_until("it leads", Running::leads);
    assert_eq!(node.set("key", "1"), Reply::Ok);
    node.way.is_mute.store(true, Ordering::SeqCst);
    let refused = error_of(&node.set("key", "2"));
    assert!(refused.contains("not known whether this was done"), "{refused}");
    assert!(node.get("key").is_err(), "nobody can tell");
    node.way.is_mute.store(false, Ordering::SeqCst);
    node.wait_until("it leads again", Running::leads);
    assert_eq!(node.get("key"), Ok(Reply::bulk(b"2")), "it was done");
}

#[test]
fn a_snapshot_takes_the_place_of_the_log_for_a_node_that_comes_later() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    let value = "x".repeat(10_000);
    for number in 0..200 {
        assert_eq!(first.set(&format!("key{number}"), &value), Reply::Ok);
    }
    assert_eq!(first.engine.compact(), Ok(()));
    let done = |node: &Running| node.engine.metrics().compaction.done.get() == 1;
    first.wait_until("a snapshot", done);
    assert_eq!(first.set("after", "it"), Reply::Ok);
    // All that the snapshot covers; a group that has run for a while has trimmed it.
    let mut client = first.client();
    let covered = Keys::new("shop").batches(1, 201);
    assert_eq!(client.delete_range(&covered, PATIENCE), Ok(200));
    let second = Running::start(&etcd, 1002);
    second.wait_until("it follows", |node| node.nodes.group().lsn == 201);
    first.kill();
    second.wait_until("it leads", Running::leads);
    assert_eq!(second.get("after"), Ok(Reply::bulk(b"it")));
    for number in 0..200 {
        assert_eq!(second.get(&format!("key{number}")), Ok(Reply::bulk(value.as_bytes())));
    }
}

#[test]
fn leftovers_of_earlier_snapshots_go_and_pieces_of_a_later_leader_stay() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let node = Running::start(&etcd, 1001);
    node.wait_until("it leads", Running::leads);
    assert_eq!(node.set("key", "value"), Reply::Ok);
    let (keys, mut client) = (Keys::new("shop"), node.client());
    let (earlier, later, entry) = (keys.piece(5, 1, 0), keys.piece(5, 99, 0), keys.batch(0));
    let put = |key: &String| Op::Put(key.clone(), vec![1]);
    let txn =
        Txn::new(Condition::Always, vec![put(&earlier), put(&later), put(&entry)], Vec::new());
    assert!(client.txn(&txn, PATIENCE).is_ok());
    assert_eq!(node.engine.compact(), Ok(()));
    node.wait_until("a snapshot", |node| node.engine.metrics().compaction.done.get() == 1);
    assert_eq!(etcd.lock().value(&earlier), None);
    assert_eq!(etcd.lock().value(&entry), None, "it is before what is trimmed");
    assert_eq!(
        etcd.lock().value(&later),
        Some(vec![1]),
        "this leader may be one that was stopped for a while"
    );
}

#[test]
fn a_log_whose_head_is_gone_is_not_begun_anew() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    assert_eq!(first.set("key", "value"), Reply::Ok);
    let mut client = Way::to(&etcd).client();
    first.kill();
    let gone = vec![Op::Delete(Keys::new("shop").head())];
    assert!(client.txn(&Txn::new(Condition::Always, gone, Vec::new()), PATIENCE).is_ok());
    let second = Running::start(&etcd, 1002);
    second.wait_until("it asks often", |node| node.way.asked() > 30);
    assert_eq!(etcd.lock().value("/shop/head"), None);
    assert!(!second.leads());
}

#[test]
fn a_leader_that_cannot_renew_its_lease_for_lack_of_space_shows_nothing() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let node = Running::start(&etcd, 1001);
    node.wait_until("it leads", Running::leads);
    assert_eq!(node.set("key", "value"), Reply::Ok);
    etcd.lock().quota = 1;
    node.wait_until("its lease is over", |node| node.get("key").is_err());
    let refused = error_of(&node.run(Command::Del(vec![b"other"[..].into()])));
    assert!(refused.starts_with("TRYAGAIN"), "{refused}");
    etcd.lock().disarm();
    node.wait_until("it leads again", |node| node.get("key").is_ok());
    node.wait_until("it has seen that there is space", |node| {
        node.set("key", "other") == Reply::Ok
    });
}

#[test]
fn a_node_that_starts_or_takes_over_knows_the_snapshot_that_is_there() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    let second = Running::start(&etcd, 1002);
    let value = "x".repeat(100_000);
    for number in 0..30 {
        assert_eq!(first.set(&format!("key{number}"), &value), Reply::Ok);
    }
    second.wait_until("it follows", |node| node.nodes.group().lsn == 30);
    assert_eq!(first.engine.compact(), Ok(()));
    first.wait_until("a snapshot", |node| node.engine.metrics().compaction.done.get() == 1);
    assert_eq!(first.set("after", &value), Reply::Ok);
    let own = first.sizes();
    assert!(own.0 > 3_000_000 && (100_000..200_000).contains(&own.1), "{own:?}");
    let third = Running::start(&etcd, 1003);
    third.wait_until("it follows", |node| node.nodes.group().lsn == 31);
    assert_eq!(third.sizes(), own, "it has read the snapshot");
    drop(third);
    second.wait_until("it follows", |node| node.nodes.group().lsn == 31);
    assert_eq!(second.sizes().0, 0, "it has read what the snapshot covers");
    first.kill();
    second.wait_until("it leads", Running::leads);
    let taken = second.sizes();
    // It knows the end of the snapshot to a megabyte and a batch.
    assert!(taken.0 == own.0 && (own.1..own.1 + 1_200_000).contains(&taken.1), "{taken:?}");
}

#[test]
fn a_node_tells_of_its_lease_the_log_and_each_member_of_etcd() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    let second = Running::start(&etcd, 1002);
    first.wait_until("it has asked", |node| !node.nodes.group().keepers.is_empty());
    let group = first.nodes.group();
    assert!(!group.lease_left.is_zero() && group.lease_left < LEASE, "{group:?}");
    let head = etcd.lock().value("/shop/head").expect("a head");
    assert!(group.store.len() == 16 && String::from_utf8_lossy(&head).contains(&group.store));
    let [keeper] = &group.keepers[..] else { panic!("{group:?}") };
    let status = keeper.status.as_ref().expect("it has answered");
    assert_eq!((keeper.address.as_str(), status.version.as_str()), ("a:1", "3.4.23"));
    assert!(status.leads && status.file_bytes >= status.used_bytes && status.alarms.is_empty());
    second.wait_until("it follows", |node| node.nodes.group().role == Role::Following);
    assert!(second.nodes.group().lease_left.is_zero());
}

#[test]
fn a_follower_that_does_not_hear_of_the_leader_any_more_tells_nobody_of_it() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    let second = Running::start(&etcd, 1002);
    second.wait_until("it follows", |node| node.nodes.group().leader.is_some());
    second.way.cut(true);
    second.wait_until("the leader may be gone", |node| node.nodes.group().leader.is_none());
}

fn set(key: &str, bytes: usize) -> Command {
    Command::Set(Entry::new(key.as_bytes(), &vec![b'x'; bytes]), SetOptions::default())
}

#[test]
fn what_is_longer_than_a_transaction_of_etcd_is_refused_as_a_whole_and_the_rest_is_split() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let node = Running::start(&etcd, 1001);
    node.wait_until("it leads", Running::leads);
    assert_eq!(node.set("key0", "old"), Reply::Ok);
    let lsn = || {
        let value = etcd.lock().value("/shop/head").expect("a head");
        Head::parse(&value).expect("a head").lsn
    };
    let many = (0..3).map(|n| set(&format!("key{n}"), 700_000)).collect();
    let refused = error_of(&node.run(Command::Transaction(many, None)));
    assert!(refused.contains("longer than the log takes") && refused.contains("nothing was done"));
    assert_eq!(lsn(), 1, "nothing is in the log");
    assert_eq!(node.get("key0"), Ok(Reply::bulk(b"old")), "nothing was done");
    assert_eq!(node.get("key2"), Ok(Reply::Null));
    // Those that a client sends one after another are as many batches as they have to be.
    let many = (0..4).map(|n| set(&format!("key{n}"), 900_000)).collect();
    assert_eq!(node.run_all(many), [Reply::Ok, Reply::Ok, Reply::Ok, Reply::Ok]);
    let many = (0..100).map(|n| set(&format!("key{n}"), 60_000)).collect();
    assert!(node.run_all(many).iter().all(|reply| *reply == Reply::Ok));
    let longest = node.run(set("longest", 1 << 20));
    assert_eq!(longest, Reply::Ok);
}

#[test]
fn writes_are_refused_while_etcds_file_is_near_its_quota_and_deletes_are_not() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    assert_eq!(first.set("key", "value"), Reply::Ok);
    assert!(first.engine.close(), "in order");
    // An empty file of the fake has 16 KiB.
    let node = Running::with_quota(&etcd, 1002, 20_000);
    node.wait_until("it leads", Running::leads);
    node.wait_until("it has asked", |node| !node.nodes.group().keepers.is_empty());
    let refused = match node.set("key", "other") {
        Reply::Error(text) => text.to_string(),
        Reply::NotDurable(why) => why.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(refused.contains("room") || refused.contains("quota"), "{refused}");
    assert_eq!(node.get("key"), Ok(Reply::bulk(b"value")));
    assert_eq!(node.run(Command::Del(vec![b"key"[..].into()])), Reply::Integer(1));
}

#[test]
fn a_snapshot_that_etcd_gives_back_otherwise_than_it_was_written_does_not_count() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let node = Running::start(&etcd, 1001);
    node.wait_until("it leads", Running::leads);
    assert_eq!(node.set("key", "value"), Reply::Ok);
    etcd.lock().corrupts = Some("/shop/snap/".into());
    assert_eq!(node.engine.compact(), Ok(()));
    node.wait_until("it has failed", |node| node.engine.metrics().compaction.failed.get() == 1);
    assert_eq!(etcd.lock().value("/shop/snapshot"), None);
}

#[test]
fn a_snapshot_that_was_begun_in_an_earlier_lead_is_not_finished_in_a_later_one() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let node = Running::start(&etcd, 1001);
    node.wait_until("it leads", Running::leads);
    assert_eq!(node.set("key", "value"), Reply::Ok);
    let term = node.nodes.group().term;
    let following = SegmentHeader {
        store_id: 0,
        sequence: term,
        epoch: term,
        first_lsn: 2,
        previous_epoch: term,
        previous_checksum: 7,
        file_bytes: 0,
    };
    let begun = node.snapshots.begin(&Sealed { following, logged: 0 }, 0).expect("it leads");
    node.way.is_mute.store(true, Ordering::SeqCst);
    assert!(error_of(&node.set("key", "other")).contains("not known whether"));
    node.way.is_mute.store(false, Ordering::SeqCst);
    node.wait_until("it leads again", |node| node.leads() && node.nodes.group().term > term);
    assert!(begun.finish(&|| Ok(())).is_err());
    assert_eq!(etcd.lock().value("/shop/snapshot"), None);
}

#[test]
fn a_follower_whose_next_batch_was_trimmed_has_what_is_in_the_snapshot_and_nothing_else() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    let second = Running::start(&etcd, 1002);
    assert_eq!(first.set("deleted", "value"), Reply::Ok);
    second.wait_until("it follows", |node| node.nodes.group().lsn == 1);
    second.way.cut(true);
    assert_eq!(first.run(Command::Del(vec![b"deleted"[..].into()])), Reply::Integer(1));
    assert_eq!(first.set("kept", "value"), Reply::Ok);
    assert_eq!(first.engine.compact(), Ok(()));
    first.wait_until("a snapshot", |node| node.engine.metrics().compaction.done.get() == 1);
    assert_eq!(first.set("after", "it"), Reply::Ok);
    first.kill();
    // As after a while, when the log was trimmed.
    let keys = Keys::new("shop");
    let head = Head::parse(&etcd.lock().value(&keys.head()).expect("a head")).expect("a head");
    let trimmed = head.trimmed(4, head.beat + 1_000_000).to_string().into_bytes();
    let ops = vec![Op::DeleteRange(keys.batches(1, 4)), Op::Put(keys.head(), trimmed)];
    let txn = Txn::new(Condition::Always, ops, Vec::new());
    assert!(Way::to(&etcd).client().txn(&txn, PATIENCE).is_ok());
    second.way.cut(false);
    second.wait_until("it leads", Running::leads);
    assert_eq!(second.get("deleted"), Ok(Reply::Null));
    assert_eq!(second.get("kept"), Ok(Reply::bulk(b"value")));
    assert_eq!(second.get("after"), Ok(Reply::bulk(b"it")));
}
