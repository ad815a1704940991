//! Published ports: which container has which, choosing them, and binding their sockets; and all else that `ferry-netd` holds, since
//! there is one connection to it.
//!
//! The sockets are bound here, so that the kernel's answer decides and the error is the caller's, and
//! held by `ferry-netd`. What is held there is also in memory here; a process that was killed is
//! started again and given everything anew.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    os::fd::{AsFd, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};

use crate::{
    error::Error,
    netd::{
        client::{Client, Found},
        protocol::{HeldPort, Publication, SOCKETS_PER_REQUEST},
    },
    resolver::Resolvers,
    sandbox::Sandbox,
    sysctl,
    types::{Named, PortRequest, Protocol, PublishedPort, ResolverSpec},
};

/// Where the kernel does not tell its own ephemeral range; as in Docker.
const FALLBACK_RANGE: RangeInclusive<u16> = 49153..=65535;
/// Connections are only waiting here where the firewall does not translate.
const BACKLOG: i32 = 256;

/// The published ports of all containers of the instance.
#[derive(Debug)]
pub(crate) struct Ports {
    client: Client,
    resolvers: Resolvers,
    publications: BTreeMap<String, Publication>,
    /// Where the search for the next ephemeral port begins: a port is not given twice in a row.
    next_ephemeral: u16,
}

/// A port bound but not yet handed over.
struct Bound {
    port: PublishedPort,
    socket: Option<OwnedFd>,
}

impl Ports {
    /// Takes up what a living `ferry-netd` holds.
    pub(crate) fn open(mut client: Client) -> Result<Self, Error> {
        let held = client.list()?.unwrap_or_default();
        let publications =
            held.into_iter().map(|publication| (publication.container_id.clone(), publication)).collect();
        let resolvers = Resolvers::open(&mut client);
        Ok(Self { client, resolvers, publications, next_ephemeral: 0 })
    }

    /// Returns the resolvers.
    pub(crate) fn resolvers(&self) -> &Resolvers {
        &self.resolvers
    }

    /// Has a container answered; see [`Resolvers::resolve`].
    pub(crate) fn resolve(&mut self, sandbox: &Sandbox, spec: &ResolverSpec, sockets: &[OwnedFd]) -> Result<(), Error> {
        self.restart_if_dead()?;
        self.resolvers.resolve(&mut self.client, sandbox, spec, sockets)
    }

    /// Tells a container's names in a network.
    pub(crate) fn join(&mut self, named: Named) -> Result<(), Error> {
        self.restart_if_dead()?;
        self.resolvers.join(&mut self.client, named)
    }

    /// Takes them back.
    pub(crate) fn leave(&mut self, network_id: &str, container_id: &str) -> Result<(), Error> {
        self.resolvers.leave(&mut self.client, network_id, container_id)
    }

    /// Forgets the resolver and names of a container.
    pub(crate) fn forget(&mut self, container_id: &str) -> Result<(), Error> {
        self.resolvers.forget(&mut self.client, container_id)
    }

    /// Returns what every container has.
    pub(crate) fn publications(&self) -> impl Iterator<Item = &Publication> {
        self.publications.values()
    }

    /// Returns what a container has if it is what is asked for, in the order of the requests.
    pub(crate) fn already_published(
        &self,
        container_id: &str,
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
        requests: &[PortRequest],
    ) -> Option<Vec<PublishedPort>> {
        let publication = self.publications.get(container_id)?;
        if (publication.v4, publication.v6) != (v4, v6) {
            return None;
        }
        let mut left = publication.published();
        let mut found = Vec::new();
        for request in requests {
            let matching = matching_ports(request, &left)?;
            left.retain(|port| !matching.contains(port));
            found.extend(matching);
        }
        left.is_empty().then_some(found)
    }

