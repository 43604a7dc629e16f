//! What commands do to their keys, as COMMAND GETKEYSANDFLAGS tells it: `RO`, `RW`, `OW` (overwritten) or `RM`
//! (removed) as a whole, and what becomes of the value.

use crate::command::{Spec, Words, is};

type Flags = &'static [&'static str];

const SEEN: Flags = &["RO"];
const READ: Flags = &["RO", "access"];
const CHANGED: Flags = &["RW", "access", "update"];
const CHANGED_UNSEEN: Flags = &["RW", "update"];
const ADDED_TO: Flags = &["RW", "insert"];
const TAKEN: Flags = &["RW", "access", "delete"];
const SET: Flags = &["OW", "update"];
const MADE: Flags = &["OW", "insert"];
const REMOVED: Flags = &["RM", "delete"];

/// Commands, and what they do to their first key and to every other one. A test compares them with the table.
const USES: &[(&str, Flags, Flags)] = &[
    ("exists touch strlen type watch memory|usage", SEEN, SEEN),
    ("object|encoding object|freq object|idletime object|refcount", SEEN, SEEN),
    ("get mget getrange substr getbit bitcount bitpos bitfield_ro lcs dump digest", READ, READ),
    ("ttl pttl expiretime pexpiretime", READ, READ),
    ("incr decr incrby decrby incrbyfloat getset getex setbit bitfield move", CHANGED, CHANGED),
    ("setrange expire expireat pexpire pexpireat persist", CHANGED_UNSEEN, CHANGED_UNSEEN),
    ("append", ADDED_TO, ADDED_TO),
    ("getdel delex delifeq", TAKEN, TAKEN),
    ("set setex psetex mset msetex restore", SET, SET),
    ("setnx msetnx", MADE, MADE),
    ("del unlink", REMOVED, REMOVED),
    ("copy", READ, SET),
    ("rename", TAKEN, SET),
    ("renamenx", TAKEN, MADE),
    ("bitop", SET, READ),
    #[cfg(feature = "scripts")]
    ("eval evalsha", CHANGED, CHANGED),
    #[cfg(feature = "scripts")]
    ("eval_ro evalsha_ro", READ, READ),
];

/// How a request uses the key at this place among its keys. `None` if its keys are channels.
pub fn flags(spec: &Spec, words: &Words<'_>, place: usize) -> Option<Flags> {
    let has = |options: &[&str]| words.iter().any(|word| options.iter().any(|name| is(word, name)));
    match spec.name {
        "set" if has(&["get", "ifeq", "ifne", "ifdeq", "ifdne"]) => return Some(CHANGED),
        "bitfield" if !has(&["set", "incrby"]) => return Some(READ),
        _ => {}
    }
    let uses = USES.iter().find(|(names, ..)| names.split(' ').any(|name| name == spec.name));
    uses.map(|(_, first, others)| if place == 0 { *first } else { *others })
}

#[cfg(test)]
mod tests {
    use super::super::table::COMMANDS;
    use super::*;
    use crate::command::Keys;

    #[test]
    fn every_command_with_keys_says_what_it_does_to_them_once() {
        for spec in COMMANDS {
            let rows = USES.iter().filter(|(names, ..)| names.split(' ').any(|n| n == spec.name));
            let has_keys = spec.keys != Keys::NONE && !spec.has("pubsub");
            assert_eq!(rows.count(), usize::from(has_keys), "{}", spec.name);
        }
    }

    #[test]
    fn a_command_that_reads_leaves_its_keys_as_they_are_and_no_other_does() {
        for spec in COMMANDS.iter().filter(|spec| spec.has("readonly") || spec.has("write")) {
            let uses: Vec<_> = (0..2).filter_map(|place| flags(spec, &[], place)).collect();
            let is_changed = uses.iter().any(|flags| flags[0] != "RO");
            let may_change = spec.has("write") && spec.name != "bitfield";
            assert!(uses.is_empty() || is_changed == may_change, "{} {uses:?}", spec.name);
        }
    }
}
