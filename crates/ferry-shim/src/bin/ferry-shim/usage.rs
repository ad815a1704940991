//! What a container has used, in the words of the protocol.

use ferry_runtime::cgroup::{CpuStats, IoStats, MemoryStats, Sources, Stats, Version};
use ferry_shim::protocol::{CpuUsage, InterfaceUsage, IoEntry, IoUsage, MemoryUsage, PidsUsage, Usage};

/// Puts together what the cgroups count and what the interfaces that process `pid` sees have carried.
pub(crate) fn of(stats: Stats, pid: u32) -> Usage {
    let Stats { memory, cpu: times, pids, io: devices, sources } = stats;
    let Sources { memory: memory_source, cpu: cpu_source, pids: pids_source, io: io_source } = sources;
    let unified = |version: Version| version == Version::V2;
    // A process that has ended meanwhile has no network any more.
    let interfaces = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    Usage {
        time_ns: crate::process::now_ns(),
        cpu: cpu_source.map(|_| cpu(times)),
        memory: memory_source.map(|version| of_memory(memory, unified(version))),
        pids: pids_source.map(|version| PidsUsage {
            unified: unified(version),
            current: pids.current,
            limit: pids.limit,
        }),
        io: io_source.map(|version| if unified(version) { io_v2(&devices) } else { io_v1(devices) }),
        interfaces: parse_interfaces(&interfaces),
    }
}

fn cpu(stats: CpuStats) -> CpuUsage {
    CpuUsage {
        total_ns: stats.total_ns,
        user_ns: stats.user_ns,
        system_ns: stats.system_ns,
        per_cpu_ns: stats.per_cpu_ns,
        periods: stats.periods,
        throttled_periods: stats.throttled_periods,
        throttled_ns: stats.throttled_ns,
    }
}

fn of_memory(stats: MemoryStats, unified: bool) -> MemoryUsage {
    MemoryUsage {
        unified,
        usage: stats.usage,
        max_usage: stats.max_usage,
        limit: stats.limit,
        fail_count: stats.fail_count,
        oom_count: stats.oom_count,
        stat: stats.stat,
    }
}

fn io_v1(devices: Vec<IoStats>) -> IoUsage {
    let mut usage = IoUsage::default();
    for device in devices {
        let entry = |(kind, value)| IoEntry { major: device.major, minor: device.minor, kind, value };
        usage.bytes.extend(device.bytes_by_kind.into_iter().map(entry));
        usage.operations.extend(device.operations_by_kind.into_iter().map(entry));
    }
    usage
}

fn io_v2(devices: &[IoStats]) -> IoUsage {
    let entries = |figures: fn(&IoStats) -> [u64; 2]| {
        let both = devices.iter().flat_map(move |device| {
            let [read, write] = figures(device);
            [("read", read), ("write", write)].map(|(kind, value)| IoEntry {
                major: device.major,
                minor: device.minor,
                kind: kind.to_owned(),
                value,
            })
        });
        both.collect()
    };
    IoUsage {
        unified: true,
        bytes: entries(|device| [device.read_bytes, device.write_bytes]),
        operations: entries(|device| [device.read_operations, device.write_operations]),
    }
}

/// Reads `/proc/<pid>/net/dev`: two lines of titles, then eight figures for receiving and eight for sending.
fn parse_interfaces(text: &str) -> Vec<InterfaceUsage> {
    let line = |line: &str| {
        let (name, rest) = line.rsplit_once(':')?;
        let figures: Vec<u64> = rest.split_ascii_whitespace().map_while(|figure| figure.parse().ok()).collect();
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
            figures[..]
        else {
            return None;
        };
        let name = name.trim().to_owned();
        Some(InterfaceUsage {
            name,
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
        })
    };
    text.lines().skip(2).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
                    lo:       1       2    0    0    0     0          0         0        1       2    0    0    0     0       0          0\n  \
                    eth0: 1096       14    3    4    0     0          0         0       56       7    5    6    0     0       0          0\n";
        let found = parse_interfaces(text);
        assert_eq!(found.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["lo", "eth0"]);
        let wanted = InterfaceUsage {
            name: "eth0".into(),
            rx_bytes: 1096,
            rx_packets: 14,
            rx_errors: 3,
            rx_dropped: 4,
            tx_bytes: 56,
            tx_packets: 7,
            tx_errors: 5,
            tx_dropped: 6,
        };
        assert_eq!(found[1], wanted);
    }

    #[test]
    fn devices_of_v2_have_two_directions() {
        let device = IoStats { major: 8, read_bytes: 1, write_bytes: 2, write_operations: 3, ..IoStats::default() };
        let usage = io_v2(&[device]);
        let figures: Vec<(&str, u64)> = usage.bytes.iter().map(|entry| (entry.kind.as_str(), entry.value)).collect();
        assert_eq!(figures, [("read", 1), ("write", 2)]);
        assert_eq!(usage.operations[1].value, 3);
    }
}
