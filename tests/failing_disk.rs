//! Promises 1, 2, 4, 5, 6, 7 and 9 on a disk that fails or loses power at every single call.
//!
//! The engine runs in this process on a double of the disk (`double`). One call after the other is
//! made to go wrong, until a run ends in which nothing did (as SQLite tests its own).

mod double;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use double::clients::{
    History, Random, ask, check_restarts, del, open, open_counted, send, send_beside, set, value,
    work,
};
use double::{DoubleDisk, Fault};
use post_gres_rs::command::{Command, Reply};
use post_gres_rs::engine::Fsync;
use post_gres_rs::metrics::Metrics;

#[test]
fn nothing_is_visible_or_acknowledged_before_its_sync() {
    let disk = DoubleDisk::default();
    let engine = Arc::new(open(&disk, Fsync::Always).expect("a fresh log"));
    assert_eq!(ask(&engine, set("other", "there")), Reply::Ok);

    disk.close_gate();
    let inbox = send_beside(&engine, vec![set("key", "new"), del("other")]);
    disk.wait_for_commit_at_gate();
    assert_eq!(inbox.count(), 0, "a reply before the sync");
    assert_eq!(value(&engine, "key"), None, "visible before the sync");
    assert_eq!(value(&engine, "other").as_deref(), Some("there"), "reads wait for no sync");

    disk.open_gate();
    assert_eq!(inbox.wait_for(2), [Reply::Ok, Reply::Integer(1)]);
    assert_eq!(value(&engine, "key").as_deref(), Some("new"));
    assert_eq!(value(&engine, "other"), None);
}

#[test]
fn who_is_alone_commits_and_the_committer_takes_over_what_comes_meanwhile() {
    let disk = DoubleDisk::default();
    let engine = Arc::new(open(&disk, Fsync::Always).expect("a fresh log"));
    let is_led_here = |_| {
        let inbox = send(&engine, vec![set("key", "value")]);
        inbox.wait_for(1);
        inbox.is_from_here()
    };
    // The committer's thread may not have come to rest yet.
    assert!((0..1000).any(is_led_here), "nobody led");

    disk.close_gate();
    let first = send_beside(&engine, vec![set("first", "1")]);
    disk.wait_for_commit_at_gate();
    let second = send(&engine, vec![set("second", "2")]);
    assert_eq!((first.count(), second.count()), (0, 0));
    disk.open_gate();
    assert_eq!(first.wait_for(1), [Reply::Ok]);
    assert_eq!(second.wait_for(1), [Reply::Ok]);
    assert!(!second.is_from_here());
    assert_eq!(value(&engine, "second").as_deref(), Some("2"));
}

#[test]
fn who_leads_leaves_a_sync_that_is_due_to_the_committer() {
    let (disk, metrics) = (DoubleDisk::default(), Arc::<Metrics>::default());
    let engine = open_counted(&disk, Fsync::EverySecond, metrics.clone()).expect("a fresh log");
    // What is tested is that the last sync is more than its second ago.
    std::thread::sleep(Duration::from_millis(1100));
    let before = disk.syncs_from_here();
    let inbox = send(&engine, vec![set("key", "value")]);
    assert_eq!(inbox.wait_for(1), [Reply::Ok]);
    while metrics.syncs.get() == 0 {
        std::thread::yield_now();
    }
    assert_eq!(disk.syncs_from_here(), before, "a read would have waited for it");
}

#[test]
fn a_read_behind_a_write_of_its_own_connection_sees_it_and_waits_for_it() {
    let disk = DoubleDisk::default();
    let engine = Arc::new(open(&disk, Fsync::Always).expect("a fresh log"));
    disk.close_gate();
    let get = Command::Get(b"key"[..].into());
    let inbox = send_beside(&engine, vec![set("key", "1"), get.clone(), set("key", "2"), get]);
    disk.wait_for_commit_at_gate();
    assert_eq!(inbox.count(), 0);
    disk.open_gate();
    let bulk = |text: &'static str| Reply::Bulk(text.as_bytes().into());
    assert_eq!(inbox.wait_for(4), [Reply::Ok, bulk("1"), Reply::Ok, bulk("2")]);
}

/// Seen with other servers: the kernel reports a failed sync once, then says that all is well, and
/// shows the lost bytes from its cache, so a restart serves what no disk holds (PostgreSQL, 2018).
/// Here the restart reads what the device has.
#[test]
fn a_restart_after_a_failed_sync_serves_only_what_the_device_has() {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    assert_eq!(ask(&engine, set("key", "durable")), Reply::Ok);
    wait_until_prepared(&disk);
    disk.fail_log(Fault::LostSync);
    assert!(matches!(ask(&engine, set("key", "lost")), Reply::NotDurable(_)));
    assert_eq!(value(&engine, "key").as_deref(), Some("durable"));
    let restarted = open(&disk.after_kill(), Fsync::Always).expect("restart");
    assert_eq!(value(&restarted, "key").as_deref(), Some("durable"));
}

