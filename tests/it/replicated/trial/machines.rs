//! Three machines, each with one member of etcd and one server, and all that a fault does to them.
//!
//! The member's disk is a small ext4 of its own in memory, where that can be mounted, so that it can be frozen and
//! lost. Everything is undone when this is dropped, also by a panic.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::network::{MACHINES, Net, Network, Place};
use crate::common::wire::{Value, reply, spaced};
use crate::common::{Client, PROGRAM, Server};
use crate::durability::power_cut::device::{self, Mount, run};

/// The quota of etcd's file: the least that a server takes.
pub const QUOTA_BYTES: u64 = 64 << 20;

/// etcd takes up 64 MiB for each of two files of its log, before it writes to them.
const DISK_BYTES: u64 = 512 << 20;

/// The name of the log.
pub const NAME: &str = "trial";

const PORT: u16 = 4242;

/// How long one question may take; whoever is asked may be cut off.
pub const ANSWER_TIME: Duration = Duration::from_millis(800);

/// Nothing that is waited for takes so long, even on a busy machine.
const LONGEST_WAIT: Duration = Duration::from_secs(90);

/// Between two questions for an event elsewhere.
const REST: Duration = Duration::from_millis(20);

/// See the head of this file.
pub struct Machines<'a> {
    pub network: &'a Network,
    etcds: [Option<Child>; MACHINES],
    servers: [Option<Server>; MACHINES],
    /// What is asked about the servers' parts in the group, from outside.
    watches: [Option<Client>; MACHINES],
    frozen: Option<usize>,
    disks: Vec<Disk>,
    dir: TempDir,
    /// Why no disk can be frozen.
    pub no_disks: Option<String>,
}

enum Disk {
    Own(Mount),
    Plain(PathBuf),
}

impl Disk {
    fn dir(&self) -> PathBuf {
        match self {
            Disk::Own(mount) => mount.dir().to_owned(),
            Disk::Plain(path) => path.clone(),
        }
    }
}

/// Whether a member of etcd is of the first, or comes to others.
#[derive(Clone, Copy)]
pub enum Joins {
    New,
    Existing,
}

