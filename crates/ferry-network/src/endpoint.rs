//! Endpoints: the veth pair between a bridge and a sandbox.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ipnet::IpNet;

use crate::{
    bridge::delete,
    child,
    error::Error,
    netlink::{
        Netlink, Refused, Request,
        route::{self, Link},
    },
    sandbox::Sandbox,
    shaping, solicited, sysctl,
    types::{ChildSpec, EndpointSpec, InstanceId, MacAddr, StaticRoute},
};

/// Host ends of one container differ in their last character: endpoints on several networks, and
/// ends of an earlier life of the container that the kernel has not finished removing.
const NAMES_PER_CONTAINER: u32 = 36;

/// How long a new port is waited for until it forwards.
const CARRIER_PATIENCE: Duration = Duration::from_secs(2);

/// Attaches a sandbox; on failure nothing is left. The socket is locked for single exchanges only,
/// so that several containers can start at the same time. `guard` is told the name of the host end
/// before it is up.
pub(crate) fn attach(
    netlink: &Mutex<Netlink>,
    instance: &InstanceId,
    sandbox: &Sandbox,
    endpoint: &EndpointSpec,
    guard: impl FnOnce(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    sysctl::check_link_name(&endpoint.interface)?;
    if let Some(child) = &endpoint.child {
        return attach_child(netlink, sandbox, endpoint, child);
    }
    let bridge = find_bridge(&mut lock(netlink), &endpoint.bridge_link)?;
    let host_end = create_pair(&mut lock(netlink), instance, sandbox, endpoint, bridge.index)?;
    let finished = sandbox
        .run_beside(
            || set_up_inside(sandbox, endpoint),
            || {
                guard(&host_end)?;
                set_up_host_end(&mut lock(netlink), instance, endpoint, &host_end)
            },
        )
        .and_then(|()| sandbox.with_netlink(|inside| settle_inside(inside, endpoint)))
        .and_then(|()| introduce(netlink, endpoint, &host_end, bridge.index))
        .and_then(|()| match bridge.is_operating {
            true => Ok(()),
            false => settle(&mut lock(netlink), &endpoint.bridge_link),
        });
    if finished.is_err() {
        remove_half_made(&mut lock(netlink), &host_end);
    }
    finished
}

/// A link on a parent has no other end that could be set up.
fn attach_child(
    netlink: &Mutex<Netlink>,
    sandbox: &Sandbox,
    endpoint: &EndpointSpec,
    child: &ChildSpec,
) -> Result<(), Error> {
    child::attach(&mut lock(netlink), sandbox, endpoint, child)?;
    let finished = sandbox
        .run_inside(|| set_up_inside(sandbox, endpoint))
        .and_then(|()| shape_inside(sandbox, endpoint))
        .and_then(|()| sandbox.with_netlink(|inside| settle_inside(inside, endpoint)));
    if finished.is_err()
        && let Err(error) = detach(sandbox, endpoint)
    {
        tracing::warn!(link = endpoint.interface, %error, "cannot remove a half-made link");
    }
    finished
}

/// Brings a link that somebody else made into a sandbox. On failure it is given back, as far as it got.
pub(crate) fn take_in(
    netlink: &Mutex<Netlink>,
    sandbox: &Sandbox,
    source: &str,
    endpoint: &EndpointSpec,
    routes: &[StaticRoute],
) -> Result<(), Error> {
    sysctl::check_link_name(&endpoint.interface)?;
    let link = route::link_by_name(&mut lock(netlink), source)
        .map_err(|error| Error::kernel("look up link", source, error))?
        .ok_or_else(|| Error::NoSuchLink(source.to_owned()))?;
    lock(netlink)
        .send(&[route::move_link(link.index, &endpoint.interface, sandbox.as_fd())])
        .map_err(|refused| Error::kernel("move link", source, refused.source))?;
    let finished =
        sandbox.run_inside(|| set_up_taken(sandbox, endpoint, routes)).and_then(|()| shape_inside(sandbox, endpoint));
    if finished.is_err()
        && let Err(error) = give_back(sandbox, &endpoint.interface, source)
    {
        tracing::warn!(link = source, %error, "cannot give a half-made link back");
    }
    finished
}

/// A link without an end on the host is limited where it is.
fn shape_inside(sandbox: &Sandbox, endpoint: &EndpointSpec) -> Result<(), Error> {
    match endpoint.shaping.is_any() {
        true => shaping::inside::apply(sandbox, &endpoint.interface, &endpoint.shaping),
        false => Ok(()),
    }
}

/// Runs on a thread inside.
fn set_up_taken(sandbox: &Sandbox, endpoint: &EndpointSpec, routes: &[StaticRoute]) -> Result<(), Error> {
    let interface = &endpoint.interface;
    let index = |inside: &mut Netlink| {
        let found = route::link_by_name(inside, interface);
        found
            .map_err(|source| Error::kernel("look up link", interface, source))?
            .map(|link| link.index)
            .ok_or_else(|| Error::NoSuchLink(interface.clone()))
    };
    let configured = |Refused { source, .. }| Error::kernel("configure link", interface, source);
    if endpoint.mac != MacAddr::default() {
        sandbox.with_netlink(|inside| {
            let index = index(inside)?;
            inside.send(&[route::link_address(index, endpoint.mac)]).map_err(configured)
        })?;
    }
    set_up_inside(sandbox, endpoint)?;
    sandbox.with_netlink(|inside| {
        let index = index(inside)?;
        // Those by the link first: others may go by way of what they lead to.
        let (direct, indirect): (Vec<_>, Vec<_>) = routes.iter().partition(|route| route.next_hop.is_none());
        let requests = direct.iter().chain(&indirect);
        let requests: Vec<_> =
            requests.map(|route| route::add_route(index, route.destination, route.next_hop)).collect();
        inside.send(&requests).map_err(configured)
    })
}

/// Moves a link from a sandbox back to the calling thread's namespace; one that has gone is fine.
pub(crate) fn give_back(sandbox: &Sandbox, interface: &str, source: &str) -> Result<(), Error> {
    let here = std::fs::File::open("/proc/thread-self/ns/net").map_err(Error::Namespace)?;
    sandbox.with_netlink(|inside| {
        let failed = |error| Error::kernel("move link", interface, error);
        match route::link_by_name(inside, interface).map_err(failed)? {
            None => Ok(()),
            Some(link) => {
                let moved = inside.send(&[route::move_link(link.index, source, here.as_fd())]);
                moved.map_err(|refused| failed(refused.source))
            }
        }?;
        // The queues of a link do not move along with it.
        shaping::inside::remove_detour(inside, interface)
    })
}

fn lock(netlink: &Mutex<Netlink>) -> MutexGuard<'_, Netlink> {
    // A panic in the middle of an exchange leaves at most an unread answer, which is skipped.
    netlink.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find_bridge(netlink: &mut Netlink, name: &str) -> Result<Link, Error> {
    route::link_by_name(netlink, name)
        .map_err(|source| Error::kernel("look up link", name, source))?
        .filter(|link| link.is_bridge)
        .ok_or_else(|| Error::NoSuchLink(name.to_owned()))
}

fn remove_half_made(netlink: &mut Netlink, host_end: &str) {
    if let Ok(Some(link)) = route::link_by_name(netlink, host_end)
        && let Err(source) = delete(netlink, link.index)
    {
        tracing::warn!(link = host_end, error = %source, "cannot remove a half-made link");
    }
}

/// Removes the endpoint of a sandbox that goes on living.
pub(crate) fn detach(sandbox: &Sandbox, endpoint: &EndpointSpec) -> Result<(), Error> {
    sandbox.with_netlink(|inside| {
        let failed = |source| Error::kernel("delete link", &endpoint.interface, source);
        if let Some(link) = route::link_by_name(inside, &endpoint.interface).map_err(failed)? {
            delete(inside, link.index).map_err(failed)?;
        }
        match endpoint.child {
            Some(_) => shaping::inside::remove_detour(inside, &endpoint.interface),
            None => Ok(()),
        }
    })
}

/// Leads what goes outside through attached endpoints; in a family in which none has a way, there is no way out.
pub(crate) fn set_gateways(sandbox: &Sandbox, endpoints: &[EndpointSpec]) -> Result<(), Error> {
    sandbox.with_netlink(|inside| {
        for family in FAMILIES {
            route::delete_default_routes(inside, family)
                .map_err(|source| Error::kernel("delete", "default routes", source))?;
        }
        for endpoint in endpoints {
            let interface = &endpoint.interface;
            let failed = |source| Error::kernel("set the default route by", interface, source);
            let link = route::link_by_name(inside, interface)
                .map_err(failed)?
                .ok_or_else(|| Error::NoSuchLink(interface.clone()))?;
            inside.send(&default_routes(endpoint, link.index)).map_err(|Refused { source, .. }| failed(source))?;
        }
        Ok(())
    })
}

const FAMILIES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

fn default_routes(endpoint: &EndpointSpec, index: u32) -> Vec<Request> {
    if endpoint.default_by_link {
        let has_family =
            |family: &IpAddr| endpoint.addresses.iter().any(|net| net.addr().is_ipv4() == family.is_ipv4());
        let families = FAMILIES.into_iter().filter(has_family);
        return families.map(|family| route::add_default_route_by_link(index, family)).collect();
    }
    let gateways = [endpoint.gateway_v4.map(IpAddr::from), endpoint.gateway_v6.map(IpAddr::from)];
    gateways.into_iter().flatten().map(|gateway| route::add_default_route(index, gateway)).collect()
}

fn create_pair(
    netlink: &mut Netlink,
    instance: &InstanceId,
    sandbox: &Sandbox,
    endpoint: &EndpointSpec,
    bridge_index: u32,
) -> Result<String, Error> {
    for attempt in 0..NAMES_PER_CONTAINER {
        let host_end = instance.host_link(&endpoint.container_id, attempt);
        let pair = route::VethPair {
            host_end: &host_end,
            bridge_index,
            interface: &endpoint.interface,
            mac: endpoint.mac,
            mtu: endpoint.mtu,
            namespace: sandbox.as_fd(),
        };
        match netlink.send(&[route::new_veth(&pair)]) {
            Ok(()) => return Ok(host_end),
            Err(Refused { source, .. }) if source.raw_os_error() == Some(libc::EEXIST) => {
                refuse_taken_interface(sandbox, endpoint)?;
            }
            // Out of port numbers, whatever memory there is.
            Err(Refused { source, .. }) if source.raw_os_error() == Some(libc::EXFULL) => {
                return Err(Error::BridgeFull(endpoint.bridge_link.clone()));
            }
            Err(Refused { source, .. }) => return Err(Error::kernel("create link", host_end, source)),
        }
    }
    let owner = "so do all others that the container could have".to_owned();
    Err(Error::LinkTaken { link: instance.host_link(&endpoint.container_id, 0), owner })
}

/// Tells the two reasons of `EEXIST` apart.
fn refuse_taken_interface(sandbox: &Sandbox, endpoint: &EndpointSpec) -> Result<(), Error> {
    let interface = &endpoint.interface;
    let found = sandbox.with_netlink(|inside| {
        route::link_by_name(inside, interface).map_err(|source| Error::kernel("look up link", interface, source))
    })?;
    match found {
        Some(_) => Err(Error::LinkTaken { link: interface.clone(), owner: "is in the container already".to_owned() }),
        None => Ok(()),
    }
}

fn set_up_host_end(
    netlink: &mut Netlink,
    instance: &InstanceId,
    endpoint: &EndpointSpec,
    host_end: &str,
) -> Result<(), Error> {
    let mut requests = vec![];
    let mode = route::PortMode { isolated: endpoint.isolated, hairpin: translates_frames() };
    if mode != route::PortMode::default() {
        requests.push(route::set_port_mode(host_end, mode));
    }
    requests.push(route::mark_and_set_up(host_end, &instance.alias(&endpoint.container_id)));
    netlink.send(&requests).map_err(|Refused { source, .. }| Error::kernel("set up link", host_end, source))
}

/// Settles the host end and has bridge and host forget an earlier container that had the address:
/// they would go on sending to its hardware address, or by its port, for half a minute.
fn introduce(
    netlink: &Mutex<Netlink>,
    endpoint: &EndpointSpec,
    host_end: &str,
    bridge_index: u32,
) -> Result<(), Error> {
    let failed = |source| Error::kernel("introduce link", host_end, source);
    let port = route::link_by_name(&mut lock(netlink), host_end)
        .map_err(failed)?
        .ok_or_else(|| Error::NoSuchLink(host_end.to_owned()))?;
    // A bridge without IPv6 has no neighbours there, and nobody is asked for such an address across links.
    let is_told = |net: &&IpNet| !matches!(net.addr(), IpAddr::V6(address) if address.is_unicast_link_local());
    let neighbours = endpoint
        .addresses
        .iter()
        .filter(is_told)
        .map(|net| route::set_neighbour(bridge_index, net.addr(), endpoint.mac));
    let neighbours: Vec<_> = neighbours.collect();
    lock(netlink).send(&neighbours).map_err(|Refused { source, .. }| failed(source))?;
    forward_to(netlink, port.index, endpoint.mac).map_err(failed)
}

/// A bridge takes no entry for a port that does not forward yet (`EPERM`), and kernels before 6.8 let it forward only when they have
/// got round to the new carrier. One that takes longer than this learns the address from the container's first frame.
fn forward_to(netlink: &Mutex<Netlink>, port: u32, mac: MacAddr) -> std::io::Result<()> {
    let end = Instant::now() + CARRIER_PATIENCE;
    loop {
        let sent = lock(netlink).send(&[route::set_forwarding(port, mac)]);
        match sent {
            Ok(()) => return Ok(()),
            Err(Refused { source, .. }) if source.raw_os_error() != Some(libc::EPERM) => return Err(source),
            Err(_) if Instant::now() > end => return Ok(()),
            // Nothing can be waited for: the change of state is told to listeners of all links only.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Whether bridged frames pass the IP rules (`br_netfilter`). A connection of a container to a port
/// that it has published itself is then turned round inside the bridge.
fn translates_frames() -> bool {
    let is_on = |name| sysctl::read(name).is_some_and(|value| value != "0");
    is_on("bridge/bridge-nf-call-iptables") || is_on("bridge/bridge-nf-call-ip6tables")
}

/// Runs on a thread inside, for the sake of the sysctls.
fn set_up_inside(sandbox: &Sandbox, endpoint: &EndpointSpec) -> Result<(), Error> {
    let interface = &endpoint.interface;
    let has_ipv6 = endpoint.addresses.iter().any(|net| matches!(net, IpNet::V6(_)));
    set_ipv6(interface, has_ipv6)?;
    sandbox.with_netlink(|inside| {
        let index = route::link_by_name(inside, interface)
            .map_err(|source| Error::kernel("look up link", interface, source))?
            .ok_or_else(|| Error::NoSuchLink(interface.clone()))?
            .index;
        let mut requests = vec![route::link_up(index)];
        requests.extend(endpoint.addresses.iter().map(|net| route::add_address(index, *net)));
        requests.extend(default_routes(endpoint, index));
        inside.send(&requests).map_err(|Refused { source, .. }| Error::kernel("configure link", interface, source))
    })?;
    endpoint.sysctls.iter().try_for_each(|(name, value)| sysctl::write_inside(name, value))
}

/// Looking at a link makes the kernel (6.8 and later) finish what it does about a new carrier:
/// until then the bridge would drop the container's first packets, and the first address
/// resolution would be repeated only after a second.
fn settle(netlink: &mut Netlink, link: &str) -> Result<(), Error> {
    let looked_up = route::link_by_name(netlink, link);
    looked_up.map(|_| ()).map_err(|source| Error::kernel("look up link", link, source))
}

/// The same for the container's own end, which can then also be asked for by IPv6.
fn settle_inside(inside: &mut Netlink, endpoint: &EndpointSpec) -> Result<(), Error> {
    let failed = |source| Error::kernel("look up link", &endpoint.interface, source);
    match route::link_by_name(inside, &endpoint.interface).map_err(failed)? {
        Some(link) => solicited::wait(inside, link.index, endpoint.addresses.iter().copied()).map_err(failed),
        None => Ok(()),
    }
}

/// Without an IPv6 address of ours the link has none at all; with one it takes no others from
/// router advertisements, which a neighbour could send.
fn set_ipv6(interface: &str, has_ipv6: bool) -> Result<(), Error> {
    if !has_ipv6 {
        return sysctl::write_inside_if_present(&format!("ipv6/conf/{interface}/disable_ipv6"), "1");
    }
    sysctl::write_inside_if_present(&format!("ipv6/conf/{interface}/disable_ipv6"), "0")?;
    sysctl::write_inside_if_present(&format!("ipv6/conf/{interface}/accept_ra"), "0")
}
