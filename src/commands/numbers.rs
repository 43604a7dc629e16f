//! Commands about values that are numbers.

use super::decimal::Decimal;
use super::words::*;
use crate::command::{Edit, Mutation, Reply, Words, integer, look};
use crate::entry::Entry;

pub fn incr(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    add(view, words[1], 1)
}

pub fn decr(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    add(view, words[1], -1)
}

pub fn incrby(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    add(view, words[1], number(words[2])?)
}

pub fn decrby(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let by = number(words[2])?.checked_neg().ok_or("ERR decrement would overflow")?;
    add(view, words[1], by)
}

fn add(view: &mut dyn Edit, key: &[u8], by: i64) -> Written {
    let (old, expiry) = look(view, key, |old| match old {
        None => (Some(0), None),
        Some(old) => (integer(old.value()), old.expiry()),
    });
    let sum = old.ok_or(NOT_AN_INTEGER)?.checked_add(by);
    let sum = sum.ok_or("ERR increment or decrement would overflow")?;
    view.push(Mutation::Set(Entry::expiring(key, sum.to_string().as_bytes(), expiry)))?;
    Ok(Reply::Integer(sum))
}

pub fn incrbyfloat(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    const NOT_A_FLOAT: &str = "ERR value is not a valid float";
    let key = words[1];
    let by = Decimal::parse(words[2]).ok_or(NOT_A_FLOAT)?;
    let (old, expiry) = look(view, key, |old| match old {
        None => (Some(Decimal::zero()), None),
        Some(old) => (Decimal::parse(old.value()), old.expiry()),
    });
    let sum = old.ok_or(NOT_A_FLOAT)?.plus(&by);
    let text = sum.ok_or("ERR increment would produce NaN or Infinity")?.to_string();
    view.push(Mutation::Set(Entry::expiring(key, text.as_bytes(), expiry)))?;
    Ok(Reply::bulk(text.as_bytes()))
}
