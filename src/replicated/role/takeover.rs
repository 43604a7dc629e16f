//! A node that takes over has read the whole log before it leads, also if it stood before: tests of one takeover, step by
//! step, on an etcd in memory.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Candidate, Clock, Follower, Freshness, Next, RoleThread};
use crate::command::{Database, Reply};
use crate::replicated::client::Transport;
use crate::replicated::fake::FakeEtcd;
use crate::replicated::group::{LEASE, Running, Way, opened};

/// The role of a node whose threads do not run.
fn role<T: Transport>(follower: Follower<T>) -> RoleThread<T> {
    let candidate = Candidate::new(LEASE, "n");
    let heed = Box::new(|_| {});
    RoleThread { follower, candidate, heed, told: None, older_since: None, complaints: Vec::new() }
}

#[test]
fn a_node_that_stands_early_leads_only_with_the_whole_log_in_its_store() {
    let etcd = Arc::<Mutex<FakeEtcd>>::default();
    let first = Running::start(&etcd, 1001);
    first.wait_until("it leads", Running::leads);
    for number in 0..20 {
        assert_eq!(first.set(&format!("key{number}"), "value"), Reply::Ok);
    }
    first.kill();

    let opened = opened(&Way::to(&etcd), 1002, 1 << 30);
    let engine = opened.engine.clone();
    let mut role = role(opened.follower);
    let head = role.follower.head(Freshness::Current).expect("an answer").expect("a head");
    role.candidate.see(head.clone(), role.node().clock.now());
    role.follower.check_format(&head).expect("its format");
    role.follower.read_snapshot().expect("nothing yet");
    assert_eq!(role.follower.lsn(), 0, "it has read nothing");
    let Ok(Next::Lead(lead)) = role.stand(&head) else { panic!("it takes over") };
    assert_eq!((lead.head.lsn, lead.tail.next_lsn), (20, 21));
    let mut found = None;
    let key = b"key19";
    engine.store().get(Database::Number(0), key, &mut |entry| {
        found = entry.map(|entry| entry.value().to_vec());
    });
    assert_eq!(found.as_deref(), Some(&b"value"[..]));
}
