//! All commands in one table, for dispatch, arity and COMMAND.
//!
//! A row is a name, the arity, flags, groups, the places of the keys, and the function that carries the
//! command out. Arity counts the name; a negative one is the least number of words. The places of the keys
//! are first, last (from the end if negative) and step; zeros if there are none. A subcommand has a row of
//! its own after its container's, with a bar in its name, and counts words and places from the container's
//! name on. All of it is as in Redis's own `COMMAND INFO`.

use super::words::*;
use super::{
    acl, bitfield, bitop, bits, clients, compare, connection, dump, expiry, help, introspection,
    keys, lcs, memory, numbers, pubsub, sentinel, server, slow, strings, tracking, walks,
};
#[cfg(feature = "scripts")]
use crate::command::ScriptCommand;
use crate::command::{CommandId, Keys, Reply, Run, SessionCommand, Spec, Text, Topic, Words};

const NONE: Keys = Keys::NONE;
const ONE: Keys = Keys::Range(1, 1, 1);
const TWO: Keys = Keys::Range(1, 2, 1);
const ALL: Keys = Keys::Range(1, -1, 1);
const PAIRS: Keys = Keys::Range(1, -1, 2);
const SECOND: Keys = Keys::Range(2, 2, 1);
const FROM_SECOND: Keys = Keys::Range(2, -1, 1);
const COUNTED_PAIRS: Keys = Keys::Counted(1, 2);
#[cfg(feature = "scripts")]
const COUNTED: Keys = Keys::Counted(2, 1);