    /// Binds the ports and has them held; all or none.
    pub(crate) fn publish(
        &mut self,
        container_id: &str,
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
        requests: &[PortRequest],
    ) -> Result<Vec<PublishedPort>, Error> {
        let mut bound = Vec::new();
        for request in requests {
            let more = self.bind_request(request, &bound)?;
            bound.extend(more);
        }
        self.restart_if_dead()?;
        let publication = Publication { container_id: container_id.to_owned(), v4, v6, ports: Vec::new() };
        if let Err(error) = hand_over(&mut self.client, &publication, &bound) {
            self.client.release(container_id)?;
            return Err(error);
        }
        let ports: Vec<_> = bound.iter().map(|bound| bound.port.clone()).collect();
        let held = bound.iter().map(Bound::held).collect();
        self.publications.insert(container_id.to_owned(), Publication { ports: held, ..publication });
        Ok(ports)
    }

    /// Has the ports of a container closed and returns what it had.
    pub(crate) fn unpublish(&mut self, container_id: &str) -> Result<Option<Publication>, Error> {
        if !self.publications.contains_key(container_id) {
            return Ok(None);
        }
        self.client.release(container_id)?;
        Ok(self.publications.remove(container_id))
    }

    /// Starts a `ferry-netd` that was killed again and has it hold everything. Returns what was
    /// bound again. A port that somebody else took in between is reported in the log.
    pub(crate) fn restart_if_dead(&mut self) -> Result<Vec<PublishedPort>, Error> {
        let mut rebound = Vec::new();
        if self.client.ensure()? == Found::Alive {
            return Ok(rebound);
        }
        self.resolvers.hand_over(&mut self.client)?;
        for publication in self.publications.values() {
            let mut bound = Vec::new();
            for held in &publication.ports {
                match bind_port(&held.port) {
                    Ok(socket) => bound.push(Bound { port: held.port.clone(), socket }),
                    Err(error) => {
                        let container = &publication.container_id;
                        tracing::warn!(container, %error, "published port was lost");
                    }
                }
            }
            hand_over(&mut self.client, publication, &bound)?;
            rebound.extend(bound.into_iter().map(|bound| bound.port));
        }
        Ok(rebound)
    }

    fn bind_request(&mut self, request: &PortRequest, bound: &[Bound]) -> Result<Vec<Bound>, Error> {
        let (first, last) = (*request.host_ports.start(), *request.host_ports.end());
        if first == 0 {
            return self.bind_ephemeral(request, bound);
        }
        let mut result = Err(Error::Invalid(format!("invalid port range {first}-{last}")));
        for number in first..=last {
            result = self.bind_number(request, number, bound);
            match &result {
                Err(error) if is_busy(error) => {}
                _ => break,
            }
        }
        result
    }

    fn bind_ephemeral(&mut self, request: &PortRequest, bound: &[Bound]) -> Result<Vec<Bound>, Error> {
        let range = ephemeral_range();
        let start = if range.contains(&self.next_ephemeral) { self.next_ephemeral } else { *range.start() };
        for number in (start..=*range.end()).chain(*range.start()..start) {
            match self.bind_number(request, number, bound) {
                Err(error) if is_busy(&error) => {}
                result => {
                    self.next_ephemeral = number.checked_add(1).unwrap_or(0);
                    return result;
                }
            }
        }
        Err(Error::PortsExhausted)
    }

