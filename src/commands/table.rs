//! The commands there are: one table for dispatch, arity and COMMAND.
//!
//! A row is a name, the arity, flags, groups, where the keys are, and the function that makes sense of
//! the words. Arity counts the name; a negative one is the least number of words. The keys stand among
//! the words at first, last (from the end if negative), step; zeros if there are none. A subcommand has
//! a row of its own after its container's, with a bar in its name, and counts words and keys from the
//! container's name on. All of it as in Redis's own `COMMAND INFO`.

use super::clients::*;
use super::connection::*;
use super::help::help;
use super::introspection::*;
use super::strings::*;
use super::words::{Outcome, Words, is};
use crate::command::CommandId;

/// A row of the table.
#[derive(Debug)]
pub struct Spec {
    /// The command's name, in lower case.
    pub name: &'static str,
    /// Number of words.
    pub arity: i32,
    /// What Redis says of it.
    pub flags: &'static [&'static str],
    /// The categories it is in that do not follow from its flags.
    groups: &'static [&'static str],
    /// Where its keys stand.
    pub keys: (i32, i32, i32),
    /// Makes sense of its words.
    pub parse: fn(&Words<'_>) -> Outcome,
    /// Its place in the table.
    pub id: CommandId,
    /// The place of its container, if it is a subcommand.
    parent: Option<usize>,
    /// Its subcommands are the rows after it, this many.
    children: usize,
}

/// The categories of commands that there are here, in Redis's order.
pub const CATEGORIES: &[&str] = &[
    "@keyspace",
    "@read",
    "@write",
    "@string",
    "@admin",
    "@fast",
    "@slow",
    "@dangerous",
    "@connection",
    "@transaction",
];

const NONE: (i32, i32, i32) = (0, 0, 0);
const ONE: (i32, i32, i32) = (1, 1, 1);
const TWO: (i32, i32, i32) = (1, 2, 1);
const ALL: (i32, i32, i32) = (1, -1, 1);
const PAIRS: (i32, i32, i32) = (1, -1, 2);
const SECOND: (i32, i32, i32) = (2, 2, 1);

macro_rules! commands {
    ($($name:literal $arity:literal [$($flag:ident)*] [$($group:ident)*] $keys:ident $parse:ident;)*) => {
        /// Every command, in the order of their names.
        pub static COMMANDS: &[Spec] = &numbered([$(Spec {
            name: $name,
            arity: $arity,
            flags: &[$(stringify!($flag)),*],
            groups: &[$(stringify!($group)),*],
            keys: $keys,
            parse: $parse,
            id: CommandId(0),
            parent: None,
            children: 0,
        }),*]);
    };
}

/// Gives each row its place, and each subcommand its container, which stands before it.
const fn numbered<const COUNT: usize>(mut specs: [Spec; COUNT]) -> [Spec; COUNT] {
    let (mut place, mut container) = (0, 0);
    while place < COUNT {
        specs[place].id = CommandId(place);
        if has_bar(specs[place].name) {
            specs[place].parent = Some(container);
            specs[container].children += 1;
        } else {
            container = place;
        }
        place += 1;
    }
    specs
}

const fn has_bar(name: &str) -> bool {
    let (name, mut at) = (name.as_bytes(), 0);
    while at < name.len() {
        if name[at] == b'|' {
            return true;
        }
        at += 1;
    }
    false
}

