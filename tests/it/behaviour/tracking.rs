//! Invalidations and other pushes: when they come, and what they come before and after.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use crate::common::wire::{Value, reply, say, spaced};
use crate::common::{Client, Server, StopOnDrop};

/// Redis's own test of this failed now and then: after its QUIT a connection is still read from for up to a second,
/// and was taken for one that hears. It is known to be gone once it has its last reply.
#[test]
fn a_redirection_to_a_client_that_has_said_quit_is_known_to_be_broken() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut writer = Client::connect(&server);
    for round in 0..20 {
        let (mut target, mut reader) = (Client::connect(&server), Client::connect(&server));
        let Value::Integer(id) = say(&mut target, "CLIENT ID") else { panic!("no number") };
        say(&mut target, "SUBSCRIBE __redis__:invalidate");
        say(&mut reader, "HELLO 3");
        let on = format!("CLIENT TRACKING ON REDIRECT {id}");
        assert_eq!(say(&mut reader, &on), Value::ok());
        say(&mut reader, "GET key");
        assert_eq!(say(&mut target, "QUIT"), Value::ok());
        assert_eq!(say(&mut writer, &format!("SET key {round}")), Value::ok());
        let broken = [Value::bulk("tracking-redir-broken"), Value::Integer(id)];
        assert_eq!(say(&mut reader, "PING"), Value::Push(broken.into()), "round {round}");
    }
}

#[test]
fn no_push_comes_before_the_reply_to_the_hello_that_allows_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-persist=false"]);
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut writer = Client::connect(&server);
                while !ends.load(Relaxed) {
                    writer.send(spaced("SET key value").repeat(100));
                    (0..100).for_each(|_| assert_eq!(reply(&mut writer), Ok(Value::ok())));
                }
            });
        }
        // Also if something else is seen than is expected.
        let _stop = StopOnDrop(&ends);
        let mut seen = 0;
        for _ in 0..300 {
            let mut client = Client::connect(&server);
            assert_eq!(say(&mut client, "CLIENT TRACKING ON BCAST"), Value::ok());
            // After a write of its own the reply takes its place in the queue.
            client.send([spaced("SET other 1"), spaced("HELLO 3"), spaced("PING")].concat());
            assert_eq!(reply(&mut client), Ok(Value::ok()));
            let hello = reply(&mut client).expect("a reply");
            assert!(matches!(hello, Value::Map(_)), "{hello:?}");
            seen += usize::from(matches!(reply(&mut client), Ok(Value::Push(_))));
        }
        assert!(seen > 0, "none came at the time at all");
    });
}

/// They are messages, and those come even to a client that wants no replies.
#[test]
fn subscriptions_in_a_transaction_are_confirmed_to_a_client_without_replies() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut client = Client::connect(&server);
    say(&mut client, "HELLO 3");
    for words in ["CLIENT REPLY OFF", "MULTI", "SET a 1", "SUBSCRIBE one", "GET a", "EXEC"] {
        client.send(spaced(words));
    }
    let confirmed = [Value::bulk("subscribe"), Value::bulk("one"), Value::Integer(1)];
    assert_eq!(reply(&mut client), Ok(Value::Push(confirmed.into())));
    assert_eq!(say(&mut client, "CLIENT REPLY ON"), Value::ok());
    assert_eq!(say(&mut client, "GET a"), Value::bulk("1"));
}
