//! Damage of each kind to a log in an etcd in memory, and how a tool reads it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::client::Client;
use super::entry;
use super::fake::FakeEtcd;
use super::format;
use super::head::{Head, Node};
use super::json::Freshness;
use super::keys::{Keys, Range};
use super::kv::{Condition, Kv, Op, Txn};
use super::pieces::Pieces;
use super::pointer::Pointer;
use super::reader::{LogReader, Overtaken, Piece};
use super::reading::Damage;
use super::scripted::{Hands, Way, client};
use crate::command::{FIRST, Mutation};
use crate::entry::Entry;
use crate::record::{self, New};
use crate::wal::chain::Frame;

const TIME: Duration = Duration::from_secs(1);

/// A log whose snapshot has three pieces, a record in each, and covers LSN 3; then the records 4 to 7 in three batches,
/// the second of two. Record n sets `k<n>`.
struct Fixture {
    client: Client<Way>,
    keys: Keys,
    head: Head,
    pointer: Pointer,
}

fn set(n: u64) -> Mutation {
    Mutation::Set(Entry::new(format!("k{n}").as_bytes(), b"value"))
}

/// A batch of these records after the one that `tail` ends with.
fn batch(tail: &mut crate::wal::chain::Tail, records: &[u64]) -> Vec<u8> {
    let mut frame = Frame::default();
    for n in records {
        frame.push(|bytes| New::In(FIRST, &set(*n)).encode(|piece| bytes.extend_from_slice(piece)));
    }
    let (header, value) = entry::encode(&mut frame, tail);
    tail.follow(&header);
    value
}

impl Fixture {
    fn new() -> Fixture {
        let etcd = Arc::<Mutex<FakeEtcd>>::default();
        let client = client(&etcd, &Hands::at(TIME), &[]);
        let (keys, mut pieces) = (Keys::new("shop"), Pieces::new(3, 77, 2));
        let mut puts = Vec::new();
        for n in 1..=3 {
            pieces.push(New::In(FIRST, &set(n)));
            puts.extend(pieces.cut(&keys));
        }
        let pointer = *pieces.pointer();
        let mut tail = entry::tail(2, 4, 77);
        for (lsn, records) in [(4, vec![4]), (5, vec![5, 6]), (7, vec![7])] {
            puts.push((keys.batch(lsn), batch(&mut tail, &records)));
        }
        let first = Head::first(Node::new("n1", "h:1").expect("a node"), 1, 9);
        let first = first.taken_over(Node::new("n2", "h:2").expect("a node"), 2, 0);
        let head = first.appended(7, tail.last_checksum, 1).trimmed(4, 2);
        puts.push((keys.format(), format::value(9)));
        puts.push((keys.snapshot(), pointer.to_string().into()));
        puts.push((keys.head(), head.to_string().into()));
        let mut it = Fixture { client, keys, head, pointer };
        puts.into_iter().for_each(|(key, value)| it.put(&key, value));
        it
    }

    fn put(&mut self, key: &str, value: impl Into<Vec<u8>>) {
        self.change(Op::Put(key.into(), value.into()));
    }

    fn delete(&mut self, key: &str) {
        self.change(Op::Delete(key.into()));
    }

    fn change(&mut self, op: Op) {
        let txn = Txn::new(Condition::Always, vec![op], Vec::new());
        self.client.txn(&txn, TIME).expect("the fake answers");
    }

    fn value(&mut self, key: &str) -> Vec<u8> {
        self.client.get(key, Freshness::Current, TIME).expect("an answer").expect("a value")
    }

    /// Changes the last byte of a value.
    fn spoil(&mut self, key: &str) {
        let mut value = self.value(key);
        *value.last_mut().expect("a byte") ^= 1;
        self.put(key, value);
    }

    fn piece(&self, n: u64) -> String {
        self.keys.piece(3, 2, n)
    }

    fn reader(&self) -> LogReader<Way> {
        let opened = LogReader::open(self.client.another(), "shop");
        opened.expect("it can be looked at").expect("it is there")
    }

