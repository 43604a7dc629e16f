//! All commands: how their words are read, and what they do.
//!
//! `table` has a row for each command; a row names the function that carries it out, which is in the file
//! of its topic: `strings`, `numbers`, `keys`, `walks` (through all keys), `expiry`, `connection`,
//! `clients`, `pubsub`, `tracking`, `server`, `sentinel`, `introspection`, `help`. A function knows the data, its connection and the server only
//! through the traits of [`crate::command`]; no function here takes a lock, writes to the log or sends a byte.
//!
//! The server enters by one door, [`look_up`].

mod acl;
mod arguments;
mod bitfield;
mod bitop;
mod bits;
mod clients;
mod compare;
mod connection;
mod decimal;
mod docs;
mod dump;
mod expiry;
mod help;
mod introspection;
mod key_uses;
mod keys;
mod lcs;
mod memory;
mod numbers;
mod pubsub;
mod rdb;
mod rights;
mod rows;
mod sentinel;
mod server;
mod slow;
mod strings;
mod table;
mod tracking;
mod walks;
mod words;

pub use acl::no_permission;
#[cfg(feature = "scripts")]
pub use expiry::at_moment;
pub use pubsub::{CHANNEL_BYTES, topic};
pub use table::command_names;
pub use words::database;

use std::sync::LazyLock;

use crate::command::{
    Command, CommandId, Dialect, Packed, RespVersion, Rights, Run, Spec, Text, Words, is,
};
use table::COMMANDS;
use words::{SHOWN_BYTES, shown, wrong_number};

/// The reply to an unknown command in a line of text.
const INVALID: &str = "INVALID COMMAND";

/// SET, GET and DEL as people type them to try the server, with their number of words: they have replies for
/// people. Everything else in a line of text is answered as in Redis.
const PLAIN: [(&str, usize, &str); 3] = [
    ("set", 3, "SET expected 2 arguments KEY and VALUE"),
    ("get", 2, "GET expected 1 argument KEY"),
    ("del", 2, "DEL expected 1 argument KEY"),
];

/// The command that a request names, see `rows::Index`.
pub fn find(words: &Words<'_>) -> Result<&'static Spec, Option<&'static Spec>> {
    static INDEX: LazyLock<rows::Index> = LazyLock::new(|| rows::Index::new(COMMANDS));
    INDEX.find(words)
}

/// The first key of a request, if its command has any.
pub fn first_key<'a>(words: &'a Words<'a>) -> Option<&'a [u8]> {
    find(words).ok()?.keys_among(words).next()
}

/// The table of all commands, in the order of their names.
pub fn table() -> &'static [Spec] {
    COMMANDS
}

/// Whether a user with these rights may carry out a command.
pub fn may(rights: Rights, spec: &Spec) -> bool {
    static READERS: LazyLock<Vec<bool>> = LazyLock::new(|| {
        COMMANDS.iter().map(|spec| rights::allow(Rights::ReadOnly.rules(), spec)).collect()
    });
    let CommandId(place) = spec.id;
    match rights {
        Rights::All => true,
        Rights::ReadOnly => READERS[place],
    }
}

/// The result of [`look_up`].
#[derive(Debug)]
pub struct Asked {
    /// The command, or container, that is named.
    pub named: Option<&'static Spec>,
    /// The command, for which the number of words is right; or why the request is refused, and with it the
    /// transaction that it is in.
    pub found: Result<&'static Spec, Text>,
    /// How the reply is to be spelled.
    pub dialect: Dialect,
}

