//! Floating-point numbers as Redis prints them in replies: the shortest digits that read back as the same number.

/// Whole numbers below this are exact, and are printed without an exponent, as in Redis's `double2ll`.
const EXACT: f64 = (1_u64 << 52) as f64;

/// The number as RESP3 and a script's arguments have it: `3.1`, `10`, `1e+25`, `inf`, `nan`.
pub fn shortest(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if number == 0.0 {
        return if number.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    if number.fract() == 0.0 && number.abs() < EXACT {
        return (number as i64).to_string();
    }
    let (sign, scientific) = match format!("{number:e}") {
        text if number < 0.0 => ("-", text[1..].to_owned()),
        text => ("", text),
    };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or_default();
    format!("{sign}{}", with_point(&digits, exponent))
}

/// Places the point among the digits, of which the first stands before it at exponent 0. The bounds between plain
/// and scientific notation are those of fpconv, which Redis prints with.
fn with_point(digits: &str, exponent: i32) -> String {
    let count = digits.len() as i32;
    let power = exponent - count + 1;
    if power >= 0 && exponent.abs() < count + 7 {
        return format!("{digits}{}", "0".repeat(power as usize));
    }
    if power < 0 && (power > -7 || exponent.abs() < 4) {
        return match usize::try_from(exponent) {
            Ok(before) => format!("{}.{}", &digits[..=before], &digits[before + 1..]),
            Err(_) => format!("0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1)),
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    let fraction = if count > 1 { format!(".{}", &digits[1..]) } else { String::new() };
    format!("{}{fraction}e{sign}{}", &digits[..1], exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::shortest;

    #[test]
    fn numbers_are_printed_as_redis_prints_them() {
        for (number, text) in [
            (3.1, "3.1"),
            (-0.5, "-0.5"),
            (10.0, "10"),
            (1e15, "1000000000000000"),
            (1e25, "1e+25"),
            (1.5e300, "1.5e+300"),
            (1e-7, "1e-7"),
            (1.25e-10, "1.25e-10"),
            (0.001, "0.001"),
            (123456.789, "123456.789"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (-0.0, "-0"),
            (3.0, "3"),
        ] {
            assert_eq!(shortest(number), text);
        }
        assert_eq!(shortest(f64::NAN), "nan");
    }
}
