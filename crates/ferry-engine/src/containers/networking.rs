//! Containers and their networks: what is asked for at create, had while running, and changed by `/networks/{id}/connect` and `disconnect`.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use ferry_api::container::{CreateRequest, HostConfig};
use ferry_api::network::{ConnectRequest, DisconnectRequest, EndpointIpamConfig, EndpointSettings};
use ferry_network::Sandbox;
use ferry_network::files::{self, ResolvMode};

use super::addresses::{Asked, is_link_local};
use super::process::locked;
use super::record::{EndpointRecord, Record};
use super::state::Status;
use super::{Container, Containers, ports, traffic};
use crate::blocking;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::networks::{self, Changed, Connected, EndpointWish, Running, Wish};

/// What a start made of the network.
pub(super) struct Network {
    pub(super) sandbox: Option<Sandbox>,
    /// By name of the network.
    pub(super) endpoints: BTreeMap<String, EndpointRecord>,
    pub(super) published: Vec<ferry_network::PublishedPort>,
    pub(super) given: bool,
}

impl Containers {
    /// The networks that a container is to be in, by name.
    pub(super) fn endpoints_asked(
        &self,
        request: &CreateRequest,
        host: &HostConfig,
    ) -> Result<BTreeMap<String, EndpointRecord>> {
        let mode = host.network_mode.as_str();
        if mode.starts_with("container:") {
            return Ok(BTreeMap::new());
        }
        let mut endpoints = BTreeMap::from([self.endpoint_of_mode(mode)?]);
        let mode_name = endpoints.keys().next().cloned().unwrap_or_default();
        let asked = request.networking_config.as_ref().and_then(|config| config.endpoints_config.as_ref());
        for (network, settings) in asked.into_iter().flatten() {
            let network = if network == "default" { "bridge" } else { network };
            if network != mode && matches!(mode, "host" | "none") {
                return Err(no_other_network(mode));
            }
            let (name, mut endpoint) = self.endpoint_of_mode(network)?;
            if let Some(settings) = settings {
                self.take_settings(&mut endpoint, network, settings).map_err(|error| match error.kind() {
                    ErrorKind::InvalidArgument if error.text().starts_with(BAD_SETTINGS) => {
                        Error::invalid(format!("invalid config for network {network}: {}", error.text()))
                    }
                    _ => error,
                })?;
            }
            endpoints.insert(name, endpoint);
        }
        if let Some(endpoint) = endpoints.get_mut(&mode_name)
            && endpoint.requested_mac.is_empty()
        {
            endpoint.requested_mac.clone_from(&request.config.mac_address);
        }
        for endpoint in endpoints.values() {
            check_mac(&endpoint.requested_mac)?;
        }
        Ok(endpoints)
    }

    fn endpoint_of_mode(&self, network: &str) -> Result<(String, EndpointRecord)> {
        match self.inner.networks.look_up(network) {
            Ok(found) => {
                let endpoint = EndpointRecord {
                    network_id: found.id,
                    user_defined: found.user_defined,
                    ..EndpointRecord::default()
                };
                Ok((found.name, endpoint))
            }
            Err(_) if network == "bridge" => {
                let text = "there is no default bridge (the daemon runs with `--bridge none`)";
                Err(Error::invalid(text.to_owned()))
            }
            // One that is not there is told by the start: a client takes a 404 here for a missing image.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok((network.to_owned(), EndpointRecord::default())),
            Err(error) => Err(error),
        }
    }

