//! From what the kernel counts to what the API tells. Pure but for the host's own counters.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use ferry_api::container::{
    BlkioStatEntry, BlkioStats, CpuStats, CpuUsage as ApiCpuUsage, MemoryStats, NetworkStats, PidsStats, Stats,
    ThrottlingData,
};
use ferry_shim::protocol::{CpuUsage, InterfaceUsage, IoEntry, IoUsage, MemoryUsage, PidsUsage, Usage};

use crate::clock;
use crate::containers::Container;

/// The kernel's unit in `/proc/stat`, on every architecture that ferry runs on.
const NS_PER_TICK: u64 = 1_000_000_000 / 100;

/// Keys of `memory.stat` that the API has on v1, there or not.
const MEMORY_V1: [&str; 32] = [
    "active_anon",
    "active_file",
    "cache",
    "dirty",
    "hierarchical_memory_limit",
    "hierarchical_memsw_limit",
    "inactive_anon",
    "inactive_file",
    "mapped_file",
    "pgfault",
    "pgmajfault",
    "pgpgin",
    "pgpgout",
    "rss",
    "rss_huge",
    "total_active_anon",
    "total_active_file",
    "total_cache",
    "total_dirty",
    "total_inactive_anon",
    "total_inactive_file",
    "total_mapped_file",
    "total_pgfault",
    "total_pgmajfault",
    "total_pgpgin",
    "total_pgpgout",
    "total_rss",
    "total_rss_huge",
    "total_unevictable",
    "total_writeback",
    "unevictable",
    "writeback",
];

/// Likewise on v2.
const MEMORY_V2: [&str; 31] = [
    "active_anon",
    "active_file",
    "anon",
    "anon_thp",
    "file",
    "file_dirty",
    "file_mapped",
    "file_writeback",
    "inactive_anon",
    "inactive_file",
    "kernel_stack",
    "pgactivate",
    "pgdeactivate",
    "pgfault",
    "pglazyfree",
    "pglazyfreed",
    "pgmajfault",
    "pgrefill",
    "pgscan",
    "pgsteal",
    "shmem",
    "slab",
    "slab_reclaimable",
    "slab_unreclaimable",
    "sock",
    "thp_collapse_alloc",
    "thp_fault_alloc",
    "unevictable",
    "workingset_activate",
    "workingset_nodereclaim",
    "workingset_refault",
];

/// What is told of a container that does not run.
pub(super) fn nothing(container: &Container) -> Stats {
    Stats {
        id: container.id.clone(),
        name: format!("/{}", container.name()),
        os_type: "linux".to_owned(),
        read: clock::NEVER.to_owned(),
        preread: clock::NEVER.to_owned(),
        ..Stats::default()
    }
}

/// What is told of one that runs.
pub(super) fn stats(container: &Container, usage: Usage, has_own_network: bool) -> Stats {
    let (system_cpu_usage, online_cpus) =
        system_cpu(&std::fs::read_to_string("/proc/stat").unwrap_or_default()).unwrap_or_default();
    let cpu_stats = CpuStats { system_cpu_usage, online_cpus, ..usage.cpu.map(cpu).unwrap_or_default() };
    Stats {
        read: clock::rfc3339(usage.time_ns),
        cpu_stats,
        memory_stats: usage.memory.map(|usage| memory(&usage, machine_memory())).unwrap_or_default(),
        networks: if has_own_network { networks(usage.interfaces) } else { BTreeMap::new() },
        pids_stats: usage.pids.map(|usage| pids(&usage)).unwrap_or_default(),
        blkio_stats: usage.io.map(io).unwrap_or_default(),
        ..nothing(container)
    }
}

fn cpu(usage: CpuUsage) -> CpuStats {
    CpuStats {
        cpu_usage: ApiCpuUsage {
            total_usage: usage.total_ns,
            percpu_usage: usage.per_cpu_ns,
            usage_in_kernelmode: usage.system_ns,
            usage_in_usermode: usage.user_ns,
        },
        throttling_data: ThrottlingData {
            periods: usage.periods,
            throttled_periods: usage.throttled_periods,
            throttled_time: usage.throttled_ns,
        },
        ..CpuStats::default()
    }
}

/// A limit beyond what the machine has is none.
fn memory(usage: &MemoryUsage, machine_bytes: u64) -> MemoryStats {
    let keys: &[&str] = if usage.unified { &MEMORY_V2 } else { &MEMORY_V1 };
    let value = |key: &str| usage.stat.iter().find(|(name, _)| name == key).map_or(0, |(_, value)| *value);
    MemoryStats {
        usage: usage.usage,
        max_usage: if usage.unified { 0 } else { usage.max_usage },
        stats: keys.iter().map(|key| ((*key).to_owned(), value(key))).collect(),
        failcnt: if usage.unified { usage.oom_count } else { usage.fail_count },
        limit: if machine_bytes > 0 { usage.limit.min(machine_bytes) } else { usage.limit },
        ..MemoryStats::default()
    }
}

/// No limit is 0 on v1, and on v2 the largest number, as in Docker.
fn pids(usage: &PidsUsage) -> PidsStats {
    let limit = if usage.limit == u64::MAX && !usage.unified { 0 } else { usage.limit };
    PidsStats { current: usage.current, limit }
}

