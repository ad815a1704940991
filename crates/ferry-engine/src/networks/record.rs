//! `<data-root>/networks/<id>.json`, and what the API shows of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ferry_api::network::{ConfigReference, Ipam, IpamConfig, Summary};
use ferry_network::{BridgeSpec, FamilySpec, GatewayMode, ParentSpec};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::Network;
use super::options::Settings;
use super::subnets::SubnetRecord;
use crate::clock;
use crate::error::{Context, Result};

/// Drivers that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Driver {
    Bridge,
    Host,
    Null,
    Macvlan,
    Ipvlan,
    /// A plugin, which the record names.
    Plugin,
}

impl Driver {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
            Self::Plugin => "plugin",
        }
    }

    /// Whether containers get a link and addresses.
    pub(super) fn has_endpoints(self) -> bool {
        matches!(self, Self::Bridge | Self::Macvlan | Self::Ipvlan | Self::Plugin)
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
    #[serde(default)]
    pub(super) subnets: Vec<SubnetRecord>,
    pub(super) icc: bool,
    pub(super) masquerade: bool,
    pub(super) mtu: Option<u32>,
    /// What else the driver was told.
    #[serde(default)]
    pub(super) settings: Settings,
    /// Made by a user.
    #[serde(default)]
    pub(super) user_defined: bool,
    #[serde(default)]
    pub(super) internal: bool,
    #[serde(default)]
    pub(super) attachable: bool,
    /// Whether addresses of a family are given out, as asked; not said is yes and no.
    #[serde(default)]
    pub(super) asked_ipv4: Option<bool>,
    #[serde(default)]
    pub(super) asked_ipv6: Option<bool>,
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
    /// The plugin that makes it, with [`Driver::Plugin`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) plugin: String,
    /// Pools that the plugin of its addresses gave, by subnet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) plugin_pools: BTreeMap<IpNet, String>,
    #[serde(flatten, skip_serializing)]
    pub(super) earlier: Earlier,
}

/// How subnets stood in records before there could be several.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Earlier {
    gateway: Option<Ipv4Addr>,
    subnet: Option<Ipv4Net>,
    ip_range: Option<Ipv4Net>,
    gateway6: Option<Ipv6Addr>,
    subnet6: Option<Ipv6Net>,
    ip_range6: Option<Ipv6Net>,
    auxiliary: BTreeMap<String, IpAddr>,
}

