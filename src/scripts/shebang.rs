//! The first line of a script that begins with `#!`: its engine and its flags.

use crate::command::Text;

/// What a script says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// It has a first line with flags, and what is not allowed there is forbidden.
    pub declared: bool,
    /// It writes nothing.
    pub no_writes: bool,
    /// It may run while the store is full.
    pub allow_oom: bool,
}

impl Flags {
    /// Whether it is refused while the store is full, before it begins.
    pub fn may_grow(self) -> bool {
        self.declared && !self.no_writes && !self.allow_oom
    }
}

/// The flags of a script, and its length up to the end of that line, which stays for the numbers of the lines.
pub fn flags(text: &[u8]) -> Result<(Flags, usize), Text> {
    let mut flags = Flags::default();
    if !text.starts_with(b"#!") {
        return Ok((flags, 0));
    }
    let length = memchr::memchr(b'\n', text).ok_or("ERR Invalid script shebang")?;
    let line = String::from_utf8_lossy(&text[..length]);
    let mut parts = line.split_whitespace();
    match parts.next() {
        Some("#!lua") => flags.declared = true,
        other => {
            let engine = other.unwrap_or_default();
            return Err(format!("ERR Unexpected engine in script shebang: {engine}").into());
        }
    }
    for part in parts {
        let list = part
            .strip_prefix("flags=")
            .ok_or_else(|| format!("ERR Unknown lua shebang option: {part}"))?;
        for flag in list.split(',').filter(|flag| !flag.is_empty()) {
            match flag {
                "no-writes" => flags.no_writes = true,
                "allow-oom" => flags.allow_oom = true,
                // There are no replicas and no cluster.
                "allow-stale" | "no-cluster" | "allow-cross-slot-keys" => {}
                other => {
                    return Err(format!("ERR Unexpected flag in script shebang: {other}").into());
                }
            }
        }
    }
    Ok((flags, length))
}
