//! Networks that plugins make, and addresses that plugins give: the order of the calls, as Docker has it.
//!
//! A network: pools and gateway from the plugin of addresses, then `CreateNetwork`. An endpoint: address, `CreateEndpoint`, `Join`, the link
//! that the plugin made goes into the container, `ProgramExternalConnectivity`; back in reverse. No lock is held across a call. What a
//! container leaves behind is told to plugins beside everything else: one that hangs keeps nobody from ending.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use ferry_api::network::{Ipam, IpamConfig};
use ferry_network::{PortRequest, Sandbox, StaticRoute};
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::connect::{EndpointWish, Wish};
use super::places::{Gateways, Place};
use super::record::{Driver, NetworkRecord};
use super::subnets::SubnetRecord;
use super::{Networks, find, shape};
use crate::containers::record::EndpointRecord;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::plugins::{
    CallError, IPAM_DRIVER, IpamData, Joined, NETWORK_DRIVER, NewEndpoint, NewNetwork, Plugin, Plugins, PoolRequest,
};
use crate::volumes::Volumes;

/// The space of addresses of networks that no plugin gives addresses to.
const LOCAL_SPACE: &str = "LocalDefault";
/// Where plugins find what the user said.
const GENERIC: &str = "com.docker.network.generic";
/// What the plugin of addresses is told of an address for a gateway, and may tell of one.
const GATEWAY: &str = "com.docker.network.gateway";
pub(super) const MAC_ADDRESS: &str = "com.docker.network.endpoint.macaddress";

/// How long the end of a container waits for plugins; the rest is done behind its back.
const PARTING: Duration = Duration::from_secs(5);

/// A place that plugins are to be told of when it is left.
pub(super) struct RemotePlace {
    network_id: String,
    endpoint_id: String,
    /// The plugin that made the network.
    driver: Option<String>,
    /// The plugin of addresses, and what it gave: pools and addresses.
    given: Option<(String, Vec<(String, String)>)>,
}

/// Waits for a plugin on a thread for blocking work.
fn wait<T>(future: impl Future<Output = Result<T, CallError>>) -> Result<T> {
    Volumes::wait_for(async { future.await.map_err(Error::from) })
}

impl Networks {
    /// Notes at the start whom networks need.
    pub(super) fn hold_plugins(&self) {
        let records: Vec<_> = self.table().values().map(|network| network.record.clone()).collect();
        records.iter().for_each(|record| self.hold_plugins_of(record));
    }

    /// Whom a network needs may not be taken away.
    pub(super) fn hold_plugins_of(&self, record: &NetworkRecord) {
        for plugin in needed(record) {
            self.inner.plugins.acquire(plugin, &user_of(record));
        }
    }

    /// The network is gone.
    pub(super) fn release_plugins_of(&self, record: &NetworkRecord) {
        for plugin in needed(record) {
            self.inner.plugins.release(plugin, &user_of(record));
        }
    }

    /// A plugin by its name.
    pub(super) fn plugin(&self, name: &str, capability: &str) -> Result<Arc<Plugin>> {
        Volumes::wait_for(self.inner.plugins.get(name, capability))
    }

    /// The whole name of a plugin that makes networks of one host.
    pub(super) fn network_plugin(&self, name: &str) -> Result<String> {
        let plugin = self.plugin(name, NETWORK_DRIVER)?;
        if wait(plugin.network_scope())? == "global" {
            let text =
                "Cannot create a multi-host network from a worker node. Please create the network from a manager node.";
            return Err(Error::new(ErrorKind::Forbidden, text));
        }
        Ok(plugin.name.clone())
    }

    /// Has the plugin make a network.
    pub(super) fn create_remote(&self, record: &NetworkRecord) -> Result<()> {
        let plugin = self.plugin(&record.plugin, NETWORK_DRIVER)?;
        let mut options = Map::new();
        options.insert(GENERIC.to_owned(), json!(record.options));
        options.insert("com.docker.network.enable_ipv4".to_owned(), record.has_ipv4().into());
        options.insert("com.docker.network.enable_ipv6".to_owned(), record.has_ipv6().into());
        if record.internal {
            options.insert("com.docker.network.internal".to_owned(), true.into());
        }
        let of = |v4: bool| record.subnets.iter().filter(|subnet| subnet.is_v4() == v4).map(ipam_data).collect();
        let network = NewNetwork { network_id: record.id.clone(), options, ipv4: of(true), ipv6: of(false) };
        wait(plugin.create_network(&network))
    }

