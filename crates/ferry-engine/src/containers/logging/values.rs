//! Values of options as Go's libraries read them, with their texts.

use super::Checked;

/// `strconv.ParseBool`
pub(super) fn boolean(text: &str) -> Checked<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// `strconv.Atoi`
pub(super) fn integer(text: &str) -> Checked<i64> {
    text.parse().map_err(|error: std::num::ParseIntError| number_error("Atoi", text, &error))
}

/// `strconv.ParseUint`
pub(super) fn unsigned(text: &str, bits: u32) -> Checked<u64> {
    // Go takes no sign here.
    let parsed = if text.starts_with('+') { "+".parse() } else { text.parse::<u64>() };
    match parsed {
        Ok(number) if bits >= 64 || number < 1 << bits => Ok(number),
        Ok(_) => Err(format!("strconv.ParseUint: parsing {text:?}: value out of range")),
        Err(error) => Err(number_error("ParseUint", text, &error)),
    }
}

fn number_error(function: &str, text: &str, error: &std::num::ParseIntError) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let why = if matches!(error.kind(), NegOverflow | PosOverflow) { "value out of range" } else { "invalid syntax" };
    format!("strconv.{function}: parsing {text:?}: {why}")
}

/// `units.FromHumanSize`: powers of 1000.
pub(super) fn decimal_size(text: &str) -> Checked<u64> {
    size(text, 1000.0)
}

/// `units.RAMInBytes`: powers of 1024.
pub(super) fn binary_size(text: &str) -> Checked<u64> {
    size(text, 1024.0)
}

fn size(text: &str, unit: f64) -> Checked<u64> {
    let invalid = || format!("invalid size: '{text}'");
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)?;
    let (number, suffix) =
        if text.as_bytes()[last] == b' ' { (&text[..last], &text[last + 1..]) } else { text.split_at(last + 1) };
    let bytes: f64 = number.parse().map_err(|_| format!("strconv.ParseFloat: parsing {number:?}: invalid syntax"))?;
    if bytes < 0.0 {
        return Err(invalid());
    }
    let bytes =
        bytes * multiplier(suffix, unit).ok_or_else(|| format!("invalid suffix: '{}'", suffix.to_lowercase()))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; a float saturates")]
    Ok((bytes as u64).min(i64::MAX.unsigned_abs()))
}

fn multiplier(suffix: &str, unit: f64) -> Option<f64> {
    let suffix = suffix.to_lowercase();
    let power = match suffix.chars().next() {
        None => return Some(1.0),
        Some('b') => return (suffix.len() == 1).then_some(1.0),
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        Some(_) => return None,
    };
    matches!(&suffix[1..], "" | "b" | "ib").then(|| unit.powi(power))
}

/// `time.ParseDuration`, in nanoseconds.
pub(super) fn duration(text: &str) -> Checked<i64> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit_ns = match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
        };
        total += number * unit_ns;
        rest = after;
    }
    if total >= 9.2e18 {
        return Err(invalid());
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked to lie in range just above")]
    let nanoseconds = total as i64;
    Ok(if negative { -nanoseconds } else { nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_go_units_does() {
        for (text, decimal, binary) in [
            ("10", 10, 10),
            ("10k", 10_000, 10_240),
            ("1.5m", 1_500_000, 1_572_864),
            ("1 GiB", 1_000_000_000, 1 << 30),
            ("3b", 3, 3),
        ] {
            assert_eq!((decimal_size(text), binary_size(text)), (Ok(decimal), Ok(binary)), "{text}");
        }
        for (text, why) in [
            ("", "invalid size: ''"),
            ("x", "invalid size: 'x'"),
            ("-1", "invalid size: '-1'"),
            ("1x", "invalid suffix: 'x'"),
            ("1mx", "invalid suffix: 'mx'"),
            ("1..2", "strconv.ParseFloat: parsing \"1..2\": invalid syntax"),
        ] {
            assert_eq!(decimal_size(text), Err(why.to_owned()));
        }
    }

    #[test]
    fn durations_are_read_as_go_does() {
        for (text, nanoseconds) in [("1s", 1_000_000_000), ("1.5s", 1_500_000_000), ("1m30s", 90_000_000_000), ("0", 0)]
        {
            assert_eq!(duration(text), Ok(nanoseconds), "{text}");
        }
        assert_eq!(duration("10"), Err("time: missing unit in duration \"10\"".to_owned()));
        assert_eq!(duration("10x"), Err("time: unknown unit \"x\" in duration \"10x\"".to_owned()));
        assert_eq!(duration("x"), Err("time: invalid duration \"x\"".to_owned()));
    }

    #[test]
    fn numbers_are_read_as_go_does() {
        assert_eq!(integer("x"), Err("strconv.Atoi: parsing \"x\": invalid syntax".to_owned()));
        assert_eq!(unsigned("-1", 32), Err("strconv.ParseUint: parsing \"-1\": invalid syntax".to_owned()));
        assert_eq!(
            unsigned("4294967296", 32),
            Err("strconv.ParseUint: parsing \"4294967296\": value out of range".to_owned())
        );
        assert_eq!(unsigned("7", 32), Ok(7));
    }
}
