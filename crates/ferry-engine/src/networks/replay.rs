//! What earlier daemons asked of plugins of addresses, asked again of those that do not remember it (`RequiresRequestReplay`).
//!
//! It is asked once in a daemon's life, before anything else: when the daemon starts, or when the plugin comes. What a plugin
//! refuses to give again is told in the log, as in Docker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ferry_api::network::EndpointResource;
use ipnet::IpNet;

use super::record::NetworkRecord;
use super::remote::{self, MAC_ADDRESS};
use super::{Network, Networks};
use crate::error::{Error, Result};
use crate::plugins::{IPAM_DRIVER, Plugin, PoolRequest};
use crate::volumes::Volumes;

/// A pool of a network, and what of it is in use.
struct Used {
    network: String,
    /// By which the plugin knew it.
    id: String,
    net: IpNet,
    range: Option<IpNet>,
    options: BTreeMap<String, String>,
    gateway: Option<IpAddr>,
    auxiliary: Vec<IpAddr>,
    /// Of containers, with the hardware addresses that they have.
    endpoints: Vec<(IpAddr, String)>,
}

impl Networks {
    /// Asks plugins again, beside everything else. One that is not there is asked when it is.
    pub(crate) fn repeat_requests(&self) {
        let names: BTreeSet<String> =
            self.table().values().filter_map(|network| network.record.ipam_plugin().map(str::to_owned)).collect();
        if names.is_empty() {
            return;
        }
        let networks = self.clone();
        tokio::task::spawn_blocking(move || {
            for name in names {
                if let Err(error) = networks.address_plugin(&name) {
                    tracing::warn!(plugin = name, error = error.text(), "plugin of addresses not asked again");
                }
            }
        });
    }

    /// A plugin of addresses by its name, which knows what it gave to earlier daemons.
    pub(super) fn address_plugin(&self, name: &str) -> Result<Arc<Plugin>> {
        let plugin = self.plugin(name, IPAM_DRIVER)?;
        Volumes::wait_for(async {
            plugin.replayed.get_or_init(|| self.repeat_to(name, &plugin)).await;
            Ok(())
        })?;
        Ok(plugin)
    }

    async fn repeat_to(&self, name: &str, plugin: &Plugin) {
        let wants = plugin.address_capabilities().await;
        if !wants.requires_request_replay {
            return;
        }
        let used: Vec<Used> = {
            let table = self.table();
            table.values().filter(|network| network.record.ipam_plugin() == Some(name)).flat_map(used_by).collect()
        };
        for used in used {
            if let Err(error) = repeat(plugin, &used, wants.requires_mac_address).await {
                tracing::warn!(
                    plugin = name,
                    network = used.network,
                    net = %used.net,
                    error = error.text(),
                    "plugin does not give again what it gave"
                );
            }
        }
    }
}

fn used_by(network: &Network) -> Vec<Used> {
    let record = &network.record;
    let pools = record.plugin_pools.iter();
    pools.map(|(net, id)| used_of(record, *net, id, network.members.values())).collect()
}

fn used_of<'a>(
    record: &NetworkRecord,
    net: IpNet,
    id: &str,
    members: impl Iterator<Item = &'a EndpointResource>,
) -> Used {
    let subnet = record.subnets.iter().find(|subnet| subnet.net == net);
    let own = |member: &EndpointResource| {
        let texts = [&member.ipv4_address, &member.ipv6_address];
        let parsed = texts.into_iter().filter_map(|text| text.split('/').next()?.parse::<IpAddr>().ok());
        let mac = member.mac_address.clone();
        parsed.filter(|ip| net.contains(ip)).map(|ip| (ip, mac.clone())).collect::<Vec<_>>()
    };
    Used {
        network: record.name.clone(),
        id: id.to_owned(),
        net,
        range: subnet.and_then(|subnet| subnet.range),
        options: record.ipam.as_ref().and_then(|ipam| ipam.options.clone()).unwrap_or_default(),
        gateway: subnet.and_then(|subnet| subnet.gateway),
        auxiliary: subnet.map(|subnet| subnet.auxiliary.values().copied().collect()).unwrap_or_default(),
        endpoints: members.flat_map(own).collect(),
    }
}

async fn repeat(plugin: &Plugin, used: &Used, with_mac: bool) -> Result<()> {
    let request = PoolRequest {
        address_space: plugin.address_space().await?,
        pool: used.net.to_string(),
        sub_pool: used.range.map(|range| range.to_string()).unwrap_or_default(),
        options: used.options.clone(),
        v6: used.net.addr().is_ipv6(),
    };
    let given = plugin.request_pool(&request).await?;
    if given.id != used.id {
        return Err(Error::internal(format!("it calls the pool {} now, which was {}", given.id, used.id)));
    }
    if let Some(gateway) = used.gateway {
        let _ = plugin.request_address(&used.id, &gateway.to_string(), &remote::gateway_options()).await?;
    }
    for address in &used.auxiliary {
        let _ = plugin.request_address(&used.id, &address.to_string(), &BTreeMap::new()).await?;
    }
    for (address, mac) in &used.endpoints {
        let mac = with_mac.then(|| (MAC_ADDRESS.to_owned(), mac.clone()));
        let _ = plugin.request_address(&used.id, &address.to_string(), &mac.into_iter().collect()).await?;
    }
    Ok(())
}
