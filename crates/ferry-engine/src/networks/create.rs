//! `POST /networks/create`.

use std::collections::BTreeMap;

use ferry_api::network::{CreateRequest, CreateResponse, Ipam};
use ferry_network::ParentSpec;
use ipnet::IpNet;

use super::options::{self, Options};
use super::record::{self, Driver, NetworkRecord};
use super::subnets::{self, SubnetRecord};
use super::{Networks, find};
use crate::blocking;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::plugins::IPAM_DRIVER;

/// Names that the engine keeps for itself.
const PREDEFINED: [&str; 4] = ["bridge", "host", "none", "default"];

/// What a request comes to once another network's configuration is taken in.
struct Asked {
    ipam: Ipam,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    ipv4: Option<bool>,
    ipv6: Option<bool>,
    config_from: String,
}

/// Subnets that are another network's as soon as it is made; nobody's any more when that has come to its end, one way or the other.
struct Chosen<'a> {
    networks: &'a Networks,
    nets: Vec<IpNet>,
}

impl Drop for Chosen<'_> {
    fn drop(&mut self) {
        let mut all = self.networks.inner.chosen.lock().expect("no panic while held");
        all.retain(|net| !self.nets.contains(net));
    }
}

impl Networks {
    /// Makes a network.
    ///
    /// API: `POST /networks/create`
    ///
    /// # Errors
    /// InvalidArgument; Conflict for a name that is taken; Forbidden for names and drivers of the engine's own, and for a subnet that
    /// another network has; NotFound for an unknown driver; Unavailable where the kernel lacks what a driver needs. Nothing is left
    /// then.
    pub async fn create(&self, request: CreateRequest) -> Result<CreateResponse> {
        let networks = self.clone();
        blocking(move || networks.create_now(request)).await
    }

    fn create_now(&self, request: CreateRequest) -> Result<CreateResponse> {
        validate_name(&request.name)?;
        let _making = self.making(is_remote(&request));
        let mut chosen = Chosen { networks: self, nets: Vec::new() };
        if self.table().values().any(|network| network.record.name == request.name) {
            return Err(Error::conflict(format!("network with name {} already exists", request.name)));
        }
        let mut record =
            if request.config_only { config_record(&request)? } else { self.network_record(&request, &mut chosen)? };
        if let Err(error) = self.make_links(&mut record) {
            self.release_pools(&record);
            return Err(error);
        }
        let written = self.inner.syncer.write(&record::path(&self.inner.folder, &record.id), &record);
        if let Err(error) = written {
            self.unmake_links(&record);
            self.release_pools(&record);
            return Err(error).context(format!("cannot write the record of network {}", record.name));
        }
        if let Err(error) = self.insert(&record) {
            self.unmake_links(&record);
            self.release_pools(&record);
            self.inner
                .syncer
                .remove(&record::path(&self.inner.folder, &record.id))
                .context("cannot take a record back")?;
            return Err(error);
        }
        self.hold_plugins_of(&record);
        let response = CreateResponse { id: record.id.clone(), warning: String::new() };
        let attributes =
            [("name".to_owned(), record.name.clone()), ("type".to_owned(), record.driver_name().to_owned())];
        self.inner.events.publish("network", "create", &response.id, attributes.into_iter().collect());
        Ok(response)
    }

    /// Publishes a network, unless one of that name was made meanwhile by who need not wait for this one.
    fn insert(&self, record: &NetworkRecord) -> Result<()> {
        let network = record.clone().into_network()?;
        let mut table = self.table();
        if table.values().any(|other| other.record.name == record.name) {
            return Err(Error::conflict(format!("network with name {} already exists", record.name)));
        }
        table.insert(record.id.clone(), network);
        Ok(())
    }

    /// Has the kernel make what the network needs of its own.
    fn make_links(&self, record: &mut NetworkRecord) -> Result<()> {
        match record.driver {
            Driver::Bridge => self.make_bridge(record),
            Driver::Macvlan | Driver::Ipvlan => self.make_parent(record),
            Driver::Plugin => self.create_remote(record),
            Driver::Host | Driver::Null => Ok(()),
        }
    }

    fn make_bridge(&self, record: &NetworkRecord) -> Result<()> {
        let Some(spec) = record.bridge_spec() else { return Ok(()) };
        let link_is_free = self.inner.networking.is_link_available(&spec.link).context("cannot look for the bridge")?;
        let is_used = self.table().values().any(|other| other.record.link.as_ref() == Some(&spec.link));
        if is_used || (!link_is_free && !is_host_bridge(&spec.link)) {
            return Err(forbidden(format!(
                "cannot create network {} ({}): conflicts with network {} ({}): networks have same bridge name",
                record.id,
                spec.link,
                self.network_of_link(&spec.link),
                spec.link
            )));
        }
        let made = self.inner.networking.ensure_bridge(&spec);
        made.context(format!("cannot make the bridge of network {}", record.name))
    }

