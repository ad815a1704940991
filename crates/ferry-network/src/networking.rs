//! The one object the engine talks to.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ipnet::{IpNet, Ipv4Net};

use crate::{
    bridge, endpoint,
    error::Error,
    netlink::{self, Netlink},
    sandbox::{Sandbox, open_route},
    subnet, sysctl,
    types::{BridgeSpec, EndpointSpec, Live, Options, PortRequest, PublishedPort, Swept},
};

/// The networks of one engine instance.
///
/// Calls come from threads in the namespace in which `open` was called: the host's.
#[derive(Debug)]
pub struct Networking {
    options: Options,
    route: Mutex<Netlink>,
}

fn pending<T>(what: &str) -> Result<T, Error> {
    Err(Error::Invalid(format!("{what} is not built yet")))
}

impl Networking {
    /// Opens the kernel's sockets and takes up what an earlier daemon of the instance left.
    ///
    /// # Errors
    /// Fails without the right to administer the network.
    pub fn open(options: Options) -> Result<Self, Error> {
        let route = open_route().map_err(|source| Error::kernel("open", "netlink socket", source))?;
        Ok(Self { options, route: Mutex::new(route) })
    }

    /// Makes the bridge with its addresses and rules, or brings an existing one to the
    /// specification.
    ///
    /// # Errors
    /// `LinkTaken` when the name belongs to somebody else.
    pub fn ensure_bridge(&self, bridge: &BridgeSpec) -> Result<(), Error> {
        bridge::ensure(&mut self.route(), &self.options.instance, bridge)?;
        self.forward(bridge)
    }

    /// Removes the bridge and its rules; a bridge that is gone or not ours is left alone.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn remove_bridge(&self, network_id: &str, link: &str) -> Result<(), Error> {
        bridge::remove(&mut self.route(), &self.options.instance, network_id, link)
    }

    /// Returns the first subnet of the default pools that meets no route or address of the host
    /// and none of `taken`.
    ///
    /// # Errors
    /// `NoSubnet` when there is none.
    pub fn choose_subnet(&self, taken: &[IpNet]) -> Result<Ipv4Net, Error> {
        let mut route = self.route();
        let failed = |source| Error::kernel("list", "routes and addresses", source);
        let mut used = netlink::route::route_destinations(&mut route).map_err(failed)?;
        used.extend(netlink::route::addresses(&mut route).map_err(failed)?.into_iter().map(|(_, net)| net));
        used.extend_from_slice(taken);
        subnet::first_free(&self.options.default_pools, &used).ok_or(Error::NoSubnet)
    }

    /// Makes a network namespace with loopback up and Docker's sysctls set.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn new_sandbox(&self) -> Result<Sandbox, Error> {
        Sandbox::new()
    }

    /// Opens the namespace of a running process.
    ///
    /// # Errors
    /// Fails when there is no such process.
    pub fn open_sandbox_of(&self, pid: u32) -> Result<Sandbox, Error> {
        Sandbox::of_process(pid)
    }

    /// Attaches a sandbox to a network.
    ///
    /// # Errors
    /// Fails when the kernel refuses; nothing is left then.
    pub fn attach(&self, sandbox: &Sandbox, endpoint: &EndpointSpec) -> Result<(), Error> {
        endpoint::attach(&mut self.route(), &self.options.instance, sandbox, endpoint)
    }

    /// Detaches a sandbox that goes on living; closing a namespace needs no detaching.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn detach(&self, sandbox: &Sandbox, endpoint: &EndpointSpec) -> Result<(), Error> {
        endpoint::detach(sandbox, endpoint)
    }

    /// Publishes ports of a container, all or none. Asked again for the same container with the
    /// same arguments it returns the same ports.
    ///
    /// # Errors
    /// `PortAllocated` and `PortBind` with Docker's texts.
    pub fn publish(
        &self,
        container_id: &str,
        _endpoint_v4: Option<Ipv4Addr>,
        _endpoint_v6: Option<Ipv6Addr>,
        _ports: &[PortRequest],
    ) -> Result<Vec<PublishedPort>, Error> {
        pending(container_id)
    }

    /// Takes back every published port of a container.
    ///
    /// # Errors
    /// Fails when the kernel or `ferry-netd` refuses; a container without ports is fine.
    pub fn unpublish(&self, container_id: &str) -> Result<(), Error> {
        pending(container_id)
    }

    /// Removes what carries the instance's mark and is in no record, and puts back what is missing.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn sweep(&self, _live: &Live) -> Result<Swept, Error> {
        pending("sweep")
    }

    /// Ends the work; with `remove_everything` the tables, the accepts in tables of others and the
    /// bridges go too.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn close(&self, _remove_everything: bool) -> Result<(), Error> {
        Ok(())
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
            sysctl::write("ipv6/conf/all/forwarding", "1")?;
        }
        Ok(())
    }
}
