//! The engine in memory under thousands of schedules of its threads; see [`crate::sync`].
//!
//! A schedule in which somebody waits for a wake-up that never comes is found as a deadlock.

use std::sync::Arc;
use std::time::Instant;

use super::queue::{CommitQueue, Pushed, Taken};
use super::{
    Allowance, Collected, Engine, Fsync, Operation, Options, Policy, Recipient, Submission,
};
use crate::command::{Command, Dialect, Reply, RespVersion, SetOptions};
use crate::entry::Entry;
use crate::metrics::Metrics;
use crate::store;
use crate::sync::{Condvar, Mutex, check_schedules, thread};

const CLIENTS: usize = 3;
const SUBMISSIONS: usize = 2;

/// Collects the replies to one client.
#[derive(Default)]
struct Client {
    replies: Mutex<Vec<i64>>,
    changed: Condvar,
}

impl Recipient for Client {
    fn deliver(self: Arc<Self>, answered: &[Operation]) {
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
fn what_is_submitted_is_answered_once_and_in_order_or_given_back() {
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

/// Increments a key of all and one of its own, again after each answer: what the first became.
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
fn everyone_who_closes_waits_until_all_is_answered() {
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
fn the_queue_gives_each_submission_once_in_order_also_where_waits_time_out() {
    check_schedules("queue with a limit", 8_000, || {
        let (queue, client) = (Arc::<CommitQueue>::default(), Arc::<Client>::default());
        let pushers: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (queue, client) = (queue.clone(), client.clone());
                thread::spawn(move || {
                    // Who leads commits nothing here, but leaves all of it, and a duty.
                    let push = |count| {
                        let operations = (0..count).map(|_| incr("")).collect();
                        match queue.push_or_lead(submission(&client, operations)) {
                            Pushed::Queued => true,
                            Pushed::Refused(_) => false,
                            Pushed::Leads(rest) => {
                                queue.step_down(Some(rest), true);
                                true
                            }
                        }
                    };
                    (1..=SUBMISSIONS).take_while(|&count| push(count)).count()
                })
            })
            .collect();
        let closing = queue.clone();
        let closer = thread::spawn(move || closing.close());

        let (mut taken, mut batch) = (Vec::new(), Vec::new());
        let mut limit = None;
        loop {
            match queue.take(&mut batch, limit) {
                Taken::Submissions => taken.extend(batch.drain(..).map(|one| one.operations.len())),
                // A wake-up may come late, for what has been taken already.
                Taken::Nothing => {}
                Taken::Closed => break,
            }
            limit = limit.xor(Some(Instant::now()));
        }
        closer.join().expect("the closer");
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
fn who_waits_for_a_round_is_woken_by_the_last_of_it() {
    check_schedules("a round", 4_000, || {
        let (queue, client) = (Arc::<CommitQueue>::default(), Arc::<Client>::default());
        let submit = |queue: &CommitQueue, client: &Arc<Client>, operations| {
            let pushed = queue.push(submission(client, operations));
            assert!(pushed.is_ok(), "it is not closed");
        };
        let push = move |queue: &CommitQueue, client: &Arc<Client>| {
            submit(queue, client, vec![incr("")]);
        };
        push(&queue, &client);
        assert_eq!(queue.begin_round(CLIENTS).0, 1);
        let pushers: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (queue, client) = (queue.clone(), client.clone());
                thread::spawn(move || push(&queue, &client))
            })
            .collect();
        queue.gather(Instant::now());
        pushers.into_iter().for_each(|pusher| pusher.join().expect("a pusher"));
        let (waiting, complete_at) = queue.begin_round(2);
        assert_eq!((waiting, complete_at.is_some()), (1 + CLIENTS, true));
        // The expirer's and the compactor's do not count.
        let reclaim = Operation::new(Command::Reclaim(Vec::new()), RESP, None);
        submit(&queue, &client, vec![reclaim]);
        submit(&queue, &client, Vec::new());
        push(&queue, &client);
        assert_eq!(queue.begin_round(0).1, None, "one of two");
    });
}

const RESP: Dialect = Dialect::Resp(RespVersion::V2);

fn engine() -> Arc<Engine> {
    let metrics = Arc::new(Metrics::default());
    Arc::new(
        Engine::in_memory(
            store::new(1, 0),
            metrics,
            &Options {
                fsync: Fsync::Never,
                compaction: Policy::default(),
                max_value: 1000,
                max_reply: 1 << 30,
                max_memory: None,
            },
        )
        .expect("nothing can fail"),
    )
}

fn submission(client: &Arc<Client>, operations: Vec<Operation>) -> Submission {
    Submission { recipient: client.clone(), operations }
}

fn incr(key: &str) -> Operation {
    Operation::new(Command::Add(key.as_bytes().into(), 1), RESP, None)
}

fn get(engine: &Engine, key: &str) -> i64 {
    let mut room = Allowance::new(usize::MAX, RESP);
    let mut answer = Collected::new(&mut room);
    engine.read(&Command::Get(key.as_bytes().into()), None, &mut answer).expect("there is room");
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
