//! The nftables messages that are sent on a container's way: set elements, and listings.
//!
//! Encodes and decodes; what the sets mean is said in [`super::ruleset`]. Starting `nft` for an
//! element would take half the time of a container start.

use std::{collections::BTreeMap, io};

use crate::{
    egress::Count,
    netlink::{
        Netlink, Reply, Request,
        attribute::{Attributes, Reader},
        flag,
    },
};

/// Address families of nftables, as in `linux/netfilter.h`.
pub(crate) const INET: u8 = 1;
pub(crate) const IPV4: u8 = 2;
pub(crate) const BRIDGE: u8 = 7;
pub(crate) const IPV6: u8 = 10;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
pub(crate) const NEWTABLE: u16 = 0;
pub(crate) const DELTABLE: u16 = 2;
const GETTABLE: u16 = 1;
pub(crate) const NEWCHAIN: u16 = 3;
const GETCHAIN: u16 = 4;
const GETRULE: u16 = 7;
const DELRULE: u16 = 8;
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const GETSET: u16 = 10;
const GETOBJ: u16 = 19;
const DELSETELEM: u16 = 14;

const INTERVAL_END: u32 = 1;

/// Elements in one message: an attribute's length has 16 bits.
const ELEMENTS_PER_MESSAGE: usize = 400;

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    /// The set's name.
    pub(crate) set: &'static str,
    /// The key, each field padded to four bytes.
    pub(crate) key: Vec<u8>,
    /// The last key, where the element is a range in every field.
    pub(crate) last: Option<Vec<u8>>,
    /// The value in a map, likewise.
    pub(crate) data: Option<Vec<u8>>,
    /// The key is the first one after an interval.
    pub(crate) is_interval_end: bool,
    /// What a listing shows beside it.
    pub(crate) comment: String,
}

/// A base chain as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseChain {
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) name: String,
    pub(crate) hook: u32,
    pub(crate) drops_by_policy: bool,
    pub(crate) has_rules: bool,
}

/// A rule as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) chain: String,
    pub(crate) handle: u64,
    pub(crate) comment: String,
}

fn head(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// A message about what a family has.
pub(crate) fn message(kind: u16, family: u8, flags: u16, attributes: impl FnOnce(Attributes) -> Attributes) -> Request {
    let payload = attributes(Attributes::after(&head(family, 0))).into_bytes();
    Request { kind: SUBSYSTEM << 8 | kind, flags, payload }
}

/// Makes the requests one transaction: the kernel does all or none.
pub(crate) fn transaction(requests: Vec<Request>) -> Vec<Request> {
    let bracket = |kind| Request { kind, flags: 0, payload: head(0, SUBSYSTEM).to_vec() };
    let mut all = vec![bracket(BATCH_BEGIN)];
    all.extend(requests);
    all.push(bracket(BATCH_END));
    all
}

/// Adds elements; one that is there with the same value is fine.
pub(crate) fn add_elements<'a>(
    family: u8,
    table: &str,
    elements: impl IntoIterator<Item = &'a Element>,
) -> Vec<Request> {
    element_messages(NEWSETELEM, flag::ACK | flag::CREATE, family, table, elements)
}

/// Removes elements, which must be there.
pub(crate) fn delete_elements<'a>(
    family: u8,
    table: &str,
    elements: impl IntoIterator<Item = &'a Element>,
) -> Vec<Request> {
    element_messages(DELSETELEM, flag::ACK, family, table, elements)
}

/// Empties a set.
pub(crate) fn flush_set(family: u8, table: &str, set: &str) -> Request {
    message(DELSETELEM, family, flag::ACK, |attributes| attributes.text(1, table).text(2, set))
}

fn element_messages<'a>(
    kind: u16,
    flags: u16,
    family: u8,
    table: &str,
    elements: impl IntoIterator<Item = &'a Element>,
) -> Vec<Request> {
    let mut by_set: BTreeMap<&str, Vec<&Element>> = BTreeMap::new();
    for element in elements {
        by_set.entry(element.set).or_default().push(element);
    }
    let mut requests = Vec::new();
    for (set, elements) in by_set {
        for elements in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let list = elements.iter().fold(Attributes::default(), |list, element| list.nested(1, encode(element)));
            requests.push(message(kind, family, flags, |attributes| {
                attributes.text(1, table).text(2, set).nested(3, list)
            }));
        }
    }
    requests
}

fn encode(element: &Element) -> Attributes {
    let value = |bytes: &[u8]| Attributes::default().bytes(1, bytes);
    let mut encoded = Attributes::default().nested(1, value(&element.key));
    if element.is_interval_end {
        return encoded.bytes(3, &INTERVAL_END.to_be_bytes());
    }
    if let Some(data) = &element.data {
        encoded = encoded.nested(2, value(data));
    }
    if let Some(last) = &element.last {
        encoded = encoded.nested(10, value(last));
    }
    match comment_data(&element.comment) {
        Some(data) => encoded.bytes(6, &data),
        None => encoded,
    }
}

