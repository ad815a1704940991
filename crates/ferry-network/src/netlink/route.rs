//! Links, addresses and routes: requests as functions, answers as small structs.
//!
//! Messages are built and parsed by `netlink-packet-route`. A message of a dump that it cannot parse
//! (newer kernels add attributes) is left out rather than failing the whole dump.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsRawFd, BorrowedFd},
};

use ipnet::IpNet;
use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope},
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoIpVlan, InfoKind, InfoMacVlan,
        InfoPortData, InfoPortKind, InfoVeth, InfoVlan, IpVlanFlags, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
        MacVlanMode, State,
    },
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};

use crate::{
    netlink::{Netlink, Refused, Request, attribute::Attributes, flag},
    sysctl,
    types::{ChildKind, IpvlanFlag, IpvlanMode, MacAddr, MacvlanMode},
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETROUTE: u16 = 26;
const RTM_GETMULTICAST: u16 = 58;

/// A link as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: Option<String>,
    pub(crate) is_bridge: bool,
    pub(crate) is_operating: bool,
}

impl Link {
    fn from_message(message: &LinkMessage) -> Option<Self> {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            alias: None,
            is_bridge: false,
            is_operating: false,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                LinkAttribute::OperState(state) => link.is_operating = *state == State::Up,
                LinkAttribute::LinkInfo(infos) => {
                    link.is_bridge = infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bridge)));
                }
                _ => {}
            }
        }
        (!link.name.is_empty()).then_some(link)
    }
}

/// Both ends of a new veth pair.
#[derive(Debug)]
pub(crate) struct VethPair<'a> {
    pub(crate) host_end: &'a str,
    pub(crate) bridge_index: u32,
    pub(crate) interface: &'a str,
    pub(crate) mac: MacAddr,
    pub(crate) mtu: Option<u32>,
    pub(crate) namespace: BorrowedFd<'a>,
}

/// A link on a parent.
#[derive(Debug)]
pub(crate) struct ChildLink<'a> {
    pub(crate) parent_index: u32,
    pub(crate) kind: ChildKind,
    pub(crate) interface: &'a str,
    pub(crate) mac: MacAddr,
    pub(crate) mtu: Option<u32>,
    pub(crate) namespace: BorrowedFd<'a>,
}

fn request(kind: u16, flags: u16, message: &impl Emitable) -> Request {
    let mut payload = vec![0; message.buffer_len()];
    message.emit(&mut payload);
    Request { kind, flags, payload }
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

fn set_up(message: &mut LinkMessage) {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
}

/// Makes a bridge. Its own hardware address keeps it from changing with the ports.
pub(crate) fn new_bridge(name: &str, mac: MacAddr, mtu: Option<u32>) -> Request {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
    request(RTM_NEWLINK, flag::ACK | flag::CREATE | flag::EXCL, &message)
}

/// Makes a veth pair with one end in the bridge and the other inside the namespace from the start:
/// moving it there later would cost an RCU wait of tens of milliseconds.
pub(crate) fn new_veth(pair: &VethPair<'_>) -> Request {
    let mut peer = named(pair.interface);
    peer.attributes.push(LinkAttribute::Address(pair.mac.0.to_vec()));
    peer.attributes.extend(pair.mtu.map(LinkAttribute::Mtu));
    peer.attributes.push(LinkAttribute::NetNsFd(pair.namespace.as_raw_fd()));
    let mut message = named(pair.host_end);
    message.attributes.extend(pair.mtu.map(LinkAttribute::Mtu));
    message.attributes.push(LinkAttribute::Controller(pair.bridge_index));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    request(RTM_NEWLINK, flag::ACK | flag::CREATE | flag::EXCL, &message)
}

/// Makes a link on a parent, inside the namespace from the start.
pub(crate) fn new_child(child: &ChildLink<'_>) -> Request {
    let mut message = named(child.interface);
    message.attributes.push(LinkAttribute::Link(child.parent_index));
    message.attributes.push(LinkAttribute::NetNsFd(child.namespace.as_raw_fd()));
    message.attributes.extend(child.mtu.map(LinkAttribute::Mtu));
    let info = match child.kind {
        ChildKind::Macvlan(mode) => {
            message.attributes.push(LinkAttribute::Address(child.mac.0.to_vec()));
            let mode = match mode {
                MacvlanMode::Bridge => MacVlanMode::Bridge,
                MacvlanMode::Private => MacVlanMode::Private,
                MacvlanMode::Vepa => MacVlanMode::Vepa,
                MacvlanMode::Passthru => MacVlanMode::Passthrough,
            };
            vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)]))]
        }
        ChildKind::Ipvlan(mode, flag) => {
            let mode: u16 = match mode {
                IpvlanMode::L2 => 0,
                IpvlanMode::L3 => 1,
                IpvlanMode::L3s => 2,
            };
            let flag = IpVlanFlags::from_bits_retain(match flag {
                IpvlanFlag::Bridge => 0,
                IpvlanFlag::Private => 1,
                IpvlanFlag::Vepa => 2,
            });
            let data = vec![InfoIpVlan::Mode(mode.into()), InfoIpVlan::Flags(flag)];
            vec![LinkInfo::Kind(InfoKind::IpVlan), LinkInfo::Data(InfoData::IpVlan(data))]
        }
    };
    message.attributes.push(LinkAttribute::LinkInfo(info));
    request(RTM_NEWLINK, flag::ACK | flag::CREATE | flag::EXCL, &message)
}

