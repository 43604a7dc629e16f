//! `-fsync everysec`: the sync is on a thread of its own, writers do not wait for it, and nothing is called
//! durable that is not. And: a panic in any thread of the engine ends the process.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

use crate::common::{PATIENCE, eventually, process_of};
use crate::double::clients::{ask, open, open_counted, send, send_beside, set, value};
use crate::double::{DoubleDisk, Fault};
use post_gres_rs::command::Reply;
use post_gres_rs::engine::Fsync;
use post_gres_rs::metrics::Metrics;

/// What was seen: every writer stood still for each sync. Now a write is answered while a sync hangs, and
/// counts as durable only once a sync has ended that covers it.
#[test]
fn a_writer_goes_on_while_a_sync_hangs_and_nothing_is_called_durable_before_it_ends() {
    let (disk, metrics) = (DoubleDisk::default(), Arc::<Metrics>::default());
    let engine = open_counted(&disk, Fsync::EverySecond, metrics.clone()).expect("it starts");
    disk.hold_syncer(true);
    assert_eq!(ask(&engine, set("a", "1")), Reply::Ok);
    disk.wait_for_commit_at_gate();
    assert_eq!(ask(&engine, set("b", "2")), Reply::Ok);
    assert_eq!(value(&engine, "b").as_deref(), Some("2"));
    assert_eq!(metrics.durable_lsn.get(), 0);
    let lost = open(&disk.after_power_cut(&mut || false), Fsync::Always).expect("it starts");
    assert_eq!((value(&lost, "a"), value(&lost, "b")), (None, None));

    disk.hold_syncer(false);
    // Also what was written while the first sync ran, by the next one.
    eventually("all is durable", || metrics.durable_lsn.get() == 2);
    let kept = open(&disk.after_power_cut(&mut || false), Fsync::Always).expect("it starts");
    assert_eq!(value(&kept, "b").as_deref(), Some("2"));
    assert!(engine.close());
}

#[test]
fn a_rotation_and_a_stop_wait_for_the_running_sync_and_lose_nothing() {
    let disk = DoubleDisk::default();
    let engine = Arc::new(open(&disk, Fsync::EverySecond).expect("it starts"));
    disk.hold_syncer(true);
    assert_eq!(ask(&engine, set("a", "1")), Reply::Ok);
    disk.wait_for_commit_at_gate();
    // More than a segment of 32 KiB holds.
    let sets = || (0..20).map(|key| set(&format!("key{key}"), &"x".repeat(4000))).collect();
    let inboxes: Vec<_> = (0..4).map(|_| send_beside(&engine, sets())).collect();
    disk.hold_syncer(false);
    for inbox in inboxes {
        assert!(inbox.wait_for(20).iter().all(|reply| *reply == Reply::Ok));
    }
    // The contents of an older segment were synced before the last one began.
    let cut = open(&disk.after_power_cut(&mut || false), Fsync::Always).expect("it starts");
    assert_eq!(value(&cut, "a").as_deref(), Some("1"));

    assert_eq!(ask(&engine, set("last", "1")), Reply::Ok);
    assert!(engine.close());
    let closed = open(&disk.after_power_cut(&mut || false), Fsync::Always).expect("it starts");
    assert_eq!(value(&closed, "last").as_deref(), Some("1"));
}

#[test]
fn a_sync_that_fails_beside_the_batches_closes_the_log_also_without_writers() {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::EverySecond).expect("it starts");
    assert_eq!(ask(&engine, set("a", "1")), Reply::Ok);
    // Another sync may meet the fault first; in the end one of the log's does.
    eventually("the log is closed", || {
        disk.fail_at(1, Fault::LostSync);
        if engine.health().failure().is_none() && disk.has_failed() {
            ask(&engine, set("a", "1"));
        }
        engine.health().failure().is_some()
    });
    assert!(matches!(ask(&engine, set("b", "1")), Reply::NotDurable(_)));
    assert_eq!(value(&engine, "a").as_deref(), Some("1"), "reads go on");
    assert!(!engine.close());
}

/// Names the thread that is to panic, for the process that is to end by it.
const PANICS_IN: &str = "POST_GRES_RS_TEST_PANICS_IN";

#[test]
fn a_panic_in_a_thread_that_others_wait_for_ends_the_process() {
    const SIGABRT: i32 = 6;
    for thread in ["segments", "syncer", "compactor", "watch", "committer"] {
        let output = process_of(module_path!(), "ends_by_a_panic")
            .env(PANICS_IN, thread)
            .output()
            .expect("it can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(SIGABRT), "{thread}: {said}");
        assert!(said.contains("as was asked for"), "{thread}: {said}");
    }
}

#[test]
#[ignore = "only as the process that ends"]
fn ends_by_a_panic() {
    let Ok(thread) = std::env::var(PANICS_IN) else { return };
    let disk = DoubleDisk::default();
    let fsync = if thread == "committer" { Fsync::Always } else { Fsync::EverySecond };
    let engine = Arc::new(open(&disk, fsync).expect("it starts"));
    disk.panic_in(&thread);
    engine.compact().ok();
    // The clients that wait for the thread would wait for ever.
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < deadline {
        let sets = || (0..20).map(|key| set(&format!("key{key}"), &"x".repeat(4000))).collect();
        let beside: Vec<_> = (0..2).map(|_| send_beside(&engine, sets())).collect();
        send(&engine, sets()).wait_for(20);
        beside.iter().for_each(|inbox| drop(inbox.wait_for(20)));
    }
}
