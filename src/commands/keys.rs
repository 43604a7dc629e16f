//! Commands about keys, whatever their values are.

use super::words::*;
use crate::command::{
    Answer, Command, Edit, Key, Mutation, Refusal, Reply, Text, View, Words, integer, is, look,
};
use crate::entry::Entry;

/// The longest value that Redis keeps in the object itself (OBJ_ENCODING_EMBSTR_SIZE_LIMIT).
const EMBEDDED_BYTES: usize = 44;

const SAME: &str = "ERR source and destination objects are the same";

pub fn del(words: &Words<'_>) -> Result<Command, Text> {
    Ok(Command::Del(key_list(&words[1..])))
}

pub fn exists(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let mut found = Vec::with_capacity(words.len());
    view.shapes(&words[1..], &mut |shape| found.push(shape.is_some()));
    view.count_reads(&words[1..], &found);
    answer.put(&Reply::Integer(found.iter().filter(|found| **found).count() as i64))
}

pub fn kind(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let is_there = view.has(words[1]);
    view.count_read(words[1], is_there);
    answer.put(&Reply::Simple(if is_there { "string" } else { "none" }))
}

pub fn encoding(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let name = |entry: &Entry| Reply::Bulk(encoding_of(entry.value()).as_bytes().into());
    let reply = look(view, words[2], |entry| entry.map(name));
    view.count_quietly(reply.is_some());
    answer.put(&reply.unwrap_or(Reply::Null))
}

/// Nothing here is evicted, so no key has a record of when it was used.
pub fn idle_time(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    unknown_of(view, words[2], answer, "ERR idle times are not tracked, because no key is evicted")
}

pub fn frequency(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    const UNTRACKED: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note \
                             that when switching between policies at runtime LRU and LFU data will take some time to \
                             adjust.";
    unknown_of(view, words[2], answer, UNTRACKED)
}

fn unknown_of(view: &mut dyn View, key: &[u8], answer: &mut dyn Answer, why: &'static str) -> Put {
    if has_object(view, key) { Err(why.into()) } else { answer.put(&Reply::Null) }
}

/// Whether a key is there, for OBJECT.
fn has_object(view: &mut dyn View, key: &[u8]) -> bool {
    let is_there = view.has(key);
    view.count_quietly(is_there);
    is_there
}

/// A value has one owner.
pub fn references(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let is_there = has_object(view, words[2]);
    answer.put(&if is_there { Reply::Integer(1) } else { Reply::Null })
}

fn encoding_of(value: &[u8]) -> &'static str {
    match value.len() {
        _ if integer(value).is_some() => "int",
        0..=EMBEDDED_BYTES => "embstr",
        _ => "raw",
    }
}

/// A string is measured as a whole, whatever number of samples is asked for.
pub fn memory_usage(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    for option in words[3..].chunks(2) {
        match option {
            [name, count] if is(name, "samples") && number(count)? >= 0 => {}
            _ => return Err(SYNTAX.into()),
        }
    }
    let bytes = view.shape(words[2]).map(|shape| shape.bytes_with(words[2].len()) as i64);
    answer.put(&bytes.map_or(Reply::Null, Reply::Integer))
}

pub fn dbsize(view: &mut dyn View, _: &Words<'_>, answer: &mut dyn Answer) -> Put {
    answer.put(&Reply::Integer(view.count() as i64))
}

pub fn rename(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    move_value(view, words[1], words[2])?;
    Ok(Reply::Ok)
}

pub fn renamenx(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let is_free = !view.has(words[2]);
    match view.has(words[1]) {
        true if !is_free => Ok(Reply::Integer(0)),
        _ => move_value(view, words[1], words[2]).map(|()| Reply::Integer(1)),
    }
}

/// Gives a value another key.
fn move_value(view: &mut dyn Edit, from: &[u8], to: &[u8]) -> Put {
    if to.len() > from.len() {
        // Redis renames even if memory is full; here a long key may take much of it.
        view.grow()?;
    }
    if !view.has(from) {
        return Err("ERR no such key".into());
    }
    if from == to {
        return Ok(());
    }
    let (length, expiry) = shape(view, from);
    let renamed = view.make((from, to), length, expiry, &copy_value)?;
    view.push(Mutation::Delete(Key::from(from)))?;
    view.push(Mutation::Set(renamed))
}

pub fn copy(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let (from, to) = (words[1], words[2]);
    let here = view.database();
    let (mut replaces, mut there) = (false, here);
    let mut rest = &words[3..];
    while let [option, after @ ..] = rest {
        rest = after;
        match after {
            _ if is(option, "replace") => replaces = true,
            [index, after @ ..] if is(option, "db") => {
                there = database(index, view.databases())?;
                rest = after;
            }
            _ => return Err(SYNTAX.into()),
        }
    }
    if from == to && here == there {
        return Err(SAME.into());
    }
    let is_there = view.has(from);
    view.count_read(from, is_there);
    if !is_there || !replaces && within(view, there, |view| view.has(to)) {
        return Ok(Reply::Integer(0));
    }
    let (length, expiry) = shape(view, from);
    if here == there {
        view.derive((from, to), length, expiry, &copy_value)?;
    } else {
        within(view, there, |view| view.announce(to, length, expiry))?;
        let copy = view.make((from, to), length, expiry, &copy_value)?;
        within(view, there, |view| view.push(Mutation::Set(copy)))?;
    }
    Ok(Reply::Integer(1))
}

pub fn move_key(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let key = words[1];
    let (here, there) = (view.database(), database(words[2], view.databases())?);
    if here == there {
        return Err(SAME.into());
    }
    if !view.has(key) || within(view, there, |view| view.has(key)) {
        return Ok(Reply::Integer(0));
    }
    let (length, expiry) = shape(view, key);
    let moved = view.make((key, key), length, expiry, &copy_value)?;
    view.push(Mutation::Delete(Key::from(key)))?;
    within(view, there, |view| view.push(Mutation::Set(moved)))?;
    Ok(Reply::Integer(1))
}

/// Does something in the database with this number.
fn within<T>(view: &mut dyn Edit, number: u16, act: impl FnOnce(&mut dyn Edit) -> T) -> T {
    let here = view.database();
    view.select(number);
    let done = act(view);
    view.select(here);
    done
}

pub fn swapdb(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let index = |word, wrong: &'static str| {
        let index = integer(word).filter(|index| i32::try_from(*index).is_ok());
        index.ok_or(Refusal::from(wrong))
    };
    let one = index(words[1], "ERR invalid first DB index")?;
    let other = index(words[2], "ERR invalid second DB index")?;
    let number = |index: i64| {
        let number = u16::try_from(index).ok().filter(|number| *number < view.databases());
        number.ok_or(Refusal::from(NO_DATABASE))
    };
    let (one, other) = (number(one)?, number(other)?);
    view.swap(one, other)?;
    Ok(Reply::Ok)
}

pub fn flushdb(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    flush_option(words)?;
    view.push(Mutation::Clear)?;
    Ok(Reply::Ok)
}

pub fn flushall(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    flush_option(words)?;
    view.clear_all()?;
    Ok(Reply::Ok)
}

/// A flush takes no longer for either option: it is done when its record is on disk.
fn flush_option(words: &Words<'_>) -> Put {
    match &words[1..] {
        [] => Ok(()),
        [option] if is(option, "async") || is(option, "sync") => Ok(()),
        _ => Err(SYNTAX.into()),
    }
}
