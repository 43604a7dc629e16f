//! The file of flags that `-config` names: one flag a line.
//!
//! ```text
//! # everything from a # at the beginning of a word to the end of the line is a comment
//! port 4242
//! maxmemory = 2gb
//! -wal "/srv/my data/wal_file"
//! ```
//!
//! Quotes keep white space and `#`; within double quotes `\"` and `\\` are a quote and a backslash. Whether a flag with
//! this name exists, and what its value may be, is not known here.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail, ensure};

/// The largest file that is read: some hundred times one with a line for every flag.
const MOST_BYTES: u64 = 256 << 10;

/// One line: a flag, without its dashes, and the words after it.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number in the file, from 1.
    pub number: usize,
    /// The flag.
    pub name: String,
    /// Its values, most often one.
    pub values: Vec<String>,
}

/// Reads a file of flags.
pub fn read(path: &Path) -> anyhow::Result<Vec<Line>> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    file.with_context(|| format!("{shown}: cannot read the flags"))?;
    ensure!(
        bytes.len() as u64 <= MOST_BYTES,
        "{shown}: more than {MOST_BYTES} bytes are too many for a file of flags"
    );
    parse(&bytes).map_err(|(number, why)| anyhow::anyhow!("{shown}, line {number}: {why}"))
}

/// The lines that name a flag, or the first bad line: its number, and its mistake.
fn parse(bytes: &[u8]) -> Result<Vec<Line>, (usize, anyhow::Error)> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut lines = Vec::new();
    for (line, number) in bytes.split(|&byte| byte == b'\n').zip(1..) {
        let at_line = |why| (number, why);
        let text = std::str::from_utf8(line).context("this is not UTF-8").map_err(at_line)?;
        if let Some((name, values)) = flag(text.trim()).map_err(at_line)? {
            lines.push(Line { number, name: name.to_owned(), values });
        }
    }
    Ok(lines)
}

/// A line's flag and its values; `None` if the line is empty or a comment.
fn flag(line: &str) -> anyhow::Result<Option<(&str, Vec<String>)>> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let undashed = line.strip_prefix("--").or_else(|| line.strip_prefix('-')).unwrap_or(line);
    let end = undashed.find(|char: char| char.is_whitespace() || char == '=');
    let (name, rest) = undashed.split_at(end.unwrap_or(undashed.len()));
    let is_name = |char: char| char.is_ascii_alphanumeric() || char == '-';
    ensure!(
        name.starts_with(|char: char| char.is_ascii_alphabetic()) && name.chars().all(is_name),
        "expected a flag and its value, such as `port 4242`, or a comment after #"
    );
    let rest = rest.trim_start();
    Ok(Some((name, words(rest.strip_prefix('=').unwrap_or(rest))?)))
}

/// The words of a text, up to a comment.
pub fn words(text: &str) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = word(rest)?;
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// The first word, and what follows it.
fn word(text: &str) -> anyhow::Result<(String, &str)> {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match (char, quote) {
            ('\0', _) => bail!("a value cannot hold a byte of zero"),
            ('\\', Some('"')) => match chars.next() {
                Some((_, escaped @ ('"' | '\\'))) => word.push(escaped),
                _ => bail!("within double quotes a backslash stands before a quote or a backslash"),
            },
            (_, Some(open)) if char == open => quote = None,
            (_, Some(_)) => word.push(char),
            ('"' | '\'', None) => quote = Some(char),
            (_, None) if char.is_whitespace() => return Ok((word, &text[at..])),
            (_, None) => word.push(char),
        }
    }
    match quote {
        Some(quote) => bail!("the quote {quote} is not closed"),
        None => Ok((word, "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_flag_and_its_values_with_any_of_the_usual_signs_between_them() {
        for line in
            ["port 17", " port=17 ", "-port = 17", "--port\t17\r", "port '17' # why", "port \"1\"7"]
        {
            let lines = parse(line.as_bytes()).expect(line);
            assert_eq!(lines, [Line { number: 1, name: "port".into(), values: vec!["17".into()] }]);
        }
        let text = "\u{feff}# first\n\n  # second\nwal '/a b/#c' \nbind a \"b\\\"\\\\\"#c\npersist\nempty ''\n";
        let lines = parse(text.as_bytes()).expect("a file");
        let shown: Vec<_> =
            lines.iter().map(|it| (it.number, it.name.as_str(), it.values.join("|"))).collect();
        let expected =
            [(4, "wal", "/a b/#c"), (5, "bind", "a|b\"\\#c"), (6, "persist", ""), (7, "empty", "")];
        assert_eq!(shown, expected.map(|(number, name, values)| (number, name, values.to_owned())));
        assert_eq!(lines[2].values.len(), 0, "no value");
        assert_eq!(lines[3].values.len(), 1, "an empty value");
    }

    #[test]
    fn a_line_that_is_none_is_named_with_its_number() {
        for (text, line, why) in [
            ("port 1\n= 2", 2, "expected a flag"),
            ("port 1\n\n-", 3, "expected a flag"),
            ("---port 1", 1, "expected a flag"),
            ("9port 1", 1, "expected a flag"),
            ("pört 1", 1, "expected a flag"),
            ("wal 'a", 1, "not closed"),
            ("wal \"a\\", 1, "backslash"),
            ("wal \"a\\n\"", 1, "backslash"),
            ("wal a\0b", 1, "zero"),
        ] {
            let (number, said) = parse(text.as_bytes()).expect_err(text);
            assert_eq!(number, line, "{text:?}");
            assert!(said.to_string().contains(why), "{text:?}: {said}");
        }
        assert_eq!(parse(b"port 1\nwal \xff").expect_err("no text").0, 2);
    }

    #[test]
    fn a_file_that_is_far_too_long_is_refused_without_being_read_to_its_end() {
        let error = read(Path::new("/dev/zero")).expect_err("it has no end").to_string();
        assert!(error.contains("/dev/zero: more than 262144 bytes"), "{error}");
    }
}
