//! Times in queries.

use crate::http::error::ApiError;
use crate::http::query::Query;

/// Reads `seconds[.fraction]` as Unix nanoseconds; nothing and `0` are no time.
pub(super) fn unix_ns(query: &Query, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = query.non_empty(name).filter(|text| *text != "0") else { return Ok(None) };
    parse(text).map(Some).ok_or_else(|| {
        ApiError::invalid(format!(
            "invalid value for \"{name}\": failed to parse value as seconds or nanoseconds: {text:?}"
        ))
    })
}

fn parse(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_decimal() {
        assert_eq!(parse("12"), Some(12_000_000_000));
        assert_eq!(parse("12.5"), Some(12_500_000_000));
        assert_eq!(parse("12.000000001"), Some(12_000_000_001));
        assert_eq!(parse("12.0000000019"), Some(12_000_000_001));
        assert_eq!(parse("x"), None);
        assert_eq!(parse("1.-5"), None);
        assert_eq!(parse("9999999999999"), None);
    }
}