    /// Binds one number on every address of the request.
    fn bind_number(&self, request: &PortRequest, number: u16, bound: &[Bound]) -> Result<Vec<Bound>, Error> {
        let both = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
        let one = request.host_ip.map(|ip| [ip]);
        let addresses: &[IpAddr] = one.as_ref().map_or(&both, |one| one);
        let mut result = Vec::new();
        for ip in addresses {
            let port = PublishedPort {
                host_ip: *ip,
                host_port: number,
                container_port: request.container_port,
                protocol: request.protocol,
            };
            self.refuse_taken(&port, bound)?;
            match bind_port(&port) {
                Ok(socket) => result.push(Bound { port, socket }),
                // A host without IPv6.
                Err(Error::PortBind { reason, .. })
                    if request.host_ip.is_none() && ip.is_ipv6() && is_without_family(&reason) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(result)
    }

    fn refuse_taken(&self, port: &PublishedPort, bound: &[Bound]) -> Result<(), Error> {
        let held = self.publications.values().flat_map(|publication| &publication.ports).map(|held| &held.port);
        let mut taken = held.chain(bound.iter().map(|bound| &bound.port));
        match taken.any(|other| collide(other, port)) {
            true => Err(Error::PortAllocated { host_ip: port.host_ip, host_port: port.host_port }),
            false => Ok(()),
        }
    }
}

impl Bound {
    fn held(&self) -> HeldPort {
        HeldPort { port: self.port.clone(), has_socket: self.socket.is_some() }
    }
}

fn hand_over(client: &mut Client, publication: &Publication, bound: &[Bound]) -> Result<(), Error> {
    for bound in bound.chunks(SOCKETS_PER_REQUEST) {
        let sockets: Vec<_> = bound.iter().filter_map(|bound| bound.socket.as_ref()).map(AsFd::as_fd).collect();
        let ports = bound.iter().map(Bound::held).collect();
        client.hold(Publication { ports, ..publication.clone() }, &sockets)?;
    }
    Ok(())
}

/// Two ports cannot both be had.
fn collide(one: &PublishedPort, two: &PublishedPort) -> bool {
    one.protocol == two.protocol
        && one.host_port == two.host_port
        && one.host_ip.is_ipv4() == two.host_ip.is_ipv4()
        && (one.host_ip == two.host_ip || one.host_ip.is_unspecified() || two.host_ip.is_unspecified())
}

/// Returns the ports that answer a request.
fn matching_ports(request: &PortRequest, ports: &[PublishedPort]) -> Option<Vec<PublishedPort>> {
    let is_wanted_number = |number: u16| *request.host_ports.start() == 0 || request.host_ports.contains(&number);
    let is_wanted_address = |ip: IpAddr| request.host_ip.map_or(ip.is_unspecified(), |wanted| wanted == ip);
    let fits = |port: &&PublishedPort| {
        port.protocol == request.protocol
            && port.container_port == request.container_port
            && is_wanted_number(port.host_port)
            && is_wanted_address(port.host_ip)
    };
    let first = ports.iter().find(fits)?;
    // Without an address there are two of the same number.
    Some(ports.iter().filter(fits).filter(|port| port.host_port == first.host_port).cloned().collect())
}

fn ephemeral_range() -> RangeInclusive<u16> {
    let text = sysctl::read("ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) if 0 < first && first <= last => first..=last,
        _ => FALLBACK_RANGE,
    }
}

/// Binds a port so that others cannot. None when the kernel lacks the protocol.
fn bind_port(port: &PublishedPort) -> Result<Option<OwnedFd>, Error> {
    match try_bind(port) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => Ok(None),
        Err(error) => Err(Error::PortBind {
            host_ip: port.host_ip,
            host_port: port.host_port,
            protocol: port.protocol,
            reason: reason(&error),
        }),
    }
}

fn try_bind(port: &PublishedPort) -> io::Result<OwnedFd> {
    let family = if port.host_ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, protocol) = match port.protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol))?;
    if port.host_ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    let listens = port.protocol != Protocol::Udp;
    if listens {
        // Or relayed connections of an earlier container would keep the port for a minute. A
        // listening socket keeps others out all the same.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(port.host_ip, port.host_port))?;
    if listens {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

/// The kernel's reason in Go's words, which are what Docker's clients know.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => ADDRESS_IN_USE.to_owned(),
        Some(libc::EADDRNOTAVAIL) => NOT_AVAILABLE.to_owned(),
        Some(libc::EAFNOSUPPORT) => NO_FAMILY.to_owned(),
        Some(libc::EACCES) => "permission denied".to_owned(),
        Some(libc::EMFILE) => "too many open files".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_lowercase()
        }
    }
}

