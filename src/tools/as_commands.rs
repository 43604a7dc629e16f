//! The records of a log as the commands that make its keys again, in the Redis protocol: what `dump --resp` prints.
//!
//! Expiries come last, those that hold at the end of the log. In its place one may have passed by the time at which the
//! commands are carried out: the server would remove the key, and a change in place after it would find none, though
//! another expiry, or PERSIST, had come in time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use crate::command::{Change, Key, Logged, Order, Space};

/// A record in the words of a client.
pub enum Op<'a> {
    /// A change of the database with this number, and this space.
    In(u16, Space, Change<'a>),
    /// No key is there.
    FlushAll,
    /// The databases with these numbers are swapped, one pair after the other.
    Swap(Vec<(u16, u16)>),
}

impl<'a> Op<'a> {
    /// The commands for a record after which the databases have this order.
    pub fn of(logged: Logged<'a>, order: &mut Order) -> Op<'a> {
        match logged {
            Logged::In(space, change) => Op::In(order.number_of(space), space, change),
            Logged::ClearAll => Op::FlushAll,
            Logged::Order(new) => Op::Swap(std::mem::replace(order, new.clone()).swaps_to(&new)),
        }
    }
}

impl Op<'_> {
    /// The key that it is about; none if it is about all.
    pub fn key(&self) -> Option<&[u8]> {
        match self {
            Op::In(_, _, Change::Clear) | Op::FlushAll | Op::Swap(_) => None,
            Op::In(_, _, change) => Some(change.key()),
        }
    }
}

/// Which keys are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those that were asked for.
    Some,
}

/// Prints the commands that make the keys again.
#[derive(Default)]
pub struct Resp {
    /// The database that the commands so far have selected.
    selected: u16,
    /// The keys that were written: if only some keys are asked for, FLUSHALL becomes a DEL of those.
    seen: BTreeSet<(Space, Key)>,
    /// When the keys written so far expire, of those that do.
    expiries: BTreeMap<(Space, Key), i64>,
}

impl Resp {
    /// Prints the commands for a record, after which the databases have this order.
    pub fn write(
        &mut self,
        which: Which,
        op: &Op<'_>,
        order: &Order,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let is_all = which == Which::All;
        self.note_expiry(op);
        match op {
            Op::In(number, space, change) => {
                self.select(*number, out)?;
                match change {
                    Change::Set(parts) => {
                        if !is_all {
                            self.seen.insert((*space, parts.key.into()));
                        }
                        request(&[b"SET", parts.key, parts.value], out)
                    }
                    Change::Delete(key) => request(&[b"DEL", key], out),
                    Change::Patch(patch) => {
                        let offset = patch.offset.to_string();
                        request(&[b"SETRANGE", patch.key, offset.as_bytes(), patch.bytes], out)
                    }
                    Change::Expire(..) => Ok(()),
                    Change::Clear if is_all => request(&[b"FLUSHDB"], out),
                    Change::Clear => self.delete(|of| of == *space, order, out),
                }
            }
            Op::FlushAll if is_all => request(&[b"FLUSHALL"], out),
            Op::FlushAll => self.delete(|_| true, order, out),
            Op::Swap(pairs) => pairs.iter().try_for_each(|(one, other)| {
                let [one, other] = [one, other].map(u16::to_string);
                request(&[b"SWAPDB", one.as_bytes(), other.as_bytes()], out)
            }),
        }
    }

    /// Prints the expiries, after the last record; the databases have this order then.
    pub fn end(&mut self, order: &Order, out: &mut dyn Write) -> io::Result<()> {
        for ((space, key), at) in std::mem::take(&mut self.expiries) {
            self.select(order.number_of(space), out)?;
            request(&[b"PEXPIREAT", &key, at.to_string().as_bytes()], out)?;
        }
        Ok(())
    }

    fn note_expiry(&mut self, op: &Op<'_>) {
        let (space, key, at) = match op {
            Op::In(_, space, Change::Set(parts)) => (*space, parts.key, parts.expiry),
            Op::In(_, space, Change::Expire(key, at)) => (*space, *key, *at),
            Op::In(_, space, Change::Delete(key)) => (*space, *key, None),
            Op::In(_, space, Change::Clear) => {
                return self.expiries.retain(|(of, _), _| of != space);
            }
            Op::FlushAll => return self.expiries.clear(),
            Op::In(_, _, Change::Patch(_)) | Op::Swap(_) => return,
        };
        match at {
            Some(at) => drop(self.expiries.insert((space, key.into()), at)),
            None => drop(self.expiries.remove(&(space, Key::from(key)))),
        }
    }

    fn select(&mut self, number: u16, out: &mut dyn Write) -> io::Result<()> {
        if std::mem::replace(&mut self.selected, number) == number {
            return Ok(());
        }
        request(&[b"SELECT", number.to_string().as_bytes()], out)
    }

    /// Removes the keys that were written into these databases.
    fn delete(
        &mut self,
        which: impl Fn(Space) -> bool,
        order: &Order,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let all = std::mem::take(&mut self.seen).into_iter();
        let (gone, rest): (BTreeSet<_>, BTreeSet<_>) = all.partition(|(space, _)| which(*space));
        self.seen = rest;
        for (space, key) in gone {
            self.select(order.number_of(space), out)?;
            request(&[b"DEL", &key], out)?;
        }
        Ok(())
    }
}

fn request(words: &[&[u8]], out: &mut dyn Write) -> io::Result<()> {
    write!(out, "*{}\r\n", words.len())?;
    for word in words {
        write!(out, "${}\r\n", word.len())?;
        out.write_all(word)?;
        out.write_all(b"\r\n")?;
    }
    Ok(())
}
