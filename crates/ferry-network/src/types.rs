//! The values that cross the crate's border: what the engine asks for and what it is told.
//!
//! No I/O here. Every name that ends up in the kernel (links, tables, aliases) is made in this
//! module, so that ownership by instance can be read in one place.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::shaping::Shaping;

/// An engine instance: 8 lower-case hex digits derived from its data root.
///
/// Every kernel object made here carries it, and only objects which carry it are ever removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InstanceId(String);

impl InstanceId {
    /// Takes an id of exactly 8 lower-case hex digits.
    ///
    /// # Errors
    /// Gives the text back when it has another shape.
    pub fn new(id: impl Into<String>) -> Result<Self, InvalidInstanceId> {
        let id = id.into();
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if id.len() == 8 && id.bytes().all(is_hex) { Ok(Self(id)) } else { Err(InvalidInstanceId(id)) }
    }

    /// Returns the 8 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of this instance's nftables tables (families `inet` and `bridge`).
    pub fn table(&self) -> String {
        format!("ferry_{}", self.0)
    }

    /// Returns the mark that this instance leaves on objects of others (rule comments).
    pub fn mark(&self) -> String {
        format!("ferry:{}", self.0)
    }

    /// Returns the alias of a link which belongs to `object` (a network or container id).
    pub fn alias(&self, object: &str) -> String {
        format!("ferry:{}:{object}", self.0)
    }

    /// Returns the object id in a link alias if the alias is one of this instance.
    pub fn object_of_alias<'a>(&self, alias: &'a str) -> Option<&'a str> {
        alias.strip_prefix("ferry:")?.strip_prefix(self.as_str())?.strip_prefix(':')
    }

    /// Returns the link name of the bridge of a network other than the default one.
    pub fn bridge_link(&self, network_id: &str) -> String {
        format!("fb{}{}", &self.0[..4], head(network_id, 8))
    }

    /// Returns what the names of all host ends of this instance begin with.
    pub(crate) fn host_link_prefix(&self) -> String {
        format!("fv{}", &self.0[..4])
    }

    /// Tells whether a link is the host end of a container's.
    pub(crate) fn is_host_link(&self, name: &str) -> bool {
        name.starts_with(&self.host_link_prefix())
    }

    /// Returns the name of the link that what comes out of a host end is led through, where it is limited.
    pub(crate) fn detour_link(&self, host_end: &str) -> String {
        host_end.replacen("fv", "fi", 1)
    }

    /// Tells whether a link is one of those.
    pub(crate) fn is_detour_link(&self, name: &str) -> bool {
        name.starts_with(&format!("fi{}", &self.0[..4]))
    }

    /// Returns the name of the host end of a container's link; `attempt` is its last character.
    pub(crate) fn host_link(&self, container_id: &str, attempt: u32) -> String {
        let last = char::from_digit(attempt % 36, 36).unwrap_or('0');
        format!("{}{}{last}", self.host_link_prefix(), head(container_id, 8))
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn head(id: &str, length: usize) -> &str {
    id.get(..length).unwrap_or(id)
}

/// A text that is not an instance id.
#[derive(Debug, thiserror::Error)]
#[error("instance id {0:?} is not 8 lower-case hex digits")]
pub struct InvalidInstanceId(pub String);

/// What [`crate::Networking::open`] needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// The instance whose objects are made and swept.
    pub instance: InstanceId,
    /// The run-time folder of the instance; `netd/` is made below it.
    pub exec_root: PathBuf,
    /// The `ferry-netd` program.
    pub netd_program: PathBuf,
    /// Whether firewall rules are made at all; without them published ports are relayed by
    /// `ferry-netd` (dockerd's `iptables`).
    pub firewall: bool,
    /// Whether those rules are for IPv6, too (dockerd's `ip6tables`).
    pub firewall6: bool,
    /// Whether published ports are reached at the containers' own addresses, too (dockerd's `allow-direct-routing`).
    pub direct_routing: bool,
    /// Packets with this mark reach containers (dockerd's `bridge-accept-fwmark`).
    pub accepted_mark: Option<FirewallMark>,
    /// Whether forwarding is switched on when the host lacks it (dockerd's `ip-forward`).
    pub ip_forward: bool,
    /// Address pools with the prefix length of the networks cut from them
    /// (dockerd's `default-address-pools`).
    pub default_pools: Vec<(Ipv4Net, u8)>,
    /// The same for IPv6; none means that networks get a random unique local subnet.
    pub default_pools6: Vec<(Ipv6Net, u8)>,
}