/// User data holds entries of kind, length and value; kind 0 is the comment.
fn comment_data(comment: &str) -> Option<Vec<u8>> {
    let length = u8::try_from(comment.len() + 1).ok().filter(|length| *length > 1 && *length <= 128)?;
    let mut data = vec![0, length];
    data.extend_from_slice(comment.as_bytes());
    data.push(0);
    Some(data)
}

fn comment_in(data: &[u8]) -> Option<String> {
    let mut rest = data;
    while let [kind, length, tail @ ..] = rest {
        let value = tail.get(..usize::from(*length))?;
        if *kind == 0 {
            let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
            return std::str::from_utf8(text).ok().map(str::to_owned);
        }
        rest = &tail[usize::from(*length)..];
    }
    None
}

/// Removes a table with all in it.
pub(crate) fn delete_table(family: u8, table: &str) -> Request {
    message(DELTABLE, family, flag::ACK, |attributes| attributes.text(1, table))
}

/// Removes a rule.
pub(crate) fn delete_rule(rule: &Rule) -> Request {
    message(DELRULE, rule.family, flag::ACK, |attributes| {
        attributes.text(1, &rule.table).text(2, &rule.chain).bytes(3, &rule.handle.to_be_bytes())
    })
}

/// Tells whether a table exists.
pub(crate) fn has_table(netlink: &mut Netlink, family: u8, table: &str) -> io::Result<bool> {
    let request = message(GETTABLE, family, 0, |attributes| attributes.text(1, table));
    match netlink.get(request) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tells whether a table has a chain.
pub(crate) fn has_chain(netlink: &mut Netlink, family: u8, table: &str, chain: &str) -> io::Result<bool> {
    let request = message(GETCHAIN, family, 0, |attributes| attributes.text(1, table).text(3, chain));
    match netlink.get(request) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Lists the elements of a plain set.
pub(crate) fn elements(netlink: &mut Netlink, family: u8, table: &str, set: &'static str) -> io::Result<Vec<Element>> {
    let request = message(GETSETELEM, family, 0, |attributes| attributes.text(1, table).text(2, set));
    let replies = netlink.dump(request)?;
    let lists = replies.iter().filter_map(|reply| attributes_of(reply)?.value(3));
    Ok(lists.flat_map(Reader::new).filter_map(|(_, element)| decode(set, element)).collect())
}

fn decode(set: &'static str, element: &[u8]) -> Option<Element> {
    let reader = Reader::new(element);
    let key = Reader::new(reader.value(1)?).value(1)?.to_vec();
    let comment = reader.value(6).and_then(comment_in).unwrap_or_default();
    Some(Element { set, key, last: None, data: None, is_interval_end: false, comment })
}

/// What has names in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listed {
    Chain,
    Set,
    Counter,
}

/// Lists the names in a table.
pub(crate) fn names(netlink: &mut Netlink, family: u8, table: &str, listed: Listed) -> io::Result<Vec<String>> {
    let (kind, name) = match listed {
        Listed::Chain => (GETCHAIN, 3),
        Listed::Set => (GETSET, 2),
        Listed::Counter => (GETOBJ, 2),
    };
    let replies = netlink.dump(message(kind, family, 0, |attributes| attributes.text(1, table)))?;
    let of_table = replies.iter().filter_map(attributes_of).filter(|reader| reader.text(1) == Some(table));
    Ok(of_table.filter_map(|reader| reader.text(name).map(str::to_owned)).collect())
}

/// Reads the named counters of a table.
pub(crate) fn counters(netlink: &mut Netlink, family: u8, table: &str) -> io::Result<BTreeMap<String, Count>> {
    let replies = netlink.dump(message(GETOBJ, family, 0, |attributes| attributes.text(1, table)))?;
    Ok(replies.iter().filter_map(|reply| counter(reply, table)).collect())
}

fn counter(reply: &Reply, table: &str) -> Option<(String, Count)> {
    let reader = attributes_of(reply).filter(|reader| reader.text(1) == Some(table))?;
    let data = Reader::new(reader.value(4)?);
    let number = |kind| data.value(kind)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    Some((reader.text(2)?.to_owned(), Count { bytes: number(1)?, packets: number(2)? }))
}

/// Something that happened to the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A table went with all in it.
    TableGone(String),
    /// A chain was made or changed, or a rule in it went.
    Chain { table: String, chain: String },
}

impl Change {
    /// Reads an event; none when it is of another kind.
    pub(crate) fn read(kind: u16, event: &Reply) -> Option<Self> {
        let reader = attributes_of(event)?;
        let table = reader.text(1)?.to_owned();
        match kind.checked_sub(SUBSYSTEM << 8)? {
            DELTABLE => Some(Self::TableGone(table)),
            NEWCHAIN => Some(Self::Chain { table, chain: reader.text(3)?.to_owned() }),
            DELRULE => Some(Self::Chain { table, chain: reader.text(2)?.to_owned() }),
            _ => None,
        }
    }
}

