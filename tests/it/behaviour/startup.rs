//! Starts that go well, and starts that are refused: flags, files, locks, logs of other programs.
//!
//! A start that is refused leaves the disk as it was, and says in one sentence what to do.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::common::{Client, PROGRAM, Refusal, Server, command, contents, eventually, run_to_exit};
use post_gres_rs::engine::IDLE_BEFORE_MARK;

#[test]
fn help_names_every_flag_and_is_no_failure() {
    for flag in ["-help", "--help"] {
        let output = Command::new(PROGRAM).arg(flag).output().expect("the program can be run");
        assert!(output.status.success(), "{flag}: {}", output.status);
        let text = String::from_utf8(output.stdout).expect("text");
        for name in
            ["-port", "-shards", "-wal", "-size", "-persist", "-bind", "-fsync", "-maxclients"]
        {
            assert!(text.contains(name), "{flag} does not tell of {name}:\n{text}");
        }
    }
}

#[test]
fn a_flag_takes_one_dash_or_two_and_a_space_or_an_equals_sign() {
    for port in [&["-port", "0"][..], &["--port", "0"], &["-port=0"], &["--port=0"]] {
        let mut command = Command::new(PROGRAM);
        let server = Server::spawn(command.args(["-persist=false", "-bind=127.0.0.1"]).args(port));
        let server = server.expect("the server starts");
        assert_eq!(server.address().ip().to_string(), "127.0.0.1");
        assert_eq!(Client::connect(&server).ask("SET a 1"), "+OK");
    }
}

#[test]
fn a_bad_value_is_refused_with_its_flag_and_the_values_that_are_allowed() {
    let dir = tempfile::tempdir().expect("a directory");
    let wal = path(&dir, "new/wal_file");
    for (flag, value, expected) in [
        ("port", "65536", "0 to 65535"),
        ("port", "http", "0 to 65535"),
        ("shards", "0", "1 to 1024"),
        ("shards", "1025", "1 to 1024"),
        ("shards", "eight", "1 to 1024"),
        ("size", "-1", "from 0 to"),
        ("maxclients", "0", "from 1 to"),
        ("fsync", "sometimes", "always, everysec, no"),
        ("persist", "perhaps", "true, false"),
        ("bind", "no/where", "address"),
    ] {
        let refusal = run_to_exit(&["-wal", &wal, &format!("-{flag}={value}")]);
        assert_refused(&refusal, 2, &[flag, value, expected]);
    }
    assert_refused(&run_to_exit(&["-wal", &wal, "-prot", "1"]), 2, &["-prot"]);
    assert_refused(&run_to_exit(&["-wal", &wal, "stray"]), 2, &["stray"]);
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0, "nothing is created");
}

#[test]
fn a_log_that_is_left_alone_is_marked_each_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    let has_blocks = |count| {
        let bytes = fs::read(dir.path().join("wal_file")).expect("a segment");
        let content = bytes.iter().rposition(|&byte| byte != 0).expect("a header") + 1;
        content.div_ceil(4096) == count
    };
    for batches in 1..=3 {
        assert_eq!(client.ask("SET a b"), "+OK");
        // The next batch overwrites the mark.
        let (header, mark) = (1, 1);
        eventually("the log is marked", || has_blocks(header + batches + mark));
    }
    server.kill9();
}

/// Seen: when a timer was due whose work could not be done yet, the committer asked for it again and again,
/// and kept a processor busy.
#[test]
fn a_server_that_is_left_alone_sleeps() {
    for fsync in ["always", "everysec", "no"] {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::start(dir.path(), &["-fsync", fsync]);
        assert_eq!(Client::connect(&server).ask("SET a b"), "+OK");
        let tasks = format!("/proc/{}/task", server.pid().as_raw_nonzero());
        let sleeps = |task: std::io::Result<fs::DirEntry>| {
            let stat = fs::read_to_string(task.expect("a thread").path().join("stat"));
            // The state follows the name; a thread that has ended needs no processor.
            stat.map_or(true, |stat| stat.contains(") S "))
        };
        // A thread may be awake for a good reason; one that spins is never seen asleep. The wait makes sure
        // that a mark is due.
        std::thread::sleep(2 * IDLE_BEFORE_MARK);
        eventually("all threads sleep", || fs::read_dir(&tasks).expect("threads").all(sleeps));
        server.kill9();
    }
}