    /// Has it removed again; a network of another kind is fine.
    pub(super) fn delete_remote(&self, record: &NetworkRecord) -> Result<()> {
        if record.driver != Driver::Plugin {
            return Ok(());
        }
        let plugin = self.plugin(&record.plugin, NETWORK_DRIVER)?;
        wait(plugin.delete_network(&record.id))
    }

    /// Takes subnets, gateways and auxiliary addresses from a plugin; all or none.
    pub(super) fn request_pools(
        &self,
        ipam: &Ipam,
        given: Vec<SubnetRecord>,
        wants_ipv4: bool,
        wants_ipv6: bool,
    ) -> Result<(Vec<SubnetRecord>, BTreeMap<IpNet, String>)> {
        let plugin = self.address_plugin(&ipam.driver)?;
        let space = wait(plugin.address_space())?;
        let (mut subnets, mut pools) = (Vec::new(), BTreeMap::new());
        for (asked, v6) in wanted_pools(given, wants_ipv4, wants_ipv6) {
            let taken = request_pool(&plugin, ipam, &space, asked, v6, &mut pools);
            match taken {
                Ok(subnet) => subnets.push(subnet),
                Err(error) => {
                    release(&plugin, &pools, &subnets);
                    return Err(error);
                }
            }
        }
        Ok((subnets, pools))
    }

    /// Gives back what a plugin gave to a network; what fails is told in the log.
    pub(super) fn release_pools(&self, record: &NetworkRecord) {
        let Some(name) = record.ipam_plugin() else { return };
        match self.address_plugin(name) {
            Ok(plugin) => release(&plugin, &record.plugin_pools, &record.subnets),
            Err(error) => tracing::warn!(network = %record.name, error = error.text(), "address pools left behind"),
        }
    }

    /// Addresses for an endpoint, where a plugin gives them: what is asked for is then those.
    pub(super) fn request_addresses(&self, asked: &EndpointWish) -> Result<Option<EndpointWish>> {
        let record = find(&self.table(), &asked.network)?.record.clone();
        let Some(name) = record.ipam_plugin() else { return Ok(None) };
        let plugin = self.address_plugin(name)?;
        let mut given = asked.clone();
        let mut options = BTreeMap::new();
        if wait(async { Ok(plugin.address_capabilities().await) })?.requires_mac_address {
            if given.asked.requested_mac.is_empty() {
                let mac = ferry_network::mac::random().context("cannot draw a MAC address")?;
                given.asked.requested_mac = mac.to_string();
            }
            options.insert(MAC_ADDRESS.to_owned(), given.asked.requested_mac.clone());
        }
        let wanted = [(true, record.has_ipv4()), (false, record.has_ipv6())];
        for (v4, _) in wanted.into_iter().filter(|(_, wanted)| *wanted) {
            let text = if v4 { &asked.asked.requested_address } else { &asked.asked.requested_address6 };
            let pools = record.plugin_pools.iter().filter(|(net, _)| net.addr().is_ipv4() == v4);
            let fitting = |net: &IpNet| text.parse::<IpAddr>().map_or(text.is_empty(), |ip| net.contains(&ip));
            let Some((_, pool)) = pools.into_iter().find(|(net, _)| fitting(net)) else { continue };
            match wait(plugin.request_address(pool, text, &options)).and_then(|address| bare(&address)) {
                Ok(address) if v4 => given.asked.requested_address = address.to_string(),
                Ok(address) => given.asked.requested_address6 = address.to_string(),
                Err(error) => {
                    self.give_back(&record, &given, asked);
                    return Err(error);
                }
            }
        }
        Ok(Some(given))
    }

    /// Takes a place with addresses that a plugin gave.
    pub(super) fn take_given_place(
        &self,
        wish: &Wish,
        asked: &EndpointWish,
        given: &EndpointWish,
        taken: &[String],
    ) -> Result<Place> {
        let mut place = self.take_place_here(wish, given, taken).inspect_err(|_| {
            if let Ok(record) = find(&self.table(), &asked.network).map(|network| network.record.clone()) {
                self.give_back(&record, given, asked);
            }
        })?;
        // What was asked for stays what was asked for.
        place.endpoint.requested_address.clone_from(&asked.asked.requested_address);
        place.endpoint.requested_address6.clone_from(&asked.asked.requested_address6);
        place.endpoint.requested_mac.clone_from(&asked.asked.requested_mac);
        Ok(place)
    }

