//! What two clients write to a server that is about to fail, and what must be there afterwards.
//!
//! Each client has keys of its own, whose [`History`] says what may be found.

use std::path::Path;

use crate::common::{Client, Rng, Server};
use crate::durability::history::{Change, History, NOW, value_in};

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
    history: History,
    rng: Rng,
}

impl Journal {
    pub fn new(seed: u64) -> Journal {
        let keys = (0..KEYS).map(|index| char::from(b'a' + index as u8).to_string());
        Journal { history: History::of_single_keys(seed, keys), rng: Rng::new(seed) }
    }

    /// Puts a log of the seed's own program into `file`, with a value for each key.
    pub fn write_foreign(&mut self, file: &Path) {
        let mut text = String::new();
        for register in &mut self.history.registers {
            let number = register.send(Change::Set(20), NOW);
            register.acknowledge(number, NOW);
            let (key, value) = (&register.keys[0], register.value(number).expect("just set"));
            text += &format!("3SET1{key}{}{value}\n", value.len());
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
                for (index, number) in sent {
                    let line = client.try_line()?;
                    let line = String::from_utf8(line).expect("a reply in text");
                    if line == "+OK" {
                        assert!(!refused, "acknowledged after a failure: {refusal:?}");
                        self.history.registers[index].acknowledge(number, NOW);
                        continue;
                    }
                    if line.starts_with("-MISCONF ") && line.contains("no room") {
                        // Nothing of it was written, and the next one may find room.
                        self.history.registers[index].refuse(number);
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
        for register in &self.history.registers {
            let key = &register.keys[0];
            clients[0].try_send(format!("GET {key}\n"))?;
            let found = String::from_utf8(clients[0].try_line()?).expect("a reply in text");
            let expected = register.value(register.last_acknowledged(NOW));
            assert!(value_in(&found, key) == expected, "{key}: {found:.80}, not {expected:.80?}");
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
            let change = match self.rng.below(8) {
                0 => Change::Delete,
                1..4 => Change::Set(self.rng.below(6000)),
                _ => Change::Set(self.rng.below(VALUE_BYTES)),
            };
            let register = &mut self.history.registers[index];
            let number = register.send(change, NOW);
            lines += &register.line(number);
            chosen.push((index, number));
        }
        (chosen, lines)
    }

    /// Looks for everything acknowledged. Other writes may be there, as a whole; what is seen now must
    /// stay.
    pub fn check(&mut self, server: &Server) {
        let mut client = Client::connect(server);
        let value = |key: &str| value_in(&client.ask(&format!("GET {key}")), key);
        self.history.settle(value).unwrap_or_else(|what| panic!("{what}"));
    }
}
