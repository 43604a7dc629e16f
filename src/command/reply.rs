//! Replies, and how they are to be spelled.

use std::borrow::Cow;
use std::sync::Arc;

/// An answer, before a protocol spells it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply<'a> {
    /// It was done, and is on disk.
    Ok,
    /// There is no such thing.
    Null,
    /// EXEC's reply when a watched key has changed.
    NullArray,
    /// A word of the protocol.
    Simple(&'static str),
    /// A number.
    Integer(i64),
    /// A value.
    Bulk(Cow<'a, [u8]>),
    /// Lines of text for people, which RESP3 marks as such.
    Verbatim(Cow<'a, [u8]>),
    /// A text that is marked as of some kind.
    Marked([u8; 3], Cow<'a, [u8]>),
    /// A word of a script's, in which line ends become spaces.
    Status(Cow<'a, [u8]>),
    /// A floating-point number.
    Double(f64),
    /// A truth value; in RESP2 1 or 0.
    Boolean(bool),
    /// The digits of a number of any size.
    BigNumber(Cow<'a, [u8]>),
    /// A list.
    Array(Vec<Reply<'a>>),
    /// Names and values, alternating.
    Map(Vec<Reply<'a>>),
    /// A set; in RESP2 a list.
    Set(Vec<Reply<'a>>),
    /// It was not done; the text says why, and begins with an error code.
    Error(Cow<'a, str>),
    /// It was not done, because the log takes no more writes, for this reason.
    NotDurable(Arc<str>),
}

impl Reply<'_> {
    /// A value.
    pub fn bulk(bytes: &[u8]) -> Reply<'static> {
        Reply::Bulk(bytes.to_vec().into())
    }

    /// Lines of text.
    pub fn text(text: String) -> Reply<'static> {
        Reply::Verbatim(text.into_bytes().into())
    }

    /// A copy that borrows nothing.
    pub fn to_owned_reply(&self) -> Reply<'static> {
        let all = |items: &[Reply<'_>]| items.iter().map(Reply::to_owned_reply).collect();
        match self {
            Reply::Ok => Reply::Ok,
            Reply::Null => Reply::Null,
            Reply::NullArray => Reply::NullArray,
            Reply::Simple(word) => Reply::Simple(word),
            Reply::Integer(number) => Reply::Integer(*number),
            Reply::Bulk(bytes) => Reply::bulk(bytes),
            Reply::Verbatim(bytes) => Reply::Verbatim(bytes.to_vec().into()),
            Reply::Marked(kind, bytes) => Reply::Marked(*kind, bytes.to_vec().into()),
            Reply::Status(bytes) => Reply::Status(bytes.to_vec().into()),
            Reply::Double(number) => Reply::Double(*number),
            Reply::Boolean(is) => Reply::Boolean(*is),
            Reply::BigNumber(digits) => Reply::BigNumber(digits.to_vec().into()),
            Reply::Array(items) => Reply::Array(all(items)),
            Reply::Set(items) => Reply::Set(all(items)),
            Reply::Map(items) => Reply::Map(all(items)),
            Reply::Error(text) => Reply::Error(text.clone().into_owned().into()),
            Reply::NotDurable(reason) => Reply::NotDurable(reason.clone()),
        }
    }

    /// Roughly what it takes up beside the enum itself.
    pub fn bytes(&self) -> usize {
        match self {
            Reply::Bulk(bytes)
            | Reply::Verbatim(bytes)
            | Reply::Marked(_, bytes)
            | Reply::Status(bytes)
            | Reply::BigNumber(bytes) => bytes.len(),
            Reply::Array(items) | Reply::Map(items) | Reply::Set(items) => {
                items.iter().map(|item| size_of::<Reply<'_>>() + item.bytes()).sum()
            }
            Reply::Error(text) => text.len(),
            _ => 0,
        }
    }
}

/// How a client spelled a command and wants the reply spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A line typed by a person or a script; the reply ends as it did.
    Text(LineEnd),
    /// The Redis serialization protocol.
    Resp(RespVersion),
}

/// What ended a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// `\n`, as `nc` sends it.
    Lf,
    /// `\r\n`, as telnet and network protocols have it.
    CrLf,
}

/// The version of the Redis protocol that the client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RespVersion {
    /// The one that all clients begin with.
    #[default]
    V2,
    /// The one that HELLO 3 asks for.
    V3,
}

impl RespVersion {
    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            RespVersion::V2 => 2,
            RespVersion::V3 => 3,
        }
    }
}
