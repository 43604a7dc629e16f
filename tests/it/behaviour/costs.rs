//! What commands cost, as `src/costs.md` has it: no cost grows with the batch that the command is in, nor
//! with the square of its arguments, and during a long pipeline the other clients get their turns.
//!
//! Costs are the server's processor time, compared with that of as many plain commands, so nothing depends
//! on how busy the machine is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::wire::{Value, ask, reply, request, spaced};
use crate::common::{Client, Server, StopOnDrop, in_some_try};

/// Pairs of commands in a pipeline: their writes fill several batches.
const PAIRS: usize = 15_000;

/// Arguments of one command.
const ARGUMENTS: usize = 200_000;

/// A command may cost this many times as much as a plain one, and some ticks for the clock.
const TIMES: u64 = 5;
const TICKS: u64 = 30;

fn start(dir: &tempfile::TempDir) -> Server {
    Server::start(dir.path(), &["-fsync", "no"])
}

/// What it costs to answer these requests, in hundredths of a second.
fn cost(server: &Server, requests: Vec<u8>, replies: usize) -> u64 {
    let before = server.cpu_ticks();
    let mut client = Client::connect(server);
    let mut reading = Client::of(client.stream().try_clone().expect("a socket"));
    std::thread::scope(|scope| {
        scope.spawn(move || client.send(requests));
        (0..replies).for_each(|_| drop(reply(&mut reading).expect("a reply")));
    });
    server.cpu_ticks() - before
}

fn pairs(count: usize, second: &[&str]) -> Vec<u8> {
    let pair = |n: usize| [request(["SET", &format!("k{n}"), "v"]), request(second)].concat();
    (0..count).flat_map(pair).collect()
}

/// Seen: each DBSIZE and SCAN after writes walked all of the batch's changes, and 30,000 of them held up
/// all clients for 25 seconds. Now a batch keeps count, and knows its keys in the order of a walk.
#[test]
fn a_command_after_writes_in_a_batch_costs_the_same_however_many_writes_there_are() {
    for (inside, around) in [("a pipeline", None), ("a transaction", Some(["MULTI", "EXEC"]))] {
        let dir = tempfile::tempdir().expect("a directory");
        let server = start(&dir);
        let measure = |second: &[&str]| {
            let mut client = Client::connect(&server);
            assert_eq!(ask(&mut client, ["FLUSHALL"]), Value::ok());
            let [before, after] =
                around.map_or([Vec::new(), Vec::new()], |words| words.map(spaced));
            // Each SCAN has a long reply.
            let count = match (second[0], around) {
                ("SCAN", None) => 3000,
                ("SCAN", Some(_)) => 500,
                _ => PAIRS,
            };
            let replies = 2 * count + if around.is_some() { 2 } else { 0 };
            let inside = cost(&server, [before, pairs(count, second), after].concat(), replies);
            (inside, cost(&server, request(second).repeat(count), count))
        };
        let (plain, _) = measure(&["STRLEN", "k0"]);
        for second in [
            &["DBSIZE"][..],
            &["SCAN", "0"],
            &["SCAN", "1000000"],
            &["RANDOMKEY"],
            &["EXISTS", "k0", "none"],
            &["DEL", "none"],
            &["COPY", "none", "k"],
            &["WATCH", "k0"],
            &["EXPIRE", "k0", "1000"],
        ] {
            if second[0] == "WATCH" && around.is_some() {
                continue;
            }
            let (ticks, alone) = measure(second);
            eprintln!("{second:?} in {inside}: {ticks} ticks, alone {alone}, STRLEN {plain}");
            assert!(ticks < TIMES * (alone + plain) + TICKS, "{second:?} in {inside}: {ticks}");
        }
        server.stop();
    }
}

/// Seen: WATCH of one key 200,000 times took 23 seconds, because it looked through its list for each.
#[test]
fn an_argument_costs_the_same_however_many_there_are_and_however_often_it_is_repeated() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(&dir);
    let different: Vec<String> = (0..ARGUMENTS).map(|n| format!("k{n}")).collect();
    let same = vec!["k".to_owned(); ARGUMENTS];
    let command = |name: &str, keys: &[String], pairs: bool| {
        let value = pairs.then_some("v");
        let words = keys.iter().flat_map(|key| [Some(&**key), value]).flatten();
        request(std::iter::once(name).chain(words).collect::<Vec<_>>())
    };
    let plain = cost(&server, command("EXISTS", &different, false), 1);
    for (name, is_pairs) in [
        ("EXISTS", false),
        ("TOUCH", false),
        ("MGET", false),
        ("MSET", true),
        ("MSETNX", true),
        ("WATCH", false),
        ("DEL", false),
        ("UNLINK", false),
    ] {
        for keys in [&same, &different] {
            let ticks = cost(&server, command(name, keys, is_pairs), 1);
            eprintln!("{name} of {} keys: {ticks} ticks, {plain} for EXISTS", keys.len());
            assert!(ticks < 4 * TIMES * plain + TICKS, "{name}: {ticks} ticks, {plain} for EXISTS");
        }
    }
    // Many connections watch one key, each again and again.
    let mut clients: Vec<Client> = (0..200).map(|_| Client::connect(&server)).collect();
    let before = server.cpu_ticks();
    for round in 0..20 {
        clients.iter_mut().for_each(|client| client.send(spaced("WATCH a b c")));
        for client in &mut clients {
            assert_eq!(reply(client), Ok(Value::ok()), "round {round}");
            client.send(spaced("UNWATCH"));
        }
        clients.iter_mut().for_each(|client| assert_eq!(reply(client), Ok(Value::ok())));
    }
    let ticks = server.cpu_ticks() - before;
    assert!(ticks < TIMES * plain + 10 * TICKS, "{ticks} ticks, {plain} for EXISTS");
    server.stop();
}

/// A pipeline that keeps the committer busy; meanwhile another client writes, again and again.
#[test]
fn a_long_pipeline_gives_others_their_turn() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = start(&dir);
    for second in
        [&["DBSIZE"][..], &["SCAN", "0"], &["RANDOMKEY"], &["KEYS", "nothing*"], &["GET", "k0"]]
    {
        let mut other = Client::connect(&server);
        assert_eq!(ask(&mut other, ["FLUSHALL"]), Value::ok());
        // KEYS looks at every key that there is, and SCAN shows many of them.
        let count = if ["KEYS", "SCAN"].contains(&second[0]) { 3000 } else { PAIRS };
        in_some_try(|| {
            let requests = pairs(count, second);
            let done = AtomicBool::new(false);
            let (mut turns, mut longest) = (0, Duration::ZERO);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let _stop = StopOnDrop(&done);
                    cost(&server, requests, 2 * count);
                });
                while !done.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    assert_eq!(ask(&mut other, ["SET", "other", "1"]), Value::ok());
                    longest = longest.max(started.elapsed());
                    turns += 1;
                }
            });
            eprintln!("beside {count} x (SET, {second:?}): {turns} SETs, the longest {longest:?}");
            // By their bytes alone these KEYS fit into two batches, which gave 14 turns.
            let least = if second[0] == "KEYS" { 30 } else { 5 };
            if turns >= least { Ok(()) } else { Err(format!("{second:?}: {turns} turns")) }
        });
    }
    server.stop();
}
