//! Compaction: the log gets short and nothing else changes; a crash or a failure at any call of it
//! loses nothing; a damaged snapshot is refused.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crate::common::{Client, Rng, Server, StopOnDrop, contents, eventually, seed};
use crate::double::clients::{
    ask, check_restarts, command, history, open, open_counted, open_with, options, read, send,
    send_beside, set, shown, shows_acknowledged_alone, value, work,
};
use crate::double::{DoubleDisk, Fault};
use crate::durability::history::History;
use post_gres_rs::command::{Command, Reply};
use post_gres_rs::engine::{Engine, Fsync};
use post_gres_rs::metrics::{Info, Metrics};
use post_gres_rs::wal;
use rustix::process::Signal;

/// Compacts and waits until that is over, however it ends.
fn compact(engine: &Engine, metrics: &Metrics) {
    let ended = || metrics.compaction.done.get() + metrics.compaction.failed.get();
    let before = ended();
    // Refused if the log has failed.
    let _ = engine.compact();
    eventually("the compaction is over", || {
        ended() > before || engine.health().failure().is_some()
    });
}

/// Works, and compacts twice meanwhile, on a disk of which one call fails.
fn run(disk: &DoubleDisk, fault: Fault, at: usize) -> (History, u64) {
    let (mut history, metrics) = (history(), Arc::<Metrics>::default());
    disk.fail_at(at, fault);
    if let Ok(engine) = open_counted(disk, Fsync::Always, metrics.clone()) {
        work(&engine, &mut history, at as u64, &mut |round| {
            if round % 10 == 5 {
                compact(&engine, &metrics);
            }
        });
        shows_acknowledged_alone(&history, &engine, &format!("{fault:?} at call {at}"));
        engine.close();
    }
    (history, metrics.compaction.done.get())
}

#[test]
fn power_lost_at_calls_during_compactions_loses_nothing() {
    lose_power_at_every(7);
}

#[test]
#[ignore = "takes the better part of a minute; for CI"]
fn power_lost_at_any_call_during_compactions_loses_nothing() {
    lose_power_at_every(1);
}

fn lose_power_at_every(step: usize) {
    let (mut images, mut compactions) = (0, 0);
    for at in (1..).step_by(step) {
        let disk = DoubleDisk::default();
        let (history, done) = run(&disk, Fault::PowerCut, at);
        compactions += done;
        images += check_restarts(&disk, &history, at as u64);
        if !disk.has_failed() {
            assert_eq!(done, 2, "a run in which nothing fails compacts twice");
            break;
        }
        // The start, which deletes what is left over, loses power too.
        for again in [3, 9, 14] {
            let mut rng = Rng::new(at as u64 * 100 + again as u64);
            let found = disk.after_power_cut(&mut || rng.below(2) == 0);
            found.fail_at(again, Fault::PowerCut);
            drop(open(&found, Fsync::Always));
            images += check_restarts(&found, &history, rng.next());
        }
    }
    println!("{images} crash images started, {compactions} compactions, nothing lost");
}

#[test]
fn a_compaction_whose_disk_fails_harms_nothing() {
    for fault in [Fault::Error(std::io::ErrorKind::StorageFull), Fault::Short, Fault::LostSync] {
        for at in (1..).step_by(3) {
            let disk = DoubleDisk::default();
            let (history, _) = run(&disk, fault, at);
            check_restarts(&disk, &history, at as u64);
            if !disk.has_failed() {
                break;
            }
        }
    }
}

/// When the server is killed, a snapshot may have its name in the page cache alone. The next start uses it
/// and deletes what it covers, so that start makes the name durable first.
#[test]
fn a_start_deletes_nothing_for_a_snapshot_whose_name_a_power_cut_could_still_take() {
    let (disk, metrics) = (DoubleDisk::default(), Arc::<Metrics>::default());
    let engine = open_counted(&disk, Fsync::Always, metrics.clone()).expect("a fresh log");
    let mut history = history();
    work(&engine, &mut history, 1, &mut |_| ());
    disk.cut_power_after_rename_to(".snapshot");
    engine.compact().expect("asked for");
    eventually("the power is cut", || disk.is_off());
    let killed = disk.after_kill();
    for at in 1.. {
        let disk = killed.after_kill();
        disk.fail_at(at, Fault::PowerCut);
        drop(open(&disk, Fsync::Always));
        // The rename may be lost, and some of the removals after it not.
        for survivors in 0..8_u32 {
            let mut asked = 0;
            let found = disk.after_power_cut(&mut || {
                asked += 1;
                survivors & (1 << (asked % 3)) != 0
            });
            let engine = open(&found, Fsync::Always)
                .unwrap_or_else(|error| panic!("call {at}, survivors {survivors}: {error:#}"));
            shown(&history, &engine).unwrap_or_else(|what| panic!("call {at}: {what}"));
        }
        if !disk.has_failed() {
            break;
        }
    }
    let left = |disk: &DoubleDisk, suffix: &str| {
        let files = disk.files();
        files.keys().filter(|path| path.to_string_lossy().ends_with(suffix)).count()
    };
    assert!(left(&killed, ".log") > 0, "the crash left segments that the snapshot covers");
    let mut files = killed.files();
    files.insert("/log/wal_file.snapshotting".into(), vec![0; 4096]);
    let disk = DoubleDisk::with_files(&files);
    let engine = open(&disk, Fsync::Always).expect("restart");
    assert_eq!(["snapshot", ".log", ".snapshotting"].map(|kind| left(&disk, kind)), [1, 0, 0]);
    drop(engine);
}

