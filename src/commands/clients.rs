//! CLIENT: what a connection says of itself, and what it may learn of others.

use std::collections::HashSet;
use std::time::Duration;

use super::connection::printable;
use super::words::*;
use crate::command::{
    Client, ClientKind, KillFilter, Label, Listed, Mark, Paused, Reply, Replying, Switch, TOO_LONG,
    Text, Words, integer, is,
};
use crate::entry::now_millis;

type Said = Result<Reply<'static>, Text>;

/// The most clients that CLIENT LIST looks up by number: the default of `-maxclients`. No client can come or
/// leave during the lookup, which takes a millisecond or so.
const LISTED: usize = 10_000;

/// Types of which there are no clients here.
const OTHER_TYPES: [&str; 3] = ["master", "replica", "slave"];

pub fn client_id(client: &mut dyn Client, _: &Words<'_>) -> Said {
    Ok(Reply::Integer(client.id() as i64))
}

pub fn client_getname(client: &mut dyn Client, _: &Words<'_>) -> Said {
    let name = client.name();
    Ok(if name.is_empty() { Reply::Null } else { Reply::bulk(name.as_bytes()) })
}

pub fn client_setname(client: &mut dyn Client, words: &Words<'_>) -> Said {
    client.set_label(Label::Name, printable(words[2], "Client names")?);
    Ok(Reply::Ok)
}

pub fn client_setinfo(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let (label, name) = match words[2] {
        attribute if is(attribute, "lib-name") => (Label::Library, "lib-name"),
        attribute if is(attribute, "lib-ver") => (Label::LibraryVersion, "lib-ver"),
        attribute => return Err(format!("ERR Unrecognized option '{}'", shown(attribute)).into()),
    };
    client.set_label(label, printable(words[3], name)?);
    Ok(Reply::Ok)
}

pub fn client_info(client: &mut dyn Client, _: &Words<'_>) -> Said {
    Ok(Reply::text(client.line()))
}

pub fn client_list(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let lines = match &words[2..] {
        [] => client.lines(&Listed::All),
        [option, kind] if is(option, "type") => match kind_of(kind)? {
            Some(kind) => client.lines(&Listed::Of(kind)),
            None => Some(String::new()),
        },
        [option, ids @ ..] if is(option, "id") && !ids.is_empty() => {
            client.lines(&Listed::With(numbers_of(ids)?))
        }
        _ => return Err(SYNTAX.into()),
    };
    lines.map(Reply::text).ok_or(TOO_LONG.into())
}

/// The numbers of clients, each once, so that the answer is no longer than one about all.
fn numbers_of(words: &Words<'_>) -> Result<Vec<u64>, Text> {
    if words.len() > LISTED {
        return Err(format!("ERR at most {LISTED} clients are looked for at a time").into());
    }
    let id = |id: &&[u8]| integer(id).ok_or("ERR Invalid client ID");
    let ids = words.iter().map(id).collect::<Result<Vec<i64>, _>>()?;
    let mut seen = HashSet::new();
    // No client has a number below zero.
    let ids = ids.into_iter().filter_map(|id| u64::try_from(id).ok());
    Ok(ids.filter(|id| seen.insert(*id)).collect())
}

pub fn client_kill(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let mut filter = KillFilter::default();
    let mut rest = &words[2..];
    // The old form, which answers OK or an error instead of a count.
    if let [address] = rest {
        filter.address = Some(address.to_vec());
        return match client.kill(&filter) {
            0 => Err("ERR No such client".into()),
            _ => Ok(Reply::Ok),
        };
    }
    filter.skips_asking = true;
    let mut may_fit = true;
    while let [option, value, after @ ..] = rest {
        rest = after;
        match () {
            () if is(option, "id") => {
                filter.id = Some(positive(value, "ERR client-id should be greater than 0")?);
            }
            () if is(option, "type") => {
                filter.kind = kind_of(value)?;
                may_fit = filter.kind.is_some();
            }
            () if is(option, "addr") => filter.address = Some(value.to_vec()),
            () if is(option, "laddr") => filter.local = Some(value.to_vec()),
            () if is(option, "user") => {
                if !client.users().iter().any(|user| user.name.as_bytes() == *value) {
                    return Err(format!("ERR No such user '{}'", shown(value)).into());
                }
                filter.user = Some(value.to_vec());
            }
            () if is(option, "skipme") && is(value, "yes") => filter.skips_asking = true,
            () if is(option, "skipme") && is(value, "no") => filter.skips_asking = false,
            () if is(option, "maxage") => {
                number(value).map_err(|_| "ERR maxage is not an integer or out of range")?;
                filter.age = Some(positive(value, "ERR maxage should be greater than 0")?);
            }
            () => return Err(SYNTAX.into()),
        }
    }
    match rest {
        [] if may_fit => Ok(Reply::Integer(client.kill(&filter) as i64)),
        [] => Ok(Reply::Integer(0)),
        _ => Err(SYNTAX.into()),
    }
}

