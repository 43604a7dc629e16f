//! The engine in memory under thousands of schedules of its threads; see [`crate::sync`].
//!
//! A schedule in which a thread waits for a wake-up that never comes is found as a deadlock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queue::{CommitQueue, Next, Pushed, Replying, Work};
use super::{Allowance, Collected, Engine, Fsync, Operation, Options, Recipient, Submission};
use crate::command::{Command, Dialect, Reply, RespVersion, SetOptions};
use crate::entry::Entry;
use crate::metrics::Metrics;
use crate::store;
use crate::sync::{Condvar, Mutex, check_schedules, thread};
use crate::upkeep;

const CLIENTS: usize = 3;
const SUBMISSIONS: usize = 2;

/// Collects the replies to one client.
#[derive(Default)]
struct Client {
    replies: Mutex<Vec<i64>>,
    changed: Condvar,
}

impl Recipient for Client {
    fn deliver(self: Arc<Self>, answered: &mut Vec<Operation>) {
        self.replies.lock().extend(answered.iter().map(|operation| number(&operation.reply)));
        self.changed.notify_all();
    }
}

impl Client {
    /// Waits until there are as many replies in all.
    fn wait_for(&self, count: usize) -> Vec<i64> {
        let mut replies = self.replies.lock();
        while replies.len() < count {
            self.changed.wait(&mut replies);
        }
        replies.clone()
    }
}

#[test]
fn each_submission_is_answered_once_and_in_order_or_given_back() {
    check_schedules("submit and close", 8_000, || {
        let engine = engine();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let engine = engine.clone();
                thread::spawn(move || submit_some(&engine, id))
            })
            .collect();
        let closing = engine.clone();
        let closer = thread::spawn(move || assert!(closing.close()));

        let join = |client: thread::JoinHandle<Vec<i64>>| client.join().expect("a client");
        let mut shared: Vec<i64> = clients.into_iter().flat_map(join).collect();
        closer.join().expect("the closer");
        shared.sort_unstable();
        let each_once: Vec<i64> = (1..=shared.len() as i64).collect();
        assert_eq!(shared, each_once, "each increment is done once");
        assert_eq!(get(&engine, "shared"), shared.len() as i64);
        let refused = engine.submit(submission(&Arc::default(), vec![incr("shared")]));
        assert!(refused.is_err(), "after the close everything is given back");
    });
}

/// Increments a shared key and one of its own, again after each answer. Returns the shared key's values.
fn submit_some(engine: &Engine, id: usize) -> Vec<i64> {
    let (client, own) = (Arc::<Client>::default(), format!("own{id}"));
    let mut accepted = 0;
    for _ in 0..SUBMISSIONS {
        let operations = vec![incr("shared"), incr(&own)];
        if let Err(given_back) = engine.submit(submission(&client, operations)) {
            assert_eq!(given_back.operations.len(), 2, "whole");
            break;
        }
        accepted += 1;
        let replies = client.wait_for(2 * accepted);
        assert!(get(engine, "shared") >= replies[2 * accepted - 2], "what is answered is visible");
    }
    let replies = client.wait_for(0);
    let (shared, own): (Vec<_>, Vec<_>) = replies.chunks(2).map(|pair| (pair[0], pair[1])).unzip();
    assert_eq!(own, (1..=accepted as i64).collect::<Vec<_>>(), "in order, and no more");
    shared
}

#[test]
fn every_close_waits_until_all_is_answered() {
    check_schedules("two that close", 4_000, || {
        let (engine, client) = (engine(), Arc::<Client>::default());
        let submitted = engine.submit(submission(&client, vec![incr("shared")]));
        assert!(submitted.is_ok(), "it is not closed yet");
        let closers: Vec<_> = (0..2)
            .map(|_| {
                let (engine, client) = (engine.clone(), client.clone());
                thread::spawn(move || {
                    assert!(engine.close());
                    assert_eq!(*client.replies.lock(), [1]);
                })
            })
            .collect();
        closers.into_iter().for_each(|closer| closer.join().expect("a closer"));
    });
}

#[test]
fn a_stop_ends_the_expirer_whatever_it_is_doing() {
    check_schedules("expire and close", 4_000, || {
        let (engine, client) = (engine(), Arc::<Client>::default());
        let expired = Entry::expiring(b"gone", b"", Some(1));
        let set = Operation::new(Command::Set(expired, SetOptions::default()), RESP, None);
        let submitted = engine.submit(submission(&client, vec![set, incr("shared")]));
        assert!(submitted.is_ok(), "it is not closed yet");
        assert_eq!(client.wait_for(2), [0, 1]);
        assert!(engine.close());
    });
}

