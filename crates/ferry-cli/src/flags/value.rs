//! Single flag values in Go's notations: booleans, numbers, sizes, durations.

use crate::grammar::Kind;

use super::go_quote;

/// Checks a value against its kind.
pub(super) fn check_kind(kind: Kind, text: &str) -> Result<(), String> {
    match kind {
        Kind::Bool => parse_bool(text).map(drop),
        Kind::Int => parse_int(text).map(drop),
        Kind::Uint => parse_uint(text, 64).map(drop),
        Kind::Uint16 => parse_uint(text, 16).map(drop),
        Kind::Bytes => parse_bytes(text).map(drop),
        Kind::Duration => parse_duration(text).map(drop),
        Kind::Decimal => parse_nano_cpus(text).map(drop),
        Kind::Text | Kind::List | Kind::Strings | Kind::Map => Ok(()),
    }
}

/// Reads a boolean as Go does.
///
/// # Errors
/// Go's text.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", go_quote(text))),
    }
}

/// Reads a signed number with Go's base prefixes.
///
/// # Errors
/// Go's text.
pub(crate) fn parse_int(text: &str) -> Result<i64, String> {
    let failure = |why: &str| format!("strconv.ParseInt: parsing {}: {why}", go_quote(text));
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = magnitude(digits).map_err(failure)?;
    let value = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    i64::try_from(value).map_err(|_| failure("value out of range"))
}

fn parse_uint(text: &str, bits: u32) -> Result<u64, String> {
    let failure = |why: &str| format!("strconv.ParseUint: parsing {}: {why}", go_quote(text));
    let value = magnitude(text).map_err(failure)?;
    if bits < 64 && value >> bits != 0 {
        return Err(failure("value out of range"));
    }
    Ok(value)
}

fn magnitude(digits: &str) -> Result<u64, &'static str> {
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if radix == 10 && (body.starts_with('_') || body.ends_with('_') || body.contains("__")) {
        return Err("invalid syntax");
    }
    let body: String = body.chars().filter(|letter| *letter != '_').collect();
    if body.is_empty() || !body.chars().all(|letter| letter.is_digit(radix)) {
        return Err("invalid syntax");
    }
    u64::from_str_radix(&body, radix).map_err(|_| "value out of range")
}

/// Reads a size such as `64m`, `1.5GiB` or `-1`; units are powers of 1024.
///
/// # Errors
/// Docker's text.
pub(crate) fn parse_bytes(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let invalid = || format!("invalid size: '{text}'");
    let split = text.rfind(|letter: char| letter.is_ascii_digit() || letter == '.').map_or(0, |at| at + 1);
    let (number, unit) = text.split_at(split);
    let number = number.strip_suffix('.').unwrap_or(number);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let value: f64 = number.trim_end().parse().map_err(|_| invalid())?;
    if value < 0.0 || number.starts_with('+') || number.is_empty() {
        return Err(invalid());
    }
    let mut letters = unit.to_ascii_lowercase();
    for ending in ["ib", "b"] {
        if letters.len() > ending.len() && letters.ends_with(ending) {
            letters.truncate(letters.len() - ending.len());
            break;
        }
    }
    let power = match letters.as_str() {
        "" | "b" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(format!("invalid suffix: '{}'", unit.to_ascii_lowercase())),
    };
    #[expect(clippy::cast_possible_truncation, reason = "sizes beyond 2^63 saturate")]
    let bytes = (value * 1024f64.powi(power)) as i64;
    Ok(bytes)
}

/// Reads a Go duration into nanoseconds.
///
/// # Errors
/// Go's text.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", go_quote(text));
    let (negative, mut left) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if left == "0" {
        return Ok(0);
    }
    if left.is_empty() {
        return Err(invalid());
    }
    let mut total: f64 = 0.0;
    while !left.is_empty() {
        let end = left.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(left.len());
        let (number, rest) = left.split_at(end);
        if number.is_empty() || number == "." {
            return Err(invalid());
        }
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let end = rest.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(end);
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => return Err(format!("time: missing unit in duration {}", go_quote(text))),
            _ => return Err(format!("time: unknown unit {} in duration {}", go_quote(unit), go_quote(text))),
        };
        total += number * scale;
        left = rest;
    }
    #[expect(clippy::cast_possible_truncation, reason = "durations of centuries saturate")]
    let nanoseconds = total.round() as i64;
    Ok(if negative { -nanoseconds } else { nanoseconds })
}

