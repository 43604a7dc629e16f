//! What a command may ask of its connection and of the server.

use std::time::Duration;

use super::Spec;
use super::group::Group;
use super::news::{Scope, Topic};
use super::reply::RespVersion;
use super::switch::{Mark, Paused, Replying, Switch};
use super::tracking::TrackingState;
use super::user::User;
use super::view::Text;
use super::words::Words;

/// The version of Redis that clients are told of, and decide by what they may use. redis-py caches on its own side only
/// from 7.4 on, and no client is known to ask a 7.4 for something that it would not ask a 7.2 for and that is missing
/// here. Commands and texts follow 7.2, in which they are the same.
pub const REDIS_VERSION: &str = "7.4.0";

/// A connection and, through it, the server.
pub trait Client {
    /// The table of all commands, in the order of their names.
    fn commands(&self) -> &'static [Spec];
    /// The command, or subcommand, that a request names; otherwise the container that it names, if it does.
    fn find_command(&self, words: &Words<'_>) -> Result<&'static Spec, Option<&'static Spec>>;
    /// Its number.
    fn id(&self) -> u64;
    /// Whether a client has to log in.
    fn needs_password(&self) -> bool;
    /// The user it is logged in as.
    fn user(&self) -> User;
    /// All users, in the order of their names.
    fn users(&self) -> Vec<User>;
    /// Reads the file of users anew. Clients whose login does not hold any more are closed.
    fn reload_users(&mut self) -> Result<(), Text>;
    /// Whether the client has logged in, or need not.
    fn is_logged_in(&self) -> bool;
    /// Lets the client in, or says why not.
    fn log_in(&mut self, user: &[u8], password: &[u8]) -> Result<(), Text>;
    /// The latest logins and commands that were refused, the last first.
    fn refusals(&self, most: usize) -> Vec<Refused>;
    /// Forgets them.
    fn forget_refusals(&self);
    /// Fills this with bytes that nobody can guess.
    fn fill_with_random(&self, bytes: &mut [u8]) -> Result<(), Text>;
    /// Sets the version of RESP for its replies, if one is `wanted`. Returns the version from now on.
    fn speak(&mut self, wanted: Option<RespVersion>) -> RespVersion;
    /// Its name, empty if it has none.
    fn name(&self) -> String;
    /// Gives it a label.
    fn set_label(&self, label: Label, text: String);
    /// Its line in CLIENT LIST.
    fn line(&self) -> String;
    /// The lines of these clients; `None` if that is too long.
    fn lines(&self, listed: &Listed) -> Option<String>;
    /// Closes the clients that fit, and returns how many they were.
    fn kill(&mut self, filter: &KillFilter) -> usize;
    /// The text of INFO, with these sections.
    fn info(&self, sections: &[String]) -> String;
    /// The settings with their values, in the order of their names.
    fn settings(&self) -> Vec<(&'static str, String)>;
    /// Changes settings, given as names and values: all of them, or none.
    fn change_settings(&self, pairs: &[[&[u8]; 2]]) -> Result<(), Text>;
    /// Sets the counters of INFO back to zero.
    fn reset_statistics(&self);
    /// The latest slow commands, the last first.
    fn slow_commands(&self, most: usize) -> Vec<Slow>;
    /// How many slow commands are kept.
    fn slow_count(&self) -> usize;
    /// Forgets the slow commands.
    fn forget_slow(&self);
    /// The commands slower than `latency-monitor-threshold`, as seconds of Unix time and milliseconds, the oldest
    /// first; and the longest of all.
    fn latency_samples(&self) -> (Vec<(i64, i64)>, i64);
    /// Forgets them.
    fn forget_latency(&self);
    /// Of each command that was called, how often it took less than each power of two of microseconds.
    fn latency_histograms(&self) -> Vec<Calls>;
    /// Begins a compaction of the log.
    fn compact(&self) -> Result<(), Text>;
    /// The same, or another one after the one that is running. Returns whether it begins at once.
    fn compact_soon(&self) -> Result<bool, Text>;
    /// Begins a compaction, and waits for its end. No other client waits for it.
    fn save(&mut self) -> Result<(), Text>;
    /// Stops the server in order. The client gets no answer.
    fn shut_down(&mut self);
    /// Ends the script that is running, or says why not.
    fn kill_script(&mut self) -> Result<(), Text>;
    /// The channels that someone has subscribed to and that fit; `None` if they are too long to be listed.
    fn channels(&self, scope: Scope, fits: &mut dyn FnMut(&[u8]) -> bool)
    -> Option<Vec<Box<[u8]>>>;
    /// How many clients have subscribed to this.
    fn subscribers(&self, topic: Topic, name: &[u8]) -> usize;
    /// How many different patterns clients have subscribed to.
    fn patterns(&self) -> usize;
    /// How it tracks what it reads, if it does.
    fn tracking(&self) -> Option<TrackingState>;
    /// Has it track in this way, or no more.
    fn track(&mut self, state: Option<TrackingState>) -> Result<(), Text>;
    /// CLIENT CACHING was given: the next command is another case than usual.
    fn give_caching(&mut self);
    /// Whether it was given for the next command.
    fn has_given_caching(&self) -> bool;
    /// Which replies it gets from now on.
    fn set_replying(&mut self, replying: Replying);
    /// Gives it a mark, or takes it away.
    fn set_mark(&self, mark: Mark, switch: Switch);
    /// Has requests of all clients wait for this long. False if that is too long for the clock.
    fn pause(&self, paused: Paused, time: Duration) -> bool;
    /// Has them go on.
    fn end_pause(&self);
    /// Whether a client has this number.
    fn is_connected(&self, id: u64) -> bool;
    /// The machines that write the log in turn; `None` if it is this one's alone.
    fn group(&self) -> Option<Group>;
    /// When everything was last known to be on disk, in seconds of Unix time.
    fn saved_at(&self) -> i64;
}

/// The calls of a command, and how many of them took less than so many microseconds.
#[derive(Clone, Debug)]
pub struct Calls {
    /// The command's name.
    pub name: &'static str,
    /// How many there were.
    pub count: u64,
    /// Microseconds, and the calls that took less.
    pub less_than: Vec<(u64, u64)>,
}

/// A command that took long.
#[derive(Clone, Debug)]
pub struct Slow {
    /// Its number among all slow ones.
    pub id: u64,
    /// When it was carried out, in seconds of Unix time.
    pub at: i64,
    /// How long that took.
    pub micros: i64,
    /// Its words, trimmed.
    pub words: Vec<Vec<u8>>,
    /// Its client's address.
    pub address: String,
    /// Its client's name.
    pub name: String,
}

/// Logins or commands that were refused, one or several of a kind.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The number of the entry.
    pub id: u64,
    /// How many they were.
    pub count: u64,
    /// Why.
    pub reason: RefusedFor,
    /// The place of the command: `toplevel`, or `multi` in a transaction.
    pub context: &'static str,
    /// The command.
    pub command: &'static str,
    /// The user's name, trimmed.
    pub user: Vec<u8>,
    /// The client's line in CLIENT LIST at the last one.
    pub client: String,
    /// When the first one was, in milliseconds of Unix time.
    pub first: i64,
    /// When the last one was.
    pub last: i64,
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedFor {
    /// Its password or user is wrong.
    Login,
    /// The user may not carry out the command.
    Command,
}

/// What a client may tell of itself.
#[derive(Clone, Copy, Debug)]
pub enum Label {
    /// Its name.
    Name,
    /// The name of its library.
    Library,
    /// The version of its library.
    LibraryVersion,
}

/// The type of a client, for CLIENT LIST and CLIENT KILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// It has subscribed to nothing.
    Normal,
    /// It has.
    Subscriber,
}

/// The clients that CLIENT KILL closes: those that fit every field that is set.
#[derive(Debug, Default)]
pub struct KillFilter {
    /// The number.
    pub id: Option<u64>,
    /// `address:port` of the client.
    pub address: Option<Vec<u8>>,
    /// `address:port` that it has connected to.
    pub local: Option<Vec<u8>>,
    /// Logged in as this user.
    pub user: Option<Vec<u8>>,
    /// Connected for at least this many seconds.
    pub age: Option<u64>,
    /// Of this type.
    pub kind: Option<ClientKind>,
    /// Not the client that asks.
    pub skips_asking: bool,
}

/// The clients that CLIENT LIST lists.
#[derive(Debug)]
pub enum Listed {
    /// All.
    All,
    /// Those of a type.
    Of(ClientKind),
    /// Those with these numbers.
    With(Vec<u64>),
}
