//! Commands about the server as a whole.

use super::words::*;
use crate::command::{Client, REDIS_VERSION, Reply, Text, Words, is};
use crate::glob::Glob;

type Said = Result<Reply<'static>, Text>;

pub fn info(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let sections: Vec<_> = words[1..].iter().map(|word| shown(word).to_lowercase()).collect();
    Ok(Reply::text(client.info(&sections)))
}

/// Names of settings are in lower case; a pattern may be in any, as in Redis.
pub fn config_get(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let settings = client.settings();
    let mut wanted = vec![false; settings.len()];
    for word in &words[2..] {
        let mut glob = Glob::new(&pattern(word)?.to_ascii_lowercase());
        for ((name, _), wanted) in settings.iter().zip(&mut wanted) {
            *wanted |= glob.matches(name.as_bytes());
        }
    }
    let found = settings.into_iter().zip(wanted).filter(|(_, wanted)| *wanted);
    let pair = |((name, value), _): ((&str, String), bool)| {
        [Reply::bulk(name.as_bytes()), Reply::bulk(value.as_bytes())]
    };
    Ok(Reply::Map(found.flat_map(pair).collect()))
}

pub fn config_set(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let (pairs, rest) = words[2..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(wrong_number("config|set"));
    }
    client.change_settings(pairs)?;
    Ok(Reply::Ok)
}

pub fn config_resetstat(client: &mut dyn Client, _: &Words<'_>) -> Said {
    client.reset_statistics();
    Ok(Reply::Ok)
}

pub fn config_rewrite(_: &Words<'_>) -> Said {
    Err("ERR The server is running without a config file".into())
}

pub fn save(client: &mut dyn Client, _: &Words<'_>) -> Said {
    client.save()?;
    Ok(Reply::Ok)
}

pub fn bgsave(client: &mut dyn Client, words: &Words<'_>) -> Said {
    match &words[1..] {
        [] => client.compact().map(|()| Reply::Simple("Background saving started")),
        [option] if is(option, "schedule") => Ok(match client.compact_soon()? {
            true => Reply::Simple("Background saving started"),
            false => Reply::Simple("Background saving scheduled"),
        }),
        _ => Err(SYNTAX.into()),
    }
}

/// Everything that was answered is in the log, so that SAVE and NOSAVE lose as little; FORCE and NOW have nothing to
/// skip, since no stop waits for a snapshot or for a replica.
pub fn shutdown(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let (mut saves, mut skips, mut aborts, mut others) = (false, false, false, false);
    for option in &words[1..] {
        match () {
            () if is(option, "nosave") => skips = true,
            () if is(option, "save") => saves = true,
            () if is(option, "now") || is(option, "force") => others = true,
            () if is(option, "abort") => aborts = true,
            () => return Err(SYNTAX.into()),
        }
    }
    if saves && skips || aborts && (saves || skips || others) {
        return Err(SYNTAX.into());
    }
    if aborts {
        return Err("ERR No shutdown in progress.".into());
    }
    client.shut_down();
    Ok(Reply::Ok)
}

pub fn lolwut(words: &Words<'_>) -> Said {
    if let [option, version, ..] = &words[1..]
        && is(option, "version")
    {
        number(version)?;
    }
    Ok(Reply::text(format!("Every +OK is on disk.\n\nRedis ver. {REDIS_VERSION}\n")))
}

/// A reply is sent after its write is on disk, if that is so for all of them; then the local log has it at once.
pub fn waitaof(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let local = number(words[1])?;
    if !(0..=1).contains(&local) {
        return Err("ERR value is out of range, value must between 0 and 1".into());
    }
    if number(words[2])? > 0 {
        return Err("ERR there are no replicas to wait for".into());
    }
    if number(words[3]).map_err(|_| "ERR timeout is not an integer or out of range")? < 0 {
        return Err("ERR timeout is negative".into());
    }
    let settings = client.settings();
    let is = |name, value| settings.iter().any(|(it, is)| *it == name && is == value);
    match () {
        () if local == 1 && is("appendonly", "no") => {
            Err("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."
                .into())
        }
        () if local == 1 && !is("appendfsync", "always") => {
            Err("ERR only with -fsync always it is known when a write is on disk".into())
        }
        () => Ok(Reply::Array(vec![
            Reply::Integer(is("appendfsync", "always").into()),
            Reply::Integer(0),
        ])),
    }
}

pub fn bgrewriteaof(client: &mut dyn Client, _: &Words<'_>) -> Said {
    client.compact()?;
    Ok(Reply::Simple("Background append only file rewriting started"))
}

#[cfg(feature = "scripts")]
pub fn script_kill(client: &mut dyn Client, _: &Words<'_>) -> Said {
    client.kill_script()?;
    Ok(Reply::Ok)
}

pub fn lastsave(client: &mut dyn Client, _: &Words<'_>) -> Said {
    Ok(Reply::Integer(client.saved_at()))
}

pub fn time(_: &Words<'_>) -> Said {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let part = |number: u64| Reply::bulk(number.to_string().as_bytes());
    Ok(Reply::Array(vec![part(now.as_secs()), part(now.subsec_micros().into())]))
}

/// There are no replicas: a request for none is met at once, and one for more would wait for ever.
pub fn wait(words: &Words<'_>) -> Said {
    let replicas = number(words[1])?;
    if number(words[2]).map_err(|_| "ERR timeout is not an integer or out of range")? < 0 {
        return Err("ERR timeout is negative".into());
    }
    match replicas {
        ..=0 => Ok(Reply::Integer(0)),
        _ => {
            Err("ERR there are no replicas to wait for; every reply to a write means it is on disk"
                .into())
        }
    }
}
