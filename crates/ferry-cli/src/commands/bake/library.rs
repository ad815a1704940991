//! More functions that bake files may call: regular expressions, dates, identifiers, digests, subnets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};
use regex_lite::{Captures, Regex};
use serde_json::Value;

use super::functions::{Outcome, argument, equal, formatted, list, whole, word};
use crate::flags::parse_duration;

/// Calls a function, if it is one of these.
pub(super) fn call(name: &str, arguments: &[Value]) -> Option<Outcome> {
    let first = || word(arguments, 0);
    let of_text = |made: Result<String, String>| Some(made.map(Value::String));
    match name {
        "regex" => Some(matched(arguments)),
        "regexall" => Some(all_matched(arguments)),
        "regex_replace" => of_text(replaced(arguments)),
        "formatdate" => of_text(first().and_then(|spec| date(&spec, &zoned(&word(arguments, 1)?)?))),
        "timeadd" => of_text((|| {
            let (time, span) = (zoned(&first()?)?, parse_duration(&word(arguments, 1)?)?);
            let later = time.checked_add(SignedDuration::from_nanos(span)).map_err(|error| error.to_string())?;
            date("YYYY-MM-DD'T'hh:mm:ssZ", &later)
        })()),
        "formatlist" => Some(format_list(arguments)),
        "md5" => of_text(first().map(|text| hex(&super::md5::digest(text.as_bytes())))),
        "sha1" => of_text(first().map(|text| hex(&sha1(text.as_bytes())))),
        "uuidv4" => of_text(random_id()),
        "uuidv5" => of_text(first().and_then(|space| named_id(&space, &word(arguments, 1)?))),
        "cidrhost" => of_text((|| Subnet::read(&first()?)?.host(whole(arguments, 1)?))()),
        "cidrnetmask" => of_text((|| Subnet::read(&first()?)?.mask())()),
        "cidrsubnet" => of_text((|| {
            let bits = u32::try_from(whole(arguments, 1)?).map_err(|_| "must not be negative".to_owned())?;
            Ok(Subnet::read(&first()?)?.inner(bits, whole(arguments, 2)?)?.to_string())
        })()),
        "cidrsubnets" => Some(subnets(arguments)),
        "sethaselement" => Some((|| {
            let wanted = argument(arguments, 1)?;
            Ok(Value::Bool(list(arguments, 0)?.iter().any(|item| equal(item, wanted))))
        })()),
        "setsymmetricdifference" => Some((|| {
            let (one, other) = (list(arguments, 0)?, list(arguments, 1)?);
            let without = |all: &[Value], not: &[Value]| -> Vec<Value> {
                all.iter().filter(|item| !not.iter().any(|known| equal(known, item))).cloned().collect()
            };
            Ok(Value::Array([without(&one, &other), without(&other, &one)].concat()))
        })()),
        "bcrypt" | "rsadecrypt" | "byteslen" | "bytesslice" | "convert" => {
            Some(Err("this function is not implemented".to_owned()))
        }
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha1(bytes: &[u8]) -> Vec<u8> {
    use sha1::Digest as _;
    sha1::Sha1::digest(bytes).to_vec()
}

fn pattern(arguments: &[Value], at: usize) -> Result<Regex, String> {
    Regex::new(&word(arguments, at)?).map_err(|error| format!("invalid regexp pattern: {error}"))
}

/// What was matched: the text, or its groups by place or by name.
fn captured(pattern: &Regex, found: &Captures<'_>) -> Value {
    let group = |at: usize| found.get(at).map_or(Value::Null, |part| Value::from(part.as_str()));
    let names: Vec<Option<&str>> = pattern.capture_names().skip(1).collect();
    if names.is_empty() {
        return group(0);
    }
    if names.iter().all(Option::is_none) {
        return (1..=names.len()).map(group).collect();
    }
    let named = names.iter().enumerate().filter_map(|(at, name)| Some(((*name)?.to_owned(), group(at + 1))));
    Value::Object(named.collect())
}

fn matched(arguments: &[Value]) -> Outcome {
    let (pattern, text) = (pattern(arguments, 0)?, word(arguments, 1)?);
    let found = pattern.captures(&text).ok_or("pattern did not match any part of the given string")?;
    Ok(captured(&pattern, &found))
}

fn all_matched(arguments: &[Value]) -> Outcome {
    let (pattern, text) = (pattern(arguments, 0)?, word(arguments, 1)?);
    Ok(pattern.captures_iter(&text).map(|found| captured(&pattern, &found)).collect())
}

fn replaced(arguments: &[Value]) -> Result<String, String> {
    let (text, pattern, with) = (word(arguments, 0)?, pattern(arguments, 1)?, word(arguments, 2)?);
    Ok(pattern.replace_all(&text, with.as_str()).into_owned())
}

/// Reads a time, and keeps the zone in which it is written.
fn zoned(text: &str) -> Result<Zoned, String> {
    let wrong = || format!("not a valid RFC3339 timestamp: {text:?}");
    let time: Timestamp = text.parse().map_err(|_| wrong())?;
    let zone = text.get(19..).unwrap_or_default().trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.split_at_checked(1) {
        Some((sign @ ("+" | "-"), rest)) => {
            let (hours, minutes) = rest.split_once(':').ok_or_else(wrong)?;
            let read = |part: &str| part.parse::<i32>().map_err(|_| wrong());
            let seconds = read(hours)? * 3600 + read(minutes)? * 60;
            Offset::from_seconds(if sign == "-" { -seconds } else { seconds }).map_err(|_| wrong())?
        }
        _ => Offset::UTC,
    };
    Ok(time.to_zoned(TimeZone::fixed(offset)))
}

/// A time in the form of a pattern, whose letters stand for its parts.
fn date(spec: &str, time: &Zoned) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = spec;
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let (text, after) = quoted(&rest[1..])?;
            out.push_str(&text);
            rest = after;
            continue;
        }
        let length = rest.chars().take_while(|c| *c == first).count() * first.len_utf8();
        let (verb, after) = rest.split_at(length);
        rest = after;
        match first.is_ascii_alphabetic() {
            true => out.push_str(&part(verb, time)?),
            false => out.push_str(verb),
        }
    }
    Ok(out)
}

