//! A client of etcd's JSON gateway: one member at a time, one request at a time.
//!
//! Each role has a client of its own, so that a poll never waits for a batch of a megabyte. After trouble the next
//! member is asked; the first is the one on the own machine. What an error says about the request,
//! [`super::refusals`] decides. Nothing is repeated here: only the caller knows what may be.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::json::{self, Freshness, Page, Status};
use super::keys::Range;
use super::kv::{Answer, Kv, Refusal, Trouble, Txn};
use super::members::Members;
use super::refusals;

/// Sends one request to one member.
pub trait Transport: Send {
    /// Posts a body, for at most `time` from the name's look-up to the last byte of the reply.
    fn post(&mut self, request: &Request<'_>, time: Duration) -> Result<Reply, Lost>;
}

/// A request to a member.
pub struct Request<'a> {
    /// `host:port`.
    pub member: &'a str,
    /// Such as `/v3/kv/txn`.
    pub path: &'a str,
    /// Proves who asks.
    pub token: Option<&'a str>,
    /// JSON.
    pub body: &'a [u8],
    /// The longest reply that is read.
    pub most_bytes: u64,
}

/// What a member replied.
pub struct Reply {
    /// Of HTTP.
    pub status: u16,
    /// JSON, if etcd wrote it.
    pub body: Vec<u8>,
}

/// A request without a reply.
pub struct Lost {
    /// Whether the member may have got it.
    pub sent: Sent,
    /// For a person.
    pub why: String,
}

/// Whether a request left this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// There was no connection to send it over.
    Never,
    /// All or a part of it.
    Perhaps,
}

/// The longest reply to anything but a range. The longest is that with a batch in it, at most what etcd takes as
/// a request (1.5 MiB), in base64.
const LONGEST_REPLY: u64 = 4 << 20;
/// The longest reply to a range: the caller's limit of keys keeps it below, with [`MOST_BATCHES`] at most.
const LONGEST_PAGE: u64 = 32 << 20;
/// The most batches to read at once: so many of the longest are below the limit of a page.
pub const MOST_BATCHES: u64 = 8;
/// etcd compacted this revision before: what was asked for is so.
const IS_COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// A user of etcd and the password.
#[derive(Clone)]
pub struct Login {
    /// Its name.
    pub user: String,
    /// Never shown.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Login({:?}, …)", self.user)
    }
}

/// One role's way to etcd.
#[derive(Debug)]
pub struct Client<T> {
    transport: T,
    members: Members,
    login: Option<Login>,
    token: Option<String>,
}

impl<T: Transport> Client<T> {
    /// A client that has connected to no member yet.
    pub fn new(transport: T, members: Members, login: Option<Login>) -> Client<T> {
        Client { transport, members, login, token: None }
    }

    /// Its way to etcd.
    #[cfg(test)]
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// The member that is asked next.
    pub fn member(&self) -> &str {
        self.members.current()
    }

    /// Reads one key.
    pub fn get(
        &mut self,
        key: &str,
        freshness: Freshness,
        time: Duration,
    ) -> Result<Option<Vec<u8>>, Trouble> {
        let body = json::get(key, freshness);
        let reply = self.call("/v3/kv/range", &body, LONGEST_REPLY, time)?;
        let mut page = self.believed(json::page(&reply))?;
        Ok(page.pairs.pop().map(|(_, value)| value))
    }

    /// Reads the first `limit` keys of a range.
    pub fn range(
        &mut self,
        range: &Range,
        limit: u64,
        freshness: Freshness,
        time: Duration,
    ) -> Result<Page, Trouble> {
        assert!(limit > 0, "etcd takes 0 for no limit");
        let body = json::range(range, limit, freshness);
        let reply = self.call("/v3/kv/range", &body, LONGEST_PAGE, time)?;
        self.believed(json::page(&reply))
    }

    /// Removes a range, and returns how many keys it had.
    pub fn delete_range(&mut self, range: &Range, time: Duration) -> Result<u64, Trouble> {
        let body = json::delete_range(range);
        let reply = self.call("/v3/kv/deleterange", &body, LONGEST_REPLY, time)?;
        self.believed(json::deleted(&reply))
    }

