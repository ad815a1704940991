//! What the instance's table says. Pure.
//!
//! The rules never change; networks and published ports are elements of its sets, so that publishing
//! is one message to the kernel and a restart leaves running containers reachable. All of it is one
//! transaction that can be repeated at any time.
//!
//! | set | holds |
//! |---|---|
//! | `bridges` | the links of all our bridges |
//! | `internal` | those whose networks are internal |
//! | `masqueraded` | those whose traffic to the outside takes the host's address |
//! | `networks4`, `networks6` | their subnets |
//! | `connected` | pairs of a bridge with itself, where containers may talk to one another |
//! | `publish4`, `publish6` | protocol, host address, host port → container address and port |
//! | `publish4_any`, `publish6_any` | the same for ports published on every address |
//!
//! Policies are `accept`: ferry closes its own networks and leaves the host's other traffic to the
//! host, also where it had to switch forwarding on. dockerd sets the host's `FORWARD` policy to drop
//! in that case; we do not, because it would cut off other virtual machines and containers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::{
    firewall::nftables::Element,
    types::{BridgeSpec, PublishedPort},
};

/// Every set of the table.
pub(crate) const SETS: [&str; 10] = [
    "bridges",
    "internal",
    "masqueraded",
    "connected",
    "networks4",
    "networks6",
    "publish4",
    "publish4_any",
    "publish6",
    "publish6_any",
];

const SETS_TEXT: &str = "
add table inet T
add set inet T bridges { type ifname; }
add set inet T internal { type ifname; }
add set inet T masqueraded { type ifname; }
add set inet T connected { type ifname . ifname; }
add set inet T networks4 { type ipv4_addr; flags interval; }
add set inet T networks6 { type ipv6_addr; flags interval; }
add map inet T publish4 { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }
add map inet T publish4_any { type inet_proto . inet_service : ipv4_addr . inet_service; }
add map inet T publish6 { type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service; }
add map inet T publish6_any { type inet_proto . inet_service : ipv6_addr . inet_service; }
";

const CHAINS_TEXT: &str = "
add chain inet T raw { type filter hook prerouting priority raw; policy accept; }
add chain inet T prerouting { type nat hook prerouting priority dstnat; policy accept; }
add chain inet T output { type nat hook output priority -100; policy accept; }
add chain inet T postrouting { type nat hook postrouting priority srcnat; policy accept; }
add chain inet T input { type filter hook input priority filter; policy accept; }
add chain inet T forward { type filter hook forward priority filter; policy accept; }
add chain inet T published
add chain inet T to_container
flush chain inet T raw
flush chain inet T prerouting
flush chain inet T output
flush chain inet T postrouting
flush chain inet T input
flush chain inet T forward
flush chain inet T published
flush chain inet T to_container
";

/// - `raw`: nothing on a wire may carry a loopback address. Bridges have `route_localnet`, and ports
///   published on 127.0.0.1 are for this machine alone.
/// - `published`: `::1` is left to the relay of `ferry-netd`; link-local addresses are not translated.
/// - `postrouting`: connections from 127.0.0.1, and from a container to a published port of its own
///   or another of our networks, must come back through us. The latter are known by their source,
///   because frames that `br_netfilter` shows have no input link here.
/// - `to_container`: only what was asked for from inside, neighbours, and published ports. Direct
///   routing to a container's address from another link, our other networks included, ends here.
const RULES_TEXT: &str = "
add rule inet T raw iifname != lo ip daddr 127.0.0.0/8 drop
add rule inet T raw iifname @bridges ip saddr 127.0.0.0/8 drop
add rule inet T prerouting ip6 daddr fe80::/10 return
add rule inet T prerouting fib daddr type local jump published
add rule inet T output ip6 daddr { ::1, fe80::/10 } return
add rule inet T output fib daddr type local jump published
add rule inet T published dnat ip to meta l4proto . ip daddr . th dport map @publish4
add rule inet T published dnat ip to meta l4proto . th dport map @publish4_any
add rule inet T published dnat ip6 to meta l4proto . ip6 daddr . th dport map @publish6
add rule inet T published dnat ip6 to meta l4proto . th dport map @publish6_any
add rule inet T postrouting oifname @bridges ip saddr 127.0.0.0/8 masquerade
add rule inet T postrouting oifname @bridges ip saddr @networks4 ct status dnat masquerade
add rule inet T postrouting oifname @bridges ip6 saddr @networks6 ct status dnat masquerade
add rule inet T postrouting iifname @masqueraded oifname != @bridges masquerade
add rule inet T input iifname @internal ct state established,related accept
add rule inet T input iifname @internal icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
add rule inet T input iifname @internal drop
add rule inet T forward oifname @bridges jump to_container
add rule inet T forward iifname @internal drop
add rule inet T to_container iifname . oifname @connected accept
add rule inet T to_container iifname @internal drop
add rule inet T to_container oifname @internal drop
add rule inet T to_container ct state established,related accept
add rule inet T to_container ct status dnat accept
add rule inet T to_container drop
";

