//! Which changes of keys are told on channels: Redis's setting `notify-keyspace-events`.

/// The classes of events, as a set. Those of other types are known, and never come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(u16);

/// The class of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventClass {
    /// Of any type: del, expire, rename.
    Generic,
    /// Of strings.
    String,
    /// A key has expired.
    Expired,
    /// A key is new.
    New,
    /// A read has not found a key.
    Miss,
}

/// The letter of each class, in Redis's order. `A` stands for the first [`ALL`] of them.
const LETTERS: &[u8] = b"g$lshzxetdnKEm";
const ALL: usize = 10;

impl Events {
    /// The classes of these letters; `None` if one is of no class.
    pub fn of(letters: &[u8]) -> Option<Events> {
        let mut bits = 0;
        for letter in letters {
            bits |= match LETTERS.iter().position(|known| known == letter) {
                Some(place) => 1 << place,
                None if *letter == b'A' => (1 << ALL) - 1,
                None => return None,
            };
        }
        Some(Events(bits))
    }

    /// Their letters, as Redis shows them.
    pub fn letters(self) -> String {
        let all = (1 << ALL) - 1;
        let has_all = self.0 & all == all;
        let rest = LETTERS.iter().enumerate().skip(if has_all { ALL } else { 0 });
        let rest = rest.filter(|(place, _)| self.0 & 1 << place != 0);
        let start = has_all.then_some('A');
        start.into_iter().chain(rest.map(|(_, letter)| char::from(*letter))).collect()
    }

    /// As a number, to be kept in an atomic.
    pub fn bits(self) -> u16 {
        self.0
    }

    /// Those of [`Events::bits`].
    pub fn from_bits(bits: u16) -> Events {
        Events(bits)
    }

    /// Whether anything is told at all.
    pub fn is_on(self) -> bool {
        // Nearly always off, and asked for every change.
        self.0 != 0 && (self.on_key() || self.on_event())
    }

    /// Whether it is told on the channel of the key.
    pub fn on_key(self) -> bool {
        self.has(b'K')
    }

    /// Whether it is told on the channel of the event.
    pub fn on_event(self) -> bool {
        self.has(b'E')
    }

    /// Whether events of this class are told on any channel.
    pub fn tells(self, class: EventClass) -> bool {
        self.is_on() && self.wants(class)
    }

    /// Whether events of this class are wanted.
    pub fn wants(self, class: EventClass) -> bool {
        self.has(match class {
            EventClass::Generic => b'g',
            EventClass::String => b'$',
            EventClass::Expired => b'x',
            EventClass::New => b'n',
            EventClass::Miss => b'm',
        })
    }

    fn has(self, letter: u8) -> bool {
        LETTERS.iter().position(|known| *known == letter).is_some_and(|at| self.0 & 1 << at != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_and_shown_as_redis_does() {
        for (given, shown) in
            [("", ""), ("KEA", "AKE"), ("g$lshzxetdKE", "AKE"), ("Ex", "xE"), ("mn$K", "$nKm")]
        {
            let events = Events::of(given.as_bytes()).expect("letters");
            assert_eq!(events.letters(), shown);
            assert_eq!(Events::from_bits(events.bits()), events);
        }
        assert_eq!(Events::of(b"Kq"), None);
        assert!(!Events::of(b"A").expect("letters").is_on(), "on no channel");
    }
}
