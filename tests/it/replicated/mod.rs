//! What this server says to etcd, said to a real one: Debian's package `etcd-server`. Where it is not installed
//! the tests say that they were skipped.

mod etcd;
#[cfg(feature = "tools")]
mod tools;
mod trial;

#[cfg(feature = "etcds")]
use std::path::Path;
#[cfg(feature = "etcds")]
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use post_gres_rs::replicated::client::{Client, Login, Reply, Request, Transport};
use post_gres_rs::replicated::clock::{Boottime, Clock};
use post_gres_rs::replicated::decide::{Batch, Decision, Found, Outcome, attempt_time, decide};
use post_gres_rs::replicated::head::{Head, Node};
use post_gres_rs::replicated::http::Http;
use post_gres_rs::replicated::json::{Freshness, Rest};
use post_gres_rs::replicated::keys::Keys;
use post_gres_rs::replicated::kv::{Condition, Held, Kv, Op, Refusal, Trouble, Txn};
use post_gres_rs::replicated::members::Members;
use post_gres_rs::replicated::refusals;
use post_gres_rs::replicated::url::Encryption;

use crate::common::eventually;
use etcd::{Cluster, TIME};

fn first() -> Head {
    Head::first(Node::new("n1", "h:1").expect("a node"), 1, 9)
}

fn put(key: &str, value: impl Into<Vec<u8>>) -> Txn {
    Txn::new(Condition::Always, vec![Op::Put(key.into(), value.into())], vec![])
}

/// Posts any bytes to a member.
fn post(member: &str, path: &str, body: &str) -> (u16, String) {
    let request = Request { member, path, token: None, body: body.as_bytes(), most_bytes: 1 << 24 };
    let sent = Http::new(Encryption::None, None).expect("no certificates").post(&request, TIME);
    let Reply { status, body } = sent.unwrap_or_else(|lost| panic!("{}", lost.why));
    (status, String::from_utf8(body).expect("text"))
}

/// The text of the error that a reply is.
fn error_of(reply: &(u16, String)) -> String {
    let after = reply.1.split_once(r#""error":""#).unwrap_or_else(|| panic!("{reply:?}")).1;
    after.split_once('"').expect("a string").0.to_owned()
}

#[test]
fn a_real_etcd_keeps_a_log_as_the_fake_one_does() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let (mut client, keys, clock) = (cluster.client(None), Keys::new("shop"), Boottime);
    let settle = |client: &mut Client<Http>, decision: &mut Decision| {
        decide(decision, client, &clock, TIME, clock.now() + TIME)
    };
    let began = clock.now();
    let outcome = settle(&mut client, &mut Decision::new(&keys, None, first(), vec![]));
    let Ok(Outcome::Done { sent }) = outcome else { panic!("{outcome:?}") };
    assert!(began <= sent && sent < clock.now());

    let frame = vec![0xff; 1 << 20];
    let head = first().appended(9, 7, 1);
    let batch = vec![Op::Put(keys.batch(1), frame.clone())];
    let mut append = Decision::new(&keys, Some(&first()), head.clone(), batch.clone());
    assert!(matches!(settle(&mut client, &mut append), Ok(Outcome::Done { .. })));
    // Once more: it is found to be done.
    assert!(matches!(settle(&mut client, &mut append), Ok(Outcome::Done { .. })));
    // Another node takes over; what was done stays done, what was not is not.
    let taken = head.taken_over(Node::new("n2", "h:2").unwrap(), 2, 0);
    let mut take = Decision::new(&keys, Some(&head), taken.clone(), vec![]);
    assert!(matches!(settle(&mut client, &mut take), Ok(Outcome::Done { .. })));
    let by = Found::Head(taken.clone());
    let fenced = Ok(Outcome::Fenced { by: by.clone(), batch: Batch::Done });
    assert_eq!(settle(&mut client, &mut append), fenced);
    let batch = vec![Op::Put(keys.batch(10), frame.clone())];
    let mut late = Decision::new(&keys, Some(&head), head.appended(12, 7, 2), batch);
    assert_eq!(settle(&mut client, &mut late), Ok(Outcome::Fenced { by, batch: Batch::NotDone }));

    assert_eq!(client.get(&keys.batch(1), Freshness::AnyAge, TIME), Ok(Some(frame)));
    assert_eq!(client.get(&keys.batch(10), Freshness::Current, TIME), Ok(None));
    let read = client.txn(&Txn::read(keys.head(), keys.nothing()), TIME).unwrap();
    assert_eq!(read.found, [Some(taken.to_string().into_bytes())]);
    assert_eq!(read.condition, Held::Yes);
}

