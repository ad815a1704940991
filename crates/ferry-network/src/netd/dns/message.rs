//! The few DNS messages that a resolver for containers reads and writes. Pure.
//!
//! Only the question of a query is read; everything else is passed on as it came.
//!
//! Spec: RFC 1035 section 4, RFC 6891 (size of answers).

use std::net::IpAddr;

/// Address of a name, IPv4.
pub(crate) const A: u16 = 1;
/// Name of an address.
pub(crate) const PTR: u16 = 12;
/// Address of a name, IPv6.
pub(crate) const AAAA: u16 = 28;
const OPT: u16 = 41;
const INTERNET: u16 = 1;

const HEADER_BYTES: usize = 12;
/// What a client without EDNS takes in one datagram.
const PLAIN_BYTES: usize = 512;
/// Names come and go with their containers.
const TTL_S: u32 = 10;

/// What a query asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// Lower case, without the last dot.
    pub(crate) name: String,
    pub(crate) kind: u16,
    /// Where the question ends in the message.
    end: usize,
    /// Longest datagram that the client takes.
    pub(crate) datagram_bytes: usize,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Addresses of the kind that was asked for; none says that the name has others.
    Addresses(Vec<IpAddr>),
    /// The name of an address.
    Name(String),
    /// Nobody could be asked.
    Failure,
}

/// Reads the question; `None` for what is no query of one question.
pub(crate) fn question(query: &[u8]) -> Option<Question> {
    let number = |at: usize| Some(u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]));
    let is_plain_query = number(2)? & 0xf800 == 0;
    if !is_plain_query || number(4)? != 1 {
        return None;
    }
    let mut name = String::new();
    let mut at = HEADER_BYTES;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..=63 => {
                if !name.is_empty() {
                    name.push('.');
                }
                let label = query.get(at..at + length)?;
                name.extend(label.iter().map(|&byte| char::from(byte.to_ascii_lowercase())));
                at += length;
            }
            // A pointer has nothing before it to point at.
            _ => return None,
        }
        if name.len() > 255 {
            return None;
        }
    }
    let (kind, class) = (number(at)?, number(at + 2)?);
    let end = at + 4;
    let has_only_extras = number(6)? == 0 && number(8)? == 0 && number(10)? > 0;
    let extra =
        (has_only_extras && query.get(end) == Some(&0) && number(end + 1) == Some(OPT)).then(|| number(end + 3));
    let datagram_bytes = extra.flatten().map_or(PLAIN_BYTES, |size| usize::from(size).max(PLAIN_BYTES));
    (class == INTERNET).then_some(Question { name, kind, end, datagram_bytes })
}

/// The address that a PTR question asks the name of.
pub(crate) fn asked_address(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0u8; 4];
        let mut parts = digits.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = parts.next()?.parse().ok()?;
        }
        return parts.next().is_none().then(|| IpAddr::from(octets));
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut bits = 0u128;
    let mut count = 0;
    for digit in digits.split('.') {
        let digit = u128::from_str_radix(digit, 16).ok().filter(|digit| *digit < 16)?;
        bits = bits >> 4 | digit << 124;
        count += 1;
    }
    (count == 32).then(|| IpAddr::from(bits.to_be_bytes()))
}

/// Writes an answer to `query`; over a datagram it is cut to what the client takes.
pub(crate) fn reply(query: &[u8], question: &Question, answer: &Answer, is_datagram: bool) -> Vec<u8> {
    let mut message = query[..question.end].to_vec();
    let wants_recursion = query[2] & 1;
    let code = u8::from(*answer == Answer::Failure) * 2;
    message[2] = 0x80 | wants_recursion;
    message[3] = 0x80 | code;
    message[6..12].fill(0);
    let records: Vec<(u16, Vec<u8>)> = match answer {
        Answer::Failure => Vec::new(),
        Answer::Addresses(addresses) => addresses.iter().map(address_record).collect(),
        Answer::Name(name) => vec![(PTR, encoded_name(name))],
    };
    let limit = if is_datagram { question.datagram_bytes } else { usize::from(u16::MAX) };
    let mut written = 0u16;
    for (kind, data) in records {
        if message.len() + HEADER_BYTES + data.len() > limit {
            message[2] |= 0x02;
            break;
        }
        // The name is the question's.
        message.extend_from_slice(&[0xc0, HEADER_BYTES as u8]);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&INTERNET.to_be_bytes());
        message.extend_from_slice(&TTL_S.to_be_bytes());
        message.extend_from_slice(&(data.len() as u16).to_be_bytes());
        message.extend_from_slice(&data);
        written += 1;
    }
    message[6..8].copy_from_slice(&written.to_be_bytes());
    message
}