/// Text up to a quote; two quotes are one that is meant.
fn quoted(mut text: &str) -> Result<(String, &str), String> {
    let mut out = String::new();
    loop {
        let (before, after) = text.split_once('\'').ok_or("unterminated literal in format string")?;
        out.push_str(before);
        match after.strip_prefix('\'') {
            Some(after) => {
                out.push('\'');
                text = after;
            }
            None => return Ok((out, after)),
        }
    }
}

fn part(verb: &str, time: &Zoned) -> Result<String, String> {
    let twelve = match time.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let seconds = time.offset().seconds();
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
    let offset = |colon: &str| format!("{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60);
    let is_noon = time.hour() >= 12;
    Ok(match verb {
        "M" => time.month().to_string(),
        "MM" => format!("{:02}", time.month()),
        "MMM" => time.strftime("%b").to_string(),
        "MMMM" => time.strftime("%B").to_string(),
        "D" => time.day().to_string(),
        "DD" => format!("{:02}", time.day()),
        "EEE" => time.strftime("%a").to_string(),
        "EEEE" => time.strftime("%A").to_string(),
        "YY" => format!("{:02}", time.year() % 100),
        "YYYY" => format!("{:04}", time.year()),
        "h" => time.hour().to_string(),
        "hh" => format!("{:02}", time.hour()),
        "H" => twelve.to_string(),
        "HH" => format!("{twelve:02}"),
        "AA" => if is_noon { "PM" } else { "AM" }.to_owned(),
        "aa" => if is_noon { "pm" } else { "am" }.to_owned(),
        "m" => time.minute().to_string(),
        "mm" => format!("{:02}", time.minute()),
        "s" => time.second().to_string(),
        "ss" => format!("{:02}", time.second()),
        "Z" if seconds == 0 => "Z".to_owned(),
        "ZZZ" if seconds == 0 => "UTC".to_owned(),
        "ZZZZ" | "ZZZ" => offset(""),
        "ZZZZZ" | "Z" => offset(":"),
        other => return Err(format!("invalid date format verb {other:?}")),
    })
}

/// Formats once for each item; what is no list goes along every time.
fn format_list(arguments: &[Value]) -> Outcome {
    let pattern = word(arguments, 0)?;
    let rest = &arguments[1..];
    let lengths: Vec<usize> = rest.iter().filter_map(Value::as_array).map(Vec::len).collect();
    let count = lengths.first().copied().unwrap_or(1);
    if lengths.iter().any(|length| *length != count) {
        return Err("all lists must have the same length".to_owned());
    }
    (0..count)
        .map(|at| {
            let items: Vec<Value> =
                rest.iter().map(|one| one.as_array().map_or_else(|| one.clone(), |all| all[at].clone())).collect();
            formatted(&pattern, &items).map(Value::String)
        })
        .collect()
}

fn random_id() -> Result<String, String> {
    use std::io::Read as _;
    let mut bytes = [0; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| error.to_string())?;
    Ok(id(bytes, 4))
}

/// The identifier of a name in a space: one of the known, or an identifier itself.
fn named_id(space: &str, name: &str) -> Result<String, String> {
    let known = |last: u8| -> Vec<u8> {
        let mut bytes =
            vec![0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8];
        bytes[3] = last;
        bytes
    };
    let space = match space {
        "dns" => known(0x10),
        "url" => known(0x11),
        "oid" => known(0x12),
        "x500" => known(0x14),
        other => {
            let digits: String = other.chars().filter(|c| *c != '-').collect();
            let bytes: Option<Vec<u8>> =
                (0..16).map(|at| u8::from_str_radix(digits.get(at * 2..at * 2 + 2)?, 16).ok()).collect();
            bytes
                .filter(|_| digits.len() == 32)
                .ok_or_else(|| format!("uuidv5() doesn't support namespace {other} ({other} is not a UUID)"))?
        }
    };
    let digest = sha1(&[&space[..], name.as_bytes()].concat());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Ok(id(bytes, 5))
}

fn id(mut bytes: [u8; 16], version: u8) -> String {
    bytes[6] = bytes[6] & 0x0f | version << 4;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

/// A range of addresses.
#[derive(Clone, Copy)]
struct Subnet {
    base: u128,
    prefix: u32,
    is_old: bool,
}

impl Subnet {
    fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("invalid CIDR expression: invalid CIDR address: {text}");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let prefix: u32 = prefix.parse().map_err(|_| wrong())?;
        let (base, is_old) = match address.parse().map_err(|_| wrong())? {
            IpAddr::V4(address) => (u128::from(u32::from(address)), true),
            IpAddr::V6(address) => (u128::from(address), false),
        };
        let mut subnet = Self { base, prefix, is_old };
        if prefix > subnet.width() {
            return Err(wrong());
        }
        subnet.base &= subnet.mask_bits();
        Ok(subnet)
    }

    fn width(self) -> u32 {
        if self.is_old { 32 } else { 128 }
    }

    /// Bits that tell addresses of the range apart.
    fn free(self) -> u32 {
        self.width() - self.prefix
    }

    fn mask_bits(self) -> u128 {
        let all = if self.is_old { u128::from(u32::MAX) } else { u128::MAX };
        all & u128::MAX.checked_shl(self.free()).unwrap_or(0)
    }

    fn address(self, bits: u128) -> String {
        match self.is_old {
            true => Ipv4Addr::from(u32::try_from(bits).unwrap_or(u32::MAX)).to_string(),
            false => Ipv6Addr::from(bits).to_string(),
        }
    }

    /// One address; a negative number counts from the end.
    fn host(self, number: i64) -> Result<String, String> {
        let count = 1_u128.checked_shl(self.free());
        let magnitude = u128::from(number.unsigned_abs());
        let at = match (number >= 0, count) {
            (true, None) => Some(magnitude),
            (true, Some(count)) => Some(magnitude).filter(|at| *at < count),
            (false, None) => Some(magnitude.wrapping_neg()),
            (false, Some(count)) => count.checked_sub(magnitude),
        };
        let at =
            at.ok_or_else(|| format!("prefix of {} does not accommodate a host numbered {number}", self.prefix))?;
        Ok(self.address(self.base | at))
    }

    fn mask(self) -> Result<String, String> {
        match self.is_old {
            true => Ok(self.address(self.mask_bits())),
            false => Err("IPv6 addresses cannot have a netmask".to_owned()),
        }
    }

    fn inner(self, bits: u32, number: i64) -> Result<Self, String> {
        if bits > self.free() {
            return Err(format!("insufficient address space to extend prefix of {} by {bits}", self.prefix));
        }
        let wrong = || format!("prefix extension of {bits} does not accommodate a subnet numbered {number}");
        let number_bits = u128::try_from(number).map_err(|_| wrong())?;
        if number_bits >= 1_u128.checked_shl(bits).unwrap_or(u128::MAX) {
            return Err(wrong());
        }
        let prefix = self.prefix + bits;
        let shifted = number_bits.checked_shl(self.width() - prefix).unwrap_or(0);
        Ok(Self { base: self.base | shifted, prefix, ..self })
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.address(self.base), self.prefix)
    }
}