    fn make_parent(&self, record: &mut NetworkRecord) -> Result<()> {
        let driver = record.driver.as_str();
        let child = record.settings.child.ok_or_else(|| Error::internal("a network on a parent without a kind"))?;
        if !self.inner.networking.has_kind(child) {
            let text = format!(
                "cannot create network {}: the kernel has no {driver} links (`CONFIG_{}` is off and there is no module for it); use driver bridge, or a kernel that has them",
                record.name,
                driver.to_ascii_uppercase()
            );
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        self.refuse_shared_parent(record)?;
        let settings = &mut record.settings;
        if settings.parent.is_empty() {
            let letter = driver.chars().next().unwrap_or('m');
            settings.parent = format!("d{letter}-{}", record.id.get(..12).unwrap_or(&record.id));
            // Without a parent there is no outside.
            record.internal = true;
        } else if !std::path::Path::new("/sys/class/net").join(&settings.parent).exists() {
            settings.vlan = Some(options::vlan(&settings.parent)?);
        } else {
            return Ok(());
        }
        let (link, vlan) = (settings.parent.clone(), settings.vlan.clone());
        let parent = ParentSpec { network_id: record.id.clone(), link, vlan };
        settings.made_parent = self.inner.networking.ensure_parent(&parent).map_err(|error| match error {
            ferry_network::Error::NoParent(below) => {
                Error::invalid(format!("-o parent interface was not found on the host: {below}"))
            }
            other => Error::internal(format!("cannot make link {}", parent.link)).with_source(other),
        })?;
        Ok(())
    }

    /// Some modes want a parent for one network alone.
    fn refuse_shared_parent(&self, record: &NetworkRecord) -> Result<()> {
        use ferry_network::{ChildKind, MacvlanMode};
        let parent = &record.settings.parent;
        let passthru = Some(ChildKind::Macvlan(MacvlanMode::Passthru));
        let table = self.table();
        let sharing = table
            .values()
            .map(|network| &network.record)
            .filter(|other| !parent.is_empty() && other.driver == record.driver && other.settings.parent == *parent);
        for other in sharing {
            let text = match record.driver {
                Driver::Ipvlan => format!("network {} is already using parent interface {parent}", other.id),
                _ if record.settings.child == passthru => format!(
                    "cannot use mode passthru, macvlan network {} is already using parent interface {parent}",
                    other.id
                ),
                _ if other.settings.child == passthru => {
                    format!("macvlan network {} is already using parent interface {parent} in mode passthru", other.id)
                }
                _ => continue,
            };
            return Err(Error::invalid(text));
        }
        Ok(())
    }

    /// Takes away what was made for a network that does not come to be.
    fn unmake_links(&self, record: &NetworkRecord) {
        let networking = &self.inner.networking;
        let bridge = record.bridge_spec().map(|spec| networking.remove_bridge(&spec.network_id, &spec.link));
        let parent = record.parent_spec().map(|parent| networking.remove_parent(&parent));
        if let Err(error) = self.delete_remote(record) {
            tracing::warn!(network = %record.name, error = error.text(), "network of a plugin left behind");
        }
        for error in [bridge, parent].into_iter().flatten().filter_map(Result::err) {
            tracing::warn!(network = %record.name, %error, "link of a failed create left behind");
        }
    }

    fn network_of_link(&self, link: &str) -> String {
        let table = self.table();
        let owner = table.values().find(|network| network.record.link.as_deref() == Some(link));
        owner.map_or_else(|| "of somebody else".to_owned(), |network| network.record.id.clone())
    }

    fn network_record(&self, request: &CreateRequest, chosen: &mut Chosen<'_>) -> Result<NetworkRecord> {
        let (driver, plugin) = self.driver(request)?;
        let asked = self.asked(request)?;
        let ipv4 = match asked.ipv4 {
            None => options::enable(&asked.options, "enable_ipv4")?,
            said => said,
        };
        let ipv6 = match asked.ipv6 {
            None => options::enable(&asked.options, "enable_ipv6")?,
            said => said,
        };
        let (wants_ipv4, wants_ipv6) = (ipv4.unwrap_or(true), ipv6.unwrap_or(false));
        let given = subnets::read(&asked.ipam, wants_ipv6)?;
        let Options { link, icc, masquerade, mtu, settings } = options::read(driver, &asked.options, request.internal)?;
        refuse_families(driver, &asked.ipam, wants_ipv4, wants_ipv6)?;
        let asked_subnet = !given.is_empty();
        let given: Vec<_> = given.into_iter().filter(|subnet| wants_ipv4 || !subnet.is_v4()).collect();
        if driver == Driver::Bridge && [true, false].iter().any(|v4| of_family(&given, *v4) > 1) {
            return Err(forbidden("bridge driver doesn't support multiple subnets".to_owned()));
        }
        let is_null = asked.ipam.driver == "null";
        let plain = NetworkRecord::plain(&request.name, driver);
        let (mut subnets, plugin_pools) = match asked.ipam.driver.as_str() {
            "" | "default" | "null" => {
                (self.complete(given, wants_ipv4 && !is_null, wants_ipv6 && !is_null, chosen)?, BTreeMap::new())
            }
            _ => self.request_pools(&asked.ipam, given, wants_ipv4, wants_ipv6)?,
        };
        for subnet in &mut subnets {
            if has_gateway(driver, &settings, request.internal, subnet) {
                subnet.choose_gateway()?;
            }
            // What does not fit is told before anything is made.
            subnet.check()?;
        }
        let link = link.unwrap_or_else(|| self.inner.instance.bridge_link(&plain.id));
        // As Docker shows them.
        subnets.sort_by_key(|subnet| !subnet.is_v4());
        Ok(NetworkRecord {
            link: (driver == Driver::Bridge).then_some(link),
            ipam: Some(subnets::shown(&asked.ipam, &subnets)),
            subnets,
            icc: icc.unwrap_or(true),
            masquerade: masquerade.unwrap_or(true),
            mtu,
            settings,
            user_defined: true,
            internal: request.internal,
            attachable: request.attachable,
            asked_ipv4: ipv4,
            asked_ipv6: Some(wants_ipv6),
            config_from: asked.config_from,
            asked_subnet,
            labels: asked.labels,
            options: asked.options,
            plugin,
            plugin_pools,
            ..plain
        })
    }

    /// The driver, and its name where it is a plugin.
    fn driver(&self, request: &CreateRequest) -> Result<(Driver, String)> {
        if let Some(ipam) =
            request.ipam.as_ref().filter(|ipam| !matches!(ipam.driver.as_str(), "" | "default" | "null"))
        {
            // One that is not there is told before the driver is looked at.
            let _ = self.plugin(&ipam.driver, IPAM_DRIVER)?;
        }
        match built_in(request)? {
            Some(driver) => Ok((driver, String::new())),
            None => Ok((Driver::Plugin, self.network_plugin(&request.driver)?)),
        }
    }

    /// What is asked for, with the configuration of another network where the request names one.
    fn asked(&self, request: &CreateRequest) -> Result<Asked> {
        let from = request.config_from.as_ref().map(|from| from.network.as_str()).filter(|name| !name.is_empty());
        let Some(name) = from else {
            return Ok(Asked {
                ipam: request.ipam.clone().unwrap_or_default(),
                options: self.options_of(request),
                labels: request.labels.clone().unwrap_or_default(),
                ipv4: request.enable_ipv4,
                ipv6: request.enable_ipv6,
                config_from: String::new(),
            });
        };
        let template = self.template(name, request)?;
        Ok(Asked {
            ipam: template.ipam.unwrap_or_default(),
            options: template.options,
            labels: template.labels,
            ipv4: template.asked_ipv4.or(request.enable_ipv4),
            ipv6: template.asked_ipv6.or(request.enable_ipv6),
            config_from: template.name,
        })
    }

    /// What is asked for goes before what the daemon was told.
    fn options_of(&self, request: &CreateRequest) -> BTreeMap<String, String> {
        let driver = if request.driver.is_empty() { "bridge" } else { &request.driver };
        let mut options = self.inner.default_options.get(driver).cloned().unwrap_or_default();
        options.extend(request.options.clone().unwrap_or_default());
        options
    }

    /// The configuration of another network; nothing may be said beside it that it says.
    fn template(&self, name: &str, request: &CreateRequest) -> Result<NetworkRecord> {
        let found = find(&self.table(), name).map(|network| network.record.clone());
        let record = found
            .ok()
            .filter(|record| record.config_only)
            .ok_or_else(|| Error::not_found(format!("configuration network \"{name}\" does not exist")))?;
        let has_ipam =
            request.ipam.as_ref().is_some_and(|ipam| ipam.config.as_ref().is_some_and(|list| !list.is_empty()));
        let has_labels = request.labels.as_ref().is_some_and(|labels| !labels.is_empty());
        if has_ipam || has_labels {
            return Err(forbidden(
                "user-specified configurations are not supported if the network depends on a configuration network"
                    .to_owned(),
            ));
        }
        if request.options.as_ref().is_some_and(|options| !options.is_empty()) {
            return Err(forbidden(
                "network driver options are not supported if the network depends on a configuration network".to_owned(),
            ));
        }
        Ok(record)
    }

    /// Chooses what was not asked for, and refuses what another network has.
    fn complete(
        &self,
        mut subnets: Vec<SubnetRecord>,
        wants_ipv4: bool,
        wants_ipv6: bool,
        chosen: &mut Chosen<'_>,
    ) -> Result<Vec<SubnetRecord>> {
        // Held until all are chosen: nobody else comes to the same.
        let mut others = self.inner.chosen.lock().expect("no panic while held");
        let mut taken: Vec<IpNet> =
            self.table().values().flat_map(|network| network.record.nets().collect::<Vec<_>>()).collect();
        taken.extend_from_slice(&others);
        if subnets.iter().any(|asked| taken.iter().any(|other| subnets::overlap(other, &asked.net))) {
            return Err(subnets::overlaps());
        }
        if of_family(&subnets, true) == 0 && wants_ipv4 {
            let chosen = self.inner.networking.choose_subnet(&taken).map_err(|error| match error {
                ferry_network::Error::NoSubnet => self.no_subnet(true),
                other => Error::internal("cannot choose a subnet").with_source(other),
            })?;
            subnets.insert(0, subnets::chosen_v4(chosen));
        }
        if of_family(&subnets, false) == 0 && wants_ipv6 {
            let pooled = self.inner.networking.choose_subnet6(&taken).map_err(|error| match error {
                ferry_network::Error::NoSubnet => self.no_subnet(false),
                other => Error::internal("cannot choose a subnet").with_source(other),
            })?;
            subnets.push(match pooled {
                Some(net) => SubnetRecord::plain(IpNet::V6(net)),
                None => subnets::chosen_v6(rand::random()),
            });
        }
        chosen.nets.extend(subnets.iter().map(|subnet| subnet.net));
        others.extend_from_slice(&chosen.nets);
        Ok(subnets)
    }

    /// Docker's sentence, then who has them all and what frees some.
    fn no_subnet(&self, v4: bool) -> Error {
        let table = self.table();
        let holds = |record: &NetworkRecord| {
            let mut own = record.nets().filter(|net| net.addr().is_ipv4() == v4);
            own.any(|net| self.inner.networking.is_pooled(&net))
        };
        let held = table.values().filter(|network| holds(&network.record));
        let mut names: Vec<&str> = held.map(|network| network.record.name.as_str()).collect();
        names.sort_unstable();
        Error::invalid(format!(
            "all predefined address pools have been fully subnetted: they are held by {} and by routes of the host; \
             remove what is not used with `docker network prune`, or give a `--subnet`",
            names.join(", ")
        ))
    }
}

fn of_family(subnets: &[SubnetRecord], v4: bool) -> usize {
    subnets.iter().filter(|subnet| subnet.is_v4() == v4).count()
}

/// Whether a subnet needs a gateway that nobody named: bridges have one, routers of others are their own affair.
fn has_gateway(driver: Driver, settings: &options::Settings, internal: bool, subnet: &SubnetRecord) -> bool {
    use ferry_network::GatewayMode::Isolated;
    let is_isolated = match subnet.is_v4() {
        true => settings.mode4 == Isolated || (settings.inhibit_ipv4 && internal),
        false => settings.mode6 == Isolated,
    };
    matches!(driver, Driver::Bridge | Driver::Plugin) && !is_isolated
}

/// Drivers that give addresses need some to give.
fn refuse_families(driver: Driver, ipam: &Ipam, wants_ipv4: bool, wants_ipv6: bool) -> Result<()> {
    if driver == Driver::Bridge && !wants_ipv4 && !wants_ipv6 {
        return Err(Error::invalid("IPv4 or IPv6 must be enabled".to_owned()));
    }
    if ipam.driver != "null" {
        return Ok(());
    }
    if ipam.config.iter().flatten().any(|config| !config.subnet.is_empty()) {
        return Err(Error::invalid("null ipam driver does not handle specific address pool requests".to_owned()));
    }
    match (wants_ipv4, wants_ipv6) {
        (true, _) => Err(Error::invalid("ipv4 pool is empty".to_owned())),
        (_, true) => Err(Error::invalid("ipv6 pool is empty".to_owned())),
        _ => Ok(()),
    }
}

/// A network that only holds a configuration.
fn config_record(request: &CreateRequest) -> Result<NetworkRecord> {
    if request.internal || request.attachable || request.ingress || request.scope == "swarm" {
        return Err(forbidden("configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.".to_owned()));
    }
    if request.config_from.as_ref().is_some_and(|from| !from.network.is_empty()) {
        return Err(forbidden("a configuration network cannot depend on another configuration network".to_owned()));
    }
    let ipam = request.ipam.clone().unwrap_or_default();
    let options = request.options.clone().unwrap_or_default();
    subnets::read(&ipam, request.enable_ipv6.unwrap_or(false))?;
    let driver = if ipam.driver.is_empty() { "default".to_owned() } else { ipam.driver.clone() };
    Ok(NetworkRecord {
        user_defined: true,
        config_only: true,
        asked_ipv4: request.enable_ipv4,
        asked_ipv6: request.enable_ipv6,
        labels: request.labels.clone().unwrap_or_default(),
        options,
        ipam: Some(Ipam { driver, ..ipam }),
        ..NetworkRecord::plain(&request.name, Driver::Null)
    })
}

/// Letters, digits, and in between also `-`, `_`, `.` and blanks: names are shown on terminals and stand in host names.
fn validate_name(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Error::invalid("invalid name: name is empty".to_owned()));
    }
    if PREDEFINED.contains(&name) {
        return Err(forbidden(format!("operation is not permitted on predefined {name} network ")));
    }
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let is_inner = |byte: &u8| is_word(byte) || matches!(byte, b'-' | b'.' | b' ');
    let bytes = name.as_bytes();
    let (first, last) = (bytes.first(), bytes.last());
    if !first.is_some_and(is_word)
        || !last.is_some_and(|byte| is_inner(byte) && *byte != b' ')
        || !bytes.iter().all(is_inner)
    {
        return Err(Error::invalid(format!(
            "invalid network name: {name:?} includes invalid characters, only letters, digits, \"_\", \"-\", \".\" and inner blanks are allowed"
        )));
    }
    Ok(())
}

