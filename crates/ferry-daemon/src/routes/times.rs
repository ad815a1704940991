//! Times in queries.

use crate::http::error::ApiError;
use crate::http::query::Query;

/// Most digits of a fraction; those beyond the ninth are cut off.
const FRACTION_DIGITS: usize = 20;

/// Reads `seconds[.fraction]` as Unix nanoseconds; nothing is no time.
pub(super) fn unix_ns(query: &Query, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = query.non_empty(name) else { return Ok(None) };
    parse(text).map(Some).map_err(|why| ApiError::invalid(format!("invalid timestamp {text:?}: {why}")))
}

/// Puts Docker's words for a parameter before the reason.
pub(super) fn of_parameter(what: &str, error: ApiError) -> ApiError {
    ApiError { message: format!("invalid value for {what}: {}", error.message), ..error }
}

fn parse(text: &str) -> Result<i64, String> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let overflow = matches!(error.kind(), NegOverflow | PosOverflow);
        let why = if overflow { "value out of range" } else { "invalid syntax" };
        format!("invalid seconds {seconds:?}: {why}")
    })?;
    if fraction.len() > FRACTION_DIGITS {
        return Err(format!("invalid nanoseconds: length {} exceeds maximum {FRACTION_DIGITS}", fraction.len()));
    }
    if let Some(at) = fraction.bytes().position(|byte| !byte.is_ascii_digit()) {
        let character = char::from(fraction.as_bytes()[at]);
        return Err(format!("invalid nanoseconds: invalid character {character:?} at position {at}"));
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    // Times beyond the year 2262 are as good as that.
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_decimal() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("12", 12_000_000_000),
            ("12.5", 12_500_000_000),
            ("12.000000001", 12_000_000_001),
            ("12.0000000019", 12_000_000_001),
            ("-1", -1_000_000_000),
            ("9999999999999", i64::MAX),
        ] {
            assert_eq!(parse(text), Ok(nanoseconds), "{text}");
        }
        for (text, why) in [
            ("x", "invalid seconds \"x\": invalid syntax"),
            ("99999999999999999999", "invalid seconds \"99999999999999999999\": value out of range"),
            ("1.-5", "invalid nanoseconds: invalid character '-' at position 0"),
            ("1.123456789012345678901", "invalid nanoseconds: length 21 exceeds maximum 20"),
        ] {
            assert_eq!(parse(text), Err(why.to_owned()));
        }
    }
}