    /// What a client says of an endpoint, as far as its network allows.
    fn take_settings(&self, endpoint: &mut EndpointRecord, network: &str, settings: &EndpointSettings) -> Result<()> {
        // Docker reads addresses while it reads the request.
        let asked = Asked::read(settings.ipam_config.as_ref());
        let asked = asked.map_err(|reason| Error::invalid(format!("invalid JSON: {reason}")))?;
        let aliases = settings.aliases.clone().unwrap_or_default();
        let mut wrong = Vec::new();
        if is_predefined(network) && asked.wants_one() {
            wrong.push("user-specified IP address is supported on user-defined networks only".to_owned());
        }
        if is_predefined(network) && !aliases.is_empty() {
            wrong.push("network-scoped aliases are only supported for user-defined networks".to_owned());
        }
        let found = self.inner.networks.look_up(network).ok();
        wrong.extend(asked.faults(found.as_ref().map(|found| &found.subnets[..])));
        if let Some(list) = settings.driver_opts.as_ref().and_then(|options| options.get(networks::SYSCTLS)) {
            wrong.extend(networks::check_sysctls(list).err());
        }
        for alias in &aliases {
            // An empty one is taken, as in Docker, and is nobody's name.
            if alias.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
                wrong.push(format!("invalid network alias {alias:?}: it has a blank"));
            }
        }
        match wrong.as_slice() {
            [] => {}
            [one] => return Err(Error::invalid(format!("{BAD_SETTINGS}{one}"))),
            all => return Err(Error::invalid(format!("{BAD_SETTINGS}* {}", all.join("\n* ")))),
        }
        if found.is_some_and(|found| asked.wants_one() && !found.has_own_subnet) {
            let text =
                "user specified IP address is supported only when connecting to networks with user configured subnets";
            return Err(Error::invalid(text.to_owned()));
        }
        asked.note(endpoint);
        endpoint.has_aliases = settings.aliases.is_some();
        endpoint.aliases = aliases;
        endpoint.links = settings.links.clone().unwrap_or_default();
        endpoint.gateway_priority = settings.gw_priority;
        endpoint.driver_options = settings.driver_opts.clone().unwrap_or_default();
        endpoint.requested_mac.clone_from(&settings.mac_address);
        check_mac(&endpoint.requested_mac)
    }

    /// Namespace, endpoints, ports; `donor` is the process whose namespace is joined.
    pub(super) fn make_network(&self, record: &Record, donor: Option<BorrowedFd<'_>>) -> Result<Network> {
        if record.host_config.network_mode.starts_with("container:") {
            let sandbox = self.inner.networks.sandbox_of(donor)?;
            return Ok(Network {
                sandbox: Some(sandbox),
                endpoints: BTreeMap::new(),
                published: Vec::new(),
                given: true,
            });
        }
        let (names, wish) = self.wish(record)?;
        let connected = check_link_local(&wish).and_then(|()| self.inner.networks.connect(&wish)).map_err(|error| {
            const HEADING: &str = "failed to set up container networking";
            match error.text().starts_with(HEADING) {
                true => error,
                false => Error::new(error.kind(), HEADING).with_source(error),
            }
        });
        let Connected { sandbox, endpoints, published } = connected?;
        let given = sandbox.is_some();
        Ok(Network { sandbox, endpoints: names.into_iter().zip(endpoints).collect(), published, given })
    }

    /// What a container wants of its networks, with their names in the same order.
    pub(super) fn wish(&self, record: &Record) -> Result<(Vec<String>, Wish)> {
        let names = ordered(record);
        let endpoints = names.iter().map(|name| {
            let asked = record.endpoints[name].clone();
            // As in Docker, which network a name means is settled by the first start.
            let is_settled = record.has_started && !asked.network_id.is_empty();
            let network = if is_settled { asked.network_id.clone() } else { name.clone() };
            EndpointWish { network, asked, names: own_names(record) }
        });
        let wants_ports = !matches!(record.host_config.network_mode.as_str(), "host" | "none");
        let asked =
            record.host_config.dns.iter().flatten().filter_map(|server| server.parse().ok()).collect::<Vec<_>>();
        let wish = Wish {
            container_id: record.id.clone(),
            container_name: record.name.clone(),
            endpoints: endpoints.collect(),
            ports: if wants_ports { ports::requests(record)? } else { Vec::new() },
            name_servers: if asked.is_empty() { self.inner.config.dns.clone() } else { asked },
            shaping: traffic::of(&record.host_config),
            way_around: traffic::way_around(&record.host_config)?,
            egress: traffic::egress_of(&record.host_config),
        };
        Ok((names, wish))
    }

    pub(super) fn note_endpoints(&self, container: &Container, network: &Network) -> Result<()> {
        if network.endpoints.is_empty() {
            return Ok(());
        }
        self.update(container, |record| {
            record.endpoints.extend(network.endpoints.clone());
            record.published.clone_from(&network.published);
        })
    }

    /// `hostname` and `resolv.conf`; `hosts` waits for the address.
    pub(super) fn write_etc(&self, record: &Record, folder: &Path) -> Result<()> {
        let etc = folder.join("etc");
        fs::write(etc.join("hostname"), format!("{}\n", record.config.hostname))
            .context("cannot write the hostname file")?;
        if record.endpoints.is_empty() {
            return Ok(());
        }
        self.write_resolv_conf(record)?;
        // Mounting wants the file to be there; its content comes with the address.
        fs::File::create(etc.join("hosts")).context("cannot write the hosts file").map(drop)
    }

    fn write_resolv_conf(&self, record: &Record) -> Result<()> {
        let config = &self.inner.config;
        let host = &record.host_config;
        let asked = |own: &Option<Vec<String>>, engine: Vec<String>| match own {
            Some(own) if !own.is_empty() => own.clone(),
            _ => engine,
        };
        let mode = match host.network_mode.as_str() {
            "host" => ResolvMode::Host,
            _ if record.endpoints.values().any(|endpoint| endpoint.user_defined) => ResolvMode::Resolver,
            // What it may ask for is seen to by ours.
            _ if host.egress.is_some() => ResolvMode::Resolver,
            _ => ResolvMode::Sandbox { ipv6: self.has_ipv6(record) },
        };
        let text = files::resolv_conf(
            &files::read_host_resolv_conf(),
            &asked(&host.dns, config.dns.iter().map(ToString::to_string).collect()),
            &asked(&host.dns_search, config.dns_search.clone()),
            &asked(&host.dns_options, config.dns_options.clone()),
            mode,
        );
        let text = text.context("cannot make resolv.conf")?;
        let path = self.data_folder(&record.id).join("etc/resolv.conf");
        fs::write(path, text).context("cannot write resolv.conf")
    }

    /// Whether a container gets an IPv6 address.
    fn has_ipv6(&self, record: &Record) -> bool {
        let has = |endpoint: &EndpointRecord| {
            let found = self.inner.networks.look_up(&endpoint.network_id);
            found.is_ok_and(|found| found.subnets.iter().any(|net| net.addr().is_ipv6()))
        };
        record.endpoints.values().any(has)
    }

    /// In place: the container has the file mounted.
    pub(super) fn write_hosts(&self, record: &Record, endpoints: &BTreeMap<String, EndpointRecord>) -> Result<()> {
        let path = self.data_folder(&record.id).join("etc/hosts");
        let extra = extra_hosts(record, endpoints, &self.inner.config.host_gateways)?;
        let text = if record.host_config.network_mode == "host" {
            files::hosts_of_host(&fs::read_to_string("/etc/hosts").unwrap_or_default(), &extra)
        } else {
            let names = ordered(record);
            let addresses: Vec<_> =
                names.iter().filter_map(|name| endpoints.get(name)).flat_map(EndpointRecord::addresses).collect();
            files::hosts(&record.config.hostname, &record.config.domainname, &addresses, &extra)
        };
        let text = text.context("cannot make the hosts file")? + &self.linked_hosts(record)?;
        fs::write(path, text).context("cannot write the hosts file")
    }

    /// Puts a container into one more network, at once where it runs.
    ///
    /// API: `POST /networks/{id}/connect`
    ///
    /// # Errors
    /// NotFound; Forbidden where the container's network is not its own or it is in that network already; InvalidArgument.
    pub async fn connect_network(&self, network: &str, request: ConnectRequest) -> Result<()> {
        refuse_nobody(&request.container)?;
        let container = self.find(&request.container)?;
        let (containers, network) = (self.clone(), network.to_owned());
        crate::finish(async move {
            let other = Arc::clone(&container);
            let (_verb, process) = locked(&container).await?;
            blocking(move || {
                let process = process.as_ref().map(AsFd::as_fd);
                containers.connect_now(&other, &network, request.endpoint_config.as_ref(), process)
            })
            .await
        })
        .await
    }

    fn connect_now(
        &self,
        container: &Container,
        network: &str,
        settings: Option<&EndpointSettings>,
        process: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        let record = container.snapshot();
        if record.host_config.network_mode.starts_with("container:") {
            return Err(no_other_network("container"));
        }
        let found = self.inner.networks.look_up(network)?;
        // What is said comes before where, as in Docker.
        let (name, mut endpoint) = self.endpoint_of_mode(&found.id)?;
        if let Some(settings) = settings {
            let reference = if found.user_defined { found.id.as_str() } else { "bridge" };
            self.take_settings(&mut endpoint, reference, settings)?;
        }
        refuse_foreign_mode(&record)?;
        if found.is_host {
            let text = "cannot connect container to host network - container must be created in host network mode";
            return Err(Error::invalid(text.to_owned()));
        }
        if found.is_private {
            return Err(no_other_network("none"));
        }
        if found.config_only {
            let text = "cannot create endpoint on configuration-only network";
            return Err(Error::new(ErrorKind::Forbidden, text));
        }
        // One that does not run takes what is said last.
        if record.endpoints.contains_key(&found.name) && record.status.is_live() {
            let text = format!("endpoint with name {} already exists in network {}", record.name, found.name);
            return Err(Error::new(ErrorKind::Forbidden, text));
        }
        if !record.status.is_live() {
            return self.update(container, |record| {
                record.endpoints.insert(name, endpoint);
            });
        }
        let mut running = self.running(&record, process)?;
        running.wish.endpoints.push(EndpointWish { network: found.id, asked: endpoint, names: own_names(&record) });
        check_link_local(&running.wish)?;
        let changed = self.inner.networks.join(&running)?;
        self.note_change(container, changed, |record, endpoint| {
            record.endpoints.extend(endpoint.map(|endpoint| (name, endpoint)));
        })
    }

    /// Takes a container out of a network.
    ///
    /// API: `POST /networks/{id}/disconnect`
    ///
    /// # Errors
    /// NotFound; Forbidden where the container is not in that network.
    pub async fn disconnect_network(&self, network: &str, request: DisconnectRequest) -> Result<()> {
        refuse_nobody(&request.container)?;
        let container = match self.find(&request.container) {
            Ok(container) => container,
            // Nothing that is gone has an endpoint here: they end with their container.
            Err(error) if request.force && error.kind() == ErrorKind::NotFound => {
                self.inner.networks.look_up(network)?;
                return Err(Error::not_found(format!("endpoint {} not found", request.container)));
            }
            Err(error) => return Err(error),
        };
        let (containers, network) = (self.clone(), network.to_owned());
        crate::finish(async move {
            let other = Arc::clone(&container);
            let (_verb, process) = locked(&container).await?;
            blocking(move || containers.disconnect_now(&other, &network, process.as_ref().map(AsFd::as_fd))).await
        })
        .await
    }

    fn disconnect_now(&self, container: &Container, network: &str, process: Option<BorrowedFd<'_>>) -> Result<()> {
        let record = container.snapshot();
        let found = self.inner.networks.look_up(network);
        if found.as_ref().is_ok_and(|found| found.is_host) {
            return Err(Error::invalid(
                "cannot disconnect container from host network - container was created in host network mode".to_owned(),
            ));
        }
        let name = match &found {
            Ok(found) => found.name.clone(),
            // One that was removed can still be left.
            Err(_) if record.endpoints.contains_key(network) => network.to_owned(),
            Err(_) => return found.map(drop),
        };
        let Some(endpoint) = record.endpoints.get(&name) else {
            let the = if record.status.is_live() { "" } else { "the " };
            return Err(Error::internal(format!("container {} is not connected to {the}network {name}", record.id)));
        };
        if !record.status.is_live() {
            return self.update(container, |record| {
                record.endpoints.remove(&name);
            });
        }
        let changed = self.inner.networks.leave(&self.running(&record, process)?, &endpoint.network_id)?;
        self.note_change(container, changed, |record, _| {
            record.endpoints.remove(&name);
        })
    }

    /// Puts a change into the record, and into the files that the container has mounted.
    fn note_change(
        &self,
        container: &Container,
        changed: Changed,
        change: impl FnOnce(&mut Record, Option<EndpointRecord>),
    ) -> Result<()> {
        self.update(container, |record| {
            record.published = changed.published;
            change(record, changed.endpoint);
        })?;
        let record = container.snapshot();
        self.write_hosts(&record, &record.endpoints)?;
        self.write_resolv_conf(&record)
    }

    fn running<'a>(&self, record: &Record, process: Option<BorrowedFd<'a>>) -> Result<Running<'a>> {
        let (names, wish) = self.wish(record)?;
        let given = names.iter().map(|name| record.endpoints[name].clone()).collect();
        Ok(Running { wish, given, process, published: record.published.clone() })
    }

    /// Refuses limits of traffic that cannot be kept in the networks that the container is in.
    pub(super) fn check_limits(&self, record: &Record) -> Result<()> {
        self.inner.networks.check_limits(&self.wish(record)?.1)
    }

    /// Brings the limits of a running container's traffic to what its record says. Blocks.
    pub(super) fn shape_now(&self, record: &Record, process: BorrowedFd<'_>) -> Result<()> {
        if record.endpoints.is_empty() {
            return Ok(());
        }
        self.inner.networks.shape_running(&self.running(record, Some(process))?)
    }

    /// Brings what a running container may reach to its record. Blocks.
    pub(super) fn restrict_now(&self, record: &Record, process: BorrowedFd<'_>) -> Result<()> {
        if record.endpoints.is_empty() {
            return Ok(());
        }
        self.inner.networks.restrict_running(&self.running(record, Some(process))?)?;
        self.write_resolv_conf(record)
    }

    /// Takes the networks of a container again that ran on while no daemon was there. Blocks.
    pub(super) fn adopt_networks(&self, record: &Record, process: Option<BorrowedFd<'_>>) -> Result<()> {
        if record.endpoints.is_empty() {
            return Ok(());
        }
        let Running { wish, given, process, published } = self.running(record, process)?;
        self.inner.networks.adopt(&wish, &given, &published, process)
    }
}

