//! check, dump, backup and import of a log in etcd, as a user runs them: a real etcd, and servers that write and read it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use post_gres_rs::replicated::json::Freshness;
use post_gres_rs::replicated::keys::{Keys, Range};
use post_gres_rs::replicated::kv::{Condition, Kv, Op, Txn};
use rustix::process::Signal;

use super::etcd::{Cluster, TIME};
use super::put;
use crate::common::wire::{self, Value};
use crate::common::{Client, PROGRAM, Rng, Server, eventually, seed};
use crate::tools::{Said, json, new_dir, run_tool};

/// The address of a log.
fn url(cluster: &Cluster, name: &str) -> String {
    format!("etcd://{}/{name}", cluster.member(0))
}

/// A server on a log in etcd that leads.
fn lead(url: &str, flags: &[&str]) -> Server {
    let server = start(url, flags);
    let mut client = Client::connect(&server);
    eventually("it leads", || matches!(wire::say(&mut client, "DBSIZE"), Value::Integer(_)));
    server
}

fn start(url: &str, flags: &[&str]) -> Server {
    let mut command = Command::new(PROGRAM);
    // Long enough for a value of a megabyte on a machine that is busy with other tests; no leader here goes without
    // giving the lead back.
    command.args(["-port", "0", "-announce", "127.0.0.1:1", "-lease", "10s", "-wal", url]);
    Server::spawn(command.args(flags)).expect("the server starts")
}

/// Every key of every database, with its value and its time of expiry.
type Data = BTreeMap<(u16, Vec<u8>), (Value, Value)>;

fn data(server: &Server) -> Data {
    let (mut client, mut data) = (Client::connect(server), Data::new());
    for number in 0..16 {
        assert_eq!(wire::say(&mut client, &format!("SELECT {number}")), Value::ok());
        let Value::Array(keys) = wire::say(&mut client, "KEYS *") else { panic!("a list") };
        for key in keys {
            let Value::Bulk(key) = key else { panic!("{key:?} is no key") };
            let value = wire::ask(&mut client, [b"GET", &key[..]]);
            let expiry = wire::ask(&mut client, [b"PEXPIRETIME", &key[..]]);
            data.insert((number, key), (value, expiry));
        }
    }
    data
}

/// Commands of many kinds, so that the log has whatever a log can have.
fn fill(server: &Server, seed: u64) {
    let (mut rng, mut client) = (Rng::new(seed), Client::connect(server));
    let mut say = |words: &[&[u8]]| {
        let reply = wire::ask(&mut client, words);
        assert!(!matches!(reply, Value::Error(_)), "{reply:?}");
    };
    for number in 0..400 {
        let key = format!("key\0{}", rng.below(150)).into_bytes();
        let value: Vec<u8> = (0..rng.below(3000)).map(|_| rng.next() as u8).collect();
        match rng.below(10) {
            0 => say(&[b"DEL", &key]),
            1 => say(&[b"SET", &key, &value, b"PX", b"100000000"]),
            2 => say(&[b"SELECT", rng.below(5).to_string().as_bytes()]),
            3 if number % 5 == 0 => say(&[b"SWAPDB", b"1", b"3"]),
            4 => say(&[b"MSET", &key, b"1", b"other", b"2"]),
            _ => say(&[b"SET", &key, &value]),
        }
    }
    say(&[b"SELECT", b"4"]);
    say(&[b"FLUSHDB"]);
    say(&[b"SET", b"large", &vec![b'x'; 1 << 20]]);
    say(&[b"SET", b"", b""]);
}

/// All keys of a log but those that servers change all the time.
fn stored(cluster: &Cluster, name: &str) -> Vec<(String, Vec<u8>)> {
    let all = Range { from: format!("/{name}/"), to: format!("/{name}0") };
    let page = cluster.client(None).range(&all, 500, Freshness::Current, TIME).expect("an answer");
    page.pairs
}

