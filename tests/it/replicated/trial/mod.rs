//! Whole servers on a real etcd of three members, and thirteen faults, while clients write and read: nothing that was
//! acknowledged is lost, nothing outdated is shown.
//!
//! Each machine is a network namespace ([`network`]) with one member ([`members`]) and one server ([`machines`]); where they cannot be
//! made, the test says that it is skipped. The load counts up and looks for anything that goes back ([`load`]), other
//! clients share keys, and the checker of linearizability explains what they saw ([`histories`]). The order of the
//! faults comes from the seed. FAULT_ROUNDS says how often all of them are tried, and FAULT is the number of a single one.

mod faults;
mod histories;
mod load;
mod machines;
mod members;
mod network;
mod session;

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Rng, seed};
use faults::FAULTS;
use histories::{Histories, Seen};
use load::{Load, Tally, WRITERS};
use machines::Machines;
use network::{MACHINES, Network};
use session::Wants;

/// Before a fault and after it, so that each has something to lose.
const LEAST_WRITES: u64 = 40;

#[test]
#[ignore = "takes two minutes and wants root; for CI"]
fn three_machines_lose_nothing_and_show_nothing_outdated_under_thirteen_faults() {
    let Some(network) = network() else { return };
    let rounds = std::env::var("FAULT_ROUNDS").map_or(1, |it| it.parse().expect("a number"));
    let mut rng = Rng::new(seed());
    let (load, histories) = (Load::default(), Histories::default());
    let mut machines = Machines::start(&network);
    let mut rows = Vec::new();
    let seen = thread::scope(|scope| {
        let stop = Stop(&load);
        let clients = start_clients(scope, &network, &load, &histories, &mut rng);
        let mut trial = Trial { machines: &mut machines, load: &load, rng: &mut rng };
        for _ in 0..rounds {
            trial.run_all(&histories, &mut rows);
        }
        drop(stop);
        clients.into_iter().flat_map(|it| it.join().expect("a client")).collect::<Vec<Seen>>()
    });
    print_table(&rows);
    machines.wait_until_whole();
    println!("histories: {:?}", histories.explain(&network, seen));
}

/// `None`, with a message, where the machines cannot be made.
fn network() -> Option<Network> {
    let is_there = Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_ok();
    let network = match is_there {
        true => Network::start(),
        false => Err("there is no etcd here (Debian's package is etcd-server)".into()),
    };
    network.inspect_err(|why| eprintln!("skipped: {why}")).ok()
}

type Clients<'a> = Vec<thread::ScopedJoinHandle<'a, Vec<Seen>>>;

/// Writers outside; on each machine a reader; of those who share keys, some outside and some inside.
fn start_clients<'a>(
    scope: &'a thread::Scope<'a, '_>,
    network: &'a Network,
    load: &'a Load,
    histories: &'a Histories,
    rng: &mut Rng,
) -> Clients<'a> {
    for writer in 0..WRITERS {
        scope.spawn(move || load.write(network, writer));
    }
    let own = (0..MACHINES).map(|at| {
        let rng = Rng::new(rng.next());
        scope.spawn(move || load.read(network, at, rng));
        Wants::Own(at)
    });
    let all: Vec<Wants> = own.chain([Wants::Leader; 3]).collect();
    let start = |wants| {
        let rng = Rng::new(rng.next());
        scope.spawn(move || histories.ask(network, wants, load, rng))
    };
    all.into_iter().map(start).collect()
}

/// Ends the load, also by a panic.
struct Stop<'a>(&'a Load);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What the faults work on.
struct Trial<'t, 'n> {
    machines: &'t mut Machines<'n>,
    load: &'t Load,
    rng: &'t mut Rng,
}

/// How a fault went; the reason if it was skipped.
type Outcome = Result<(), String>;

struct Row {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
    tally: Tally,
}

impl Trial<'_, '_> {
    /// Each fault once, in an order of the seed's.
    fn run_all(&mut self, histories: &Histories, rows: &mut Vec<Row>) {
        let only = std::env::var("FAULT").ok();
        let is_meant = |name: &str| only.is_none() || name.split(' ').next() == only.as_deref();
        let mut left: Vec<_> = FAULTS.iter().filter(|(name, _)| is_meant(name)).collect();
        while !left.is_empty() {
            let (name, fault) = left.swap_remove(self.rng.below(left.len()));
            histories.next_fault();
            rows.push(self.run(name, *fault));
            if !rows.last().expect("just pushed").tally.wrong.is_empty() {
                print_table(rows);
            }
            rows.last().expect("just pushed").tally.assert_well();
        }
    }

    /// A fault among writes, from a whole cluster to a whole cluster.
    fn run(&mut self, name: &'static str, fault: fn(&mut Self) -> Outcome) -> Row {
        let began = Instant::now();
        self.machines.wait_until_whole();
        self.load.take();
        self.writes_go_on();
        eprintln!("fault: {name}");
        let outcome = fault(self);
        self.machines.network.heal();
        self.writes_go_on();
        self.machines.wait_until_whole();
        self.load.find_all(self.machines.network);
        Row { name, took: began.elapsed(), outcome, tally: self.load.take() }
    }

    /// Waits until some more writes were acknowledged.
    fn writes_go_on(&mut self) {
        let from = self.load.look().acknowledged;
        let load = self.load;
        self.machines
            .wait_for("writes go on", |_| load.look_well().acknowledged >= from + LEAST_WRITES);
    }
}

fn print_table(rows: &[Row]) {
    println!(
        "{:44} {:>7} {:>10} {:>7} {:>7} {:>7} {:>4} {:>5}",
        "fault", "took s", "longest s", "writes", "reads", "refused", "lost", "stale"
    );
    for Row { name, took, outcome, tally } in rows {
        let skipped = outcome.as_ref().err().map(|why| format!("  skipped: {why}"));
        println!(
            "{name:44} {:>7.1} {:>10.2} {:>7} {:>7} {:>7} {:>4} {:>5}{}",
            took.as_secs_f64(),
            tally.longest.as_secs_f64(),
            tally.acknowledged,
            tally.reads,
            tally.refused,
            tally.lost,
            tally.stale,
            skipped.unwrap_or_default()
        );
    }
}
