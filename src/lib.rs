//! A key-value server small enough to read in an afternoon, and strict enough to believe: every
//! `+OK` is on disk.
//!
//! # The path of a write, and of a read
//!
//! ```text
//!                     client thread (one per connection)                committer (one thread)
//! socket ─bytes─► protocol ─Command─► engine ─Operation─► commit queue ─► evaluate │ frame │ write+sync │ apply │ reply ─bytes─► socket
//!                                       │                                             wal       wal       store
//!                                       └─ read, nothing of mine queued: store.get ─► Reply ─bytes─► socket
//! ```
//!
//! - **One writer.** Only the committer changes the store. It takes everything that is queued as
//!   one batch, evaluates it in order, frames the absolute records that result, writes and syncs
//!   once, applies them in that order, and only then sends the replies. Queue order is log order
//!   is apply order is reply order. The committer is a role: while its own thread sleeps, a lone client's
//!   thread takes it for one batch.
//! - **Reads never wait for the disk.** A read runs on its own client's thread. Only a read after
//!   an unanswered write of its own connection joins the queue, so that one connection's commands
//!   take effect in order.
//! - **The committer never waits for a client.** It sends without blocking; if a socket does not take all,
//!   the flusher sends the rest, in order.
//!
//! # Promises
//!
//! Each has a test that fails when it is broken; [`failures`] lists the classes of failure, each with its
//! tests.
//!
//! 1. No change is visible, and no reply to it is sent, before its record is durable.
//! 2. Changes are applied in log order, and replies to one connection leave in the order of its
//!    commands.
//! 3. Snapshot plus log rebuild the store exactly. Records are absolute, so replaying one twice is
//!    harmless.
//! 4. A file takes another's place only after it is durable, and is deleted only after what replaces
//!    it is: sync file, rename, sync directory, delete.
//! 5. Only the very last batch may be torn. It is cut, kept aside and reported. Damage anywhere
//!    else stops the start with file and offset; nothing acknowledged is ever dropped silently.
//! 6. The first failed write or sync closes writing for good. Reads go on. A restart trusts only
//!    what the device itself gives back. If space for a batch cannot be prepared, not a byte of it is
//!    written: it is refused, writing stays open, and commands that only remove something are carried out.
//! 7. A batch is all or nothing, and so is a command that changes several keys, on disk and for
//!    readers.
//! 8. Every length from outside is checked against a named limit before memory is taken.
//! 9. Every client that waits is answered: no error, panic or shutdown leaves a client hanging.
//!
//! # Reading order
//!
//! No module uses one below it in this table; `tests/layers.rs` checks that.
//!
//! | module | purpose |
//! |--------|----------------|
//! | [`entry`], [`command`], [`record`] | the types that all layers share: a key with its value; commands, changes and replies; a change as the log keeps it |
//! | [`sync`] | locks and threads, and their stand-ins for a checker of schedules |
//! | [`messages`] | the server's messages, on their way to stderr |
//! | [`glob`], [`quote`] | patterns of keys; any bytes printed as one word |
//! | [`protocol`] | bytes to words, replies to bytes |
//! | [`commands`] | every command: a row of a table and a function |
//! | [`store`] | the data in memory, behind a trait object; knows no disk |
//! | [`wal`] | the log on disk; knows no keys |
//! | [`metrics`] | counters, shown as INFO |
//! | [`scripts`] | EVAL and its kin: Lua, whose programs the engine carries out as one command |
//! | [`engine`] | ties store and log together; the only place where threads meet |
//! | [`upkeep`] | beside the commits: shortens the log, removes expired keys |
//! | [`doors`] | where clients come in, and what each is connected by |
//! | `tls` | certificates, and connections encrypted by them |
//! | [`server`] | one thread per client, ordered stop |
//! | `replicated` | the log in an etcd cluster, in place of [`wal`]'s files: which machine leads, and what it may show |
//! | `http` | a view of a running server: the live page, `/metrics`, health |
//! | `remote` | a small client of a running server: ping, get, set, del, stats |
//! | [`tools`] | check, dump, repair, backup, restore and import of a log, beside any server |
//! | [`config`] | flags, from the command line, the environment and a file |
//!
//! [`clients`] lists the commands, [`applications`] the libraries that were tried, [`operations`] is the operator's
//! page, [`listening`] has addresses, sockets and TLS, [`watching`] has the live page and the metrics, [`machines`] is about a log in etcd, and [`tour`] follows one SET through its files. [`costs`] lists the cost of each command, and the threads that
//! wait for it; [`scaling`] tells how the server would run on more cores than two, and which parts would have to change.
//!
//! # Threads
//!
//! | name | started in | does |
//! |------|-----------|------|
//! | `main` | – | accepts clients |
//! | `client-<id>` | [`server`] | reads one client's requests; answers reads; commits its writes if it is alone |
//! | `committer` | [`engine`] | applies every write, except those that a lone client commits itself |
//! | `loader-<n>` | [`engine`] | at a start: loads the log into its own shards |
//! | `expirer` | [`upkeep`] | finds keys that have expired |
//! | `compactor` | [`upkeep`] | writes snapshots, so that the log stays short |
//! | `role` | `replicated` | reads the log in etcd, takes over from a leader that is gone |
//! | `neighbours` | `replicated` | tells the other machines where this one is, and watches etcd's space |
//! | `segments` | [`wal::preparer`] | zero-fills the next segment |
//! | `watch` | [`wal::guard::watch`] | notes in another file how far the log is durable; checks the lock file |
//! | `syncer` | [`wal::guard::syncer`] | syncs the log beside the batches, with `-fsync everysec` |
//! | `flusher` | [`server`] | finishes replies to slow clients |
//! | `idle` | [`server`] | closes clients that ask nothing for longer than `timeout`, or do not log in |
//! | `http`, `http-client` | `http` | accept those who look, and answer them |
//! | `signals` | [`server::Shutdown`] | SIGINT, SIGTERM, SIGUSR1, SIGHUP |
//! | `watchdog` | `systemd` | tells systemd that the committer goes on, where systemd has started the server |
//! | `messages` | [`messages`] | writes to stderr, so that no other thread waits for that |
//!
//! If another thread might wait for ever for one that has panicked, the panic ends the process
//! ([`sync::spawn_vital`]); a panic in a client's thread closes only that client.

