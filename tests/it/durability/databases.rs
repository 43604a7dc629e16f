//! Several databases: what moves a key from one to another, or swaps two, is done as a whole or not at all,
//! whatever loses power and whatever is compacted meanwhile; and a reader beside a SWAPDB sees one database or
//! the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use crate::common::wire::{Value, say};
use crate::common::{Client, Rng, Server, eventually, seed};
use crate::double::clients::{Inbox, command, is_without_room, open, open_counted, set};
use crate::double::{DoubleDisk, Fault};
use post_gres_rs::command::{Command, Dialect, Reply, RespVersion};
use post_gres_rs::engine::{Allowance, Collected, Engine, Fsync, Operation, Submission};
use post_gres_rs::metrics::Metrics;

const DATABASES: u16 = 4;
const KEYS: usize = 4;
const OPERATIONS: usize = 40;
const RESP: Dialect = Dialect::Resp(RespVersion::V2);

/// Each database's number and key, with the value.
type State = BTreeMap<(u16, String), String>;

/// A random operation in a database, and what it makes of a state.
fn operate(rng: &mut Rng, number: usize, state: &mut State) -> (u16, Command) {
    let mut database = || rng.below(DATABASES.into()) as u16;
    let [here, there, third] = [database(), database(), database()];
    let key = format!("key{}", rng.below(KEYS));
    let value = format!("{number}:{}", "x".repeat(rng.below(3000)));
    let take = |state: &mut State| state.remove(&(here, key.clone()));
    match rng.below(12) {
        0 if number > 10 => {
            state.clear();
            (here, command(&["flushall"]))
        }
        1 => {
            state.retain(|(database, _), _| *database != here);
            (here, command(&["flushdb"]))
        }
        2..4 => {
            let swapped = |database| match database {
                _ if database == here => there,
                _ if database == there => here,
                other => other,
            };
            let all = std::mem::take(state).into_iter();
            state.extend(all.map(|((database, key), value)| ((swapped(database), key), value)));
            (0, command(&["swapdb", &here.to_string(), &there.to_string()]))
        }
        4..7 => {
            if here != there && !state.contains_key(&(there, key.clone())) {
                let moved = take(state);
                state.extend(moved.map(|value| ((there, key.clone()), value)));
            }
            (here, command(&["move", &key, &there.to_string()]))
        }
        7 => {
            take(state);
            (here, command(&["del", &key]))
        }
        8..10 => {
            // The same value in three databases, of which the first is emptied before.
            state.retain(|(database, _), _| *database != here);
            for database in [here, there, third] {
                state.insert((database, key.clone()), value.clone());
            }
            let commands = vec![
                command(&["flushdb"]),
                set(&key, &value),
                Command::Select(there),
                set(&key, &value),
                Command::Select(third),
                set(&key, &value),
            ];
            (here, Command::Transaction(commands, None))
        }
        _ => {
            state.insert((here, key.clone()), value.clone());
            (here, set(&key, &value))
        }
    }
}

fn ask(engine: &Engine, (database, command): (u16, Command)) -> Reply<'static> {
    let inbox = Arc::<Inbox>::default();
    let operations = vec![Operation::new(command, RESP, None).in_database(database)];
    let sent = engine.submit(Submission::new(inbox.clone(), operations));
    assert!(sent.is_ok(), "the engine is open");
    inbox.wait_for(1).remove(0)
}

/// All that an engine has.
fn found(engine: &Engine) -> State {
    let mut state = State::new();
    for database in 0..DATABASES {
        for key in (0..KEYS).map(|key| format!("key{key}")) {
            let mut room = Allowance::new(usize::MAX, RESP);
            let mut answer = Collected::new(&mut room);
            let get = Command::Get(key.as_bytes().into());
            engine.read(&get, database, None, &mut answer).0.expect("there is room");
            if let Reply::Bulk(value) = answer.into_reply() {
                state.insert((database, key), String::from_utf8_lossy(&value).into_owned());
            }
        }
    }
    state
}

