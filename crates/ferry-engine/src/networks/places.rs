//! Places in networks: which addresses, interfaces and gateways a container gets, before the kernel has them.

use std::cmp::Reverse;
use std::net::IpAddr;

use ferry_api::network::EndpointResource;
use ferry_network::address_pool::PoolError;
use ferry_network::{ChildSpec, EndpointSpec, GatewayMode, MacAddr, PortTarget, mac};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::connect::{EndpointWish, Wish};
use super::options::{Settings, link_name};
use super::record::Driver;
use super::subnets::overlap;
use super::{Network, Networks, find, with_prefix};
use crate::containers::record::EndpointRecord;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ids;

/// Option of an endpoint: the name of its interface.
const IFNAME: &str = "com.docker.network.endpoint.ifname";
/// Option of an endpoint: settings of its interface.
pub(crate) const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// What the table gave out, before the kernel has it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) endpoint: EndpointRecord,
    pub(super) network: NetworkView,
}

/// What an endpoint has to know of its network.
#[derive(Debug, Clone)]
pub(super) struct NetworkView {
    pub(super) name: String,
    pub(super) driver: Driver,
    /// Of the plugin, where it is one.
    pub(super) driver_name: String,
    pub(super) user_defined: bool,
    pub(super) internal: bool,
    pub(super) settings: Settings,
    link: String,
    mtu: Option<u32>,
    icc: bool,
}

/// The endpoints by which a container reaches the outside, by their numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gateways {
    pub(super) v4: Option<usize>,
    pub(super) v6: Option<usize>,
}

impl Gateways {
    /// Of the highest priority, then the first by its network's name; as in Docker one that leads out in both families goes first.
    pub(super) fn of(places: &[Place]) -> Self {
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|at| {
            let place = &places[*at];
            (Reverse(place.endpoint.gateway_priority), place.network.name.clone())
        });
        let mut gateways = Self::default();
        for at in order {
            let (v4, v6) = places[at].leads_out();
            if v4 && v6 {
                return Self { v4: Some(at), v6: Some(at) };
            }
            gateways.v4 = gateways.v4.or(v4.then_some(at));
            gateways.v6 = gateways.v6.or(v6.then_some(at));
        }
        gateways
    }

    /// Whether a place is the way out of a family.
    pub(super) fn is(self, at: usize) -> (bool, bool) {
        (self.v4 == Some(at), self.v6 == Some(at))
    }

    /// Numbers when the place `at` is taken out.
    pub(super) fn without(self, at: usize) -> Self {
        let moved = |index: usize| match index {
            index if index == at => None,
            index if index > at => Some(index - 1),
            index => Some(index),
        };
        Self { v4: self.v4.and_then(moved), v6: self.v6.and_then(moved) }
    }
}

impl Place {
    /// In which families it is a way out.
    fn leads_out(&self) -> (bool, bool) {
        if self.network.internal || !self.network.driver.has_endpoints() {
            return (false, false);
        }
        let endpoint = &self.endpoint;
        match self.network.settings.child {
            Some(child) if child.routes_by_link() => (endpoint.address.is_some(), endpoint.address6.is_some()),
            _ => (endpoint.gateway.is_some(), endpoint.gateway6.is_some()),
        }
    }

    /// Where its ports lead, in the families in which it is the way out.
    pub(super) fn port_target(&self, (v4, v6): (bool, bool)) -> PortTarget {
        let settings = &self.network.settings;
        if self.network.driver != Driver::Bridge {
            // Their containers stand on the wire themselves.
            return PortTarget::default();
        }
        PortTarget {
            v4: self.endpoint.address_v4().filter(|_| v4),
            v6: self.endpoint.address6.filter(|_| v6),
            routed4: v4 && settings.mode4 == GatewayMode::Routed,
            routed6: v6 && settings.mode6 == GatewayMode::Routed,
            opened: !settings.trusted.is_empty(),
        }
    }