#[test]
fn a_port_in_use_is_named_and_the_log_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(Client::connect(&server).ask("SET a 1"), "+OK");
    server.kill9();
    let before = contents(dir.path());

    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = holder.local_addr().expect("bound");
    let wal = path(&dir, "wal_file");
    let refusal = run_to_exit(&["-wal", &wal, "-port", &address.port().to_string()]);
    assert_refused(&refusal, 1, &[&address.to_string(), "in use"]);
    assert!(contents(dir.path()) == before, "the log was changed");
}

#[test]
fn a_second_server_on_the_same_log_is_told_the_process_id_of_the_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&first);
    assert_eq!(client.ask("SET a 1"), "+OK");

    let pid = first.pid().as_raw_nonzero().to_string();
    assert_refused(&Server::refusal(dir.path(), &[]), 1, &["wal_file", &format!("process {pid}")]);
    assert_eq!(client.ask("SET a 2"), "+OK", "the first server goes on");

    // A lock ends with its process, however that ends.
    first.kill9();
    let second = Server::start(dir.path(), &[]);
    assert_eq!(Client::connect(&second).ask("GET a"), "+OK 2");
}

/// Writes more than the first segment holds.
fn change_segment(client: &mut Client, dir: &Path) {
    let value = "v".repeat(60_000);
    let full = |number: usize| dir.join(format!("wal_file.{number:010}.log"));
    let before = (1..).take_while(|&number| full(number).exists()).count();
    for key in 0.. {
        if full(before + 1).exists() {
            return;
        }
        assert_eq!(client.ask(&format!("SET key{key} {value}")), "+OK");
    }
}

/// Seen: two servers ran on one log through a hard link, each with a lock file of its own, and overwrote each
/// other's batches. Now the segment is locked as well, and a full one says that another follows.
#[test]
fn a_second_server_on_a_hard_link_to_the_log_is_refused_also_after_a_rotation() {
    let (dir, other) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("one"));
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    let (wal, link) = (dir.path().join("wal_file"), other.path().join("wal_file"));
    for _ in 0..2 {
        fs::hard_link(&wal, &link).expect("a link");
        let before = everything(other.path());
        assert_refused(&Server::refusal(other.path(), &[]), 1, &["wal_file", "in use by another"]);
        let repairs = [("repair", &["-to-lsn", "0", "-yes"][..]), ("repair", &["-yes"])];
        for (tool, flags) in repairs.into_iter().filter(|_| cfg!(feature = "tools")) {
            let wal = link.to_str().expect("ASCII");
            let said = run_to_exit(&[&[tool, "-wal", wal], flags].concat());
            assert_eq!(said.code, Some(2), "{}", said.stderr);
            assert!(said.stderr.contains("under another name"), "{}", said.stderr);
        }
        assert_eq!(client.ask("SET a 1"), "+OK", "the first goes on");
        change_segment(&mut client, dir.path());
        // The link is to a full segment now, of which no process holds a lock.
        let refusal = Server::refusal(other.path(), &[]);
        assert_refused(&refusal, 1, &["wal_file", "Nothing was changed", "missing"]);
        assert_eq!(
            everything(other.path()).keys().collect::<Vec<_>>(),
            before.keys().collect::<Vec<_>>()
        );
        fs::remove_file(&link).expect("own link");
    }
    server.kill9();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(Client::connect(&server).ask("GET a"), "+OK 1");
}

