//! The server beside a model of it that fits on a page: the same random commands, the same replies,
//! and after every kill -9 the same keys.
//!
//! The model knows no clock: expiries are points in time in the next century, or in the past, where
//! they remove the key. Keys that expire during a test have tests of their own below.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::wire::{Value, ask, reply, request, say};
use crate::common::{Client, Rng, Server, eventually, seed};

/// Few keys, so that commands meet.
const KEYS: usize = 10;

/// Few databases, so that they are swapped while they have keys.
const DATABASES: usize = 3;

/// 2100-01-01, in milliseconds of Unix time: later than any test.
const FAR: i64 = 4_102_444_800_000;

/// Sets two keys to the same value, and answers what the first was before.
const SET_BOTH: &str = "local old = redis.call('GET', KEYS[1]) \
     redis.call('SET', KEYS[1], ARGV[1]) redis.call('SET', KEYS[2], ARGV[1]) return old";

/// The same, but it fails at its end.
const SET_BOTH_AND_FAIL: &str = "redis.call('SET', KEYS[1], ARGV[1]) \
     redis.call('SET', KEYS[2], ARGV[1]) redis.call('INCRBY', KEYS[1], 'x')";

/// The error of that.
const FAILED: &str = "ERR value is not an integer or out of range script: \
                      ede22983cff2f2a3654f19aebc04380665d93e5c, on @user_script:1.";

type Words = Vec<Vec<u8>>;

#[test]
fn random_commands_are_answered_as_the_model_says_and_survive_kills() {
    survive(8, 400);
}

#[test]
#[ignore = "takes minutes; for CI"]
fn many_random_commands_are_answered_as_the_model_says_and_survive_kills() {
    survive(60, 5_000);
}

/// Kills the server `kills` times, each after up to `most` steps.
fn survive(kills: usize, most: usize) {
    let mut rng = Rng::new(seed());
    let dir = tempfile::tempdir().expect("a directory");
    let mut model = Model::default();
    for kill in 0..kills {
        let (server, mut client) = start(dir.path(), kill);
        model.is_what(&mut client, &format!("after kill {kill}"));
        for _ in 0..rng.below(most) {
            step(&mut rng, &mut client, &mut model);
            if rng.below(100) == 0 {
                // Beside what follows; refused while one runs.
                say(&mut client, "BGREWRITEAOF");
            }
        }
        model.is_what(&mut client, &format!("before kill {}", kill + 1));

        // One more group, and the kill before its reply: it is done, or it is not.
        let last: Vec<Words> = group(&mut rng);
        let bytes: Vec<u8> = last.iter().flat_map(request).collect();
        client.send([&request(["MULTI"])[..], &bytes, &request(["EXEC"])].concat());
        server.kill9();
        let mut done = model.clone();
        last.iter().for_each(|words| drop(done.carry_out(words)));
        let (server, mut client) = start(dir.path(), kill + 1);
        let found = keyspaces(&mut client);
        let is_one = found == model.databases || found == done.databases;
        assert!(is_one, "{last:?}: {found:?}, not {model:?} and not {done:?}");
        (model.databases, model.selected) = (found, 0);
        server.kill9();
    }
}

/// A server on a single map and on eight in turn.
fn start(dir: &Path, turn: usize) -> (Server, Client) {
    let server = Server::start(dir, &["-shards", if turn.is_multiple_of(2) { "8" } else { "1" }]);
    let client = Client::connect(&server);
    (server, client)
}

/// A command, or a transaction, to both; the replies must be the same.
fn step(rng: &mut Rng, client: &mut Client, model: &mut Model) {
    if rng.below(10) > 1 {
        let words = command(rng);
        let expected = model.carry_out(&words);
        assert_eq!(ask(client, &words), expected, "{}", shown(&words));
        return;
    }
    if rng.below(2) == 0 {
        // One batch.
        let commands = group(rng);
        client.send(commands.iter().flat_map(request).collect::<Vec<u8>>());
        for words in &commands {
            assert_eq!(reply(client), Ok(model.carry_out(words)), "{}", shown(words));
        }
        return;
    }
    let commands = group(rng);
    let discarded = rng.below(4) == 0;
    let end = if discarded { "DISCARD" } else { "EXEC" };
    let bytes: Vec<u8> = commands.iter().flat_map(request).collect();
    client.send([&request(["MULTI"])[..], &bytes, &request([end])].concat());
    assert_eq!(reply(client), Ok(Value::ok()));
    for words in &commands {
        assert_eq!(reply(client), Ok(Value::Simple("QUEUED".into())), "{}", shown(words));
    }
    let expected = match discarded {
        true => Value::ok(),
        false => Value::Array(commands.iter().map(|words| model.carry_out(words)).collect()),
    };
    let all: Vec<String> = commands.iter().map(shown).collect();
    assert_eq!(reply(client), Ok(expected), "{all:?}");
}

