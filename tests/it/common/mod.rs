//! What the tests share: the real server as a child process, a client, a seeded generator.
//!
//! Everything waits for events: a message, a reply, the end of the process. [`PATIENCE`] only ends the
//! wait for one that never comes.

pub mod wire;

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_post-gres-rs");

/// How long to wait for an event that should come at once, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often [`eventually`] asks without a rest, and its rest from then on: the awaited event needs the
/// processor as well.
const ASKS_AT_ONCE: usize = 50;
const REST: Duration = Duration::from_millis(1);

/// A running server. Dropping it kills it, and shows its messages if the test is failing.
pub struct Server {
    child: Child,
    log: Arc<Log>,
    address: SocketAddr,
}

/// The end of a server that never served.
#[derive(Debug)]
pub struct Refusal {
    pub code: Option<i32>,
    pub stderr: String,
}

impl Server {
    /// A server that keeps its log in `dir`, on a free port.
    pub fn start(dir: &Path, flags: &[&str]) -> Server {
        Server::spawn(&mut command(dir, flags)).expect("the server starts")
    }

    /// The refusal of a server that must not start on `dir`.
    pub fn refusal(dir: &Path, flags: &[&str]) -> Refusal {
        Server::spawn(&mut command(dir, flags)).err().expect("the server refuses to start")
    }

    /// Runs `command` until it serves or ends.
    pub fn spawn(command: &mut Command) -> Result<Server, Refusal> {
        let command = command.env_remove("RUST_LOG").stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be run");
        let stderr = child.stderr.take().expect("a pipe");
        let log = Arc::new(Log::default());
        let collected = log.clone();
        std::thread::spawn(move || collected.collect(stderr));

        // From here on the server is killed however this ends.
        let address_unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Server { child, log, address: address_unknown };
        match server.log.wait_for("listening on ") {
            Some(line) => {
                let (_, address) = line.rsplit_once("listening on ").expect("just found");
                // A server may have no port without TLS.
                server.address = address.trim().parse().unwrap_or(address_unknown);
                Ok(server)
            }
            None => {
                let (status, stderr) = server.wait();
                Err(Refusal { code: status.code(), stderr })
            }
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Its messages so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a message that contains `text`.
    pub fn wait_for_log(&self, text: &str) -> String {
        let found = self.log.wait_for(text);
        found.unwrap_or_else(|| panic!("the server ended without logging {text:?}"))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it is our child, and not waited for yet");
    }

    /// Kills it and waits for its end, so that its lock and port are free.
    pub fn kill9(self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Asks it to stop and waits until it has: its exit status and messages.
    pub fn terminate(self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Asks it to stop, which it must do in order.
    pub fn stop(self) {
        let (status, log) = self.terminate();
        assert!(status.success(), "an ordered stop ends with {status}; log:\n{log}");
    }

    /// Waits for its end.
    pub fn wait(mut self) -> (ExitStatus, String) {
        self.log.wait_for_end();
        (self.child.wait().expect("it is our child"), self.log())
    }

    /// A counter of INFO, by way of a connection of its own.
    pub fn counter(&self, name: &str) -> u64 {
        Client::connect(self).counter(name)
    }

    /// The most memory that it has ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// CPU time it has used, in clock ticks (1/100 s on every Linux there is).
    pub fn cpu_ticks(&self) -> u64 {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = fs::read_to_string(path).expect("a running process");
        let (_, fields) = stat.rsplit_once(')').expect("the name is in parentheses");
        fields.split(' ').skip(12).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of server {} ---\n{}---", self.child.id(), self.log());
        }
    }
}

/// The command that runs a server on the log in `dir`, on a free port.
pub fn command(dir: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["-port", "0", "-wal"]).arg(dir.join("wal_file")).args(flags);
    command
}

/// Runs the program with these arguments, which make it end by itself.
pub fn run_to_exit(args: &[&str]) -> Refusal {
    Server::spawn(Command::new(PROGRAM).args(args)).err().expect("the program ends by itself")
}

/// What a process writes to stderr.
#[derive(Default)]
struct Log {
    state: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Log {
    fn collect(&self, stderr: impl Read) {
        for line in BufReader::new(stderr).split(b'\n') {
            let line = line.expect("a pipe can be read");
            self.state.lock().expect("no panic").0.push(String::from_utf8_lossy(&line).into());
            self.changed.notify_all();
        }
        self.state.lock().expect("no panic").1 = true;
        self.changed.notify_all();
    }

    fn text(&self) -> String {
        self.state.lock().expect("no panic").0.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The first line with `text` in it; `None` if stderr ends without.
    fn wait_for(&self, text: &str) -> Option<String> {
        let find = |lines: &[String]| lines.iter().find(|line| line.contains(text)).cloned();
        self.wait_until(text, |lines, ended| ended || find(lines).is_some());
        find(&self.state.lock().expect("no panic").0)
    }

    fn wait_for_end(&self) {
        self.wait_until("the end of the process", |_, ended| ended);
    }

    fn wait_until(&self, what: &str, done: impl Fn(&[String], bool) -> bool) {
        let state = self.state.lock().expect("no panic");
        let (state, timeout) = self
            .changed
            .wait_timeout_while(state, PATIENCE, |(lines, ended)| !done(lines, *ended))
            .expect("no panic");
        drop(state);
        assert!(!timeout.timed_out(), "waited in vain for {what:?}; log:\n{}", self.text());
    }
}

/// A client of the text protocol.
#[derive(Debug)]
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(server: &Server) -> Client {
        Client::try_connect(server).expect("the server accepts connections")
    }

    pub fn try_connect(server: &Server) -> io::Result<Client> {
        Client::connect_to(server.address())
    }

    pub fn connect_to(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client::of(stream))
    }

    /// A client on an open connection: one thread may send on it while another one reads.
    pub fn of(stream: TcpStream) -> Client {
        Client(BufReader::new(stream))
    }

    pub fn stream(&self) -> &TcpStream {
        self.0.get_ref()
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref())
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the server takes what is sent");
    }

    /// The next line, without its LF. An error if the connection ends before it does.
    pub fn try_line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line)?;
        match line.pop() {
            Some(b'\n') => Ok(line),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    pub fn line(&mut self) -> String {
        let line = self.try_line().expect("the server answers");
        String::from_utf8(line).expect("replies in these tests are text")
    }

    /// Whether something has come that was not read yet.
    pub fn has_reply(&self) -> bool {
        let stream = self.stream();
        stream.set_nonblocking(true).expect("a socket");
        let found = stream.peek(&mut [0]).is_ok_and(|count| count > 0);
        stream.set_nonblocking(false).expect("a socket");
        found || !self.0.buffer().is_empty()
    }

    pub fn try_exact(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The one-line answer to a line.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\n"));
        self.line()
    }

    pub fn half_close(&self) {
        self.stream().shutdown(Shutdown::Write).expect("a connected socket");
    }

    /// Everything until the server closes the connection, by an end or a reset.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            _ => Ok(rest),
        }
    }

    /// The text of INFO.
    pub fn info(&mut self) -> String {
        let head = self.ask("INFO");
        let length = head.strip_prefix('$').and_then(|rest| rest.strip_suffix('\r'));
        let length = length.and_then(|length| length.parse().ok());
        let length: usize = length.unwrap_or_else(|| panic!("not a length: {head:?}"));
        let text = self.try_exact(length + 2).expect("as long as announced");
        String::from_utf8(text).expect("INFO is text")
    }

    /// A counter of INFO.
    pub fn counter(&mut self, name: &str) -> u64 {
        let info = self.info();
        let mut fields = info.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = fields.find(|(field, _)| *field == name).expect(name);
        value.parse().expect("a number")
    }
}

