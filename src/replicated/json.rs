//! etcd's requests and replies as its gateway has them: protobuf's JSON.
//!
//! Three things there surprise: what is zero, false or empty is left out; 64-bit numbers are strings; keys and
//! values are base64. A reply that lacks what every real one has is not believed: `{}` from something between
//! here and etcd would otherwise read as "the condition did not hold, and there is no head".

use base64::engine::general_purpose::STANDARD;
use base64::prelude::*;
use serde_json::{Map, Value};

use super::keys::Range;
use super::kv::{Answer, Condition, Held, Op, Txn};

/// How fresh a read is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Whatever the member that is asked has, perhaps older than what it said before.
    AnyAge,
    /// As of now, after the member has asked the others.
    Current,
}

/// A part of a range.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// Keys and values, in the order of the keys.
    pub pairs: Vec<(String, Vec<u8>)>,
    /// Whether the range has more keys after these.
    pub rest: Rest,
    /// etcd's revision when it was read.
    pub revision: u64,
}

/// Whether something follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It does.
    More,
    /// It does not.
    None,
}

/// How a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Bytes of its file, which is what the quota counts.
    pub file_bytes: u64,
    /// Bytes of the file that are in use; the rest comes back by defragmentation only.
    pub used_bytes: u64,
    /// Its own id.
    pub id: u64,
    /// The member that leads, by its id; 0 if this one knows of none.
    pub leader: u64,
    /// What it complains about, such as an alarm.
    pub errors: Vec<String>,
}

