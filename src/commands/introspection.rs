//! COMMAND: what the server says of its own commands, from the table.

use super::docs;
use super::key_uses;
use super::rows::{CATEGORIES, commands, is_in, named, subcommands};
use super::words::*;
use crate::command::{Client, Keys, Reply, Spec, Text, Words, is};
use crate::glob;

type Said = Result<Reply<'static>, Text>;

/// The most commands that COMMAND INFO or COMMAND DOCS describes at a time: far more than there are. (Limited, because a
/// description is many times as long as a name.)
const DESCRIBED: usize = 1000;

const NO_KEYS: &str = "ERR The command has no key arguments";

pub fn command(client: &mut dyn Client, _: &Words<'_>) -> Said {
    let table = client.commands();
    Ok(Reply::Array(commands(table).map(|spec| describe(table, spec)).collect()))
}

pub fn command_count(client: &mut dyn Client, _: &Words<'_>) -> Said {
    Ok(Reply::Integer(commands(client.commands()).count() as i64))
}

pub fn command_info(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let names = &words[2..];
    if names.is_empty() {
        return command(client, words);
    }
    check_number(names)?;
    let table = client.commands();
    let describe =
        |name: &&[u8]| named(table, name).map_or(Reply::Null, |spec| describe(table, spec));
    let described = names.iter().map(describe);
    Ok(Reply::Array(described.collect()))
}

fn check_number(names: &Words<'_>) -> Result<(), Text> {
    match names.len() {
        ..=DESCRIBED => Ok(()),
        _ => Err(format!("ERR at most {DESCRIBED} commands are described at a time").into()),
    }
}

/// Those that there are not are left out, as in Redis.
pub fn command_docs(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let (table, names) = (client.commands(), &words[2..]);
    check_number(names)?;
    let found: Vec<&Spec> = match names {
        [] => commands(table).collect(),
        names => names.iter().filter_map(|name| named(table, name)).collect(),
    };
    Ok(Reply::Map(found.into_iter().flat_map(|spec| docs::told(table, spec)).collect()))
}

pub fn command_list(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let all = client.commands().iter();
    let found: Vec<&Spec> = match &words[2..] {
        [] => all.collect(),
        [filter, kind, value] if is(filter, "filterby") => match () {
            // There are no modules.
            () if is(kind, "module") => Vec::new(),
            () if is(kind, "aclcat") => {
                let category = CATEGORIES.iter().find(|name| is(value, &name[1..]));
                all.filter(|spec| category.is_some_and(|name| is_in(spec, name))).collect()
            }
            () if is(kind, "pattern") => {
                let pattern = pattern(value)?.to_ascii_lowercase();
                all.filter(|spec| glob::matches(&pattern, spec.name.as_bytes())).collect()
            }
            () => return Err(SYNTAX.into()),
        },
        _ => return Err(SYNTAX.into()),
    };
    let names = found.iter().map(|spec| Reply::Bulk(spec.name.as_bytes().into()));
    Ok(Reply::Array(names.collect()))
}

pub fn command_getkeys(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let (_, keys) = keys_of(client, &words[2..])?;
    Ok(Reply::Array(keys.into_iter().map(Reply::bulk).collect()))
}

pub fn command_getkeysandflags(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let request = &words[2..];
    let (spec, keys) = keys_of(client, request)?;
    let pair = |(place, key)| {
        let flags = key_uses::flags(spec, &request[1..], place).unwrap_or_default();
        let flags = flags.iter().map(|flag| Reply::Simple(flag)).collect();
        Reply::Array(vec![Reply::bulk(key), Reply::Set(flags)])
    };
    Ok(Reply::Array(keys.into_iter().enumerate().map(pair).collect()))
}

/// The command of a request, and those of its words that are keys.
fn keys_of<'a>(
    client: &dyn Client,
    request: &'a Words<'a>,
) -> Result<(&'static Spec, Vec<&'a [u8]>), Text> {
    let spec = client.find_command(request).map_err(|_| "ERR Invalid command specified")?;
    // The channels of SPUBLISH and its like stand where keys might, and are none.
    if spec.keys == Keys::NONE || spec.has("pubsub") {
        return Err(NO_KEYS.into());
    }
    if !spec.takes(request.len()) {
        return Err("ERR Invalid number of arguments specified for command".into());
    }
    let keys: Vec<_> = spec.keys_among(request).collect();
    match keys.is_empty() && !spec.has("no_mandatory_keys") {
        true => Err("ERR Invalid arguments specified for command".into()),
        false => Ok((spec, keys)),
    }
}

/// A row of COMMAND, in its form since Redis 7. Tips and key specifications are left empty.
fn describe(table: &'static [Spec], spec: &Spec) -> Reply<'static> {
    let (first, last, step) = match spec.keys {
        Keys::Range(first, last, step) => (first, last, step),
        // As Redis says it of a command with the flag `movablekeys`.
        Keys::Counted(..) => (0, 0, 0),
    };
    let number = |number: i32| Reply::Integer(number.into());
    let categories = CATEGORIES.iter().filter(|name| is_in(spec, name));
    Reply::Array(vec![
        Reply::Bulk(spec.name.as_bytes().into()),
        number(spec.arity),
        Reply::Array(spec.flags.iter().map(|flag| Reply::Simple(flag)).collect()),
        number(first),
        number(last),
        number(step),
        Reply::Array(categories.map(|name| Reply::Simple(name)).collect()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(subcommands(table, spec).iter().map(|spec| describe(table, spec)).collect()),
    ])
}
