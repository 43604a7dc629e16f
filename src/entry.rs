//! A key with its value, in one allocation.
//!
//! It is made once, on the client's thread, from the bytes of the request, and then handed on: the
//! log copies from it, the store keeps it. Nothing else holds keys or values.
//!
//! | bytes | field |
//! |------:|-------|
//! | 4 | length of the key, little-endian |
//! | | key |
//! | | value |

const KEY_LENGTH_BYTES: usize = 4;

/// A key and its value, both any bytes. The default is no entry at all: what is left behind where
/// one is taken.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Entry(Box<[u8]>);

impl Entry {
    /// Copies key and value. A key is far shorter than 4 GiB; the protocol sees to that.
    pub fn new(key: &[u8], value: &[u8]) -> Entry {
        let key_length = u32::try_from(key.len()).expect("keys are limited to far less than 4 GiB");
        let mut bytes = Vec::with_capacity(KEY_LENGTH_BYTES + key.len() + value.len());
        bytes.extend_from_slice(&key_length.to_le_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        Entry(bytes.into_boxed_slice())
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.0[KEY_LENGTH_BYTES..self.value_start()]
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.0[self.value_start()..]
    }

    fn value_start(&self) -> usize {
        let mut four = [0; KEY_LENGTH_BYTES];
        four.copy_from_slice(&self.0[..KEY_LENGTH_BYTES]);
        KEY_LENGTH_BYTES + u32::from_le_bytes(four) as usize
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} = {}", self.key().escape_ascii(), self.value().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_value_come_back_whatever_their_bytes() {
        for (key, value) in [(&b""[..], &b""[..]), (b"k", b""), (b"", b"v"), (b"\0\xff", &[9; 300])]
        {
            let entry = Entry::new(key, value);
            assert_eq!((entry.key(), entry.value()), (key, value));
        }
    }
}