#[test]
fn a_second_server_on_a_bind_mount_of_the_log_alone_is_refused() {
    let (dir, other) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("one"));
    let server = Server::start(dir.path(), &[]);
    let target = other.path().join("wal_file");
    fs::write(&target, "").expect("a file");
    let mount = |program: &str, args: &[&OsStr]| Command::new(program).args(args).output();
    let bound =
        mount("mount", &["--bind".as_ref(), dir.path().join("wal_file").as_ref(), target.as_ref()]);
    if !bound.as_ref().is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: no bind mount here: {bound:?}");
    }
    let refusal = Server::refusal(other.path(), &[]);
    let mut client = Client::connect(&server);
    change_segment(&mut client, dir.path());
    let later = Server::refusal(other.path(), &[]);
    mount("umount", &[target.as_ref()]).expect("it can be run");
    assert_refused(&refusal, 1, &["wal_file", "in use by another"]);
    assert_refused(&later, 1, &["wal_file", "Nothing was changed", "missing"]);
}

/// Seen: after somebody had deleted the lock file a second server got a new one, and both wrote.
#[test]
fn a_lock_file_that_is_deleted_lets_no_second_server_in_and_is_locked_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("SET a 1"), "+OK");
    let lock = dir.path().join("wal_file.lock");
    fs::remove_file(&lock).expect("the lock file");
    assert_refused(&Server::refusal(dir.path(), &[]), 1, &["wal_file", "in use by"]);
    server.wait_for_log("it is locked again");
    let pid = server.pid().as_raw_nonzero().to_string();
    assert_eq!(fs::read_to_string(&lock).expect("a lock file").trim(), pid);
    assert_refused(&Server::refusal(dir.path(), &[]), 1, &[&format!("in use by process {pid}")]);
    assert_eq!(client.ask("SET a 2"), "+OK");
    server.stop();

    // A process that holds a new lock file may be a server that knows of no other lock.
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    fs::write(dir.path().join("other"), "12345\n").expect("a file");
    let held = fs::File::open(dir.path().join("other")).expect("a file");
    held.lock().expect("nobody else knows it");
    fs::rename(dir.path().join("other"), &lock).expect("a rename");
    assert!(server.wait_for_log("closed for writing").contains("process 12345"));
    assert!(client.ask("SET a 3").starts_with("-"), "it goes on writing");
    assert_eq!(client.ask("GET a"), "+OK 2");
    assert_eq!(server.terminate().0.code(), Some(1), "that is no ordered stop");
}

/// Seen: `-wal` in a directory that is missing, because its volume is not mounted, was answered with an
/// empty store on the disk below. Now only the default directory is made.
#[test]
fn a_directory_that_was_named_has_to_be_there_and_only_the_default_one_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let deep = dir.path().join("some/where/else");
    let refusal = Server::refusal(&deep, &[]);
    assert_refused(&refusal, 1, &["no such directory", "not mounted", "mkdir -p", "else"]);
    fs::write(dir.path().join("file"), "").expect("a file");
    assert_refused(&Server::refusal(&dir.path().join("file"), &[]), 1, &["not a directory"]);
    fs::remove_file(dir.path().join("file")).expect("own file");
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0, "something was made");

    let by_default = |flags: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.current_dir(dir.path()).args(["-port", "0"]).args(flags);
        Server::spawn(&mut command)
    };
    // Not where the start is refused, though.
    assert!(by_default(&["-bind", "192.0.2.1", "-protected-mode", "no"]).is_err());
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0, "something was made");
    let server = by_default(&[]).expect("the server starts");
    assert_eq!(Client::connect(&server).ask("SET a 1"), "+OK");
    assert!(dir.path().join("wal_files/wal_file").is_file());
    server.stop();
    // A directory that is named is not the default, even if it is the same.
    fs::remove_dir_all(dir.path().join("wal_files")).expect("own files");
    let named = by_default(&["-wal", "./wal_files/wal_file"]).err().expect("a refusal");
    assert_refused(&named, 1, &["wal_files", "mkdir -p"]);
}

