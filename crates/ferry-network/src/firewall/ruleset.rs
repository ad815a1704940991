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
//! | `masqueraded4`, `masqueraded6` | those whose traffic to the outside takes the host's address |
//! | `source4`, `source6` | the address that it takes, where one was chosen |
//! | `unprotected4`, `unprotected6` | those whose containers are reached on all ports by who has a route to them |
//! | `routed4`, `routed6` | those whose published ports are reached at the containers' own addresses |
//! | `trusted` | pairs of a link of the host and a bridge, for which the same is true |
//! | `open4`, `open6` | such ports: address, protocol, port |
//! | `networks4`, `networks6` | their subnets |
//! | `connected` | pairs of a bridge with itself, where containers may talk to one another |
//! | `publish4`, `publish6` | protocol, host address, host port → container address and port |
//! | `publish4_any`, `publish6_any` | the same for ports published on every address |
//! | `egress4`, `egress6` | addresses of containers that may not reach everything → their chains, see [`super::egress`] |
//! | `limited4`, `limited6` | published ports that not everybody may reach: protocol, host address, host port |
//! | `allowed4`, `allowed6` | who may, before the same |
//!
//! Policies are `accept`: ferry closes its own networks and leaves the host's other traffic to the
//! host, also where it had to switch forwarding on. dockerd sets the host's `FORWARD` policy to drop
//! in that case; we do not, because it would cut off other virtual machines and containers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::{
    firewall::{Habits, nftables::Element},
    types::{BridgeSpec, FamilySpec, FirewallMark, GatewayMode, PortTarget, PublishedPort},
};

/// Every set of the table that is filled anew with it.
pub(crate) const SETS: [&str; 24] = [
    "bridges",
    "internal",
    "masqueraded4",
    "masqueraded6",
    "source4",
    "source6",
    "unprotected4",
    "unprotected6",
    "routed4",
    "routed6",
    "trusted",
    "open4",
    "open6",
    "connected",
    "networks4",
    "networks6",
    "publish4",
    "publish4_any",
    "publish6",
    "publish6_any",
    "limited4",
    "limited6",
    "allowed4",
    "allowed6",
];

const SETS_TEXT: &str = "
add table inet T
add set inet T bridges { type ifname; }
add set inet T internal { type ifname; }
add set inet T masqueraded4 { type ifname; }
add set inet T masqueraded6 { type ifname; }
add map inet T source4 { type ifname : ipv4_addr; }
add map inet T source6 { type ifname : ipv6_addr; }
add set inet T unprotected4 { type ifname; }
add set inet T unprotected6 { type ifname; }
add set inet T routed4 { type ifname; }
add set inet T routed6 { type ifname; }
add set inet T trusted { type ifname . ifname; }
add set inet T open4 { type ipv4_addr . inet_proto . inet_service; }
add set inet T open6 { type ipv6_addr . inet_proto . inet_service; }
add set inet T connected { type ifname . ifname; }
add set inet T networks4 { type ipv4_addr; flags interval; }
add set inet T networks6 { type ipv6_addr; flags interval; }
add map inet T publish4 { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }
add map inet T publish4_any { type inet_proto . inet_service : ipv4_addr . inet_service; }
add map inet T publish6 { type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service; }
add map inet T publish6_any { type inet_proto . inet_service : ipv6_addr . inet_service; }
add set inet T limited4 { type inet_proto . ipv4_addr . inet_service; flags interval; }
add set inet T limited6 { type inet_proto . ipv6_addr . inet_service; flags interval; }
add set inet T allowed4 { type ipv4_addr . inet_proto . ipv4_addr . inet_service; flags interval; }
add set inet T allowed6 { type ipv6_addr . inet_proto . ipv6_addr . inet_service; flags interval; }
add map inet T egress4 { type ipv4_addr : verdict; }
add map inet T egress6 { type ipv6_addr : verdict; }
";

