//! What a reading comes to: shares of the machine, and memory without what the kernel would give back. Pure.

use ferry_api::container::{CpuStats, MemoryStats, Stats};

/// The figures of one container.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// There was an answer.
    pub(super) is_valid: bool,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) cpu_percent: f64,
    pub(super) memory: u64,
    pub(super) memory_limit: u64,
    pub(super) memory_percent: f64,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) read: u64,
    pub(super) written: u64,
    pub(super) pids: u64,
}

impl Figures {
    /// Reckons them from one answer, which holds the reading before as well.
    pub(super) fn of(stats: &Stats) -> Self {
        let memory = without_cache(&stats.memory_stats);
        let limit = stats.memory_stats.limit;
        let devices = || stats.blkio_stats.io_service_bytes_recursive.iter().flatten();
        let moved = |letter: char| {
            let entries = devices().filter(|entry| entry.op.to_ascii_lowercase().starts_with(letter));
            entries.map(|entry| entry.value).sum()
        };
        Self {
            is_valid: true,
            id: stats.id.clone(),
            name: stats.name.clone(),
            cpu_percent: cpu_percent(&stats.precpu_stats, &stats.cpu_stats),
            memory,
            memory_limit: limit,
            memory_percent: if limit == 0 { 0.0 } else { memory as f64 / limit as f64 * 100.0 },
            received: stats.networks.values().map(|network| network.rx_bytes).sum(),
            sent: stats.networks.values().map(|network| network.tx_bytes).sum(),
            read: moved('r'),
            written: moved('w'),
            pids: stats.pids_stats.current,
        }
    }
}

/// Of one processor: two that are busy are 200 %.
fn cpu_percent(before: &CpuStats, now: &CpuStats) -> f64 {
    let used = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
    let passed = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
    let processors = match now.online_cpus {
        0 => now.cpu_usage.percpu_usage.len() as f64,
        count => f64::from(count),
    };
    if used > 0.0 && passed > 0.0 { used / passed * processors * 100.0 } else { 0.0 }
}

/// File pages that nobody has used for a while are the kernel's to drop.
fn without_cache(memory: &MemoryStats) -> u64 {
    let v1 = memory.stats.get("total_inactive_file").filter(|cache| **cache < memory.usage);
    let cache = v1.or(memory.stats.get("inactive_file").filter(|cache| **cache < memory.usage));
    memory.usage - cache.copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn figures(document: serde_json::Value) -> Figures {
        Figures::of(&serde_json::from_value(document).unwrap())
    }

    #[test]
    fn processors_count_one_by_one() {
        let document = json!({
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "cpu_stats": {"cpu_usage": {"total_usage": 200}, "system_cpu_usage": 1400, "online_cpus": 4}
        });
        assert_eq!(figures(document).cpu_percent, 100.0);
        let backwards =
            json!({"precpu_stats": {"cpu_usage": {"total_usage": 100}}, "cpu_stats": {"system_cpu_usage": 9}});
        assert_eq!(figures(backwards).cpu_percent, 0.0);
        let old = json!({
            "cpu_stats": {"cpu_usage": {"total_usage": 50, "percpu_usage": [25, 25]}, "system_cpu_usage": 100}
        });
        assert_eq!(figures(old).cpu_percent, 100.0);
    }

    #[test]
    fn memory_is_told_without_idle_pages() {
        for (stats, memory) in [
            (json!({"total_inactive_file": 30, "inactive_file": 10}), 70),
            (json!({"inactive_file": 10}), 90),
            (json!({"total_inactive_file": 200, "inactive_file": 10}), 90),
            (json!({"inactive_file": 100}), 100),
            (json!({}), 100),
        ] {
            let got = figures(json!({"memory_stats": {"usage": 100, "limit": 400, "stats": stats}}));
            assert_eq!((got.memory, got.memory_percent), (memory, memory as f64 / 4.0), "{stats}");
        }
        assert_eq!(figures(json!({})).memory_percent, 0.0);
    }

    #[test]
    fn interfaces_and_devices_are_summed() {
        let got = figures(json!({
            "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"op": "Read", "value": 1}, {"op": "Write", "value": 2}, {"op": "Sync", "value": 4}, {"op": "Total", "value": 7},
                {"op": "read", "value": 8}, {"op": "", "value": 9}
            ]}
        }));
        assert_eq!((got.received, got.sent, got.read, got.written), (11, 22, 9, 2));
    }
}
