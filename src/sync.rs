//! The locks by which the threads of `engine`, `upkeep` and `server` wait for each other, and the
//! way in which threads are started: those of `parking_lot` and `std`.
//!
//! With `--cfg shuttle` they are those of a checker that runs one thread at a time and decides at
//! every lock, wait and wake-up which one goes on, so that `schedules.rs` in `engine` and `server`
//! can try thousands of schedules of the same code. Atomic counters and the locks of the store stay
//! as they are, because no thread waits for them: no thread gives way while it holds one.

use std::io;
use std::ops::Deref;
use std::sync::Arc;

#[cfg(not(shuttle))]
pub use parking_lot::{Condvar, Mutex, MutexGuard};
#[cfg(not(shuttle))]
pub use std::thread;

#[cfg(shuttle)]
pub use checked::{Condvar, Mutex, MutexGuard};
#[cfg(shuttle)]
pub use shuttle::thread;

/// Starts a thread that others wait for. If it panics the process ends, and says why: no thread is
/// left waiting for what will never come (promise 9), and what was acknowledged is on disk. A
/// client's thread is not vital: its panic closes its own client and no other.
pub fn spawn_vital(
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(move || {
        let _guard = AbortOnPanic(name);
        work();
    })
}

/// What the thread of a [`Worker`] shares with its owner.
pub trait Stop: Send + Sync + 'static {
    /// Tells the thread to end; called once, and then the thread is waited for.
    fn stop(&self);
}

/// The handle of a vital thread, through which its owner reaches what both share. Dropping the
/// handle stops the thread and waits for its end.
pub struct Worker<T: Stop> {
    shared: Arc<T>,
    thread: Option<thread::JoinHandle<()>>,
}

impl<T: Stop> Worker<T> {
    /// Starts the thread.
    pub fn start(
        name: &'static str,
        shared: T,
        work: impl FnOnce(&T) + Send + 'static,
    ) -> io::Result<Worker<T>> {
        let shared = Arc::new(shared);
        let for_thread = shared.clone();
        let thread = spawn_vital(name, move || work(&for_thread))?;
        Ok(Worker { shared, thread: Some(thread) })
    }
}

impl<T: Stop> Deref for Worker<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shared
    }
}

impl<T: Stop> Drop for Worker<T> {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("its panic ends the process");
        }
    }
}

/// Ends the process if it is dropped by a panic, and names the thread that did it.
pub struct AbortOnPanic(pub &'static str);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let name = self.0;
            log::error!(
                "the {name} thread panicked; aborting so that no thread waits for it in vain"
            );
            log::logger().flush();
            std::process::abort();
        }
    }
}

/// Runs `scenario` in a number of schedules, each decided by a seed, which is printed; `TEST_SEED`
/// in the environment brings back an earlier one. Half of them change threads at random, half
/// prefer some threads to others (Burckhardt et al. 2010), which finds rarer orders.
#[cfg(all(test, shuttle))]
pub fn check_schedules(what: &str, schedules: usize, scenario: fn()) {
    use std::hash::{BuildHasher, RandomState};

    use shuttle::Runner;
    use shuttle::scheduler::{PctScheduler, RandomScheduler};

    let seed = std::env::var("TEST_SEED").map_or_else(
        |_| RandomState::new().hash_one(0),
        |seed| seed.parse().expect("TEST_SEED is a number"),
    );
    eprintln!("{what}: TEST_SEED={seed}");
    let mut config = shuttle::Config::new();
    config.stack_size = 256 * 1024;
    let random = RandomScheduler::new_from_seed(seed, schedules / 2);
    let preferring = PctScheduler::new_from_seed(seed, PREEMPTIONS, schedules / 2);
    let count = Runner::new(random, config.clone()).run(scenario)
        + Runner::new(preferring, config).run(scenario);
    eprintln!("{what}: {count} schedules are fine");
}

/// How often a schedule goes against its preference. Most faults need one to three such moments.
#[cfg(all(test, shuttle))]
const PREEMPTIONS: usize = 3;

/// The checker's locks with the interface of `parking_lot`'s.
#[cfg(shuttle)]
#[expect(missing_docs, reason = "they are parking_lot's")]
mod checked {
    use std::ops::{Deref, DerefMut};
    use std::time::{Duration, Instant};

    use shuttle::rand::Rng;
    use shuttle::sync;

    const UNPOISONED: &str = "a panic ends the schedule";

    #[derive(Default)]
    pub struct Mutex<T>(sync::Mutex<T>);

    pub struct MutexGuard<'a, T> {
        mutex: &'a Mutex<T>,
        /// `None` while its thread waits.
        held: Option<sync::MutexGuard<'a, T>>,
    }

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Mutex<T> {
            Mutex(sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard { mutex: self, held: Some(self.0.lock().expect(UNPOISONED)) }
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.held.as_ref().expect("a thread that waits does not look")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.held.as_mut().expect("a thread that waits does not look")
        }
    }

    /// No time passes. A wait with a limit times out before anything happens, or waits for a
    /// wake-up that has to come: so a schedule in which only a time-out helps is a deadlock.
    #[derive(Default)]
    pub struct Condvar(sync::Condvar);

    pub struct WaitResult {
        timed_out: bool,
    }

    impl Condvar {
        pub fn new() -> Condvar {
            Condvar::default()
        }

        pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let held = guard.held.take().expect("held");
            guard.held = Some(self.0.wait(held).expect(UNPOISONED));
        }

        pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> WaitResult {
            let timed_out = shuttle::rand::thread_rng().r#gen();
            match timed_out {
                false => self.wait(guard),
                true => give_way(guard),
            }
            WaitResult { timed_out }
        }

        pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> WaitResult {
            self.wait_until(guard, Instant::now())
        }

        pub fn notify_one(&self) {
            self.0.notify_one();
        }

        pub fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    impl WaitResult {
        pub fn timed_out(&self) -> bool {
            self.timed_out
        }
    }

    /// Releases the lock for a moment, so that other threads can take it.
    fn give_way<T>(guard: &mut MutexGuard<'_, T>) {
        guard.held = None;
        shuttle::thread::yield_now();
        guard.held = guard.mutex.lock().held;
    }
}
