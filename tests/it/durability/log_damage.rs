//! Promise 5, on every byte of a small log: whatever is flipped, zeroed, cut, swapped or missing,
//! a start finds either everything that was acknowledged, or refuses and says where.
//!
//! Two logs are tried: one whose server stopped in order, which has a closing mark, and one whose
//! server was killed just after a batch. In the second, damage to the last batch cannot be told
//! from a torn write: there that batch, and only that, may be missing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::{Rng, eventually, seed};
use crate::double::clients::{ask, open, open_with, options, set, value};
use crate::double::{self, DoubleDisk, WITNESS};
use post_gres_rs::command::Reply;
use post_gres_rs::engine::Fsync;
use post_gres_rs::wal;
use post_gres_rs::wal::frame::{FRAME_HEADER_BYTES, FrameHeader, MAGIC, SegmentHeader};

const BATCHES: usize = 12;
const ACTIVE: &str = "/log/wal_file";
const BLOCK: usize = 4096;

type Files = HashMap<PathBuf, Vec<u8>>;

/// A log of several segments with one batch per key; the values of some span blocks.
fn log(closed: bool) -> Files {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    for batch in 0..BATCHES {
        let reply = ask(&engine, set(&format!("key{batch}"), &expected(batch)));
        assert_eq!(reply, Reply::Ok);
    }
    let mut killed = disk.files();
    assert!(engine.close());
    let mut files = if closed { disk.files() } else { std::mem::take(&mut killed) };
    files.remove(Path::new("/log/wal_file.next"));
    files.remove(Path::new("/log/wal_file.reserve"));
    assert!(files.len() > 1, "the log has several segments: {:?}", files.keys());
    files
}

fn expected(batch: usize) -> String {
    format!("value {batch} {}", "x".repeat(batch % 3 * 5000))
}

/// Starts on files; says which keys are missing, or why it refuses.
fn start(files: &Files) -> Result<Vec<usize>, String> {
    let disk = DoubleDisk::with_files(files);
    let engine = match open(&disk, Fsync::Always) {
        Ok(engine) => engine,
        Err(error) => {
            assert!(disk.files() == *files, "refused, but changed something: {error:#}");
            return Err(format!("{error:#}"));
        }
    };
    let mut missing = Vec::new();
    for batch in 0..BATCHES {
        match value(&engine, &format!("key{batch}")) {
            Some(found) => assert!(found == expected(batch), "key{batch} has changed"),
            None => missing.push(batch),
        }
    }
    Ok(missing)
}

/// Asserts that everything is there, or that the start was refused with file and offset; `last_may_go`
/// allows the last batch to be missing.
fn check(files: &Files, last_may_go: bool, what: &str) {
    match start(files) {
        Ok(missing) if missing.is_empty() => {}
        Ok(missing) if last_may_go && missing == [BATCHES - 1] => {}
        Ok(missing) => panic!("{what}: started without {missing:?}"),
        Err(error) => {
            let placed = error.contains("offset") || error.contains("line");
            assert!(error.contains(ACTIVE) && placed, "{what}: refused without a place: {error}");
            assert!(error.contains("Nothing was changed"), "{what}: {error}");
        }
    }
}

/// Every change of one file, by `damage`.
fn check_each(closed: bool, mut damage: impl FnMut(&[u8], &mut dyn FnMut(Vec<u8>, String))) {
    let files = log(closed);
    for (path, bytes) in &files {
        damage(bytes, &mut |damaged, what| {
            let mut files = files.clone();
            files.insert(path.clone(), damaged);
            check(&files, !closed && path == Path::new(ACTIVE), &format!("{path:?}, {what}"));
        });
    }
}

#[test]
fn an_undamaged_log_starts_with_everything() {
    for closed in [true, false] {
        assert_eq!(start(&log(closed)), Ok(Vec::new()));
    }
}

#[test]
fn every_truncation_is_noticed() {
    for closed in [true, false] {
        check_each(closed, |bytes, check| {
            // Every length near the beginning of a block, and a sample of the others.
            let lengths = (0..bytes.len()).filter(|len| len % 4096 < 80 || len % 97 == 0);
            lengths.for_each(|len| check(bytes[..len].to_vec(), format!("cut to {len}")));
        });
    }
}