/// Seen: `check` said of a log of 0 bytes "nothing was ever written", and a start served an empty store
/// instead.
#[test]
fn a_log_that_is_gone_or_emptied_is_never_taken_for_a_new_one() {
    type Loss<'a> = (&'a str, &'a dyn Fn(&Path));
    let losses: [Loss<'_>; 5] = [
        ("empty", &|wal| fs::write(wal, "").expect("the log")),
        ("zeros", &|wal| {
            let len = fs::metadata(wal).expect("the log").len();
            fs::write(wal, vec![0; len as usize]).expect("the log");
        }),
        ("a zeroed sector", &|wal| {
            let mut bytes = fs::read(wal).expect("the log");
            bytes[..512].fill(0);
            fs::write(wal, bytes).expect("the log");
        }),
        ("missing", &|wal| fs::remove_file(wal).expect("the log")),
        ("a flipped bit in the magic number", &|wal| {
            let mut bytes = fs::read(wal).expect("the log");
            bytes[3] ^= 4;
            fs::write(wal, bytes).expect("the log");
        }),
    ];
    for (what, lose) in losses {
        // With its lock file; with what was once cut from it; as an earlier program left it.
        for beside in [".lock", ".4.torn", ".4.cut"] {
            let dir = tempfile::tempdir().expect("a directory");
            let server = Server::start(dir.path(), &[]);
            assert_eq!(Client::connect(&server).ask("SET a 1"), "+OK");
            server.stop();
            let beside = dir.path().join(format!("wal_file{beside}"));
            for entry in fs::read_dir(dir.path()).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path != dir.path().join("wal_file") && path != beside {
                    fs::remove_file(path).expect("own file");
                }
            }
            if !beside.exists() {
                fs::write(&beside, "cut").expect("a file");
            }
            lose(&dir.path().join("wal_file"));
            let before = everything(dir.path());
            if cfg!(feature = "tools") {
                let said = run_to_exit(&["check", "-wal", &path(&dir, "wal_file")]);
                assert_eq!(said.code, Some(2), "{what}, {beside:?}: {}", said.stderr);
            }
            let refusal = Server::refusal(dir.path(), &[]);
            let parts = ["wal_file: ", "offset 0", "Nothing was changed"];
            assert_refused(&refusal, 1, &parts);
            assert!(everything(dir.path()) == before, "{what}, {beside:?}: it was changed");
        }
    }
}

/// A first start that is cut short before there is a log leaves nothing that looks like a lost one.
#[test]
fn a_first_start_that_was_killed_before_there_was_a_log_is_done_again() {
    for stood_empty in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::start(dir.path(), &[]);
        server.kill9();
        // As it is before the first segment gets its name.
        fs::remove_file(dir.path().join("wal_file")).expect("the log");
        fs::write(dir.path().join("wal_file.lock"), "1\nno log yet\n").expect("a file");
        if stood_empty {
            fs::write(dir.path().join("wal_file"), "").expect("a file");
        }
        for name in ["wal_file.durable", "wal_file.next"] {
            fs::remove_file(dir.path().join(name)).ok();
        }
        fs::write(dir.path().join("wal_file.next"), [0; 8192]).expect("a file");
        let server = Server::start(dir.path(), &[]);
        assert_eq!(Client::connect(&server).ask("SET a 1"), "+OK");
        server.stop();
    }
}

/// Seen: `-wal /etc/passwd` was refused, and left `/etc/passwd.lock`.
#[test]
fn a_refused_start_leaves_the_directory_as_it_was() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = holder.local_addr().expect("bound").port().to_string();
    let damage = |dir: &Path| {
        let wal = dir.join("wal_file");
        let mut bytes = fs::read(&wal).expect("the log");
        bytes[4096 + 70] ^= 1;
        fs::write(wal, bytes).expect("the log");
    };
    for with_lock_file in [false, true] {
        for (what, flags) in [
            ("foreign", &["-port", "0"][..]),
            ("no log and no port", &["-port", &port]),
            ("a log and no port", &["-port", &port]),
            ("damaged", &["-port", "0"]),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            match what {
                "foreign" => {
                    fs::write(dir.path().join("wal_file"), "root:x:0:0\n").expect("a file")
                }
                "no log and no port" => {}
                _ => {
                    let server = Server::start(dir.path(), &[]);
                    assert_eq!(Client::connect(&server).ask("SET a 1"), "+OK");
                    server.stop();
                }
            }
            if what == "damaged" {
                damage(dir.path());
            }
            let lock = dir.path().join("wal_file.lock");
            if !with_lock_file {
                fs::remove_file(&lock).ok();
            } else if !lock.exists() {
                fs::write(&lock, "1\nno log yet\n").expect("a file");
            }
            let before = everything(dir.path());
            let wal = path(&dir, "wal_file");
            let refusal = run_to_exit(&[&["-wal", &wal], flags].concat());
            assert_eq!(refusal.code, Some(1), "{what}: {}", refusal.stderr);
            assert!(everything(dir.path()) == before, "{what}: something was changed");
        }
    }
}

