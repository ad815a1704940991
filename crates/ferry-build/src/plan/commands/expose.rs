//! EXPOSE.

use std::net::IpAddr;

use ferry_dockerfile::check::{EXPOSE_INVALID_FORMAT, EXPOSE_PROTO_CASING};
use ferry_dockerfile::quoted;
use ferry_spec::image::Empty;

use super::Step;
use super::naming::go_list;
use crate::plan::error::PlanError;

/// A port as written: `[[IP:]HOST:]PORT[-PORT][/PROTOCOL]`.
struct Written<'a> {
    ip: String,
    host: &'a str,
    ports: &'a str,
    protocol: &'a str,
}

impl Step<'_, '_, '_> {
    pub(super) fn expose(&mut self, written: &[String]) -> Result<(), PlanError> {
        let lexer = self.stages.lexer;
        let mut ports = Vec::new();
        for word in written {
            let words = lexer.words(word, &self.stage().tree.environment)?;
            for word in words {
                self.check_format(&word)?;
                ports.extend(parse(&word).map_err(PlanError::other)?);
            }
        }
        let epoch = self.stages.epoch;
        let stage = self.stage();
        stage.image.config.exposed_ports.extend(ports.iter().map(|port| (port.clone(), Empty {})));
        stage.remember(format!("EXPOSE {}", go_list(&ports)), false, epoch);
        Ok(())
    }

    fn check_format(&mut self, word: &str) -> Result<(), PlanError> {
        let written = split(word).map_err(PlanError::other)?;
        if written.protocol != written.protocol.to_lowercase() {
            let detail = format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
            self.checks.report(&EXPOSE_PROTO_CASING, self.lines, detail, &self.comments);
        }
        if !written.ip.is_empty() || !written.host.is_empty() {
            let detail =
                format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'");
            self.checks.report(&EXPOSE_INVALID_FORMAT, self.lines, detail, &self.comments);
        }
        Ok(())
    }
}

/// Returns the ports of one word, each with its protocol.
fn parse(word: &str) -> Result<Vec<String>, String> {
    let written = split(word)?;
    if !written.ip.is_empty() {
        let ip = written.ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(&written.ip);
        ip.parse::<IpAddr>().map_err(|_| format!("invalid IP address: {ip}"))?;
    }
    let (first, last) = range(written.ports).ok_or_else(|| format!("invalid containerPort: {}", written.ports))?;
    if !written.host.is_empty() {
        let (host_first, host_last) =
            range(written.host).ok_or_else(|| format!("invalid hostPort: {}", written.host))?;
        if last - first != host_last - host_first && first != last {
            return Err(format!(
                "invalid ranges specified for container and host Ports: {} and {}",
                written.ports, written.host
            ));
        }
    }
    let protocol = written.protocol.to_lowercase();
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn split(word: &str) -> Result<Written<'_>, String> {
    let parts: Vec<&str> = word.split(':').collect();
    let (ip, host, port) = match parts[..] {
        [port] => (String::new(), "", port),
        [host, port] => (String::new(), host, port),
        [ref ip @ .., host, port] => (ip.join(":"), host, port),
        [] => (String::new(), "", ""),
    };
    let (ports, protocol) = port.split_once('/').unwrap_or((port, ""));
    let invalid = |why: String| format!("invalid port: {}: {why}", quoted(word));
    if ports.is_empty() {
        return Err(invalid("no port specified".to_owned()));
    }
    let protocol = match protocol.to_lowercase().as_str() {
        "" => "tcp",
        "tcp" | "udp" | "sctp" => protocol,
        _ => return Err(invalid(format!("invalid proto: {protocol}"))),
    };
    Ok(Written { ip, host, ports, protocol })
}

/// Reads `PORT` or `PORT-PORT`.
fn range(text: &str) -> Option<(u32, u32)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.parse::<u32>().ok().filter(|port| *port <= 65_535);
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_every_form() {
        for (word, expected) in [
            ("80", vec!["80/tcp"]),
            ("80/udp", vec!["80/udp"]),
            ("80/TCP", vec!["80/tcp"]),
            ("8000-8002/sctp", vec!["8000/sctp", "8001/sctp", "8002/sctp"]),
            ("8080:80", vec!["80/tcp"]),
            ("127.0.0.1:8080:80", vec!["80/tcp"]),
            ("[::1]:8080:80", vec!["80/tcp"]),
            ("8000-8001:80-81", vec!["80/tcp", "81/tcp"]),
        ] {
            assert_eq!(parse(word).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn what_is_no_port() {
        for (word, error) in [
            ("x", "invalid containerPort: x"),
            ("70000", "invalid containerPort: 70000"),
            ("82-80", "invalid containerPort: 82-80"),
            ("80/foo", "invalid port: \"80/foo\": invalid proto: foo"),
            ("/tcp", "invalid port: \"/tcp\": no port specified"),
            ("x:80", "invalid hostPort: x"),
            ("1.2.3:1:80", "invalid IP address: 1.2.3"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
        ] {
            assert_eq!(parse(word).unwrap_err(), error, "{word}");
        }
    }
}
