//! `ports`: every published port of every container, who can reach it, and whether the host's own firewall believes it is closed.
//! Docker has nothing like it.

use std::collections::BTreeMap;

use ferry_api::container::{Inspect, PortBinding};
use ferry_api::filters::Filters;
use ferry_api::network::Summary;
use ferry_gotmpl::Value;

use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::Listing;

use super::host_firewall::{Belief, HostFirewall};

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
    let (mut rows, mut running) = (Vec::new(), Vec::new());
    for summary in client.container_list(false, -1, false, &Filters::default()).await? {
        let inspect: Inspect = match client.container_inspect(&summary.id, false).await {
            Ok(inspect) => inspect.typed()?,
            // It has gone since.
            Err(error) if error.status() == Some(404) => continue,
            Err(error) => return Err(error.into()),
        };
        rows.extend(of_container(&inspect));
        running.push(inspect);
    }
    rows.sort();
    let mut firewalls = Vec::new();
    if audit {
        for note in unpublished(&running, &networks(context).await?) {
            context.printer.note(&note);
        }
        let host = context.target()?.host;
        match host.starts_with("unix://") {
            true => firewalls = HostFirewall::all(),
            false => context.printer.note(&format!("the firewalls of the host of {host} cannot be asked from here")),
        }
    }
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

/// Networks by name.
async fn networks(context: &Context) -> Result<BTreeMap<String, Summary>> {
    let listed = context.client().await?.network_list(&Filters::default()).await?;
    Ok(listed.into_iter().map(|network| (network.name.clone(), network)).collect())
}

/// What is reached of containers without being published, in words.
fn unpublished(containers: &[Inspect], networks: &BTreeMap<String, Summary>) -> Vec<String> {
    let mut notes = Vec::new();
    for container in containers {
        let name = container.name.trim_start_matches('/');
        if container.host_config.as_ref().is_some_and(|host| host.network_mode == "host") {
            notes.push(format!("{name} uses the host's network: what it listens on is not published, and not listed"));
        }
        let joined = container.network_settings.networks.keys().filter_map(|network| networks.get(network));
        notes.extend(joined.filter_map(|network| open_way(network).map(|way| format!("{name} {way}, and not listed"))));
    }
    notes
}

/// By which a network's containers are reached at ports that are not published.
fn open_way(network: &Summary) -> Option<String> {
    let Summary { name, driver, options, .. } = network;
    if matches!(driver.as_str(), "macvlan" | "ipvlan") {
        return Some(format!(
            "stands on the wire itself by network {name} ({driver}): what it listens on is reached there"
        ));
    }
    let is_open = |family: &str| {
        let mode = options.as_ref()?.get(&format!("com.docker.network.bridge.gateway_mode_{family}"))?;
        Some(mode == "nat-unprotected")
    };
    (is_open("ipv4") == Some(true) || is_open("ipv6") == Some(true)).then(|| {
        format!("is in network {name} (nat-unprotected): what it listens on is reached by whoever has a route to it")
    })
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
                let words = firewalls.iter().map(|firewall| {
                    let name = firewall.name;
                    match firewall.believes(self.number, protocol) {
                        Belief::Open => format!("{name} opens it"),
                        Belief::OpenTo(only) => format!("{name} opens it to {}", only.join(", ")),
                        Belief::Closed if is_outside => format!("{name} believes it is closed"),
                        Belief::Closed => format!("{name} closes it to others"),
                        Belief::Unknown(reason) => format!("{name} does not tell ({reason})"),
                    }
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
}