/// Returns the ruleset for `nft -f`; sets keep their elements.
pub(crate) fn text(table: &str) -> String {
    let named = format!(" inet {table}");
    [SETS_TEXT, CHAINS_TEXT, RULES_TEXT].concat().replace(" inet T", &named)
}

/// Returns the elements of a network and those that it must not have.
pub(crate) fn bridge_elements(bridge: &BridgeSpec) -> (Vec<Element>, Vec<Element>) {
    let name = link_key(&bridge.link);
    let pair = [name.as_slice(), name.as_slice()].concat();
    let comment = bridge.network_id.get(..12).unwrap_or(&bridge.network_id);
    let element = |set, key| Element { set, key, data: None, is_interval_end: false, comment: comment.to_owned() };
    let all = [
        (true, element("bridges", name.clone())),
        (bridge.internal, element("internal", name.clone())),
        (bridge.masquerade && !bridge.internal, element("masqueraded", name)),
        (bridge.icc, element("connected", pair)),
    ];
    let (wanted, unwanted): (Vec<_>, Vec<_>) = all.into_iter().partition(|(wanted, _)| *wanted);
    let elements = |list: Vec<(bool, Element)>| list.into_iter().map(|(_, element)| element).collect::<Vec<_>>();
    let mut wanted = elements(wanted);
    wanted.extend(bridge.gateways.iter().flat_map(|net| network_elements(*net, comment)));
    (wanted, elements(unwanted))
}

/// A subnet as an interval: its first address and the first one after it.
fn network_elements(net: IpNet, comment: &str) -> Vec<Element> {
    let (set, first, next) = match net {
        IpNet::V4(net) => {
            let next = net.broadcast().to_bits().checked_add(1).map(|bits| bits.to_be_bytes().to_vec());
            ("networks4", net.network().octets().to_vec(), next)
        }
        IpNet::V6(net) => {
            let next = net.broadcast().to_bits().checked_add(1).map(|bits| bits.to_be_bytes().to_vec());
            ("networks6", net.network().octets().to_vec(), next)
        }
    };
    let element = |key, is_interval_end| Element {
        set,
        key,
        data: None,
        is_interval_end,
        comment: if is_interval_end { String::new() } else { comment.to_owned() },
    };
    // An interval up to the last address has no end.
    std::iter::once(element(first, false)).chain(next.map(|key| element(key, true))).collect()
}

/// Returns the element of a published port; none where the relay serves it: for `::1`, and for a
/// family in which the container has no address.
pub(crate) fn port_element(
    container_id: &str,
    port: &PublishedPort,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
) -> Option<Element> {
    let protocol = [port.protocol.number(), 0, 0, 0];
    let host_port = padded_port(port.host_port);
    let container_port = padded_port(port.container_port);
    let is_any = port.host_ip.is_unspecified();
    let (set, address, target) = match port.host_ip {
        IpAddr::V4(ip) => {
            (if is_any { "publish4_any" } else { "publish4" }, ip.octets().to_vec(), v4?.octets().to_vec())
        }
        IpAddr::V6(Ipv6Addr::LOCALHOST) => return None,
        IpAddr::V6(ip) => {
            (if is_any { "publish6_any" } else { "publish6" }, ip.octets().to_vec(), v6?.octets().to_vec())
        }
    };
    let address = if is_any { Vec::new() } else { address };
    Some(Element {
        set,
        key: [&protocol[..], &address, &host_port].concat(),
        data: Some([&target[..], &container_port].concat()),
        is_interval_end: false,
        comment: container_id.get(..12).unwrap_or(container_id).to_owned(),
    })
}

