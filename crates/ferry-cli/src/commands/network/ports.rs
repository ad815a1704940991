//! `ports`: every published port of every container, who can reach it, and whether the host's own firewall believes it is closed.
//! Docker has nothing like it.

use std::process::{Command, Stdio};

use ferry_api::container::{Inspect, PortBinding};
use ferry_api::filters::Filters;
use ferry_gotmpl::Value;

use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::Listing;

const HEADERS: &[(&str, &str)] = &[
    ("Port", "PORT"),
    ("Container", "CONTAINER"),
    ("Target", "TARGET"),
    ("Reach", "REACHED BY"),
    ("Firewall", "HOST FIREWALL"),
];

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    number: u16,
    host_ip: String,
    target: String,
    container: String,
    reach: String,
}

/// Runs `ports`.
pub(crate) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let audit = parsed.on("audit");
    let client = context.client().await?;
    let mut rows = Vec::new();
    for summary in client.container_list(false, -1, false, &Filters::default()).await? {
        let inspect: Inspect = client.container_inspect(&summary.id, false).await?.typed()?;
        rows.extend(of_container(&inspect));
    }
    rows.sort();
    let firewalls = if audit { HostFirewall::all() } else { Vec::new() };
    let listing = Listing {
        type_name: "network.portContext",
        headers: HEADERS,
        table: if audit {
            "{{.Port}}\t{{.Container}}\t{{.Target}}\t{{.Reach}}\t{{.Firewall}}"
        } else {
            "{{.Port}}\t{{.Container}}\t{{.Target}}\t{{.Reach}}"
        },
        raw: "",
    };
    let values = rows.iter().map(|row| row.values(&firewalls)).collect();
    context.printer.data(listing.render(parsed.text_or_empty("format"), values)?)?;
    Ok(0)
}

fn of_container(inspect: &Inspect) -> Vec<Row> {
    let published = inspect
        .network_settings
        .ports
        .iter()
        .flat_map(|(target, bindings)| bindings.iter().flatten().map(move |binding| (target, binding)));
    let rows = published.map(|(target, binding)| Row {
        number: binding.host_port.parse().unwrap_or(0),
        host_ip: binding.host_ip.clone(),
        target: target.clone(),
        container: inspect.name.trim_start_matches('/').to_owned(),
        reach: reach(binding),
    });
    rows.collect()
}

/// Who gets to a port, in words.
fn reach(binding: &PortBinding) -> String {
    if !binding.from.is_empty() {
        return format!("this host, {}", binding.from.join(", "));
    }
    let address: Option<std::net::IpAddr> = binding.host_ip.parse().ok();
    match (binding.host_port.as_str(), address) {
        ("" | "0", _) => "whoever has a route to the container".to_owned(),
        (_, Some(address)) if address.is_loopback() => "this host".to_owned(),
        (_, Some(address)) if !address.is_unspecified() => format!("whoever reaches {address}"),
        _ => "everybody, on every address".to_owned(),
    }
}

impl Row {
    fn values(&self, firewalls: &[HostFirewall]) -> Vec<(&'static str, Value)> {
        let protocol = self.target.rsplit('/').next().unwrap_or("tcp");
        let host = if self.host_ip.contains(':') { format!("[{}]", self.host_ip) } else { self.host_ip.clone() };
        let port = if self.number == 0 { host } else { format!("{host}:{}/{protocol}", self.number) };
        let is_outside = !matches!(self.reach.as_str(), "this host");
        let firewall = match firewalls {
            [] => "none is active".to_owned(),
            firewalls => {
                let words = firewalls.iter().map(|firewall| match firewall.opens(self.number, protocol) {
                    true => format!("{} opens it", firewall.name),
                    false if is_outside => format!("{} believes it is closed", firewall.name),
                    false => format!("{} closes it to others", firewall.name),
                });
                words.collect::<Vec<_>>().join(", ")
            }
        };
        vec![
            ("Container", self.container.as_str().into()),
            ("Firewall", firewall.into()),
            ("Port", port.into()),
            ("Reach", self.reach.as_str().into()),
            ("Target", self.target.as_str().into()),
        ]
    }
}

