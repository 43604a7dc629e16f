//! Commands about single bits of a value. Bit 0 is the highest one of the first byte, and all bits after the
//! last byte are 0.

use super::strings::write_at;
use super::words::*;
use crate::command::{Answer, Edit, Reply, Text, View, Words, is, look};

/// No value that a flag allows has more bytes: `-maxvalue`'s own limit. A bit beyond them can be neither set
/// nor asked for.
const MOST_BYTES: u64 = 1 << 30;

const OFFSET: &str = "ERR bit offset is not an integer or out of range";

/// Reads the place of a bit.
pub fn offset(word: &[u8]) -> Result<u64, Text> {
    in_range(integer_offset(word)?)
}

/// The same, for the field of this many bits that begins there, or that is the n-th of its kind (`#n`).
pub fn field_offset(word: &[u8], bits: u32) -> Result<u64, Text> {
    match word.strip_prefix(b"#") {
        None => offset(word),
        Some(place) => in_range(integer_offset(place)?.checked_mul(i64::from(bits)).ok_or(OFFSET)?),
    }
}

fn integer_offset(word: &[u8]) -> Result<i64, Text> {
    number(word).map_err(|_| OFFSET.into())
}

fn in_range(offset: i64) -> Result<u64, Text> {
    let offset = u64::try_from(offset).ok().filter(|offset| offset / 8 < MOST_BYTES);
    offset.ok_or(OFFSET.into())
}

/// The length of a value that has a bit at `last`, and `length` bytes before.
pub fn grown(view: &dyn Edit, length: usize, last: u64) -> Result<usize, Text> {
    let end = usize::try_from(last / 8).ok().map(|byte| byte + 1);
    let end = end.filter(|end| *end <= view.max_value()).ok_or(OFFSET)?;
    Ok(length.max(end))
}

pub fn getbit(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let offset = offset(words[2])?;
    let byte = byte_at(view, words[1], (offset / 8) as usize);
    view.count_read(words[1], byte.is_some());
    answer.put(&Reply::Integer((byte.unwrap_or(0) & mask(offset) != 0).into()))
}

/// A byte of a value, 0 after its end; none if the key is missing.
fn byte_at<V: View + ?Sized>(view: &mut V, key: &[u8], place: usize) -> Option<u8> {
    let mut byte = None;
    view.part(key, (place, place + 1), &mut |part| {
        byte = part.map(|part| part.first().copied().unwrap_or(0));
    });
    byte
}

#[cfg(test)]
fn bit_at(value: &[u8], offset: u64) -> bool {
    let byte = value.get((offset / 8) as usize).copied().unwrap_or(0);
    byte & mask(offset) != 0
}

fn mask(offset: u64) -> u8 {
    0x80 >> (offset % 8)
}

/// A bit that is already as it should be makes no change, so that nothing is logged.
pub fn setbit(view: &mut dyn Edit, words: &Words<'_>) -> Written {
    let (key, offset) = (words[1], offset(words[2])?);
    let wanted = match number(words[3]) {
        Ok(0) => false,
        Ok(1) => true,
        _ => return Err("ERR bit is not an integer or out of range".into()),
    };
    let place = (offset / 8) as usize;
    let (length, _) = shape(view, key);
    let byte = byte_at(view, key, place).unwrap_or(0);
    let new = grown(view, length, offset)?;
    let before = byte & mask(offset) != 0;
    if before != wanted || new > length {
        let byte = if wanted { byte | mask(offset) } else { byte & !mask(offset) };
        write_at(view, key, place, &[byte])?;
    }
    Ok(Reply::Integer(before.into()))
}

pub fn bitcount(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let range = match &words[2..] {
        [] => Range::WHOLE,
        [start, end] => Range::read(start, Some(end), None)?,
        [start, end, unit] => Range::read(start, Some(end), Some(unit))?,
        _ => return Err(SYNTAX.into()),
    };
    may_look_through(view, words[1], answer)?;
    super::strings::about_value(view, words[1], answer, |value| {
        let bits = range.bits_of(value.len()).filter(|_| !range.is_backwards());
        Reply::Integer(bits.map_or(0, |bits| count(value, bits)) as i64)
    })
}

pub fn bitpos(view: &mut dyn View, words: &Words<'_>, answer: &mut dyn Answer) -> Put {
    let wanted = match number(words[2])? {
        0 => false,
        1 => true,
        _ => return Err("ERR The bit argument must be 1 or 0.".into()),
    };
    let range = match &words[3..] {
        [] => Range::WHOLE,
        [start] => Range::read(start, None, None)?,
        [start, end] => Range::read(start, Some(end), None)?,
        [start, end, unit] => Range::read(start, Some(end), Some(unit))?,
        _ => return Err(SYNTAX.into()),
    };
    may_look_through(view, words[1], answer)?;
    let place =
        look(view, words[1], |entry| entry.map(|entry| first(entry.value(), wanted, &range)));
    view.count_read(words[1], place.is_some());
    // A missing value is nothing but zeros.
    answer.put(&Reply::Integer(place.unwrap_or(if wanted { -1 } else { 0 })))
}