fn group(rng: &mut Rng) -> Vec<Words> {
    let count = if rng.below(4) == 0 { 20 } else { 6 };
    (0..rng.below(count)).map(|_| command(rng)).collect()
}

/// A random command, all of whose words make sense.
fn command(rng: &mut Rng) -> Words {
    let one_of = |rng: &mut Rng, words: &[&str]| words[rng.below(words.len())].to_owned();
    let key = |rng: &mut Rng| format!("key{}", rng.below(KEYS)).into_bytes();
    let pick = rng.below(1000);
    let database = |rng: &mut Rng| rng.below(DATABASES).to_string().into_bytes();
    match pick {
        0 => return vec![b"FLUSHALL".to_vec()],
        1..4 => return vec![b"FLUSHDB".to_vec()],
        4..40 => return vec![b"SELECT".to_vec(), database(rng)],
        40..60 => return vec![b"SWAPDB".to_vec(), database(rng), database(rng)],
        60..90 => return vec![b"MOVE".to_vec(), key(rng), database(rng)],
        _ => {}
    }
    let name = ["SET", "SET", "SET", "GET", "DEL", "EXISTS", "INCR", "INCRBY", "DECRBY", "APPEND"];
    let more = ["SETRANGE", "GETRANGE", "GETDEL", "GETSET", "GETEX", "SETNX", "RENAME", "RENAMENX"];
    let bits = ["SETBIT", "GETBIT", "BITFIELD", "APPEND", "SETRANGE", "APPEND"];
    let last = ["COPY", "MSET", "MSETNX", "MGET", "EXPIREAT", "PERSIST", "STRLEN"];
    let script = if cfg!(feature = "scripts") { &["EVAL"][..] } else { &[] };
    let names = name.into_iter().chain(more).chain(bits).chain(last).chain(script.iter().copied());
    let names: Vec<&str> = names.collect();
    let name = names[pick % names.len()];
    let mut words = vec![name.as_bytes().to_vec()];
    let option = |words: &mut Words, text: &str| {
        words.extend(text.split_whitespace().map(|word| word.as_bytes().to_vec()));
    };
    words.push(key(rng));
    match name {
        "SET" => {
            words.push(value(rng));
            option(&mut words, &one_of(rng, &["", "", "NX", "XX"]));
            option(&mut words, &one_of(rng, &["", "", "GET"]));
            let later = format!("PXAT {}", FAR + rng.below(1000) as i64);
            option(&mut words, &one_of(rng, &["", "", "KEEPTTL", &later, "PXAT 1"]));
        }
        "GETEX" => {
            let later = format!("PXAT {}", FAR + rng.below(1000) as i64);
            option(&mut words, &one_of(rng, &["", "PERSIST", &later]));
        }
        "DEL" | "EXISTS" | "MGET" => (0..rng.below(3)).for_each(|_| words.push(key(rng))),
        "INCRBY" | "DECRBY" => {
            let by = one_of(rng, &["1", "-7", "0", "9223372036854775807", "-5000000000000000000"]);
            option(&mut words, &by);
        }
        "APPEND" | "GETSET" | "SETNX" => words.push(value(rng)),
        "SETRANGE" => {
            option(&mut words, &place(rng).to_string());
            words.push(value(rng));
        }
        "SETBIT" => option(&mut words, &format!("{} {}", 8 * place(rng) + 3, rng.below(2))),
        "GETBIT" => option(&mut words, &(8 * place(rng) + 3).to_string()),
        "BITFIELD" => {
            let (set, get) = (place(rng), place(rng));
            option(&mut words, &format!("SET u8 #{set} {} GET u8 #{get}", rng.below(256)));
        }
        "GETRANGE" => {
            let end = |rng: &mut Rng| (rng.below(30) as i64 - 15).to_string();
            let range = [end(rng), end(rng)];
            option(&mut words, &range.join(" "));
        }
        "RENAME" | "RENAMENX" => words.push(key(rng)),
        "COPY" => {
            words.push(key(rng));
            option(&mut words, &one_of(rng, &["", "REPLACE"]));
            let other = format!("DB {}", rng.below(DATABASES));
            option(&mut words, &one_of(rng, &["", &other]));
        }
        "MSET" | "MSETNX" => {
            words.push(value(rng));
            for _ in 0..rng.below(4) {
                words.push(key(rng));
                words.push(value(rng));
            }
        }
        "EVAL" => {
            let script = one_of(rng, &[SET_BOTH, SET_BOTH, SET_BOTH_AND_FAIL]);
            let first = words.pop().expect("a key");
            words.extend([script.into_bytes(), b"2".to_vec(), first, key(rng), value(rng)]);
        }
        "EXPIREAT" => {
            words[0] = one_of(rng, &["PEXPIREAT", "EXPIREAT"]).into_bytes();
            let second = if words[0][0] == b'P' { 1 } else { 1000 };
            let later = ((FAR + 1000 * rng.below(10) as i64) / second).to_string();
            option(&mut words, &one_of(rng, &[&later, &later, &later, "1", "-1"]));
            option(&mut words, &one_of(rng, &["", "", "NX", "XX", "GT", "LT", "XX GT", "XX LT"]));
        }
        _ => {}
    }
    words
}