    /// What the kernel is to make of it.
    pub(super) fn endpoint_spec(&self, wish: &Wish, (v4, v6): (bool, bool)) -> Result<EndpointSpec> {
        let (endpoint, network) = (&self.endpoint, &self.network);
        let child = network.settings.child;
        let by_link = child.is_some_and(ferry_network::ChildKind::routes_by_link);
        Ok(EndpointSpec {
            container_id: wish.container_id.clone(),
            network_id: endpoint.network_id.clone(),
            bridge_link: network.link.clone(),
            child: child.map(|kind| ChildSpec { parent: network.settings.parent.clone(), kind }),
            interface: endpoint.interface.clone(),
            // A plugin's link may come with its own.
            mac: match endpoint.mac_address.as_str() {
                "" => MacAddr::default(),
                text => text.parse().map_err(|error: ferry_network::InvalidMac| Error::invalid(error.to_string()))?,
            },
            addresses: addresses(endpoint),
            gateway_v4: endpoint.gateway.filter(|_| v4 && !by_link),
            gateway_v6: endpoint.gateway6.filter(|_| v6 && !by_link),
            mtu: network.mtu,
            isolated: !network.icc,
            default_by_link: by_link && (v4 || v6),
            sysctls: sysctls(endpoint)?,
            shaping: wish.shaping,
        })
    }
}

/// With the prefixes of their subnets; link-local ones have their own.
fn addresses(endpoint: &EndpointRecord) -> Vec<IpNet> {
    let v4 = endpoint.address_v4().map(|address| {
        IpNet::V4(Ipv4Net::new(address, endpoint.prefix_length).expect("the prefix length of a valid subnet"))
    });
    let v6 = endpoint.address6.map(|address| {
        IpNet::V6(Ipv6Net::new(address, endpoint.prefix_length6).expect("the prefix length of a valid subnet"))
    });
    let link_local = endpoint.link_local.iter().filter_map(|text| text.parse().ok()).map(|address| match address {
        IpAddr::V4(address) => IpNet::V4(Ipv4Net::new_assert(address, 16)),
        IpAddr::V6(address) => IpNet::V6(Ipv6Net::new_assert(address, 64)),
    });
    v4.into_iter().chain(v6).chain(link_local).collect()
}

impl Networks {
    /// Addresses in every network, all or none.
    pub(super) fn take_places(&self, wish: &Wish) -> Result<Vec<Place>> {
        let mut places: Vec<Place> = Vec::new();
        for endpoint in &wish.endpoints {
            let taken: Vec<String> = places.iter().map(|place| place.endpoint.interface.clone()).collect();
            match self.take_place(wish, endpoint, &taken) {
                Ok(place) => places.push(place),
                Err(error) => {
                    self.leave_places(&wish.container_id);
                    return Err(error);
                }
            }
        }
        Ok(places)
    }

    /// An address and an interface in one network. `taken` are the interfaces that there are.
    pub(super) fn take_place(&self, wish: &Wish, asked: &EndpointWish, taken: &[String]) -> Result<Place> {
        match self.request_addresses(asked)? {
            None => self.take_place_here(wish, asked, taken),
            Some(given) => self.take_given_place(wish, asked, &given, taken),
        }
    }

    /// The same, with addresses of our own.
    pub(super) fn take_place_here(&self, wish: &Wish, asked: &EndpointWish, taken: &[String]) -> Result<Place> {
        let mut table = self.table();
        let id = find(&table, &asked.network)?.record.id.clone();
        let network = table.get_mut(&id).expect("found under the same lock");
        let mut endpoint = EndpointRecord { network_id: id, endpoint_id: ids::random_id(), ..asked.asked.clone() };
        endpoint.forget_place();
        endpoint.endpoint_id = ids::random_id();
        if network.record.config_only {
            let text = "cannot create endpoint on configuration-only network";
            return Err(Error::new(ErrorKind::Forbidden, text));
        }
        if network.record.driver.has_endpoints() {
            let later = wish.endpoints.iter().filter_map(|other| other.asked.driver_options.get(IFNAME));
            let reserved: Vec<String> = taken.iter().chain(later).cloned().collect();
            endpoint.interface = interface(network, &endpoint, taken, &reserved)?;
            take_addresses(network, &mut endpoint)?;
        }
        network.members.insert(wish.container_id.clone(), member(&wish.container_name, &endpoint));
        Ok(Place { endpoint, network: view(network) })
    }

