//! The thirteen faults. Each ends with everything started again, and waits for what shows that it was one: another
//! server that leads, writes that go on, clients that are refused. Only how long a fault lasts is a time.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::load::Tally;
use super::machines::QUOTA_BYTES;
use super::network::{MACHINES, NETS, Net, Port};
use super::session::{Patience, Session, Told, Wants};
use super::{Outcome, Trial};
use crate::common::wire::{Value, request, spaced};

type Fault = fn(&mut Trial<'_, '_>) -> Outcome;

pub const FAULTS: [(&str, Fault); 14] = [
    ("1 the leader is killed", kill_leader),
    ("2 the leader is stopped in order", stop_leader),
    ("3 the leader is frozen beyond its lease", freeze_leader),
    ("4 etcd's leader is killed", kill_etcd_leader),
    ("5 etcd's leader is frozen", freeze_etcd_leader),
    ("6 a follower of etcd is killed", kill_etcd_follower),
    ("7 the leader's machine is cut off", cut_machine_off),
    ("8 the leader is cut off from etcd", cut_etcd_off),
    ("9 nothing gets to the leader's machine", make_deaf),
    ("9 nothing leaves the leader's machine", make_mute),
    ("10 etcd has no majority", take_majority),
    ("11 a machine is lost with its disk", lose_machine),
    ("12 the disk of etcd's leader is frozen", freeze_disk),
    ("13 etcd's quota is used up", use_up_quota),
];

/// Longer than the lease, and than etcd needs for another leader.
const FROZEN: Duration = Duration::from_millis(4500);

const WITHOUT_MAJORITY: Duration = Duration::from_secs(8);

/// So many clients that were refused, or answered, show that all are.
const SOME: u64 = 20;

impl Trial<'_, '_> {
    fn leader(&mut self) -> usize {
        self.machines.some_leader()
    }

    fn etcd_leader(&mut self) -> usize {
        self.machines.wait_for_some("etcd has a leader", |machines| machines.etcd_leader())
    }

    /// Waits until another server leads, and writes go on there.
    fn another_leads(&mut self, than: usize) {
        self.machines.wait_for("another server leads", |machines| {
            machines.leader().is_some_and(|leader| leader != than)
        });
        self.writes_go_on();
    }

    /// Waits until some number that the load counts has grown.
    fn grows(&mut self, what: &str, count: impl Fn(&Tally) -> u64) {
        let (load, from) = (self.load, count(&self.load.look()));
        self.machines.wait_for(what, |_| count(&load.look_well()) >= from + SOME);
    }

    /// Defragments members, as an operator does, until no file is large.
    fn give_space_back(&mut self) {
        self.machines.wait_for("each member gives its space back", |machines| {
            let is_small = |it: (u64, u64)| it.0 <= QUOTA_BYTES / 2;
            let is_large = |at: &usize| !machines.file_bytes(*at).is_some_and(is_small);
            let large: Vec<usize> = (0..MACHINES).filter(is_large).collect();
            large.iter().for_each(|at| machines.defragment(*at));
            large.is_empty()
        });
    }

    /// Clients on a machine are refused, for as long as others write elsewhere.
    fn is_refused_inside(&mut self, at: usize) {
        self.grows("clients inside are refused", |tally| tally.refused_by[at]);
        self.writes_go_on();
        self.grows("clients inside are refused", |tally| tally.refused_by[at]);
    }
}

fn kill_leader(trial: &mut Trial<'_, '_>) -> Outcome {
    let at = trial.leader();
    trial.machines.kill_server(at);
    trial.another_leads(at);
    trial.machines.start_server(at);
    Ok(())
}

fn stop_leader(trial: &mut Trial<'_, '_>) -> Outcome {
    let at = trial.leader();
    trial.machines.stop_server(at);
    trial.another_leads(at);
    trial.machines.start_server(at);
    Ok(())
}

fn freeze_leader(trial: &mut Trial<'_, '_>) -> Outcome {
    let at = trial.leader();
    trial.machines.signal_server(at, Signal::STOP);
    trial.another_leads(at);
    trial.machines.signal_server(at, Signal::CONT);
    trial.is_refused_inside(at);
    Ok(())
}

fn kill_etcd_leader(trial: &mut Trial<'_, '_>) -> Outcome {
    let at = trial.etcd_leader();
    trial.machines.kill_etcd(at);
    trial.writes_go_on();
    trial.machines.restart_etcd(at);
    Ok(())
}

fn freeze_etcd_leader(trial: &mut Trial<'_, '_>) -> Outcome {
    let at = trial.etcd_leader();
    trial.machines.signal_etcd(at, Signal::STOP);
    thread::sleep(FROZEN);
    trial.writes_go_on();
    trial.machines.signal_etcd(at, Signal::CONT);
    Ok(())
}

fn kill_etcd_follower(trial: &mut Trial<'_, '_>) -> Outcome {
    let at = (trial.etcd_leader() + 1 + trial.rng.below(MACHINES - 1)) % MACHINES;
    trial.machines.kill_etcd(at);
    trial.writes_go_on();
    trial.machines.restart_etcd(at);
    Ok(())
}

