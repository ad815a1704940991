//! Addresses and subnets as Docker's daemon reads them while it reads a request: by the rules of Go's `net/netip`, and in its words.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// An address, perhaps of one link alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    written: IpAddr,
    /// The link that it is an address of; empty is none.
    zone: String,
}

impl Address {
    /// Reads one; what is wrong is told as Go's parser tells it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: String| format!("ParseAddr({text:?}): {why}");
        match fault(text) {
            Some(why) => Err(wrong(why)),
            None => {
                let (bare, zone) = text.split_once('%').unwrap_or((text, ""));
                let written = bare.parse().map_err(|_| wrong("unable to parse IP".to_owned()))?;
                Ok(Self { written, zone: zone.to_owned() })
            }
        }
    }

    /// The address without its link; one of IPv4 that is written as one of IPv6 is what it is.
    pub(crate) fn plain(&self) -> IpAddr {
        self.written.to_canonical()
    }

    /// As text, for what is no address of IPv4 written as one of IPv6 any more.
    pub(crate) fn unmapped(&self) -> String {
        if self.is_v4() { self.plain().to_string() } else { self.to_string() }
    }

    pub(crate) fn is_unspecified(&self) -> bool {
        self.written.is_unspecified()
    }

    /// Whether it can be the IPv4 address of something.
    pub(crate) fn is_v4(&self) -> bool {
        self.plain().is_ipv4()
    }

    /// Whether it can be the IPv6 address of something in a network.
    pub(crate) fn is_v6(&self) -> bool {
        self.plain().is_ipv6() && self.zone.is_empty()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.zone.as_str() {
            "" => self.written.fmt(formatter),
            zone => write!(formatter, "{}%{zone}", self.written),
        }
    }
}

/// Reads a subnet.
pub(crate) fn prefix(text: &str) -> Result<IpNet, String> {
    let wrong = |why: String| format!("netip.ParsePrefix({text:?}): {why}");
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| wrong("no '/'".to_owned()))?;
    let address = Address::parse(address).map_err(wrong)?;
    if !address.zone.is_empty() {
        return Err(wrong("IPv6 zones cannot be present in a prefix".to_owned()));
    }
    let bad_bits = || wrong(format!("bad bits after slash: {bits:?}"));
    let is_odd = bits.len() > 1 && !bits.starts_with(|digit: char| ('1'..='9').contains(&digit));
    let number: i64 = if is_odd { Err(bad_bits()) } else { bits.parse().map_err(|_| bad_bits()) }?;
    let length = u8::try_from(number).ok();
    let net = length.and_then(|length| IpNet::new(address.written, length).ok());
    net.ok_or_else(|| wrong("prefix length out of range".to_owned()))
}

/// What is wrong with an address.
fn fault(text: &str) -> Option<String> {
    match text.bytes().find(|byte| matches!(byte, b'.' | b':' | b'%')) {
        Some(b'.') => fault_of_v4(text),
        Some(b':') => fault_of_v6(text),
        Some(_) => Some("missing IPv6 address".to_owned()),
        None => Some("unable to parse IP".to_owned()),
    }
}

fn at(why: &str, rest: &str) -> Option<String> {
    Some(format!("{why} (at {rest:?})"))
}

fn fault_of_v4(text: &str) -> Option<String> {
    let plain = |why: &str| Some(why.to_owned());
    let (mut value, mut digits, mut dots) = (0_u32, 0, 0);
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b'0'..=b'9' if digits == 1 && value == 0 => return plain("IPv4 field has octet with leading zero"),
            b'0'..=b'9' => {
                value = value * 10 + u32::from(byte - b'0');
                digits += 1;
                if value > 255 {
                    return plain("IPv4 field has value >255");
                }
            }
            b'.' if digits == 0 || place == text.len() - 1 => {
                return at("IPv4 field must have at least one digit", &text[place..]);
            }
            b'.' if dots == 3 => return plain("IPv4 address too long"),
            b'.' => (value, digits, dots) = (0, 0, dots + 1),
            _ => return at("unexpected character", &text[place..]),
        }
    }
    if dots < 3 { plain("IPv4 address too short") } else { None }
}

