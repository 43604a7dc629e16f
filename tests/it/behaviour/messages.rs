//! Messages between clients: when they leave, in which order they arrive, and what becomes of a subscriber that
//! does not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use post_gres_rs::command::{Command, Events, Reply, Scope, Spec, Words};
use post_gres_rs::engine::{Audience, Engine, Fsync, News};

use crate::common::wire::{Value, ask, reply, say, spaced};
use crate::common::{Client, Rng, Server, StopOnDrop, eventually, seed};
use crate::double::clients::{command, open, send, send_beside, set, value};
use crate::double::{DoubleDisk, Fault};
use crate::durability::failures::disk::wait_until_prepared;

/// Hears everything, and notes the value of `k` at that moment.
struct Listener {
    engine: std::sync::OnceLock<std::sync::Weak<Engine>>,
    heard: Mutex<Vec<(String, Option<String>)>>,
}

impl Listener {
    fn of(engine: &Arc<Engine>) -> Arc<Listener> {
        let listener = Arc::new(Listener { engine: Default::default(), heard: Mutex::default() });
        listener.engine.set(Arc::downgrade(engine)).expect("once");
        engine.attach_audience(listener.clone());
        listener
    }

    fn heard(&self) -> Vec<(String, Option<String>)> {
        self.heard.lock().clone()
    }

    fn note(&self, message: &[u8]) {
        let engine = self.engine.get().and_then(std::sync::Weak::upgrade).expect("it is there");
        let message = String::from_utf8_lossy(message).into_owned();
        self.heard.lock().push((message, value(&engine, "k")));
    }
}

impl Audience for Listener {
    fn publish(&self, _: Scope, _: &[u8], message: &[u8]) -> usize {
        self.note(message);
        1
    }

    fn hearers(&self, _: Scope, _: &[u8]) -> usize {
        1
    }

    fn events(&self) -> Events {
        Events::default()
    }

    fn tracks(&self) -> bool {
        false
    }

    fn invalidate_all(&self) {}

    fn show_call(&self, _: &Spec, _: &Words<'_>, _: u16) {}

    fn tell(&self, news: &mut Vec<News>) {
        for news in news.drain(..) {
            match news {
                News::Message { message, .. } => self.note(&message),
                other => panic!("nobody wants to know of {other:?}"),
            }
        }
    }
}

fn publish(message: &str) -> Command {
    command(&["publish", "channel", message])
}

#[test]
fn a_message_after_a_write_leaves_when_that_is_durable_and_visible_and_not_before() {
    let disk = DoubleDisk::default();
    let engine = Arc::new(open(&disk, Fsync::Always).expect("a fresh log"));
    let listener = Listener::of(&engine);
    let all = Command::Transaction(vec![publish("in a transaction"), set("k", "2")], None);

    disk.close_gate();
    let sent = send_beside(&engine, vec![set("k", "1"), publish("after a write"), all]);
    disk.wait_for_commit_at_gate();
    assert_eq!((listener.heard(), sent.count()), (vec![], 0), "nothing is durable yet");
    disk.open_gate();
    let replies = sent.wait_for(3);
    let of_transaction = Reply::Array(vec![Reply::Integer(1), Reply::Ok]);
    assert_eq!(replies, [Reply::Ok, Reply::Integer(1), of_transaction]);
    let then = |message: &str| (message.to_owned(), Some("2".to_owned()));
    assert_eq!(listener.heard(), [then("after a write"), then("in a transaction")]);
    assert!(engine.close());
}

#[test]
fn after_a_failed_sync_no_message_leaves_that_came_after_a_write_and_nobody_hears_of_one_refused() {
    for fault in [Fault::Error(std::io::ErrorKind::Other), Fault::LostSync] {
        let disk = DoubleDisk::default();
        let engine = Arc::new(open(&disk, Fsync::Always).expect("a fresh log"));
        let listener = Listener::of(&engine);
        assert_eq!(send(&engine, vec![set("k", "0")]).wait_for(1), [Reply::Ok]);
        wait_until_prepared(&disk);
        let watched = Command::Transaction(vec![publish("never"), set("k", "2")], None);
        disk.fail_log(fault);
        let replies =
            send(&engine, vec![set("k", "1"), publish("never"), watched.clone()]).wait_for(3);
        let is_refused = |reply: &Reply<'_>| matches!(reply, Reply::NotDurable(_));
        assert!(replies.iter().all(is_refused), "{replies:?}");
        let later = send(&engine, vec![watched]).wait_for(1);
        assert!(later.iter().all(is_refused), "{later:?}");
        assert_eq!(listener.heard(), []);
        assert!(!engine.close());
    }
}

/// A subscriber in RESP2.
fn subscriber(server: &Server, channel: &str) -> Client {
    let mut client = Client::connect(server);
    let confirmed = say(&mut client, &format!("SUBSCRIBE {channel}"));
    let expected = [Value::bulk("subscribe"), Value::bulk(channel), Value::Integer(1)];
    assert_eq!(confirmed, Value::Array(expected.into()));
    client
}

fn message(channel: &str, text: &str) -> Value {
    Value::Array(vec![Value::bulk("message"), Value::bulk(channel), Value::bulk(text)])
}

#[test]
fn a_thousand_subscribers_hear_all_of_several_publishers_in_one_order() {
    const SUBSCRIBERS: usize = 1000;
    const PUBLISHERS: usize = 4;
    const MESSAGES: usize = 50;
    crate::common::raise_descriptor_limit();
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut subscribers: Vec<Client> =
        (0..SUBSCRIBERS).map(|_| subscriber(&server, "all")).collect();
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let server = &server;
            scope.spawn(move || {
                let mut client = Client::connect(server);
                for number in 0..MESSAGES {
                    // Every other one goes through the queue, after a write.
                    if number % 2 == 0 {
                        client.send(spaced(&format!("SET k{publisher} {number}")));
                    }
                    client.send(spaced(&format!("PUBLISH all {publisher}:{number}")));
                    if number % 2 == 0 {
                        assert_eq!(reply(&mut client), Ok(Value::ok()));
                    }
                    assert_eq!(reply(&mut client), Ok(Value::Integer(SUBSCRIBERS as i64)));
                }
            });
        }
    });
    let hear = |client: &mut Client| -> Vec<Value> {
        (0..PUBLISHERS * MESSAGES).map(|_| reply(client).expect("a message")).collect()
    };
    let first = hear(&mut subscribers[0]);
    for publisher in 0..PUBLISHERS {
        let own: Vec<&Value> = first
            .iter()
            .filter(|heard| format!("{heard:?}").contains(&format!("\"{publisher}:")))
            .collect();
        let expected: Vec<Value> =
            (0..MESSAGES).map(|number| message("all", &format!("{publisher}:{number}"))).collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>());
    }
    for subscriber in &mut subscribers[1..] {
        assert_eq!(hear(subscriber), first);
    }
}

