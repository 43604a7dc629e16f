//! Messages between clients: publishing, and what there is to hear. Subscribing is the session's.

use super::words::*;
use crate::command::{Answer, Client, Reply, Scope, TOO_LONG, Text, Topic, View, Words};
use crate::glob::Glob;

type Said = Result<Reply<'static>, Text>;

/// The longest name of a channel: that of a key by default. Every pattern that someone has subscribed to is
/// compared with all of it.
pub const CHANNEL_BYTES: usize = 64 * 1024;

/// The most channels that one command counts, so that its reply is not much longer than a page.
const COUNTED: usize = 10_000;

pub fn publish(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    send(view, Scope::All, words, answer)
}

pub fn spublish(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    send(view, Scope::Shard, words, answer)
}

fn send(view: &mut dyn View, scope: Scope, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let heard = view.publish(scope, channel(words[1])?, words[2])?;
    answer.put(&Reply::Integer(heard))
}

/// A name that a channel may have.
fn channel(name: &[u8]) -> Result<&[u8], Text> {
    match name.len() {
        ..=CHANNEL_BYTES => Ok(name),
        _ => Err(format!("ERR channel is too long, the limit is {CHANNEL_BYTES} bytes").into()),
    }
}

/// A name that a client may subscribe to.
pub fn topic(topic: Topic, name: &[u8]) -> Result<&[u8], Text> {
    match topic {
        Topic::Pattern => pattern(name),
        Topic::Channel | Topic::Shard => channel(name),
    }
}

pub fn channels(client: &mut dyn Client, words: &Words<'_>) -> Said {
    list(client, Scope::All, words)
}

pub fn shardchannels(client: &mut dyn Client, words: &Words<'_>) -> Said {
    list(client, Scope::Shard, words)
}

fn list(client: &mut dyn Client, scope: Scope, words: &Words<'_>) -> Said {
    let mut glob = match &words[2..] {
        [] => None,
        [wanted] => Some(Glob::new(pattern(wanted)?)),
        _ => return Err(wrong_subcommand(words)),
    };
    let mut fits = |name: &[u8]| glob.as_mut().is_none_or(|glob| glob.matches(name));
    let names = client.channels(scope, &mut fits).ok_or(TOO_LONG)?;
    Ok(Reply::Array(names.into_iter().map(|name| Reply::Bulk(name.into_vec().into())).collect()))
}

/// Redis's error for too many words after a subcommand that takes an optional one.
fn wrong_subcommand(words: &Words<'_>) -> Text {
    let name = shown(words[1]);
    format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try PUBSUB HELP.")
        .into()
}

pub fn numsub(client: &mut dyn Client, words: &Words<'_>) -> Said {
    count(client, Topic::Channel, words)
}

pub fn shardnumsub(client: &mut dyn Client, words: &Words<'_>) -> Said {
    count(client, Topic::Shard, words)
}

fn count(client: &mut dyn Client, topic: Topic, words: &Words<'_>) -> Said {
    if words.len() - 2 > COUNTED {
        return Err(format!("ERR at most {COUNTED} channels are counted at a time").into());
    }
    let pair =
        |name: &&[u8]| [Reply::bulk(name), Reply::Integer(client.subscribers(topic, name) as i64)];
    Ok(Reply::Array(words[2..].iter().flat_map(pair).collect()))
}

pub fn numpat(client: &mut dyn Client, _: &Words<'_>) -> Said {
    Ok(Reply::Integer(client.patterns() as i64))
}
