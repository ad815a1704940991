//! Containers: what is asked for, what is told.

mod config;
mod flows;
mod host_config;
mod inspect;
mod mount;
mod requests;
mod stats;
mod summary;
mod why;

pub use config::{Config, CreateRequest, CreateResponse, Empty, HealthConfig, PortSet};
pub use flows::{FlowRule, Flows};
pub use host_config::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, PortBinding, PortMap, Resources, RestartPolicy,
    ThrottleDevice, Ulimit, WeightDevice,
};
pub use inspect::{
    DriverData, Health, HealthcheckResult, Inspect, MountPoint, NetworkSettings, RootFsStorage, RootFsStorageSnapshot,
    State, Storage,
};
pub use mount::{BindOptions, ClusterOptions, Driver, ImageOptions, Mount, TmpfsOptions, VolumeOptions};
pub use requests::{
    FilesystemChange, NextStart, PathStat, PruneReport, TopResponse, UpdateRequest, UpdateResponse, WaitExitError,
    WaitResponse,
};
pub use stats::{
    BlkioStatEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats, StorageStats,
    ThrottlingData,
};
pub use summary::{HealthSummary, NetworkSettingsSummary, Port, Summary, SummaryHostConfig};

pub use why::{StopReport, Why};

pub use crate::network::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};
