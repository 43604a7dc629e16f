//! The commands there are: which words ask for what.
//!
//! Reading order: `table` says which commands there are, `strings`, `connection`, `clients` and
//! `introspection` make sense of their words, with what is in `words`; `help` is what the server says of
//! them.

mod clients;
mod connection;
mod help;
mod introspection;
mod strings;
mod table;
mod words;

pub use clients::USER;
pub use introspection::Introspection;
pub use strings::{key_too_long, request};
pub use table::{Spec, command_names, spec_named};
pub use words::integer;

use std::borrow::Cow;

use crate::command::{Command, Key, RespVersion};
use crate::protocol::Limits;

/// What a client wants.
#[derive(Debug)]
pub enum Request {
    /// Something of the data, or something that is answered already.
    Command(Command),
    /// Something of its connection or of the server.
    Session(Session),
    /// A command with an argument that makes no sense, and the error that says so. In a transaction it
    /// is queued like any other, and fails when its turn comes.
    Mistake(Cow<'static, str>),
    /// No command, or too few or too many words: no transaction is carried out with it.
    Refused(Cow<'static, str>),
}

/// What a client wants of its connection or of the server.
#[derive(Debug)]
pub enum Session {
    /// To be told about the server, perhaps in another version of RESP.
    Hello(Hello),
    /// To be let in: user, if it names one, and password.
    Auth(Option<Vec<u8>>, Vec<u8>),
    /// To leave.
    Quit,
    /// To begin anew.
    Reset,
    /// To begin a transaction.
    Multi,
    /// To carry it out.
    Exec,
    /// To forget it.
    Discard,
    /// To have a transaction fail if one of these keys changes.
    Watch(Vec<Key>),
    /// Not any more.
    Unwatch,
    /// Its number.
    ClientId,
    /// Its name.
    ClientGetName,
    /// To have a name.
    ClientSetName(String),
    /// To have its library, or that one's version, known.
    ClientSetInfo(LibraryField, String),
    /// A line about itself.
    ClientInfo,
    /// A line about each client, or about some of them.
    ClientList(ClientChoice),
    /// To close clients.
    ClientKill(KillFilter),
    /// What the server says of its commands.
    Command(Introspection),
    /// The counters, of these sections.
    Info(Vec<String>),
    /// The settings whose names fit these patterns.
    ConfigGet(Vec<Vec<u8>>),
    /// A compaction of the log.
    Compact,
    /// When everything was last known to be on disk.
    LastSave,
    /// Another database, or the error that says that there is no such one.
    Select(Result<(), Cow<'static, str>>),
}

impl Session {
    /// Roughly what it takes up in memory.
    pub fn bytes(&self) -> usize {
        let all = |sum: usize, word: usize| sum + word + size_of::<Vec<u8>>();
        size_of::<Session>()
            + match self {
                Session::Hello(Hello { auth, name, .. }) => {
                    let auth = auth.as_ref().map_or(0, |(user, word)| user.len() + word.len());
                    auth + name.as_ref().map_or(0, String::len)
                }
                Session::Auth(user, word) => user.as_ref().map_or(0, Vec::len) + word.len(),
                Session::Watch(keys) => keys.iter().map(|key| key.len()).fold(0, all),
                Session::ClientSetName(text) | Session::ClientSetInfo(_, text) => text.len(),
                Session::ClientList(ClientChoice::Ids(ids)) => size_of_val(&ids[..]),
                Session::ClientKill(KillFilter { address, local, .. }) => {
                    let bytes = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
                    bytes(address) + bytes(local)
                }
                Session::Command(what) => what.bytes(),
                Session::Info(sections) => sections.iter().map(String::len).fold(0, all),
                Session::ConfigGet(patterns) => patterns.iter().map(Vec::len).fold(0, all),
                Session::Quit
                | Session::Reset
                | Session::Multi
                | Session::Exec
                | Session::Discard
                | Session::Unwatch
                | Session::ClientId
                | Session::ClientGetName
                | Session::ClientInfo
                | Session::ClientList(ClientChoice::All | ClientChoice::Type(_))
                | Session::Compact
                | Session::LastSave
                | Session::Select(_) => 0,
            }
    }
}

/// What HELLO says.
#[derive(Debug, Default)]
pub struct Hello {
    /// The version to go on with.
    pub version: Option<RespVersion>,
    /// User and password.
    pub auth: Option<(Vec<u8>, Vec<u8>)>,
    /// A name for the client.
    pub name: Option<String>,
}

/// What CLIENT SETINFO sets.
#[derive(Clone, Copy, Debug)]
pub enum LibraryField {
    /// Its name.
    Name,
    /// Its version.
    Version,
}

/// Which clients CLIENT LIST shows.
#[derive(Debug)]
pub enum ClientChoice {
    /// Each of them.
    All,
    /// Those of a type.
    Type(ClientType),
    /// Those with these numbers, each once, in this order.
    Ids(Vec<u64>),
}

/// Types of clients. Each client here is a normal one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientType {
    /// One that asks for something.
    Normal,
    /// A server that this one follows.
    Master,
    /// A server that follows this one.
    Replica,
    /// One that waits for messages.
    Pubsub,
}

/// Which clients CLIENT KILL closes: those that fit everything that is said.
#[derive(Debug, Default)]
pub struct KillFilter {
    /// The number.
    pub id: Option<u64>,
    /// `address:port` of the client.
    pub address: Option<Vec<u8>>,
    /// `address:port` that it has connected to.
    pub local: Option<Vec<u8>>,
    /// The type.
    pub kind: Option<ClientType>,
    /// Connected for at least this many seconds.
    pub age: Option<u64>,
    /// Not the one that asks.
    pub skips_asking: bool,
    /// Asked for in the old form, which answers OK or an error instead of a count.
    pub old_form: bool,
}
