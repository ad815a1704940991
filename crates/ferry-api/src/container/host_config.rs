//! The part of a container's configuration that belongs to its host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::mount::Mount;
use crate::json::is_default;

/// Published ports: `80/tcp` to host addresses; `None` is an exposed port that is not published.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// One host side of a published port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortBinding {
    /// Host address; empty is any.
    pub host_ip: String,
    /// Host port, or a range `8000-8010`; empty or `0` is any free one.
    pub host_port: String,
    /// Who may reach it besides the host: `any`, `lan`, addresses and nets; none is everybody. Docker does not have it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
}

/// When a container is started again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RestartPolicy {
    /// Empty, `no`, `always`, `unless-stopped` or `on-failure`.
    pub name: String,
    /// Tries of `on-failure`; 0 is without end.
    pub maximum_retry_count: i64,
}

/// Where output is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LogConfig {
    /// Driver; empty is the daemon's default.
    #[serde(rename = "Type")]
    pub driver: String,
    /// Options of the driver.
    pub config: Option<BTreeMap<String, String>>,
}

/// One resource limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ulimit {
    /// Name without `RLIMIT_`, lower case.
    pub name: String,
    /// Hard limit; -1 is none.
    pub hard: i64,
    /// Soft limit; -1 is none.
    pub soft: i64,
}

impl Ulimit {
    /// Reads `name=soft[:hard]`, as Docker's clients and builder write it.
    ///
    /// # Errors
    /// Docker's sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        const NAMES: &[&str] = &[
            "core",
            "cpu",
            "data",
            "fsize",
            "locks",
            "memlock",
            "msgqueue",
            "nice",
            "nofile",
            "nproc",
            "rss",
            "rtprio",
            "rttime",
            "sigpending",
            "stack",
        ];
        let (name, limits) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
        if !NAMES.contains(&name) {
            return Err(format!("invalid ulimit type: {name}"));
        }
        let (soft, hard) = match limits.split(':').collect::<Vec<_>>()[..] {
            [both] => (limit(both)?, limit(both)?),
            [soft, hard] => (limit(soft)?, limit(hard)?),
            _ => {
                return Err(format!(
                    "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
                ));
            }
        };
        let wrong = "ulimit soft limit must be less than or equal to hard limit";
        match (soft, hard) {
            (_, -1) => {}
            (-1, _) => return Err(format!("{wrong}: soft: -1 (unlimited), hard: {hard}")),
            _ if soft > hard => return Err(format!("{wrong}: {soft} > {hard}")),
            _ => {}
        }
        Ok(Self { name: name.to_owned(), hard, soft })
    }
}

/// A decimal number, with Go's words for what is none.
fn limit(text: &str) -> Result<i64, String> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {text:?}: {why}")
    })
}

/// A host device in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceMapping {
    /// Host path.
    pub path_on_host: String,
    /// Path in the container.
    pub path_in_container: String,
    /// Of `rwm`.
    pub cgroup_permissions: String,
}

/// Devices asked for from a driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceRequest {
    /// Driver.
    pub driver: String,
    /// How many; -1 is all.
    pub count: i64,
    /// Which.
    #[serde(rename = "DeviceIDs")]
    pub device_ids: Option<Vec<String>>,
    /// An OR list of AND lists.
    pub capabilities: Option<Vec<Vec<String>>>,
    /// Options of the driver.
    pub options: Option<BTreeMap<String, String>>,
}

/// A block device's weight.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WeightDevice {
    /// Device path.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A block device's limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ThrottleDevice {
    /// Device path.
    pub path: String,
    /// Bytes or operations a second.
    pub rate: u64,
}