/// v2 tells bytes alone, and nothing of what v1 kernels count no more.
fn io(usage: IoUsage) -> BlkioStats {
    let entries = |entries: Vec<IoEntry>| -> Vec<BlkioStatEntry> {
        let entry = |entry: IoEntry| BlkioStatEntry {
            major: entry.major,
            minor: entry.minor,
            op: entry.kind,
            value: entry.value,
        };
        entries.into_iter().map(entry).collect()
    };
    let bytes = entries(usage.bytes);
    if usage.unified {
        return BlkioStats {
            io_service_bytes_recursive: (!bytes.is_empty()).then_some(bytes),
            ..BlkioStats::default()
        };
    }
    let none = || Some(Vec::new());
    BlkioStats {
        io_service_bytes_recursive: Some(bytes),
        io_serviced_recursive: Some(entries(usage.operations)),
        io_queue_recursive: none(),
        io_service_time_recursive: none(),
        io_wait_time_recursive: none(),
        io_merged_recursive: none(),
        io_time_recursive: none(),
        sectors_recursive: none(),
    }
}

/// The interfaces that lead into networks; tunnels and the like are the container's own affair.
fn networks(interfaces: Vec<InterfaceUsage>) -> BTreeMap<String, NetworkStats> {
    let is_ours = |name: &str| name.strip_prefix("eth").is_some_and(|number| number.parse::<u32>().is_ok());
    let ours = interfaces.into_iter().filter(|interface| is_ours(&interface.name));
    let stats = ours.map(|interface| {
        let stats = NetworkStats {
            rx_bytes: interface.rx_bytes,
            rx_packets: interface.rx_packets,
            rx_errors: interface.rx_errors,
            rx_dropped: interface.rx_dropped,
            tx_bytes: interface.tx_bytes,
            tx_packets: interface.tx_packets,
            tx_errors: interface.tx_errors,
            tx_dropped: interface.tx_dropped,
            ..NetworkStats::default()
        };
        (interface.name, stats)
    });
    stats.collect()
}

/// Nanoseconds that all processors have spent together, idle or not, and how many there are, out of `/proc/stat`.
fn system_cpu(text: &str) -> Option<(u64, u32)> {
    let lines = || text.lines().map_while(|line| line.strip_prefix("cpu"));
    let total = lines().find_map(|line| line.strip_prefix(' '))?;
    // User, nice, system, idle, I/O wait, interrupts, soft interrupts; what follows is counted among them.
    let ticks: Vec<u64> = total.split_ascii_whitespace().take(7).map_while(|word| word.parse().ok()).collect();
    let count = lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit())).count();
    (ticks.len() == 7).then(|| (ticks.iter().sum::<u64>() * NS_PER_TICK, u32::try_from(count).unwrap_or(u32::MAX)))
}

fn machine_memory() -> u64 {
    static BYTES: OnceLock<u64> = OnceLock::new();
    *BYTES.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_time_is_that_of_all_processors() {
        let text =
            "cpu  10 20 30 40 50 60 70 80 90 0\ncpu0 1 2 3 4 5 6 7 8 9 0\ncpu1 1 2 3 4 5 6 7 8 9 0\nintr 5\ncpu9 1\n";
        assert_eq!(system_cpu(text), Some((280 * 10_000_000, 2)));
        assert_eq!(system_cpu("cpu  1 2\n"), None);
        assert_eq!(system_cpu(""), None);
    }

    #[test]
    fn memory_of_v1_and_v2_have_their_own_keys() {
        let usage = MemoryUsage {
            usage: 100,
            max_usage: 120,
            limit: u64::MAX,
            fail_count: 3,
            oom_count: 9,
            stat: vec![("total_inactive_file".into(), 7), ("inactive_file".into(), 8), ("zswap".into(), 1)],
            ..MemoryUsage::default()
        };
        let v1 = memory(&usage, 1 << 30);
        assert_eq!((v1.stats.len(), v1.stats["total_inactive_file"], v1.stats["cache"]), (32, 7, 0));
        assert_eq!((v1.limit, v1.failcnt, v1.max_usage), (1 << 30, 3, 120), "no limit is the machine's memory");
        let v2 = memory(&MemoryUsage { unified: true, limit: 4096, ..usage }, 1 << 30);
        assert_eq!((v2.stats.len(), v2.stats["inactive_file"], v2.stats.get("cache")), (31, 8, None));
        assert_eq!((v2.limit, v2.failcnt, v2.max_usage), (4096, 9, 0));
    }

    #[test]
    fn no_pids_limit_is_told_as_docker_does() {
        let usage = |unified| PidsUsage { unified, current: 2, limit: u64::MAX };
        assert_eq!((pids(&usage(false)).limit, pids(&usage(true)).limit), (0, u64::MAX));
    }

    #[test]
    fn block_devices_of_v1_have_every_list_and_v2_one() {
        let entry = IoEntry { major: 8, minor: 0, kind: "Read".into(), value: 5 };
        let usage = IoUsage { unified: false, bytes: vec![entry.clone()], operations: vec![entry] };
        let v1 = io(usage.clone());
        assert_eq!(v1.io_service_bytes_recursive.as_ref().unwrap()[0].op, "Read");
        assert_eq!(v1.sectors_recursive, Some(Vec::new()));
        let v2 = io(IoUsage { unified: true, ..usage });
        assert!(v2.io_service_bytes_recursive.is_some() && v2.io_serviced_recursive.is_none());
        assert_eq!(io(IoUsage { unified: true, ..IoUsage::default() }).io_service_bytes_recursive, None);
    }

    #[test]
    fn only_the_interfaces_of_networks_are_told() {
        let named = |name: &str| InterfaceUsage { name: name.into(), rx_bytes: 1, ..InterfaceUsage::default() };
        let found = networks(["lo", "eth0", "tunl0", "eth12", "ethernet"].map(named).to_vec());
        assert_eq!(found.keys().collect::<Vec<_>>(), ["eth0", "eth12"]);
    }
}