#[test]
fn a_flipped_bit_in_each_sampled_byte_is_noticed() {
    let mut rng = Rng::new(seed());
    let mut bits = rng.clone();
    flip_bits(&mut |at| rng.below(if at % 4096 < 128 { 3 } else { 150 }) == 0, &mut |_| {
        let bit = bits.below(8);
        (bit, bit + 1)
    });
}

#[test]
#[ignore = "some hundred thousand starts; the gate runs it"]
fn every_bit_of_a_sample_of_bytes_is_noticed_when_flipped() {
    flip_bits(&mut |at| at % 4096 < 256 || at % 11 == 0, &mut |_| (0, 8));
}

/// Flips, in each byte that is `chosen`, each bit in the range that `bits` gives.
fn flip_bits(
    chosen: &mut dyn FnMut(&usize) -> bool,
    bits: &mut dyn FnMut(usize) -> (usize, usize),
) {
    for closed in [true, false] {
        check_each(closed, |bytes, check| {
            let content = bytes.len() - bytes.iter().rev().take_while(|&&byte| byte == 0).count();
            for at in (0..content).filter(&mut *chosen) {
                let (first, end) = bits(at);
                for bit in first..end {
                    let mut flipped = bytes.to_vec();
                    flipped[at] ^= 1 << bit;
                    check(flipped, format!("bit {bit} of byte {at} flipped"));
                }
            }
        });
    }
}

#[test]
fn every_zeroed_sector_is_noticed() {
    for closed in [true, false] {
        check_each(closed, |bytes, check| {
            for sector in 0..bytes.len() / 512 {
                let mut zeroed = bytes.to_vec();
                zeroed[sector * 512..][..512].fill(0);
                check(zeroed, format!("sector {sector} zeroed"));
            }
        });
    }
}

#[test]
fn missing_swapped_doubled_and_foreign_segments_are_noticed() {
    let mut files = log(true);
    let mut other = log(true);
    // A note of another log is noticed, one of none is not missed.
    let mut noted = files.clone();
    noted.insert(WITNESS.into(), other.remove(Path::new(WITNESS)).expect("it is noted"));
    check_refused(&noted, "what is known of another log");
    files.remove(Path::new(WITNESS));
    assert_eq!(start(&files), Ok(Vec::new()));
    for path in files.keys() {
        let mut missing = files.clone();
        missing.remove(path);
        check_refused(&missing, &format!("{path:?} missing"));
        let mut foreign = files.clone();
        foreign.insert(path.clone(), other[path].clone());
        check_refused(&foreign, &format!("{path:?} from another log"));
        for second in files.keys().filter(|second| *second != path) {
            let mut doubled = files.clone();
            doubled.insert(path.clone(), files[second].clone());
            check_refused(&doubled, &format!("{second:?} in place of {path:?}"));
            let mut swapped = doubled;
            swapped.insert(second.clone(), files[path].clone());
            check_refused(&swapped, &format!("{path:?} and {second:?} swapped"));
        }
    }
}

fn check_refused(files: &Files, what: &str) {
    let error = start(files).expect_err(what);
    assert!(error.contains("Nothing was changed"), "{what}: {error}");
}