/// Looks up what the words of a request ask for. `version` is the client's, and no key may be longer than
/// `longest_key`.
pub fn look_up(
    words: &Words<'_>,
    dialect: Dialect,
    version: RespVersion,
    longest_key: usize,
) -> Asked {
    let plain = match dialect {
        Dialect::Text(_) => PLAIN.iter().find(|(name, ..)| is(words[0], name)),
        Dialect::Resp(_) => None,
    };
    let spec = find(words);
    let found = match (spec, plain) {
        (_, Some(_)) if words.get(1).is_some_and(|key| key.len() > longest_key) => {
            Err(key_too_long(longest_key))
        }
        (_, Some((_, count, expected))) if words.len() != *count => Err((*expected).into()),
        (Ok(spec), _) if !spec.takes(words.len()) => Err(wrong_number(spec.name)),
        (Ok(spec), _) if spec.keys_among(words).any(|key| key.len() > longest_key) => {
            Err(key_too_long(longest_key))
        }
        (Ok(spec), _) => Ok(spec),
        (Err(Some(_)), _) => Err(unknown_subcommand(words)),
        (Err(None), _) if matches!(dialect, Dialect::Text(_)) => Err(INVALID.into()),
        (Err(None), _) => Err(unknown(words)),
    };
    let named = spec.map_or_else(|container| container, Some);
    let dialect = match (dialect, plain, named) {
        (Dialect::Text(_), Some(_), _) | (Dialect::Text(_), _, None) => dialect,
        _ => Dialect::Resp(version),
    };
    Asked { named, found, dialect }
}

/// Shown in place of a password, as in Redis.
pub const REDACTED: &[u8] = b"(redacted)";

/// The words of a request as they may be shown to others: without passwords.
pub fn without_secrets(spec: &Spec, words: &Words<'_>) -> Packed {
    let shown = |place| if is_secret(spec, words, place) { REDACTED } else { words[place] };
    Packed::new(&(0..words.len()).map(shown).collect::<Vec<_>>())
}

/// Whether a word of a request is a password, or the name that goes with one. Also in requests that are refused:
/// people find out from those that they have forgotten a word.
pub fn is_secret(spec: &Spec, words: &Words<'_>, place: usize) -> bool {
    let follows = |name, by| place > by && is(words[place - by], name);
    match spec.name {
        "auth" => place > 0,
        "hello" => follows("auth", 1) || follows("auth", 2),
        "config|set" => place > 2 && follows("requirepass", 1),
        _ => false,
    }
}

fn key_too_long(longest: usize) -> Text {
    format!("ERR key is too long, the limit is {longest} bytes").into()
}

fn unknown_subcommand(words: &Words<'_>) -> Text {
    let (container, name) = (shown(words[0]).to_uppercase(), shown(words[1]));
    format!("ERR unknown subcommand '{name}'. Try {container} HELP.").into()
}

fn unknown(words: &Words<'_>) -> Text {
    let mut text = format!("ERR unknown command '{}', with args beginning with: ", shown(words[0]));
    let start = text.len();
    for word in &words[1..] {
        let room = SHOWN_BYTES.saturating_sub(text.len() - start);
        if room == 0 {
            break;
        }
        text += &format!("'{}' ", shown(&word[..word.len().min(room)]));
    }
    text.into()
}

/// Makes a command on data of a request, for callers without a connection.
pub fn command(words: &Words<'_>) -> Result<Command, Text> {
    let resp = RespVersion::default();
    let spec = look_up(words, Dialect::Resp(resp), resp, usize::MAX).found?;
    match spec.run {
        Run::Core(make) => make(words),
        Run::Read(_) | Run::Walk(_) | Run::Write(_) => Ok(Command::Call(spec, Packed::new(words))),
        Run::Say(say) => say(words).map(Command::Answered),
        Run::Ask(_) | Run::Session(_) | Run::Script(_) => Err("ERR it needs a connection".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_key_is_not_taken_for_one() {
        for (request, key) in [
            ("get k", Some("k")),
            ("echo value", None),
            ("ping value", None),
            ("bitop and k other", Some("k")),
            ("object encoding k", Some("k")),
            ("no-such-command value", None),
            ("set", None),
            #[cfg(feature = "scripts")]
            ("eval script 1 k value", Some("k")),
            #[cfg(feature = "scripts")]
            ("evalsha f00 0 value", None),
        ] {
            let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
            assert_eq!(first_key(&words), key.map(str::as_bytes), "{request}");
        }
    }

    #[test]
    fn the_error_for_an_unknown_command_has_the_text_that_clients_match() {
        assert_eq!(
            command(&[b"HELLO2", b"3", b"a\r\nb"]).expect_err("it is unknown"),
            "ERR unknown command 'HELLO2', with args beginning with: '3' 'a\r\nb' "
        );
    }
}