#[test]
fn check_and_dump_say_what_is_in_a_log_in_etcd_and_change_nothing() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let url = url(&cluster, "shop");
    run_tool(&["check", "-wal", &url]).expect(2, &["there is no log of this name"]);
    let server = lead(&url, &[]);
    let mut client = Client::connect(&server);
    for words in ["SET a 1", "SET b 2", "SELECT 3", "SET c 3", "SAVE", "SELECT 0"] {
        assert_eq!(wire::say(&mut client, words), Value::ok());
    }
    assert_eq!(wire::say(&mut client, "SET d later"), Value::ok());
    // Beside the server, which renews its lease.
    let parts =
        ["4 in 2 batches", "durable LSN  4", "db0 has 3, db3 has 1", "127.0.0.1:1, in term"];
    run_tool(&["check", "-wal", &url]).expect(0, &parts);
    server.stop();
    let before = stored(&cluster, "shop");
    run_tool(&["check", &url]).expect(0, &["closed in order", "gave the lead back"]);
    let said = run_tool(&["check", "-json", &url]);
    json::assert_valid(&said.out);
    said.expect(0, &["\"state\":\"clean\"", "\"durable_lsn\":4", "\"leads\":false"]);
    let all = run_tool(&["dump", &url]).expect(0, &[" SET a 1\n", " db3 SET c 3\n"]);
    assert!(all.out.ends_with("4 /shop/log/0000000000000004 0 SET d later\n"), "{all:?}");
    assert_eq!(all.out.lines().count(), 4);
    let some = run_tool(&["dump", "-key", "[ad]", "-from-lsn", "4", &url]).expect(0, &[]);
    assert_eq!(some.out, "4 /shop/log/0000000000000004 0 SET d later\n");
    let line = run_tool(&["dump", "-json", "-key", "c", &url]).expect(0, &["\"db\":3"]);
    json::assert_valid(&line.out);
    run_tool(&["dump", "-resp", "-key", "c", &url]).expect(0, &["SELECT\r\n$1\r\n3\r\n", "SET"]);
    run_tool(&["repair", &url]).expect(2, &["repair is for a log in files", "SAVE"]);
    run_tool(&["check", "-wal", "somewhere", "-wal-ca", "x"]).expect(2, &["-wal-ca is for"]);
    assert_eq!(stored(&cluster, "shop"), before);
}

#[test]
fn damage_to_a_log_in_etcd_is_named_with_its_key_and_no_tool_copies_it() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let url = url(&cluster, "shop");
    let server = lead(&url, &[]);
    let mut client = Client::connect(&server);
    for key in 1..=3 {
        assert_eq!(wire::say(&mut client, &format!("SET k{key} v{key}")), Value::ok());
    }
    server.stop();
    let (mut etcd, key) = (cluster.client(None), Keys::new("shop").batch(2));
    let mut value = etcd.get(&key, Freshness::Current, TIME).unwrap().expect("a batch");
    *value.last_mut().expect("a byte") ^= 1;
    etcd.txn(&put(&key, value), TIME).unwrap();
    let before = stored(&cluster, "shop");
    let says = [&key[..], "LSN 2", "Nothing was changed", "SAVE", "post-gres-rs dump -skip-damage"];
    run_tool(&["check", &url]).expect(2, &says);
    let said = run_tool(&["check", "-json", &url]);
    json::assert_valid(&said.out);
    let parts =
        ["\"state\":\"damaged\"", "\"key_in_etcd\":\"/shop/log/0000000000000002\"", "\"lsn\":2"];
    said.expect(2, &parts);
    let said = run_tool(&["dump", &url]).expect(2, &[&key, "-skip-damage"]);
    assert_eq!(said.out, "1 /shop/log/0000000000000001 0 SET k1 v1\n");
    let said = run_tool(&["dump", "-skip-damage", &url]).expect(1, &[&key]);
    let whole =
        "1 /shop/log/0000000000000001 0 SET k1 v1\n3 /shop/log/0000000000000003 0 SET k3 v3\n";
    assert_eq!(said.out, whole);
    let copy = new_dir();
    let to = copy.path().to_str().expect("a name in ASCII");
    run_tool(&["backup", &url, to]).expect(2, &[&key, "no backup was made"]);
    assert!(!copy.path().join("wal_file").exists(), "half a copy has the log's name");
    let other = self::url(&cluster, "other");
    run_tool(&["import", &url, &other]).expect(2, &[&key, "nothing was imported"]);
    assert_eq!(stored(&cluster, "other"), []);
    assert_eq!(stored(&cluster, "shop"), before);
}