#[test]
fn a_path_that_cannot_be_a_log_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("wal_file")).expect("a directory");
    assert_refused(&Server::refusal(dir.path(), &[]), 1, &["wal_file", "directory"]);
    assert!(contents(dir.path()).is_empty(), "something was created");

    fs::write(dir.path().join("file"), "a file").expect("a file");
    assert_refused(&Server::refusal(&dir.path().join("file"), &[]), 1, &["file"]);
    assert_eq!(contents(dir.path()).into_keys().collect::<Vec<_>>(), ["file"]);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o500)).expect("our own directory");
    if fs::write(dir.path().join("probe"), "").is_ok() {
        return eprintln!("skipped: this user (root?) may write anywhere");
    }
    let refusal = Server::refusal(dir.path(), &[]);
    assert_refused(&refusal, 1, &["wal_file", "denied"]);
}

#[test]
fn a_log_of_a_newer_version_is_left_to_the_newer_program() {
    let dir = tempfile::tempdir().expect("a directory");
    Server::start(dir.path(), &[]).stop();
    let wal = dir.path().join("wal_file");
    let mut bytes = fs::read(&wal).expect("the log");
    // The format: a magic number of 16 bytes, then the version in 4.
    bytes[16..20].copy_from_slice(&77_u32.to_le_bytes());
    fs::write(&wal, bytes).expect("the log");

    let before = contents(dir.path());
    assert_refused(&Server::refusal(dir.path(), &[]), 1, &["wal_file", "version 77"]);
    assert!(contents(dir.path()) == before, "the log was changed");
}

#[test]
fn damage_before_the_last_write_is_refused_with_file_and_offset() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    for i in 0..3 {
        assert_eq!(client.ask(&format!("SET key{i} value{i}")), "+OK");
    }
    server.kill9();
    let wal = dir.path().join("wal_file");
    let good = fs::read(&wal).expect("the log");
    let mut bytes = good.clone();
    let at = bytes.windows(6).position(|word| word == b"value1").expect("records are plain text");
    bytes[at] ^= 1;
    fs::write(&wal, bytes).expect("the log");

    let before = contents(dir.path());
    let refusal = Server::refusal(dir.path(), &[]);
    // The offset is that of the batch: batches start at multiples of 4096.
    let offset = format!("offset {}", at / 4096 * 4096);
    assert_refused(&refusal, 1, &["wal_file", &offset]);
    assert!(contents(dir.path()) == before, "the log was changed");

    fs::write(&wal, good).expect("the log");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(Client::connect(&server).ask("GET key1"), "+OK value1");
}

#[test]
fn a_log_of_the_seed_is_imported_once_and_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    // Deletions have an empty value or none. A length followed by a digit can be read only if one of the
    // two readings does not fit.
    let seed = "3SET5hello5world\n3SET1a1b\n3SET3two3one\n3DEL1a0\n3SET5hello2hi\n3DEL3two\n\
                3SET111x\n3SET11key-of-11111y\n3SET6größ2é\n";
    fs::write(dir.path().join("wal_file"), seed).expect("a file");
    for _ in 0..2 {
        let server = Server::start(dir.path(), &[]);
        let mut client = Client::connect(&server);
        for (key, reply) in [
            ("hello", "+OK hi"),
            ("a", "-GET could not find a in store"),
            ("two", "-GET could not find two in store"),
            ("1", "+OK x"),
            ("key-of-1111", "+OK y"),
            ("größ", "+OK é"),
        ] {
            assert_eq!(client.ask(&format!("GET {key}")), reply, "{key}");
        }
        server.stop();
        assert_eq!(contents(dir.path())["wal_file.imported"], seed.as_bytes());
    }
}