/// Operates, with two compactions beside that, until the disk fails. Returns the state that was
/// acknowledged last, and the one after the operation that was refused, if one was.
fn work(disk: &DoubleDisk, seed: u64) -> (State, Option<State>) {
    let (metrics, mut state) = (Arc::<Metrics>::default(), State::new());
    let Ok(engine) = open_counted(disk, Fsync::Always, metrics.clone()) else {
        return (state, None);
    };
    let mut rng = Rng::new(seed);
    for number in 0..OPERATIONS {
        if number % 15 == 7 {
            // It runs beside the next operations. Refused if the log has failed.
            let _ = engine.compact();
        }
        let mut after = state.clone();
        match ask(&engine, operate(&mut rng, number, &mut after)) {
            Reply::NotDurable(_) => {
                assert_eq!(found(&engine), state, "what is refused is not seen");
                return (state, Some(after));
            }
            // The space for it could not be prepared: not a byte was written.
            reply if is_without_room(&reply) => return (state, None),
            Reply::Error(text) if !text.starts_with("ERR source") => panic!("{text}"),
            _ => state = after,
        }
        assert_eq!(found(&engine), state, "operation {number} of seed {seed}");
        if number % 15 == 14 {
            let is_over = || metrics.compaction.running.get() == 0;
            eventually("the compaction is over", || {
                is_over() || engine.health().failure().is_some()
            });
        }
    }
    engine.close();
    (state, None)
}

#[test]
fn power_lost_at_calls_of_moves_and_swaps_leaves_all_or_nothing_of_each() {
    let seed = seed();
    let mut images = 0;
    for at in (1..).step_by(5) {
        let disk = DoubleDisk::default();
        disk.fail_at(at, Fault::PowerCut);
        let (acknowledged, other) = work(&disk, seed.wrapping_add(at as u64));
        let mut rng = Rng::new(at as u64);
        let cut = |survives: &mut dyn FnMut() -> bool| disk.after_power_cut(survives);
        let disks = [
            cut(&mut || false),
            cut(&mut || true),
            cut(&mut || rng.below(2) == 0),
            disk.after_kill(),
        ];
        for (number, disk) in disks.into_iter().enumerate() {
            let engine = open(&disk, Fsync::Always).unwrap_or_else(|e| panic!("call {at}: {e:#}"));
            let found = found(&engine);
            let is_whole = found == acknowledged || Some(&found) == other.as_ref();
            assert!(is_whole, "call {at}, image {number}: {found:?}, not {acknowledged:?}");
            images += 1;
        }
        if !disk.has_failed() {
            break;
        }
    }
    println!("{images} crash images started, each move and swap whole");
}

const FEW: i64 = 8;
const MANY: i64 = 11;
const SWAPS: u64 = 400;

