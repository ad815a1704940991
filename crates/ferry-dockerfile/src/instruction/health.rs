//! HEALTHCHECK, and the durations that its flags take.

use super::flags::{FlagError, Flags};

/// HEALTHCHECK
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`: none, not even the base image's.
    None,
    /// `HEALTHCHECK CMD`; times in nanoseconds, 0 leaves the default.
    Check {
        /// `CMD` and words, or `CMD-SHELL` and a line.
        test: Vec<String>,
        /// `--interval`
        interval: i64,
        /// `--timeout`
        timeout: i64,
        /// `--start-period`
        start_period: i64,
        /// `--start-interval`
        start_interval: i64,
        /// `--retries`
        retries: i64,
    },
}

/// Why a HEALTHCHECK is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HealthError {
    /// Words after NONE.
    #[error("HEALTHCHECK NONE takes no arguments")]
    NoneWithArguments,
    /// CMD without a command.
    #[error("Missing command after HEALTHCHECK CMD")]
    NoCommand,
    /// Neither CMD nor NONE.
    #[error("Unknown type {0:?} in HEALTHCHECK (try CMD)")]
    UnknownKind(String),
    /// A duration that is none.
    #[error("time: {0}")]
    Duration(String),
    /// Too short a duration.
    #[error("Interval {0:?} cannot be less than 1ms")]
    TooShort(&'static str),
    /// Retries that are no number.
    #[error("strconv.ParseInt: parsing {0:?}: {1}")]
    Retries(String, &'static str),
    /// Retries below zero.
    #[error("--retries cannot be negative ({0})")]
    NegativeRetries(i64),
    /// A wrong flag.
    #[error(transparent)]
    Flag(#[from] FlagError),
}

impl Healthcheck {
    /// Reads `kind` (NONE or CMD) and the words after it; `exec` tells that they are a JSON list.
    pub(super) fn parse(kind: &str, words: &[String], exec: bool, flags: &[String]) -> Result<Self, HealthError> {
        let kind = kind.to_uppercase();
        if kind == "NONE" {
            return if words.is_empty() { Ok(Self::None) } else { Err(HealthError::NoneWithArguments) };
        }
        let mut known = Flags::new();
        for name in ["interval", "timeout", "start-period", "start-interval", "retries"] {
            known.text(name);
        }
        known.parse(flags)?;
        if kind != "CMD" {
            return Err(HealthError::UnknownKind(kind));
        }
        if words.is_empty() {
            return Err(HealthError::NoCommand);
        }
        let mut test = vec![if exec { "CMD" } else { "CMD-SHELL" }.to_owned()];
        if exec {
            test.extend_from_slice(words);
        } else {
            test.push(words.join(" "));
        }
        Ok(Self::Check {
            test,
            interval: interval(&known, "interval")?,
            timeout: interval(&known, "timeout")?,
            start_period: interval(&known, "start-period")?,
            start_interval: interval(&known, "start-interval")?,
            retries: retries(known.value("retries"))?,
        })
    }
}

fn interval(flags: &Flags, name: &'static str) -> Result<i64, HealthError> {
    let text = flags.value(name);
    if text.is_empty() {
        return Ok(0);
    }
    let nanoseconds = duration(text).map_err(HealthError::Duration)?;
    if nanoseconds != 0 && nanoseconds < 1_000_000 {
        return Err(HealthError::TooShort(name));
    }
    Ok(nanoseconds)
}

fn retries(text: &str) -> Result<i64, HealthError> {
    if text.is_empty() {
        return Ok(0);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HealthError::Retries(text.to_owned(), "invalid syntax"));
    }
    let number = text.parse::<i32>().map_err(|_| HealthError::Retries(text.to_owned(), "value out of range"))?;
    if number < 0 {
        return Err(HealthError::NegativeRetries(i64::from(number)));
    }
    Ok(i64::from(number))
}

/// Reads a duration as Go writes them, such as `1h2m3.5s`, in nanoseconds; the error is Go's text after `time: `.
fn duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (whole, after) = rest.split_at(end);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(tail) => tail.split_at(tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len())),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(format!("missing unit in duration {text:?}"));
        }
        let unit_nanoseconds = unit_of(unit).ok_or_else(|| format!("unknown unit {unit:?} in duration {text:?}"))?;
        let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().map_err(|_| invalid())? };
        total = whole
            .checked_mul(unit_nanoseconds)
            .and_then(|part| part.checked_add(fraction_of(fraction, unit_nanoseconds)))
            .and_then(|part| total.checked_add(part))
            .filter(|sum| *sum <= 1 << 63)
            .ok_or_else(invalid)?;
        rest = after;
    }
    match (negative, i64::try_from(total)) {
        (false, Ok(total)) => Ok(total),
        (true, Ok(total)) => Ok(-total),
        (true, Err(_)) => Ok(i64::MIN),
        (false, Err(_)) => Err(invalid()),
    }
}

fn unit_of(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// The digits after the point, of one unit; what is below a nanosecond is cut off.
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let mut scale = 10_u128;
    let mut sum = 0_u128;
    for digit in digits.bytes().take(18) {
        sum += u128::from(digit - b'0') * u128::from(unit) * 1_000_000_000_000_000_000 / scale;
        scale *= 10;
    }
    u64::try_from(sum / 1_000_000_000_000_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("30s", 30_000_000_000),
            ("1h2m3.5s", 3_723_500_000_000),
            ("1.5ms", 1_500_000),
            (".5s", 500_000_000),
            ("0", 0),
            ("-1s", -1_000_000_000),
            ("1us", 1_000),
        ] {
            assert_eq!(duration(text), Ok(nanoseconds), "{text}");
        }
        for (text, error) in [
            ("", "invalid duration \"\""),
            ("5", "missing unit in duration \"5\""),
            ("5d", "unknown unit \"d\" in duration \"5d\""),
            ("x", "invalid duration \"x\""),
            (".s", "invalid duration \".s\""),
            ("99999999999h", "invalid duration \"99999999999h\""),
        ] {
            assert_eq!(duration(text), Err(error.to_owned()), "{text}");
        }
    }
}
