//! Commands about the connection itself.

use super::words::*;
use crate::command::{
    Client, Label, REDIS_VERSION, Reply, RespVersion, Text, USER, Words, integer, is,
};

/// A reply that needs no data.
type Said = Result<Reply<'static>, Text>;

pub fn ping(words: &Words<'_>) -> Said {
    match &words[1..] {
        [] => Ok(Reply::Simple("PONG")),
        [message] => Ok(Reply::bulk(message)),
        _ => Err(wrong_number("ping")),
    }
}

pub fn echo(words: &Words<'_>) -> Said {
    Ok(Reply::bulk(words[1]))
}

pub fn auth(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let (user, password) = match words[1..] {
        [_] if !client.needs_password() => {
            return Err("ERR AUTH <password> called without any password configured for the \
                        default user. Are you sure your configuration is correct?"
                .into());
        }
        [password] => (USER.as_bytes(), password),
        [user, password] => (user, password),
        _ => return Err(SYNTAX.into()),
    };
    client.log_in(user, password)?;
    Ok(Reply::Ok)
}

pub fn hello(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let (mut version, mut login, mut name) = (None, None, None);
    let mut rest = &words[1..];
    if let [wanted, after @ ..] = rest {
        version = Some(match integer(wanted) {
            Some(2) => RespVersion::V2,
            Some(3) => RespVersion::V3,
            Some(_) => return Err("NOPROTO unsupported protocol version".into()),
            None => {
                return Err("ERR Protocol version is not an integer or out of range".into());
            }
        });
        rest = after;
    }
    while let [option, after @ ..] = rest {
        rest = match after {
            [user, password, after @ ..] if is(option, "auth") => {
                login = Some((*user, *password));
                after
            }
            [text, after @ ..] if is(option, "setname") => {
                name = Some(printable(text, "Client names")?);
                after
            }
            _ => {
                let option = shown(option);
                return Err(format!("ERR Syntax error in HELLO option '{option}'").into());
            }
        };
    }
    if let Some((user, password)) = login {
        client.log_in(user, password)?;
    }
    if !client.is_logged_in() {
        return Err(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise \
                    the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the \
                    client and select the RESP protocol version at the same time"
                .into(),
        );
    }
    let version = client.speak(version);
    if let Some(name) = name {
        client.set_label(Label::Name, name);
    }
    let text = |text: &str| Reply::bulk(text.as_bytes());
    Ok(Reply::Map(vec![
        text("server"),
        text("redis"),
        text("version"),
        text(REDIS_VERSION),
        text("proto"),
        Reply::Integer(version.number().into()),
        text("id"),
        Reply::Integer(client.id() as i64),
        text("mode"),
        text("standalone"),
        text("role"),
        text("master"),
        text("modules"),
        Reply::Array(Vec::new()),
    ]))
}

/// The longest name of a client, of its library or of that library's version. Each is kept as long as the client
/// is connected, and is part of every CLIENT LIST: for ten thousand clients 30 MB at most. Names in use are far
/// shorter.
const NAME_BYTES: usize = 1024;

/// A word that can stand in a line of CLIENT LIST.
pub fn printable(word: &[u8], what: &str) -> Result<String, Text> {
    if word.len() > NAME_BYTES {
        return Err(format!("ERR {what} cannot be longer than {NAME_BYTES} bytes").into());
    }
    match word.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        true => Ok(String::from_utf8_lossy(word).into_owned()),
        false => {
            Err(format!("ERR {what} cannot contain spaces, newlines or special characters.").into())
        }
    }
}
