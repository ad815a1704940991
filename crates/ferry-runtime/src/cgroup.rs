//! The cgroups of a container, whatever the host mounts: v1, v2 or both.

use std::os::fd::OwnedFd;

use ferry_spec::runtime::LinuxResources;

use crate::error::Error;

/// One cgroup path in every hierarchy of the host.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: String,
}

/// What a cgroup has used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Memory.
    pub memory: MemoryStats,
    /// Processor time.
    pub cpu: CpuStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block devices, one entry per device and operation.
    pub io: Vec<IoStats>,
}

/// Memory of a cgroup, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use, page cache included.
    pub usage: u64,
    /// Most ever in use, where the kernel tells.
    pub max_usage: u64,
    /// Limit; `u64::MAX` without one.
    pub limit: u64,
    /// Times that the limit was hit.
    pub fail_count: u64,
    /// The lines of `memory.stat`.
    pub stat: Vec<(String, u64)>,
}

/// Processor time of a cgroup, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// All.
    pub total_ns: u64,
    /// In user mode.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// By processor; empty on v2.
    pub per_cpu_ns: Vec<u64>,
    /// Periods with a quota.
    pub periods: u64,
    /// Periods in which it was throttled.
    pub throttled_periods: u64,
    /// How long it was throttled.
    pub throttled_ns: u64,
}

/// Tasks of a cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// How many there are.
    pub current: u64,
    /// How many there may be; `u64::MAX` without a limit.
    pub limit: u64,
}

/// Use of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub read_operations: u64,
    /// Write operations.
    pub write_operations: u64,
}

impl Cgroup {
    /// Makes the cgroup (parents included) and sets its limits.
    ///
    /// # Errors
    /// A bad path, a limit this host cannot set, a failed write; what was made is removed.
    pub fn create(_path: &str, _resources: &LinuxResources) -> Result<Cgroup, Error> {
        Err(Error::unsupported("cgroups are not built yet"))
    }

    /// Names a cgroup that exists or existed.
    ///
    /// # Errors
    /// A bad path, no cgroup mounted.
    pub fn open(_path: &str) -> Result<Cgroup, Error> {
        Err(Error::unsupported("cgroups are not built yet"))
    }

    /// The path below the root of each hierarchy.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Moves the calling process in (all hierarchies).
    ///
    /// # Errors
    /// A failed write.
    pub fn join(&self) -> Result<(), Error> {
        Err(Error::unsupported("cgroups are not built yet"))
    }

    /// Host pids of every process in it, sub-groups included.
    ///
    /// # Errors
    /// A failed read.
    pub fn pids(&self) -> Result<Vec<u32>, Error> {
        Err(Error::unsupported("cgroups are not built yet"))
    }

    /// Sends a signal to every process in it.
    ///
    /// # Errors
    /// A failed read or signal.
    pub fn signal_all(&self, _signal: i32) -> Result<(), Error> {
        Err(Error::unsupported("cgroups are not built yet"))
    }

    /// Freezes every process in it; returns when they stand still.
    ///
    /// # Errors
    /// No freezer, or it does not come to rest.
    pub fn freeze(&self) -> Result<(), Error> {
        Err(Error::unsupported("cgroups are not built yet"))
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// A failed write.
    pub fn thaw(&self) -> Result<(), Error> {
        Err(Error::unsupported("cgroups are not built yet"))
    }

    /// Tells whether it is frozen.
    ///
    /// # Errors
    /// A failed read.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        Err(Error::unsupported("cgroups are not built yet"))
    }

    /// Removes it, sub-groups included; one that is gone is no error.
    ///
    /// # Errors
    /// Processes are left in it.
    pub fn remove(&self) -> Result<(), Error> {
        Err(Error::unsupported("cgroups are not built yet"))
    }

    /// A descriptor that becomes readable (`POLLIN`) when the memory limit may have killed; read it empty, then ask
    /// [`Cgroup::oom_kill_count`]. It may also become readable without a kill, such as when the cgroup is removed.
    ///
    /// # Errors
    /// No memory controller.
    pub fn oom_event_fd(&self) -> Result<OwnedFd, Error> {
        Err(Error::unsupported("cgroups are not built yet"))
    }

    /// How many processes the memory limit has killed.
    ///
    /// # Errors
    /// A failed read.
    pub fn oom_kill_count(&self) -> Result<u64, Error> {
        Err(Error::unsupported("cgroups are not built yet"))
    }

    /// What it has used.
    ///
    /// # Errors
    /// A failed read.
    pub fn stats(&self) -> Result<Stats, Error> {
        Err(Error::unsupported("cgroups are not built yet"))
    }

    /// Sets the limits that are present in `resources`.
    ///
    /// # Errors
    /// A limit this host cannot set, a failed write.
    pub fn update(&self, _resources: &LinuxResources) -> Result<(), Error> {
        Err(Error::unsupported("cgroups are not built yet"))
    }
}
