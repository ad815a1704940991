//! The one object the engine talks to.

mod traffic;

use std::{
    collections::HashSet,
    os::fd::BorrowedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    bridge, child, conntrack, endpoint,
    error::Error,
    files,
    firewall::{Firewall, Habits, Monitor, open_netfilter},
    learning::Learning,
    netd::client::Client,
    netlink::{self, Netlink},
    ports::Ports,
    resolver,
    sandbox::{Sandbox, open_route},
    subnet, sysctl,
    types::{
        BridgeSpec, ChildKind, EndpointSpec, Live, Named, Options, ParentSpec, PortRequest, PortTarget, Protocol,
        PublishedPort, ResolverSpec, StaticRoute, Swept,
    },
};

/// The networks of one engine instance.
///
/// Calls come from threads in the namespace in which `open` was called: the host's.
#[derive(Debug)]
pub struct Networking {
    options: Options,
    /// Locked alone, or as the last one.
    route: Mutex<Netlink>,
    /// Ports before firewall, where both are needed.
    ports: Arc<Mutex<Ports>>,
    firewall: Option<Arc<Mutex<Firewall>>>,
    /// Containers whose traffic is limited; locked for single look-ups.
    shaped: Mutex<HashSet<String>>,
    /// From the first container on whose rules have names.
    learning: Mutex<Option<Learning>>,
    _monitor: Option<Monitor>,
}

impl Networking {
    /// Opens the kernel's sockets and takes up what an earlier daemon of the instance left.
    ///
    /// # Errors
    /// Fails without the right to administer the network.
    pub fn open(options: Options) -> Result<Self, Error> {
        let route = open_route().map_err(|source| Error::kernel("open", "netlink socket", source))?;
        let client = Client::new(options.exec_root.join("netd"), options.netd_program.clone());
        let ports = Ports::open(client, options.firewall)?;
        let (mut firewall, mut monitor) = (None, None);
        if options.firewall {
            let (direct, mark) = (options.direct_routing, options.accepted_mark);
            let habits = Habits { ipv6: options.firewall6, direct, mark };
            let opened = Arc::new(Mutex::new(Firewall::open(options.instance.clone(), habits)?));
            let watched = Monitor::start(&opened);
            monitor = Some(watched.map_err(|source| Error::kernel("watch", "nftables", source))?);
            firewall = Some(opened);
        }
        let networking = Self {
            options,
            route: Mutex::new(route),
            ports: Arc::new(Mutex::new(ports)),
            firewall,
            shaped: Mutex::default(),
            learning: Mutex::default(),
            _monitor: monitor,
        };
        networking.take_up_ports();
        Ok(networking)
    }

    /// Makes the bridge with its addresses and rules, or brings an existing one to the
    /// specification.
    ///
    /// # Errors
    /// `LinkTaken` when the name belongs to somebody else.
    pub fn ensure_bridge(&self, bridge: &BridgeSpec) -> Result<(), Error> {
        bridge::ensure(&mut self.route(), &self.options.instance, bridge)?;
        self.forward(bridge)?;
        self.with_firewall(|firewall| firewall.ensure_bridge(bridge))
    }