/// Names of a container's networks: that of its network mode first, the others by name.
fn ordered(record: &Record) -> Vec<String> {
    let mode = record.host_config.network_mode.as_str();
    let is_first = |name: &str, endpoint: &EndpointRecord| {
        name == mode
            || (mode == "default" && name == "bridge")
            || (!mode.is_empty() && endpoint.network_id.starts_with(mode))
    };
    let mut names: Vec<_> = record.endpoints.iter().collect();
    names.sort_by_key(|(name, endpoint)| (!is_first(name, endpoint), (*name).clone()));
    names.into_iter().map(|(name, _)| name.clone()).collect()
}

/// Names beside the container's own: a host name that was given.
fn own_names(record: &Record) -> Vec<String> {
    let hostname = &record.config.hostname;
    if hostname == record.short_id() { Vec::new() } else { vec![hostname.clone()] }
}

/// As `inspect` and lists show the endpoints.
pub(super) fn shown(record: &Record) -> BTreeMap<String, EndpointSettings> {
    let text = |address: Option<String>| address.unwrap_or_default();
    let settings = record.endpoints.iter().map(|(name, endpoint)| {
        let asked = EndpointIpamConfig {
            ipv4_address: endpoint.requested_address.clone(),
            ipv6_address: endpoint.requested_address6.clone(),
            link_local_ips: endpoint.link_local.clone(),
        };
        let names = || networks::names(&record.id, &record.name, endpoint, &own_names(record));
        let settings = EndpointSettings {
            ipam_config: (asked != EndpointIpamConfig::default()).then_some(asked),
            links: (!endpoint.links.is_empty()).then(|| endpoint.links.clone()),
            aliases: (endpoint.has_aliases || !endpoint.aliases.is_empty()).then(|| endpoint.aliases.clone()),
            driver_opts: (!endpoint.driver_options.is_empty()).then(|| endpoint.driver_options.clone()),
            gw_priority: endpoint.gateway_priority,
            // As in Docker, known from the first start on.
            network_id: if record.has_started { endpoint.network_id.clone() } else { String::new() },
            endpoint_id: endpoint.endpoint_id.clone(),
            gateway: text(endpoint.gateway.map(|gateway| gateway.to_string())),
            ip_address: text(endpoint.address.map(|address| address.to_string())),
            ip_prefix_len: if endpoint.address.is_some() { endpoint.prefix_length } else { 0 },
            ipv6_gateway: text(endpoint.gateway6.map(|gateway| gateway.to_string())),
            global_ipv6_address: text(endpoint.address6.map(|address| address.to_string())),
            global_ipv6_prefix_len: if endpoint.address6.is_some() { endpoint.prefix_length6 } else { 0 },
            mac_address: if record.has_started { endpoint.mac_address.clone() } else { endpoint.requested_mac.clone() },
            dns_names: endpoint.user_defined.then(names),
        };
        (name.clone(), settings)
    });
    settings.collect()
}

