//! Commands about the server as a whole.

use super::words::*;
use crate::command::{Client, Reply, Text, Words};
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