/// Seen: zeros over the last batches of a log that was not closed removed them unnoticed. Now a second file
/// notes how far the log was durable.
#[test]
fn zeros_over_the_end_of_a_log_are_noticed_as_soon_as_it_was_idle() {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    for batch in 0..BATCHES {
        assert_eq!(ask(&engine, set(&format!("key{batch}"), &expected(batch))), Reply::Ok);
    }
    let noted = BATCHES as u64;
    eventually("it is noted elsewhere", || {
        lsn_of(&disk.after_power_cut(&mut || false)) == Some(noted)
    });
    let mut files = disk.after_power_cut(&mut || false).files();
    files.remove(Path::new("/log/wal_file.next"));
    let whole = files[Path::new(ACTIVE)].clone();
    let blocks = whole.len() / BLOCK;
    let mut noticed = 0;
    let zeroed_from = |block: usize| {
        let mut zeroed = whole.clone();
        zeroed[block * BLOCK..].fill(0);
        zeroed
    };
    for from in 1..blocks {
        let zeroed = zeroed_from(from);
        let is_lost = zeroed != whole;
        files.insert(ACTIVE.into(), zeroed);
        match start(&files) {
            Ok(missing) => assert_eq!(missing, [0; 0], "zeros from block {from} on"),
            Err(error) => {
                assert!(error.contains(&format!("LSN {noted} was on disk")), "{from}: {error}");
                assert!(is_lost, "{error}");
                noticed += 1;
            }
        }
    }
    assert!(noticed > 0, "the last segment has a batch");

    // The log of an earlier program, or a copy without that file, is trusted by itself.
    files.remove(Path::new(WITNESS));
    files.insert(ACTIVE.into(), zeroed_from(1));
    assert!(!start(&files).expect("all is well, for all that is known").is_empty());
    // And a file that cannot be read is no reason to refuse anything.
    files.insert(ACTIVE.into(), whole);
    for wrong in [Vec::new(), vec![b'?'; 9000], vec![0; 100]] {
        files.insert(WITNESS.into(), wrong);
        assert_eq!(start(&files), Ok(Vec::new()));
    }
}

fn lsn_of(disk: &DoubleDisk) -> Option<u64> {
    let known = wal::guard::witness::read(disk, &wal::names::Names::new(Path::new(ACTIVE)));
    known.expect("it can be read").map(|known| known.lsn)
}

#[test]
fn a_torn_last_batch_is_cut_kept_aside_and_never_comes_back() {
    let mut files = log(false);
    let active = files.get_mut(Path::new(ACTIVE)).expect("the active segment");
    let content = active.len() - active.iter().rev().take_while(|&&byte| byte == 0).count();
    let torn = content / 4096 * 4096;
    active[torn + 600..torn + 700].fill(b'?');
    let disk = DoubleDisk::with_files(&files);
    let engine = open(&disk, Fsync::Always).expect("a torn tail is no damage");
    let kept: Vec<_> =
        disk.files().into_keys().filter(|path| path.to_string_lossy().ends_with(".torn")).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(ask(&engine, set("after", "the cut")), Reply::Ok);
    let again = open(&disk.after_power_cut(&mut || false), Fsync::Always).expect("restart");
    assert_eq!(value(&again, "after").as_deref(), Some("the cut"));
}

/// Seen: a whole frame of a kind that is not known was no frame to the search for a later one, so the damaged
/// batch before it was taken for a torn one and cut, though it had been acknowledged.
#[test]
fn a_damaged_batch_before_a_frame_of_a_later_program_is_not_cut() {
    let mut files = log(false);
    let active = files.get_mut(Path::new(ACTIVE)).expect("the active segment");
    let epoch = SegmentHeader::decode(MAGIC, &active[..4096]).expect("a header").epoch;
    let is_frame = |at: &usize| FrameHeader::decode(epoch, &active[*at..]).is_ok();
    let frames: Vec<usize> = (4096..active.len()).step_by(4096).filter(is_frame).collect();
    let &[.., damaged, later] = &frames[..] else { panic!("{frames:?}") };
    active[damaged + 70] ^= 1;
    active[later + 8] = 4;
    let covered = &active[later + 8..later + FRAME_HEADER_BYTES];
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&epoch.to_le_bytes()), covered);
    active[later + 4..later + 8].copy_from_slice(&checksum.to_le_bytes());
    let error = start(&files).expect_err("the frame after it may say that it was durable");
    assert!(error.contains(&format!("offset {damaged}")), "{error}");
}