/// Ranges one after the other, each with so many bits more.
fn subnets(arguments: &[Value]) -> Outcome {
    let whole_range = Subnet::read(&word(arguments, 0)?)?;
    let (mut all, mut next) = (Vec::new(), whole_range.base);
    for at in 1..arguments.len() {
        let bits = u32::try_from(whole(arguments, at)?).ok().filter(|bits| *bits > 0);
        let bits = bits.ok_or("must extend prefix by at least one bit")?;
        if bits > whole_range.free() {
            return Err(format!("would extend prefix to {} bits, which is too long", whole_range.prefix + bits));
        }
        let prefix = whole_range.prefix + bits;
        let size = 1_u128.checked_shl(whole_range.width() - prefix).unwrap_or(0);
        // At a place that is a multiple of its size.
        let base = next.checked_next_multiple_of(size.max(1)).ok_or("not enough remaining address space")?;
        let one = Subnet { base, prefix, ..whole_range };
        if base & whole_range.mask_bits() != whole_range.base {
            return Err(format!("not enough remaining address space for a subnet with a prefix of {prefix} bits"));
        }
        all.push(Value::from(one.to_string()));
        next = base.saturating_add(size);
    }
    Ok(Value::Array(all))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn functions_are_those_of_the_library() {
        for (name, arguments, expected) in [
            ("regex", json!(["[a-z]+", "53453453.345345aaabbbccc23454"]), json!("aaabbbccc")),
            ("regex", json!(["(\\d+)-(\\d+)", "in 2019-02"]), json!(["2019", "02"])),
            ("regex", json!(["(?P<year>\\d+)-(?P<month>\\d+)", "2019-02"]), json!({"year": "2019", "month": "02"})),
            ("regexall", json!(["[a-z]+", "1a2bc"]), json!(["a", "bc"])),
            ("regex_replace", json!(["v1.2", "(\\d)\\.(\\d)", "${2}-$1"]), json!("v2-1")),
            ("formatdate", json!(["DD MMM YYYY hh:mm ZZZ", "2018-01-02T23:12:01Z"]), json!("02 Jan 2018 23:12 UTC")),
            (
                "formatdate",
                json!(["EEEE, H:mmaa 'o''clock' ZZZZZ", "2018-01-02T23:12:01-08:00"]),
                json!("Tuesday, 11:12pm o'clock -08:00"),
            ),
            ("timeadd", json!(["2017-11-22T00:00:00Z", "10m"]), json!("2017-11-22T00:10:00Z")),
            ("formatlist", json!(["%s-%s", "a", ["x", "y"]]), json!(["a-x", "a-y"])),
            ("md5", json!([""]), json!("d41d8cd98f00b204e9800998ecf8427e")),
            ("md5", json!(["message digest"]), json!("f96b697d7cb7938d525a2f31aaf161d0")),
            (
                "md5",
                json!(["12345678901234567890123456789012345678901234567890123456789012345678901234567890"]),
                json!("57edf4a22be3c955ac49da2e2107b67a"),
            ),
            ("sha1", json!(["abc"]), json!("a9993e364706816aba3e25717850c26c9cd0d89d")),
            ("uuidv5", json!(["dns", "www.example.com"]), json!("2ed6657d-e927-568b-95e1-2665a8aea6a2")),
            ("cidrhost", json!(["10.12.127.0/20", 16]), json!("10.12.112.16")),
            ("cidrhost", json!(["10.12.127.0/20", -1]), json!("10.12.127.255")),
            ("cidrhost", json!(["fd00:fd12:3456:7890:00a2::/72", 34]), json!("fd00:fd12:3456:7890::22")),
            ("cidrnetmask", json!(["172.16.0.0/12"]), json!("255.240.0.0")),
            ("cidrsubnet", json!(["172.16.0.0/12", 4, 2]), json!("172.18.0.0/16")),
            (
                "cidrsubnets",
                json!(["10.1.0.0/16", 4, 4, 8, 4]),
                json!(["10.1.0.0/20", "10.1.16.0/20", "10.1.32.0/24", "10.1.48.0/20"]),
            ),
            ("sethaselement", json!([["a"], "a"]), json!(true)),
            ("setsymmetricdifference", json!([["a", "b"], ["b", "c"]]), json!(["a", "c"])),
        ] {
            let called = call(name, arguments.as_array().unwrap()).unwrap();
            assert_eq!(called.unwrap(), expected, "{name}{arguments}");
        }
        let id = call("uuidv4", &[]).unwrap().unwrap();
        assert_eq!((id.as_str().unwrap().len(), &id.as_str().unwrap()[14..15]), (36, "4"));
        for (name, arguments, error) in [
            ("regex", json!(["x", "y"]), "pattern did not match any part of the given string"),
            ("formatdate", json!(["Q", "2018-01-02T23:12:01Z"]), "invalid date format verb \"Q\""),
            ("formatdate", json!(["YYYY", "yesterday"]), "not a valid RFC3339 timestamp: \"yesterday\""),
            ("cidrhost", json!(["10.0.0.0/30", 4]), "prefix of 30 does not accommodate a host numbered 4"),
            ("bcrypt", json!(["x"]), "this function is not implemented"),
        ] {
            assert_eq!(call(name, arguments.as_array().unwrap()).unwrap().unwrap_err(), error, "{name}");
        }
        assert!(call("nope", &[]).is_none());
    }
}
