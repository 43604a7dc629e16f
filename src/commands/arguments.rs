//! The arguments of a command, from the form that manuals have to the one that COMMAND DOCS has.
//!
//! | syntax | meaning |
//! |--------|---------|
//! | `value`, `count/integer` | an argument, and its type if that is not `string` |
//! | `NX` | a word that stands for itself |
//! | `EX seconds/integer` | an argument after such a word |
//! | `[…]` | may be left out |
//! | `<…>` | belongs together |
//! | `one` `\|` `other` | within either of these, one of several |
//! | `…...` | may be repeated; after a bracket together with the word before it |
//!
//! It reads nothing but rows of the program's own, so a mistake in one is a bug.

use crate::command::Reply;

/// Characters that are a symbol by themselves.
const MARKS: [char; 5] = ['[', ']', '<', '>', '|'];

/// Something may be repeated after this.
const DOTS: &str = "...";

/// What redis-cli calls a word that stands for itself, several arguments that belong together, and one of several.
const TOKEN: &str = "pure-token";
const BLOCK: &str = "block";
const ONE_OF: &str = "oneof";

/// An argument, or several of them.
#[derive(Debug)]
struct Argument {
    name: String,
    kind: &'static str,
    /// The word before it; the word itself if it stands for itself.
    token: Option<&'static str>,
    is_optional: bool,
    is_multiple: bool,
    /// If it is repeated, the token is as well.
    repeats_token: bool,
    /// The parts of a block, or the ways of one of several.
    parts: Vec<Argument>,
}

/// The arguments as COMMAND DOCS tells them.
pub fn told(syntax: &'static str) -> Reply<'static> {
    Reply::Array(read(syntax).into_iter().map(Argument::told).collect())
}

/// How many words the arguments have at least, and whether they may have more.
#[cfg(test)]
pub fn least_words(syntax: &'static str) -> (usize, bool) {
    let all = read(syntax);
    let is_open = |argument: &Argument| argument.is_optional || argument.has_repeats();
    (all.iter().map(Argument::least_words).sum(), all.iter().any(is_open))
}

fn read(syntax: &'static str) -> Vec<Argument> {
    let mut reader = Reader { rest: syntax };
    let all = reader.list();
    assert_eq!(reader.rest, "", "{syntax:?} is read to its end");
    all
}

struct Reader {
    rest: &'static str,
}

impl Reader {
    /// The next symbol, which stays.
    fn peek(&mut self) -> &'static str {
        self.rest = self.rest.trim_start();
        let end = match self.rest {
            rest if rest.starts_with(DOTS) => DOTS.len(),
            rest if rest.starts_with(MARKS) => 1,
            rest => {
                let ends = |place: &usize| {
                    rest[*place..].starts_with(DOTS)
                        || rest[*place..].starts_with(MARKS)
                        || rest[*place..].starts_with(' ')
                };
                (0..rest.len()).find(ends).unwrap_or(rest.len())
            }
        };
        &self.rest[..end]
    }

    fn next(&mut self) -> &'static str {
        let symbol = self.peek();
        self.rest = &self.rest[symbol.len()..];
        symbol
    }

    /// Takes the next symbol if it is this one.
    fn takes(&mut self, symbol: &str) -> bool {
        let is_next = self.peek() == symbol;
        if is_next {
            self.next();
        }
        is_next
    }

    /// Arguments, up to something that ends them.
    fn list(&mut self) -> Vec<Argument> {
        let mut all = Vec::new();
        while !matches!(self.peek(), "" | "]" | ">" | "|") {
            all.push(self.argument());
        }
        all
    }

    fn argument(&mut self) -> Argument {
        let is_group = matches!(self.peek(), "[" | "<");
        let mut argument = match self.next() {
            "[" => {
                let group = self.group("]");
                Argument { is_optional: true, ..group }
            }
            "<" => self.group(">"),
            token if !token.contains(|letter: char| letter.is_ascii_lowercase()) => {
                self.after_token(token)
            }
            word => {
                let (name, kind) = word.split_once('/').unwrap_or((word, "string"));
                Argument::new(name, kind)
            }
        };
        if self.takes(DOTS) {
            argument.is_multiple = true;
            argument.repeats_token = is_group && argument.token.is_some();
        }
        argument
    }

    /// A token stands for itself, or before a single argument that follows it.
    fn after_token(&mut self, token: &'static str) -> Argument {
        let follows = self.peek();
        let is_argument = follows.starts_with(|letter: char| letter.is_ascii_lowercase());
        let argument = match is_argument || follows == "<" {
            true => self.argument(),
            false => Argument::new(&token.to_ascii_lowercase(), TOKEN),
        };
        Argument { token: Some(token), ..argument }
    }

    /// The part between two marks: one argument, a block, or one of several of these.
    fn group(&mut self, end: &str) -> Argument {
        let mut ways = vec![self.list()];
        while self.takes("|") {
            ways.push(self.list());
        }
        assert!(self.takes(end), "{end} ends what was begun");
        let mut ways: Vec<Argument> =
            ways.into_iter().map(|parts| Argument::of(BLOCK, parts)).collect();
        match ways.len() {
            1 => ways.remove(0),
            _ => Argument::of(ONE_OF, ways),
        }
    }
}

