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
