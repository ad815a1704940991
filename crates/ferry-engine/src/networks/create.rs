//! `POST /networks/create`.

use std::collections::BTreeMap;

use ferry_api::network::{CreateRequest, CreateResponse, Ipam};
use ipnet::IpNet;

use super::record::{self, Driver, NetworkRecord};
use super::subnets::{self, Subnets};
use super::{Networks, find};
use crate::blocking;
use crate::error::{Context, Error, ErrorKind, Result};

/// Names that the engine keeps for itself.
const PREDEFINED: [&str; 4] = ["bridge", "host", "none", "default"];
const PREFIX: &str = "com.docker.network.";

/// Options of the bridge driver that mean something here.
#[derive(Debug, Default, PartialEq, Eq)]
struct BridgeOptions {
    link: Option<String>,
    icc: Option<bool>,
    masquerade: Option<bool>,
    mtu: Option<u32>,
}

impl Networks {
    /// Makes a network.
    ///
    /// API: `POST /networks/create`
    ///
    /// # Errors
    /// InvalidArgument; Conflict for a name that is taken; Forbidden for names and drivers of the engine's own, and for a subnet that
    /// another network has; NotFound for an unknown driver; NotImplemented. Nothing is left then.
    pub async fn create(&self, request: CreateRequest) -> Result<CreateResponse> {
        let networks = self.clone();
        blocking(move || networks.create_now(request)).await
    }

    fn create_now(&self, request: CreateRequest) -> Result<CreateResponse> {
        validate_name(&request.name)?;
        let _making = self.inner.making.lock().expect("no panic while held");
        if self.table().values().any(|network| network.record.name == request.name) {
            return Err(Error::conflict(format!("network with name {} already exists", request.name)));
        }
        let record = if request.config_only { config_record(&request)? } else { self.bridge_record(&request)? };
        let spec = record.bridge_spec();
        if let Some(spec) = &spec {
            let link_is_free =
                self.inner.networking.is_link_available(&spec.link).context("cannot look for the bridge")?;
            let is_used = self.table().values().any(|other| other.record.link.as_ref() == Some(&spec.link));
            if is_used || (!link_is_free && !is_host_bridge(&spec.link)) {
                return Err(forbidden(format!(
                    "networks have same bridge name: conflicts with network {} ({})",
                    self.network_of_link(&spec.link),
                    spec.link
                )));
            }
            self.inner
                .networking
                .ensure_bridge(spec)
                .context(format!("cannot make the bridge of network {}", record.name))?;
        }
        let written = self.inner.syncer.write(&record::path(&self.inner.folder, &record.id), &record);
        if let Err(error) = written {
            if let Some(spec) = &spec
                && let Err(second) = self.inner.networking.remove_bridge(&spec.network_id, &spec.link)
            {
                tracing::warn!(link = %spec.link, error = %second, "bridge of a failed create left behind");
            }
            return Err(error).context(format!("cannot write the record of network {}", record.name));
        }
        let response = CreateResponse { id: record.id.clone(), warning: String::new() };
        let attributes =
            [("name".to_owned(), record.name.clone()), ("type".to_owned(), record.driver.as_str().to_owned())];
        self.table().insert(record.id.clone(), record.into_network()?);
        self.inner.events.publish("network", "create", &response.id, attributes.into_iter().collect());
        Ok(response)
    }

    fn network_of_link(&self, link: &str) -> String {
        let table = self.table();
        let owner = table.values().find(|network| network.record.link.as_deref() == Some(link));
        owner.map_or_else(|| "of somebody else".to_owned(), |network| network.record.id.clone())
    }

    fn bridge_record(&self, request: &CreateRequest) -> Result<NetworkRecord> {
        refuse_driver(request)?;
        let template =
            match request.config_from.as_ref().map(|from| from.network.as_str()).filter(|name| !name.is_empty()) {
                Some(name) => Some(self.template(name, request)?),
                None => None,
            };
        let no_ipam = Ipam::default();
        let ipam =
            template.as_ref().map_or(request.ipam.as_ref(), |template| template.ipam.as_ref()).unwrap_or(&no_ipam);
        let wants_ipv6 = request.enable_ipv6.unwrap_or(false);
        let subnets = self.complete(subnets::read(ipam, wants_ipv6)?, wants_ipv6)?;
        let options = template
            .as_ref()
            .map_or_else(|| request.options.clone().unwrap_or_default(), |template| template.options.clone());
        let labels = match &template {
            Some(template) if request.labels.as_ref().is_none_or(BTreeMap::is_empty) => template.labels.clone(),
            _ => request.labels.clone().unwrap_or_default(),
        };
        let bridge = bridge_options(&options)?;
        let plain = NetworkRecord::plain(&request.name, Driver::Bridge);
        let link = bridge.link.unwrap_or_else(|| self.inner.instance.bridge_link(&plain.id));
        Ok(NetworkRecord {
            link: Some(link),
            gateway: subnets.v4.map(|subnet| subnet.gateway),
            subnet: subnets.v4.map(|subnet| subnet.net),
            ip_range: subnets.v4.and_then(|subnet| subnet.range),
            gateway6: subnets.v6.map(|subnet| subnet.gateway),
            subnet6: subnets.v6.map(|subnet| subnet.net),
            ip_range6: subnets.v6.and_then(|subnet| subnet.range),
            icc: bridge.icc.unwrap_or(true),
            masquerade: bridge.masquerade.unwrap_or(true),
            mtu: bridge.mtu,
            user_defined: true,
            internal: request.internal,
            attachable: request.attachable,
            config_from: template.as_ref().map(|template| template.name.clone()).unwrap_or_default(),
            asked_subnet: subnets.asked,
            labels,
            options,
            ipam: Some(subnets::shown(ipam, &subnets)),
            auxiliary: subnets.auxiliary,
            ..plain
        })
    }

