//! What an engine is started with; parsed and validated by the daemon, passed down as values.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use ferry_shim::protocol::ForeignRuntime;
use indexmap::IndexMap;
use ipnet::{IpNet, Ipv6Net};

pub use ferry_network::FirewallMark;
pub use ferry_store::Limits as ImageLimits;

/// Validated settings of one engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Everything that survives a reboot; `/var/lib/ferry`.
    pub data_root: PathBuf,
    /// Run-time files; `/run/ferry`.
    pub exec_root: PathBuf,
    /// The static `ferry-shim` program.
    pub shim_program: PathBuf,
    /// The static `ferry-logger` program.
    pub logger_program: PathBuf,
    /// The static `ferry-netd` program.
    pub netd_program: PathBuf,
    /// The default bridge.
    pub bridge: BridgeConfig,
    /// How images are stored.
    pub image_store: ImageStoreConfig,
    /// What can change while the engine runs.
    pub live: LiveSettings,
    /// Proxies of the daemon's environment.
    pub proxies: ProxyConfig,
    /// `log-driver` for containers that name none.
    pub log_driver: String,
    /// `log-opts`, likewise.
    pub log_options: IndexMap<String, String>,
    /// `init` for containers that do not say.
    pub init: bool,
    /// `native.cgroupdriver` of `exec-opts`.
    pub cgroup_driver: CgroupDriver,
    /// `cgroup-parent`; `None` is `/ferry-<instance>`, or `system.slice`.
    pub cgroup_parent: Option<String>,
    /// `seccomp-profile`.
    pub seccomp: SeccompDefault,
    /// `no-new-privileges` for containers that do not say.
    pub no_new_privileges: bool,
    /// `selinux-enabled`: containers have labels, where the host has SELinux.
    pub selinux: bool,
    /// `cpu-rt-period` and `cpu-rt-runtime`: what containers together may have.
    pub cpu_realtime: CpuRealtime,
    /// `dns`.
    pub dns: Vec<IpAddr>,
    /// `host-gateway-ips`: what `host-gateway` of extra hosts means; none is the gateway of the container.
    pub host_gateways: Vec<IpAddr>,
    /// `dns-search`.
    pub dns_search: Vec<String>,
    /// `dns-opts`.
    pub dns_options: Vec<String>,
    /// `default-ulimits`: name, soft, hard.
    pub default_ulimits: Vec<(String, i64, i64)>,
    /// Links give variables, as they did before Docker 29.
    pub link_variables: bool,
    /// `cdi-spec-dirs`; none turns the interface off.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// File the daemon logs to, named in `info`.
    pub log_file: Option<PathBuf>,
    /// Docker-like version told to clients, for `info`.
    pub server_version: String,
}

/// What a running engine may be told anew.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// `debug`.
    pub debug: bool,
    /// `labels` of the engine.
    pub labels: Vec<String>,
    /// `registry-mirrors`, URLs, tried in order for Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// `registry`: mirrors by registry, or by `*.suffix` or `*`.
    pub registries: IndexMap<String, RegistrySettings>,
    /// `insecure-registries`: `host[:port]` or CIDR.
    pub insecure_registries: Vec<String>,
    /// `registry-timeout`: seconds without progress after which a transfer ends.
    pub registry_timeout_s: u64,
    /// Containers run on without the daemon.
    pub live_restore: bool,
    /// Seconds that containers get on shutdown of the host.
    pub shutdown_timeout_s: i64,
    /// `max-concurrent-downloads`.
    pub max_concurrent_downloads: usize,
    /// `max-concurrent-uploads`.
    pub max_concurrent_uploads: usize,
    /// `max-download-attempts`.
    pub max_download_attempts: u32,
    /// `default-runtime`.
    pub default_runtime: String,
    /// `runtimes`: foreign OCI runtimes by name.
    pub runtimes: IndexMap<String, ForeignRuntime>,
    /// `default-shm-size` in bytes.
    pub default_shm_size_bytes: i64,
    /// `disk-budget`: bytes that images may take up; those that were not used for longest go first. `None` is no bound.
    pub disk_budget_bytes: Option<u64>,
    /// `authorization-plugins`, asked in this order.
    pub authorization_plugins: Vec<String>,
}

/// The settings in force, shared by all who read them.
#[derive(Debug, Clone, Default)]
pub struct LiveSettings(Arc<RwLock<Arc<Live>>>);

impl LiveSettings {
    /// Begins with these.
    pub fn new(live: Live) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(live))))
    }

    /// The settings in force at this moment.
    pub fn get(&self) -> Arc<Live> {
        // Replaced whole, so a panic leaves nothing half-done.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set(&self, live: Live) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
    }
}

