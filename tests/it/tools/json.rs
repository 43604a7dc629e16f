//! Checks strictly that a text is one JSON value.

/// Panics if `text` is not one JSON value.
pub fn assert_valid(text: &str) {
    let rest = value(text.trim_end()).unwrap_or_else(|| panic!("not JSON: {text}"));
    assert!(rest.is_empty(), "more than one value: {text}");
}

fn value(text: &str) -> Option<&str> {
    match text.as_bytes().first()? {
        b'{' => items(&text[1..], '}', |text| value(string(text)?.strip_prefix(':')?)),
        b'[' => items(&text[1..], ']', value),
        b'"' => string(text),
        _ => {
            let word = ["true", "false", "null"].iter().find_map(|word| text.strip_prefix(word));
            word.or_else(|| {
                let text = text.strip_prefix('-').unwrap_or(text);
                let rest = digits(text)?;
                rest.strip_prefix('.').map_or(Some(rest), digits)
            })
        }
    }
}

/// What follows one digit or more.
fn digits(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(|char: char| char.is_ascii_digit());
    (rest.len() < text.len()).then_some(rest)
}

fn items<'a>(
    text: &'a str,
    end: char,
    item: impl Fn(&'a str) -> Option<&'a str>,
) -> Option<&'a str> {
    if let Some(rest) = text.strip_prefix(end) {
        return Some(rest);
    }
    let mut rest = item(text)?;
    while let Some(more) = rest.strip_prefix(',') {
        rest = item(more)?;
    }
    rest.strip_prefix(end)
}

fn string(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix('"')?;
    loop {
        let char = rest.chars().next()?;
        rest = &rest[char.len_utf8()..];
        match char {
            '"' => return Some(rest),
            '\\' if rest.starts_with('u') => {
                let digits = rest.get(1..5)?;
                u32::from_str_radix(digits, 16).ok()?;
                rest = &rest[5..];
            }
            '\\' => rest = rest.strip_prefix(['"', '\\', '/', 'b', 'f', 'n', 'r', 't'])?,
            char if char.is_control() => return None,
            _ => {}
        }
    }
}
