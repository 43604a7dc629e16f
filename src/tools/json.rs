//! JSON for scripts, one value a line.
//!
//! Keys and values of a log are arbitrary bytes, and a JSON string is text: those that are not UTF-8 are
//! written as hexadecimal digits, in a field whose name says so.

use serde_json::Value;

/// A value on one line, even for a reader that also ends lines as Unicode does, such as Python.
pub fn line(value: &Value) -> String {
    // They occur within strings alone.
    let mut line = value.to_string();
    for char in ['\u{7f}', '\u{2028}', '\u{2029}'] {
        if line.contains(char) {
            line = line.replace(char, &format!("\\u{:04x}", u32::from(char)));
        }
    }
    line
}

/// Adds bytes to an object: as a string if they are UTF-8, otherwise as `<name>_hex`.
pub fn set_bytes(object: &mut Value, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object[name] = text.into(),
        Err(_) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object[format!("{name}_hex")] = digits.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn any_text_stays_one_string_on_one_line_and_fields_keep_their_order() {
        let mut object =
            json!({"b": "\\ \" \n \u{1} \u{7f} é \u{2028}", "a": u64::MAX, "l": [{"s": -1}]});
        set_bytes(&mut object, "k", b"\xff\0");
        set_bytes(&mut object, "t", "é".as_bytes());
        let expected = r#"{"b":"\\ \" \n \u0001 \u007f é \u2028","a":18446744073709551615,"#
            .to_owned()
            + r#""l":[{"s":-1}],"k_hex":"ff00","t":"é"}"#;
        assert_eq!(line(&object), expected);
    }
}
