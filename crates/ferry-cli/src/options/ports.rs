//! `--publish` and `--expose`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferry_api::container::{Empty, PortBinding, PortMap, PortSet};

use super::csv;

/// Ports that are open, and where they are published.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Ports {
    pub(super) exposed: PortSet,
    pub(super) bindings: PortMap,
}

/// Reads all `--publish` and `--expose` values.
pub(super) fn parse(publish: &[String], expose: &[String]) -> Result<Ports, String> {
    let mut ports = Ports::default();
    for spec in publish {
        let (spec, from) = standard_notation(spec)?;
        for (port, mut binding) in parse_spec(&spec)? {
            binding.from.clone_from(&from);
            ports.exposed.insert(port.clone(), Empty {});
            ports.bindings.entry(port).or_insert_with(|| Some(Vec::new())).get_or_insert_with(Vec::new).push(binding);
        }
    }
    for spec in expose {
        for port in parse_expose(spec)? {
            ports.exposed.insert(port, Empty {});
        }
    }
    Ok(ports)
}

fn parse_expose(spec: &str) -> Result<Vec<String>, String> {
    if spec.contains(':') {
        return Err(format!("invalid port format for --expose: {spec}"));
    }
    let (protocol, range) = split_protocol(spec);
    let (start, end) =
        port_range(range).map_err(|error| format!("invalid range format for --expose: {spec}, error: {error}"))?;
    Ok((start..=end).map(|port| format!("{port}/{}", protocol.to_ascii_lowercase())).collect())
}

/// Turns `target=80,published=8080` into `8080:80`, and takes off who may reach it: `8080:80,from=lan`.
fn standard_notation(spec: &str) -> Result<(String, Vec<String>), String> {
    if !spec.contains('=') {
        return Ok((spec.to_owned(), Vec::new()));
    }
    let (mut short, mut from) = (None, Vec::new());
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for field in csv::fields(spec)? {
        match field.split_once('=') {
            Some((key, value)) if key.trim().eq_ignore_ascii_case("from") => from.push(value.trim().to_owned()),
            Some((key, value)) => {
                values.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
            }
            None => short = Some(field),
        }
    }
    if let Some(short) = short.filter(|_| values.is_empty()) {
        return Ok((short, from));
    }
    let value = |name: &str| values.get(name).map_or("", String::as_str);
    let protocol = if value("protocol").is_empty() { "tcp" } else { value("protocol") };
    // What is wrong with the parts the short form tells.
    Ok((format!("{}:{}/{protocol}", value("published"), value("target")), from))
}

fn parse_spec(spec: &str) -> Result<Vec<(String, PortBinding)>, String> {
    let (address, host, container) = split_parts(spec);
    let (protocol, container) = split_protocol(container);
    let address = match address.strip_prefix('[') {
        Some(inner) => inner
            .strip_suffix(']')
            .ok_or_else(|| format!("invalid IP address {address}: address {address}:: missing ']' in address"))?,
        None => address,
    };
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {address}"));
    }
    if container.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    let (start, end) = port_range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let (host_start, host_end) = match host {
        "" => (0, 0),
        range => port_range(range).map_err(|_| format!("invalid hostPort: {range}"))?,
    };
    if !host.is_empty() && end - start != host_end.abs_diff(host_start) && start != end {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    let protocol = protocol.to_ascii_lowercase();
    if !is_protocol(&protocol) {
        return Err(format!("invalid proto: {protocol}"));
    }
    let mapping = |offset: u16| {
        let host_port = match host {
            "" => String::new(),
            // One container port may take any of a range.
            _ if start == end && host_start != host_end => format!("{host_start}-{host_end}"),
            _ => (host_start + offset).to_string(),
        };
        (
            format!("{}/{protocol}", start + offset),
            PortBinding { host_ip: address.to_owned(), host_port, from: Vec::new() },
        )
    };
    Ok((0..=end - start).map(mapping).collect())
}

