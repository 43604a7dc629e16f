//! The users who may log in, and whether a login still holds.
//!
//! The default user's password is a flag's, or was set by CONFIG SET; other users are listed where the flags say
//! (see [`Users`]). A client stays logged in as long as its password is that of its user: once another is read at
//! SIGHUP, the client is closed. (CONFIG SET requirepass leaves the clients that are logged in, as in Redis.)

use subtle::ConstantTimeEq;

use crate::command::{Access, Digest, Rights, USER, User, Users};
use crate::sync::Mutex;

/// See the head of this file.
pub struct Accounts {
    default: Mutex<Password>,
    listed: Option<Box<dyn Users>>,
}

/// The default user's.
struct Password {
    /// `None` if it needs none, or if only listed users may log in.
    text: Option<Vec<u8>>,
    /// How many were read before it: a login by an older one does not hold.
    generation: u64,
}

/// A login that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user that it is of.
    pub user: User,
    by: By,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    /// The default user's password of this generation, or that there was none.
    Default(u64),
    /// A listed password.
    Listed(Digest),
}

impl Accounts {
    /// With the default user's password, and users beside it.
    pub fn new(password: Option<Vec<u8>>, listed: Option<Box<dyn Users>>) -> Accounts {
        Accounts { default: Mutex::new(Password { text: password, generation: 0 }), listed }
    }

    /// Whether a client has to log in.
    pub fn needs_password(&self) -> bool {
        self.listed.is_some() || self.default.lock().text.is_some()
    }

    /// Whether the default user has a password.
    pub fn has_password(&self) -> bool {
        self.default.lock().text.is_some()
    }

    /// The login of a client that has given no password, if it needs none.
    pub fn without_password(&self) -> Option<Login> {
        self.of_default(&self.default.lock(), None)
    }

    /// The login by this name and password. If no password is needed any will do, as in Redis: some clients always
    /// send one. The comparison takes as long for a password that is nearly right as for any other of its length.
    pub fn find(&self, name: &[u8], password: &[u8]) -> Option<Login> {
        if name == USER.as_bytes() {
            return self.of_default(&self.default.lock(), Some(password));
        }
        let (user, digest) = self.listed.as_ref()?.find(name, password)?;
        Some(Login { user, by: By::Listed(digest) })
    }

    /// Whether a login still holds.
    pub fn holds(&self, login: &Login) -> bool {
        match &login.by {
            By::Default(generation) => self.default.lock().generation == *generation,
            By::Listed(digest) => {
                self.listed.as_ref().is_some_and(|listed| listed.holds(&login.user, digest))
            }
        }
    }

    /// Sets the default user's password, or takes it away. Logins by the old one hold.
    pub fn set_password(&self, password: Option<Vec<u8>>) {
        self.default.lock().text = password;
    }

    /// Has this password, which was read anew, take the place of the old one. Logins by another one, or by none, end.
    pub fn replace_password(&self, password: Vec<u8>) {
        let mut default = self.default.lock();
        if default.text.as_ref() != Some(&password) {
            default.text = Some(password);
            default.generation += 1;
        }
    }

    /// Reads the listed users anew; `None` if there is no list.
    pub fn reload(&self) -> Option<anyhow::Result<()>> {
        self.listed.as_ref().map(|listed| listed.reload())
    }

    /// All users, in the order of their names.
    pub fn all(&self) -> Vec<User> {
        let mut all = self.listed.as_ref().map_or_else(Vec::new, |listed| listed.all());
        all.push(self.default_user(&self.default.lock()));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The default user's login by the given password, if that is enough.
    fn of_default(&self, default: &Password, given: Option<&[u8]>) -> Option<Login> {
        let is_enough = match (&default.text, given) {
            (Some(text), Some(given)) => text.ct_eq(given).into(),
            (Some(_), None) => false,
            (None, _) => self.listed.is_none(),
        };
        let user = self.default_user(default);
        is_enough.then_some(Login { user, by: By::Default(default.generation) })
    }

    fn default_user(&self, default: &Password) -> User {
        let access = match (&default.text, &self.listed) {
            (Some(_), _) => Access::Password,
            (None, None) => Access::Open,
            (None, Some(_)) => Access::Off,
        };
        User { name: USER.to_owned(), rights: Rights::All, access }
    }
}