commands! {
    "append" 3 [write denyoom fast] [string] ONE append;
    "auth" -2 [noscript loading stale fast no_auth allow_busy] [connection] NONE auth;
    "bgrewriteaof" 1 [admin noscript no_async_loading] [] NONE bgrewriteaof;
    "client" -2 [] [] NONE container;
    "client|getname" 2 [noscript loading stale] [connection] NONE client_getname;
    "client|help" 2 [loading stale] [connection] NONE help;
    "client|id" 2 [noscript loading stale] [connection] NONE client_id;
    "client|info" 2 [noscript loading stale] [connection] NONE client_info;
    "client|kill" -3 [admin noscript loading stale] [connection] NONE client_kill;
    "client|list" -2 [admin noscript loading stale] [connection] NONE client_list;
    "client|setinfo" 4 [noscript loading stale] [connection] NONE client_setinfo;
    "client|setname" 3 [noscript loading stale] [connection] NONE client_setname;
    "command" -1 [loading stale] [connection] NONE command;
    "command|count" 2 [loading stale] [connection] NONE command_count;
    "command|getkeys" -4 [loading stale] [connection] NONE command_getkeys;
    "command|help" 2 [loading stale] [connection] NONE help;
    "command|info" -2 [loading stale] [connection] NONE command_info;
    "command|list" -2 [loading stale] [connection] NONE command_list;
    "config" -2 [] [] NONE container;
    "config|get" -3 [admin noscript loading stale] [] NONE config_get;
    "config|help" 2 [loading stale] [] NONE help;
    "copy" -3 [write denyoom] [keyspace] TWO copy;
    "dbsize" 1 [readonly fast] [keyspace] NONE dbsize;
    "decr" 2 [write denyoom fast] [string] ONE decr;
    "decrby" 3 [write denyoom fast] [string] ONE decrby;
    "del" -2 [write] [keyspace] ALL del;
    "discard" 1 [noscript loading stale fast allow_busy] [transaction] NONE discard;
    "echo" 2 [loading stale fast] [connection] NONE echo;
    "exec" 1 [noscript loading stale skip_slowlog] [transaction] NONE exec;
    "exists" -2 [readonly fast] [keyspace] ALL exists;
    "expire" -3 [write fast] [keyspace] ONE expire;
    "expireat" -3 [write fast] [keyspace] ONE expireat;
    "expiretime" 2 [readonly fast] [keyspace] ONE expiretime;
    "flushall" -1 [write] [keyspace dangerous] NONE flush;
    "flushdb" -1 [write] [keyspace dangerous] NONE flush;
    "get" 2 [readonly fast] [string] ONE get;
    "getdel" 2 [write fast] [string] ONE getdel;
    "getex" -2 [write fast] [string] ONE getex;
    "getrange" 4 [readonly] [string] ONE getrange;
    "getset" 3 [write denyoom fast] [string] ONE getset;
    "hello" -1 [noscript loading stale fast no_auth allow_busy] [connection] NONE hello;
    "incr" 2 [write denyoom fast] [string] ONE incr;
    "incrby" 3 [write denyoom fast] [string] ONE incrby;
    "incrbyfloat" 3 [write denyoom fast] [string] ONE incrbyfloat;
    "info" -1 [loading stale] [dangerous] NONE info;
    "keys" 2 [readonly] [keyspace dangerous] NONE keys;
    "lastsave" 1 [loading stale fast] [admin dangerous] NONE lastsave;
    "memory" -2 [] [] NONE container;
    "memory|help" 2 [loading stale] [] NONE help;
    "memory|usage" -3 [readonly] [] SECOND memory_usage;
    "mget" -2 [readonly fast] [string] ALL mget;
    "mset" -3 [write denyoom] [string] PAIRS mset;
    "msetnx" -3 [write denyoom] [string] PAIRS msetnx;
    "multi" 1 [noscript loading stale fast allow_busy] [transaction] NONE multi;
    "object" -2 [] [] NONE container;
    "object|encoding" 3 [readonly] [keyspace] SECOND object_encoding;
    "object|help" 2 [loading stale] [keyspace] NONE help;
    "persist" 2 [write fast] [keyspace] ONE persist;
    "pexpire" -3 [write fast] [keyspace] ONE pexpire;
    "pexpireat" -3 [write fast] [keyspace] ONE pexpireat;
    "pexpiretime" 2 [readonly fast] [keyspace] ONE pexpiretime;
    "ping" -1 [fast] [connection] NONE ping;
    "psetex" 4 [write denyoom] [string] ONE psetex;
    "pttl" 2 [readonly fast] [keyspace] ONE pttl;
    "quit" -1 [noscript loading stale fast no_auth allow_busy] [connection] NONE quit;
    "randomkey" 1 [readonly] [keyspace] NONE randomkey;
    "rename" 3 [write] [keyspace] TWO rename;
    "renamenx" 3 [write fast] [keyspace] TWO renamenx;
    "reset" 1 [noscript loading stale fast no_auth allow_busy] [connection] NONE reset;
    "scan" -2 [readonly] [keyspace] NONE scan;
    "select" 2 [loading stale fast] [connection] NONE select;
    "set" -3 [write denyoom] [string] ONE set;
    "setex" 4 [write denyoom] [string] ONE setex;
    "setnx" 3 [write denyoom fast] [string] ONE setnx;
    "setrange" 4 [write denyoom] [string] ONE setrange;
    "strlen" 2 [readonly fast] [string] ONE strlen;
    "substr" 4 [readonly] [string] ONE getrange;
    "time" 1 [loading stale fast] [] NONE time;
    "touch" -2 [readonly fast] [keyspace] ALL exists;
    "ttl" 2 [readonly fast] [keyspace] ONE ttl;
    "type" 2 [readonly fast] [keyspace] ONE kind;
    "unlink" -2 [write fast] [keyspace] ALL del;
    "unwatch" 1 [noscript loading stale fast allow_busy] [transaction] NONE unwatch;
    "wait" 3 [noscript] [connection] NONE wait;
    "watch" -2 [noscript loading stale fast allow_busy] [transaction] ALL watch;
}

/// The names of all commands, in the order of their [`CommandId`].
pub fn command_names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|spec| spec.name)
}

