//! The words of a request, in the receive buffer or packed for later, and what they say.

use super::view::Text;

/// The words of a request, the command's name first.
pub type Words<'a> = [&'a [u8]];

/// Bytes of each number at the head of a [`Packed`].
const END_BYTES: usize = size_of::<u32>();

/// The words of a request that is carried out later, in one allocation: their count, the end of each, and
/// then all of them, one after the other.
#[derive(Debug, Clone)]
pub struct Packed(Box<[u8]>);

impl Packed {
    /// Copies the words. The protocol's limits keep them below 4 GiB in all.
    pub fn new(words: &Words<'_>) -> Packed {
        let length = words.iter().map(|word| END_BYTES + word.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(END_BYTES + length);
        let number =
            |number: usize| u32::try_from(number).expect("words are limited").to_le_bytes();
        bytes.extend_from_slice(&number(words.len()));
        let mut end = 0;
        for word in words {
            end += word.len();
            bytes.extend_from_slice(&number(end));
        }
        words.iter().for_each(|word| bytes.extend_from_slice(word));
        debug_assert_eq!(bytes.len(), END_BYTES + length, "the words fill what was taken for them");
        Packed(bytes.into_boxed_slice())
    }

    /// The words.
    pub fn list(&self) -> Vec<&[u8]> {
        let (count, ends_and_words) = self.0.split_at(END_BYTES);
        let (ends, words) = ends_and_words.split_at(number_in(count) * END_BYTES);
        let mut start = 0;
        let word = |end| {
            let word = &words[start..number_in(end)];
            start += word.len();
            word
        };
        let list = ends.chunks_exact(END_BYTES).map(word).collect();
        debug_assert_eq!(start, words.len(), "the last word ends where all do");
        list
    }

    /// The number of words, without unpacking them.
    pub fn count(&self) -> usize {
        number_in(&self.0[..END_BYTES])
    }

    /// Bytes that it takes up in memory.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

fn number_in(bytes: &[u8]) -> usize {
    let mut four = [0; END_BYTES];
    four.copy_from_slice(bytes);
    u32::from_le_bytes(four) as usize
}

/// A whole number as Redis reads one: no plus sign, no leading zeros, no spaces.
pub fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !plain {
        return None;
    }
    // Any eighteen digits fit.
    if digits.len() <= 18 {
        let number = digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
        return Some(if digits.len() < text.len() { -number } else { number });
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A setting that is a number, or why a word is none.
pub fn number_between(word: &[u8], least: i64, most: i64) -> Result<i64, Text> {
    let number = integer(word).ok_or("argument couldn't be parsed into an integer")?;
    match (least..=most).contains(&number) {
        true => Ok(number),
        false => Err(format!("argument must be between {least} and {most} inclusive").into()),
    }
}

/// A setting that is a number of bytes, as Redis's configuration has it: `k` is 1,000 and `kb` is 1,024.
pub fn memory_amount(word: &[u8]) -> Result<u64, Text> {
    let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, unit) = word.split_at(digits);
    let units: [(&str, u64); 8] = [
        ("", 1),
        ("b", 1),
        ("k", 1000),
        ("kb", 1 << 10),
        ("m", 1_000_000),
        ("mb", 1 << 20),
        ("g", 1_000_000_000),
        ("gb", 1 << 30),
    ];
    let unit = units.iter().find(|(name, _)| is(unit, name)).map(|(_, bytes)| *bytes);
    let number = std::str::from_utf8(number).ok().and_then(|number| number.parse::<u64>().ok());
    let bytes = number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    bytes.ok_or("argument must be a memory value".into())
}

/// Whether a word is this option, in any case.
pub fn is(word: &[u8], option: &str) -> bool {
    word.eq_ignore_ascii_case(option.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_redis_reads_them() {
        for (text, number) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("999999999999999999", Some(999_999_999_999_999_999)),
            ("-1000000000000000000", Some(-1_000_000_000_000_000_000)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-0", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(integer(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn packed_words_are_the_same_words() {
        for words in [&[][..], &[b"".as_slice()], &[b"set", b"", b"a\0b", &[7; 1000]]] {
            let packed = Packed::new(words);
            assert_eq!(packed.list(), words);
            assert_eq!(packed.count(), words.len());
        }
    }
}
