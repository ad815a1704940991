//! Links without a bridge: macvlan and ipvlan links on a parent of the host, and the parents that are made for them.
//!
//! A container's link is made inside its namespace and ends with it. A parent that a network had made carries the instance's mark
//! like a bridge does, so that a sweep finds it.

use crate::{
    bridge::delete,
    error::Error,
    netlink::{Netlink, Refused, Request, route},
    sandbox::Sandbox,
    types::{ChildSpec, EndpointSpec, InstanceId, ParentSpec},
};

/// Tells whether the kernel can make links of a kind. A module for it is loaded by asking.
pub(crate) fn has_kind(netlink: &mut Netlink, kind: &'static str) -> bool {
    // Without a parent a kernel that knows the kind says that one is missing.
    match netlink.send(&[route::new_link_of_kind("ferry-probe", kind)]) {
        Err(Refused { source, .. }) => source.raw_os_error() != Some(libc::EOPNOTSUPP),
        Ok(()) => true,
    }
}

/// Makes the container's link, in its namespace and under its name from the start.
pub(crate) fn attach(
    netlink: &mut Netlink,
    sandbox: &Sandbox,
    endpoint: &EndpointSpec,
    child: &ChildSpec,
) -> Result<(), Error> {
    use std::os::fd::AsFd;
    let parent = route::link_by_name(netlink, &child.parent)
        .map_err(|source| Error::kernel("look up link", &child.parent, source))?
        .ok_or_else(|| Error::NoParent(child.parent.clone()))?;
    let link = route::ChildLink {
        parent_index: parent.index,
        kind: child.kind,
        interface: &endpoint.interface,
        mac: endpoint.mac,
        mtu: endpoint.mtu,
        namespace: sandbox.as_fd(),
    };
    match netlink.send(&[route::new_child(&link)]) {
        Ok(()) => Ok(()),
        Err(Refused { source, .. }) if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            Err(Error::NoKind(child.kind.name()))
        }
        Err(Refused { source, .. }) => {
            Err(Error::ChildRefused { kind: child.kind.name(), parent: child.parent.clone(), source })
        }
    }
}

/// Makes a parent that is missing; one that is there already is used as it is. Tells whether it was made.
pub(crate) fn ensure_parent(netlink: &mut Netlink, instance: &InstanceId, parent: &ParentSpec) -> Result<bool, Error> {
    let failed = |source| Error::kernel("create link", &parent.link, source);
    if route::link_by_name(netlink, &parent.link).map_err(failed)?.is_some() {
        return Ok(false);
    }
    let requests = match &parent.vlan {
        Some((below, id)) => {
            let below =
                route::link_by_name(netlink, below).map_err(failed)?.ok_or_else(|| Error::NoParent(below.clone()))?;
            vec![("vlan", route::new_vlan(&parent.link, below.index, *id))]
        }
        // Both lead nowhere; a kernel may be built with one of them alone.
        None => ["dummy", "ifb"].map(|kind| (kind, route::new_link_of_kind(&parent.link, kind))).into(),
    };
    make_first(netlink, parent, requests)?;
    netlink
        .send(&[route::mark(&parent.link, &instance.alias(&parent.network_id))])
        .map_err(|Refused { source, .. }| failed(source))?;
    let made = route::link_by_name(netlink, &parent.link).map_err(failed)?;
    let made = made.ok_or_else(|| Error::NoSuchLink(parent.link.clone()))?;
    netlink.send(&[route::link_up(made.index)]).map_err(|Refused { source, .. }| failed(source))?;
    Ok(true)
}

/// Makes a link of the first kind that the kernel has.
fn make_first(netlink: &mut Netlink, parent: &ParentSpec, requests: Vec<(&'static str, Request)>) -> Result<(), Error> {
    let mut missing = Error::NoSuchLink(parent.link.clone());
    for (kind, request) in requests {
        match netlink.send(&[request]) {
            Ok(()) => return Ok(()),
            Err(Refused { source, .. }) if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                missing = Error::NoKind(kind);
            }
            Err(Refused { source, .. }) => return Err(Error::kernel("create link", &parent.link, source)),
        }
    }
    Err(missing)
}

/// Marks a parent as that of this network; one that has gone is fine.
pub(crate) fn adopt_parent(netlink: &mut Netlink, instance: &InstanceId, parent: &ParentSpec) -> Result<(), Error> {
    match netlink.send(&[route::mark(&parent.link, &instance.alias(&parent.network_id))]) {
        Err(Refused { source, .. }) if source.raw_os_error() != Some(libc::ENODEV) => {
            Err(Error::kernel("mark link", &parent.link, source))
        }
        _ => Ok(()),
    }
}

/// Removes a parent that was made for this network.
pub(crate) fn remove_parent(netlink: &mut Netlink, instance: &InstanceId, parent: &ParentSpec) -> Result<(), Error> {
    let failed = |source| Error::kernel("delete link", &parent.link, source);
    let Some(found) = route::link_by_name(netlink, &parent.link).map_err(failed)? else { return Ok(()) };
    if found.alias != Some(instance.alias(&parent.network_id)) {
        return Ok(());
    }
    delete(netlink, found.index).map_err(failed)
}
