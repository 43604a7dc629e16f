//! Requests and logs that no program would write: seeds from `fuzz/corpus`, changed at random.
//!
//! Three targets, all through public functions: the protocol parser, which must find the same
//! requests however its input is cut; `record`, which must give back what it read; and the
//! start on a log, which opens or names the place that is wrong. None may panic, and none may take
//! much more memory than the bytes that it was given.
//!
//! Files in `corpus/log` are records and logs of the seed's format. Logs of our own are made here,
//! because a log has random numbers in it, and half of the changed ones get valid checksums again:
//! otherwise no change would get past those.
//!
//! TEST_SEED repeats a run, except for the random numbers in those logs. An input that fails is
//! printed as the inside of a byte string: put its bytes into the corpus as a file, and it is tried
//! first from then on.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Rng, alone, seed};
use crate::double::DoubleDisk;
use crate::double::clients::{ask, command, open, set};
use post_gres_rs::command::{Command, Dialect, LineEnd, Logged, Reply, RespVersion};
use post_gres_rs::commands::{self, Asked};
use post_gres_rs::engine::Fsync;
use post_gres_rs::protocol::{self, Limits, Parsed, Parser};
use post_gres_rs::record::{New, Record};
use post_gres_rs::wal::block::BLOCK_BYTES;
use post_gres_rs::wal::frame::{FRAME_HEADER_BYTES, MAGIC, payload_checksum};

/// What an ordinary test run spends here.
const SHORT: Duration = Duration::from_secs(2);

/// What the long run spends unless FUZZ_SECONDS says otherwise.
const LONG_SECONDS: u64 = 30;

/// After this many inputs that fail, the rest of a run says nothing new.
const CRASHES: usize = 10;

/// Inputs grow no further, except by [`FLOOD_BYTES`]: short ones are tried more often.
const INPUT_BYTES: usize = 4096;

/// One insertion in a thousand is longer than any line may be.
const FLOOD_BYTES: usize = 70_000;

/// A value that is longer is refused: a limit that short inputs can meet.
const VALUE_BYTES: usize = 1000;

/// Memory that a parser may take for any input: the answer to COMMAND has some ten thousand parts.
const PARSER_BYTES: usize = 2 << 20;

/// Memory that a parser may take for a byte: `COMMAND INFO` answers a word of nine bytes with a row
/// of about 700.
const PARSER_BYTES_PER_BYTE: usize = 200;

/// Memory that a start may take: windows of 1 MiB for reading, queues, and the double's copies of
/// the segments it prepares.
const START_BYTES: usize = 32 << 20;

/// Bytes of a segment's first block that are fields; a frame's header has fewer.
const SEGMENT_FIELDS: usize = 88;

/// The longest file that a resealed header announces: longer than any here, and quickly filled.
const FILE_BYTES: u64 = 1 << 20;

const ACTIVE: &str = "/log/wal_file";

type Files = HashMap<PathBuf, Vec<u8>>;

#[test]
fn no_input_breaks_the_parser_or_a_start() {
    if alone(module_path!(), "no_input_breaks_the_parser_or_a_start") {
        fuzz(SHORT);
    }
}

#[test]
#[ignore = "half a minute, or FUZZ_SECONDS; CI runs it"]
fn no_input_breaks_the_parser_or_a_start_for_longer() {
    if !alone(module_path!(), "no_input_breaks_the_parser_or_a_start_for_longer") {
        return;
    }
    let seconds = std::env::var("FUZZ_SECONDS").map(|text| text.parse().expect("seconds"));
    fuzz(Duration::from_secs(seconds.unwrap_or(LONG_SECONDS)));
}

/// Spends half of the time on requests and half on logs, and fails at the end if any input failed.
fn fuzz(time: Duration) {
    COUNTS.store(true, Ordering::Relaxed);
    let seed = seed();
    let requests: Vec<_> = corpus("resp").into_iter().chain(corpus("text")).collect();
    let crashes = run("requests", time / 2, seed, &requests, mutate, try_requests)
        + run("records", time / 8, seed, &corpus("log"), mutate, try_record)
        + run("old logs", time / 8, seed, &corpus("log"), mutate, try_log)
        + run("logs", time / 4, seed, &logs(), mutate_log, try_log);
    assert_eq!(crashes, 0, "see the inputs above");
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/durability/fuzz/corpus").join(name);
    let entries = fs::read_dir(&directory).expect("the corpus");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort(); // A seed must repeat a run wherever the directory is.
    paths.iter().map(|path| fs::read(path).expect("a readable file")).collect()
}

