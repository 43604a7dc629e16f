//! An etcd in memory, for tests: the part of its JSON gateway that a log uses, with the texts of 3.4.23, and what
//! it does when its quota is used up. It knows nothing of the rest of this crate, so that it can be wrong only
//! by itself; a test beside it asks a real etcd the same questions.

#[cfg(test)]
use std::collections::BTreeMap;

use base64::prelude::*;
use serde_json::{Value, json};

/// A cluster of etcd, as one member of it that never fails. Faults are the matter of who carries requests to it.
#[derive(Clone, Default)]
pub struct FakeEtcd {
    keys: BTreeMap<Vec<u8>, Vec<Version>>,
    revision: u64,
    /// How many revisions a serializable read lags.
    pub lag: u64,
    /// Bytes of keys and values it takes, ever; 0 for no limit.
    pub quota: u64,
    /// The last byte of what is put under this prefix is changed.
    pub corrupts: Option<String>,
    written: u64,
    is_full: bool,
    /// Name and password, if authentication is on, and the tokens that were handed out.
    pub login: Option<(String, String)>,
    tokens: Vec<String>,
    /// The most operations and bytes of a transaction.
    limits: Limits,
}

/// What a key is since a revision; `None` since it was removed.
type Version = (u64, Option<Vec<u8>>);

#[derive(Clone)]
struct Limits {
    ops: usize,
    bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { ops: 128, bytes: 1_572_864 }
    }
}

type Reply = (u16, Value);

fn error(status: u16, code: u8, text: &str) -> Reply {
    (status, json!({ "error": text, "message": text, "code": code }))
}

fn bytes(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).expect("base64 in a request")
}

