//! Answer to `GET /containers/json`.

use std::collections::BTreeMap;

use ferry_spec::descriptor::Descriptor;
use serde::{Deserialize, Serialize};

use super::inspect::MountPoint;
use crate::json::is_default;
use crate::network::EndpointSettings;

/// One line of a container list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Summary {
    /// Id, 64 hex digits.
    pub id: String,
    /// Names with a leading `/`.
    pub names: Vec<String>,
    /// Image as given, or its id when the name moved on.
    pub image: String,
    /// Image id.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// Manifest of the image for its platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
    /// Program and arguments in one text.
    pub command: String,
    /// Unix seconds.
    pub created: i64,
    /// Ports; never `null`.
    pub ports: Vec<Port>,
    /// Bytes of the writable layer, when asked for.
    #[serde(skip_serializing_if = "is_default")]
    pub size_rw: i64,
    /// Bytes of all layers, when asked for.
    #[serde(skip_serializing_if = "is_default")]
    pub size_root_fs: i64,
    /// Labels; never `null`.
    pub labels: BTreeMap<String, String>,
    /// Such as `running`.
    pub state: String,
    /// Such as `Up 2 hours`.
    pub status: String,
    /// Two fields of the host configuration.
    pub host_config: SummaryHostConfig,
    /// Health, when there is a check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSummary>,
    /// Networks.
    pub network_settings: NetworkSettingsSummary,
    /// Mounts; never `null`.
    pub mounts: Vec<MountPoint>,
}

/// Two fields of the host configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SummaryHostConfig {
    /// Such as `bridge`.
    #[serde(skip_serializing_if = "is_default")]
    pub network_mode: String,
    /// Annotations for the runtime.
    #[serde(skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// Health in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthSummary {
    /// `none`, `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
}

/// Networks in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkSettingsSummary {
    /// By network name.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// A port in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Port {
    /// Host address of a published port.
    #[serde(rename = "IP", skip_serializing_if = "is_default")]
    pub ip: String,
    /// Port in the container.
    pub private_port: u16,
    /// Host port of a published port.
    #[serde(skip_serializing_if = "is_default")]
    pub public_port: u16,
    /// `tcp`, `udp` or `sctp`.
    #[serde(rename = "Type")]
    pub protocol: String,
}
