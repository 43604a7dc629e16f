//! Clients that share a few keys, before, during and after a fault: some order in which all that was done took effect
//! must explain what each of them saw.
//!
//! Each fault has keys of its own, which are read once more when all faults are over: what was acknowledged then is
//! still there, and what was said not to be done is not.
//!
//! **Unknown outcomes.** What had no answer may take effect late, when the network is whole again, or never. Each value
//! here is written by one operation, and every operation but a blind write tells what it found. So one whose value
//! nobody has ever seen explains nothing and is left out, and one whose value was seen took effect before that was
//! answered. Without this the possibilities would double with each of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;

use super::load::{Load, PACE, ask_until_told};
use super::network::Network;
use super::session::{Patience, Session, Told, Wants};
use crate::common::Rng;
use crate::common::wire::Value;
use crate::durability::linearizable::checker::{Operation, check};
use crate::durability::linearizable::keys::{Answer, Call, Keys, Text};
use crate::durability::linearizable::shown;

/// The keys of each object: one is set, swapped and compared, one grows, one counts, two are set and read together.
const OBJECTS: [&[&str]; 4] = [&["register"], &["text"], &["counter"], &["left", "right"]];
const REGISTER: usize = 0;
const TEXT: usize = 1;
const COUNTER: usize = 2;
const PAIR: usize = 3;

/// Ends each piece of the text that grows.
const END: char = ';';

const DIGITS: [&str; 2] = ["02468", "13579"];

/// What the clients of histories share.
#[derive(Default)]
pub struct Histories {
    clock: AtomicU64,
    /// Counts the faults.
    fault: AtomicUsize,
}

/// What a client has seen of one operation.
pub struct Seen {
    fault: usize,
    object: usize,
    call: Call,
    called: u64,
    end: End,
}

enum End {
    Answered(u64, Answer),
    /// It was said that nothing was done.
    Refused,
    Unknown,
}

/// What is known of all histories at the end.
#[derive(Debug, Default)]
pub struct Explained {
    pub operations: usize,
    pub unknown: usize,
    /// Of these, the ones that took effect.
    pub done: usize,
    pub refused: usize,
}

impl Histories {
    /// From now on, other keys.
    pub fn next_fault(&self) {
        self.fault.fetch_add(1, SeqCst);
    }

    /// Asks until the load stops.
    pub fn ask(&self, network: &Network, wants: Wants, load: &Load, mut rng: Rng) -> Vec<Seen> {
        let patience = if rng.below(2) == 0 { Patience::Short } else { Patience::Long };
        let (mut session, mut seen) = (Session::new(network, wants, patience), Vec::new());
        let mut found: Option<Text> = None;
        while !load.stops() {
            let (fault, object) = (self.fault.load(SeqCst), rng.below(OBJECTS.len()));
            let called = self.clock.fetch_add(1, SeqCst);
            let call = random_call(&mut rng, object, called, &found);
            let end = match session.ask(&spell(&call, fault, object)) {
                Told::Reply(value) => self.understand(&call, value, load),
                Told::Refused(text) => {
                    load.note_refusal(&text, None);
                    End::Refused
                }
                Told::Unknown => End::Unknown,
            };
            if let End::Answered(_, answer) = &end {
                if let (REGISTER, Answer::Value(value)) = (object, answer) {
                    found.clone_from(value);
                }
                thread::sleep(PACE);
            }
            seen.push(Seen { fault, object, call, called, end });
        }
        seen
    }

    fn understand(&self, call: &Call, value: Value, load: &Load) -> End {
        let (ended, shown) = (self.clock.fetch_add(1, SeqCst), format!("{value:?}"));
        match call.understand(value) {
            Some(answer) => End::Answered(ended, answer),
            None => {
                load.complain(format!("{call:?} answers {shown}"));
                End::Unknown
            }
        }
    }

    /// Reads all keys once more, and explains all that was seen.
    pub fn explain(&self, network: &Network, mut seen: Vec<Seen>) -> Explained {
        let mut session = Session::new(network, Wants::Leader, Patience::Short);
        let load = Load::default();
        let faults = 0..=self.fault.load(SeqCst);
        for (fault, object) in faults.flat_map(|at| (0..OBJECTS.len()).map(move |it| (at, it))) {
            let call = if object == PAIR { Call::GetAll } else { Call::Get(0) };
            let called = self.clock.fetch_add(1, SeqCst);
            let value = ask_until_told(&mut session, &spell(&call, fault, object));
            let end = self.understand(&call, value, &load);
            seen.push(Seen { fault, object, call, called, end });
        }
        load.look_well();
        let mut histories: HashMap<(usize, usize), Vec<Seen>> = HashMap::new();
        for one in seen {
            histories.entry((one.fault, one.object)).or_default().push(one);
        }
        let mut explained = Explained::default();
        for ((fault, object), history) in histories {
            match object {
                COUNTER => check_counts(fault, &history),
                _ => explain_one(fault, object, &history, &mut explained),
            }
            explained.operations += history.len();
        }
        explained
    }
}