impl Options {
    /// Returns Docker's address pools: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in /20s.
    pub fn docker_pools() -> Vec<(Ipv4Net, u8)> {
        let net = |a, b, length| Ipv4Net::new(Ipv4Addr::new(a, b, 0, 0), length).expect("prefix length is below 33");
        let mut pools: Vec<_> = (17..=31).map(|second| (net(172, second, 16), 16)).collect();
        pools.push((net(192, 168, 16), 20));
        pools
    }
}

/// A mark that the host's own firewall gives to packets: a value, and the bits that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirewallMark {
    /// The value.
    pub value: u32,
    /// The bits.
    pub mask: u32,
}

impl FromStr for FirewallMark {
    type Err = String;

    /// Reads `value[/mask]`, each decimal or hexadecimal with `0x`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => text.parse(),
        };
        let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
        let wrong = |part: &str| format!("invalid firewall mark '{part}': it should be a number of 32 bits");
        Ok(Self { value: number(value).map_err(|_| wrong(value))?, mask: number(mask).map_err(|_| wrong(mask))? })
    }
}

/// How packets get from a bridge network to the outside and back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// The host's address stands for the containers'; published ports are translated.
    #[default]
    Nat,
    /// As `Nat`, and whoever has a route to the containers reaches all their ports.
    NatUnprotected,
    /// Nothing is translated; published ports are open at the containers' own addresses.
    Routed,
    /// The bridge has no address.
    Isolated,
}

/// One address family of a bridge network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FamilySpec {
    /// How packets get out and in.
    pub mode: GatewayMode,
    /// The address that stands for the containers outside; the kernel's choice when absent.
    pub source: Option<IpAddr>,
}

/// A network as the kernel sees it: a bridge with its gateway addresses and rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BridgeSpec {
    /// The network's id.
    pub network_id: String,
    /// The bridge's link name, at most 15 bytes.
    pub link: String,
    /// Addresses of the bridge with the prefix of their subnet.
    pub gateways: Vec<IpNet>,
    /// The subnets of the network, whether or not the bridge has an address in them.
    pub subnets: Vec<IpNet>,
    /// The bridge's MTU; the kernel's default when absent.
    pub mtu: Option<u32>,
    /// Nothing is forwarded into or out of the network, and host services are closed to it.
    pub internal: bool,
    /// Containers on the network may talk to one another.
    pub icc: bool,
    /// Traffic that leaves through other links takes their address.
    pub masquerade: bool,
    /// The network has IPv6.
    pub ipv6: bool,
    /// IPv4.
    pub v4: FamilySpec,
    /// IPv6.
    pub v6: FamilySpec,
    /// Links of the host from which published ports may be reached at the containers' own addresses.
    pub trusted: Vec<String>,
}

/// A link that lives on another one of the host and has no bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildKind {
    /// A hardware address of its own.
    Macvlan(MacvlanMode),
    /// The parent's hardware address.
    Ipvlan(IpvlanMode, IpvlanFlag),
}

impl ChildKind {
    /// Returns the kernel's name of the kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Macvlan(_) => "macvlan",
            Self::Ipvlan(..) => "ipvlan",
        }
    }

    /// Whether what goes outside needs no gateway: the kernel routes by the link alone.
    pub fn routes_by_link(self) -> bool {
        matches!(self, Self::Ipvlan(IpvlanMode::L3 | IpvlanMode::L3s, _))
    }
}

/// Who hears whom on a parent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MacvlanMode {
    /// Children hear one another.
    #[default]
    Bridge,
    /// Children do not.
    Private,
    /// Their frames go out and may come back.
    Vepa,
    /// One child, which has the parent for itself.
    Passthru,
}

/// At which layer packets are passed between children.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpvlanMode {
    /// Frames.
    #[default]
    L2,
    /// Packets.
    L3,
    /// Packets, which pass the host's rules.
    L3s,
}

/// Who hears whom on a parent of ipvlan links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpvlanFlag {
    /// Children hear one another.
    #[default]
    Bridge,
    /// Children do not.
    Private,
    /// What they send goes out and may come back.
    Vepa,
}

/// The link that an endpoint's own lives on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildSpec {
    /// The parent's name.
    pub parent: String,
    /// What is made on it.
    pub kind: ChildKind,
}

/// A parent that was made for a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentSpec {
    /// The network's id.
    pub network_id: String,
    /// The link's name.
    pub link: String,
    /// The link and the VLAN id that it carries; absent for one that leads nowhere.
    pub vlan: Option<(String, u16)>,
}

