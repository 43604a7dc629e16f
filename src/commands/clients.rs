//! The words of CLIENT's subcommands, made sense of.

use super::connection::printable;
use super::words::{Outcome, SHOWN_BYTES, SYNTAX, Words, is, number, session_of, shown};
use super::{ClientChoice, ClientType, KillFilter, LibraryField, Session};
use crate::command::integer;
use std::borrow::Cow;
use std::collections::HashSet;

/// Clients that CLIENT LIST looks for by number: as many as there may be unless `-maxclients` says otherwise.
/// They are looked for while nobody can come or leave, for a millisecond or so.
const LISTED: usize = 10_000;

/// The only user there is.
pub const USER: &str = "default";

pub fn client_id(_: &Words<'_>) -> Outcome {
    session_of(Session::ClientId)
}

pub fn client_getname(_: &Words<'_>) -> Outcome {
    session_of(Session::ClientGetName)
}

pub fn client_setname(words: &Words<'_>) -> Outcome {
    session_of(Session::ClientSetName(printable(words[2], "Client names")?))
}

pub fn client_setinfo(words: &Words<'_>) -> Outcome {
    let (field, name) = match words[2] {
        attribute if is(attribute, "lib-name") => (LibraryField::Name, "lib-name"),
        attribute if is(attribute, "lib-ver") => (LibraryField::Version, "lib-ver"),
        attribute => {
            return Err(
                format!("ERR Unrecognized option '{}'", shown(attribute, SHOWN_BYTES)).into()
            );
        }
    };
    session_of(Session::ClientSetInfo(field, printable(words[3], name)?))
}

pub fn client_info(_: &Words<'_>) -> Outcome {
    session_of(Session::ClientInfo)
}

pub fn client_list(words: &Words<'_>) -> Outcome {
    session_of(Session::ClientList(match &words[2..] {
        [] => ClientChoice::All,
        [option, kind] if is(option, "type") => ClientChoice::Type(client_type(kind)?),
        [option, ids @ ..] if is(option, "id") && !ids.is_empty() => {
            if ids.len() > LISTED {
                return Err(format!("ERR at most {LISTED} clients are looked for at a time").into());
            }
            let id = |id: &&[u8]| integer(id).ok_or("ERR Invalid client ID");
            let mut ids = ids.iter().map(id).collect::<Result<Vec<i64>, _>>()?;
            // Each once, so that the answer is no longer than one about all.
            let mut seen = HashSet::new();
            ids.retain(|id| seen.insert(*id));
            // No client has a number below zero.
            ClientChoice::Ids(ids.into_iter().filter_map(|id| u64::try_from(id).ok()).collect())
        }
        _ => return Err(SYNTAX.into()),
    }))
}

pub fn client_kill(words: &Words<'_>) -> Outcome {
    let address = |word: &[u8]| Some(word.to_vec());
    if let [address_alone] = &words[2..] {
        let address = address(address_alone);
        return session_of(Session::ClientKill(KillFilter {
            address,
            old_form: true,
            ..KillFilter::default()
        }));
    }
    let mut filter = KillFilter { skips_asking: true, ..KillFilter::default() };
    let mut rest = &words[2..];
    while let [option, value, after @ ..] = rest {
        rest = after;
        match () {
            () if is(option, "id") => {
                let id = positive(value, "ERR client-id should be greater than 0")?;
                filter.id = Some(id);
            }
            () if is(option, "type") => filter.kind = Some(client_type(value)?),
            () if is(option, "addr") => filter.address = address(value),
            () if is(option, "laddr") => filter.local = address(value),
            // Each client is that user, so nothing has to be remembered of it.
            () if is(option, "user") && *value == USER.as_bytes() => {}
            () if is(option, "user") => {
                return Err(format!("ERR No such user '{}'", shown(value, SHOWN_BYTES)).into());
            }
            () if is(option, "skipme") && is(value, "yes") => filter.skips_asking = true,
            () if is(option, "skipme") && is(value, "no") => filter.skips_asking = false,
            () if is(option, "maxage") => {
                number(value).map_err(|_| "ERR maxage is not an integer or out of range")?;
                filter.age = Some(positive(value, "ERR maxage should be greater than 0")?);
            }
            () => return Err(SYNTAX.into()),
        }
    }
    if rest.is_empty() { session_of(Session::ClientKill(filter)) } else { Err(SYNTAX.into()) }
}

fn positive(word: &[u8], error: &'static str) -> Result<u64, Cow<'static, str>> {
    let number = integer(word).and_then(|number| u64::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or(error.into())
}

fn client_type(word: &[u8]) -> Result<ClientType, Cow<'static, str>> {
    let types = [
        ("normal", ClientType::Normal),
        ("master", ClientType::Master),
        ("replica", ClientType::Replica),
        ("slave", ClientType::Replica),
        ("pubsub", ClientType::Pubsub),
    ];
    let found = types.into_iter().find(|(name, _)| is(word, name));
    found
        .map(|(_, kind)| kind)
        .ok_or_else(|| format!("ERR Unknown client type '{}'", shown(word, SHOWN_BYTES)).into())
}