impl Argument {
    fn new(name: &str, kind: &'static str) -> Argument {
        let name = name.to_owned();
        let (token, parts) = (None, Vec::new());
        let (is_optional, is_multiple, repeats_token) = (false, false, false);
        Argument { name, kind, token, is_optional, is_multiple, repeats_token, parts }
    }

    /// A group is named for what it begins with; a single argument is no group.
    fn of(kind: &'static str, mut parts: Vec<Argument>) -> Argument {
        match parts.len() {
            0 => unreachable!("every group has something in it"),
            1 => parts.remove(0),
            _ => {
                let name = parts[0].name.clone();
                Argument { parts, ..Argument::new(&name, kind) }
            }
        }
    }

    fn told(self) -> Reply<'static> {
        let text = |text: &'static str| Reply::Bulk(text.as_bytes().into());
        let name = || Reply::bulk(self.name.as_bytes());
        let mut fields = vec![text("name"), name(), text("type"), text(self.kind)];
        if self.parts.is_empty() {
            fields.extend([text("display_text"), name()]);
        }
        if let Some(token) = self.token {
            fields.extend([text("token"), text(token)]);
        }
        let flags = [
            (self.is_optional, "optional"),
            (self.is_multiple, "multiple"),
            (self.repeats_token, "multiple_token"),
        ];
        let flags: Vec<_> =
            flags.iter().filter(|(has, _)| *has).map(|(_, flag)| Reply::Simple(flag)).collect();
        if !flags.is_empty() {
            fields.extend([text("flags"), Reply::Set(flags)]);
        }
        if !self.parts.is_empty() {
            let parts = self.parts.into_iter().map(Argument::told).collect();
            fields.extend([text("arguments"), Reply::Array(parts)]);
        }
        Reply::Map(fields)
    }

    #[cfg(test)]
    fn least_words(&self) -> usize {
        let parts = self.parts.iter().map(Argument::least_words);
        let of_parts = match self.kind {
            TOKEN => 0,
            BLOCK => parts.sum(),
            ONE_OF => parts.min().unwrap_or(0),
            _ => 1,
        };
        if self.is_optional { 0 } else { of_parts + usize::from(self.token.is_some()) }
    }

    /// Whether it, or a part of it, may be repeated or left out.
    #[cfg(test)]
    fn has_repeats(&self) -> bool {
        self.is_multiple
            || self.parts.iter().any(|part| part.is_optional || part.has_repeats())
            || (self.kind == ONE_OF
                && self.parts.iter().any(|part| part.least_words() != self.least_words()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(syntax: &'static str) -> String {
        let show = |argument: &Argument| show(argument);
        read(syntax).iter().map(show).collect::<Vec<_>>().join(" ")
    }

    fn show(argument: &Argument) -> String {
        let Argument { name, kind, token, is_optional, is_multiple, repeats_token, parts } =
            argument;
        let token = token.map(|token| format!("{token}=")).unwrap_or_default();
        let parts: Vec<String> = parts.iter().map(show).collect();
        let what = if parts.is_empty() { name.clone() } else { parts.join(",") };
        let marks = [(*is_optional, "?"), (*is_multiple, "*"), (*repeats_token, "=")];
        let marks: String = marks.iter().filter(|(has, _)| *has).map(|(_, mark)| *mark).collect();
        format!("{kind}({token}{what}){marks}")
    }

    #[test]
    fn what_manuals_write_is_read_as_they_mean_it() {
        for (syntax, meant) in [
            ("", ""),
            ("key/key value", "key(key) string(value)"),
            ("key/key...", "key(key)*"),
            ("[arg...]", "string(arg)?*"),
            ("[GET]", "pure-token(GET=get)?"),
            ("[COUNT count/integer]", "integer(COUNT=count)?"),
            ("[NX | XX]", "oneof(pure-token(NX=nx),pure-token(XX=xx))?"),
            ("TYPE <A | B>", "oneof(TYPE=pure-token(A=a),pure-token(B=b))"),
            ("<key/key value>...", "block(key(key),string(value))*"),
            ("[start [end]]", "block(string(start),string(end)?)?"),
            ("<SET a b | GET>", "oneof(block(string(SET=a),string(b)),pure-token(GET=get))"),
            ("[PREFIX prefix]...", "string(PREFIX=prefix)?*="),
            ("[ID id...]", "string(ID=id)?*"),
        ] {
            assert_eq!(shown(syntax), meant, "{syntax}");
        }
    }
}
