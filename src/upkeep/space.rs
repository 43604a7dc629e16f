//! Snapshots in local files: the space that a compaction needs, and whether it must begin early because that is
//! short.
//!
//! A compaction that a client asks for may give up the reserve (`wal::guard::reserve`); one that begins by itself may
//! do so only if it frees enough for the reserve to be made again. So a client can get a full disk going again by
//! removing enough.

use std::io;
use std::sync::Arc;

use anyhow::{Context, ensure};

use super::snapshots::{Size, Snapshot, Snapshots, Spend};
use crate::engine::log::Sealed;
use crate::engine::{LogFiles, Room};
use crate::record;
use crate::wal::disk::Disk;
use crate::wal::guard::reserve::Reserve;
use crate::wal::names::Names;
use crate::wal::snapshot;

/// A compaction begins early only once this many bytes were logged: it would free little before.
const LEAST_EARLY_BYTES: u64 = 256 << 10;

/// Nor before the log has grown by this part of its snapshot; otherwise the disk would do little else.
const EARLY_PART: u64 = 8;

/// Room for the next segment, beside the snapshot, if there is none yet.
const SEAL_ROOM: u64 = 512 << 10;

/// A compaction that begins by itself has to free this many times the reserve to be allowed to spend it: the
/// reserve is made again only if twice its length is free.
const FREED_RESERVES: u64 = 2;

/// The disk of the log, and what is kept free on it.
pub struct Space {
    disk: Arc<dyn Disk>,
    names: Names,
    reserve: Arc<Reserve>,
    bytes_at_start: u64,
}

impl Space {
    pub fn of(files: &LogFiles) -> Space {
        let LogFiles { disk, names, reserve, snapshot_bytes: bytes_at_start } = files;
        let (disk, names, reserve) = (disk.clone(), names.clone(), reserve.clone());
        Space { disk, names, reserve, bytes_at_start: *bytes_at_start }
    }

    /// Gives up the reserve, if there is one and it makes enough room for the snapshot. If another program
    /// has taken more than that, the reserve would be spent for nothing.
    fn give_up_reserve_for(&self, need: u64) -> io::Result<bool> {
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
}

impl Snapshots for Space {
    fn bytes_at_start(&self) -> u64 {
        self.bytes_at_start
    }

    /// The log is longer than what a snapshot would leave free.
    fn is_due_early(&self, size: Size, least_bytes: u64, room: &Room) -> bool {
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

    fn frees_enough(&self, size: Size) -> Spend {
        match size.before() >= size.need + FREED_RESERVES * self.reserve.bytes() {
            true => Spend::Reserve,
            false => Spend::Nothing,
        }
    }

    /// Gives up the reserve if that makes room for the snapshot, or beside it for the next segment if the log has
    /// none. Fails if the snapshot still has no room.
    fn make_room(&self, need: u64, room: &Room, spend: Spend) -> anyhow::Result<()> {
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

    /// The file system may have promised too much, or another program has taken the space.
    fn make_more_room(&self, need: u64, error: &anyhow::Error) -> anyhow::Result<bool> {
        if !is_about_space(error) {
            return Ok(false);
        }
        self.remove_leftovers(None)?;
        Ok(self.give_up_reserve_for(need)?)
    }

    fn begin(&self, sealed: &Sealed, room: u64) -> anyhow::Result<Box<dyn Snapshot + '_>> {
        let writer = snapshot::Writer::create(&*self.disk, &self.names, &sealed.following)?;
        Ok(Box::new(File { writer, space: self, room }))
    }

    /// Deletes unfinished snapshots, and the files that a finished one covers.
    fn remove_leftovers(&self, sealed: Option<&Sealed>) -> anyhow::Result<()> {
        let found = self.disk.list(self.names.directory())?;
        let following = sealed.map(|sealed| &sealed.following);
        let leftovers = snapshot::leftovers(&found, &self.names, following);
        snapshot::delete(&*self.disk, &self.names, &leftovers);
        Ok(())
    }

    fn keep_room(&self, need: u64) {
        self.reserve.keep(need);
    }
}

/// A snapshot in a file.
struct File<'a> {
    writer: snapshot::Writer,
    space: &'a Space,
    /// Bytes that are kept free for it.
    room: u64,
}

impl Snapshot for File<'_> {
    fn push(&mut self, record: record::New<'_>) {
        self.writer.push(|frame| record.encode(|piece| frame.extend_from_slice(piece)));
    }

    fn is_full(&self) -> bool {
        self.writer.is_full()
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.writer.flush().context("cannot write the snapshot")?;
        self.space.reserve.keep(self.room.saturating_sub(self.writer.bytes()));
        Ok(())
    }

    fn finish(self: Box<Self>, go_on: &dyn Fn() -> anyhow::Result<()>) -> anyhow::Result<u64> {
        self.writer.finish(&*self.space.disk, &self.space.names, go_on)
    }
}

/// Whether the error would not have happened with more space.
fn is_about_space(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::StorageFull)
}
