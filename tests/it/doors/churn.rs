//! All doors at once, with clients that come and go for as long as is wanted: what the server takes up stays flat.
//!
//! `CHURN_SECONDS=3600 CHURN_CLIENTS=10000` for an hour of it; a tenth of the clients is busy, a quarter comes by TLS. In the
//! meantime messages are published, figures scraped, and the live page is open. Prints what was seen.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::certificates::{Authority, Dates};
use crate::common::{
    Client, PATIENCE, Rng, Server, StopOnDrop, eventually, raise_descriptor_limit, seed,
};

/// What the replies to a few commands end with.
const END: &[u8] = b"$3\r\nend\r\n";

const PASSWORD: &str = "churn";

/// Threads that drive busy clients.
const DRIVERS: usize = 4;

/// Subscribers, some of whom are replaced all the time.
const LISTENERS: usize = 20;

/// Threads and descriptors of the server itself, generously.
const OWN: usize = 60;

/// By how much memory and disk may grow, beside a part of what they were: a snapshot in the making, or the allocator's.
const SLACK: u64 = 24 << 20;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// The doors of a server.
#[derive(Clone)]
struct Doors {
    tcp: SocketAddr,
    tls: SocketAddr,
    http: SocketAddr,
    unix: PathBuf,
    config: Arc<ClientConfig>,
}

impl Doors {
    /// A connection by one of the doors.
    fn connect(&self, rng: &mut Rng) -> io::Result<Box<dyn Stream>> {
        Ok(match rng.below(8) {
            0 | 1 => {
                let tcp = patient(TcpStream::connect(self.tls)?)?;
                let tls = ClientConnection::new(self.config.clone(), self.tls.ip().into());
                Box::new(StreamOwned::new(tls.map_err(io::Error::other)?, tcp))
            }
            2 => {
                let stream = UnixStream::connect(&self.unix)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            _ => Box::new(patient(TcpStream::connect(self.tcp)?)?),
        })
    }

    /// The same, logged in.
    fn enter(&self, rng: &mut Rng) -> io::Result<Box<dyn Stream>> {
        let mut stream = self.connect(rng)?;
        ask(&mut *stream, &format!("AUTH {PASSWORD}\r\n"))?;
        Ok(stream)
    }
}

fn patient(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends lines, and reads until all are answered.
fn ask(stream: &mut dyn Stream, lines: &str) -> io::Result<()> {
    stream.write_all(format!("{lines}ECHO end\r\n").as_bytes())?;
    let (mut part, mut last) = ([0; 16 << 10], Vec::new());
    while !last.ends_with(END) {
        let count = stream.read(&mut part)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        last.extend_from_slice(&part[..count]);
        let kept = last.len().saturating_sub(END.len());
        last.drain(..kept);
    }
    Ok(())
}

/// A few commands on some of 20,000 keys.
fn commands(rng: &mut Rng) -> String {
    let mut lines = String::new();
    for _ in 0..1 + rng.below(4) {
        let key = rng.below(20_000);
        let line = match rng.below(6) {
            0 | 1 => format!("SET k{key} {}\r\n", "x".repeat(1 + rng.below(2000))),
            2 => format!("SETEX k{key} 1 short\r\n"),
            3 => format!("INCR n{}\r\n", rng.below(100)),
            4 => format!("DEL k{key}\r\n"),
            _ => format!("GET k{key}\r\n"),
        };
        lines += &line;
    }
    lines
}

/// What the server takes up.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    memory: u64,
    threads: u64,
    descriptors: u64,
    disk: u64,
}

impl Taken {
    fn look(server: &Server, dir: &Path) -> Taken {
        let process = PathBuf::from(format!("/proc/{}", server.pid().as_raw_nonzero()));
        let status = fs::read_to_string(process.join("status")).expect("a running process");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux");
            line.split_whitespace().next().expect("a value").parse::<u64>().expect("a number")
        };
        let files =
            fs::read_dir(dir).expect("the log").filter_map(|entry| entry.ok()?.metadata().ok());
        Taken {
            memory: field("VmRSS:") * 1024,
            threads: field("Threads:"),
            descriptors: fs::read_dir(process.join("fd")).expect("its descriptors").count() as u64,
            disk: files.map(|file| file.len()).sum(),
        }
    }

    fn most(of: &[Taken]) -> Taken {
        of.iter().fold(Taken::default(), |most, one| Taken {
            memory: most.memory.max(one.memory),
            threads: most.threads.max(one.threads),
            descriptors: most.descriptors.max(one.descriptors),
            disk: most.disk.max(one.disk),
        })
    }
}

