//! What clients asked for and were told, and whether a server that was started after a cut can be
//! believed.
//!
//! Each client has registers of its own and numbers its operations on each. What an operation
//! writes follows from the seed, the key and the number, so a value that was never sent, or a
//! mixture of two, is no value of any operation. For each operation the length of the block log is
//! noted before it is sent and after its reply has come: a cut at or behind the second length must
//! show it or a later one, a cut at or before the first cannot.

use std::ops::RangeInclusive;
use std::path::Path;

use crate::common::wire::{Value, ask, reply, request};
use crate::common::{Client, Rng, Server};

const CLIENTS: usize = 6;

/// All registers.
pub struct History {
    registers: Vec<Register>,
}

/// What one client changes with single commands.
struct Register {
    kind: Kind,
    keys: Vec<String>,
    seed: u64,
    /// The first operation has the number 1; 0 is the beginning, without a value.
    operations: Vec<Times>,
}

#[derive(Clone, Copy)]
enum Kind {
    /// One key, with SET and DEL.
    Single,
    /// Three keys, with MSET and DEL.
    Group,
    /// One key, with INCR.
    Counter,
}

/// How long the block log was.
struct Times {
    sent: u64,
    answered: Option<u64>,
}

const KINDS: [Kind; 5] = [Kind::Single, Kind::Single, Kind::Group, Kind::Group, Kind::Counter];

impl History {
    pub fn new(seed: u64) -> History {
        let register = |index: usize| {
            let kind = KINDS[index % KINDS.len()];
            let parts = if matches!(kind, Kind::Group) { 3 } else { 1 };
            Register {
                kind,
                keys: (0..parts).map(|part| format!("key{index}.{part}")).collect(),
                seed: Rng::new(seed.wrapping_add(index as u64)).next(),
                operations: Vec::new(),
            }
        };
        History { registers: (0..CLIENTS * KINDS.len()).map(register).collect() }
    }

    /// Lets all clients write, so many operations each.
    pub fn write(&mut self, server: &Server, block_log: &Path, operations: usize, rng: &mut Rng) {
        std::thread::scope(|scope| {
            for registers in self.registers.chunks_mut(KINDS.len()) {
                let mut rng = Rng::new(rng.next());
                scope.spawn(move || {
                    let mut client = Client::connect(server);
                    for _ in 0..operations {
                        let chosen = rng.below(registers.len());
                        registers[chosen].operate(&mut client, block_log);
                    }
                });
            }
        });
    }

    /// Which operation each register shows.
    pub fn shown(&self, client: &mut Client, length: u64) -> Result<Vec<usize>, String> {
        let keys = self.registers.iter().flat_map(|register| register.keys.iter().cloned());
        let words: Vec<String> = std::iter::once("MGET".to_owned()).chain(keys).collect();
        let Value::Array(mut values) = ask(client, words) else {
            return Err("no answer to MGET".into());
        };
        let mut shown = Vec::new();
        for register in &self.registers {
            let rest = values.split_off(register.keys.len());
            shown.push(register.shown(&values, length)?);
            values = rest;
        }
        Ok(shown)
    }

    /// How many operations had been answered when the block log had this length.
    pub fn answered(&self, length: u64) -> usize {
        let operations = self.registers.iter().flat_map(|register| &register.operations);
        operations.filter(|times| times.was_answered(length)).count()
    }
}

impl Times {
    fn was_answered(&self, length: u64) -> bool {
        self.answered.is_some_and(|answered| answered <= length)
    }
}

impl Register {
    fn operate(&mut self, client: &mut Client, block_log: &Path) {
        let number = self.operations.len() + 1;
        self.operations.push(Times { sent: length(block_log), answered: None });
        client.send(self.request(number));
        let told = reply(client).expect("a reply");
        let as_it_should = match self.kind {
            Kind::Counter => told == Value::Integer(number as i64),
            _ if self.deletes(number) => matches!(told, Value::Integer(_)),
            _ => told == Value::ok(),
        };
        assert!(as_it_should, "operation {number} of {:?}: {told:?}", self.keys);
        self.operations[number - 1].answered = Some(length(block_log));
    }

    fn request(&self, number: usize) -> Vec<u8> {
        let values = self.values(number);
        let words: Vec<&str> = match self.kind {
            Kind::Counter => vec!["INCR", &self.keys[0]],
            _ if self.deletes(number) => {
                std::iter::once("DEL").chain(self.keys.iter().map(String::as_str)).collect()
            }
            _ => {
                let name = if self.keys.len() > 1 { "MSET" } else { "SET" };
                let pairs = self.keys.iter().zip(values.iter().flatten());
                let pairs = pairs.flat_map(|(key, value)| [key.as_str(), value.as_str()]);
                std::iter::once(name).chain(pairs).collect()
            }
        };
        request(words)
    }

    fn deletes(&self, number: usize) -> bool {
        number == 0 || Rng::new(self.seed ^ number as u64).below(8) == 0
    }

    /// What the operation with this number leaves in each key.
    fn values(&self, number: usize) -> Vec<Option<String>> {
        if let Kind::Counter = self.kind {
            return vec![(number > 0).then(|| number.to_string())];
        }
        let mut rng = Rng::new(self.seed ^ number as u64);
        let deletes = self.deletes(number);
        let value = |key: &String| {
            // Mostly short, now and then longer than a few blocks of the log.
            let limit = 2 << rng.below(14);
            let length = rng.below(limit);
            let letters = (0..length).map(|_| char::from(b'a' + rng.below(26) as u8));
            (!deletes).then(|| format!("{key}:{number}:{}", letters.collect::<String>()))
        };
        self.keys.iter().map(value).collect()
    }

    /// The operations that may be the last one after a cut at this length of the block log.
    fn possible(&self, length: u64) -> RangeInclusive<usize> {
        let answered = self.operations.iter().filter(|times| times.was_answered(length)).count();
        let sent = self.operations.iter().filter(|times| times.sent < length).count();
        answered..=sent.max(answered)
    }

    fn shown(&self, values: &[Value], length: u64) -> Result<usize, String> {
        let as_value = |value: Option<String>| value.map_or(Value::NullBulk, Value::bulk);
        let leaves = |number: &usize| {
            self.values(*number).into_iter().map(as_value).eq(values.iter().cloned())
        };
        let possible = self.possible(length);
        possible.clone().rev().find(leaves).ok_or_else(|| {
            let shown: Vec<String> = values
                .iter()
                .map(|value| format!("{value:?}").chars().take(40).collect())
                .collect();
            let number = (0..=self.operations.len()).find(leaves);
            format!(
                "{:?}: one of operations {possible:?} expected, found {number:?}: {shown:?}",
                self.keys
            )
        })
    }
}

/// How long the block log is by now.
pub fn length(block_log: &Path) -> u64 {
    block_log.metadata().expect("the block log is there").len()
}
