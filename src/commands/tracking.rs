//! CLIENT TRACKING and its like: how clients that keep values themselves learn of changes.

use super::words::*;
use crate::command::{Client, Reply, Text, TrackingMode, TrackingState, Words, integer, is};

type Said = Result<Reply<'static>, Text>;

/// The most prefixes of one client.
const PREFIXES: usize = 100;

/// The options of CLIENT TRACKING, before they are checked.
#[derive(Default)]
struct Options<'a> {
    redirect: u64,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    skips_own: bool,
    prefixes: Vec<&'a [u8]>,
}

pub fn client_tracking(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let options = read(client, &words[3..])?;
    match () {
        () if is(words[2], "on") => {
            let state = begin(client.tracking(), options)?;
            client.track(Some(state))?;
        }
        () if is(words[2], "off") => client.track(None)?,
        () => return Err(SYNTAX.into()),
    }
    Ok(Reply::Ok)
}

fn read<'a>(client: &dyn Client, mut rest: &'a Words<'a>) -> Result<Options<'a>, Text> {
    let mut options = Options::default();
    while let [option, after @ ..] = rest {
        rest = after;
        match after {
            [id, after @ ..] if is(option, "redirect") => {
                if options.redirect != 0 {
                    return Err("ERR A client can only redirect to a single other client".into());
                }
                let id = u64::try_from(integer(id).ok_or(NOT_AN_INTEGER)?).unwrap_or(0);
                if !client.is_connected(id) {
                    return Err("ERR The client ID you want redirect to does not exist".into());
                }
                options.redirect = id;
                rest = after;
            }
            [prefix, after @ ..] if is(option, "prefix") => {
                options.prefixes.push(prefix);
                rest = after;
            }
            _ if is(option, "bcast") => options.broadcast = true,
            _ if is(option, "optin") => options.opt_in = true,
            _ if is(option, "optout") => options.opt_out = true,
            _ if is(option, "noloop") => options.skips_own = true,
            _ => return Err(SYNTAX.into()),
        }
    }
    Ok(options)
}

/// The state of a client that tracks in this way from now on, if that fits how it has tracked before.
fn begin(before: Option<TrackingState>, options: Options<'_>) -> Result<TrackingState, Text> {
    let Options { redirect, broadcast, opt_in, opt_out, skips_own, prefixes } = options;
    if !broadcast && !prefixes.is_empty() {
        return Err("ERR PREFIX option requires BCAST mode to be enabled".into());
    }
    let old_mode = before.as_ref().map(|before| before.mode);
    if old_mode.is_some_and(|mode| (mode == TrackingMode::Broadcast) != broadcast) {
        return Err(switched("BCAST mode on/off"));
    }
    if broadcast && (opt_in || opt_out) {
        return Err("ERR OPTIN and OPTOUT are not compatible with BCAST".into());
    }
    let mode = match (broadcast, opt_in, opt_out) {
        (_, true, true) => {
            return Err("ERR You can't specify both OPTIN mode and OPTOUT mode".into());
        }
        (true, ..) => TrackingMode::Broadcast,
        (_, true, _) => TrackingMode::OptIn,
        (_, _, true) => TrackingMode::OptOut,
        _ => TrackingMode::All,
    };
    use TrackingMode::{OptIn, OptOut};
    if matches!((old_mode, mode), (Some(OptIn), OptOut) | (Some(OptOut), OptIn)) {
        return Err(switched("OPTIN/OPTOUT mode"));
    }
    let old = before.map(|before| before.prefixes).unwrap_or_default();
    let prefixes = match broadcast {
        true => joined(old, prefixes)?,
        false => Vec::new(),
    };
    Ok(TrackingState { mode, redirect, skips_own, prefixes, is_broken: false })
}

fn switched(what: &str) -> Text {
    format!(
        "ERR You can't switch {what} before disabling tracking for this client, and then re-enabling it with \
         a different mode."
    )
    .into()
}

/// All prefixes of a client, with those that it asks for now.
fn joined(mut old: Vec<Box<[u8]>>, new: Vec<&[u8]>) -> Result<Vec<Box<[u8]>>, Text> {
    let overlap = |one: &[u8], other: &[u8]| one.starts_with(other) || other.starts_with(one);
    for (place, prefix) in new.iter().enumerate() {
        let existing = old.iter().find(|other| overlap(prefix, other)).map(|other| &other[..]);
        let provided = new[place + 1..].iter().find(|other| overlap(prefix, other)).copied();
        let (other, which) = match (existing, provided) {
            (Some(other), _) => (other, "an existing"),
            (None, Some(other)) => (other, "another provided"),
            (None, None) => continue,
        };
        let (prefix, other) = (shown(prefix), shown(other));
        let text = format!(
            "ERR Prefix '{prefix}' overlaps with {which} prefix '{other}'. Prefixes for a single client must \
             not overlap."
        );
        return Err(text.into());
    }
    old.extend(new.into_iter().map(Box::from));
    // Without a prefix it is about all keys.
    if old.is_empty() {
        old.push(Box::default());
    }
    match old.len() {
        ..=PREFIXES => Ok(old),
        _ => Err(format!("ERR a client may have {PREFIXES} prefixes").into()),
    }
}

pub fn client_caching(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let mode = client.tracking().map(|state| state.mode).ok_or(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode \
         enabled",
    )?;
    let (wanted, error) = match () {
        () if is(words[2], "yes") => (
            TrackingMode::OptIn,
            "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
        ),
        () if is(words[2], "no") => (
            TrackingMode::OptOut,
            "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
        ),
        () => return Err(SYNTAX.into()),
    };
    if mode != wanted {
        return Err(error.into());
    }
    client.give_caching();
    Ok(Reply::Ok)
}

pub fn client_getredir(client: &mut dyn Client, _: &Words<'_>) -> Said {
    Ok(Reply::Integer(redirection(client.tracking().as_ref())))
}

fn redirection(state: Option<&TrackingState>) -> i64 {
    state.map_or(-1, |state| state.redirect as i64)
}

pub fn client_trackinginfo(client: &mut dyn Client, _: &Words<'_>) -> Said {
    let state = client.tracking();
    let mut flags = vec![if state.is_some() { "on" } else { "off" }];
    if let Some(state) = &state {
        let (mode, caching) = match state.mode {
            TrackingMode::All => ("", ""),
            TrackingMode::Broadcast => ("bcast", ""),
            TrackingMode::OptIn => ("optin", "caching-yes"),
            TrackingMode::OptOut => ("optout", "caching-no"),
        };
        let more = [
            (true, mode),
            (client.has_given_caching(), caching),
            (state.skips_own, "noloop"),
            (state.is_broken, "broken_redirect"),
        ];
        flags
            .extend(more.iter().filter(|(is_so, name)| *is_so && !name.is_empty()).map(|(_, n)| n));
    }
    let text = |text: &str| Reply::bulk(text.as_bytes());
    let prefixes = state.iter().flat_map(|state| &state.prefixes);
    Ok(Reply::Map(vec![
        text("flags"),
        Reply::Set(flags.into_iter().map(text).collect()),
        text("redirect"),
        Reply::Integer(redirection(state.as_ref())),
        text("prefixes"),
        Reply::Array(prefixes.map(|prefix| Reply::bulk(prefix)).collect()),
    ]))
}
