//! Says whether what concurrent clients saw of one object can be explained by each operation having
//! taken effect at one moment between its call and its answer (Herlihy and Wing 1990).
//!
//! It walks through calls and ends in the order of time and keeps every possible [`Configuration`]. An operation takes effect as late as possible: when its own end needs it, or the end of one
//! that comes after it (Lowe 2017, "just-in-time linearization"). Then every order of the pending
//! operations that their answers allow is tried, and the same configuration never twice.
//!
//! An operation without an answer may take effect at any time until its end, or never.

use std::collections::HashSet;
use std::hash::Hash;

/// Operations that are pending at the same time, one bit each.
const MOST_PENDING: usize = u64::BITS as usize;

/// With more configurations than this at one time the check gives up, and the test fails: its history
/// has to be made easier.
const MOST_CONFIGURATIONS: usize = 1_000_000;

/// What operations are carried out on, one after the other.
pub trait Object: Clone + Eq + Hash {
    type Call;
    type Answer: PartialEq;

    fn carry_out(&mut self, call: &Self::Call) -> Self::Answer;
}

/// What a client knows of an operation.
///
/// - Instants come from one clock that never shows the same twice; only operations without an
///   answer may end together.
#[derive(Clone, Debug)]
pub struct Operation<C, A> {
    pub call: C,
    pub called: u64,
    /// When the answer came; without one, the instant after which it can no longer take effect.
    pub ended: u64,
    pub answer: Option<A>,
    /// The operation that its connection has sent before it, earlier in the history: it takes
    /// effect first, or neither does.
    pub after: Option<usize>,
}

/// One way in which everything so far may have come about.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Configuration<S> {
    state: S,
    /// The pending operations that have taken effect already, by their places.
    done: u64,
}

/// Checks a history that began in `state`: how many configurations there were, or which operation
/// has an answer that nothing explains.
pub fn check<S: Object>(
    state: S,
    history: &[Operation<S::Call, S::Answer>],
) -> Result<usize, usize> {
    let mut walk = Walk {
        history,
        pending: [None; MOST_PENDING],
        places: vec![None; history.len()],
        configurations: HashSet::from([Configuration { state, done: 0 }]),
    };
    let mut seen = 0;
    for event in events(history) {
        match event {
            Event::Call(index) => walk.call(index),
            Event::End(index) => walk.end(index),
        }
        seen += walk.configurations.len();
        if let (Event::End(index), true) = (event, walk.configurations.is_empty()) {
            return Err(index);
        }
    }
    Ok(seen)
}

#[derive(Clone, Copy)]
enum Event {
    Call(usize),
    End(usize),
}

/// Of operations that end together the last comes first, because it needs those before it.
fn events<C, A>(history: &[Operation<C, A>]) -> Vec<Event> {
    let mut events = Vec::with_capacity(2 * history.len());
    for (index, operation) in history.iter().enumerate() {
        assert!(operation.called < operation.ended, "called before it ends");
        events.push((operation.called, 0, Event::Call(index)));
        events.push((operation.ended, history.len() - index, Event::End(index)));
    }
    events.sort_unstable_by_key(|&(instant, order, _)| (instant, order));
    events.into_iter().map(|(_, _, event)| event).collect()
}

struct Walk<'a, S: Object> {
    history: &'a [Operation<S::Call, S::Answer>],
    pending: [Option<usize>; MOST_PENDING],
    /// Where in `pending` an operation is.
    places: Vec<Option<usize>>,
    configurations: HashSet<Configuration<S>>,
}

