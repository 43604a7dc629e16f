//! ACL: the users, and the requests refused to them. Users are changed in their file, see [`crate::command::Users`].

use super::rights;
use super::rows::{CATEGORIES, is_in};
use super::words::*;
use crate::command::{Access, Client, Refused, RefusedFor, Reply, Spec, Text, User, Words, is};
use crate::entry::now_millis;

type Said = Result<Reply<'static>, Text>;

/// The most bits of a password, as in Redis.
const PASSWORD_BITS: i64 = 4096;

/// How many entries ACL LOG lists unless it is told.
const LISTED: i64 = 10;

pub fn whoami(client: &mut dyn Client, _: &Words<'_>) -> Said {
    Ok(Reply::bulk(client.user().name.as_bytes()))
}

pub fn users(client: &mut dyn Client, _: &Words<'_>) -> Said {
    let users = client.users();
    Ok(Reply::Array(users.iter().map(|user| Reply::bulk(user.name.as_bytes())).collect()))
}

/// A password is not shown, not even its hash.
pub fn list(client: &mut dyn Client, _: &Words<'_>) -> Said {
    let line = |user: &User| {
        let (flags, keys, rules) = (flags(user).join(" "), user.rights.keys(), user.rights.rules());
        Reply::bulk(format!("user {} {flags} {keys} &* {rules}", user.name).as_bytes())
    };
    Ok(Reply::Array(client.users().iter().map(line).collect()))
}

pub fn getuser(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let Some(user) = find_user(client, words[2]) else { return Ok(Reply::Null) };
    let text = |text: &str| Reply::bulk(text.as_bytes());
    Ok(Reply::Map(vec![
        text("flags"),
        Reply::Array(flags(&user).into_iter().map(text).collect()),
        text("passwords"),
        Reply::Array(Vec::new()),
        text("commands"),
        text(user.rights.rules()),
        text("keys"),
        text(user.rights.keys()),
        text("channels"),
        text("&*"),
        text("selectors"),
        Reply::Array(Vec::new()),
    ]))
}

fn flags(user: &User) -> Vec<&'static str> {
    match user.access {
        Access::Password => vec!["on", "sanitize-payload"],
        Access::Open => vec!["on", "nopass", "sanitize-payload"],
        Access::Off => vec!["off", "sanitize-payload"],
    }
}

fn find_user(client: &dyn Client, name: &[u8]) -> Option<User> {
    client.users().into_iter().find(|user| user.name.as_bytes() == name)
}

/// As at SIGHUP, but the file of users alone.
pub fn load(client: &mut dyn Client, _: &Words<'_>) -> Said {
    client.reload_users()?;
    Ok(Reply::Ok)
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
    let (name, request) = (words[2], &words[3..]);
    let user = find_user(client, name);
    let user = user.ok_or_else(|| Text::from(format!("ERR User '{}' not found", shown(name))))?;
    let unknown = |_| Text::from(format!("ERR Command '{}' not found", shown(request[0])));
    let spec = client.find_command(request).map_err(unknown)?;
    match spec.takes(request.len()) {
        false => Err(wrong_number(spec.name)),
        true if rights::allow(user.rights.rules(), spec) => Ok(Reply::Ok),
        true => Ok(Reply::bulk(no_permission(&user.name, spec).as_bytes())),
    }
}

/// Redis's text for a command that a user may not carry out.
pub fn no_permission(user: &str, spec: &Spec) -> String {
    format!("User {user} has no permissions to run the '{}' command", spec.name)
}

pub fn log(client: &mut dyn Client, words: &Words<'_>) -> Said {
    let most = match &words[2..] {
        [] => LISTED,
        [word] if is(word, "reset") => {
            client.forget_refusals();
            return Ok(Reply::Ok);
        }
        [count] => number(count)?.max(0),
        _ => return Err(wrong_number("acl|log")),
    };
    let entries = client.refusals(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(Reply::Array(entries.into_iter().map(entry).collect()))
}

fn entry(refused: Refused) -> Reply<'static> {
    let Refused { id, count, reason, context, command, user, client, first, last } = refused;
    let text = |text: &str| Reply::bulk(text.as_bytes());
    let age = (now_millis() - last).max(0) as f64 / 1000.0;
    Reply::Map(vec![
        text("count"),
        Reply::Integer(count as i64),
        text("reason"),
        text(match reason {
            RefusedFor::Login => "auth",
            RefusedFor::Command => "command",
        }),
        text("context"),
        text(context),
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