    /// The configuration of another network; nothing may be said beside it that it says.
    fn template(&self, name: &str, request: &CreateRequest) -> Result<NetworkRecord> {
        let record = find(&self.table(), name)?.record.clone();
        if !record.config_only {
            return Err(forbidden(format!("{name} network is not a configuration network")));
        }
        let has_ipam =
            request.ipam.as_ref().is_some_and(|ipam| ipam.config.as_ref().is_some_and(|list| !list.is_empty()));
        let has_options = request.options.as_ref().is_some_and(|options| !options.is_empty());
        if has_ipam || has_options {
            return Err(forbidden(
                "user specified configurations are not supported if the network depends on a configuration network"
                    .to_owned(),
            ));
        }
        Ok(record)
    }

    /// Chooses what was not asked for, and refuses what another network has.
    fn complete(&self, mut subnets: Subnets, wants_ipv6: bool) -> Result<Subnets> {
        let taken: Vec<IpNet> =
            self.table().values().flat_map(|network| network.record.subnets().collect::<Vec<_>>()).collect();
        let asked = subnets
            .v4
            .map(|subnet| IpNet::V4(subnet.net))
            .into_iter()
            .chain(subnets.v6.map(|subnet| IpNet::V6(subnet.net)));
        for asked in asked {
            if taken.iter().any(|other| other.contains(&asked) || asked.contains(other)) {
                return Err(forbidden(
                    "invalid pool request: Pool overlaps with other one on this address space".to_owned(),
                ));
            }
        }
        if subnets.v4.is_none() {
            let chosen = self.inner.networking.choose_subnet(&taken).map_err(|error| match error {
                ferry_network::Error::NoSubnet => self.no_subnet(),
                other => Error::internal("cannot choose a subnet").with_source(other),
            })?;
            subnets.v4 = Some(subnets::chosen_v4(chosen));
        }
        if subnets.v6.is_none() && wants_ipv6 {
            subnets.v6 = Some(subnets::chosen_v6(rand::random()));
        }
        Ok(subnets)
    }

    /// Docker's sentence, then who has them all and what frees some.
    fn no_subnet(&self) -> Error {
        let table = self.table();
        let mut names: Vec<&str> = table
            .values()
            .filter(|network| network.record.subnet.is_some())
            .map(|network| network.record.name.as_str())
            .collect();
        names.sort_unstable();
        Error::invalid(format!(
            "all predefined address pools have been fully subnetted: they are held by {} and by routes of the host; \
             remove what is not used with `docker network prune`, or give a `--subnet`",
            names.join(", ")
        ))
    }
}

/// A network that only holds a configuration.
fn config_record(request: &CreateRequest) -> Result<NetworkRecord> {
    if request.config_from.as_ref().is_some_and(|from| !from.network.is_empty()) {
        return Err(forbidden("a configuration network cannot depend on another configuration network".to_owned()));
    }
    if request.internal || request.attachable || request.ingress {
        return Err(forbidden("configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.".to_owned()));
    }
    let ipam = request.ipam.clone().unwrap_or_default();
    let options = request.options.clone().unwrap_or_default();
    subnets::read(&ipam, true)?;
    bridge_options(&options)?;
    Ok(NetworkRecord {
        user_defined: true,
        config_only: true,
        labels: request.labels.clone().unwrap_or_default(),
        options,
        ipam: Some(Ipam { driver: "default".to_owned(), options: Some(BTreeMap::new()), ..ipam }),
        ..NetworkRecord::plain(&request.name, Driver::Null)
    })
}

/// Letters, digits, and in between also `-`, `_`, `.` and blanks: names are shown on terminals and stand in host names.
fn validate_name(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Error::invalid("invalid network name: name is empty".to_owned()));
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