    /// Addresses that come to no use.
    fn give_back(&self, record: &NetworkRecord, given: &EndpointWish, asked: &EndpointWish) {
        let (given, asked) = (&given.asked, &asked.asked);
        let pairs = [
            (&given.requested_address, &asked.requested_address),
            (&given.requested_address6, &asked.requested_address6),
        ];
        let unused = pairs.into_iter().filter(|(given, asked)| given != asked).map(|(given, _)| given.clone());
        let place = RemotePlace {
            network_id: record.id.clone(),
            endpoint_id: String::new(),
            driver: None,
            given: Some((record.ipam_plugin().unwrap_or_default().to_owned(), given_addresses(record, unused))),
        };
        self.leave_remotes(vec![place]);
    }

    /// Has plugins make the endpoints of their networks, and brings the links into the container.
    pub(super) fn join_remotes(&self, sandbox: &Sandbox, wish: &Wish, places: &mut [Place]) -> Result<()> {
        for at in 0..places.len() {
            if places[at].network.driver != Driver::Plugin {
                continue;
            }
            let taken: Vec<String> = places.iter().map(|place| place.endpoint.interface.clone()).collect();
            self.join_remote(sandbox, wish, &mut places[at], &taken)?;
        }
        Ok(())
    }

    fn join_remote(&self, sandbox: &Sandbox, wish: &Wish, place: &mut Place, taken: &[String]) -> Result<()> {
        let plugin = self.plugin(&place.network.driver_name, NETWORK_DRIVER)?;
        let request = new_endpoint(wish, place);
        let told = wait(plugin.create_endpoint(&request))?;
        let endpoint = &mut place.endpoint;
        if !told.mac_address.is_empty() {
            endpoint.mac_address = told.mac_address;
        }
        if let (IpAddr::V4(address), length) = prefixed(&told.address)?.unwrap_or((IpAddr::from([0; 16]), 0)) {
            (endpoint.address, endpoint.prefix_length) = (Some(address.into()), length);
        }
        if let (IpAddr::V6(address), length) = prefixed(&told.address_ipv6)?.unwrap_or((IpAddr::from([0; 4]), 0)) {
            (endpoint.address6, endpoint.prefix_length6) = (Some(address), length);
        }
        let key = format!("/proc/{}/fd/{}", std::process::id(), sandbox.as_fd().as_raw_fd());
        let joined = wait(plugin.join_network(&request, &key))?;
        place.take_ways(&joined)?;
        let names = &joined.interface_name;
        if names.src_name.is_empty() {
            // The plugin has seen to the container itself.
            return shape::refuse_without_link(wish, place);
        }
        place.rename(&names.dst_prefix, taken);
        place.endpoint.host_link.clone_from(&names.src_name);
        let routes = joined.static_routes.iter().map(static_route).collect::<Result<Vec<_>>>()?;
        let spec = place.endpoint_spec(wish, (false, false))?;
        let inside = self.inner.networking.take_in(sandbox, &names.src_name, &spec, &routes);
        inside.context(format!("cannot attach to network {}", place.network.name))
    }

    /// Default routes by endpoints of plugins, which tell only when they are joined that they lead out, and opens them to the outside.
    pub(super) fn lead_out_by_remotes(
        &self,
        sandbox: &Sandbox,
        wish: &Wish,
        places: &[Place],
        gateways: Gateways,
    ) -> Result<()> {
        let ways: Vec<usize> = (0..places.len()).filter(|at| gateways.is(*at) != (false, false)).collect();
        let remote: Vec<_> = ways.iter().filter(|at| places[**at].network.driver == Driver::Plugin).collect();
        if remote.is_empty() {
            return Ok(());
        }
        let specs =
            ways.iter().map(|at| places[*at].endpoint_spec(wish, gateways.is(*at))).collect::<Result<Vec<_>>>()?;
        self.inner.networking.set_gateways(sandbox, &specs).context("cannot set the way out of the container")?;
        for at in remote {
            let place = &places[*at];
            let plugin = self.plugin(&place.network.driver_name, NETWORK_DRIVER)?;
            wait(plugin.open_endpoint(&new_endpoint(wish, place)))?;
        }
        Ok(())
    }