#[test]
fn an_import_does_not_overwrite_what_an_earlier_one_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("wal_file.imported"), "3SET1a1b\n").expect("a file");
    fs::write(dir.path().join("wal_file"), "3SET1c1d\n").expect("a file");
    // The server may refuse the start, or keep the file under another name.
    drop(Server::spawn(&mut command(dir.path(), &[])));
    assert_eq!(contents(dir.path())["wal_file.imported"], b"3SET1a1b\n");
}

#[test]
fn a_log_that_is_neither_ours_nor_surely_the_seeds_is_refused_with_the_line() {
    for (line, bad) in [
        // Key `1` with a value of 12 bytes, or key `12abcdefghi` with a value of 2.
        (2, "3SET5hello5world\n3SET1112abcdefghi2xy\n3SET1a1b\n"),
        (3, "3SET5hello5world\n3SET1a1b\nhello world\n"),
        (1, "3GET5hello0\n"),
        (2, "3SET1a1b\n3SET5hello5worl\n"),
        (2, "3SET1a1b\n3SET5hello6world\n"),
        (2, "3SET1a1b\n\n3SET1c1d\n"),
        (2, "3SET1a1b\n3SET5hello5wor"),
        (2, "3SET1a1b\n3SET99999999999999999999999a1b\n"),
        (1, "\u{0}\u{0}\u{0}\u{0}\n"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("wal_file"), bad).expect("a file");
        let refusal = Server::refusal(dir.path(), &[]);
        assert_refused(&refusal, 1, &["wal_file", &format!("line {line}")]);
        let left = contents(dir.path());
        assert_eq!(left.keys().collect::<Vec<_>>(), ["wal_file"], "{bad:?}");
        assert_eq!(left["wal_file"], bad.as_bytes());
    }
}

#[test]
fn without_persistence_nothing_is_kept_and_the_log_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("new"), &["-persist=false"]);
    server.wait_for_log("nothing is kept");
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("SET a 1"), "+OK");
    assert_eq!(client.ask("GET a"), "+OK 1");
    server.stop();
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
}

#[test]
fn a_weaker_fsync_says_what_can_be_lost_and_a_stop_loses_nothing() {
    for (fsync, warnings) in [("always", 0), ("everysec", 1), ("no", 1)] {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::start(dir.path(), &["-fsync", fsync]);
        assert_eq!(Client::connect(&server).ask("SET a 1"), "+OK");
        let (status, log) = server.terminate();
        assert!(status.success(), "{status}");
        let count = log.lines().filter(|line| line.contains("can lose")).count();
        assert_eq!(count, warnings, "{fsync}; log:\n{log}");
        let server = Server::start(dir.path(), &["-fsync", fsync]);
        assert_eq!(Client::connect(&server).ask("GET a"), "+OK 1", "{fsync}");
    }
}

#[test]
fn data_outlives_a_stop_a_kill_and_a_change_of_shards() {
    let dir = tempfile::tempdir().expect("a directory");
    for round in 0..6 {
        let shards = ["8", "1", "1024"][round % 3];
        let server = Server::start(dir.path(), &["-shards", shards, "-size=1000"]);
        let mut client = Client::connect(&server);
        if round > 0 {
            for key in 0..50 {
                assert_eq!(client.ask(&format!("GET {key}")), format!("+OK {}", round - 1));
                assert_eq!(client.ask(&format!("GET gone{key}")).find("-GET"), Some(0));
            }
        }
        for key in 0..50 {
            assert_eq!(client.ask(&format!("SET gone{key} x")), "+OK");
            assert_eq!(client.ask(&format!("SET {key} {round}")), "+OK");
            assert_eq!(client.ask(&format!("DEL gone{key}")), "+OK");
        }
        if round % 2 == 0 { server.kill9() } else { server.stop() }
    }
}