fn refuse_driver(request: &CreateRequest) -> Result<()> {
    if request.enable_ipv4 == Some(false) {
        return Err(Error::not_implemented("networks without IPv4 (`EnableIPv4`)"));
    }
    if let Some(ipam) = request.ipam.as_ref().filter(|ipam| !matches!(ipam.driver.as_str(), "" | "default")) {
        return Err(Error::not_implemented(format!("IPAM driver {}", ipam.driver)));
    }
    if request.ingress || request.scope == "swarm" || request.driver == "overlay" {
        let text = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";
        return Err(Error::new(ErrorKind::Unavailable, text));
    }
    match request.driver.as_str() {
        "" | "bridge" => Ok(()),
        driver @ ("host" | "null") => Err(forbidden(format!("only one instance of \"{driver}\" network is allowed"))),
        driver @ ("macvlan" | "ipvlan") => Err(Error::not_implemented(format!("network driver {driver}"))),
        driver => Err(Error::not_found(format!(
            "could not find plugin {driver} in v1 plugin registry: plugin \"{driver}\" not found"
        ))),
    }
}

fn bridge_options(options: &BTreeMap<String, String>) -> Result<BridgeOptions> {
    let mut read = BridgeOptions::default();
    for (key, value) in options {
        match key.strip_prefix(PREFIX).unwrap_or(key) {
            "bridge.name" if !value.is_empty() => read.link = Some(link_name(value)?),
            "bridge.enable_icc" => read.icc = Some(boolean("EnableICC", value)?),
            "bridge.enable_ip_masquerade" => read.masquerade = Some(boolean("EnableIPMasquerade", value)?),
            "driver.mtu" => read.mtu = Some(mtu(value)?).filter(|mtu| *mtu > 0),
            known @ ("bridge.default_bridge"
            | "bridge.host_binding_ipv4"
            | "bridge.host_binding_ipv6"
            | "bridge.gateway_mode_ipv4"
            | "bridge.gateway_mode_ipv6"
            | "bridge.inhibit_ipv4"
            | "bridge.trusted_host_interfaces"
            | "container_iface_prefix"
            | "host_ipv4"
            | "host_ipv6")
                if key.starts_with(PREFIX) =>
            {
                refuse_option(known, value)?;
            }
            // Others are kept and shown; drivers take what they know.
            _ => {}
        }
    }
    Ok(read)
}

/// Options that Docker acts on and ferry does not yet; their default changes nothing.
fn refuse_option(option: &str, value: &str) -> Result<()> {
    let is_default = match option {
        "bridge.host_binding_ipv4" => value == "0.0.0.0",
        "bridge.host_binding_ipv6" => value == "::",
        "bridge.gateway_mode_ipv4" | "bridge.gateway_mode_ipv6" => matches!(value, "" | "nat"),
        "bridge.default_bridge" | "bridge.inhibit_ipv4" => value == "false",
        "container_iface_prefix" => value == "eth",
        _ => value.is_empty(),
    };
    if is_default { Ok(()) } else { Err(Error::not_implemented(format!("network option {PREFIX}{option}={value}"))) }
}

fn link_name(value: &str) -> Result<String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':');
    if value.len() > 15 || matches!(value, "." | "..") || !value.bytes().all(is_plain) {
        return Err(Error::invalid(format!(
            "invalid bridge name {value:?}: a link has at most 15 characters, no blank, `/` or `:`"
        )));
    }
    Ok(value.to_owned())
}

fn boolean(option: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(Error::invalid(format!(
            "failed to parse {option} value: {value} (strconv.ParseBool: parsing {value:?}: invalid syntax)"
        ))),
    }
}

fn mtu(value: &str) -> Result<u32> {
    let parsed: i64 = value.parse().map_err(|_| {
        Error::invalid(format!("failed to parse Mtu value: {value} (strconv.Atoi: parsing {value:?}: invalid syntax)"))
    })?;
    u32::try_from(parsed)
        .ok()
        .filter(|mtu| *mtu <= 65_535)
        .ok_or_else(|| Error::invalid(format!("invalid MTU number: {parsed}")))
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

    #[test]
    fn options_are_read_or_named() {
        let options =
            |key: &str, value: &str| bridge_options(&BTreeMap::from([(format!("{PREFIX}{key}"), value.to_owned())]));
        assert_eq!(options("bridge.enable_icc", "false").expect("good").icc, Some(false));
        assert_eq!(options("driver.mtu", "1400").expect("good").mtu, Some(1400));
        assert_eq!(options("bridge.name", "br-web").expect("good").link.as_deref(), Some("br-web"));
        assert!(options("driver.mtu", "x").expect_err("bad").text().starts_with("failed to parse Mtu value: x"));
        assert!(options("bridge.enable_icc", "maybe").is_err());
        assert!(options("bridge.name", "much-too-long-a-name").is_err());
        assert_eq!(
            options("bridge.gateway_mode_ipv4", "routed").expect_err("unbuilt").kind(),
            ErrorKind::NotImplemented
        );
        assert!(options("bridge.gateway_mode_ipv4", "nat").is_ok());
    }
}
