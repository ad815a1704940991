//! The networks `bridge`, `host` and `none`, those that users make, and the endpoints of containers in them.
//!
//! Owns `<data-root>/networks/<id>.json`, which addresses are in use (derived from the containers, in memory), and the calls to `ferry-network`. Leaves out what a
//! container is: it is handed ids and wishes and hands back what it gave. One lock over the table, not held while the kernel works;
//! `making` is held before it by whoever makes or removes a network, so that two do not choose the same subnet or name.

mod connect;
mod create;
mod default;
mod egress;
mod live;
mod names;
mod options;
mod places;
mod record;
mod remote;
mod remove;
mod replay;
mod shape;
mod subnets;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use ferry_api::filters::Filters;
use ferry_api::network::{EndpointResource, Inspect, IpamStatus, Status, SubnetStatus, Summary};
use ferry_network::address_pool::AddressPool;
use ferry_network::{InstanceId, Live, Networking, Options};
use ferry_store::record::Syncer;
use ipnet::IpNet;

pub(crate) use self::connect::{Connected, EndpointWish, Wish};
pub(crate) use self::live::{Changed, Running};
pub(crate) use self::names::names;
pub(crate) use self::places::{SYSCTLS, check_sysctls};
use self::record::{Driver, NetworkRecord};
use crate::config::EngineConfig;
use crate::error::{Context, Error, Result};
use crate::events::Events;
use crate::plugins::Plugins;

/// The networks of one engine.
#[derive(Clone)]
pub struct Networks {
    inner: Arc<Inner>,
}

struct Inner {
    networking: Networking,
    plugins: Plugins,
    /// Options of new networks, by driver.
    default_options: BTreeMap<String, BTreeMap<String, String>>,
    instance: InstanceId,
    folder: PathBuf,
    syncer: Syncer,
    events: Events,
    making: Mutex<()>,
    /// The same for networks that plugins have a part in, so that one that hangs keeps nobody else waiting.
    making_remote: Mutex<()>,
    /// Subnets of networks that are being made.
    chosen: Mutex<Vec<IpNet>>,
    table: Mutex<BTreeMap<String, Network>>,
}

/// A network and who is in it.
struct Network {
    record: NetworkRecord,
    /// In the order of the record's subnets.
    pools: Vec<AddressPool>,
    members: BTreeMap<String, EndpointResource>,
}

impl Networks {
    /// Opens the kernel side and brings the default networks up.
    pub(crate) fn open(
        config: &EngineConfig,
        instance: &str,
        events: Events,
        syncer: &Syncer,
        plugins: Plugins,
    ) -> Result<Self> {
        let instance = InstanceId::new(instance).context("cannot name the instance")?;
        let (mut pools4, mut pools6) = (Vec::new(), Vec::new());
        for (pool, length) in &config.bridge.default_pools {
            match pool {
                IpNet::V4(pool) => pools4.push((*pool, *length)),
                IpNet::V6(pool) => pools6.push((*pool, *length)),
            }
        }
        let options = Options {
            instance: instance.clone(),
            exec_root: config.exec_root.clone(),
            netd_program: config.netd_program.clone(),
            firewall: config.bridge.firewall,
            firewall6: config.bridge.firewall6,
            direct_routing: config.bridge.direct_routing,
            accepted_mark: config.bridge.accepted_mark,
            ip_forward: config.bridge.ip_forward,
            default_pools: if pools4.is_empty() { Options::docker_pools() } else { pools4 },
            default_pools6: pools6,
        };
        let networking = Networking::open(options).context("cannot set up networking")?;
        let folder = config.data_root.join("networks");
        fs::create_dir_all(&folder).context("cannot make the networks folder")?;
        let table = default::bring_up(&networking, &instance, &config.bridge, &folder, syncer)?;
        let inner = Inner {
            networking,
            plugins,
            default_options: config.bridge.default_options.clone(),
            instance,
            folder,
            syncer: syncer.clone(),
            events,
            making: Mutex::new(()),
            making_remote: Mutex::new(()),
            chosen: Mutex::default(),
            table: Mutex::new(table),
        };
        let networks = Self { inner: Arc::new(inner) };
        networks.hold_plugins();
        Ok(networks)
    }

    /// Held by whoever makes or removes a network; plugins have a part in the one kind or not.
    fn making(&self, is_remote: bool) -> MutexGuard<'_, ()> {
        let making = if is_remote { &self.inner.making_remote } else { &self.inner.making };
        making.lock().expect("no panic while held")
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Network>> {
        self.inner.table.lock().expect("no panic while held")
    }

