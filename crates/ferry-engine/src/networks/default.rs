//! Bringing up `bridge`, `host`, `none` and the networks of users at start.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ferry_network::{InstanceId, Networking};
use ferry_store::record::{self, Syncer};
use ipnet::{IpNet, Ipv4Net};

use super::Network;
use super::options::Settings;
use super::record::{self as network_record, Driver, NetworkRecord};
use super::subnets::{self, SubnetRecord};
use crate::clock;
use crate::config::BridgeConfig;
use crate::error::{Context, Error, Result};
use crate::ids;

/// dockerd's `docker0`; see `docs/design/state.md`, Network.
const DEFAULT_BRIDGE: &str = "ferry0";

/// Reads the records, makes those of the default networks that are missing, and has the bridges made.
pub(super) fn bring_up(
    networking: &Networking,
    instance: &InstanceId,
    config: &BridgeConfig,
    folder: &Path,
    syncer: &Syncer,
) -> Result<BTreeMap<String, Network>> {
    let found = read_records(folder)?;
    let mut records = Vec::new();
    if config.name != "none" {
        let earlier = found.iter().find(|record| record.driver == Driver::Bridge && !record.user_defined);
        let id = earlier.map_or_else(ids::random_id, |record| record.id.clone());
        let link = bridge_link(networking, config, earlier, instance, &id)?;
        let taken: Vec<_> = found.iter().filter(|record| record.user_defined).flat_map(NetworkRecord::nets).collect();
        let bridge = bridge_record(networking, config, earlier, &taken, id, link)?;
        let spec = bridge.bridge_spec().expect("a bridge record has link, gateway and subnet");
        networking.ensure_bridge(&spec).context(format!("cannot make the bridge {}", config.name))?;
        records.push(bridge);
    }
    for (name, driver) in [("host", Driver::Host), ("none", Driver::Null)] {
        let earlier = found.iter().find(|record| record.driver == driver);
        records.push(earlier.cloned().unwrap_or_else(|| NetworkRecord::plain(name, driver)));
    }
    for record in found.iter().filter(|record| record.user_defined) {
        if let Some(spec) = record.bridge_spec()
            && let Err(error) = networking.ensure_bridge(&spec)
        {
            // One network that cannot be had is no reason to run none of the others.
            tracing::error!(network = %record.name, error = %Error::internal("bridge not made").with_source(error).text());
        }
        records.push(record.clone());
    }
    let mut table = BTreeMap::new();
    for network in records {
        if !found.iter().any(|earlier| same(earlier, &network)) {
            syncer
                .write(&network_record::path(folder, &network.id), &network)
                .context(format!("network {}", network.name))?;
        }
        table.insert(network.id.clone(), network.into_network()?);
    }
    Ok(table)
}

fn same(a: &NetworkRecord, b: &NetworkRecord) -> bool {
    serde_json::to_value(a).ok() == serde_json::to_value(b).ok()
}

fn read_records(folder: &Path) -> Result<Vec<NetworkRecord>> {
    record::sweep(folder).context("cannot remove what was half written")?;
    let mut records = Vec::new();
    // Lists those, too, that were written in the last second before a kill and have no final name yet.
    for path in record::list(folder).context("cannot read the networks folder")? {
        match record::read::<NetworkRecord>(&path) {
            Ok(record) => records.extend(record.map(NetworkRecord::upgraded)),
            Err(error) => tracing::error!(network = %path.display(), %error, "network record set aside"),
        }
    }
    Ok(records)
}

/// The earlier record brought to what the configuration says now; the subnet is kept as long as it is free.
fn bridge_record(
    networking: &Networking,
    config: &BridgeConfig,
    earlier: Option<&NetworkRecord>,
    taken: &[IpNet],
    id: String,
    link: String,
) -> Result<NetworkRecord> {
    let ip_range = match config.fixed_cidr {
        Some(IpNet::V4(range)) => Some(range),
        Some(IpNet::V6(range)) => {
            return Err(Error::invalid(format!(
                "invalid fixed-cidr {range}: an IPv6 subnet is given by `fixed-cidr-v6`"
            )));
        }
        None => None,
    };
    let gateway = match config.bip {
        Some(IpNet::V4(bip)) => bip,
        Some(IpNet::V6(bip)) => {
            return Err(Error::invalid(format!("invalid bip {bip}: an IPv6 address is given by `bip6`")));
        }
        None => match ip_range {
            // The range is the subnet then, as in Docker.
            Some(range) => first_of(range),
            None => chosen_gateway(networking, &link, earlier, taken)?,
        },
    };
    warn_of_outside("fixed-cidr", gateway.trunc().into(), ip_range.map(IpNet::V4));
    let mut subnet = SubnetRecord::plain(IpNet::V4(gateway.trunc()));
    subnet.gateway = Some(gateway.addr().into());
    subnet.range = ip_range.map(|range| IpNet::V4(range.trunc()));
    lead_out(&mut subnet, "DefaultGatewayIPv4", config.default_gateway.map(IpAddr::V4))?;
    let mut subnets = vec![subnet];
    if config.ipv6 {
        let mut subnet = ipv6_subnet(config, earlier)?;
        lead_out(&mut subnet, "DefaultGatewayIPv6", config.default_gateway_v6.map(IpAddr::V6))?;
        subnets.push(subnet);
    }
    let host_binding = Some(config.default_binding_ip).filter(|ip| !ip.is_unspecified());
    Ok(NetworkRecord {
        id,
        created_ns: earlier.map_or_else(clock::now_ns, |record| record.created_ns),
        link: Some(link),
        subnets,
        asked_ipv6: Some(config.ipv6),
        settings: Settings { host_binding, ..Settings::default() },
        icc: config.icc,
        masquerade: config.ip_masquerade,
        mtu: config.mtu.filter(|mtu| *mtu > 0),
        ..NetworkRecord::plain("bridge", Driver::Bridge)
    })
}