impl<S: Object> Walk<'_, S> {
    fn call(&mut self, index: usize) {
        let place = self.pending.iter().position(Option::is_none).expect("few are pending");
        self.pending[place] = Some(index);
        self.places[index] = Some(place);
    }

    /// An operation ends: from here on it has taken effect, or never does.
    fn end(&mut self, index: usize) {
        let place = self.places[index].expect("it was called");
        let bit = 1 << place;
        let may_be_void = self.history[index].answer.is_none();
        let mut tried: HashSet<_> = std::mem::take(&mut self.configurations);
        let mut to_try: Vec<_> = tried.iter().cloned().collect();
        while let Some(configuration) = to_try.pop() {
            let is_done = configuration.done & bit != 0;
            if !is_done {
                for next in self.successors(&configuration) {
                    if tried.insert(next.clone()) {
                        to_try.push(next);
                    }
                }
                assert!(tried.len() < MOST_CONFIGURATIONS, "too hard to decide");
            }
            if is_done || may_be_void {
                let done = configuration.done & !bit;
                self.configurations.insert(Configuration { done, ..configuration });
            }
        }
        self.pending[place] = None;
        self.places[index] = None;
    }

    /// The configurations after one more of the pending operations.
    fn successors(&self, from: &Configuration<S>) -> Vec<Configuration<S>> {
        let is_open = |place: usize| from.done & (1 << place) == 0;
        let mut successors = Vec::new();
        for (place, index) in self.pending.iter().enumerate() {
            let Some(index) = index.filter(|_| is_open(place)) else {
                continue;
            };
            let operation = &self.history[index];
            let before = operation.after.and_then(|before| self.places[before]);
            if before.is_some_and(is_open) {
                continue;
            }
            let mut next = from.clone();
            next.done |= 1 << place;
            let answer = next.state.carry_out(&operation.call);
            if operation.answer.as_ref().is_none_or(|expected| *expected == answer) {
                successors.push(next);
            }
        }
        successors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::{Rng, seed};

    /// A register that holds a number, at first 0.
    #[derive(Clone, Default, PartialEq, Eq, Hash)]
    struct Register(u8);

    #[derive(Clone, Copy, Debug)]
    enum Call {
        Read,
        Write(u8),
        Add(u8),
    }
    use Call::{Add, Read, Write};

    impl Object for Register {
        type Call = Call;
        type Answer = u8;

        /// Answers with what is there afterwards.
        fn carry_out(&mut self, call: &Call) -> u8 {
            match call {
                Read => {}
                Write(value) => self.0 = *value,
                Add(more) => self.0 += more,
            }
            self.0
        }
    }

    type Entry = Operation<Call, u8>;

    fn answered(call: Call, called: u64, ended: u64, answer: u8) -> Entry {
        Operation { call, called, ended, answer: Some(answer), after: None }
    }

    fn write(value: u8, called: u64, ended: u64) -> Entry {
        answered(Write(value), called, ended, value)
    }

    fn read(value: u8, called: u64, ended: u64) -> Entry {
        answered(Read, called, ended, value)
    }

    fn unanswered(call: Call, called: u64, ended: u64) -> Entry {
        Operation { call, called, ended, answer: None, after: None }
    }

    fn behind(before: usize, operation: Entry) -> Entry {
        Operation { after: Some(before), ..operation }
    }

    fn is_fine(history: &[Entry]) -> bool {
        check(Register::default(), history).is_ok()
    }

    #[test]
    fn histories_that_one_order_explains_are_accepted() {
        let concurrent_writes = [write(1, 1, 6), write(2, 2, 5), read(2, 7, 8), read(2, 9, 10)];
        let seen_before_its_answer = [write(1, 1, 9), read(0, 2, 3), read(1, 4, 5), read(1, 6, 7)];
        let never_happened = [unanswered(Write(1), 1, 10), read(0, 2, 3), read(0, 12, 13)];
        let happened_late = [unanswered(Write(1), 1, 10), read(0, 2, 3), read(1, 12, 13)];
        let happened_in_between =
            [unanswered(Write(1), 1, 10), write(2, 2, 3), read(1, 4, 5), read(1, 11, 12)];
        let both_happened = [
            unanswered(Add(1), 1, 10),
            behind(0, unanswered(Add(2), 2, 10)),
            read(1, 3, 4),
            read(3, 11, 12),
        ];
        assert!(is_fine(&[]));
        assert!(is_fine(&concurrent_writes));
        assert!(is_fine(&seen_before_its_answer));
        assert!(is_fine(&never_happened));
        assert!(is_fine(&happened_late));
        assert!(is_fine(&happened_in_between));
        assert!(is_fine(&both_happened));
    }

    #[test]
    fn histories_that_no_order_explains_are_rejected_at_the_answer_that_shows_it() {
        let stale_read = [write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)];
        let value_of_nobody = [write(1, 1, 2), read(7, 3, 4)];
        let seen_and_unseen = [write(1, 1, 9), read(1, 2, 3), read(0, 4, 5)];
        let two_orders =
            [write(1, 1, 9), write(2, 2, 10), read(1, 3, 4), read(2, 5, 6), read(1, 7, 8)];
        let lost_update = [answered(Add(1), 1, 4, 1), answered(Add(1), 2, 5, 1)];
        let durable_write_lost = [write(1, 1, 2), read(0, 4, 5)];
        let unhappened_by_a_kill = [unanswered(Write(1), 1, 10), read(1, 2, 3), read(0, 11, 12)];
        let happened_after_the_kill = [unanswered(Write(1), 1, 5), read(0, 6, 7), read(1, 8, 9)];
        let own_write_missed = [write(1, 1, 5), behind(0, read(0, 2, 6))];
        let second_without_first =
            [unanswered(Add(1), 1, 10), behind(0, unanswered(Add(2), 2, 10)), read(2, 11, 12)];
        assert_eq!(check(Register::default(), &stale_read), Err(2));
        assert_eq!(check(Register::default(), &value_of_nobody), Err(1));
        assert_eq!(check(Register::default(), &seen_and_unseen), Err(2));
        assert_eq!(check(Register::default(), &two_orders), Err(4));
        assert_eq!(check(Register::default(), &lost_update), Err(1));
        assert_eq!(check(Register::default(), &durable_write_lost), Err(1));
        assert_eq!(check(Register::default(), &unhappened_by_a_kill), Err(2));
        assert_eq!(check(Register::default(), &happened_after_the_kill), Err(2));
        assert!(!is_fine(&own_write_missed));
        assert_eq!(check(Register::default(), &second_without_first), Err(2));
    }

    #[test]
    fn random_histories_are_judged_as_trying_all_orders_judges_them() {
        let mut rng = Rng::new(seed());
        let mut accepted = 0;
        for _ in 0..20_000 {
            let history = random_history(&mut rng);
            let explained = explains(&history, Register::default(), &mut vec![]);
            assert_eq!(is_fine(&history), explained, "{history:#?}");
            accepted += usize::from(explained);
        }
        assert!((2_000..18_000).contains(&accepted), "{accepted} of 20000 are no challenge");
    }

    /// Up to six operations of three connections, some without an answer.
    fn random_history(rng: &mut Rng) -> Vec<Entry> {
        let count = 1 + rng.below(6);
        let mut instants: Vec<u64> = (1..=2 * count as u64).collect();
        for last in (1..instants.len()).rev() {
            instants.swap(last, rng.below(last + 1));
        }
        let mut ends: Vec<_> =
            instants.chunks(2).map(|pair| (pair[0].min(pair[1]), pair[0].max(pair[1]))).collect();
        ends.sort_unstable();
        let mut last_of = [None; 3];
        let operation = |(index, (called, ended)): (usize, (u64, u64))| {
            let call = match rng.below(3) {
                0 => Read,
                1 => Write(rng.below(3) as u8),
                _ => Add(1),
            };
            let answer = match call {
                Write(value) => value,
                _ => rng.below(3) as u8,
            };
            let answer = (rng.below(4) > 0).then_some(answer);
            let last = &mut last_of[rng.below(3)];
            let after = if answer.is_some() { last.replace(index) } else { *last };
            Operation { call, called, ended, answer, after }
        };
        ends.into_iter().enumerate().map(operation).collect()
    }

    /// The definition itself: some order of all answered operations, and some of the others.
    fn explains(history: &[Entry], state: Register, order: &mut Vec<usize>) -> bool {
        let open = |index: &usize| !order.contains(index);
        let all_answered = |index: usize| history[index].answer.is_none();
        if (0..history.len()).filter(open).all(all_answered) {
            return true;
        }
        let candidates: Vec<usize> = (0..history.len()).filter(open).collect();
        candidates.iter().any(|&next| {
            let called = history[next].called;
            let too_late =
                |&index: &usize| history[index].answer.is_some() && history[index].ended < called;
            let overtaken = order.iter().any(|&index| history[next].ended < history[index].called);
            let blocked = history[next].after.is_some_and(|before| !order.contains(&before));
            if overtaken || blocked || candidates.iter().any(too_late) {
                return false;
            }
            let mut state = state.clone();
            let answer = state.carry_out(&history[next].call);
            if history[next].answer.is_some_and(|expected| expected != answer) {
                return false;
            }
            order.push(next);
            let explained = explains(history, state, order);
            order.pop();
            explained
        })
    }
}
