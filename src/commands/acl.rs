//! ACL: there is one user, who may do everything.

use super::rows::{CATEGORIES, is_in};
use super::words::*;
use crate::command::{Client, Reply, Text, USER, Words, is};

type Said = Result<Reply<'static>, Text>;

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
