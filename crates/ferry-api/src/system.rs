//! The daemon itself: version, info, disk usage.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::is_default;
use crate::{container, image, volume};

/// Answer to `GET /version`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Version {
    /// Who made it.
    pub platform: Platform,
    /// Version of the engine, Docker-like.
    pub version: String,
    /// Newest API version.
    pub api_version: String,
    /// Oldest API version.
    #[serde(rename = "MinAPIVersion", skip_serializing_if = "is_default")]
    pub min_api_version: String,
    /// `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub arch: String,
    /// Parts.
    #[serde(skip_serializing_if = "is_default")]
    pub components: Vec<ComponentVersion>,
    /// Commit.
    #[serde(skip_serializing_if = "is_default")]
    pub git_commit: String,
    /// Compiler of Docker's engine.
    #[serde(skip_serializing_if = "is_default")]
    pub go_version: String,
    /// Kernel.
    #[serde(skip_serializing_if = "is_default")]
    pub kernel_version: String,
    /// Experimental features are on.
    #[serde(skip_serializing_if = "is_default")]
    pub experimental: bool,
    /// When it was built.
    #[serde(skip_serializing_if = "is_default")]
    pub build_time: String,
}

/// Who made an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Platform {
    /// Name.
    pub name: String,
}

/// A part of an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ComponentVersion {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// More.
    #[serde(skip_serializing_if = "is_default")]
    pub details: BTreeMap<String, String>,
}

/// Answer to `GET /info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Info {
    /// Engine id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Containers in all.
    pub containers: i64,
    /// That run.
    pub containers_running: i64,
    /// That are paused.
    pub containers_paused: i64,
    /// That do not run.
    pub containers_stopped: i64,
    /// Images.
    pub images: i64,
    /// Storage driver.
    pub driver: String,
    /// What it tells.
    pub driver_status: Option<Vec<[String; 2]>>,
    /// What else is told.
    #[serde(skip_serializing_if = "is_default")]
    pub system_status: Vec<[String; 2]>,
    /// Kinds of plugins.
    pub plugins: PluginsInfo,
    /// Memory can be limited.
    pub memory_limit: bool,
    /// Swap can be limited.
    pub swap_limit: bool,
    /// CFS periods can be set.
    pub cpu_cfs_period: bool,
    /// CFS quotas can be set.
    pub cpu_cfs_quota: bool,
    /// Shares can be set.
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    /// Processors can be chosen.
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    /// Processes can be limited.
    pub pids_limit: bool,
    /// The host forwards IPv4.
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    /// The daemon is in debug mode.
    pub debug: bool,
    /// Open descriptors.
    #[serde(rename = "NFd")]
    pub n_fd: i64,
    /// The out-of-memory killer can be off.
    pub oom_kill_disable: bool,
    /// Tasks.
    #[serde(rename = "NGoroutines")]
    pub n_goroutines: i64,
    /// RFC 3339 with nanoseconds.
    pub system_time: String,
    /// Default log driver.
    pub logging_driver: String,
    /// `cgroupfs`, `systemd` or `none`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    #[serde(skip_serializing_if = "is_default")]
    pub cgroup_version: String,
    /// Clients that listen to events.
    #[serde(rename = "NEventsListener")]
    pub n_events_listener: i64,
    /// Kernel.
    pub kernel_version: String,
    /// Distribution.
    pub operating_system: String,
    /// Its version.
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    /// `linux`.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// As `uname -m`.
    pub architecture: String,
    /// Registry of names without one.
    pub index_server_address: String,
    /// Registries.
    pub registry_config: Option<RegistryServiceConfig>,
    /// Processors.
    #[serde(rename = "NCPU")]
    pub n_cpu: i64,
    /// Bytes.
    pub mem_total: i64,
    /// Of a swarm node.
    pub generic_resources: Option<Vec<Value>>,
    /// Data root.
    pub docker_root_dir: String,
    /// Proxy.
    pub http_proxy: String,
    /// Proxy.
    pub https_proxy: String,
    /// What goes without.
    pub no_proxy: String,
    /// Host name.
    pub name: String,
    /// Labels of the daemon.
    pub labels: Option<Vec<String>>,
    /// Experimental features are on.
    pub experimental_build: bool,
    /// Version of the engine.
    pub server_version: String,
    /// By name.
    pub runtimes: BTreeMap<String, Runtime>,
    /// The one that is taken.
    pub default_runtime: String,
    /// Swarm.
    pub swarm: SwarmInfo,
    /// Containers outlive the daemon.
    pub live_restore_enabled: bool,
    /// Windows only.
    pub isolation: String,
    /// Program of `--init`.
    pub init_binary: String,
    /// Commit.
    pub containerd_commit: Commit,
    /// Commit.
    pub runc_commit: Commit,
    /// Commit.
    pub init_commit: Commit,
    /// Such as `name=seccomp,profile=builtin`.
    pub security_options: Option<Vec<String>>,
    /// License.
    #[serde(skip_serializing_if = "is_default")]
    pub product_license: String,
    /// Pools of networks that name no subnet.
    #[serde(skip_serializing_if = "is_default")]
    pub default_address_pools: Vec<NetworkAddressPool>,
    /// Firewall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall_backend: Option<FirewallInfo>,
    /// Folders of CDI specifications.
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: Option<Vec<String>>,
    /// Devices found by drivers.
    #[serde(skip_serializing_if = "is_default")]
    pub discovered_devices: Vec<DeviceInfo>,
    /// Node resource interface.
    #[serde(rename = "NRI", skip_serializing_if = "Option::is_none")]
    pub nri: Option<NriInfo>,
    /// containerd, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containerd: Option<ContainerdInfo>,
    /// What is odd with this host.
    pub warnings: Option<Vec<String>>,
}