/// Lists the base chains of all families.
pub(crate) fn base_chains(netlink: &mut Netlink) -> io::Result<Vec<BaseChain>> {
    let replies = netlink.dump(message(GETCHAIN, 0, 0, |attributes| attributes))?;
    Ok(replies.iter().filter_map(base_chain).collect())
}

fn base_chain(reply: &Reply) -> Option<BaseChain> {
    let reader = attributes_of(reply)?;
    let hook = number(Reader::new(reader.value(4)?).value(1)?)?;
    Some(BaseChain {
        family: *reply.payload.first()?,
        table: reader.text(1)?.to_owned(),
        name: reader.text(3)?.to_owned(),
        hook,
        drops_by_policy: reader.value(5).and_then(number) == Some(0),
        has_rules: reader.value(6).and_then(number).is_some_and(|users| users > 0),
    })
}

/// Lists the rules that have a comment, in all families.
pub(crate) fn commented_rules(netlink: &mut Netlink) -> io::Result<Vec<Rule>> {
    let replies = netlink.dump(message(GETRULE, 0, 0, |attributes| attributes))?;
    Ok(replies.iter().filter_map(commented_rule).collect())
}

fn commented_rule(reply: &Reply) -> Option<Rule> {
    let reader = attributes_of(reply)?;
    Some(Rule {
        family: *reply.payload.first()?,
        table: reader.text(1)?.to_owned(),
        chain: reader.text(2)?.to_owned(),
        handle: u64::from_be_bytes(*reader.value(3)?.first_chunk()?),
        comment: comment_in(reader.value(7)?)?,
    })
}

fn attributes_of(reply: &Reply) -> Option<Reader<'_>> {
    reply.payload.get(4..).map(Reader::new)
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `nft` 1.0.6 sends for
    /// `add element inet T publish4 { tcp . 10.0.0.2 . 8080 comment "abc" : 172.17.0.2 . 80 }`,
    /// without its optional element-list id.
    #[test]
    fn elements_are_encoded_as_nft_does() {
        let element = Element {
            set: "publish4",
            key: vec![6, 0, 0, 0, 10, 0, 0, 2, 0x1f, 0x90, 0, 0],
            last: None,
            data: Some(vec![172, 17, 0, 2, 0, 80, 0, 0]),
            is_interval_end: false,
            comment: "abc".to_owned(),
        };
        let requests = add_elements(INET, "T", [&element]);
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].kind, 0x0a0c);
        let expected = [
            b"\x01\0\0\0".as_slice(),
            b"\x06\0\x01\0T\0\0\0",
            b"\x0d\0\x02\0publish4\0\0\0\0",
            b"\x38\0\x03\x80\x34\0\x01\x80",
            b"\x14\0\x01\x80\x10\0\x01\0\x06\0\0\0\x0a\0\0\x02\x1f\x90\0\0",
            b"\x10\0\x02\x80\x0c\0\x01\0\xac\x11\0\x02\0\x50\0\0",
            b"\x0a\0\x06\0\0\x04abc\0\0\0",
        ]
        .concat();
        assert_eq!(requests[0].payload, expected);
    }

    #[test]
    fn transactions_are_bracketed() {
        let requests = transaction(vec![delete_table(INET, "T")]);
        let kinds: Vec<_> = requests.iter().map(|request| request.kind).collect();
        assert_eq!(kinds, [0x10, 0x0a02, 0x11]);
        assert_eq!(requests[0].payload, [0, 0, 0, 10]);
        assert_eq!(requests[2].flags, 0);
    }

    #[test]
    fn elements_go_in_messages_of_limited_size() {
        let elements: Vec<_> = (0..1000_u32)
            .map(|number| Element {
                set: "s",
                key: number.to_be_bytes().to_vec(),
                last: None,
                data: None,
                is_interval_end: false,
                comment: "0123456789ab".to_owned(),
            })
            .collect();
        let requests = delete_elements(INET, "T", &elements);
        assert_eq!(requests.len(), 3);
        assert!(requests.iter().all(|request| request.payload.len() < 65_000));
    }

    #[test]
    fn comments_are_read_back() {
        assert_eq!(comment_in(&comment_data("ferry:x").expect("short")), Some("ferry:x".to_owned()));
        assert_eq!(comment_in(&[1, 2, 9, 9, 0, 2, b'a', 0]), Some("a".to_owned()));
        for broken in [b"".as_slice(), &[0], &[0, 9, b'a'], &[1, 0]] {
            assert_eq!(comment_in(broken), None);
        }
        assert_eq!(comment_data(&"x".repeat(200)), None);
    }
}
