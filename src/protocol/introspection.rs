//! COMMAND: what the server says of its own commands, out of the table.
//!
//! There is no COMMAND DOCS: an empty one would take redis-cli's own hints away, which it keeps after an
//! error.

use super::table::{CATEGORIES, COMMANDS, Spec, commands, spec_named};
use super::words::{Outcome, SYNTAX, Words, answered, is};
use crate::command::Reply;
use crate::glob;

/// Commands that COMMAND INFO describes at a time: far more than there are, for a description is many
/// times as long as a name.
const DESCRIBED: usize = 1000;

pub fn command(_: &Words<'_>) -> Outcome {
    answered(Reply::Array(commands().map(describe).collect()))
}

pub fn command_count(_: &Words<'_>) -> Outcome {
    answered(Reply::Integer(commands().count() as i64))
}

pub fn command_info(words: &Words<'_>) -> Outcome {
    let names = &words[2..];
    if names.is_empty() {
        return command(words);
    }
    if names.len() > DESCRIBED {
        return Err(format!("ERR at most {DESCRIBED} commands are described at a time").into());
    }
    let described = |name: &&[u8]| spec_named(name).map_or(Reply::Null, describe);
    answered(Reply::Array(names.iter().map(described).collect()))
}

pub fn command_list(words: &Words<'_>) -> Outcome {
    let fits: &dyn Fn(&Spec) -> bool = match &words[2..] {
        [] => &|_| true,
        [filter, kind, value] if is(filter, "filterby") => match () {
            // There are no modules.
            () if is(kind, "module") => &|_| false,
            () if is(kind, "aclcat") => {
                &|spec| CATEGORIES.iter().any(|name| is(value, &name[1..]) && spec.is_in(name))
            }
            () if is(kind, "pattern") => {
                &|spec| glob::matches(&value.to_ascii_lowercase(), spec.name.as_bytes())
            }
            () => return Err(SYNTAX.into()),
        },
        _ => return Err(SYNTAX.into()),
    };
    let found = COMMANDS.iter().filter(|spec| fits(spec));
    answered(Reply::Array(found.map(|spec| Reply::Bulk(spec.name.as_bytes().into())).collect()))
}

pub fn command_getkeys(words: &Words<'_>) -> Outcome {
    let request = &words[2..];
    let container = spec_named(request[0]).filter(|spec| !spec.is_subcommand());
    let named = match (container, request) {
        (Some(spec), [_, name, ..]) if spec.is_container() => spec.subcommand(name),
        (spec, _) => spec,
    };
    let spec = named.ok_or("ERR Invalid command specified")?;
    if spec.keys == (0, 0, 0) {
        return Err("ERR The command has no key arguments".into());
    }
    if !spec.takes(request.len()) {
        return Err("ERR Invalid number of arguments specified for command".into());
    }
    answered(Reply::Array(spec.keys_among(request).map(Reply::bulk).collect()))
}

/// A row of COMMAND, in the form that it has since Redis 7. Tips and key specifications are left empty,
/// which says that there are none to be had.
fn describe(spec: &Spec) -> Reply<'static> {
    let (first, last, step) = spec.keys;
    let number = |number: i32| Reply::Integer(number.into());
    let categories = CATEGORIES.iter().filter(|name| spec.is_in(name));
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
        Reply::Array(spec.subcommands().iter().map(describe).collect()),
    ])
}
