//! `--net-in`, `--net-out`, `--net-delay`, `--net-loss` and `--egress`, which Docker does not have. Pure.

use ferry_api::container::Resources;

use crate::flags::{Parsed, parse_duration};

/// Reads a value, positive.
type Parse = fn(&str) -> Option<i64>;

/// Ends a limit in an update.
const NONE: i64 = -1;

/// Puts them into the limits of a container; `none` is taken where there may be something to end.
pub(super) fn read(parsed: &Parsed, resources: &mut Resources, may_end: bool) -> Result<(), String> {
    let each: [(&str, &mut i64, Parse, &str); 4] = [
        ("net-in", &mut resources.net_in, rate, "a rate such as 500kbit, 10mbit or 1gbit"),
        ("net-out", &mut resources.net_out, rate, "a rate such as 500kbit, 10mbit or 1gbit"),
        ("net-delay", &mut resources.net_delay, delay, "a duration such as 50ms"),
        ("net-loss", &mut resources.net_loss, loss, "a percentage such as 0.5%"),
    ];
    for (flag, value, parse, what) in each {
        let Some(text) = parsed.text(flag) else { continue };
        *value = match text {
            "none" if may_end => NONE,
            text => parse(text)
                .ok_or_else(|| format!("invalid argument {text:?} for \"--{flag}\" flag: it should be {what}"))?,
        };
    }
    resources.egress = egress(parsed.all("egress"));
    Ok(())
}

/// Takes lists apart: what follows an `allow=` is one more of it, unless it is a word of its own.
fn egress(values: &[String]) -> Option<Vec<String>> {
    let mut words = Vec::new();
    for value in values {
        let mut allows = false;
        for part in value.split(',') {
            let is_word = matches!(part, "none" | "lan" | "internet" | "any");
            match part.strip_prefix("allow=") {
                None if allows && !is_word => words.push(format!("allow={part}")),
                found => {
                    allows = found.is_some();
                    words.push(part.to_owned());
                }
            }
        }
    }
    (!words.is_empty()).then_some(words)
}

/// Bits a second; thousands, as networks count.
fn rate(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let number = lower.strip_suffix("/s").unwrap_or(&lower).strip_suffix("bit")?;
    let units = [('k', 1e3), ('m', 1e6), ('g', 1e9), ('t', 1e12)];
    let unit = units.iter().find_map(|(letter, factor)| Some((number.strip_suffix(*letter)?, *factor)));
    let (number, factor) = unit.unwrap_or((number, 1.0));
    whole(number, factor, 1e15)
}

fn delay(text: &str) -> Option<i64> {
    parse_duration(text).ok().filter(|nanoseconds| (1..=60_000_000_000).contains(nanoseconds))
}

/// Parts of a million.
fn loss(text: &str) -> Option<i64> {
    whole(text.strip_suffix('%')?, 1e4, 1e6)
}

fn whole(number: &str, factor: f64, most: f64) -> Option<i64> {
    let is_plain = number.starts_with(|first: char| first.is_ascii_digit())
        && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let value = number.parse::<f64>().ok().filter(|_| is_plain)? * factor;
    // A float of this size is exact enough for a rate.
    (1.0..=most).contains(&value).then_some(value.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_bits_a_second() {
        for (text, bits) in [
            ("10mbit", 10_000_000),
            ("1.5Mbit/s", 1_500_000),
            ("500kbit", 500_000),
            ("2gbit", 2_000_000_000),
            ("64000bit", 64_000),
        ] {
            assert_eq!(rate(text), Some(bits), "{text}");
        }
        for text in ["", "10", "10mb", "10m", "-1mbit", "0bit", "mbit", "1e3bit", "infbit", "9999999tbit"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }

    #[test]
    fn lists_of_what_may_be_reached_are_taken_apart() {
        let read = |values: &[&str]| egress(&values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>());
        let words = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(
            read(&["allow=10.0.0.0/8,example.com:443,lan"]),
            words(&["allow=10.0.0.0/8", "allow=example.com:443", "lan"])
        );
        assert_eq!(read(&["lan,internet", "allow=a"]), words(&["lan", "internet", "allow=a"]));
        assert_eq!(read(&["lan,example.com"]), words(&["lan", "example.com"]));
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn delays_and_losses_have_a_unit() {
        assert_eq!(delay("50ms"), Some(50_000_000));
        assert_eq!((delay("0s"), delay("50"), delay("2h")), (None, None, None));
        assert_eq!((loss("0.5%"), loss("100%")), (Some(5_000), Some(1_000_000)));
        assert_eq!((loss("0.5"), loss("101%"), loss("x%")), (None, None, None));
    }
}