#[test]
fn the_queue_gives_each_submission_and_errand_once_even_if_waits_time_out() {
    check_schedules("queue with a timer", 8_000, || {
        let (queue, client) = (Arc::<CommitQueue>::default(), Arc::<Client>::default());
        let pushers: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (queue, client) = (queue.clone(), client.clone());
                thread::spawn(move || {
                    // A leader commits nothing here, but leaves all of it, and a timer.
                    let push = |count| {
                        let operations = (0..count).map(|_| incr("")).collect();
                        match queue.push(submission(&client, operations)) {
                            Pushed::Queued => true,
                            Pushed::Refused(_) => false,
                            Pushed::Leads(rest) => {
                                let timer = Some(Instant::now());
                                queue.step_down(Some(rest), Next { timer, ..Next::default() });
                                true
                            }
                        }
                    };
                    (1..=SUBMISSIONS).take_while(|&count| push(count)).count()
                })
            })
            .collect();
        queue.push_errand(Box::new(|_| {}));
        let closing = queue.clone();
        let closer = thread::spawn(move || closing.close());

        let (mut taken, mut errands, mut work) = (Vec::new(), 0, Work::default());
        let mut next = Next::default();
        while queue.take(&mut work, next) {
            taken.extend(work.submissions.drain(..).map(|one| one.operations.len()));
            errands += work.errands.drain(..).count();
            next.timer = next.timer.xor(Some(Instant::now()));
        }
        closer.join().expect("the closer");
        assert_eq!(errands, 1, "what was pushed before the close");
        let pushed: Vec<usize> =
            pushers.into_iter().map(|pusher| pusher.join().expect("a pusher")).collect();
        assert_eq!(taken.len(), pushed.iter().sum::<usize>(), "each once");
        for count in 1..=SUBMISSIONS {
            let expected = pushed.iter().filter(|&&pushed| pushed >= count).count();
            assert_eq!(taken.iter().filter(|&&taken| taken == count).count(), expected);
        }
    });
}

#[test]
fn the_wait_for_a_round_is_ended_by_the_last_of_it() {
    check_schedules("a round", 4_000, || {
        let (queue, client) = (Arc::<CommitQueue>::default(), Arc::<Client>::default());
        let push = |queue: &CommitQueue, client: &Arc<Client>| {
            let pushed = queue.push(submission(client, vec![incr("")]));
            assert!(matches!(pushed, Pushed::Queued), "it is the committer's turn");
        };
        push(&queue, &client);
        let sync = Some(Duration::from_secs(1));
        let batch = Replying { answered: CLIENTS, backlog: 0, sync };
        assert_eq!(queue.begin_round(&batch), CLIENTS + 1);
        let pushers: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (queue, client) = (queue.clone(), client.clone());
                thread::spawn(move || push(&queue, &client))
            })
            .collect();
        let (mut work, mut taken) = (Work::default(), 0);
        let mut next = Next { replied: Some(Instant::now()), ..Next::default() };
        // Until the last of them, or until the time was over: then the rest comes after it.
        while taken < CLIENTS + 1 {
            assert!(queue.take(&mut work, next), "it is not closed");
            taken += work.submissions.drain(..).count();
            next = Next { has_backlog: taken < CLIENTS + 1, ..Next::default() };
            thread::yield_now();
        }
        pushers.into_iter().for_each(|pusher| pusher.join().expect("a pusher"));
        let reclaim = Operation::new(Command::Reclaim(Vec::new()), RESP, None);
        assert!(!submission(&client, vec![reclaim]).is_of_client(), "the expirer is in no round");
    });
}

const RESP: Dialect = Dialect::Resp(RespVersion::V2);

fn engine() -> Arc<Engine> {
    let metrics = Arc::new(Metrics::default());
    let options = Options {
        fsync: Fsync::Never,
        max_value: 1000,
        max_reply: 1 << 30,
        max_memory: None,
        databases: 16,
    };
    let engine = Engine::in_memory(store::new(1, 0), metrics, &options).expect("nothing can fail");
    upkeep::start(&engine, upkeep::Policy::default()).expect("nothing can fail");
    Arc::new(engine)
}

fn submission(client: &Arc<Client>, operations: Vec<Operation>) -> Submission {
    Submission::new(client.clone(), operations)
}

fn incr(key: &str) -> Operation {
    let incr = crate::commands::command(&[b"incr", key.as_bytes()]).expect("a command");
    Operation::new(incr, RESP, None)
}

fn get(engine: &Engine, key: &str) -> i64 {
    let mut room = Allowance::new(usize::MAX, RESP);
    let mut answer = Collected::new(&mut room);
    let (outcome, _) = engine.read(&Command::Get(key.as_bytes().into()), 0, None, &mut answer);
    outcome.expect("there is room");
    number(&answer.into_reply())
}

fn number(reply: &Reply<'_>) -> i64 {
    match reply {
        Reply::Integer(number) => *number,
        Reply::Bulk(text) => {
            std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).expect("a number")
        }
        Reply::Ok | Reply::Null => 0,
        other => panic!("{other:?} is no number"),
    }
}
