//! Sizes, durations and times as Docker shows them.

use ferry_api::span::in_words;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A size in powers of 1000 with four digits: `13.3kB`.
pub(crate) fn size(bytes: i64) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"], 4)
}

/// A size in powers of 1000 with three digits.
pub(crate) fn size_short(bytes: i64) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"], 3)
}

/// A size in powers of 1024: `23.4GiB`.
pub(crate) fn bytes_size(bytes: i64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"], 4)
}

fn scaled(mut value: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// A number with that many significant digits, as Go's `%.4g` for the range of sizes.
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let limit = i32::try_from(digits).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= limit {
        let mantissa = trim_zeros(mantissa);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let decimals = usize::try_from(limit - 1 - exponent).unwrap_or(0);
    trim_zeros(&format!("{value:.decimals$}"))
}

fn trim_zeros(number: &str) -> String {
    if !number.contains('.') {
        return number.to_owned();
    }
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Time since a unix time, in words.
pub(crate) fn since(unix_seconds: i64) -> String {
    format!("{} ago", in_words(now() - unix_seconds))
}

/// Unix seconds now.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_second()
}

/// A unix time as Go prints a local time: `2024-01-02 03:04:05 +0000 UTC`.
pub(crate) fn go_time(unix_seconds: i64) -> String {
    let Ok(timestamp) = Timestamp::from_second(unix_seconds) else { return String::new() };
    timestamp.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// A unix time in RFC 3339, in the local zone.
pub(crate) fn rfc3339(unix_seconds: i64) -> String {
    let Ok(timestamp) = Timestamp::from_second(unix_seconds) else { return String::new() };
    let text = timestamp.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    text.strip_suffix("+00:00").map_or(text.clone(), |utc| format!("{utc}Z"))
}

/// A time of the API as Go prints it, in its own zone.
pub(crate) fn go_time_of(text: &str) -> String {
    let Ok(timestamp) = text.parse::<Timestamp>() else { return text.to_owned() };
    let nanoseconds = timestamp.subsec_nanosecond();
    let fraction = format!("{nanoseconds:09}");
    let fraction = fraction.trim_end_matches('0');
    let fraction = if fraction.is_empty() { String::new() } else { format!(".{fraction}") };
    timestamp.to_zoned(TimeZone::UTC).strftime(&format!("%Y-%m-%d %H:%M:%S{fraction} +0000 UTC")).to_string()
}

/// A build time as `version` shows it: `Wed Jan  1 00:00:00 2025`.
pub(crate) fn ansi_time(text: &str) -> String {
    let Ok(timestamp) = text.parse::<Timestamp>() else { return text.to_owned() };
    timestamp.to_zoned(TimeZone::UTC).strftime("%a %b %e %H:%M:%S %Y").to_string()
}

/// Turns a time as typed (a duration back from now, a date and time, unix seconds) into the form of the API.
///
/// # Errors
/// Docker's text.
pub(crate) fn api_time(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    // Zero is the beginning of time, not a span.
    if text != "0"
        && let Ok(span) = crate::flags::parse_duration(text)
    {
        return Ok((now() - span / 1_000_000_000).to_string());
    }
    if !text.contains('-') {
        let number = text.split_once('.').map_or(text, |(seconds, _)| seconds);
        if number.parse::<i64>().is_ok() {
            return Ok(text.to_owned());
        }
    }
    parse_date(text)
        .map(|timestamp| format!("{}.{:09}", timestamp.as_second(), timestamp.subsec_nanosecond()))
        .ok_or_else(|| format!("failed to parse value as time or duration: {}", crate::flags::go_quote(text)))
}

/// Dates may lack a zone, which is then the local one, and the lesser parts of the time.
fn parse_date(text: &str) -> Option<Timestamp> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    let (date, zone) = match text.strip_suffix('Z') {
        Some(date) => (date, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    let padded = match date.len() {
        10 => format!("{date}T00:00:00"),
        13 => format!("{date}:00:00"),
        16 => format!("{date}:00"),
        _ => date.to_owned(),
    };
    let civil: jiff::civil::DateTime = padded.parse().ok()?;
    civil.to_zoned(zone).ok().map(|zoned| zoned.timestamp())
}

/// Shortens text to that many columns, the last one an ellipsis.
pub(crate) fn ellipsis(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// The first twelve digits of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let digits = id.split_once(':').map_or(id, |(_, digits)| digits);
    digits.get(..12).unwrap_or(digits)
}

/// A span of time as Go writes it: `1h2m3.5s`, `100ms`, `0s`.
pub(crate) fn go_duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    let decimal = |unit: u64, name: &str| {
        let fraction = format!("{:0width$}", total % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{}{point}{fraction}{name}", total / unit)
    };
    let text = match total {
        0 => return "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => decimal(1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let minutes = total / 60_000_000_000;
            let (hours, minutes) = (minutes / 60, minutes % 60);
            let whole = total % 60_000_000_000;
            let fraction = format!("{:09}", whole % 1_000_000_000);
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            let seconds = format!("{}{point}{fraction}s", whole / 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (13256, "13.26kB"),
            (77_800_000, "77.8MB"),
            (1_234_567_890, "1.235GB"),
            (999_999, "1000kB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size_short(13256), "13.3kB");
        assert_eq!(bytes_size(25_165_824_000), "23.44GiB");
    }

    #[test]
    fn spans_are_written_as_go_does() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (1_000_000_000, "1s"),
            (30_500_000_000, "30.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (-1_500_000, "-1.5ms"),
        ] {
            assert_eq!(go_duration(nanoseconds), text);
        }
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
    }
}