/// Whether a plugin has a part in it.
fn is_remote(request: &CreateRequest) -> bool {
    let ipam = request.ipam.as_ref().map_or("", |ipam| ipam.driver.as_str());
    let is_own = matches!(request.driver.as_str(), "" | "bridge" | "macvlan" | "ipvlan" | "host" | "null" | "overlay");
    !is_own || !matches!(ipam, "" | "default" | "null")
}

/// The driver that is built in; `None` for the name of a plugin.
fn built_in(request: &CreateRequest) -> Result<Option<Driver>> {
    if request.scope == "swarm" && request.driver != "overlay" {
        return Err(forbidden("cannot create a swarm scoped network when swarm is not active".to_owned()));
    }
    if request.driver == "overlay" {
        let text = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";
        return Err(Error::new(ErrorKind::Unavailable, text));
    }
    match request.driver.as_str() {
        "" | "bridge" | "macvlan" | "ipvlan" if request.ingress => {
            Err(forbidden("Ingress network can only be global scope network".to_owned()))
        }
        "" | "bridge" => Ok(Some(Driver::Bridge)),
        "macvlan" => Ok(Some(Driver::Macvlan)),
        "ipvlan" => Ok(Some(Driver::Ipvlan)),
        driver @ ("host" | "null") => Err(forbidden(format!("only one instance of \"{driver}\" network is allowed"))),
        _ => Ok(None),
    }
}

/// A bridge that the host has made itself may be used by name.
fn is_host_bridge(link: &str) -> bool {
    std::path::Path::new("/sys/class/net").join(link).join("bridge").is_dir()
}

fn forbidden(text: String) -> Error {
    Error::new(ErrorKind::Forbidden, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words() {
        for good in ["a", "web", "my_net-1.x", "two words", "project_default"] {
            assert!(validate_name(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "../../x", "a/b", "a\n", "-a", "a\u{1b}", " a", "a "] {
            assert_eq!(validate_name(bad).expect_err(bad).kind(), ErrorKind::InvalidArgument);
        }
        assert_eq!(validate_name("host").expect_err("predefined").kind(), ErrorKind::Forbidden);
    }
}
