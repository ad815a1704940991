//! Options that do not go together, and values that Docker refuses before it looks at anything else. Pure.

use std::net::IpAddr;

use ferry_api::container::{Config, CreateRequest, HostConfig};
use ferry_api::network::EndpointSettings;
use ipnet::IpNet;

use super::addresses::Asked;
use crate::error::{Error, Result};
use crate::netip::Address;

/// Tells the subnets of a network by its name; `None` where there is no such network.
pub(super) type SubnetsOf<'a> = dyn Fn(&str) -> Option<Vec<IpNet>> + 'a;

/// Docker's checks of a whole request.
pub(super) fn check(request: &CreateRequest, host: &HostConfig, subnets_of: &SubnetsOf<'_>) -> Result<()> {
    network_of_a_container(&request.config, host)?;
    if host.uts_mode == "host" && !request.config.hostname.is_empty() {
        return conflict("hostname and the UTS mode");
    }
    if host.network_mode == "host" && some(host.links.as_deref()) {
        return conflict("host type networking can't be used with links. This would result in undefined behavior");
    }
    other_systems(host)?;
    super::traffic::check_mode(host).map_err(Error::invalid)?;
    if host.annotations.contains_key("") {
        let text = "invalid Annotations: the empty string is not permitted as an annotation key";
        return Err(Error::invalid(text));
    }
    for extra in host.extra_hosts.iter().flatten() {
        extra_host(extra)?;
    }
    ports(&request.config, host)?;
    for server in host.dns.iter().flatten() {
        address(server)?;
    }
    endpoints(request, subnets_of)
}

/// What Docker finds out while it reads the request.
fn unreadable(why: String) -> Error {
    Error::invalid(format!("invalid JSON: {why}"))
}

fn address(text: &str) -> Result<()> {
    Address::parse(text).map(drop).map_err(unreadable)
}

fn ports(config: &Config, host: &HostConfig) -> Result<()> {
    let bindings = host.port_bindings.iter().flatten();
    for key in config.exposed_ports.keys().chain(bindings.clone().map(|(key, _)| key)) {
        let port = key.split('/').next().unwrap_or_default();
        if !port.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') || port.is_empty() {
            return Err(unreadable(format!("invalid port '{port}': invalid syntax")));
        }
    }
    for (key, list) in bindings {
        if key.split(['/', '-']).next().is_some_and(|port| port.parse() == Ok(0)) {
            return Err(Error::invalid(format!("invalid port specification: {key:?}")));
        }
        for binding in list.iter().flatten().filter(|binding| !binding.host_ip.is_empty()) {
            address(binding.host_ip.trim_start_matches('[').trim_end_matches(']'))?;
        }
    }
    Ok(())
}

fn conflict(what: &str) -> Result<()> {
    Err(Error::invalid(format!("conflicting options: {what}")))
}

fn some<T>(list: Option<&[T]>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

/// What belongs to a network cannot be asked for by who only joins it.
fn network_of_a_container(config: &Config, host: &HostConfig) -> Result<()> {
    let other = match host.network_mode.as_str() {
        "container" => "",
        mode => match mode.strip_prefix("container:") {
            Some(other) => other,
            None => return Ok(()),
        },
    };
    if other.is_empty() {
        let text = "invalid network mode: invalid container format container:<name|id>";
        return Err(Error::invalid(text));
    }
    let publishes = host.publish_all_ports || host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty());
    let asked = [
        (!config.hostname.is_empty(), "hostname and the network mode"),
        (
            some(host.links.as_deref()),
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (some(host.dns.as_deref()), "dns and the network mode"),
        (some(host.extra_hosts.as_deref()), "custom host-to-IP mapping and the network mode"),
        (publishes, "port publishing and the container type network mode"),
        (!config.exposed_ports.is_empty(), "port exposing and the container type network mode"),
    ];
    match asked.into_iter().find(|(asked, _)| *asked) {
        Some((_, what)) => conflict(what),
        None => Ok(()),
    }
}

/// Settings that only Windows has.
fn other_systems(host: &HostConfig) -> Result<()> {
    if !host.isolation.is_empty() && !host.isolation.eq_ignore_ascii_case("default") {
        return Err(Error::invalid(format!("invalid isolation ({}): linux only supports 'default'", host.isolation)));
    }
    for (asked, what) in
        [(host.io_maximum_bandwidth, "bandwidth configuration"), (host.io_maximum_iops, "IOPs configuration")]
    {
        if asked != 0 {
            return Err(Error::invalid(format!("invalid option: QoS maximum {what} is not supported on linux")));
        }
    }
    Ok(())
}

/// `name:address`, the address perhaps `host-gateway`.
fn extra_host(text: &str) -> Result<()> {
    let (_, address) = text
        .split_once(':')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| Error::invalid(format!("bad format for add-host: {text:?}")))?;
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if address != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(Error::invalid(format!("invalid IP address in add-host: {address:?}")));
    }
    Ok(())
}

