//! Keys and values as one word of one line, for people: what is printed here can be pasted into the text
//! protocol, which reads it back as the same bytes.

/// Digits by their value: a table, because a long value is printed while other threads wait for its
/// shard.
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends a key or value so that it is one word of one line: as it is if it is a plain word,
/// otherwise in double quotes.
pub fn print(word: &[u8], out: &mut Vec<u8>) {
    if is_plain(word) {
        out.extend_from_slice(word);
        return;
    }
    out.push(b'"');
    for &byte in word {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            8 => out.extend_from_slice(b"\\b"),
            7 => out.extend_from_slice(b"\\a"),
            b' '..=b'~' => out.push(byte),
            _ => {
                let [high, low] = [byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]);
                out.extend_from_slice(&[b'\\', b'x', high, low]);
            }
        }
    }
    out.push(b'"');
}

/// An upper bound of the bytes that [`print()`] appends; exact for a long word, which is scanned
/// for that.
pub fn most_bytes(word: &[u8]) -> usize {
    const LONG_BYTES: usize = 256 * 1024;
    let escaped = |&byte: &u8| match byte {
        b'\\' | b'"' | b'\n' | b'\r' | b'\t' | 8 | 7 => 2,
        b' '..=b'~' => 1,
        _ => 4,
    };
    match word.len() {
        ..LONG_BYTES => 2 + 4 * word.len(),
        _ if is_plain(word) => word.len(),
        _ => 2 + word.iter().map(escaped).sum::<usize>(),
    }
}

/// Whether a word is read back as it stands: not empty, text, without white space or control
/// characters (a terminal would obey them), not begun with a quote.
fn is_plain(word: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(word) else {
        return false;
    };
    !text.is_empty()
        && !text.starts_with(['"', '\''])
        && !text.chars().any(|char| char == ' ' || char.is_control())
}