/// Who makes the cgroups of containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    /// Nothing is configured: ferry itself, but for containers whose parent is named as a slice of a systemd that runs here.
    #[default]
    Unset,
    /// Ferry itself.
    Cgroupfs,
    /// systemd, each as a scope.
    Systemd,
}

impl CgroupDriver {
    /// Docker's words for a parent that is no slice.
    pub const BAD_PARENT: &str = "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"";

    /// What `info` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unset | Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }

    /// Whether the cgroup of a container may be below `parent`.
    pub fn takes_parent(self, parent: &str) -> bool {
        self != Self::Systemd || crate::cgroups::is_slice(parent)
    }
}

/// What filters the system calls of containers that name no profile of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SeccompDefault {
    /// Docker's default.
    #[default]
    Builtin,
    /// Nothing.
    Unconfined,
    /// A profile in Docker's format.
    Custom {
        /// Where it was read, for `info`.
        path: String,
        /// Its JSON.
        text: String,
    },
}

impl SeccompDefault {
    /// What `info` calls it.
    pub fn name(&self) -> &str {
        match self {
            Self::Builtin => "builtin",
            Self::Unconfined => "unconfined",
            Self::Custom { path, .. } => path,
        }
    }
}

/// How images are stored.
#[derive(Debug, Clone, Copy)]
pub struct ImageStoreConfig {
    /// `image-limits`: what one layer may make this host do.
    pub limits: ImageLimits,
    /// `keep-blobs`: layers are kept as they came, beside their files.
    pub keep_blobs: bool,
}

/// What is configured for one registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// URLs asked before it, in order; a URL may carry the user and password for its host.
    pub mirrors: Vec<String>,
}

impl fmt::Debug for RegistrySettings {
    /// Shows no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |url: &String| url.rsplit('@').next().unwrap_or_default().to_owned();
        f.debug_struct("RegistrySettings").field("mirrors", &self.mirrors.iter().map(host).collect::<Vec<_>>()).finish()
    }
}

/// Real-time budget of a cgroup, in microseconds; 0 leaves it as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuRealtime {
    /// Period.
    pub period_us: i64,
    /// Part of it that real-time processes may use.
    pub runtime_us: i64,
}

/// Settings of the default bridge and of the firewall.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// Link name (`--bridge`, default `ferry0`); `none` makes no default bridge.
    pub name: String,
    /// `--bip`: address of the bridge with its prefix.
    pub bip: Option<IpNet>,
    /// `--fixed-cidr`.
    pub fixed_cidr: Option<IpNet>,
    /// `--ipv6`: the default bridge has IPv6.
    pub ipv6: bool,
    /// `--bip6`: its address there, with its prefix.
    pub bip6: Option<Ipv6Net>,
    /// `--fixed-cidr-v6`: its subnet, or a range of that of `bip6`.
    pub fixed_cidr_v6: Option<Ipv6Net>,
    /// `--default-gateway`: where containers on the default bridge send what goes outside.
    pub default_gateway: Option<Ipv4Addr>,
    /// `--default-gateway-v6`.
    pub default_gateway_v6: Option<Ipv6Addr>,
    /// `--default-address-pool`: pools with the prefix length of the networks cut from them; none are Docker's.
    pub default_pools: Vec<(IpNet, u8)>,
    /// `--default-network-opt`: options of new networks, by driver.
    pub default_options: BTreeMap<String, BTreeMap<String, String>>,
    /// `--allow-direct-routing`: published ports are reached at the containers' own addresses, too.
    pub direct_routing: bool,
    /// `--bridge-accept-fwmark`: packets with this mark reach containers.
    pub accepted_mark: Option<FirewallMark>,
    /// `--mtu`; 0 or `None` is the kernel's.
    pub mtu: Option<u32>,
    /// `--icc`.
    pub icc: bool,
    /// `--ip`: default address for published ports.
    pub default_binding_ip: IpAddr,
    /// `--iptables`: whether to make firewall rules at all.
    pub firewall: bool,
    /// `--ip6tables`: whether to make those of IPv6.
    pub firewall6: bool,
    /// `--ip-forward`.
    pub ip_forward: bool,
    /// `--ip-masq`.
    pub ip_masquerade: bool,
}

/// Proxies, as in the environment.
#[derive(Debug, Clone, Default)]
pub struct ProxyConfig {
    /// `HTTP_PROXY`.
    pub http: Option<String>,
    /// `HTTPS_PROXY`.
    pub https: Option<String>,
    /// `NO_PROXY`.
    pub no_proxy: Option<String>,
}
