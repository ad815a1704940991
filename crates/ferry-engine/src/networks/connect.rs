//! A container's way into its network and out again.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ferry_api::network::EndpointResource;
use ferry_network::{EndpointSpec, MacAddr, PortRequest, PublishedPort, Sandbox, mac};
use ipnet::{IpNet, Ipv4Net};

use super::{Driver, Network, Networks, find, with_prefix};
use crate::containers::record::EndpointRecord;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ids;

/// What a container wants of a network.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Container id.
    pub(crate) container_id: String,
    /// Container name, for `network inspect`.
    pub(crate) container_name: String,
    /// Network by name or id.
    pub(crate) network: String,
    /// MAC address as asked, or empty.
    pub(crate) mac_address: String,
    /// Address as asked.
    pub(crate) address: Option<Ipv4Addr>,
    /// Ports to publish.
    pub(crate) ports: Vec<PortRequest>,
}

/// What it got.
pub(crate) struct Connected {
    /// The namespace; keeps it alive until the container's process holds it. `None` is the host's.
    pub(crate) sandbox: Option<Sandbox>,
    /// Its place, for the record.
    pub(crate) endpoint: EndpointRecord,
    /// Ports as published.
    pub(crate) published: Vec<PublishedPort>,
}

/// What the table gave out, before the kernel has it.
struct Place {
    endpoint: EndpointRecord,
    bridge: Option<(String, Ipv4Addr, u8, Option<u32>, bool)>,
    driver: Driver,
}

impl Networks {
    /// Makes a namespace, its endpoint and the published ports. Blocks; on failure nothing is left.
    pub(crate) fn connect(&self, wish: &Wish) -> Result<Connected> {
        let place = self.take_place(wish)?;
        let made = match place.driver {
            Driver::Host => Ok((None, Vec::new())),
            Driver::Null => self
                .inner
                .networking
                .new_sandbox()
                .context("cannot make a network namespace")
                .map(|sandbox| (Some(sandbox), Vec::new())),
            Driver::Bridge => self.make_endpoint(wish, &place).map(|(sandbox, published)| (Some(sandbox), published)),
        };
        match made {
            Ok((sandbox, published)) => {
                self.publish_event("connect", &place.endpoint.network_id, &wish.container_id);
                Ok(Connected { sandbox, endpoint: place.endpoint, published })
            }
            Err(error) => {
                self.leave_place(&wish.container_id);
                Err(error)
            }
        }
    }

    fn make_endpoint(&self, wish: &Wish, place: &Place) -> Result<(Sandbox, Vec<PublishedPort>)> {
        let (link, gateway, prefix_length, mtu, icc) = place.bridge.clone().expect("a bridge network has a bridge");
        let Some(IpAddr::V4(address)) = place.endpoint.address else {
            return Err(Error::internal("a bridge endpoint without an IPv4 address"));
        };
        let sandbox = self.inner.networking.new_sandbox().context("cannot make a network namespace")?;
        let spec = EndpointSpec {
            container_id: wish.container_id.clone(),
            network_id: place.endpoint.network_id.clone(),
            bridge_link: link,
            interface: "eth0".to_owned(),
            mac: place.endpoint.mac_address.parse::<MacAddr>().map_err(|error| Error::invalid(error.to_string()))?,
            addresses: vec![IpNet::V4(
                Ipv4Net::new(address, prefix_length).expect("the prefix length of a valid subnet"),
            )],
            gateway_v4: Some(gateway),
            gateway_v6: None,
            mtu,
            isolated: !icc,
        };
        self.inner.networking.attach(&sandbox, &spec).context(format!("cannot attach to network {}", wish.network))?;
        if wish.ports.is_empty() {
            return Ok((sandbox, Vec::new()));
        }
        let published = self.inner.networking.publish(&wish.container_id, Some(address), None, &wish.ports);
        let published = published.map_err(|error| {
            Error::new(ErrorKind::Internal, format!(
                "failed to set up container networking: driver failed programming external connectivity on endpoint {} ({})",
                wish.container_name, place.endpoint.endpoint_id
            ))
            .with_source(error)
        })?;
        Ok((sandbox, published))
    }