/// Limits of a container, as `POST /containers/{id}/update` takes them; in a [`HostConfig`] the same fields stand at its own level.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Resources {
    /// Relative weight.
    pub cpu_shares: i64,
    /// Bytes.
    pub memory: i64,
    /// Billionths of a processor.
    pub nano_cpus: i64,
    /// Parent cgroup.
    pub cgroup_parent: String,
    /// 10 to 1000.
    pub blkio_weight: u16,
    /// By device.
    pub blkio_weight_device: Option<Vec<WeightDevice>>,
    /// By device.
    pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
    /// By device.
    pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
    /// By device.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
    /// By device.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_realtime_period: i64,
    /// Microseconds.
    pub cpu_realtime_runtime: i64,
    /// Such as `0-2,7`.
    pub cpuset_cpus: String,
    /// Such as `0-2,7`.
    pub cpuset_mems: String,
    /// Host devices.
    pub devices: Option<Vec<DeviceMapping>>,
    /// Rules such as `c 13:* rwm`.
    pub device_cgroup_rules: Option<Vec<String>>,
    /// Devices from drivers.
    pub device_requests: Option<Vec<DeviceRequest>>,
    /// Bytes.
    pub memory_reservation: i64,
    /// Memory and swap together, bytes; -1 is without limit.
    pub memory_swap: i64,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// No out-of-memory killer.
    pub oom_kill_disable: Option<bool>,
    /// Processes; 0 and -1 are without limit.
    pub pids_limit: Option<i64>,
    /// Resource limits.
    pub ulimits: Option<Vec<Ulimit>>,
    /// Windows only.
    pub cpu_count: i64,
    /// Windows only.
    pub cpu_percent: i64,
    /// Windows only.
    #[serde(rename = "IOMaximumIOps")]
    pub io_maximum_iops: u64,
    /// Windows only.
    #[serde(rename = "IOMaximumBandwidth")]
    pub io_maximum_bandwidth: u64,
    /// Bytes; old clients ask for it, no kernel knows it any more.
    #[serde(skip_serializing)]
    pub kernel_memory: i64,
    /// Likewise, for buffers of TCP.
    #[serde(rename = "KernelMemoryTCP", skip_serializing)]
    pub kernel_memory_tcp: i64,
    /// Bits a second into each endpoint of the container; -1 in an update ends the limit, here and in the next three. Docker does not have them.
    #[serde(skip_serializing_if = "is_default")]
    pub net_in: i64,
    /// Bits a second out of it.
    #[serde(skip_serializing_if = "is_default")]
    pub net_out: i64,
    /// Nanoseconds by which what it sends is late.
    #[serde(skip_serializing_if = "is_default")]
    pub net_delay: i64,
    /// How many of a million packets that it sends get lost.
    #[serde(skip_serializing_if = "is_default")]
    pub net_loss: i64,
    /// What it may reach outside of its networks: `none`, `lan`, `internet`, `allow=…`; `any` in an update ends the rules. Docker does not
    /// have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<String>>,
}

