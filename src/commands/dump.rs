//! DUMP and RESTORE of strings, in Redis's own format.

use super::rdb::{self, Unreadable};
use super::words::*;
use crate::command::{Answer, Edit, Mutation, Reply, Text, View, Words, is, look};
use crate::entry::Entry;

pub fn dump(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let length = view.shape(words[1]).map(|shape| shape.length);
    view.count_read(words[1], length.is_some());
    let Some(length) = length else { return answer.put(&Reply::Null) };
    answer.expect(length + rdb::FRAME)?;
    let payload = look(view, words[1], |entry| {
        // One that has grown meanwhile is another value.
        entry.filter(|entry| entry.value().len() <= length).map(|entry| rdb::write(entry.value()))
    });
    answer.put(&payload.map_or(Reply::Null, |payload| Reply::Bulk(payload.into())))
}

/// IDLETIME and FREQ are checked and say nothing here, where no key is evicted: Redis, too, overlooks the one
/// that its policy has no use for.
#[derive(Default)]
struct Options {
    replaces: bool,
    is_absolute: bool,
    has_idle_time: bool,
    has_frequency: bool,
}

impl Options {
    fn read(mut rest: &Words<'_>) -> Result<Options, Text> {
        let mut options = Options::default();
        while let [option, after @ ..] = rest {
            rest = after;
            match after {
                _ if is(option, "replace") => options.replaces = true,
                _ if is(option, "absttl") => options.is_absolute = true,
                [seconds, after @ ..] if is(option, "idletime") && !options.has_frequency => {
                    if number(seconds)? < 0 {
                        return Err("ERR Invalid IDLETIME value, must be >= 0".into());
                    }
                    (options.has_idle_time, rest) = (true, after);
                }
                [count, after @ ..] if is(option, "freq") && !options.has_idle_time => {
                    if !(0..=255).contains(&number(count)?) {
                        return Err("ERR Invalid FREQ value, must be >= 0 and <= 255".into());
                    }
                    (options.has_frequency, rest) = (true, after);
                }
                _ => return Err(SYNTAX.into()),
            }
        }
        Ok(options)
    }
}

pub fn restore(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let (key, payload) = (words[1], words[3]);
    let options = Options::read(&words[4..])?;
    if !options.replaces && view.has(key) {
        return Err("BUSYKEY Target key name already exists.".into());
    }
    let time = number(words[2])?;
    let wrong_time = "ERR Invalid TTL value, must be >= 0";
    let expiry = match time {
        ..0 => return Err(wrong_time.into()),
        0 => None,
        _ if options.is_absolute => Some(time),
        _ => Some(time.checked_add(view.now()).ok_or(wrong_time)?),
    };
    let value = rdb::read(payload, view.max_value()).map_err(|why| match why {
        Unreadable::Footer => "ERR DUMP payload version or checksum are wrong",
        Unreadable::Format => "ERR Bad data format",
        Unreadable::OtherType => "ERR Bad data format: only strings can be restored here",
        Unreadable::TooLong => super::strings::TOO_LONG,
    })?;
    if expiry.is_some_and(|at| at <= view.now()) {
        view.remove(key)?;
        return Ok(Reply::Ok);
    }
    view.push(Mutation::Set(Entry::expiring(key, &value, expiry)))?;
    Ok(Reply::Ok)
}
