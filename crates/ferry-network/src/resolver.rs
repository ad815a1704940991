//! The daemon's side of the containers' resolvers: their sockets are made here, inside the containers' namespaces, and answered by
//! `ferry-netd`.
//!
//! A container asks 127.0.0.11, port 53. The sockets lie on other ports there, to which a table in the container's own namespace leads,
//! so that a name server which runs in the container can have port 53. What was handed over is also in memory here, with the
//! namespace: a process that was killed is started again and given everything anew.

use std::{
    collections::{BTreeMap, HashSet},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, OwnedFd},
};

use crate::{
    error::Error,
    firewall::{self, Questions},
    netd::client::Client,
    sandbox::Sandbox,
    types::{Named, ResolverSpec},
};

/// Where containers find their resolver.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;

/// What `ferry-netd` answers, for whom and with which names.
#[derive(Debug, Default)]
pub(crate) struct Resolvers {
    /// With the namespace, which is needed again should the process be killed.
    answered: BTreeMap<String, (OwnedFd, ResolverSpec)>,
    names: BTreeMap<(String, String), Named>,
    /// Those that an earlier daemon handed over to a process that lives.
    taken_up: HashSet<String>,
}

impl Resolvers {
    /// Takes up what a living `ferry-netd` answers; one of an earlier version answers nobody.
    pub(crate) fn open(client: &mut Client) -> Self {
        let taken_up = client.resolvers().unwrap_or_default().into_iter().collect();
        Self { taken_up, ..Self::default() }
    }

    /// Whether the container's sockets are there already.
    pub(crate) fn has_sockets(&self, container_id: &str) -> bool {
        self.answered.contains_key(container_id) || self.taken_up.contains(container_id)
    }

    /// Containers that have something here.
    pub(crate) fn containers(&self) -> HashSet<String> {
        let with_names = self.names.keys().map(|(_, container_id)| container_id);
        self.answered.keys().chain(&self.taken_up).chain(with_names).cloned().collect()
    }

    /// Has a container answered; `sockets` are new ones, or none where it has some.
    pub(crate) fn resolve(
        &mut self,
        client: &mut Client,
        sandbox: &Sandbox,
        spec: &ResolverSpec,
        sockets: &[OwnedFd],
    ) -> Result<(), Error> {
        client.resolve(spec, sockets)?;
        let namespace = sandbox.as_fd().try_clone_to_owned().map_err(Error::Namespace)?;
        self.answered.insert(spec.container_id.clone(), (namespace, spec.clone()));
        Ok(())
    }

    pub(crate) fn join(&mut self, client: &mut Client, named: Named) -> Result<(), Error> {
        client.join(&named)?;
        self.names.insert((named.network_id.clone(), named.container_id.clone()), named);
        Ok(())
    }

    pub(crate) fn leave(&mut self, client: &mut Client, network_id: &str, container_id: &str) -> Result<(), Error> {
        match self.names.remove(&(network_id.to_owned(), container_id.to_owned())) {
            Some(_) => client.leave(network_id, container_id),
            None => Ok(()),
        }
    }

    /// Forgets a container: its sockets are closed, its names go.
    pub(crate) fn forget(&mut self, client: &mut Client, container_id: &str) -> Result<(), Error> {
        let had_sockets = self.answered.remove(container_id).is_some() | self.taken_up.remove(container_id);
        let before = self.names.len();
        self.names.retain(|(_, owner), _| owner != container_id);
        match had_sockets || self.names.len() != before {
            true => client.forget(container_id),
            false => Ok(()),
        }
    }

    /// Gives a process that was just started everything that an earlier one had.
    pub(crate) fn hand_over(&mut self, client: &mut Client) -> Result<(), Error> {
        self.taken_up.clear();
        for named in self.names.values() {
            client.join(named)?;
        }
        for (container_id, (namespace, spec)) in &self.answered {
            let sandbox = Sandbox::from(namespace.try_clone().map_err(Error::Namespace)?);
            match open_sockets(&sandbox) {
                Ok(sockets) => client.resolve(spec, &sockets)?,
                Err(error) => tracing::warn!(container = container_id, %error, "resolver of a container was lost"),
            }
        }
        Ok(())
    }
}

/// Makes the two sockets of a container and leads its questions to them.
pub(crate) fn open_sockets(sandbox: &Sandbox) -> Result<[OwnedFd; 2], Error> {
    sandbox.run_inside(|| {
        let failed = |source| Error::kernel("listen on", format!("{RESOLVER} in the container"), source);
        let (datagrams, listener) = bind(0).map_err(failed)?;
        let ports = (local_port(datagrams.local_addr()), local_port(listener.local_addr()));
        let questions = Questions { resolver: RESOLVER, port: PORT, datagrams: ports.0, stream: ports.1 };
        match firewall::lead(questions) {
            Ok(()) => Ok([datagrams.into(), listener.into()]),
            Err(error) => {
                // A kernel without nftables: the port itself then, if nothing in the container has it yet.
                tracing::debug!(%error, "questions of a container cannot be led to other ports");
                let (datagrams, listener) = bind(PORT).map_err(failed)?;
                Ok([datagrams.into(), listener.into()])
            }
        }
    })
}

fn bind(port: u16) -> std::io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::bind((RESOLVER, port))?, TcpListener::bind((RESOLVER, port))?))
}

fn local_port(address: std::io::Result<SocketAddr>) -> u16 {
    address.map_or(PORT, |address| address.port())
}
