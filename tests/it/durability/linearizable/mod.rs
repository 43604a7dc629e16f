//! Clients that all use the same few keys, over kills with -9 and restarts: some order in which all
//! operations took effect, one after the other, must explain what each client saw.
//!
//! The history goes on across the restarts, so it tests durability as well: a write that was answered
//! before a kill, or only seen by a read, must not be undone after it. An operation without an answer
//! may have happened before the kill or not at all.

pub mod checker;
pub mod keys;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

use rustix::process::Signal;

use crate::common::wire::reply;
use crate::common::{Client, Rng, Server, seed};
use checker::{Operation, check};
use keys::{Answer, Call, Keys, Text};

/// As many at the same time that each key is always used by several.
const CLIENTS: usize = 8;

/// The most operations that are sent before the first reply is read.
const MOST_PIPELINED: usize = 4;

/// The keys of each object. The two of the last are set and read together.
const OBJECTS: [&[&str]; 4] = [&["register"], &["text"], &["counter"], &["left", "right"]];
const COUNTER: usize = 2;
const PAIR: usize = 3;

/// A script swaps if the number in the value before ends in one of these: about as often as not.
const DIGITS: [&str; 2] = ["02468", "13579"];

/// How many operations are shown of a history that nothing explains.
const SHOWN: usize = 30;

#[test]
fn concurrent_clients_see_a_linearizable_history_over_kills() {
    explain(4, 2_000);
}

#[test]
#[ignore = "takes most of a minute; for CI"]
fn concurrent_clients_see_a_linearizable_history_over_many_kills() {
    explain(90, 3_000);
}

/// Kills the server `kills` times, each after at most `most` answers, and stops it in order now and
/// then; then explains what was seen.
fn explain(kills: usize, most: usize) {
    let mut rng = Rng::new(seed());
    let dir = tempfile::tempdir().expect("a directory");
    let mut history = History::default();
    let (mut done, mut clock) = (0, AtomicU64::new(0));
    while done < kills {
        let end = if rng.below(8) == 0 { Signal::TERM } else { Signal::KILL };
        let shards = ["1", "8"][rng.below(2)];
        let server = Server::start(dir.path(), &["-shards", shards]);
        let load = Load {
            server: &server,
            end,
            end_at: 1 + rng.below(most),
            answers: AtomicUsize::new(0),
            clock: &clock,
        };
        let seen = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    let (rng, load) = (Rng::new(rng.next()), &load);
                    scope.spawn(move || load.ask(rng))
                })
                .collect();
            clients.into_iter().map(|client| client.join().expect("a client")).collect()
        });
        let (status, _) = server.wait();
        assert_eq!(status.success(), end == Signal::TERM, "{status}");
        history.add(seen, *clock.get_mut());
        *clock.get_mut() += 1;
        done += usize::from(end == Signal::KILL);
    }
    let (server, mut seen) = (Server::start(dir.path(), &[]), Vec::new());
    let mut client = Client::connect(&server);
    for (object, names) in OBJECTS.iter().enumerate() {
        let called = clock.fetch_add(1, SeqCst);
        client.send(Call::GetAll.spell(names, false));
        let reply = reply(&mut client).expect("a reply");
        let answer = Call::GetAll.understand(reply);
        seen.push(Seen { object, call: Call::GetAll, called, ended: Some(called + 1), answer });
        clock.fetch_add(1, SeqCst);
    }
    history.add(vec![seen], *clock.get_mut());
    server.stop();
    history.check(kills);
}

/// What all clients of one server share.
struct Load<'a> {
    server: &'a Server,
    /// How the server ends, and after how many answers.
    end: Signal,
    end_at: usize,
    answers: AtomicUsize,
    clock: &'a AtomicU64,
}

/// What one client has seen of an operation.
struct Seen {
    object: usize,
    call: Call,
    called: u64,
    ended: Option<u64>,
    answer: Option<Answer>,
}

