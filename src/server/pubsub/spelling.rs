//! How a message is spelled: a list in RESP2, a push in RESP3. Clients of the text protocol get what those of
//! RESP2 get, as Redis does it for a person with `nc`.

use crate::command::{Reply, RespVersion};
use crate::protocol;

/// A message of these words, spelled once for each version that someone wants.
pub struct Spelled<'a, const WORDS: usize> {
    words: [&'a [u8]; WORDS],
    spelled: [Vec<u8>; 2],
}

impl<'a, const WORDS: usize> Spelled<'a, WORDS> {
    /// The message, not spelled yet.
    pub fn new(words: [&'a [u8]; WORDS]) -> Self {
        Spelled { words, spelled: Default::default() }
    }

    /// The message in this version.
    pub fn in_version(&mut self, version: RespVersion) -> &[u8] {
        let place = match version {
            RespVersion::V2 => 0,
            RespVersion::V3 => 1,
        };
        let spelled = &mut self.spelled[place];
        if spelled.is_empty() {
            protocol::encode_push_head(version, WORDS, spelled);
            for word in self.words {
                protocol::encode_resp(version, &Reply::Bulk(word.into()), spelled);
            }
        }
        spelled
    }
}

/// Appends the confirmation that a client is subscribed, or no longer, to something; it has `count` subscriptions
/// now.
pub fn confirm(
    version: RespVersion,
    what: &'static str,
    name: Option<&[u8]>,
    count: usize,
    out: &mut Vec<u8>,
) {
    protocol::encode_push_head(version, 3, out);
    let name = name.map_or(Reply::Null, |name| Reply::Bulk(name.into()));
    for reply in [Reply::Bulk(what.as_bytes().into()), name, Reply::Integer(count as i64)] {
        protocol::encode_resp(version, &reply, out);
    }
}

/// The channel on which a client in RESP2 hears of changed keys.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// Tells that keys have changed, spelled once for each form that someone wants.
pub struct Invalidation<'a> {
    keys: Option<&'a [&'a [u8]]>,
    push: Vec<u8>,
    message: Vec<u8>,
}

impl<'a> Invalidation<'a> {
    /// Of these keys; `None` stands for all.
    pub fn of(keys: Option<&'a [&'a [u8]]>) -> Invalidation<'a> {
        Invalidation { keys, push: Vec::new(), message: Vec::new() }
    }

    /// As a push in RESP3.
    pub fn pushed(&mut self) -> &[u8] {
        if self.push.is_empty() {
            protocol::encode_push_head(RespVersion::V3, 2, &mut self.push);
            let word = Reply::Bulk(b"invalidate"[..].into());
            protocol::encode_resp(RespVersion::V3, &word, &mut self.push);
            self.encode_keys(RespVersion::V3);
        }
        &self.push
    }

    /// As a message in RESP2, for a subscriber.
    pub fn as_message(&mut self) -> &[u8] {
        if self.message.is_empty() {
            protocol::encode_push_head(RespVersion::V2, 3, &mut self.message);
            for word in [&b"message"[..], CHANNEL] {
                let word = Reply::Bulk(word.into());
                protocol::encode_resp(RespVersion::V2, &word, &mut self.message);
            }
            self.encode_keys(RespVersion::V2);
        }
        &self.message
    }

    fn encode_keys(&mut self, version: RespVersion) {
        let keys = self.keys.map_or(Reply::Null, |keys| {
            Reply::Array(keys.iter().map(|key| Reply::Bulk((*key).into())).collect())
        });
        let out = match version {
            RespVersion::V2 => &mut self.message,
            RespVersion::V3 => &mut self.push,
        };
        protocol::encode_resp(version, &keys, out);
    }
}

/// Tells a client in RESP3 that nobody with this number can be told in its place any more.
pub fn broken_redirection(id: u64) -> Vec<u8> {
    let mut out = Vec::new();
    protocol::encode_push_head(RespVersion::V3, 2, &mut out);
    for reply in [Reply::Bulk(b"tracking-redir-broken"[..].into()), Reply::Integer(id as i64)] {
        protocol::encode_resp(RespVersion::V3, &reply, &mut out);
    }
    out
}
