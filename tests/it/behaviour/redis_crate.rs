//! An independent client, the `redis` crate, against the real server: we choose neither what it sends on
//! connecting nor how it reads replies.

use std::collections::BTreeSet;

use redis::{Client, Commands, Connection, Value};

use crate::common::Server;

/// The same conversation in both versions of RESP.
const PROTOCOLS: [&str; 2] = ["resp2", "resp3"];

/// Runs `conversation` against a new server, once for each version of RESP.
fn in_both_versions(conversation: impl Fn(&mut Connection)) {
    for protocol in PROTOCOLS {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::start(dir.path(), &[]);
        conversation(&mut connect(&server, protocol));
        server.stop();
    }
}

fn connect(server: &Server, protocol: &str) -> Connection {
    let url = format!("redis://{}/?protocol={protocol}", server.address());
    let client = Client::open(url).expect("an address that it understands");
    client.get_connection().expect("the server answers what it says first")
}

#[test]
fn values_are_set_read_and_removed() {
    in_both_versions(|redis| {
        let every_byte: Vec<u8> = (0..=255).collect();
        assert_eq!(redis.set("key", &every_byte), Ok(()));
        assert_eq!(redis.get("key"), Ok(every_byte));
        assert_eq!(redis.get("nothing"), Ok(None::<String>));
        assert_eq!(redis.mset(&[("a", "1"), ("b", "2")]), Ok(()));
        let found: Vec<Option<String>> = redis.mget(&["a", "nothing", "b"]).expect("MGET");
        assert_eq!(found, [Some("1".into()), None, Some("2".into())]);
        assert_eq!(redis.del(&["a", "b", "nothing"]), Ok(2));
        assert_eq!(redis.exists("a"), Ok(false));
    });
}

#[test]
fn an_expiry_is_set_told_and_taken_away() {
    in_both_versions(|redis| {
        assert_eq!(redis.set_ex("key", "value", 1000), Ok(()));
        let left: i64 = redis.ttl("key").expect("TTL");
        assert!((900..=1000).contains(&left), "{left}");
        assert_eq!(redis.persist("key"), Ok(true));
        assert_eq!(redis.ttl("key"), Ok(-1));
        assert_eq!(redis.ttl("nothing"), Ok(-2));
    });
}

#[test]
fn numbers_are_added_to_and_a_word_is_none() {
    in_both_versions(|redis| {
        assert_eq!(redis.incr("n", 5), Ok(5));
        assert_eq!(redis.decr("n", 7), Ok(-2));
        assert_eq!(redis.incr("f", 0.5), Ok(0.5));
        assert_eq!(redis.set("word", "x"), Ok(()));
        let error = redis.incr::<_, _, i64>("word", 1).expect_err("x is no number");
        assert!(error.to_string().contains("not an integer"), "{error}");
        assert_eq!(redis.get("word"), Ok("x".to_owned()), "the connection goes on");
    });
}

#[test]
fn a_pipeline_gets_its_replies_in_order() {
    in_both_versions(|redis| {
        let mut pipeline = redis::pipe();
        for number in 0..100 {
            pipeline.set(number, number).ignore().get(number);
        }
        assert_eq!(pipeline.query(redis), Ok((0..100).collect::<Vec<i64>>()));
    });
}

#[test]
fn an_atomic_pipeline_is_done_as_a_whole_or_not_at_all() {
    in_both_versions(|redis| {
        let mut pipeline = redis::pipe();
        pipeline.atomic().set("a", 1).ignore().incr("a", 1).get("nothing");
        assert_eq!(pipeline.query(redis), Ok((2, None::<String>)));

        // The crate watches the key, and begins again when another has changed it.
        let added = redis::transaction(redis, &["a"], |redis, pipeline| {
            let before: i64 = redis.get("a")?;
            pipeline.set("a", before + 1).ignore().get("a").query(redis)
        });
        assert_eq!(added, Ok((3,)));

        let mut wrong = redis::pipe();
        wrong.atomic().set("a", 9).cmd("NOSUCH");
        assert!(wrong.query::<Value>(redis).is_err());
        assert_eq!(redis.get("a"), Ok(3), "nothing of a transaction with a mistake is done");
    });
}

#[test]
fn a_scan_finds_every_key_that_fits_once() {
    in_both_versions(|redis| {
        let keys: BTreeSet<String> = (0..500).map(|number| format!("key:{number}")).collect();
        let mut pipeline = redis::pipe();
        for key in &keys {
            pipeline.set(key, "").ignore();
        }
        assert_eq!(pipeline.set("other", "").ignore().query(redis), Ok(()));
        let scan = redis.scan_match::<_, String>("key:*").expect("SCAN");
        let found: Vec<String> = scan.map(|key| key.expect("a key")).collect();
        assert_eq!(found.len(), keys.len());
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), keys);
    });
}

#[test]
fn a_resp3_connection_is_answered_in_resp3() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    for (protocol, expects_map) in PROTOCOLS.into_iter().zip([false, true]) {
        let reply: Value =
            redis::cmd("HELLO").query(&mut connect(&server, protocol)).expect("HELLO");
        assert_eq!(matches!(reply, Value::Map(_)), expects_map, "{protocol}: {reply:?}");
    }
}