/// Seen: a segment that was exactly full had no room for the mark, so damage to its last batch was
/// taken for a torn write, however long it had been acknowledged; and the committer spun. Now the
/// mark makes the file grow.
#[test]
fn the_last_batch_of_a_full_segment_is_marked_too() {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    let full = 32 << 10;
    for batch in 1..full / 4096 {
        assert_eq!(ask(&engine, set(&format!("key{batch}"), "value")), Reply::Ok);
    }
    // Its space is there before the mark is.
    let is_marked = |bytes: &[u8]| bytes.iter().skip(full).any(|&byte| byte != 0);
    eventually("the log is marked", || is_marked(&disk.files()[Path::new(ACTIVE)]));
    let mut files = disk.files();
    files.remove(Path::new("/log/wal_file.next"));
    files.get_mut(Path::new(ACTIVE)).expect("the active segment")[full - 4096 + 70] ^= 1;
    let error = start(&files).expect_err("damage to an acknowledged batch");
    assert!(error.contains("offset 28672"), "{error}");
}

/// Seen: an import that failed left a half-made segment under the name of the next one. After the seed's
/// file had been moved away, as the message says, a start went on with that half.
#[test]
fn an_import_that_fails_at_any_call_leaves_no_half_log_behind() {
    let records = 25_000;
    let line = |key: usize| format!("3SET9k{key:08}5value\n");
    let lines: String = (0..records).map(line).collect();
    for at in 1.. {
        let files = HashMap::from([(PathBuf::from(ACTIVE), lines.clone().into_bytes())]);
        let disk = DoubleDisk::with_files(&files);
        disk.fail_at(at, double::Fault::PowerCut);
        drop(open(&disk, Fsync::Always));
        let found = disk.after_power_cut(&mut || true);
        let mut files = found.files();
        if files.get(Path::new(ACTIVE)).is_some_and(|bytes| bytes.starts_with(b"3SET")) {
            files.remove(Path::new(ACTIVE));
        }
        let engine = open(&DoubleDisk::with_files(&files), Fsync::Always).expect("a start");
        let keys = engine.store().len();
        assert!(keys == 0 || keys == records, "call {at}: {keys} of {records} keys");
        if !disk.has_failed() {
            break;
        }
    }
}

/// A power cut takes all or some of the unsynced bytes. Then a start has everything, by this import or by
/// another one, and the old file has its own name or the one for keeping it.
#[test]
fn an_import_that_loses_power_at_any_call_loses_nothing() {
    let lines = "3SET1a1b\n3SET1c1d\n";
    for fsync in [Fsync::Always, Fsync::Never] {
        for at in 1.. {
            let files = HashMap::from([(PathBuf::from(ACTIVE), lines.into())]);
            let disk = DoubleDisk::with_files(&files);
            disk.fail_at(at, double::Fault::PowerCut);
            drop(open(&disk, fsync));
            for survivors in 0..4_u32 {
                let mut asked = 0;
                let found = disk.after_power_cut(&mut || {
                    asked += 1;
                    survivors & (1 << (asked % 2)) != 0
                });
                let engine = open(&found, fsync)
                    .unwrap_or_else(|error| panic!("call {at}, survivors {survivors}: {error:#}"));
                assert_eq!(engine.store().len(), 2, "call {at}, survivors {survivors}");
                let kept = found.files().remove(Path::new("/log/wal_file.imported"));
                let is_kept = kept.is_some_and(|kept| kept == lines.as_bytes());
                assert!(is_kept, "call {at}, survivors {survivors}: the old file is gone");
            }
            if !disk.has_failed() {
                break;
            }
        }
    }
}

/// Without a sync for each batch, a power cut can leave a later batch and take an earlier one. Both
/// are cut, and the later one must not be found again after what is written in their place.
#[test]
fn a_batch_after_a_lost_one_is_cut_with_it_and_never_comes_back() {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Never).expect("a fresh log");
    assert_eq!(ask(&engine, set("lost", "1")), Reply::Ok);
    assert_eq!(ask(&engine, set("behind", "1")), Reply::Ok);
    let mut files = disk.files();
    files.get_mut(Path::new(ACTIVE)).expect("the active segment")[4096..8192].fill(0);
    let disk = DoubleDisk::with_files(&files);
    let engine = open(&disk, Fsync::Never).expect("torn, not damaged");
    assert_eq!((value(&engine, "lost"), value(&engine, "behind")), (None, None));
    assert_eq!(ask(&engine, set("lost", "2")), Reply::Ok);
    let engine = open(&disk.after_kill(), Fsync::Never).expect("restart");
    assert_eq!(value(&engine, "lost").as_deref(), Some("2"));
    assert_eq!(value(&engine, "behind"), None);
}