#[test]
fn a_real_etcd_reads_removes_and_forgets_ranges() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let (mut client, keys) = (cluster.client(None), Keys::new("shop"));
    for lsn in 1..=5 {
        client.txn(&put(&keys.batch(lsn), lsn.to_string()), TIME).unwrap();
    }
    client.txn(&put(&keys.head(), ""), TIME).unwrap();
    let page = client.range(&keys.batches_from(2), 3, Freshness::Current, TIME).unwrap();
    let lsns: Vec<_> = page.pairs.iter().map(|(key, _)| keys.lsn_of_batch(key)).collect();
    assert_eq!((lsns, page.rest), (vec![Some(2), Some(3), Some(4)], Rest::More));
    assert_eq!(client.get(&keys.head(), Freshness::Current, TIME), Ok(Some(vec![])));
    assert_eq!(client.delete_range(&keys.batches(1, 5), TIME), Ok(4));
    assert_eq!(client.delete_range(&keys.batches(1, 5), TIME), Ok(0));
    // A read that goes through etcd's log changes nothing, not even the revision.
    let before = client.range(&keys.batches_from(1), 9, Freshness::Current, TIME).unwrap();
    client.txn(&Txn::read(keys.head(), keys.nothing()), TIME).unwrap();
    let after = client.range(&keys.batches_from(1), 9, Freshness::Current, TIME).unwrap();
    assert_eq!((before.pairs.len(), before.revision), (1, after.revision));
    client.compact(after.revision, TIME).unwrap();
    client.compact(after.revision, TIME).unwrap();
    assert!(matches!(client.compact(u64::MAX / 4, TIME), Err(Trouble::Unknown(_))));
    let status = client.status(TIME).unwrap();
    assert!(status.version.starts_with("3.") && status.leader != 0, "{status:?}");
    assert!(0 < status.used_bytes && status.used_bytes <= status.file_bytes, "{status:?}");
    assert_eq!(status.errors, Vec::<String>::new());
}

