//! Commands that look through the keys.
//!
//! A walk goes in steps of some hundred keys, each under a lock of its own. The lock is held only to copy the
//! keys; they are looked at afterwards.

use std::hash::{BuildHasher, RandomState};

use super::words::*;
use crate::command::{Answer, Refusal, Reply, View, Words, is};
use crate::glob::Glob;

/// The least entries that one step looks at: a leaf of the store has some hundred, and is a step. (With fewer,
/// a step over a batch would look through a leaf again for each entry of it that the batch has changed.)
const STEP: usize = 100;

/// The most keys that one SCAN looks at, whatever its COUNT, which is only a hint in Redis too: a
/// millisecond's work.
const SCAN_ENTRIES: usize = 4_000;

/// A SCAN ends once it has found this many bytes of keys; its cursor says where to go on.
const SCAN_BYTES: usize = 1 << 20;

pub fn keys(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let mut glob = Glob::new(pattern(words[1])?);
    walk(view, (0, STEP), answer, &mut |step, answer| {
        let mut found = step.keys().filter(|key| glob.matches(key));
        found.try_for_each(|key| answer.put(&Reply::Bulk(key.into())))?;
        Ok(Walk::GoesOn)
    })?;
    answer.wrap();
    Ok(())
}

pub fn scan(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let cursor = std::str::from_utf8(words[1]).ok().and_then(|text| text.parse().ok());
    let cursor: u64 = cursor.ok_or("ERR invalid cursor")?;
    let (mut count, mut glob, mut of_strings) = (10, None, true);
    for option in words[2..].chunks(2) {
        match option {
            [name, value] if is(name, "count") => {
                let wanted = usize::try_from(number(value)?).ok();
                count = wanted.filter(|count| *count > 0).ok_or(SYNTAX)?;
            }
            [name, value] if is(name, "match") => glob = Some(Glob::new(pattern(value)?)),
            // All values here are strings.
            [name, value] if is(name, "type") => of_strings = is(value, "string"),
            _ => return Err(SYNTAX.into()),
        }
    }
    let mut fits = |key: &[u8]| of_strings && glob.as_mut().is_none_or(|glob| glob.matches(key));
    let (mut looked_at, mut bytes, mut keys) = (0, 0, Vec::new());
    let next = walk(view, (cursor, count.min(STEP)), answer, &mut |step, _| {
        looked_at += step.ends.len();
        for key in step.keys().filter(|key| fits(key)) {
            bytes += key.len();
            keys.push(Reply::bulk(key));
        }
        let enough = looked_at >= count.min(SCAN_ENTRIES) || bytes >= SCAN_BYTES;
        Ok(if enough { Walk::Ends } else { Walk::GoesOn })
    })?;
    let next = Reply::bulk(next.to_string().as_bytes());
    answer.put(&Reply::Array(vec![next, Reply::Array(keys)]))
}

pub fn randomkey(view: &mut dyn View, _: &Words<'_>, answer: &mut dyn Answer) -> Put {
    // A fresh RandomState is a random number; nothing depends on how good it is.
    let random = RandomState::new().hash_one(0);
    let mut found = Reply::Null;
    for start in [random % view.cursors(), 0] {
        walk(view, (start, STEP), answer, &mut |step, _| {
            let place = random.rotate_left(32) as usize % step.ends.len().max(1);
            found = step.keys().nth(place).map_or(Reply::Null, Reply::bulk);
            Ok(if found == Reply::Null { Walk::GoesOn } else { Walk::Ends })
        })?;
        if found != Reply::Null {
            break;
        }
    }
    answer.put(&found)
}

/// The keys of one step of a walk, one after the other.
#[derive(Default)]
struct Step {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Step {
    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }

    fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

enum Walk {
    GoesOn,
    Ends,
}

/// Walks through the keys from `cursor` on, in steps of at least `least` entries. Returns the cursor at which
/// it has ended: 0 if it has seen all.
fn walk(
    view: &mut dyn View,
    (mut cursor, least): (u64, usize),
    answer: &mut dyn Answer,
    look: &mut dyn FnMut(&Step, &mut dyn Answer) -> Result<Walk, Refusal>,
) -> Result<u64, Refusal> {
    let mut step = Step::default();
    loop {
        step.clear();
        cursor = view.scan(cursor, least, &mut |entry| step.push(entry.key()));
        answer.go_on(step.ends.len() + 1)?;
        if matches!(look(&step, answer)?, Walk::Ends) || cursor == 0 {
            return Ok(cursor);
        }
    }
}