/// A place in a value: near its start, or in the middle of a long one.
fn place(rng: &mut Rng) -> usize {
    if rng.below(2) == 0 { rng.below(20) } else { rng.below(3_000) }
}

fn value(rng: &mut Rng) -> Vec<u8> {
    match rng.below(9) {
        8 => (0..1_000 + rng.below(2_000)).map(|_| rng.next() as u8).collect(),
        0 => Vec::new(),
        1 => (0..rng.below(20)).map(|_| rng.next() as u8).collect(),
        2 => vec![rng.next() as u8; rng.below(5_000)],
        3 => b"01".to_vec(),
        4 => i64::MAX.to_string().into_bytes(),
        _ => (rng.below(2_000) as i64 - 1_000).to_string().into_bytes(),
    }
}

/// Values, and when they expire.
type Entries = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

/// What the server should be, and the database that its client has selected.
#[derive(Clone, Debug, Default)]
struct Model {
    databases: [Entries; DATABASES],
    selected: usize,
}

impl Model {
    fn here(&mut self) -> &mut Entries {
        &mut self.databases[self.selected]
    }

    fn carry_out(&mut self, words: &Words) -> Value {
        let name = std::str::from_utf8(&words[0]).expect("a name");
        let (key, rest) =
            (words.get(1).cloned().unwrap_or_default(), words.get(2..).unwrap_or(&[]));
        let text = |at: usize| rest.get(at).map_or("", |w| std::str::from_utf8(w).unwrap_or(""));
        let number = |at: usize| text(at).parse::<i64>().expect("a number");
        let has = |option: &str| rest.iter().any(|word| word == option.as_bytes());
        let bulk = |value: Option<&Vec<u8>>| value.map_or(Value::NullBulk, Value::bulk);
        let flag = |it_is: bool| Value::Integer(it_is.into());
        let place = |at: usize| {
            let text = words.get(at).map_or("", |word| std::str::from_utf8(word).unwrap_or(""));
            text.parse::<usize>().expect("a number")
        };
        let same = || Value::error("ERR source and destination objects are the same");
        let old = self.here().get(&key).cloned();
        let old_value = old.as_ref().map(|(value, _)| value);
        let old_expiry = old.as_ref().and_then(|(_, expiry)| *expiry);
        match name {
            "FLUSHALL" => {
                self.databases = Default::default();
                Value::ok()
            }
            "FLUSHDB" => {
                self.here().clear();
                Value::ok()
            }
            "SELECT" => {
                self.selected = place(1);
                Value::ok()
            }
            "SWAPDB" => {
                self.databases.swap(place(1), place(2));
                Value::ok()
            }
            "MOVE" if place(2) == self.selected => same(),
            "MOVE" => {
                let to = &mut self.databases[place(2)];
                let Some(entry) = old.filter(|_| !to.contains_key(&key)) else {
                    return flag(false);
                };
                to.insert(key.clone(), entry);
                self.here().remove(&key);
                flag(true)
            }
            "GET" => bulk(old_value),
            "STRLEN" => Value::Integer(old_value.map_or(0, |value| value.len() as i64)),
            "GETRANGE" => {
                let value = old_value.cloned().unwrap_or_default();
                Value::Bulk(range(&value, number(0), number(1)))
            }
            "EXISTS" => {
                let there = words[1..].iter().filter(|key| self.here().contains_key(*key));
                Value::Integer(there.count() as i64)
            }
            "MGET" => {
                let value = |key| bulk(self.here().get(key).map(|(value, _)| value));
                Value::Array(words[1..].iter().map(value).collect())
            }
            "DEL" => {
                let gone = words[1..].iter().filter(|key| self.here().remove(*key).is_some());
                Value::Integer(gone.count() as i64)
            }
            "GETDEL" => {
                self.here().remove(&key);
                bulk(old_value)
            }
            "SET" => {
                // The value may look like an option.
                let options = &rest[1..];
                let has = |option: &str| options.iter().any(|word| word == option.as_bytes());
                let at = options.iter().position(|word| word == b"PXAT");
                let at = at.map(|at| String::from_utf8_lossy(&options[at + 1]).into_owned());
                let at = at.map(|at| at.parse::<i64>().expect("a number"));
                let sets = !(has("NX") && old.is_some() || has("XX") && old.is_none());
                if sets {
                    let expiry = if has("KEEPTTL") { old_expiry } else { at };
                    self.put(&key, rest[0].clone(), expiry);
                }
                match (has("GET"), sets) {
                    (true, _) => bulk(old_value),
                    (false, true) => Value::ok(),
                    (false, false) => Value::NullBulk,
                }
            }
            "SETNX" => {
                if old.is_none() {
                    self.put(&key, rest[0].clone(), None);
                }
                flag(old.is_none())
            }
            "GETSET" => {
                self.put(&key, rest[0].clone(), None);
                bulk(old_value)
            }
            "GETEX" => {
                if let Some(value) = old_value {
                    let expiry = match text(0) {
                        "PXAT" => Some(number(1)),
                        "PERSIST" => None,
                        _ => old_expiry,
                    };
                    self.put(&key, value.clone(), expiry);
                }
                bulk(old_value)
            }
            "APPEND" => {
                let value = [&old_value.cloned().unwrap_or_default()[..], &rest[0]].concat();
                let length = value.len() as i64;
                self.put(&key, value, old_expiry);
                Value::Integer(length)
            }
            "SETRANGE" => {
                let mut value = old_value.cloned().unwrap_or_default();
                let (offset, part) = (number(0) as usize, &rest[1]);
                if !part.is_empty() {
                    value.resize(value.len().max(offset + part.len()), 0);
                    value[offset..offset + part.len()].copy_from_slice(part);
                    self.put(&key, value.clone(), old_expiry);
                }
                Value::Integer(value.len() as i64)
            }
            "SETBIT" | "GETBIT" => {
                let mut value = old_value.cloned().unwrap_or_default();
                let (byte, mask) = (number(0) as usize / 8, 0x80 >> (number(0) % 8));
                let bit = value.get(byte).is_some_and(|byte| byte & mask != 0);
                if name == "SETBIT" {
                    value.resize(value.len().max(byte + 1), 0);
                    value[byte] = value[byte] & !mask | if number(1) == 1 { mask } else { 0 };
                    self.put(&key, value, old_expiry);
                }
                flag(bit)
            }
            "BITFIELD" => {
                let mut value = old_value.cloned().unwrap_or_default();
                let place = |at: usize| text(at)[1..].parse::<usize>().expect("a number");
                let at = |value: &Vec<u8>, place| value.get(place).copied().unwrap_or(0u8);
                let (old, new) = (at(&value, place(2)), number(3) as u8);
                if old != new || value.len() <= place(2) {
                    value.resize(value.len().max(place(2) + 1), 0);
                    value[place(2)] = new;
                    self.put(&key, value.clone(), old_expiry);
                }
                let found = at(&value, place(6));
                Value::Array([old, found].map(|number| Value::Integer(number.into())).into())
            }
            "INCR" => self.add(&key, 1),
            "INCRBY" => self.add(&key, number(0)),
            "DECRBY" => self.add(&key, -number(0)),
            "MSET" | "MSETNX" => {
                let pairs = words[1..].chunks(2);
                let free = pairs.clone().all(|pair| !self.here().contains_key(&pair[0]));
                if name == "MSET" || free {
                    pairs.for_each(|pair| self.put(&pair[0], pair[1].clone(), None));
                }
                if name == "MSET" { Value::ok() } else { flag(free) }
            }
            "EVAL" if key == SET_BOTH_AND_FAIL.as_bytes() => Value::error(FAILED),
            "EVAL" => {
                let [_, first, second, value] = rest else { unreachable!("two keys, one value") };
                let before = self.here().get(first).cloned();
                [first, second].into_iter().for_each(|key| self.put(key, value.clone(), None));
                bulk(before.as_ref().map(|(value, _)| value))
            }
            "RENAME" | "RENAMENX" => {
                let Some((value, expiry)) = old else {
                    return Value::error("ERR no such key");
                };
                let moves = name == "RENAME" || !self.here().contains_key(&rest[0]);
                if moves {
                    self.here().remove(&key);
                    self.put(&rest[0], value, expiry);
                }
                if name == "RENAME" { Value::ok() } else { flag(moves) }
            }
            "COPY" => {
                let to = rest.iter().position(|word| word == b"DB");
                let to = to.map_or(self.selected, |at| place(at + 3));
                if key == rest[0] && to == self.selected {
                    return same();
                }
                let from = std::mem::replace(&mut self.selected, to);
                let copies =
                    old.is_some() && (has("REPLACE") || !self.here().contains_key(&rest[0]));
                if let Some((value, expiry)) = old.filter(|_| copies) {
                    self.put(&rest[0], value, expiry);
                }
                self.selected = from;
                flag(copies)
            }
            "EXPIREAT" | "PEXPIREAT" => {
                let Some(value) = old_value else {
                    return flag(false);
                };
                let at = number(0) * if name == "EXPIREAT" { 1000 } else { 1 };
                let infinite = old_expiry.unwrap_or(i64::MAX);
                let meets = !(has("NX") && old_expiry.is_some()
                    || has("XX") && old_expiry.is_none()
                    || has("GT") && at <= infinite
                    || has("LT") && at >= infinite);
                if meets {
                    self.put(&key, value.clone(), Some(at));
                }
                flag(meets)
            }
            "PERSIST" => {
                if let Some(value) = old_value {
                    self.put(&key, value.clone(), None);
                }
                flag(old_expiry.is_some())
            }
            other => unreachable!("{other} is not generated"),
        }
    }

