//! `<data-root>/networks/<id>.json`, and what the API shows of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ferry_api::network::{ConfigReference, Ipam, IpamConfig, Summary};
use ferry_network::BridgeSpec;
use ferry_network::address_pool::AddressPool;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::Network;
use crate::clock;
use crate::error::{Context, Result};

/// Drivers that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Driver {
    Bridge,
    Host,
    Null,
}

impl Driver {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// The record of one network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NetworkRecord {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) created_ns: i64,
    pub(super) driver: Driver,
    pub(super) link: Option<String>,
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) subnet: Option<Ipv4Net>,
    pub(super) ip_range: Option<Ipv4Net>,
    pub(super) icc: bool,
    pub(super) masquerade: bool,
    pub(super) mtu: Option<u32>,
    /// Made by a user.
    #[serde(default)]
    pub(super) user_defined: bool,
    #[serde(default)]
    pub(super) gateway6: Option<Ipv6Addr>,
    #[serde(default)]
    pub(super) subnet6: Option<Ipv6Net>,
    #[serde(default)]
    pub(super) ip_range6: Option<Ipv6Net>,
    #[serde(default)]
    pub(super) internal: bool,
    #[serde(default)]
    pub(super) attachable: bool,
    /// Holds a configuration for others and has no bridge.
    #[serde(default)]
    pub(super) config_only: bool,
    /// The network whose configuration this one took, or empty.
    #[serde(default)]
    pub(super) config_from: String,
    /// The subnet was given, not chosen.
    #[serde(default)]
    pub(super) asked_subnet: bool,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    /// Options of the driver, as given.
    #[serde(default)]
    pub(super) options: BTreeMap<String, String>,
    /// Address management, as given; a subnet that was chosen is filled in.
    #[serde(default)]
    pub(super) ipam: Option<Ipam>,
    /// Addresses that are never given out.
    #[serde(default)]
    pub(super) auxiliary: BTreeMap<String, IpAddr>,
}

impl NetworkRecord {
    /// A record with nothing but a name.
    pub(super) fn plain(name: &str, driver: Driver) -> Self {
        Self {
            id: crate::ids::random_id(),
            name: name.to_owned(),
            created_ns: clock::now_ns(),
            driver,
            link: None,
            gateway: None,
            subnet: None,
            ip_range: None,
            icc: true,
            masquerade: false,
            mtu: None,
            user_defined: false,
            gateway6: None,
            subnet6: None,
            ip_range6: None,
            internal: false,
            attachable: false,
            config_only: false,
            config_from: String::new(),
            asked_subnet: false,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            ipam: None,
            auxiliary: BTreeMap::new(),
        }
    }

    /// What the kernel is to have; `None` for networks without a bridge.
    pub(super) fn bridge_spec(&self) -> Option<BridgeSpec> {
        let link = self.link.clone()?;
        let v4 = self.gateway.zip(self.subnet).map(|(gateway, subnet)| {
            IpNet::V4(Ipv4Net::new(gateway, subnet.prefix_len()).expect("the prefix length of a valid subnet"))
        });
        let v6 = self.gateway6.zip(self.subnet6).map(|(gateway, subnet)| {
            IpNet::V6(Ipv6Net::new(gateway, subnet.prefix_len()).expect("the prefix length of a valid subnet"))
        });
        Some(BridgeSpec {
            network_id: self.id.clone(),
            link,
            gateways: v4.into_iter().chain(v6).collect(),
            mtu: self.mtu,
            internal: self.internal,
            icc: self.icc,
            masquerade: self.masquerade,
            ipv6: self.subnet6.is_some(),
        })
    }

    /// Every subnet.
    pub(super) fn subnets(&self) -> impl Iterator<Item = IpNet> {
        self.subnet.map(IpNet::V4).into_iter().chain(self.subnet6.map(IpNet::V6))
    }

    /// As lists show it.
    pub(super) fn summary(&self) -> Summary {
        Summary {
            name: self.name.clone(),
            id: self.id.clone(),
            created: clock::rfc3339(self.created_ns),
            scope: "local".to_owned(),
            driver: if self.config_only { "null".to_owned() } else { self.driver.as_str().to_owned() },
            enable_ipv4: true,
            enable_ipv6: self.subnet6.is_some(),
            ipam: self.shown_ipam(),
            internal: self.internal,
            attachable: self.attachable,
            config_from: ConfigReference { network: self.config_from.clone() },
            config_only: self.config_only,
            options: Some(self.shown_options()),
            labels: Some(self.labels.clone()),
            ..Summary::default()
        }
    }

    fn shown_ipam(&self) -> Ipam {
        if let Some(ipam) = &self.ipam {
            return ipam.clone();
        }
        let config = self.subnet.map(|subnet| IpamConfig {
            subnet: subnet.to_string(),
            ip_range: self.ip_range.map(|range| range.to_string()).unwrap_or_default(),
            gateway: self.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
            ..IpamConfig::default()
        });
        let config = match self.driver {
            Driver::Bridge => Some(config.into_iter().collect()),
            Driver::Host | Driver::Null => None,
        };
        Ipam { driver: "default".to_owned(), options: None, config }
    }

    fn shown_options(&self) -> BTreeMap<String, String> {
        let (Some(link), false) = (&self.link, self.user_defined) else { return self.options.clone() };
        let pairs = [
            ("com.docker.network.bridge.default_bridge", "true".to_owned()),
            ("com.docker.network.bridge.enable_icc", self.icc.to_string()),
            ("com.docker.network.bridge.enable_ip_masquerade", self.masquerade.to_string()),
            ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
            ("com.docker.network.bridge.name", link.clone()),
            ("com.docker.network.driver.mtu", self.mtu.unwrap_or(1500).to_string()),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The network with its address pools and nobody in it.
    pub(super) fn into_network(self) -> Result<Network> {
        let pool = |subnet: Option<IpNet>, range: Option<IpNet>, gateway: Option<IpAddr>| {
            let pool = subnet.map(|subnet| {
                let mut pool = AddressPool::new(subnet, range, gateway)?;
                for address in self.auxiliary.values().filter(|address| subnet.contains(*address)) {
                    pool.reserve(*address)?;
                }
                Ok::<_, ferry_network::address_pool::PoolError>(pool)
            });
            pool.transpose().context(format!("network {}", self.name))
        };
        let v4 = pool(self.subnet.map(IpNet::V4), self.ip_range.map(IpNet::V4), self.gateway.map(IpAddr::V4))?;
        let v6 = pool(self.subnet6.map(IpNet::V6), self.ip_range6.map(IpNet::V6), self.gateway6.map(IpAddr::V6))?;
        Ok(Network { record: self, pool: v4, pool6: v6, members: BTreeMap::new() })
    }
}

/// Where a record lies.
pub(super) fn path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.json"))
}