    /// Gives a plugin the link back that it made; one that is gone is fine.
    pub(super) fn give_back_link(&self, sandbox: &Sandbox, place: &Place) {
        let endpoint = &place.endpoint;
        if endpoint.host_link.is_empty() {
            return;
        }
        if let Err(error) = self.inner.networking.give_back(sandbox, &endpoint.interface, &endpoint.host_link) {
            tracing::warn!(link = endpoint.host_link, %error, "link of a plugin not given back");
        }
    }

    /// What plugins have to be told when a container leaves all its networks.
    pub(super) fn remote_places(&self, container_id: &str) -> Vec<RemotePlace> {
        let table = self.table();
        let of = |network: &super::Network| {
            let member = network.members.get(container_id)?;
            let addresses = [&member.ipv4_address, &member.ipv6_address].map(|text| text.split('/').next());
            let addresses = addresses.into_iter().flatten().filter(|text| !text.is_empty()).map(str::to_owned);
            remote_place(&network.record, &member.endpoint_id, addresses)
        };
        table.values().filter_map(of).collect()
    }

    /// Leaves one network; the address is free, and plugins are told.
    pub(super) fn leave_remote_place(&self, place: &Place, container_id: &str) {
        let endpoint = &place.endpoint;
        let record = self.table().get(&endpoint.network_id).map(|network| network.record.clone());
        self.leave_place(&endpoint.network_id, container_id);
        let addresses = endpoint.address.into_iter().chain(endpoint.address6.map(IpAddr::V6)).map(|ip| ip.to_string());
        let remote = record.and_then(|record| remote_place(&record, &endpoint.endpoint_id, addresses));
        self.leave_remotes(remote.into_iter().collect());
    }

    /// Tells plugins of the endpoints of a container that ended while no daemon was there. Blocks.
    pub(crate) fn part_from<'a>(&self, endpoints: impl Iterator<Item = &'a EndpointRecord>) {
        let left = endpoints.filter(|endpoint| !endpoint.endpoint_id.is_empty()).filter_map(|endpoint| {
            let record = self.table().get(&endpoint.network_id)?.record.clone();
            let addresses = endpoint.address.into_iter().chain(endpoint.address6.map(IpAddr::V6));
            remote_place(&record, &endpoint.endpoint_id, addresses.map(|ip| ip.to_string()))
        });
        self.leave_remotes(left.collect());
    }

    /// Tells plugins of places that are left. Waits a little; one that does not answer is told on.
    pub(super) fn leave_remotes(&self, places: Vec<RemotePlace>) {
        if places.is_empty() {
            return;
        }
        let plugins = self.inner.plugins.clone();
        let told = tokio::spawn(async move {
            for place in &places {
                tell_of_leaving(&plugins, place).await;
            }
        });
        let waited = Volumes::wait_for(async { Ok(tokio::time::timeout(PARTING, told).await.is_ok()) });
        if !matches!(waited, Ok(true)) {
            tracing::warn!("a network plugin has not yet answered that a container left");
        }
    }
}

impl Place {
    /// The ways out that the plugin names; a network of a plugin has no others.
    fn take_ways(&mut self, joined: &Joined) -> Result<()> {
        let parsed = |what: &str, text: &str| match text {
            "" => Ok(None),
            text => text
                .parse::<IpAddr>()
                .map(Some)
                .map_err(|_| Error::internal(format!("unable to parse {what} \"{text}\""))),
        };
        let v4 = parsed("Gateway", &joined.gateway)?;
        let v6 = parsed("GatewayIPv6", &joined.gateway_ipv6)?;
        self.endpoint.gateway = v4.and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None });
        self.endpoint.gateway6 = v6.and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None });
        Ok(())
    }

    /// The interface's name is the plugin's prefix with a number, unless it was asked for.
    fn rename(&mut self, prefix: &str, taken: &[String]) {
        let interface = &mut self.endpoint.interface;
        let is_asked = self.endpoint.driver_options.values().any(|value| value == interface);
        let has_prefix = interface.strip_prefix(prefix).is_some_and(|rest| rest.parse::<u32>().is_ok());
        if prefix.is_empty() || is_asked || has_prefix {
            return;
        }
        let mut names = (0..).map(|number| format!("{prefix}{number}"));
        *interface = names.find(|name| !taken.contains(name)).expect("there are more numbers than networks");
    }
}