macro_rules! commands {
    ($($(#[$only:meta])* $name:literal $arity:literal [$($flag:ident)*] [$($group:ident)*] $keys:ident $run:ident($function:expr);)*) => {
        /// Every command, in the order of their names.
        pub static COMMANDS: &[Spec] = &numbered([$($(#[$only])* Spec {
            name: $name,
            arity: $arity,
            flags: &[$(stringify!($flag)),*],
            groups: &[$(stringify!($group)),*],
            keys: $keys,
            run: Run::$run($function),
            id: CommandId(0),
            parent: None,
            children: 0,
        }),*]);
    };
}

/// Gives each row its place, and each subcommand the container before it.
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
    "acl" -2 [] [] NONE Say(container);
    "acl|cat" -2 [noscript loading stale] [] NONE Ask(acl::cat);
    "acl|dryrun" -4 [admin noscript loading stale] [] NONE Ask(acl::dryrun);
    "acl|genpass" -2 [noscript loading stale] [] NONE Ask(acl::genpass);
    "acl|getuser" 3 [admin noscript loading stale] [] NONE Ask(acl::getuser);
    "acl|help" 2 [loading stale] [] NONE Say(help::help);
    "acl|list" 2 [admin noscript loading stale] [] NONE Ask(acl::list);
    "acl|load" 2 [admin noscript loading stale] [] NONE Ask(acl::load);
    "acl|log" -2 [admin noscript loading stale] [] NONE Ask(acl::log);
    "acl|users" 2 [admin noscript loading stale] [] NONE Ask(acl::users);
    "acl|whoami" 2 [noscript loading stale] [] NONE Ask(acl::whoami);
    "append" 3 [write denyoom fast] [string] ONE Write(strings::append);
    "auth" -2 [noscript loading stale fast no_auth allow_busy] [connection] NONE Ask(connection::auth);
    "bgrewriteaof" 1 [admin noscript no_async_loading] [] NONE Ask(server::bgrewriteaof);
    "bgsave" -1 [admin noscript no_async_loading] [] NONE Ask(server::bgsave);
    "bitcount" -2 [readonly] [bitmap] ONE Walk(bits::bitcount);
    "bitfield" -2 [write denyoom] [bitmap] ONE Write(bitfield::bitfield);
    "bitfield_ro" -2 [readonly fast] [bitmap] ONE Read(bitfield::bitfield_ro);
    "bitop" -4 [write denyoom] [bitmap] FROM_SECOND Write(bitop::bitop);
    "bitpos" -3 [readonly] [bitmap] ONE Walk(bits::bitpos);
    "client" -2 [] [] NONE Say(container);
    "client|caching" 3 [noscript loading stale] [connection] NONE Ask(tracking::client_caching);
    "client|getname" 2 [noscript loading stale] [connection] NONE Ask(clients::client_getname);
    "client|getredir" 2 [noscript loading stale] [connection] NONE Ask(tracking::client_getredir);
    "client|help" 2 [loading stale] [connection] NONE Say(help::help);
    "client|id" 2 [noscript loading stale] [connection] NONE Ask(clients::client_id);
    "client|info" 2 [noscript loading stale] [connection] NONE Ask(clients::client_info);
    "client|kill" -3 [admin noscript loading stale] [connection] NONE Ask(clients::client_kill);
    "client|list" -2 [admin noscript loading stale] [connection] NONE Ask(clients::client_list);
    "client|no-evict" 3 [admin noscript loading stale] [connection] NONE Ask(clients::client_no_evict);
    "client|no-touch" 3 [noscript loading stale] [connection] NONE Ask(clients::client_no_touch);
    "client|pause" -3 [admin noscript loading stale] [connection] NONE Ask(clients::client_pause);
    "client|reply" 3 [noscript loading stale no_multi] [connection] NONE Ask(clients::client_reply);
    "client|setinfo" 4 [noscript loading stale] [connection] NONE Ask(clients::client_setinfo);
    "client|setname" 3 [noscript loading stale] [connection] NONE Ask(clients::client_setname);
    "client|tracking" -3 [noscript loading stale no_multi] [connection] NONE Ask(tracking::client_tracking);
    "client|trackinginfo" 2 [noscript loading stale] [connection] NONE Ask(tracking::client_trackinginfo);
    "client|unblock" -3 [admin noscript loading stale] [connection] NONE Say(clients::client_unblock);
    "client|unpause" 2 [admin noscript loading stale] [connection] NONE Ask(clients::client_unpause);
    "command" -1 [loading stale] [connection] NONE Ask(introspection::command);
    "command|count" 2 [loading stale] [connection] NONE Ask(introspection::command_count);
    "command|docs" -2 [loading stale] [connection] NONE Ask(introspection::command_docs);
    "command|getkeys" -3 [loading stale] [connection] NONE Ask(introspection::command_getkeys);
    "command|getkeysandflags" -3 [loading stale] [connection] NONE Ask(introspection::command_getkeysandflags);
    "command|help" 2 [loading stale] [connection] NONE Say(help::help);
    "command|info" -2 [loading stale] [connection] NONE Ask(introspection::command_info);
    "command|list" -2 [loading stale] [connection] NONE Ask(introspection::command_list);
    "config" -2 [] [] NONE Say(container);
    "config|get" -3 [admin noscript loading stale] [] NONE Ask(server::config_get);
    "config|help" 2 [loading stale] [] NONE Say(help::help);
    "config|resetstat" 2 [admin noscript loading stale] [] NONE Ask(server::config_resetstat);
    "config|rewrite" 2 [admin noscript loading stale] [] NONE Say(server::config_rewrite);
    "config|set" -4 [admin noscript loading stale] [] NONE Ask(server::config_set);
    "copy" -3 [write denyoom] [keyspace] TWO Write(keys::copy);
    "dbsize" 1 [readonly fast] [keyspace] NONE Read(keys::dbsize);
    "decr" 2 [write denyoom fast] [string] ONE Write(numbers::decr);
    "decrby" 3 [write denyoom fast] [string] ONE Write(numbers::decrby);
    "del" -2 [write] [keyspace] ALL Core(keys::del);
    "delex" -2 [write fast] [string] ONE Write(compare::delex);
    "delifeq" 3 [write fast] [string] ONE Write(compare::delifeq);
    "digest" 2 [readonly fast] [string] ONE Walk(compare::digest_of);
    "discard" 1 [noscript loading stale fast allow_busy] [transaction] NONE Session(SessionCommand::Discard);
    "dump" 2 [readonly] [keyspace] ONE Read(dump::dump);
    "echo" 2 [loading stale fast] [connection] NONE Say(connection::echo);
    #[cfg(feature = "scripts")]
    "eval" -3 [noscript stale skip_monitor may_replicate no_mandatory_keys movablekeys] [scripting] COUNTED Script(ScriptCommand::Eval);
    #[cfg(feature = "scripts")]
    "eval_ro" -3 [readonly noscript stale skip_monitor no_mandatory_keys movablekeys] [scripting] COUNTED Script(ScriptCommand::EvalRo);
    #[cfg(feature = "scripts")]
    "evalsha" -3 [noscript stale skip_monitor may_replicate no_mandatory_keys movablekeys] [scripting] COUNTED Script(ScriptCommand::EvalSha);
    #[cfg(feature = "scripts")]
    "evalsha_ro" -3 [readonly noscript stale skip_monitor no_mandatory_keys movablekeys] [scripting] COUNTED Script(ScriptCommand::EvalShaRo);
    "exec" 1 [noscript loading stale skip_slowlog] [transaction] NONE Session(SessionCommand::Exec);
    "exists" -2 [readonly fast] [keyspace] ALL Read(keys::exists);
    "expire" -3 [write fast] [keyspace] ONE Write(expiry::expire);
    "expireat" -3 [write fast] [keyspace] ONE Write(expiry::expireat);
    "expiretime" 2 [readonly fast] [keyspace] ONE Read(expiry::expiretime);
    "flushall" -1 [write] [keyspace dangerous] NONE Write(keys::flushall);
    "flushdb" -1 [write] [keyspace dangerous] NONE Write(keys::flushdb);
    "get" 2 [readonly fast] [string] ONE Core(strings::get);
    "getbit" 3 [readonly fast] [bitmap] ONE Read(bits::getbit);
    "getdel" 2 [write fast] [string] ONE Write(strings::getdel);
    "getex" -2 [write fast] [string] ONE Write(expiry::getex);
    "getrange" 4 [readonly] [string] ONE Read(strings::getrange);
    "getset" 3 [write denyoom fast] [string] ONE Core(strings::getset);
    "hello" -1 [noscript loading stale fast no_auth allow_busy] [connection] NONE Ask(connection::hello);
    "incr" 2 [write denyoom fast] [string] ONE Write(numbers::incr);
    "incrby" 3 [write denyoom fast] [string] ONE Write(numbers::incrby);
    "incrbyfloat" 3 [write denyoom fast] [string] ONE Write(numbers::incrbyfloat);
    "info" -1 [loading stale] [dangerous] NONE Ask(server::info);
    "keys" 2 [readonly] [keyspace dangerous] NONE Walk(walks::keys);
    "lastsave" 1 [loading stale fast] [admin dangerous] NONE Ask(server::lastsave);
    "latency" -2 [] [] NONE Say(container);
    "latency|doctor" 2 [admin noscript loading stale] [] NONE Ask(slow::latency_doctor);
    "latency|help" 2 [loading stale] [] NONE Say(help::help);
    "latency|histogram" -2 [admin noscript loading stale] [] NONE Ask(slow::latency_histogram);
    "latency|history" 3 [admin noscript loading stale] [] NONE Ask(slow::latency_history);
    "latency|latest" 2 [admin noscript loading stale] [] NONE Ask(slow::latency_latest);
    "latency|reset" -2 [admin noscript loading stale] [] NONE Ask(slow::latency_reset);
    "lcs" -3 [readonly] [string] TWO Walk(lcs::lcs);
    "lolwut" -1 [loading stale fast] [] NONE Say(server::lolwut);
    "memory" -2 [] [] NONE Say(container);
    "memory|doctor" 2 [] [] NONE Ask(memory::doctor);
    "memory|help" 2 [loading stale] [] NONE Say(help::help);
    "memory|malloc-stats" 2 [] [] NONE Say(memory::malloc_stats);
    "memory|purge" 2 [] [] NONE Say(memory::purge);
    "memory|stats" 2 [] [] NONE Ask(memory::stats);
    "memory|usage" -3 [readonly] [] SECOND Read(keys::memory_usage);
    "mget" -2 [readonly fast] [string] ALL Read(strings::mget);
    "monitor" 1 [admin noscript loading stale] [] NONE Session(SessionCommand::Monitor);
    "move" 3 [write fast] [keyspace] ONE Write(keys::move_key);
    "mset" -3 [write denyoom] [string] PAIRS Write(strings::mset);
    "msetex" -4 [write denyoom movablekeys] [string] COUNTED_PAIRS Write(compare::msetex);
    "msetnx" -3 [write denyoom] [string] PAIRS Write(strings::msetnx);
    "multi" 1 [noscript loading stale fast allow_busy] [transaction] NONE Session(SessionCommand::Multi);
    "object" -2 [] [] NONE Say(container);
    "object|encoding" 3 [readonly] [keyspace] SECOND Read(keys::encoding);
    "object|freq" 3 [readonly] [keyspace] SECOND Read(keys::frequency);
    "object|help" 2 [loading stale] [keyspace] NONE Say(help::help);
    "object|idletime" 3 [readonly] [keyspace] SECOND Read(keys::idle_time);
    "object|refcount" 3 [readonly] [keyspace] SECOND Read(keys::references);
    "persist" 2 [write fast] [keyspace] ONE Write(expiry::persist);
    "pexpire" -3 [write fast] [keyspace] ONE Write(expiry::pexpire);
    "pexpireat" -3 [write fast] [keyspace] ONE Write(expiry::pexpireat);
    "pexpiretime" 2 [readonly fast] [keyspace] ONE Read(expiry::pexpiretime);
    "ping" -1 [fast] [connection] NONE Say(connection::ping);
    "psetex" 4 [write denyoom] [string] ONE Core(strings::psetex);
    "psubscribe" -2 [pubsub noscript loading stale] [] NONE Session(SessionCommand::Subscribe(Topic::Pattern));
    "pttl" 2 [readonly fast] [keyspace] ONE Read(expiry::pttl);
    "publish" 3 [pubsub loading stale fast] [] NONE Read(pubsub::publish);
    "pubsub" -2 [] [] NONE Say(container);
    "pubsub|channels" -2 [pubsub loading stale] [] NONE Ask(pubsub::channels);
    "pubsub|help" 2 [loading stale] [] NONE Say(help::help);
    "pubsub|numpat" 2 [pubsub loading stale] [] NONE Ask(pubsub::numpat);
    "pubsub|numsub" -2 [pubsub loading stale] [] NONE Ask(pubsub::numsub);
    "pubsub|shardchannels" -2 [pubsub loading stale] [] NONE Ask(pubsub::shardchannels);
    "pubsub|shardnumsub" -2 [pubsub loading stale] [] NONE Ask(pubsub::shardnumsub);
    "punsubscribe" -1 [pubsub noscript loading stale] [] NONE Session(SessionCommand::Unsubscribe(Topic::Pattern));
    "quit" -1 [noscript loading stale fast no_auth allow_busy] [connection] NONE Session(SessionCommand::Quit);
    "randomkey" 1 [readonly] [keyspace] NONE Walk(walks::randomkey);
    "rename" 3 [write] [keyspace] TWO Write(keys::rename);
    "renamenx" 3 [write fast] [keyspace] TWO Write(keys::renamenx);
    "reset" 1 [noscript loading stale fast no_auth allow_busy] [connection] NONE Session(SessionCommand::Reset);
    "restore" -4 [write denyoom] [keyspace dangerous] ONE Write(dump::restore);
    "role" 1 [noscript loading stale fast] [admin dangerous] NONE Ask(sentinel::role);
    "save" 1 [admin noscript no_async_loading no_multi] [] NONE Ask(server::save);
    "scan" -2 [readonly] [keyspace] NONE Walk(walks::scan);
    #[cfg(feature = "scripts")]
    "script" -2 [] [] NONE Say(container);
    #[cfg(feature = "scripts")]
    "script|exists" -3 [noscript] [scripting] NONE Script(ScriptCommand::Exists);
    #[cfg(feature = "scripts")]
    "script|flush" -2 [noscript may_replicate] [scripting] NONE Script(ScriptCommand::Flush);
    #[cfg(feature = "scripts")]
    "script|help" 2 [loading stale] [scripting] NONE Say(help::help);
    #[cfg(feature = "scripts")]
    "script|kill" 2 [noscript allow_busy] [scripting] NONE Ask(server::script_kill);
    #[cfg(feature = "scripts")]
    "script|load" 3 [noscript stale may_replicate] [scripting] NONE Script(ScriptCommand::Load);
    "select" 2 [loading stale fast] [connection] NONE Session(SessionCommand::Select);
    "sentinel" -2 [] [] NONE Say(container);
    "sentinel|ckquorum" 3 [admin only_sentinel] [] NONE Ask(sentinel::ckquorum);
    "sentinel|get-master-addr-by-name" 3 [admin only_sentinel] [] NONE Ask(sentinel::get_master_addr);
    "sentinel|help" 2 [loading stale only_sentinel] [] NONE Say(help::help);
    "sentinel|master" 3 [admin only_sentinel] [] NONE Ask(sentinel::master);
    "sentinel|masters" 2 [admin only_sentinel] [] NONE Ask(sentinel::masters);
    "sentinel|myid" 2 [admin only_sentinel] [] NONE Ask(sentinel::myid);
    "sentinel|replicas" 3 [admin only_sentinel] [] NONE Ask(sentinel::replicas);
    "sentinel|sentinels" 3 [admin only_sentinel] [] NONE Ask(sentinel::sentinels);
    "sentinel|slaves" 3 [admin only_sentinel] [] NONE Ask(sentinel::replicas);
    "set" -3 [write denyoom] [string] ONE Core(strings::set);
    "setbit" 4 [write denyoom] [bitmap] ONE Write(bits::setbit);
    "setex" 4 [write denyoom] [string] ONE Core(strings::setex);
    "setnx" 3 [write denyoom fast] [string] ONE Core(strings::setnx);
    "setrange" 4 [write denyoom] [string] ONE Write(strings::setrange);
    "shutdown" -1 [admin noscript loading stale no_multi allow_busy] [] NONE Ask(server::shutdown);
    "slowlog" -2 [] [] NONE Say(container);
    "slowlog|get" -2 [admin loading stale] [] NONE Ask(slow::slowlog_get);
    "slowlog|help" 2 [loading stale] [] NONE Say(help::help);
    "slowlog|len" 2 [admin loading stale] [] NONE Ask(slow::slowlog_len);
    "slowlog|reset" 2 [admin loading stale] [] NONE Ask(slow::slowlog_reset);
    "spublish" 3 [pubsub loading stale fast] [] ONE Read(pubsub::spublish);
    "ssubscribe" -2 [pubsub noscript loading stale] [] ALL Session(SessionCommand::Subscribe(Topic::Shard));
    "strlen" 2 [readonly fast] [string] ONE Read(strings::strlen);
    "subscribe" -2 [pubsub noscript loading stale] [] NONE Session(SessionCommand::Subscribe(Topic::Channel));
    "substr" 4 [readonly] [string] ONE Read(strings::getrange);
    "sunsubscribe" -1 [pubsub noscript loading stale] [] ALL Session(SessionCommand::Unsubscribe(Topic::Shard));
    "swapdb" 3 [write fast] [keyspace dangerous] NONE Write(keys::swapdb);
    "time" 1 [loading stale fast] [] NONE Say(server::time);
    "touch" -2 [readonly fast] [keyspace] ALL Read(keys::exists);
    "ttl" 2 [readonly fast] [keyspace] ONE Read(expiry::ttl);
    "type" 2 [readonly fast] [keyspace] ONE Read(keys::kind);
    "unlink" -2 [write fast] [keyspace] ALL Core(keys::del);
    "unsubscribe" -1 [pubsub noscript loading stale] [] NONE Session(SessionCommand::Unsubscribe(Topic::Channel));
    "unwatch" 1 [noscript loading stale fast allow_busy] [transaction] NONE Session(SessionCommand::Unwatch);
    "wait" 3 [] [connection] NONE Say(server::wait);
    "waitaof" 4 [noscript] [connection] NONE Ask(server::waitaof);
    "watch" -2 [noscript loading stale fast allow_busy] [transaction] ALL Session(SessionCommand::Watch);
}

/// The names of all commands, in the order of their [`CommandId`].
pub fn command_names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|spec| spec.name)
}