/// Random numbers that a seed repeats (SplitMix64).
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// A seed, which is printed; TEST_SEED in the environment brings back an earlier one.
pub fn seed() -> u64 {
    let seed = match std::env::var("TEST_SEED") {
        Ok(seed) => seed.parse().expect("TEST_SEED is a number"),
        Err(_) => RandomState::new().hash_one(0),
    };
    eprintln!("TEST_SEED={seed}");
    seed
}

/// Asks again and again until `is_so`, which something elsewhere makes true.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    for asked in 0.. {
        if is_so() {
            return;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        match asked < ASKS_AT_ONCE {
            true => std::thread::yield_now(),
            false => std::thread::sleep(REST),
        }
    }
}

/// Names the test that a process was started for.
const ALONE: &str = "POST_GRES_RS_TEST_ALONE";

/// This program again, to run one test and nothing else.
pub fn process_of(module: &str, test: &str) -> Command {
    let (_, module) = module.split_once("::").expect("below the crate");
    let name = format!("{module}::{test}");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", &name, "--include-ignored", "--nocapture"]).env(ALONE, name);
    command
}

/// Whether this process runs that test alone, so that it may change or measure the process as a whole. If
/// not, starts a process that does, and fails if that fails.
pub fn alone(module: &str, test: &str) -> bool {
    if std::env::var(ALONE).is_ok_and(|name| name.ends_with(&format!("::{test}"))) {
        return true;
    }
    let output = process_of(module, test).output().expect("it can be run");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    eprintln!("{said}");
    assert!(output.status.success() && said.contains("1 passed"), "see its output above");
    false
}

/// For a claim about processor time, which other programs on the machine use as well: a server that keeps
/// it does so in one of a few tries, and a server that breaks it in none.
pub fn in_some_try(mut attempt: impl FnMut() -> Result<(), String>) {
    const TRIES: usize = 5;
    let failures: Vec<String> = (0..TRIES).map_while(|_| attempt().err()).collect();
    assert!(failures.len() < TRIES, "in each try: {failures:#?}");
}

/// Tells a test's threads to end, also when it panics.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Raises the limit on open files as far as this process may, and returns it.
pub fn raise_descriptor_limit() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    raised.expect("the soft limit may be raised to the hard one");
    maximum.map_or(usize::MAX, |limit| limit as usize)
}

/// The files in a directory and what is in them, except for the lock file, which every start may
/// touch.
pub fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| (entry.file_name().into_string().expect("a name in ASCII"), entry.path()))
        .filter(|(name, path)| !name.ends_with(".lock") && path.is_file())
        .map(|(name, path)| (name, fs::read(path).expect("a readable file")))
        .collect()
}
