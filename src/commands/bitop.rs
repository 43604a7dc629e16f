//! BITOP: a value made out of others, bit by bit. Shorter values are followed by zeros.

use super::words::*;
use crate::command::{Edit, Mutation, Reply, Words, is, look};
use crate::entry::Entry;

/// Bytes of all sources together. The committer goes through them while all other writes wait: a fifth of a
/// second or so, as for the longest value.
const SOURCE_BYTES: usize = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
    /// What only the first has.
    Diff,
    /// What the others have and the first has not.
    Diff1,
    /// What the first and one of the others have.
    AndOr,
    /// What exactly one has.
    One,
}

use Operation::*;

const NAMES: [(&str, Operation); 8] = [
    ("and", And),
    ("or", Or),
    ("xor", Xor),
    ("not", Not),
    ("diff", Diff),
    ("diff1", Diff1),
    ("andor", AndOr),
    ("one", One),
];

pub fn bitop(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let named = NAMES.iter().find(|(name, _)| is(words[1], name));
    let (name, operation) = *named.ok_or(SYNTAX)?;
    let (to, sources) = (words[2], &words[3..]);
    match operation {
        Not if sources.len() != 1 => {
            return Err("ERR BITOP NOT must be called with a single source key.".into());
        }
        Diff | Diff1 | AndOr if sources.len() < 2 => {
            let name = name.to_uppercase();
            let text = format!("ERR BITOP {name} must be called with at least two source keys.");
            return Err(crate::command::Text::from(text).into());
        }
        _ => {}
    }
    let (mut longest, mut total) = (0_usize, 0_usize);
    let mut found = Vec::with_capacity(sources.len());
    view.shapes(sources, &mut |shape| {
        found.push(shape.is_some());
        let length = shape.map_or(0, |shape| shape.length);
        longest = longest.max(length);
        total = total.saturating_add(length);
    });
    sources.iter().zip(found).for_each(|(key, found)| view.count_read(key, found));
    if total > SOURCE_BYTES {
        let text = format!("ERR BITOP takes sources of {SOURCE_BYTES} bytes in all at most");
        return Err(crate::command::Text::from(text).into());
    }
    if longest == 0 {
        view.remove(to)?;
        return Ok(Reply::Integer(0));
    }
    view.announce(to, longest, None)?;
    view.look_through(total)?;
    let made = Entry::filled(to, longest, None, |new| combine(view, operation, sources, new));
    view.push(Mutation::Set(made))?;
    Ok(Reply::Integer(longest as i64))
}

/// Makes the result, of which there are only zeros at first.
fn combine(view: &mut dyn Edit, operation: Operation, sources: &Words<'_>, new: &mut [u8]) {
    let needs_others = matches!(operation, Diff | Diff1 | AndOr | One);
    let mut others = vec![0; if needs_others { new.len() } else { 0 }];
    for (place, key) in sources.iter().enumerate() {
        look(view, key, |entry| {
            let value = entry.map_or(&[][..], Entry::value);
            match operation {
                _ if place == 0 => new[..value.len()].copy_from_slice(value),
                And => {
                    new[value.len()..].fill(0);
                    each(new, value, |new, bits| *new &= bits);
                }
                Or => each(new, value, |new, bits| *new |= bits),
                Xor => each(new, value, |new, bits| *new ^= bits),
                Diff | Diff1 | AndOr => each(&mut others, value, |others, bits| *others |= bits),
                // Those seen twice are among the others.
                One => {
                    new.iter_mut().zip(&mut others).zip(value).for_each(|((new, twice), bits)| {
                        *twice |= *new & bits;
                        *new |= bits;
                    })
                }
                Not => unreachable!("it has one source"),
            }
        });
    }
    match operation {
        And | Or | Xor => {}
        Not => new.iter_mut().for_each(|new| *new = !*new),
        Diff | One => each(new, &others, |new, others| *new &= !others),
        Diff1 => each(new, &others, |new, others| *new = !*new & others),
        AndOr => each(new, &others, |new, others| *new &= others),
    }
}

fn each(new: &mut [u8], bits: &[u8], change: impl Fn(&mut u8, u8)) {
    new.iter_mut().zip(bits).for_each(|(new, bits)| change(new, *bits));
}
