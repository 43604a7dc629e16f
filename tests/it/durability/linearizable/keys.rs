//! A few keys as one object: what a client may ask of them, how that is spelled, and what a server
//! that does one thing after the other answers.

use std::sync::Arc;

use super::checker::Object;
use crate::common::wire::{Value, request};

/// A value. Most are shared by many configurations of the checker.
pub type Text = Arc<str>;

/// A request for the object's keys, which are named by their place in it.
#[derive(Clone, Debug)]
pub enum Call {
    Get(usize),
    Set(usize, Text),
    /// SET NX
    SetNew(usize, Text),
    GetSet(usize, Text),
    /// SET IFEQ GET: the second if the first is there. It answers what was.
    #[cfg_attr(not(feature = "replicated"), expect(dead_code, reason = "only the trial asks it"))]
    Swap(usize, Text, Text),
    Append(usize, Text),
    Incr(usize),
    Del(usize),
    /// MGET
    GetAll,
    /// MSET
    SetAll(Text),
    /// A script that sets all keys if the number in the first one ends in one of these digits, or there is none. It
    /// answers what the first one was.
    SwapAll(&'static str, Text),
}

const SWAP_ALL: &str = "local old = redis.call('GET', KEYS[1]) \
                        if not old or string.find(old, '^%d*[' .. ARGV[1] .. ']:') then \
                        for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[2]) end end \
                        return old";

/// Numbers of keys, as they are spelled.
const COUNTS: [&str; 3] = ["0", "1", "2"];

/// What is answered, however it is spelled.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Done,
    Refused,
    Number(i64),
    Value(Option<Text>),
    Values(Vec<Option<Text>>),
}

/// The values of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keys(pub Vec<Option<Text>>);

impl Object for Keys {
    type Call = Call;
    type Answer = Answer;

    fn carry_out(&mut self, call: &Call) -> Answer {
        let Keys(values) = self;
        match call {
            Call::Get(key) => Answer::Value(values[*key].clone()),
            Call::Set(key, value) => {
                values[*key] = Some(value.clone());
                Answer::Done
            }
            Call::SetNew(key, _) if values[*key].is_some() => Answer::Value(None),
            Call::SetNew(key, value) => {
                values[*key] = Some(value.clone());
                Answer::Done
            }
            Call::GetSet(key, value) => Answer::Value(values[*key].replace(value.clone())),
            Call::Swap(key, expected, value) => {
                let old = values[*key].clone();
                if old.as_ref() == Some(expected) {
                    values[*key] = Some(value.clone());
                }
                Answer::Value(old)
            }
            Call::Append(key, more) => {
                let value = [values[*key].as_deref().unwrap_or_default(), more].concat();
                let length = value.len() as i64;
                values[*key] = Some(value.into());
                Answer::Number(length)
            }
            Call::Incr(key) => {
                let Ok(number) = values[*key].as_deref().unwrap_or("0").parse::<i64>() else {
                    return Answer::Refused;
                };
                let sum = number + 1;
                values[*key] = Some(sum.to_string().into());
                Answer::Number(sum)
            }
            Call::Del(key) => {
                values[*key] = None;
                Answer::Done
            }
            Call::GetAll => Answer::Values(values.clone()),
            Call::SetAll(value) => {
                values.fill(Some(value.clone()));
                Answer::Done
            }
            Call::SwapAll(digits, value) => {
                let old = values[0].clone();
                if old.as_deref().is_none_or(|old| {
                    old.split(':')
                        .next()
                        .is_some_and(|number| number.ends_with(|c| digits.contains(c)))
                }) {
                    values.fill(Some(value.clone()));
                }
                Answer::Value(old)
            }
        }
    }
}

impl Call {
    /// The request for keys with these names, as RESP or as a line of text.
    pub fn spell(&self, names: &[&str], as_text: bool) -> Vec<u8> {
        let name = |key: &usize| names[*key];
        let words: Vec<&str> = match self {
            Call::Get(key) => vec!["GET", name(key)],
            Call::Set(key, value) => vec!["SET", name(key), value],
            // In text, a SET has two arguments.
            Call::SetNew(key, value) if as_text => vec!["SETNX", name(key), value],
            Call::SetNew(key, value) => vec!["SET", name(key), value, "NX"],
            Call::GetSet(key, value) => vec!["GETSET", name(key), value],
            Call::Swap(key, expected, value) => {
                vec!["SET", name(key), value, "IFEQ", expected, "GET"]
            }
            Call::Append(key, more) => vec!["APPEND", name(key), more],
            Call::Incr(key) => vec!["INCR", name(key)],
            Call::Del(key) => vec!["DEL", name(key)],
            Call::GetAll => [&["MGET"], names].concat(),
            Call::SetAll(value) => {
                let pairs = names.iter().flat_map(|name| [*name, value]);
                ["MSET"].into_iter().chain(pairs).collect()
            }
            Call::SwapAll(digits, value) => {
                let head = ["EVAL", SWAP_ALL, COUNTS[names.len()]];
                head.into_iter().chain(names.iter().copied()).chain([*digits, value]).collect()
            }
        };
        match as_text {
            true => format!("{}\r\n", words.join(" ")).into_bytes(),
            false => request(words),
        }
    }

    /// The answer in a reply to this; `None` if it makes no sense.
    pub fn understand(&self, reply: Value) -> Option<Answer> {
        let value = |value: Value| match value {
            Value::Bulk(bytes) => Some(Some(String::from_utf8(bytes).ok()?.into())),
            Value::NullBulk => Some(None),
            _ => None,
        };
        match (self, reply) {
            // Text says what was found in a line.
            (Call::Get(_), Value::Simple(line)) => {
                let found = line.strip_prefix("OK ")?;
                Some(Answer::Value(Some(found.into())))
            }
            (Call::Get(_), Value::Error(line)) => {
                line.starts_with("GET could not find").then_some(Answer::Value(None))
            }
            (Call::Incr(_), Value::Error(line)) => {
                line.contains("not an integer").then_some(Answer::Refused)
            }
            (Call::SetNew(..), Value::Integer(1)) => Some(Answer::Done),
            (Call::SetNew(..), Value::Integer(0)) => Some(Answer::Value(None)),
            // Text does not say how many there were.
            (Call::Del(_), Value::Integer(0 | 1)) => Some(Answer::Done),
            (_, Value::Simple(word)) if word == "OK" => Some(Answer::Done),
            (_, Value::Integer(number)) => Some(Answer::Number(number)),
            (_, Value::Array(values)) => {
                values.into_iter().map(value).collect::<Option<_>>().map(Answer::Values)
            }
            (_, other) => value(other).map(Answer::Value),
        }
    }
}