const CHAINS_TEXT: &str = "
add chain inet T prerouting { type nat hook prerouting priority dstnat; policy accept; }
add chain inet T output { type nat hook output priority -100; policy accept; }
add chain inet T postrouting { type nat hook postrouting priority srcnat; policy accept; }
add chain inet T forward { type filter hook forward priority filter; policy accept; }
add chain inet T published
add chain inet T limited
add chain inet T to_container
add chain inet T from_internal
flush chain inet T prerouting
flush chain inet T output
flush chain inet T postrouting
flush chain inet T forward
flush chain inet T published
flush chain inet T limited
flush chain inet T to_container
flush chain inet T from_internal
";

/// What every packet passes is looked at in the order of what it costs: bytes of the packet before sets, and what goes on before what begins.
/// What internal networks and containers with egress rules need besides is not there without them, see [`Needs`].
///
/// - `prerouting`: nothing on a wire may begin a connection to a loopback address. Bridges have `route_localnet`, and ports published on
///   127.0.0.1 are for this machine alone. From bridges no packet with such an address comes in at all, see [`super::guard`] and [`RAW_TEXT`].
/// - `limited`: who may not reach a published port is turned away before it is translated, and before a socket that holds it.
/// - `published`: `::1` is left to the relay of `ferry-netd`; link-local addresses are not translated.
/// - `postrouting`: connections from 127.0.0.1, and from a container to a published port of its own
///   or another of our networks, must come back through us. The latter are known by their source,
///   because frames that `br_netfilter` shows have no input link here.
/// - `to_container`: only what was asked for from inside, neighbours, and published ports. Direct
///   routing to a container's address from another link, our other networks included, ends here,
///   but for networks and links that were said to be open to it.
const RULES_TEXT: &str = "
add rule inet T prerouting ip daddr 127.0.0.0/8 iifname != lo drop
add rule inet T prerouting ip6 daddr fe80::/10 return
add rule inet T prerouting iifname != lo fib daddr type local jump limited
add rule inet T prerouting fib daddr type local jump published
add rule inet T output ip6 daddr { ::1, fe80::/10 } return
add rule inet T output fib daddr type local jump published
add rule inet T limited ip saddr . meta l4proto . ip daddr . th dport @allowed4 return
add rule inet T limited ip6 saddr . meta l4proto . ip6 daddr . th dport @allowed6 return
add rule inet T limited meta l4proto . ip daddr . th dport @limited4 drop
add rule inet T limited meta l4proto . ip6 daddr . th dport @limited6 drop
add rule inet T published dnat ip to meta l4proto . ip daddr . th dport map @publish4
add rule inet T published dnat ip to meta l4proto . th dport map @publish4_any
add rule inet T published dnat ip6 to meta l4proto . ip6 daddr . th dport map @publish6
add rule inet T published dnat ip6 to meta l4proto . th dport map @publish6_any
add rule inet T postrouting oifname @bridges ip saddr 127.0.0.0/8 masquerade
add rule inet T postrouting oifname @bridges ip saddr @networks4 ct status dnat masquerade
add rule inet T postrouting oifname @bridges ip6 saddr @networks6 ct status dnat masquerade
add rule inet T postrouting oifname @bridges accept
add rule inet T postrouting snat ip to iifname map @source4
add rule inet T postrouting snat ip6 to iifname map @source6
add rule inet T postrouting meta nfproto ipv4 iifname @masqueraded4 masquerade
add rule inet T postrouting meta nfproto ipv6 iifname @masqueraded6 masquerade
add rule inet T to_container ct status dnat accept
add rule inet T to_container oifname @routed4 ip daddr . meta l4proto . th dport @open4 accept
add rule inet T to_container oifname @routed6 ip6 daddr . meta l4proto . th dport @open6 accept
add rule inet T to_container iifname . oifname @trusted ip daddr . meta l4proto . th dport @open4 accept
add rule inet T to_container iifname . oifname @trusted ip6 daddr . meta l4proto . th dport @open6 accept
";