async fn tell_of_leaving(plugins: &Plugins, place: &RemotePlace) {
    let (network, endpoint) = (&place.network_id, &place.endpoint_id);
    if let Some(driver) = &place.driver {
        match plugins.get(driver, NETWORK_DRIVER).await {
            Ok(plugin) => {
                let told = [
                    plugin.close_endpoint(network, endpoint).await,
                    plugin.leave_network(network, endpoint).await,
                    plugin.delete_endpoint(network, endpoint).await,
                ];
                for error in told.into_iter().filter_map(Result::err) {
                    tracing::warn!(
                        plugin = driver,
                        endpoint,
                        error = error.text(),
                        "plugin did not let an endpoint go"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(plugin = driver, endpoint, error = error.text(), "endpoint of a plugin left behind")
            }
        }
    }
    let Some((name, addresses)) = &place.given else { return };
    match plugins.get(name, IPAM_DRIVER).await {
        Ok(plugin) => {
            for (pool, address) in addresses {
                if let Err(error) = plugin.release_address(pool, address).await {
                    tracing::warn!(
                        plugin = name,
                        address,
                        error = error.text(),
                        "address not taken back by its plugin"
                    );
                }
            }
        }
        Err(error) => tracing::warn!(plugin = name, error = error.text(), "addresses of a plugin left behind"),
    }
}

fn needed(record: &NetworkRecord) -> impl Iterator<Item = &str> {
    let driver = (record.driver == Driver::Plugin).then_some(record.plugin.as_str());
    driver.into_iter().chain(record.ipam_plugin())
}

fn user_of(record: &NetworkRecord) -> String {
    format!("network {}", record.id)
}

fn ipam_data(subnet: &SubnetRecord) -> IpamData {
    let length = subnet.net.prefix_len();
    let with_prefix = |ip: &IpAddr| format!("{ip}/{length}");
    IpamData {
        address_space: LOCAL_SPACE.to_owned(),
        gateway: subnet.gateway.as_ref().map(with_prefix).unwrap_or_default(),
        pool: subnet.net.to_string(),
        aux_addresses: subnet.auxiliary.iter().map(|(name, ip)| (name.clone(), with_prefix(ip))).collect(),
    }
}

/// What is to be asked for: what was given, and one pool of the plugin's choice in a family of which nothing was.
fn wanted_pools(given: Vec<SubnetRecord>, wants_ipv4: bool, wants_ipv6: bool) -> Vec<(Option<SubnetRecord>, bool)> {
    let missing = |v4: bool| !given.iter().any(|subnet| subnet.is_v4() == v4);
    let chosen = [(wants_ipv4 && missing(true), false), (wants_ipv6 && missing(false), true)];
    let chosen: Vec<_> = chosen.into_iter().filter(|(wanted, _)| *wanted).map(|(_, v6)| (None, v6)).collect();
    given
        .into_iter()
        .map(|subnet| {
            let v6 = !subnet.is_v4();
            (Some(subnet), v6)
        })
        .chain(chosen)
        .collect()
}

fn request_pool(
    plugin: &Plugin,
    ipam: &Ipam,
    space: &str,
    asked: Option<SubnetRecord>,
    v6: bool,
    pools: &mut BTreeMap<IpNet, String>,
) -> Result<SubnetRecord> {
    let config = asked.as_ref().map(|subnet| IpamConfig {
        subnet: subnet.net.to_string(),
        ip_range: subnet.range.map(|range| range.to_string()).unwrap_or_default(),
        ..IpamConfig::default()
    });
    let config = config.unwrap_or_default();
    let request = PoolRequest {
        address_space: space.to_owned(),
        pool: config.subnet,
        sub_pool: config.ip_range,
        options: ipam.options.clone().unwrap_or_default(),
        v6,
    };
    let given = wait(plugin.request_pool(&request))?;
    let net: IpNet =
        given.pool.parse().map_err(|_| Error::internal(format!("invalid CIDR address: {}", given.pool)))?;
    pools.insert(net.trunc(), given.id.clone());
    let mut subnet = asked.unwrap_or_else(|| SubnetRecord::plain(net.trunc()));
    subnet.net = net.trunc();
    let told = given.data.as_ref().and_then(|data| data.get(GATEWAY)).filter(|_| subnet.gateway.is_none());
    subnet.gateway = Some(match told {
        Some(gateway) => bare(gateway)?,
        None => {
            let wanted = subnet.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
            bare(&wait(plugin.request_address(&given.id, &wanted, &gateway_options()))?)?
        }
    });
    for address in subnet.auxiliary.values() {
        let _ = wait(plugin.request_address(&given.id, &address.to_string(), &BTreeMap::new()))?;
    }
    Ok(subnet)
}

/// What the plugin of addresses is told of an address for a gateway.
pub(super) fn gateway_options() -> BTreeMap<String, String> {
    BTreeMap::from([("RequestAddressType".to_owned(), GATEWAY.to_owned())])
}

fn release(plugin: &Plugin, pools: &BTreeMap<IpNet, String>, subnets: &[SubnetRecord]) {
    for (net, pool) in pools {
        let own = subnets.iter().filter(|subnet| subnet.net == *net);
        let addresses = own.flat_map(|subnet| subnet.gateway.into_iter().chain(subnet.auxiliary.values().copied()));
        let released: Result<()> = wait(async {
            for address in addresses {
                plugin.release_address(pool, &address.to_string()).await?;
            }
            plugin.release_pool(pool).await
        });
        if let Err(error) = released {
            tracing::warn!(%net, error = error.text(), "address pool not taken back by its plugin");
        }
    }
}

fn remote_place(
    record: &NetworkRecord,
    endpoint_id: &str,
    addresses: impl Iterator<Item = String>,
) -> Option<RemotePlace> {
    let driver = (record.driver == Driver::Plugin).then(|| record.plugin.clone());
    let given = record.ipam_plugin().map(|name| (name.to_owned(), given_addresses(record, addresses)));
    (driver.is_some() || given.is_some()).then(|| RemotePlace {
        network_id: record.id.clone(),
        endpoint_id: endpoint_id.to_owned(),
        driver,
        given,
    })
}

/// Addresses with the pools that they are from.
fn given_addresses(record: &NetworkRecord, addresses: impl Iterator<Item = String>) -> Vec<(String, String)> {
    let with_pool = |address: String| {
        let ip: IpAddr = address.parse().ok()?;
        let (_, pool) = record.plugin_pools.iter().find(|(net, _)| net.contains(&ip))?;
        Some((pool.clone(), address))
    };
    addresses.filter_map(with_pool).collect()
}

fn new_endpoint(wish: &Wish, place: &Place) -> NewEndpoint {
    let endpoint = &place.endpoint;
    let address = |ip: Option<IpAddr>, length: u8| ip.map(|ip| format!("{ip}/{length}")).unwrap_or_default();
    let mut options: Map<String, Value> =
        endpoint.driver_options.iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))).collect();
    options.insert("com.docker.network.endpoint.exposedports".to_owned(), wish.ports.iter().map(exposed).collect());
    options.insert("com.docker.network.portmap".to_owned(), wish.ports.iter().map(mapped).collect());
    NewEndpoint {
        network_id: endpoint.network_id.clone(),
        endpoint_id: endpoint.endpoint_id.clone(),
        interface: crate::plugins::Interface {
            address: address(endpoint.address, endpoint.prefix_length),
            address_ipv6: address(endpoint.address6.map(IpAddr::V6), endpoint.prefix_length6),
            mac_address: endpoint.mac_address.clone(),
        },
        options,
    }
}