    /// Gives the addresses back and returns the networks that were left.
    pub(super) fn leave_places(&self, container_id: &str) -> Vec<String> {
        let mut left = Vec::new();
        for network in self.table().values_mut() {
            if let Some(member) = network.members.remove(container_id) {
                release_addresses(network, &member);
                left.push(network.record.id.clone());
            }
        }
        left
    }

    /// Leaves one network.
    pub(super) fn leave_place(&self, network_id: &str, container_id: &str) {
        if let Some(network) = self.table().get_mut(network_id)
            && let Some(member) = network.members.remove(container_id)
        {
            release_addresses(network, &member);
        }
    }

    /// Takes again what a container has that ran on while no daemon was there.
    pub(super) fn take_again(&self, wish: &Wish, asked: &EndpointWish, endpoint: &EndpointRecord) -> Result<Place> {
        let mut table = self.table();
        let id = find(&table, &asked.network)?.record.id.clone();
        let network = table.get_mut(&id).expect("found under the same lock");
        for address in endpoint.address.into_iter().chain(endpoint.address6.map(IpAddr::V6)) {
            let pool = network.pools.iter_mut().find(|pool| pool.subnet().contains(&address));
            if let Some(Err(error)) = pool.map(|pool| pool.reserve(address)) {
                tracing::warn!(container = %wish.container_name, %address, %error, "address of a running container not taken again");
            }
        }
        network.members.insert(wish.container_id.clone(), member(&wish.container_name, endpoint));
        Ok(Place { endpoint: endpoint.clone(), network: view(network) })
    }
}

/// The name that was asked for, or the first free number behind the network's prefix.
fn interface(network: &Network, endpoint: &EndpointRecord, taken: &[String], reserved: &[String]) -> Result<String> {
    if let Some(asked) = endpoint.driver_options.get(IFNAME) {
        let name = link_name(asked)?;
        return match taken.contains(&name) {
            true => Err(Error::invalid(format!("interface {name} is in the container already"))),
            false => Ok(name),
        };
    }
    let prefix = match network.record.settings.interface_prefix.as_str() {
        "" => "eth",
        prefix => prefix,
    };
    let mut names = (0..).map(|number| format!("{prefix}{number}"));
    Ok(names.find(|name| !reserved.contains(name)).expect("there are more numbers than networks"))
}

/// Settings of an interface: `net.ipv4.conf.IFNAME.log_martians=1`, as a path below `net/`.
fn sysctls(endpoint: &EndpointRecord) -> Result<Vec<(String, String)>> {
    let Some(list) = endpoint.driver_options.get(SYSCTLS) else { return Ok(Vec::new()) };
    let parse = |text: &str| interface_sysctl(text, &endpoint.interface).ok_or_else(|| bad_sysctl(text));
    list.split(',').map(parse).collect()
}

/// Checks the list before it is kept.
pub(crate) fn check_sysctls(list: &str) -> std::result::Result<(), String> {
    let wrong = list.split(',').find(|text| interface_sysctl(text, "eth0").is_none());
    wrong.map_or(Ok(()), |text| Err(bad_sysctl_text(text)))
}

fn interface_sysctl(text: &str, interface: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let [_, family, group, name, setting] = key.splitn(5, '.').collect::<Vec<_>>()[..] else { return None };
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    let fits = matches!(family, "ipv4" | "ipv6" | "mpls") && matches!(name, "IFNAME" | "ifname");
    let setting = setting.replace('.', "/");
    (fits && is_word(group) && setting.split('/').all(is_word))
        .then(|| (format!("{family}/{group}/{interface}/{setting}"), value.to_owned()))
}

fn bad_sysctl(text: &str) -> Error {
    Error::invalid(bad_sysctl_text(text))
}

fn bad_sysctl_text(text: &str) -> String {
    format!(
        "unrecognised network interface sysctl '{text}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
    )
}

pub(super) fn view(network: &Network) -> NetworkView {
    let record = &network.record;
    NetworkView {
        name: record.name.clone(),
        driver: record.driver,
        driver_name: record.driver_name().to_owned(),
        user_defined: record.user_defined,
        internal: record.internal,
        settings: record.settings.clone(),
        link: record.link.clone().unwrap_or_default(),
        mtu: record.mtu,
        icc: record.icc,
    }
}