/// The place of the first bit of a kind in a range, or -1.
fn first(value: &[u8], wanted: bool, range: &Range) -> i64 {
    let Some((start, end)) = range.bits_of(value.len()) else { return -1 };
    match find(value, wanted, (start, end)) {
        Some(place) => place as i64,
        // The zeros after the value count, unless the range has an end of its own.
        None if !wanted && range.end.is_none() => end as i64,
        None => -1,
    }
}

/// A range as it is asked for: places of bytes or of bits, both included, negative ones counted from the end.
struct Range {
    start: i64,
    end: Option<i64>,
    of_bits: bool,
}

impl Range {
    const WHOLE: Range = Range { start: 0, end: None, of_bits: false };

    fn read(start: &[u8], end: Option<&[u8]>, unit: Option<&[u8]>) -> Result<Range, Text> {
        let start = number(start)?;
        let of_bits = match unit {
            None => false,
            Some(unit) if is(unit, "bit") => true,
            Some(unit) if is(unit, "byte") => false,
            Some(_) => return Err(SYNTAX.into()),
        };
        Ok(Range { start, end: end.map(number).transpose()?, of_bits })
    }

    /// Whether it ends before it begins, counted from the end. BITCOUNT finds nothing then; BITPOS may, in a value
    /// that is so short that both are before its first bit.
    fn is_backwards(&self) -> bool {
        self.start < 0 && self.end.is_some_and(|end| end < 0 && self.start > end)
    }

    /// The bits that it means in a value of this length, from the first to the one after the last; `None` if
    /// there are none.
    fn bits_of(&self, length: usize) -> Option<(u64, u64)> {
        let unit = if self.of_bits { 1 } else { 8 };
        let total = length as i64 * 8 / unit;
        let place = |at: i64| if at < 0 { total.saturating_add(at).max(0) } else { at };
        let end = self.end.unwrap_or(-1);
        let (start, end) = (place(self.start), place(end).min(total - 1));
        (start <= end).then(|| ((start * unit) as u64, ((end + 1) * unit) as u64))
    }
}

/// How many bits from `start` to before `end` are set. There is at least one bit, and all are in the value.
fn count(value: &[u8], (start, end): (u64, u64)) -> u64 {
    let bytes = &value[(start / 8) as usize..end.div_ceil(8) as usize];
    let (words, rest) = bytes.as_chunks::<8>();
    let ones = |total: u64, ones: u32| total + u64::from(ones);
    let of_words = words.iter().map(|word| u64::from_le_bytes(*word).count_ones()).fold(0, ones);
    let all = rest.iter().map(|byte| byte.count_ones()).fold(of_words, ones);
    let before = bytes[0] & !(0xff >> (start % 8));
    let after = bytes[bytes.len() - 1] & after_end(end);
    all - u64::from(before.count_ones() + after.count_ones())
}

/// The bits of the last byte that are not before `end`.
fn after_end(end: u64) -> u8 {
    if end.is_multiple_of(8) { 0 } else { 0xff >> (end % 8) }
}

/// The place of the first bit of a kind from `start` to before `end`, which are in the value.
fn find(value: &[u8], wanted: bool, (start, end): (u64, u64)) -> Option<u64> {
    let (first, last) = ((start / 8) as usize, (end.div_ceil(8) - 1) as usize);
    let flip = if wanted { 0 } else { 0xff };
    let hits = |place: usize| {
        let mut hits = value[place] ^ flip;
        if place == first {
            hits &= 0xff >> (start % 8);
        }
        if place == last {
            hits &= !after_end(end);
        }
        (hits != 0).then(|| place as u64 * 8 + u64::from(hits.leading_zeros()))
    };
    hits(first).or_else(|| {
        let between = value.get(first + 1..last).unwrap_or_default();
        let found = between.iter().position(|byte| *byte != flip);
        found.map_or_else(|| hits(last), |place| hits(first + 1 + place))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_and_found_as_one_by_one() {
        let value: Vec<u8> = (0..40_u8).map(|n| n.wrapping_mul(91) ^ (n << 3)).collect();
        let bits = value.len() as u64 * 8;
        for start in 0..bits {
            for end in start + 1..=bits {
                let all = || (start..end).filter(|at| bit_at(&value, *at));
                assert_eq!(count(&value, (start, end)), all().count() as u64, "{start} {end}");
                assert_eq!(find(&value, true, (start, end)), all().next(), "{start} {end}");
                let zero = (start..end).find(|at| !bit_at(&value, *at));
                assert_eq!(find(&value, false, (start, end)), zero, "{start} {end}");
            }
        }
    }
}
