//! The flags about users that may log in, and their files.
//!
//! A password is in no flag, because every user of the machine can read those.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};

use rustix::fs::OFlags;

use super::number;
use crate::command::Users;
use crate::server::{Accounts, Reload};
#[cfg(feature = "users")]
use crate::users::UsersFile;

/// Holds the default user's password if no file does.
const PASSWORD_VARIABLE: &str = "POST_GRES_RS_PASSWORD";

/// The longest file of passwords that is read.
const MOST_BYTES: u64 = 1 << 20;

/// Flags about users.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// File with the password of all clients in its first line; or set POST_GRES_RS_PASSWORD in the
    /// environment. Read anew at SIGHUP
    #[arg(long = "requirepass-file", value_name = "PATH")]
    password_file: Option<PathBuf>,

    /// File of further users, a line each: NAME all|read-only SHA-256 of a password. Read anew at SIGHUP. Without
    /// a password for all clients only these users may log in
    #[cfg(feature = "users")]
    #[arg(long = "users-file", value_name = "PATH")]
    users_file: Option<PathBuf>,

    /// Seconds in which a client has to log in, if there is a password; 0 is no limit
    #[arg(
        long = "login-timeout",
        default_value_t = 60,
        value_name = "SECONDS",
        value_parser = number(0, 1 << 31)
    )]
    login_seconds: u64,
}

impl Flags {
    /// The accounts, and their files that SIGHUP has read anew.
    pub fn accounts(&self) -> anyhow::Result<(Arc<Accounts>, Vec<Reload>)> {
        let accounts = Arc::new(Accounts::new(self.password()?, self.users()?));
        let mut reloads = Vec::new();
        if let Some(path) = self.password_file.clone() {
            let accounts = accounts.clone();
            reloads.push(Reload::new(format!("the password in {}", path.display()), move || {
                accounts.replace_password(first_line(&path)?);
                Ok(())
            }));
        }
        #[cfg(feature = "users")]
        if let Some(path) = &self.users_file {
            let accounts = accounts.clone();
            reloads
                .push(Reload::new(format!("the list of users in {}", path.display()), move || {
                    accounts.reload().unwrap_or(Ok(()))
                }));
        }
        Ok((accounts, reloads))
    }

    /// How long a client may take to log in; zero is for ever.
    pub fn login_time(&self) -> Duration {
        Duration::from_secs(self.login_seconds)
    }

    fn password(&self) -> anyhow::Result<Option<Vec<u8>>> {
        match (&self.password_file, std::env::var_os(PASSWORD_VARIABLE)) {
            (Some(path), _) => first_line(path).map(Some),
            (None, Some(text)) => {
                let password = of_first_line(text.as_encoded_bytes());
                ensure!(!password.is_empty(), "{PASSWORD_VARIABLE}: the password is empty");
                Ok(Some(password))
            }
            (None, None) => Ok(None),
        }
    }

    #[cfg(feature = "users")]
    fn users(&self) -> anyhow::Result<Option<Box<dyn Users>>> {
        let Some(path) = self.users_file.clone() else { return Ok(None) };
        let shown = path.display().to_string();
        let source = move || {
            let text = String::from_utf8(secret(&path)?);
            text.map_err(|_| anyhow::anyhow!("it is not UTF-8"))
        };
        let users = UsersFile::open(source).with_context(|| format!("the users in {shown}"))?;
        Ok(Some(Box::new(users)))
    }

    #[cfg(not(feature = "users"))]
    fn users(&self) -> anyhow::Result<Option<Box<dyn Users>>> {
        Ok(None)
    }
}

/// The password in the first line of a file.
fn first_line(path: &Path) -> anyhow::Result<Vec<u8>> {
    let password = of_first_line(&secret(path)?);
    ensure!(!password.is_empty(), "{}: the password is empty", path.display());
    Ok(password)
}

fn of_first_line(text: &[u8]) -> Vec<u8> {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line).to_vec()
}

/// Reads a file that others should not be able to read; that they are is a warning.
fn secret(path: &Path) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("{}: cannot read", path.display());
    // A pipe would hold up the start, or all signals, until something is written to it.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).with_context(cannot)?;
    let metadata = file.metadata().with_context(cannot)?;
    ensure!(metadata.is_file(), "{}: is not a regular file", path.display());
    let others = metadata.mode() & 0o077;
    if others != 0 {
        log::warn!("{}: others than its owner may read it; say chmod 600 {0}", path.display());
    }
    let mut text = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut text).with_context(cannot)?;
    ensure!(text.len() as u64 <= MOST_BYTES, "{}: more than {MOST_BYTES} bytes", path.display());
    Ok(text)
}
