//! Smaller requests and answers about containers.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::config::HealthConfig;
use super::host_config::{PortMap, Resources, RestartPolicy};
use crate::json::{self, is_default};

/// Answer to `POST /containers/{id}/wait`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitResponse {
    /// Why waiting failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitExitError>,
    /// Exit code.
    pub status_code: i64,
}

/// Why waiting failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitExitError {
    /// The text.
    #[serde(skip_serializing_if = "is_default")]
    pub message: String,
}

/// Answer to `GET /containers/{id}/top`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TopResponse {
    /// One row per process.
    pub processes: Option<Vec<Vec<String>>>,
    /// Column titles.
    pub titles: Option<Vec<String>>,
}

/// Body of `POST /containers/{id}/update`: [`Resources`] with one more key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateRequest {
    /// Limits, their keys at the top level.
    #[serde(flatten)]
    pub resources: Resources,
    /// When it is started again.
    pub restart_policy: RestartPolicy,
    /// What changes with the next start. Ferry's own: clients of Docker never send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_start: Option<NextStart>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct UpdateRequestTail {
    restart_policy: RestartPolicy,
    next_start: Option<NextStart>,
}

/// Changes of what a container was made with: what is added replaces what has the same name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NextStart {
    /// Ports to publish; the bindings of a port that is published already are replaced.
    #[serde(skip_serializing_if = "is_default")]
    pub publish: PortMap,
    /// Ports to publish no more, such as `80/tcp`.
    #[serde(skip_serializing_if = "is_default")]
    pub unpublish: Vec<String>,
    /// Variables to set.
    #[serde(skip_serializing_if = "is_default")]
    pub env: Vec<String>,
    /// Variables to take away, by name.
    #[serde(skip_serializing_if = "is_default")]
    pub unset_env: Vec<String>,
    /// Labels to set; these count at once.
    #[serde(skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Labels to take away, likewise.
    #[serde(skip_serializing_if = "is_default")]
    pub unset_labels: Vec<String>,
    /// Options of the log driver to set; an empty value takes one away.
    #[serde(skip_serializing_if = "is_default")]
    pub log_options: BTreeMap<String, String>,
    /// The health check: what is zero in it stays as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
}

impl<'de> Deserialize<'de> for UpdateRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let tail: UpdateRequestTail = json::from_value(value.clone()).map_err(serde::de::Error::custom)?;
        let resources = json::from_value(value).map_err(serde::de::Error::custom)?;
        Ok(Self { resources, restart_policy: tail.restart_policy, next_start: tail.next_start })
    }
}

/// Answer to `POST /containers/{id}/update`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UpdateResponse {
    /// What was odd.
    pub warnings: Option<Vec<String>>,
    /// What of [`UpdateRequest::next_start`] waits for the next start, in words; `None` unless it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_next_start: Option<Vec<String>>,
}

/// Answer to `POST /containers/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PruneReport {
    /// Ids.
    pub containers_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// One entry of `GET /containers/{id}/changes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FilesystemChange {
    /// Path in the container.
    pub path: String,
    /// 0 modified, 1 added, 2 deleted.
    pub kind: u8,
}

/// Header `X-Docker-Container-Path-Stat`, base64 of this JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PathStat {
    /// Last component.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Go's `os.FileMode` bits.
    pub mode: u32,
    /// RFC 3339 with nanoseconds.
    pub mtime: String,
    /// Where a symlink leads.
    pub link_target: String,
}
