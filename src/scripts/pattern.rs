//! Lua's patterns, matched with a bound for their work.
//!
//! Lua's own functions match without looking at the clock, and some patterns take longer than anyone can wait
//! (`("a-"):rep(30)` on a text of `a`s); others nest so deep that they use up the stack. Here a match asks every
//! [`STEPS`] steps whether it may go on, and nests no deeper than [`DEPTH`]. What matches is as in Lua 5.1.

/// Steps between two questions whether to go on: a few hundred microseconds.
const STEPS: u32 = 50_000;

/// Bytes of a set that are looked through in the time of a step.
const SET_BYTES_PER_STEP: usize = 16;

/// How deep a match may nest: the limit of Lua since 5.2, for the same reason.
const DEPTH: usize = 200;

/// The most captures of a pattern, as in Lua.
const CAPTURES: usize = 32;

const ESCAPE: u8 = b'%';

/// Why a match has no result.
#[derive(Debug)]
pub enum Stop<E> {
    /// The pattern makes no sense.
    Malformed(&'static str),
    /// It may not go on.
    Ended(E),
}

impl<E> From<&'static str> for Stop<E> {
    fn from(text: &'static str) -> Stop<E> {
        Stop::Malformed(text)
    }
}

/// A piece of the text that a pattern has in parentheses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// Begun, not ended.
    Open(usize),
    /// From a place, so many bytes.
    Piece(usize, usize),
    /// Only the place.
    Place(usize),
}

/// A pattern on a text.
pub struct Matcher<'a, F> {
    text: &'a [u8],
    pattern: &'a [u8],
    captures: Vec<Capture>,
    steps: u32,
    depth: usize,
    go_on: F,
}

type Matched<E> = Result<Option<usize>, Stop<E>>;

