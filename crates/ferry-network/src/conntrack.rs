//! Forgetting UDP flows of published ports, and flows of containers whose rules have changed.
//!
//! A UDP flow keeps the translation it was first given: without this a client that goes on sending
//! would reach nothing after a container was replaced, or the old address for minutes.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    error::Error,
    netlink::{
        Netlink, Refused, Reply, Request,
        attribute::{Attributes, Reader},
        flag,
    },
    sysctl,
    types::{Protocol, PublishedPort},
};

const SUBSYSTEM: u16 = 1;
const ANY_FAMILY: u8 = 0;
const GET: u16 = 1;
const DELETE: u16 = 2;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;

/// Forgets the UDP flows to the given host ports, and those that were translated to the container.
pub(crate) fn forget_udp(
    netlink: &mut Netlink,
    ports: &[PublishedPort],
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
) -> Result<(), Error> {
    let ports: Vec<_> = ports.iter().filter(|port| port.protocol == Protocol::Udp).collect();
    if ports.is_empty() {
        return Ok(());
    }
    // Listing walks the kernel's whole table, a matter of milliseconds: once for both families.
    if sysctl::read("netfilter/nf_conntrack_count").as_deref() == Some("0") {
        return Ok(());
    }
    let targets = [v4.map(IpAddr::from), v6.map(IpAddr::from)];
    let flows = list(netlink).map_err(|source| Error::kernel("list", "connections", source))?;
    for flow in flows.iter().filter(|flow| ports.iter().any(|port| flow.is_of(port, &targets))) {
        delete(netlink, flow).map_err(|source| Error::kernel("forget", "connection", source))?;
    }
    Ok(())
}

/// Forgets every flow that one of these addresses began: what goes on of it is looked at as if it were new.
pub(crate) fn forget_from(netlink: &mut Netlink, addresses: &[IpAddr]) -> Result<(), Error> {
    if sysctl::read("netfilter/nf_conntrack_count").as_deref() == Some("0") {
        return Ok(());
    }
    let request = Request { kind: SUBSYSTEM << 8 | GET, flags: 0, payload: vec![ANY_FAMILY, 0, 0, 0] };
    let replies = netlink.dump(request).map_err(|source| Error::kernel("list", "connections", source))?;
    for reply in &replies {
        let Some(flow) = begun_by(reply, addresses) else { continue };
        forget(netlink, flow.family, flow.original, flow.zone)
            .map_err(|source| Error::kernel("forget", "connection", source))?;
    }
    Ok(())
}

/// What a flow is known by.
struct Begun<'a> {
    family: u8,
    original: &'a [u8],
    zone: Option<&'a [u8]>,
}

/// Reads a flow that one of the addresses began.
fn begun_by<'a>(reply: &'a Reply, addresses: &[IpAddr]) -> Option<Begun<'a>> {
    let reader = Reader::new(reply.payload.get(4..)?);
    let original = reader.value(TUPLE_ORIGINAL)?;
    let ends = Reader::new(Reader::new(original).value(TUPLE_IP)?);
    let source = match ends.value(1) {
        Some(bytes) => IpAddr::from(*bytes.first_chunk::<4>()?),
        None => IpAddr::from(*ends.value(3)?.first_chunk::<16>()?),
    };
    let family = *reply.payload.first()?;
    addresses.contains(&source).then(|| Begun { family, original, zone: reader.value(ZONE) })
}

/// A tracked UDP flow.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flow {
    family: u8,
    /// The original direction, as the kernel wrote it.
    original: Vec<u8>,
    zone: Option<Vec<u8>>,
    destination: (IpAddr, u16),
    /// Who answers: the container, when the flow was translated.
    answerer: (IpAddr, u16),
}

impl Flow {
    fn is_of(&self, port: &PublishedPort, targets: &[Option<IpAddr>]) -> bool {
        let (address, number) = self.destination;
        let is_family = address.is_ipv4() == port.host_ip.is_ipv4();
        let to_host =
            is_family && number == port.host_port && (port.host_ip.is_unspecified() || port.host_ip == address);
        let to_container = self.answerer != self.destination
            && self.answerer.1 == port.container_port
            && targets.contains(&Some(self.answerer.0));
        to_host || to_container
    }

