//! Answer to `GET /containers/{id}/stats`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json::is_default;

/// One sample.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Container id.
    #[serde(skip_serializing_if = "is_default")]
    pub id: String,
    /// Name with a leading `/`.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// `linux`.
    #[serde(skip_serializing_if = "is_default")]
    pub os_type: String,
    /// RFC 3339 with nanoseconds.
    pub read: String,
    /// Processor.
    pub cpu_stats: CpuStats,
    /// Memory.
    pub memory_stats: MemoryStats,
    /// By interface.
    #[serde(skip_serializing_if = "is_default")]
    pub networks: BTreeMap<String, NetworkStats>,
    /// Processes.
    pub pids_stats: PidsStats,
    /// Block devices.
    pub blkio_stats: BlkioStats,
    /// Windows only.
    pub num_procs: u32,
    /// Windows only.
    pub storage_stats: StorageStats,
    /// Time of the sample before.
    pub preread: String,
    /// Processor in the sample before.
    pub precpu_stats: CpuStats,
}

/// Processor use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    /// Of the container.
    pub cpu_usage: CpuUsage,
    /// Nanoseconds of the whole host.
    #[serde(skip_serializing_if = "is_default")]
    pub system_cpu_usage: u64,
    /// Processors.
    #[serde(skip_serializing_if = "is_default")]
    pub online_cpus: u32,
    /// Throttling.
    pub throttling_data: ThrottlingData,
}

/// Processor time in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    /// In all.
    pub total_usage: u64,
    /// By processor (cgroup v1).
    #[serde(skip_serializing_if = "is_default")]
    pub percpu_usage: Vec<u64>,
    /// In the kernel.
    pub usage_in_kernelmode: u64,
    /// In user mode.
    pub usage_in_usermode: u64,
}

/// Throttling by quota.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottlingData {
    /// Periods.
    pub periods: u64,
    /// Periods with throttling.
    pub throttled_periods: u64,
    /// Nanoseconds.
    pub throttled_time: u64,
}

/// Memory use in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    /// Now.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: u64,
    /// Highest.
    #[serde(skip_serializing_if = "is_default")]
    pub max_usage: u64,
    /// The kernel's `memory.stat`.
    #[serde(skip_serializing_if = "is_default")]
    pub stats: BTreeMap<String, u64>,
    /// How often the limit was hit.
    #[serde(skip_serializing_if = "is_default")]
    pub failcnt: u64,
    /// Limit.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: u64,
    /// Windows only.
    #[serde(skip_serializing_if = "is_default")]
    pub commitbytes: u64,
    /// Windows only.
    #[serde(skip_serializing_if = "is_default")]
    pub commitpeakbytes: u64,
    /// Windows only.
    #[serde(skip_serializing_if = "is_default")]
    pub privateworkingset: u64,
}

/// Processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    /// Now.
    #[serde(skip_serializing_if = "is_default")]
    pub current: u64,
    /// Limit; 0 is none.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: u64,
}

/// Block device use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioStats {
    /// Bytes.
    pub io_service_bytes_recursive: Option<Vec<BlkioStatEntry>>,
    /// Operations.
    pub io_serviced_recursive: Option<Vec<BlkioStatEntry>>,
    /// Queue.
    pub io_queue_recursive: Option<Vec<BlkioStatEntry>>,
    /// Service time.
    pub io_service_time_recursive: Option<Vec<BlkioStatEntry>>,
    /// Wait time.
    pub io_wait_time_recursive: Option<Vec<BlkioStatEntry>>,
    /// Merges.
    pub io_merged_recursive: Option<Vec<BlkioStatEntry>>,
    /// Time.
    pub io_time_recursive: Option<Vec<BlkioStatEntry>>,
    /// Sectors.
    pub sectors_recursive: Option<Vec<BlkioStatEntry>>,
}

/// One number of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioStatEntry {
    /// Device.
    pub major: u64,
    /// Device.
    pub minor: u64,
    /// Such as `read`.
    pub op: String,
    /// The number.
    pub value: u64,
}

/// Windows only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageStats {
    /// Reads.
    #[serde(skip_serializing_if = "is_default")]
    pub read_count_normalized: u64,
    /// Bytes read.
    #[serde(skip_serializing_if = "is_default")]
    pub read_size_bytes: u64,
    /// Writes.
    #[serde(skip_serializing_if = "is_default")]
    pub write_count_normalized: u64,
    /// Bytes written.
    #[serde(skip_serializing_if = "is_default")]
    pub write_size_bytes: u64,
}

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkStats {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors.
    pub rx_errors: u64,
    /// Dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors.
    pub tx_errors: u64,
    /// Dropped.
    pub tx_dropped: u64,
    /// Windows only.
    #[serde(skip_serializing_if = "is_default")]
    pub endpoint_id: String,
    /// Windows only.
    #[serde(skip_serializing_if = "is_default")]
    pub instance_id: String,
}
