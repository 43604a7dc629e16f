//! Commands that change something only if it is as the client expects: for locks and for optimistic updates
//! without a script. SET's own conditions are read here too.
//!
//! DELEX, DIGEST and the conditions are Redis 8.4's, DELIFEQ is Valkey's, and MSETEX is in both.

use super::expiry;
use super::words::*;
use crate::command::{
    Answer, Comparison, Edit, Expected, Mutation, Reply, Text, View, Wanted, Words, digest,
    integer, is, look,
};
use crate::entry::Entry;

/// Hexadecimal digits of a digest.
const DIGEST_DIGITS: usize = 16;

/// If `option` is one of IFEQ, IFNE, IFDEQ and IFDNE: the comparison that it makes with `operand`.
pub fn comparison(option: &[u8], operand: &[u8]) -> Option<Result<Comparison, Text>> {
    let value = || Ok(Expected::Value(operand.into()));
    let (with, wanted) = match () {
        () if is(option, "ifeq") => (value(), Wanted::Equal),
        () if is(option, "ifne") => (value(), Wanted::Different),
        () if is(option, "ifdeq") => (read_digest(operand), Wanted::Equal),
        () if is(option, "ifdne") => (read_digest(operand), Wanted::Different),
        () => return None,
    };
    Some(with.map(|with| Comparison { with, wanted }))
}

fn read_digest(word: &[u8]) -> Result<Expected, Text> {
    let is_digest = word.len() == DIGEST_DIGITS && word.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(word).ok().filter(|_| is_digest);
    let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let wrong = || format!("ERR digest must be exactly {DIGEST_DIGITS} hexadecimal characters");
    number.map(Expected::Digest).ok_or_else(|| wrong().into())
}

pub fn digest_of(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    may_look_through(view, words[1], answer)?;
    let found = look(view, words[1], |entry| entry.map(|entry| digest(entry.value())));
    view.count_read(words[1], found.is_some());
    let text = found.map(|digest| format!("{digest:0DIGEST_DIGITS$x}"));
    answer.put(&text.map_or(Reply::Null, |text| Reply::bulk(text.as_bytes())))
}

pub fn delex(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let comparison = match &words[2..] {
        [] => return Ok(Reply::Integer(view.remove(words[1])?.into())),
        [option, operand] => comparison(option, operand)
            .ok_or("ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE")??,
        _ => return Err(wrong_number("delex").into()),
    };
    remove_if(view, words[1], &comparison)
}

pub fn delifeq(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let with = Expected::Value(words[2].into());
    remove_if(view, words[1], &Comparison { with, wanted: Wanted::Equal })
}

/// Removes a key that is there and as it is wanted.
fn remove_if(view: &mut dyn Edit, key: &[u8], comparison: &Comparison) -> Written {
    let (length, _) = shape(view, key);
    view.look_through(comparison.looks_at(length))?;
    let is_wanted =
        |entry: Option<&Entry>| entry.is_some_and(|it| comparison.holds(Some(it.value())));
    let removes = look(view, key, is_wanted);
    if removes {
        view.remove(key)?;
    }
    Ok(Reply::Integer(removes.into()))
}

pub fn msetex(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let count = integer(words[1]).and_then(|count| i32::try_from(count).ok());
    let count = count.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
    let words_of_pairs = count.ok_or("ERR invalid numkeys value")? * 2;
    let after = words[2..].split_at_checked(words_of_pairs);
    let (pairs, rest) = after.ok_or("ERR wrong number of key-value pairs")?;
    let options = Options::read(rest)?;
    let (pairs, _) = pairs.as_chunks::<2>();
    let is_met = match options.existing {
        None => true,
        Some(wanted) => pairs.iter().all(|[key, _]| view.has(key) == wanted),
    };
    if is_met {
        for [key, value] in pairs {
            let kept = match options.keeps_expiry {
                true => shape(view, key).1,
                false => options.expires_at,
            };
            view.push(Mutation::Set(Entry::expiring(key, value, kept)))?;
        }
    }
    Ok(Reply::Integer(is_met.into()))
}

/// The options of MSETEX. Each kind may be given once, or the same again.
#[derive(Default)]
struct Options {
    /// Whether all keys have to be there, or have to be missing.
    existing: Option<bool>,
    expires_at: Option<i64>,
    keeps_expiry: bool,
}

impl Options {
    fn read<'a>(mut rest: &'a Words<'a>) -> Result<Options, Text> {
        let mut options = Options::default();
        while let [option, after @ ..] = rest {
            rest = after;
            let has_expiry = options.expires_at.is_some() || options.keeps_expiry;
            match () {
                () if is(option, "nx") && options.existing != Some(true) => {
                    options.existing = Some(false);
                }
                () if is(option, "xx") && options.existing != Some(false) => {
                    options.existing = Some(true);
                }
                () if is(option, "keepttl") && options.expires_at.is_none() => {
                    options.keeps_expiry = true;
                }
                () if has_expiry => return Err(SYNTAX.into()),
                () => {
                    let (_, at, after) = expiry::option(option, rest, "msetex").ok_or(SYNTAX)?;
                    options.expires_at = Some(at?);
                    rest = after;
                }
            }
        }
        Ok(options)
    }
}
