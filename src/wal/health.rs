//! Whether the log takes writes, and if not, why. This is kept only here: the log and its
//! `segments` and `watch` threads write it; the commit path, the compactor and INFO read it.
//!
//! Two things are kept apart (promise 6). A failed write or sync closes the log for good: what is
//! on disk is unknown. If space for a batch could not be prepared, none of it was written: the log
//! stays open, and the next batch may find room.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

/// Why the log takes no more writes. The first failure, for ever.
#[derive(Clone, Debug)]
pub struct Failure(pub Arc<str>);

/// What is known of the room for further batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// Nothing is wrong.
    #[default]
    Enough,
    /// No segment can follow the active one, for this reason; the active one still has room.
    Short(Arc<str>),
    /// A batch was refused, for this reason.
    Full(Arc<str>),
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Health {
    failure: OnceLock<Failure>,
    room: Mutex<Room>,
}

impl Health {
    /// Why the log is closed for good, if it is.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.get()
    }

    /// What is known of the room for further batches.
    pub fn room(&self) -> Room {
        self.room.lock().clone()
    }

    /// Closes the log for good, and gives back the first failure.
    pub(crate) fn fail(&self, reason: &str) -> Failure {
        let mut is_first = false;
        let first = self.failure.get_or_init(|| {
            is_first = true;
            Failure(reason.into())
        });
        // Reported only now, when nothing more can be written.
        if is_first {
            log::error!("the log is closed for writing until a restart: {reason}");
        }
        first.clone()
    }

    /// Notes that a segment is ready to follow.
    pub(crate) fn has_room(&self) {
        let before = std::mem::take(&mut *self.room.lock());
        if before != Room::Enough {
            log::info!("there is room for the log again");
        }
    }

    /// Notes that no segment can be made to follow.
    pub(crate) fn is_short(&self, reason: &Arc<str>) {
        let mut room = self.room.lock();
        match *room {
            Room::Enough => {
                log::error!("cannot prepare the next segment, will try again: {reason}");
                *room = Room::Short(reason.clone());
            }
            // This was reported already, and once is enough; the figures in the reason may be new.
            Room::Short(_) => *room = Room::Short(reason.clone()),
            Room::Full(_) => *room = Room::Full(reason.clone()),
        }
    }

    /// Notes that a batch is refused.
    pub(crate) fn is_full(&self, reason: &Arc<str>) {
        let mut room = self.room.lock();
        if !matches!(*room, Room::Full(_)) {
            log::error!("writes are refused until there is room for them: {reason}");
        }
        *room = Room::Full(reason.clone());
    }
}
