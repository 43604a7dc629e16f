//! For tests: a world of threads in which one runs at a time, and time goes on only when all of them wait. A seed
//! decides everything: how long a message takes, whether it is lost, done later or answered with nonsense, when a
//! node is cut off or stopped in the middle of something, and how fast its clock goes.

#[cfg(test)]
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::client::{Lost, Reply, Request, Sent, Transport};
use super::clock::{Clock, Moment};
use super::fake::FakeEtcd;

/// Of a thousand, how much faster or slower than time itself a clock goes: less than a tenth between two of them.
const MOST_DRIFT: u64 = 45;
/// In this world's time, all in nanoseconds.
const MILLI: u64 = 1_000_000;

/// All that is.
pub struct World {
    state: Mutex<State>,
    turn: Condvar,
}

struct State {
    now: u64,
    end: u64,
    random: u64,
    /// When each thread wants to go on; `None` once it has ended.
    wakes: Vec<Option<u64>>,
    running: usize,
    has_failed: bool,
    etcd: FakeEtcd,
    /// Requests that arrive later than anyone waits for them.
    late: Vec<(u64, String, Vec<u8>)>,
    /// Until when each node is cut off.
    cut: Vec<u64>,
    /// Looks at etcd after every request.
    witness: Box<dyn FnMut(&FakeEtcd) + Send>,
}

impl State {
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn arrive(&mut self) {
        self.late.sort();
        while self.late.first().is_some_and(|(at, ..)| *at <= self.now) {
            let (_, path, body) = self.late.remove(0);
            self.etcd.handle(&path, None, &body);
            (self.witness)(&self.etcd);
        }
    }

    fn handle(&mut self, request: &Request<'_>) -> Reply {
        self.arrive();
        self.etcd.lag = self.below(4);
        let (status, body) = self.etcd.handle(request.path, request.token, request.body);
        (self.witness)(&self.etcd);
        Reply { status, body }
    }
}

impl World {
    /// A world of so many threads, of which the first runs.
    pub fn new(
        seed: u64,
        threads: usize,
        lasts: Duration,
        witness: impl FnMut(&FakeEtcd) + Send + 'static,
    ) -> Arc<World> {
        let now = 1_000_000 * MILLI;
        let state = State {
            now,
            end: (Moment(now) + lasts).0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            wakes: vec![Some(now); threads],
            running: 0,
            has_failed: false,
            etcd: FakeEtcd::default(),
            late: Vec::new(),
            cut: vec![0; threads],
            witness: Box::new(witness),
        };
        Arc::new(World { state: Mutex::new(state), turn: Condvar::new() })
    }

    /// What is in etcd at last.
    pub fn etcd<R>(&self, look: impl FnOnce(&FakeEtcd) -> R) -> R {
        let mut state = self.state.lock();
        state.now = u64::MAX;
        state.arrive();
        look(&state.etcd)
    }
}

/// A thread's place in a world, and a clock and a transport of its node.
pub struct Place {
    world: Arc<World>,
    thread: usize,
    node: usize,
    /// Of a thousand, how much of the world's time its clock counts.
    rate: u64,
}

impl Place {
    /// The place of one thread of a node; threads of one node have one clock.
    pub fn new(world: &Arc<World>, thread: usize, node: usize, seed: u64) -> Place {
        let spread = seed.wrapping_mul(0x9e37_79b9).wrapping_add(node as u64 * 7919) % 1009;
        let rate = 1000 - MOST_DRIFT + spread % (2 * MOST_DRIFT + 1);
        Place { world: world.clone(), thread, node, rate }
    }

    /// Waits for the first turn.
    pub fn begin(&self) {
        let mut state = self.world.state.lock();
        while state.running != self.thread && !state.has_failed {
            self.world.turn.wait(&mut state);
        }
    }

    /// Whether the world still lasts.
    pub fn goes_on(&self) -> bool {
        let state = self.world.state.lock();
        state.now < state.end
    }