fn take_addresses(network: &mut Network, endpoint: &mut EndpointRecord) -> Result<()> {
    let (v4, v6) = (network.record.has_ipv4(), network.record.has_ipv6());
    let asked = endpoint.requested_address.clone();
    if let Some(address) = take_address(network, true, &asked)?.filter(|_| v4) {
        let subnet = network.record.subnet_of(address).expect("an address of a pool is of its subnet");
        endpoint.address = Some(address);
        endpoint.prefix_length = subnet.net.prefix_len();
        endpoint.gateway = match subnet.next_hop().filter(|_| !network.record.internal) {
            Some(IpAddr::V4(gateway)) => Some(gateway),
            _ => None,
        };
    }
    let asked = endpoint.requested_address6.clone();
    let taken = take_address(network, false, &asked).inspect_err(|_| {
        release(network, endpoint.address);
    })?;
    if let Some(IpAddr::V6(address)) = taken.filter(|_| v6) {
        let subnet = network.record.subnet_of(address.into()).expect("an address of a pool is of its subnet");
        endpoint.address6 = Some(address);
        endpoint.prefix_length6 = subnet.net.prefix_len();
        endpoint.gateway6 = match subnet.next_hop().filter(|_| !network.record.internal) {
            Some(IpAddr::V6(gateway)) => Some(gateway),
            _ => None,
        };
    }
    endpoint.mac_address = match (endpoint.requested_mac.as_str(), endpoint.address_v4()) {
        // One for each address: neighbours on the bridge remember it for a while after the container has gone. On a wire that
        // others are on, too, nobody else may come to the same.
        ("", Some(address)) if network.record.driver == Driver::Bridge => mac::from_ipv4(address).to_string(),
        // Links of an ipvlan network have their parent's.
        ("", _) if matches!(network.record.driver, Driver::Plugin | Driver::Ipvlan) => String::new(),
        ("", _) => mac::random().context("cannot draw a MAC address")?.to_string(),
        _ if network.record.driver == Driver::Ipvlan => {
            return Err(Error::internal("ipvlan interfaces do not support custom mac address assignment"));
        }
        (asked, _) => asked.to_owned(),
    };
    Ok(())
}

/// An address of a family: the one that is asked for, or a free one of the first subnet that has any.
fn take_address(network: &mut Network, v4: bool, asked: &str) -> Result<Option<IpAddr>> {
    let record = &network.record;
    let mut pools = network.pools.iter_mut().filter(|pool| pool.subnet().addr().is_ipv4() == v4).peekable();
    if let Ok(asked) = asked.parse::<IpAddr>() {
        let pool = pools.find(|pool| pool.subnet().contains(&asked)).ok_or_else(|| {
            Error::invalid(format!("invalid endpoint settings:\nno configured subnet contains IP address {asked}"))
        })?;
        return pool.reserve(asked).map(|()| Some(asked)).map_err(address_error);
    }
    if pools.peek().is_none() {
        return Ok(None);
    }
    pools.find_map(|pool| pool.allocate().ok()).map(Some).ok_or_else(|| {
        let outside = record.subnets.iter().filter(|subnet| subnet.is_v4() == v4).find_map(|subnet| {
            let range = subnet.range.filter(|range| !overlap(&subnet.net, range))?;
            Some(format!("add-any, range '{range}' is not in subnet '{}'", subnet.net))
        });
        if let Some(text) = outside {
            return Error::internal(text);
        }
        let family = if v4 { 4 } else { 6 };
        let text = format!(
            "no available IPv{family} addresses on this network's address pools: {} ({})",
            record.name, record.id
        );
        Error::new(ErrorKind::Unavailable, text)
    })
}

/// Docker's words for an address that cannot be had.
fn address_error(error: PoolError) -> Error {
    match error {
        // Those of the subnet itself are nobody's, too.
        PoolError::OutOfRange { address, subnet } if !subnet.contains(&address) => {
            Error::invalid(format!("invalid address: {}", PoolError::OutOfRange { address, subnet }))
        }
        PoolError::Taken(_) | PoolError::OutOfRange { .. } => {
            Error::new(ErrorKind::Forbidden, "Address already in use")
        }
        other => Error::new(ErrorKind::InvalidArgument, format!("invalid address: {other}")),
    }
}