/// Two databases exchange places again and again. Which one a reader sees tells how many swaps there have been,
/// but for an even number: no fewer than had ended when it asked or than it has seen before, and no more than had
/// begun when it was answered.
#[test]
fn a_reader_beside_swaps_sees_one_database_or_the_other_and_never_an_earlier_one() {
    for shards in ["1", "8"] {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::start(dir.path(), &["-shards", shards, "-fsync", "no"]);
        let mut client = Client::connect(&server);
        for (number, keys) in [(1, FEW), (2, MANY)] {
            say(&mut client, &format!("SELECT {number}"));
            for key in 0..keys {
                assert_eq!(say(&mut client, &format!("SET key{key} {keys}")), Value::ok());
            }
        }
        let (begun, ended, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let read = |mut rng: Rng| {
            let mut client = Client::connect(&server);
            assert_eq!(say(&mut client, "SELECT 1"), Value::ok());
            let (mut lower, mut seen) = (0, [0; 2]);
            while !over.load(SeqCst) {
                lower = ended.load(SeqCst).max(lower);
                let keys = look(&mut client, &mut rng);
                let has_swapped = u64::from(keys == MANY);
                lower += (lower + has_swapped) % 2;
                let most = begun.load(SeqCst);
                assert!(lower <= most, "{keys} keys are of swap {lower}, and {most} have begun");
                seen[has_swapped as usize] += 1;
            }
            seen
        };
        std::thread::scope(|scope| {
            let readers: Vec<_> =
                (0..3).map(|reader| scope.spawn(move || read(Rng::new(seed() + reader)))).collect();
            for number in 0..SWAPS {
                begun.store(number + 1, SeqCst);
                assert_eq!(say(&mut client, "SWAPDB 1 2"), Value::ok());
                ended.store(number + 1, SeqCst);
                if number % 100 == 50 {
                    say(&mut client, "BGREWRITEAOF");
                }
            }
            over.store(true, SeqCst);
            for reader in readers {
                let seen = reader.join().expect("a reader");
                assert!(seen.iter().all(|times| *times > 0), "a reader saw only one: {seen:?}");
            }
        });
        let server_has = say(&mut client, "DBSIZE");
        assert_eq!(server_has, Value::Integer(MANY), "an even number of swaps changes nothing");
        server.kill9();
        let server = Server::start(dir.path(), &["-shards", shards]);
        let mut client = Client::connect(&server);
        say(&mut client, "SELECT 1");
        assert_eq!(look(&mut client, &mut Rng::new(0)), FEW);
    }
}

/// How many keys the selected database has, by one of several commands; each must see one database as a whole.
fn look(client: &mut Client, rng: &mut Rng) -> i64 {
    let number = |value: &Value| match value {
        Value::Bulk(text) => String::from_utf8_lossy(text).parse().expect("a number"),
        other => panic!("{other:?}"),
    };
    match rng.below(5) {
        0 => match say(client, "DBSIZE") {
            Value::Integer(keys) => keys,
            other => panic!("{other:?}"),
        },
        1 => match say(client, "KEYS *") {
            Value::Array(keys) => keys.len() as i64,
            other => panic!("{other:?}"),
        },
        2 => match say(client, "EXISTS key8 key9 key10") {
            Value::Integer(0) => FEW,
            Value::Integer(3) => MANY,
            other => panic!("half of a database: {other:?}"),
        },
        3 => match say(client, "MGET key0 key1 key2 key3 key4 key5 key6 key7") {
            Value::Array(values) => {
                assert!(values.iter().all(|value| *value == values[0]), "of two: {values:?}");
                number(&values[0])
            }
            other => panic!("{other:?}"),
        },
        _ => number(&say(client, "GET key3")),
    }
}

#[test]
fn keys_expire_in_every_database_and_their_memory_comes_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    for number in [0, 3, 15] {
        say(&mut client, &format!("SELECT {number}"));
        for key in 0..50 {
            assert_eq!(say(&mut client, &format!("SET key{key} v PX 20")), Value::ok());
        }
        assert_eq!(say(&mut client, "SET stays v"), Value::ok());
    }
    say(&mut client, "SWAPDB 3 4");
    for number in [0, 4, 15] {
        say(&mut client, &format!("SELECT {number}"));
        eventually("all are reclaimed", || say(&mut client, "DBSIZE") == Value::Integer(1));
    }
    server.kill9();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    say(&mut client, "SELECT 4");
    assert_eq!(say(&mut client, "DBSIZE"), Value::Integer(1));
}

/// Nobody could see that they are there, and a FLUSHALL would remove them.
#[test]
fn keys_in_a_database_beyond_the_last_one_refuse_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-databases", "20"]);
    let mut client = Client::connect(&server);
    for words in ["SELECT 17", "SET hidden v", "SWAPDB 17 3"] {
        assert_eq!(say(&mut client, words), Value::ok());
    }
    server.stop();
    // Its space is beyond the last number, but its number is not.
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(say(&mut client, "SELECT 3"), Value::ok());
    assert_eq!(say(&mut client, "GET hidden"), Value::bulk("v"));
    assert_eq!(say(&mut client, "SELECT 16"), Value::error("ERR DB index is out of range"));
    server.stop();
    let refusal = Server::refusal(dir.path(), &["-databases", "3"]);
    assert_eq!(refusal.code, Some(1));
    for part in ["wal_file: database 3 has 1 key", "Nothing was changed", "-databases 4 or more"] {
        assert!(refusal.stderr.contains(part), "{}", refusal.stderr);
    }
    let server = Server::start(dir.path(), &["-databases", "4"]);
    server.stop();
}