/// The addresses that a reply gives, of whatever name a chain of other names leads to, and how long the shortest of them is good for,
/// in seconds; `None` when it gives none.
pub(crate) fn addresses(reply: &[u8]) -> Option<(Vec<IpAddr>, u32)> {
    let number = |at: usize| Some(u16::from_be_bytes([*reply.get(at)?, *reply.get(at + 1)?]));
    let mut at = HEADER_BYTES;
    for _ in 0..number(4)? {
        at = after_name(reply, at)? + 4;
    }
    let (mut addresses, mut ttl_s) = (Vec::new(), u32::MAX);
    for _ in 0..number(6)? {
        at = after_name(reply, at)?;
        let (kind, class, length) = (number(at)?, number(at + 2)?, usize::from(number(at + 8)?));
        let ttl = reply.get(at + 4..at + 8)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))?;
        let data = reply.get(at + 10..at + 10 + length)?;
        at += 10 + length;
        let address = match (class, kind) {
            (INTERNET, A) => IpAddr::from(*<&[u8; 4]>::try_from(data).ok()?),
            (INTERNET, AAAA) => IpAddr::from(*<&[u8; 16]>::try_from(data).ok()?),
            _ => continue,
        };
        addresses.push(address);
        ttl_s = ttl_s.min(ttl);
    }
    (!addresses.is_empty()).then_some((addresses, ttl_s))
}

/// Where the message goes on behind a name, which may end in a pointer.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// Whether `reply` can be the answer to `query`: the same number, and an answer at all.
pub(crate) fn answers(reply: &[u8], query: &[u8]) -> bool {
    reply.len() >= HEADER_BYTES && reply[..2] == query[..2] && reply[2] & 0x80 != 0
}

fn address_record(address: &IpAddr) -> (u16, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (A, address.octets().to_vec()),
        IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
    }
}

fn encoded_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16, extra: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!extra.is_empty())];
        bytes.extend(encoded_name(name));
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&INTERNET.to_be_bytes());
        bytes.extend_from_slice(extra);
        bytes
    }

    #[test]
    fn questions_are_read_without_case() {
        let asked = question(&query("Web.Example", A, &[])).expect("a question");
        assert_eq!((asked.name.as_str(), asked.kind, asked.datagram_bytes), ("web.example", A, 512));
        let edns = [0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(question(&query("web", AAAA, &edns)).expect("a question").datagram_bytes, 4096);
    }

    #[test]
    fn what_is_no_query_is_none() {
        let good = query("web", A, &[]);
        for length in 0..good.len() {
            assert_eq!(question(&good[..length]), None, "{length} bytes");
        }
        let mut reply = good.clone();
        reply[2] |= 0x80;
        assert_eq!(question(&reply), None);
        let mut two = good.clone();
        two[5] = 2;
        assert_eq!(question(&two), None);
        let mut pointer = good;
        pointer[12] = 0xc0;
        assert_eq!(question(&pointer), None);
    }

    #[test]
    fn answers_have_number_question_and_records() {
        let query = query("web", A, &[]);
        let asked = question(&query).expect("a question");
        let message = reply(&query, &asked, &Answer::Addresses(vec!["10.0.0.2".parse().expect("address")]), true);
        assert!(answers(&message, &query));
        assert_eq!(message[..12], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(message[message.len() - 16..][..6], [0xc0, 12, 0, 1, 0, 1]);
        assert_eq!(message[message.len() - 6..], [0, 4, 10, 0, 0, 2]);
        let failed = reply(&query, &asked, &Answer::Failure, true);
        assert_eq!((failed[3] & 15, failed[7]), (2, 0));
    }

    #[test]
    fn addresses_of_a_reply_are_read_behind_other_names() {
        let query = query("web", A, &[]);
        let asked = question(&query).expect("a question");
        let given: Vec<IpAddr> = ["10.0.0.2", "fd00::2"].map(|text| text.parse().expect("an address")).into();
        let message = reply(&query, &asked, &Answer::Addresses(given.clone()), true);
        assert_eq!(addresses(&message), Some((given, TTL_S)));
        for length in 0..message.len() {
            assert_eq!(addresses(&message[..length]), None, "{length} bytes");
        }
        let named = reply(&query, &asked, &Answer::Name("other.example".to_owned()), true);
        assert_eq!(addresses(&named), None);
        assert_eq!(addresses(&reply(&query, &asked, &Answer::Failure, true)), None);
    }

    #[test]
    fn long_answers_are_cut_in_a_datagram_alone() {
        let query = query("web", A, &[]);
        let asked = question(&query).expect("a question");
        let many = Answer::Addresses((0..200u8).map(|last| IpAddr::from([10, 0, 0, last])).collect());
        let cut = reply(&query, &asked, &many, true);
        assert!(cut.len() <= 512 && cut[2] & 0x02 != 0);
        let whole = reply(&query, &asked, &many, false);
        assert_eq!((whole[2] & 0x02, whole[7]), (0, 200));
    }

    #[test]
    fn addresses_are_read_from_their_reverse_names() {
        let address = |text: &str| text.parse::<IpAddr>().ok();
        assert_eq!(asked_address("2.0.18.172.in-addr.arpa"), address("172.18.0.2"));
        let reversed = format!("{}d.f.ip6.arpa", "2.0.0.0.".to_owned() + &"0.".repeat(26));
        assert_eq!(asked_address(&reversed), address("fd00::2"));
        for bad in ["1.2.3.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "256.1.1.1.in-addr.arpa", "web", "0.ip6.arpa"] {
            assert_eq!(asked_address(bad), None, "{bad}");
        }
    }
}
