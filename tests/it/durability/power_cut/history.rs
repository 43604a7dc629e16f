//! Clients that write to a server on a logged disk, and what a server started after a cut has to show.
//!
//! The clock of their [`History`] is the length of the block log, noted before each operation is sent and
//! after its reply has come: a cut at or after the second length must show it or a later one, a cut at or
//! before the first cannot.

use std::path::Path;

use crate::common::wire::{Value, ask, reply, request};
use crate::common::{Client, Rng, Server};
use crate::durability::history::{Change, History, Register};
use crate::durability::pairs::Pair;

const CLIENTS: usize = 6;

/// What a register is changed with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One key, with SET, DEL, APPEND and SETRANGE.
    Single,
    /// Three keys, with MSET and DEL, and with a script in place of every other MSET.
    Group,
    /// One key, with INCR.
    Counter,
}

const KINDS: [Kind; 5] = [Kind::Single, Kind::Single, Kind::Group, Kind::Group, Kind::Counter];

/// Sets each key in turn, the later ones after a look at the one before.
const SET_ALL: &str = "for n, key in ipairs(KEYS) do \
                       if n > 1 then assert(redis.call('GET', KEYS[n - 1]) == ARGV[n - 1]) end \
                       redis.call('SET', key, ARGV[n]) end return redis.status_reply('OK')";

/// What all clients have: each has registers of each kind in turn, and two databases.
pub struct Clients {
    history: History,
    pairs: Vec<Pair>,
}

impl Clients {
    /// As they are before any operation.
    pub fn new(seed: u64) -> Clients {
        let keys = |index: usize| {
            let parts = if KINDS[index % KINDS.len()] == Kind::Group { 3 } else { 1 };
            (0..parts).map(|part| format!("key{index}.{part}")).collect()
        };
        let history = History::new(seed, (0..CLIENTS * KINDS.len()).map(keys));
        Clients { history, pairs: (0..CLIENTS as u16).map(Pair::new).collect() }
    }

    /// Lets all clients write, each this many operations.
    pub fn write(&mut self, server: &Server, block_log: &Path, operations: usize, rng: &mut Rng) {
        let registers = self.history.registers.chunks_mut(KINDS.len());
        std::thread::scope(|scope| {
            for (registers, pair) in registers.zip(&mut self.pairs) {
                let mut rng = Rng::new(rng.next());
                scope.spawn(move || {
                    let mut client = Client::connect(server);
                    let mut beside = Client::connect(server);
                    for _ in 0..operations {
                        let chosen = rng.below(registers.len() + 1);
                        let change = match KINDS.get(chosen) {
                            None => {
                                swap(pair, &mut rng, &mut beside, block_log);
                                continue;
                            }
                            Some(Kind::Counter) => Change::Count,
                            Some(Kind::Single) => Change::random(&mut rng, 1),
                            Some(Kind::Group) => Change::random(&mut rng, 3),
                        };
                        operate(&mut registers[chosen], change, &mut client, block_log);
                    }
                });
            }
        });
    }

    /// How many operations had been acknowledged at this length of the block log.
    pub fn acknowledged(&self, length: u64) -> usize {
        let of_pairs = self.pairs.iter().map(|pair| pair.acknowledged(length));
        self.history.acknowledged(length) + of_pairs.sum::<usize>()
    }

    /// Which operation each register and each pair shows after a cut at this length of the block log.
    pub fn shown(&self, client: &mut Client, length: u64) -> Result<Vec<usize>, String> {
        let mut shown = shown(&self.history, client, length)?;
        for pair in &self.pairs {
            shown.push(pair.shown(client, length)?);
        }
        Ok(shown)
    }
}

/// One operation in the two databases.
fn swap(pair: &mut Pair, rng: &mut Rng, client: &mut Client, block_log: &Path) {
    let sent = pair.send(rng, length(block_log));
    client.send(sent.request);
    for expected in sent.replies {
        assert_eq!(reply(client).expect("a reply"), expected, "operation {}", sent.number);
    }
    pair.acknowledge(sent.number, length(block_log));
}

fn operate(register: &mut Register, change: Change, client: &mut Client, block_log: &Path) {
    let number = register.send(change, length(block_log));
    let values = register.values(number);
    let keys = register.keys.iter().map(String::as_str);
    let count = keys.len().to_string();
    let as_script = cfg!(feature = "scripts") && keys.len() > 1 && number.is_multiple_of(2);
    let (in_place, _) = match change {
        Change::Patch(_) => register.request(number),
        _ => Default::default(),
    };
    let words: Vec<&str> = match change {
        Change::Patch(_) => in_place.iter().map(String::as_str).collect(),
        Change::Count => std::iter::once("INCR").chain(keys).collect(),
        Change::Delete => std::iter::once("DEL").chain(keys).collect(),
        Change::Set(_) if as_script => {
            let values = values.iter().flatten().map(String::as_str);
            ["EVAL", SET_ALL, &count].into_iter().chain(keys).chain(values).collect()
        }
        Change::Set(_) => {
            let name = if keys.len() > 1 { "MSET" } else { "SET" };
            let pairs = keys.zip(values.iter().flatten());
            let pairs = pairs.flat_map(|(key, value)| [key, value.as_str()]);
            std::iter::once(name).chain(pairs).collect()
        }
    };
    client.send(request(words));
    let told = reply(client).expect("a reply");
    let as_it_should = match change {
        Change::Count => told == Value::Integer(number as i64),
        Change::Delete | Change::Patch(_) => matches!(told, Value::Integer(_)),
        Change::Set(_) => told == Value::ok(),
    };
    assert!(as_it_should, "operation {number} of {:?}: {told:?}", register.keys);
    register.acknowledge(number, length(block_log));
}

/// Which operation each register shows after a cut at this length of the block log.
fn shown(history: &History, client: &mut Client, length: u64) -> Result<Vec<usize>, String> {
    let keys = history.registers.iter().flat_map(|register| &register.keys);
    let words: Vec<&str> = std::iter::once("MGET").chain(keys.map(String::as_str)).collect();
    let Value::Array(values) = ask(client, words) else {
        return Err("no answer to MGET".into());
    };
    let mut values = values.into_iter();
    history.shown(length, |_| match values.next().expect("a value for each key") {
        Value::Bulk(value) => Some(String::from_utf8_lossy(&value).into_owned()),
        Value::NullBulk => None,
        other => panic!("MGET answered {other:?}"),
    })
}

/// How long the block log is by now.
pub fn length(block_log: &Path) -> u64 {
    block_log.metadata().expect("the block log is there").len()
}
