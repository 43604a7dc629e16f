//! For tests: a clock that is moved by hand, and a way to the fake etcd on which each request meets the fault
//! that a test has written down for it.

#[cfg(test)]
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::client::{Client, Lost, Reply, Request, Sent, Transport};
use super::clock::{Clock, Moment};
use super::fake::FakeEtcd;
use super::members::Members;

/// A clock that goes on only when someone rests.
#[derive(Clone)]
pub struct Hands(Arc<AtomicU64>);

impl Hands {
    /// A clock that shows some time.
    pub fn at(time: Duration) -> Hands {
        let moment = Moment(0) + time;
        Hands(Arc::new(AtomicU64::new(moment.0)))
    }
}

impl Clock for Hands {
    fn now(&self) -> Moment {
        Moment(self.0.load(Ordering::SeqCst))
    }

    fn rest(&self, time: Duration) {
        self.0.fetch_add((Moment(0) + time).0, Ordering::SeqCst);
    }
}

/// What becomes of one request. Each takes a second of the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It arrives, and so does its reply.
    None,
    /// There is no connection.
    NoConnection,
    /// It is lost on its way, and a time-out comes.
    Lost,
    /// It is done, and its reply is lost.
    ReplyLost,
    /// It times out, and is done later: after so many more requests have arrived.
    Late(usize),
    /// It is not done, and this is the reply, such as one of a proxy.
    Instead(u16, String),
    /// It is done, and this is the reply.
    DoneBut(u16, String),
}

impl Fault {
    /// An error of etcd whose text says nothing about what was done.
    pub fn error(text: &str) -> (u16, String) {
        (503, format!(r#"{{"error":"{text}","message":"{text}","code":14}}"#))
    }
}

/// A way to the fake.
pub struct Way {
    /// The fake itself.
    pub etcd: Arc<Mutex<FakeEtcd>>,
    /// What is to happen to the requests, in order; then no more faults.
    pub faults: VecDeque<Fault>,
    /// The members that were asked, and the paths.
    pub asked: Vec<(String, String)>,
    clock: Hands,
    late: Vec<(usize, String, Vec<u8>)>,
}

impl Way {
    /// One without faults.
    pub fn new(etcd: &Arc<Mutex<FakeEtcd>>, clock: &Hands) -> Way {
        let (etcd, clock, faults) = (etcd.clone(), clock.clone(), VecDeque::new());
        Way { etcd, faults, asked: Vec::new(), clock, late: Vec::new() }
    }
}

impl Transport for Way {
    fn post(&mut self, request: &Request<'_>, _: Duration) -> Result<Reply, Lost> {
        self.asked.push((request.member.to_owned(), request.path.to_owned()));
        self.clock.rest(Duration::from_secs(1));
        let carry_out = |path: &str, body: &[u8]| {
            let (status, body) = self.etcd.lock().handle(path, request.token, body);
            Reply { status, body }
        };
        for (requests, path, body) in &mut self.late {
            *requests = requests.saturating_sub(1);
            if *requests == 0 {
                carry_out(path, body);
            }
        }
        self.late.retain(|(requests, ..)| *requests > 0);
        let lost = |sent| Err(Lost { sent, why: "timeout: global".into() });
        match self.faults.pop_front().unwrap_or(Fault::None) {
            Fault::None => Ok(carry_out(request.path, request.body)),
            Fault::NoConnection => lost(Sent::Never),
            Fault::Lost => lost(Sent::Perhaps),
            Fault::ReplyLost => {
                carry_out(request.path, request.body);
                lost(Sent::Perhaps)
            }
            Fault::Late(requests) => {
                self.late.push((requests, request.path.into(), request.body.into()));
                lost(Sent::Perhaps)
            }
            Fault::Instead(status, body) => Ok(Reply { status, body: body.into() }),
            Fault::DoneBut(status, body) => {
                carry_out(request.path, request.body);
                Ok(Reply { status, body: body.into() })
            }
        }
    }
}

/// A client on such a way, with three members.
pub fn client(etcd: &Arc<Mutex<FakeEtcd>>, clock: &Hands, faults: &[Fault]) -> Client<Way> {
    let members = Members::new(["a:1", "b:1", "c:1"].map(str::to_owned).to_vec(), None);
    let faults = faults.iter().cloned().collect();
    Client::new(Way { faults, ..Way::new(etcd, clock) }, members, None)
}

impl Client<Way> {
    /// Another client of the same etcd, without faults.
    pub fn another(&self) -> Client<Way> {
        let Way { etcd, clock, .. } = self.transport();
        client(etcd, clock, &[])
    }
}