    /// Has etcd forget what is older than a revision, of all its keys.
    pub fn compact(&mut self, revision: u64, time: Duration) -> Result<(), Trouble> {
        let body = json!({ "revision": revision.to_string() }).to_string();
        match self.call("/v3/kv/compaction", &body, LONGEST_REPLY, time) {
            Ok(_) => Ok(()),
            Err(Trouble::Unknown(text)) if text == IS_COMPACTED => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }

    /// How the member is that is asked next.
    pub fn status(&mut self, time: Duration) -> Result<Status, Trouble> {
        let reply = self.call("/v3/maintenance/status", "{}", LONGEST_REPLY, time)?;
        self.believed(json::status(&reply))
    }

    /// How many members there are.
    pub fn members(&self) -> usize {
        self.members.count()
    }

    /// Goes on with the next member, for one that answers in time, but lags or complains.
    pub fn next_member(&mut self) {
        self.members.advance();
    }

    /// Asks one member once, for the token first if there is none.
    fn call(
        &mut self,
        path: &str,
        body: &str,
        most_bytes: u64,
        time: Duration,
    ) -> Result<Map<String, Value>, Trouble> {
        let mut time = time;
        if let (Some(login), None) = (&self.login, &self.token) {
            let body = json!({ "name": login.user, "password": login.password }).to_string();
            time /= 2;
            let reply = self.post("/v3/auth/authenticate", &body, LONGEST_REPLY, time);
            // Whatever became of this, the request itself has not been sent.
            let reply = reply.map_err(|trouble| match trouble {
                Trouble::Unknown(why) => Trouble::Refused(Refusal::ForNow(why)),
                certain => certain,
            })?;
            let token = reply.get("token").and_then(Value::as_str);
            self.token = Some(token.unwrap_or_default().to_owned());
        }
        self.post(path, body, most_bytes, time)
    }

    fn post(
        &mut self,
        path: &str,
        body: &str,
        most_bytes: u64,
        time: Duration,
    ) -> Result<Map<String, Value>, Trouble> {
        let (member, body) = (self.members.current(), body.as_bytes());
        let request = Request { member, path, token: self.token.as_deref(), body, most_bytes };
        let trouble = match self.transport.post(&request, time) {
            Ok(reply) => match json::reply(reply.status, &reply.body) {
                Ok(reply) => return Ok(reply),
                Err(text) => refusals::trouble(&text),
            },
            Err(Lost { sent: Sent::Never, why }) => {
                Trouble::Refused(Refusal::ForNow(format!("{member}: {why}")))
            }
            Err(Lost { sent: Sent::Perhaps, why }) => Trouble::Unknown(format!("{member}: {why}")),
        };
        self.note(&trouble);
        Err(trouble)
    }

    /// Prepares for the next attempt.
    fn note(&mut self, trouble: &Trouble) {
        match trouble {
            Trouble::Refused(Refusal::ForNow(why)) if why == refusals::INVALID_TOKEN => {
                self.token = None;
            }
            Trouble::Refused(Refusal::ForNow(_)) | Trouble::Unknown(_) => self.members.advance(),
            // Every member would say so.
            Trouble::Refused(Refusal::ForGood(_) | Refusal::NoSpace) | Trouble::NoSpace => {}
        }
    }

    /// What a reply says, if it fits the request.
    fn believed<R>(&mut self, read: Option<R>) -> Result<R, Trouble> {
        read.ok_or_else(|| {
            let trouble = Trouble::Unknown(format!(
                "{}: a reply that does not fit the request",
                self.member()
            ));
            self.note(&trouble);
            trouble
        })
    }
}

impl<T: Transport> Kv for Client<T> {
    fn txn(&mut self, txn: &Txn, time: Duration) -> Result<Answer, Trouble> {
        let reply = self.call("/v3/kv/txn", &json::txn(txn), LONGEST_REPLY, time)?;
        self.believed(json::answer(txn, &reply))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::super::fake::FakeEtcd;
    use super::super::json::Rest;
    use super::super::kv::{Condition, Op};
    use super::super::scripted::{Fault, Hands, Way, client};
    use super::*;

    const TIME: Duration = Duration::from_secs(1);

    fn fake() -> (Arc<Mutex<FakeEtcd>>, Hands) {
        (Arc::default(), Hands::at(Duration::from_secs(1)))
    }

    fn put(keys: &[&str]) -> Txn {
        let ops = keys.iter().map(|key| Op::Put((*key).into(), key.as_bytes().to_vec()));
        Txn::new(Condition::Always, ops.collect(), vec![])
    }

    fn members(client: &Client<Way>) -> Vec<&str> {
        client.transport.asked.iter().map(|(member, _)| member.as_str()).collect()
    }

    #[test]
    fn ranges_are_read_in_pages_and_removed() {
        let (etcd, clock) = fake();
        let mut client = client(&etcd, &clock, &[]);
        client.txn(&put(&["/x/1", "/x/2", "/x/3", "/y"]), TIME).unwrap();
        let all = Range { from: "/x/".into(), to: "/x0".into() };
        let page = client.range(&all, 2, Freshness::Current, TIME).unwrap();
        let keys: Vec<_> = page.pairs.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!((keys, page.rest, page.revision), (vec!["/x/1", "/x/2"], Rest::More, 1));
        assert_eq!(client.delete_range(&all, TIME), Ok(3));
        assert_eq!(client.delete_range(&all, TIME), Ok(0));
        let page = client.range(&all, 9, Freshness::Current, TIME).unwrap();
        assert_eq!((page.pairs, page.rest), (vec![], Rest::None));
        assert_eq!(client.get("/y", Freshness::Current, TIME), Ok(Some(b"/y".to_vec())));
        assert_eq!(client.get("/z", Freshness::Current, TIME), Ok(None));
        etcd.lock().lag = 1;
        assert_eq!(client.get("/x/1", Freshness::AnyAge, TIME), Ok(Some(b"/x/1".to_vec())));
        assert_eq!(client.get("/x/1", Freshness::Current, TIME), Ok(None));
    }

    #[test]
    fn after_trouble_the_next_member_is_asked() {
        let (etcd, clock) = fake();
        let (status, body) = Fault::error("etcdserver: request timed out");
        let faults = [Fault::Lost, Fault::NoConnection, Fault::Instead(status, body), Fault::None];
        let mut client = client(&etcd, &clock, &faults);
        for _ in 0..3 {
            client.txn(&put(&["k"]), TIME).unwrap_err();
        }
        client.txn(&put(&["k"]), TIME).unwrap();
        client.txn(&put(&["k"]), TIME).unwrap();
        assert_eq!(members(&client), ["a:1", "b:1", "c:1", "a:1", "a:1"]);
    }

    #[test]
    fn a_token_is_asked_for_once_and_again_when_it_is_not_known_any_more() {
        let (etcd, clock) = fake();
        etcd.lock().login = Some(("u".into(), "geheim".into()));
        let mut none = client(&etcd, &clock, &[]);
        let refused = none.txn(&put(&["k"]), TIME).unwrap_err();
        assert!(matches!(refused, Trouble::Refused(Refusal::ForGood(_))), "{refused:?}");
        let login = |password: &str| Login { user: "u".into(), password: password.into() };
        assert!(!format!("{:?}", login("geheim")).contains("geheim"));
        let mut wrong = client(&etcd, &clock, &[]);
        wrong.login = Some(login("falsch"));
        let refused = wrong.txn(&put(&["k"]), TIME).unwrap_err();
        assert!(matches!(refused, Trouble::Refused(Refusal::ForGood(_))), "{refused:?}");
        let mut right = client(&etcd, &clock, &[]);
        right.login = Some(login("geheim"));
        right.txn(&put(&["k"]), TIME).unwrap();
        right.txn(&put(&["k"]), TIME).unwrap();
        assert_eq!(right.transport.asked.len(), 3);
        etcd.lock().forget_tokens();
        let refused = right.txn(&put(&["k"]), TIME).unwrap_err();
        assert!(matches!(refused, Trouble::Refused(Refusal::ForNow(_))), "{refused:?}");
        right.txn(&put(&["k"]), TIME).unwrap();
    }

    #[test]
    fn a_request_whose_token_never_came_was_not_sent() {
        let (etcd, clock) = fake();
        etcd.lock().login = Some(("u".into(), "p".into()));
        let mut client = client(&etcd, &clock, &[Fault::Lost]);
        client.login = Some(Login { user: "u".into(), password: "p".into() });
        let trouble = client.txn(&put(&["k"]), TIME).unwrap_err();
        assert!(matches!(trouble, Trouble::Refused(Refusal::ForNow(_))), "{trouble:?}");
    }

    #[test]
    fn the_status_of_a_member_tells_of_its_file_and_alarms() {
        let (etcd, clock) = fake();
        let mut client = client(&etcd, &clock, &[]);
        assert_eq!(client.status(TIME).unwrap().errors, Vec::<String>::new());
        etcd.lock().quota = 1;
        assert_eq!(client.txn(&put(&["k"]), TIME), Err(Trouble::NoSpace));
        let status = client.status(TIME).unwrap();
        assert_eq!(status.errors, ["memberID:5 alarm:NOSPACE "]);
        assert_eq!((status.version.as_str(), status.leader, status.id), ("3.4.23", 5, 5));
        assert!(status.file_bytes >= 16384 && client.compact(1, TIME).is_ok());
    }
}