/// The address asked for in the network that the container is made for, which older versions show as its own.
pub(super) fn requested_mac(record: &Record) -> String {
    let mode = match record.host_config.network_mode.as_str() {
        "default" => "bridge",
        mode => mode,
    };
    record.endpoints.get(mode).map(|endpoint| endpoint.requested_mac.clone()).unwrap_or_default()
}

/// `--add-host` lines; `host-gateway` is what the daemon was told, or the gateway of the container's first network.
fn extra_hosts(
    record: &Record,
    endpoints: &BTreeMap<String, EndpointRecord>,
    host_gateways: &[IpAddr],
) -> Result<Vec<(String, IpAddr)>> {
    let mut lines = Vec::new();
    for extra in record.host_config.extra_hosts.iter().flatten() {
        let (name, address) = files::extra_host(extra).map_err(|error| Error::invalid(error.to_string()))?;
        if address == "host-gateway" && !host_gateways.is_empty() {
            lines.extend(host_gateways.iter().map(|gateway| (name.to_owned(), *gateway)));
            continue;
        }
        let address = if address == "host-gateway" {
            let gateway = ordered(record).iter().find_map(|name| endpoints.get(name)?.gateway);
            let gateway = gateway.map(IpAddr::V4);
            gateway.ok_or_else(|| Error::invalid("unable to derive the IP value for host-gateway".to_owned()))?
        } else {
            address.parse().map_err(|_| Error::invalid(format!("invalid IP address in add-host: {address:?}")))?
        };
        lines.push((name.to_owned(), address));
    }
    Ok(lines)
}

