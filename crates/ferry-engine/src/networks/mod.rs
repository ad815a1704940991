//! The networks `bridge`, `host` and `none`, and the endpoints of containers in them.
//!
//! Owns `<data-root>/networks/<id>.json`, which addresses are in use (derived from the containers, in memory), and the calls to `ferry-network`. Leaves out what a
//! container is: it is handed ids and wishes and hands back what it gave. One lock over the table, not held while the kernel works.
//! Making further networks is not built yet and answers NotImplemented.

mod connect;
mod default;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use ferry_api::filters::Filters;
use ferry_api::network::{CreateRequest, EndpointResource, Inspect, Ipam, IpamConfig, Summary};
use ferry_network::address_pool::AddressPool;
use ferry_network::{BridgeSpec, InstanceId, Live, Networking, Options};
use ferry_store::record::Syncer;
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

pub(crate) use self::connect::{Connected, Wish};
use crate::clock;
use crate::config::{BridgeConfig, EngineConfig};
use crate::error::{Context, Error, Result};
use crate::events::Events;

/// The networks of one engine.
#[derive(Clone)]
pub struct Networks {
    inner: Arc<Inner>,
}

struct Inner {
    networking: Networking,
    bridge: BridgeConfig,
    events: Events,
    table: Mutex<BTreeMap<String, Network>>,
}

/// A network and who is in it.
struct Network {
    record: NetworkRecord,
    pool: Option<AddressPool>,
    members: BTreeMap<String, EndpointResource>,
}

/// Drivers that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Driver {
    Bridge,
    Host,
    Null,
}