fn names(fault: usize, object: usize) -> Vec<String> {
    OBJECTS[object].iter().map(|name| format!("{name}{fault}")).collect()
}

fn spell(call: &Call, fault: usize, object: usize) -> Vec<u8> {
    let names = names(fault, object);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    call.spell(&names, false)
}

/// Half of them read. Each value is written once: it begins with the instant of the call.
fn random_call(rng: &mut Rng, object: usize, now: u64, found: &Option<Text>) -> Call {
    if rng.below(2) == 0 {
        return if object == PAIR { Call::GetAll } else { Call::Get(0) };
    }
    let value: Text = format!("{now}:").into();
    match (object, rng.below(3)) {
        (TEXT, _) => Call::Append(0, format!("{now}{END}").into()),
        (COUNTER, _) => Call::Incr(0),
        (REGISTER, 0) => Call::GetSet(0, value),
        (REGISTER, 1) if found.is_some() => Call::Swap(0, found.clone().expect("just seen"), value),
        (PAIR, 0) if cfg!(feature = "scripts") => {
            Call::SwapAll(DIGITS[rng.below(DIGITS.len())], value)
        }
        (PAIR, _) => Call::SetAll(value),
        _ => Call::Set(0, value),
    }
}

/// What an operation writes, if it does.
fn written(call: &Call) -> Option<&Text> {
    match call {
        Call::Get(_) | Call::GetAll => None,
        Call::Set(_, value) | Call::GetSet(_, value) | Call::Swap(_, _, value) => Some(value),
        Call::Append(_, value) | Call::SetAll(value) | Call::SwapAll(_, value) => Some(value),
        Call::SetNew(..) | Call::Incr(_) | Call::Del(_) => panic!("{call:?} is not asked here"),
    }
}

/// When the value of each operation was seen by the answer that came first.
fn sightings(history: &[Seen]) -> HashMap<String, u64> {
    let mut first = HashMap::new();
    for one in history {
        let End::Answered(ended, answer) = &one.end else { continue };
        let texts = match answer {
            Answer::Value(value) => vec![value.clone()],
            Answer::Values(values) => values.clone(),
            Answer::Done | Answer::Refused | Answer::Number(_) => Vec::new(),
        };
        for piece in texts.iter().flatten().flat_map(|text| text.split_inclusive(END)) {
            let at = first.entry(piece.to_owned()).or_insert(*ended);
            *at = (*at).min(*ended);
        }
    }
    first
}

/// What the checker is to explain; see the head of this file.
fn operations(history: &[Seen], explained: &mut Explained) -> Vec<Operation<Call, Answer>> {
    let sightings = sightings(history);
    let mut operations = Vec::new();
    for Seen { fault, call, called, end, .. } in history {
        let seen = written(call).and_then(|value| sightings.get(&**value));
        let (ended, answer) = match end {
            End::Answered(ended, answer) => (*ended, Some(answer.clone())),
            End::Refused => {
                assert!(seen.is_none(), "fault {fault}: {call:?} was refused, and was done");
                explained.refused += 1;
                continue;
            }
            End::Unknown => {
                explained.unknown += usize::from(written(call).is_some());
                let Some(&seen) = seen else { continue };
                explained.done += 1;
                (seen, None)
            }
        };
        let call = call.clone();
        operations.push(Operation { call, called: *called, ended, answer, after: None });
    }
    operations
}

fn explain_one(fault: usize, object: usize, history: &[Seen], explained: &mut Explained) {
    let operations = operations(history, explained);
    let state = Keys(vec![None; OBJECTS[object].len()]);
    if let Err(at) = check(state, &operations) {
        let names = names(fault, object);
        panic!("{names:?}: nothing explains the last:\n{}", shown(&operations, at));
    }
}

