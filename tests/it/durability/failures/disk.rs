//! Promises 1, 2, 4, 5, 6, 7 and 9 on a disk that fails or loses power at every single call.
//!
//! The engine runs in this process on a double of the disk (`double`). One call after the other is
//! made to go wrong, until a run ends in which nothing did (as SQLite tests its own).

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Rng, eventually, seed};
use crate::double::clients::{
    Inbox, ask, check_restarts, command, del, history, is_without_room, open, open_counted,
    open_with, options, send, send_beside, set, shown, shows_acknowledged_alone, value, work,
};
use crate::double::{DoubleDisk, Fault, WITNESS};
use crate::durability::history::History;
use parking_lot::Mutex;
use post_gres_rs::command::{Command, Dialect, FIRST, LineEnd, Reply, SetOptions};
use post_gres_rs::engine::{Engine, Fsync, Operation, Recipient, Room, Submission};
use post_gres_rs::entry::Entry;
use post_gres_rs::metrics::Metrics;
use post_gres_rs::wal;

const ACTIVE: &str = "/log/wal_file";

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
fn a_lone_client_commits_itself_and_the_committer_takes_over_later_writes() {
    let disk = DoubleDisk::default();
    let engine = Arc::new(open(&disk, Fsync::Always).expect("a fresh log"));
    let is_led_here = || {
        let inbox = send(&engine, vec![set("key", "value")]);
        inbox.wait_for(1);
        inbox.is_from_here()
    };
    // The committer's thread may not have come to rest yet.
    eventually("this thread leads", is_led_here);

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
fn a_leader_leaves_a_due_sync_to_the_committer() {
    let (disk, metrics) = (DoubleDisk::default(), Arc::<Metrics>::default());
    let engine = open_counted(&disk, Fsync::EverySecond, metrics.clone()).expect("a fresh log");
    // So that the last sync is more than a second ago.
    std::thread::sleep(Duration::from_millis(1100));
    let before = disk.syncs_from_here();
    let inbox = send(&engine, vec![set("key", "value")]);
    assert_eq!(inbox.wait_for(1), [Reply::Ok]);
    eventually("the committer syncs", || metrics.syncs.get() > 0);
    assert_eq!(disk.syncs_from_here(), before, "a read would have waited for it");
}

#[test]
fn a_read_after_a_write_of_its_own_connection_sees_it_and_waits_for_it() {
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

/// Notes how many replies another client has when its own first one comes.
struct Beside {
    other: Arc<Inbox>,
    had: Mutex<Option<usize>>,
}

impl Recipient for Beside {
    fn deliver(self: Arc<Self>, _: &mut Vec<Operation>) {
        self.had.lock().get_or_insert(self.other.count());
    }
}

#[test]
fn a_long_pipeline_does_not_keep_the_others_waiting_until_its_end() {
    let disk = DoubleDisk::default();
    let engine = Arc::new(open(&disk, Fsync::Always).expect("a fresh log"));
    disk.close_gate();
    let first = send_beside(&engine, vec![set("first", "1")]);
    disk.wait_for_commit_at_gate();
    // Each batch takes some of these.
    let long = vec![set("long", &"x".repeat(600_000)); 10];
    let count = long.len();
    let long = send(&engine, long);
    let beside = Arc::new(Beside { other: long.clone(), had: Mutex::new(None) });
    let short = Operation::new(set("short", "1"), Dialect::Text(LineEnd::Lf), None);
    let sent = engine.submit(Submission::new(beside.clone(), vec![short]));
    assert!(sent.is_ok(), "the engine is open");
    disk.open_gate();
    first.wait_for(1);
    long.wait_for(count);
    let had = beside.had.lock().expect("answered before the end of the long one");
    assert!(had < count, "the long one had {had} replies");
}

/// Seen in a build that was broken on purpose, and noticed by no test: the expirer finds an expired key, a
/// client sets it anew, and then the expirer's removal has its turn. The new value stays.
#[test]
fn a_key_that_is_set_anew_before_its_removal_has_its_turn_stays() {
    let disk = DoubleDisk::default();
    let engine = Arc::new(open(&disk, Fsync::Always).expect("a fresh log"));
    let expired = Command::Set(Entry::expiring(b"key", b"old", Some(1)), SetOptions::default());
    let reclaim =
        || Command::Reclaim([&b"key"[..], b"never there"].map(|key| (FIRST, key.into())).into());
    assert_eq!(ask(&engine, expired.clone()), Reply::Ok);
    send(&engine, vec![set("key", "new"), reclaim()]).wait_for(2);
    assert_eq!(value(&engine, "key").as_deref(), Some("new"), "in one batch");
    send(&engine, vec![reclaim()]).wait_for(1);
    assert_eq!(value(&engine, "key").as_deref(), Some("new"), "in a later one");
    // A key that has expired by then is removed, also from the log.
    send(&engine, vec![expired, reclaim()]).wait_for(2);
    assert_eq!(engine.store().len(), 0);
    let found = open(&disk.after_power_cut(&mut || false), Fsync::Always).expect("restart");
    assert_eq!(found.store().len(), 0);
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
pub fn wait_until_prepared(disk: &DoubleDisk) {
    let is_made = |name: &str| disk.has_durable(name, 32 << 10);
    eventually("both files are made", || {
        is_made("/log/wal_file.next") && is_made("/log/wal_file.reserve")
    });
}

#[test]
fn after_failing_calls_no_acknowledged_write_is_lost_and_none_is_acknowledged_falsely() {
    fail_at_every(SAMPLED);
}

#[test]
#[ignore = "ten thousand starts; the gate runs it"]
fn after_any_failing_call_no_acknowledged_write_is_lost_and_none_is_acknowledged_falsely() {
    fail_at_every(1);
}

/// The tests of every run take one call of this many, and the first of them at random.
const SAMPLED: usize = 4;

/// Lets one call fail, then in the next run the call `step` later, until none did.
fn fail_at_every(step: usize) {
    let faults = [
        Fault::Error(ErrorKind::StorageFull),
        Fault::Error(ErrorKind::Other),
        Fault::Short,
        Fault::LostSync,
    ];
    let mut rng = Rng::new(seed());
    let mut tried = 0;
    for fault in faults {
        for at in (1 + rng.below(step)..).step_by(step) {
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
fn power_lost_at_calls_loses_no_acknowledged_write_also_when_it_is_lost_again_in_recovery() {
    lose_power_at_every(SAMPLED);
}

#[test]
#[ignore = "thousands of starts; the gate runs it"]
fn power_lost_at_any_call_loses_no_acknowledged_write_also_when_it_is_lost_again_in_recovery() {
    lose_power_at_every(1);
}

fn lose_power_at_every(step: usize) {
    let first = 1 + Rng::new(seed()).below(step);
    let mut images = 0;
    for at in (first..).step_by(step) {
        let disk = DoubleDisk::default();
        let history = run_until_failure(&disk, Fault::PowerCut, at);
        images += check_restarts(&disk, &history, at as u64);
        if !disk.has_failed() {
            break;
        }
        for again in [2, 5, 13] {
            let mut rng = Rng::new(at as u64 * 100 + again as u64);
            let found = disk.after_power_cut(&mut || rng.below(2) == 0);
            found.fail_at(again, Fault::PowerCut);
            drop(open(&found, Fsync::Always));
            images += check_restarts(&found, &history, rng.next());
        }
    }
    println!("{images} crash images started, no acknowledged write lost");
}

/// The proof of the proof: a disk that says its syncs are done, and loses them, must be found out.
#[test]
fn a_disk_that_lies_about_its_syncs_is_noticed_by_these_tests() {
    let disk = DoubleDisk::default();
    let mut history = history();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    disk.fail_at(1, Fault::Lie);
    work(&engine, &mut history, 1, &mut |_| ());
    let found = open(&disk.after_power_cut(&mut || false), Fsync::Always).expect("restart");
    assert!(shown(&history, &found).is_err(), "the loss was not noticed");
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
fn data_shown_by_a_restart_after_a_kill_survives_a_power_cut() {
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
        let mut history = history();
        let engine = open(&disk, Fsync::EverySecond).expect("a fresh log");
        work(&engine, &mut history, seed, &mut |_| ());
        let mut rng = Rng::new(seed);
        let found = disk.after_power_cut(&mut || rng.below(2) == 0);
        open(&found, Fsync::EverySecond).unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    }
}

/// Without a sync for each batch a power cut may take any write, and the start cuts the log at the first
/// that is missing. So it finds the state after some batch, whatever was cut before.
#[test]
fn after_power_cuts_without_syncs_the_state_is_one_that_was_there_again_and_again() {
    const KEYS: usize = 4;
    let state = |engine: &Engine| -> Vec<Option<String>> {
        (0..KEYS).map(|key| value(engine, &format!("key{key}"))).collect()
    };
    for seed in 0..150 {
        let mut rng = Rng::new(seed);
        let mut disk = DoubleDisk::default();
        let mut states = vec![vec![None; KEYS]];
        for life in 0..4 {
            let fsync = [Fsync::Never, Fsync::EverySecond][(seed % 2) as usize];
            let engine = open(&disk, fsync)
                .unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error:#}"));
            let found = state(&engine);
            assert!(states.contains(&found), "seed {seed}, life {life}: {found:?}");
            states = vec![found];
            for write in 0..rng.below(12) {
                let text = format!("{life}.{write} {}", "x".repeat(rng.below(5000)));
                ask(&engine, set(&format!("key{}", rng.below(KEYS)), &text));
                states.push(state(&engine));
            }
            let likely = 1 + rng.below(8);
            disk = disk.after_power_cut(&mut || rng.below(10) < likely);
        }
    }
}

/// A start cuts a batch durably before anything is written over it: otherwise half of it may come back
/// after the next power cut, after the batches that were written there.
#[test]
fn a_cut_batch_does_not_come_back_after_the_batches_that_replace_it() {
    let files = two_batches_without_the_first();
    for lost in 0.. {
        let disk = DoubleDisk::with_files(&files);
        let engine = open(&disk, Fsync::Never).expect("torn, not damaged");
        assert_eq!(ask(&engine, set("first", "new")), Reply::Ok);
        // The first `lost` unsynced changes do not reach the disk, and the later ones do.
        let mut asked = 0;
        let found = disk.after_power_cut(&mut || {
            asked += 1;
            asked > lost
        });
        let found = open(&found, Fsync::Never).unwrap_or_else(|e| panic!("{lost} lost: {e:#}"));
        assert_eq!(value(&found, "second"), None, "{lost} sectors lost");
        if lost >= asked {
            break;
        }
    }
}

/// A log of two batches, the first of which a power cut took.
fn two_batches_without_the_first() -> std::collections::HashMap<std::path::PathBuf, Vec<u8>> {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Never).expect("a fresh log");
    assert_eq!(ask(&engine, set("first", "old")), Reply::Ok);
    assert_eq!(ask(&engine, set("second", "old")), Reply::Ok);
    let mut files = disk.files();
    files.remove(Path::new("/log/wal_file.next"));
    files.get_mut(Path::new(ACTIVE)).expect("the active segment")[4096..8192].fill(0);
    files
}

/// The bytes of a torn batch are kept beside the log before they are cut from it, at any moment.
#[test]
fn a_power_cut_while_a_torn_batch_is_cut_leaves_its_bytes_in_the_log_or_beside_it() {
    let files = two_batches_without_the_first();
    let torn = &files[Path::new(ACTIVE)][8192..12288];
    let holds = |bytes: &[u8]| bytes.windows(torn.len()).step_by(4096).any(|part| part == torn);
    for at in 1.. {
        let mut failed = false;
        for survivors in 0..4_u32 {
            let disk = DoubleDisk::with_files(&files);
            disk.fail_at(at, Fault::PowerCut);
            let opened = open(&disk, Fsync::Always);
            failed |= disk.has_failed();
            let mut asked = 0;
            let found = disk.after_power_cut(&mut || {
                asked += 1;
                survivors & (1 << (asked % 2)) != 0
            });
            drop(opened);
            // A half zeroed batch is no longer a batch: then it is beside the log.
            let kept = found.files().values().any(|bytes| holds(bytes));
            assert!(kept, "call {at}, survivors {survivors}: the torn bytes are gone");
            drop(open(&found, Fsync::Always).expect("restart"));
            let kept = found
                .files()
                .into_iter()
                .any(|(path, bytes)| path.to_string_lossy().ends_with(".torn") && holds(&bytes));
            assert!(kept, "call {at}, survivors {survivors}: nothing was kept");
        }
        if !failed {
            break;
        }
    }
}

/// The idle mark says that all before it is durable. While batches are not synced it would say so
/// too early, and when they are, it would not be written again.
#[test]
fn an_idle_mark_waits_until_all_batches_are_synced() {
    let disk = DoubleDisk::default();
    let log = wal::Options { sync: wal::SyncPolicy::Later, ..options() };
    let nothing = &mut |_: wal::reader::Replayed<'_>| Ok(());
    let (mut wal, _) = wal::Wal::open(Arc::new(disk.clone()), log, nothing).expect("a fresh log");
    let block = |number: usize| disk.files()[Path::new(ACTIVE)][number * 4096..][..4096].to_vec();
    let zeros = vec![0; 4096];
    wal.push(|frame| frame.extend_from_slice(b"a record"));
    wal.commit(true).expect("written");
    wal.mark_idle();
    assert!(!wal.is_marked() && block(2) == zeros, "marked before the sync");
    wal.sync().expect("synced");
    wal.mark_idle();
    assert!(wal.is_marked() && block(2) != zeros, "marked after it");
}

/// The same through the engine, and the purpose of the mark: it distinguishes damage to the last batch from
/// a torn write.
#[test]
fn with_everysec_damage_to_a_batch_that_was_synced_and_left_alone_is_refused() {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::EverySecond).expect("a fresh log");
    assert_eq!(ask(&engine, set("key", "value")), Reply::Ok);
    let marked =
        |disk: &DoubleDisk| disk.files()[Path::new(ACTIVE)][8192..].iter().any(|&b| b != 0);
    eventually("the log is marked", || marked(&disk));
    refuses_damage_to(&disk, 4096);
    // A stop syncs before it marks.
    assert_eq!(ask(&engine, set("key", "other")), Reply::Ok);
    assert!(engine.close());
    refuses_damage_to(&disk, 8192);
}

/// Also without the file that notes how far the log was durable.
fn refuses_damage_to(disk: &DoubleDisk, offset: usize) {
    let mut files = disk.files();
    files.remove(Path::new(WITNESS));
    files.remove(Path::new("/log/wal_file.next"));
    files.get_mut(Path::new(ACTIVE)).expect("the active segment")[offset + 70] ^= 1;
    let started = open(&DoubleDisk::with_files(&files), Fsync::EverySecond);
    let error = started.err().expect("damage to a durable batch");
    assert!(format!("{error:#}").contains(&format!("offset {offset}")), "{error:#}");
}

/// A start fills up what an ordered stop has cut off. The file's length is durable before a batch says how
/// long the file is: otherwise a power cut could leave a file that is shorter than its batches say.
#[test]
fn a_write_after_a_restart_survives_a_power_cut_however_the_server_stopped() {
    for stops in 0..3 {
        let disk = DoubleDisk::default();
        let mut last = open(&disk, Fsync::Always).expect("a fresh log");
        for stop in 0..stops {
            assert_eq!(ask(&last, set(&format!("key{stop}"), "value")), Reply::Ok);
            assert!(last.close());
            last = open(&disk, Fsync::Always).expect("restart");
        }
        assert_eq!(ask(&last, set("last", "value")), Reply::Ok);
        let found = open(&disk.after_power_cut(&mut || false), Fsync::Always)
            .unwrap_or_else(|error| panic!("{stops} stops: {error:#}"));
        assert_eq!(found.store().len(), stops + 1);
        assert_eq!(value(&found, "last").as_deref(), Some("value"));
    }
}

/// The engine reports its failure, whichever call failed first: a commit, an idle mark or a sync, for which
/// no client waits, or the last call at the end.
#[test]
fn a_failure_that_no_client_is_told_of_is_known_all_the_same() {
    let knows = |engine: &Engine| engine.health().failure().is_some();
    let wait_until_known = |engine: &Engine| {
        eventually("the failure is known", || knows(engine));
        assert!(matches!(ask(engine, set("key", "refused")), Reply::NotDurable(_)));
        assert!(!engine.close(), "a failed log is not closed in order");
    };
    for fsync in [Fsync::Always, Fsync::EverySecond] {
        let disk = DoubleDisk::default();
        let engine = open(&disk, fsync).expect("a fresh log");
        wait_until_prepared(&disk);
        assert_eq!(ask(&engine, set("key", "value")), Reply::Ok);
        // The next call is the idle mark, or the sync of the second.
        disk.fail_log(Fault::Error(ErrorKind::Other));
        wait_until_known(&engine);
    }
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Never).expect("a fresh log");
    wait_until_prepared(&disk);
    assert_eq!(ask(&engine, set("key", "value")), Reply::Ok);
    disk.fail_log(Fault::Error(ErrorKind::Other));
    assert!(!engine.close(), "the end has failed");
    assert!(knows(&engine));
}

#[test]
fn a_read_after_a_refused_write_does_not_see_it() {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    assert_eq!(ask(&engine, set("key", "durable")), Reply::Ok);
    wait_until_prepared(&disk);
    disk.fail_log(Fault::LostSync);
    let get = Command::Get(b"key"[..].into());
    let replies = send(&engine, vec![set("key", "lost"), get]).wait_for(2);
    assert!(matches!(replies[0], Reply::NotDurable(_)), "{replies:?}");
    assert_eq!(replies[1], Reply::Bulk(b"durable"[..].into()));
    let reason = |reply: &Reply<'_>| match reply {
        Reply::NotDurable(reason) => Some(reason.clone()),
        _ => None,
    };
    let failure = engine.health().failure().map(|failure| failure.0.clone());
    assert_eq!(failure, reason(&replies[0]), "INFO tells the same");
}

/// Works on a disk that fails, until the work is done; checks that nothing is acknowledged after
/// the first refusal, and that reads go on.
fn run_until_failure(disk: &DoubleDisk, fault: Fault, at: usize) -> History {
    let mut history = history();
    disk.fail_at(at, fault);
    if let Ok(engine) = open(disk, Fsync::Always) {
        work(&engine, &mut history, at as u64, &mut |_| ());
        shows_acknowledged_alone(&history, &engine, &format!("{fault:?} at call {at}"));
        engine.close();
    }
    history
}

/// Seen: after a full disk a prepared segment, half filled and of no use, kept the disk full, so that no
/// restart could write; and if none could be prepared, the log was closed for good. Now a half-prepared
/// segment is given back, removals are carried out, and writing goes on when there is room again.
#[test]
fn a_full_disk_closes_nothing_and_a_client_that_removes_and_compacts_gets_out_of_it() {
    let (disk, metrics) = (DoubleDisk::default(), Arc::<Metrics>::default());
    disk.limit(Some(8 << 20));
    // The reserve has the same length: room for two last segments of a quarter, and for the least snapshot.
    let bytes = 256 << 10;
    let log =
        || wal::Options { first_segment_bytes: bytes, largest_segment_bytes: bytes, ..options() };
    let open_log = |disk: &DoubleDisk, metrics| open_with(disk, log(), Fsync::Always, metrics);
    let engine = open_log(&disk, metrics).expect("a fresh log");
    let mut number = 0;
    let mut fill = |engine: &Engine| {
        loop {
            number += 1;
            let reply = ask(engine, set(&format!("key{number}"), &"x".repeat(3000)));
            if is_without_room(&reply) {
                return number;
            }
            assert_eq!(reply, Reply::Ok);
        }
    };
    let refused = fill(&engine);
    drop(engine);
    // A compaction that began by itself, and that the stop has ended, may have given the reserve up.
    let has_reserve = || {
        let files = disk.files();
        files.get(Path::new("/log/wal_file.reserve")).is_some_and(|file| file.len() as u64 == bytes)
    };
    while !has_reserve() {
        let engine = open_log(&disk, Arc::default()).expect("restart");
        eventually("the reserve is made again", has_reserve);
        drop(engine);
    }
    // Others take what is left, and the server is killed: a start needs nothing.
    let found = disk.after_kill();
    found.limit(Some(found.used_bytes()));
    let metrics = Arc::<Metrics>::default();
    let engine = open_log(&found, metrics.clone()).expect("restart");
    found.limit(Some(found.used_bytes()));
    assert_eq!(value(&engine, &format!("key{refused}")), None, "it was refused");
    let refused = fill(&engine);
    assert!(engine.health().failure().is_none(), "nothing is closed");
    assert!(matches!(engine.health().room(), Room::Full(_)));
    // Neither is done without the other.
    let both = send(&engine, vec![set("other", "value"), del("key1")]).wait_for(2);
    assert!(is_without_room(&both[0]), "{both:?}");
    assert_eq!(both[1], Reply::Integer(1));
    assert_eq!(value(&engine, "other"), None);
    assert_eq!(ask(&engine, command(&["flushall"])), Reply::Ok);
    while is_without_room(&ask(&engine, set("other", "value"))) {
        // It may already run by itself.
        let _ = engine.compact();
        assert_eq!(metrics.compaction.error(), "");
    }
    assert_eq!(engine.store().len(), 1);
    for _ in 0..200 {
        // A busy machine may be slower to make a segment than to fill one.
        while is_without_room(&ask(&engine, set("other", &"y".repeat(3000)))) {}
    }
    eventually("there is room again", || engine.health().room() == Room::Enough);
    assert!(engine.close());
    let again = open(&found.after_power_cut(&mut || false), Fsync::Always).expect("restart");
    assert_eq!((again.store().len(), value(&again, &format!("key{refused}"))), (1, None));
}

/// Seen: one short key, overwritten, filled a volume of 150 MB and closed the log for good.
#[test]
fn one_key_that_is_overwritten_lives_on_a_small_disk() {
    let (disk, metrics) = (DoubleDisk::default(), Arc::<Metrics>::default());
    disk.limit(Some(1 << 20));
    let engine = open_counted(&disk, Fsync::Always, metrics.clone()).expect("a fresh log");
    for number in 0..2000 {
        let value = number.to_string().repeat(2000);
        // On a busy machine a compaction may take longer than a batch waits for it; then the next one is taken.
        loop {
            match ask(&engine, set("key", &value)) {
                Reply::Ok => break,
                reply => assert!(is_without_room(&reply), "{reply:?}"),
            }
        }
    }
    assert!(engine.health().failure().is_none(), "nothing is closed");
    assert_eq!(metrics.compaction.error(), "");
    assert!(metrics.compaction.done.get() > 1);
    assert!(engine.close());
}

/// Seen: an idle mark after a full segment, or a batch larger than one, closed the log of a full disk.
#[test]
fn a_batch_for_which_there_is_no_room_at_all_is_refused_as_a_whole_and_the_next_is_taken() {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    wait_until_prepared(&disk);
    disk.limit(Some(disk.used_bytes() + (100 << 10)));
    assert!(is_without_room(&ask(&engine, set("large", &"x".repeat(300 << 10)))));
    assert_eq!(value(&engine, "large"), None);
    disk.limit(None);
    eventually("there is room again", || {
        !is_without_room(&ask(&engine, set("large", &"x".repeat(300 << 10))))
    });
    assert_eq!(ask(&engine, set("key", "value")), Reply::Ok);
    assert!(engine.close());
    let found = open(&disk.after_power_cut(&mut || false), Fsync::Always).expect("restart");
    assert_eq!(value(&found, "large").map(|value| value.len()), Some(300 << 10));
}

const SMALL_SEGMENT: u64 = 128 << 10;

/// A log with segments and a reserve of [`SMALL_SEGMENT`] on a disk of 1 MiB.
fn on_a_small_disk() -> (DoubleDisk, Engine) {
    let disk = DoubleDisk::default();
    disk.limit(Some(1 << 20));
    let log = wal::Options {
        first_segment_bytes: SMALL_SEGMENT,
        largest_segment_bytes: SMALL_SEGMENT,
        ..options()
    };
    let engine = open_with(&disk, log, Fsync::Always, Arc::default()).expect("a fresh log");
    (disk, engine)
}

/// Sets keys, from `key0` on, until the disk has no room for one; returns how many it had room for.
fn fill(engine: &Engine) -> usize {
    (0..)
        .find(|number| {
            is_without_room(&ask(engine, set(&format!("key{number}"), &"x".repeat(3000))))
        })
        .expect("a disk of 1 MiB fills up")
}

/// Seen: expired keys could not be removed if nothing could be added, and the expirer tried it without a
/// pause; when there was no room for all of a batch, none of its keys was removed.
#[test]
fn expired_keys_are_removed_on_a_full_disk() {
    let (_, engine) = on_a_small_disk();
    let at = post_gres_rs::entry::now_millis() + 600;
    for number in 0..4 {
        ask(&engine, set(&format!("expiring{number}"), "value"));
        let key = format!("expiring{number}");
        let expire = command(&["pexpireat", &key, &at.to_string()]);
        assert_eq!(ask(&engine, expire), Reply::Integer(1));
    }
    let number = fill(&engine);
    let expire = command(&["pexpireat", "key0", "1"]);
    assert_eq!(ask(&engine, expire), Reply::Integer(1), "a time that is over removes");
    eventually("what has expired is gone", || engine.store().len() == number - 1);
}

/// Seen: each batch that was too large for the disk left a segment, and INFO said that all was well.
#[test]
fn a_batch_that_is_too_large_for_the_disk_begins_no_segment_and_is_known_until_one_is_taken() {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    wait_until_prepared(&disk);
    disk.limit(Some(disk.used_bytes() + (300 << 10)));
    assert_eq!(ask(&engine, set("key", "value")), Reply::Ok);
    for _ in 0..10 {
        assert!(is_without_room(&ask(&engine, set("large", &"x".repeat(600 << 10)))));
        assert!(matches!(engine.health().room(), Room::Short(_)));
    }
    let full = disk.files().keys().filter(|path| path.to_string_lossy().ends_with(".log")).count();
    assert_eq!(full, 0, "segments");
    assert_eq!(ask(&engine, set("key", "other")), Reply::Ok);
    assert_eq!(engine.health().room(), Room::Enough);
}

/// Seen: the end of the last segment was used up, and FLUSHALL was refused, though there was the reserve.
#[test]
fn removals_go_on_in_a_segment_made_of_the_reserve() {
    let (disk, engine) = on_a_small_disk();
    eventually("the reserve is made", || {
        disk.has_durable("/log/wal_file.reserve", SMALL_SEGMENT as usize)
    });
    let number = fill(&engine);
    disk.limit(Some(disk.used_bytes()));
    // More than fit into the end of one segment and the last one.
    for removed in 0..20 {
        let reply = ask(&engine, del(&format!("key{removed}")));
        assert_eq!(reply, Reply::Integer(1), "DEL number {removed} of {number}");
    }
    assert_eq!(ask(&engine, command(&["flushall"])), Reply::Ok);
}

/// Seen: ENOSPC for a directory's next block closed the log, though nothing had changed.
#[test]
fn a_name_for_which_the_directory_has_no_room_closes_nothing() {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    wait_until_prepared(&disk);
    disk.refuse_next_rename();
    for number in 0..20 {
        let reply = ask(&engine, set(&format!("key{number}"), &"x".repeat(3000)));
        assert!(reply == Reply::Ok || is_without_room(&reply), "{reply:?}");
    }
    assert!(!disk.refuses_rename(), "there was a rotation");
    assert!(engine.health().failure().is_none());
    eventually("writing goes on", || ask(&engine, set("last", "value")) == Reply::Ok);
    assert!(engine.close());
    let again = open(&disk.after_power_cut(&mut || false), Fsync::Always).expect("restart");
    assert_eq!(value(&again, "last").as_deref(), Some("value"));
}