impl Earlier {
    fn subnets(self) -> Vec<SubnetRecord> {
        let auxiliary = self.auxiliary;
        let subnet = |net: IpNet, range: Option<IpNet>, gateway: Option<IpAddr>| SubnetRecord {
            net,
            range,
            gateway,
            route: None,
            auxiliary: auxiliary
                .iter()
                .filter(|(_, ip)| net.contains(*ip))
                .map(|(name, ip)| (name.clone(), *ip))
                .collect(),
        };
        let v4 =
            self.subnet.map(|net| subnet(IpNet::V4(net), self.ip_range.map(IpNet::V4), self.gateway.map(IpAddr::V4)));
        let v6 = self
            .subnet6
            .map(|net| subnet(IpNet::V6(net), self.ip_range6.map(IpNet::V6), self.gateway6.map(IpAddr::V6)));
        v4.into_iter().chain(v6).collect()
    }
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
            subnets: Vec::new(),
            icc: true,
            masquerade: false,
            mtu: None,
            settings: Settings::default(),
            user_defined: false,
            internal: false,
            attachable: false,
            asked_ipv4: None,
            asked_ipv6: None,
            config_only: false,
            config_from: String::new(),
            asked_subnet: false,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            ipam: None,
            plugin: String::new(),
            plugin_pools: BTreeMap::new(),
            earlier: Earlier::default(),
        }
    }

    /// Brings a record that an earlier version wrote to what it would be now.
    pub(super) fn upgraded(mut self) -> Self {
        let earlier = std::mem::take(&mut self.earlier);
        if self.subnets.is_empty() {
            self.subnets = earlier.subnets();
        }
        self
    }

    /// What the kernel is to have; `None` for networks without a bridge.
    pub(super) fn bridge_spec(&self) -> Option<BridgeSpec> {
        let link = self.link.clone()?;
        let settings = &self.settings;
        let gateways = self.subnets.iter().filter(|subnet| match subnet.is_v4() {
            true => !settings.inhibit_ipv4 && settings.mode4 != GatewayMode::Isolated,
            false => settings.mode6 != GatewayMode::Isolated,
        });
        let gateways = gateways.filter_map(|subnet| {
            Some(IpNet::new(subnet.gateway?, subnet.net.prefix_len()).expect("the prefix length of a valid subnet"))
        });
        Some(BridgeSpec {
            network_id: self.id.clone(),
            link,
            gateways: gateways.collect(),
            subnets: self.nets().collect(),
            mtu: self.mtu,
            internal: self.internal,
            icc: self.icc,
            masquerade: self.masquerade,
            ipv6: self.subnets.iter().any(|subnet| !subnet.is_v4()),
            v4: FamilySpec { mode: settings.mode4, source: settings.source4.map(IpAddr::V4) },
            v6: FamilySpec { mode: settings.mode6, source: settings.source6.map(IpAddr::V6) },
            trusted: settings.trusted.clone(),
        })
    }

    /// The parent that was made for it.
    pub(super) fn parent_spec(&self) -> Option<ParentSpec> {
        let settings = &self.settings;
        settings.made_parent.then(|| ParentSpec {
            network_id: self.id.clone(),
            link: settings.parent.clone(),
            vlan: settings.vlan.clone(),
        })
    }

    /// The driver's name.
    pub(super) fn driver_name(&self) -> &str {
        if self.driver == Driver::Plugin { &self.plugin } else { self.driver.as_str() }
    }

    /// The plugin that gives its addresses, where one does.
    pub(super) fn ipam_plugin(&self) -> Option<&str> {
        let ipam = self.ipam.as_ref().filter(|_| !self.plugin_pools.is_empty());
        ipam.map(|ipam| ipam.driver.as_str())
    }

    /// Whether plugins have a part in it.
    pub(super) fn is_remote(&self) -> bool {
        self.driver == Driver::Plugin || !self.plugin_pools.is_empty()
    }

    /// Every subnet.
    pub(super) fn nets(&self) -> impl Iterator<Item = IpNet> {
        self.subnets.iter().map(|subnet| subnet.net)
    }

    /// The subnet that an address belongs to.
    pub(super) fn subnet_of(&self, address: IpAddr) -> Option<&SubnetRecord> {
        self.subnets.iter().find(|subnet| subnet.net.contains(&address))
    }

    /// Whether containers get IPv4 addresses.
    pub(super) fn has_ipv4(&self) -> bool {
        self.asked_ipv4.unwrap_or(true)
    }

    /// Whether containers get IPv6 addresses.
    pub(super) fn has_ipv6(&self) -> bool {
        self.asked_ipv6.unwrap_or_else(|| self.subnets.iter().any(|subnet| !subnet.is_v4()))
    }

    /// As lists show it.
    pub(super) fn summary(&self) -> Summary {
        Summary {
            name: self.name.clone(),
            id: self.id.clone(),
            created: clock::rfc3339(self.created_ns),
            scope: "local".to_owned(),
            driver: if self.config_only { "null".to_owned() } else { self.driver_name().to_owned() },
            enable_ipv4: self.has_ipv4(),
            enable_ipv6: self.has_ipv6(),
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
            // What a configuration holds is shown by the networks that take it.
            let config = ipam.config.clone().filter(|_| !self.config_only);
            return Ipam { config, ..ipam.clone() };
        }
        let config = self.subnets.iter().map(|subnet| IpamConfig {
            subnet: subnet.net.to_string(),
            ip_range: subnet.range.map(|range| range.to_string()).unwrap_or_default(),
            gateway: subnet.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
            auxiliary_addresses: subnet.auxiliary.iter().map(|(name, ip)| (name.clone(), ip.to_string())).collect(),
        });
        let config = self.driver.has_endpoints().then(|| config.collect());
        Ipam { driver: "default".to_owned(), options: None, config }
    }

    fn shown_options(&self) -> BTreeMap<String, String> {
        let (Some(link), false) = (&self.link, self.user_defined) else { return self.options.clone() };
        let binding = self.settings.host_binding.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let pairs = [
            ("com.docker.network.bridge.default_bridge", "true".to_owned()),
            ("com.docker.network.bridge.enable_icc", self.icc.to_string()),
            ("com.docker.network.bridge.enable_ip_masquerade", self.masquerade.to_string()),
            ("com.docker.network.bridge.host_binding_ipv4", binding.to_string()),
            ("com.docker.network.bridge.name", link.clone()),
            ("com.docker.network.driver.mtu", self.mtu.unwrap_or(1500).to_string()),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The network with its address pools and nobody in it.
    pub(super) fn into_network(self) -> Result<Network> {
        let pools = self.subnets.iter().map(SubnetRecord::pool).collect::<Result<Vec<_>, _>>();
        let pools = pools.context(format!("network {}", self.name))?;
        Ok(Network { record: self, pools, members: BTreeMap::new() })
    }
}

/// Where a record lies.
pub(super) fn path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_earlier_versions_keep_their_subnets() {
        let mut written = serde_json::to_value(NetworkRecord::plain("net", Driver::Bridge)).expect("serialisable");
        let object = written.as_object_mut().expect("an object");
        object.remove("subnets");
        object.extend(
            [("subnet", "10.1.0.0/16"), ("gateway", "10.1.0.1"), ("subnet6", "fd00::/64"), ("gateway6", "fd00::1")]
                .map(|(key, value)| (key.to_owned(), value.into())),
        );
        object.insert("auxiliary".to_owned(), serde_json::json!({"printer": "10.1.0.9"}));
        let record: NetworkRecord = serde_json::from_value(written).expect("readable");
        let record = record.upgraded();
        assert_eq!(record.nets().map(|net| net.to_string()).collect::<Vec<_>>(), ["10.1.0.0/16", "fd00::/64"]);
        assert_eq!(record.subnets[0].auxiliary.len(), 1);
        assert!(record.has_ipv4() && record.has_ipv6());
        let again: NetworkRecord =
            serde_json::from_value(serde_json::to_value(&record).expect("serialisable")).expect("readable");
        assert_eq!(again.subnets, record.subnets);
    }
}