const ADDRESS_IN_USE: &str = "address already in use";
const NOT_AVAILABLE: &str = "cannot assign requested address";
const NO_FAMILY: &str = "address family not supported by protocol";

fn is_busy(error: &Error) -> bool {
    match error {
        Error::PortAllocated { .. } => true,
        Error::PortBind { reason, .. } => reason == ADDRESS_IN_USE,
        _ => false,
    }
}

fn is_without_family(reason: &str) -> bool {
    reason == NOT_AVAILABLE || reason == NO_FAMILY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host_ip: &str, host_port: u16, container_port: u16) -> PublishedPort {
        let host_ip = host_ip.parse().expect("an address");
        PublishedPort { host_ip, host_port, container_port, protocol: Protocol::Tcp }
    }

    fn request(host_ip: Option<&str>, host_ports: RangeInclusive<u16>, container_port: u16) -> PortRequest {
        let host_ip = host_ip.map(|ip| ip.parse().expect("an address"));
        PortRequest { host_ip, host_ports, container_port, protocol: Protocol::Tcp }
    }

    #[test]
    fn ports_collide_where_addresses_overlap() {
        let collides = |one, two| collide(&port(one, 80, 1), &port(two, 80, 2));
        assert!(collides("0.0.0.0", "127.0.0.1") && collides("127.0.0.1", "127.0.0.1") && collides("::", "::1"));
        assert!(!collides("127.0.0.1", "127.0.0.2") && !collides("0.0.0.0", "::"));
        assert!(!collide(&port("0.0.0.0", 80, 1), &port("0.0.0.0", 81, 1)));
        assert!(!collide(
            &port("0.0.0.0", 80, 1),
            &PublishedPort { protocol: Protocol::Udp, ..port("0.0.0.0", 80, 1) }
        ));
    }

    #[test]
    fn what_is_published_is_recognised_by_its_request() {
        let held = [port("0.0.0.0", 8080, 80), port("::", 8080, 80), port("127.0.0.1", 9000, 80)];
        assert_eq!(matching_ports(&request(None, 8080..=8080, 80), &held), Some(held[..2].to_vec()));
        assert_eq!(matching_ports(&request(None, 0..=0, 80), &held), Some(held[..2].to_vec()));
        assert_eq!(matching_ports(&request(Some("127.0.0.1"), 9000..=9010, 80), &held), Some(held[2..].to_vec()));
        assert_eq!(matching_ports(&request(Some("127.0.0.1"), 8080..=8080, 80), &held), None);
        assert_eq!(matching_ports(&request(None, 8080..=8080, 81), &held), None);
    }

    #[test]
    fn reasons_are_in_gos_words() {
        let text = |code| reason(&io::Error::from_raw_os_error(code));
        assert_eq!(text(libc::EADDRINUSE), "address already in use");
        assert_eq!(text(libc::EADDRNOTAVAIL), "cannot assign requested address");
        assert_eq!(text(libc::ENOBUFS), "no buffer space available");
    }

    #[test]
    fn errors_have_dockers_texts() {
        let allocated = Error::PortAllocated { host_ip: Ipv4Addr::UNSPECIFIED.into(), host_port: 8080 };
        assert_eq!(allocated.to_string(), "Bind for 0.0.0.0:8080 failed: port is already allocated");
        let bind = |host_ip: &str| Error::PortBind {
            host_ip: host_ip.parse().expect("an address"),
            host_port: 8080,
            protocol: Protocol::Tcp,
            reason: ADDRESS_IN_USE.to_owned(),
        };
        assert_eq!(bind("0.0.0.0").to_string(), "failed to bind host port 0.0.0.0:8080/tcp: address already in use");
        assert_eq!(bind("::").to_string(), "failed to bind host port [::]:8080/tcp: address already in use");
    }
}