/// What the host gives to a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostConfig {
    /// `source:target[:options]`.
    pub binds: Option<Vec<String>>,
    /// File of the client that takes the id.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// Where output is kept.
    pub log_config: LogConfig,
    /// `default`, `bridge`, `host`, `none`, `container:<id>` or a network.
    pub network_mode: String,
    /// Published ports.
    pub port_bindings: Option<PortMap>,
    /// When it is started again.
    pub restart_policy: RestartPolicy,
    /// Removed when it ends.
    pub auto_remove: bool,
    /// Driver of volumes that name none.
    pub volume_driver: String,
    /// `container[:ro|rw]`.
    pub volumes_from: Option<Vec<String>>,
    /// Height and width of the first terminal.
    pub console_size: [u32; 2],
    /// Annotations for the runtime.
    #[serde(skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Capabilities to add.
    pub cap_add: Option<Vec<String>>,
    /// Capabilities to drop.
    pub cap_drop: Option<Vec<String>>,
    /// Empty, `private` or `host`.
    pub cgroupns_mode: String,
    /// Name servers.
    pub dns: Option<Vec<String>>,
    /// Resolver options.
    pub dns_options: Option<Vec<String>>,
    /// Search domains.
    pub dns_search: Option<Vec<String>>,
    /// `name:address`.
    pub extra_hosts: Option<Vec<String>>,
    /// Supplementary groups.
    pub group_add: Option<Vec<String>>,
    /// `none`, `private`, `shareable`, `host` or `container:<id>`.
    pub ipc_mode: String,
    /// `container:<id>` or empty.
    pub cgroup: String,
    /// Legacy links.
    pub links: Option<Vec<String>>,
    /// -1000 to 1000.
    pub oom_score_adj: i64,
    /// Empty, `host` or `container:<id>`.
    pub pid_mode: String,
    /// All rights.
    pub privileged: bool,
    /// Publish every exposed port.
    pub publish_all_ports: bool,
    /// Root file system read-only.
    pub readonly_rootfs: bool,
    /// Such as `no-new-privileges` or `seccomp=unconfined`.
    pub security_opt: Option<Vec<String>>,
    /// Options of the storage driver.
    #[serde(skip_serializing_if = "is_default")]
    pub storage_opt: BTreeMap<String, String>,
    /// Target to options.
    #[serde(skip_serializing_if = "is_default")]
    pub tmpfs: BTreeMap<String, String>,
    /// Empty or `host`.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// Empty or `host`.
    pub userns_mode: String,
    /// Bytes of `/dev/shm`.
    pub shm_size: i64,
    /// Kernel parameters.
    #[serde(skip_serializing_if = "is_default")]
    pub sysctls: BTreeMap<String, String>,
    /// Runtime; empty is the daemon's default.
    #[serde(skip_serializing_if = "is_default")]
    pub runtime: String,
    /// Windows only.
    pub isolation: String,

    /// Relative weight.
    pub cpu_shares: i64,
    /// Bytes.
    pub memory: i64,
    /// Billionths of a processor.
    pub nano_cpus: i64,
    /// Parent cgroup.
    pub cgroup_parent: String,
    /// 10 to 1000.
    pub blkio_weight: u16,
    /// By device.
    pub blkio_weight_device: Option<Vec<WeightDevice>>,
    /// By device.
    pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
    /// By device.
    pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
    /// By device.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
    /// By device.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_realtime_period: i64,
    /// Microseconds.
    pub cpu_realtime_runtime: i64,
    /// Such as `0-2,7`.
    pub cpuset_cpus: String,
    /// Such as `0-2,7`.
    pub cpuset_mems: String,
    /// Host devices.
    pub devices: Option<Vec<DeviceMapping>>,
    /// Rules such as `c 13:* rwm`.
    pub device_cgroup_rules: Option<Vec<String>>,
    /// Devices from drivers.
    pub device_requests: Option<Vec<DeviceRequest>>,
    /// Bytes.
    pub memory_reservation: i64,
    /// Memory and swap together, bytes; -1 is without limit.
    pub memory_swap: i64,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// No out-of-memory killer.
    pub oom_kill_disable: Option<bool>,
    /// Processes; 0 and -1 are without limit.
    pub pids_limit: Option<i64>,
    /// Resource limits.
    pub ulimits: Option<Vec<Ulimit>>,
    /// Windows only.
    pub cpu_count: i64,
    /// Windows only.
    pub cpu_percent: i64,
    /// Windows only.
    #[serde(rename = "IOMaximumIOps")]
    pub io_maximum_iops: u64,
    /// Windows only.
    #[serde(rename = "IOMaximumBandwidth")]
    pub io_maximum_bandwidth: u64,
    /// Bytes; old clients ask for it, no kernel knows it any more.
    #[serde(skip_serializing)]
    pub kernel_memory: i64,
    /// Likewise, for buffers of TCP.
    #[serde(rename = "KernelMemoryTCP", skip_serializing)]
    pub kernel_memory_tcp: i64,
    /// Bits a second into each endpoint of the container; -1 in an update ends the limit, here and in the next three. Docker does not have them.
    #[serde(skip_serializing_if = "is_default")]
    pub net_in: i64,
    /// Bits a second out of it.
    #[serde(skip_serializing_if = "is_default")]
    pub net_out: i64,
    /// Nanoseconds by which what it sends is late.
    #[serde(skip_serializing_if = "is_default")]
    pub net_delay: i64,
    /// How many of a million packets that it sends get lost.
    #[serde(skip_serializing_if = "is_default")]
    pub net_loss: i64,
    /// What it may reach outside of its networks: `none`, `lan`, `internet`, `allow=…`; `any` in an update ends the rules. Docker does not
    /// have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<String>>,

    /// Mounts in their long form.
    #[serde(skip_serializing_if = "is_default")]
    pub mounts: Vec<Mount>,
    /// Paths hidden in the container; `None` is the default list.
    pub masked_paths: Option<Vec<String>>,
    /// Paths read-only in the container; `None` is the default list.
    pub readonly_paths: Option<Vec<String>>,
    /// Run an init process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}

