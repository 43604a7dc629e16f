//! What a command may ask of its connection and of the server.

use super::events::Events;
use super::news::{Scope, Topic};
use super::reply::RespVersion;
use super::tracking::TrackingState;
use super::view::Text;

/// The version of Redis that clients are told of, and decide by what they may use. redis-py caches on its own side only
/// from 7.4 on, and no client is known to ask a 7.4 for something that it would not ask a 7.2 for and that is missing
/// here. Commands and texts follow 7.2, in which they are the same.
pub const REDIS_VERSION: &str = "7.4.0";

/// The only user there is.
pub const USER: &str = "default";

/// A connection and, through it, the server.
pub trait Client {
    /// Its number.
    fn id(&self) -> u64;
    /// Whether a password is configured.
    fn needs_password(&self) -> bool;
    /// Whether the client has logged in, or need not.
    fn is_logged_in(&self) -> bool;
    /// Lets the client in, or says why not.
    fn log_in(&mut self, user: &[u8], password: &[u8]) -> Result<(), Text>;
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
    /// Begins a compaction of the log.
    fn compact(&self) -> Result<(), Text>;
    /// Ends the script that is running, or says why not.
    fn kill_script(&mut self) -> Result<(), Text>;
    /// The channels that someone has subscribed to and that fit; `None` if they are too long to be listed.
    fn channels(&self, scope: Scope, fits: &mut dyn FnMut(&[u8]) -> bool)
    -> Option<Vec<Box<[u8]>>>;
    /// How many clients have subscribed to this.
    fn subscribers(&self, topic: Topic, name: &[u8]) -> usize;
    /// How many different patterns clients have subscribed to.
    fn patterns(&self) -> usize;
    /// Chooses which changes of keys are told on channels: CONFIG SET notify-keyspace-events.
    fn tell_events(&mut self, events: Events);
    /// How it tracks what it reads, if it does.
    fn tracking(&self) -> Option<TrackingState>;
    /// Has it track in this way, or no more.
    fn track(&mut self, state: Option<TrackingState>) -> Result<(), Text>;
    /// CLIENT CACHING was given: the next command is another case than usual.
    fn give_caching(&mut self);
    /// Whether it was given for the next command.
    fn has_given_caching(&self) -> bool;
    /// Whether a client has this number.
    fn is_connected(&self, id: u64) -> bool;
    /// When everything was last known to be on disk, in seconds of Unix time.
    fn saved_at(&self) -> i64;
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
