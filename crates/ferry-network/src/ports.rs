//! Published ports: which container has which, choosing them, and binding their sockets; and all else that `ferry-netd` holds, since
//! there is one connection to it.
//!
//! The sockets are bound here, so that the kernel's answer decides and the error is the caller's, and
//! held by `ferry-netd`. What is held there is also in memory here; a process that was killed is
//! started again and given everything anew.

use std::{
    collections::{BTreeMap, HashMap},
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
    shortcut::Shortcuts,
    sysctl,
    types::{Named, PortRequest, PortTarget, Protocol, PublishedPort, ResolverSpec},
};

/// Where the kernel does not tell its own ephemeral range; as in Docker.
const FALLBACK_RANGE: RangeInclusive<u16> = 49153..=65535;
/// Sockets that are held for one container. The ports of a longer list are tried, so that a conflict is found at the start, and
/// given back: what comes for them is translated before it could reach a socket.
const HELD_PORTS: usize = 64;
/// How often a process is started for one thing.
const ATTEMPTS: usize = 3;
/// Connections are only waiting here where the firewall does not translate.
const BACKLOG: i32 = 256;

/// The published ports of all containers of the instance.
#[derive(Debug)]
pub(crate) struct Ports {
    client: Client,
    resolvers: Resolvers,
    shortcuts: Shortcuts,
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
    /// Takes up what a living `ferry-netd` holds. Where ports are translated this machine's programs have a short way to them.
    pub(crate) fn open(mut client: Client, are_translated: bool) -> Result<Self, Error> {
        let held = client.list()?;
        let mut shortcuts = Shortcuts::new(are_translated);
        if let Some(held) = &held {
            shortcuts.take_over(&mut client, held.iter());
        }
        let publications = held.unwrap_or_default().into_iter();
        let publications = publications.map(|publication| (publication.container_id.clone(), publication)).collect();
        let resolvers = Resolvers::open(&mut client);
        Ok(Self { client, resolvers, shortcuts, publications, next_ephemeral: 0 })
    }

    /// Returns the resolvers.
    pub(crate) fn resolvers(&self) -> &Resolvers {
        &self.resolvers
    }

    /// Has a container answered; see [`Resolvers::resolve`].
    pub(crate) fn resolve(&mut self, sandbox: &Sandbox, spec: &ResolverSpec, sockets: &[OwnedFd]) -> Result<(), Error> {
        self.with_process(|client, resolvers| resolvers.resolve(client, sandbox, spec, sockets))
    }

    /// Tells a container's names in a network.
    pub(crate) fn join(&mut self, named: Named) -> Result<(), Error> {
        self.with_process(|client, resolvers| resolvers.join(client, named.clone()))
    }

    /// Has a living process do something. One that ended between being found and being asked, as one does that holds nothing, is started
    /// again.
    fn with_process(
        &mut self,
        mut work: impl FnMut(&mut Client, &mut Resolvers) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for _ in 1..ATTEMPTS {
            self.restart_if_dead()?;
            match work(&mut self.client, &mut self.resolvers) {
                Err(Error::NetdLost(error)) => tracing::debug!(%error, "ferry-netd ended while it was asked"),
                done => return done,
            }
        }
        self.restart_if_dead()?;
        work(&mut self.client, &mut self.resolvers)
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
        target: &PortTarget,
        requests: &[PortRequest],
    ) -> Option<Vec<PublishedPort>> {
        let publication = self.publications.get(container_id)?;
        if publication.target != *target {
            return None;
        }
        // By what they lead to: a range of thousands must not be searched for each of its ports.
        let mut left: HashMap<(Protocol, u16), Vec<PublishedPort>> = HashMap::new();
        for port in publication.published() {
            left.entry((port.protocol, port.container_port)).or_default().push(port);
        }
        let mut found = Vec::new();
        for request in requests {
            let candidates = left.get_mut(&(request.protocol, request.container_port))?;
            let matching = matching_ports(request, candidates)?;
            candidates.retain(|port| !matching.contains(port));
            found.extend(matching);
        }
        left.values().all(Vec::is_empty).then_some(found)
    }

    /// Binds the ports and has them held; all or none.
    pub(crate) fn publish(
        &mut self,
        container_id: &str,
        target: &PortTarget,
        requests: &[PortRequest],
    ) -> Result<Vec<PublishedPort>, Error> {
        let mut taken = Taken::of(self.publications.values());
        let mut bound = Vec::new();
        let mut held = 0;
        for request in requests {
            let mut more = self.bind_request(request, target, &mut taken)?;
            release_all_but(&mut more, HELD_PORTS.saturating_sub(held));
            held += more.iter().filter(|bound| bound.socket.is_some()).count();
            bound.extend(more);
        }
        let publication = Publication { container_id: container_id.to_owned(), target: *target, ports: Vec::new() };
        if let Err(error) = self.with_process(|client, _| hand_over(client, &publication, &bound)) {
            self.client.release(container_id)?;
            return Err(error);
        }
        let ports: Vec<_> = bound.iter().map(|bound| bound.port.clone()).collect();
        let held = bound.iter().map(Bound::held).collect();
        let publication = Publication { ports: held, ..publication };
        self.shortcuts.lead(&mut self.client, &publication);
        self.publications.insert(container_id.to_owned(), publication);
        Ok(ports)
    }