/// A reply to a command that does not want one is left out by the connection.
pub fn client_reply(client: &mut dyn Client, words: &Words<'_>) -> Said {
    client.set_replying(match words[2] {
        word if is(word, "on") => Replying::On,
        word if is(word, "off") => Replying::Off,
        word if is(word, "skip") => Replying::Skip,
        _ => return Err(SYNTAX.into()),
    });
    Ok(Reply::Ok)
}

pub fn client_no_evict(client: &mut dyn Client, words: &Words<'_>) -> Said {
    client.set_mark(Mark::NoEvict, switch(words[2])?);
    Ok(Reply::Ok)
}

/// No key has an age here, so no read makes one younger. CLIENT LIST shows the mark.
pub fn client_no_touch(client: &mut dyn Client, words: &Words<'_>) -> Said {
    client.set_mark(Mark::NoTouch, switch(words[2])?);
    Ok(Reply::Ok)
}

fn switch(word: &[u8]) -> Result<Switch, Text> {
    match () {
        () if is(word, "on") => Ok(Switch::On),
        () if is(word, "off") => Ok(Switch::Off),
        () => Err(SYNTAX.into()),
    }
}

pub fn client_pause(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let paused = match &words[3..] {
        [] => Paused::All,
        [mode] if is(mode, "all") => Paused::All,
        [mode] if is(mode, "write") => Paused::Writes,
        [_] => return Err("ERR CLIENT PAUSE mode must be WRITE or ALL".into()),
        _ => return Err(SYNTAX.into()),
    };
    let millis = integer(words[2]).ok_or("ERR timeout is not an integer or out of range")?;
    // As in Redis, whose clock counts milliseconds of Unix time.
    now_millis().checked_add(millis).ok_or("ERR timeout is out of range")?;
    let millis = u64::try_from(millis).map_err(|_| "ERR timeout is negative")?;
    match client.pause(paused, Duration::from_millis(millis)) {
        true => Ok(Reply::Ok),
        false => Err("ERR timeout is out of range".into()),
    }
}

pub fn client_unpause(client: &mut dyn Client, _: &Words<'_>) -> Said {
    client.end_pause();
    Ok(Reply::Ok)
}

/// No command here waits for what another client does, so nobody can be freed from that.
pub fn client_unblock(words: &Words<'_>) -> Said {
    number(words[2])?;
    match &words[3..] {
        [] => Ok(Reply::Integer(0)),
        [reason] if is(reason, "timeout") || is(reason, "error") => Ok(Reply::Integer(0)),
        [_] => Err("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR".into()),
        _ => Err(SYNTAX.into()),
    }
}

fn positive(word: &[u8], error: &'static str) -> Result<u64, Text> {
    let number = integer(word).and_then(|number| u64::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or(error.into())
}

/// The type of this name; `None` if no client here is of it.
fn kind_of(name: &[u8]) -> Result<Option<ClientKind>, Text> {
    match () {
        () if is(name, "normal") => Ok(Some(ClientKind::Normal)),
        () if is(name, "pubsub") => Ok(Some(ClientKind::Subscriber)),
        () if OTHER_TYPES.iter().any(|other| is(name, other)) => Ok(None),
        () => Err(format!("ERR Unknown client type '{}'", shown(name)).into()),
    }
}
