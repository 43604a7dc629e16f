//! Users in a file, a line each: a name, its rights, and the SHA-256 of a password in hexadecimal digits.
//!
//! ```text
//! # printf %s 'a long random password' | sha256sum
//! shop     all        88ab8fbe2a2ca0ddcd9d5ad1adae51e9f40e8eae0ba38f14e0e9c8d52c5f0b0a
//! reports  read-only  5f16b52c1b0d0b0c5a0f8ea0d6e9f8a7c4b3d2e1f00112233445566778899aab
//! ```
//!
//! A name may have several lines, each with another password: so that a new password is taken before the old one is
//! given up. The file is read as a whole or not at all; what is wrong with it is said with the number of the line,
//! and never shows what may be a password. A hash without salt, as in Redis, is as strong as its password is random.

use anyhow::{Context, anyhow, bail, ensure};
use parking_lot::{Mutex, RwLock};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::command::{Access, Digest, Rights, USER, User, Users};

/// The longest name.
const NAME_BYTES: usize = 128;

/// The most lines with a password: each login is compared with all of them.
const MOST_PASSWORDS: usize = 1000;

/// Reads the text of the file.
type Source = Box<dyn Fn() -> anyhow::Result<String> + Send + Sync>;

/// See the head of this file.
pub struct UsersFile {
    source: Source,
    /// Held from the reading of a file until it is put to use: the later one wins.
    reloading: Mutex<()>,
    passwords: RwLock<Vec<Password>>,
}

/// A line of the file.
struct Password {
    user: User,
    digest: Digest,
}

impl UsersFile {
    /// The users of a text that can be read again.
    ///
    /// # Errors
    /// If it cannot be read, or something is wrong with it.
    pub fn open(
        source: impl Fn() -> anyhow::Result<String> + Send + Sync + 'static,
    ) -> anyhow::Result<UsersFile> {
        let passwords = RwLock::new(parse(&source()?)?);
        Ok(UsersFile { source: Box::new(source), reloading: Mutex::new(()), passwords })
    }
}

impl Users for UsersFile {
    /// Takes as long for a name that is not there, and for a password that is nearly right.
    fn find(&self, name: &[u8], password: &[u8]) -> Option<(User, Digest)> {
        let digest: Digest = Sha256::digest(password).into();
        let mut found = None;
        for line in &*self.passwords.read() {
            let is_password = bool::from(line.digest.ct_eq(&digest));
            if is_password & (line.user.name.as_bytes() == name) {
                found = Some((line.user.clone(), digest));
            }
        }
        found
    }

    fn holds(&self, user: &User, digest: &Digest) -> bool {
        self.passwords.read().iter().any(|line| line.user == *user && line.digest == *digest)
    }

    fn all(&self) -> Vec<User> {
        let mut all: Vec<User> =
            self.passwords.read().iter().map(|line| line.user.clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.dedup();
        all
    }

    fn reload(&self) -> anyhow::Result<()> {
        let _held = self.reloading.lock();
        let passwords = parse(&(self.source)()?)?;
        *self.passwords.write() = passwords;
        Ok(())
    }
}

fn parse(text: &str) -> anyhow::Result<Vec<Password>> {
    let mut passwords: Vec<Password> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if words.first().is_none_or(|word| word.starts_with('#')) {
            continue;
        }
        let password = password(&words).with_context(|| format!("line {}", index + 1))?;
        let other = passwords.iter().find(|other| {
            other.user.name == password.user.name && other.user.rights != password.user.rights
        });
        if other.is_some() {
            let name = &password.user.name;
            bail!("line {}: all passwords of {name} give the same rights", index + 1);
        }
        passwords.push(password);
        ensure!(passwords.len() <= MOST_PASSWORDS, "more than {MOST_PASSWORDS} passwords");
    }
    ensure!(!passwords.is_empty(), "there is no user in it");
    Ok(passwords)
}

