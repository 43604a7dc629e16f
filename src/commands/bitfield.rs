//! BITFIELD and BITFIELD_RO: numbers of any width at any place of a value.
//!
//! All steps are read and checked before the first is carried out, on one copy of the bytes from the first to the last
//! that they are about. If no step changes anything, nothing is written, and the value does not grow.

use super::bits::{field_offset, grown};
use super::strings::{about_value, write_at};
use super::words::*;
use crate::command::{Answer, Edit, Reply, Text, View, Words, is, look};
use crate::entry::Entry;

/// Bytes that hold a field of 64 bits, wherever it begins.
const WINDOW: usize = 9;

/// How a field holds a number.
#[derive(Clone, Copy)]
struct Kind {
    is_signed: bool,
    bits: u32,
}

#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64, Overflow),
    Add(i64, Overflow),
}

#[derive(Clone, Copy)]
struct Step {
    kind: Kind,
    offset: u64,
    action: Action,
}

pub fn bitfield_ro(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let steps = steps(&words[2..])?;
    if steps.iter().any(Step::writes) {
        return Err("ERR BITFIELD_RO only supports the GET subcommand".into());
    }
    about_value(view, words[1], answer, |value| all_read(&steps, value))
}

pub fn bitfield(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let (key, steps) = (words[1], steps(&words[2..])?);
    let Some(last) = steps.iter().filter(|step| step.writes()).map(Step::last_bit).max() else {
        let read = |entry: Option<&Entry>| {
            (entry.is_some(), all_read(&steps, entry.map_or(&[], Entry::value)))
        };
        let (found, reply) = look(view, key, read);
        view.count_read(key, found);
        return Ok(reply);
    };
    let (length, expiry) = shape(view, key);
    let new = grown(view, length, last)?;
    let (first, span) = span_of(&steps);
    let range = (first, first + span.min(new - first));
    let steps: Vec<Step> = steps.iter().map(|step| step.within(first)).collect();
    // Every step before the first one that changes something finds the value as it is.
    let mut unchanged = None;
    view.part(key, range, &mut |part| {
        let value = part.unwrap_or_default();
        let changes = steps.iter().any(|step| step.changes(value, new > length));
        unchanged = (!changes).then(|| steps.iter().map(|step| step.outcome(value).0).collect());
    });
    if let Some(replies) = unchanged {
        return Ok(Reply::Array(replies));
    }
    view.announce(key, new, expiry)?;
    view.look_through(range.1 - range.0)?;
    let mut bytes = Vec::new();
    view.part(key, range, &mut |part| bytes.extend(part.unwrap_or_default()));
    bytes.resize(range.1 - range.0, 0);
    let replies = steps.iter().map(|step| step.carry_out(&mut bytes)).collect();
    let writing: Vec<Step> = steps.into_iter().filter(Step::writes).collect();
    let (from, span) = span_of(&writing);
    write_at(view, key, first + from, &bytes[from..][..span])?;
    Ok(Reply::Array(replies))
}

/// The first byte that these steps are about, of which there is one, and how many bytes there are to the last.
fn span_of(steps: &[Step]) -> (usize, usize) {
    let first = steps.iter().map(|step| step.offset / 8).min().unwrap_or(0) as usize;
    let last = steps.iter().map(|step| step.last_bit() / 8).max().unwrap_or(0) as usize;
    (first, last + 1 - first)
}

fn all_read(steps: &[Step], value: &[u8]) -> Reply<'static> {
    Reply::Array(steps.iter().map(|step| Reply::Integer(step.read(value) as i64)).collect())
}

fn steps(mut rest: &Words<'_>) -> Result<Vec<Step>, Text> {
    let (mut steps, mut overflow) = (Vec::new(), Overflow::Wrap);
    while let [name, after @ ..] = rest {
        let (step, after) = match after {
            [kind, offset, after @ ..] if is(name, "get") => {
                (Step::new(kind, offset, Action::Get)?, after)
            }
            [kind, offset, value, after @ ..] if is(name, "set") || is(name, "incrby") => {
                let mut step = Step::new(kind, offset, Action::Get)?;
                let value = number(value)?;
                step.action = match is(name, "set") {
                    true => Action::Set(value, overflow),
                    false => Action::Add(value, overflow),
                };
                (step, after)
            }
            [how, after @ ..] if is(name, "overflow") => {
                overflow = match () {
                    () if is(how, "wrap") => Overflow::Wrap,
                    () if is(how, "sat") => Overflow::Saturate,
                    () if is(how, "fail") => Overflow::Fail,
                    () => return Err("ERR Invalid OVERFLOW type specified".into()),
                };
                rest = after;
                continue;
            }
            _ => return Err(SYNTAX.into()),
        };
        steps.push(step);
        rest = after;
    }
    Ok(steps)
}

