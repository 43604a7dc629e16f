//! What two clients write to a server that is about to fail, and what must be there afterwards.
//!
//! Each client has keys of its own, so that the order of the writes to a key is known. What a write
//! sets a key to follows from its number, and is made of that number all over, so that a mixture of
//! two is the value of none.

use std::path::Path;

use crate::common::{Client, Rng, Server};

const CLIENTS: usize = 2;
const KEYS: usize = 6;

/// The longest value: the longest line is 64 KiB.
const VALUE_BYTES: usize = 60_000;

/// How the writing ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// All was acknowledged.
    Done,
    /// From some write on all were refused, with this line.
    Refused(String),
    /// The server was gone.
    Gone,
}

/// What was written, and what of it was acknowledged.
#[derive(Clone)]
pub struct Journal {
    keys: Vec<Key>,
    rng: Rng,
}

impl Journal {
    pub fn new(seed: u64) -> Journal {
        let keys = (0..KEYS).map(|index| Key::new(char::from(b'a' + index as u8))).collect();
        Journal { keys, rng: Rng::new(seed) }
    }

    /// Puts a log of the seed's own program into `file`, with a value for each key.
    pub fn write_foreign(&mut self, file: &Path) {
        let mut text = String::new();
        for key in &mut self.keys {
            key.operations.push(Some(20));
            key.acknowledged += 1;
            let value = key.value(key.acknowledged).expect("just set");
            text += &format!("3SET1{}{}{value}\n", key.name, value.len());
        }
        std::fs::write(file, text).expect("a file");
    }

    /// Writes in rounds, both clients at a time. After the first refusal all are, with one reason,
    /// and reads show what was acknowledged. `connected` is called when both are, `half_way` in the middle.
    pub fn write(
        &mut self,
        server: &Server,
        rounds: usize,
        connected: &mut dyn FnMut(),
        half_way: &dyn Fn(),
    ) -> End {
        let connect = |_| Client::try_connect(server);
        let Ok(mut clients) = (0..CLIENTS).map(connect).collect::<std::io::Result<Vec<_>>>() else {
            return End::Gone;
        };
        connected();
        self.try_write(&mut clients, rounds, half_way).unwrap_or(End::Gone)
    }

    fn try_write(
        &mut self,
        clients: &mut [Client],
        rounds: usize,
        half_way: &dyn Fn(),
    ) -> std::io::Result<End> {
        let mut refusal: Option<String> = None;
        for round in 0..rounds {
            let refused_before = refusal.is_some();
            let mut sent = Vec::new();
            for (number, client) in clients.iter_mut().enumerate() {
                let (chosen, lines) = self.next_operations(number);
                client.try_send(lines)?;
                sent.push(chosen);
            }
            for (client, sent) in clients.iter_mut().zip(sent) {
                let mut refused = refused_before;
                for key in sent {
                    let line = client.try_line()?;
                    let line = String::from_utf8(line).expect("a reply in text");
                    if line == "+OK" {
                        assert!(!refused, "acknowledged after a failure: {refusal:?}");
                        self.keys[key.0].acknowledged = key.1;
                        continue;
                    }
                    if line.starts_with("-MISCONF ") && line.contains("no room") {
                        // Nothing of it was written, and the next one may find room.
                        continue;
                    }
                    refused = true;
                    let first = refusal.get_or_insert_with(|| line.clone());
                    assert_eq!(*first, line, "one reason for all");
                }
            }
            if refused_before {
                break;
            }
            if round == rounds / 2 && refusal.is_none() {
                half_way();
            }
        }
        // Nothing else than what was acknowledged may be seen: a refused write never was.
        for key in &self.keys {
            clients[0].try_send(key.get())?;
            let found = clients[0].try_line()?;
            let found = String::from_utf8(found).expect("a reply in text");
            assert!(found == key.reply_after(key.acknowledged), "seen {found:.80}, not so: {key}");
        }
        let Some(refusal) = refusal else {
            return Ok(End::Done);
        };
        let (_, reason) = refusal.split_once("no more writes: ").expect("a reason");
        let info = clients[0].info();
        assert!(info.contains(reason), "INFO does not tell of {reason:?}:\n{info}");
        Ok(End::Refused(refusal))
    }

    /// The next one to three writes of a client: key and number of each, and their lines.
    fn next_operations(&mut self, client: usize) -> (Vec<(usize, usize)>, String) {
        let mut lines = String::new();
        let mut chosen = Vec::new();
        for _ in 0..1 + self.rng.below(3) {
            let index = self.rng.below(KEYS / CLIENTS) * CLIENTS + client;
            let length = match self.rng.below(8) {
                0 => None,
                1..4 => Some(self.rng.below(6000)),
                _ => Some(self.rng.below(VALUE_BYTES)),
            };
            let key = &mut self.keys[index];
            key.operations.push(length);
            let number = key.operations.len() - 1;
            lines += &match key.value(number) {
                Some(value) => format!("SET {} {value}\n", key.name),
                None => format!("DEL {}\n", key.name),
            };
            chosen.push((index, number));
        }
        (chosen, lines)
    }

    /// Looks for all that was acknowledged. What was not may be there, as a whole; what is seen now
    /// has to stay.
    pub fn check(&mut self, server: &Server) {
        let mut client = Client::connect(server);
        for key in &mut self.keys {
            let reply = client.ask(key.get().trim_end());
            let possible = key.acknowledged..key.operations.len();
            let found = possible.into_iter().find(|&number| key.reply_after(number) == reply);
            key.acknowledged = found.unwrap_or_else(|| panic!("LOST: {reply:.80}, but {key}"));
            key.operations.truncate(key.acknowledged + 1);
        }
    }
}

/// A key and what was done to it.
///
/// - `operations[n]` is the length of the value that write `n` sets, or that it deletes; the first
///   is the beginning, without a value.
/// - `acknowledged` is the last one that was.
#[derive(Clone)]
struct Key {
    name: char,
    operations: Vec<Option<usize>>,
    acknowledged: usize,
}

impl Key {
    fn new(name: char) -> Key {
        Key { name, operations: vec![None], acknowledged: 0 }
    }

    fn value(&self, number: usize) -> Option<String> {
        let length = self.operations[number]?;
        let piece = format!("{}.{number};", self.name);
        Some(piece.repeat(1 + length / piece.len()))
    }

    fn get(&self) -> String {
        format!("GET {}\n", self.name)
    }

    fn reply_after(&self, number: usize) -> String {
        match self.value(number) {
            Some(value) => format!("+OK {value}"),
            None => format!("-GET could not find {} in store", self.name),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Key { name, operations, acknowledged } = self;
        write!(f, "{name} was acknowledged up to write {acknowledged} of {}", operations.len() - 1)
    }
}
