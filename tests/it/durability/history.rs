//! What clients asked of registers and were told, and whether what is found afterwards can be believed.
//!
//! Each register has one writer, so that the order of its operations is known. What an operation writes
//! follows from the seed, the register's keys and the operation's number: a value that was never sent, or a
//! mixture of two, is the value of no operation. A value that is changed in place has in it what every such operation since
//! the last whole value has written. What is found must be what some operation left that is not
//! older than the last acknowledged one.
//!
//! An operation is sent at one instant and acknowledged at a later one, by any clock: the time, the length
//! of a log of blocks, or none ([`NOW`] for all).

use std::ops::RangeInclusive;

use crate::common::Rng;

/// The instant of every operation without a clock; after all others of any clock.
pub const NOW: u64 = u64::MAX;

/// Sets each key to its value, or removes all if there are none.
const SCRIPT: &str = "for i, key in ipairs(KEYS) do \
                      if ARGV[i] then redis.call('set', key, ARGV[i]) else redis.call('del', key) end end \
                      return redis.status_reply('OK')";

/// The registers of all clients.
#[derive(Clone)]
pub struct History {
    pub registers: Vec<Register>,
}

/// A key, or a few keys that are always changed together.
///
/// - `operations[n]` is operation `n`; number 0 is the beginning, without a value and acknowledged.
#[derive(Clone)]
pub struct Register {
    pub keys: Vec<String>,
    seed: u64,
    operations: Vec<Operation>,
}

#[derive(Clone, Copy)]
struct Operation {
    change: Change,
    sent: u64,
    fate: Fate,
}

/// What an operation does to each key of its register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets it to a value of its own, with this many random letters in it.
    Set(usize),
    /// Writes its number and this many random letters into what is there, at its end or at another place.
    Patch(usize),
    Delete,
    /// Adds 1 to it; such a register sees nothing else.
    Count,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unknown,
    Acknowledged(u64),
    /// It was not carried out and never will be.
    Refused,
}

impl Change {
    /// Mostly a short value, now and then one that is longer than a few blocks of the log.
    pub fn random(rng: &mut Rng, keys: usize) -> Change {
        match rng.below(8) {
            0 => return Change::Delete,
            1..4 if keys == 1 => return Change::Patch(rng.below(200)),
            _ => {}
        }
        let limit = 2 << rng.below(14);
        Change::Set(rng.below(limit))
    }
}

impl History {
    pub fn new(seed: u64, keys: impl IntoIterator<Item = Vec<String>>) -> History {
        let register = |(index, keys)| {
            let beginning =
                Operation { change: Change::Delete, sent: 0, fate: Fate::Acknowledged(0) };
            let seed = Rng::new(seed.wrapping_add(index as u64)).next();
            Register { keys, seed, operations: vec![beginning] }
        };
        History { registers: keys.into_iter().enumerate().map(register).collect() }
    }

    /// Registers of a key each.
    pub fn of_single_keys(seed: u64, keys: impl IntoIterator<Item = String>) -> History {
        History::new(seed, keys.into_iter().map(|key| vec![key]))
    }

    /// Which operation each register shows; `value` looks up a key. An error says what is lost, or was never
    /// there.
    pub fn shown(
        &self,
        at: u64,
        mut value: impl FnMut(&str) -> Option<String>,
    ) -> Result<Vec<usize>, String> {
        let shown = |register: &Register| {
            let values: Vec<_> = register.keys.iter().map(|key| value(key)).collect();
            register.shown(&values, at)
        };
        self.registers.iter().map(shown).collect()
    }

    /// The same, and from now on what was shown must stay.
    pub fn settle(&mut self, value: impl FnMut(&str) -> Option<String>) -> Result<(), String> {
        let shown = self.shown(NOW, value)?;
        self.registers.iter_mut().zip(shown).for_each(|(register, number)| register.settle(number));
        Ok(())
    }

    /// How many operations had been acknowledged at this instant.
    pub fn acknowledged(&self, at: u64) -> usize {
        let operations = self.registers.iter().flat_map(|register| &register.operations[1..]);
        operations.filter(|operation| operation.was_acknowledged(at)).count()
    }
}

impl Operation {
    fn was_acknowledged(&self, at: u64) -> bool {
        matches!(self.fate, Fate::Acknowledged(when) if when <= at)
    }
}

impl Register {
    /// Notes an operation that is about to be sent, and gives it a number.
    pub fn send(&mut self, change: Change, now: u64) -> usize {
        let sent = if now == NOW { 0 } else { now };
        self.operations.push(Operation { change, sent, fate: Fate::Unknown });
        self.operations.len() - 1
    }

    pub fn acknowledge(&mut self, number: usize, now: u64) {
        let when = if now == NOW { 0 } else { now };
        self.operations[number].fate = Fate::Acknowledged(when);
    }

    /// Notes that an operation was not carried out.
    pub fn refuse(&mut self, number: usize) {
        self.operations[number].fate = Fate::Refused;
    }

    /// The last operation that was acknowledged by this instant.
    pub fn last_acknowledged(&self, at: u64) -> usize {
        let last = self.operations.iter().rposition(|operation| operation.was_acknowledged(at));
        last.expect("the beginning is")
    }

