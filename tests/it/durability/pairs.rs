//! Clients that have two databases each to themselves: they set and move keys there, swap the two and empty them.
//!
//! What is found after a kill or a power cut must be what some operation left in both databases together, and one
//! that is not older than the last acknowledged. A forgotten order, a record that is replayed in another database or
//! half of a move is what no operation has left: every value is set once only.
//!
//! Instants are those of [`History`](super::history::History).

use super::history::NOW;
use crate::common::wire::{Value, ask, request};
use crate::common::{Client, Rng};

/// Few keys, so that a move meets its own name in the other database.
const KEYS: [&str; 2] = ["a", "b"];

/// The values in the one database and in the other.
type State = [[Option<String>; KEYS.len()]; 2];

/// Two databases with one writer.
///
/// - `moments[n]` is what operation `n` leaves; number 0 is the beginning, acknowledged.
pub struct Pair {
    numbers: [u16; 2],
    moments: Vec<Moment>,
    /// How many values there have been, so that each is another one.
    values: usize,
}

struct Moment {
    state: State,
    sent: u64,
    acknowledged: Option<u64>,
}

/// An operation that is noted: the bytes to be sent, and the replies to them.
pub struct Sent {
    pub number: usize,
    pub request: Vec<u8>,
    pub replies: [Value; 2],
}

impl Pair {
    /// The databases of a client, which are empty; no other client has one of these, and none has database 0.
    pub fn new(client: u16) -> Pair {
        let beginning = Moment { state: State::default(), sent: 0, acknowledged: Some(0) };
        Pair { numbers: [2 * client + 1, 2 * client + 2], moments: vec![beginning], values: 0 }
    }

    /// Notes a random operation that is about to be sent.
    pub fn send(&mut self, rng: &mut Rng, now: u64) -> Sent {
        let mut state = self.moments.last().expect("there is a beginning").state.clone();
        let (here, key) = (rng.below(2), rng.below(KEYS.len()));
        let [number, other] = [here, 1 - here].map(|place| self.numbers[place].to_string());
        let name = KEYS[key];
        let (words, told) = match rng.below(10) {
            0 => {
                state[here] = Default::default();
                (vec!["FLUSHDB"], Value::ok())
            }
            1 => {
                let removed = state[here][key].take().is_some();
                (vec!["DEL", name], Value::Integer(removed.into()))
            }
            2..4 => {
                state.swap(0, 1);
                (vec!["SWAPDB", &number, &other], Value::ok())
            }
            4..7 => {
                let moves = state[here][key].is_some() && state[1 - here][key].is_none();
                if moves {
                    state[1 - here][key] = state[here][key].take();
                }
                (vec!["MOVE", name, &other], Value::Integer(moves.into()))
            }
            _ => {
                self.values += 1;
                let longest = 2 << rng.below(12);
                let padding = "x".repeat(rng.below(longest));
                let value = state[here][key].insert(format!("{}:{padding}", self.values));
                (vec!["SET", name, value], Value::ok())
            }
        };
        let request = [request(["SELECT", &number]), request(words)].concat();
        let sent = if now == NOW { 0 } else { now };
        self.moments.push(Moment { state, sent, acknowledged: None });
        Sent { number: self.moments.len() - 1, request, replies: [Value::ok(), told] }
    }

    pub fn acknowledge(&mut self, number: usize, now: u64) {
        self.moments[number].acknowledged = Some(if now == NOW { 0 } else { now });
    }

    /// How many operations had been acknowledged at this instant.
    pub fn acknowledged(&self, at: u64) -> usize {
        self.moments[1..].iter().filter(|moment| moment.was_acknowledged(at)).count()
    }

    /// Which operation is shown. An error says what is lost, or was never there.
    pub fn shown(&self, client: &mut Client, at: u64) -> Result<usize, String> {
        let found = self.found(client);
        let last = |is_so: &dyn Fn(&Moment) -> bool| self.moments.iter().rposition(is_so);
        let acknowledged = last(&|moment| moment.was_acknowledged(at)).expect("the beginning is");
        let sent = last(&|moment| moment.sent < at).unwrap_or(0).max(acknowledged);
        let mut possible = (acknowledged..=sent).rev();
        let shown = possible.find(|number| self.moments[*number].state == found);
        shown.ok_or_else(|| {
            let number = last(&|moment| moment.state == found);
            let (pair, short) = (self.numbers, shortened(&found));
            format!("LOST: databases {pair:?}: {acknowledged}..={sent} expected, found {number:?}: {short:?}")
        })
    }

    /// The same, and from now on what was shown must stay.
    pub fn settle(&mut self, client: &mut Client) -> Result<(), String> {
        let shown = self.shown(client, NOW)?;
        let state = self.moments.swap_remove(shown).state;
        self.moments = vec![Moment { state, sent: 0, acknowledged: Some(0) }];
        Ok(())
    }

    /// All that is in the two databases. Afterwards the client is in database 0 again.
    fn found(&self, client: &mut Client) -> State {
        let found = self.numbers.map(|number| {
            assert_eq!(ask(client, ["SELECT", &number.to_string()]), Value::ok());
            KEYS.map(|key| match ask(client, ["GET", key]) {
                Value::Bulk(value) => Some(String::from_utf8_lossy(&value).into_owned()),
                Value::NullBulk => None,
                other => panic!("GET answered {other:?}"),
            })
        });
        assert_eq!(ask(client, ["SELECT", "0"]), Value::ok());
        found
    }
}

impl Moment {
    fn was_acknowledged(&self, at: u64) -> bool {
        self.acknowledged.is_some_and(|when| when <= at)
    }
}

fn shortened(state: &State) -> Vec<Option<String>> {
    state.iter().flatten().map(|value| value.as_ref().map(|value| format!("{value:.20}"))).collect()
}