#[test]
fn a_log_moves_out_of_etcd_and_into_it_with_all_its_data() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let (seed, first) = (seed(), url(&cluster, "first"));
    let server = lead(&first, &[]);
    fill(&server, seed);
    let mut client = Client::connect(&server);
    assert_eq!(wire::say(&mut client, "SAVE"), Value::ok());
    fill(&server, seed.wrapping_add(1));
    // After any swaps before, the last order is none that a log begins with.
    let mut swap = |words: &str| assert_eq!(wire::say(&mut client, words), Value::ok());
    ["SWAPDB 7 8", "SET here it", "SWAPDB 8 9"].into_iter().for_each(&mut swap);
    let expected = data(&server);
    let lsn = server.counter("wal_durable_lsn");
    assert!(expected.len() > 100, "{} keys", expected.len());

    // Beside the server, and not into the directory of anything else.
    let dir = new_dir();
    let copy = dir.path().join("copy");
    let to = copy.to_str().expect("a name in ASCII");
    let durable = format!("durable LSN  {lsn}");
    run_tool(&["backup", &first, to])
        .expect(0, &["copied, and read back", &durable, "closed in order"]);
    run_tool(&["backup", &first, to]).expect(2, &["is not empty"]);
    server.stop();
    let local = Server::start(&copy, &[]);
    assert!(data(&local) == expected, "the backup has something else");

    // Into another name, from files.
    let second = url(&cluster, "second");
    run_tool(&["import", to, &second]).expect(2, &["is in use by process"]);
    assert_eq!(stored(&cluster, "second"), []);
    local.stop();
    run_tool(&["import", to, &second]).expect(0, &["imported, and read back", &durable]);
    run_tool(&["import", to, &second]).expect(2, &["a log of this name has begun"]);
    let server = lead(&second, &[]);
    assert!(data(&server) == expected, "the import has something else");
    assert_eq!(wire::say(&mut Client::connect(&server), "SET one more"), Value::ok());
    assert_eq!(server.counter("wal_durable_lsn"), lsn + 1, "the LSNs go on");
    server.stop();
    run_tool(&["check", &second]).expect(0, &[&format!("durable LSN  {}", lsn + 1)]);

    // Out of it by import, and from one name to another.
    let out = dir.path().join("out");
    run_tool(&["import", &first, out.to_str().expect("ASCII")]).expect(0, &[&durable]);
    let local = Server::start(&out, &[]);
    assert!(data(&local) == expected, "what was moved out is something else");
    local.stop();
    let third = url(&cluster, "third");
    let said = run_tool(&["import", "-json", &first, &third]).expect(0, &["\"state\":\"clean\""]);
    json::assert_valid(&said.out);
    let server = lead(&third, &[]);
    assert!(data(&server) == expected, "what was moved is something else");
    run_tool(&["import", to, out.to_str().expect("ASCII")])
        .expect(2, &["backup copies one in files"]);
}

#[test]
fn a_value_that_no_log_in_etcd_can_hold_is_refused_before_anything_is_written() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let dir = new_dir();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    for (key, length) in [("fits", 1 << 20), ("z long", (1 << 20) + 1), ("a long", 3_000_000)] {
        let words = [b"SET", key.as_bytes(), &vec![b'x'; length]];
        assert_eq!(wire::ask(&mut client, words), Value::ok());
    }
    server.stop();
    let path = dir.path().join("wal_file");
    let source = path.to_str().expect("ASCII");
    let parts = [
        "2 values are too long",
        "\"a long\" with 3000000 bytes",
        "may have 1048576",
        "Nothing was written",
    ];
    run_tool(&["import", source, &url(&cluster, "shop")]).expect(2, &parts);
    assert_eq!(stored(&cluster, "shop"), []);
}

/// A writer that never stops, while the leader compacts all the time: everything acknowledged before a backup began is in
/// it, and nothing is in it without everything before it.
#[test]
fn a_backup_beside_writers_and_compactions_is_the_log_at_one_lsn() {
    let Some(cluster) = Cluster::start(1, &["--snapshot-count", "5000"]) else { return };
    let url = url(&cluster, "shop");
    let server = lead(&url, &["-compact-least", "100000", "-compact-factor", "1"]);
    let (acknowledged, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut copies = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::connect(&server);
            for key in 1.. {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                let key = format!("k{key}").into_bytes();
                let words = [b"SET".to_vec(), key, vec![b'v'; 2000]];
                assert_eq!(wire::ask(&mut client, words), Value::ok());
                acknowledged.fetch_add(1, Ordering::AcqRel);
            }
        });
        while copies.len() < 6 || server.counter("wal_compactions") < 3 {
            let copy = new_dir();
            let before = acknowledged.load(Ordering::Acquire);
            let said = run_tool(&["backup", &url, copy.path().to_str().expect("ASCII")]);
            if said.code != Some(0) {
                stop.store(true, Ordering::Release);
                panic!("{said:#?}");
            }
            copies.push((before, copy));
        }
        stop.store(true, Ordering::Release);
    });
    server.stop();
    let written = acknowledged.into_inner();
    for (before, copy) in copies {
        let found = crate::tools::keys_of(copy.path(), "k", written + 1);
        assert!(found.len() >= before, "{} of {before} keys are in the copy", found.len());
        assert_eq!(found, (1..=found.len()).collect::<Vec<_>>(), "there are no gaps");
    }
}

