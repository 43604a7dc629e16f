//! The space that a compaction needs, and whether it must begin early because space is short.
//!
//! A compaction that a client asks for may give up the reserve (`wal::guard::reserve`); one that begins by itself may
//! do so only if it frees enough for the reserve to be made again. So a client can get a full disk going again by
//! removing enough.

use std::io;
use std::sync::Arc;

use anyhow::{Context, ensure};

use crate::engine::{LogFiles, Room};
use crate::store::Store;
use crate::wal::disk::Disk;
use crate::wal::frame::SegmentHeader;
use crate::wal::guard::reserve::Reserve;
use crate::wal::names::Names;
use crate::wal::snapshot;

/// A compaction begins early only once this many bytes were logged: it would free little before.
const LEAST_EARLY_BYTES: u64 = 256 << 10;

/// Nor before the log has grown by this part of its snapshot; otherwise the disk would do little else.
const EARLY_PART: u64 = 8;

/// A snapshot takes more than the entries in memory (padding of its frames, a block for each 256 KiB, and
/// numbers in its records): by this part of them, and this many bytes.
const SNAPSHOT_PART: u64 = 16;
const SNAPSHOT_LEAST: u64 = 64 << 10;

/// Room for the next segment, beside the snapshot, if there is none yet.
const SEAL_ROOM: u64 = 512 << 10;

/// A compaction that begins by itself has to free this many times the reserve to be allowed to spend it: the
/// reserve is made again only if twice its length is free.
const FREED_RESERVES: u64 = 2;

/// Whether a compaction may give up the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spend {
    Reserve,
    Nothing,
}

/// The bytes by which a compaction decides.
#[derive(Clone, Copy)]
pub struct Size {
    /// About the most bytes that a snapshot of the store will take.
    pub need: u64,
    /// Bytes of the last snapshot.
    pub snapshot: u64,
    /// Bytes of the log after it.
    pub since: u64,
}

impl Size {
    pub fn of(store: &dyn Store, (snapshot, since): (u64, u64)) -> Size {
        let bytes = store.bytes() as u64;
        let need = bytes + bytes / SNAPSHOT_PART + SNAPSHOT_LEAST;
        Size { need, snapshot, since }
    }

    pub fn before(&self) -> u64 {
        self.snapshot + self.since
    }
}

/// The disk of the log, and what is kept free on it.
pub struct Space {
    pub disk: Arc<dyn Disk>,
    pub names: Names,
    pub reserve: Arc<Reserve>,
}

impl Space {
    pub fn of(files: &LogFiles) -> Space {
        let LogFiles { disk, names, reserve, .. } = files;
        Space { disk: disk.clone(), names: names.clone(), reserve: reserve.clone() }
    }

    /// Whether space is so short that a compaction has to begin early: the log is longer than what a snapshot
    /// would leave free. Has `need` left free from now on.
    pub fn is_due_early(&self, size: Size, least_bytes: u64, room: &Room) -> bool {
        let Size { need, snapshot, since } = size;
        self.reserve.keep(need);
        let free = match self.free() {
            Ok(free) => free,
            Err(error) => {
                log::warn!("cannot tell how much space is free: {error}");
                return false;
            }
        };
        let least = LEAST_EARLY_BYTES.min(least_bytes).max(snapshot / EARLY_PART);
        // A batch that is too large for what is left is refused while the log only counts as short of room.
        let may_spend = *room != Room::Enough && self.frees_enough(size) == Spend::Reserve;
        let is_possible =
            need <= free || may_spend && need <= free.saturating_add(self.reserve_bytes());
        is_possible && since >= least.max(free.saturating_sub(need))
    }

    /// Whether a compaction that begins by itself may give up the reserve.
    pub fn frees_enough(&self, size: Size) -> Spend {
        match size.before() >= size.need + FREED_RESERVES * self.reserve.bytes() {
            true => Spend::Reserve,
            false => Spend::Nothing,
        }
    }

    /// Gives up the reserve if that makes room for the snapshot, or beside it for the next segment if the log has
    /// none. Fails if the snapshot still has no room.
    pub fn make_room(&self, need: u64, room: &Room, spend: Spend) -> anyhow::Result<()> {
        let beside = if *room == Room::Enough { 0 } else { SEAL_ROOM };
        let mut free = self.free().context("cannot tell how much space is free")?;
        if free < need + beside && spend == Spend::Reserve && self.give_up_reserve_for(need)? {
            free = self.free()?.max(self.reserve.bytes());
        }
        ensure!(
            need <= free,
            "the snapshot may need {need} bytes, and {free} are free: delete keys, or make room on the volume"
        );
        Ok(())
    }

    /// Gives up the reserve, if there is one and it makes enough room for the snapshot. If another program
    /// has taken more than that, the reserve would be spent for nothing.
    pub fn give_up_reserve_for(&self, need: u64) -> io::Result<bool> {
        let helps = need <= self.free()?.saturating_add(self.reserve_bytes());
        let given = helps && self.reserve.give_up(&*self.disk, &self.names);
        if given {
            log::info!("the reserve is given up, so that the log can be compacted");
        }
        Ok(given)
    }

    fn free(&self) -> io::Result<u64> {
        self.disk.free_bytes(self.names.directory())
    }

    fn reserve_bytes(&self) -> u64 {
        if self.reserve.stands() { self.reserve.bytes() } else { 0 }
    }

    /// Deletes unfinished snapshots, and the files that a finished one covers: all before `following`.
    pub fn remove_leftovers(&self, following: Option<&SegmentHeader>) -> io::Result<()> {
        let found = self.disk.list(self.names.directory())?;
        let leftovers = snapshot::leftovers(&found, &self.names, following);
        snapshot::delete(&*self.disk, &self.names, &leftovers);
        Ok(())
    }
}

/// Whether the error would not have happened with more space.
pub fn is_about_space(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::StorageFull)
}