/// Makes a link that carries one VLAN of another.
pub(crate) fn new_vlan(name: &str, below: u32, id: u16) -> Request {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::Link(below));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vlan),
        LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(id)])),
    ]));
    request(RTM_NEWLINK, flag::ACK | flag::CREATE | flag::EXCL, &message)
}

/// Makes a link of a kind without saying more.
pub(crate) fn new_link_of_kind(name: &str, kind: &'static str) -> Request {
    let kind = match kind {
        "dummy" => InfoKind::Dummy,
        "macvlan" => InfoKind::MacVlan,
        "ipvlan" => InfoKind::IpVlan,
        other => InfoKind::Other(other.to_owned()),
    };
    let mut message = named(name);
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
    request(RTM_NEWLINK, flag::ACK | flag::CREATE | flag::EXCL, &message)
}

/// Names the owner of a link in its alias and sets it up, without a link-local IPv6 address.
pub(crate) fn mark_and_set_up(name: &str, alias: &str) -> Request {
    let mut message = named(name);
    set_up(&mut message);
    message.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
    // A kernel started with `ipv6.disable=1` refuses what names IPv6.
    if sysctl::has_ipv6() {
        let no_address = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![no_address])]));
    }
    request(RTM_SETLINK, flag::ACK, &message)
}

/// Names the owner of a link in its alias.
pub(crate) fn mark(name: &str, alias: &str) -> Request {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
    request(RTM_SETLINK, flag::ACK, &message)
}

/// How a bridge treats one of its ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PortMode {
    /// Nothing passes to other isolated ports.
    pub(crate) isolated: bool,
    /// Frames may leave by the port they came from.
    pub(crate) hairpin: bool,
}

/// Sets the mode of a bridge port.
pub(crate) fn set_port_mode(name: &str, mode: PortMode) -> Request {
    let mut message = named(name);
    let data = vec![InfoBridgePort::Isolated(mode.isolated), InfoBridgePort::HairpinMode(mode.hairpin)];
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(data)),
    ]));
    request(RTM_NEWLINK, flag::ACK, &message)
}

/// Sets a link up.
pub(crate) fn link_up(index: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    set_up(&mut message);
    request(RTM_SETLINK, flag::ACK, &message)
}

/// Changes a link's MTU.
pub(crate) fn link_mtu(index: u32, mtu: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Mtu(mtu));
    request(RTM_SETLINK, flag::ACK, &message)
}

/// Moves a link into another namespace, under another name.
pub(crate) fn move_link(index: u32, name: &str, namespace: BorrowedFd<'_>) -> Request {
    let mut message = named(name);
    message.header.index = index;
    message.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
    request(RTM_SETLINK, flag::ACK, &message)
}

/// Changes a link's hardware address.
pub(crate) fn link_address(index: u32, mac: MacAddr) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
    request(RTM_SETLINK, flag::ACK, &message)
}

