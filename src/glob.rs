//! Patterns of KEYS, SCAN and CONFIG GET: `*`, `?`, `[a-c]`, `[^x]`, and `\` before any of them, as
//! Redis reads them (`stringmatchlen`).
//!
//! A pattern comes from a client, and so may be designed to take long. So it is not tried at one
//! place of the text after another: all ways in which it may fit go through the text side by side,
//! one bit for each of its places, 64 of them in one step (Baeza-Yates and Gonnet, "A New Approach
//! to Text Searching", CACM 1992). A byte of text costs as many steps as the pattern has words of
//! 64 places, whatever is in either.

/// The longest pattern that a client may ask for, in bytes, so that a byte of text costs at most 17
/// steps and a pattern 34 KiB. Patterns that people write have some tens of bytes.
pub const PATTERN_BYTES: usize = 1024;

/// Places in one word.
const WORD: usize = u64::BITS as usize;

/// A pattern, ready to be matched with many texts.
///
/// A place is a part that stands for one byte; a star is none. Bit `i` of a row of `words` words
/// stands for place `i`, or, if there are `i` places, for the end.
pub struct Glob {
    words: usize,
    /// A row for each byte: the places that it fits.
    fits: Vec<u64>,
    /// The places with a star before them.
    stars: Vec<u64>,
    places: usize,
    /// The places that the next byte of the text may fit.
    next: Vec<u64>,
}

impl Glob {
    /// Reads a pattern; any bytes are one.
    pub fn new(pattern: &[u8]) -> Glob {
        let words = pattern.len() / WORD + 1;
        let row = || vec![0; words];
        let fits = vec![0; 256 * words];
        let mut glob = Glob { words, fits, stars: row(), places: 0, next: row() };
        let mut rest = pattern;
        while let Some(&first) = rest.first() {
            let width = match first {
                b'*' => {
                    glob.stars[glob.places / WORD] |= 1 << (glob.places % WORD);
                    1
                }
                _ => {
                    let width = one(rest, |byte| glob.allow(byte));
                    glob.places += 1;
                    width
                }
            };
            rest = &rest[width..];
        }
        glob
    }

    /// Lets this byte fit the place that is being read.
    fn allow(&mut self, byte: u8) {
        let row = usize::from(byte) * self.words;
        self.fits[row + self.places / WORD] |= 1 << (self.places % WORD);
    }

    /// Whether all of `text` fits.
    pub fn matches(&mut self, text: &[u8]) -> bool {
        self.next.fill(0);
        self.next[0] = 1;
        for &byte in text {
            let row = &self.fits[usize::from(byte) * self.words..][..self.words];
            let (mut carry, mut any) = (0, 0);
            for ((next, fits), stars) in self.next.iter_mut().zip(row).zip(&self.stars) {
                let passed = *next & fits;
                *next = passed << 1 | carry | *next & stars;
                carry = passed >> (WORD - 1);
                any |= *next;
            }
            if any == 0 {
                return false;
            }
        }
        self.next[self.places / WORD] >> (self.places % WORD) & 1 == 1
    }
}

/// Whether all of `text` fits `pattern`, for a pattern that is matched with one text or two.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    Glob::new(pattern).matches(text)
}

/// Calls `allow` with each byte that fits the first place of a pattern, which is no star. Returns
/// the length of that place.
fn one(pattern: &[u8], mut allow: impl FnMut(u8)) -> usize {
    match pattern {
        [] => 0,
        [b'?', ..] => {
            (0..=u8::MAX).for_each(allow);
            1
        }
        [b'\\', escaped, ..] => {
            allow(*escaped);
            2
        }
        [b'[', set @ ..] => {
            let (fits, width) = read_set(set);
            (0..=u8::MAX).filter(|&byte| fits[usize::from(byte)]).for_each(allow);
            1 + width
        }
        [plain, ..] => {
            allow(*plain);
            1
        }
    }
}

/// The bytes in a set whose `[` has been taken, and how long it is. A set without an end reaches to the
/// pattern's.
fn read_set(set: &[u8]) -> ([bool; 256], usize) {
    let (negated, mut at) = if set.first() == Some(&b'^') { (true, 1) } else { (false, 0) };
    let mut fits = [negated; 256];
    loop {
        match &set[at..] {
            [] => return (fits, at),
            [b']', ..] => return (fits, at + 1),
            [b'\\', escaped, ..] => {
                fits[usize::from(*escaped)] = !negated;
                at += 2;
            }
            [low, b'-', high, ..] => {
                let (low, high) = (*low.min(high), *low.max(high));
                fits[usize::from(low)..=usize::from(high)].fill(!negated);
                at += 3;
            }
            [plain, ..] => {
                fits[usize::from(*plain)] = !negated;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_what_redis_says_they_fit() {
        for (pattern, text, fits) in [
            ("", "", true),
            ("*", "", true),
            ("*", "anything", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*a*b*", "xaxbx", true),
            ("*a*b*", "xbxax", false),
            ("[", "", false),
            ("[a", "a", true),
            ("foo*", "foo", true),
            ("*foo", "barfoo", true),
            ("*foo", "foobar", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }

    /// The plain way, place by place, which takes exponential time with many stars.
    fn fits_slowly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', rest @ ..], text) => (0..=text.len()).any(|at| fits_slowly(rest, &text[at..])),
            (_, []) => false,
            (pattern, [byte, text @ ..]) => {
                let mut fits = false;
                let width = one(pattern, |allowed| fits |= allowed == *byte);
                fits && fits_slowly(&pattern[width..], text)
            }
        }
    }

    #[test]
    fn a_pattern_fits_what_it_fits_when_every_way_is_tried() {
        let mut random = 1_u64;
        let mut below = |limit: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize % limit
        };
        let mut fitting = 0;
        for _ in 0..50_000 {
            let pattern: Vec<u8> = (0..below(9)).map(|_| b"ab*?[]^-\\c*"[below(11)]).collect();
            let text: Vec<u8> = (0..below(8)).map(|_| b"abc]-"[below(5)]).collect();
            let fits = fits_slowly(&pattern, &text);
            fitting += u32::from(fits);
            let (pattern_text, text_text) = (pattern.escape_ascii(), text.escape_ascii());
            assert_eq!(matches(&pattern, &text), fits, "{pattern_text} {text_text}");
        }
        assert!(fitting > 1000, "{fitting} fitted");
    }

    #[test]
    fn a_pattern_of_more_places_than_a_word_has_bits_fits_as_well() {
        for length in [62, 63, 64, 65, 127, 128, 129, 1024] {
            let text = b"ab?d".iter().copied().cycle().take(length).collect::<Vec<u8>>();
            for pattern in [&text[..], &[b'?'].repeat(length), &[&text[..], b"*"].concat()] {
                assert!(matches(pattern, &text), "{length}");
                assert!(!matches(pattern, &text[1..]), "{length}");
            }
            let stars = [b"*", &text[..length - 1], b"*"].concat();
            assert!(matches(&stars, &[&text[..], &text[..]].concat()));
            assert!(!matches(&stars, &text[2..]));
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let text = "a".repeat(64 * 1024);
        let longest = PATTERN_BYTES;
        for pattern in [
            "a*".repeat(longest / 2 - 1) + "b",
            format!("*{}b", "a".repeat(longest - 2)),
            "?*".repeat(longest / 2 - 1) + "b",
            "*[^b]".repeat(longest / 5) + "b",
        ] {
            // If a star were tried at each place, this would take 67 million steps or more for a
            // text.
            (0..20).for_each(|_| assert!(!matches(pattern.as_bytes(), text.as_bytes())));
        }
    }
}
