//! Ports: from the API's maps to requests to publish, and back to what lists show.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ferry_api::container::{Port, PortBinding, PortMap};
use ferry_network::{PortRequest, Protocol, PublishedPort};
use ipnet::IpNet;

use super::record::Record;
use crate::error::{Error, Result};

/// Reads `80`, `80/tcp`, `80-90/udp`.
pub(super) fn parse_port_key(key: &str) -> Result<(RangeInclusive<u16>, Protocol)> {
    let (ports, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(Error::invalid(format!("invalid port specification: \"{key}\""))),
    };
    let ports = parse_range(ports).ok_or_else(|| Error::invalid(format!("invalid port specification: \"{key}\"")))?;
    Ok((ports, protocol))
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?;
    (!range.is_empty()).then_some(range)
}

/// What is to be published at start. With `publish_all`, exposed ports without a binding get any free port.
pub(super) fn requests(record: &Record) -> Result<Vec<PortRequest>> {
    let none = PortMap::new();
    let bindings = record.host_config.port_bindings.as_ref().unwrap_or(&none);
    let mut requests = Vec::new();
    for (key, list) in bindings {
        let (ports, protocol) = parse_port_key(key)?;
        let any_port = [PortBinding::default()];
        let list = list.as_deref().filter(|list| !list.is_empty()).unwrap_or(&any_port);
        for binding in list {
            for container_port in ports.clone() {
                requests.push(request(binding, container_port, protocol)?);
            }
        }
    }
    if record.host_config.publish_all_ports {
        for key in record.config.exposed_ports.keys().filter(|key| !bindings.contains_key(*key)) {
            let (ports, protocol) = parse_port_key(key)?;
            for container_port in ports {
                requests.push(request(&PortBinding::default(), container_port, protocol)?);
            }
        }
    }
    Ok(requests)
}

fn request(binding: &PortBinding, container_port: u16, protocol: Protocol) -> Result<PortRequest> {
    let host_ports = match binding.host_port.as_str() {
        "" => 0..=0,
        text => parse_range(text).ok_or_else(|| Error::invalid(format!("invalid port specification: \"{text}\"")))?,
    };
    let host_ip = match binding.host_ip.trim_start_matches('[').trim_end_matches(']') {
        "" => None,
        text => Some(text.parse().map_err(|_| Error::invalid(format!("invalid IP address: {text}")))?),
    };
    let from = sources(&binding.from)?;
    Ok(PortRequest { host_ip, host_ports, container_port, protocol, from })
}

/// Who may reach a port: nets, `lan` for the ranges that are private, `any`.
fn sources(words: &[String]) -> Result<Vec<IpNet>> {
    let mut nets = Vec::new();
    for word in words {
        match word.as_str() {
            "any" => return Ok(Vec::new()),
            "lan" => nets.extend(LAN.iter().map(|net| net.parse::<IpNet>().expect("a net"))),
            text => nets.push(text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
                Error::invalid(format!(
                    "invalid source {text:?} of a published port: it should be `any`, `lan`, an address or a net such as 192.168.1.0/24"
                ))
            })?),
        }
    }
    Ok(IpNet::aggregate(&nets))
}

/// What is reached without a router of a provider.
const LAN: [&str; 6] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"];

/// `NetworkSettings.Ports`: exposed ports with `null`, published ones with their bindings.
pub(super) fn port_map(record: &Record) -> PortMap {
    let mut map = PortMap::new();
    if !record.status.is_live() {
        return map;
    }
    for key in record.config.exposed_ports.keys() {
        map.insert(key.clone(), None);
    }
    for port in &record.published {
        let bindings = map.entry(key(port)).or_default().get_or_insert_default();
        let host_port = if port.host_port == 0 { String::new() } else { port.host_port.to_string() };
        let from = port.from.iter().map(ToString::to_string).collect();
        bindings.push(PortBinding { host_ip: port.host_ip.to_string(), host_port, from });
    }
    map
}

/// The list of `ps`.
pub(super) fn port_list(record: &Record) -> Vec<Port> {
    if !record.status.is_live() {
        return Vec::new();
    }
    let mut ports = Vec::new();
    let published: BTreeMap<String, Vec<&PublishedPort>> =
        record.published.iter().fold(BTreeMap::new(), |mut map, port| {
            map.entry(key(port)).or_default().push(port);
            map
        });
    for exposed in record.config.exposed_ports.keys() {
        if let (false, Ok((range, protocol))) = (published.contains_key(exposed), parse_port_key(exposed)) {
            ports.extend(range.map(|private_port| Port {
                private_port,
                protocol: protocol.to_string(),
                ..Port::default()
            }));
        }
    }
    for port in published.into_values().flatten() {
        ports.push(Port {
            ip: port.host_ip.to_string(),
            private_port: port.container_port,
            public_port: port.host_port,
            protocol: port.protocol.to_string(),
        });
    }
    ports
}

fn key(port: &PublishedPort) -> String {
    format!("{}/{}", port.container_port, port.protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_a_protocol_and_may_be_ranges() {
        assert_eq!(parse_port_key("80").unwrap(), (80..=80, Protocol::Tcp));
        assert_eq!(parse_port_key("53/udp").unwrap(), (53..=53, Protocol::Udp));
        assert_eq!(parse_port_key("8000-8002/TCP").unwrap(), (8000..=8002, Protocol::Tcp));
        for bad in ["", "x", "80/icmp", "9-8", "70000", "-1"] {
            assert!(parse_port_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sources_are_nets_or_words_for_them() {
        let read = |words: &[&str]| sources(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        let texts = |words: &[&str]| read(words).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&["192.0.2.7", "192.0.2.0/24"]), ["192.0.2.0/24"]);
        assert_eq!(texts(&["lan"]).len(), LAN.len());
        assert!(texts(&["lan", "any"]).is_empty() && texts(&[]).is_empty());
        assert!(read(&["everybody"]).is_err());
    }

    #[test]
    fn a_binding_without_an_address_means_every_address() {
        let binding = PortBinding { host_ip: String::new(), host_port: "8080".into(), ..PortBinding::default() };
        assert_eq!(request(&binding, 80, Protocol::Tcp).unwrap().host_ip, None);
        let v6 = PortBinding { host_ip: "[::1]".into(), host_port: "1-3".into(), ..PortBinding::default() };
        let request = request(&v6, 80, Protocol::Tcp).unwrap();
        assert_eq!((request.host_ip, request.host_ports), (Some("::1".parse().unwrap()), 1..=3));
    }
}