/// A counter is easier: no two increments are answered the same, none is answered less than what was answered before
/// it was called, and at the end none is missing.
fn check_counts(fault: usize, history: &[Seen]) {
    let (mut answered, mut unknown) = (Vec::new(), 0);
    for Seen { call, called, end, .. } in history {
        let is_write = matches!(call, Call::Incr(_));
        match end {
            End::Answered(ended, Answer::Number(number)) => {
                answered.push((*called, *ended, *number, is_write))
            }
            End::Answered(ended, Answer::Value(value)) => {
                let number = value.as_deref().map_or(0, |text| text.parse().expect("a number"));
                answered.push((*called, *ended, number, is_write));
            }
            End::Answered(_, other) => panic!("{call:?} answers {other:?}"),
            End::Refused => {}
            End::Unknown => unknown += i64::from(is_write),
        }
    }
    let mut numbers: Vec<i64> = answered.iter().filter(|it| it.3).map(|it| it.2).collect();
    numbers.sort_unstable();
    let twice = numbers.windows(2).find(|two| two[0] == two[1]);
    assert!(twice.is_none(), "fault {fault}: two increments came to {twice:?}");
    // In the order of calls, with the greatest of those that ended before each.
    let mut ends = answered.clone();
    ends.sort_unstable_by_key(|it| it.1);
    answered.sort_unstable_by_key(|it| it.0);
    let (mut ended, mut greatest) = (ends.iter().peekable(), 0);
    for (called, _, number, is_write) in &answered {
        while let Some(before) = ended.next_if(|before| before.1 < *called) {
            greatest = greatest.max(before.2);
        }
        let least = greatest + i64::from(*is_write);
        assert!(*number >= least, "fault {fault}: {number} after {greatest} was answered");
    }
    let (last, count) = (answered.last().expect("it was read at the end").2, numbers.len() as i64);
    assert!(
        last <= count + unknown,
        "fault {fault}: {last}, and {count} were done, {unknown} perhaps"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(call: Call, called: u64, end: End) -> Seen {
        Seen { fault: 0, object: REGISTER, call, called, end }
    }

    fn set(value: &str) -> Call {
        Call::Set(0, value.into())
    }

    fn found(ended: u64, value: &str) -> End {
        End::Answered(ended, Answer::Value(Some(value.into())))
    }

    fn is_explained(history: &[Seen]) -> bool {
        let operations = operations(history, &mut Explained::default());
        check(Keys(vec![None]), &operations).is_ok()
    }

    #[test]
    fn a_write_of_unknown_outcome_may_take_effect_late_but_once() {
        let history = |third: &str| {
            [
                seen(set("a"), 1, End::Unknown),
                seen(set("b"), 2, End::Answered(3, Answer::Done)),
                seen(Call::Get(0), 4, found(5, "b")),
                seen(Call::Get(0), 6, found(7, "a")),
                seen(Call::Get(0), 8, found(9, third)),
            ]
        };
        assert!(is_explained(&history("a")));
        assert!(!is_explained(&history("b")));
    }

    #[test]
    fn a_value_that_was_overwritten_is_not_seen_again() {
        let history = [
            seen(set("a"), 1, End::Answered(2, Answer::Done)),
            seen(set("b"), 3, End::Answered(4, Answer::Done)),
            seen(Call::Get(0), 5, found(6, "a")),
        ];
        assert!(!is_explained(&history));
    }

    #[test]
    #[should_panic(expected = "was refused, and was done")]
    fn what_was_refused_is_seen_by_nobody() {
        let history = [seen(set("a"), 1, End::Refused), seen(Call::Get(0), 2, found(3, "a"))];
        is_explained(&history);
    }

    fn count(called: u64, ended: u64, number: i64) -> Seen {
        seen(Call::Incr(0), called, End::Answered(ended, Answer::Number(number)))
    }

    fn read(called: u64, number: i64) -> Seen {
        seen(Call::Get(0), called, found(called + 1, &number.to_string()))
    }

    #[test]
    fn a_counter_may_have_counted_what_was_not_answered() {
        let unknown = seen(Call::Incr(0), 3, End::Unknown);
        check_counts(0, &[count(1, 2, 1), unknown, count(4, 5, 3), read(6, 3)]);
    }

    #[test]
    #[should_panic(expected = "two increments")]
    fn no_two_increments_are_answered_the_same() {
        check_counts(0, &[count(1, 4, 1), count(2, 3, 1), read(5, 2)]);
    }

    #[test]
    #[should_panic(expected = "1 after 2 was answered")]
    fn a_counter_does_not_go_back() {
        check_counts(0, &[count(1, 2, 1), count(3, 4, 2), read(5, 1)]);
    }

    #[test]
    #[should_panic(expected = "3, and 1 were done")]
    fn a_counter_counts_nothing_twice() {
        check_counts(0, &[count(1, 2, 1), read(5, 3)]);
    }
}
