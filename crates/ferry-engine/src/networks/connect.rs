//! A container's way into its networks and out again.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ferry_api::network::EndpointResource;
use ferry_network::{EndpointSpec, MacAddr, PortRequest, PublishedPort, Sandbox, mac};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::record::Driver;
use super::{Network, Networks, find, with_prefix};
use crate::containers::record::EndpointRecord;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ids;

/// What a container wants of its networks.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Container id.
    pub(crate) container_id: String,
    /// Container name, for `network inspect` and look-ups.
    pub(crate) container_name: String,
    /// The networks, in the order in which interfaces are made.
    pub(crate) endpoints: Vec<EndpointWish>,
    /// Ports to publish.
    pub(crate) ports: Vec<PortRequest>,
    /// Name servers behind ours; none means the host's.
    pub(crate) name_servers: Vec<IpAddr>,
}

/// What it wants of one.
#[derive(Debug, Clone)]
pub(crate) struct EndpointWish {
    /// Network by name or id.
    pub(crate) network: String,
    /// What was asked for; what was given to an earlier life is not looked at.
    pub(crate) asked: EndpointRecord,
    /// Further names, such as the host name.
    pub(crate) names: Vec<String>,
}

/// What it got.
pub(crate) struct Connected {
    /// The namespace; keeps it alive until the container's process holds it. `None` is the host's.
    pub(crate) sandbox: Option<Sandbox>,
    /// Its places, for the record, in the order of the wish.
    pub(crate) endpoints: Vec<EndpointRecord>,
    /// Ports as published.
    pub(crate) published: Vec<PublishedPort>,
}

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
    pub(super) user_defined: bool,
    pub(super) internal: bool,
    link: String,
    mtu: Option<u32>,
    icc: bool,
}

impl Networks {
    /// Makes a namespace, its endpoints and the published ports. Blocks; on failure nothing is left.
    pub(crate) fn connect(&self, wish: &Wish) -> Result<Connected> {
        let places = self.take_places(wish)?;
        let made = match places.first().map(|place| place.network.driver) {
            Some(Driver::Host) => Ok((None, Vec::new())),
            Some(Driver::Null) | None => self.new_sandbox().map(|sandbox| (Some(sandbox), Vec::new())),
            Some(Driver::Bridge) => {
                self.make_endpoints(wish, &places).map(|(sandbox, published)| (Some(sandbox), published))
            }
        };
        match made {
            Ok((sandbox, published)) => {
                for place in &places {
                    self.publish_event("connect", &place.endpoint.network_id, &wish.container_id);
                }
                let endpoints = places.into_iter().map(|place| place.endpoint).collect();
                Ok(Connected { sandbox, endpoints, published })
            }
            Err(error) => {
                self.give_up(&wish.container_id);
                Err(error)
            }
        }
    }

    fn new_sandbox(&self) -> Result<Sandbox> {
        self.inner.networking.new_sandbox().context("cannot make a network namespace")
    }

    fn make_endpoints(&self, wish: &Wish, places: &[Place]) -> Result<(Sandbox, Vec<PublishedPort>)> {
        let sandbox = self.new_sandbox()?;
        let gateway = gateway_of(places);
        for (index, place) in places.iter().enumerate() {
            let spec = endpoint_spec(&wish.container_id, place, gateway == Some(index))?;
            let attached = self.inner.networking.attach(&sandbox, &spec);
            attached.context(format!("cannot attach to network {}", place.network.name))?;
        }
        self.introduce(&sandbox, wish, places)?;
        let published = match gateway.map(|index| &places[index]) {
            Some(place) if !wish.ports.is_empty() => self.publish_ports(wish, place)?,
            // Nobody outside reaches a container whose networks are all internal.
            _ => Vec::new(),
        };
        Ok((sandbox, published))
    }

    pub(super) fn publish_ports(&self, wish: &Wish, place: &Place) -> Result<Vec<PublishedPort>> {
        let v4 = place.endpoint.address_v4();
        let v6 = place.endpoint.address6;
        self.inner.networking.publish(&wish.container_id, v4, v6, &wish.ports).map_err(|error| {
            Error::new(ErrorKind::Internal, format!(
                "failed to set up container networking: driver failed programming external connectivity on endpoint {} ({})",
                wish.container_name, place.endpoint.endpoint_id
            ))
            .with_source(error)
        })
    }