/// A killed server leaves no mark after its last batch. The first batch of the next server says that all
/// before it is durable, because the start has synced it.
#[test]
fn damage_to_the_last_batch_before_a_kill_is_refused_once_another_batch_follows() {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    assert_eq!(ask(&engine, set("key0", &expected(0))), Reply::Ok);
    let killed = disk.after_kill();
    let engine = open(&killed, Fsync::Always).expect("restart");
    assert_eq!(ask(&engine, set("key1", &expected(1))), Reply::Ok);
    let mut files = killed.files();
    // The log alone says so.
    files.remove(Path::new(WITNESS));
    files.remove(Path::new("/log/wal_file.next"));
    files.get_mut(Path::new(ACTIVE)).expect("the active segment")[BLOCK + 70] ^= 1;
    let error = start(&files).expect_err("damage to an acknowledged batch");
    assert!(error.contains("offset 4096"), "{error}");
}

/// Two starts can write a batch of the same number at the same place, so the number is not enough: each
/// batch names the one before it by its checksum.
#[test]
fn a_batch_that_does_not_follow_the_one_before_it_is_refused() {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Never).expect("a fresh log");
    assert_eq!(ask(&engine, set("first", "old")), Reply::Ok);
    assert_eq!(ask(&engine, set("second", "old")), Reply::Ok);
    let mut files = disk.files();
    files.remove(Path::new("/log/wal_file.next"));
    let active = files.get_mut(Path::new(ACTIVE)).expect("the active segment");
    let second = active[2 * BLOCK..3 * BLOCK].to_vec();
    active[BLOCK..2 * BLOCK].fill(0);
    let disk = DoubleDisk::with_files(&files);
    let engine = open(&disk, Fsync::Never).expect("torn, not damaged");
    assert_eq!(ask(&engine, set("first", "new")), Reply::Ok);

    let mut files = disk.files();
    files.remove(Path::new("/log/wal_file.next"));
    let active = files.get_mut(Path::new(ACTIVE)).expect("the active segment");
    active[2 * BLOCK..3 * BLOCK].copy_from_slice(&second);
    let error = start(&files).expect_err("a batch of another history");
    assert!(error.contains("offset 8192") && error.contains("does not follow"), "{error}");
}

/// A log and a copy of it that were both written to have the same store, segments and numbers up to some
/// batch. After that the data differ.
#[test]
fn a_segment_of_a_copy_that_went_its_own_way_is_refused() {
    let (files, second) = (histories(), Path::new("/log/wal_file.0000000002.log"));
    for (own, other) in [(0, 1), (1, 0)] {
        let mut mixed: Files = files[own].clone();
        assert!(start(&mixed).is_ok());
        mixed.insert(second.to_owned(), files[other][second].clone());
        mixed.insert(ACTIVE.into(), files[other][Path::new(ACTIVE)].clone());
        let error = start(&mixed).expect_err("half of another history");
        assert!(error.contains("wal_file.0000000001.log") && error.contains("goes on"), "{error}");
    }
}

/// A log and a copy of it, both written to: batches equal in number and length, with other values.
fn histories() -> [Files; 2] {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    ask(&engine, set("key", "both"));
    assert!(engine.close());
    ["one", "two"].map(|value| {
        let disk = DoubleDisk::with_files(&disk.files());
        let engine = open(&disk, Fsync::Always).expect("a copy");
        (0..20).for_each(|_| drop(ask(&engine, set("key", value))));
        assert!(engine.close());
        disk.files()
    })
}

