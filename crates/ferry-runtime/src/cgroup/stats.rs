//! What a cgroup has used.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Cgroup, read};
use crate::error::Error;

/// What a cgroup has used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Memory.
    pub memory: MemoryStats,
    /// Processor time.
    pub cpu: CpuStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block devices, one entry per device.
    pub io: Vec<IoStats>,
    /// Where each of the above comes from.
    pub sources: Sources,
}

/// Which hierarchy a controller's figures come from; the two count a little differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A v1 hierarchy.
    V1,
    /// The v2 tree.
    V2,
}

/// The hierarchy of each controller; `None` where the host has no such controller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Memory.
    pub memory: Option<Version>,
    /// Processor time.
    pub cpu: Option<Version>,
    /// Tasks.
    pub pids: Option<Version>,
    /// Block devices.
    pub io: Option<Version>,
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
    /// Times that nothing could be reclaimed at the limit (v2).
    pub oom_count: u64,
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
    /// Bytes by the kernel's word for the operation, such as `Sync` (v1).
    pub bytes_by_kind: Vec<(String, u64)>,
    /// Operations, likewise.
    pub operations_by_kind: Vec<(String, u64)>,
}

pub(super) fn read_all(cgroup: &Cgroup) -> Result<Stats, Error> {
    let v1 = |controller: &str| cgroup.v1(controller).map(|hierarchy| hierarchy.folder(&cgroup.path));
    let tree = cgroup.v2().map(|hierarchy| (hierarchy.folder(&cgroup.path), hierarchy));
    let v2 =
        |controller: &str| tree.as_ref().filter(|(_, hierarchy)| hierarchy.has(controller)).map(|(folder, _)| folder);
    let mut stats = Stats::default();
    match (v1("memory"), v2("memory")) {
        (Some(folder), _) => (stats.memory, stats.sources.memory) = (memory_v1(&folder)?, Some(Version::V1)),
        (None, Some(folder)) => (stats.memory, stats.sources.memory) = (memory_v2(folder)?, Some(Version::V2)),
        (None, None) => {}
    }
    // Times of v2 are counted whether the controller is switched on or not.
    match (v1("cpuacct"), &tree) {
        (Some(accounts), _) => {
            (stats.cpu, stats.sources.cpu) = (cpu_v1(&accounts, v1("cpu").as_deref())?, Some(Version::V1));
        }
        (None, Some((folder, _))) => (stats.cpu, stats.sources.cpu) = (cpu_v2(folder)?, Some(Version::V2)),
        (None, None) => {}
    }
    match (v1("pids"), v2("pids")) {
        (Some(folder), _) => (stats.pids, stats.sources.pids) = (pids(&folder)?, Some(Version::V1)),
        (None, Some(folder)) => (stats.pids, stats.sources.pids) = (pids(folder)?, Some(Version::V2)),
        (None, None) => {}
    }
    match (v1("blkio"), v2("io")) {
        (Some(folder), _) => (stats.io, stats.sources.io) = (io_v1(&folder)?, Some(Version::V1)),
        (None, Some(folder)) => {
            (stats.io, stats.sources.io) = (io_v2(&read(&folder.join("io.stat"))?), Some(Version::V2));
        }
        (None, None) => {}
    }
    Ok(stats)
}

fn pids(folder: &Path) -> Result<PidsStats, Error> {
    Ok(PidsStats { current: number(&folder.join("pids.current"))?, limit: number(&folder.join("pids.max"))? })
}

fn memory_v1(folder: &Path) -> Result<MemoryStats, Error> {
    // Without a limit v1 answers the largest number of pages that it can count.
    const UNLIMITED: u64 = 0x7fff_ffff_ffff_0000;
    let limit = number(&folder.join("memory.limit_in_bytes"))?;
    Ok(MemoryStats {
        usage: number(&folder.join("memory.usage_in_bytes"))?,
        max_usage: number(&folder.join("memory.max_usage_in_bytes"))?,
        limit: if limit >= UNLIMITED { u64::MAX } else { limit },
        fail_count: number(&folder.join("memory.failcnt"))?,
        oom_count: 0,
        stat: pairs(&read(&folder.join("memory.stat"))?),
    })
}