#[test]
fn servers_wait_for_the_end_of_an_import_that_was_interrupted_and_lead_with_the_next_one() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let (dir, url, keys) = (crate::tools::small_log(3), url(&cluster, "shop"), Keys::new("shop"));
    // What is left of an import that was killed.
    let left = vec![
        Op::Put(keys.head(), b"importing 00000000000000ab.1".to_vec()),
        Op::Put(keys.piece(3, 1, 0), b"half of it".to_vec()),
        Op::Put(keys.piece(9, 1, 7), b"and more".to_vec()),
    ];
    cluster.client(None).txn(&Txn::new(Condition::Always, left, Vec::new()), TIME).unwrap();
    let server = start(&url, &[]);
    server.wait_for_log("an import into this log has begun and not ended");
    let mut client = Client::connect(&server);
    assert!(matches!(wire::say(&mut client, "GET key1"), Value::Error(_)), "there is no log yet");
    run_tool(&["check", &url]).expect(2, &["has begun and not ended"]);
    let path = dir.path().join("wal_file");
    run_tool(&["import", path.to_str().expect("ASCII"), &url]).expect(0, &["3 in 1 batches"]);
    eventually("it leads", || wire::say(&mut client, "GET key1") == Value::bulk("value1"));
    assert_eq!(data(&server).len(), 3);
}

/// Killed at any moment, an import leaves the whole log or none, and the next one goes on.
#[test]
fn an_import_that_is_killed_leaves_no_log_or_all_of_it() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let (dir, url) = (crate::tools::large_log(14), url(&cluster, "shop"));
    let path = dir.path().join("wal_file");
    let mut import = import_command(&path, &url).spawn().expect("it starts");
    let pieces = Keys::new("shop").all_pieces();
    let mut etcd = cluster.client(None);
    eventually("a piece is there", || {
        let page = etcd.range(&pieces, 1, Freshness::Current, TIME).expect("an answer");
        !page.pairs.is_empty() || import.try_wait().expect("it is a child").is_some()
    });
    let pid = rustix::process::Pid::from_child(&import);
    // It may have ended by now.
    let _ = rustix::process::kill_process(pid, Signal::KILL);
    import.wait().expect("it is a child");
    match run_tool(&["check", &url]) {
        whole @ Said { code: Some(0), .. } => {
            whole.expect(0, &["durable LSN  14"]);
            eprintln!("it was faster");
        }
        none => {
            none.expect(2, &["has begun and not ended"]);
            run_tool(&["import", path.to_str().expect("ASCII"), &url])
                .expect(0, &["durable LSN  14"]);
        }
    }
    let server = lead(&url, &[]);
    assert_eq!(data(&server).len(), 14);
}

fn import_command(path: &Path, url: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("import").arg(path).arg(url).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

#[test]
fn the_tools_prove_who_they_are_as_the_server_does() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    super::add_users(&cluster.member(0));
    let (dir, url) = (crate::tools::small_log(3), url(&cluster, "shop"));
    let path = dir.path().join("wal_file");
    let run = |tool: &str, flags: &[&str], password: Option<&str>| {
        let mut command = Command::new(PROGRAM);
        command.arg(tool).args(flags).stdin(Stdio::null());
        if let Some(password) = password {
            command.env("POST_GRES_RS_ETCD_PASSWORD", password);
        }
        Said::of(&command.output().expect("the program can be run"))
    };
    let (source, user) = (path.to_str().expect("ASCII"), format!("{url}?user=u"));
    run("import", &[source, &user], Some("geheim")).expect(0, &["3 in 1 batches"]);
    run("check", &[&user], Some("geheim")).expect(0, &["durable LSN  3"]);
    run("check", &[&user], Some("falsch")).expect(2, &["authentication failed"]);
    run("check", &[&user], None).expect(2, &["both or neither"]);
    run("check", &[&url], None).expect(2, &["user name is empty"]);
    let other = self::url(&cluster, "other?user=u");
    run("import", &[source, &other], Some("geheim")).expect(2, &["permission denied"]);
}

