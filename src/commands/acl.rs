//! ACL: there is one user, who may do everything.

use super::rows::{CATEGORIES, find, is_in};
use super::words::*;
use crate::command::{Client, RefusedLogin, Reply, Text, USER, Words, is};
use crate::entry::now_millis;

type Said = Result<Reply<'static>, Text>;

/// The most bits of a password, as in Redis.
const PASSWORD_BITS: i64 = 4096;

/// How many entries ACL LOG lists unless it is told.
const LISTED: i64 = 10;

pub fn whoami(_: &Words<'_>) -> Said {
    Ok(Reply::bulk(USER.as_bytes()))
}

pub fn users(_: &Words<'_>) -> Said {
    Ok(Reply::Array(vec![Reply::bulk(USER.as_bytes())]))
}

/// A password is not shown, not even its hash.
pub fn list(client: &mut dyn Client, _: &Words<'_>) -> Said {
    let nopass = if client.needs_password() { "" } else { "nopass " };
    let line = format!("user {USER} on {nopass}sanitize-payload ~* &* +@all");
    Ok(Reply::Array(vec![Reply::bulk(line.as_bytes())]))
}

pub fn getuser(client: &mut dyn Client, words: &Words<'_>) -> Said {
    if words[2] != USER.as_bytes() {
        return Ok(Reply::Null);
    }
    let text = |text: &str| Reply::bulk(text.as_bytes());
    let mut flags = vec![text("on"), text("sanitize-payload")];
    if !client.needs_password() {
        flags.insert(1, text("nopass"));
    }
    Ok(Reply::Map(vec![
        text("flags"),
        Reply::Array(flags),
        text("passwords"),
        Reply::Array(Vec::new()),
        text("commands"),
        text("+@all"),
        text("keys"),
        text("~*"),
        text("channels"),
        text("&*"),
        text("selectors"),
        Reply::Array(Vec::new()),
    ]))
}

/// All categories, or the commands and subcommands of one.
pub fn cat(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let text = |text: &str| Reply::bulk(text.as_bytes());
    match &words[2..] {
        [] => Ok(Reply::Array(CATEGORIES.iter().map(|name| text(&name[1..])).collect())),
        [wanted] => {
            let category = CATEGORIES.iter().find(|name| is(wanted, &name[1..]));
            let unknown = || Text::from(format!("ERR Unknown category '{}'", shown(wanted)));
            let category = category.ok_or_else(unknown)?;
            let found = client.commands().iter().filter(|spec| is_in(spec, category));
            Ok(Reply::Array(found.map(|spec| text(spec.name)).collect()))
        }
        _ => Err(wrong_number("acl|cat")),
    }
}

/// Two hexadecimal digits for each byte; Redis rounds up to a whole digit as well.
pub fn genpass(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let bits = match &words[2..] {
        [] => 256,
        [bits] => number(bits)?,
        _ => return Err(wrong_number("acl|genpass")),
    };
    if !(1..=PASSWORD_BITS).contains(&bits) {
        return Err(format!(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up \
             to {PASSWORD_BITS}"
        )
        .into());
    }
    let digits = (bits as usize).div_ceil(4);
    let mut random = vec![0; digits.div_ceil(2)];
    client.fill_with_random(&mut random)?;
    let mut password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    password.truncate(digits);
    Ok(Reply::bulk(password.as_bytes()))
}

pub fn dryrun(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let (user, request) = (words[2], &words[3..]);
    if user != USER.as_bytes() {
        return Err(format!("ERR User '{}' not found", shown(user)).into());
    }
    let unknown = |_| Text::from(format!("ERR Command '{}' not found", shown(request[0])));
    let spec = find(client.commands(), request).map_err(unknown)?;
    match spec.takes(request.len()) {
        true => Ok(Reply::Ok),
        false => Err(wrong_number(spec.name)),
    }
}

pub fn log(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let most = match &words[2..] {
        [] => LISTED,
        [word] if is(word, "reset") => {
            client.forget_refused_logins();
            return Ok(Reply::Ok);
        }
        [count] => number(count)?.max(0),
        _ => return Err(wrong_number("acl|log")),
    };
    let entries = client.refused_logins(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(Reply::Array(entries.into_iter().map(entry).collect()))
}

fn entry(login: RefusedLogin) -> Reply<'static> {
    let RefusedLogin { id, count, command, user, client, first, last } = login;
    let text = |text: &str| Reply::bulk(text.as_bytes());
    let age = (now_millis() - last).max(0) as f64 / 1000.0;
    Reply::Map(vec![
        text("count"),
        Reply::Integer(count as i64),
        text("reason"),
        text("auth"),
        text("context"),
        text("toplevel"),
        text("object"),
        text(command),
        text("username"),
        Reply::Bulk(user.into()),
        text("age-seconds"),
        Reply::Double(age),
        text("client-info"),
        text(client.trim_end()),
        text("entry-id"),
        Reply::Integer(id as i64),
        text("timestamp-created"),
        Reply::Integer(first),
        text("timestamp-last-updated"),
        Reply::Integer(last),
    ])
}
