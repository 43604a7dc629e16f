//! Databases: the numbers that clients name, and the spaces that hold their keys.
//!
//! A client selects a database by its number. Log and store name it by its [`Space`], which never becomes
//! another one, and the [`Order`] says which space each number stands for. SWAPDB changes nothing but the
//! order, and a record of that is absolute like any other: so replaying a log twice, or over a snapshot
//! that was written beside a SWAPDB, leaves every key where it belongs.

/// The most databases that there can be: as many tables without a key take up some megabytes, and the
/// applications that use more than Redis's 16 use some hundred.
pub const MOST_DATABASES: u16 = 1024;

/// The keys of one database, under a name for good; less than [`MOST_DATABASES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space(pub u16);

/// What database 0 is until it is swapped, and the only one that logs of earlier programs know.
pub const FIRST: Space = Space(0);

/// How a database is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// By its number, as clients do.
    Number(u16),
    /// By its space, whatever its number is.
    Space(Space),
}

/// Which space each number stands for.
///
/// - It lists the spaces of the first numbers, each of those once, and not one more than needed: from the
///   end of the list on every number stands for the space that is called the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order(Vec<u16>);

impl Order {
    /// The space of a number.
    pub fn space_of(&self, number: u16) -> Space {
        Space(self.0.get(usize::from(number)).copied().unwrap_or(number))
    }

    /// The number of a space.
    pub fn number_of(&self, space: Space) -> u16 {
        let place = self.0.iter().position(|&listed| listed == space.0);
        place.map_or(space.0, |place| place as u16)
    }

    /// The order after two numbers have exchanged their spaces.
    pub fn swapped(&self, one: u16, other: u16) -> Order {
        let listed = (self.0.len() as u16).max(one.max(other) + 1);
        let mut spaces: Vec<u16> = (0..listed).map(|number| self.space_of(number).0).collect();
        spaces.swap(one.into(), other.into());
        while spaces.last().is_some_and(|&last| usize::from(last) + 1 == spaces.len()) {
            spaces.pop();
        }
        Order(spaces)
    }

    /// The numbers that stand for other spaces in another order.
    pub fn differing(&self, other: &Order) -> Vec<u16> {
        let listed = self.0.len().max(other.0.len()) as u16;
        (0..listed).filter(|&number| self.space_of(number) != other.space_of(number)).collect()
    }

    /// The numbers to be swapped, one pair after the other, so that this order becomes another one.
    pub fn swaps_to(&self, other: &Order) -> Vec<(u16, u16)> {
        let (mut order, mut swaps) = (self.clone(), Vec::new());
        for number in self.differing(other) {
            let place = order.number_of(other.space_of(number));
            if place != number {
                order = order.swapped(number, place);
                swaps.push((number, place));
            }
        }
        swaps
    }

    /// Its list as a record has it: the numbers of the spaces with spaces between them.
    pub fn text(&self) -> String {
        self.0.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")
    }

    /// The order of a list; `None` if [`Order::text`] makes no such list.
    pub fn parse(text: &str) -> Option<Order> {
        let words = text.split(' ').filter(|_| !text.is_empty());
        let order = Order(words.map(|word| word.parse().ok()).collect::<Option<_>>()?);
        let mut sorted = order.0.clone();
        sorted.sort_unstable();
        let is_each_once = sorted.iter().copied().eq(0..sorted.len() as u16);
        let is_short = order.0.len() <= MOST_DATABASES.into();
        let is_needed = order.0.last().is_none_or(|&last| usize::from(last) + 1 != order.0.len());
        (is_each_once && is_short && is_needed && order.text() == text).then_some(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_what_its_swaps_make_of_it_and_its_text_is_read_back() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let (mut order, mut spaces) = (Order::default(), (0..20).collect::<Vec<u16>>());
        for _ in 0..500 {
            let [one, other] = [random(20) as u16, random(20) as u16];
            let before = order.clone();
            order = order.swapped(one, other);
            spaces.swap(one.into(), other.into());
            for number in 0..20 {
                assert_eq!(order.space_of(number).0, spaces[usize::from(number)]);
                assert_eq!(order.number_of(order.space_of(number)), number);
            }
            assert_eq!(Order::parse(&order.text()), Some(order.clone()));
            let back = order.swaps_to(&before).into_iter();
            assert_eq!(back.fold(order.clone(), |order, (a, b)| order.swapped(a, b)), before);
        }
        assert_eq!(order.swapped(3, 3), order);
        assert_eq!(Order::default().swapped(1, 3).swapped(3, 1), Order::default());
        assert_eq!(Order::default().swapped(0, 1).text(), "1 0");
    }

    #[test]
    fn a_list_that_is_no_order_is_refused() {
        let long = (0..=MOST_DATABASES).rev().map(|space| space.to_string()).collect::<Vec<_>>();
        for text in ["0", "1", "1 1", "1 0 2", "0 2", "01 0", " 1 0", "1 0 ", "1  0", "x", "-1 0"] {
            assert_eq!(Order::parse(text), None, "{text:?}");
        }
        assert_eq!(Order::parse(&long.join(" ")), None);
        assert_eq!(Order::parse(&long[1..].join(" ")).map(|order| order.0.len()), Some(1024));
        assert_eq!(Order::parse(""), Some(Order::default()));
    }
}