#[cfg(feature = "etcds")]
#[test]
fn over_tls_the_tools_believe_a_member_with_a_certificate_of_the_right_authority() {
    let dir = new_dir();
    let made = |name: &str| super::certificate(dir.path(), name);
    let (Some((key, cert)), Some((_, other))) = (made("one"), made("two")) else { return };
    let flags = ["--cert-file", &cert, "--key-file", &key];
    let Some(cluster) = Cluster::begin(1, &flags, "https") else { return };
    let url = format!("etcds://{}/shop", cluster.member(0));
    eventually("etcd answers over TLS", || {
        run_tool(&["check", &url, "-wal-ca", &cert]).err.contains("there is no log of this name")
    });
    run_tool(&["check", &url, "-wal-ca", &other]).expect(2, &["certificate"]);
    run_tool(&["check", &url, "-wal-ca", &key]).expect(2, &["no certificate in PEM form"]);
    run_tool(&["check", &url, "-wal-ca", "/nowhere"]).expect(2, &["/nowhere"]);
    let log = crate::tools::small_log(3);
    let path = log.path().join("wal_file");
    let source = path.to_str().expect("ASCII");
    run_tool(&["import", "-wal-ca", &cert, source, &url]).expect(0, &["3 in 1 batches"]);
}

/// A way to etcd on which something is done just before the `nth` read of a range passes. Returns its address.
fn with_an_act_before(cluster: &Cluster, nth: usize, act: impl FnMut() + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, member) = (listener.local_addr().expect("its address"), cluster.member(0));
    let (act, ranges) = (Arc::new(Mutex::new(act)), Arc::new(AtomicUsize::new(0)));
    // It ends with the test's process.
    thread::spawn(move || {
        for near in listener.incoming() {
            let near = near.expect("a connection");
            let far = TcpStream::connect(&member).expect("etcd takes connections");
            let back = (far.try_clone().expect("a socket"), near.try_clone().expect("a socket"));
            let (act, ranges) = (act.clone(), ranges.clone());
            thread::spawn(move || {
                pass_on(near, far, |bytes| {
                    let is_range = bytes.windows(13).any(|part| part == b"/v3/kv/range ");
                    if is_range && ranges.fetch_add(1, Ordering::SeqCst) + 1 == nth {
                        (act.lock().expect("no panic"))();
                    }
                });
            });
            thread::spawn(move || pass_on(back.0, back.1, |_| {}));
        }
    });
    format!("etcd://{address}/shop")
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, mut look: impl FnMut(&[u8])) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        look(&bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // The other end may be closed already.
    let _ = to.shutdown(Shutdown::Both);
}

/// The leader writes another snapshot, and deletes the one that a tool is about to read.
#[test]
fn a_tool_that_a_compaction_overtakes_begins_again_unless_it_has_printed_something() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let url = url(&cluster, "shop");
    let server = lead(&url, &[]);
    let mut client = Client::connect(&server);
    for key in 1..=20 {
        let words = [b"SET".to_vec(), format!("k{key}").into_bytes(), vec![b'v'; 60_000]];
        assert_eq!(wire::ask(&mut client, words), Value::ok());
    }
    assert_eq!(wire::say(&mut client, "SAVE"), Value::ok());
    let compact = || {
        // Not the server itself, which ends with the test.
        let (address, mut count) = (server.address(), 20);
        move || {
            let mut client = Client::of(TcpStream::connect(address).expect("it takes clients"));
            count += 1;
            assert_eq!(
                wire::say(&mut client, &format!("INCRBY more {count}")),
                Value::Integer(count)
            );
            assert_eq!(wire::say(&mut client, "SAVE"), Value::ok());
            assert_eq!(wire::say(&mut client, "DEL more"), Value::Integer(1));
        }
    };
    let lsn = |server: &Server| format!("durable LSN  {}", server.counter("wal_durable_lsn"));
    // The first read of a range is that of the snapshot's first pieces.
    let said = run_tool(&["check", &with_an_act_before(&cluster, 1, compact())]);
    said.expect(0, &["keys         20,", &lsn(&server)]);
    let dir = new_dir();
    let copy = dir.path().join("copy");
    let to = copy.to_str().expect("ASCII");
    let said = run_tool(&["backup", &with_an_act_before(&cluster, 2, compact()), to]);
    said.expect(0, &["keys         20,", &lsn(&server)]);
    let files =
        crate::common::contents(&copy).into_keys().filter(|name| name.ends_with("snapshot"));
    assert_eq!(files.count(), 1, "nothing is left of the first try");
    let said = run_tool(&["dump", &with_an_act_before(&cluster, 1, compact())]).expect(0, &[]);
    assert_eq!(said.out.matches(" SET k7 ").count(), 1);
    let said = run_tool(&["dump", &with_an_act_before(&cluster, 2, compact())]);
    said.expect(2, &["not all of the log was printed", "dump a backup"]);
    let other = self::url(&cluster, "other");
    let said = run_tool(&["import", &with_an_act_before(&cluster, 2, compact()), &other]);
    said.expect(0, &["keys         20,", &lsn(&server)]);
}