fn fault_of_v6(text: &str) -> Option<String> {
    let plain = |why: &str| Some(why.to_owned());
    let mut rest = match text.split_once('%') {
        Some((_, "")) => return plain("zone must be a non-empty string"),
        Some((bare, _)) => bare,
        None => text,
    };
    let (mut filled, mut has_gap) = (0, false);
    if let Some(after) = rest.strip_prefix("::") {
        (rest, has_gap) = (after, true);
        if rest.is_empty() {
            return None;
        }
    }
    while filled < 16 {
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        if digits > 4 {
            return at("each group must have 4 or less digits", rest);
        }
        if digits == 0 {
            return at("each colon-separated field must have at least one digit", rest);
        }
        if rest[digits..].starts_with('.') {
            if !has_gap && filled != 12 {
                return at("embedded IPv4 address must replace the final 2 fields of the address", rest);
            }
            if filled + 4 > 16 {
                return at("too many hex fields to fit an embedded IPv4 at the end of the address", rest);
            }
            if let Some(why) = fault_of_v4(rest) {
                return Some(why);
            }
            (rest, filled) = ("", filled + 4);
            break;
        }
        filled += 2;
        rest = &rest[digits..];
        if rest.is_empty() {
            break;
        }
        let Some(after) = rest.strip_prefix(':') else { return at("unexpected character, want colon", rest) };
        if after.is_empty() {
            return at("colon must be followed by more characters", rest);
        }
        rest = after;
        if let Some(after) = rest.strip_prefix(':') {
            if has_gap {
                return at("multiple :: in address", rest);
            }
            (rest, has_gap) = (after, true);
            if rest.is_empty() {
                break;
            }
        }
    }
    match (rest.is_empty(), filled < 16, has_gap) {
        (false, ..) => at("trailing garbage after address", rest),
        (true, true, false) => plain("address string too short"),
        (true, false, true) => plain("the :: must expand to at least one field of zeros"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_refused_in_the_words_of_go() {
        for (text, why) in [
            ("x", "unable to parse IP"),
            ("", "unable to parse IP"),
            ("%eth0", "missing IPv6 address"),
            ("1.2.3", "IPv4 address too short"),
            ("1.2.3.4.5", "IPv4 address too long"),
            ("1.2.3.04", "IPv4 field has octet with leading zero"),
            ("1.2.3.256", "IPv4 field has value >255"),
            (".1.2.3", "IPv4 field must have at least one digit (at \".1.2.3\")"),
            ("1.2.3.", "IPv4 field must have at least one digit (at \".\")"),
            ("1..2.3", "IPv4 field must have at least one digit (at \".2.3\")"),
            ("1.2.3.4%eth0", "unexpected character (at \"%eth0\")"),
            ("1.2.3.x", "unexpected character (at \"x\")"),
            ("fe80::1%", "zone must be a non-empty string"),
            ("12345::", "each group must have 4 or less digits (at \"12345::\")"),
            (":1", "each colon-separated field must have at least one digit (at \":1\")"),
            ("1:2.3.4.5", "embedded IPv4 address must replace the final 2 fields of the address (at \"2.3.4.5\")"),
            ("::1.2.3", "IPv4 address too short"),
            ("1:2:3:4:5:6:7:8:9", "trailing garbage after address (at \"9\")"),
            ("1:2:", "colon must be followed by more characters (at \":\")"),
            ("1::2::3", "multiple :: in address (at \":3\")"),
            ("1:2", "address string too short"),
            ("1:2:3:4::5:6:7:8", "the :: must expand to at least one field of zeros"),
            ("::g", "each colon-separated field must have at least one digit (at \"g\")"),
            ("::1g", "unexpected character, want colon (at \"g\")"),
        ] {
            assert_eq!(Address::parse(text), Err(format!("ParseAddr({text:?}): {why}")));
        }
    }

    #[test]
    fn addresses_are_what_they_mean() {
        let mapped = Address::parse("::ffff:1.2.3.4").unwrap();
        assert_eq!((mapped.plain(), mapped.to_string().as_str()), ([1, 2, 3, 4].into(), "::ffff:1.2.3.4"));
        assert!(mapped.is_v4() && !mapped.is_v6());
        let zoned = Address::parse("fe80::1%eth0").unwrap();
        assert_eq!((zoned.plain(), zoned.to_string().as_str()), ("fe80::1".parse::<IpAddr>().unwrap(), "fe80::1%eth0"));
        assert!(!zoned.is_v4() && !zoned.is_v6());
        for good in ["::", "1::", "1:2:3:4:5:6:7::", "::1.2.3.4", "FD00::0001", "0.0.0.0"] {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn subnets_are_read_as_go_reads_them() {
        assert_eq!(prefix("10.1.0.0/16").unwrap().to_string(), "10.1.0.0/16");
        for (text, why) in [
            ("10.1.0.0", "no '/'"),
            ("10.1/16", "ParseAddr(\"10.1\"): IPv4 address too short"),
            ("10.1.0.0/", "bad bits after slash: \"\""),
            ("10.1.0.0/08", "bad bits after slash: \"08\""),
            ("10.1.0.0/+8", "bad bits after slash: \"+8\""),
            ("10.1.0.0/x", "bad bits after slash: \"x\""),
            ("10.1.0.0/33", "prefix length out of range"),
            ("fd00::/129", "prefix length out of range"),
            ("fe80::%1/64", "IPv6 zones cannot be present in a prefix"),
        ] {
            assert_eq!(prefix(text), Err(format!("netip.ParsePrefix({text:?}): {why}")));
        }
    }
}