    /// The records that a reader finds before the damage, and that damage.
    fn read(&self) -> (Vec<u64>, Option<Damage>) {
        let (mut reader, mut found) = (self.reader(), Vec::new());
        let read = reader.read(&mut |piece| {
            note(&piece, &mut found);
            Ok(ControlFlow::Continue(()))
        });
        (found, read.err().map(|why| why.downcast().expect("damage")))
    }

    /// The records that can be saved of a damaged log, and the keys of the gaps.
    fn salvage(&self) -> (Vec<u64>, Vec<String>) {
        let (mut reader, mut found, mut gaps) = (self.reader(), Vec::new(), Vec::new());
        let read = reader.salvage(&mut |read| {
            match read {
                Ok(piece) => note(&piece, &mut found),
                Err(damage) => gaps.push(damage.key.clone()),
            }
            Ok(ControlFlow::Continue(()))
        });
        read.expect("all of it is looked at");
        (found, gaps)
    }
}

/// The numbers of the records in a piece.
fn note(piece: &Piece<'_>, found: &mut Vec<u64>) {
    let (Piece::Snapshot(_, batch) | Piece::Log(batch)) = piece;
    for record in record::cut(batch.payload(), batch.header.records) {
        let key = record.map_or(Vec::new(), |record| record.key().to_owned());
        // 0 if it is none.
        let number = key.get(1..).map(String::from_utf8_lossy);
        found.push(number.and_then(|number| number.parse().ok()).unwrap_or(0));
    }
}

#[test]
fn a_whole_log_is_read_from_its_snapshot_to_its_head_and_nothing_is_changed() {
    let mut log = Fixture::new();
    let all = Range { from: "\0".into(), to: "\u{7f}".into() };
    let before = log.client.range(&all, 99, Freshness::Current, TIME).expect("an answer");
    assert_eq!(log.read(), ((1..=7).collect(), None));
    assert_eq!(log.salvage(), ((1..=7).collect(), vec![]));
    assert_eq!(log.reader().records(), 7);
    assert_eq!(log.client.range(&all, 99, Freshness::Current, TIME), Ok(before));
    // Batches that a leader has appended since are not of the log that was looked at.
    let mut reader = log.reader();
    let head = log.head.appended(9, 1, 3);
    log.put(&log.keys.head(), head.to_string());
    let mut count = 0;
    let read = reader.read(&mut |_| {
        count += 1;
        Ok(ControlFlow::Continue(()))
    });
    assert!(read.is_ok() && count == 6, "{read:?}");
    assert!(reader.is_written().expect("an answer"));
}

#[test]
fn a_log_of_the_first_version_is_read() {
    let mut log = Fixture::new();
    log.put(&log.keys.format(), "v1");
    let old = Head { history: None, ..log.head.clone() };
    log.put(&log.keys.head(), old.to_string());
    assert_eq!(log.read(), ((1..=7).collect(), None));
}

#[test]
fn no_log_and_one_that_an_import_fills_are_not_taken_for_damage() {
    let mut log = Fixture::new();
    assert!(LogReader::open(log.client.another(), "other").expect("a look").is_none());
    log.put(&log.keys.head(), "importing 0000000000000001.7");
    let refused = LogReader::open(log.client.another(), "shop").err().expect("no log yet");
    assert!(refused.to_string().contains("has begun and not ended"), "{refused}");
}

