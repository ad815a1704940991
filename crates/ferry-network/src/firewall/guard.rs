//! Keeps containers from taking one another's place on a bridge. Pure.
//!
//! A table of the family `bridge`, which sees frames. Nobody but its owner may send from a hardware
//! address of ours, or claim an address of ours (another container's, a gateway) by ARP or by what
//! neighbours ask and say in IPv6; router advertisements come from no container. Addresses that nobody of ours has may be used freely: a
//! container with the right to do so may share an address with others, as clusters do. One that may not reach everything sends from its own alone,
//! since it is told by them.
//!
//! Packets take nobody's place: where a hardware address is, the bridge is told when a container starts and does not learn otherwise
//! (see [`crate::netlink::route::set_forwarding`]). So they are let through first, unless some container is in `strict`: nothing is looked
//! up for them. But for loopback addresses: bridges route them (`route_localnet`), so none may come in by a port. Here, where they cost
//! frames of bridges a look at two bytes, and all other packets of the machine nothing.
//!
//! `meta protocol` is what the kernel takes a frame for once it has taken a tag off. That of a tag for priority alone (VLAN 0) counts, since
//! whoever gets the frame reads it as if it had none; frames with another tag inside could go on like that, and do not pass.

use std::net::IpAddr;

use crate::{
    firewall::nftables::Element,
    types::{BridgeSpec, EndpointSpec, InstanceId},
};

/// Every set of the table that each `nft` can make.
pub(crate) const SETS: [&str; 6] = ["macs", "addresses", "port_macs", "port_addresses", "unlimited", "strict"];
/// Those of IPv6.
pub(crate) const SETS6: [&str; 2] = ["addresses6", "port_addresses6"];

/// The address that a neighbour advertisement speaks of has no name in every `nft`: 128 bits behind its head. Who is asked, or told of a
/// better way, learns from the source as well: 128 bits of the head of IPv6.
const TEXT6: &str = "
add set bridge T addresses6 { typeof @th,64,128; }
add set bridge T port_addresses6 { typeof iifname . @th,64,128; }
add rule bridge T prerouting meta protocol ip6 icmpv6 type nd-neighbor-advert @th,64,128 @addresses6 iifname . @th,64,128 != @port_addresses6 drop
add rule bridge T prerouting meta protocol ip6 meta l4proto icmpv6 @nh,64,128 @addresses6 iifname . @nh,64,128 != @port_addresses6 drop
add rule bridge T strict meta protocol ip6 ip6 saddr != { ::, fe80::/10 } iifname . @nh,64,128 != @port_addresses6 drop
";

const TEXT: &str = "
add table bridge T
add set bridge T macs { type ether_addr; }
add set bridge T addresses { type ipv4_addr; }
add set bridge T port_macs { type ifname . ether_addr; }
add set bridge T port_addresses { type ifname . ipv4_addr; }
add set bridge T unlimited { type ifname . ether_addr; }
add set bridge T strict { type ifname; }
add chain bridge T prerouting { type filter hook prerouting priority -300; policy accept; }
add chain bridge T strict
flush chain bridge T prerouting
flush chain bridge T strict
add rule bridge T prerouting @nh,128,8 127 meta protocol ip drop
add rule bridge T prerouting @nh,96,8 127 meta protocol ip drop
FIRST
add rule bridge T prerouting iifname != \"P*\" accept
add rule bridge T prerouting meta protocol { 0x8100, 0x88a8 } drop
add rule bridge T prerouting iifname @strict jump strict
add rule bridge T prerouting meta protocol ip iifname . ether saddr @port_macs accept
add rule bridge T prerouting ether saddr @macs iifname . ether saddr != @port_macs drop
add rule bridge T prerouting meta protocol arp arp saddr ip @addresses iifname . arp saddr ip != @port_addresses drop
add rule bridge T prerouting meta protocol ip6 icmpv6 type nd-router-advert drop
add rule bridge T strict meta protocol ip ip saddr != 0.0.0.0 iifname . ip saddr != @port_addresses drop
add rule bridge T strict meta protocol ip6 ip6 saddr fe80::/10 meta l4proto != icmpv6 drop
";

/// What most frames are is let through first.
const FIRST: &str = "\
add rule bridge T prerouting meta protocol ip accept
add rule bridge T prerouting meta protocol ip6 meta l4proto != icmpv6 accept";

/// The same where some port is in `strict`: one look-up tells those that are not.
const FIRST_STRICT: &str = "\
add rule bridge T prerouting meta protocol ip iifname . ether saddr @unlimited accept
add rule bridge T prerouting meta protocol ip6 meta l4proto != icmpv6 iifname . ether saddr @unlimited accept";

/// Returns the ruleset for `nft -f`; sets keep their elements. Nothing is in `strict` unless `strict`.
pub(crate) fn text(instance: &InstanceId, strict: bool) -> String {
    of_instance(&TEXT.replace("FIRST", if strict { FIRST_STRICT } else { FIRST }), instance)
}

