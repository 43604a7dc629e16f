//! The commands there are: one table for dispatch, arity and COMMAND.
//!
//! Arity counts the name; a negative one is the least number of words. `keys` is where the keys
//! stand among the words: first, last (from the end if negative), step; zeros if there are none.
//! All of it as in Redis's own `COMMAND INFO`.

use super::arguments::*;
use super::connection_arguments::*;
use super::words::{Outcome, Words};
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
    /// Where its keys stand.
    pub keys: (i32, i32, i32),
    /// Makes sense of its words.
    pub parse: fn(&Words<'_>) -> Outcome,
    /// Its place in the table.
    pub id: CommandId,
}

const READ: &[&str] = &["readonly", "fast"];
const SLOW_READ: &[&str] = &["readonly"];
const WRITE: &[&str] = &["write", "denyoom", "fast"];
const REMOVE: &[&str] = &["write", "fast"];
const FREE: &[&str] = &["noscript", "loading", "stale", "fast"];
const NO_AUTH: &[&str] = &["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"];
const ADMIN: &[&str] = &["admin", "noscript", "loading", "stale"];

const NONE: (i32, i32, i32) = (0, 0, 0);
const ONE: (i32, i32, i32) = (1, 1, 1);
const TWO: (i32, i32, i32) = (1, 2, 1);
const ALL: (i32, i32, i32) = (1, -1, 1);
const PAIRS: (i32, i32, i32) = (1, -1, 2);

macro_rules! commands {
    ($($name:literal $arity:literal $flags:ident $keys:ident $parse:ident;)*) => {
        /// Every command, in the order of their names.
        pub static COMMANDS: &[Spec] = &numbered([$(Spec {
            name: $name,
            arity: $arity,
            flags: $flags,
            keys: $keys,
            parse: $parse,
            id: CommandId(0),
        }),*]);
    };
}

const fn numbered<const COUNT: usize>(mut specs: [Spec; COUNT]) -> [Spec; COUNT] {
    let mut place = 0;
    while place < COUNT {
        specs[place].id = CommandId(place);
        place += 1;
    }
    specs
}

commands! {
    "append" 3 WRITE ONE append;
    "auth" -2 NO_AUTH NONE auth;
    "bgrewriteaof" 1 ADMIN NONE bgrewriteaof;
    "client" -2 ADMIN NONE client;
    "command" -1 FREE NONE command;
    "config" -2 ADMIN NONE config;
    "copy" -3 WRITE TWO copy;
    "dbsize" 1 READ NONE dbsize;
    "decr" 2 WRITE ONE decr;
    "decrby" 3 WRITE ONE decrby;
    "del" -2 REMOVE ALL del;
    "discard" 1 FREE NONE discard;
    "echo" 2 FREE NONE echo;
    "exec" 1 FREE NONE exec;
    "exists" -2 READ ALL exists;
    "expire" -3 REMOVE ONE expire;
    "expireat" -3 REMOVE ONE expireat;
    "expiretime" 2 READ ONE expiretime;
    "flushall" -1 REMOVE NONE flush;
    "flushdb" -1 REMOVE NONE flush;
    "get" 2 READ ONE get;
    "getdel" 2 REMOVE ONE getdel;
    "getex" -2 REMOVE ONE getex;
    "getrange" 4 SLOW_READ ONE getrange;
    "getset" 3 WRITE ONE getset;
    "hello" -1 NO_AUTH NONE hello;
    "incr" 2 WRITE ONE incr;
    "incrby" 3 WRITE ONE incrby;
    "incrbyfloat" 3 WRITE ONE incrbyfloat;
    "info" -1 FREE NONE info;
    "keys" 2 SLOW_READ NONE keys;
    "lastsave" 1 FREE NONE lastsave;
    "memory" -2 SLOW_READ NONE memory;
    "mget" -2 READ ALL mget;
    "mset" -3 WRITE PAIRS mset;
    "msetnx" -3 WRITE PAIRS msetnx;
    "multi" 1 FREE NONE multi;
    "object" -2 SLOW_READ NONE object;
    "persist" 2 REMOVE ONE persist;
    "pexpire" -3 REMOVE ONE pexpire;
    "pexpireat" -3 REMOVE ONE pexpireat;
    "pexpiretime" 2 READ ONE pexpiretime;
    "ping" -1 FREE NONE ping;
    "psetex" 4 WRITE ONE psetex;
    "pttl" 2 READ ONE pttl;
    "quit" -1 NO_AUTH NONE quit;
    "randomkey" 1 SLOW_READ NONE randomkey;
    "rename" 3 REMOVE TWO rename;
    "renamenx" 3 REMOVE TWO renamenx;
    "reset" 1 NO_AUTH NONE reset;
    "scan" -2 SLOW_READ NONE scan;
    "select" 2 FREE NONE select;
    "set" -3 WRITE ONE set;
    "setex" 4 WRITE ONE setex;
    "setnx" 3 WRITE ONE setnx;
    "setrange" 4 WRITE ONE setrange;
    "strlen" 2 READ ONE strlen;
    "substr" 4 SLOW_READ ONE getrange;
    "time" 1 FREE NONE time;
    "touch" -2 READ ALL exists;
    "ttl" 2 READ ONE ttl;
    "type" 2 READ ONE kind;
    "unlink" -2 REMOVE ALL del;
    "unwatch" 1 FREE NONE unwatch;
    "wait" 3 FREE NONE wait;
    "watch" -2 FREE ALL watch;
}

/// The names of all commands, in the order of their [`CommandId`].
pub fn command_names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|spec| spec.name)
}

/// The command of a name, in any case.
pub fn spec_named(name: &[u8]) -> Option<&'static Spec> {
    let order = |spec: &Spec| {
        let letters = name.iter().map(u8::to_ascii_lowercase);
        spec.name.bytes().cmp(letters)
    };
    COMMANDS.binary_search_by(order).ok().map(|place| &COMMANDS[place])
}

impl Spec {
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
    use crate::protocol::Request;

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
            let words: Vec<&[u8]> = std::iter::once(spec.name.as_bytes())
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
        assert!(spec_named(b"").is_none());
    }
}
