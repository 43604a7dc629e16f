//! Bytes to [`Request`], [`Reply`] to bytes. No socket, no store.
//!
//! A request whose first byte is `*` is RESP, anything else is a line of text; that is decided for
//! each. A parser looks at what has been received so far and takes the first request off it, in
//! place. Its limits are checked here, before any memory is taken (promise 8).
//!
//! Reading order: `text` and `resp` split bytes into words, `table` says which commands there are,
//! `arguments`, `connection_arguments`, `client_arguments` and `introspection` make sense of their
//! words, with what is in `words`; `help` is what the server says of them.

mod arguments;
mod client_arguments;
mod connection_arguments;
mod help;
mod introspection;
mod resp;
mod table;
mod text;
mod words;

pub use client_arguments::USER;
pub use introspection::Introspection;
pub use table::{Spec, command_names, spec_named};

use std::borrow::Cow;

use crate::command::{Command, Dialect, Key, Reply, RespVersion};

/// What a request may be like. Over a limit nothing is stored, and the client is told.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest key, in bytes.
    pub key: usize,
    /// The longest value, in bytes: Redis's `proto-max-bulk-len`.
    pub value: usize,
    /// The most words.
    pub words: usize,
    /// The longest line of text without its end, in bytes: Redis's PROTO_INLINE_MAX_SIZE.
    pub line: usize,
}

impl Default for Limits {
    /// Values and lines as in Redis, words as before its version 7: each has at least five bytes on
    /// the wire, and sixteen in memory. Redis allows keys of 512 MiB; a key is compared and hashed at
    /// every access, and one beyond 64 KiB is a mistake.
    fn default() -> Limits {
        Limits { key: 64 * 1024, value: 512 << 20, words: 1024 * 1024, line: 64 * 1024 }
    }
}

/// The longest request, all its words together: Redis's `client-query-buffer-limit`.
pub const REQUEST_BYTES: usize = 1 << 30;

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

/// What stands at the front of the received bytes.
#[derive(Debug)]
pub enum Parsed {
    /// Not yet a whole request.
    Incomplete,
    /// This many bytes that ask for nothing: a blank line.
    Nothing(usize),
    /// A request of this many bytes, and the command that it names if there is one.
    Request(Request, Dialect, usize, Option<&'static Spec>),
    /// Something after which the next request cannot be told from garbage: it is answered with
    /// this error, and the connection is closed.
    Fatal(Cow<'static, str>, Dialect),
    /// Not meant for this server, and perhaps an attack by way of somebody's browser: the
    /// connection is closed without a word.
    Http,
}

/// Reads one connection's requests. Remembers how far it has looked, so that a request which
/// arrives in many pieces is looked through once.
pub struct Parser {
    /// Bytes at the front that hold no line end.
    scanned: usize,
    resp: resp::Parser,
    /// The version that replies to RESP requests are in.
    pub version: RespVersion,
    /// Who has not said the password yet may send only little.
    pub authenticated: bool,
    /// What a request may be like.
    limits: Limits,
}

impl Parser {
    /// A parser for a new connection.
    pub fn new(authenticated: bool, limits: Limits) -> Parser {
        let (resp, version) = (resp::Parser::default(), RespVersion::V2);
        Parser { scanned: 0, resp, version, authenticated, limits }
    }

    /// Looks at the bytes received and not yet taken. The same bytes must be there again, with
    /// more behind them, after [`Parsed::Incomplete`].
    pub fn parse(&mut self, received: &[u8]) -> Parsed {
        let parsed = match received.first() {
            None => Parsed::Incomplete,
            Some(b'*') => self.resp.parse(received, self.version, &self.limits, self.authenticated),
            Some(_) => text::parse(received, self.scanned, self.version, &self.limits),
        };
        let incomplete = matches!(parsed, Parsed::Incomplete);
        if incomplete && received.len() > REQUEST_BYTES.saturating_add(self.limits.value) {
            let dialect = Dialect::Resp(self.version);
            return Parsed::Fatal("ERR Protocol error: request too large".into(), dialect);
        }
        self.scanned = if incomplete { received.len() } else { 0 };
        parsed
    }

    /// What it keeps in memory of a request that has not arrived as a whole.
    pub fn bytes(&self) -> usize {
        self.resp.bytes()
    }
}

/// Appends the reply to a command, in the words of its dialect.
pub fn encode(command: &Command, dialect: Dialect, reply: &Reply<'_>, out: &mut Vec<u8>) {
    match dialect {
        Dialect::Text(line_end) => text::encode(command, line_end, reply, out),
        Dialect::Resp(version) => resp::encode(version, reply, out),
    }
}

/// Appends a reply as RESP has it.
pub fn encode_reply(version: RespVersion, reply: &Reply<'_>, out: &mut Vec<u8>) {
    resp::encode(version, reply, out);
}

/// Appends the beginning of an array, which this many replies are to follow.
pub fn encode_array_head(count: usize, out: &mut Vec<u8>) {
    resp::encode_array_head(count, out);
}

/// No less than what [`encode`] appends.
pub fn most_bytes(dialect: Dialect, reply: &Reply<'_>) -> usize {
    // A length or a line end, and the type.
    const FRAME_BYTES: usize = 32;
    FRAME_BYTES
        + match (dialect, reply) {
            (Dialect::Text(_), Reply::Bulk(value)) => crate::quote::most_bytes(value),
            (_, Reply::Array(items) | Reply::Map(items)) => {
                items.iter().map(|item| most_bytes(dialect, item)).sum()
            }
            (_, other) => other.bytes(),
        }
}

/// Makes the last `items` replies, which begin at `start`, the items of a list.
pub fn wrap(items: usize, start: usize, out: &mut Vec<u8>) {
    resp::wrap(items, start, out);
}

/// Appends the error that closes a connection.
pub fn encode_fatal(error: &str, dialect: Dialect, out: &mut Vec<u8>) {
    match dialect {
        Dialect::Text(line_end) => text::encode_error(error, line_end, out),
        Dialect::Resp(version) => resp::encode(version, &Reply::Error(error.into()), out),
    }
}