macro_rules! limits_of_a_host_config {
    ($($field:ident),* $(,)?) => {
        impl HostConfig {
            /// Returns the limits that stand in it.
            #[must_use]
            pub fn resources(&self) -> Resources {
                Resources { $($field: self.$field.clone()),* }
            }

            /// Puts other limits in the place of its own.
            pub fn set_resources(&mut self, resources: Resources) {
                $(self.$field = resources.$field;)*
            }
        }
    };
}

limits_of_a_host_config! {
    cpu_shares,
    memory,
    nano_cpus,
    cgroup_parent,
    blkio_weight,
    blkio_weight_device,
    blkio_device_read_bps,
    blkio_device_write_bps,
    blkio_device_read_iops,
    blkio_device_write_iops,
    cpu_period,
    cpu_quota,
    cpu_realtime_period,
    cpu_realtime_runtime,
    cpuset_cpus,
    cpuset_mems,
    devices,
    device_cgroup_rules,
    device_requests,
    memory_reservation,
    memory_swap,
    memory_swappiness,
    oom_kill_disable,
    pids_limit,
    ulimits,
    cpu_count,
    cpu_percent,
    io_maximum_iops,
    io_maximum_bandwidth,
    kernel_memory,
    kernel_memory_tcp,
    net_in,
    net_out,
    net_delay,
    net_loss,
    egress,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits_are_read_as_docker_reads_them() {
        let limit = |soft, hard| Ok(Ulimit { name: "nofile".to_owned(), hard, soft });
        assert_eq!(Ulimit::parse("nofile=1:2"), limit(1, 2));
        assert_eq!(Ulimit::parse("nofile=-1"), limit(-1, -1));
        assert_eq!(Ulimit::parse("nofile=5:-1"), limit(5, -1));
        for (text, wrong) in [
            ("x", "invalid ulimit argument: x"),
            ("x=1", "invalid ulimit type: x"),
            ("nofile=1:2:3", "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`"),
            ("nofile=3:2", "ulimit soft limit must be less than or equal to hard limit: 3 > 2"),
            (
                "nofile=-1:2",
                "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: 2",
            ),
            ("nofile=0x1", "strconv.ParseInt: parsing \"0x1\": invalid syntax"),
            ("nofile=99999999999999999999", "strconv.ParseInt: parsing \"99999999999999999999\": value out of range"),
        ] {
            assert_eq!(Ulimit::parse(text), Err(wrong.to_owned()), "{text}");
        }
    }

    #[test]
    fn limits_are_taken_out_and_put_back() {
        let resources = Resources { memory: 5, pids_limit: Some(2), ..Resources::default() };
        let mut host_config = HostConfig { privileged: true, cpu_shares: 7, ..HostConfig::default() };
        host_config.set_resources(resources.clone());
        assert_eq!(host_config.resources(), resources);
        assert!(host_config.privileged && host_config.cpu_shares == 0);
    }
}