/// Where the table that sees frames keeps loopback addresses away. Every packet of the machine would pass this chain, too.
const NO_RAW_TEXT: &str = "
add chain inet T raw { type filter hook prerouting priority raw; policy accept; }
flush chain inet T raw
delete chain inet T raw
";
const RAW_TEXT: &str = "
add chain inet T raw { type filter hook prerouting priority raw; policy accept; }
flush chain inet T raw
add rule inet T raw ip daddr 127.0.0.0/8 iifname != lo drop
add rule inet T raw ip saddr 127.0.0.0/8 iifname @bridges drop
";

/// Where nothing is kept from this machine.
const NO_INPUT_TEXT: &str = "
add chain inet T input { type filter hook input priority filter; policy accept; }
flush chain inet T input
delete chain inet T input
";
const INPUT_TEXT: &str = "
add chain inet T input { type filter hook input priority filter; policy accept; }
flush chain inet T input
add rule inet T input ct direction reply accept
";

/// Containers with egress rules look at every packet that they send of themselves, so that a change of them counts at once.
const EGRESS_TEXT: &str = "
add rule inet T input ip saddr vmap @egress4
add rule inet T input ip6 saddr vmap @egress6
add rule inet T forward ip saddr vmap @egress4
add rule inet T forward ip6 saddr vmap @egress6
";

/// Where everything that goes on may go on.
const OPEN_TEXT: &str = "
add rule inet T forward ct state established,related accept
add rule inet T forward oifname @bridges jump to_container
add rule inet T to_container iifname . oifname @connected accept
";
const INTERNAL_TEXT: &str = "
add rule inet T input iifname @internal jump from_internal
add rule inet T from_internal ct state established,related accept
add rule inet T from_internal icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
add rule inet T from_internal drop
add rule inet T forward oifname @bridges jump to_container
add rule inet T forward iifname @internal drop
add rule inet T to_container ct state established,related oifname != @internal iifname != @internal accept
add rule inet T to_container iifname . oifname @connected accept
add rule inet T to_container iifname @internal drop
add rule inet T to_container oifname @internal drop
";

/// Other networks of ours end here.
const APART_TEXT: &str = "
add rule inet T to_container iifname @bridges drop
";

/// Published ports are open to who has a route to the containers.
const DIRECT_TEXT: &str = "
add rule inet T to_container ip daddr . meta l4proto . th dport @open4 accept
add rule inet T to_container ip6 daddr . meta l4proto . th dport @open6 accept
";

const CLOSING_TEXT: &str = "
add rule inet T to_container oifname @routed4 meta l4proto icmp accept
add rule inet T to_container oifname @routed6 meta l4proto icmpv6 accept
add rule inet T to_container oifname @unprotected4 meta nfproto ipv4 accept
add rule inet T to_container oifname @unprotected6 meta nfproto ipv6 accept
add rule inet T to_container drop
";

/// Without rules for IPv6 nothing of it is looked at: whoever has a route to a container reaches it.
const OPEN6_TEXT: &str = "
add rule inet T forward meta nfproto ipv6 accept
";
/// The same for the chain that is not always there, before its other rules.
const OPEN6_INPUT: &str = "add rule inet T input meta nfproto ipv6 accept\n";

/// What has to be looked at in every packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Networks are internal.
    pub(crate) internal: bool,
    /// Containers have egress rules.
    pub(crate) egress: bool,
}

