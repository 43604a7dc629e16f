//! SLOWLOG and LATENCY: which commands took long.
//!
//! A command's time begins when its client's own thread or the committer begins to carry it out, and ends when that is
//! done. The wait for its turn and the sync do not count (INFO has the sync as `wal_commit_usec`), and commands about the
//! server itself are not timed. A transaction is one command.

use super::words::*;
use crate::command::{Calls, Client, Reply, Slow, Text, Words, is};

type Said = Result<Reply<'static>, Text>;

/// The only event: Redis has one for each part of itself that may take long.
const EVENT: &str = "command";

/// As many as SLOWLOG GET shows unless it is told: Redis's.
const SHOWN: usize = 10;

pub fn slowlog_get(client: &mut dyn Client, words: &Words<'_>) -> Said {
    const OUT_OF_RANGE: &str = "ERR count should be greater than or equal to -1";
    let most = match &words[2..] {
        [] => SHOWN,
        [count] => match number(count).map_err(|_| OUT_OF_RANGE)? {
            -1 => usize::MAX,
            count => usize::try_from(count).map_err(|_| OUT_OF_RANGE)?,
        },
        _ => return Err(wrong_number("slowlog|get")),
    };
    Ok(Reply::Array(client.slow_commands(most).into_iter().map(shown).collect()))
}

fn shown(slow: Slow) -> Reply<'static> {
    let bulk = |bytes: Vec<u8>| Reply::Bulk(bytes.into());
    Reply::Array(vec![
        Reply::Integer(slow.id as i64),
        Reply::Integer(slow.at),
        Reply::Integer(slow.micros),
        Reply::Array(slow.words.into_iter().map(bulk).collect()),
        bulk(slow.address.into_bytes()),
        bulk(slow.name.into_bytes()),
    ])
}

pub fn slowlog_len(client: &mut dyn Client, _: &Words<'_>) -> Said {
    Ok(Reply::Integer(client.slow_count() as i64))
}

pub fn slowlog_reset(client: &mut dyn Client, _: &Words<'_>) -> Said {
    client.forget_slow();
    Ok(Reply::Ok)
}

pub fn latency_latest(client: &mut dyn Client, _: &Words<'_>) -> Said {
    let (samples, longest) = client.latency_samples();
    let latest = samples.last().map(|(second, millis)| {
        Reply::Array(vec![
            Reply::Bulk(EVENT.as_bytes().into()),
            Reply::Integer(*second),
            Reply::Integer(*millis),
            Reply::Integer(longest),
        ])
    });
    Ok(Reply::Array(latest.into_iter().collect()))
}

pub fn latency_history(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let samples = if is(words[2], EVENT) { client.latency_samples().0 } else { Vec::new() };
    let pair =
        |(second, millis)| Reply::Array(vec![Reply::Integer(second), Reply::Integer(millis)]);
    Ok(Reply::Array(samples.into_iter().map(pair).collect()))
}

/// Answers how many events were forgotten.
pub fn latency_reset(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let is_meant = words[2..].is_empty() || words[2..].iter().any(|word| is(word, EVENT));
    let forgets = is_meant && !client.latency_samples().0.is_empty();
    if forgets {
        client.forget_latency();
    }
    Ok(Reply::Integer(forgets.into()))
}

pub fn latency_doctor(client: &mut dyn Client, _: &Words<'_>) -> Said {
    let settings = client.settings();
    let is_off =
        settings.iter().any(|(name, value)| *name == "latency-monitor-threshold" && value == "0");
    let (samples, longest) = client.latency_samples();
    let text = match samples.len() {
        0 if is_off => {
            "Nothing is monitored. CONFIG SET latency-monitor-threshold <milliseconds> begins with it.".to_owned()
        }
        0 => "No command took longer than latency-monitor-threshold.".to_owned(),
        count => format!(
            "Commands took longer than latency-monitor-threshold in {count} seconds of late, {longest} ms at most. \
             SLOWLOG GET shows which ones did; syncs are not among them, wal_commit_usec in INFO has those."
        ),
    };
    Ok(Reply::text(text))
}

/// Redis's form: of each command its calls, and how many of them took up to so many microseconds.
pub fn latency_histogram(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let asked = &words[2..];
    let is_asked = |name: &str| {
        let begins = |word: &&[u8]| {
            is(word, name) || name.split_once('|').is_some_and(|(container, _)| is(word, container))
        };
        asked.is_empty() || asked.iter().any(begins)
    };
    let text = |text: &str| Reply::bulk(text.as_bytes());
    let mut shown = Vec::new();
    for Calls { name, count, less_than } in client.latency_histograms() {
        if is_asked(name) {
            let numbers = less_than.into_iter().flat_map(|(micros, calls)| [micros, calls]);
            let numbers = numbers.map(|number| Reply::Integer(number as i64)).collect();
            let of_one = vec![
                text("calls"),
                Reply::Integer(count as i64),
                text("histogram_usec"),
                Reply::Map(numbers),
            ];
            shown.extend([text(name), Reply::Map(of_one)]);
        }
    }
    Ok(Reply::Map(shown))
}
