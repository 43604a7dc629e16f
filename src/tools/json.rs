//! Writes JSON, as much of it as the tools need: objects of texts, numbers, flags, and lists of objects.
//!
//! Keys and values of a log are any bytes, and a text of JSON is not: those that are no UTF-8 are written
//! as hexadecimal digits, in a field whose name says so. It never reads JSON.

use std::fmt::{self, Write};

/// An object that is being written.
#[derive(Debug, Default)]
pub struct Object(String);

impl Object {
    /// An object without fields.
    pub fn new() -> Object {
        Object::default()
    }

    /// Adds a text.
    pub fn text(self, name: &str, text: &str) -> Object {
        self.field(name, &quoted(text))
    }

    /// Adds a number.
    pub fn number(self, name: &str, number: u64) -> Object {
        self.field(name, &number.to_string())
    }

    /// Adds a number that may be negative.
    pub fn signed(self, name: &str, number: i64) -> Object {
        self.field(name, &number.to_string())
    }

    /// Adds a flag.
    pub fn flag(self, name: &str, flag: bool) -> Object {
        self.field(name, if flag { "true" } else { "false" })
    }

    /// Adds an object.
    pub fn object(self, name: &str, object: &Object) -> Object {
        self.field(name, &object.to_string())
    }

    /// Adds a list of objects.
    pub fn list(self, name: &str, objects: impl IntoIterator<Item = Object>) -> Object {
        let items: Vec<String> = objects.into_iter().map(|object| object.to_string()).collect();
        self.field(name, &format!("[{}]", items.join(",")))
    }

    /// Adds bytes: as a text where they are one, else as `<name>_hex`.
    pub fn bytes(self, name: &str, bytes: &[u8]) -> Object {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.text(name, text),
            Err(_) => {
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                self.text(&format!("{name}_hex"), &digits)
            }
        }
    }

    fn field(mut self, name: &str, value: &str) -> Object {
        let comma = if self.0.is_empty() { "" } else { "," };
        self.0 += &format!("{comma}{}:{value}", quoted(name));
        self
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.0)
    }
}

/// A text in quotes (RFC 8259, section 7).
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '\n' => quoted.push_str("\\n"),
            // Also those that some readers would take for the end of a line.
            '\0'..='\x1f' | '\x7f' | '\u{2028}' | '\u{2029}' => {
                write!(quoted, "\\u{:04x}", u32::from(char))
                    .expect("writing to memory cannot fail");
            }
            _ => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_a_text_it_stays_one_text() {
        let object = Object::new()
            .text("a\"b", "\\ \" \n \u{1} é \u{2028}")
            .number("n", u64::MAX)
            .list("l", [Object::new(), Object::new().flag("f", false).signed("s", -1)])
            .bytes("k", b"\xff\0");
        let expected = r#"{"a\"b":"\\ \" \n \u0001 é \u2028","n":18446744073709551615,"#.to_owned()
            + r#""l":[{},{"f":false,"s":-1}],"k_hex":"ff00"}"#;
        assert_eq!(object.to_string(), expected);
    }
}
