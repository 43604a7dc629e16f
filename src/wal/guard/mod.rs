//! What stands beside the log and works beside its batches, each reached by one call from it.
//!
//! [`reserve`] is what a full disk has to spare; [`watch`] looks after the lock file and notes in the
//! [`witness`] how far the log is durable; [`syncer`] syncs for `-fsync everysec`. None of them writes a
//! frame, and the log of an earlier program, which has none of their files, is read without them.

pub mod reserve;
pub mod syncer;
pub mod watch;
pub mod witness;
