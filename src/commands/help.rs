//! The replies to CLIENT HELP, COMMAND HELP, CONFIG HELP, MEMORY HELP, OBJECT HELP, PUBSUB HELP and SCRIPT HELP.
//!
//! Redis's form: lines, each a simple string. A test compares the subcommands here with the table.

use crate::command::{Reply, Text, Words, is};

/// Each container, and what its subcommands do. A line that begins with a space continues the one before it.
const HELP: &[(&str, &[&str])] = &[
    (
        "acl",
        &[
            "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "CAT [<category>]",
            "    Answer the categories of commands, or the commands of one.",
            "DRYRUN <name> <command> [<arg> ...]",
            "    Answer OK if the user may do this, or why not.",
            "GENPASS [<bits>]",
            "    Answer a password of so many random bits (default: 256).",
            "GETUSER <name>",
            "    Answer what a user may do: everything, or only read.",
            "LIST",
            "    Answer the users as lines of an ACL file.",
            "LOAD",
            "    Read the file of users anew, and close the connections of those whose password is gone.",
            "LOG [<count> | RESET]",
            "    Answer the logins and commands that were refused, 10 unless it is told; or forget them.",
            "USERS",
            "    Answer the names of the users.",
            "WHOAMI",
            "    Answer the name of this connection's user.",
        ],
    ),
    (
        "client",
        &[
            "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "CACHING (YES|NO)",
            "    In the mode OPTIN or OPTOUT of TRACKING: treat the next command otherwise than usual.",
            "GETNAME",
            "    Answer the name of this connection.",
            "GETREDIR",
            "    Answer the number of the connection that TRACKING redirects to, 0 for none, -1 if it is off.",
            "ID",
            "    Answer the number of this connection.",
            "INFO",
            "    Answer the line that LIST has about this connection.",
            "KILL <ip:port>",
            "    Close the connection from this address.",
            "KILL <filter> <value> [<filter> <value> [...]]",
            "    Close the connections that fit every filter, and answer how many these were:",
            "    * ID <number>",
            "    * ADDR <ip:port>, where it comes from",
            "    * LADDR <ip:port>, where it has connected to",
            "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB); pubsub are those that have subscribed",
            "    * USER <name>, as which they are logged in",
            "    * MAXAGE <seconds>, for connections at least as old as this",
            "    * SKIPME (YES|NO), whether to spare this connection (default: yes)",
            "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB) | ID <number> [<number> ...]]",
            "    Answer a line about each connection, or about those of a type or with these numbers.",
            "NO-EVICT (ON|OFF)",
            "    Do not close this connection when all together leave more unread than -maxmemory-clients.",
            "NO-TOUCH (ON|OFF)",
            "    Show that reads of this connection make no key younger. None does: keys have no age here.",
            "PAUSE <milliseconds> [WRITE|ALL]",
            "    Let requests of all connections wait, or only those that may change something.",
            "REPLY (ON|OFF|SKIP)",
            "    Send replies to this connection, none at all, or none to its next command.",
            "SETINFO (LIB-NAME|LIB-VER) <value>",
            "    Tell the client library's name or version, for LIST.",
            "SETNAME <name>",
            "    Give this connection a name, for LIST; an empty one takes it away.",
            "TRACKING (ON|OFF) [REDIRECT <number>] [BCAST] [PREFIX <prefix> [...]] [OPTIN] [OPTOUT] [NOLOOP]",
            "    Tell this connection, or another, when a key changes that it has read, or that has a prefix.",
            "TRACKINGINFO",
            "    Answer how this connection tracks.",
            "UNBLOCK <number> [TIMEOUT|ERROR]",
            "    Answer 0: no command here waits for another connection.",
            "UNPAUSE",
            "    End a PAUSE.",
        ],
    ),
    (
        "command",
        &[
            "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "(no subcommand)",
            "    Answer a description of each command.",
            "COUNT",
            "    Answer the number of commands.",
            "DOCS [<command> ...]",
            "    Answer for people what these commands do, or each.",
            "GETKEYS <command> <argument> [<argument> ...]",
            "    Answer those of a request's words that are keys.",
            "GETKEYSANDFLAGS <command> <argument> [<argument> ...]",
            "    Answer these with what the command does to them.",
            "INFO [<command> ...]",
            "    Answer a description of these commands, or of each.",
            "LIST [FILTERBY (MODULE <name> | ACLCAT <category> | PATTERN <pattern>)]",
            "    Answer the names of all commands and subcommands, or of some.",
        ],
    ),
    (
        "config",
        &[
            "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "GET <pattern> [<pattern> ...]",
            "    Answer the settings whose names fit a pattern, with their values.",
            "RESETSTAT",
            "    Set to zero what INFO has counted since the start.",
            "REWRITE",
            "    There is no file to rewrite: flags say how the server starts.",
            "SET <name> <value> [<name> <value> ...]",
            "    Change settings until the next start: all of them, or none if one cannot be changed.",
        ],
    ),
    (
        "latency",
        &[
            "LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "DOCTOR",
            "    Answer a sentence on the commands that took long.",
            "HISTOGRAM [<command> ...]",
            "    Answer how many calls of each command took up to so many microseconds.",
            "HISTORY <event>",
            "    Answer seconds and milliseconds of an event; the only one is 'command'.",
            "LATEST",
            "    Answer the last sample of each event, and its longest.",
            "RESET [<event> ...]",
            "    Forget the samples.",
        ],
    ),
    (
        "memory",
        &[
            "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "DOCTOR",
            "    Answer a sentence on the memory of the process.",
            "MALLOC-STATS",
            "    This allocator has none to show.",
            "PURGE",
            "    This allocator gives memory back by itself.",
            "STATS",
            "    Answer numbers about the memory of the process.",
            "USAGE <key> [SAMPLES <count>]",
            "    Answer the bytes that a key takes up with its value. A string is one sample.",
        ],
    ),
    (
        "object",
        &[
            "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "ENCODING <key>",
            "    Answer how Redis would keep the value: int, embstr or raw.",
            "FREQ <key>",
            "    An error: no key is evicted, so this is not counted.",
            "IDLETIME <key>",
            "    An error, for the same reason.",
            "REFCOUNT <key>",
            "    Answer 1 if the key is there.",
        ],
    ),
    (
        "pubsub",
        &[
            "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "CHANNELS [<pattern>]",
            "    Answer the channels that someone has subscribed to, or those that fit the pattern.",
            "NUMPAT",
            "    Answer the number of different patterns that clients have subscribed to.",
            "NUMSUB [<channel> ...]",
            "    Answer how many clients have subscribed to each channel, patterns not counted.",
            "SHARDCHANNELS [<pattern>]",
            "    Answer the shard channels that someone has subscribed to, or those that fit.",
            "SHARDNUMSUB [<channel> ...]",
            "    Answer how many clients have subscribed to each shard channel.",
        ],
    ),
    #[cfg(feature = "scripts")]
    (
        "script",
        &[
            "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "EXISTS <sha1> [<sha1> ...]",
            "    Answer for each name whether a script of this name is kept.",
            "FLUSH [ASYNC|SYNC]",
            "    Forget all scripts; both modes do the same.",
            "KILL",
            "    End the script that is running. Nothing of what it has changed remains.",
            "LOAD <script>",
            "    Keep a script without running it, and answer its name.",
        ],
    ),
    (
        "sentinel",
        &[
            "SENTINEL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "CKQUORUM <name>",
            "    Tell whether a machine is known to lead.",
            "GET-MASTER-ADDR-BY-NAME <name>",
            "    Answer the address of the machine that leads, or null while none is known to.",
            "MASTER <name>",
            "    Answer what is known of the machine that leads.",
            "MASTERS",
            "    Answer the same for every group, which is one.",
            "MYID",
            "    Answer the number of this machine.",
            "REPLICAS <name>",
            "    Answer an empty list: machines that follow serve no reads.",
            "SENTINELS <name>",
            "    Answer what is known of the other machines.",
            "SLAVES <name>",
            "    The same as REPLICAS.",
        ],
    ),
    (
        "slowlog",
        &[
            "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "GET [<count>]",
            "    Answer the last commands that took long, 10 unless it is told; -1 is all. Of each: its number, when",
            "    it was carried out, how many microseconds that took, its words, its client's address and name.",
            "LEN",
            "    Answer how many are kept.",
            "RESET",
            "    Forget them.",
        ],
    ),
];