/// Returns the ruleset for `nft -f`; sets keep their elements. `guards`: there is a table that sees frames.
pub(crate) fn text(table: &str, habits: &Habits, needs: Needs, guards: bool) -> String {
    let named = format!(" inet {table}");
    let raw = if guards { NO_RAW_TEXT } else { RAW_TEXT };
    let has_input = needs.internal || needs.egress;
    let input = if has_input { INPUT_TEXT } else { NO_INPUT_TEXT };
    let open6 = if habits.ipv6 { "" } else { OPEN6_TEXT };
    let open6_input = if has_input && !habits.ipv6 { OPEN6_INPUT } else { "" };
    let egress = if needs.egress { EGRESS_TEXT } else { "" };
    let going_on = if needs.internal { INTERNAL_TEXT } else { OPEN_TEXT };
    let mut closing = String::from(APART_TEXT);
    if let Some(FirewallMark { value, mask }) = habits.mark {
        closing.insert_str(1, &format!("add rule inet T to_container meta mark & {mask:#x} == {value:#x} accept\n"));
    }
    if habits.direct {
        closing += DIRECT_TEXT.trim_start();
    }
    [SETS_TEXT, CHAINS_TEXT, raw, open6, input, open6_input, egress, going_on, RULES_TEXT, &closing, CLOSING_TEXT]
        .concat()
        .replace(" inet T", &named)
}

/// Returns the elements of a network and those that it must not have.
pub(crate) fn bridge_elements(bridge: &BridgeSpec, ipv6: bool) -> (Vec<Element>, Vec<Element>) {
    let name = link_key(&bridge.link);
    let pair = [name.as_slice(), name.as_slice()].concat();
    let comment = bridge.network_id.get(..12).unwrap_or(&bridge.network_id);
    let element =
        |set, key| Element { set, key, last: None, data: None, is_interval_end: false, comment: comment.to_owned() };
    let translates = |family: FamilySpec| {
        bridge.masquerade && !bridge.internal && matches!(family.mode, GatewayMode::Nat | GatewayMode::NatUnprotected)
    };
    let is = |family: FamilySpec, mode| family.mode == mode && !bridge.internal;
    let all = [
        (true, element("bridges", name.clone())),
        (bridge.internal, element("internal", name.clone())),
        (translates(bridge.v4), element("masqueraded4", name.clone())),
        (ipv6 && translates(bridge.v6), element("masqueraded6", name.clone())),
        (is(bridge.v4, GatewayMode::NatUnprotected), element("unprotected4", name.clone())),
        (is(bridge.v6, GatewayMode::NatUnprotected), element("unprotected6", name.clone())),
        (is(bridge.v4, GatewayMode::Routed), element("routed4", name.clone())),
        (is(bridge.v6, GatewayMode::Routed), element("routed6", name.clone())),
        (bridge.icc, element("connected", pair)),
    ];
    let (wanted, unwanted): (Vec<_>, Vec<_>) = all.into_iter().partition(|(wanted, _)| *wanted);
    let elements = |list: Vec<(bool, Element)>| list.into_iter().map(|(_, element)| element).collect::<Vec<_>>();
    let mut wanted = elements(wanted);
    wanted.extend(bridge.subnets.iter().flat_map(|net| network_elements(*net, comment)));
    let sources = [(bridge.v4, true, "source4"), (bridge.v6, ipv6, "source6")];
    let used = sources.into_iter().filter(|(family, has_rules, _)| *has_rules && translates(*family));
    wanted.extend(used.filter_map(|(family, _, set)| {
        Some(Element { data: Some(octets(family.source?)), ..element(set, name.clone()) })
    }));
    wanted.extend(bridge.trusted.iter().map(|link| element("trusted", [link_key(link).as_slice(), &name].concat())));
    (wanted, elements(unwanted))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
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
        last: None,
        data: None,
        is_interval_end,
        comment: if is_interval_end { String::new() } else { comment.to_owned() },
    };
    // An interval up to the last address has no end.
    std::iter::once(element(first, false)).chain(next.map(|key| element(key, true))).collect()
}

/// Returns the elements of a published port; none where the relay serves it: for `::1`, and for a
/// family in which the container has no address.
pub(crate) fn port_elements(container_id: &str, port: &PublishedPort, target: &PortTarget) -> Vec<Element> {
    let opened = if port.host_ip.is_ipv4() { target.routed4 } else { target.routed6 } || target.opened;
    let open = if opened { open_element(container_id, port, target) } else { None };
    let translated = if port.host_port == 0 { None } else { port_element(container_id, port, target.v4, target.v6) };
    open.into_iter().chain(translated).chain(limits(container_id, port)).collect()
}