fn exposed(port: &PortRequest) -> Value {
    json!({ "Proto": port.protocol.number(), "Port": port.container_port })
}

fn mapped(port: &PortRequest) -> Value {
    json!({
        "Proto": port.protocol.number(),
        "IP": "",
        "Port": port.container_port,
        "HostIP": port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        "HostPort": port.host_ports.start(),
        "HostPortEnd": port.host_ports.end(),
    })
}

fn static_route(route: &crate::plugins::StaticRoute) -> Result<StaticRoute> {
    let bad = |text: &str| Error::internal(format!("invalid static route of the plugin: {text}"));
    let destination = route.destination.parse::<IpNet>().map_err(|_| bad(&route.destination))?;
    let next_hop = match (route.route_type, route.next_hop.as_str()) {
        (1, _) | (_, "") => None,
        (_, text) => Some(text.parse::<IpAddr>().map_err(|_| bad(text))?),
    };
    Ok(StaticRoute { destination, next_hop })
}

fn prefixed(text: &str) -> Result<Option<(IpAddr, u8)>> {
    if text.is_empty() {
        return Ok(None);
    }
    let net: IpNet = text.parse().map_err(|_| Error::internal(format!("invalid CIDR address: {text}")))?;
    Ok(Some((net.addr(), net.prefix_len())))
}

/// An address without its prefix.
fn bare(text: &str) -> Result<IpAddr> {
    let address = text.split('/').next().unwrap_or_default();
    address.parse().map_err(|_| Error::internal(format!("invalid CIDR address: {text}")))
}