fn password(words: &[&str]) -> anyhow::Result<Password> {
    let [name, rights, digest] = words else {
        bail!("expected NAME, RIGHTS and the SHA-256 of a password, with spaces between them");
    };
    ensure!(
        name.len() <= NAME_BYTES && name.bytes().all(|byte| (b'!'..=b'~').contains(&byte)),
        "the name of a user is at most {NAME_BYTES} printable characters"
    );
    ensure!(*name != USER, "the password of {USER} is that of -requirepass-file");
    let rights = Rights::NAMES.iter().find(|(known, _)| known == rights);
    let (_, rights) = rights.ok_or_else(|| anyhow!("the rights are `all` or `read-only`"))?;
    let digest = hexadecimal(digest).ok_or_else(|| {
        anyhow!("expected a SHA-256 as 64 hexadecimal digits, as sha256sum has it")
    })?;
    let empty: Digest = Sha256::digest(b"").into();
    ensure!(digest != empty, "this is the SHA-256 of an empty password");
    Ok(Password {
        user: User { name: (*name).to_owned(), rights: *rights, access: Access::Password },
        digest,
    })
}

fn hexadecimal(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    if text.len() != 2 * digest.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (place, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..][..2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, rights: &str, password: &str) -> String {
        let digest: String =
            Sha256::digest(password).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name} {rights} {digest}\n")
    }

    #[test]
    fn a_user_is_found_by_name_and_password_and_holds_until_the_password_is_gone() {
        let text = std::sync::Arc::new(RwLock::new(
            [
                "# users\n\n",
                &line("ann", "all", "a"),
                &line("ann", "all", "b"),
                &line("bob", "read-only", "b"),
            ]
            .concat(),
        ));
        let source = text.clone();
        let users = UsersFile::open(move || Ok(source.read().clone())).expect("users");
        let (ann, digest) = users.find(b"ann", b"a").expect("ann");
        assert_eq!((ann.rights, ann.access), (Rights::All, Access::Password));
        assert!(users.find(b"ann", b"b").is_some() && users.find(b"ann", b"c").is_none());
        assert_eq!(users.find(b"bob", b"b").expect("bob").0.rights, Rights::ReadOnly);
        assert!(users.find(b"bob", b"a").is_none() && users.find(b"", b"").is_none());
        assert_eq!(users.all().iter().map(|user| &*user.name).collect::<Vec<_>>(), ["ann", "bob"]);

        *text.write() = "ann all nonsense".into();
        users.reload().expect_err("nonsense");
        assert!(users.holds(&ann, &digest), "the old file holds");
        *text.write() = line("ann", "all", "b");
        users.reload().expect("users");
        assert!(!users.holds(&ann, &digest) && users.find(b"bob", b"b").is_none());
        *text.write() = line("ann", "read-only", "a");
        users.reload().expect("users");
        assert!(!users.holds(&ann, &digest), "a login with other rights ends");
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_line_and_without_what_may_be_a_password() {
        let good = line("ann", "all", "a");
        for (text, told) in [
            (String::new(), "no user"),
            ("# nothing\n".into(), "no user"),
            (format!("{good}bob all geheim\n"), "line 2"),
            (format!("{good}bob geheim {}\n", "0".repeat(64)), "line 2"),
            (format!("{good}geheim\n"), "line 2"),
            (format!("{good}bob all {}g\n", "0".repeat(63)), "line 2"),
            (format!("{good}{}", line("default", "all", "a")), "line 2"),
            (format!("{good}{}", line("ann", "read-only", "b")), "line 2"),
            (format!("{good}{}", line("bob", "all", "")), "line 2"),
            (format!("{good}{}", line(&"x".repeat(129), "all", "a")), "line 2"),
            (line("ann", "all", "a").repeat(MOST_PASSWORDS + 1), "1000"),
        ] {
            let why = parse(&text).err().map(|why| format!("{why:#}")).expect("it is refused");
            assert!(why.contains(told) && !why.contains("geheim"), "{why}");
        }
    }
}