    /// Has the ports of a container closed and returns what it had.
    pub(crate) fn unpublish(&mut self, container_id: &str) -> Result<Option<Publication>, Error> {
        if !self.publications.contains_key(container_id) {
            return Ok(None);
        }
        self.client.release(container_id)?;
        let publication = self.publications.remove(container_id);
        if let Some(publication) = &publication {
            self.shortcuts.leave(&mut self.client, publication);
        }
        Ok(publication)
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
                if held.port.host_port == 0 {
                    bound.push(Bound { port: held.port.clone(), socket: None });
                    continue;
                }
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
        self.shortcuts.process_started(&mut self.client);
        Ok(rebound)
    }

    fn bind_request(
        &mut self,
        request: &PortRequest,
        target: &PortTarget,
        taken: &mut Taken,
    ) -> Result<Vec<Bound>, Error> {
        let routed = routed_ports(request, target);
        if !routed.is_empty() && !request.from.is_empty() {
            let text = "who may reach a port cannot be chosen in a network whose gateway mode is `routed`";
            return Err(Error::Invalid(text.to_owned()));
        }
        let Some(request) = translated_request(request, target) else { return Ok(routed) };
        let mut ports = self.bind_translated(&request, taken)?;
        ports.iter().for_each(|bound| taken.add(&bound.port));
        ports.extend(routed);
        Ok(ports)
    }

    fn bind_translated(&mut self, request: &PortRequest, taken: &Taken) -> Result<Vec<Bound>, Error> {
        let (first, last) = (*request.host_ports.start(), *request.host_ports.end());
        if first == 0 {
            return self.bind_ephemeral(request, taken);
        }
        let mut result = Err(Error::Invalid(format!("invalid port range {first}-{last}")));
        for number in first..=last {
            result = bind_number(request, number, taken);
            match &result {
                Err(error) if is_busy(error) => {}
                _ => break,
            }
        }
        result
    }

    fn bind_ephemeral(&mut self, request: &PortRequest, taken: &Taken) -> Result<Vec<Bound>, Error> {
        let range = ephemeral_range();
        let start = if range.contains(&self.next_ephemeral) { self.next_ephemeral } else { *range.start() };
        for number in (start..=*range.end()).chain(*range.start()..start) {
            match bind_number(request, number, taken) {
                Err(error) if is_busy(&error) => {}
                result => {
                    self.next_ephemeral = number.checked_add(1).unwrap_or(0);
                    return result;
                }
            }
        }
        Err(Error::PortsExhausted)
    }
}

