//! Times as the API words them.

use jiff::Timestamp;

/// Go's zero time, for "never".
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).expect("64 bits of nanoseconds last until 2262")
}

/// RFC 3339 with as many digits as needed, in UTC, as Go's `RFC3339Nano`; 0 is never.
pub(crate) fn rfc3339(time_ns: i64) -> String {
    if time_ns == 0 {
        return NEVER.to_owned();
    }
    Timestamp::from_nanosecond(i128::from(time_ns)).map_or_else(|_| NEVER.to_owned(), |time| time.to_string())
}

/// RFC 3339 in whole seconds, in UTC.
pub(crate) fn rfc3339_seconds(time_ns: i64) -> String {
    rfc3339(time_ns - time_ns.rem_euclid(1_000_000_000))
}

/// `20260102-030405`, in UTC, for names.
pub(crate) fn file_stamp(time_ns: i64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(time_ns)).unwrap_or_default();
    time.strftime("%Y%m%d-%H%M%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_zeros_are_left_out_as_in_go() {
        assert_eq!(rfc3339(1_700_000_000_120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(rfc3339(1_700_000_000_000_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(0), NEVER);
        assert_eq!(rfc3339_seconds(1_700_000_000_120_000_000), "2023-11-14T22:13:20Z");
    }
}