    /// Removes from the kernel what carries the instance's mark but belongs to none of `container_ids`, and puts back what is missing.
    pub(crate) fn sweep(&self, container_ids: impl IntoIterator<Item = String>) -> Result<()> {
        let (bridges, parents) = {
            let table = self.table();
            let records = || table.values().map(|network| &network.record);
            (
                records().filter_map(NetworkRecord::bridge_spec).collect(),
                records().filter_map(NetworkRecord::parent_spec).collect(),
            )
        };
        let live = Live { bridges, parents, container_ids: container_ids.into_iter().collect() };
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

    /// Names of what makes networks here: what is built, and plugins that are installed or have made some.
    pub(crate) fn driver_names(&self) -> Vec<String> {
        let built = [Driver::Bridge, Driver::Host, Driver::Ipvlan, Driver::Macvlan, Driver::Null];
        let mut names: BTreeSet<String> = built.into_iter().map(|driver| driver.as_str().to_owned()).collect();
        names.extend(self.inner.plugins.installed_with(crate::plugins::NETWORK_DRIVER));
        names.extend(self.table().values().map(|network| network.record.driver_name().to_owned()));
        names.into_iter().collect()
    }

    /// Lists networks.
    ///
    /// API: `GET /networks`
    ///
    /// # Errors
    /// InvalidArgument for an unknown filter.
    pub async fn list(&self, filters: &Filters) -> Result<Vec<Summary>> {
        filters.validate(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
        let dangling = crate::filter::boolean(filters, "dangling").map_err(|_| {
            let text = "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")";
            Error::invalid(text.to_owned())
        })?;
        if let Some(kind) = filters.get("type").find(|kind| !matches!(*kind, "builtin" | "custom")) {
            return Err(Error::invalid(format!("invalid filter: 'type'='{kind}'")));
        }
        let table = self.table();
        let kept = table.values().filter(|network| {
            let record = &network.record;
            let kind = if record.user_defined { "custom" } else { "builtin" };
            // The default networks are never dangling.
            let is_dangling = record.user_defined && network.members.is_empty();
            dangling.is_none_or(|wanted| wanted == is_dangling)
                && crate::filter::any_of(filters, "driver", |driver| driver == record.driver_name())
                && crate::filter::any_of(filters, "id", |id| record.id.starts_with(id))
                && crate::filter::any_of(filters, "name", |name| record.name.contains(name))
                && crate::filter::any_of(filters, "scope", |scope| scope == "local")
                && crate::filter::any_of(filters, "type", |wanted| wanted == kind)
                && filters.matches_labels("label", &record.labels)
        });
        Ok(kept.map(|network| network.record.summary()).collect())
    }

    /// Describes one network, by name, id or unique beginning of an id. All are of the scope `local`.
    ///
    /// API: `GET /networks/{id}`
    ///
    /// # Errors
    /// NotFound; InvalidArgument when several match.
    pub async fn inspect(&self, reference: &str, scope: &str) -> Result<Inspect> {
        let table = self.table();
        let network = find(&table, reference)?;
        if !matches!(scope, "" | "local") {
            return Err(Error::not_found(format!("network {reference} not found")));
        }
        let mut inspect = Inspect::from(network.record.summary());
        inspect.containers = network.members.clone();
        let subnets = network.pools.iter().map(|pool| {
            let (ips_in_use, dynamic_ips_available) = pool.usage();
            (pool.subnet().to_string(), SubnetStatus { ips_in_use, dynamic_ips_available })
        });
        inspect.status = Some(Status { ipam: IpamStatus { subnets: subnets.collect() } });
        Ok(inspect)
    }

    /// The id of a network by its name or id.
    pub(crate) fn id_of(&self, reference: &str) -> Result<String> {
        Ok(find(&self.table(), reference)?.record.id.clone())
    }

    /// What a container has to know of a network before it joins.
    pub(crate) fn look_up(&self, reference: &str) -> Result<Found> {
        let table = self.table();
        let record = &find(&table, reference)?.record;
        Ok(Found {
            id: record.id.clone(),
            name: record.name.clone(),
            user_defined: record.user_defined,
            has_own_subnet: record.asked_subnet,
            subnets: record.nets().collect(),
            config_only: record.config_only,
            is_private: matches!(record.driver, Driver::Null),
            is_host: matches!(record.driver, Driver::Host),
        })
    }
}

/// A network as a container sees it that wants to join.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Its id.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Made by a user: with names, and addresses of one's choice.
    pub(crate) user_defined: bool,
    /// The user gave it its subnet.
    pub(crate) has_own_subnet: bool,
    /// What its addresses are from.
    pub(crate) subnets: Vec<IpNet>,
    /// Nobody can join.
    pub(crate) config_only: bool,
    /// `none`.
    pub(crate) is_private: bool,
    /// `host`.
    pub(crate) is_host: bool,
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

/// An address with its prefix, as the API writes it.
fn with_prefix(address: IpAddr, prefix_length: u8) -> String {
    format!("{address}/{prefix_length}")
}
