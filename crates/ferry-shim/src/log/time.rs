//! RFC 3339 in UTC with nanoseconds, as Go writes it: trailing zeros of the fraction are left out.

const NANOS: i64 = 1_000_000_000;

/// Appends a Unix time in nanoseconds as `2026-01-02T03:04:05.678Z`.
pub(super) fn push_time(out: &mut Vec<u8>, time_ns: i64) {
    let (seconds, nanos) = (time_ns.div_euclid(NANOS), time_ns.rem_euclid(NANOS));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    push_digits(out, year, 4);
    out.push(b'-');
    push_digits(out, month, 2);
    out.push(b'-');
    push_digits(out, day, 2);
    out.push(b'T');
    push_digits(out, second / 3600, 2);
    out.push(b':');
    push_digits(out, second / 60 % 60, 2);
    out.push(b':');
    push_digits(out, second % 60, 2);
    if nanos > 0 {
        out.push(b'.');
        push_digits(out, nanos, 9);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

/// A Unix time in nanoseconds as text, the way it stands in the log.
#[must_use]
pub fn format_time(time_ns: i64) -> String {
    let mut text = Vec::with_capacity(30);
    push_time(&mut text, time_ns);
    String::from_utf8(text).expect("digits and punctuation")
}

/// Reads RFC 3339 with any fraction and any offset into Unix nanoseconds.
#[must_use]
pub fn parse_time(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_at_checked(19)?;
    let punctuation = [date[4], date[7], date[10], date[13], date[16]];
    if punctuation != *b"--T::" {
        return None;
    }
    let field = |from: usize, to: usize| number(&date[from..to]);
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (nanos, zone) = fraction(rest)?;
    let offset = offset_seconds(zone)?;
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    seconds.checked_mul(NANOS)?.checked_add(nanos)
}

fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', digits)) = rest.split_first() else {
        return Some((0, rest));
    };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let mut nanos = number(&digits[..length.min(9)])?;
    for _ in length..9 {
        nanos *= 10;
    }
    Some((nanos, &digits[length..]))
}

fn offset_seconds(zone: &[u8]) -> Option<i64> {
    match zone {
        [b'Z'] => Some(0),
        [sign @ (b'+' | b'-'), hour_tens, hour, b':', minute_tens, minute] => {
            let offset = number(&[*hour_tens, *hour])? * 3600 + number(&[*minute_tens, *minute])? * 60;
            Some(if *sign == b'-' { -offset } else { offset })
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn push_digits(out: &mut Vec<u8>, value: i64, width: usize) {
    let at = out.len();
    out.resize(at + width, b'0');
    let mut rest = value.unsigned_abs();
    for slot in out[at..].iter_mut().rev() {
        // A digit always fits.
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
}

/// Days since 1970-01-01 to year, month, day of the Gregorian calendar; the year starts in March, so that a leap day is its last.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_does() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (1_767_323_045_678_000_000, "2026-01-02T03:04:05.678Z"),
            (1_709_164_800_000_000_001, "2024-02-29T00:00:00.000000001Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400_100_000_000, "2000-02-29T00:00:00.1Z"),
        ];
        for (time, text) in cases {
            assert_eq!(format_time(time), text);
            assert_eq!(parse_time(text.as_bytes()), Some(time), "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_survives_the_round_trip() {
        for day in -80_000..80_000 {
            let (year, month, date) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month, date), day);
        }
    }

    #[test]
    fn other_offsets_and_fractions_are_read() {
        assert_eq!(parse_time(b"1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(parse_time(b"1969-12-31T19:00:00.5-05:00"), Some(500_000_000));
        assert_eq!(parse_time(b"1970-01-01T00:00:00.1234567891Z"), Some(123_456_789));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-13-01T00:00:00Z",
            "1970-01-01 00:00:00Z",
            "1970-01-01T00:00:00.Z",
            "x970-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_time(text.as_bytes()), None, "{text}");
        }
    }
}