fn variable(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

#[test]
#[ignore = "takes 12 seconds, or CHURN_SECONDS"]
fn memory_threads_descriptors_and_disk_stay_flat_while_clients_come_and_go() {
    let (seconds, clients) = (variable("CHURN_SECONDS", 12), variable("CHURN_CLIENTS", 400));
    let (seed, dir) = (seed(), tempfile::tempdir().expect("a directory"));
    println!("CHURN_SECONDS={seconds} CHURN_CLIENTS={clients}, seed {seed}");
    assert!(raise_descriptor_limit() > clients + OWN, "too few descriptors");
    let authority = Authority::new();
    let [certificate, key] = authority.sign(Dates::Now).put(dir.path());
    let (password, unix) = (dir.path().join("password"), dir.path().join("socket"));
    fs::write(&password, PASSWORD).expect("a file");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let log = dir.path().join("log");
    fs::create_dir(&log).expect("a directory");
    let most = (clients + OWN).to_string();
    let server = Server::start(
        &log,
        &[
            "-maxclients",
            &most,
            "-compact-least",
            "8000000",
            "-compact-factor",
            "1",
            "-login-timeout",
            "2",
            "-requirepass-file",
            &text(&password),
            "-unixsocket",
            &text(&unix),
            "-tls-port",
            "0",
            "-tls-cert",
            &text(&certificate),
            "-tls-key",
            &text(&key),
            "-http",
            "127.0.0.1:0",
        ],
    );
    let address = |line: &str| {
        let words = line.split_whitespace().rev();
        let mut addresses = words.filter_map(|word| word.trim_matches(',').parse().ok());
        addresses.next().unwrap_or_else(|| panic!("no address in {line}"))
    };
    let doors = Doors {
        tcp: server.address(),
        tls: address(&server.wait_for_log("with TLS")),
        http: address(&server.wait_for_log("http on")),
        unix,
        config: authority.client(None),
    };
    let before = Taken::look(&server, &log);
    let (stopped, answered, came) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let goes_on = || !stopped.load(Ordering::Relaxed);
    let samples = std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stopped);
        for driver in 0..DRIVERS {
            let (doors, answered, came, goes_on) = (doors.clone(), &answered, &came, &goes_on);
            scope.spawn(move || {
                let mut rng = Rng::new(seed + driver as u64);
                let mut busy: Vec<_> = (0..clients / 10 / DRIVERS)
                    .map(|_| doors.enter(&mut rng).expect("it comes in"))
                    .collect();
                while goes_on() {
                    for client in &mut busy {
                        let lines = commands(&mut rng);
                        if rng.below(200) == 0 {
                            // Leaves in the middle of a request, or with its replies unread.
                            let _ =
                                client.write_all(&lines.as_bytes()[..1 + rng.below(lines.len())]);
                            *client = doors.enter(&mut rng).expect("it comes in");
                            came.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        ask(&mut **client, &lines).expect("it is answered");
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut rng = Rng::new(seed + 100);
            let mut quiet: Vec<Box<dyn Stream>> = Vec::new();
            while goes_on() {
                if quiet.len() < clients - clients / 10 - LISTENERS {
                    // A few never log in, and are closed for it.
                    let client = match rng.below(50) {
                        0 => doors.connect(&mut rng),
                        _ => doors.enter(&mut rng),
                    };
                    quiet.push(client.expect("it comes in"));
                    came.fetch_add(1, Ordering::Relaxed);
                } else {
                    for _ in 0..1 + clients / 200 {
                        quiet.swap_remove(rng.below(quiet.len()));
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        scope.spawn(|| {
            let mut rng = Rng::new(seed + 200);
            let mut publisher = doors.enter(&mut rng).expect("it comes in");
            let mut listeners: Vec<Box<dyn Stream>> = Vec::new();
            while goes_on() {
                if listeners.len() < LISTENERS {
                    let mut listener = doors.enter(&mut rng).expect("it comes in");
                    listener.write_all(b"HELLO 3\r\nSUBSCRIBE news\r\n").expect("it is taken");
                    listeners.push(listener);
                } else if rng.below(10) == 0 {
                    listeners.swap_remove(rng.below(LISTENERS));
                }
                ask(&mut *publisher, "PUBLISH news hello\r\n").expect("it is answered");
                // Between messages, so that the end of one is the end of what there is.
                let heard = listeners.last_mut().expect("one");
                heard.write_all(b"PING\r\n").expect("it is taken");
                assert!(heard.read(&mut [0; 16 << 10]).expect("something is heard") > 0);
            }
        });
        scope.spawn(|| {
            let login = "Authorization: Basic ZGVmYXVsdDpjaHVybg=="; // default:churn
            let get = |path: &str| {
                let mut page = patient(TcpStream::connect(doors.http)?)?;
                write!(page, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{login}\r\n\r\n")?;
                Ok::<_, io::Error>(page)
            };
            let mut page = get("/events").expect("the page");
            while goes_on() {
                assert!(page.read(&mut [0; 64 << 10]).expect("an event") > 0);
                let mut text = String::new();
                let mut scrape = get("/metrics").expect("figures");
                scrape.read_to_string(&mut text).expect("figures");
                assert!(text.starts_with("HTTP/1.1 200"), "{text:.300}");
            }
        });
        let mut samples = Vec::new();
        let (began, step) = (Instant::now(), Duration::from_millis(250));
        while began.elapsed() < Duration::from_secs(seconds as u64) {
            std::thread::sleep(step);
            samples.push(Taken::look(&server, &log));
        }
        samples
    });
    // The first third is the time in which clients come.
    let third = samples.len() / 3;
    let (middle, last) =
        (Taken::most(&samples[third..2 * third]), Taken::most(&samples[2 * third..]));
    let (answered, came) = (answered.into_inner(), came.into_inner());
    println!("{answered} pipelines answered, {came} clients came; before {before:?}");
    println!("most in the second third {middle:?}");
    println!("most in the last third   {last:?}");
    assert!(answered > 100 && came > 100, "it was busy");
    assert!(last.memory <= middle.memory + middle.memory / 20 + SLACK, "memory grows");
    assert!(last.disk <= middle.disk + middle.disk / 5 + SLACK, "the disk fills up");
    let room = (clients + OWN) as u64;
    assert!(
        last.threads <= room && last.descriptors <= room,
        "threads or descriptors are left over"
    );
    let mut client = Client::connect(&server);
    assert_eq!(client.ask(&format!("AUTH {PASSWORD}")).trim_end(), "+OK");
    eventually("all have left", || client.counter("connected_clients") == 1);
    eventually("all is given back", || {
        let now = Taken::look(&server, &log);
        now.threads <= before.threads + 10 && now.descriptors <= before.descriptors + 10
    });
    let (status, messages) = server.terminate();
    assert!(status.success(), "{status}");
    assert!(!messages.contains("ERROR") && !messages.contains("panicked"), "{messages}");
}