/// The last lines of each.
const HELP_ITSELF: [&str; 2] = ["HELP", "    Print this help."];

pub fn help(words: &Words<'_>) -> Result<Reply<'static>, Text> {
    let found = HELP.iter().find(|(container, _)| is(words[0], container));
    let lines = found.map_or(&[][..], |(_, lines)| lines);
    Ok(Reply::Array(lines.iter().chain(&HELP_ITSELF).map(|line| Reply::Simple(line)).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::rows::{commands, short_name, subcommands};
    use super::super::table::COMMANDS;
    use super::*;

    #[test]
    fn each_container_tells_of_each_of_its_subcommands_and_of_no_other() {
        let containers = commands(COMMANDS).filter(|spec| spec.children > 0);
        let mut told_of = Vec::new();
        for spec in containers {
            let (_, lines) = HELP.iter().find(|(name, _)| *name == spec.name).expect(spec.name);
            let first_word =
                |line: &&str| line.split(' ').next().unwrap_or_default().to_lowercase();
            let mut told: Vec<String> = lines[1..]
                .iter()
                .filter(|line| !line.starts_with([' ', '(']))
                .map(first_word)
                .chain(["help".to_owned()])
                .collect();
            told.dedup();
            let names: Vec<&str> = subcommands(COMMANDS, spec).iter().map(short_name).collect();
            told.sort();
            assert_eq!(told, names, "{}", spec.name);
            told_of.push(spec.name);
        }
        assert_eq!(told_of, HELP.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }
}
