//! The value of the key `format`: the version of all keys of this log, and which log it is.
//!
//! `v2 <store>`, the id in 16 hexadecimal digits, as in every head ([`super::head`]). It is written in one transaction
//! with the first head. A log that a server of the first version made has `v1`, without an id, until the first takeover
//! by a later one. A server that finds another version here reads nothing else.

use super::head::Head;

const VERSION: &str = "v2";
const VERSION_1: &str = "v1";

/// What goes with the first head that has this store id.
pub fn value(store: u64) -> Vec<u8> {
    assert!(store > 0, "0 is no id of a store");
    format!("{VERSION} {store:016x}").into_bytes()
}

/// The store id of a log with this value, `None` with the first version; or why this program cannot read that log, for a
/// person.
pub fn read(value: Option<&[u8]>) -> Result<Option<u64>, String> {
    let value = value.ok_or("the key that says which version the log has is gone")?;
    let text = String::from_utf8_lossy(&value[..value.len().min(LONGEST)]);
    let store = text.strip_prefix(VERSION).and_then(|rest| rest.strip_prefix(' '));
    match store.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
        None if text != VERSION_1 => Err(format!(
            "the log in etcd is of the version {text:?}, and this program knows {VERSION_1} and {VERSION}"
        )),
        store => Ok(store),
    }
}

/// Longer than any value.
const LONGEST: usize = 40;

/// Whether this program can read a log with this value, and this head; else the reason, for a person.
pub fn check(value: Option<&[u8]>, head: &Head) -> Result<(), String> {
    match (read(value)?, head.history) {
        (None, None) => Ok(()),
        // The head is an older one, of a member that lags.
        (Some(_), None) => Ok(()),
        (Some(store), Some(history)) if store == history.store => Ok(()),
        (store, Some(_)) => {
            let store = store.map_or("none".to_owned(), |store| format!("{store:016x}"));
            Err(format!(
                "the log in etcd has the id {store}, and its head, {head}, is of another one"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::Node;
    use super::*;

    #[test]
    fn a_log_is_read_if_its_version_is_known_and_its_head_belongs_to_it() {
        let head = Head::first(Node::new("n1", "h:1").expect("a node"), 1, 0xab);
        let old = Head { history: None, ..head.clone() };
        assert_eq!(value(0xab), b"v2 00000000000000ab");
        assert_eq!(check(Some(&value(0xab)), &head), Ok(()));
        assert_eq!(check(Some(b"v1"), &old), Ok(()));
        assert_eq!(check(Some(&value(0xab)), &old), Ok(()), "it is upgraded at this moment");
        for (wrong, head) in [
            (Some(&value(0xac)[..]), &head),
            (Some(b"v1"), &head),
            (Some(b"v3 00000000000000ab"), &head),
            (Some(b"v2"), &old),
            (Some(b""), &old),
            (None, &old),
        ] {
            assert!(check(wrong, head).is_err(), "{wrong:?} {head}");
        }
    }
}