    fn take_place(&self, wish: &Wish) -> Result<Place> {
        let mut table = self.table();
        let id = find(&table, &wish.network)?.record.id.clone();
        let network = table.get_mut(&id).expect("found under the same lock");
        let mut endpoint = EndpointRecord {
            network_id: id,
            endpoint_id: ids::random_id(),
            requested_mac: wish.mac_address.clone(),
            ..EndpointRecord::default()
        };
        let mut bridge = None;
        if let (Some(pool), Some(link), Some(gateway), Some(subnet)) =
            (network.pool.as_mut(), network.record.link.clone(), network.record.gateway, network.record.subnet)
        {
            let address = match wish.address {
                Some(address) => pool.reserve(address.into()).map(|()| address.into()),
                None => pool.allocate(),
            };
            let address =
                address.context(format!("no address for {} in network {}", wish.container_name, wish.network))?;
            let mac = match wish.mac_address.as_str() {
                // One for each address: neighbours on the bridge remember it for a while after the container has gone.
                "" => match address {
                    IpAddr::V4(address) => mac::from_ipv4(address).to_string(),
                    IpAddr::V6(_) => mac::random().context("cannot draw a MAC address")?.to_string(),
                },
                asked => asked.to_owned(),
            };
            endpoint.address = Some(address);
            endpoint.prefix_length = subnet.prefix_len();
            endpoint.gateway = Some(gateway);
            endpoint.mac_address = mac;
            bridge = Some((link, gateway, subnet.prefix_len(), network.record.mtu, network.record.icc));
        }
        network.members.insert(wish.container_id.clone(), member(&wish.container_name, &endpoint));
        Ok(Place { endpoint, bridge, driver: network.record.driver })
    }

    fn leave_place(&self, container_id: &str) -> Option<String> {
        let mut left = None;
        for network in self.table().values_mut() {
            if let Some(member) = network.members.remove(container_id) {
                release_address(network, &member);
                left = Some(network.record.id.clone());
            }
        }
        left
    }

    /// Gives back ports and address; the namespace goes with the container's last process. Blocks.
    pub(crate) fn disconnect(&self, container_id: &str) {
        if let Err(error) = self.inner.networking.release(container_id) {
            tracing::warn!(%container_id, error = %Error::internal("ports or addresses not taken back").with_source(error).text());
        }
        if let Some(network_id) = self.leave_place(container_id) {
            self.publish_event("disconnect", &network_id, container_id);
        }
    }

    /// Takes the address and ports of a container again that ran on while no daemon was there. Blocks.
    pub(crate) fn adopt(&self, wish: &Wish, endpoint: &EndpointRecord, published: &[PublishedPort]) -> Result<()> {
        {
            let mut table = self.table();
            let id = find(&table, &wish.network)?.record.id.clone();
            let network = table.get_mut(&id).expect("found under the same lock");
            if let (Some(pool), Some(address)) = (network.pool.as_mut(), endpoint.address)
                && let Err(error) = pool.reserve(address)
            {
                tracing::warn!(container = %wish.container_name, %address, %error, "address of a running container not taken again");
            }
            network.members.insert(wish.container_id.clone(), member(&wish.container_name, endpoint));
        }
        if published.is_empty() {
            return Ok(());
        }
        let Some(IpAddr::V4(address)) = endpoint.address else { return Ok(()) };
        let ports: Vec<PortRequest> = published.iter().map(as_request).collect();
        let again = self.inner.networking.publish(&wish.container_id, Some(address), None, &ports);
        again.context(format!("cannot publish the ports of {} again", wish.container_name)).map(drop)
    }

    /// Opens the namespace of a running process, for `--network container:`.
    pub(crate) fn sandbox_of(&self, pid: u32) -> Result<Sandbox> {
        self.inner.networking.open_sandbox_of(pid).context("cannot join the network namespace")
    }

    /// Address that published ports bind to when none is asked for.
    pub(crate) fn default_binding_ip(&self) -> IpAddr {
        self.inner.bridge.default_binding_ip
    }

    fn publish_event(&self, action: &str, network_id: &str, container_id: &str) {
        let (name, kind) = match self.table().get(network_id) {
            Some(network) => (network.record.name.clone(), network.record.driver.as_str().to_owned()),
            None => return,
        };
        let attributes = [("container", container_id.to_owned()), ("name", name), ("type", kind)];
        let attributes: BTreeMap<_, _> = attributes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.inner.events.publish("network", action, network_id, attributes);
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
        ipv6_address: String::new(),
    }
}

fn release_address(network: &mut Network, member: &EndpointResource) {
    let address = member.ipv4_address.split('/').next().and_then(|text| text.parse().ok());
    if let (Some(pool), Some(address)) = (network.pool.as_mut(), address) {
        pool.release(address);
    }
}