    fn from_reply(reply: &Reply) -> Option<Self> {
        let reader = Reader::new(reply.payload.get(4..)?);
        let original = reader.value(TUPLE_ORIGINAL)?;
        let destination = tuple(original)?.destination;
        let answerer = tuple(reader.value(TUPLE_REPLY)?)?.source;
        let zone = reader.value(ZONE).map(<[u8]>::to_vec);
        Some(Self { family: *reply.payload.first()?, original: original.to_vec(), zone, destination, answerer })
    }
}

struct Tuple {
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
}

/// Reads a tuple; none when it is not UDP.
fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let reader = Reader::new(bytes);
    let (addresses, protocol) = (Reader::new(reader.value(TUPLE_IP)?), Reader::new(reader.value(TUPLE_PROTOCOL)?));
    if protocol.value(1)? != [Protocol::Udp.number()] {
        return None;
    }
    let port = |kind| protocol.value(kind)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    let address = |v4, v6| match addresses.value(v4) {
        Some(bytes) => bytes.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        None => addresses.value(v6)?.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
    };
    Some(Tuple { source: (address(1, 3)?, port(2)?), destination: (address(2, 4)?, port(3)?) })
}

fn list(netlink: &mut Netlink) -> io::Result<Vec<Flow>> {
    let request = Request { kind: SUBSYSTEM << 8 | GET, flags: 0, payload: vec![ANY_FAMILY, 0, 0, 0] };
    Ok(netlink.dump(request)?.iter().filter_map(Flow::from_reply).collect())
}

fn delete(netlink: &mut Netlink, flow: &Flow) -> io::Result<()> {
    forget(netlink, flow.family, &flow.original, flow.zone.as_deref())
}

fn forget(netlink: &mut Netlink, family: u8, original: &[u8], zone: Option<&[u8]>) -> io::Result<()> {
    const NESTED: u16 = 0x8000;
    let mut attributes = Attributes::after(&[family, 0, 0, 0]).bytes(TUPLE_ORIGINAL | NESTED, original);
    if let Some(zone) = zone {
        attributes = attributes.bytes(ZONE, zone);
    }
    let request = Request { kind: SUBSYSTEM << 8 | DELETE, flags: flag::ACK, payload: attributes.into_bytes() };
    match netlink.send(&[request]) {
        // It may have ended by itself.
        Err(Refused { source, .. }) if source.raw_os_error() != Some(libc::ENOENT) => Err(source),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(source: [u8; 4], source_port: u16, destination: [u8; 4], port: u16, protocol: u8) -> Attributes {
        let addresses = Attributes::default().bytes(1, &source).bytes(2, &destination);
        let ports = Attributes::default()
            .bytes(1, &[protocol])
            .bytes(2, &source_port.to_be_bytes())
            .bytes(3, &port.to_be_bytes());
        Attributes::default().nested(1, addresses).nested(2, ports)
    }

    fn flow(protocol: u8) -> Option<Flow> {
        let payload = Attributes::after(&[2, 0, 0, 0])
            .nested(TUPLE_ORIGINAL, encoded([10, 0, 0, 9], 4000, [10, 0, 0, 1], 53, protocol))
            .nested(TUPLE_REPLY, encoded([172, 17, 0, 2], 5353, [10, 0, 0, 9], 4000, protocol))
            .into_bytes();
        Flow::from_reply(&Reply { payload })
    }

    fn port(host_ip: &str, host_port: u16, container_port: u16) -> PublishedPort {
        let host_ip = host_ip.parse().expect("an address");
        PublishedPort { host_ip, host_port, container_port, protocol: Protocol::Udp, from: Vec::new() }
    }

    #[test]
    fn flows_are_of_their_host_port_or_of_their_container() {
        let flow = flow(17).expect("UDP");
        let container = [Some("172.17.0.2".parse().expect("an address")), None];
        assert!(flow.is_of(&port("0.0.0.0", 53, 1), &[]));
        assert!(flow.is_of(&port("10.0.0.1", 53, 1), &[]));
        assert!(!flow.is_of(&port("10.0.0.2", 53, 1), &[]));
        assert!(!flow.is_of(&port("::", 53, 1), &[]));
        assert!(!flow.is_of(&port("0.0.0.0", 54, 5353), &[]));
        assert!(flow.is_of(&port("0.0.0.0", 54, 5353), &container));
        assert!(!flow.is_of(&port("0.0.0.0", 54, 5354), &container));
    }

    #[test]
    fn flows_of_other_protocols_are_not_read() {
        assert_eq!(flow(6), None);
    }
}