impl Kind {
    fn read(word: &[u8]) -> Result<Kind, Text> {
        let (is_signed, most) = match word.first() {
            Some(b'i') => (true, 64),
            Some(b'u') => (false, 63),
            _ => (false, 0),
        };
        let bits = word.get(1..).and_then(|bits| number(bits).ok());
        let bits = bits.and_then(|bits| u32::try_from(bits).ok());
        let bits = bits.filter(|bits| (1..=most).contains(bits)).ok_or(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        )?;
        Ok(Kind { is_signed, bits })
    }

    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// The least and the greatest number.
    fn range(self) -> (i128, i128) {
        match self.is_signed {
            true => (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1),
            false => (0, (1 << self.bits) - 1),
        }
    }

    /// The number in these bits.
    fn number(self, bits: u64) -> i128 {
        let unused = 64 - self.bits;
        match self.is_signed {
            true => i128::from((bits << unused).cast_signed() >> unused),
            false => i128::from(bits & self.mask()),
        }
    }

    /// The number that is kept for one that may be too small or too great; `None` if none is.
    fn fit(self, number: i128, overflow: Overflow) -> Option<i128> {
        let (least, most) = self.range();
        match overflow {
            _ if (least..=most).contains(&number) => Some(number),
            Overflow::Wrap => Some(self.number(number as u64)),
            Overflow::Saturate => Some(number.clamp(least, most)),
            Overflow::Fail => None,
        }
    }
}

impl Step {
    fn new(kind: &[u8], offset: &[u8], action: Action) -> Result<Step, Text> {
        let kind = Kind::read(kind)?;
        Ok(Step { kind, offset: field_offset(offset, kind.bits)?, action })
    }

    fn writes(&self) -> bool {
        !matches!(self.action, Action::Get)
    }

    /// The same in a value without its first bytes.
    fn within(&self, first: usize) -> Step {
        Step { offset: self.offset - first as u64 * 8, ..*self }
    }

    fn last_bit(&self) -> u64 {
        self.offset + u64::from(self.kind.bits) - 1
    }

    /// The bytes around the field, those after the value as zeros, and how far to the left of their end it is.
    fn window(&self, value: &[u8]) -> (u128, u32) {
        let start = ((self.offset / 8) as usize).min(value.len());
        let bytes = &value[start..];
        let window = (0..WINDOW).fold(0, |window, place| {
            window << 8 | u128::from(bytes.get(place).copied().unwrap_or(0))
        });
        (window, WINDOW as u32 * 8 - (self.offset % 8) as u32 - self.kind.bits)
    }

    fn read(&self, value: &[u8]) -> i128 {
        let (window, shift) = self.window(value);
        self.kind.number((window >> shift) as u64)
    }

    fn write(&self, value: &mut [u8], number: i128) {
        let (window, shift) = self.window(value);
        let mask = u128::from(self.kind.mask());
        let window = window & !(mask << shift) | (number as u128 & mask) << shift;
        let start = (self.offset / 8) as usize;
        for (place, byte) in value[start..].iter_mut().take(WINDOW).enumerate() {
            *byte = (window >> (8 * (WINDOW - 1 - place))) as u8;
        }
    }

    /// Whether it changes a value, which may have to grow for it. A step that is refused changes nothing.
    fn changes(&self, value: &[u8], grows: bool) -> bool {
        self.outcome(value).1.is_some_and(|new| grows || new != self.read(value))
    }

    fn carry_out(&self, value: &mut [u8]) -> Reply<'static> {
        let (reply, new) = self.outcome(value);
        if let Some(new) = new {
            self.write(value, new);
        }
        reply
    }

    /// What it answers, and the number that it writes.
    fn outcome(&self, value: &[u8]) -> (Reply<'static>, Option<i128>) {
        let old = self.read(value);
        let (wanted, overflow) = match self.action {
            Action::Get => return (Reply::Integer(old as i64), None),
            // A negative number is a great one without a sign, as in Redis.
            Action::Set(number, overflow) if !self.kind.is_signed => {
                (i128::from(number.cast_unsigned()), overflow)
            }
            Action::Set(number, overflow) => (i128::from(number), overflow),
            Action::Add(number, overflow) => (old + i128::from(number), overflow),
        };
        let Some(new) = self.kind.fit(wanted, overflow) else { return (Reply::Null, None) };
        let answer = if matches!(self.action, Action::Set(..)) { old } else { new };
        (Reply::Integer(answer as i64), Some(new))
    }
}