#[doc = include_str!("applications.md")]
pub mod applications {}
#[doc = include_str!("clients.md")]
pub mod clients {}
pub mod command;
pub mod commands;
pub mod config;
#[doc = include_str!("costs.md")]
pub mod costs {}

pub mod doors;
pub mod engine;
pub mod entry;
#[doc = include_str!("failures.md")]
pub mod failures {}
pub mod glob;
#[cfg(feature = "http")]
pub mod http;
#[doc = include_str!("listening.md")]
pub mod listening {}
#[doc = include_str!("machines.md")]
pub mod machines {}
pub mod messages;
pub mod metrics;
pub mod protocol;
pub mod quote;
pub mod record;
#[doc = include_str!("operations.md")]
pub mod operations {}
#[doc = include_str!("production.md")]
pub mod production {}
#[doc = include_str!("scaling.md")]
pub mod scaling {}
#[cfg(feature = "tools")]
pub mod remote;
#[cfg(feature = "replicated")]
pub mod replicated;
#[cfg_attr(not(feature = "scripts"), path = "scripts/none.rs")]
pub mod scripts;
pub mod server;
pub mod store;
pub mod sync;
#[cfg(feature = "systemd")]
pub mod systemd;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg_attr(not(feature = "tools"), path = "tools/none.rs")]
pub mod tools;
#[doc = include_str!("tour.md")]
pub mod tour {}
pub mod upkeep;
#[doc = include_str!("watching.md")]
pub mod watching {}
#[cfg(feature = "users")]
pub mod users;
pub mod wal;
