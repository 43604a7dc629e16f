//! The space that etcd has left for the log.
//!
//! etcd's quota counts a member's file, which grows and shrinks only when it is defragmented; what is free inside it is
//! used again. So what is in use decides, and the file only near its end. The last part of the quota is for what has to go
//! on when writes are refused: the head that a leader renews, and the snapshot that is the way out.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;

use crate::command::KeeperStatus;
use crate::engine::{Health, Room};
use crate::upkeep::Size;

/// Writes are refused once so much of the quota is in use.
const FULL_PERCENT: u64 = 80;

/// Or once the file has so much of it, free inside or not: at the quota etcd raises an alarm, and no server leads.
const FULL_FILE_PERCENT: u64 = 95;

/// A compaction that begins early has to free at least this part of what its snapshot takes.
const EARLY_PART: u64 = 4;

/// See the head of this file.
#[derive(Debug)]
pub struct Space {
    /// Bytes until writes are refused.
    left: AtomicU64,
    /// Bytes that a snapshot may take.
    free: AtomicU64,
}

impl Default for Space {
    /// Unknown: the next batch will tell.
    fn default() -> Space {
        Space { left: AtomicU64::new(u64::MAX), free: AtomicU64::new(u64::MAX) }
    }
}

impl Space {
    /// Notes how the members are. The one with the least space decides, for etcd as a whole refuses what one member
    /// has no space for.
    pub fn note<'a>(
        &self,
        members: impl Iterator<Item = &'a KeeperStatus>,
        quota: u64,
        health: &Health,
    ) {
        let Some(member) = members.min_by_key(|it| (!is_alarmed(it), left(it, quota))) else {
            return;
        };
        let (left, free) = (left(member, quota), free(member, quota));
        self.left.store(left, Ordering::Relaxed);
        self.free.store(free, Ordering::Relaxed);
        if left > 0 {
            return health.has_room();
        }
        let KeeperStatus { file_bytes, used_bytes, .. } = member;
        health.is_full(
            &format!(
                "etcd's file has {file_bytes} bytes of {quota}, {used_bytes} of them in use: delete keys, defragment its \
                 members, or give them a larger --quota-backend-bytes, and -wal-quota the same"
            )
            .into(),
        );
    }

    /// Whether a snapshot is to be written before there is no space for it.
    pub fn is_due_early(&self, size: Size, least_bytes: u64, room: &Room) -> bool {
        let is_short = match room {
            Room::Enough => self.left.load(Ordering::Relaxed) < size.need,
            Room::Short(_) | Room::Full(_) => true,
        };
        is_short && size.since >= least_bytes.max(size.need / EARLY_PART)
    }

    /// Whether so little is left that nothing is kept for servers that read the log a moment behind.
    pub fn is_short(&self, need: u64, room: &Room) -> bool {
        *room != Room::Enough || self.left.load(Ordering::Relaxed) < need
    }

    /// Fails if a snapshot of this many bytes could use up the quota.
    pub fn make_room(&self, need: u64) -> anyhow::Result<()> {
        let free = self.free.load(Ordering::Relaxed);
        ensure!(
            need <= free,
            "the snapshot may need {need} bytes, and etcd has {free} left of its quota: delete keys, or give its members \
             more, and -wal-quota the same"
        );
        Ok(())
    }
}

fn percent(bytes: u64, part: u64) -> u64 {
    bytes / 100 * part
}

fn is_alarmed(member: &KeeperStatus) -> bool {
    member.alarms.iter().any(|text| text.contains("NOSPACE"))
}

/// Bytes that a snapshot may take: what is free inside the file serves it, too.
fn free(member: &KeeperStatus, quota: u64) -> u64 {
    match is_alarmed(member) {
        true => 0,
        false => percent(quota, FULL_FILE_PERCENT).saturating_sub(member.used_bytes),
    }
}

/// Bytes that batches may take.
fn left(member: &KeeperStatus, quota: u64) -> u64 {
    match is_alarmed(member) || member.file_bytes >= percent(quota, FULL_FILE_PERCENT) {
        true => 0,
        false => percent(quota, FULL_PERCENT).saturating_sub(member.used_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: u64 = 1000;

    fn member(file_bytes: u64, used_bytes: u64, alarms: &[&str]) -> KeeperStatus {
        let alarms = alarms.iter().map(|it| (*it).to_owned()).collect();
        KeeperStatus { version: "3.4.23".into(), leads: false, file_bytes, used_bytes, alarms }
    }

    fn noted(members: &[KeeperStatus]) -> (Space, Room) {
        let (space, health) = (Space::default(), Health::default());
        space.note(members.iter(), QUOTA, &health);
        (space, health.room())
    }

    #[test]
    fn writes_are_refused_by_what_is_in_use_by_a_file_near_its_end_and_by_an_alarm() {
        let alarm = "memberID:5 alarm:NOSPACE ";
        for (file, used, alarms, is_full) in [
            (799, 799, &[][..], false),
            (800, 800, &[], true),
            // After a compaction: etcd uses again what is free inside its file.
            (949, 100, &[], false),
            (950, 100, &[], true),
            (100, 100, &["memberID:5 alarm:CORRUPT "], false),
            (100, 100, &[alarm], true),
        ] {
            let (_, room) = noted(&[member(10, 10, &[]), member(file, used, alarms)]);
            assert_eq!(matches!(room, Room::Full(_)), is_full, "{file} {used} {alarms:?}");
        }
        let (space, room) = noted(&[]);
        assert_eq!(room, Room::Enough, "nothing is known");
        assert!(space.make_room(1 << 40).is_ok());
    }

    #[test]
    fn a_compaction_begins_while_its_snapshot_still_fits() {
        let size = |need, since| Size { need, snapshot: need, since };
        let (space, room) = noted(&[member(600, 600, &[])]);
        assert!(!space.is_due_early(size(200, 999), 1, &room), "it fits");
        assert!(space.is_due_early(size(201, 51), 1, &room));
        assert!(!space.is_due_early(size(201, 49), 1, &room), "it would free too little");
        assert!(!space.is_due_early(size(201, 51), 52, &room), "it would free too little");
        assert!(space.is_short(201, &room) && !space.is_short(200, &room));
        assert!(space.make_room(350).is_ok());
        assert!(space.make_room(351).is_err(), "the quota would be used up");
        let (space, room) = noted(&[member(960, 300, &[])]);
        assert!(space.is_due_early(size(200, 60), 1, &room), "it is full");
        assert!(space.make_room(650).is_ok(), "what is free inside the file serves a snapshot");
    }
}
