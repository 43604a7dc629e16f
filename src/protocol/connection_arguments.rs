//! The words of a request, made sense of: one function for each command of the table that is about the
//! connection or the server. What needs to know neither is answered here at once.

use std::borrow::Cow;

use super::table::{COMMANDS, Spec, spec_named};
use super::words::{
    Outcome, SHOWN_BYTES, SYNTAX, Words, answered, integer, is, key_list, number, shown,
    unknown_subcommand, wrong_number,
};
use super::{ClientChoice, Hello, LibraryField, Request, Session};
use crate::command::{Reply, RespVersion};
use crate::entry::now_millis;

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
    match number(words[1])? {
        0 => answered(Reply::Ok),
        _ => Err("ERR DB index is out of range".into()),
    }
}

pub fn time(_: &Words<'_>) -> Outcome {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let part = |number: u64| Reply::bulk(number.to_string().as_bytes());
    answered(Reply::Array(vec![part(now.as_secs()), part(now.subsec_micros().into())]))
}

/// There are no replicas to wait for.
pub fn wait(words: &Words<'_>) -> Outcome {
    let replicas = number(words[1])?;
    if number(words[2]).map_err(|_| "ERR timeout is not an integer or out of range")? < 0 {
        return Err("ERR timeout is negative".into());
    }
    match replicas {
        0 => answered(Reply::Integer(0)),
        _ => {
            Err("ERR there are no replicas to wait for; every reply to a write means it is on disk"
                .into())
        }
    }
}

/// Everything is saved at any time.
pub fn lastsave(_: &Words<'_>) -> Outcome {
    answered(Reply::Integer(now_millis() / 1000))
}

pub fn bgrewriteaof(_: &Words<'_>) -> Outcome {
    Ok(Request::Session(Session::Compact))
}

pub fn multi(_: &Words<'_>) -> Outcome {
    Ok(Request::Session(Session::Multi))
}

pub fn exec(_: &Words<'_>) -> Outcome {
    Ok(Request::Session(Session::Exec))
}

pub fn discard(_: &Words<'_>) -> Outcome {
    Ok(Request::Session(Session::Discard))
}

pub fn watch(words: &Words<'_>) -> Outcome {
    Ok(Request::Session(Session::Watch(key_list(&words[1..]))))
}

pub fn unwatch(_: &Words<'_>) -> Outcome {
    Ok(Request::Session(Session::Unwatch))
}

pub fn quit(_: &Words<'_>) -> Outcome {
    Ok(Request::Session(Session::Quit))
}

pub fn reset(_: &Words<'_>) -> Outcome {
    Ok(Request::Session(Session::Reset))
}

pub fn auth(words: &Words<'_>) -> Outcome {
    match words[1..] {
        [password] => Ok(Request::Session(Session::Auth(b"default".to_vec(), password.to_vec()))),
        [user, password] => Ok(Request::Session(Session::Auth(user.to_vec(), password.to_vec()))),
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
    Ok(Request::Session(Session::Hello(hello)))
}

/// A word that can stand in a line of CLIENT LIST.
fn printable(word: &[u8], what: &str) -> Result<String, Cow<'static, str>> {
    match word.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        true => Ok(String::from_utf8_lossy(word).into_owned()),
        false => {
            Err(format!("ERR {what} cannot contain spaces, newlines or special characters.").into())
        }
    }
}

pub fn client(words: &Words<'_>) -> Outcome {
    let session = match &words[1..] {
        [name] if is(name, "id") => Session::ClientId,
        [name] if is(name, "getname") => Session::ClientGetName,
        [name] if is(name, "info") => Session::ClientInfo,
        [name, ..] if is(name, "list") => Session::ClientList,
        [name, new] if is(name, "setname") => {
            Session::ClientSetName(printable(new, "Client names")?)
        }
        [name, attribute, value] if is(name, "setinfo") => {
            if is(attribute, "lib-name") {
                Session::ClientSetInfo(LibraryField::Name, printable(value, "lib-name")?)
            } else if is(attribute, "lib-ver") {
                Session::ClientSetInfo(LibraryField::Version, printable(value, "lib-ver")?)
            } else {
                let attribute = shown(attribute, SHOWN_BYTES);
                return Err(format!("ERR Unrecognized option '{attribute}'").into());
            }
        }
        [name, address] if is(name, "kill") => {
            Session::ClientKill(ClientChoice::Address(shown(address, SHOWN_BYTES)), true)
        }
        [name, filter, value] if is(name, "kill") && is(filter, "id") => {
            let id = number(value).ok().and_then(|id| u64::try_from(id).ok());
            let id = id.filter(|id| *id > 0);
            Session::ClientKill(
                ClientChoice::Id(id.ok_or("ERR client-id should be greater than 0")?),
                false,
            )
        }
        [name, filter, value] if is(name, "kill") && is(filter, "addr") => {
            Session::ClientKill(ClientChoice::Address(shown(value, SHOWN_BYTES)), false)
        }
        [name, ..] if is(name, "kill") => return Err(SYNTAX.into()),
        [name, ..] => {
            let known = ["id", "getname", "info", "setname", "setinfo"];
            return Err(match known.iter().find(|known| is(name, known)) {
                Some(known) => wrong_number(&format!("client|{known}")),
                None => unknown_subcommand("client", name),
            });
        }
        [] => return Err(wrong_number("client")),
    };
    Ok(Request::Session(session))
}

pub fn config(words: &Words<'_>) -> Outcome {
    match &words[1..] {
        [name, patterns @ ..] if is(name, "get") && !patterns.is_empty() => {
            let patterns = patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
            Ok(Request::Session(Session::ConfigGet(patterns)))
        }
        [name] if is(name, "get") => Err(wrong_number("config|get")),
        _ => Err(unknown_subcommand("config", words[1])),
    }
}

pub fn info(words: &Words<'_>) -> Outcome {
    let sections = words[1..].iter().map(|word| shown(word, SHOWN_BYTES).to_lowercase()).collect();
    Ok(Request::Session(Session::Info(sections)))
}

pub fn command(words: &Words<'_>) -> Outcome {
    let described = |spec: Option<&Spec>| spec.map_or(Reply::NullArray, describe);
    let reply = match &words[1..] {
        [] => Reply::Array(COMMANDS.iter().map(describe).collect()),
        [name] if is(name, "count") => Reply::Integer(COMMANDS.len() as i64),
        [name] if is(name, "list") => Reply::Array(
            COMMANDS.iter().map(|spec| Reply::Bulk(spec.name.as_bytes().into())).collect(),
        ),
        [name] if is(name, "info") => Reply::Array(COMMANDS.iter().map(describe).collect()),
        [name, names @ ..] if is(name, "info") => {
            Reply::Array(names.iter().map(|name| described(spec_named(name))).collect())
        }
        // An empty DOCS would take redis-cli's own hints away; after an error it keeps them.
        [name, ..] => return Err(unknown_subcommand("command", name)),
    };
    answered(reply)
}

/// A row of COMMAND, in the form that it has since Redis 7.
fn describe(spec: &Spec) -> Reply<'static> {
    let (first, last, step) = spec.keys;
    let number = |number: i32| Reply::Integer(number.into());
    Reply::Array(vec![
        Reply::Bulk(spec.name.as_bytes().into()),
        number(spec.arity),
        Reply::Array(spec.flags.iter().map(|flag| Reply::Simple(flag)).collect()),
        number(first),
        number(last),
        number(step),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
    ])
}
