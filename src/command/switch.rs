//! What a client may switch for itself, or for all, with CLIENT.

/// Which replies a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replying {
    /// All.
    On,
    /// None, until they are on again.
    Off,
    /// None to the next command.
    Skip,
}

/// A mark that a client may bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It is not closed when all clients together leave too much unread.
    NoEvict,
    /// Its reads would not make a key younger, if keys had an age.
    NoTouch,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// It holds from now on.
    On,
    /// It holds no more.
    Off,
}

/// The requests that wait while clients are paused; the latter are more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Paused {
    /// Those that may change or publish something.
    Writes,
    /// All.
    All,
}
