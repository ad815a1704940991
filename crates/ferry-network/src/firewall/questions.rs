//! The table in a container's own namespace that leads its questions to the sockets of its resolver.
//!
//! Made of messages: it comes with every start in a network with names, and starting `nft` for it would take a fifth of that.

use std::{io, net::Ipv4Addr};

use super::{
    nftables::{DELTABLE, IPV4, NEWCHAIN, NEWTABLE, message, transaction},
    open_netfilter,
};
use crate::{
    error::Error,
    netlink::{Request, attribute::Attributes, flag},
};

const TABLE: &str = "ferry_dns";
const CHAIN: &str = "output";
const NEWRULE: u16 = 6;

/// `NF_INET_LOCAL_OUT`, and `NF_IP_PRI_NAT_DST`.
const LOCAL_OUT: u32 = 3;
const PRIORITY: i32 = -100;

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// `NFT_META_L4PROTO`
const META_PROTOCOL: u32 = 16;
/// `NFT_NAT_DNAT`
const DNAT: u32 = 1;
const FIRST: u32 = 1;
const SECOND: u32 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where questions are asked, and where they are answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Questions {
    /// The address of both.
    pub(crate) resolver: Ipv4Addr,
    /// The port that is asked.
    pub(crate) port: u16,
    /// The port of the socket for datagrams.
    pub(crate) datagrams: u16,
    /// The port of the one for connections.
    pub(crate) stream: u16,
}

/// Leads questions in the calling thread's namespace; what an earlier life of the resolver left there is replaced.
pub(crate) fn lead(questions: Questions) -> Result<(), Error> {
    let mut netlink = open_netfilter().map_err(|source| Error::kernel("open", "netfilter socket", source))?;
    let sent: Result<(), io::Error> = netlink.send(&requests(questions)).map_err(|refused| refused.source);
    sent.map_err(|source| Error::kernel("make table", TABLE, source))
}

fn requests(questions: Questions) -> Vec<Request> {
    let make = flag::ACK | flag::CREATE;
    let table = |kind, flags| message(kind, IPV4, flags, |attributes| attributes.text(1, TABLE));
    let hook = Attributes::default().bytes(1, &LOCAL_OUT.to_be_bytes()).bytes(2, &PRIORITY.to_be_bytes());
    let chain = message(NEWCHAIN, IPV4, make, |attributes| {
        attributes.text(1, TABLE).text(3, CHAIN).nested(4, hook).text(7, "nat")
    });
    let rule = |protocol, to| {
        message(NEWRULE, IPV4, make | flag::APPEND, |attributes| {
            attributes.text(1, TABLE).text(2, CHAIN).nested(4, translation(questions, protocol, to))
        })
    };
    let (datagrams, stream) = (rule(UDP, questions.datagrams), rule(TCP, questions.stream));
    // One that is not there cannot be deleted, one that was just added can.
    transaction(vec![
        table(NEWTABLE, make),
        table(DELTABLE, flag::ACK),
        table(NEWTABLE, make),
        chain,
        datagrams,
        stream,
    ])
}

/// `ip daddr RESOLVER PROTOCOL dport PORT dnat to RESOLVER:TO`
fn translation(questions: Questions, protocol: u8, to: u16) -> Attributes {
    let resolver = questions.resolver.octets();
    let nat = numbers(&[(1, DNAT), (2, u32::from(IPV4)), (3, FIRST), (5, SECOND)]);
    let expressions = [
        expression("payload", payload(NETWORK_HEADER, 16, 4)),
        expression("cmp", equals(&resolver)),
        expression("meta", numbers(&[(1, FIRST), (2, META_PROTOCOL)])),
        expression("cmp", equals(&[protocol])),
        expression("payload", payload(TRANSPORT_HEADER, 2, 2)),
        expression("cmp", equals(&questions.port.to_be_bytes())),
        expression("immediate", immediate(FIRST, &resolver)),
        expression("immediate", immediate(SECOND, &to.to_be_bytes())),
        expression("nat", nat),
    ];
    expressions.into_iter().fold(Attributes::default(), |list, one| list.nested(1, one))
}

fn expression(name: &str, data: Attributes) -> Attributes {
    Attributes::default().text(1, name).nested(2, data)
}

fn numbers(list: &[(u16, u32)]) -> Attributes {
    list.iter().fold(Attributes::default(), |attributes, (kind, number)| attributes.bytes(*kind, &number.to_be_bytes()))
}

/// Brings bytes of the packet to the first register.
fn payload(header: u32, offset: u32, length: u32) -> Attributes {
    numbers(&[(1, FIRST), (2, header), (3, offset), (4, length)])
}

/// Goes on where the first register is this.
fn equals(value: &[u8]) -> Attributes {
    numbers(&[(1, FIRST), (2, 0)]).nested(3, Attributes::default().bytes(1, value))
}

fn immediate(register: u32, value: &[u8]) -> Attributes {
    numbers(&[(1, register)]).nested(2, Attributes::default().bytes(1, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute::Reader;

    #[test]
    fn a_table_with_a_rule_for_each_protocol_replaces_what_was_there() {
        let questions =
            Questions { resolver: Ipv4Addr::new(127, 0, 0, 11), port: 53, datagrams: 0x1234, stream: 0x5678 };
        let requests = requests(questions);
        let kinds: Vec<u16> = requests.iter().map(|request| request.kind & 0xff).collect();
        assert_eq!(kinds, [0x10, NEWTABLE, DELTABLE, NEWTABLE, NEWCHAIN, NEWRULE, NEWRULE, 0x11]);
        for (request, protocol, port) in [(&requests[5], UDP, [0x12, 0x34]), (&requests[6], TCP, [0x56, 0x78])] {
            let rule = Reader::new(&request.payload[4..]);
            assert_eq!((rule.text(1), rule.text(2)), (Some(TABLE), Some(CHAIN)));
            let list = Reader::new(rule.value(4).expect("expressions"));
            let parts: Vec<(&str, &[u8])> = list
                .map(|(_, one)| (Reader::new(one).text(1).expect("a name"), Reader::new(one).value(2).expect("data")))
                .collect();
            let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
            let expected = ["payload", "cmp", "meta", "cmp", "payload", "cmp", "immediate", "immediate", "nat"];
            assert_eq!(names, expected);
            let value = |at: usize, kind| Reader::new(Reader::new(parts[at].1).value(kind).expect("data")).value(1);
            assert_eq!(value(3, 3), Some([protocol].as_slice()));
            assert_eq!(value(7, 2), Some(port.as_slice()));
        }
    }
}
