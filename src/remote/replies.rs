//! Replies in RESP2, read with a limit: a length that a server announces takes no memory before its bytes have come.

use std::io::{self, BufRead, ErrorKind, Read};

/// The longest line of a reply: more than the longest error.
const MOST_LINE: u64 = 64 << 10;

/// A reply to one command.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// A word or a sentence.
    Text(String),
    /// A command that was refused, and why.
    Refused(String),
    /// A number.
    Number(i64),
    /// Any bytes.
    Bytes(Vec<u8>),
    /// No value.
    Nothing,
}

impl Reply {
    /// Reads one. `most` is the limit for bytes.
    pub fn read(from: &mut impl BufRead, most: u64) -> io::Result<Reply> {
        let line = line(from)?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| strange("an empty line"))?;
        match kind {
            "+" => Ok(Reply::Text(rest.to_owned())),
            "-" => Ok(Reply::Refused(rest.to_owned())),
            ":" => Ok(Reply::Number(number(rest)?)),
            "$" => match number(rest)? {
                -1 => Ok(Reply::Nothing),
                length => Ok(Reply::Bytes(bytes(from, length, most)?)),
            },
            _ => Err(strange("a reply of another kind than was asked for")),
        }
    }

    /// As a message names it.
    pub fn shown(&self) -> String {
        match self {
            Reply::Text(text) | Reply::Refused(text) => printable(text),
            Reply::Number(number) => number.to_string(),
            Reply::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Reply::Nothing => "nothing".to_owned(),
        }
    }
}

/// A text without what a terminal would obey.
pub fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.take(MOST_LINE).read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None if line.len() as u64 == MOST_LINE => Err(strange("a line without an end")),
        None if line.ends_with(b"\n") => Err(strange("a line that is none of RESP")),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(|_| strange("a number that is none"))
}

fn bytes(from: &mut impl BufRead, length: i64, most: u64) -> io::Result<Vec<u8>> {
    let length = u64::try_from(length).map_err(|_| strange("a length below zero"))?;
    if length > most {
        return Err(strange(&format!("{length} bytes, more than the {most} that make sense")));
    }
    let mut bytes = Vec::new();
    from.take(length + 2).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length + 2 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    match bytes.ends_with(b"\r\n") {
        true => {
            bytes.truncate(length as usize);
            Ok(bytes)
        }
        false => Err(strange("bytes that do not end where they were said to")),
    }
}

fn strange(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("it answers with {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> io::Result<Reply> {
        Reply::read(&mut { text }, 100)
    }

    #[test]
    fn each_kind_of_reply_is_read() {
        for (text, reply) in [
            ("+PONG\r\n", Reply::Text("PONG".into())),
            ("-ERR no\r\n", Reply::Refused("ERR no".into())),
            (":-7\r\n", Reply::Number(-7)),
            ("$-1\r\n", Reply::Nothing),
            ("$0\r\n\r\n", Reply::Bytes(Vec::new())),
            ("$3\r\na\r\n\r\n", Reply::Bytes(b"a\r\n".into())),
        ] {
            assert_eq!(read(text.as_bytes()).expect(text), reply);
        }
    }

    #[test]
    fn a_server_that_lies_about_lengths_is_not_believed() {
        let endless = format!("+{}", "x".repeat(MOST_LINE as usize));
        for (text, why) in [
            ("$101\r\n", "101 bytes, more than"),
            ("$9223372036854775807\r\n", "more than"),
            ("$-2\r\n", "below zero"),
            ("$99999999999999999999\r\n", "a number that is none"),
            ("$3\r\nabcd\r\n", "do not end"),
            ("*1\r\n", "another kind"),
            ("HTTP/1.1 200 OK\r\n", "another kind"),
            ("\r\n", "an empty line"),
            ("+a\n", "none of RESP"),
            (&endless, "without an end"),
        ] {
            let error = read(text.as_bytes()).expect_err(text);
            assert!(error.to_string().contains(why), "{why}: {error}");
        }
        for text in ["", "+", "+PONG", "$3\r\n", "$3\r\nabc", "$3\r\nabc\r"] {
            let error = read(text.as_bytes()).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{text:?}");
        }
    }
}