    /// Fails with the first key that differs.
    fn is_what(&self, client: &mut Client, when: &str) {
        for (number, found) in keyspaces(client).into_iter().enumerate() {
            let expected = &self.databases[number];
            let different = |key: &&Vec<u8>| found.get(*key) != expected.get(*key);
            if let Some(key) = found.keys().chain(expected.keys()).find(different) {
                let shown = |entries: &Entries| {
                    entries.get(key).map(|(value, expiry)| {
                        (value[..value.len().min(100)].escape_ascii().to_string(), *expiry)
                    })
                };
                let (is, should, key) = (shown(&found), shown(expected), key.escape_ascii());
                panic!("{when}: {key} in {number} is {is:?}, should be {should:?}");
            }
        }
        assert_eq!(say(client, &format!("SELECT {}", self.selected)), Value::ok());
    }

    /// Stores a value, unless its expiry is in the past: then the key is removed.
    fn put(&mut self, key: &[u8], value: Vec<u8>, expiry: Option<i64>) {
        if expiry.is_some_and(|at| at < FAR) {
            self.here().remove(key);
        } else {
            self.here().insert(key.to_vec(), (value, expiry));
        }
    }

    fn add(&mut self, key: &[u8], by: i64) -> Value {
        let (value, expiry) = self.here().get(key).cloned().unwrap_or((b"0".to_vec(), None));
        let text = String::from_utf8_lossy(&value).into_owned();
        let Some(number) = text.parse::<i64>().ok().filter(|n| n.to_string() == text) else {
            return Value::error("ERR value is not an integer or out of range");
        };
        let Some(sum) = number.checked_add(by) else {
            return Value::error("ERR increment or decrement would overflow");
        };
        self.put(key, sum.to_string().into_bytes(), expiry);
        Value::Integer(sum)
    }
}