/// Removes a link.
pub(crate) fn delete_link(index: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    request(RTM_DELLINK, flag::ACK, &message)
}

fn address(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = net.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.attributes.push(AddressAttribute::Local(net.addr()));
    message.attributes.push(AddressAttribute::Address(net.addr()));
    match net {
        IpNet::V4(net) => {
            message.header.family = AddressFamily::Inet;
            if net.prefix_len() < 31 {
                message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
            }
        }
        IpNet::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            // Addresses come from our own pool: no second of waiting for a duplicate to answer.
            message.header.flags = AddressHeaderFlags::Nodad;
        }
    }
    message
}

/// Gives a link an address; one that is there already is fine.
pub(crate) fn add_address(index: u32, net: IpNet) -> Request {
    request(RTM_NEWADDR, flag::ACK | flag::CREATE | flag::REPLACE, &address(index, net))
}

/// Takes an address from a link.
pub(crate) fn delete_address(index: u32, net: IpNet) -> Request {
    request(RTM_DELADDR, flag::ACK, &address(index, net))
}

/// The default route of the main table, of the family of `address`.
fn default_route(address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message
}

/// Removes every default route of a family.
pub(crate) fn delete_default_routes(netlink: &mut Netlink, family: IpAddr) -> io::Result<()> {
    // More than a few would be somebody's who makes them as fast as they go.
    for _ in 0..16 {
        match netlink.send(&[request(RTM_DELROUTE, flag::ACK, &default_route(family))]) {
            Ok(()) => {}
            // No such route; no table of that family yet; no such family.
            Err(Refused { source, .. })
                if matches!(source.raw_os_error(), Some(libc::ESRCH | libc::ENOENT | libc::EAFNOSUPPORT)) =>
            {
                return Ok(());
            }
            Err(Refused { source, .. }) => return Err(source),
        }
    }
    Ok(())
}

/// Adds the default route by way of `gateway`.
pub(crate) fn add_default_route(index: u32, gateway: IpAddr) -> Request {
    let mut message = default_route(gateway);
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    message.attributes.push(RouteAttribute::Oif(index));
    request(RTM_NEWROUTE, flag::ACK | flag::CREATE | flag::REPLACE, &message)
}

/// Adds a route to a net.
pub(crate) fn add_route(index: u32, destination: IpNet, next_hop: Option<IpAddr>) -> Request {
    let mut message = default_route(destination.addr());
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = if next_hop.is_some() { RouteScope::Universe } else { RouteScope::Link };
    message.header.kind = RouteType::Unicast;
    message.header.destination_prefix_length = destination.prefix_len();
    message.attributes.push(RouteAttribute::Destination(destination.network().into()));
    message.attributes.extend(next_hop.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    message.attributes.push(RouteAttribute::Oif(index));
    request(RTM_NEWROUTE, flag::ACK | flag::CREATE | flag::REPLACE, &message)
}

/// Adds a default route by the link itself.
pub(crate) fn add_default_route_by_link(index: u32, family: IpAddr) -> Request {
    let mut message = default_route(family);
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Link;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Oif(index));
    request(RTM_NEWROUTE, flag::ACK | flag::CREATE | flag::REPLACE, &message)
}

/// Tells a bridge by which of its ports a hardware address is reached, and that frames from it at other ports are no reason to think
/// otherwise.
pub(crate) fn set_forwarding(port: u32, mac: MacAddr) -> Request {
    const STATIC: u16 = 0x40;
    const MASTER: u8 = 0x04;
    const STICKY: u8 = 0x40;
    neighbour(libc::AF_BRIDGE, port, STATIC, MASTER | STICKY).link_address(mac)
}

/// Tells which hardware address an address on a link has.
pub(crate) fn set_neighbour(link: u32, address: IpAddr, mac: MacAddr) -> Request {
    const STALE: u16 = 0x04;
    match address {
        IpAddr::V4(ip) => neighbour(libc::AF_INET, link, STALE, 0).address(&ip.octets()).link_address(mac),
        IpAddr::V6(ip) => neighbour(libc::AF_INET6, link, STALE, 0).address(&ip.octets()).link_address(mac),
    }
}

