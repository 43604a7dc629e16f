//! How often Lua asks whether a script may go on.
//!
//! Lua counts instructions. Nearly all take less than a microsecond, but a join or a comparison of strings of megabytes
//! takes as long as a million others, and so does one call of a function of Lua's own. So the count is a compromise as
//! long as the script is quick, and a small one once it was slow.

use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// Instructions between two looks. A look takes as long as some sixty of the shortest: a thousand would save a tenth of
/// the time of a script that only counts, and a script that joins strings of 50 MB could not be ended for four seconds.
const WIDE: u32 = 200;

/// The same for a script that has been slow: two or three long steps.
const NARROW: u32 = 10;

/// Between two looks a script was slow that took this long: ten times what [`WIDE`] ordinary instructions take.
const SLOW: Duration = Duration::from_millis(1);

/// After this many looks without a slow one a script is quick again.
const QUICK_LOOKS: u32 = 1000;

/// How often Lua asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    #[default]
    Wide,
    Narrow,
}

impl Pace {
    /// Instructions between two looks.
    pub fn instructions(self) -> u32 {
        match self {
            Pace::Wide => WIDE,
            Pace::Narrow => NARROW,
        }
    }
}

/// The pace of the running script.
#[derive(Debug, Default)]
pub struct State(Mutex<Looks>);

#[derive(Debug, Default)]
struct Looks {
    pace: Pace,
    /// When Lua asked last, or the script began.
    last: Option<Instant>,
    /// How many were quick, one after the other.
    quick: u32,
}

impl State {
    /// A script begins. Whether the one before has left another pace than a script begins with.
    pub fn begin(&self) -> bool {
        let mut looks = self.0.lock();
        looks.last = Some(Instant::now());
        std::mem::take(&mut looks.pace) != Pace::default()
    }

    /// Lua has asked: another pace, if it should change.
    pub fn look(&self) -> Option<Pace> {
        self.0.lock().look()
    }
}

impl Looks {
    fn look(&mut self) -> Option<Pace> {
        let now = Instant::now();
        let is_slow = self.last.replace(now).is_some_and(|last| now - last > SLOW);
        self.quick = if is_slow { 0 } else { self.quick.saturating_add(1) };
        let pace = match self.pace {
            Pace::Wide if is_slow => Pace::Narrow,
            Pace::Narrow if self.quick >= QUICK_LOOKS => Pace::Wide,
            Pace::Wide | Pace::Narrow => return None,
        };
        self.pace = pace;
        Some(pace)
    }
}
