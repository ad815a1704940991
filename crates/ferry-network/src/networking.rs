//! The one object the engine talks to.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::{
    error::Error,
    sandbox::Sandbox,
    types::{BridgeSpec, EndpointSpec, Live, Options, PortRequest, PublishedPort, Swept},
};

/// The networks of one engine instance.
#[derive(Debug)]
pub struct Networking {
    options: Options,
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
        Ok(Self { options })
    }

    /// Makes the bridge with its addresses and rules, or brings an existing one to the
    /// specification.
    ///
    /// # Errors
    /// `LinkTaken` when the name belongs to somebody else.
    pub fn ensure_bridge(&self, bridge: &BridgeSpec) -> Result<(), Error> {
        pending(&bridge.link)
    }

    /// Removes the bridge and its rules; a bridge that is gone or not ours is left alone.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn remove_bridge(&self, network_id: &str, _link: &str) -> Result<(), Error> {
        pending(network_id)
    }

    /// Returns the first subnet of the default pools that meets no route or address of the host
    /// and none of `taken`.
    ///
    /// # Errors
    /// `NoSubnet` when there is none.
    pub fn choose_subnet(&self, _taken: &[IpNet]) -> Result<Ipv4Net, Error> {
        Err(Error::NoSubnet)
    }

    /// Makes a network namespace with loopback up and Docker's sysctls set.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn new_sandbox(&self) -> Result<Sandbox, Error> {
        pending(self.options.instance.as_str())
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
    pub fn attach(&self, _sandbox: &Sandbox, endpoint: &EndpointSpec) -> Result<(), Error> {
        pending(&endpoint.interface)
    }

    /// Detaches a sandbox that goes on living; closing a namespace needs no detaching.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn detach(&self, _sandbox: &Sandbox, endpoint: &EndpointSpec) -> Result<(), Error> {
        pending(&endpoint.interface)
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
}