fn padded_port(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// A link name as nftables compares it: 16 bytes, zero-filled.
fn link_key(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(16, 0);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Protocol;

    fn port(host_ip: &str) -> PublishedPort {
        PublishedPort {
            host_ip: host_ip.parse().expect("an address"),
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Tcp,
        }
    }

    #[test]
    fn ruleset_names_only_the_instances_table() {
        let text = text("ferry_abcd0123");
        for line in text.lines().filter(|line| !line.is_empty()) {
            assert!(line.contains(" inet ferry_abcd0123"), "{line}");
        }
        assert_eq!(text.matches("add set").count() + text.matches("add map").count(), SETS.len());
        for set in SETS {
            assert!(text.contains(&format!(" inet ferry_abcd0123 {set} {{")), "{set}");
        }
    }

    #[test]
    fn ports_on_every_address_have_a_key_without_one() {
        let v4 = Some(Ipv4Addr::new(172, 17, 0, 2));
        let any = port_element("c", &port("0.0.0.0"), v4, None).expect("translated");
        assert_eq!((any.set, any.key.as_slice()), ("publish4_any", [6, 0, 0, 0, 0x1f, 0x90, 0, 0].as_slice()));
        assert_eq!(any.data.as_deref(), Some([172, 17, 0, 2, 0, 80, 0, 0].as_slice()));
        let one = port_element("c", &port("127.0.0.1"), v4, None).expect("translated");
        assert_eq!(
            (one.set, one.key.as_slice()),
            ("publish4", [6, 0, 0, 0, 127, 0, 0, 1, 0x1f, 0x90, 0, 0].as_slice())
        );
    }

    #[test]
    fn what_cannot_be_translated_is_left_to_the_relay() {
        let v4 = Some(Ipv4Addr::new(172, 17, 0, 2));
        let v6 = Some("fd00::2".parse().expect("an address"));
        assert_eq!(port_element("c", &port("::"), v4, None), None);
        assert_eq!(port_element("c", &port("::1"), v4, v6), None);
        assert_eq!(port_element("c", &port("0.0.0.0"), None, v6), None);
        assert_eq!(port_element("c", &port("::"), v4, v6).expect("translated").key.len(), 8);
        assert_eq!(port_element("c", &port("fd77::1"), v4, v6).expect("translated").key.len(), 24);
    }

    #[test]
    fn subnets_are_intervals() {
        let elements = network_elements("172.17.0.1/16".parse().expect("a net"), "n");
        let keys: Vec<_> = elements.iter().map(|element| (element.key.as_slice(), element.is_interval_end)).collect();
        assert_eq!(keys, [([172, 17, 0, 0].as_slice(), false), ([172, 18, 0, 0].as_slice(), true)]);
        assert_eq!(network_elements("255.255.0.1/16".parse().expect("a net"), "n").len(), 1);
    }

    #[test]
    fn internal_networks_are_not_masqueraded() {
        let bridge = BridgeSpec {
            network_id: "n".to_owned(),
            link: "fb0".to_owned(),
            gateways: Vec::new(),
            mtu: None,
            internal: true,
            icc: false,
            masquerade: true,
            ipv6: false,
        };
        let sets = |elements: Vec<Element>| elements.into_iter().map(|element| element.set).collect::<Vec<_>>();
        let (wanted, unwanted) = bridge_elements(&bridge);
        assert_eq!(sets(wanted), ["bridges", "internal"]);
        assert_eq!(sets(unwanted), ["masqueraded", "connected"]);
    }
}