/// Who may reach a port, and that nobody else may.
fn limits(container_id: &str, port: &PublishedPort) -> Vec<Element> {
    if port.from.is_empty() || port.host_port == 0 {
        return Vec::new();
    }
    let protocol = [port.protocol.number(), 0, 0, 0];
    let number = padded_port(port.host_port);
    let (first, last) = match port.host_ip {
        ip if !ip.is_unspecified() => (octets(ip), octets(ip)),
        IpAddr::V4(_) => (vec![0; 4], vec![255; 4]),
        IpAddr::V6(_) => (vec![0; 16], vec![255; 16]),
    };
    let is_v4 = port.host_ip.is_ipv4();
    let element = |set, before: (Vec<u8>, Vec<u8>)| Element {
        set,
        key: [&before.0, &protocol[..], &first, &number].concat(),
        last: Some([&before.1, &protocol[..], &last, &number].concat()),
        data: None,
        is_interval_end: false,
        comment: short(container_id),
    };
    let nets = port.from.iter().filter(|net| net.addr().is_ipv4() == is_v4);
    let (limited, allowed) = if is_v4 { ("limited4", "allowed4") } else { ("limited6", "allowed6") };
    let allowed = nets.map(|net| element(allowed, (octets(net.network()), octets(net.broadcast()))));
    allowed.chain([element(limited, (Vec::new(), Vec::new()))]).collect()
}

/// A port that is reached at the container's own address.
fn open_element(container_id: &str, port: &PublishedPort, target: &PortTarget) -> Option<Element> {
    let protocol = [port.protocol.number(), 0, 0, 0];
    let (set, address) = match port.host_ip {
        IpAddr::V4(_) => ("open4", target.v4?.octets().to_vec()),
        IpAddr::V6(_) => ("open6", target.v6?.octets().to_vec()),
    };
    Some(Element {
        set,
        key: [&address, &protocol[..], &padded_port(port.container_port)].concat(),
        last: None,
        data: None,
        is_interval_end: false,
        comment: short(container_id),
    })
}

fn short(container_id: &str) -> String {
    container_id.get(..12).unwrap_or(container_id).to_owned()
}