fn memory_v2(folder: &Path) -> Result<MemoryStats, Error> {
    let events = pairs(&read(&folder.join("memory.events"))?);
    Ok(MemoryStats {
        usage: number(&folder.join("memory.current"))?,
        // Since Linux 5.19.
        max_usage: number(&folder.join("memory.peak")).unwrap_or(0),
        limit: number(&folder.join("memory.max"))?,
        fail_count: value(&events, "max"),
        oom_count: value(&events, "oom"),
        stat: pairs(&read(&folder.join("memory.stat"))?),
    })
}

fn cpu_v1(accounts: &Path, cpu: Option<&Path>) -> Result<CpuStats, Error> {
    let per_cpu = read(&accounts.join("cpuacct.usage_percpu"))?;
    let mut stats = CpuStats {
        total_ns: number(&accounts.join("cpuacct.usage"))?,
        user_ns: number(&accounts.join("cpuacct.usage_user"))?,
        system_ns: number(&accounts.join("cpuacct.usage_sys"))?,
        per_cpu_ns: per_cpu.split_whitespace().filter_map(|value| value.parse().ok()).collect(),
        ..CpuStats::default()
    };
    if let Some(cpu) = cpu {
        let throttling = pairs(&read(&cpu.join("cpu.stat"))?);
        stats.periods = value(&throttling, "nr_periods");
        stats.throttled_periods = value(&throttling, "nr_throttled");
        stats.throttled_ns = value(&throttling, "throttled_time");
    }
    Ok(stats)
}

fn cpu_v2(folder: &Path) -> Result<CpuStats, Error> {
    let stat = pairs(&read(&folder.join("cpu.stat"))?);
    Ok(CpuStats {
        total_ns: value(&stat, "usage_usec") * 1000,
        user_ns: value(&stat, "user_usec") * 1000,
        system_ns: value(&stat, "system_usec") * 1000,
        per_cpu_ns: Vec::new(),
        periods: value(&stat, "nr_periods"),
        throttled_periods: value(&stat, "nr_throttled"),
        throttled_ns: value(&stat, "throttled_usec") * 1000,
    })
}

fn io_v1(folder: &Path) -> Result<Vec<IoStats>, Error> {
    let mut devices: BTreeMap<(u64, u64), IoStats> = BTreeMap::new();
    for (file, is_bytes) in
        [("blkio.throttle.io_service_bytes_recursive", true), ("blkio.throttle.io_serviced_recursive", false)]
    {
        for line in read(&folder.join(file))?.lines() {
            let mut words = line.split_whitespace();
            let (Some(device), Some(operation), Some(count)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let (Some((major, minor)), Ok(count)) = (device_number(device), count.parse::<u64>()) else { continue };
            let entry = devices.entry((major, minor)).or_insert(IoStats { major, minor, ..IoStats::default() });
            let by_kind = if is_bytes { &mut entry.bytes_by_kind } else { &mut entry.operations_by_kind };
            by_kind.push((operation.to_owned(), count));
            match (operation, is_bytes) {
                ("Read", true) => entry.read_bytes = count,
                ("Write", true) => entry.write_bytes = count,
                ("Read", false) => entry.read_operations = count,
                ("Write", false) => entry.write_operations = count,
                _ => {}
            }
        }
    }
    Ok(devices.into_values().collect())
}

fn io_v2(text: &str) -> Vec<IoStats> {
    let line = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let (major, minor) = device_number(device)?;
        let get = |key: &str| {
            let words = rest.split_whitespace().filter_map(|word| word.split_once('='));
            words.filter(|(name, _)| *name == key).find_map(|(_, value)| value.parse().ok()).unwrap_or(0)
        };
        Some(IoStats {
            major,
            minor,
            read_bytes: get("rbytes"),
            write_bytes: get("wbytes"),
            read_operations: get("rios"),
            write_operations: get("wios"),
            ..IoStats::default()
        })
    };
    text.lines().filter_map(line).collect()
}

fn device_number(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn number(path: &Path) -> Result<u64, Error> {
    let text = read(path)?;
    match text.trim() {
        "max" => Ok(u64::MAX),
        digits => {
            digits.parse().map_err(|_| Error::internal(format!("{} has no number in it: {digits:?}", path.display())))
        }
    }
}

fn pairs(text: &str) -> Vec<(String, u64)> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
        .collect()
}

fn value(pairs: &[(String, u64)], name: &str) -> u64 {
    pairs.iter().find(|(known, _)| known == name).map_or(0, |(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_lines_of_v2_are_read() {
        let stats = io_v2("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n253:1 \n");
        assert_eq!((stats[0].write_bytes, stats[0].read_operations, stats[1].major), (20, 1, 253));
    }
}
