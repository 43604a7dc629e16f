//! Decimal numbers for INCRBYFLOAT: 0.1 and 0.2 make 0.3, however they are spelled.
//!
//! Redis reads with its C library's `strtold`, adds in the 80-bit floats of its compiler, and prints 17
//! decimals (`%.17Lf`) without the zeros at their end. Here the same spellings are read, within the same
//! bounds, but numbers are kept to 40 decimals and added exactly, and only the sum is rounded to 17. So the sum
//! is right even if Redis's floats cannot hold it (it shows `12345.1` as `12345.09999999999999964`).

use std::fmt;

use bigdecimal::num_bigint::BigInt;
use bigdecimal::{BigDecimal, RoundingMode, Zero};

/// Decimals of a result: as many as Redis prints.
const DECIMALS: i64 = 17;

/// Decimals that are kept of a number. Of later ones only their existence can change a rounded sum, which one
/// more digit records; and tens of thousands of them would hold up the commit path.
const KEPT_DECIMALS: i64 = 40;

/// A text of this many bytes or more is no number: Redis's MAX_LONG_DOUBLE_CHARS.
const TEXT_BYTES: usize = 5 * 1024;

/// A float of 80 bits is below 2 to this. It has 64 bits, so a number that is 2 to [`LARGEST_STEP_BITS`] or less
/// below that would be rounded up to it.
const LARGEST_BITS: u64 = 16384;
const LARGEST_STEP_BITS: u64 = LARGEST_BITS - 65;

/// Digits before the point of the largest float.
const LARGEST_DIGITS: i64 = 4933;

/// A number with more zeros than this between the point and its first digit is zero as a float of 80
/// bits, and `strtold` reports that it is out of range.
const SMALLEST_ZEROS: i64 = 4950;

/// The same bound as a power of two.
const SMALLEST_BITS: i64 = 16445;

/// A larger exponent is out of range with any digits that fit into [`TEXT_BYTES`].
const LARGEST_EXPONENT: i64 = 1_000_000;

/// A number; an infinite one can be read, but is no sum.
#[derive(Clone, Debug, PartialEq)]
pub enum Decimal {
    /// This one.
    Finite(BigDecimal),
    /// `inf`, of either sign.
    Infinite,
}

impl Decimal {
    /// Zero, the value of a missing key.
    pub fn zero() -> Decimal {
        Decimal::Finite(BigDecimal::zero())
    }

    /// Reads all of a text as a number, as `strtold` does, but without white space before it.
    pub fn parse(text: &[u8]) -> Option<Decimal> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() < TEXT_BYTES)?;
        let (is_negative, number) = match text.strip_prefix('-') {
            Some(number) => (true, number),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if ["inf", "infinity"].iter().any(|name| number.eq_ignore_ascii_case(name)) {
            return Some(Decimal::Infinite);
        }
        let value = match number.strip_prefix("0x").or_else(|| number.strip_prefix("0X")) {
            Some(number) => hexadecimal(number)?,
            None => decimal(number)?,
        };
        Some(Decimal::Finite(if is_negative { -value } else { value }))
    }

    /// The sum as it is printed, if it is finite.
    pub fn plus(&self, other: &Decimal) -> Option<Decimal> {
        let (Decimal::Finite(a), Decimal::Finite(b)) = (self, other) else {
            return None;
        };
        let sum = (a + b).with_scale_round(DECIMALS, RoundingMode::HalfEven);
        (!is_too_large(&sum)).then_some(Decimal::Finite(sum))
    }
}

/// `digits[.digits][e[+-]digits]`, with digits before or after the point.
fn decimal(text: &str) -> Option<BigDecimal> {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (digits, after_point) = all_digits(digits, 10)?;
    let exponent = whole(exponent)?;
    if digits.is_zero() {
        return Some(BigDecimal::zero());
    }
    let value = BigDecimal::from_bigint(digits, after_point - exponent);
    let places = value.digits() as i64 - after_point + exponent;
    let fits = (-SMALLEST_ZEROS..=LARGEST_DIGITS).contains(&places) && !is_too_large(&value);
    fits.then(|| shortened(value))
}

/// `digits[.digits][p[+-]digits]` in base 16, with an exponent of 2.
fn hexadecimal(text: &str) -> Option<BigDecimal> {
    let (digits, exponent) = text.split_once(['p', 'P']).unwrap_or((text, "0"));
    let (digits, after_point) = all_digits(digits, 16)?;
    let exponent = whole(exponent)? - 4 * after_point;
    if digits.is_zero() {
        return Some(BigDecimal::zero());
    }
    let bits = digits.bits() as i64 + exponent;
    if !(-SMALLEST_BITS..=LARGEST_BITS as i64).contains(&bits) {
        return None;
    }
    // A half is 5 tenths, and so on.
    let value = match u32::try_from(-exponent) {
        Ok(halves) if i64::from(halves) <= KEPT_DECIMALS => {
            BigDecimal::from_bigint(digits * BigInt::from(5).pow(halves), halves.into())
        }
        Ok(halves) => {
            let digits = digits * BigInt::from(10).pow(KEPT_DECIMALS as u32);
            let is_whole = digits.trailing_zeros().is_none_or(|zeros| zeros >= halves.into());
            with_trace(digits >> halves, !is_whole)
        }
        Err(_) => BigDecimal::from(digits << exponent as u64),
    };
    (!is_too_large(&value)).then_some(value)
}

/// A positive number cut to the decimals that are kept.
fn shortened(value: BigDecimal) -> BigDecimal {
    let (places, (digits, scale)) = (value.digits() as i64, value.as_bigint_and_exponent());
    let dropped = scale - KEPT_DECIMALS;
    if dropped <= 0 {
        return value;
    }
    if dropped > places {
        return with_trace(BigInt::zero(), true);
    }
    let unit = BigInt::from(10).pow(dropped as u32);
    let kept = &digits / &unit;
    let is_whole = &kept * unit == digits;
    with_trace(kept, !is_whole)
}