#[test]
fn the_log_of_another_version_is_refused_with_that() {
    let mut log = Fixture::new();
    log.put(&log.keys.format(), "v0 of long ago");
    let refused = LogReader::open(log.client.another(), "shop").err().expect("refused");
    assert!(!refused.is::<Damage>(), "{refused}");
    assert!(refused.to_string().contains(r#"of the version "v0 of long ago""#), "{refused}");
}

/// A kind of damage.
struct Case {
    what: &'static str,
    make: fn(&mut Fixture),
    /// The key that is named.
    key: fn(&Fixture) -> String,
    /// A part of the message.
    says: &'static str,
    /// The records that are read before it.
    read: &'static [u64],
    /// Those that are read in spite of it.
    salvaged: &'static [u64],
}

#[test]
fn damage_of_each_kind_is_named_with_its_key_and_the_rest_can_be_read() {
    let all: &[Case] = &[
        Case {
            what: "a piece is missing",
            make: |log| log.delete(&log.piece(1)),
            key: |log| log.piece(1),
            says: "it is not there",
            read: &[1],
            salvaged: &[1, 3, 4, 5, 6, 7],
        },
        Case {
            what: "the last piece is missing",
            make: |log| log.delete(&log.piece(2)),
            key: |log| log.piece(2),
            says: "it is not there",
            read: &[1, 2],
            salvaged: &[1, 2, 4, 5, 6, 7],
        },
        Case {
            what: "a piece is changed",
            make: |log| log.spoil(&log.piece(0)),
            key: |log| log.piece(0),
            says: "checksum",
            read: &[],
            salvaged: &[2, 3, 4, 5, 6, 7],
        },
        Case {
            what: "the pieces are whole, and not those of the pointer",
            make: |log| {
                let pointer = Pointer { checksum: 1, ..log.pointer };
                log.put(&log.keys.snapshot(), pointer.to_string());
            },
            key: |log| log.keys.snapshot(),
            says: "not those that this pointer names",
            read: &[1, 2, 3],
            salvaged: &[1, 2, 3, 4, 5, 6, 7],
        },
        Case {
            what: "a batch is missing",
            make: |log| log.delete(&log.keys.batch(5)),
            key: |log| log.keys.batch(5),
            says: "it is not there",
            read: &[1, 2, 3, 4],
            salvaged: &[1, 2, 3, 4, 7],
        },
        Case {
            what: "the last batch is missing",
            make: |log| log.delete(&log.keys.batch(7)),
            key: |log| log.keys.batch(7),
            says: "it is not there",
            read: &[1, 2, 3, 4, 5, 6],
            salvaged: &[1, 2, 3, 4, 5, 6],
        },
        Case {
            what: "a batch is changed",
            make: |log| log.spoil(&log.keys.batch(5)),
            key: |log| log.keys.batch(5),
            says: "checksum",
            read: &[1, 2, 3, 4],
            salvaged: &[1, 2, 3, 4, 7],
        },
        Case {
            what: "a batch is no batch at all",
            make: |log| log.put(&log.keys.batch(4), "x"),
            key: |log| log.keys.batch(4),
            says: "shorter than a term",
            read: &[1, 2, 3],
            salvaged: &[1, 2, 3, 5, 6, 7],
        },
        Case {
            what: "a batch is whole, and names another one before it",
            make: |log| {
                let other = batch(&mut entry::tail(2, 5, 99), &[5, 6]);
                log.put(&log.keys.batch(5), other);
            },
            key: |log| log.keys.batch(5),
            says: "does not follow the one before it",
            read: &[1, 2, 3, 4],
            salvaged: &[1, 2, 3, 4, 5, 6, 7],
        },
        Case {
            what: "a batch is whole, and not made of records",
            make: |log| {
                let mut before = entry::tail(2, 4, 77);
                batch(&mut before, &[4]);
                let mut frame = Frame::default();
                frame.push(|bytes| bytes.extend_from_slice(b"no record"));
                frame.push(|bytes| bytes.extend_from_slice(b"nor this"));
                log.put(&log.keys.batch(5), entry::encode(&mut frame, &before).1);
            },
            key: |log| log.keys.batch(5),
            says: "not made of that many records",
            read: &[1, 2, 3, 4],
            salvaged: &[1, 2, 3, 4, 7],
        },
        Case {
            what: "the pointer is unreadable",
            make: |log| log.put(&log.keys.snapshot(), "v1 what"),
            key: |log| log.keys.snapshot(),
            says: "which no server writes",
            read: &[],
            salvaged: &[4, 5, 6, 7],
        },
        Case {
            what: "the pointer is missing, and the log was trimmed",
            make: |log| log.delete(&log.keys.snapshot()),
            key: |log| log.keys.snapshot(),
            says: "the log begins with LSN 4",
            read: &[],
            salvaged: &[4, 5, 6, 7],
        },
        Case {
            what: "the head names another last batch",
            make: |log| {
                let other = log.head.appended(8, 1, 3);
                log.put(&log.keys.head(), Head { lsn: 7, ..other }.to_string());
            },
            key: |log| log.keys.head(),
            says: "not that of the last batch",
            read: &[1, 2, 3, 4, 5, 6, 7],
            salvaged: &[1, 2, 3, 4, 5, 6, 7],
        },
        Case {
            what: "the head is unreadable",
            make: |log| log.put(&log.keys.head(), "v1 1 2 3"),
            key: |log| log.keys.head(),
            says: "does not have the fields of its version",
            read: &[],
            salvaged: &[1, 2, 3, 4, 5, 6, 7],
        },
        Case {
            what: "the head is missing",
            make: |log| log.delete(&log.keys.head()),
            key: |log| log.keys.head(),
            says: "it is missing",
            read: &[],
            salvaged: &[1, 2, 3, 4, 5, 6, 7],
        },
    ];
    let wrong: Vec<String> = all.iter().filter_map(|case| case.try_it().err()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

impl Case {
    /// Makes the damage, and compares the message and the records with those of the case.
    fn try_it(&self) -> Result<(), String> {
        let Case { what, make, key, says, read, salvaged } = self;
        let mut log = Fixture::new();
        make(&mut log);
        let (found, damage) = log.read();
        let damage = damage.ok_or_else(|| format!("{what}: not noticed"))?;
        let text = damage.to_string();
        let is_named = damage.key == key(&log) && text.contains(says);
        ensure(is_named && text.contains("Nothing was changed"), || format!("{what}: {text}"))?;
        ensure(found == *read, || format!("{what}: {found:?} was read before it"))?;
        let (found, gaps) = log.salvage();
        ensure(found == *salvaged, || format!("{what}: {found:?} is salvaged"))?;
        let expected = match *what {
            "the pieces are whole, and not those of the pointer"
            | "the head names another last batch" => vec![],
            // The one after it names another one, too.
            "a batch is whole, and names another one before it" => {
                vec![key(&log), log.keys.batch(7)]
            }
            _ => vec![key(&log)],
        };
        ensure(gaps == expected, || format!("{what}: the gaps are {gaps:?}"))
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

#[test]
fn a_log_whose_version_is_missing_is_damaged() {
    let mut log = Fixture::new();
    log.delete(&log.keys.format());
    let refused = LogReader::open(log.client.another(), "shop").err().expect("refused");
    let damage: Damage = refused.downcast().expect("damage");
    assert_eq!(damage.key, log.keys.format());
}

#[test]
fn an_entry_that_a_leader_took_away_meanwhile_is_no_damage() {
    // The log was trimmed after the head was read.
    let mut log = Fixture::new();
    let mut reader = log.reader();
    log.put(&log.keys.head(), log.head.trimmed(7, 9).to_string());
    (4..7).for_each(|lsn| log.delete(&log.keys.batch(lsn)));
    let mut ignore = |_: Piece<'_>| Ok(ControlFlow::Continue(()));
    let overtaken = reader.read(&mut ignore).expect_err("it is gone");
    assert!(overtaken.is::<Overtaken>(), "{overtaken}");
    let overtaken = reader.salvage(&mut |_| Ok(ControlFlow::Continue(()))).expect_err("gone");
    assert!(overtaken.is::<Overtaken>(), "{overtaken}");

    // Another snapshot counts, and the pieces of this one were deleted.
    let mut log = Fixture::new();
    let mut reader = log.reader();
    let newer = Pointer { lsn: 5, ..log.pointer };
    log.put(&log.keys.snapshot(), newer.to_string());
    (0..3).for_each(|n| log.delete(&log.piece(n)));
    let overtaken = reader.read(&mut ignore).expect_err("it is gone");
    assert!(overtaken.is::<Overtaken>(), "{overtaken}");
}