    /// Tells whether a bridge of this name could be made, or is this instance's already: another
    /// instance on the machine may have taken the default name.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn is_link_available(&self, link: &str) -> Result<bool, Error> {
        bridge::is_available(&mut self.route(), &self.options.instance, link)
    }

    /// Removes the bridge and its rules; a bridge that is gone or not ours is left alone.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn remove_bridge(&self, network_id: &str, link: &str) -> Result<(), Error> {
        bridge::remove(&mut self.route(), &self.options.instance, network_id, link)?;
        self.with_firewall(|firewall| firewall.remove_bridge(link))
    }

    /// Returns the first subnet of the default pools that meets no route, address or name server of
    /// the host and none of `taken`.
    ///
    /// # Errors
    /// `NoSubnet` when there is none.
    pub fn choose_subnet(&self, taken: &[IpNet]) -> Result<Ipv4Net, Error> {
        let mut route = self.route();
        let failed = |source| Error::kernel("list", "routes and addresses", source);
        let mut used = netlink::route::route_destinations(&mut route).map_err(failed)?;
        used.extend(netlink::route::addresses(&mut route).map_err(failed)?.into_iter().map(|(_, net)| net));
        used.extend(files::host_name_servers().into_iter().map(IpNet::from));
        used.extend_from_slice(taken);
        subnet::first_free(&self.options.default_pools, &used).ok_or(Error::NoSubnet)
    }

    /// Returns the first subnet of the IPv6 pools that meets no route or address of the host and none of `taken`; `None` where there are
    /// no such pools.
    ///
    /// # Errors
    /// `NoSubnet` when there is none left.
    pub fn choose_subnet6(&self, taken: &[IpNet]) -> Result<Option<Ipv6Net>, Error> {
        if self.options.default_pools6.is_empty() {
            return Ok(None);
        }
        let mut route = self.route();
        let failed = |source| Error::kernel("list", "routes and addresses", source);
        let mut used = netlink::route::route_destinations(&mut route).map_err(failed)?;
        used.extend(netlink::route::addresses(&mut route).map_err(failed)?.into_iter().map(|(_, net)| net));
        used.extend_from_slice(taken);
        subnet::first_free6(&self.options.default_pools6, &used).map(Some).ok_or(Error::NoSubnet)
    }

    /// Whether a subnet holds a part of the default pools.
    #[must_use]
    pub fn is_pooled(&self, net: &IpNet) -> bool {
        let meets = |pool: IpNet| pool.contains(&net.network()) || net.contains(&pool.network());
        match net {
            IpNet::V4(_) => self.options.default_pools.iter().any(|(pool, _)| meets(IpNet::V4(*pool))),
            IpNet::V6(_) => self.options.default_pools6.iter().any(|(pool, _)| meets(IpNet::V6(*pool))),
        }
    }

    /// Whether nothing of the host meets `subnet`; what a bridge of ours that is still there has made of it does not count.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn is_subnet_free(&self, subnet: &Ipv4Net, own_link: &str) -> Result<bool, Error> {
        let mut route = self.route();
        let failed = |source| Error::kernel("list", "routes and addresses", source);
        let mut used = netlink::route::route_destinations(&mut route).map_err(failed)?;
        used.extend(netlink::route::addresses(&mut route).map_err(failed)?.into_iter().map(|(_, net)| net));
        let own_is_there = netlink::route::link_by_name(&mut route, own_link).map_err(failed)?.is_some();
        let meets = |net: &IpNet| match net {
            IpNet::V4(net) if net.prefix_len() == 0 => false,
            IpNet::V4(net) if own_is_there && subnet.contains(&net.trunc()) => false,
            IpNet::V4(net) => net.contains(&subnet.network()) || subnet.contains(&net.network()),
            IpNet::V6(_) => false,
        };
        Ok(!used.iter().any(meets))
    }

    /// Makes a network namespace with loopback up and Docker's sysctls set.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn new_sandbox(&self) -> Result<Sandbox, Error> {
        Sandbox::new()
    }

    /// Opens the namespace of the process that a pidfd means.
    ///
    /// # Errors
    /// Fails when the process has ended.
    pub fn open_sandbox_of(&self, process: BorrowedFd<'_>) -> Result<Sandbox, Error> {
        Sandbox::of_process(process)
    }

    /// Attaches a sandbox to a network.
    ///
    /// # Errors
    /// Fails when the kernel refuses; nothing is left then.
    pub fn attach(&self, sandbox: &Sandbox, endpoint: &EndpointSpec) -> Result<(), Error> {
        let attached = endpoint::attach(&self.route, &self.options.instance, sandbox, endpoint, |host_end| {
            self.with_firewall(|firewall| firewall.guard(endpoint, host_end))?;
            self.shape_new(endpoint, host_end)
        });
        if attached.is_err() {
            self.remove_detours(&endpoint.container_id, false);
        }
        attached
    }

    /// Detaches a sandbox that goes on living; closing a namespace needs no detaching.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn detach(&self, sandbox: &Sandbox, endpoint: &EndpointSpec) -> Result<(), Error> {
        endpoint::detach(sandbox, endpoint)?;
        self.remove_detours(&endpoint.container_id, false);
        self.with_firewall(|firewall| firewall.unguard_endpoint(endpoint))
    }

    /// Brings a link that somebody else made into a sandbox, under the endpoint's name and with its addresses.
    ///
    /// # Errors
    /// Fails when there is no such link or the kernel refuses; it is given back then.
    pub fn take_in(
        &self,
        sandbox: &Sandbox,
        source: &str,
        endpoint: &EndpointSpec,
        routes: &[StaticRoute],
    ) -> Result<(), Error> {
        endpoint::take_in(&self.route, sandbox, source, endpoint, routes)
    }

    /// Gives such a link back to the host, under its name there; one that has gone is fine.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn give_back(&self, sandbox: &Sandbox, interface: &str, source: &str) -> Result<(), Error> {
        endpoint::give_back(sandbox, interface, source)
    }

    /// Leads what a sandbox sends outside by way of the gateways of these endpoints, which are attached.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn set_gateways(&self, sandbox: &Sandbox, endpoints: &[EndpointSpec]) -> Result<(), Error> {
        endpoint::set_gateways(sandbox, endpoints)
    }

    /// Makes a parent for links without a bridge, where it is missing; tells whether it was made.
    ///
    /// # Errors
    /// `NoParent` for a VLAN of a link that is not there, `NoKind` where the kernel has no such links.
    pub fn ensure_parent(&self, parent: &ParentSpec) -> Result<bool, Error> {
        child::ensure_parent(&mut self.route(), &self.options.instance, parent)
    }

    /// Removes a parent that was made for a network; one of somebody else is left alone.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn remove_parent(&self, parent: &ParentSpec) -> Result<(), Error> {
        child::remove_parent(&mut self.route(), &self.options.instance, parent)
    }

    /// Marks a parent that was made for another network as this one's.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn adopt_parent(&self, parent: &ParentSpec) -> Result<(), Error> {
        child::adopt_parent(&mut self.route(), &self.options.instance, parent)
    }

    /// Whether the kernel can make links of a kind.
    pub fn has_kind(&self, kind: ChildKind) -> bool {
        child::has_kind(&mut self.route(), kind.name())
    }

    /// Has the container in this sandbox answered when it asks [`RESOLVER`] for names. Asked again it changes what is known of it.
    ///
    /// [`RESOLVER`]: crate::RESOLVER
    ///
    /// # Errors
    /// Fails when the kernel or `ferry-netd` refuses.
    pub fn resolve(&self, sandbox: &Sandbox, spec: &ResolverSpec) -> Result<(), Error> {
        if self.has_sockets(&spec.container_id)? {
            return self.ports().resolve(sandbox, spec, &[]);
        }
        // Made before the lock is taken: it takes some milliseconds.
        let sockets = resolver::open_sockets(sandbox)?;
        self.ports().resolve(sandbox, spec, &sockets)
    }

    fn has_sockets(&self, container_id: &str) -> Result<bool, Error> {
        let mut ports = self.ports();
        if ports.resolvers().has_sockets(container_id) {
            // Those that an earlier daemon handed over go with the process that has them.
            ports.restart_if_dead()?;
        }
        Ok(ports.resolvers().has_sockets(container_id))
    }

    /// Makes a container known to others in a network, in the place of what was known.
    ///
    /// # Errors
    /// Fails when `ferry-netd` refuses.
    pub fn join_names(&self, named: Named) -> Result<(), Error> {
        self.ports().join(named)
    }

    /// Makes a container unknown in a network.
    ///
    /// # Errors
    /// Fails when `ferry-netd` refuses.
    pub fn leave_names(&self, network_id: &str, container_id: &str) -> Result<(), Error> {
        self.ports().leave(network_id, container_id)
    }

    /// Gives up all that a container had whose namespace has gone or is going: its published ports, its resolver and names, and
    /// the reservation of its addresses. Whatever fails, the rest is done.
    ///
    /// # Errors
    /// Fails when the kernel or `ferry-netd` refuses; a container that had nothing is fine.
    pub fn release(&self, container_id: &str) -> Result<(), Error> {
        let unpublished = self.unpublish(container_id);
        self.remove_detours(container_id, true);
        let forgotten = self.ports().forget(container_id);
        // While it is guarded: what it owns is known by that.
        let unrestricted = self.with_firewall(|firewall| firewall.unrestrict(container_id));
        let unguarded = self.with_firewall(|firewall| firewall.unguard(container_id));
        unpublished.and(forgotten).and(unrestricted).and(unguarded)
    }

    /// Publishes ports of a container, all or none. Asked again for the same container with the
    /// same arguments it returns the same ports.
    ///
    /// # Errors
    /// `PortAllocated` and `PortBind` with Docker's texts.
    pub fn publish(
        &self,
        container_id: &str,
        target: &PortTarget,
        requests: &[PortRequest],
    ) -> Result<Vec<PublishedPort>, Error> {
        let mut ports = self.ports();
        if requests.is_empty() {
            return self.unpublish_locked(&mut ports, container_id).map(|()| Vec::new());
        }
        if let Some(published) = ports.already_published(container_id, target, requests) {
            ports.restart_if_dead()?;
            self.with_firewall(|firewall| firewall.publish(container_id, target, &published))?;
            return Ok(published);
        }
        self.unpublish_locked(&mut ports, container_id)?;
        let published = ports.publish(container_id, target, requests)?;
        let translated = self
            .with_firewall(|firewall| firewall.publish(container_id, target, &published))
            .map(|()| forget_flows(&published, target));
        if let Err(error) = translated {
            if let Err(second) = self.unpublish_locked(&mut ports, container_id) {
                tracing::warn!(container = container_id, error = %second, "cannot take published ports back");
            }
            return Err(error);
        }
        Ok(published)
    }

    /// Takes back every published port of a container.
    ///
    /// # Errors
    /// Fails when the kernel or `ferry-netd` refuses; a container without ports is fine.
    pub fn unpublish(&self, container_id: &str) -> Result<(), Error> {
        self.unpublish_locked(&mut self.ports(), container_id)
    }

    /// Removes what carries the instance's mark and is in no record, and puts back what is missing.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn sweep(&self, live: &Live) -> Result<Swept, Error> {
        let mut swept = Swept { links: self.sweep_links(live)?, ..Swept::default() };
        let mut ports = self.ports();
        let orphans: Vec<_> = ports
            .publications()
            .map(|publication| publication.container_id.clone())
            .filter(|container_id| !live.container_ids.contains(container_id))
            .collect();
        for container_id in orphans {
            self.unpublish_locked(&mut ports, &container_id)?;
            swept.released.push(container_id);
        }
        let nameless: Vec<_> =
            ports.resolvers().containers().into_iter().filter(|id| !live.container_ids.contains(id)).collect();
        for container_id in nameless {
            ports.forget(&container_id)?;
        }
        if ports.publications().next().is_some() {
            swept.rebound = ports.restart_if_dead()?;
        }
        for bridge in &live.bridges {
            bridge::ensure(&mut self.route(), &self.options.instance, bridge)?;
            self.forward(bridge)?;
        }
        for parent in &live.parents {
            if let Err(error) = self.ensure_parent(parent) {
                tracing::warn!(link = parent.link, %error, "parent of a network is missing");
            }
        }
        self.with_firewall(|firewall| {
            swept.firewall_restored = firewall.restore(&live.bridges, &live.container_ids)?;
            Ok(())
        })?;
        Ok(swept)
    }

    /// Ends the work; with `remove_everything` the ports, the tables, the accepts in tables of others
    /// and the bridges go too.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn close(&self, remove_everything: bool) -> Result<(), Error> {
        if !remove_everything {
            return Ok(());
        }
        self.sweep(&Live::default())?;
        self.with_firewall(Firewall::remove_everything)
    }

    fn unpublish_locked(&self, ports: &mut Ports, container_id: &str) -> Result<(), Error> {
        let Some(publication) = ports.unpublish(container_id)? else { return Ok(()) };
        let (target, published) = (publication.target, publication.published());
        self.with_firewall(|firewall| firewall.unpublish(container_id, &target, &published))?;
        forget_flows(&published, &target);
        Ok(())
    }

    fn sweep_links(&self, live: &Live) -> Result<Vec<String>, Error> {
        let mut route = self.route();
        let links = netlink::route::links(&mut route).map_err(|source| Error::kernel("list", "links", source))?;
        let mut removed = Vec::new();
        for link in links {
            let alias = link.alias.as_deref().unwrap_or_default();
            let Some(object) = self.options.instance.object_of_alias(alias) else { continue };
            let is_bridge =
                || live.bridges.iter().any(|bridge| bridge.network_id == object && bridge.link == link.name);
            let is_parent =
                || live.parents.iter().any(|parent| parent.network_id == object && parent.link == link.name);
            let is_live = is_bridge() || is_parent() || (!link.is_bridge && live.container_ids.contains(object));
            if !is_live {
                bridge::delete(&mut route, link.index)
                    .map_err(|source| Error::kernel("delete link", &link.name, source))?;
                removed.push(link.name);
            }
        }
        Ok(removed)
    }

    /// The firewall must know what an earlier daemon published before it makes anything anew.
    fn take_up_ports(&self) {
        let Some(firewall) = &self.firewall else { return };
        let ports = self.ports();
        let mut firewall = firewall.lock().unwrap_or_else(PoisonError::into_inner);
        for publication in ports.publications() {
            let published = publication.published();
            firewall.take_up(&publication.container_id, &publication.target, &published);
        }
    }

    fn with_firewall(&self, work: impl FnOnce(&mut Firewall) -> Result<(), Error>) -> Result<(), Error> {
        match &self.firewall {
            Some(firewall) => work(&mut firewall.lock().unwrap_or_else(PoisonError::into_inner)),
            None => Ok(()),
        }
    }

    fn ports(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn route(&self) -> MutexGuard<'_, Netlink> {
        // A panic in the middle of an exchange leaves at most an unread answer, which is skipped.
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Switches on forwarding where the host lacks it.
    fn forward(&self, bridge: &BridgeSpec) -> Result<(), Error> {
        if !self.options.ip_forward || bridge.internal {
            return Ok(());
        }
        if sysctl::read("ipv4/ip_forward").as_deref() == Some("0") {
            sysctl::write("ipv4/ip_forward", "1")?;
        }
        if bridge.ipv6 && sysctl::read("ipv6/conf/all/forwarding").as_deref() == Some("0") {
            sysctl::keep_router_advertisements()?;
            sysctl::write("ipv6/conf/all/forwarding", "1")?;
        }
        Ok(())
    }
}

/// UDP flows from before a change of translation would go on as they were. A kernel that does not
/// let us look at them is no reason to refuse a container its ports.
fn forget_flows(ports: &[PublishedPort], target: &PortTarget) {
    if ports.iter().all(|port| port.protocol != Protocol::Udp) {
        return;
    }
    let forgotten = open_netfilter()
        .map_err(|source| Error::kernel("open", "netfilter socket", source))
        .and_then(|mut netlink| conntrack::forget_udp(&mut netlink, ports, target.v4, target.v6));
    if let Err(error) = forgotten {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(%error, cause, "UDP clients of a published port may be answered by its earlier container");
    }
}