/// Binds one number on every address of the request.
fn bind_number(request: &PortRequest, number: u16, taken: &Taken) -> Result<Vec<Bound>, Error> {
    let both = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    let one = request.host_ip.map(|ip| [ip]);
    let addresses: &[IpAddr] = one.as_ref().map_or(&both, |one| one);
    let port = |ip: IpAddr| PublishedPort {
        host_ip: ip,
        host_port: number,
        container_port: request.container_port,
        protocol: request.protocol,
        from: request.from.clone(),
    };
    addresses.iter().try_for_each(|ip| taken.refuse(&port(*ip)))?;
    let mut result = Vec::new();
    for ip in addresses {
        let port = port(*ip);
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

/// Who has the bound ports is told by the first of a container; beyond those a socket for each would cost more than it saves.
fn release_all_but(bound: &mut [Bound], kept: usize) {
    for bound in bound.iter_mut().filter(|bound| bound.socket.is_some()).skip(kept) {
        bound.socket = None;
    }
}

/// Ports of this instance's containers, by their numbers.
#[derive(Debug, Default)]
struct Taken(HashMap<(Protocol, u16), Vec<IpAddr>>);

impl Taken {
    fn of<'a>(publications: impl Iterator<Item = &'a Publication>) -> Self {
        let mut taken = Self::default();
        publications.flat_map(|publication| &publication.ports).for_each(|held| taken.add(&held.port));
        taken
    }

    fn add(&mut self, port: &PublishedPort) {
        // Routed ports are bound nowhere.
        if port.host_port != 0 {
            self.0.entry((port.protocol, port.host_port)).or_default().push(port.host_ip);
        }
    }

    fn refuse(&self, port: &PublishedPort) -> Result<(), Error> {
        let others = self.0.get(&(port.protocol, port.host_port));
        match others.is_some_and(|others| others.iter().any(|other| meet(*other, port.host_ip))) {
            true => Err(Error::PortAllocated { host_ip: port.host_ip, host_port: port.host_port }),
            false => Ok(()),
        }
    }
}

/// Whether one port cannot be had on both addresses.
fn meet(one: IpAddr, two: IpAddr) -> bool {
    one.is_ipv4() == two.is_ipv4() && (one == two || one.is_unspecified() || two.is_unspecified())
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

/// Ports of families that are not translated: nothing is bound.
fn routed_ports(request: &PortRequest, target: &PortTarget) -> Vec<Bound> {
    let both =
        [(target.routed4, IpAddr::from(Ipv4Addr::UNSPECIFIED)), (target.routed6, IpAddr::from(Ipv6Addr::UNSPECIFIED))];
    let wanted = |ip: IpAddr| request.host_ip.is_none_or(|asked| asked.is_ipv4() == ip.is_ipv4());
    let routed = both.into_iter().filter(|(is_routed, ip)| *is_routed && wanted(*ip));
    let bound = routed.map(|(_, host_ip)| Bound {
        port: PublishedPort {
            host_ip,
            host_port: 0,
            container_port: request.container_port,
            protocol: request.protocol,
            from: Vec::new(),
        },
        socket: None,
    });
    bound.collect()
}

/// What is left to bind of a request.
fn translated_request(request: &PortRequest, target: &PortTarget) -> Option<PortRequest> {
    let is_routed = |ip: IpAddr| if ip.is_ipv4() { target.routed4 } else { target.routed6 };
    let host_ip = match (request.host_ip, target.routed4, target.routed6) {
        (Some(ip), ..) if is_routed(ip) => return None,
        (None, true, true) => return None,
        (None, true, false) => Some(Ipv6Addr::UNSPECIFIED.into()),
        (None, false, true) => Some(Ipv4Addr::UNSPECIFIED.into()),
        // As in Docker one that has IPv6 alone is published there alone.
        (None, ..) if target.v4.is_none() && target.v6.is_some() => Some(Ipv6Addr::UNSPECIFIED.into()),
        (asked, ..) => asked,
    };
    Some(PortRequest { host_ip, ..request.clone() })
}

/// Returns the ports that answer a request.
fn matching_ports(request: &PortRequest, ports: &[PublishedPort]) -> Option<Vec<PublishedPort>> {
    let is_wanted_number =
        |number: u16| number == 0 || *request.host_ports.start() == 0 || request.host_ports.contains(&number);
    let is_wanted_address = |ip: IpAddr| request.host_ip.map_or(ip.is_unspecified(), |wanted| wanted == ip);
    let fits = |port: &&PublishedPort| {
        port.protocol == request.protocol
            && port.container_port == request.container_port
            && is_wanted_number(port.host_port)
            && is_wanted_address(port.host_ip)
            && port.from == request.from
    };
    let first = ports.iter().find(fits)?;
    // Without an address there are two of the same number.
    let number = ports.iter().filter(fits).map(|port| port.host_port).find(|number| *number != 0);
    let number = number.unwrap_or(first.host_port);
    Some(ports.iter().filter(fits).filter(|port| port.host_port == number || port.host_port == 0).cloned().collect())
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
        PublishedPort { host_ip, host_port, container_port, protocol: Protocol::Tcp, from: Vec::new() }
    }

    fn request(host_ip: Option<&str>, host_ports: RangeInclusive<u16>, container_port: u16) -> PortRequest {
        let host_ip = host_ip.map(|ip| ip.parse().expect("an address"));
        PortRequest { host_ip, host_ports, container_port, protocol: Protocol::Tcp, from: Vec::new() }
    }

    #[test]
    fn ports_collide_where_addresses_overlap() {
        let mut taken = Taken::default();
        taken.add(&port("0.0.0.0", 80, 1));
        taken.add(&port("127.0.0.1", 90, 1));
        taken.add(&port("::", 70, 1));
        let collides = |host_ip, number| taken.refuse(&port(host_ip, number, 2)).is_err();
        assert!(collides("0.0.0.0", 80) && collides("127.0.0.1", 80) && collides("127.0.0.1", 90));
        assert!(collides("0.0.0.0", 90) && collides("::1", 70));
        assert!(!collides("127.0.0.2", 90) && !collides("::", 80) && !collides("0.0.0.0", 81));
        let udp = PublishedPort { protocol: Protocol::Udp, ..port("0.0.0.0", 80, 1) };
        assert!(taken.refuse(&udp).is_ok());
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
