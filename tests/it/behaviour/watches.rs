//! WATCH, as far as a script cannot say it: keys that expire in between, and the memory of watched keys.

use crate::common::wire::{Value, ask, reply, request, say, spaced};
use crate::common::{Client, Server, eventually};

fn watching(client: &mut Client) -> [u64; 3] {
    ["watching_clients", "total_watched_keys", "watched_keys_bytes"]
        .map(|name| client.counter(name))
}

fn watch_of(keys: &[String]) -> Vec<&str> {
    std::iter::once("WATCH").chain(keys.iter().map(|key| &**key)).collect()
}

fn shows(text: &[u8], part: &str) -> bool {
    String::from_utf8_lossy(text).contains(part)
}

/// Seen: a transaction whose watched key had expired was carried out, unless the expirer had removed
/// it first: only changes were looked at, and an expiry is none. Now EXEC looks at the time as well.
#[test]
fn a_watched_key_that_expires_before_exec_has_changed_whether_or_not_it_is_reclaimed() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["-fsync", "no"]);
    let [mut client, mut other] = [(); 2].map(|()| Client::connect(&server));
    let mut refused = 0;
    while refused < 30 {
        client.send([spaced("SET k 1 PX 20"), spaced("WATCH k"), spaced("EXISTS k")].concat());
        let replies = [(); 3].map(|()| reply(&mut client).expect("a reply"));
        let was_there = replies[2] == Value::Integer(1);
        eventually("the key expires", || say(&mut other, "EXISTS k") == Value::Integer(0));
        client.send([spaced("MULTI"), spaced("INCR k"), spaced("EXEC")].concat());
        let [.., last] = [(); 3].map(|()| reply(&mut client).expect("a reply"));
        match was_there {
            true => assert_eq!(last, Value::NullArray),
            // It had expired before it was watched, which is no change.
            false => assert_eq!(last, Value::Array(vec![Value::Integer(1)])),
        }
        refused += usize::from(was_there);
        assert_eq!(say(&mut client, "DEL k"), Value::Integer((!was_there).into()));
    }
    server.stop();
}

/// Seen: the keys of a connection stayed in memory after it had left, and there was no limit to them:
/// they were only forgotten when others watched many more. Now they are given back however a watch ends.
#[test]
fn watched_keys_are_counted_and_given_back_however_the_watching_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let mut witness = Client::connect(&server);
    let keys: Vec<String> = (0..1000).map(|key| format!("key:{key:04}")).collect();
    let watch = |key: &str| request([&watch_of(&keys)[..], &[key]].concat());
    let multi = spaced("MULTI");
    for (what, end) in [
        ("UNWATCH", spaced("UNWATCH")),
        ("EXEC", [&multi[..], &spaced("EXEC")].concat()),
        ("EXEC of what is aborted", [&multi[..], &spaced("GET"), &spaced("EXEC")].concat()),
        ("EXEC of what has changed", [&spaced("SET a 1")[..], &multi, &spaced("EXEC")].concat()),
        ("DISCARD", [&multi[..], &spaced("DISCARD")].concat()),
        ("RESET", spaced("RESET")),
        ("QUIT", spaced("QUIT")),
        ("a protocol error", b"*x\r\n".to_vec()),
    ] {
        let mut client = Client::connect(&server);
        // Again and again the same keys: each counts once.
        client.send([watch("a"), watch("b"), watch("a")].concat());
        (0..3).for_each(|_| assert_eq!(reply(&mut client), Ok(Value::ok())));
        let [clients, watched, bytes] = watching(&mut witness);
        assert_eq!((clients, watched), (1, 1002), "{what}");
        assert!((1000 * 50..1000 * 500).contains(&bytes), "{what}: {bytes} bytes");
        let list = say(&mut witness, "CLIENT LIST");
        assert!(matches!(&list, Value::Bulk(text) if shows(text, "watch=1002")), "{what}");
        client.send(end);
        eventually(what, || watching(&mut witness) == [0; 3]);
    }
    // A connection that is cut off, and one whose WATCH is not answered yet.
    let mut client = Client::connect(&server);
    client.send(watch("a"));
    assert_eq!(reply(&mut client), Ok(Value::ok()));
    drop(client);
    Client::connect(&server).send(watch("b").repeat(100));
    eventually("nothing is watched", || {
        witness.counter("connected_clients") == 1 && watching(&mut witness) == [0; 3]
    });
    server.stop();
}

#[test]
fn a_connection_can_watch_a_limited_number_of_keys_and_is_told_when_they_are_too_many() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let [mut client, mut witness] = [(); 2].map(|()| Client::connect(&server));
    let name = |key: usize| format!("{key:01000}");
    let mut watched = 0;
    let refusal = loop {
        let keys: Vec<String> = (watched..watched + 100).map(name).collect();
        match ask(&mut client, watch_of(&keys)) {
            Value::Error(error) => break error,
            reply => assert_eq!(reply, Value::ok()),
        }
        watched += 100;
        assert!(watched < 100_000, "it watches more than it may");
    };
    assert!(refusal.starts_with("ERR too many watched keys"), "{refusal}");
    let [_, keys, bytes] = watching(&mut witness);
    assert_eq!(keys, watched as u64, "all or none of a WATCH");
    assert!(bytes <= 512 << 10, "{bytes}");
    // A request for more keys than allowed, and one for a key that is watched already.
    let keys: Vec<String> = (0..5000).map(name).collect();
    match ask(&mut client, watch_of(&keys)) {
        Value::Error(error) => assert_eq!(error, refusal),
        reply => panic!("{reply:?}"),
    }
    assert_eq!(ask(&mut client, ["WATCH", &name(0)]), Value::ok());
    // The keys that it watches still count.
    assert_eq!(ask(&mut witness, ["SET", &name(watched - 1), "x"]), Value::ok());
    assert_eq!(say(&mut client, "MULTI"), Value::ok());
    assert_eq!(say(&mut client, "EXEC"), Value::NullArray);
    assert_eq!(watching(&mut witness), [0; 3]);
    server.stop();
}