impl Driver {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct NetworkRecord {
    id: String,
    name: String,
    created_ns: i64,
    driver: Driver,
    link: Option<String>,
    gateway: Option<Ipv4Addr>,
    subnet: Option<Ipv4Net>,
    ip_range: Option<Ipv4Net>,
    icc: bool,
    masquerade: bool,
    mtu: Option<u32>,
}

impl NetworkRecord {
    fn bridge_spec(&self) -> Option<BridgeSpec> {
        let (link, gateway, subnet) = (self.link.clone()?, self.gateway?, self.subnet?);
        let gateway = Ipv4Net::new(gateway, subnet.prefix_len()).expect("the prefix length of a valid subnet");
        Some(BridgeSpec {
            network_id: self.id.clone(),
            link,
            gateways: vec![IpNet::V4(gateway)],
            mtu: self.mtu,
            internal: false,
            icc: self.icc,
            masquerade: self.masquerade,
            ipv6: false,
        })
    }
}

impl Networks {
    /// Opens the kernel side and brings the default networks up.
    pub(crate) fn open(config: &EngineConfig, instance: &str, events: Events, syncer: &Syncer) -> Result<Self> {
        let instance = InstanceId::new(instance).context("cannot name the instance")?;
        let options = Options {
            instance: instance.clone(),
            exec_root: config.exec_root.clone(),
            netd_program: config.netd_program.clone(),
            firewall: config.bridge.firewall,
            ip_forward: config.bridge.ip_forward,
            default_pools: Options::docker_pools(),
        };
        let networking = Networking::open(options).context("cannot set up networking")?;
        let folder = config.data_root.join("networks");
        fs::create_dir_all(&folder).context("cannot make the networks folder")?;
        let table = default::bring_up(&networking, &instance, &config.bridge, &folder, syncer)?;
        let inner = Inner { networking, bridge: config.bridge.clone(), events, table: Mutex::new(table) };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Network>> {
        self.inner.table.lock().expect("no panic while held")
    }

    /// Removes from the kernel what carries the instance's mark but belongs to none of `container_ids`, and puts back what is missing.
    pub(crate) fn sweep(&self, container_ids: impl IntoIterator<Item = String>) -> Result<()> {
        let bridges = self.table().values().filter_map(|network| network.record.bridge_spec()).collect();
        let live = Live { bridges, container_ids: container_ids.into_iter().collect() };
        let swept = self.inner.networking.sweep(&live).context("cannot sweep the network")?;
        if !swept.links.is_empty() || !swept.released.is_empty() {
            tracing::info!(links = ?swept.links, ports_of = ?swept.released, "network objects without a container removed");
        }
        Ok(())
    }

    /// Ends; with nothing running, bridges and rules go too.
    pub(crate) fn close(&self, nothing_runs: bool) {
        if let Err(error) = self.inner.networking.close(nothing_runs) {
            tracing::warn!(error = %Error::internal("network left behind").with_source(error).text());
        }
    }

    /// Lists networks.
    ///
    /// API: `GET /networks`
    ///
    /// # Errors
    /// InvalidArgument for an unknown filter.
    pub async fn list(&self, filters: &Filters) -> Result<Vec<Summary>> {
        filters.validate(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
        let dangling = crate::filter::boolean(filters, "dangling")?;
        let table = self.table();
        let kept = table.values().filter(|network| {
            let record = &network.record;
            // The default networks are never dangling.
            dangling != Some(true)
                && crate::filter::any_of(filters, "driver", |driver| driver == record.driver.as_str())
                && crate::filter::any_of(filters, "id", |id| record.id.starts_with(id))
                && crate::filter::any_of(filters, "name", |name| record.name.contains(name))
                && crate::filter::any_of(filters, "scope", |scope| scope == "local")
                && crate::filter::any_of(filters, "type", |kind| kind == "builtin")
                && filters.matches_labels("label", &BTreeMap::new())
        });
        Ok(kept.map(|network| summary(&network.record)).collect())
    }

    /// Describes one network, by name, id or unique beginning of an id.
    ///
    /// API: `GET /networks/{id}`
    ///
    /// # Errors
    /// NotFound; InvalidArgument when several match.
    pub async fn inspect(&self, reference: &str) -> Result<Inspect> {
        let table = self.table();
        let network = find(&table, reference)?;
        let mut inspect = Inspect::from(summary(&network.record));
        inspect.containers = network.members.clone();
        Ok(inspect)
    }

    /// Makes a network.
    ///
    /// API: `POST /networks/create`
    ///
    /// # Errors
    /// NotImplemented, always: not built yet.
    pub async fn create(&self, request: &CreateRequest) -> Result<()> {
        Err(Error::not_implemented(format!("creating network {}", request.name)))
    }

    /// The id of a network by its name or id.
    pub(crate) fn id_of(&self, reference: &str) -> Result<String> {
        Ok(find(&self.table(), reference)?.record.id.clone())
    }
}

/// By name, then by id, then by a beginning of an id that only one has.
fn find<'a>(table: &'a BTreeMap<String, Network>, reference: &str) -> Result<&'a Network> {
    let by_name = table.values().find(|network| network.record.name == reference);
    if let Some(network) = by_name.or_else(|| table.get(reference)) {
        return Ok(network);
    }
    let mut matching =
        table.values().filter(|network| !reference.is_empty() && network.record.id.starts_with(reference));
    match (matching.next(), matching.next()) {
        (Some(network), None) => Ok(network),
        (Some(_), Some(_)) => {
            Err(Error::invalid(format!("network {reference} is ambiguous (matches found based on ID prefix)")))
        }
        (None, _) => Err(Error::not_found(format!("network {reference} not found"))),
    }
}

fn summary(record: &NetworkRecord) -> Summary {
    let config = record.subnet.map(|subnet| IpamConfig {
        subnet: subnet.to_string(),
        ip_range: record.ip_range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: record.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
        ..IpamConfig::default()
    });
    let ipam_config = match record.driver {
        Driver::Bridge => Some(config.into_iter().collect()),
        Driver::Host | Driver::Null => None,
    };
    Summary {
        name: record.name.clone(),
        id: record.id.clone(),
        created: clock::rfc3339(record.created_ns),
        scope: "local".to_owned(),
        driver: record.driver.as_str().to_owned(),
        enable_ipv4: true,
        ipam: Ipam { driver: "default".to_owned(), options: None, config: ipam_config },
        options: Some(options(record)),
        labels: Some(BTreeMap::new()),
        ..Summary::default()
    }
}

fn options(record: &NetworkRecord) -> BTreeMap<String, String> {
    let Some(link) = &record.link else { return BTreeMap::new() };
    let pairs = [
        ("com.docker.network.bridge.default_bridge", "true".to_owned()),
        ("com.docker.network.bridge.enable_icc", record.icc.to_string()),
        ("com.docker.network.bridge.enable_ip_masquerade", record.masquerade.to_string()),
        ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
        ("com.docker.network.bridge.name", link.clone()),
        ("com.docker.network.driver.mtu", record.mtu.unwrap_or(1500).to_string()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// An address with its prefix, as the API writes it.
fn with_prefix(address: IpAddr, prefix_length: u8) -> String {
    format!("{address}/{prefix_length}")
}

/// Where a record lies.
fn record_path(folder: &Path, id: &str) -> std::path::PathBuf {
    folder.join(format!("{id}.json"))
}
