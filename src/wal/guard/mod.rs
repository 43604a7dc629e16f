//! Helpers that work beside the log and its batches, each reached by one call from it.
//!
//! [`reserve`] keeps space for a full disk; [`watch`] looks after the lock file and notes in the
//! [`witness`] how far the log is durable; [`syncer`] syncs for `-fsync everysec`. None of them
//! writes a frame. The log of an earlier program has none of their files, and is read without them.

pub mod reserve;
pub mod syncer;
pub mod watch;
pub mod witness;
