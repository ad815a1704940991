//! `HEALTHCHECK`.

use ferry_spec::image::Healthcheck;

use super::words::{Words, split};
use crate::error::{Error, Result};

/// Reads flags and command.
pub(super) fn check(text: &str) -> Result<Healthcheck> {
    let (flags, rest) = flags(text);
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let (kind, command) = (kind.to_ascii_uppercase(), command.trim());
    if kind == "NONE" {
        if !command.is_empty() {
            return Err(Error::invalid("HEALTHCHECK NONE takes no arguments"));
        }
        return Ok(Healthcheck { test: vec![kind], ..Healthcheck::default() });
    }
    let mut check = Healthcheck::default();
    for flag in flags {
        take_flag(&mut check, flag)?;
    }
    if kind != "CMD" {
        return Err(Error::invalid(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)")));
    }
    check.test = match super::json_words(command) {
        Some(words) if !words.is_empty() => std::iter::once(kind).chain(words).collect(),
        None if !command.is_empty() => vec!["CMD-SHELL".to_owned(), command.to_owned()],
        _ => return Err(Error::invalid("Missing command after HEALTHCHECK CMD")),
    };
    Ok(check)
}

/// The words in front that begin with dashes.
fn flags(mut text: &str) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    while text.starts_with("--") {
        let (flag, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        flags.extend(split(flag, Words::Plain));
        text = rest.trim_start();
    }
    (flags, text)
}

fn take_flag(check: &mut Healthcheck, flag: String) -> Result<()> {
    let (name, value) = flag.trim_start_matches('-').split_once('=').unwrap_or((flag.trim_start_matches('-'), ""));
    let place = match name {
        "interval" => &mut check.interval,
        "timeout" => &mut check.timeout,
        "start-period" => &mut check.start_period,
        "start-interval" => &mut check.start_interval,
        "retries" => {
            check.retries = retries(value)?;
            return Ok(());
        }
        _ => return Err(Error::invalid(format!("unknown flag: --{name}"))),
    };
    if !flag.contains('=') {
        return Err(Error::invalid(format!("missing a value on flag: {name}")));
    }
    if value.is_empty() {
        return Ok(());
    }
    let duration = nanoseconds(value).ok_or_else(|| Error::invalid(format!("time: invalid duration {value:?}")))?;
    if duration < 1_000_000 {
        return Err(Error::invalid(format!("Interval {name:?} cannot be less than 1ms")));
    }
    *place = duration;
    Ok(())
}

fn retries(value: &str) -> Result<i64> {
    let number: i32 =
        value.parse().map_err(|_| Error::invalid(format!("strconv.ParseInt: parsing {value:?}: invalid syntax")))?;
    if number < 0 {
        return Err(Error::invalid(format!("--retries cannot be negative ({number})")));
    }
    Ok(number.into())
}

/// Reads a duration in Go's notation.
fn nanoseconds(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[letters..];
    }
    if total > i64::MAX as f64 {
        return None;
    }
    let total = total.round() as i64;
    Some(if negative { -total } else { total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_read() {
        let read =
            check("--interval=1m30s --timeout=2.5s --start-period=1h --start-interval=5ms --retries=3 CMD curl -f x")
                .unwrap();
        assert_eq!(read.test, ["CMD-SHELL", "curl -f x"]);
        assert_eq!((read.interval, read.timeout), (90_000_000_000, 2_500_000_000));
        assert_eq!((read.start_period, read.start_interval, read.retries), (3_600_000_000_000, 5_000_000, 3));
        assert_eq!(check("cmd [\"a\", \"b\"]").unwrap().test, ["CMD", "a", "b"]);
        assert_eq!(check("none").unwrap().test, ["NONE"]);
    }

    #[test]
    fn bad_checks_are_refused() {
        for (text, message) in [
            ("CMD", "Missing command after HEALTHCHECK CMD"),
            ("CMD []", "Missing command after HEALTHCHECK CMD"),
            ("RUN x", "Unknown type \"RUN\" in HEALTHCHECK (try CMD)"),
            ("--interval=x CMD y", "time: invalid duration \"x\""),
            ("--interval=1us CMD y", "Interval \"interval\" cannot be less than 1ms"),
            ("--retries=-1 CMD y", "--retries cannot be negative (-1)"),
            ("--no=1 CMD y", "unknown flag: --no"),
        ] {
            assert_eq!(check(text).unwrap_err().text(), message, "{text}");
        }
    }
}
