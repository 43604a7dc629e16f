//! The server is killed with -9 under load, again and again on the same log, and every write that
//! was acknowledged is looked for after each restart.
//!
//! Each client has keys of its own, and numbers its operations on each. What an operation writes
//! follows from the seed, the key and the number, so a value that was never sent, or a mixture of
//! two, is no value of any operation. After a restart each key must be as some operation left it
//! that is not older than the last acknowledged one.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustix::process::Signal;

use crate::common::{Client, Rng, Server, command, seed};

const CLIENTS: usize = 50;
const KEYS_PER_CLIENT: usize = 4;

#[test]
fn acknowledged_writes_survive_three_kills() {
    survive(3, 3_000);
}

#[test]
#[ignore = "takes a quarter of a minute; for CI"]
fn acknowledged_writes_survive_twenty_kills() {
    survive(20, 20_000);
}

/// Kills the server `kills` times, each after at most `most_writes` acknowledged ones, and stops
/// it once in order, under the same load.
fn survive(kills: usize, most_writes: usize) {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let dir = tempfile::tempdir().expect("a directory");
    let mut keys: Vec<Key> =
        (0..CLIENTS * KEYS_PER_CLIENT).map(|index| Key::new(index, seed)).collect();
    let mut acknowledged = 0;
    for round in 0..=kills {
        let end = if round < kills { Signal::KILL } else { Signal::TERM };
        let server = Server::start(dir.path(), &[]);
        let load = Load {
            server: &server,
            end,
            end_at: 1 + rng.below(most_writes),
            acknowledged: AtomicUsize::new(0),
        };
        std::thread::scope(|scope| {
            for keys in keys.chunks_mut(KEYS_PER_CLIENT) {
                let rng = Rng::new(rng.next());
                let load = &load;
                scope.spawn(move || load.write(keys, rng));
            }
        });
        acknowledged += load.acknowledged.into_inner();
        let (status, _) = server.wait();
        assert_eq!(status.success(), end == Signal::TERM, "{status}");

        // A start may be killed like anything else, and the next one has to cope.
        if rng.below(2) == 0 {
            kill_while_starting(dir.path());
        }
        let server = Server::start(dir.path(), &[]);
        let mut client = Client::connect(&server);
        let lost: Vec<String> =
            keys.iter_mut().filter_map(|key| key.check(&client.ask(&key.get())).err()).collect();
        eprintln!("end {round}: {acknowledged} writes acknowledged so far, {} lost", lost.len());
        assert!(lost.is_empty(), "{}", lost.join("\n"));
        server.kill9();
    }
}

/// Kills a server at some moment after its first log line, which is before it reads its log.
fn kill_while_starting(dir: &Path) {
    let mut child = command(dir, &[]).stderr(Stdio::piped()).spawn().expect("a process");
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    stderr.read_line(&mut String::new()).expect("a log line");
    child.kill().expect("a running process");
    child.wait().expect("a killed process");
}

/// What all clients of one round share.
struct Load<'a> {
    server: &'a Server,
    /// How the server ends, and after how many acknowledged writes.
    end: Signal,
    end_at: usize,
    acknowledged: AtomicUsize,
}

impl Load<'_> {
    /// Writes, a few operations at a time, until the server is gone.
    fn write(&self, keys: &mut [Key], mut rng: Rng) {
        let Ok(mut client) = Client::try_connect(self.server) else {
            return;
        };
        loop {
            let chosen: Vec<usize> = (0..1 + rng.below(4)).map(|_| rng.below(keys.len())).collect();
            let lines: String = chosen.iter().map(|&index| keys[index].next_operation()).collect();
            if client.try_send(lines).is_err() {
                return;
            }
            for index in chosen {
                match client.try_line() {
                    Ok(line) => assert_eq!(line.escape_ascii().to_string(), "+OK"),
                    Err(_) => return,
                }
                keys[index].acknowledge();
                if self.acknowledged.fetch_add(1, Relaxed) + 1 == self.end_at {
                    self.server.signal(self.end);
                }
            }
        }
    }
}

/// What may have become of a key.
///
/// - `possible` are the operations that may have been the last: first the last acknowledged one,
///   then those that were sent after it. It is never empty; 0 is the beginning, without a value.
struct Key {
    name: String,
    seed: u64,
    next: u64,
    possible: VecDeque<u64>,
}

impl Key {
    fn new(index: usize, seed: u64) -> Key {
        let seed = Rng::new(seed.wrapping_add(index as u64)).next();
        Key { name: format!("key{index}"), seed, next: 1, possible: [0].into() }
    }

    /// What the operation with this number sets the key to, or that it deletes it.
    fn value(&self, number: u64) -> Option<String> {
        let mut rng = Rng::new(self.seed ^ number);
        if number == 0 || rng.below(8) == 0 {
            return None;
        }
        // Mostly short, now and then longer than a few blocks of the log.
        let limit = 2 << rng.below(14);
        let length = rng.below(limit);
        let letters = (0..length).map(|_| char::from(b'a' + rng.below(26) as u8));
        Some(format!("{}:{number}:{}", self.name, letters.collect::<String>()))
    }

    /// The line of the next operation, which is to be sent.
    fn next_operation(&mut self) -> String {
        let number = self.next;
        self.next += 1;
        self.possible.push_back(number);
        match self.value(number) {
            Some(value) => format!("SET {} {value}\n", self.name),
            None => format!("DEL {}\n", self.name),
        }
    }

    /// The oldest operation without an answer was answered.
    fn acknowledge(&mut self) {
        self.possible.pop_front();
    }

    fn get(&self) -> String {
        format!("GET {}", self.name)
    }

    fn reply_after(&self, number: u64) -> String {
        match self.value(number) {
            Some(value) => format!("+OK {value}"),
            None => format!("-GET could not find {} in store", self.name),
        }
    }

    /// Takes the answer to GET: an operation that may have been the last was the last.
    fn check(&mut self, reply: &str) -> Result<(), String> {
        let found = self.possible.iter().find(|&&number| self.reply_after(number) == reply);
        let Some(&found) = found else {
            let Key { name, possible, .. } = self;
            return Err(format!("{name}: one of operations {possible:?} expected: {reply:.80}"));
        };
        self.possible = [found].into();
        Ok(())
    }
}
