//! Volumes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::is_default;

/// One volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Volume {
    /// RFC 3339.
    #[serde(skip_serializing_if = "is_default")]
    pub created_at: String,
    /// Driver; `local`.
    pub driver: String,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Host folder.
    pub mountpoint: String,
    /// Name.
    pub name: String,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// `local` or `global`.
    pub scope: String,
    /// What the driver tells.
    #[serde(skip_serializing_if = "is_default")]
    pub status: BTreeMap<String, Value>,
    /// Use, in disk usage alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<UsageData>,
}

/// Use of a volume; -1 is unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UsageData {
    /// Containers that use it.
    pub ref_count: i64,
    /// Bytes.
    pub size: i64,
}

/// Answer to `GET /volumes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ListResponse {
    /// Volumes; never `null` from ferry.
    pub volumes: Vec<Volume>,
    /// What was odd.
    pub warnings: Option<Vec<String>>,
}

/// Body of `POST /volumes/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateRequest {
    /// Of a cluster volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_volume_spec: Option<Value>,
    /// Driver; empty is `local`.
    #[serde(skip_serializing_if = "is_default")]
    pub driver: String,
    /// Options of the driver.
    #[serde(skip_serializing_if = "is_default")]
    pub driver_opts: BTreeMap<String, String>,
    /// Labels.
    #[serde(skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Name; empty makes an anonymous one.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
}

/// What a volume takes up and who has it; ferry's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeUse {
    /// Name.
    pub name: String,
    /// Bytes of its files.
    pub size: u64,
    /// Files and folders.
    pub files: u64,
    /// Most bytes that it may hold; 0 is no limit.
    pub limit: u64,
    /// Containers that have it.
    pub used_by: Vec<VolumeUser>,
}

/// A container that has a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeUser {
    /// Id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name.
    pub name: String,
    /// Such as `running`.
    pub state: String,
    /// Where in it.
    pub destination: String,
    /// It may write.
    #[serde(rename = "RW")]
    pub rw: bool,
}

/// Answer to `POST /volumes/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PruneReport {
    /// Names.
    pub volumes_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}
