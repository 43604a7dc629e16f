//! One thing that SIGHUP has the server read anew, such as a file of passwords or a certificate.
//!
//! It is read and checked as a whole before it takes the place of the old one: if it has a mistake, a message
//! says so, and the old one stays.

/// See the head of this file.
pub struct Reload {
    /// Its name in messages.
    what: String,
    read: Box<dyn Fn() -> anyhow::Result<()> + Send + Sync>,
}

impl Reload {
    /// `read` reads `what` and puts it to use, or changes nothing.
    pub fn new(
        what: impl Into<String>,
        read: impl Fn() -> anyhow::Result<()> + Send + Sync + 'static,
    ) -> Reload {
        Reload { what: what.into(), read: Box::new(read) }
    }

    /// Reads it anew.
    pub fn run(&self) {
        match (self.read)() {
            Ok(()) => log::info!("read anew: {}", self.what),
            Err(why) => log::error!("{} stays as it was: {why:#}", self.what),
        }
    }
}