/// The translation of a published port.
fn port_element(
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
        last: None,
        data: Some([&target[..], &container_port].concat()),
        is_interval_end: false,
        comment: short(container_id),
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
            from: Vec::new(),
        }
    }

    #[test]
    fn ruleset_names_only_the_instances_table() {
        let text = text(
            "ferry_abcd0123",
            &Habits { ipv6: true, direct: false, mark: None },
            Needs { internal: true, egress: true },
            true,
        );
        for line in text.lines().filter(|line| !line.is_empty()) {
            assert!(line.contains(" inet ferry_abcd0123"), "{line}");
        }
        // Those of containers with egress rules keep their elements: see `restrict`.
        assert_eq!(text.matches("add set").count() + text.matches("add map").count(), SETS.len() + 2);
        for set in SETS {
            assert!(text.contains(&format!(" inet ferry_abcd0123 {set} {{")), "{set}");
        }
    }

    #[test]
    fn what_the_daemon_was_told_opens_before_everything_is_closed() {
        let mark = Some("0x10/0xf0".parse().expect("a mark"));
        let text = text("t", &Habits { ipv6: false, direct: true, mark }, Needs::default(), true);
        let at = |rule: &str| text.find(rule).unwrap_or_else(|| panic!("{rule} in {text}"));
        let apart = at("to_container iifname @bridges drop");
        assert!(at("to_container meta mark & 0xf0 == 0x10 accept") < apart);
        assert!(apart < at("to_container ip daddr . meta l4proto . th dport @open4 accept\nadd"));
        assert!(text.ends_with("add rule inet t to_container drop\n"));
        assert!(at("forward meta nfproto ipv6 accept") < at("forward oifname @bridges"));
        assert!(at("delete chain inet t input") < at("forward ct state established,related accept"));
        for needs in [Needs { internal: true, egress: false }, Needs { internal: false, egress: true }] {
            let text = super::text("t", &Habits { ipv6: true, direct: false, mark }, needs, false);
            let has = |words: &str| text.contains(words);
            assert!(has("raw ip saddr 127.0.0.0/8 iifname @bridges drop"), "nothing else looks at frames");
            assert!(!has("delete chain") && has("input ct direction reply accept"), "{text}");
            assert_eq!(has("forward ip saddr vmap @egress4"), needs.egress);
            assert_eq!(has("iifname @internal drop"), needs.internal);
            assert_eq!(has("forward ct state established,related accept"), !needs.internal);
        }
        for wrong in ["", "x", "1/y", "0x1ffffffff"] {
            assert!(wrong.parse::<FirewallMark>().is_err(), "{wrong}");
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
    fn a_port_that_is_not_for_everybody_has_a_list() {
        let target = PortTarget { v4: Some(Ipv4Addr::new(172, 17, 0, 2)), ..PortTarget::default() };
        let limited = PublishedPort { from: vec!["10.0.0.0/8".parse().expect("a net")], ..port("0.0.0.0") };
        let elements = port_elements("c", &limited, &target);
        assert_eq!(sets(elements.clone()), ["publish4_any", "allowed4", "limited4"]);
        assert_eq!(elements[1].key[..8], [10, 0, 0, 0, 6, 0, 0, 0]);
        assert_eq!(elements[1].last.as_ref().expect("a range")[..4], [10, 255, 255, 255]);
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
            internal: true,
            masquerade: true,
            ..BridgeSpec::default()
        };
        let (wanted, unwanted) = bridge_elements(&bridge, true);
        assert_eq!(sets(wanted), ["bridges", "internal"]);
        assert!(sets(unwanted).contains(&"masqueraded4"));
    }

    fn sets(elements: Vec<Element>) -> Vec<&'static str> {
        elements.into_iter().map(|element| element.set).collect()
    }

    #[test]
    fn each_family_goes_out_in_its_own_way() {
        let family =
            |mode, source: Option<&str>| FamilySpec { mode, source: source.map(|ip| ip.parse().expect("an ip")) };
        let bridge = BridgeSpec {
            network_id: "n".to_owned(),
            link: "fb0".to_owned(),
            masquerade: true,
            icc: true,
            v4: family(GatewayMode::NatUnprotected, Some("192.0.2.7")),
            v6: family(GatewayMode::Routed, Some("fd00::7")),
            trusted: vec!["eth1".to_owned()],
            ..BridgeSpec::default()
        };
        let (wanted, _) = bridge_elements(&bridge, true);
        assert_eq!(
            sets(wanted),
            ["bridges", "masqueraded4", "unprotected4", "routed6", "connected", "source4", "trusted"]
        );
    }

    #[test]
    fn a_routed_port_is_open_at_the_containers_address() {
        let target = PortTarget {
            v4: Some(Ipv4Addr::new(172, 18, 0, 2)),
            v6: Some("fd00::2".parse().expect("an address")),
            routed4: true,
            ..PortTarget::default()
        };
        let routed = PublishedPort { host_port: 0, ..port("0.0.0.0") };
        let elements = port_elements("c", &routed, &target);
        assert_eq!(sets(elements.clone()), ["open4"]);
        assert_eq!(elements[0].key, [172, 18, 0, 2, 6, 0, 0, 0, 0, 80, 0, 0]);
        assert_eq!(sets(port_elements("c", &port("::"), &target)), ["publish6_any"]);
        let trusted = PortTarget { opened: true, ..target };
        assert_eq!(sets(port_elements("c", &port("::"), &trusted)), ["open6", "publish6_any"]);
    }
}