impl Load<'_> {
    /// Asks, a few operations at a time, until the server is gone.
    fn ask(&self, mut rng: Rng) -> Vec<Seen> {
        let mut seen = Vec::new();
        let Ok(mut client) = Client::try_connect(self.server) else {
            return seen;
        };
        let as_text = rng.below(2) == 0;
        loop {
            let first = seen.len();
            let mut bytes = Vec::new();
            for _ in 0..1 + rng.below(MOST_PIPELINED) {
                let object = rng.below(OBJECTS.len());
                let called = self.clock.fetch_add(1, SeqCst);
                let call = random_call(&mut rng, object, called, as_text);
                bytes.extend(call.spell(OBJECTS[object], as_text));
                seen.push(Seen { object, call, called, ended: None, answer: None });
            }
            if client.try_send(bytes).is_err() {
                return seen;
            }
            for operation in &mut seen[first..] {
                let reply = match reply(&mut client) {
                    Ok(reply) => reply,
                    Err(reason) if reason.contains("no reply") => return seen,
                    // The end may come in the middle of a reply.
                    Err(reason) => {
                        assert!(client.try_line().is_err(), "{reason}");
                        return seen;
                    }
                };
                operation.ended = Some(self.clock.fetch_add(1, SeqCst));
                let shown = format!("{reply:?}");
                operation.answer = operation.call.understand(reply);
                assert!(operation.answer.is_some(), "{:?} answers {shown}", operation.call);
                if self.answers.fetch_add(1, SeqCst) + 1 == self.end_at {
                    self.server.signal(self.end);
                }
            }
        }
    }
}

/// Half of them read. Each value is written once: it holds the instant of the call.
fn random_call(rng: &mut Rng, object: usize, now: u64, as_text: bool) -> Call {
    let key = rng.below(OBJECTS[object].len());
    if rng.below(2) == 0 {
        return if object == PAIR { Call::GetAll } else { Call::Get(key) };
    }
    // Mostly short, now and then longer than a block of the log.
    let length = if rng.below(20) == 0 { rng.below(10_000) } else { 0 };
    let value: Text = match object {
        COUNTER => now.to_string().into(),
        _ => format!("{now}:{}", "x".repeat(length)).into(),
    };
    match (rng.below(8), object) {
        (0, _) => Call::Del(key),
        (1, _) => Call::SetNew(key, value),
        (2, _) => Call::GetSet(key, value),
        (3..6, PAIR) if cfg!(feature = "scripts") && !as_text => {
            Call::SwapAll(DIGITS[rng.below(DIGITS.len())], value)
        }
        (3.., PAIR) => Call::SetAll(value),
        (4.., COUNTER) => Call::Incr(key),
        (6.., _) => Call::Append(key, value),
        _ => Call::Set(key, value),
    }
}

/// What was seen of each object by all clients of all servers.
#[derive(Default)]
struct History([Vec<Operation<Call, Answer>>; OBJECTS.len()]);

impl History {
    /// Adds what the clients of one server have seen, each in the order in which it sent. That
    /// server had ended by `end`.
    fn add(&mut self, clients: Vec<Vec<Seen>>, end: u64) {
        for seen in clients {
            let mut last = [None; OBJECTS.len()];
            for Seen { object, call, called, ended, answer } in seen {
                let history = &mut self.0[object];
                let after = last[object].replace(history.len());
                let ended = ended.unwrap_or(end);
                history.push(Operation { call, called, ended, answer, after });
            }
        }
    }

    fn check(&self, kills: usize) {
        let (mut operations, mut unanswered, mut configurations) = (0, 0, 0);
        for (names, history) in OBJECTS.iter().zip(&self.0) {
            operations += history.len();
            unanswered += history.iter().filter(|operation| operation.answer.is_none()).count();
            match check(Keys(vec![None; names.len()]), history) {
                Ok(count) => configurations += count,
                Err(at) => panic!("{names:?}: nothing explains the last:\n{}", shown(history, at)),
            }
        }
        eprintln!(
            "{} histories are linearizable: {operations} operations, {unanswered} of them \
             unanswered, {kills} kills, {configurations} configurations",
            self.0.len()
        );
    }
}

/// An operation, and those that ended before it or were called.
pub fn shown(history: &[Operation<Call, Answer>], at: usize) -> String {
    let end = history[at].ended;
    let mut before: Vec<_> = history.iter().filter(|one| one.called < end).collect();
    before.sort_unstable_by_key(|one| one.ended.min(end));
    let line = |one: &&Operation<Call, Answer>| {
        let Operation { call, called, ended, answer, .. } = one;
        format!("{called}..{ended} {} {}\n", short(call), short(answer))
    };
    before[before.len().saturating_sub(SHOWN)..].iter().map(line).collect()
}

fn short(what: &impl std::fmt::Debug) -> String {
    format!("{:.200}", format!("{what:?}"))
}
