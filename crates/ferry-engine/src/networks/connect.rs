//! A container's way into its networks and out again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use ferry_network::{Egress, PortRequest, PortTarget, PublishedPort, Sandbox, Shaping};

use super::Networks;
use super::places::{Gateways, Place, joined};
use super::record::Driver;
use crate::containers::record::EndpointRecord;
use crate::error::{Context, Error, ErrorKind, Result};

/// What a container wants of its networks.
#[derive(Debug, Clone, Default)]
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
    /// What limits its traffic.
    pub(crate) shaping: Shaping,
    /// The right of the container's with which it could go around limits that are kept in its own namespace.
    pub(crate) way_around: Option<String>,
    /// What it may reach outside of its networks; none is everything.
    pub(crate) egress: Option<Egress>,
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

impl Networks {
    /// Makes a namespace, its endpoints and the published ports. Blocks; on failure nothing is left.
    pub(crate) fn connect(&self, wish: &Wish) -> Result<Connected> {
        self.check_limits(wish)?;
        let mut places = self.take_places(wish)?;
        let made = match places.first().map(|place| place.network.driver) {
            Some(Driver::Host) => Ok((None, Vec::new())),
            Some(Driver::Null) | None => self.new_sandbox().map(|sandbox| (Some(sandbox), Vec::new())),
            Some(Driver::Bridge | Driver::Macvlan | Driver::Ipvlan | Driver::Plugin) => {
                self.make_endpoints(wish, &mut places).map(|(sandbox, published)| (Some(sandbox), published))
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

    fn make_endpoints(&self, wish: &Wish, places: &mut [Place]) -> Result<(Sandbox, Vec<PublishedPort>)> {
        let sandbox = self.new_sandbox()?;
        // First, since it is they who tell whether they lead out.
        self.join_remotes(&sandbox, wish, places)?;
        let places = &*places;
        let gateways = Gateways::of(places);
        let own = places.iter().enumerate().filter(|(_, place)| place.network.driver != Driver::Plugin);
        for (index, place) in own {
            let spec = place.endpoint_spec(wish, gateways.is(index))?;
            let attached = self.inner.networking.attach(&sandbox, &spec);
            attached.context(format!("cannot attach to network {}", place.network.name))?;
        }
        self.lead_out_by_remotes(&sandbox, wish, places, gateways)?;
        self.restrict(wish, places)?;
        self.introduce(&sandbox, wish, places)?;
        let published = self.publish_ports(wish, places, gateways)?;
        Ok((sandbox, published))
    }

    /// Publishes by the endpoints that lead out. Nobody outside reaches a container whose networks are all internal.
    pub(super) fn publish_ports(
        &self,
        wish: &Wish,
        places: &[Place],
        gateways: Gateways,
    ) -> Result<Vec<PublishedPort>> {
        let of = |at: Option<usize>| at.map(|at| (&places[at], gateways.is(at)));
        let (v4, v6) = (of(gateways.v4), of(gateways.v6));
        let target = |of: Option<(&Place, (bool, bool))>| {
            of.map_or_else(PortTarget::default, |(place, families)| place.port_target(families))
        };
        let target = joined(target(v4), target(v6));
        let Some((place, _)) = v4.or(v6).filter(|_| !wish.ports.is_empty()) else { return Ok(Vec::new()) };
        if target.v4.is_none() && target.v6.is_none() {
            return Ok(Vec::new());
        }
        let binding = place.network.settings.host_binding.filter(|ip| !ip.is_unspecified());
        let ports: Vec<PortRequest> =
            wish.ports.iter().map(|port| PortRequest { host_ip: port.host_ip.or(binding), ..port.clone() }).collect();
        self.inner.networking.publish(&wish.container_id, &target, &ports).map_err(|error| {
            Error::new(ErrorKind::Internal, format!(
                "failed to set up container networking: driver failed programming external connectivity on endpoint {} ({})",
                wish.container_name, place.endpoint.endpoint_id
            ))
            .with_source(error)
        })
    }

    fn give_up(&self, container_id: &str) -> Vec<String> {
        if let Err(error) = self.inner.networking.release(container_id) {
            tracing::warn!(%container_id, error = %Error::internal("ports or addresses not taken back").with_source(error).text());
        }
        let remote = self.remote_places(container_id);
        let left = self.leave_places(container_id);
        self.leave_remotes(remote);
        left
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
        process: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        let mut places = Vec::new();
        for (asked, endpoint) in wish.endpoints.iter().zip(given) {
            places.push(self.take_again(wish, asked, endpoint)?);
        }
        self.restrict(wish, &places)?;
        if wish.egress.is_some() || places.iter().any(|place| place.network.user_defined) {
            let sandbox = self.sandbox_of(process)?;
            self.introduce(&sandbox, wish, &places)?;
        }
        if wish.shaping.is_any() {
            // What the kernel has is as it was left, but for what somebody else took away.
            self.shape(wish, &places, process)?;
        }
        if published.is_empty() {
            return Ok(());
        }
        let ports: Vec<PortRequest> = published.iter().map(as_request).collect();
        self.publish_ports(&Wish { ports, ..wish.clone() }, &places, Gateways::of(&places)).map(drop)
    }

    /// Opens the namespace of a container's first process, for `--network container:` and changes of a running container.
    pub(crate) fn sandbox_of(&self, process: Option<BorrowedFd<'_>>) -> Result<Sandbox> {
        const FAILED: &str = "cannot join the network namespace";
        let process = process.ok_or_else(|| Error::conflict(format!("{FAILED}: the container has just ended")))?;
        self.inner.networking.open_sandbox_of(process).context(FAILED)
    }

    pub(super) fn publish_event(&self, action: &str, network_id: &str, container_id: &str) {
        let (name, kind) = match self.table().get(network_id) {
            Some(network) => (network.record.name.clone(), network.record.driver_name().to_owned()),
            None => return,
        };
        let attributes = [("container", container_id.to_owned()), ("name", name), ("type", kind)];
        let attributes: BTreeMap<_, _> = attributes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.inner.events.publish("network", action, network_id, attributes);
    }
}

/// What asks for a port that is published already.
fn as_request(port: &PublishedPort) -> PortRequest {
    PortRequest {
        host_ip: Some(port.host_ip),
        host_ports: port.host_port..=port.host_port,
        container_port: port.container_port,
        protocol: port.protocol,
        from: port.from.clone(),
    }
}