/// The decimals that are kept, and a digit after them if there was something.
fn with_trace(kept: BigInt, is_more: bool) -> BigDecimal {
    BigDecimal::from_bigint(kept * 10 + i32::from(is_more), KEPT_DECIMALS + 1)
}

/// Digits with at most one point among them, as a whole number; and how many are after the point.
fn all_digits(text: &str, radix: u32) -> Option<(BigInt, i64)> {
    let (before, after) = text.split_once('.').unwrap_or((text, ""));
    let digits = [before, after].concat();
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    Some((BigInt::parse_bytes(digits.as_bytes(), radix)?, after.len() as i64))
}

/// An exponent, cut to [`LARGEST_EXPONENT`].
fn whole(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse().unwrap_or(LARGEST_EXPONENT).min(LARGEST_EXPONENT);
    Some(if text.starts_with('-') { -size } else { size })
}

/// Whether it is infinite as a float of 80 bits.
fn is_too_large(value: &BigDecimal) -> bool {
    let (digits, scale) = value.as_bigint_and_exponent();
    if value.digits() as i64 - scale < LARGEST_DIGITS {
        return false;
    }
    let limit = (BigInt::from(1) << LARGEST_BITS) - (BigInt::from(1) << LARGEST_STEP_BITS);
    BigDecimal::from_bigint(digits, scale).abs() >= BigDecimal::from(limit)
}

impl fmt::Display for Decimal {
    /// Without an exponent, and without zeros at the end of the decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decimal::Finite(value) = self else {
            return f.write_str("inf");
        };
        let text = value.to_plain_string();
        let text = match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.'),
            false => &text,
        };
        f.write_str(if text == "-0" { "0" } else { text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_however_the_numbers_are_spelled() {
        let ones = |count| "1".repeat(count);
        for (a, b, sum) in [
            ("0.1", "0.2", "0.3"),
            ("0.1", "2e-1", "0.3"),
            ("1e-1", "2E-1", "0.3"),
            ("1e17", "1", "100000000000000001"),
            ("1e18", "0.1", "1000000000000000000.1"),
            ("1e4000", "-1e4000", "0"),
            ("12345.1", "0", "12345.1"),
            ("0.123456789012345678", "0", "0.12345678901234568"),
            ("0.123456789012345678", "-0.000000000000000008", "0.12345678901234567"),
            ("1e-300", "0", "0"),
            ("-1e-300", "0", "0"),
            ("-4e-18", "0", "0"),
            ("-6e-18", "0", "-0.00000000000000001"),
            ("15e-18", "0", "0.00000000000000002"),
            ("10.5", "-10.5", "0"),
            ("-0.5", "0.25", "-0.25"),
            ("5.0e3", "200", "5200"),
            ("+3", "1.1", "4.1"),
            (".5", "1.", "1.5"),
            ("0e999999999999999999999", "1", "1"),
            ("000", "-0", "0"),
            ("0x10", "0X.8p0", "16.5"),
            ("0x1p-3", "0xAp+1", "20.125"),
            ("100", "1e1", "110"),
            ("0x1p-60", "1", "1"),
            ("0x1p-50", "0", "0.00000000000000089"),
            ("0x1.8p-1", "1e-4900", "0.75"),
            // A half of the last decimal is rounded to the even one, unless there is something after it.
            ("0.000000000000000005", "1e-4900", "0.00000000000000001"),
            ("-0.000000000000000005", "-0x1p-16000", "-0.00000000000000001"),
            ("0.000000000000000005", "0", "0"),
            (&format!("0x0.{}p-16000", "f".repeat(4000)), "2", "2"),
            (&format!("0.{}", "3".repeat(5000)), "1", "1.33333333333333333"),
            (&ones(5000), "-1", &(ones(4999) + "0")),
        ] {
            let [a, b] = [a, b].map(|text| Decimal::parse(text.as_bytes()));
            if sum.len() == 5000 {
                assert_eq!(a, None, "more than a float of 80 bits holds");
                continue;
            }
            let (a, b) = (a.expect(sum), b.expect(sum));
            assert_eq!(a.plus(&b).expect("a sum").to_string(), sum);
            assert_eq!(b.plus(&a), a.plus(&b));
        }
        let largest = Decimal::parse(b"1.18e4932").expect("a number");
        let shown = largest.plus(&Decimal::zero()).expect("a sum").to_string();
        assert_eq!((shown.len(), &shown[..4]), (4933, "1180"));
        assert_eq!(largest.plus(&largest), None, "it is too large");
    }

    #[test]
    fn a_text_that_is_no_number_is_refused_and_so_is_an_infinite_sum() {
        for text in [
            "",
            ".",
            "-",
            "+-1",
            "1 ",
            " 1",
            "1,5",
            "nan",
            "-nan",
            "nan(1)",
            "0x",
            "0x.",
            "0xp1",
            "0x1p",
            "1e",
            "e1",
            "1e+",
            ".e1",
            "1_0",
            "1e1.5",
            "infx",
            "1\0",
            "\u{b2}",
            "1e4933",
            "1.19e4932",
            "1e-5000",
            "0x1p16384",
            "0x1p-16447",
            "1e99999999999999999999",
        ] {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Decimal::parse(&[b'1'; TEXT_BYTES]), None);
        for text in ["1e4932", "inf", "-INF", "+infinity"] {
            let large = Decimal::parse(text.as_bytes()).expect("a number");
            assert_eq!(large.plus(&large), None, "{text}");
        }
    }
}