/// A container's attachment to a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointSpec {
    /// The container's id.
    pub container_id: String,
    /// The network's id.
    pub network_id: String,
    /// The link name of the network's bridge; empty with `child`.
    pub bridge_link: String,
    /// For networks without a bridge.
    pub child: Option<ChildSpec>,
    /// The name inside, such as `eth0`.
    pub interface: String,
    /// The hardware address inside.
    pub mac: MacAddr,
    /// Addresses with the prefix of their subnet.
    pub addresses: Vec<IpNet>,
    /// The default route's next hop; absent for internal networks and for all but one endpoint.
    pub gateway_v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub gateway_v6: Option<Ipv6Addr>,
    /// The MTU of both ends; the kernel's default when absent.
    pub mtu: Option<u32>,
    /// The bridge port is isolated (the network has `icc` off).
    pub isolated: bool,
    /// What goes outside needs no gateway: the link itself is the way, in these families.
    pub default_by_link: bool,
    /// Settings of the interface, below `net/`, with the interface's name in it.
    pub sysctls: Vec<(String, String)>,
    /// What limits its traffic.
    pub shaping: Shaping,
}

/// A route of a container besides the default one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticRoute {
    /// What it leads to.
    pub destination: IpNet,
    /// By way of whom; none is the link itself.
    pub next_hop: Option<IpAddr>,
}

/// Where published ports lead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortTarget {
    /// The container's IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// IPv4 is not translated: ports are open at the container's own address.
    #[serde(skip_serializing_if = "is_false")]
    pub routed4: bool,
    /// The same for IPv6.
    #[serde(skip_serializing_if = "is_false")]
    pub routed6: bool,
    /// Links of the host are trusted to reach the ports at the container's own address, too.
    #[serde(skip_serializing_if = "is_false")]
    pub opened: bool,
}

/// By reference, as serde calls it.
fn is_false(value: &bool) -> bool {
    !*value
}

/// How a container's names are resolved: which networks it is asked for, and who is asked besides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResolverSpec {
    /// The container that asks.
    pub container_id: String,
    /// Its networks, in the order in which they are asked.
    pub networks: Vec<NetworkName>,
    /// Name servers behind ours; none means the host's.
    pub servers: Vec<IpAddr>,
    /// Whether anybody else is asked at all: not where every network is internal.
    pub forwards: bool,
    /// Further names that this container alone knows: alias and name.
    pub links: Vec<(String, String)>,
    /// Names whose addresses the daemon hears of before the container does; `*.` stands for all below.
    pub watched: Vec<String>,
    /// Where other names may be asked for: servers in these nets; `None` is every server.
    pub asked_in: Option<Vec<IpNet>>,
}

/// A network as resolvers know it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkName {
    /// Network id.
    pub id: String,
    /// Its name, which may follow a container's after a dot.
    pub name: String,
}

/// The names of a container in one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Named {
    /// Network id.
    pub network_id: String,
    /// Container id.
    pub container_id: String,
    /// Names; the first is told for its addresses.
    pub names: Vec<String>,
    /// Addresses in this network.
    pub addresses: Vec<IpAddr>,
}

/// A hardware address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = InvalidMac;

    /// Reads six hex pairs separated by `:` or `-`.
    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let invalid = || InvalidMac(text.to_owned());
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(invalid)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(invalid()),
        }
    }
}

/// A text that is not a hardware address.
#[derive(Debug, thiserror::Error)]
#[error("address {0}: invalid MAC address")]
pub struct InvalidMac(pub String);

/// The transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Returns the IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A port to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    /// The host address to bind; absent means every address, IPv4 and IPv6, on one port number.
    pub host_ip: Option<IpAddr>,
    /// The host ports to choose from; `0..=0` takes one from the host's ephemeral range.
    pub host_ports: RangeInclusive<u16>,
    /// The container's port.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// Who may reach it besides this host; empty is everybody.
    pub from: Vec<IpNet>,
}

/// A port as published: one for each host address (`0.0.0.0` and `::` for a request without one).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The bound host address.
    pub host_ip: IpAddr,
    /// The bound host port; 0 where nothing is bound, since the port is reached at the container's own address.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// Who may reach it besides this host; empty is everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<IpNet>,
}

/// What the records say must exist; everything else with the instance's mark goes in a sweep.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// The networks.
    pub bridges: Vec<BridgeSpec>,
    /// Parents that were made for networks without a bridge.
    pub parents: Vec<ParentSpec>,
    /// The containers that run.
    pub container_ids: HashSet<String>,
}

/// What a sweep removed and put back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Links removed.
    pub links: Vec<String>,
    /// Containers whose held ports were released.
    pub released: Vec<String>,
    /// Whether the instance's tables were missing and have been made again.
    pub firewall_restored: bool,
    /// Held ports that had been lost with a dead `ferry-netd` and are bound again.
    pub rebound: Vec<PublishedPort>,
}