fn text(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

impl FakeEtcd {
    /// Carries a request out.
    pub fn handle(&mut self, path: &str, token: Option<&str>, body: &[u8]) -> (u16, Vec<u8>) {
        let (status, reply) = match serde_json::from_slice(body) {
            Ok(request) => self.answer(path, token, &request),
            Err(_) => error(400, 3, "unexpected EOF"),
        };
        (status, reply.to_string().into_bytes())
    }

    /// The value of a key, as a look from outside of all requests.
    pub fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.at(key.as_bytes(), self.revision)
    }

    /// The last change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Forgets all tokens, as a member does at its restart.
    pub fn forget_tokens(&mut self) {
        self.tokens.clear();
    }

    /// Space is there again.
    pub fn disarm(&mut self) {
        (self.is_full, self.quota) = (false, 0);
    }

    fn answer(&mut self, path: &str, token: Option<&str>, request: &Value) -> Reply {
        if path == "/v3/auth/authenticate" {
            return self.authenticate(request);
        }
        if self.login.is_some() {
            match token {
                None => return error(400, 3, "etcdserver: user name is empty"),
                Some(token) if !self.tokens.iter().any(|it| it == token) => {
                    return error(401, 16, "etcdserver: invalid auth token");
                }
                Some(_) => {}
            }
        }
        match path {
            "/v3/kv/txn" => self.txn(request),
            "/v3/kv/range" => {
                let lag = if request["serializable"] == true { self.lag } else { 0 };
                let mut reply = self.range(request, self.revision.saturating_sub(lag));
                reply["header"] = self.header();
                (200, reply)
            }
            "/v3/kv/deleterange" => {
                let mut reply = self.delete(request);
                self.note_changes();
                reply["header"] = self.header();
                (200, reply)
            }
            "/v3/kv/compaction" => (200, json!({ "header": self.header() })),
            "/v3/maintenance/status" => {
                let size = (self.written + 16384).to_string();
                let errors = if self.is_full { vec!["memberID:5 alarm:NOSPACE "] } else { vec![] };
                (
                    200,
                    json!({ "header": self.header(), "version": "3.4.23", "leader": "5",
                    "dbSize": size, "dbSizeInUse": size, "errors": errors }),
                )
            }
            _ => (404, json!("Not Found")),
        }
    }

    fn authenticate(&mut self, request: &Value) -> Reply {
        let given = (request["name"].as_str(), request["password"].as_str());
        match &self.login {
            None => error(412, 9, "etcdserver: authentication is not enabled"),
            Some((user, password)) if given == (Some(user), Some(password)) => {
                let token = format!("token.{}", self.tokens.len() as u64 + self.revision * 1000);
                self.tokens.push(token.clone());
                (200, json!({ "header": self.header(), "token": token }))
            }
            Some(_) => {
                error(400, 3, "etcdserver: authentication failed, invalid user ID or password")
            }
        }
    }

    fn txn(&mut self, request: &Value) -> Reply {
        let none = Vec::new();
        let list = |name: &str| request[name].as_array().unwrap_or(&none).clone();
        let (success, failure) = (list("success"), list("failure"));
        if success.len().max(failure.len()) > self.limits.ops {
            return error(400, 3, "etcdserver: too many operations in txn request");
        }
        let put_bytes = |ops: &[Value]| -> u64 {
            let of = |op: &Value| match op.get("requestPut") {
                Some(put) => bytes(&put["key"]).len() + bytes(&put["value"]).len(),
                None => 0,
            };
            ops.iter().map(|op| of(op) as u64).sum()
        };
        let cost = put_bytes(&success).max(put_bytes(&failure));
        if cost > self.limits.bytes as u64 {
            return error(400, 3, "etcdserver: request is too large");
        }
        let full = || error(429, 8, "etcdserver: mvcc: database space exceeded");
        // The order of etcd: a member that is full refuses what puts; one that is not yet applies it, and then
        // says that it is.
        if self.is_full && cost > 0 {
            return full();
        }
        let is_beyond = self.quota > 0 && cost > 0 && self.written + cost > self.quota;
        let holds = list("compare").iter().all(|compare| self.holds(compare));
        let ops = if holds { success } else { failure };
        let responses: Vec<Value> = ops.iter().map(|op| self.carry_out(op)).collect();
        self.note_changes();
        if is_beyond {
            self.is_full = true;
            return full();
        }
        let mut reply = json!({ "header": self.header() });
        if holds {
            reply["succeeded"] = true.into();
        }
        if !responses.is_empty() {
            reply["responses"] = responses.into();
        }
        (200, reply)
    }

    /// What changed has the next revision; if nothing did, there is none.
    fn note_changes(&mut self) {
        let last = |values: &Vec<Version>| values.last().map_or(0, |(at, _)| *at);
        self.revision = self.keys.values().map(last).max().unwrap_or(0);
    }

    fn holds(&self, compare: &Value) -> bool {
        let found = self.at(&bytes(&compare["key"]), self.revision);
        match compare["target"].as_str() {
            Some("VALUE") => found.is_some_and(|found| found == bytes(&compare["value"])),
            Some("CREATE") => found.is_none(),
            other => panic!("a comparison of {other:?} is not known here"),
        }
    }

    fn carry_out(&mut self, op: &Value) -> Value {
        if let Some(put) = op.get("requestPut") {
            let (key, mut value) = (bytes(&put["key"]), bytes(&put["value"]));
            if self.corrupts.as_ref().is_some_and(|prefix| key.starts_with(prefix.as_bytes())) {
                value.last_mut().into_iter().for_each(|byte| *byte ^= 1);
            }
            self.written += (key.len() + value.len()) as u64;
            self.keys.entry(key).or_default().push((self.revision + 1, Some(value)));
            return json!({ "response_put": {} });
        }
        if let Some(range) = op.get("requestRange") {
            return json!({ "response_range": self.range(range, self.revision + 1) });
        }
        let removed = self.delete(op.get("requestDeleteRange").expect("an operation"));
        json!({ "response_delete_range": removed })
    }

    fn range(&self, range: &Value, revision: u64) -> Value {
        let limit = range["limit"].as_str().map_or(0, |limit| limit.parse().expect("a number"));
        let found = self.named(range).into_iter();
        let found = found.filter_map(|key| Some((self.at(&key, revision)?, key)));
        let mut kvs: Vec<Value> = found
            .map(|(value, key)| match value.is_empty() {
                true => json!({ "key": text(&key) }),
                false => json!({ "key": text(&key), "value": text(&value) }),
            })
            .collect();
        let is_more = limit > 0 && kvs.len() > limit;
        kvs.truncate(if limit > 0 { limit } else { usize::MAX });
        let mut reply = json!({});
        if !kvs.is_empty() {
            reply["kvs"] = kvs.into();
        }
        if is_more {
            reply["more"] = true.into();
        }
        reply
    }

    fn delete(&mut self, range: &Value) -> Value {
        let mut removed = 0;
        for key in self.named(range) {
            let values = self.keys.get_mut(&key).expect("it was found");
            if values.last().is_some_and(|(_, value)| value.is_some()) {
                values.push((self.revision + 1, None));
                removed += 1;
            }
        }
        match removed {
            0 => json!({}),
            removed => json!({ "deleted": removed.to_string() }),
        }
    }

    fn named(&self, range: &Value) -> Vec<Vec<u8>> {
        let from = bytes(&range["key"]);
        match range.get("range_end") {
            None => self.keys.contains_key(&from).then_some(from).into_iter().collect(),
            Some(to) => self.keys.range(from..bytes(to)).map(|(key, _)| key.clone()).collect(),
        }
    }

    fn at(&self, key: &[u8], revision: u64) -> Option<Vec<u8>> {
        let values = self.keys.get(key)?;
        values.iter().rev().find(|(at, _)| *at <= revision)?.1.clone()
    }

    fn header(&self) -> Value {
        json!({ "cluster_id": "3", "member_id": "5", "revision": self.revision.to_string() })
    }
}