    /// Lets what is due reach etcd.
    pub fn settle(&self) {
        self.world.state.lock().arrive();
    }

    /// A number below `limit`.
    pub fn below(&self, limit: u64) -> u64 {
        self.world.state.lock().below(limit)
    }

    /// Stops in the middle of something, mostly not, sometimes for seconds.
    pub fn stumble(&self) {
        let time = match self.below(60) {
            0 => self.below(5000),
            1..5 => self.below(50),
            _ => return,
        };
        self.wait(time * MILLI);
    }

    /// Lets `time` of the world's pass.
    fn wait(&self, time: u64) {
        let mut state = self.world.state.lock();
        state.wakes[self.thread] = Some(state.now + time);
        self.hand_over(&mut state);
        while state.running != self.thread {
            assert!(!state.has_failed, "another thread has failed");
            self.world.turn.wait(&mut state);
        }
    }

    /// The thread that wakes first runs next.
    fn hand_over(&self, state: &mut State) {
        let wakes = state.wakes.iter().enumerate();
        let next = wakes.filter_map(|(thread, wake)| Some(((*wake)?, thread))).min();
        if let Some((wake, thread)) = next {
            (state.now, state.running) = (state.now.max(wake), thread);
        }
        self.world.turn.notify_all();
    }

    fn lost(&self, after: u64, sent: Sent) -> Result<Reply, Lost> {
        self.wait(after);
        Err(Lost { sent, why: "lost in this world".into() })
    }

    fn do_now(&self, request: &Request<'_>) -> Reply {
        self.world.state.lock().handle(request)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.world.state.lock();
        state.has_failed |= std::thread::panicking();
        state.wakes[self.thread] = None;
        self.hand_over(&mut state);
    }
}

impl Clock for &Place {
    fn now(&self) -> Moment {
        Moment(self.world.state.lock().now / 1000 * self.rate)
    }

    fn rest(&self, time: Duration) {
        let time = (Moment(0) + time).0 / self.rate * 1000;
        self.wait(time);
    }
}

impl Transport for &Place {
    fn post(&mut self, request: &Request<'_>, time: Duration) -> Result<Reply, Lost> {
        let time = (Moment(0) + time).0 / self.rate * 1000;
        self.stumble();
        let (now, cut) = {
            let mut state = self.world.state.lock();
            if state.below(80) == 0 {
                let long = state.below(8000) * MILLI;
                state.cut[self.node] = state.now + long;
            }
            (state.now, state.cut[self.node])
        };
        let (out, back) = (self.below(20) * MILLI, self.below(20) * MILLI);
        let error = |text: &str| {
            let body = format!(r#"{{"error":"{text}","code":14}}"#).into();
            Ok(Reply { status: 503, body })
        };
        if cut > now {
            // The way out is cut, or the way back.
            if request.path.ends_with("txn") && cut % 2 == 0 {
                self.do_now(request);
            }
            return self.lost(time, Sent::Perhaps);
        }
        match self.below(40) {
            0 => self.lost(self.below(5) * MILLI, Sent::Never),
            1 => self.lost(time, Sent::Perhaps),
            2 => {
                self.wait(out);
                self.do_now(request);
                self.lost(time.saturating_sub(out), Sent::Perhaps)
            }
            3 if request.path.ends_with("txn") => {
                let mut state = self.world.state.lock();
                let at = state.now + state.below(9000) * MILLI;
                state.late.push((at, request.path.into(), request.body.into()));
                drop(state);
                self.lost(time, Sent::Perhaps)
            }
            4 => {
                self.wait(out);
                error("etcdserver: leader changed")
            }
            5 => {
                self.wait(out);
                self.do_now(request);
                error("etcdserver: request timed out")
            }
            6 => Ok(Reply { status: 200, body: b"{}".to_vec() }),
            _ => {
                self.wait(out);
                let reply = self.do_now(request);
                self.wait(back);
                Ok(reply)
            }
        }
    }
}
