//! Logs that earlier programs have written, kept in `golden/`: every tool reads them, and a start serves them.
//!
//! `golden/README.md` says which program wrote each, and how. A test that makes its log anew cannot see that
//! writer and reader have changed together.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use post_gres_rs::wal::FIRST_SEGMENT_BYTES;
use post_gres_rs::wal::frame::VERSION;

use super::{active, new_dir, state, tool};
use crate::common::{Client, Server};

/// One of the logs, and what is in it.
struct Golden {
    name: &'static str,
    /// The end that `check` reports, and its exit code.
    tail: (&'static str, i32),
    /// A line that `dump` prints.
    dumped: &'static str,
    /// Keys that a start serves, with their values.
    keys: &'static [(&'static str, &'static str)],
    /// Keys that it does not have.
    gone: &'static [&'static str],
}

const ALL: &[Golden] = &[
    Golden {
        name: "first",
        tail: ("closed in order", 0),
        dumped: "3 wal_file 12288 SET key3 value3",
        keys: &[("key1", "value1"), ("key3", "value3")],
        gone: &["key2"],
    },
    Golden {
        name: "first-snapshot",
        tail: ("closed in order", 0),
        dumped: "21 wal_file 4096 SET key21 value21",
        keys: &[("key2", "value2"), ("key20", "value20"), ("key21", "value21")],
        gone: &["key1"],
    },
    Golden {
        name: "snapshot",
        tail: ("closed in order", 0),
        dumped: "22 wal_file.22.snapshot 4096 SET expiring soon expires 2100-03-01T00:00:00.000Z",
        keys: &[("key2", "value2"), ("key21", "value21"), ("expiring", "soon")],
        gone: &["key1"],
    },
    Golden {
        name: "sealed",
        tail: ("closed in order", 0),
        dumped: "4 wal_file 4096 SET key4 value4",
        keys: &[("key2", "value2"), ("key4", "value4")],
        gone: &["key1"],
    },
    Golden {
        name: "idle",
        tail: ("idle mark", 0),
        dumped: "2 wal_file 8192 FLUSHALL",
        keys: &[("key2", "value2")],
        gone: &["key1"],
    },
    Golden {
        name: "torn",
        tail: ("torn batch of 4096 bytes at offset 8192 of wal_file, LSN 2", 1),
        dumped: "1 wal_file 4096 SET key1 value1",
        keys: &[("key1", "value1")],
        gone: &["key2"],
    },
    Golden {
        name: "databases",
        tail: ("closed in order", 0),
        dumped: "10 wal_file 24576 SWAPDB 3 7",
        keys: &[("key3", "value3"), ("key15", "value15")],
        gone: &["key1", "key7", "gone"],
    },
    Golden {
        name: "in-place",
        tail: ("closed in order", 0),
        dumped: "8 wal_file 20480 PERSIST key1",
        keys: &[],
        gone: &["key3", "gone"],
    },
];

impl Golden {
    fn kept(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tools/golden").join(self.name)
    }

    /// A copy. The zeros at the end of a segment that was not closed are not in the repository.
    fn copy(&self) -> tempfile::TempDir {
        let dir = new_dir();
        for entry in fs::read_dir(self.kept()).expect("a golden log") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name");
            fs::copy(&path, dir.path().join(name)).expect("a copy");
        }
        if self.tail.0 != "closed in order" {
            let file = OpenOptions::new().write(true).open(active(dir.path())).expect("the log");
            file.set_len(FIRST_SEGMENT_BYTES).expect("the log can grow");
        }
        dir
    }

    fn is_served_from(&self, dir: &Path) {
        let server = Server::start(dir, &[]);
        let mut client = Client::connect(&server);
        for (key, value) in self.keys {
            let found = client.ask(&format!("GET {key}"));
            assert_eq!(found, format!("+OK {value}"), "{}: {key}", self.name);
        }
        for key in self.gone {
            let found = client.ask(&format!("EXISTS {key}"));
            assert_eq!(found.trim_end(), ":0", "{}: {key}", self.name);
        }
        server.stop();
    }
}

#[test]
fn every_tool_reads_what_earlier_programs_have_written() {
    for golden in ALL {
        let (dir, copy) = (golden.copy(), new_dir());
        let before = state(dir.path());
        let (tail, code) = golden.tail;
        tool("check", dir.path(), &[]).expect(code, &[tail]);
        for flags in [&[][..], &["-skip-damage"]] {
            let code = if flags.is_empty() { 0 } else { code };
            tool("dump", dir.path(), flags).expect(code, &[golden.dumped]);
        }
        let repair = if code == 0 { "Nothing to do" } else { "would cut it, too" };
        tool("repair", dir.path(), &[]).expect(code, &[repair]);
        let to = copy.path().to_str().expect("a name in ASCII");
        tool("backup", dir.path(), &[to]).expect(0, &["closed in order"]);
        assert!(state(dir.path()) == before, "{}: a tool has changed it", golden.name);
        golden.is_served_from(copy.path());
    }
}

#[test]
fn a_start_serves_what_earlier_programs_have_written() {
    for golden in ALL {
        let dir = golden.copy();
        golden.is_served_from(dir.path());
        tool("check", dir.path(), &[]).expect(0, &["closed in order"]);
    }
}

#[test]
fn the_databases_of_a_golden_log_have_their_keys_after_both_of_its_swaps() {
    let golden = ALL.iter().find(|golden| golden.name == "databases").expect("it is there");
    let dir = golden.copy();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    for (number, value) in [(3, "+OK value7"), (7, "+OK value1")] {
        assert_eq!(client.ask(&format!("SELECT {number}")).trim_end(), "+OK");
        let key = if number == 3 { "key7" } else { "key1" };
        assert_eq!(client.ask(&format!("GET {key}")), value);
    }
    server.stop();
}

#[test]
fn the_values_of_a_golden_log_have_what_was_changed_in_place() {
    let golden = ALL.iter().find(|golden| golden.name == "in-place").expect("it is there");
    let dir = golden.copy();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    let long = |letter: &str| letter.repeat(1500);
    assert_eq!(client.ask("GET key1"), format!("+OK {}onetwo", long("a")));
    assert_eq!(client.ask("GET key2"), format!("+OK b!{}", &long("b")[2..]));
    assert_eq!(client.ask("PEXPIRETIME key1").trim_end(), ":-1");
    assert_eq!(client.ask("PEXPIRETIME key2").trim_end(), ":4107542400000");
    assert_eq!(client.ask("SELECT 3").trim_end(), "+OK");
    // The bit is the last of the byte after the end.
    assert_eq!(client.ask("STRLEN key3").trim_end(), ":1501");
    assert_eq!(client.ask("GETBIT key3 12007").trim_end(), ":1");
    server.stop();
}

#[test]
fn there_is_a_log_of_the_version_that_is_written() {
    let version = |golden: &Golden| {
        let bytes = fs::read(active(&golden.kept())).expect("a golden log");
        u32::from_le_bytes(bytes[16..20].try_into().expect("four bytes"))
    };
    assert!(ALL.iter().any(|golden| version(golden) == VERSION));
    assert!(ALL.iter().all(|golden| version(golden) <= VERSION));
}