/// A container without a subcommand, which its arity forbids.
fn container(words: &Words<'_>) -> Result<Reply<'static>, Text> {
    Err(wrong_number(&shown(words[0]).to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::super::rows::{named, short_name};
    use super::*;

    #[test]
    fn keys_are_found_in_the_places_of_the_table() {
        for (request, keys) in [
            ("get a", "a"),
            ("ping a", ""),
            ("mset a 1 b 2", "a b"),
            ("rename a b", "a b"),
            ("copy a b replace", "a b"),
            ("del a b c", "a b c"),
            ("bitop and to a b", "to a b"),
            ("msetex 2 a 1 b 2 ex 10", "a b"),
            ("msetex 9 a 1 b 2", ""),
            ("msetex -1 a 1", ""),
            ("msetex 99999999999999999999 a 1", ""),
        ] {
            let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
            let spec = named(COMMANDS, words[0]).expect(request);
            let found: Vec<&[u8]> = spec.keys_among(&words).collect();
            assert_eq!(found.join(&b' '), keys.as_bytes(), "{request}");
        }
    }

    #[test]
    fn flags_say_which_commands_change_something_and_which_may_grow() {
        for spec in COMMANDS {
            let (is_write, is_read) = match spec.run {
                Run::Core(_) => (spec.name != "get", spec.name == "get"),
                Run::Read(_) | Run::Walk(_) => (false, !spec.publishes()),
                Run::Write(_) => (true, false),
                Run::Script(_) => (false, spec.has("readonly")),
                Run::Say(_) | Run::Ask(_) | Run::Session(_) => (false, false),
            };
            let said = (spec.has("write"), spec.has("readonly"));
            assert_eq!((is_write, is_read), said, "{}", spec.name);
            assert!(is_write || !spec.has("denyoom"), "{}", spec.name);
        }
    }

    #[test]
    fn every_command_is_found_by_its_name_in_any_case() {
        for spec in COMMANDS {
            let upper = spec.name.to_uppercase();
            let found = named(COMMANDS, upper.as_bytes()).map(|spec| spec.name);
            assert_eq!(found, Some(spec.name), "the table is in order");
            let is_subcommand = spec.parent.is_some();
            let found = find(&[upper.as_bytes(), b""]).or_else(|container| container.ok_or(()));
            assert_eq!(found.is_ok_and(|found| found.name == spec.name), !is_subcommand);
        }
        assert!(named(COMMANDS, b"lpush").is_none());
        for (container, subcommand) in [("client", "GETNAME"), ("object", "encoding")] {
            let found = find(&[container.as_bytes(), subcommand.as_bytes()]);
            assert_eq!(found.map(short_name).ok(), Some(&*subcommand.to_lowercase()));
        }
        assert!(find(&[b"client", b"nope"]).is_err_and(|client| client.is_some()));
        assert!(named(COMMANDS, b"").is_none());
    }
}