impl<'a> Machines<'a> {
    /// Starts all of them, and waits until one server leads and the others follow.
    pub fn start(network: &'a Network) -> Machines<'a> {
        let dir = device::directory();
        let (mut disks, mut no_disks) = (Vec::new(), None);
        for at in 0..MACHINES {
            let (image, to) =
                (dir.path().join(format!("image{at}")), dir.path().join(format!("m{at}")));
            let mounted = device::format_with(&image, DISK_BYTES)
                .and_then(|()| Mount::new(&image, to.clone()));
            disks.push(mounted.map(Disk::Own).unwrap_or_else(|why| {
                fs::create_dir_all(&to).expect("a directory");
                no_disks = Some(why);
                Disk::Plain(to)
            }));
        }
        let (etcds, servers, watches) = Default::default();
        let mut machines =
            Machines { network, etcds, servers, watches, frozen: None, disks, dir, no_disks };
        (0..MACHINES).for_each(|at| machines.start_etcd(at, Joins::New));
        machines.wait_for("etcd has a leader", |machines| machines.is_etcd_whole());
        (0..MACHINES).for_each(|at| machines.start_server(at));
        machines
    }

    /// Starts a machine's member of etcd.
    pub fn start_etcd(&mut self, at: usize, joins: Joins) {
        let peer = |at: usize| format!("http://{}:2380", Net::Inner.host(at));
        let all: Vec<String> = (0..MACHINES).map(|at| format!("m{at}={}", peer(at))).collect();
        let clients = format!("http://{}", member(at));
        let state = match joins {
            Joins::New => "new",
            Joins::Existing => "existing",
        };
        let log =
            File::options().create(true).append(true).open(self.etcd_log(at)).expect("a file");
        let child = self
            .network
            .command(Place::Machine(at), "etcd")
            .args(["--name", &format!("m{at}"), "--initial-cluster", &all.join(",")])
            .args(["--initial-cluster-state", state, "--snapshot-count", "5000"])
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peer(at), "--initial-advertise-peer-urls", &peer(at)])
            .args(["--quota-backend-bytes", &QUOTA_BYTES.to_string()])
            .arg("--data-dir")
            .arg(self.data_dir(at))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd starts");
        self.etcds[at] = Some(child);
    }

    fn data_dir(&self, at: usize) -> PathBuf {
        self.disks[at].dir().join("etcd")
    }

    fn etcd_log(&self, at: usize) -> PathBuf {
        self.dir.path().join(format!("m{at}.log"))
    }

    /// Starts a machine's server, which asks its own machine's member first.
    pub fn start_server(&mut self, at: usize) {
        let members: Vec<String> = (0..MACHINES).map(|n| member((at + n) % MACHINES)).collect();
        let wal = format!("etcd://{}/{NAME}", members.join(","));
        let host = Net::Outer.host(at);
        let mut command = self.network.command(Place::Machine(at), PROGRAM);
        command.args(["-bind", &host, "-port", &PORT.to_string(), "-wal", &wal]);
        command.args(["-wal-quota", &QUOTA_BYTES.to_string(), "-protected-mode", "no"]);
        self.servers[at] = Some(Server::spawn(&mut command).expect("the server starts"));
    }

    /// Asks a machine's server to stop, which it must do in order.
    pub fn stop_server(&mut self, at: usize) {
        self.servers[at].take().expect("it runs").stop();
    }

    pub fn kill_server(&mut self, at: usize) {
        self.servers[at].take().expect("it runs").kill9();
    }

    pub fn signal_server(&self, at: usize, signal: Signal) {
        self.servers[at].as_ref().expect("it runs").signal(signal);
    }

    pub fn kill_etcd(&mut self, at: usize) {
        let mut child = self.etcds[at].take().expect("it runs");
        child.kill().and_then(|()| child.wait()).expect("it is our child");
    }

    /// Starts it on the directory that it had.
    pub fn restart_etcd(&mut self, at: usize) {
        self.start_etcd(at, Joins::Existing);
    }

    pub fn signal_etcd(&self, at: usize, signal: Signal) {
        let pid = Pid::from_child(self.etcds[at].as_ref().expect("it runs"));
        kill_process(pid, signal).expect("it is our child, and not waited for yet");
    }

    /// The disk takes no write from now on, and answers none.
    pub fn freeze(&mut self, at: usize) {
        self.frozen = Some(at);
        run("fsfreeze", &["-f", self.disks[at].dir().to_str().expect("a path")])
            .expect("a disk of its own");
    }

    pub fn thaw(&mut self) {
        if let Some(at) = self.frozen.take() {
            let path = self.disks[at].dir();
            run("fsfreeze", &["-u", path.to_str().expect("a path")]).expect("it was frozen");
        }
    }

    /// Loses a machine with its disk, all at once.
    pub fn lose(&mut self, at: usize) {
        self.signal_server(at, Signal::KILL);
        self.kill_etcd(at);
        self.kill_server(at);
        fs::remove_dir_all(self.data_dir(at)).expect("its data");
    }

    /// A server's part in the group, as it says itself; `None` if it does not answer in time.
    fn part(&mut self, at: usize) -> Option<String> {
        let watch = match self.watches[at].take() {
            Some(watch) => watch,
            None => {
                let stream = self.network.connect(Place::Outside, address(at), ANSWER_TIME).ok()?;
                stream.set_read_timeout(Some(ANSWER_TIME)).expect("a socket");
                Client::of(stream)
            }
        };
        let mut watch = watch;
        watch.try_send(spaced("INFO replication")).ok()?;
        let Ok(Value::Bulk(info)) = reply(&mut watch) else { return None };
        self.watches[at] = Some(watch);
        let info = String::from_utf8(info).expect("text");
        let part = info.lines().find_map(|line| line.strip_prefix("group_role:"));
        Some(part.expect("a server of a group").to_owned())
    }

    /// The machine whose server leads, if one says so.
    pub fn leader(&mut self) -> Option<usize> {
        (0..MACHINES).find(|at| self.part(*at).is_some_and(|part| part == "Leading"))
    }

    /// Waits for that.
    pub fn some_leader(&mut self) -> usize {
        self.wait_for_some("a server leads", Machines::leader)
    }

    /// Waits until etcd's members all answer, one server leads and the others follow.
    pub fn wait_until_whole(&mut self) {
        self.wait_for("etcd is whole", |machines| machines.is_etcd_whole());
        self.wait_for("one leads, and the others follow", |machines| {
            let parts: Vec<Option<String>> = (0..MACHINES).map(|at| machines.part(at)).collect();
            let are = |part: &str| parts.iter().filter(|it| it.as_deref() == Some(part)).count();
            are("Leading") == 1 && are("Following") == MACHINES - 1
        });
    }

    /// Asks again and again until `is_so`, which something elsewhere makes true.
    pub fn wait_for(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        self.wait_for_some(what, |machines| is_so(machines).then_some(()));
    }

    pub fn wait_for_some<T>(
        &mut self,
        what: &str,
        mut find: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = find(self) {
                return found;
            }
            assert!(began.elapsed() < LONGEST_WAIT, "waited in vain: {what}");
            thread::sleep(REST);
        }
    }
}

impl Drop for Machines<'_> {
    fn drop(&mut self) {
        if let Some(at) = self.frozen.take() {
            // A process that waits for this disk cannot be killed.
            let path = self.disks[at].dir();
            let _ = Command::new("fsfreeze").arg("-u").arg(path).status();
        }
        for at in 0..MACHINES {
            if let Some(mut etcd) = self.etcds[at].take() {
                let _ = etcd.kill().and_then(|()| etcd.wait());
            }
            if thread::panicking() {
                let said = fs::read_to_string(self.etcd_log(at)).unwrap_or_default();
                let lines: Vec<&str> = said.lines().collect();
                let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
                eprintln!("--- the last of etcd on machine {at} ---\n{}\n---", last.join("\n"));
            }
        }
    }
}

/// Of each member's messages, when the test fails.
const LINES_SHOWN: usize = 40;

/// Where clients reach a machine's server.
pub fn address(at: usize) -> SocketAddr {
    format!("{}:{PORT}", Net::Outer.host(at)).parse().expect("an address")
}

/// `host:port` of a machine's member of etcd.
pub fn member(at: usize) -> String {
    format!("{}:2379", Net::Inner.host(at))
}