/// A neighbour message in the making.
struct Neighbour(Attributes);

fn neighbour(family: i32, link: u32, state: u16, flags: u8) -> Neighbour {
    let family = u8::try_from(family).expect("address families here are below 256");
    let mut head = vec![family, 0, 0, 0];
    head.extend_from_slice(&link.to_ne_bytes());
    head.extend_from_slice(&state.to_ne_bytes());
    head.extend_from_slice(&[flags, 0]);
    Neighbour(Attributes::after(&head))
}

impl Neighbour {
    fn address(self, address: &[u8]) -> Self {
        Self(self.0.bytes(1, address))
    }

    fn link_address(self, mac: MacAddr) -> Request {
        let payload = self.0.bytes(2, &mac.0).into_bytes();
        Request { kind: RTM_NEWNEIGH, flags: flag::ACK | flag::CREATE | flag::REPLACE, payload }
    }
}

/// Looks a link up by name.
pub(crate) fn link_by_name(netlink: &mut Netlink, name: &str) -> io::Result<Option<Link>> {
    match netlink.get(request(RTM_GETLINK, 0, &named(name))) {
        Ok(reply) => Ok(LinkMessage::parse(&reply.payload).ok().as_ref().and_then(Link::from_message)),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lists all links.
pub(crate) fn links(netlink: &mut Netlink) -> io::Result<Vec<Link>> {
    let replies = netlink.dump(request(RTM_GETLINK, 0, &LinkMessage::default()))?;
    Ok(replies
        .iter()
        .filter_map(|reply| LinkMessage::parse(&reply.payload).ok())
        .filter_map(|message| Link::from_message(&message))
        .collect())
}

/// Lists all addresses with the index of their link.
pub(crate) fn addresses(netlink: &mut Netlink) -> io::Result<Vec<(u32, IpNet)>> {
    let replies = netlink.dump(request(RTM_GETADDR, 0, &AddressMessage::default()))?;
    Ok(replies
        .iter()
        .filter_map(|reply| AddressMessage::parse(&reply.payload).ok())
        .filter_map(listed_address)
        .collect())
}

fn listed_address(message: AddressMessage) -> Option<(u32, IpNet)> {
    // On point-to-point links `Address` is the other end; `Local` is ours. IPv6 has `Address` alone.
    let mut found = None;
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(address) => found = Some(address),
            AddressAttribute::Address(address) => found = found.or(Some(address)),
            _ => {}
        }
    }
    Some((message.header.index, IpNet::new(found?, message.header.prefix_len).ok()?))
}

/// Lists the IPv6 groups that a link takes packets of.
pub(crate) fn groups(netlink: &mut Netlink, index: u32) -> io::Result<Vec<Ipv6Addr>> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    let replies = netlink.dump(request(RTM_GETMULTICAST, 0, &message))?;
    let messages = replies.iter().filter_map(|reply| AddressMessage::parse(&reply.payload).ok());
    Ok(messages
        .filter(|message| message.header.index == index)
        .flat_map(|message| message.attributes)
        .filter_map(|attribute| match attribute {
            AddressAttribute::Multicast(group) => Some(group),
            _ => None,
        })
        .collect())
}

/// Routes to more than this are default routes in disguise: VPNs cut 0.0.0.0/0 into halves to take
/// precedence.
const WIDEST_ROUTE: u8 = 8;

/// Lists the destinations of all routes but default routes.
pub(crate) fn route_destinations(netlink: &mut Netlink) -> io::Result<Vec<IpNet>> {
    let replies = netlink.dump(request(RTM_GETROUTE, 0, &RouteMessage::default()))?;
    Ok(replies.iter().filter_map(|reply| RouteMessage::parse(&reply.payload).ok()).filter_map(destination).collect())
}

fn destination(message: RouteMessage) -> Option<IpNet> {
    let length = message.header.destination_prefix_length;
    if length < WIDEST_ROUTE {
        return None;
    }
    message.attributes.into_iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => IpNet::new(address.into(), length).ok(),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => IpNet::new(address.into(), length).ok(),
        _ => None,
    })
}
