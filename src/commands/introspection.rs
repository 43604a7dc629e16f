//! COMMAND: what the server says of its own commands, out of the table.
//!
//! There is no COMMAND DOCS: an empty one would take redis-cli's own hints away, which it keeps after an
//! error.

use super::Session;
use super::table::{CATEGORIES, COMMANDS, Spec, commands, spec_named};
use super::words::{Outcome, SYNTAX, Words, answered, is, pattern, session_of};
use crate::command::Reply;
use crate::glob;

/// Commands that COMMAND INFO describes at a time: far more than there are, for a description is many
/// times as long as a name.
const DESCRIBED: usize = 1000;

/// What is asked of the table. The answer is many times as long as the question, so it is formed when it is
/// due: a transaction keeps only the question.
#[derive(Debug)]
pub enum Introspection {
    /// A description of each command.
    All,
    /// A description of each of these, where there is one.
    Named(Vec<Option<&'static Spec>>),
    /// The names that fit.
    List(NameFilter),
}

/// Which names COMMAND LIST lists.
#[derive(Debug)]
pub enum NameFilter {
    /// All of them.
    All,
    /// Those of a module, of which there are none.
    Module,
    /// Those of a category, if there is one of this name.
    Category(Option<&'static str>),
    /// Those that fit this pattern in lower case.
    Pattern(Vec<u8>),
}

impl Introspection {
    /// The answer.
    pub fn reply(&self) -> Reply<'static> {
        Reply::Array(match self {
            Introspection::All => commands().map(describe).collect(),
            Introspection::Named(specs) => {
                specs.iter().map(|spec| spec.map_or(Reply::Null, describe)).collect()
            }
            Introspection::List(filter) => {
                let found = COMMANDS.iter().filter(|spec| filter.fits(spec));
                found.map(|spec| Reply::Bulk(spec.name.as_bytes().into())).collect()
            }
        })
    }

    /// Roughly what it takes up beside the enum itself.
    pub fn bytes(&self) -> usize {
        match self {
            Introspection::Named(specs) => size_of_val(&specs[..]),
            Introspection::List(NameFilter::Pattern(pattern)) => pattern.len(),
            Introspection::All | Introspection::List(_) => 0,
        }
    }
}

impl NameFilter {
    fn fits(&self, spec: &Spec) -> bool {
        match self {
            NameFilter::All => true,
            NameFilter::Module => false,
            NameFilter::Category(name) => name.is_some_and(|name| spec.is_in(name)),
            NameFilter::Pattern(pattern) => glob::matches(pattern, spec.name.as_bytes()),
        }
    }
}

fn asked(what: Introspection) -> Outcome {
    session_of(Session::Command(what))
}

pub fn command(_: &Words<'_>) -> Outcome {
    asked(Introspection::All)
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
    asked(Introspection::Named(names.iter().map(|name| spec_named(name)).collect()))
}

pub fn command_list(words: &Words<'_>) -> Outcome {
    let filter = match &words[2..] {
        [] => NameFilter::All,
        [filter, kind, value] if is(filter, "filterby") => match () {
            () if is(kind, "module") => NameFilter::Module,
            () if is(kind, "aclcat") => {
                NameFilter::Category(CATEGORIES.iter().find(|name| is(value, &name[1..])).copied())
            }
            () if is(kind, "pattern") => NameFilter::Pattern(pattern(value)?.to_ascii_lowercase()),
            () => return Err(SYNTAX.into()),
        },
        _ => return Err(SYNTAX.into()),
    };
    asked(Introspection::List(filter))
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
