//! Answer to `GET /containers/{id}/json`.

use std::collections::BTreeMap;

use ferry_spec::descriptor::Descriptor;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::host_config::{HostConfig, PortMap};
use crate::json::is_default;
use crate::network::EndpointSettings;

/// Everything about a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Inspect {
    /// Id, 64 hex digits.
    pub id: String,
    /// RFC 3339 with nanoseconds.
    pub created: String,
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// How it is.
    pub state: State,
    /// Image id.
    pub image: String,
    /// File of `/etc/resolv.conf`.
    pub resolv_conf_path: String,
    /// File of `/etc/hostname`.
    pub hostname_path: String,
    /// File of `/etc/hosts`.
    pub hosts_path: String,
    /// Log file.
    pub log_path: String,
    /// Name with a leading `/`.
    pub name: String,
    /// Restarts by policy.
    pub restart_count: i64,
    /// Storage driver.
    pub driver: String,
    /// `linux`.
    pub platform: String,
    /// SELinux label of mounts.
    pub mount_label: String,
    /// SELinux label of processes.
    pub process_label: String,
    /// AppArmor profile.
    pub app_armor_profile: String,
    /// Execs that run.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// The part that belongs to this host.
    pub host_config: Option<HostConfig>,
    /// Folders of a graph driver; absent with an image store of snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<DriverData>,
    /// Storage of the root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Bytes of the writable layer, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes of all layers, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// Mounts; never `null`.
    pub mounts: Vec<MountPoint>,
    /// The portable part.
    pub config: Config,
    /// Networks.
    pub network_settings: NetworkSettings,
    /// Manifest of the image for its platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
}

/// How a container is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct State {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub status: String,
    /// Has a process; true for paused and restarting ones too.
    pub running: bool,
    /// Frozen.
    pub paused: bool,
    /// Waits to be started again.
    pub restarting: bool,
    /// The memory limit ended it.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Could not be removed.
    pub dead: bool,
    /// Host pid, 0 when there is none.
    pub pid: i64,
    /// Last exit code.
    pub exit_code: i64,
    /// Why it did not start.
    pub error: String,
    /// RFC 3339 with nanoseconds; `0001-01-01T00:00:00Z` is never.
    pub started_at: String,
    /// Likewise.
    pub finished_at: String,
    /// Health, when there is a check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// Health of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Health {
    /// `none`, `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// The last five results.
    pub log: Option<Vec<HealthcheckResult>>,
}

/// One run of a health check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthcheckResult {
    /// RFC 3339 with nanoseconds.
    pub start: String,
    /// RFC 3339 with nanoseconds.
    pub end: String,
    /// 0 is healthy.
    pub exit_code: i64,
    /// At most 4096 bytes.
    pub output: String,
}

/// A mount that a container has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs`, ..
    #[serde(rename = "Type", skip_serializing_if = "is_default")]
    pub kind: String,
    /// Volume name.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Host path.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// Volume driver.
    #[serde(skip_serializing_if = "is_default")]
    pub driver: String,
    /// Options as given.
    pub mode: String,
    /// Writable.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// Such as `rprivate`.
    pub propagation: String,
}

/// Networks of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkSettings {
    /// Id of the sandbox.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// File of the network namespace.
    pub sandbox_key: String,
    /// Published ports.
    pub ports: PortMap,
    /// By network name.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// Folders of a graph driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DriverData {
    /// By name.
    pub data: Option<BTreeMap<String, String>>,
    /// Driver.
    pub name: String,
}

/// Storage of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Storage {
    /// Its root file system.
    #[serde(rename = "RootFS", skip_serializing_if = "Option::is_none")]
    pub root_fs: Option<RootFsStorage>,
}

/// Storage of a root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RootFsStorage {
    /// Its snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<RootFsStorageSnapshot>,
}

/// A snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RootFsStorageSnapshot {
    /// Name of the snapshotter.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
}