/// Reads a decimal number of CPUs into billionths.
///
/// # Errors
/// Docker's text.
pub(crate) fn parse_nano_cpus(text: &str) -> Result<i64, String> {
    let invalid = || format!("failed to parse {text} as a rational number");
    let (numerator, denominator) = match text.split_once('/') {
        Some((top, bottom)) => {
            (top.parse::<i64>().map_err(|_| invalid())? as f64, bottom.parse::<i64>().map_err(|_| invalid())? as f64)
        }
        None if text.chars().all(|letter| letter.is_ascii_digit() || matches!(letter, '.' | '-' | '+' | 'e' | 'E')) => {
            return decimal_nano(text).ok_or_else(invalid)?;
        }
        None => return Err(invalid()),
    };
    if denominator == 0.0 {
        return Err(invalid());
    }
    let nano = numerator / denominator * 1e9;
    if nano.fract() != 0.0 {
        return Err("value is too precise".to_owned());
    }
    #[expect(clippy::cast_possible_truncation, reason = "a whole number of billionths")]
    Ok(nano as i64)
}

/// Exact decimal arithmetic: `0.1` is one hundred million billionths, `1e-10` is too precise.
fn decimal_nano(text: &str) -> Option<Result<i64, String>> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.chars().all(|letter| letter.is_ascii_digit()) {
        return None;
    }
    let trimmed = all.trim_end_matches('0');
    let scale = 9 + exponent - i32::try_from(fraction.len()).ok()? + i32::try_from(all.len() - trimmed.len()).ok()?;
    if trimmed.is_empty() {
        return Some(Ok(0));
    }
    if scale < 0 {
        return Some(Err("value is too precise".to_owned()));
    }
    let mut value: i64 = trimmed.parse().ok()?;
    for _ in 0..scale {
        value = value.checked_mul(10)?;
    }
    Some(Ok(if negative { -value } else { value }))
}

/// Checks an environment assignment.
///
/// # Errors
/// Docker's text.
pub(crate) fn check_env(text: &str) -> Result<(), String> {
    match text.split('=').next() {
        Some("") | None => Err(format!("invalid environment variable: {text}")),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("64", 64),
            ("64b", 64),
            ("1k", 1024),
            ("1kb", 1024),
            ("1KiB", 1024),
            ("1.5m", 1_572_864),
            ("32 MB", 33_554_432),
            ("2g", 2_147_483_648),
            ("-1", -1),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["x", "-1x", "", "-5", "1.2.3"] {
            assert_eq!(parse_bytes(text), Err(format!("invalid size: '{text}'")));
        }
        assert_eq!(parse_bytes("1zz"), Err("invalid suffix: 'zz'".to_owned()));
    }

    #[test]
    fn durations_and_cpus() {
        assert_eq!(parse_duration("1m30s"), Ok(90_000_000_000));
        assert_eq!(parse_duration("1.5h"), Ok(5_400_000_000_000));
        assert_eq!(parse_duration("-10ms"), Ok(-10_000_000));
        assert_eq!(parse_duration("5"), Err("time: missing unit in duration \"5\"".to_owned()));
        assert_eq!(parse_nano_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_nano_cpus("0.1"), Ok(100_000_000));
        assert_eq!(parse_nano_cpus(".5"), Ok(500_000_000));
        assert_eq!(parse_nano_cpus("x"), Err("failed to parse x as a rational number".to_owned()));
        assert!(parse_nano_cpus("0.0000000001").is_err());
    }

    #[test]
    fn numbers() {
        assert_eq!(parse_int("0x10"), Ok(16));
        assert_eq!(parse_int("010"), Ok(8));
        assert_eq!(parse_int("-5"), Ok(-5));
        assert_eq!(parse_int("x"), Err("strconv.ParseInt: parsing \"x\": invalid syntax".to_owned()));
        assert!(parse_int("9223372036854775808").unwrap_err().ends_with("value out of range"));
    }
}
