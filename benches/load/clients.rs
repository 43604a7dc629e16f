//! Many clients on one thread, because the cores are shared with the server that is measured.
//!
//! The sockets do not block; epoll, edge-triggered, tells which of them are ready. A latency runs from
//! just before a pipeline is written until its reply is completely parsed, each reply counted for
//! itself; the time a reply lies in its socket while this thread is busy with others is part of it.

use std::io::{ErrorKind, Read, Write};
use std::iter;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::load::{Group, Load, Work};
use crate::protocol::{Requests, expect_success, reply_length};
use crate::server::Server;

/// A server that sends nothing for this long is stuck, not slow.
const SILENCE: Duration = Duration::from_secs(30);
/// One read takes up to this much: more than the replies to any sensible pipeline.
const CHUNK_BYTES: usize = 64 * 1024;
/// How many sockets one wake-up serves before the kernel is asked again.
const EVENTS_PER_WAIT: usize = 512;

/// Significant digits of a latency in nanoseconds: each is known to within 0.1 percent.
const LATENCY_DIGITS: u8 = 3;

/// What the clients saw.
pub struct Outcome {
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// Nanoseconds, in one histogram for each group of the load.
    pub latencies: Vec<Histogram<u64>>,
}

impl Outcome {
    pub fn ops_per_second(&self, group: usize) -> f64 {
        self.latencies[group].len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Stores the keys from 0 to `count`.
pub fn store_keys(server: &Server, count: u64) -> Result<()> {
    // A few clients with deep pipelines keep any server busy and need few syncs.
    let stored = drive(server, &"set:4:256".parse()?, 0..count, Duration::MAX);
    stored.with_context(|| format!("{} was to store {count} keys", server.program.name))?;
    Ok(())
}

/// Runs a load until its time or its keys are used up, and every request has its reply.
pub fn drive(
    server: &Server,
    load: &Load,
    mut keys: impl Iterator<Item = u64>,
    time: Duration,
) -> Result<Outcome> {
    let requests = &server.program.requests;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let any_change = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
    let mut clients = Vec::new();
    for (number, group) in load.groups.iter().enumerate() {
        for _ in 0..group.clients {
            let client = Client::connect(server.port, number)?;
            let id = epoll::EventData::new_u64(clients.len() as u64);
            epoll::add(&epoll, &client.stream, id, any_change)?;
            clients.push(client);
        }
    }

    let histogram = || Histogram::new(LATENCY_DIGITS).expect("it can be that precise");
    let mut latencies: Vec<Histogram<u64>> = load.groups.iter().map(|_| histogram()).collect();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut events = Vec::with_capacity(EVENTS_PER_WAIT);
    let silence = Timespec::try_from(SILENCE)?;
    let started = Instant::now();
    let mut busy = 0;
    for client in &mut clients {
        busy += usize::from(client.send(&load.groups[client.group], requests, &mut keys)?);
    }

    while busy > 0 {
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&silence))?;
        ensure!(!events.is_empty(), "no reply for {SILENCE:?}");
        for event in events.drain(..) {
            let client = &mut clients[event.data.u64() as usize];
            client.flush()?;
            let replies = client.receive(&mut chunk)?;
            if replies == 0 {
                continue;
            }
            let now = Instant::now();
            let nanos = (now - client.sent_at).as_nanos() as u64;
            latencies[client.group].record_n(nanos, replies as u64)?;
            if client.awaited > 0 {
                continue;
            }
            let over = now - started >= time;
            if over || !client.send(&load.groups[client.group], requests, &mut keys)? {
                busy -= 1;
            }
        }
    }
    Ok(Outcome { elapsed: started.elapsed(), latencies })
}

/// One connection. It has either a pipeline under way or nothing left to do.
struct Client {
    stream: TcpStream,
    /// Which group of the load it belongs to.
    group: usize,
    /// The pipeline, of which `written` bytes are with the kernel.
    output: Vec<u8>,
    written: usize,
    /// When it began to be written.
    sent_at: Instant,
    /// How many of its replies are still to come.
    awaited: usize,
    /// The beginning of the next of them.
    input: Vec<u8>,
    /// Whether a mixed load asks for a GET next.
    reads_next: bool,
}

impl Client {
    fn connect(port: u16, group: usize) -> Result<Client> {
        let stream = connect(port)?;
        stream.set_nonblocking(true)?;
        let (output, input, sent_at) = (Vec::new(), Vec::new(), Instant::now());
        Ok(Client {
            stream,
            group,
            output,
            written: 0,
            sent_at,
            awaited: 0,
            input,
            reads_next: false,
        })
    }

    /// Sends the next pipeline; false when there was no key left for it.
    fn send(
        &mut self,
        group: &Group,
        requests: &Requests,
        keys: &mut impl Iterator<Item = u64>,
    ) -> Result<bool> {
        self.output.clear();
        self.written = 0;
        while self.awaited < group.pipeline {
            let Some(key) = keys.next() else {
                break;
            };
            let output = &mut self.output;
            match group.work {
                Work::Set => requests.set.append_to(output, key),
                Work::Get => requests.get.append_to(output, key),
                Work::Del => requests.del.append_to(output, key),
                Work::Mixed if self.reads_next => requests.get.append_to(output, key),
                Work::Mixed => requests.set.append_to(output, key),
                Work::Mget(count) => {
                    let more = keys.take(count - 1);
                    requests.append_mget(output, count, iter::once(key).chain(more));
                }
            }
            self.reads_next = !self.reads_next;
            self.awaited += 1;
        }
        self.sent_at = Instant::now();
        self.flush()?;
        Ok(self.awaited > 0)
    }

    /// Writes what the socket takes. The next event comes when it takes more.
    fn flush(&mut self) -> Result<()> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("cannot write to the server"),
            }
        }
        Ok(())
    }

    /// Reads all there is, and returns how many replies that completed.
    fn receive(&mut self, chunk: &mut [u8]) -> Result<usize> {
        loop {
            match self.stream.read(chunk) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(length) => {
                    self.input.extend_from_slice(&chunk[..length]);
                    // A short read has emptied the socket: what comes later is another event.
                    if length < chunk.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("cannot read from the server"),
            }
        }

        let (mut replies, mut parsed) = (0, 0);
        while let Some(length) = reply_length(&self.input[parsed..])? {
            expect_success(&self.input[parsed..][..length])?;
            replies += 1;
            parsed += length;
        }
        self.input.drain(..parsed);
        ensure!(replies <= self.awaited, "more replies came than there were requests");
        self.awaited -= replies;
        Ok(replies)
    }
}

/// Keys drawn evenly from 0 to `below`, without end: SplitMix64.
pub fn random_keys(seed: u64, below: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    iter::repeat_with(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below
    })
}

/// A connection that blocks, but not for ever.
pub fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).context("cannot connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    Ok(stream)
}

/// One question; the answer is the whole reply as it came.
pub fn ask(stream: &mut TcpStream, request: &[u8]) -> Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut reply = Vec::new();
    let mut chunk = [0; 4096];
    while reply_length(&reply)?.is_none() {
        let length = stream.read(&mut chunk).context("no answer")?;
        ensure!(length > 0, "the connection was closed instead of an answer");
        reply.extend_from_slice(&chunk[..length]);
    }
    Ok(reply)
}