/// The `segments` thread works beside the test; its calls would be counted among those that fail.
fn wait_until_prepared(disk: &DoubleDisk) {
    let prepared = |disk: &DoubleDisk| {
        let files = disk.files();
        files.get(Path::new("/log/wal_file.next")).is_some_and(|bytes| bytes.len() == 32 << 10)
    };
    while !prepared(disk) {
        std::thread::yield_now();
    }
}

#[test]
fn after_any_failing_call_no_acknowledged_write_is_lost_and_none_is_acknowledged_falsely() {
    let faults = [
        Fault::Error(ErrorKind::StorageFull),
        Fault::Error(ErrorKind::Other),
        Fault::Short,
        Fault::LostSync,
    ];
    let mut tried = 0;
    for fault in faults {
        for at in 1.. {
            let disk = DoubleDisk::default();
            let history = run_until_failure(&disk, fault, at);
            check_restarts(&disk, &history, at as u64);
            if !disk.has_failed() {
                break;
            }
            tried += 1;
        }
    }
    println!("{tried} failing calls, no acknowledged write lost");
}

#[test]
fn power_lost_at_any_call_loses_no_acknowledged_write_also_when_it_is_lost_again_in_recovery() {
    let mut images = 0;
    for at in 1.. {
        let disk = DoubleDisk::default();
        let history = run_until_failure(&disk, Fault::PowerCut, at);
        images += check_restarts(&disk, &history, at as u64);
        if !disk.has_failed() {
            break;
        }
        for again in [2, 5, 13] {
            let mut random = Random(at as u64 * 100 + again as u64);
            let found = disk.after_power_cut(&mut || random.below(2) == 0);
            found.fail_at(again, Fault::PowerCut);
            drop(open(&found, Fsync::Always));
            images += check_restarts(&found, &history, random.next());
        }
    }
    println!("{images} crash images started, no acknowledged write lost");
}

/// The proof of the proof: a disk that says its syncs are done, and loses them, must be found out.
#[test]
fn a_disk_that_lies_about_its_syncs_is_noticed_by_these_tests() {
    let disk = DoubleDisk::default();
    let mut history = History::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    disk.fail_at(1, Fault::Lie);
    work(&engine, &mut history, 1, &mut |_| ());
    let found = open(&disk.after_power_cut(&mut || false), Fsync::Always).expect("restart");
    assert!(history.check(&found).is_err(), "the loss was not noticed");
}

#[test]
fn after_the_first_failure_all_writes_are_refused_with_its_reason_and_reads_go_on() {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    assert_eq!(ask(&engine, set("key", "value")), Reply::Ok);
    wait_until_prepared(&disk);
    disk.fail_log(Fault::Error(ErrorKind::StorageFull));
    let mut first = None;
    while first.is_none() {
        first = match ask(&engine, set("key", "other")) {
            Reply::NotDurable(reason) => Some(reason),
            _ => None,
        };
    }
    for command in [set("new", "value"), del("key"), del("no such key")] {
        assert_eq!(ask(&engine, command), Reply::NotDurable(first.clone().expect("a reason")));
    }
    let get = ask(&engine, Command::Get(b"new"[..].into()));
    assert_eq!(get, Reply::Null);
    assert!(value(&engine, "key").is_some());
    assert!(!engine.close(), "a failed log is not closed in order");
}

/// Seen with other servers: killed before a sync, they replay what only the page cache holds, serve
/// it, and lose it to a power cut after all. Here a start makes it durable before it believes it.
#[test]
fn what_a_restart_after_a_kill_shows_is_still_there_after_a_power_cut() {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Never).expect("a fresh log");
    assert_eq!(ask(&engine, set("key", "never synced")), Reply::Ok);
    let killed = disk.after_kill();
    let restarted = open(&killed, Fsync::Always).expect("restart");
    assert_eq!(value(&restarted, "key").as_deref(), Some("never synced"));
    let cut = open(&killed.after_power_cut(&mut || false), Fsync::Always).expect("restart");
    assert_eq!(value(&cut, "key").as_deref(), Some("never synced"));
}

#[test]
fn with_everysec_a_power_cut_tears_the_tail_and_the_start_goes_on_by_itself() {
    for seed in 0..200 {
        let disk = DoubleDisk::default();
        let mut history = History::default();
        let engine = open(&disk, Fsync::EverySecond).expect("a fresh log");
        work(&engine, &mut history, seed, &mut |_| ());
        let mut random = Random(seed);
        let found = disk.after_power_cut(&mut || random.below(2) == 0);
        open(&found, Fsync::EverySecond).unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    }
}

/// Works on a disk that fails, until the work is done; checks that nothing is acknowledged after
/// the first refusal, and that reads go on.
fn run_until_failure(disk: &DoubleDisk, fault: Fault, at: usize) -> History {
    let mut history = History::default();
    disk.fail_at(at, fault);
    if let Ok(engine) = open(disk, Fsync::Always) {
        work(&engine, &mut history, at as u64, &mut |_| ());
        for (key, value_known) in history.acknowledged_values() {
            assert_eq!(value(&engine, key).as_deref(), value_known, "{fault:?} at call {at}");
        }
        engine.close();
    }
    history
}