/// Docker's words for a name that is not there.
fn refuse_nobody(container: &str) -> Result<()> {
    match container.is_empty() {
        true => Err(Error::invalid("invalid name or ID supplied: \"\"".to_owned())),
        false => Ok(()),
    }
}

/// Docker looks at these when they are to be used.
fn check_link_local(wish: &Wish) -> Result<()> {
    let mut texts = wish.endpoints.iter().flat_map(|endpoint| &endpoint.asked.link_local);
    match texts.find(|text| text.parse().is_ok_and(|address| !is_link_local(address))) {
        Some(text) => Err(Error::invalid(format!("invalid link local IP address: {text}"))),
        None => Ok(()),
    }
}

fn refuse_foreign_mode(record: &Record) -> Result<()> {
    match record.host_config.network_mode.as_str() {
        mode @ ("host" | "none") if record.endpoints.contains_key(mode) => Err(no_other_network(mode)),
        mode if mode.starts_with("container:") => Err(no_other_network(mode)),
        _ if record.status == Status::Restarting => {
            Err(Error::conflict(format!("container {} is restarting, wait until the container is running", record.id)))
        }
        _ => Ok(()),
    }
}

/// Docker's words for modes that stand alone.
fn no_other_network(mode: &str) -> Error {
    let text = match mode {
        "none" => "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        _ => {
            "container sharing network namespace with another container or host cannot be connected to any other network"
        }
    };
    Error::new(ErrorKind::Forbidden, text)
}

fn check_mac(mac: &str) -> Result<()> {
    if mac.is_empty() || mac.parse::<ferry_network::MacAddr>().is_ok() {
        return Ok(());
    }
    Err(Error::invalid(format!("invalid MAC address: {mac}")))
}

/// Stands before what is wrong with an endpoint.
const BAD_SETTINGS: &str = "invalid endpoint settings:\n";

/// Networks that have neither names nor addresses of one's choice.
fn is_predefined(network: &str) -> bool {
    matches!(network, "bridge" | "default" | "host" | "none")
}