/// The bytes from one place to another, each counted from either end.
fn range(value: &[u8], start: i64, end: i64) -> Vec<u8> {
    let length = value.len() as i64;
    let from_front = |at: i64| if at < 0 { at + length } else { at };
    // Redis takes an end before the front for the front itself, unless it lies before the start.
    if start < 0 && end < 0 && start > end {
        return Vec::new();
    }
    let (start, end) = (from_front(start), from_front(end).max(0));
    let wanted = |at: &i64| *at >= start && *at <= end;
    (0..length).filter(wanted).map(|at| value[at as usize]).collect()
}

/// All that the server has. The last database is selected afterwards.
fn keyspaces(client: &mut Client) -> [Entries; DATABASES] {
    std::array::from_fn(|number| {
        assert_eq!(say(client, &format!("SELECT {number}")), Value::ok());
        keyspace(client)
    })
}

/// All that the selected database has.
fn keyspace(client: &mut Client) -> Entries {
    let Value::Array(keys) = say(client, "KEYS *") else { panic!("a list") };
    // A key that was set with an expiry in the past is counted until it is reclaimed, as in Redis.
    let count = Value::Integer(keys.len() as i64);
    eventually("DBSIZE is the number of keys", || say(client, "DBSIZE") == count);
    let entry = |key: Value| {
        let Value::Bulk(key) = key else { panic!("{key:?} is no key") };
        let Value::Bulk(value) = ask(client, [&b"GET"[..], &key]) else { panic!("no value") };
        let expiry = match ask(client, [&b"PEXPIRETIME"[..], &key]) {
            Value::Integer(-1) => None,
            Value::Integer(at) => Some(at),
            other => panic!("{other:?}"),
        };
        (key, (value, expiry))
    };
    let count = keys.len();
    let entries: Entries = keys.into_iter().map(entry).collect();
    assert_eq!(entries.len(), count, "each key once");
    entries
}

