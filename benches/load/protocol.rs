//! Bytes on the wire, in both protocols. A request is made once, and only the key's digits change
//! from one to the next; a reply is read where it lies. Replies look alike in both protocols.

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

/// The key of number 0; every other key differs from it in the digits alone.
pub const ZERO_KEY: &str = "key:000000000000";
const DIGITS: usize = 12;

/// How a request is written.
#[derive(Clone, Copy, ValueEnum)]
pub enum Protocol {
    /// Words on a line: `GET key`
    Text,
    /// Redis's: an array of strings, each with its length before it
    Resp,
}

impl Protocol {
    pub fn encode(self, words: &[&str]) -> Vec<u8> {
        let text = match self {
            Protocol::Text => words.join(" ") + "\r\n",
            Protocol::Resp => {
                let strings = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
                format!("*{}\r\n", words.len()) + &strings.collect::<String>()
            }
        };
        text.into_bytes()
    }
}

/// The requests that the clients of one server send.
pub struct Requests {
    pub set: Request,
    pub get: Request,
    pub del: Request,
    /// One of the keys of an MGET.
    mget_key: Request,
    /// Any server answers it as soon as it serves; in text, by saying that there is no x.
    pub ping: Vec<u8>,
}

impl Requests {
    /// With `expire` every SET gives its key this many seconds, which the text protocol cannot say: these
    /// requests are always RESP.
    pub fn new(protocol: Protocol, value_bytes: usize, expire: Option<u64>) -> Requests {
        let value: String = ('a'..='z').cycle().take(value_bytes).collect();
        let set = match expire.map(|seconds| seconds.to_string()) {
            Some(seconds) => Protocol::Resp.encode(&["SET", ZERO_KEY, &value, "EX", &seconds]),
            None => protocol.encode(&["SET", ZERO_KEY, &value]),
        };
        Requests {
            set: Request::new(set),
            get: Request::new(protocol.encode(&["GET", ZERO_KEY])),
            del: Request::new(protocol.encode(&["DEL", ZERO_KEY])),
            mget_key: Request::new(format!("${}\r\n{ZERO_KEY}\r\n", ZERO_KEY.len()).into_bytes()),
            ping: match protocol {
                Protocol::Text => protocol.encode(&["GET", "x"]),
                Protocol::Resp => protocol.encode(&["PING"]),
            },
        }
    }

    /// Appends one MGET of `count` keys, in RESP whatever the other requests are: only there a reply
    /// has several values.
    pub fn append_mget(&self, output: &mut Vec<u8>, count: usize, keys: impl Iterator<Item = u64>) {
        output.extend_from_slice(format!("*{}\r\n$4\r\nMGET\r\n", count + 1).as_bytes());
        keys.for_each(|key| self.mget_key.append_to(output, key));
    }
}

/// A request with room for any key.
pub struct Request {
    bytes: Vec<u8>,
    digits_at: usize,
}

impl Request {
    fn new(bytes: Vec<u8>) -> Request {
        let key_at = memchr::memmem::find(&bytes, ZERO_KEY.as_bytes());
        let digits_at = key_at.expect("every request names a key") + ZERO_KEY.len() - DIGITS;
        Request { bytes, digits_at }
    }

    /// Appends this request for the key of that number.
    pub fn append_to(&self, output: &mut Vec<u8>, key: u64) {
        let digits_at = output.len() + self.digits_at;
        output.extend_from_slice(&self.bytes);

        let mut rest = key;
        for digit in output[digits_at..][..DIGITS].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

/// The length of the first reply in `input`, or nothing while it is not complete.
pub fn reply_length(input: &[u8]) -> Result<Option<usize>> {
    let Some(newline) = memchr::memchr(b'\n', input) else {
        return Ok(None);
    };
    let line = &input[..newline + 1];
    let length = match line.trim_ascii_end() {
        // A simple string, an error, an integer, and the two ways to say null.
        [b'+' | b'-' | b':' | b'_', ..] | b"$-1" => line.len(),
        // A bulk string: its length on the line, then as many bytes and a CR LF.
        [b'$', length @ ..] => line.len() + number(length)? as usize + 2,
        // An array: how many replies follow, which are its elements.
        [b'*', count @ ..] => {
            let mut length = line.len();
            for _ in 0..number(count)? {
                let Some(element) = input.get(length..).map(reply_length).transpose()?.flatten()
                else {
                    return Ok(None);
                };
                length += element;
            }
            length
        }
        _ => bail!("not a reply: {:?}", String::from_utf8_lossy(line)),
    };
    Ok((length <= input.len()).then_some(length))
}

fn number(digits: &[u8]) -> Result<u32> {
    str::from_utf8(digits)?.parse().context("a length in a reply")
}

/// Refuses an error, and a null: only keys stored before are asked for, so a miss is a lost write.
pub fn expect_success(reply: &[u8]) -> Result<()> {
    match reply {
        [b'-', ..] => bail!("it answered {}", String::from_utf8_lossy(reply).trim_end()),
        [b'_', ..] | [b'$', b'-', ..] => bail!("it does not know a key that was stored"),
        [b'*', ..] => {
            let mut at = memchr::memchr(b'\n', reply).map_or(reply.len(), |newline| newline + 1);
            while let Some(length) = reply_length(&reply[at..])? {
                expect_success(&reply[at..][..length])?;
                at += length;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
