//! The users that may log in, and their rights.
//!
//! There are two kinds of rights, because these are the two that people use: everything, and reading. Each is one line
//! of Redis's rules, by which commands are judged and which `ACL LIST` shows, so that it shows the true rights.

/// The user of a login that names none.
pub const USER: &str = "default";

/// The rights of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Everything.
    All,
    /// Reads, transactions of reads, and listening; nothing that changes data, publishes, or is about the server.
    ReadOnly,
}

impl Rights {
    /// Both, by the names they have in a file of users.
    pub const NAMES: [(&str, Rights); 2] = [("all", Rights::All), ("read-only", Rights::ReadOnly)];

    /// Redis's rules for the commands that it may carry out; a later rule wins.
    pub fn rules(self) -> &'static str {
        match self {
            Rights::All => "+@all",
            Rights::ReadOnly => {
                "-@all +@read +@connection +@transaction +@pubsub -publish -spublish +eval_ro +evalsha_ro \
                 +info +time +acl|whoami -@admin"
            }
        }
    }

    /// Redis's rule for the keys.
    pub fn keys(self) -> &'static str {
        match self {
            Rights::All => "~*",
            Rights::ReadOnly => "%R~*",
        }
    }
}

/// A user, for ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Printable, and without spaces.
    pub name: String,
    /// Its rights.
    pub rights: Rights,
    /// Whether it may log in.
    pub access: Access,
}

impl Default for User {
    /// The one that is meant if none is named.
    fn default() -> User {
        User { name: USER.to_owned(), rights: Rights::All, access: Access::Password }
    }
}

/// Whether a user may log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// With a password.
    Password,
    /// With any password, and without one.
    Open,
    /// Not at all.
    Off,
}

/// The SHA-256 of a password.
pub type Digest = [u8; 32];

/// Users that are listed somewhere, beside the one whose password is a flag's.
pub trait Users: Send + Sync {
    /// The user of this name with this password, and the digest by which it was found.
    fn find(&self, name: &[u8], password: &[u8]) -> Option<(User, Digest)>;
    /// Whether a password with this digest still is this user's.
    fn holds(&self, user: &User, digest: &Digest) -> bool;
    /// All, in the order of their names.
    fn all(&self) -> Vec<User>;
    /// Reads the list anew, as a whole or not at all.
    ///
    /// # Errors
    /// If the list cannot be read, or has a mistake; the text names its line.
    fn reload(&self) -> anyhow::Result<()>;
}