    /// What an operation leaves in each key.
    pub fn values(&self, number: usize) -> Vec<Option<String>> {
        if let Change::Patch(_) = self.operations[number].change {
            return vec![Some(self.patched(number))];
        }
        let mut rng = Rng::new(self.seed ^ number as u64);
        let mut value = |key: &String| match self.operations[number].change {
            Change::Delete => None,
            Change::Count => Some(number.to_string()),
            Change::Patch(_) => unreachable!("it depends on the operation before"),
            Change::Set(length) => {
                let letters = (0..length).map(|_| char::from(b'a' + rng.below(26) as u8));
                Some(format!("{key}:{number}:{}", letters.collect::<String>()))
            }
        };
        self.keys.iter().map(&mut value).collect()
    }

    /// The value after a change in place, the last of several.
    fn patched(&self, number: usize) -> String {
        let was_carried_out = |at: &usize| self.operations[*at].fate != Fate::Refused;
        let is_whole = |at: &usize| !matches!(self.operations[*at].change, Change::Patch(_));
        let mut before = (0..number).rev().filter(was_carried_out);
        let mut patches = vec![number];
        let whole = before.by_ref().find(|at| {
            let is_whole = is_whole(at);
            if !is_whole {
                patches.push(*at);
            }
            is_whole
        });
        let mut value = whole.and_then(|at| self.value(at)).unwrap_or_default();
        for at in patches.into_iter().rev() {
            let (offset, part) = self.part(at, value.len());
            let end = (offset + part.len()).min(value.len());
            value.replace_range(offset..end, &part);
        }
        value
    }

    /// What a change in place writes into a value of this length, and where.
    fn part(&self, number: usize, length: usize) -> (usize, String) {
        let mut rng = Rng::new(self.seed ^ number as u64);
        let Change::Patch(letters) = self.operations[number].change else {
            unreachable!("it is one");
        };
        let offset = if rng.below(2) == 0 { length } else { rng.below(length + 1) };
        let letters = (0..letters).map(|_| char::from(b'a' + rng.below(26) as u8));
        (offset, format!("<{number}:{}>", letters.collect::<String>()))
    }

    /// The words of an operation on the only key, and the start of its reply in the text protocol.
    pub fn request(&self, number: usize) -> (Vec<String>, &'static str) {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let key = &self.keys[0];
        if let Change::Patch(_) = self.operations[number].change {
            let before = (0..number).rev().find(|at| self.operations[*at].fate != Fate::Refused);
            let length = before.and_then(|at| self.value(at)).map_or(0, |value| value.len());
            let (offset, part) = self.part(number, length);
            return match offset == length && number.is_multiple_of(2) {
                true => (words(&["APPEND", key, &part]), ":"),
                false => (words(&["SETRANGE", key, &offset.to_string(), &part]), ":"),
            };
        }
        match self.value(number) {
            Some(value) => (words(&["SET", key, &value]), "+OK"),
            None => (words(&["DEL", key]), "+OK"),
        }
    }

    /// What an operation leaves in the only key.
    pub fn value(&self, number: usize) -> Option<String> {
        self.values(number).remove(0)
    }

    /// The operation as a line of the text protocol. More than one key is changed by a script, one command after the
    /// other.
    pub fn line(&self, number: usize) -> String {
        if self.keys.len() > 1 {
            let (count, keys) = (self.keys.len(), self.keys.join(" "));
            let values: Vec<String> = self.values(number).into_iter().flatten().collect();
            return format!("EVAL \"{SCRIPT}\" {count} {keys} {}\n", values.join(" "));
        }
        format!("{}\n", self.request(number).0.join(" "))
    }

    /// What its reply begins with, in the text protocol.
    pub fn reply(&self, number: usize) -> &'static str {
        if self.keys.len() > 1 { "+OK" } else { self.request(number).1 }
    }

    /// The numbers from the last acknowledged operation to the last one that was sent by this instant.
    fn possible(&self, at: u64) -> RangeInclusive<usize> {
        let last = self.operations.iter().rposition(|operation| operation.sent < at);
        let acknowledged = self.last_acknowledged(at);
        acknowledged..=last.unwrap_or(0).max(acknowledged)
    }

    fn shown(&self, values: &[Option<String>], at: u64) -> Result<usize, String> {
        let leaves = |number: &usize| self.values(*number) == values;
        let was_refused = |number: &usize| self.operations[*number].fate == Fate::Refused;
        let possible = self.possible(at);
        let mut numbers = possible.clone().rev().filter(|number| !was_refused(number));
        numbers.find(leaves).ok_or_else(|| {
            let short = |value: &Option<String>| value.as_ref().map(|value| format!("{value:.40}"));
            let shown: Vec<_> = values.iter().map(short).collect();
            let number = (0..self.operations.len()).find(leaves);
            let keys = &self.keys;
            format!("LOST: {keys:?}: one of {possible:?} expected, found {number:?}: {shown:?}")
        })
    }

    /// What was seen must stay.
    fn settle(&mut self, number: usize) {
        self.operations[number].fate = Fate::Acknowledged(0);
        self.operations[number + 1..].iter_mut().for_each(|later| later.fate = Fate::Refused);
    }
}

/// The value in the answer to GET in the text protocol.
pub fn value_in(reply: &str, key: &str) -> Option<String> {
    if let Some(value) = reply.strip_prefix("+OK ") {
        return Some(value.to_owned());
    }
    assert_eq!(reply, format!("-GET could not find {key} in store"));
    None
}
