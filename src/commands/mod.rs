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
pub use table::{Spec, command_names, spec_named};

use std::borrow::Cow;

use crate::command::{Command, Dialect, Key, RespVersion};
use crate::protocol::Limits;
use words::{SHOWN_BYTES, Words, is, shown, unknown_subcommand, wrong_number};

/// A request: what it asks for, the command that it names, and how it is to be answered.
#[derive(Debug)]
pub struct Asked {
    /// What it asks for.
    pub request: Request,
    /// The command.
    pub spec: Option<&'static Spec>,
    /// How the reply is to be spelled.
    pub dialect: Dialect,
}

/// SET, GET and DEL as people type them to try the server, with their number of words; they have answers for
/// people. Everything else in a line is answered as Redis does.
const PLAIN: [(&str, usize, &str); 3] = [
    ("set", 3, "SET expected 2 arguments KEY and VALUE"),
    ("get", 2, "GET expected 1 argument KEY"),
    ("del", 2, "DEL expected 1 argument KEY"),
];

/// What the words of a request ask for. `version` is the client's.
pub fn asked(words: &Words<'_>, dialect: Dialect, version: RespVersion, limits: &Limits) -> Asked {
    let resp = Dialect::Resp(version);
    if let Dialect::Resp(_) = dialect {
        let (request, spec) = request(words, limits);
        return Asked { request, spec, dialect: resp };
    }
    if let Some((name, count, expected)) = PLAIN.iter().find(|(name, ..)| is(words[0], name)) {
        let spec = spec_named(name.as_bytes());
        let is_too_long = words.get(1).is_some_and(|key| key.len() > limits.key);
        let request = match words.len() == *count {
            _ if is_too_long => Request::Refused(key_too_long(limits)),
            true => request(words, limits).0,
            false => Request::Refused((*expected).into()),
        };
        return Asked { request, spec, dialect };
    }
    match request(words, limits) {
        (request, spec @ Some(_)) => Asked { request, spec, dialect: resp },
        (_, None) => Asked { request: Request::Refused(INVALID.into()), spec: None, dialect },
    }
}

/// What an unknown command in a line is answered.
const INVALID: &str = "INVALID COMMAND";

fn request(words: &Words<'_>, limits: &Limits) -> (Request, Option<&'static Spec>) {
    let Some(mut spec) = spec_named(words[0]).filter(|spec| !spec.is_subcommand()) else {
        return (Request::Refused(unknown(words)), None);
    };
    if let [container, name, ..] = words
        && spec.is_container()
    {
        spec = match spec.subcommand(name) {
            Some(subcommand) => subcommand,
            None => return (Request::Refused(unknown_subcommand(container, name)), Some(spec)),
        };
    }
    if !spec.takes(words.len()) {
        return (Request::Refused(wrong_number(spec.name)), Some(spec));
    }
    if spec.keys_among(words).any(|key| key.len() > limits.key) {
        return (Request::Refused(key_too_long(limits)), Some(spec));
    }
    ((spec.parse)(words).unwrap_or_else(Request::Mistake), Some(spec))
}

fn key_too_long(limits: &Limits) -> Cow<'static, str> {
    format!("ERR key is too long, the limit is {} bytes", limits.key).into()
}

fn unknown(words: &Words<'_>) -> Cow<'static, str> {
    let name = shown(words[0], SHOWN_BYTES);
    let mut text = format!("ERR unknown command '{name}', with args beginning with: ");
    let start = text.len();
    for word in &words[1..] {
        let room = SHOWN_BYTES.saturating_sub(text.len() - start);
        if room == 0 {
            break;
        }
        text += &format!("'{}' ", shown(word, room));
    }
    text.into()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_is_told_in_the_words_that_clients_look_for() {
        let (request, _) = request(&[b"HELLO2", b"3", b"a\r\nb"], &Limits::default());
        match request {
            Request::Refused(text) => assert_eq!(
                text,
                "ERR unknown command 'HELLO2', with args beginning with: '3' 'a\r\nb' "
            ),
            other => panic!("{other:?}"),
        }
    }
}