/// Address, host port and container port.
fn split_parts(spec: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = spec.rsplit_once(':') else { return ("", "", spec) };
    match rest.rsplit_once(':') {
        Some((address, host)) => (address, host, container),
        None => ("", rest, container),
    }
}

/// Protocol and port.
fn split_protocol(port: &str) -> (&str, &str) {
    match port.split_once('/') {
        _ if port.is_empty() || port.starts_with('/') => ("", ""),
        None => ("tcp", port),
        Some((number, "")) => ("tcp", number),
        Some((number, protocol)) => (protocol.split('/').next().unwrap_or(protocol), number),
    }
}

fn is_protocol(protocol: &str) -> bool {
    matches!(protocol.to_ascii_lowercase().as_str(), "tcp" | "udp" | "sctp")
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    let number = |digits: &str| {
        let failure = |why: &str| format!("strconv.ParseUint: parsing {}: {why}", crate::flags::go_quote(digits));
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(failure("invalid syntax"));
        }
        digits.parse::<u16>().map_err(|_| failure("value out of range"))
    };
    let Some((start, end)) = text.split_once('-') else {
        let port = number(text)?;
        return Ok((port, port));
    };
    let (start, end) = (number(start)?, number(end)?);
    if end < start {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(spec: &str) -> Vec<String> {
        let ports = parse(&[spec.to_owned()], &[]).unwrap();
        let mut out = Vec::new();
        for (port, bindings) in ports.bindings {
            for binding in bindings.unwrap() {
                out.push(format!("{}|{}|{port}", binding.host_ip, binding.host_port));
            }
        }
        out
    }

    #[test]
    fn every_form_of_publish() {
        assert_eq!(published("80"), ["||80/tcp"]);
        assert_eq!(published("8080:80/udp"), ["|8080|80/udp"]);
        assert_eq!(published("127.0.0.1::80"), ["127.0.0.1||80/tcp"]);
        assert_eq!(published("[::1]:8080:80"), ["::1|8080|80/tcp"]);
        assert_eq!(published("8000-8001:80-81"), ["|8000|80/tcp", "|8001|81/tcp"]);
        assert_eq!(published("8000-8010:80"), ["|8000-8010|80/tcp"]);
        assert_eq!(published("target=80,published=8080,protocol=udp"), ["|8080|80/udp"]);
    }

    #[test]
    fn who_may_reach_a_port_stands_behind_it() {
        let from = |spec: &str| {
            let ports = parse(&[spec.to_owned()], &[]).unwrap();
            ports.bindings["80/tcp"].as_ref().unwrap()[0].from.clone()
        };
        assert_eq!(from("8080:80,from=lan"), ["lan"]);
        assert_eq!(from("127.0.0.1:8080:80,from=10.0.0.0/8,from=fd00::/8"), ["10.0.0.0/8", "fd00::/8"]);
        assert_eq!(from("target=80,published=8080,from=any"), ["any"]);
        assert!(from("8080:80").is_empty());
    }

    #[test]
    fn bad_ports_are_named() {
        for (spec, reason) in [
            ("x", "invalid containerPort: x"),
            ("x:80", "invalid hostPort: x"),
            ("1.2.3:1:80", "invalid IP address: 1.2.3"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("80/foo", "invalid proto: foo"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
            ("70000", "invalid containerPort: 70000"),
        ] {
            assert_eq!(parse(&[spec.to_owned()], &[]).unwrap_err(), reason, "{spec}");
        }
    }

    #[test]
    fn exposed_ranges() {
        let ports = parse(&[], &["90-92/udp".to_owned()]).unwrap();
        assert_eq!(ports.exposed.keys().collect::<Vec<_>>(), ["90/udp", "91/udp", "92/udp"]);
        assert_eq!(
            parse(&[], &["x".to_owned()]).unwrap_err(),
            "invalid range format for --expose: x, error: strconv.ParseUint: parsing \"x\": invalid syntax"
        );
    }
}