/// Tries all of `corpus` as it is, then changed until the time is over: how many inputs failed.
fn run(
    name: &str,
    time: Duration,
    seed: u64,
    corpus: &[Vec<u8>],
    mutate: fn(&mut Vec<u8>, &[Vec<u8>], &mut Rng),
    target: fn(&[u8], &mut Rng),
) -> usize {
    let rng = &mut Rng::new(seed);
    assert!(!corpus.is_empty(), "there is something to begin with for {name}");
    let started = Instant::now();
    let (mut executions, mut crashes) = (0, 0);
    while crashes < CRASHES && (executions < corpus.len() || started.elapsed() < time) {
        let mut input = corpus[executions % corpus.len()].clone();
        if executions >= corpus.len() {
            (0..=rng.below(4)).for_each(|_| mutate(&mut input, corpus, rng));
        }
        executions += 1;
        if catch_unwind(AssertUnwindSafe(|| target(&input, rng))).is_err() {
            crashes += 1;
            eprintln!("{name} failed on b\"{}\"", input.escape_ascii());
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    eprintln!(
        "{name}: {executions} executions in {seconds:.1} s, {:.0}/s, {crashes} crashes",
        executions as f64 / seconds
    );
    crashes
}

/// Changes one thing.
fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut Rng) {
    let limit = input.len().max(INPUT_BYTES);
    let (from, to) = range(input, rng);
    match rng.below(8) {
        0 if from < input.len() => input[from] ^= 1 << rng.below(8),
        1 => input.insert(from, interesting_byte(rng)),
        2 => drop(input.drain(from..to)),
        3 => {
            let other = &corpus[rng.below(corpus.len())];
            let (first, last) = range(other, rng);
            input.splice(from..to, other[first..last].iter().copied());
        }
        4 => {
            let piece = input[from..to].repeat(1 + rng.below(8));
            input.splice(from..from, piece);
        }
        5 => input.truncate(from),
        6 => replace_number(input, from, rng),
        _ if rng.below(100) == 0 => {
            let flood = vec![interesting_byte(rng); FLOOD_BYTES];
            input.splice(from..from, flood);
            return;
        }
        _ => replace_binary_number(input, from, rng),
    }
    input.truncate(limit);
}

/// A part of `bytes`, more often a short one.
fn range(bytes: &[u8], rng: &mut Rng) -> (usize, usize) {
    let from = rng.below(bytes.len() + 1);
    let longest = if rng.below(2) == 0 { 16 } else { bytes.len() };
    (from, from + rng.below((bytes.len() - from).min(longest) + 1))
}

fn interesting_byte(rng: &mut Rng) -> u8 {
    const BYTES: &[u8] = b"*$\r\n\r\n\"'\\x \t\0\x7f\x80\xff-0123456789";
    if rng.below(4) == 0 { rng.next() as u8 } else { BYTES[rng.below(BYTES.len())] }
}

/// Numbers at the limits of types and lengths.
const NUMBERS: &[i128] = &[
    -1,
    0,
    1,
    10,
    11,
    VALUE_BYTES as i128,
    VALUE_BYTES as i128 + 1,
    16 * 1024,
    64 * 1024,
    1 << 20,
    (1 << 20) + 1,
    i32::MAX as i128,
    u32::MAX as i128,
    u32::MAX as i128 + 1,
    i64::MAX as i128 / 1000,
    i64::MIN as i128,
    i64::MAX as i128,
    u64::MAX as i128,
    u64::MAX as i128 - 63,
    u64::MAX as i128 + 1,
];

/// Puts such a number where the first digits after `from` stand.
fn replace_number(input: &mut Vec<u8>, from: usize, rng: &mut Rng) {
    let Some(first) = input[from..].iter().position(u8::is_ascii_digit) else {
        return;
    };
    let digits = input[from + first..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = NUMBERS[rng.below(NUMBERS.len())].to_string();
    input.splice(from + first..from + first + digits, number.into_bytes());
}

/// Puts such a number where a field of four or eight bytes might be.
fn replace_binary_number(input: &mut [u8], at: usize, rng: &mut Rng) {
    let bytes = NUMBERS[rng.below(NUMBERS.len())].to_le_bytes();
    let width = 4 << rng.below(2);
    if let Some(field) = input.get_mut(at / 4 * 4..).and_then(|rest| rest.get_mut(..width)) {
        field.copy_from_slice(&bytes[..width]);
    }
}

// Requests.

/// The same requests come out however the bytes are cut, and no reply breaks its line.
fn try_requests(input: &[u8], rng: &mut Rng) {
    let authenticated = rng.below(4) != 0;
    for _ in 0..3 {
        let whole = requests(input, authenticated, &mut |_| input.len());
        let cut = requests(input, authenticated, &mut |at| at + 1 + rng.below(20));
        // A time that counts from now differs if the clock has moved on: then once more.
        if requests(input, authenticated, &mut |_| input.len()) == whole {
            assert!(whole == cut, "whole:\n{whole:#?}\ncut:\n{cut:#?}");
            return;
        }
    }
}

/// What a connection makes of `input` that arrives in pieces; given where a piece begins, `next` says where
/// it ends.
fn requests(
    input: &[u8],
    authenticated: bool,
    next: &mut dyn FnMut(usize) -> usize,
) -> Vec<String> {
    let limits = Limits { value: VALUE_BYTES, ..Limits::default() };
    let mut parser = Parser::new(authenticated, limits);
    let (mut taken, mut arrived) = (0, 0);
    let mut requests = Vec::new();
    loop {
        let received = &mut input[taken..arrived].to_vec()[..];
        let all = received.len();
        let most = PARSER_BYTES + PARSER_BYTES_PER_BYTE * all;
        let length = match within(most, || parser.parse(received)) {
            Parsed::Incomplete if arrived == input.len() => break,
            Parsed::Incomplete => {
                arrived = next(arrived).min(input.len());
                continue;
            }
            Parsed::Nothing(length) => length,
            Parsed::Request(words, dialect, length) => {
                let look_up =
                    || commands::look_up(&words, dialect, RespVersion::V2, Limits::default().key);
                let Asked { named, found, dialect } = within(most, look_up);
                let name = named.map(|spec| spec.name);
                let command = found.map(|_| within(most, || commands::command(&words)));
                requests.push(format!("{command:?} {dialect:?} {name:?}"));
                match command {
                    Err(text) | Ok(Err(text)) => check_error(&Reply::Error(text), dialect),
                    Ok(Ok(Command::Answered(reply))) => check_error(&reply, dialect),
                    Ok(Ok(_)) => {}
                }
                length
            }
            Parsed::TooLong(dialect, length) => {
                requests.push(format!("too long {dialect:?}"));
                length
            }
            Parsed::Fatal(error, dialect) => {
                check_error(&Reply::Error(error.clone()), dialect);
                // The error for a line that is too long depends on how much of it has come.
                requests.push(format!("fatal: {error}"));
                break;
            }
            Parsed::Http | Parsed::Tls => {
                requests.push("HTTP".into());
                break;
            }
        };
        assert!((1..=all).contains(&length), "{length} of {all} bytes");
        taken += length;
    }
    requests
}

fn check_error(reply: &Reply<'_>, dialect: Dialect) {
    let Reply::Error(text) = reply else {
        return;
    };
    let versions = [RespVersion::V2, RespVersion::V3].map(Dialect::Resp);
    for dialect in [dialect].into_iter().chain(versions) {
        let mut out = Vec::new();
        protocol::encode(&[], dialect, &Reply::Error(text.clone()), &mut out);
        check_line(&out, dialect);
    }
}

fn check_line(out: &[u8], dialect: Dialect) {
    let end: &[u8] = if dialect == Dialect::Text(LineEnd::Lf) { b"\n" } else { b"\r\n" };
    let line = out.strip_prefix(b"-").and_then(|rest| rest.strip_suffix(end));
    let line = line.unwrap_or_else(|| panic!("no error line: {}", out.escape_ascii()));
    assert!(!line.iter().any(|byte| b"\r\n".contains(byte)), "{}", out.escape_ascii());
}

// Records and logs.

/// A record is written back as the bytes it was read from, except for the spelling of an expiry.
fn try_record(input: &[u8], _: &mut Rng) {
    let most = 4 * input.len() + 1024;
    fn decode(bytes: &[u8]) -> Option<(Logged<'_>, usize)> {
        let (record, rest) = Record::cut(bytes)?;
        Some((record.read().ok()?, bytes.len() - rest.len()))
    }
    let Some((logged, length)) = within(most, || decode(input)) else {
        return;
    };
    assert!((1..=input.len()).contains(&length), "{length} of {} bytes", input.len());
    let mut encoded = Vec::new();
    let mut encode = |new: New<'_>| new.encode(|piece| encoded.extend_from_slice(piece));
    match &logged {
        Logged::In(space, change) => encode(New::In(*space, &change.to_mutation())),
        Logged::ClearAll => encode(New::ClearAll),
        Logged::Order(order) => encode(New::Order(order)),
    }
    let again = decode(&encoded).map(|(logged, _)| logged);
    assert_eq!(again, Some(logged), "is read back as another");
}

/// Logs of several segments, one that was closed and one that was not, each as one input: see
/// [`files_of`].
fn logs() -> Vec<Vec<u8>> {
    let disk = DoubleDisk::default();
    let engine = open(&disk, Fsync::Always).expect("a fresh log");
    for batch in 0..8 {
        let value = "x".repeat(batch % 3 * 5000);
        assert_eq!(ask(&engine, set(&format!("key{batch}"), &value)), Reply::Ok);
        let (here, there) = (batch as u16, (batch + 3).to_string());
        let in_databases = vec![
            set("moved", &value),
            Command::Select(here + 1),
            set("key", &value),
            command(&["move", "key", &there]),
            command(&["swapdb", "1", &there]),
            Command::Select(here),
            command(&["flushdb"]),
            // Long ones are changed in place.
            command(&["append", "key1", &value]),
            command(&["setrange", &format!("key{}", batch % 3), "1", "patch"]),
            command(&["pexpireat", "key2", "4102444800000"]),
        ];
        let done = ask(&engine, Command::Transaction(in_databases, None));
        assert!(matches!(done, Reply::Array(_)), "{done:?}");
    }
    let killed = disk.files();
    assert!(engine.close());
    [killed, disk.files()].into_iter().map(as_input).collect()
}

/// Starts on a log; if that is refused, the error names a place, and nothing has changed.
fn try_log(input: &[u8], _: &mut Rng) {
    let files = files_of(input);
    let disk = DoubleDisk::with_files(&files);
    match within(START_BYTES, || open(&disk, Fsync::Always)) {
        Ok(engine) => assert!(engine.close(), "a log that opens can be closed"),
        Err(error) => {
            let error = format!("{error:#}");
            let placed = ["offset ", "line ", "is missing", "-databases "]
                .iter()
                .any(|word| error.contains(word));
            assert!(error.contains(ACTIVE) && placed, "refused without a place: {error}");
            assert!(disk.files() == files, "refused, but changed something: {error}");
        }
    }
}

/// The segments of a log, one after the other.
fn as_input(mut files: Files) -> Vec<u8> {
    files.remove(Path::new("/log/wal_file.next"));
    let mut paths: Vec<PathBuf> = files.keys().cloned().collect();
    // The archived ones, by number, and the active one after them.
    paths.sort_by_key(|path| (path == Path::new(ACTIVE), path.clone()));
    paths.into_iter().flat_map(|path| files.remove(&path).expect("just seen")).collect()
}

/// The files that an input stands for: each begins with the magic number, and the last is active.
fn files_of(input: &[u8]) -> Files {
    let mut segments = segments(input);
    let active = segments.pop().expect("there is always one");
    let archived = (1..).map(|number| PathBuf::from(format!("{ACTIVE}.{number:010}.log")));
    let paths = archived.take(segments.len()).chain([PathBuf::from(ACTIVE)]);
    let segments = segments.into_iter().chain([active]);
    paths.zip(segments.map(|segment| input[segment].to_vec())).collect()
}

/// Where the segments stand in an input.
fn segments(input: &[u8]) -> Vec<Range<usize>> {
    let begins = memchr::memmem::find_iter(input, MAGIC).filter(|&at| at > 0);
    let mut ends: Vec<usize> = begins.collect();
    ends.push(input.len());
    let mut from = 0;
    ends.into_iter().map(|end| std::mem::replace(&mut from, end)..end).collect()
}

/// Changes one thing, half of the time in a header, and makes checksums fit again half of the time.
fn mutate_log(input: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut Rng) {
    if rng.below(2) == 0 {
        mutate(input, corpus, rng);
    } else {
        let block = rng.below(input.len() / BLOCK_BYTES + 1) * BLOCK_BYTES;
        let at = block + rng.below(SEGMENT_FIELDS);
        match input.get_mut(at) {
            Some(byte) if rng.below(2) == 0 => *byte ^= 1 << rng.below(8),
            _ => replace_binary_number(input, at, rng),
        }
    }
    if rng.below(2) == 0 {
        seal(input, rng.below(4) != 0);
    }
}

/// Gives headers and frames valid checksums; with `chain` also valid fields about the one before.
fn seal(input: &mut [u8], chain: bool) {
    let mut last = (0, 0);
    for range in segments(input) {
        let segment = &mut input[range];
        if segment.len() < BLOCK_BYTES {
            continue;
        }
        if chain {
            put(segment, 64, u64::to_le_bytes(last.0));
            put(segment, 72, u32::to_le_bytes(last.1));
        }
        limit_file_bytes(segment, 80);
        let checksum = crc32c::crc32c(&segment[24..BLOCK_BYTES]);
        put(segment, 20, checksum.to_le_bytes());
        last.0 = u64::from_le_bytes(get(segment, 48));
        for at in (BLOCK_BYTES..segment.len()).step_by(BLOCK_BYTES) {
            let frame = &mut segment[at..];
            if frame.len() < FRAME_HEADER_BYTES || !frame.starts_with(b"PGB1") {
                continue;
            }
            seal_frame(frame, last.0, chain.then_some(last.1));
            last.1 = u32::from_le_bytes(get(frame, 4));
        }
    }
}

fn seal_frame(frame: &mut [u8], epoch: u64, previous: Option<u32>) {
    let payload_bytes = u64::from_le_bytes(get(frame, 16));
    let payload_bytes = usize::try_from(payload_bytes).unwrap_or(usize::MAX);
    if let Some(payload) = frame[FRAME_HEADER_BYTES..].get(..payload_bytes) {
        let checksum = payload_checksum(epoch, u64::from_le_bytes(get(frame, 24)), payload);
        put(frame, 44, checksum.to_le_bytes());
    }
    if let Some(previous) = previous {
        put(frame, 40, previous.to_le_bytes());
    }
    limit_file_bytes(frame, 48);
    let seed = crc32c::crc32c(&epoch.to_le_bytes());
    let checksum = crc32c::crc32c_append(seed, &frame[8..FRAME_HEADER_BYTES]);
    put(frame, 4, checksum.to_le_bytes());
}

/// A start fills a file with zeros up to the length in a valid header, which here would only take memory. A
/// length that no segment has (found here: 2^57 bytes) is left as it is: it must be refused.
fn limit_file_bytes(bytes: &mut [u8], at: usize) {
    let told = u64::from_le_bytes(get(bytes, at));
    if told <= post_gres_rs::wal::LARGEST_SEGMENT_BYTES {
        put(bytes, at, told.min(FILE_BYTES).to_le_bytes());
    }
}

fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("as many bytes")
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, field: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&field);
}

// Memory.

/// Counts what the process holds.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
/// Set only in a process that runs one of these tests and nothing else.
static COUNTS: AtomicBool = AtomicBool::new(false);
static HELD: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

// SAFETY: `System` does all the work, with the layouts that it is called with; counting touches no
// memory but three atomics.
#[expect(unsafe_code, reason = "memory is counted where it is given out, and there is no safe way")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.load(Ordering::Relaxed) {
            let size = layout.size() as isize;
            let held = HELD.fetch_add(size, Ordering::Relaxed) + size;
            PEAK.fetch_max(held, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract of the same function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if COUNTS.load(Ordering::Relaxed) {
            HELD.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract of the same function.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Runs `work`, which may take at most `most` bytes more than are held now.
fn within<T>(most: usize, work: impl FnOnce() -> T) -> T {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    let taken = PEAK.load(Ordering::Relaxed) - before;
    assert!(COUNTS.load(Ordering::Relaxed), "memory is counted");
    assert!(taken <= most as isize, "took {taken} bytes, and {most} were to be enough");
    result
}
