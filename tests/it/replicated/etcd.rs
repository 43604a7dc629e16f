//! Real etcd members for tests, each a process with a directory and ports of its own.

use std::fs::{self, File};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use post_gres_rs::replicated::client::{Client, Login};
use post_gres_rs::replicated::http::Http;
use post_gres_rs::replicated::members::Members;
use post_gres_rs::replicated::url::Encryption;
use tempfile::TempDir;

use crate::common::eventually;

/// Time for one request in tests; a member that has to sync on a busy machine takes a part of it.
pub const TIME: Duration = Duration::from_secs(5);

/// A cluster on this machine. Dropping it ends its members.
pub struct Cluster {
    dir: TempDir,
    flags: Vec<String>,
    ports: Vec<(u16, u16)>,
    scheme: &'static str,
    children: Vec<Option<Child>>,
}

impl Cluster {
    /// Starts members with these flags and waits until they have a leader. `None`, with a message, where etcd is
    /// not installed.
    pub fn start(members: usize, flags: &[&str]) -> Option<Cluster> {
        let cluster = Cluster::begin(members, flags, "http")?;
        eventually("there is a leader", || {
            (0..members).all(|at| cluster.client_of(at).status(TIME).is_ok_and(|it| it.leader != 0))
        });
        Some(cluster)
    }

    /// The same without the wait, and with another scheme for clients.
    pub fn begin(members: usize, flags: &[&str], scheme: &'static str) -> Option<Cluster> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: there is no etcd here (Debian's package is etcd-server)");
            return None;
        }
        let listeners: Vec<TcpListener> =
            (0..2 * members).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let port = |at: usize| listeners[at].local_addr().expect("its port").port();
        let ports = (0..members).map(|at| (port(2 * at), port(2 * at + 1))).collect();
        drop(listeners);
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let dir = TempDir::new().expect("a directory");
        let mut cluster = Cluster { dir, flags, ports, scheme, children: Vec::new() };
        for at in 0..members {
            cluster.children.push(None);
            cluster.start_member(at);
        }
        Some(cluster)
    }

    /// Starts a member, on the directory that it had.
    pub fn start_member(&mut self, at: usize) {
        let peer = |at: usize| format!("http://127.0.0.1:{}", self.ports[at].1);
        let named = |at: usize| format!("m{at}={}", peer(at));
        let all: Vec<String> = (0..self.ports.len()).map(named).collect();
        let own = format!("{}://{}", self.scheme, self.member(at));
        let log = File::create(self.dir.path().join(format!("m{at}.log"))).expect("a file");
        let child = Command::new("etcd")
            .args(["--name", &format!("m{at}"), "--initial-cluster", &all.join(",")])
            .args(["--listen-client-urls", &own, "--advertise-client-urls", &own])
            .args(["--listen-peer-urls", &peer(at), "--initial-advertise-peer-urls", &peer(at)])
            .arg("--data-dir")
            .arg(self.dir.path().join(format!("m{at}")))
            .args(&self.flags)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd starts");
        self.children[at] = Some(child);
    }

    /// Ends a member as `kill -9` does.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.children[at].take() {
            child.kill().expect("it is there");
            child.wait().expect("it is there");
        }
    }

    /// `host:port` of a member.
    pub fn member(&self, at: usize) -> String {
        format!("127.0.0.1:{}", self.ports[at].0)
    }

    /// A client that knows all members.
    pub fn client(&self, login: Option<Login>) -> Client<Http> {
        let all = (0..self.ports.len()).map(|at| self.member(at)).collect();
        let http = Http::new(Encryption::None, None).expect("no certificates");
        Client::new(http, Members::new(all, None), login)
    }

    /// A client that knows one member.
    pub fn client_of(&self, at: usize) -> Client<Http> {
        let http = Http::new(Encryption::None, None).expect("no certificates");
        Client::new(http, Members::new(vec![self.member(at)], None), None)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for at in (0..self.children.len()).filter(|_| thread::panicking()) {
            let said = fs::read_to_string(self.dir.path().join(format!("m{at}.log")));
            eprintln!("member {at} said:\n{}", said.unwrap_or_default());
        }
        (0..self.children.len()).for_each(|at| self.kill(at));
    }
}