fn endpoints(request: &CreateRequest, subnets_of: &SubnetsOf<'_>) -> Result<()> {
    let asked = request.networking_config.as_ref().and_then(|config| config.endpoints_config.as_ref());
    for (network, settings) in asked.into_iter().flatten() {
        let invalid = |why: &str| Error::invalid(format!("invalid config for network {network}: {why}"));
        let settings = settings.as_ref().ok_or_else(|| invalid("EndpointsConfig is nil"))?;
        let asked = Asked::read(settings.ipam_config.as_ref()).map_err(unreadable)?;
        let mac = &settings.mac_address;
        if !mac.is_empty() && mac.parse::<ferry_network::MacAddr>().is_err() {
            return Err(unreadable(format!("address {mac}: invalid MAC address")));
        }
        endpoint(network, settings, &asked, subnets_of(network).as_deref())
            .map_err(|why| invalid(&format!("invalid endpoint settings:\n{why}")))?;
    }
    Ok(())
}

/// Addresses and names of a container's own need a network of a user's own, and addresses one of its subnets.
fn endpoint(
    network: &str,
    settings: &EndpointSettings,
    asked: &Asked,
    subnets: Option<&[IpNet]>,
) -> Result<(), String> {
    let predefined = matches!(network, "default" | "bridge" | "host" | "none");
    let mut wrong: Vec<String> = Vec::new();
    if predefined && asked.wants_one() {
        wrong.push("user-specified IP address is supported on user-defined networks only".to_owned());
    }
    if predefined && some(settings.aliases.as_deref()) {
        wrong.push("network-scoped aliases are only supported for user-defined networks".to_owned());
    }
    wrong.extend(asked.faults(subnets));
    match wrong.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        several => Err(several.iter().map(|one| format!("* {one}")).collect::<Vec<_>>().join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ferry_api::network::{EndpointIpamConfig, NetworkingConfig};

    use super::*;

    fn refusal(config: Config, host: HostConfig) -> String {
        check(&CreateRequest { config, ..CreateRequest::default() }, &host, &unknown).unwrap_err().text()
    }

    fn unknown(_: &str) -> Option<Vec<IpNet>> {
        None
    }

    #[test]
    fn what_belongs_to_another_network_is_refused() {
        let joined = || HostConfig { network_mode: "container:a".into(), ..HostConfig::default() };
        let named = Config { hostname: "h".into(), ..Config::default() };
        assert_eq!(refusal(named.clone(), joined()), "conflicting options: hostname and the network mode");
        let dns = HostConfig { dns: Some(vec!["1.1.1.1".into()]), ..joined() };
        assert_eq!(refusal(Config::default(), dns), "conflicting options: dns and the network mode");
        let published = HostConfig { publish_all_ports: true, ..joined() };
        assert_eq!(
            refusal(Config::default(), published),
            "conflicting options: port publishing and the container type network mode"
        );
        let nobody = HostConfig { network_mode: "container:".into(), ..HostConfig::default() };
        assert!(refusal(Config::default(), nobody).starts_with("invalid network mode: "));
        let uts = HostConfig { uts_mode: "host".into(), ..HostConfig::default() };
        assert_eq!(refusal(named, uts), "conflicting options: hostname and the UTS mode");
        assert!(check(&CreateRequest::default(), &joined(), &unknown).is_ok());
    }

    #[test]
    fn extra_hosts_have_two_parts() {
        let host = |extra: &str| HostConfig { extra_hosts: Some(vec![extra.into()]), ..HostConfig::default() };
        for good in ["a:1.2.3.4", "a:::1", "a:[::1]", "a:host-gateway"] {
            assert!(check(&CreateRequest::default(), &host(good), &unknown).is_ok(), "{good}");
        }
        assert_eq!(refusal(Config::default(), host("nope")), "bad format for add-host: \"nope\"");
        assert_eq!(refusal(Config::default(), host("a:nope")), "invalid IP address in add-host: \"nope\"");
    }

    #[test]
    fn ports_and_addresses_are_read_as_docker_reads_them() {
        let published = |port: &str, address: &str| {
            let binding = ferry_api::container::PortBinding { host_ip: address.into(), ..Default::default() };
            let ports = BTreeMap::from([(port.to_owned(), Some(vec![binding]))]);
            HostConfig { port_bindings: Some(ports), ..HostConfig::default() }
        };
        let text = |port, address| refusal(Config::default(), published(port, address));
        assert_eq!(text("x/tcp", ""), "invalid JSON: invalid port 'x': invalid syntax");
        assert_eq!(text("0/tcp", ""), "invalid port specification: \"0/tcp\"");
        assert_eq!(text("80/tcp", "x"), "invalid JSON: ParseAddr(\"x\"): unable to parse IP");
        assert!(check(&CreateRequest::default(), &published("80-81/udp", "[::1]"), &unknown).is_ok());
    }

    #[test]
    fn settings_of_other_systems_are_refused() {
        let isolation = |word: &str| HostConfig { isolation: word.into(), ..HostConfig::default() };
        assert_eq!(
            refusal(Config::default(), isolation("hyperv")),
            "invalid isolation (hyperv): linux only supports 'default'"
        );
        assert!(check(&CreateRequest::default(), &isolation("default"), &unknown).is_ok());
        let iops = HostConfig { io_maximum_iops: 1, ..HostConfig::default() };
        assert!(refusal(Config::default(), iops).starts_with("invalid option: QoS maximum IOPs"));
    }

    #[test]
    fn addresses_and_aliases_need_a_network_of_ones_own() {
        let settings = EndpointSettings {
            aliases: Some(vec!["a".into()]),
            ipam_config: Some(EndpointIpamConfig { ipv4_address: "1.2.3.4".into(), ..Default::default() }),
            ..EndpointSettings::default()
        };
        let with = |network: &str, settings: Option<EndpointSettings>| {
            let endpoints = BTreeMap::from([(network.to_owned(), settings)]);
            let networking_config = Some(NetworkingConfig { endpoints_config: Some(endpoints) });
            let request = CreateRequest { networking_config, ..CreateRequest::default() };
            let subnets = |name: &str| (name == "small").then(|| vec!["1.2.3.0/30".parse().unwrap()]);
            check(&request, &HostConfig::default(), &subnets)
        };
        assert_eq!(
            with("bridge", Some(settings.clone())).unwrap_err().text(),
            "invalid config for network bridge: invalid endpoint settings:\n* user-specified IP address is supported on \
             user-defined networks only\n* network-scoped aliases are only supported for user-defined networks"
        );
        assert_eq!(
            with("small", Some(settings.clone())).unwrap_err().text(),
            "invalid config for network small: invalid endpoint settings:\nno configured subnet contains IP address 1.2.3.4"
        );
        assert!(with("own", Some(settings)).is_ok());
        assert_eq!(with("own", None).unwrap_err().text(), "invalid config for network own: EndpointsConfig is nil");
    }
}