    /// Addresses in every network, all or none.
    fn take_places(&self, wish: &Wish) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for (index, endpoint) in wish.endpoints.iter().enumerate() {
            match self.take_place(wish, endpoint, format!("eth{index}")) {
                Ok(place) => places.push(place),
                Err(error) => {
                    self.leave_places(&wish.container_id);
                    return Err(error);
                }
            }
        }
        Ok(places)
    }

    pub(super) fn take_place(&self, wish: &Wish, asked: &EndpointWish, interface: String) -> Result<Place> {
        let mut table = self.table();
        let id = find(&table, &asked.network)?.record.id.clone();
        let network = table.get_mut(&id).expect("found under the same lock");
        let mut endpoint = EndpointRecord { network_id: id, endpoint_id: ids::random_id(), ..asked.asked.clone() };
        endpoint.forget_place();
        endpoint.endpoint_id = ids::random_id();
        if network.record.config_only {
            let text = format!("configuration network {} cannot be used by containers", network.record.name);
            return Err(Error::new(ErrorKind::Forbidden, text));
        }
        if network.record.driver == Driver::Bridge {
            endpoint.interface = interface;
            take_addresses(network, wish, &mut endpoint)?;
        }
        network.members.insert(wish.container_id.clone(), member(&wish.container_name, &endpoint));
        Ok(Place { endpoint, network: view(network) })
    }

    /// Gives the addresses back and returns the networks that were left.
    fn leave_places(&self, container_id: &str) -> Vec<String> {
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

    fn give_up(&self, container_id: &str) -> Vec<String> {
        if let Err(error) = self.inner.networking.release(container_id) {
            tracing::warn!(%container_id, error = %Error::internal("ports or addresses not taken back").with_source(error).text());
        }
        self.leave_places(container_id)
    }

    /// Gives back ports and addresses; the namespace goes with the container's last process. Blocks.
    pub(crate) fn disconnect(&self, container_id: &str) {
        for network_id in self.give_up(container_id) {
            self.publish_event("disconnect", &network_id, container_id);
        }
    }

    /// Takes the addresses, names and ports of a container again that ran on while no daemon was there. `given` is what its record has, in
    /// the order of the wish. Blocks.
    pub(crate) fn adopt(
        &self,
        wish: &Wish,
        given: &[EndpointRecord],
        published: &[PublishedPort],
        pid: u32,
    ) -> Result<()> {
        let mut places = Vec::new();
        for (asked, endpoint) in wish.endpoints.iter().zip(given) {
            let mut table = self.table();
            let id = find(&table, &asked.network)?.record.id.clone();
            let network = table.get_mut(&id).expect("found under the same lock");
            for (pool, address) in
                [(network.pool.as_mut(), endpoint.address), (network.pool6.as_mut(), endpoint.address6.map(IpAddr::V6))]
            {
                if let (Some(pool), Some(address)) = (pool, address)
                    && let Err(error) = pool.reserve(address)
                {
                    tracing::warn!(container = %wish.container_name, %address, %error, "address of a running container not taken again");
                }
            }
            network.members.insert(wish.container_id.clone(), member(&wish.container_name, endpoint));
            places.push(Place { endpoint: endpoint.clone(), network: view(network) });
        }
        if places.iter().any(|place| place.network.user_defined) {
            let sandbox = self.sandbox_of(pid)?;
            self.introduce(&sandbox, wish, &places)?;
        }
        let Some(gateway) = gateway_of(&places).filter(|_| !published.is_empty()) else { return Ok(()) };
        let ports: Vec<PortRequest> = published.iter().map(as_request).collect();
        self.publish_ports(&Wish { ports, ..wish.clone() }, &places[gateway]).map(drop)
    }

    /// Opens the namespace of a running process, for `--network container:` and changes of a running container.
    pub(crate) fn sandbox_of(&self, pid: u32) -> Result<Sandbox> {
        self.inner.networking.open_sandbox_of(pid).context("cannot join the network namespace")
    }

    /// Address that published ports bind to when none is asked for.
    pub(crate) fn default_binding_ip(&self) -> IpAddr {
        self.inner.bridge.default_binding_ip
    }

    pub(super) fn publish_event(&self, action: &str, network_id: &str, container_id: &str) {
        let (name, kind) = match self.table().get(network_id) {
            Some(network) => (network.record.name.clone(), network.record.driver.as_str().to_owned()),
            None => return,
        };
        let attributes = [("container", container_id.to_owned()), ("name", name), ("type", kind)];
        let attributes: BTreeMap<_, _> = attributes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.inner.events.publish("network", action, network_id, attributes);
    }
}

/// The endpoint by which a container reaches the outside: of the highest priority, then the first by its network's name.
pub(super) fn gateway_of(places: &[Place]) -> Option<usize> {
    let has_gateway = |place: &Place| !place.network.internal && place.network.driver == Driver::Bridge;
    let candidates = places.iter().enumerate().filter(|(_, place)| has_gateway(place));
    candidates
        .min_by_key(|(_, place)| (std::cmp::Reverse(place.endpoint.gateway_priority), place.network.name.clone()))
        .map(|(index, _)| index)
}