/// Returns what is added to it for IPv6, after it.
pub(crate) fn text6(instance: &InstanceId) -> String {
    of_instance(TEXT6, instance)
}

fn of_instance(text: &str, instance: &InstanceId) -> String {
    let table = format!(" bridge {} ", instance.table());
    let text = text.replace(" bridge T\n", &format!("{}\n", table.trim_end()));
    text.replace(" bridge T ", &table).replace("P*", &format!("{}*", instance.host_link_prefix()))
}

/// What an endpoint owns. The comment is the container's id, by which a later daemon knows it.
pub(crate) fn endpoint_elements(endpoint: &EndpointSpec, host_end: &str) -> Vec<Element> {
    let mut port = host_end.as_bytes().to_vec();
    port.resize(16, 0);
    let element = |set, key: &[u8]| Element {
        set,
        key: key.to_vec(),
        last: None,
        data: None,
        is_interval_end: false,
        comment: endpoint.container_id.clone(),
    };
    // Fields of a concatenation are padded to four bytes.
    let padded_mac = [endpoint.mac.0.as_slice(), &[0, 0]].concat();
    let mac_on_port = [port.as_slice(), &padded_mac].concat();
    let mut elements =
        vec![element("macs", &endpoint.mac.0), element("port_macs", &mac_on_port), element("unlimited", &mac_on_port)];
    for net in &endpoint.addresses {
        let (own, on_port) = match net.addr() {
            IpAddr::V4(_) => ("addresses", "port_addresses"),
            IpAddr::V6(_) => ("addresses6", "port_addresses6"),
        };
        let address = octets(net.addr());
        elements.push(element(own, &address));
        elements.push(element(on_port, &[port.as_slice(), &address].concat()));
    }
    elements
}

/// Tells whether an element is one of those that [`endpoint_elements`] made for this endpoint.
pub(crate) fn is_of_endpoint(element: &Element, endpoint: &EndpointSpec) -> bool {
    let value = match element.set {
        "macs" | "addresses" | "addresses6" => element.key.as_slice(),
        // After the name of the port.
        _ => element.key.get(16..).unwrap_or_default(),
    };
    if element.set.ends_with("macs") || element.set == "unlimited" {
        return value.get(..6) == Some(endpoint.mac.0.as_slice());
    }
    endpoint.addresses.iter().any(|net| value == octets(net.addr()))
}

/// What a bridge owns: no container may claim its addresses.
pub(crate) fn bridge_elements(bridge: &BridgeSpec) -> Vec<Element> {
    let element = |net: &ipnet::IpNet| Element {
        set: if net.addr().is_ipv4() { "addresses" } else { "addresses6" },
        key: octets(net.addr()),
        last: None,
        data: None,
        is_interval_end: false,
        comment: bridge.network_id.clone(),
    };
    bridge.gateways.iter().map(element).collect()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::MacAddr;

    #[test]
    fn ruleset_names_only_the_instance() {
        for strict in [false, true] {
            let text = text(&InstanceId::new("abcd0123").expect("an id"), strict);
            for line in text.lines().filter(|line| !line.is_empty()) {
                assert!(line.contains(" bridge ferry_abcd0123"), "{line}");
            }
            assert!(text.contains("iifname != \"fvabcd*\" accept"));
            assert_eq!(text.matches("add set").count(), SETS.len());
            assert_eq!(text.contains("meta protocol ip accept"), !strict);
        }
    }

    #[test]
    fn endpoints_own_their_addresses_on_their_port() {
        let endpoint = EndpointSpec {
            container_id: "c1".to_owned(),
            network_id: "n1".to_owned(),
            bridge_link: "ferry0".to_owned(),
            interface: "eth0".to_owned(),
            mac: MacAddr([2, 0x42, 1, 2, 3, 4]),
            addresses: vec!["172.17.0.2/16".parse().expect("a net"), "fd00::2/64".parse().expect("a net")],
            ..EndpointSpec::default()
        };
        let elements = endpoint_elements(&endpoint, "fvabcdc10");
        let sizes: Vec<_> = elements.iter().map(|element| (element.set, element.key.len())).collect();
        assert_eq!(
            sizes,
            [
                ("macs", 6),
                ("port_macs", 24),
                ("unlimited", 24),
                ("addresses", 4),
                ("port_addresses", 20),
                ("addresses6", 16),
                ("port_addresses6", 32)
            ]
        );
        assert!(elements.iter().all(|element| is_of_endpoint(element, &endpoint)));
        let other = EndpointSpec {
            mac: MacAddr([2, 0x42, 1, 2, 3, 5]),
            addresses: vec!["172.17.0.3/16".parse().expect("a net")],
            ..endpoint
        };
        assert!(!elements.iter().any(|element| is_of_endpoint(element, &other)));
    }
}