/// A transaction as a request. Written by hand because a batch has up to 1.3 MB, and every string is base64 that
/// needs no escape.
pub fn txn(txn: &Txn) -> String {
    let bytes: usize =
        [Held::Yes, Held::No].iter().flat_map(|held| txn.ops(*held)).map(Op::bytes).sum();
    // Base64 makes four of three; what stands around it fits into the rest.
    let mut out = String::with_capacity(bytes / 3 * 4 + 4096);
    out.push('{');
    match txn.condition() {
        Condition::Always => {}
        Condition::Value(key, value) => {
            out.push_str(r#""compare":[{"target":"VALUE","result":"EQUAL","#);
            field(&mut out, "key", key.as_bytes());
            out.push(',');
            field(&mut out, "value", value);
            out.push_str("}],");
        }
        Condition::Missing(keys) => {
            out.push_str(r#""compare":["#);
            for (at, key) in keys.iter().enumerate() {
                let comma = if at > 0 { "," } else { "" };
                out.push_str(comma);
                out.push_str(r#"{"target":"CREATE","result":"EQUAL","create_revision":"0","#);
                field(&mut out, "key", key.as_bytes());
                out.push('}');
            }
            out.push_str("],");
        }
    }
    for (name, held) in [(r#""success":["#, Held::Yes), (r#"],"failure":["#, Held::No)] {
        out.push_str(name);
        for (at, op) in txn.ops(held).iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            operation(&mut out, op);
        }
    }
    out.push_str("]}");
    out
}

fn operation(out: &mut String, op: &Op) {
    let (name, key) = match op {
        Op::Put(key, _) => ("requestPut", key),
        Op::Get(key) => ("requestRange", key),
        Op::Delete(key) => ("requestDeleteRange", key),
        Op::DeleteRange(range) => ("requestDeleteRange", &range.from),
    };
    out.push_str("{\"");
    out.push_str(name);
    out.push_str("\":{");
    field(out, "key", key.as_bytes());
    match op {
        Op::Put(_, value) => {
            out.push(',');
            field(out, "value", value);
        }
        Op::DeleteRange(range) => {
            out.push(',');
            field(out, "range_end", range.to.as_bytes());
        }
        Op::Get(_) | Op::Delete(_) => {}
    }
    out.push_str("}}");
}

fn field(out: &mut String, name: &str, bytes: &[u8]) {
    out.push('"');
    out.push_str(name);
    out.push_str("\":\"");
    STANDARD.encode_string(bytes, out);
    out.push('"');
}

/// A read of at most `limit` keys.
pub fn range(range: &Range, limit: u64, freshness: Freshness) -> String {
    let mut out = String::from("{");
    field(&mut out, "key", range.from.as_bytes());
    out.push(',');
    field(&mut out, "range_end", range.to.as_bytes());
    finish_read(out, limit, freshness)
}

/// A read of one key.
pub fn get(key: &str, freshness: Freshness) -> String {
    let mut out = String::from("{");
    field(&mut out, "key", key.as_bytes());
    finish_read(out, 1, freshness)
}

fn finish_read(mut out: String, limit: u64, freshness: Freshness) -> String {
    out.push_str(&format!(r#","limit":"{limit}""#));
    if freshness == Freshness::AnyAge {
        out.push_str(r#","serializable":true"#);
    }
    out.push('}');
    out
}

/// A request to remove a range.
pub fn delete_range(range: &Range) -> String {
    let mut out = String::from("{");
    field(&mut out, "key", range.from.as_bytes());
    out.push(',');
    field(&mut out, "range_end", range.to.as_bytes());
    out.push('}');
    out
}

/// A reply of the gateway: an object with a header, or the text of an error.
pub fn reply(status: u16, body: &[u8]) -> Result<Map<String, Value>, String> {
    let start = || String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]).into_owned();
    let Ok(Value::Object(reply)) = serde_json::from_slice(body) else {
        return Err(format!("HTTP {status}, {:?}", start()));
    };
    if let Some(text) = reply.get("error").and_then(Value::as_str) {
        return Err(text.to_owned());
    }
    let header = reply.get("header").and_then(Value::as_object);
    let is_etcd = header.is_some_and(|header| header.contains_key("cluster_id"));
    match status == 200 && is_etcd {
        true => Ok(reply),
        false => Err(format!("HTTP {status}, {:?}, which is no reply of etcd", start())),
    }
}

/// Bytes of a strange reply that are shown.
const SHOWN_BYTES: usize = 120;

/// How a transaction went; `None` if the reply does not fit the request.
pub fn answer(txn: &Txn, reply: &Map<String, Value>) -> Option<Answer> {
    let condition = match reply.get("succeeded") {
        // What has no condition cannot fail on it; an answer without anything would read as one that did.
        None | Some(Value::Bool(false)) if *txn.condition() != Condition::Always => Held::No,
        Some(Value::Bool(true)) => Held::Yes,
        None | Some(_) => return None,
    };
    let (ops, responses) = (txn.ops(condition), list(reply.get("responses"))?);
    if ops.len() != responses.len() {
        return None;
    }
    let mut found = Vec::new();
    for (op, response) in ops.iter().zip(responses) {
        let of = |name| response.get(name).and_then(Value::as_object);
        match op {
            Op::Put(..) => _ = of("response_put")?,
            Op::Delete(_) | Op::DeleteRange(_) => _ = of("response_delete_range")?,
            Op::Get(key) => {
                let mut pairs = pairs(of("response_range")?)?;
                let is_fine = pairs.len() <= 1 && pairs.iter().all(|(other, _)| other == key);
                found.push(is_fine.then(|| pairs.pop().map(|(_, value)| value))?);
            }
        }
    }
    Some(Answer { condition, found })
}

/// What a read found.
pub fn page(reply: &Map<String, Value>) -> Option<Page> {
    let rest = match reply.get("more") {
        None | Some(Value::Bool(false)) => Rest::None,
        Some(_) => Rest::More,
    };
    Some(Page { pairs: pairs(reply)?, rest, revision: revision(reply)? })
}

/// etcd's revision at the time of a reply.
pub fn revision(reply: &Map<String, Value>) -> Option<u64> {
    number(reply.get("header")?.get("revision"))
}

/// How many keys were removed.
pub fn deleted(reply: &Map<String, Value>) -> Option<u64> {
    number(reply.get("deleted"))
}

/// How a member is.
pub fn status(reply: &Map<String, Value>) -> Option<Status> {
    let errors = list(reply.get("errors"))?.iter();
    Some(Status {
        version: reply.get("version")?.as_str()?.to_owned(),
        file_bytes: number(reply.get("dbSize"))?,
        used_bytes: number(reply.get("dbSizeInUse"))?,
        id: number(reply.get("header")?.get("member_id"))?,
        leader: number(reply.get("leader"))?,
        errors: errors.map(|it| it.as_str().map(str::to_owned)).collect::<Option<_>>()?,
    })
}

fn pairs(reply: &Map<String, Value>) -> Option<Vec<(String, Vec<u8>)>> {
    let pair = |pair: &Value| {
        let key = String::from_utf8(bytes(pair.get("key"))?).ok()?;
        Some((key, bytes(pair.get("value"))?))
    };
    list(reply.get("kvs"))?.iter().map(pair).collect()
}

/// A list; an empty one is left out.
fn list(value: Option<&Value>) -> Option<&[Value]> {
    value.map_or(Some(&[]), |value| value.as_array().map(Vec::as_slice))
}

/// Bytes; none are left out.
fn bytes(value: Option<&Value>) -> Option<Vec<u8>> {
    value.map_or(Some(Vec::new()), |value| STANDARD.decode(value.as_str()?).ok())
}

/// A number, which is a string if it has 64 bits, and left out if it is 0.
fn number(value: Option<&Value>) -> Option<u64> {
    match value {
        None => Some(0),
        Some(Value::String(digits)) => digits.parse().ok(),
        Some(value) => value.as_u64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        r#""header":{"cluster_id":"3","member_id":"5","revision":"9","raft_term":"2"}"#;

    fn cas() -> Txn {
        let condition = Condition::Value("/n/head".into(), b"h1".to_vec());
        let success = vec![Op::Put("/n/head".into(), b"h2".to_vec())];
        Txn::new(condition, success, vec![Op::Get("/n/head".into())])
    }

    fn parsed(body: &str) -> Result<Map<String, Value>, String> {
        reply(200, body.as_bytes())
    }

    #[test]
    fn a_transaction_is_written_as_the_gateway_reads_it() {
        assert_eq!(
            txn(&cas()),
            r#"{"compare":[{"target":"VALUE","result":"EQUAL","key":"L24vaGVhZA==","value":"aDE="}],"success":[{"requestPut":{"key":"L24vaGVhZA==","value":"aDI="}}],"failure":[{"requestRange":{"key":"L24vaGVhZA=="}}]}"#
        );
        assert_eq!(
            txn(&Txn::read("/n/a".into(), "/n/b".into())),
            r#"{"success":[{"requestDeleteRange":{"key":"L24vYg=="}},{"requestRange":{"key":"L24vYQ=="}}],"failure":[]}"#
        );
        let all = Range { from: "a".into(), to: "b".into() };
        assert_eq!(
            range(&all, 5, Freshness::AnyAge),
            r#"{"key":"YQ==","range_end":"Yg==","limit":"5","serializable":true}"#
        );
    }

    #[test]
    fn what_is_zero_false_or_empty_is_left_out_of_a_reply() {
        let failed = parsed(&format!(
            r#"{{{HEADER},"responses":[{{"response_range":{{"header":{{"revision":"9"}},"kvs":[{{"key":"L24vaGVhZA==","value":"aDM="}}],"count":"1"}}}}]}}"#
        ));
        let found = vec![Some(b"h3".to_vec())];
        assert_eq!(answer(&cas(), &failed.unwrap()), Some(Answer { condition: Held::No, found }));
        let missing = parsed(&format!(
            r#"{{{HEADER},"responses":[{{"response_range":{{"header":{{"revision":"9"}}}}}}]}}"#
        ));
        let found = vec![None];
        assert_eq!(answer(&cas(), &missing.unwrap()), Some(Answer { condition: Held::No, found }));
        let page = page(&parsed(&format!("{{{HEADER}}}")).unwrap()).unwrap();
        assert_eq!(page, Page { pairs: vec![], rest: Rest::None, revision: 9 });
    }

    #[test]
    fn a_reply_that_does_not_fit_its_request_is_not_believed() {
        for body in ["{}", "", "null", "[]", "<html>", r#"{"succeeded":true}"#, r#"{"header":{}}"#]
        {
            assert!(parsed(body).is_err(), "{body}");
        }
        let unfit = [
            "",
            r#","succeeded":true"#,
            r#","succeeded":1,"responses":[{"response_put":{}}]"#,
            r#","succeeded":true,"responses":[{"response_range":{}}]"#,
            r#","succeeded":true,"responses":[{"response_put":{}},{"response_put":{}}]"#,
            r#","responses":[{"response_range":{"kvs":[{"key":"L24vb3RoZXI=","value":"aDM="}]}}]"#,
            r#","responses":[{"response_range":{"kvs":[{"key":"L24vaGVhZA==","value":"%"}]}}]"#,
            r#","responses":{}"#,
        ];
        for body in unfit {
            let reply = parsed(&format!("{{{HEADER}{body}}}")).unwrap();
            assert_eq!(answer(&cas(), &reply), None, "{body}");
        }
        // A read without a condition that seems to have found nothing, as its condition did not hold.
        let read = Txn::read("/n/a".into(), "/n/b".into());
        assert_eq!(answer(&read, &parsed(&format!("{{{HEADER}}}")).unwrap()), None);
    }

    #[test]
    fn an_error_is_its_text_whatever_the_status() {
        let body = r#"{"error":"etcdserver: leader changed","code":14}"#;
        assert_eq!(reply(503, body.as_bytes()), Err("etcdserver: leader changed".into()));
        assert!(reply(502, b"Bad Gateway").is_err_and(|why| why.starts_with("HTTP 502, \"Bad")));
        let whole = format!("{{{HEADER}}}");
        assert!(reply(500, whole.as_bytes()).is_err(), "no success has this status");
        assert!(reply(500, &[b'x'; 1 << 20]).is_err_and(|why| why.len() < 2 * SHOWN_BYTES));
    }
}