#[test]
fn a_stop_cuts_the_log_to_its_content_and_the_next_start_sees_that_it_was_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    assert_eq!(Client::connect(&server).ask("SET a 1"), "+OK");
    let running = contents(dir.path())["wal_file"].len();
    server.stop();
    let files = contents(dir.path());
    let stopped = files["wal_file"].len();
    // A header, a batch, a mark, 4096 bytes each.
    assert!(stopped <= 4 * 4096 && running > 10 * stopped, "{running} bytes, then {stopped}");
    let left: Vec<_> = files.keys().collect();
    assert_eq!(left, ["wal_file", "wal_file.durable"], "nothing else is left");

    let server = Server::start(dir.path(), &[]);
    server.wait_for_log("; closed in order");
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("GET a"), "+OK 1");
    assert_eq!(client.ask("SET a 2"), "+OK");
    server.kill9();
    Server::start(dir.path(), &[]).wait_for_log("; not closed in order");
}

/// Every file, with its bytes and when it was changed.
fn everything(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let entries =
        fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries
        .map(|path| {
            let modified = fs::metadata(&path).and_then(|data| data.modified()).expect("a time");
            (path.clone(), (fs::read(path).expect("a file"), modified))
        })
        .collect()
}

fn path(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).to_str().expect("a path in ASCII").to_owned()
}

/// A refusal with this exit code, in one log line or in the usual words for wrong flags, with all
/// `parts` in it.
fn assert_refused(refusal: &Refusal, code: i32, parts: &[&str]) {
    assert_eq!(refusal.code, Some(code), "{}", refusal.stderr);
    for part in parts {
        assert!(refusal.stderr.contains(part), "{part:?} is not in:\n{}", refusal.stderr);
    }
    assert!(!refusal.stderr.contains("panicked"), "{}", refusal.stderr);
    let errors = refusal.stderr.lines().filter(|line| line.contains("ERROR post_gres_rs")).count();
    assert_eq!(errors, usize::from(code == 1), "{}", refusal.stderr);
}

/// Seen: with `-wal mylog`, without a directory, older segments were not recognised in the listing
/// of `.`, so a start after a crash between the two renames of a rotation found no log at all, and
/// began a new one instead of serving the acknowledged writes.
#[test]
fn a_log_named_without_a_directory_keeps_its_older_segments() {
    let dir = tempfile::tempdir().expect("a directory");
    let in_directory = |port: &str| {
        let mut command = Command::new(PROGRAM);
        command.current_dir(dir.path()).args(["-port", port, "-wal", "mylog"]);
        command
    };
    let server = Server::spawn(&mut in_directory("0")).expect("the server starts");
    let mut client = Client::connect(&server);
    let value = "v".repeat(60_000);
    for key in 0..40 {
        assert_eq!(client.ask(&format!("SET key{key} {value}")), "+OK");
    }
    server.kill9();
    assert!(dir.path().join("mylog.0000000001.log").exists(), "the segment was changed");
    // As it is between the two renames.
    fs::rename(dir.path().join("mylog"), dir.path().join("mylog.next")).expect("a rename");
    let server = Server::spawn(&mut in_directory("0")).expect("the server starts");
    let mut client = Client::connect(&server);
    for key in 0..40 {
        assert_eq!(client.ask(&format!("GET key{key}")).len(), 4 + value.len());
    }
}

#[test]
fn a_log_in_memory_is_warned_of() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        return println!("skipped: there is no /dev/shm");
    };
    let server = Server::start(dir.path(), &[]);
    assert!(server.log().contains("is in memory"), "{}", server.log());
    server.stop();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let server = Server::start(dir.path(), &[]);
    assert!(!server.log().contains("is in memory"), "{}", server.log());
    server.stop();
}
