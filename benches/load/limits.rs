//! How many connections may be open at the same time: each is an open file, here and in the server,
//! which inherits the limit.

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Twice the clients of the largest load that is meant to be run here, 10,000.
const OPEN_FILES: u64 = 20_000;
/// Listener, log and the like: Redis sets 32 aside, ours as many.
const OTHER_FILES: u64 = 100;
/// Servers are told to allow this many clients; both would stop at 10,000 otherwise.
pub const MOST_CLIENTS: u64 = OPEN_FILES - OTHER_FILES;

/// Raises the limits on open files for this program and the servers it starts: the hard one to
/// [`OPEN_FILES`] where that is allowed, and the soft one to the hard one.
pub fn allow_many_connections() -> Result<()> {
    let found = getrlimit(Resource::Nofile);
    let wanted = found.maximum.map(|maximum| maximum.max(OPEN_FILES));
    if setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: wanted }).is_ok() {
        return Ok(());
    }
    let soft = Rlimit { current: found.maximum, maximum: found.maximum };
    setrlimit(Resource::Nofile, soft).context("cannot raise the limit on open files")
}

/// A load that asks for more connections than can be open would fail in its middle.
pub fn check(connections: usize) -> Result<()> {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    ensure!(
        connections as u64 + OTHER_FILES <= allowed,
        "{connections} clients need as many open files, and only {allowed} are allowed: see \
         `ulimit -n`"
    );
    Ok(())
}