pub(super) fn view(network: &Network) -> NetworkView {
    let record = &network.record;
    NetworkView {
        name: record.name.clone(),
        driver: record.driver,
        user_defined: record.user_defined,
        internal: record.internal,
        link: record.link.clone().unwrap_or_default(),
        mtu: record.mtu,
        icc: record.icc,
    }
}

/// What the kernel is to make of a place.
pub(super) fn endpoint_spec(container_id: &str, place: &Place, is_gateway: bool) -> Result<EndpointSpec> {
    let endpoint = &place.endpoint;
    let v4 = endpoint.address_v4().map(|address| {
        IpNet::V4(Ipv4Net::new(address, endpoint.prefix_length).expect("the prefix length of a valid subnet"))
    });
    let v6 = endpoint.address6.map(|address| {
        IpNet::V6(Ipv6Net::new(address, endpoint.prefix_length6).expect("the prefix length of a valid subnet"))
    });
    Ok(EndpointSpec {
        container_id: container_id.to_owned(),
        network_id: endpoint.network_id.clone(),
        bridge_link: place.network.link.clone(),
        interface: endpoint.interface.clone(),
        mac: endpoint.mac_address.parse::<MacAddr>().map_err(|error| Error::invalid(error.to_string()))?,
        addresses: v4.into_iter().chain(v6).collect(),
        gateway_v4: endpoint.gateway.filter(|_| is_gateway),
        gateway_v6: endpoint.gateway6.filter(|_| is_gateway),
        mtu: place.network.mtu,
        isolated: !place.network.icc,
    })
}

fn take_addresses(network: &mut Network, wish: &Wish, endpoint: &mut EndpointRecord) -> Result<()> {
    let (record, no_address) =
        (&network.record, format!("no address for {} in network {}", wish.container_name, network.record.name));
    let (Some(pool), Some(gateway), Some(subnet)) = (network.pool.as_mut(), record.gateway, record.subnet) else {
        return Err(Error::internal("a bridge network without an IPv4 subnet"));
    };
    let address = match endpoint.requested_address.parse::<Ipv4Addr>() {
        Ok(asked) => pool.reserve(asked.into()).map(|()| asked.into()).map_err(address_error)?,
        Err(_) => pool.allocate().context(no_address.as_str())?,
    };
    endpoint.address = Some(address);
    endpoint.prefix_length = subnet.prefix_len();
    endpoint.gateway = (!record.internal).then_some(gateway);
    if let (Some(pool), Some(gateway), Some(subnet)) = (network.pool6.as_mut(), record.gateway6, record.subnet6) {
        let taken = match endpoint.requested_address6.parse::<Ipv6Addr>() {
            Ok(asked) => pool.reserve(asked.into()).map(|()| asked.into()).map_err(address_error),
            Err(_) => pool.allocate().context(no_address.as_str()),
        };
        match taken {
            Ok(IpAddr::V6(address6)) => endpoint.address6 = Some(address6),
            Ok(IpAddr::V4(_)) => return Err(Error::internal("an IPv4 address from an IPv6 pool")),
            Err(error) => {
                release(network.pool.as_mut(), Some(address));
                return Err(error);
            }
        }
        endpoint.prefix_length6 = subnet.prefix_len();
        endpoint.gateway6 = (!record.internal).then_some(gateway);
    }
    endpoint.mac_address = match endpoint.requested_mac.as_str() {
        // One for each address: neighbours on the bridge remember it for a while after the container has gone.
        "" => match address {
            IpAddr::V4(address) => mac::from_ipv4(address).to_string(),
            IpAddr::V6(_) => mac::random().context("cannot draw a MAC address")?.to_string(),
        },
        asked => asked.to_owned(),
    };
    Ok(())
}

/// Docker's words for an address that cannot be had.
fn address_error(error: ferry_network::address_pool::PoolError) -> Error {
    use ferry_network::address_pool::PoolError;
    match error {
        PoolError::Taken(_) => Error::new(ErrorKind::Forbidden, "Address already in use"),
        other => Error::new(ErrorKind::InvalidArgument, format!("invalid address: {other}")),
    }
}

fn as_request(port: &PublishedPort) -> PortRequest {
    PortRequest {
        host_ip: Some(port.host_ip),
        host_ports: port.host_port..=port.host_port,
        container_port: port.container_port,
        protocol: port.protocol,
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
    release(network.pool.as_mut(), address(&member.ipv4_address));
    release(network.pool6.as_mut(), address(&member.ipv6_address));
}

fn release(pool: Option<&mut ferry_network::address_pool::AddressPool>, address: Option<IpAddr>) {
    if let (Some(pool), Some(address)) = (pool, address) {
        pool.release(address);
    }
}
