//! Bridges: made, brought to their specification, removed.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};

use crate::{
    error::Error,
    mac,
    netlink::{Netlink, Refused, route},
    solicited, sysctl,
    types::{BridgeSpec, InstanceId},
};

/// What Docker gives its bridges, too.
const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 64);

/// Makes the bridge or changes an existing one.
///
/// A bridge without an alias is the host's own (`--bridge`): it is used and given the gateway
/// addresses, but never loses an address and is never removed.
pub(crate) fn ensure(netlink: &mut Netlink, instance: &InstanceId, bridge: &BridgeSpec) -> Result<(), Error> {
    sysctl::check_link_name(&bridge.link)?;
    let found = route::link_by_name(netlink, &bridge.link)
        .map_err(|source| Error::kernel("look up link", &bridge.link, source))?;
    let link = match found {
        Some(link) => link,
        None => {
            create(netlink, instance, bridge)?;
            route::link_by_name(netlink, &bridge.link)
                .map_err(|source| Error::kernel("look up link", &bridge.link, source))?
                .ok_or_else(|| Error::NoSuchLink(bridge.link.clone()))?
        }
    };
    if !link.is_bridge {
        return Err(taken(bridge, "is not a bridge"));
    }
    let is_ours = match link.alias.as_deref() {
        Some(alias) if instance.object_of_alias(alias).is_some() => true,
        Some(alias) if alias.starts_with("ferry:") => return Err(taken(bridge, &format!("belongs to {alias}"))),
        _ => false,
    };
    let alias = instance.alias(&bridge.network_id);
    if is_ours && link.alias.as_deref() != Some(&alias) {
        // Of a network whose record was lost.
        netlink
            .send(&[route::mark(&bridge.link, &alias)])
            .map_err(|Refused { source, .. }| Error::kernel("mark bridge", &bridge.link, source))?;
    }
    set_sysctls(bridge)?;
    let (superfluous, missing) = address_changes(netlink, link.index, bridge, is_ours)?;
    let mut requests: Vec<_> = superfluous.into_iter().map(|net| route::delete_address(link.index, net)).collect();
    requests.extend(missing.iter().map(|net| route::add_address(link.index, *net)));
    requests.extend(bridge.mtu.filter(|_| is_ours).map(|mtu| route::link_mtu(link.index, mtu)));
    requests.push(route::link_up(link.index));
    let failed = |source| Error::kernel("configure bridge", &bridge.link, source);
    netlink.send(&requests).map_err(|Refused { source, .. }| failed(source))?;
    solicited::wait(netlink, link.index, missing).map_err(failed)
}

/// Tells whether a bridge of this name could be made, or is this instance's already.
pub(crate) fn is_available(netlink: &mut Netlink, instance: &InstanceId, link: &str) -> Result<bool, Error> {
    let found = route::link_by_name(netlink, link).map_err(|source| Error::kernel("look up link", link, source))?;
    let is_ours = |alias: &str| instance.object_of_alias(alias).is_some();
    Ok(found.is_none_or(|found| found.is_bridge && found.alias.as_deref().is_some_and(is_ours)))
}

/// Removes the bridge of a network if it is this instance's; otherwise does nothing.
pub(crate) fn remove(netlink: &mut Netlink, instance: &InstanceId, network_id: &str, link: &str) -> Result<(), Error> {
    let failed = |call| move |source| Error::kernel(call, link, source);
    let Some(found) = route::link_by_name(netlink, link).map_err(failed("look up link"))? else {
        return Ok(());
    };
    if found.alias != Some(instance.alias(network_id)) {
        return Ok(());
    }
    delete(netlink, found.index).map_err(failed("delete link"))
}

/// Removes a link; one that has gone by itself in between is fine.
pub(crate) fn delete(netlink: &mut Netlink, index: u32) -> std::io::Result<()> {
    match netlink.send(&[route::delete_link(index)]) {
        Err(Refused { source, .. }) if source.raw_os_error() != Some(libc::ENODEV) => Err(source),
        _ => Ok(()),
    }
}

fn taken(bridge: &BridgeSpec, owner: &str) -> Error {
    Error::LinkTaken { link: bridge.link.clone(), owner: owner.to_owned() }
}

fn create(netlink: &mut Netlink, instance: &InstanceId, bridge: &BridgeSpec) -> Result<(), Error> {
    let failed = |source| Error::kernel("create bridge", &bridge.link, source);
    let mac = mac::random().map_err(failed)?;
    // In one message, all of which the kernel carries out: whoever is killed in between would leave a bridge that nobody knows for ours.
    let requests = [
        route::new_bridge(&bridge.link, mac, bridge.mtu),
        route::mark(&bridge.link, &instance.alias(&bridge.network_id)),
    ];
    netlink.send(&requests).map_err(|Refused { source, .. }| failed(source))
}

/// Before the link is up, so that nothing is learnt from router advertisements.
fn set_sysctls(bridge: &BridgeSpec) -> Result<(), Error> {
    let link = &bridge.link;
    // A connection from 127.0.0.1 to a published port leaves by this link before its source is
    // replaced; the firewall drops what comes in with such addresses.
    sysctl::write(&format!("ipv4/conf/{link}/route_localnet"), "1")?;
    sysctl::write_if_present(&format!("ipv6/conf/{link}/accept_ra"), "0")?;
    let disable_ipv6 = if bridge.ipv6 { "0" } else { "1" };
    sysctl::write_if_present(&format!("ipv6/conf/{link}/disable_ipv6"), disable_ipv6)
}

/// Which addresses the bridge has too many, and which it lacks.
fn address_changes(
    netlink: &mut Netlink,
    index: u32,
    bridge: &BridgeSpec,
    is_ours: bool,
) -> Result<(Vec<IpNet>, Vec<IpNet>), Error> {
    let present: Vec<IpNet> = route::addresses(netlink)
        .map_err(|source| Error::kernel("list addresses", &bridge.link, source))?
        .into_iter()
        .filter_map(|(link, net)| (link == index).then_some(net))
        .collect();
    let is_link_local = |net: &IpNet| matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local());
    let is_superfluous = |net: &&IpNet| is_ours && !bridge.gateways.contains(net) && !is_link_local(net);
    let superfluous = present.iter().filter(is_superfluous).copied().collect();
    // Without a link-local address that is ready at once the kernel would ask for no neighbour.
    let link_local = bridge.ipv6.then_some(IpNet::V6(LINK_LOCAL));
    let wanted = bridge.gateways.iter().copied().chain(link_local);
    Ok((superfluous, wanted.filter(|net| !present.contains(net)).collect()))
}