/// The first address of a subnet, with its prefix.
fn first_of(net: Ipv4Net) -> Ipv4Net {
    let first = net.hosts().next().unwrap_or(net.addr());
    Ipv4Net::new(first, net.prefix_len()).unwrap_or(net)
}

/// The subnet of `bip6`, with `fixed-cidr-v6` as its range; that of `fixed-cidr-v6` alone; the one it has had; a new unique local one.
fn ipv6_subnet(config: &BridgeConfig, earlier: Option<&NetworkRecord>) -> Result<SubnetRecord> {
    let kept = || earlier.and_then(|record| record.subnets.iter().find(|subnet| !subnet.is_v4()));
    let mut subnet = match (config.bip6, config.fixed_cidr_v6) {
        (Some(bip), range) => {
            let mut subnet = SubnetRecord::plain(IpNet::V6(bip.trunc()));
            subnet.gateway = Some(bip.addr().into());
            warn_of_outside("fixed-cidr-v6", bip.trunc().into(), range.map(IpNet::V6));
            subnet.range = range.map(|range| IpNet::V6(range.trunc()));
            subnet
        }
        (None, Some(fixed)) => {
            let mut subnet = SubnetRecord::plain(IpNet::V6(fixed.trunc()));
            // As Docker shows it.
            subnet.range = Some(subnet.net);
            subnet
        }
        (None, None) => match kept() {
            Some(kept) => SubnetRecord::plain(kept.net),
            None => subnets::chosen_v6(rand::random()),
        },
    };
    subnet.choose_gateway()?;
    Ok(subnet)
}

/// As in Docker no reason not to start: other networks are as they should be, and what a container is told is in `places`.
fn warn_of_outside(option: &str, subnet: IpNet, range: Option<IpNet>) {
    if let Some(range) = range.filter(|range| !subnets::overlap(&subnet, range)) {
        tracing::warn!(%range, %subnet, "`{option}` is not in the subnet of the default bridge, which has no addresses to give");
    }
}

/// Where containers send what goes outside, if that is not the bridge.
fn lead_out(subnet: &mut SubnetRecord, name: &str, gateway: Option<IpAddr>) -> Result<()> {
    let Some(gateway) = gateway else { return Ok(()) };
    if !subnet.net.contains(&gateway) {
        let text = format!("auxiliary address: ({name}:{gateway}) must belong to the master pool: {}", subnet.net);
        return Err(Error::invalid(text));
    }
    subnet.route = Some(gateway);
    subnet.auxiliary.insert(name.to_owned(), gateway);
    Ok(())
}

/// The configured link, or one with the instance's own name where another instance has the default one already.
fn bridge_link(
    networking: &Networking,
    config: &BridgeConfig,
    earlier: Option<&NetworkRecord>,
    instance: &InstanceId,
    id: &str,
) -> Result<String> {
    if config.name != DEFAULT_BRIDGE {
        return Ok(config.name.clone());
    }
    let own = instance.bridge_link(id);
    let had_own = earlier.is_some_and(|record| record.link.as_deref() == Some(&own));
    let is_free = networking.is_link_available(DEFAULT_BRIDGE).context("cannot look for the default bridge")?;
    Ok(if had_own || !is_free { own } else { DEFAULT_BRIDGE.to_owned() })
}

fn chosen_gateway(
    networking: &Networking,
    link: &str,
    earlier: Option<&NetworkRecord>,
    taken: &[IpNet],
) -> Result<Ipv4Net> {
    let kept = earlier
        .filter(|record| record.link.as_deref() == Some(link))
        .and_then(|record| record.subnets.iter().find(|subnet| subnet.is_v4()))
        .and_then(|subnet| match subnet.gateway? {
            IpAddr::V4(gateway) => Ipv4Net::new(gateway, subnet.net.prefix_len()).ok(),
            IpAddr::V6(_) => None,
        });
    if let Some(kept) = kept
        && networking.is_subnet_free(&kept.trunc(), link).context("cannot read the host's routes")?
    {
        return Ok(kept);
    }
    let subnet = networking.choose_subnet(taken).context("cannot choose a subnet for the default bridge")?;
    let first = subnet.hosts().next().expect("a subnet of a pool has hosts");
    Ok(Ipv4Net::new(first, subnet.prefix_len()).expect("the prefix length of a valid subnet"))
}
