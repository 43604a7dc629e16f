//! The words of a request, made sense of: one function for each command of the table that is about the
//! connection or the server. What needs to know neither is answered here at once.

use std::borrow::Cow;

use super::words::{
    Outcome, SHOWN_BYTES, SYNTAX, Words, answered, database, is, key_list, number, pattern,
    session_of, shown, wrong_number,
};
use super::{Hello, Session};
use crate::command::{Reply, RespVersion, integer};

pub fn ping(words: &Words<'_>) -> Outcome {
    match &words[1..] {
        [] => answered(Reply::Simple("PONG")),
        [message] => answered(Reply::bulk(message)),
        _ => Err(wrong_number("ping")),
    }
}

pub fn echo(words: &Words<'_>) -> Outcome {
    answered(Reply::bulk(words[1]))
}

pub fn select(words: &Words<'_>) -> Outcome {
    session_of(Session::Select(database(words[1])))
}

pub fn time(_: &Words<'_>) -> Outcome {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let part = |number: u64| Reply::bulk(number.to_string().as_bytes());
    answered(Reply::Array(vec![part(now.as_secs()), part(now.subsec_micros().into())]))
}

/// There are no replicas to wait for: none are as many as were asked for, or it would wait for ever.
pub fn wait(words: &Words<'_>) -> Outcome {
    let replicas = number(words[1])?;
    if number(words[2]).map_err(|_| "ERR timeout is not an integer or out of range")? < 0 {
        return Err("ERR timeout is negative".into());
    }
    match replicas {
        ..=0 => answered(Reply::Integer(0)),
        _ => {
            Err("ERR there are no replicas to wait for; every reply to a write means it is on disk"
                .into())
        }
    }
}

pub fn lastsave(_: &Words<'_>) -> Outcome {
    session_of(Session::LastSave)
}

pub fn bgrewriteaof(_: &Words<'_>) -> Outcome {
    session_of(Session::Compact)
}

pub fn multi(_: &Words<'_>) -> Outcome {
    session_of(Session::Multi)
}

pub fn exec(_: &Words<'_>) -> Outcome {
    session_of(Session::Exec)
}

pub fn discard(_: &Words<'_>) -> Outcome {
    session_of(Session::Discard)
}

pub fn watch(words: &Words<'_>) -> Outcome {
    session_of(Session::Watch(key_list(&words[1..])))
}

pub fn unwatch(_: &Words<'_>) -> Outcome {
    session_of(Session::Unwatch)
}

pub fn quit(_: &Words<'_>) -> Outcome {
    session_of(Session::Quit)
}

pub fn reset(_: &Words<'_>) -> Outcome {
    session_of(Session::Reset)
}

pub fn auth(words: &Words<'_>) -> Outcome {
    match words[1..] {
        [password] => session_of(Session::Auth(None, password.to_vec())),
        [user, password] => session_of(Session::Auth(Some(user.to_vec()), password.to_vec())),
        _ => Err(SYNTAX.into()),
    }
}

pub fn hello(words: &Words<'_>) -> Outcome {
    let mut hello = Hello::default();
    let mut rest = &words[1..];
    if let [version, after @ ..] = rest {
        hello.version = match integer(version) {
            Some(2) => Some(RespVersion::V2),
            Some(3) => Some(RespVersion::V3),
            Some(_) => return Err("NOPROTO unsupported protocol version".into()),
            None => {
                return Err("ERR Protocol version is not an integer or out of range".into());
            }
        };
        rest = after;
    }
    while let [option, after @ ..] = rest {
        rest = match after {
            [user, password, after @ ..] if is(option, "auth") => {
                hello.auth = Some((user.to_vec(), password.to_vec()));
                after
            }
            [name, after @ ..] if is(option, "setname") => {
                hello.name = Some(printable(name, "Client names")?);
                after
            }
            _ => {
                let option = shown(option, SHOWN_BYTES);
                return Err(format!("ERR Syntax error in HELLO option '{option}'").into());
            }
        };
    }
    session_of(Session::Hello(hello))
}

/// The longest name of a client or of its library. It is kept as long as the client is connected, and stands
/// in each CLIENT LIST: ten thousand clients make 30 MB of it at most. Names in use are far shorter.
const NAME_BYTES: usize = 1024;

/// A word that can stand in a line of CLIENT LIST.
pub fn printable(word: &[u8], what: &str) -> Result<String, Cow<'static, str>> {
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

/// The names of settings are in lower case, and Redis looks for them in any.
pub fn config_get(words: &Words<'_>) -> Outcome {
    let lower = |word: &&[u8]| Ok(pattern(word)?.to_ascii_lowercase());
    let patterns = words[2..].iter().map(lower).collect::<Result<_, Cow<'static, str>>>()?;
    session_of(Session::ConfigGet(patterns))
}

pub fn info(words: &Words<'_>) -> Outcome {
    let sections = words[1..].iter().map(|word| shown(word, SHOWN_BYTES).to_lowercase()).collect();
    session_of(Session::Info(sections))
}
