//! Networks and a container's place in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json::is_default;

/// A container's attachment to a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EndpointSettings {
    /// Addresses asked for.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpamConfig>,
    /// Legacy links.
    pub links: Option<Vec<String>>,
    /// Further names.
    pub aliases: Option<Vec<String>>,
    /// Options of the driver.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// The network with the highest gives the default route.
    pub gw_priority: i64,
    /// Network id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// Endpoint id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// IPv4 gateway.
    pub gateway: String,
    /// IPv4 address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// MAC address.
    pub mac_address: String,
    /// Length of the IPv4 prefix.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// IPv6 gateway.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// IPv6 address.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Length of the IPv6 prefix.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// Every name that it answers to.
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

/// Addresses asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointIpamConfig {
    /// IPv4.
    #[serde(rename = "IPv4Address", skip_serializing_if = "is_default")]
    pub ipv4_address: String,
    /// IPv6.
    #[serde(rename = "IPv6Address", skip_serializing_if = "is_default")]
    pub ipv6_address: String,
    /// Link-local.
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "is_default")]
    pub link_local_ips: Vec<String>,
}

/// Networks to join at creation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkingConfig {
    /// By network name or id.
    pub endpoints_config: Option<BTreeMap<String, Option<EndpointSettings>>>,
}

/// Address management of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ipam {
    /// Driver; `default`.
    pub driver: String,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// Subnets.
    pub config: Option<Vec<IpamConfig>>,
}

/// One subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IpamConfig {
    /// In CIDR form.
    #[serde(skip_serializing_if = "is_default")]
    pub subnet: String,
    /// Part of it to give out.
    #[serde(rename = "IPRange", skip_serializing_if = "is_default")]
    pub ip_range: String,
    /// Gateway.
    #[serde(skip_serializing_if = "is_default")]
    pub gateway: String,
    /// Addresses never given out, by name.
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "is_default")]
    pub auxiliary_addresses: BTreeMap<String, String>,
}

/// A network whose configuration this one takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ConfigReference {
    /// Its name.
    pub network: String,
}

/// A line of `GET /networks`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Summary {
    /// Name.
    pub name: String,
    /// Id, 64 hex digits.
    pub id: String,
    /// RFC 3339 with nanoseconds.
    pub created: String,
    /// `local` or `swarm`.
    pub scope: String,
    /// `bridge`, `host`, `null`, ..
    pub driver: String,
    /// Gives out IPv4 addresses.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// Gives out IPv6 addresses.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Address management.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// No way out.
    pub internal: bool,
    /// Containers may join a swarm network.
    pub attachable: bool,
    /// The routing mesh of a swarm.
    pub ingress: bool,
    /// Where its configuration comes from.
    pub config_from: ConfigReference,
    /// Holds a configuration alone.
    pub config_only: bool,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Answer to `GET /networks/{id}`: [`Summary`] with more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Inspect {
    /// Name.
    pub name: String,
    /// Id, 64 hex digits.
    pub id: String,
    /// RFC 3339 with nanoseconds.
    pub created: String,
    /// `local` or `swarm`.
    pub scope: String,
    /// `bridge`, `host`, `null`, ..
    pub driver: String,
    /// Gives out IPv4 addresses.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// Gives out IPv6 addresses.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Address management.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// No way out.
    pub internal: bool,
    /// Containers may join a swarm network.
    pub attachable: bool,
    /// The routing mesh of a swarm.
    pub ingress: bool,
    /// Where its configuration comes from.
    pub config_from: ConfigReference,
    /// Holds a configuration alone.
    pub config_only: bool,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Running containers by id.
    pub containers: BTreeMap<String, EndpointResource>,
    /// Address use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

impl From<Summary> for Inspect {
    fn from(summary: Summary) -> Self {
        Self {
            name: summary.name,
            id: summary.id,
            created: summary.created,
            scope: summary.scope,
            driver: summary.driver,
            enable_ipv4: summary.enable_ipv4,
            enable_ipv6: summary.enable_ipv6,
            ipam: summary.ipam,
            internal: summary.internal,
            attachable: summary.attachable,
            ingress: summary.ingress,
            config_from: summary.config_from,
            config_only: summary.config_only,
            options: summary.options,
            labels: summary.labels,
            containers: BTreeMap::new(),
            status: None,
        }
    }
}

/// A running container in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct EndpointResource {
    /// Container name.
    pub name: String,
    /// Endpoint id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// MAC address.
    pub mac_address: String,
    /// In CIDR form.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// In CIDR form.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// Runtime facts of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Address use.
    #[serde(rename = "IPAM")]
    pub ipam: IpamStatus,
}

/// Address use of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IpamStatus {
    /// By subnet.
    #[serde(skip_serializing_if = "is_default")]
    pub subnets: BTreeMap<String, SubnetStatus>,
}

/// Address use of a subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubnetStatus {
    /// Addresses in use, network, gateway and broadcast included.
    #[serde(rename = "IPsInUse")]
    pub ips_in_use: u64,
    /// Addresses that can still be given out.
    #[serde(rename = "DynamicIPsAvailable")]
    pub dynamic_ips_available: u64,
}

/// Body of `POST /networks/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateRequest {
    /// Name.
    pub name: String,
    /// Driver; empty is `bridge`.
    pub driver: String,
    /// `local` or `swarm`.
    pub scope: String,
    /// Give out IPv4 addresses; unset is yes.
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Give out IPv6 addresses; unset is no.
    #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Address management.
    #[serde(rename = "IPAM")]
    pub ipam: Option<Ipam>,
    /// No way out.
    pub internal: bool,
    /// Containers may join a swarm network.
    pub attachable: bool,
    /// The routing mesh of a swarm.
    pub ingress: bool,
    /// Holds a configuration alone.
    pub config_only: bool,
    /// Where its configuration comes from.
    pub config_from: Option<ConfigReference>,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Answer to `POST /networks/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateResponse {
    /// Network id.
    pub id: String,
    /// What was odd.
    pub warning: String,
}

/// Body of `POST /networks/{id}/connect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ConnectRequest {
    /// Container name or id.
    pub container: String,
    /// How.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_config: Option<EndpointSettings>,
}

/// Body of `POST /networks/{id}/disconnect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DisconnectRequest {
    /// Container name or id.
    pub container: String,
    /// Even when the container is not there.
    pub force: bool,
}

/// Answer to `POST /networks/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PruneReport {
    /// Names.
    pub networks_deleted: Option<Vec<String>>,
}
