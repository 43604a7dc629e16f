//! The kinds of channels on which clients hear from each other.

/// Where a message is heard. The two have names of their own: the same name may be a channel of either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// By those who subscribed to the channel or to a pattern that it fits.
    All,
    /// By those who subscribed to the shard channel. One server is all of a cluster, and so has every shard.
    Shard,
}

/// What a client subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A channel.
    Channel,
    /// All channels that fit a pattern.
    Pattern,
    /// A shard channel.
    Shard,
}
