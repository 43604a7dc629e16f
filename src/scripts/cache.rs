//! The scripts that are kept, compiled, by the SHA1 of their text.
//!
//! Scripts of SCRIPT LOAD stay until SCRIPT FLUSH or the end of the server. Of those that only EVAL brought, the ones
//! that have not been used for longest make room for others, as since Redis 7.4: programs that put values into their
//! scripts' text would fill the memory otherwise.

use std::collections::{BTreeMap, HashMap};

use mlua::Function;

use super::shebang::Flags;

/// How many scripts are kept that only EVAL brought: Redis's number.
const EVALUATED: usize = 500;

/// The most that all kept scripts may take up, with their compiled form. (A script has some kilobytes.)
pub const KEPT_BYTES: usize = 64 << 20;

/// The hexadecimal digits of a script's SHA1, in lower case.
pub type Name = [u8; 40];

/// A script, ready to run.
#[derive(Debug)]
pub struct Kept {
    /// Its compiled form.
    pub function: Function,
    /// What it says of itself.
    pub flags: Flags,
    bytes: usize,
    /// When it was last used, in the order of uses; `None` if it is never forgotten.
    used: Option<u64>,
}

/// See the head of this file.
///
/// - `by_use` has one entry for each script with `used`. `bytes` are those of all scripts.
#[derive(Debug, Default)]
pub struct Cache {
    kept: HashMap<Name, Kept>,
    by_use: BTreeMap<u64, Name>,
    uses: u64,
    bytes: usize,
    /// How many were forgotten to make room.
    pub evicted: u64,
}

/// There is no room for a script that is to stay.
#[derive(Debug)]
pub struct Full;

impl Cache {
    /// How many scripts are kept.
    pub fn count(&self) -> usize {
        self.kept.len()
    }

    /// Whether a script of this name is kept.
    pub fn has(&self, name: &Name) -> bool {
        self.kept.contains_key(name)
    }

    /// A script that is about to be used.
    pub fn used(&mut self, name: &Name) -> Option<&Kept> {
        let kept = self.kept.get_mut(name)?;
        if let Some(used) = &mut kept.used {
            self.by_use.remove(used);
            self.uses += 1;
            *used = self.uses;
            self.by_use.insert(self.uses, *name);
        }
        Some(kept)
    }

    /// Never forgets this script from now on. False if there is none.
    pub fn stay(&mut self, name: &Name) -> bool {
        let Some(kept) = self.kept.get_mut(name) else { return false };
        if let Some(used) = kept.used.take() {
            self.by_use.remove(&used);
        }
        true
    }

    /// Keeps a script of this many bytes, until another one needs the room.
    pub fn keep(
        &mut self,
        name: Name,
        function: Function,
        flags: Flags,
        bytes: usize,
    ) -> Result<(), Full> {
        while self.by_use.len() >= EVALUATED || self.bytes + bytes > KEPT_BYTES {
            let Some((_, oldest)) = self.by_use.pop_first() else { return Err(Full) };
            let forgotten = self.kept.remove(&oldest).expect("it is kept");
            self.bytes -= forgotten.bytes;
            self.evicted += 1;
        }
        self.uses += 1;
        self.by_use.insert(self.uses, name);
        let before = self.kept.insert(name, Kept { function, flags, bytes, used: Some(self.uses) });
        assert!(before.is_none(), "a script is compiled once");
        self.bytes += bytes;
        Ok(())
    }
}

/// The name of a script.
pub fn name_of(text: &[u8]) -> Name {
    let mut name = [0; 40];
    name.copy_from_slice(sha1_smol::Sha1::from(text).digest().to_string().as_bytes());
    name
}

/// The name in a word, in any case; `None` if no script has it.
pub fn name_in(word: &[u8]) -> Option<Name> {
    let mut name = Name::try_from(word).ok()?;
    name.make_ascii_lowercase();
    Some(name)
}