#[test]
fn the_texts_by_which_a_real_etcd_refuses_are_those_on_the_list() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let member = cluster.member(0);
    let put = |key: &str, bytes: usize| {
        // "AAAA" is three bytes of zero in base64.
        format!(r#"{{"requestPut":{{"key":"{key}","value":"{}"}}}}"#, "AAAA".repeat(bytes / 3))
    };
    let refused = |ops: &[String]| {
        let reply = post(&member, "/v3/kv/txn", &format!(r#"{{"success":[{}]}}"#, ops.join(",")));
        (error_of(&reply), reply.0)
    };
    let delete = r#"{"requestDeleteRange":{"key":"YQ==","range_end":"Yw=="}}"#.to_owned();
    let many: Vec<String> = (0..129).map(|n| put(&format!("a{n:03}"), 3)).collect();
    let cases: [(&str, u16, Vec<String>); 6] = [
        ("etcdserver: request is too large", 400, vec![put("YQ==", 1_572_864)]),
        ("grpc: received message larger than max (", 429, vec![put("YQ==", 2 << 20)]),
        ("etcdserver: too many operations in txn request", 400, many),
        (
            "etcdserver: duplicate key given in txn request",
            400,
            vec![put("YQ==", 3), put("YQ==", 3)],
        ),
        ("etcdserver: duplicate key given in txn request", 400, vec![delete, put("Yg==", 3)]),
        ("etcdserver: key is not provided", 400, vec![put("", 3)]),
    ];
    for (text, status, ops) in cases {
        let (said, with) = refused(&ops);
        assert!(said.starts_with(text) && with == status, "{text}: {said} {with}");
        let trouble = refusals::trouble(&said);
        assert!(matches!(trouble, Trouble::Refused(Refusal::ForGood(_))), "{said}: {trouble:?}");
    }
    // The largest that this server sends is taken.
    let largest =
        Op::Put("k".into(), vec![0xff; post_gres_rs::replicated::kv::LARGEST_TXN_BYTES - 1]);
    let largest = Txn::new(Condition::Always, vec![largest], vec![]);
    cluster.client(None).txn(&largest, TIME).unwrap();
}

#[test]
fn a_real_etcd_that_is_full_takes_no_batch_and_still_says_what_its_head_is() {
    let Some(cluster) = Cluster::start(1, &["--quota-backend-bytes", "8000000"]) else { return };
    let (mut client, keys, clock) = (cluster.client(None), Keys::new("shop"), Boottime);
    client.txn(&put(&keys.head(), first().to_string()), TIME).unwrap();
    let full = (0..20).find_map(|_| client.txn(&put("/x", vec![1; 1 << 20]), TIME).err());
    assert_eq!(full, Some(Trouble::NoSpace));
    let batch = vec![Op::Put(keys.batch(1), b"a batch".to_vec())];
    let mut append = Decision::new(&keys, Some(&first()), first().appended(1, 7, 1), batch);
    // The alarm reaches every member soon after; before it, a small batch may still fit.
    eventually("the alarm is raised", || !client.status(TIME).unwrap().errors.is_empty());
    let outcome = decide(&mut append, &mut client, &clock, TIME, clock.now() + TIME);
    assert_eq!(outcome, Ok(Outcome::Refused(Refusal::NoSpace)));
    let errors = client.status(TIME).unwrap().errors;
    assert!(errors.iter().any(|it| it.contains("NOSPACE")), "{errors:?}");
    assert!(client.delete_range(&keys.batches_from(1), TIME).is_ok(), "what only removes goes on");
}

#[test]
fn without_a_majority_nothing_is_known_and_with_one_the_same_decision_is_settled() {
    let Some(mut cluster) = Cluster::start(3, &[]) else { return };
    let (mut client, keys, clock) = (cluster.client(None), Keys::new("shop"), Boottime);
    let time = attempt_time(Duration::from_secs(3));
    client.txn(&put(&keys.head(), first().to_string()), TIME).unwrap();
    cluster.kill(0);
    cluster.kill(1);
    let mut renew = Decision::new(&keys, Some(&first()), first().renewed(1), vec![]);
    let began = clock.now();
    let unsettled = decide(&mut renew, &mut client, &clock, time, clock.now() + time * 5);
    assert!(unsettled.is_err() && !renew.is_certain(), "{unsettled:?}");
    let took = clock.now().since(began);
    assert!(took < time * 7, "one attempt more at most: {took:?}");
    cluster.start_member(0);
    let until = clock.now() + Duration::from_secs(30);
    let outcome = decide(&mut renew, &mut client, &clock, time, until);
    assert!(matches!(outcome, Ok(Outcome::Done { .. })), "{outcome:?}");
}

#[test]
fn the_loss_of_a_member_costs_seconds_and_no_decision() {
    let Some(mut cluster) = Cluster::start(3, &[]) else { return };
    let (mut client, keys, clock) = (cluster.client(None), Keys::new("shop"), Boottime);
    let time = attempt_time(Duration::from_secs(3));
    let mut head = first();
    client.txn(&put(&keys.head(), head.to_string()), TIME).unwrap();
    let mut longest = Duration::ZERO;
    for beat in 1..=300 {
        if beat == 100 {
            // Whichever leads: the first is asked first, and may be the one.
            cluster.kill(0);
        }
        let began = Instant::now();
        let batch = vec![Op::Put(keys.batch(head.lsn + 1), beat.to_string().into_bytes())];
        let next = head.appended(head.lsn + 1, 7, beat);
        let mut append = Decision::new(&keys, Some(&head), next.clone(), batch);
        let until = clock.now() + Duration::from_secs(60);
        let outcome = decide(&mut append, &mut client, &clock, time, until);
        assert!(matches!(outcome, Ok(Outcome::Done { .. })), "{outcome:?}");
        head = next;
        longest = longest.max(began.elapsed());
    }
    println!("the longest decision took {longest:?}");
    for lsn in 1..=300 {
        let found = client.get(&keys.batch(lsn), Freshness::Current, TIME).unwrap();
        assert_eq!(found, Some(lsn.to_string().into_bytes()));
    }
}

/// Has etcd ask for a user: `u`, whose password is geheim, may use the log `shop` alone.
fn add_users(member: &str) {
    let set = |path: &str, body: &str| {
        let reply = post(member, path, body);
        assert_eq!(reply.0, 200, "{path}: {reply:?}");
    };
    for (user, role) in [("root", "root"), ("u", "shop")] {
        set("/v3/auth/user/add", &format!(r#"{{"name":"{user}","password":"geheim"}}"#));
        set("/v3/auth/role/add", &format!(r#"{{"name":"{role}"}}"#));
        set("/v3/auth/user/grant", &format!(r#"{{"user":"{user}","role":"{role}"}}"#));
    }
    // From /shop/ to /shop0, to read and to write.
    let range = r#"{"permType":"READWRITE","key":"L3Nob3Av","range_end":"L3Nob3Aw"}"#;
    set("/v3/auth/role/grant", &format!(r#"{{"name":"shop","perm":{range}}}"#));
    set("/v3/auth/enable", "{}");
}

#[test]
fn a_real_etcd_with_users_wants_a_token_and_forgets_it_at_its_restart() {
    let Some(mut cluster) = Cluster::start(1, &[]) else { return };
    add_users(&cluster.member(0));
    let login = |password: &str| Login { user: "u".into(), password: password.into() };
    let (mut right, key) = (cluster.client(Some(login("geheim"))), Keys::new("shop").head());
    right.txn(&put(&key, "x"), TIME).unwrap();
    let read = Txn::read(key.clone(), Keys::new("shop").nothing());
    assert_eq!(right.txn(&read, TIME).unwrap().found, [Some(b"x".to_vec())]);
    let is_for_good = |trouble: Trouble| match trouble {
        Trouble::Refused(Refusal::ForGood(text)) => text,
        other => panic!("{other:?}"),
    };
    let refused = right.txn(&put("/other/head", "x"), TIME).unwrap_err();
    assert_eq!(is_for_good(refused), "etcdserver: permission denied");
    let refused = cluster.client(None).txn(&put(&key, "y"), TIME).unwrap_err();
    assert_eq!(is_for_good(refused), "etcdserver: user name is empty");
    let wrong = cluster.client(Some(login("falsch"))).txn(&put(&key, "y"), TIME).unwrap_err();
    assert_eq!(
        is_for_good(wrong),
        "etcdserver: authentication failed, invalid user ID or password"
    );
    // A member that was restarted knows no token; the client asks for another by itself.
    cluster.kill(0);
    cluster.start_member(0);
    let mut seen = Vec::new();
    eventually("a new token is used", || match right.txn(&put(&key, "z"), TIME) {
        Ok(_) => true,
        Err(trouble) => {
            seen.push(trouble);
            thread::yield_now();
            false
        }
    });
    let forgotten = Trouble::Refused(Refusal::ForNow(refusals::INVALID_TOKEN.into()));
    assert!(seen.contains(&forgotten), "{seen:?}");
}

#[test]
fn a_user_where_etcd_has_none_is_refused_for_good() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let login = Login { user: "u".into(), password: "p".into() };
    let refused = cluster.client(Some(login)).txn(&put("k", "v"), TIME).unwrap_err();
    let text = "etcdserver: authentication is not enabled".to_owned();
    assert_eq!(refused, Trouble::Refused(Refusal::ForGood(text)));
}

#[test]
fn nobody_there_means_that_nothing_was_sent() {
    let http = Http::new(Encryption::None, None).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let members = Members::new(vec![format!("127.0.0.1:{port}")], None);
    let trouble = Client::new(http, members, None).txn(&put("k", "v"), TIME).unwrap_err();
    assert!(matches!(trouble, Trouble::Refused(Refusal::ForNow(_))), "{trouble:?}");
}

#[test]
fn a_member_that_is_silent_costs_no_more_than_the_time_for_an_attempt() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let member = listener.local_addr().unwrap().to_string();
    let http = Http::new(Encryption::None, None).unwrap();
    let mut client = Client::new(http, Members::new(vec![member], None), None);
    let (began, time) = (Instant::now(), Duration::from_millis(300));
    let trouble = client.txn(&put("k", "v"), time).unwrap_err();
    assert!(matches!(trouble, Trouble::Unknown(_)), "it may have been read: {trouble:?}");
    assert!(began.elapsed() < time * 3, "{:?}", began.elapsed());
}

/// A key and a certificate for this machine, as files. `None`, with a message, where openssl is not installed.
#[cfg(feature = "etcds")]
fn certificate(dir: &Path, name: &str) -> Option<(String, String)> {
    let file = |kind: &str| dir.join(format!("{name}.{kind}")).to_str().expect("ASCII").to_owned();
    let (key, cert) = (file("key"), file("pem"));
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
    let subject = ["-subj", "/CN=etcd", "-addext", "subjectAltName=IP:127.0.0.1"];
    let openssl = Command::new("openssl")
        .args(request)
        .args(subject)
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", &key, "-out", &cert])
        .output();
    let is_made = openssl.is_ok_and(|it| it.status.success());
    if !is_made {
        eprintln!("skipped: there is no openssl here");
    }
    is_made.then_some((key, cert))
}

#[cfg(feature = "etcds")]
#[test]
fn over_tls_a_member_is_believed_only_with_a_certificate_of_the_right_authority() {
    let dir = tempfile::TempDir::new().unwrap();
    let made = |name: &str| certificate(dir.path(), name);
    let (Some((key, cert)), Some((_, other))) = (made("one"), made("two")) else { return };
    let flags = ["--cert-file", &cert, "--key-file", &key];
    let Some(cluster) = Cluster::begin(1, &flags, "https") else { return };
    let client = |roots: Option<Vec<u8>>| {
        let http = Http::new(Encryption::Tls, roots.as_deref()).unwrap();
        Client::new(http, Members::new(vec![cluster.member(0)], None), None)
    };
    let read = |path: &str| Some(std::fs::read(path).unwrap());
    let mut right = client(read(&cert));
    eventually("etcd answers over TLS", || right.txn(&put("k", "v"), TIME).is_ok());
    for roots in [read(&other), None] {
        let trouble = client(roots).txn(&put("k", "v"), TIME).unwrap_err();
        let Trouble::Unknown(why) = trouble else { panic!("{trouble:?}") };
        assert!(why.contains("certificate"), "{why}");
    }
    assert!(Http::new(Encryption::Tls, Some(b"no certificate")).is_err());
    assert!(Http::new(Encryption::None, read(&cert).as_deref()).is_err());
}