impl<'a, E, F: FnMut() -> Result<(), E>> Matcher<'a, F> {
    /// A matcher that asks `go_on` from time to time.
    pub fn new(text: &'a [u8], pattern: &'a [u8], go_on: F) -> Matcher<'a, F> {
        Matcher { text, pattern, captures: Vec::new(), steps: 0, depth: 0, go_on }
    }

    /// The end of a match that begins at this place of the text.
    pub fn at(&mut self, start: usize) -> Matched<E> {
        self.captures.clear();
        self.depth = 0;
        self.matched(start, 0)
    }

    /// The first match that begins at this place or after it.
    pub fn first_from(&mut self, start: usize) -> Result<Option<(usize, usize)>, Stop<E>> {
        for start in start..=self.text.len() {
            if let Some(end) = self.at(start)? {
                return Ok(Some((start, end)));
            }
        }
        Ok(None)
    }

    /// The captures of the last match.
    pub fn captures(&self) -> Result<&[Capture], Stop<E>> {
        match self.captures.iter().any(|capture| matches!(capture, Capture::Open(_))) {
            true => Err("unfinished capture".into()),
            false => Ok(&self.captures),
        }
    }

    /// Counts a step, which looks at an item of the pattern of so many bytes: a set may be long.
    fn step(&mut self, item: usize) -> Result<(), Stop<E>> {
        self.steps = self.steps.saturating_add(1 + (item / SET_BYTES_PER_STEP) as u32);
        if self.steps >= STEPS {
            self.steps = 0;
            (self.go_on)().map_err(Stop::Ended)?;
        }
        Ok(())
    }

    /// Matches the pattern from `p` on at place `s` of the text; the end of the match.
    fn matched(&mut self, s: usize, p: usize) -> Matched<E> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("pattern too complex".into());
        }
        let end = self.items(s, p);
        self.depth -= 1;
        end
    }

    fn items(&mut self, mut s: usize, mut p: usize) -> Matched<E> {
        loop {
            self.step(0)?;
            let Some(&item) = self.pattern.get(p) else { return Ok(Some(s)) };
            let next = self.pattern.get(p + 1).copied();
            match (item, next) {
                (b'(', Some(b')')) => return self.capture(s, p + 2, Capture::Place(s)),
                (b'(', _) => return self.capture(s, p + 1, Capture::Open(s)),
                (b')', _) => return self.end_capture(s, p + 1),
                (b'$', None) => return Ok((s == self.text.len()).then_some(s)),
                (ESCAPE, Some(b'b')) => match self.balanced(s, p + 2)? {
                    None => return Ok(None),
                    Some(end) => (s, p) = (end, p + 4),
                },
                (ESCAPE, Some(b'f')) => {
                    let set = p + 2;
                    if self.pattern.get(set) != Some(&b'[') {
                        return Err("missing '[' after '%f' in pattern".into());
                    }
                    let end = self.class_end(set)?;
                    self.step(3 * (end - set))?;
                    let before = s.checked_sub(1).map_or(0, |at| self.text[at]);
                    let here = self.text.get(s).copied().unwrap_or(0);
                    if self.in_set(before, set, end - 1) || !self.in_set(here, set, end - 1) {
                        return Ok(None);
                    }
                    p = end;
                }
                (ESCAPE, Some(digit @ b'0'..=b'9')) => match self.back(s, digit)? {
                    None => return Ok(None),
                    Some(end) => (s, p) = (end, p + 2),
                },
                _ => {
                    let end = self.class_end(p)?;
                    self.step(2 * (end - p))?;
                    let fits = s < self.text.len() && self.fits(self.text[s], p, end);
                    match self.pattern.get(end) {
                        Some(b'?') => {
                            if fits && let Some(found) = self.matched(s + 1, end + 1)? {
                                return Ok(Some(found));
                            }
                            p = end + 1;
                        }
                        Some(b'*') => return self.longest(s, p, end),
                        Some(b'+') if fits => return self.longest(s + 1, p, end),
                        Some(b'-') => return self.shortest(s, p, end),
                        Some(b'+') => return Ok(None),
                        _ if fits => (s, p) = (s + 1, end),
                        _ => return Ok(None),
                    }
                }
            }
        }
    }

    fn longest(&mut self, s: usize, p: usize, end: usize) -> Matched<E> {
        let mut count = 0;
        while s + count < self.text.len() && self.fits(self.text[s + count], p, end) {
            self.step(end - p)?;
            count += 1;
        }
        for count in (0..=count).rev() {
            if let Some(found) = self.matched(s + count, end + 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn shortest(&mut self, mut s: usize, p: usize, end: usize) -> Matched<E> {
        loop {
            if let Some(found) = self.matched(s, end + 1)? {
                return Ok(Some(found));
            }
            if s >= self.text.len() || !self.fits(self.text[s], p, end) {
                return Ok(None);
            }
            self.step(end - p)?;
            s += 1;
        }
    }

    fn capture(&mut self, s: usize, p: usize, capture: Capture) -> Matched<E> {
        if self.captures.len() >= CAPTURES {
            return Err("too many captures".into());
        }
        let level = self.captures.len();
        self.captures.push(capture);
        let found = self.matched(s, p)?;
        if found.is_none() {
            self.captures.truncate(level);
        }
        Ok(found)
    }

    fn end_capture(&mut self, s: usize, p: usize) -> Matched<E> {
        let is_open = |capture: &Capture| matches!(capture, Capture::Open(_));
        let level = self.captures.iter().rposition(is_open).ok_or("invalid pattern capture")?;
        let Capture::Open(start) = self.captures[level] else { return Ok(None) };
        self.captures[level] = Capture::Piece(start, s - start);
        let found = self.matched(s, p)?;
        if found.is_none() {
            self.captures[level] = Capture::Open(start);
        }
        Ok(found)
    }

    /// `%b()`: from an opening byte to its closing one.
    fn balanced(&mut self, s: usize, p: usize) -> Matched<E> {
        let (Some(&open), Some(&close)) = (self.pattern.get(p), self.pattern.get(p + 1)) else {
            return Err("unbalanced pattern".into());
        };
        if self.text.get(s) != Some(&open) {
            return Ok(None);
        }
        let mut nested = 1;
        for at in s + 1..self.text.len() {
            self.step(0)?;
            if self.text[at] == close {
                nested -= 1;
                if nested == 0 {
                    return Ok(Some(at + 1));
                }
            } else if self.text[at] == open {
                nested += 1;
            }
        }
        Ok(None)
    }

    /// `%1`: the same as what was captured before.
    fn back(&mut self, s: usize, digit: u8) -> Matched<E> {
        let level = usize::from(digit).wrapping_sub(usize::from(b'1'));
        let Some(Capture::Piece(start, length)) = self.captures.get(level).copied() else {
            return Err("invalid capture index".into());
        };
        let piece = &self.text[start..start + length];
        self.steps = self.steps.saturating_add((length / 64) as u32);
        Ok(self.text[s..].starts_with(piece).then_some(s + length))
    }

    /// The place after a single item of the pattern.
    fn class_end(&self, p: usize) -> Result<usize, Stop<E>> {
        match self.pattern[p] {
            ESCAPE if p + 1 >= self.pattern.len() => {
                Err("malformed pattern (ends with '%')".into())
            }
            ESCAPE => Ok(p + 2),
            b'[' => {
                let missing = "malformed pattern (missing ']')";
                let mut at = p + 1;
                if self.pattern.get(at) == Some(&b'^') {
                    at += 1;
                }
                // The first byte of a set is part of it even if it is a bracket.
                loop {
                    let byte = *self.pattern.get(at).ok_or(missing)?;
                    at += 1;
                    if byte == ESCAPE {
                        self.pattern.get(at).ok_or(missing)?;
                        at += 1;
                    }
                    if self.pattern.get(at) == Some(&b']') {
                        return Ok(at + 1);
                    }
                }
            }
            _ => Ok(p + 1),
        }
    }

    /// Whether a byte fits the single item from `p` to `end`.
    fn fits(&self, byte: u8, p: usize, end: usize) -> bool {
        match self.pattern[p] {
            b'.' => true,
            ESCAPE => is_in_class(byte, self.pattern[p + 1]),
            b'[' => self.in_set(byte, p, end - 1),
            other => other == byte,
        }
    }

    /// Whether a byte is in the set from the bracket at `p` to that at `last`.
    fn in_set(&self, byte: u8, p: usize, last: usize) -> bool {
        let mut at = p + 1;
        let is_negated = self.pattern[at] == b'^';
        at += usize::from(is_negated);
        while at < last {
            let item = self.pattern[at];
            if item == ESCAPE {
                if is_in_class(byte, self.pattern[at + 1]) {
                    return !is_negated;
                }
                at += 2;
            } else if self.pattern[at + 1] == b'-' && at + 2 < last {
                if (item..=self.pattern[at + 2]).contains(&byte) {
                    return !is_negated;
                }
                at += 3;
            } else {
                if item == byte {
                    return !is_negated;
                }
                at += 1;
            }
        }
        is_negated
    }
}

/// Whether a byte is in the class of this letter; of an upper-case one it is the opposite. Any other byte is itself.
fn is_in_class(byte: u8, class: u8) -> bool {
    let is_in = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => matches!(byte, b' ' | b'\t'..=b'\r'),
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is_in != class.is_ascii_uppercase()
}