/// Seen with RocksDB and Pebble: a value that holds the bytes of a record was replayed as one when
/// the batch around it was torn (cockroach 35591). Here no value can know the segment's epoch.
#[test]
fn a_value_that_holds_a_whole_log_is_not_mistaken_for_one() {
    let inner = log(true)[Path::new(ACTIVE)].clone();
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    // So long that the frames inside come to stand on block boundaries.
    for shift in 0..3 {
        let mut bytes = vec![b'.'; 4096 - 64 - 12 - 4 - 1 - 3 - 5 - shift];
        bytes.extend_from_slice(&inner);
        let entry = post_gres_rs::entry::Entry::new(b"key", &bytes);
        assert_eq!(
            ask(&engine, post_gres_rs::command::Command::Set(entry, Default::default())),
            Reply::Ok
        );
    }
    let mut files = disk.files();
    files.remove(Path::new("/log/wal_file.next"));
    let active = files.get_mut(Path::new(ACTIVE)).expect("the active segment");
    // In the last batch.
    let filling = |bytes: &[u8]| bytes.iter().all(|&byte| byte == b'.');
    let last = active.windows(64).rposition(filling).expect("the value");
    active[last] ^= 1;
    let started = open(&DoubleDisk::with_files(&files), Fsync::Always);
    assert!(started.is_ok(), "a torn batch was taken for damage: {:#}", started.err().expect("so"));
}

/// A start after an ordered stop fills the segment up again, and its first batch overwrites the closing
/// mark. If that batch is torn, the last whole frame describes the file as it was before the stop.
#[test]
fn a_torn_first_batch_after_an_ordered_stop_is_cut_however_long_the_segment_was() {
    const TORN: &str = "the torn one";
    // A segment that has grown, so that a start fills less than there was.
    let log = wal::Options { first_segment_bytes: 8 << 10, ..options() };
    let open = |disk: &DoubleDisk| open_with(disk, log.clone(), Fsync::Always, Arc::default());
    for (batches, stops) in (1..BATCHES).flat_map(|batches| [(batches, 1), (batches, 3)]) {
        let disk = DoubleDisk::default();
        let engine = open(&disk).expect("a fresh log");
        for batch in 0..batches {
            ask(&engine, set(&format!("key{batch}"), &expected(batch)));
        }
        assert!(engine.close());
        // Stops with nothing written between: each has a mark of its own.
        (1..stops).for_each(|_| assert!(open(&disk).expect("it was closed in order").close()));
        let engine = open(&disk).expect("it was closed in order");
        assert_eq!(ask(&engine, set(TORN, &"x".repeat(3000))), Reply::Ok);
        let mut files = disk.files();
        drop(engine);
        files.remove(Path::new("/log/wal_file.next"));

        let active = files.get_mut(Path::new(ACTIVE)).expect("a segment");
        let place = active.windows(TORN.len()).position(|bytes| bytes == TORN.as_bytes());
        // One block, so that it fits after the others; the second half of it did not reach the disk.
        let block = place.expect("the batch is in it") / BLOCK * BLOCK;
        active[block + BLOCK / 2..block + BLOCK].fill(0);
        let missing = start(&files).unwrap_or_else(|error| panic!("{batches} batches: {error}"));
        assert_eq!(missing, (batches..BATCHES).collect::<Vec<_>>());
    }
}

/// The mark of a stop is after a segment that is full to its end. It alone shows that the last batch was
/// acknowledged, so a start must leave it until another batch is there.
#[test]
fn a_start_keeps_the_mark_after_a_full_segment() {
    let log = wal::Options { first_segment_bytes: 8 << 10, ..options() };
    let open = |disk: &DoubleDisk| open_with(disk, log.clone(), Fsync::Always, Arc::default());
    let disk = DoubleDisk::default();
    let engine = open(&disk).expect("a fresh log");
    ask(&engine, set("key0", &"x".repeat(9000)));
    assert!(engine.close());
    // This start can only read and fill up.
    let before = disk.files();
    let engine = open(&disk).expect("it was closed in order");
    let mut files = disk.files();
    drop(engine);
    files.remove(Path::new("/log/wal_file.next"));
    let (old, new) = (&before[Path::new(ACTIVE)], &files[Path::new(ACTIVE)]);
    assert!(
        new.starts_with(old) && new.len() > old.len(),
        "the start changes nothing that is there"
    );
}
