//! On a slow log: reads do not wait for the syncs of others, no client sees what is not yet on disk,
//! and writers share a sync.
//!
//! A log on a quick disk is slowed without any help from the system: writes to one file take
//! turns, so threads that write to the same file, far past the part that the server uses, make each
//! commit wait for its turn. What is asserted are numbers of events, not times.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::common::{Client, Server, StopOnDrop, eventually, in_some_try};

/// An offset that the server's first segments never reach.
const FAR_OFFSET: u64 = 8 << 20;
/// What is written at once: some milliseconds of work.
const CHUNK: usize = 16 << 20;
/// Enough threads that there is always another write waiting.
const THREADS: usize = 3;

/// A test can tell whether reads waited for a commit if at least this many fit into one that waits its turn.
/// If they wait as well, there are only one or two.
const READS_PER_COMMIT: usize = 20;
/// How many reads must get through when several threads share the processors.
const READS_EXPECTED: usize = 5;

#[test]
fn reads_do_not_wait_for_the_syncs_of_others() {
    on_a_slow_log(|server| {
        in_some_try(|| {
            let done = AtomicBool::new(false);
            let reads = AtomicUsize::new(0);
            let writes = 50;
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut reader = Client::connect(server);
                    while !done.load(Relaxed) {
                        assert_eq!(&reader.ask("GET read")[..], "+OK 1");
                        reads.fetch_add(1, Relaxed);
                    }
                });
                let _done = StopOnDrop(&done);
                let mut writer = Client::connect(server);
                for i in 0..writes {
                    assert_eq!(writer.ask(&format!("SET written {i}")), "+OK");
                }
            });
            let reads = reads.into_inner();
            let enough = reads >= writes * READS_EXPECTED;
            if enough { Ok(()) } else { Err(format!("{reads} reads beside {writes} writes")) }
        });
    });
}

#[test]
fn a_write_is_seen_by_others_only_when_it_is_on_disk() {
    on_a_slow_log(|server| {
        let mut writer = Client::connect(server);
        let mut reader = Client::connect(server);
        assert_eq!(writer.ask("SET k 0"), "+OK");
        in_some_try(|| {
            let mut old = 0;
            let mut new = 0;
            for round in 1..=50 {
                writer.send(format!("SET k {round}\n"));
                while !writer.has_reply() {
                    match reader.ask("GET k") == format!("+OK {round}") {
                        true => new += 1,
                        false => old += 1,
                    }
                }
                assert_eq!(writer.line(), "+OK");
            }
            // The write is visible a moment before its reply is received, long enough for a read or two.
            let said =
                format!("before the reply the old value was read {old}, the new {new} times");
            if new < old { Ok(()) } else { Err(said) }
        });
    });
}

#[test]
fn writers_share_a_sync() {
    on_a_slow_log(|server| {
        in_some_try(|| {
            let before = server.counter("wal_syncs");
            let (clients, writes) = (50, 10);
            std::thread::scope(|scope| {
                for index in 0..clients {
                    scope.spawn(move || {
                        let mut client = Client::connect(server);
                        for i in 0..writes {
                            assert_eq!(client.ask(&format!("SET {index} {i}")), "+OK");
                        }
                    });
                }
            });
            let syncs = server.counter("wal_syncs") - before;
            let said = format!("{syncs} syncs for {} writes", clients * writes);
            if syncs * 5 <= clients * writes { Ok(()) } else { Err(said) }
        });
    });
}

#[test]
fn threads_that_only_write_among_many_let_others_finish_until_they_read() {
    on_a_slow_log(|server| {
        if clients_policies(server) != [libc::SCHED_OTHER] {
            return eprintln!("skipped: the tests run under another policy");
        }
        let mut clients: Vec<Client> = (0..32).map(|_| Client::connect(server)).collect();
        eventually("all let others finish", || {
            clients.iter_mut().for_each(|client| client.send("SET k 1\n"));
            clients.iter_mut().for_each(|client| assert_eq!(client.line(), "+OK"));
            clients_policies(server).iter().filter(|policy| **policy == libc::SCHED_BATCH).count()
                == clients.len()
        });
        for client in &mut clients {
            assert_eq!(client.ask("GET k"), "+OK 1");
        }
        let all_are_other =
            || clients_policies(server).iter().all(|policy| *policy == libc::SCHED_OTHER);
        assert!(all_are_other(), "who reads is in a hurry");
        for _ in 0..20 {
            clients.iter_mut().for_each(|client| client.send("SET k 1\nGET k\n"));
            for client in &mut clients {
                assert_eq!([client.line(), client.line()], ["+OK", "+OK 1"]);
            }
        }
        assert!(all_are_other(), "also behind a write");
        for _ in 0..100 {
            assert_eq!(clients[0].ask("SET k 1"), "+OK");
        }
        assert!(all_are_other(), "a client that writes alone is in a hurry");
    });
}

/// The scheduling policies of the server's threads for clients (proc(5), `stat`, field 41).
fn clients_policies(server: &Server) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("its threads");
    let stats =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    let policies = stats.filter_map(|stat| {
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let policy = rest.split_whitespace().nth(38)?.parse().ok()?;
        name.starts_with("client-").then_some(policy)
    });
    policies.collect()
}

#[test]
fn a_pipeline_of_writes_and_reads_pays_for_one_sync() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    client.send("SET k 1\nGET k\nDEL k\nGET k\n".repeat(100));
    for _ in 0..100 {
        let replies = [(); 4].map(|()| client.line());
        assert_eq!(replies, ["+OK", "+OK 1", "+OK", "-GET could not find k in store"]);
    }
    // One packet is read at once; two would still be no sync per write.
    let syncs = client.counter("wal_syncs");
    assert!((1..=2).contains(&syncs), "{syncs} syncs");
}

/// Runs a test on a server whose commits take long, or says that they do not on this machine. One test at
/// a time, since each keeps the machine busy.
fn on_a_slow_log(test: impl Fn(&Server)) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // In the build directory, which is on a disk more often than the one for temporary files.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let stop = AtomicBool::new(false);
    let chunk = vec![0; CHUNK];
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| take_turns(&dir.path().join("wal_file"), &chunk, &stop));
        }
        // Also when the test panics, so that the threads end.
        let _stop = StopOnDrop(&stop);
        let mut client = Client::connect(&server);
        let write = time(20, || assert_eq!(client.ask("SET read 1"), "+OK"));
        let read = time(1000, || assert_eq!(client.ask("GET read"), "+OK 1"));
        eprintln!("a commit takes {write:?}, a read {read:?}");
        match write > read * READS_PER_COMMIT as u32 {
            true => test(&server),
            false => eprintln!("skipped: the log could not be slowed here"),
        }
    });
}

fn take_turns(path: &Path, chunk: &[u8], stop: &AtomicBool) {
    let file = OpenOptions::new().write(true).open(path).expect("the log");
    while !stop.load(Relaxed) {
        file.write_all_at(chunk, FAR_OFFSET).expect("room for some more MiB");
    }
}

fn time(count: u32, mut act: impl FnMut()) -> Duration {
    let started = Instant::now();
    (0..count).for_each(|_| act());
    started.elapsed() / count
}