/// A snapshot holds a part of what is written while it is made. If batches are not synced, the rest must be
/// durable before the snapshot gets its name.
#[test]
fn a_power_cut_just_after_a_snapshot_has_its_name_takes_no_part_of_a_batch() {
    const KEYS: usize = 40;
    let (disk, metrics) = (DoubleDisk::default(), Arc::<Metrics>::default());
    let engine = Arc::new(open_counted(&disk, Fsync::Never, metrics).expect("a fresh log"));
    let write = |engine: &Engine, text: &str| {
        let all = (0..KEYS).map(|key| set(&format!("key{key}"), &text.repeat(20_000)));
        send(engine, all.collect()).wait_for(KEYS);
    };
    write(&engine, "1");
    let beside = engine.clone();
    // The first frame is full: some keys are in it.
    let act = Box::new(move || write(&beside, "2"));
    disk.before_write_to(Path::new("/log/wal_file.snapshotting"), 4096, act);
    disk.cut_power_after_rename_to(".snapshot");
    engine.compact().expect("asked for");
    eventually("the power is cut", || disk.is_off());
    for survive in 0..6 {
        let mut asked = 0;
        // The names are asked for first.
        let found = disk.after_power_cut(&mut || {
            asked += 1;
            asked <= survive
        });
        let found = open(&found, Fsync::Never).expect("restart");
        let first =
            |key: usize| value(&found, &format!("key{key}")).map(|text| text[..1].to_owned());
        let values: BTreeSet<_> = (0..KEYS).map(first).collect();
        assert_eq!(values.len(), 1, "{survive} names survive: {values:?}");
    }
}

#[test]
fn a_snapshot_that_the_device_gives_back_otherwise_than_it_was_written_counts_for_nothing() {
    let (disk, metrics) = (DoubleDisk::default(), Arc::<Metrics>::default());
    let engine = open_counted(&disk, Fsync::Always, metrics.clone()).expect("a fresh log");
    let mut history = history();
    work(&engine, &mut history, 1, &mut |_| ());
    disk.garble(Path::new("/log/wal_file.snapshotting"));
    compact(&engine, &metrics);
    assert_eq!((metrics.compaction.done.get(), metrics.compaction.failed.get()), (0, 1));
    eventually("what was written is deleted", || {
        !disk.files().contains_key(Path::new("/log/wal_file.snapshotting"))
    });
    check_restarts(&disk, &history, 1);
}

#[test]
fn a_compaction_changes_no_data() {
    let (disk, metrics) = (DoubleDisk::default(), Arc::<Metrics>::default());
    let engine = open_counted(&disk, Fsync::Always, metrics.clone()).expect("a fresh log");
    for number in 0..2000 {
        // Short ones share a frame, long ones are copied alone, and one is larger than a segment.
        let length = if number == 7 { 300_000 } else { (number % 13) * 700 };
        let (key, value) = (format!("key{number}"), "v".repeat(length));
        assert_eq!(ask(&engine, set(&key, &value)), Reply::Ok);
    }
    assert_eq!(ask(&engine, set("overwritten", "old")), Reply::Ok);
    compact(&engine, &metrics);
    assert_eq!(metrics.compaction.done.get(), 1);
    assert_eq!(ask(&engine, set("overwritten", "new")), Reply::Ok);
    assert_eq!(ask(&engine, Command::Del(vec![b"key1"[..].into()])), Reply::Integer(1));

    let names: Vec<_> = disk
        .files()
        .into_keys()
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    let of_kind = |suffix: &str| names.iter().filter(|name| name.ends_with(suffix)).count();
    assert_eq!(
        (of_kind(".snapshot"), of_kind(".log"), of_kind(".snapshotting")),
        (1, 0, 0),
        "{names:?}"
    );

    let found = open(&disk.after_power_cut(&mut || false), Fsync::Always).expect("restart");
    assert_eq!(found.store().len(), 2000);
    assert_eq!(value(&found, "overwritten").as_deref(), Some("new"));
    for number in [0, 2, 7, 12, 1999] {
        let key = format!("key{number}");
        assert_eq!(value(&found, &key), value(&engine, &key), "{key}");
    }
}