fn cut_machine_off(trial: &mut Trial<'_, '_>) -> Outcome {
    let at = trial.leader();
    NETS.iter().for_each(|net| trial.machines.network.set(at, *net, Port::Cut));
    trial.another_leads(at);
    trial.is_refused_inside(at);
    Ok(())
}

/// Clients still reach it. Its own machine's member is stopped as well, or shows it a log that does not go on.
fn cut_etcd_off(trial: &mut Trial<'_, '_>) -> Outcome {
    let (at, is_stopped) = (trial.leader(), trial.rng.below(2) == 0);
    trial.machines.network.set(at, Net::Inner, Port::Cut);
    if is_stopped {
        trial.machines.signal_etcd(at, Signal::STOP);
    }
    trial.another_leads(at);
    trial.is_refused_inside(at);
    if is_stopped {
        trial.machines.signal_etcd(at, Signal::CONT);
    }
    Ok(())
}

fn make_deaf(trial: &mut Trial<'_, '_>) -> Outcome {
    cut_one_way(trial, Port::Deaf)
}

fn make_mute(trial: &mut Trial<'_, '_>) -> Outcome {
    cut_one_way(trial, Port::Mute)
}

fn cut_one_way(trial: &mut Trial<'_, '_>, port: Port) -> Outcome {
    let at = trial.leader();
    trial.machines.network.set(at, Net::Inner, port);
    trial.another_leads(at);
    trial.is_refused_inside(at);
    Ok(())
}

fn take_majority(trial: &mut Trial<'_, '_>) -> Outcome {
    let left = trial.rng.below(MACHINES);
    let stopped = || (0..MACHINES).filter(|at| *at != left);
    stopped().for_each(|at| trial.machines.signal_etcd(at, Signal::STOP));
    thread::sleep(WITHOUT_MAJORITY);
    trial.grows("clients are refused", |tally| tally.refused);
    stopped().for_each(|at| trial.machines.signal_etcd(at, Signal::CONT));
    Ok(())
}

fn lose_machine(trial: &mut Trial<'_, '_>) -> Outcome {
    let at = trial.leader();
    trial.machines.lose(at);
    trial.another_leads(at);
    trial.machines.replace(at);
    // A new member carries out whatever etcd's own log has, and its file becomes as large as the others' ever was.
    let other = (at + 1) % MACHINES;
    let until = trial.machines.wait_for_some("it answers", |machines| machines.applied(other));
    trial.machines.wait_for("the new member has caught up", |machines| {
        machines.applied(at).is_some_and(|applied| applied >= until)
    });
    trial.give_space_back();
    Ok(())
}

fn freeze_disk(trial: &mut Trial<'_, '_>) -> Outcome {
    if let Some(why) = &trial.machines.no_disks {
        return Err(why.clone());
    }
    let at = trial.etcd_leader();
    trial.machines.freeze(at);
    thread::sleep(FROZEN);
    trial.writes_go_on();
    trial.machines.thaw();
    Ok(())
}

/// A value of the filler: two are not too long for a batch.
const FILLER_BYTES: usize = 512 << 10;

/// The filler has this many keys, so that hardly any of what it wrote stays in the store.
const FILLERS: usize = 4;

/// Writes until the server refuses them, gives etcd its space back as an operator does, and goes on.
fn use_up_quota(trial: &mut Trial<'_, '_>) -> Outcome {
    let mut session = Session::new(trial.machines.network, Wants::Leader, Patience::Short);
    let filler = "x".repeat(FILLER_BYTES);
    let mut writes = 0;
    trial.machines.wait_for("no space is left", |machines| {
        // A member that is asked for more than the quota refuses everything; the server notices in time, but not at once.
        let part = |bytes| bytes * 100 / QUOTA_BYTES;
        let fullest = (0..MACHINES).filter_map(|at| Some((machines.file_bytes(at)?, at))).max();
        writes += 1;
        let key = format!("filler{}", writes % FILLERS);
        match fullest.map(|((file, used), at)| (part(file), part(used), at)) {
            Some((85.., 75.., _)) => is_full(&session.ask(&request(["SET", "small", "x"]))),
            // A compaction was faster.
            Some((85.., _, at)) => {
                machines.defragment(at);
                false
            }
            _ => is_full(&session.ask(&request(["SET", &key, &filler]))),
        }
    });
    trial.grows("reads go on", |tally| tally.reads);
    let told = session.ask(&request(["SET", "small", "x"]));
    assert!(is_full(&told), "{told:?}");

    trial.machines.wait_for("a snapshot takes the place of the log", |machines| {
        // Its first one may come too early: the log keeps its last seconds.
        session.ask(&spaced("BGREWRITEAOF"));
        let used = |at| machines.file_bytes(at).is_some_and(|(_, used)| used < QUOTA_BYTES / 2);
        (0..MACHINES).all(used)
    });
    // A member that was still forgetting old revisions has space to give back after that, too.
    trial.give_space_back();
    trial.machines.wait_for("there is space", |_| {
        matches!(session.ask(&request(["SET", "small", "x"])), Told::Reply(value) if value == Value::ok())
    });
    Ok(())
}

fn is_full(told: &Told) -> bool {
    matches!(told, Told::Refused(text) if text.contains("no room, and nothing was changed"))
}
