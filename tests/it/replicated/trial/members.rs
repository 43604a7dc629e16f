//! What the trial says to etcd itself, as an operator does: which member leads, how large its file is, and the
//! replacement of a member.

use std::time::Duration;

use post_gres_rs::replicated::client::{Reply, Request, Transport};
use post_gres_rs::replicated::http::Http;
use post_gres_rs::replicated::url::Encryption;
use serde_json::{Value as Json, json};

use super::machines::{ANSWER_TIME, Joins, Machines, member};
use super::network::{MACHINES, Place};

/// Defragmenting stops a member for as long as it copies its file.
const DEFRAGMENT_TIME: Duration = Duration::from_secs(30);

const STATUS: &str = "/v3/maintenance/status";

impl Machines<'_> {
    /// Replaces a lost machine by a new one at the same addresses, as etcd's own manual has it.
    pub fn replace(&mut self, at: usize) {
        let other = (at + 1) % MACHINES;
        let listed = self.etcd(other, "/v3/cluster/member/list", &json!({})).expect("it answers");
        let members = listed["members"].as_array().expect("a list");
        let lost =
            members.iter().find(|one| one["name"] == format!("m{at}")).expect("it was a member");
        let (removed, urls) =
            (json!({ "ID": lost["ID"] }), json!({ "peerURLs": lost["peerURLs"] }));
        // etcd refuses both for a moment after a leader was lost.
        self.insist(other, "/v3/cluster/member/remove", &removed);
        self.insist(other, "/v3/cluster/member/add", &urls);
        self.start_etcd(at, Joins::Existing);
        self.start_server(at);
    }

    /// Asks until etcd does it.
    fn insist(&mut self, at: usize, path: &str, body: &Json) {
        self.wait_for(path, |machines| machines.etcd(at, path, body).is_some());
    }

    /// Gives back the space that a member's file does not use.
    pub fn defragment(&self, at: usize) {
        self.ask_etcd(at, "/v3/maintenance/defragment", &json!({}), DEFRAGMENT_TIME)
            .expect("it does");
    }

    /// Bytes of a member's file, and those of them that are in use.
    pub fn file_bytes(&self, at: usize) -> Option<(u64, u64)> {
        let status = self.etcd(at, STATUS, &json!({}))?;
        Some((number(&status["dbSize"]), number(&status["dbSizeInUse"])))
    }

    /// How far a member has read etcd's own log.
    pub fn applied(&self, at: usize) -> Option<u64> {
        Some(number(&self.etcd(at, STATUS, &json!({}))?["raftAppliedIndex"]))
    }

    /// The reply of one member, which is asked on its own machine.
    pub fn etcd(&self, at: usize, path: &str, body: &Json) -> Option<Json> {
        self.ask_etcd(at, path, body, ANSWER_TIME)
    }

    fn ask_etcd(&self, at: usize, path: &str, body: &Json, time: Duration) -> Option<Json> {
        let (member, body) = (member(at), body.to_string());
        let asked = self.network.inside(Place::Machine(at), || {
            let mut http = Http::new(Encryption::None, None).expect("no certificates");
            let request = Request {
                member: &member,
                path,
                token: None,
                body: body.as_bytes(),
                most_bytes: 1 << 20,
            };
            http.post(&request, time)
        });
        let Reply { status, body } = asked.ok()?;
        (status == 200).then(|| serde_json::from_slice(&body).expect("JSON"))
    }

    /// The machine whose member leads etcd.
    pub fn etcd_leader(&self) -> Option<usize> {
        (0..MACHINES).find(|at| {
            let status = self.etcd(*at, STATUS, &json!({}));
            status.is_some_and(|it| {
                number(&it["leader"]) > 0 && it["leader"] == it["header"]["member_id"]
            })
        })
    }

    /// Whether each member runs, answers and knows of one leader.
    pub fn is_etcd_whole(&self) -> bool {
        let leader = |at| Some(number(&self.etcd(at, STATUS, &json!({}))?["leader"]));
        let leaders: Vec<Option<u64>> = (0..MACHINES).map(leader).collect();
        leaders[0].is_some_and(|leader| leader > 0) && leaders.iter().all(|it| *it == leaders[0])
    }
}

/// A number in etcd's JSON: it spells those of 64 bits as strings, and leaves out zero.
fn number(value: &Json) -> u64 {
    value.as_str().map_or(0, |text| text.parse().expect("a number"))
}