#[test]
fn two_starts_on_one_log_hash_differently() {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    send(&engine, (0..3000).map(|number| set(&format!("key{number}"), "")).collect())
        .wait_for(3000);
    drop(engine);
    let walks: Vec<_> = (0..2)
        .map(|_| walk(&open(&disk.after_power_cut(&mut || true), Fsync::Always).expect("restart")))
        .collect();
    assert_ne!(walks[0], walks[1], "the same hash twice");
}

/// The steps of a walk through all keys: each shows the keys of one leaf, as the hash spreads them.
fn walk(engine: &Engine) -> Vec<BTreeSet<Vec<u8>>> {
    let (mut cursor, mut steps) = ("0".to_owned(), Vec::new());
    loop {
        let step = command(&["scan", &cursor, "count", "1"]);
        let reply = read(engine, &step);
        let Reply::Array(parts) = reply else { panic!("SCAN answered {reply:?}") };
        let [Reply::Bulk(next), Reply::Array(keys)] = &parts[..] else { panic!("{parts:?}") };
        cursor = String::from_utf8_lossy(next).into_owned();
        let key = |key: &Reply<'_>| match key {
            Reply::Bulk(key) => key.to_vec(),
            other => panic!("a key is {other:?}"),
        };
        steps.push(keys.iter().map(key).collect());
        if cursor == "0" {
            return steps;
        }
    }
}

#[test]
fn a_damaged_or_missing_snapshot_is_refused_with_its_name_and_nothing_is_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    for number in 0..100 {
        assert_eq!(client.ask(&format!("SET key{number} value")), "+OK");
    }
    server.signal(Signal::USR1);
    server.wait_for_log("compacted the log");
    assert_eq!(client.ask("SET after it"), "+OK");
    server.stop();

    let snapshot = dir.path().join("wal_file.100.snapshot");
    let whole = fs::read(&snapshot).expect("a snapshot of 100 records");
    let mut rng = Rng::new(seed());
    for _ in 0..40 {
        let mut bytes = whole.clone();
        match rng.below(4) {
            0 => bytes.truncate(rng.below(whole.len())),
            1 => bytes.extend_from_slice(&[0; 4096]),
            // The rest of a block is padding, and holds no data.
            _ => bytes[rng.below(4) * 1024] ^= 1 << rng.below(8),
        }
        let padding = bytes.len() == whole.len() && open_is_same(&whole, &bytes);
        fs::write(&snapshot, &bytes).expect("written");
        let before = contents(dir.path());
        if padding {
            continue;
        }
        let refusal = Server::refusal(dir.path(), &[]);
        assert!(refusal.stderr.contains("wal_file.100.snapshot: "), "{}", refusal.stderr);
        assert_eq!(contents(dir.path()), before, "something was changed");
    }
    fs::remove_file(&snapshot).expect("removed");
    let refusal = Server::refusal(dir.path(), &[]);
    assert!(refusal.stderr.contains("segment 1 is missing"), "{}", refusal.stderr);

    fs::write(&snapshot, &whole).expect("written");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("GET key99"), "+OK value");
    assert_eq!(client.ask("GET after"), "+OK it");
    server.stop();
}

/// Whether a change is after the payload of a frame, where zeros fill the block up.
fn open_is_same(whole: &[u8], changed: &[u8]) -> bool {
    let at = whole.iter().zip(changed).position(|(a, b)| a != b);
    at.is_none_or(|at| at >= 4096 && whole[at] == 0)
}

#[test]
fn the_log_stays_short_by_itself_under_load_and_over_kills() {
    let dir = tempfile::tempdir().expect("a directory");
    let flags = ["-compact-least", "300000"];
    let mut written = [0; 20];
    for round in 0..3 {
        let server = Server::start(dir.path(), &flags);
        let mut client = Client::connect(&server);
        let target = server.counter("wal_compactions") + 2;
        let mut number = 0;
        eventually("it compacts", || {
            for (key, last) in written.iter_mut().enumerate() {
                number += 1;
                *last = round * 1_000_000 + number;
                assert_eq!(client.ask(&format!("SET key{key} {last}")), "+OK");
            }
            number % 100 == 0 && client.counter("wal_compactions") >= target
        });
        server.kill9();
    }
    let size: u64 = contents(dir.path())
        .into_iter()
        .filter(|(name, _)| name.ends_with(".log") || name.ends_with(".snapshot"))
        .map(|(_, bytes)| bytes.len() as u64)
        .sum();
    assert!(size < 20 << 20, "{size} bytes are left");
    let server = Server::start(dir.path(), &flags);
    let mut client = Client::connect(&server);
    for (key, last) in written.iter().enumerate() {
        assert_eq!(client.ask(&format!("GET key{key}")), format!("+OK {last}"));
    }
    assert!(Path::new(dir.path()).join("wal_file").exists());
    server.stop();
}