/// The commands that are no subcommands.
pub fn commands() -> impl Iterator<Item = &'static Spec> {
    COMMANDS.iter().filter(|spec| spec.parent.is_none())
}

/// The command or subcommand of a name, in any case.
pub fn spec_named(name: &[u8]) -> Option<&'static Spec> {
    let order = |spec: &Spec| {
        let letters = name.iter().map(u8::to_ascii_lowercase);
        spec.name.bytes().cmp(letters)
    };
    COMMANDS.binary_search_by(order).ok().map(|place| &COMMANDS[place])
}

impl Spec {
    /// Its subcommands.
    pub fn subcommands(&self) -> &'static [Spec] {
        let CommandId(place) = self.id;
        &COMMANDS[place + 1..][..self.children]
    }

    /// Whether it has any.
    pub fn is_container(&self) -> bool {
        self.children > 0
    }

    /// Whether it is one of another command.
    pub fn is_subcommand(&self) -> bool {
        self.parent.is_some()
    }

    /// Its subcommand of a name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Spec> {
        self.subcommands().iter().find(|spec| is(name, spec.short_name()))
    }

    /// Its name without that of its container.
    pub fn short_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, name)| name)
    }

    /// Whether it is in a category: those that its flags say, as Redis derives them, and its groups.
    pub fn is_in(&self, category: &str) -> bool {
        let category = category.trim_start_matches('@');
        let has = |flag| self.flags.contains(&flag);
        self.groups.contains(&category)
            || match category {
                "read" => has("readonly"),
                "write" => has("write"),
                "admin" | "dangerous" => has("admin"),
                "fast" => has("fast"),
                "slow" => !has("fast"),
                _ => false,
            }
    }

    /// Whether a request of so many words may be right.
    pub fn takes(&self, words: usize) -> bool {
        let words = words as i64;
        match self.arity {
            least if least < 0 => words >= i64::from(-least),
            exact => words == i64::from(exact),
        }
    }

    /// Those of a request's words that are keys. The request has as many words as it takes.
    pub fn keys_among<'a>(&self, words: &'a Words<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (first, last, step) = self.keys;
        let last = if last < 0 { words.len() as i32 + last } else { last };
        let places = (first.max(1)..=last).step_by(step.max(1) as usize);
        places.filter_map(|place| words.get(place as usize).copied())
    }

    /// Whether it is for those who have not said the password.
    pub fn needs_no_password(&self) -> bool {
        self.flags.contains(&"no_auth")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::Request;

    #[test]
    fn keys_are_found_where_the_table_says() {
        for (request, keys) in [
            ("get a", "a"),
            ("ping a", ""),
            ("mset a 1 b 2", "a b"),
            ("rename a b", "a b"),
            ("copy a b replace", "a b"),
            ("del a b c", "a b c"),
        ] {
            let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
            let spec = spec_named(words[0]).expect(request);
            let found: Vec<&[u8]> = spec.keys_among(&words).collect();
            assert_eq!(found.join(&b' '), keys.as_bytes(), "{request}");
        }
    }

    #[test]
    fn what_changes_something_and_what_may_grow_is_what_the_table_says() {
        let mut looked_at = 0;
        for spec in COMMANDS {
            // The least words that it takes, all of them a key, a number and a value.
            let count = spec.arity.unsigned_abs() as usize;
            let words: Vec<&[u8]> = spec
                .name
                .split('|')
                .map(str::as_bytes)
                .chain(std::iter::repeat(&b"1"[..]))
                .take(count)
                .collect();
            let Ok(Request::Command(command)) = (spec.parse)(&words) else {
                continue;
            };
            let has = |flag| spec.flags.contains(&flag);
            assert_eq!(command.is_write(), has("write"), "{}", spec.name);
            assert_eq!(command.may_grow(), has("denyoom"), "{}", spec.name);
            looked_at += 1;
        }
        assert!(looked_at > 30, "{looked_at} of {}", COMMANDS.len());
    }

    #[test]
    fn every_command_is_found_by_its_name_in_any_case() {
        for spec in COMMANDS {
            let upper = spec.name.to_uppercase();
            let found = spec_named(upper.as_bytes()).map(|spec| spec.name);
            assert_eq!(found, Some(spec.name), "the table is in order");
        }
        assert!(spec_named(b"lpush").is_none());
        for (container, subcommand) in [("client", "GETNAME"), ("object", "encoding")] {
            let container = spec_named(container.as_bytes()).expect("a container");
            let found = container.subcommand(subcommand.as_bytes()).expect("a subcommand");
            assert_eq!(found.short_name(), subcommand.to_lowercase());
        }
        assert!(spec_named(b"client").is_some_and(|client| client.subcommand(b"nope").is_none()));
        assert!(spec_named(b"").is_none());
    }
}