/// A firewall of the host that is switched on, and the ports that it believes are open.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HostFirewall {
    name: &'static str,
    /// First and last port, and the protocol where one is said.
    open: Vec<(u16, u16, Option<String>)>,
}

impl HostFirewall {
    /// Those that are there and active; asked on this machine.
    fn all() -> Vec<Self> {
        let ufw = output("ufw", &["status"]).and_then(|text| Self::of_ufw(&text));
        let firewalld = output("firewall-cmd", &["--list-ports"]).map(|text| Self::of_firewalld(&text));
        ufw.into_iter().chain(firewalld).collect()
    }

    /// Reads `ufw status`.
    fn of_ufw(text: &str) -> Option<Self> {
        if !text.lines().any(|line| line.trim() == "Status: active") {
            return None;
        }
        let allowed = text.lines().filter(|line| line.contains(" ALLOW"));
        let open = allowed.filter_map(|line| {
            let rule = line.split_whitespace().next()?;
            if rule == "Anywhere" { Some((0, u16::MAX, None)) } else { port_rule(rule, ':') }
        });
        Some(Self { name: "ufw", open: open.collect() })
    }

    /// Reads `firewall-cmd --list-ports`.
    fn of_firewalld(text: &str) -> Self {
        let open = text.split_whitespace().filter_map(|rule| port_rule(rule, '-'));
        Self { name: "firewalld", open: open.collect() }
    }

    fn opens(&self, port: u16, protocol: &str) -> bool {
        self.open.iter().any(|(first, last, only)| {
            (*first..=*last).contains(&port) && only.as_deref().is_none_or(|only| only == protocol)
        })
    }
}

/// `80`, `80/tcp`, `8000-8010/udp`.
fn port_rule(rule: &str, dash: char) -> Option<(u16, u16, Option<String>)> {
    let (ports, protocol) = rule.split_once('/').map_or((rule, None), |(ports, protocol)| (ports, Some(protocol)));
    let (first, last) = ports.split_once(dash).unwrap_or((ports, ports));
    Some((first.parse().ok()?, last.parse().ok()?, protocol.map(str::to_owned)))
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(host_ip: &str, host_port: &str, from: &[&str]) -> PortBinding {
        PortBinding {
            host_ip: host_ip.to_owned(),
            host_port: host_port.to_owned(),
            from: from.iter().map(|&net| net.to_owned()).collect(),
        }
    }

    #[test]
    fn who_reaches_a_port_is_told_in_words() {
        assert_eq!(reach(&binding("0.0.0.0", "80", &[])), "everybody, on every address");
        assert_eq!(reach(&binding("127.0.0.1", "80", &[])), "this host");
        assert_eq!(reach(&binding("192.0.2.1", "80", &[])), "whoever reaches 192.0.2.1");
        assert_eq!(reach(&binding("0.0.0.0", "80", &["10.0.0.0/8"])), "this host, 10.0.0.0/8");
        assert_eq!(reach(&binding("0.0.0.0", "", &[])), "whoever has a route to the container");
    }

    #[test]
    fn what_firewalls_believe_is_read() {
        let ufw = HostFirewall::of_ufw(
            "Status: active\n\nTo                         Action      From\n--                         ------      ----\n\
             22/tcp                     ALLOW       Anywhere\n8000:8010/udp              ALLOW       Anywhere\n\
             9000                       DENY        Anywhere\n",
        );
        let ufw = ufw.expect("active");
        assert!(ufw.opens(22, "tcp") && ufw.opens(8005, "udp"));
        assert!(!ufw.opens(22, "udp") && !ufw.opens(9000, "tcp") && !ufw.opens(80, "tcp"));
        assert_eq!(HostFirewall::of_ufw("Status: inactive\n"), None);
        let firewalld = HostFirewall::of_firewalld("8080/tcp 9000-9010/udp\n");
        assert!(firewalld.opens(8080, "tcp") && firewalld.opens(9001, "udp") && !firewalld.opens(8080, "udp"));
    }
}
