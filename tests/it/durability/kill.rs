//! The server is killed with -9 under load, again and again on the same log, and every write that
//! was acknowledged is looked for after each restart.
//!
//! Each client has keys of its own, whose [`History`] says what may be found, or two databases of its own, of which a
//! [`Pair`] says that.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustix::process::Signal;

use super::history::{Change, History, NOW, Register, value_in};
use super::pairs::{Pair, Sent};
use crate::common::wire::reply;
use crate::common::{Client, Rng, Server, command, seed};

const CLIENTS: usize = 50;
const KEYS_PER_CLIENT: usize = 4;

/// Clients with two databases each.
const PAIRS: u16 = 6;

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
    // Every other register is a pair of keys, which a script changes together.
    let keys = (0..CLIENTS * KEYS_PER_CLIENT).map(|index| match index % 2 {
        1 if cfg!(feature = "scripts") => vec![format!("key{index}"), format!("other{index}")],
        _ => vec![format!("key{index}")],
    });
    let mut history = History::new(seed, keys);
    let mut pairs: Vec<Pair> = (0..PAIRS).map(Pair::new).collect();
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
            for keys in history.registers.chunks_mut(KEYS_PER_CLIENT) {
                let rng = Rng::new(rng.next());
                let load = &load;
                scope.spawn(move || load.write(keys, rng));
            }
            for pair in &mut pairs {
                let rng = Rng::new(rng.next());
                let load = &load;
                scope.spawn(move || load.swap(pair, rng));
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
        let value = |key: &str| value_in(&client.ask(&format!("GET {key}")), key);
        history.settle(value).unwrap_or_else(|what| panic!("{what}"));
        for pair in &mut pairs {
            pair.settle(&mut client).unwrap_or_else(|what| panic!("{what}"));
        }
        eprintln!("end {round}: {acknowledged} writes acknowledged so far, none lost");
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
    fn write(&self, registers: &mut [Register], mut rng: Rng) {
        let Ok(mut client) = Client::try_connect(self.server) else {
            return;
        };
        loop {
            let mut lines = String::new();
            let mut sent = Vec::new();
            for _ in 0..1 + rng.below(4) {
                let index = rng.below(registers.len());
                let register = &mut registers[index];
                let change = Change::random(&mut rng, register.keys.len());
                let number = register.send(change, NOW);
                lines += &register.line(number);
                sent.push((index, number, register.reply(number)));
            }
            if client.try_send(lines).is_err() {
                return;
            }
            for (index, number, expected) in sent {
                match client.try_line() {
                    Ok(line) => assert!(line.starts_with(expected.as_bytes()), "{line:?}"),
                    Err(_) => return,
                }
                registers[index].acknowledge(number, NOW);
                self.count();
            }
        }
    }

    /// Works in two databases, a few operations at a time, until the server is gone.
    fn swap(&self, pair: &mut Pair, mut rng: Rng) {
        let Ok(mut client) = Client::try_connect(self.server) else {
            return;
        };
        loop {
            let sent: Vec<Sent> = (0..1 + rng.below(4)).map(|_| pair.send(&mut rng, NOW)).collect();
            let requests: Vec<u8> = sent.iter().flat_map(|sent| sent.request.clone()).collect();
            if client.try_send(requests).is_err() {
                return;
            }
            for Sent { number, replies, .. } in sent {
                for expected in replies {
                    match reply(&mut client) {
                        Ok(told) => assert_eq!(told, expected, "operation {number}"),
                        Err(_) => return,
                    }
                }
                pair.acknowledge(number, NOW);
                self.count();
            }
        }
    }

    /// Counts an acknowledged operation; after the last one the server ends.
    fn count(&self) {
        if self.acknowledged.fetch_add(1, Relaxed) + 1 == self.end_at {
            self.server.signal(self.end);
        }
    }
}
