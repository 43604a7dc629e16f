//! What COMMAND DOCS tells of each command, beside its row in the table: redis-cli makes its hints and its help of it.
//!
//! A row is the command's name, the version of Redis since which there is such a command, Redis's group, its cost,
//! its arguments (see [`super::arguments`]), and a summary. Rows stand in the order of the table, with which a test
//! compares them. Key specifications are left out, as in COMMAND INFO.

use super::arguments;
use super::rows::subcommands;
use crate::command::{Reply, Spec};

/// The documentation of a command.
pub struct Doc {
    name: &'static str,
    since: &'static str,
    group: &'static str,
    complexity: &'static str,
    arguments: &'static str,
    summary: &'static str,
}

macro_rules! docs {
    ($($(#[$only:meta])* $name:literal $since:literal $group:ident $complexity:literal $arguments:literal $summary:literal;)*) => {
        static DOCS: &[Doc] = &[$($(#[$only])* Doc {
            name: $name,
            since: $since,
            group: stringify!($group),
            complexity: $complexity,
            arguments: $arguments,
            summary: $summary,
        }),*];
    };
}

docs! {
    "acl" "6.0.0" server "Depends on the subcommand" "" "Tells of users. There is one, who may do everything.";
    "acl|cat" "6.0.0" server "O(N), N being the number of commands" "[category]" "Lists the categories of commands, or the commands of one.";
    "acl|dryrun" "7.0.0" server "O(1)" "username command [arg...]" "Tells whether a user may carry out a request, without doing it.";
    "acl|genpass" "6.0.0" server "O(1)" "[bits/integer]" "Makes a password of random bits.";
    "acl|getuser" "6.0.0" server "O(1)" "username" "Tells what a user may do.";
    "acl|help" "6.0.0" server "O(1)" "" "Prints the subcommands of ACL.";
    "acl|list" "6.0.0" server "O(1)" "" "Lists the users as lines of an ACL file.";
    "acl|load" "6.0.0" server "O(N), N being the number of users" "" "Reads the file of users anew.";
    "acl|log" "6.0.0" server "O(N), N being the number of entries" "[count/integer | RESET]" "Lists the logins that were refused, or forgets them.";
    "acl|users" "6.0.0" server "O(1)" "" "Lists the names of the users.";
    "acl|whoami" "6.0.0" server "O(1)" "" "Tells the name of this connection's user.";
    "append" "2.0.0" string "O(N), N being the length of the new value" "key/key value" "Adds bytes to the end of a value.";
    "auth" "1.0.0" connection "O(N), N being the length of the password" "[username] password" "Logs this connection in.";
    "bgrewriteaof" "1.0.0" server "O(1); the compaction runs beside the commits" "" "Begins a compaction of the log.";
    "bgsave" "1.0.0" server "O(1); the compaction runs beside the commits" "[SCHEDULE]" "Begins a compaction of the log.";
    "bitcount" "2.6.0" bitmap "O(N), N being the length of the value" "key/key [start/integer end/integer [BYTE | BIT]]" "Counts the ones of a value or of a part of it.";
    "bitfield" "3.2.0" bitmap "O(N), N being the length of the value if anything is changed; O(1) for each step otherwise" "key/key [GET encoding offset/integer | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset/integer value/integer | INCRBY encoding offset/integer increment/integer>]..." "Reads and changes numbers of any width within a value.";
    "bitfield_ro" "6.0.0" bitmap "O(1) for each step" "key/key [GET encoding offset/integer]..." "Reads numbers of any width within a value.";
    "bitop" "2.6.0" bitmap "O(N), N being the length of all values" "<AND | OR | XOR | NOT> destkey/key key/key..." "Combines values bit by bit and keeps the result.";
    "bitpos" "2.8.7" bitmap "O(N), N being the length of the value" "key/key bit/integer [start/integer [end/integer [BYTE | BIT]]]" "Finds the first one or zero of a value or of a part of it.";
    "client" "2.4.0" connection "Depends on the subcommand" "" "Tells of connections and changes them.";
    "client|caching" "6.0.0" connection "O(1)" "<YES | NO>" "Has the next command tracked, or not tracked.";
    "client|getname" "2.6.9" connection "O(1)" "" "Tells the name of this connection.";
    "client|getredir" "6.0.0" connection "O(1)" "" "Tells which connection gets the invalidations of this one.";
    "client|help" "5.0.0" connection "O(1)" "" "Prints the subcommands of CLIENT.";
    "client|id" "5.0.0" connection "O(1)" "" "Tells the number of this connection.";
    "client|info" "6.2.0" connection "O(1)" "" "Tells what CLIENT LIST has about this connection.";
    "client|kill" "2.4.0" connection "O(N), N being the number of connections" "<ip:port | <ID client-id/integer | TYPE <NORMAL | MASTER | SLAVE | REPLICA | PUBSUB> | USER username | ADDR ip:port | LADDR ip:port | SKIPME <YES | NO> | MAXAGE seconds/integer>...>" "Closes connections.";
    "client|list" "2.4.0" connection "O(N), N being the number of connections" "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id/integer...]" "Lists connections.";
    "client|no-evict" "7.0.0" connection "O(1)" "<ON | OFF>" "Spares this connection when others are closed for lack of memory.";
    "client|no-touch" "7.2.0" connection "O(1)" "<ON | OFF>" "Marks this connection as one that makes no key younger. None does here.";
    "client|pause" "3.0.0" connection "O(1)" "timeout/integer [WRITE | ALL]" "Has requests of all connections wait for some milliseconds.";
    "client|reply" "3.2.0" connection "O(1)" "<ON | OFF | SKIP>" "Chooses which replies this connection gets.";
    "client|setinfo" "7.2.0" connection "O(1)" "<LIB-NAME libname | LIB-VER libver>" "Tells the name or the version of the client's library.";
    "client|setname" "2.6.9" connection "O(1)" "connection-name" "Gives this connection a name.";
    "client|tracking" "6.0.0" connection "O(N), N being the number of prefixes" "<ON | OFF> [REDIRECT client-id/integer] [PREFIX prefix]... [BCAST] [OPTIN] [OPTOUT] [NOLOOP]" "Has this connection told of changes to what it has read.";
    "client|trackinginfo" "6.2.0" connection "O(N), N being the number of prefixes" "" "Tells how this connection tracks what it reads.";
    "client|unblock" "5.0.0" connection "O(1)" "client-id/integer [TIMEOUT | ERROR]" "Ends the waiting of another connection. None waits for another here.";
    "client|unpause" "6.2.0" connection "O(N), N being the number of paused connections" "" "Ends a pause.";
    "command" "2.8.13" server "O(N), N being the number of commands" "" "Describes all commands.";
    "command|count" "2.8.13" server "O(N), N being the number of commands" "" "Counts the commands.";
    "command|docs" "7.0.0" server "O(N), N being the number of commands that are asked for" "[command-name...]" "Tells for people what commands do.";
    "command|getkeys" "2.8.13" server "O(N), N being the number of words" "command [arg...]" "Finds the keys among the words of a request.";
    "command|getkeysandflags" "7.0.0" server "O(N), N being the number of words" "command [arg...]" "Finds the keys among the words of a request, and tells what becomes of them.";
    "command|help" "5.0.0" server "O(1)" "" "Prints the subcommands of COMMAND.";
    "command|info" "2.8.13" server "O(N), N being the number of commands that are asked for" "[command-name...]" "Describes commands for programs.";
    "command|list" "7.0.0" server "O(N), N being the number of commands" "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern/pattern>]" "Lists the names of commands.";
    "config" "2.0.0" server "Depends on the subcommand" "" "Shows and changes settings.";
    "config|get" "2.0.0" server "O(N), N being the number of patterns" "parameter..." "Shows the settings whose names fit.";
    "config|help" "5.0.0" server "O(1)" "" "Prints the subcommands of CONFIG.";
    "config|resetstat" "2.0.0" server "O(1)" "" "Sets the counters of INFO to zero.";
    "config|rewrite" "2.8.0" server "O(1)" "" "Is refused: there is no file of settings.";
    "config|set" "2.0.0" server "O(N), N being the number of settings" "<parameter value>..." "Changes settings until the next start.";
    "copy" "6.2.0" generic "O(N), N being the length of the value" "source/key destination/key [DB destination-db/integer] [REPLACE]" "Copies a value to another key.";
    "dbsize" "1.0.0" server "O(1)" "" "Counts the keys of the database.";
    "decr" "1.0.0" string "O(1)" "key/key" "Takes one from a number. A missing one counts as 0.";
    "decrby" "1.0.0" string "O(1)" "key/key decrement/integer" "Takes some number from a number. A missing one counts as 0.";
    "del" "1.0.0" generic "O(N), N being the number of keys" "key/key..." "Removes keys.";
    "delex" "8.4.0" string "O(N), N being the length of the value" "key/key [IFEQ value | IFNE value | IFDEQ digest | IFDNE digest]" "Removes a key if its value is as expected.";
    "delifeq" "8.4.0" string "O(N), N being the length of the value" "key/key value" "Removes a key if this is its value.";
    "digest" "8.4.0" string "O(N), N being the length of the value" "key/key" "Tells the digest of a value, to compare it by.";
    "discard" "2.0.0" transactions "O(N), N being the number of its commands and of watched keys" "" "Forgets the transaction.";
    "dump" "2.6.0" generic "O(N), N being the length of the value" "key/key" "Tells a value in the form that RESTORE takes.";
    "echo" "1.0.0" connection "O(N), N being the length of the message" "message" "Answers with the message.";
    #[cfg(feature = "scripts")]
    "eval" "2.6.0" scripting "Depends on the script" "script numkeys/integer [key/key...] [arg...]" "Runs a script.";
    #[cfg(feature = "scripts")]
    "eval_ro" "7.0.0" scripting "Depends on the script" "script numkeys/integer [key/key...] [arg...]" "Runs a script that may write nothing.";
    #[cfg(feature = "scripts")]
    "evalsha" "2.6.0" scripting "Depends on the script" "sha1 numkeys/integer [key/key...] [arg...]" "Runs the script of this name.";
    #[cfg(feature = "scripts")]
    "evalsha_ro" "7.0.0" scripting "Depends on the script" "sha1 numkeys/integer [key/key...] [arg...]" "Runs the script of this name, which may write nothing.";
    "exec" "1.2.0" transactions "The sum of its commands" "" "Carries the transaction out, all of it or nothing.";
    "exists" "1.0.0" generic "O(N log N), N being the number of keys" "key/key..." "Counts how many of these keys are there.";
    "expire" "1.0.0" generic "O(N), N being the length of the value" "key/key seconds/integer [NX | XX | GT | LT]" "Has a key expire in some seconds.";
    "expireat" "1.2.0" generic "O(N), N being the length of the value" "key/key unix-time-seconds/unix-time [NX | XX | GT | LT]" "Has a key expire at a second of Unix time.";
    "expiretime" "7.0.0" generic "O(1)" "key/key" "Tells the second of Unix time at which a key expires.";
    "flushall" "1.0.0" server "O(1) for readers and writers; giving back memory is O(N), N being the number of keys" "[ASYNC | SYNC]" "Removes all keys of all databases.";
    "flushdb" "1.0.0" server "O(1) for readers and writers; giving back memory is O(N), N being the number of keys" "[ASYNC | SYNC]" "Removes all keys of the database.";
    "get" "1.0.0" string "O(1)" "key/key" "Tells the value of a key.";
    "getbit" "2.2.0" bitmap "O(1)" "key/key offset/integer" "Tells a bit of a value.";
    "getdel" "6.2.0" string "O(1)" "key/key" "Tells the value of a key and removes it.";
    "getex" "6.2.0" string "O(N), N being the length of the value" "key/key [EX seconds/integer | PX milliseconds/integer | EXAT unix-time-seconds/unix-time | PXAT unix-time-milliseconds/unix-time | PERSIST]" "Tells the value of a key and changes when it expires.";
    "getrange" "2.4.0" string "O(N), N being the length of the reply" "key/key start/integer end/integer" "Tells a part of a value.";
    "getset" "1.0.0" string "O(1)" "key/key value" "Sets a key and tells its value before.";
    "hello" "6.0.0" connection "O(1)" "[protover/integer [AUTH username password] [SETNAME clientname]]" "Chooses the version of the protocol and tells of the server.";
    "incr" "1.0.0" string "O(1)" "key/key" "Adds one to a number. A missing one counts as 0.";
    "incrby" "1.0.0" string "O(1)" "key/key increment/integer" "Adds some number to a number. A missing one counts as 0.";
    "incrbyfloat" "2.6.0" string "O(1)" "key/key increment/double" "Adds a number with a fraction to a number. A missing one counts as 0.";
    "info" "1.0.0" server "O(1)" "[section...]" "Tells numbers and facts about the server.";
    "keys" "1.0.0" generic "O(N), N being the number of keys in the database" "pattern/pattern" "Lists the keys that fit a pattern.";
    "lastsave" "1.0.0" server "O(1)" "" "Tells when everything was last known to be on disk.";
    "latency" "2.8.13" server "Depends on the subcommand" "" "Tells of commands that took long.";
    "latency|doctor" "2.8.13" server "O(1)" "" "Tells in a sentence of commands that took long.";
    "latency|help" "2.8.13" server "O(1)" "" "Prints the subcommands of LATENCY.";
    "latency|histogram" "7.0.0" server "O(N), N being the number of commands" "[command...]" "Tells how many calls of commands took how long.";
    "latency|history" "2.8.13" server "O(1)" "event" "Lists the samples of an event.";
    "latency|latest" "2.8.13" server "O(1)" "" "Tells the last and the longest sample of each event.";
    "latency|reset" "2.8.13" server "O(1)" "[event...]" "Forgets samples.";
    "lcs" "7.0.0" string "O(N*M), N and M being the lengths of the values" "key1/key key2/key [LEN] [IDX] [MINMATCHLEN min-match-len/integer] [WITHMATCHLEN]" "Finds the longest sequence that two values have in common.";
    "lolwut" "5.0.0" server "O(1)" "[VERSION version/integer]" "Tells the version of the server.";
    "memory" "4.0.0" server "Depends on the subcommand" "" "Tells of the memory of the process.";
    "memory|doctor" "4.0.0" server "O(1)" "" "Tells in a sentence how the memory is.";
    "memory|help" "4.0.0" server "O(1)" "" "Prints the subcommands of MEMORY.";
    "memory|malloc-stats" "4.0.0" server "O(1)" "" "Is there for tools: this allocator has nothing to show.";
    "memory|purge" "4.0.0" server "O(1)" "" "Is there for tools: this allocator gives memory back by itself.";
    "memory|stats" "4.0.0" server "O(1)" "" "Tells numbers about the memory of the process.";
    "memory|usage" "4.0.0" server "O(1)" "key/key [SAMPLES count/integer]" "Tells the bytes that a key takes up with its value.";
    "mget" "1.0.0" string "O(N log N), N being the number of keys" "key/key..." "Tells the values of several keys.";
    "monitor" "1.0.0" server "O(N) for each request of any connection, N being its length" "" "Shows the requests of all connections.";
    "move" "1.0.0" generic "O(N), N being the length of the value" "key/key db/integer" "Moves a key to another database.";
    "mset" "1.0.1" string "O(N), N being the number of keys" "<key/key value>..." "Sets several keys at once.";
    "msetex" "8.4.0" string "O(N), N being the number of keys" "numkeys/integer <key/key value>... [NX | XX] [EX seconds/integer | PX milliseconds/integer | EXAT unix-time-seconds/unix-time | PXAT unix-time-milliseconds/unix-time | KEEPTTL]" "Sets several keys at once, with an expiry and on a condition.";
    "msetnx" "1.0.1" string "O(N), N being the number of keys" "<key/key value>..." "Sets several keys at once if none of them is there.";
    "multi" "1.2.0" transactions "O(1)" "" "Begins a transaction.";
    "object" "2.2.3" generic "Depends on the subcommand" "" "Tells how a value is kept.";
    "object|encoding" "2.2.3" generic "O(1)" "key/key" "Tells how Redis would keep a value.";
    "object|freq" "4.0.0" generic "O(1)" "key/key" "Is refused: no key is evicted here, so uses are not counted.";
    "object|help" "6.2.0" generic "O(1)" "" "Prints the subcommands of OBJECT.";
    "object|idletime" "2.2.3" generic "O(1)" "key/key" "Is refused: no key is evicted here, so the time of a use is not kept.";
    "object|refcount" "2.2.3" generic "O(1)" "key/key" "Tells 1 if the key is there.";
    "persist" "2.2.0" generic "O(N), N being the length of the value" "key/key" "Has a key expire no more.";
    "pexpire" "2.6.0" generic "O(N), N being the length of the value" "key/key milliseconds/integer [NX | XX | GT | LT]" "Has a key expire in some milliseconds.";
    "pexpireat" "2.6.0" generic "O(N), N being the length of the value" "key/key unix-time-milliseconds/unix-time [NX | XX | GT | LT]" "Has a key expire at a millisecond of Unix time.";
    "pexpiretime" "7.0.0" generic "O(1)" "key/key" "Tells the millisecond of Unix time at which a key expires.";
    "ping" "1.0.0" connection "O(1)" "[message]" "Tells that the server is there.";
    "psetex" "2.6.0" string "O(1)" "key/key milliseconds/integer value" "Sets a key that expires in some milliseconds.";
    "psubscribe" "2.0.0" pubsub "O(N), N being the number of patterns" "pattern/pattern..." "Subscribes to the channels that fit patterns.";
    "pttl" "2.6.0" generic "O(1)" "key/key" "Tells in how many milliseconds a key expires.";
    "publish" "2.0.0" pubsub "O(N+M), N being the number of subscribers, M that of patterns" "channel message" "Sends a message to those who have subscribed to a channel.";
    "pubsub" "2.8.0" pubsub "Depends on the subcommand" "" "Tells of channels and their subscribers.";
    "pubsub|channels" "2.8.0" pubsub "O(N), N being the number of channels" "[pattern/pattern]" "Lists the channels that have subscribers.";
    "pubsub|help" "6.2.0" pubsub "O(1)" "" "Prints the subcommands of PUBSUB.";
    "pubsub|numpat" "2.8.0" pubsub "O(1)" "" "Counts the patterns that have subscribers.";
    "pubsub|numsub" "2.8.0" pubsub "O(N), N being the number of channels" "[channel...]" "Counts the subscribers of channels.";
    "pubsub|shardchannels" "7.0.0" pubsub "O(N), N being the number of shard channels" "[pattern/pattern]" "Lists the shard channels that have subscribers.";
    "pubsub|shardnumsub" "7.0.0" pubsub "O(N), N being the number of shard channels" "[shardchannel...]" "Counts the subscribers of shard channels.";
    "punsubscribe" "2.0.0" pubsub "O(N), N being the number of patterns" "[pattern/pattern...]" "Ends subscriptions to patterns, or all of them.";
    "quit" "1.0.0" connection "O(1)" "" "Ends the connection.";
    "randomkey" "1.0.0" generic "O(1)" "" "Tells a key at random.";
    "rename" "1.0.0" generic "O(N), N being the length of the value" "key/key newkey/key" "Gives a key another name, in place of a key that has it.";
    "renamenx" "1.0.0" generic "O(N), N being the length of the value" "key/key newkey/key" "Gives a key another name, unless there is a key that has it.";
    "reset" "6.2.0" connection "O(N), N being the number of watched keys and subscriptions" "" "Makes the connection as if it were new.";
    "restore" "2.6.0" generic "O(N), N being the length of the value" "key/key ttl/integer serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds/integer] [FREQ frequency/integer]" "Sets a key to a value in the form that DUMP tells.";
    "role" "2.8.12" server "O(1)" "" "Tells the part that the server plays in replication.";
    "save" "1.0.0" server "O(N), N being the number of keys in all databases; only this connection waits" "" "Compacts the log, and waits for that.";
    "scan" "2.8.0" generic "O(N), N being the count; a whole walk looks at every key" "cursor/integer [MATCH pattern/pattern] [COUNT count/integer] [TYPE type]" "Lists the keys of the database step by step.";
    #[cfg(feature = "scripts")]
    "script" "2.6.0" scripting "Depends on the subcommand" "" "Keeps, forgets and ends scripts.";
    #[cfg(feature = "scripts")]
    "script|exists" "2.6.0" scripting "O(N), N being the number of names" "sha1..." "Tells which scripts are kept.";
    #[cfg(feature = "scripts")]
    "script|flush" "2.6.0" scripting "O(N), N being the number of scripts" "[ASYNC | SYNC]" "Forgets all scripts.";
    #[cfg(feature = "scripts")]
    "script|help" "5.0.0" scripting "O(1)" "" "Prints the subcommands of SCRIPT.";
    #[cfg(feature = "scripts")]
    "script|kill" "2.6.0" scripting "O(1)" "" "Ends the script that is running.";
    #[cfg(feature = "scripts")]
    "script|load" "2.6.0" scripting "O(N), N being the length of the script" "script" "Keeps a script and tells its name.";
    "select" "1.0.0" connection "O(1)" "index/integer" "Chooses the database of this connection.";
    "sentinel" "2.8.4" sentinel "Depends on the subcommand" "" "Tells which machine leads, where the log is replicated.";
    "sentinel|ckquorum" "2.8.4" sentinel "O(1)" "master-name" "Tells whether a machine is known to lead.";
    "sentinel|get-master-addr-by-name" "2.8.4" sentinel "O(1)" "master-name" "Tells the address of the machine that leads.";
    "sentinel|help" "2.8.4" sentinel "O(1)" "" "Prints the subcommands of SENTINEL.";
    "sentinel|master" "2.8.4" sentinel "O(1)" "master-name" "Tells what is known of the machine that leads.";
    "sentinel|masters" "2.8.4" sentinel "O(1)" "" "Tells what is known of the machine that leads each group.";
    "sentinel|myid" "6.2.0" sentinel "O(1)" "" "Tells the number of this machine.";
    "sentinel|replicas" "5.0.0" sentinel "O(1)" "master-name" "Lists machines that answer reads only. There are none.";
    "sentinel|sentinels" "2.8.4" sentinel "O(N), N being the number of machines" "master-name" "Lists the other machines.";
    "sentinel|slaves" "2.8.0" sentinel "O(1)" "master-name" "Lists machines that answer reads only. There are none.";
    "set" "1.0.0" string "O(1)" "key/key value [NX | XX | IFEQ comparison | IFNE comparison | IFDEQ digest | IFDNE digest] [GET] [EX seconds/integer | PX milliseconds/integer | EXAT unix-time-seconds/unix-time | PXAT unix-time-milliseconds/unix-time | KEEPTTL]" "Sets a key to a value.";
    "setbit" "2.2.0" bitmap "O(N), N being the length of the value if the bit changes" "key/key offset/integer value/integer" "Sets a bit of a value and tells what it was.";
    "setex" "2.0.0" string "O(1)" "key/key seconds/integer value" "Sets a key that expires in some seconds.";
    "setnx" "1.0.0" string "O(1)" "key/key value" "Sets a key that is not there.";
    "setrange" "2.2.0" string "O(N), N being the length of the value" "key/key offset/integer value" "Overwrites a part of a value.";
    "shutdown" "1.0.0" server "O(1)" "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]" "Stops the server in order.";
    "slowlog" "2.2.12" server "Depends on the subcommand" "" "Tells of commands that took long, with their words.";
    "slowlog|get" "2.2.12" server "O(N), N being the count" "[count/integer]" "Lists the last commands that took long.";
    "slowlog|help" "6.2.0" server "O(1)" "" "Prints the subcommands of SLOWLOG.";
    "slowlog|len" "2.2.12" server "O(1)" "" "Counts the commands that SLOWLOG GET can list.";
    "slowlog|reset" "2.2.12" server "O(N), N being the number of commands that are kept" "" "Forgets the commands that took long.";
    "spublish" "7.0.0" pubsub "O(N), N being the number of subscribers" "shardchannel message" "Sends a message to those who have subscribed to a shard channel.";
    "ssubscribe" "7.0.0" pubsub "O(N), N being the number of shard channels" "shardchannel..." "Subscribes to shard channels.";
    "strlen" "2.2.0" string "O(1)" "key/key" "Tells the length of a value.";
    "subscribe" "2.0.0" pubsub "O(N), N being the number of channels" "channel..." "Subscribes to channels.";
    "substr" "1.0.0" string "O(N), N being the length of the reply" "key/key start/integer end/integer" "Tells a part of a value, as GETRANGE does.";
    "sunsubscribe" "7.0.0" pubsub "O(N), N being the number of shard channels" "[shardchannel...]" "Ends subscriptions to shard channels, or all of them.";
    "swapdb" "4.0.0" server "O(N), N being the number of watched keys in both databases" "index1/integer index2/integer" "Exchanges two databases.";
    "time" "2.6.0" server "O(1)" "" "Tells the server's clock.";
    "touch" "3.2.1" generic "O(N log N), N being the number of keys" "key/key..." "Counts how many of these keys are there.";
    "ttl" "1.0.0" generic "O(1)" "key/key" "Tells in how many seconds a key expires.";
    "type" "1.0.0" generic "O(1)" "key/key" "Tells the type of a value.";
    "unlink" "4.0.0" generic "O(N), N being the number of keys" "key/key..." "Removes keys, as DEL does.";
    "unsubscribe" "2.0.0" pubsub "O(N), N being the number of channels" "[channel...]" "Ends subscriptions to channels, or all of them.";
    "unwatch" "2.2.0" transactions "O(N), N being the number of watched keys" "" "Ends all watching.";
    "wait" "3.0.0" generic "O(1)" "numreplicas/integer timeout/integer" "Is there for tools: there are no replicas to wait for.";
    "waitaof" "7.2.0" generic "O(1)" "numlocal/integer numreplicas/integer timeout/integer" "Tells that earlier writes of this connection are on disk.";
    "watch" "2.2.0" transactions "O(N log N), N being the number of keys" "key/key..." "Has the next transaction refused if one of these keys changes.";
}

/// The documentation of a command, by its name.
pub fn doc(name: &str) -> Option<&'static Doc> {
    DOCS.binary_search_by(|doc| doc.name.cmp(name)).ok().map(|place| &DOCS[place])
}

/// A command's name, and the documentation of it and of its subcommands.
pub fn told(table: &'static [Spec], spec: &'static Spec) -> [Reply<'static>; 2] {
    let mut fields = doc(spec.name).map(Doc::fields).unwrap_or_default();
    if spec.children > 0 {
        let all = subcommands(table, spec).iter().flat_map(|spec| told(table, spec));
        fields.extend([text("subcommands"), Reply::Map(all.collect())]);
    }
    [text(spec.name), Reply::Map(fields)]
}

fn text(text: &'static str) -> Reply<'static> {
    Reply::Bulk(text.as_bytes().into())
}

impl Doc {
    fn fields(&self) -> Vec<Reply<'static>> {
        let Doc { since, group, complexity, arguments, summary, .. } = self;
        let texts =
            [("summary", summary), ("since", since), ("group", group), ("complexity", complexity)];
        let mut fields: Vec<_> =
            texts.into_iter().flat_map(|(name, value)| [text(name), text(value)]).collect();
        if !arguments.is_empty() {
            fields.extend([text("arguments"), arguments::told(arguments)]);
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::COMMANDS;
    use super::*;

    #[test]
    fn every_command_has_a_row_of_its_own_in_the_order_of_the_table_and_no_other_has() {
        let documented: Vec<&str> = DOCS.iter().map(|doc| doc.name).collect();
        let names: Vec<&str> = COMMANDS.iter().map(|spec| spec.name).collect();
        assert_eq!(documented, names);
    }

    #[test]
    fn each_row_says_something_in_each_place() {
        for doc in DOCS {
            let Doc { name, since, group, complexity, summary, .. } = doc;
            assert!(since.split('.').all(|part| part.parse::<u8>().is_ok()), "{name}: {since}");
            assert!(!group.is_empty() && !complexity.is_empty(), "{name}");
            assert!(summary.ends_with('.') && summary.len() > 10, "{name}: {summary}");
        }
    }

    fn is_whole(spec: &&Spec) -> bool {
        spec.children == 0
    }

    /// The least number of words that the arguments allow is the one that the table asks for.
    #[test]
    fn the_arguments_of_each_command_need_as_many_words_as_its_row_allows() {
        let told = |spec: &Spec| {
            let (least, is_more_allowed) = arguments::least_words(DOCS[spec.id.0].arguments);
            let words = (least + spec.name.split('|').count()) as i32;
            (spec.name, if is_more_allowed { -words } else { words })
        };
        let told: Vec<_> = COMMANDS.iter().filter(is_whole).map(told).collect();
        let arity = COMMANDS.iter().filter(is_whole).map(|spec| (spec.name, spec.arity));
        let differ: Vec<_> = told.iter().zip(arity).filter(|(one, other)| *one != other).collect();
        // QUIT ignores further words.
        let quit = (&("quit", 1), ("quit", -1));
        assert_eq!(differ, [quit], "by the arguments, and by the table");
    }
}