fn shown(words: &Words) -> String {
    let words = words.iter().map(|word| word[..word.len().min(40)].escape_ascii().to_string());
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_key_is_gone_when_its_time_has_come_and_stays_gone_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(say(&mut client, "SET stays 1 PX 100000000"), Value::ok());
    assert_eq!(say(&mut client, "SET goes 1 PX 50"), Value::ok());
    eventually("the key goes", || say(&mut client, "EXISTS goes") == Value::Integer(0));
    for (words, expected) in [
        ("GET goes", Value::NullBulk),
        ("TTL goes", Value::Integer(-2)),
        ("PEXPIRE goes 1000", Value::Integer(0)),
        ("DEL goes", Value::Integer(0)),
        ("KEYS goes", Value::Array(Vec::new())),
        ("TYPE goes", Value::Simple("none".into())),
        ("RENAME goes x", Value::error("ERR no such key")),
        ("COPY goes x", Value::Integer(0)),
    ] {
        assert_eq!(say(&mut client, words), expected, "{words}");
    }
    server.kill9();
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(say(&mut client, "EXISTS goes"), Value::Integer(0));
    assert_eq!(say(&mut client, "EXISTS stays"), Value::Integer(1));
    assert_eq!(say(&mut client, "SETNX goes 2"), Value::Integer(1), "as new");
    assert_eq!(say(&mut client, "TTL goes"), Value::Integer(-1));
}

#[test]
fn a_key_that_expires_while_the_server_is_down_is_not_there_afterwards() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    assert_eq!(say(&mut client, "SET goes 1 PX 50"), Value::ok());
    server.kill9();
    // The kill may be quicker than the expiry, and so may the start.
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    eventually("the key goes", || say(&mut client, "EXISTS goes") == Value::Integer(0));
    eventually("it is reclaimed", || say(&mut client, "DBSIZE") == Value::Integer(0));
}

#[test]
fn expired_keys_are_reclaimed_without_being_touched() {
    for shards in ["1", "8"] {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::start(dir.path(), &["-shards", shards]);
        let mut client = Client::connect(&server);
        for i in 0..500 {
            client.send(request(["SET", &format!("key{i}"), "v", "PX", "50"]));
        }
        (0..500).for_each(|_| assert_eq!(reply(&mut client), Ok(Value::ok())));
        eventually("all are reclaimed", || say(&mut client, "DBSIZE") == Value::Integer(0));
        server.kill9();
        let server = Server::start(dir.path(), &["-shards", shards]);
        assert_eq!(say(&mut Client::connect(&server), "DBSIZE"), Value::Integer(0));
    }
}
