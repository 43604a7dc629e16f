//! Decimal numbers for INCRBYFLOAT: 0.1 and 0.2 make 0.3.
//!
//! Redis adds in the 80-bit floats of its C compiler and prints 17 decimals. Rust has no such
//! float, so a number with at most 17 decimals that is not too large is kept exactly, in units of
//! the last of them. Everything else is an `f64`.

use std::fmt;

/// Decimals that are kept: as many as Redis prints.
const DECIMALS: u32 = 17;
const ONE: i128 = 10_i128.pow(DECIMALS);

/// Digits before the point that are kept exactly; a sum of two such numbers fits as well.
const WHOLE_DIGITS: usize = 20;

/// A number; an infinite one can be read, but is no sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decimal {
    /// In units of 10^-17.
    Exact(i128),
    /// Too large or too fine for that.
    Float(f64),
}

impl Decimal {
    /// Zero, which a key without a value counts as.
    pub const ZERO: Decimal = Decimal::Exact(0);

    /// Reads all of a text as a number.
    pub fn parse(text: &[u8]) -> Option<Decimal> {
        let text = std::str::from_utf8(text).ok()?;
        if let Some(exact) = exact(text) {
            return Some(Decimal::Exact(exact));
        }
        text.parse().ok().filter(|float: &f64| !float.is_nan()).map(Decimal::Float)
    }

    /// The sum, if it is finite.
    pub fn plus(self, other: Decimal) -> Option<Decimal> {
        if let (Decimal::Exact(a), Decimal::Exact(b)) = (self, other)
            && let Some(sum) = a.checked_add(b)
        {
            return Some(Decimal::Exact(sum));
        }
        let sum = self.float() + other.float();
        sum.is_finite().then_some(Decimal::Float(sum))
    }

    fn float(self) -> f64 {
        match self {
            Decimal::Exact(units) => units as f64 / ONE as f64,
            Decimal::Float(float) => float,
        }
    }
}

/// `[+-]digits[.digits]` within the bounds.
fn exact(text: &str) -> Option<i128> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let fits = whole.len() <= WHOLE_DIGITS
        && fraction.len() <= DECIMALS as usize
        && whole.len() + fraction.len() > 0
        && all_digits(whole)
        && all_digits(fraction);
    if !fits {
        return None;
    }
    let units = format!("{whole}{fraction:0<width$}", width = DECIMALS as usize);
    let units: i128 = units.parse().ok()?;
    Some(if text.starts_with('-') { -units } else { units })
}

impl fmt::Display for Decimal {
    /// Without an exponent, and without zeros that say nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = match self {
            Decimal::Exact(units) => units,
            Decimal::Float(float) => return write!(f, "{float}"),
        };
        let sign = if *units < 0 { "-" } else { "" };
        let (whole, fraction) =
            (units.unsigned_abs() / ONE as u128, units.unsigned_abs() % ONE as u128);
        let fraction = format!(".{fraction:0width$}", width = DECIMALS as usize);
        write!(f, "{sign}{whole}{}", fraction.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_what_people_expect() {
        for (a, b, sum) in [
            ("0.1", "0.2", "0.3"),
            ("10.5", "-10.5", "0"),
            ("-0.5", "0.25", "-0.25"),
            ("5.0e3", "200", "5200"),
            ("3", "1.1", "4.1"),
            ("17179869184", "1.5", "17179869185.5"),
            ("99999999999999999999", "99999999999999999999.5", "199999999999999999998.5"),
            ("1e300", "1e300", &(2e300).to_string()),
            (".5", "1.", "1.5"),
        ] {
            let [a, b] = [a, b].map(|text| Decimal::parse(text.as_bytes()).expect("a number"));
            assert_eq!(a.plus(b).expect("a sum").to_string(), sum);
            assert_eq!(b.plus(a), a.plus(b));
        }
    }

    #[test]
    fn what_is_no_number_is_refused_and_so_is_an_infinite_sum() {
        for text in ["", ".", "-", "+-1", "1 ", " 1", "1,5", "nan", "0x10", "\u{b2}"] {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text:?}");
        }
        for text in ["1.7e308", "inf", "-inf", "1e400"] {
            let large = Decimal::parse(text.as_bytes()).expect("a number");
            assert_eq!(large.plus(large), None, "{text}");
        }
    }
}