#[test]
fn a_subscriber_that_does_not_read_is_closed_and_the_others_hear_all() {
    const BYTES: usize = 1 << 20;
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let (_slow, mut quick) = (subscriber(&server, "c"), subscriber(&server, "c"));
    let mut publisher = Client::connect(&server);
    let text = "x".repeat(BYTES);
    let mut sent = 0;
    // Beside what is limited, its socket takes some.
    while ask(&mut publisher, ["PUBLISH", "c", &text]) == Value::Integer(2) {
        assert_eq!(reply(&mut quick), Ok(message("c", &text)));
        sent += 1;
        assert!(sent < 200, "it is never closed");
        if server.log().contains("bytes of messages unread") {
            break;
        }
    }
    assert!(sent >= 32, "closed after {sent} MiB");
    server.wait_for_log("bytes of messages unread");
    eventually("the slow one has gone", || {
        ask(&mut publisher, ["PUBSUB", "NUMSUB", "c"])
            == Value::Array(vec![Value::bulk("c"), Value::Integer(1)])
    });
    assert_eq!(ask(&mut publisher, ["PUBLISH", "c", "last"]), Value::Integer(1));
    let mut heard = reply(&mut quick);
    while heard == Ok(message("c", &text)) {
        heard = reply(&mut quick);
    }
    assert_eq!(heard, Ok(message("c", "last")));
    assert_eq!(publisher.counter("client_output_buffer_limit_disconnections"), 1);
}

#[test]
fn what_subscribers_leave_unread_counts_among_what_all_clients_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-maxmemory-clients", "20mb"]);
    let slow: Vec<Client> = (0..4).map(|_| subscriber(&server, "c")).collect();
    let mut publisher = Client::connect(&server);
    let text = "x".repeat(1 << 20);
    for _ in 0..32 {
        ask(&mut publisher, ["PUBLISH", "c", &text]);
        assert!(publisher.counter("mem_client_replies") <= 20 << 20);
    }
    assert!(publisher.counter("evicted_clients") > 0);
    drop(slow);
}

#[test]
fn a_subscriber_that_is_flooded_can_still_unsubscribe_and_sees_its_own_messages_only() {
    let seed = seed();
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let until = StopOnDrop(&stop);
        for publisher in 0..2 {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                let mut client = Client::connect(server);
                let mut number = 0;
                while !stop.load(Relaxed) {
                    number += 1;
                    let channel = number % 3;
                    say(&mut client, &format!("PUBLISH c{channel} {publisher}:{number}"));
                }
            });
        }
        let subscribers: Vec<_> = (0..8)
            .map(|number| {
                let server = &server;
                scope.spawn(move || come_and_go(server, &mut Rng::new(seed + number)))
            })
            .collect();
        subscribers.into_iter().for_each(|thread| thread.join().expect("all goes well"));
        drop(until);
    });
    let mut client = Client::connect(&server);
    eventually("nothing is left", || {
        client.counter("pubsub_clients") + client.counter("pubsub_channels") == 0
    });
}

/// Subscribes, hears a while, unsubscribes or leaves. Nothing may come of a channel before its confirmation or
/// after that of its end.
fn come_and_go(server: &Server, rng: &mut Rng) {
    for _ in 0..100 {
        let mut client = Client::connect(server);
        let channel = format!("c{}", rng.below(3));
        client.send(spaced(&format!("SUBSCRIBE {channel}")));
        let first = reply(&mut client).expect("a confirmation");
        let expected =
            [Value::bulk("subscribe"), Value::bulk(channel.as_bytes()), Value::Integer(1)];
        assert_eq!(first, Value::Array(expected.into()));
        for _ in 0..rng.below(20) {
            let heard = format!("{:?}", reply(&mut client).expect("a message"));
            assert!(heard.starts_with(&format!("[\"message\" \"{channel}\" ")), "{heard}");
        }
        if rng.below(3) == 0 {
            continue;
        }
        client.send(spaced("UNSUBSCRIBE"));
        client.send(spaced("PING"));
        let last = format!("[\"unsubscribe\" \"{channel}\" 0]");
        while format!("{:?}", reply(&mut client).expect("more")) != last {}
        assert_eq!(reply(&mut client), Ok(Value::Simple("PONG".into())), "nothing comes after it");
    }
}