fn member(name: &str, endpoint: &EndpointRecord) -> EndpointResource {
    EndpointResource {
        name: name.to_owned(),
        endpoint_id: endpoint.endpoint_id.clone(),
        mac_address: endpoint.mac_address.clone(),
        ipv4_address: endpoint.address.map(|address| with_prefix(address, endpoint.prefix_length)).unwrap_or_default(),
        ipv6_address: endpoint
            .address6
            .map(|address| with_prefix(address.into(), endpoint.prefix_length6))
            .unwrap_or_default(),
    }
}

fn release_addresses(network: &mut Network, member: &EndpointResource) {
    let address = |text: &str| text.split('/').next().and_then(|text| text.parse().ok());
    release(network, address(&member.ipv4_address));
    release(network, address(&member.ipv6_address));
}

fn release(network: &mut Network, address: Option<IpAddr>) {
    let Some(address) = address else { return };
    if let Some(pool) = network.pools.iter_mut().find(|pool| pool.subnet().contains(&address)) {
        pool.release(address);
    }
}

/// Addresses of two places, each in its family.
pub(super) fn joined(one: PortTarget, two: PortTarget) -> PortTarget {
    PortTarget {
        v4: one.v4.or(two.v4),
        v6: one.v6.or(two.v6),
        routed4: one.routed4 || two.routed4,
        routed6: one.routed6 || two.routed6,
        opened: one.opened || two.opened,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn place(name: &str, priority: i64, v4: bool, v6: bool) -> Place {
        let endpoint = EndpointRecord {
            gateway_priority: priority,
            gateway: v4.then_some(Ipv4Addr::new(10, 0, 0, 1)),
            gateway6: v6.then_some(Ipv6Addr::LOCALHOST),
            ..EndpointRecord::default()
        };
        let network = NetworkView {
            name: name.to_owned(),
            driver: Driver::Bridge,
            driver_name: "bridge".to_owned(),
            user_defined: true,
            internal: false,
            settings: Settings::default(),
            link: String::new(),
            mtu: None,
            icc: true,
        };
        Place { endpoint, network }
    }

    #[test]
    fn the_way_out_is_dockers() {
        let of = |places: &[Place]| {
            let gateways = Gateways::of(places);
            (gateways.v4, gateways.v6)
        };
        assert_eq!(of(&[place("b", 0, true, false), place("a", 0, true, false)]), (Some(1), None));
        assert_eq!(of(&[place("b", 1, true, false), place("a", 0, true, false)]), (Some(0), None));
        assert_eq!(of(&[place("a", 0, true, false), place("b", 0, false, true)]), (Some(0), Some(1)));
        assert_eq!(of(&[place("a", 5, true, false), place("b", 0, true, true)]), (Some(1), Some(1)));
        let mut inside = place("a", 9, true, true);
        inside.network.internal = true;
        assert_eq!(of(&[inside]), (None, None));
    }

    #[test]
    fn numbers_move_when_a_place_goes() {
        let gateways = Gateways { v4: Some(2), v6: Some(0) };
        assert_eq!(gateways.without(0), Gateways { v4: Some(1), v6: None });
        assert_eq!(gateways.without(3), gateways);
    }

    #[test]
    fn sysctls_of_an_interface_are_paths() {
        assert_eq!(
            interface_sysctl("net.ipv4.conf.IFNAME.log_martians=1", "eth1"),
            Some(("ipv4/conf/eth1/log_martians".to_owned(), "1".to_owned()))
        );
        for bad in [
            "net.ipv4.conf.eth0.x=1",
            "net.core.conf.IFNAME.x=1",
            "x",
            "net.ipv4.a/b.IFNAME.x=1",
            "net.ipv4.conf.IFNAME.../x=1",
        ] {
            assert_eq!(interface_sysctl(bad, "eth0"), None, "{bad}");
        }
        assert!(check_sysctls("net.ipv6.conf.ifname.forwarding=1,x").expect_err("bad").contains("'x'"));
    }
}
