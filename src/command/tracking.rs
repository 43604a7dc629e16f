//! How a client wants to know of changes of what it has read: CLIENT TRACKING.

/// Which keys it is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrackingMode {
    /// Those that it reads.
    #[default]
    All,
    /// Those that it reads right after CLIENT CACHING YES.
    OptIn,
    /// Those that it reads, but not right after CLIENT CACHING NO.
    OptOut,
    /// Those that begin with a prefix, whether or not it has read them.
    Broadcast,
}

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackingState {
    /// Which keys it is about.
    pub mode: TrackingMode,
    /// The number of the client that is told in its place; 0 if it is told itself.
    pub redirect: u64,
    /// It wants no word of its own changes.
    pub skips_own: bool,
    /// With [`TrackingMode::Broadcast`]: the prefixes, none of which is a prefix of another.
    pub prefixes: Vec<Box<[u8]>>,
    /// The client that was to be told in its place has gone.
    pub is_broken: bool,
}
