//! Whole nodes on an etcd in memory: tests of what a leader says and shows that was replaced while it waited for an
//! answer.

#[cfg(test)]
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::fake::FakeEtcd;
use super::group::{LEASE, Running, error_of};
use super::keys::Keys;
use crate::command::Reply;

/// A leader and a follower, and a key that is 1.
fn two_nodes(etcd: &Arc<Mutex<FakeEtcd>>) -> (Running, Running) {
    let first = Running::start(etcd, 1001);
    first.wait_until("it leads", Running::leads);
    assert_eq!(first.set("key", "1"), Reply::Ok);
    let second = Running::start(etcd, 1002);
    second.wait_until("it follows", |node| node.nodes.group().lsn == 1);
    (first, second)
}

/// Whether the second batch is in the log.
fn has_second(etcd: &Mutex<FakeEtcd>) -> bool {
    etcd.lock().value(&Keys::new("shop").batch(2)).is_some()
}

#[test]
fn a_batch_that_was_done_before_another_node_took_over_is_acknowledged() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let (first, second) = two_nodes(&etcd);
    first.way.only_batches();
    first.way.mute(true);
    thread::scope(|scope| {
        let set = scope.spawn(|| first.set("key", "2"));
        second.wait_until("it leads", Running::leads);
        assert!(has_second(&etcd));
        first.way.mute(false);
        assert_eq!(set.join().expect("no panic"), Reply::Ok);
    });
    assert_eq!(second.get("key"), Ok(Reply::bulk(b"2")));
    assert!(first.get("key").is_err(), "it leads no more");
}

#[test]
fn a_batch_that_another_node_was_faster_than_is_said_not_to_be_done() {
    for overwrites in [false, true] {
        let etcd = Arc::<Mutex<FakeEtcd>>::default();
        let (first, second) = two_nodes(&etcd);
        first.way.only_batches();
        first.way.cut(true);
        thread::scope(|scope| {
            let set = scope.spawn(|| first.set("key", "2"));
            second.wait_until("it leads", Running::leads);
            if overwrites {
                assert_eq!(second.set("other", "3"), Reply::Ok);
            }
            assert_eq!(has_second(&etcd), overwrites);
            first.way.cut(false);
            let refused = error_of(&set.join().expect("no panic"));
            assert!(refused.contains("nothing was done"), "{refused}");
        });
        assert_eq!(second.get("key"), Ok(Reply::bulk(b"1")));
    }
}

#[test]
fn an_answer_that_comes_late_gives_no_lease_that_begins_then() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let (first, second) = two_nodes(&etcd);
    // Of a renewal, since nobody writes.
    first.way.hold(true);
    second.wait_until("it leads", Running::leads);
    assert_eq!(second.set("key", "2"), Reply::Ok);
    first.way.let_one_through();
    // It has its answer, and waits for that to the next renewal.
    let until = Instant::now() + 2 * LEASE;
    let mut shown = None;
    while Instant::now() < until && shown.is_none() {
        shown = first.get("key").ok();
        thread::sleep(Duration::from_millis(1));
    }
    // Before the test fails: a node that waits for an answer cannot be stopped.
    first.way.hold(false);
    assert_eq!(shown, None, "another node leads, and has changed it");
    first.wait_until("it follows", |node| node.nodes.group().lsn == 2);
}