/// Plugins by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginsInfo {
    /// Of volumes.
    pub volume: Option<Vec<String>>,
    /// Of networks.
    pub network: Option<Vec<String>>,
    /// Of authorization.
    pub authorization: Option<Vec<String>>,
    /// Of logs.
    pub log: Option<Vec<String>>,
}

/// Registries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RegistryServiceConfig {
    /// Networks whose registries may go without TLS.
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: Option<Vec<String>>,
    /// By host.
    pub index_configs: BTreeMap<String, IndexInfo>,
    /// Mirrors of the Hub.
    pub mirrors: Option<Vec<String>>,
}

/// One registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IndexInfo {
    /// Host.
    pub name: String,
    /// Mirrors.
    pub mirrors: Option<Vec<String>>,
    /// TLS is demanded.
    pub secure: bool,
    /// It is the Hub.
    pub official: bool,
}

/// A runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Runtime {
    /// Program.
    #[serde(skip_serializing_if = "is_default")]
    pub path: String,
    /// Its arguments.
    #[serde(skip_serializing_if = "is_default")]
    pub runtime_args: Vec<String>,
    /// Shim of containerd.
    #[serde(skip_serializing_if = "is_default")]
    pub runtime_type: String,
    /// Its options.
    #[serde(skip_serializing_if = "is_default")]
    pub options: BTreeMap<String, Value>,
    /// What it tells.
    #[serde(skip_serializing_if = "is_default")]
    pub status: BTreeMap<String, String>,
}

/// A swarm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SwarmInfo {
    /// Node.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Its address.
    pub node_addr: String,
    /// `inactive` outside of a swarm.
    pub local_node_state: String,
    /// A manager.
    pub control_available: bool,
    /// What is wrong.
    pub error: String,
    /// Managers.
    pub remote_managers: Option<Vec<Value>>,
    /// How many nodes.
    #[serde(skip_serializing_if = "is_default")]
    pub nodes: i64,
    /// How many managers.
    #[serde(skip_serializing_if = "is_default")]
    pub managers: i64,
    /// The cluster, told by managers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Value>,
    /// What is odd.
    #[serde(skip_serializing_if = "is_default")]
    pub warnings: Vec<String>,
}

/// A commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
}

/// A pool of subnets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkAddressPool {
    /// In CIDR form.
    pub base: String,
    /// Prefix length of each subnet.
    pub size: i64,
}

/// A firewall.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FirewallInfo {
    /// `nftables`, ..
    pub driver: String,
    /// What it tells.
    #[serde(skip_serializing_if = "is_default")]
    pub info: Vec<[String; 2]>,
}

/// A device found by a driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceInfo {
    /// Driver.
    pub source: String,
    /// Device.
    #[serde(rename = "ID")]
    pub id: String,
}

/// Node resource interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NriInfo {
    /// What it tells.
    #[serde(skip_serializing_if = "is_default")]
    pub info: Vec<[String; 2]>,
}

/// containerd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerdInfo {
    /// Socket.
    #[serde(skip_serializing_if = "is_default")]
    pub address: String,
    /// Namespaces.
    pub namespaces: ContainerdNamespaces,
}

/// Namespaces in containerd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerdNamespaces {
    /// Of containers.
    pub containers: String,
    /// Of plugins.
    pub plugins: String,
}

/// Answer to `GET /system/df`, of the kinds asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DiskUsage {
    /// Images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_usage: Option<Usage<image::Summary>>,
    /// Containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_usage: Option<Usage<container::Summary>>,
    /// Volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_usage: Option<Usage<volume::Volume>>,
    /// Build cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_cache_usage: Option<Usage<BuildCache>>,
}

/// Disk usage of one kind of object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", bound(deserialize = "T: Deserialize<'de>"))]
pub struct Usage<T> {
    /// In use.
    #[serde(skip_serializing_if = "is_default")]
    pub active_count: i64,
    /// The objects, when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<T>,
    /// Bytes that a prune would free.
    #[serde(skip_serializing_if = "is_default")]
    pub reclaimable: i64,
    /// In all.
    #[serde(skip_serializing_if = "is_default")]
    pub total_count: i64,
    /// Bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub total_size: i64,
}

impl<T> Default for Usage<T> {
    fn default() -> Self {
        Self { active_count: 0, items: Vec::new(), reclaimable: 0, total_count: 0, total_size: 0 }
    }
}

/// A record of the build cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BuildCache {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// What it was made from; the key begins with a blank, as in Docker.
    #[serde(rename = " Parents", skip_serializing_if = "is_default")]
    pub parents: Vec<String>,
    /// Such as `regular`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What made it.
    pub description: String,
    /// A build uses it.
    pub in_use: bool,
    /// Shared with images.
    pub shared: bool,
    /// Bytes.
    pub size: i64,
    /// RFC 3339 with nanoseconds.
    pub created_at: String,
    /// RFC 3339 with nanoseconds.
    pub last_used_at: Option<String>,
    /// How often it was used.
    pub usage_count: i64,
}

/// What the file system of the data root can do; ferry's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct StorageFacts {
    /// Where everything lies.
    pub data_root: String,
    /// How root file systems are put together.
    pub image_driver: String,
    /// Such as `ext4`.
    pub file_system: String,
    /// Copies share their extents.
    pub shared_extents: bool,
    /// `-v …:own` works.
    pub idmapped_mounts: bool,
    /// What keeps `volume create --size`: `project quota`, `loop image` or `none`.
    pub volume_limits: String,
}