/// Lets held threads of the engine go on when a test panics.
struct AllowOnDrop<'a>(&'a DoubleDisk);

impl Drop for AllowOnDrop<'_> {
    fn drop(&mut self) {
        self.0.allow_preparations(None);
    }
}

/// On a busy disk a segment may not be prepared before the committer waits for it.
#[test]
fn a_compaction_needs_no_segment_that_is_ready_before_it_is_needed() {
    let (disk, metrics) = (DoubleDisk::default(), Arc::<Metrics>::default());
    // The first one is used at once.
    disk.allow_preparations(Some(1));
    let engine = open_counted(&disk, Fsync::Always, metrics.clone()).expect("a fresh log");
    let engine = Arc::new(engine);
    let _allow = AllowOnDrop(&disk);
    ask(&engine, set("key", "in the first segment"));
    assert_eq!(engine.compact(), Ok(()));
    let mut rounds = 0;
    eventually("the compaction ends", || {
        rounds += 1;
        let value = rounds.to_string().repeat(10_000);
        let syncs = disk.syncs();
        let written = send_beside(&engine, vec![set("key", &value), set("other", &value)]);
        if rounds > 1 {
            eventually("the committer goes on to the next segment", || disk.syncs() > syncs);
            disk.allow_preparations(Some(1));
        }
        assert_eq!(written.wait_for(1), [Reply::Ok, Reply::Ok]);
        metrics.compaction.done.get() == 1
    });
    disk.allow_preparations(None);
    assert!(engine.close());

    let files = disk.files();
    let covered = |path: &&PathBuf| path.to_string_lossy().ends_with("0000000001.log");
    assert_eq!(files.keys().find(covered), None, "what the snapshot covers is deleted");
    let engine = open(&disk.after_kill(), Fsync::Always).expect("the log starts by itself");
    assert_eq!(value(&engine, "key"), Some(rounds.to_string().repeat(10_000)));
    assert!(engine.close());
}

#[test]
fn a_snapshot_has_no_part_of_a_batch_that_a_power_cut_takes() {
    for fsync in [Fsync::EverySecond, Fsync::Never] {
        let (disk, metrics) = (DoubleDisk::default(), Arc::<Metrics>::default());
        // So long that no rotation makes durable what the compaction has to.
        let bytes = 4 << 20;
        let log =
            wal::Options { first_segment_bytes: bytes, largest_segment_bytes: bytes, ..options() };
        let engine = open_with(&disk, log, fsync, metrics.clone()).expect("a fresh log");
        let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut round = 0;
                while !stop.load(Relaxed) {
                    if round == rounds.load(Relaxed) {
                        std::thread::yield_now();
                        continue;
                    }
                    round += 1;
                    // In one command, since several may be split among batches.
                    let value = round.to_string();
                    let pairs = keys.iter().flat_map(|key| [*key, &*value]);
                    let mset: Vec<&str> = ["mset"].into_iter().chain(pairs).collect();
                    ask(&engine, command(&mset));
                }
            });
            let _stop = StopOnDrop(&stop);
            for _ in 0..20 {
                // A batch of these is one block. These are fewer than the new segment of a compaction holds.
                rounds.fetch_add(900, Relaxed);
                compact(&engine, &metrics);
                let found = open(&disk.after_power_cut(&mut || false), fsync).expect("a log");
                let values = keys.map(|key| value(&found, key));
                assert!(values.iter().all(|value| *value == values[0]), "{fsync:?}: {values:?}");
                assert!(found.close());
            }
        });
        assert!(engine.close());
    }
}

#[test]
fn a_compaction_that_was_asked_for_is_scheduled_or_running_until_it_is_over() {
    let (disk, metrics) = (DoubleDisk::default(), Arc::<Metrics>::default());
    let engine = open_counted(&disk, Fsync::Always, metrics.clone()).expect("a fresh log");
    for round in 1..=20 {
        ask(&engine, set(&format!("key{round}"), "value"));
        assert_eq!(engine.compact(), Ok(()));
        let is_over = || {
            let mut info = Info::new(&[]);
            engine.show_persistence(&mut info);
            let text = info.into_text();
            text.contains("aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\n")
        };
        eventually("it is over", is_over);
        assert_eq!(metrics.compaction.done.get(), round);
    }
    assert!(engine.close());
}
