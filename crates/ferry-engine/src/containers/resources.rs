//! From the limits of a container to the words of the runtime.

use std::os::unix::fs::MetadataExt;

use ferry_api::container::{Resources, ThrottleDevice};
use ferry_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice, LinuxWeightDevice,
};

use crate::cgroups::Abilities;

/// Docker's period for `--cpus`.
const PERIOD_US: i64 = 100_000;

/// The limits of a new cgroup, devices apart.
pub(super) fn of_new(resources: &Resources, block_io: LinuxBlockIo) -> LinuxResources {
    let positive = |value: i64| (value > 0).then_some(value);
    let memory = LinuxMemory {
        limit: positive(resources.memory),
        reservation: positive(resources.memory_reservation),
        // A new cgroup has no limit; one that asks for none need not know how to set it.
        swap: positive(resources.memory_swap),
        swappiness: resources.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
        disable_oom_killer: resources.oom_kill_disable.filter(|disable| *disable),
        ..LinuxMemory::default()
    };
    let cpu = LinuxCpu {
        shares: positive(resources.cpu_shares).map(i64::unsigned_abs),
        cpus: text(&resources.cpuset_cpus),
        mems: text(&resources.cpuset_mems),
        realtime_period: positive(resources.cpu_realtime_period).map(i64::unsigned_abs),
        realtime_runtime: (resources.cpu_realtime_runtime != 0).then_some(resources.cpu_realtime_runtime),
        ..quota(resources)
    };
    put_together(memory, cpu, resources.pids_limit.and_then(positive), block_io)
}

/// The limits of `asked`; where two depend on one another, both are told as they are in `whole`, what the container has from now on.
pub(super) fn of_update(
    asked: &Resources,
    whole: &Resources,
    block_io: LinuxBlockIo,
    abilities: &Abilities,
) -> LinuxResources {
    let mut memory = LinuxMemory::default();
    if asked.memory != 0 || asked.memory_swap != 0 {
        memory.limit = (whole.memory > 0).then_some(whole.memory);
        memory.swap = (whole.memory_swap != 0 && abilities.swap).then_some(whole.memory_swap);
    }
    memory.reservation = (asked.memory_reservation > 0).then_some(asked.memory_reservation);
    let has_quota = asked.nano_cpus != 0 || asked.cpu_period != 0 || asked.cpu_quota != 0;
    let cpu = LinuxCpu {
        shares: u64::try_from(asked.cpu_shares).ok().filter(|shares| *shares > 0),
        cpus: text(&asked.cpuset_cpus),
        mems: text(&asked.cpuset_mems),
        realtime_period: u64::try_from(asked.cpu_realtime_period).ok().filter(|period| *period > 0),
        realtime_runtime: (asked.cpu_realtime_runtime != 0).then_some(asked.cpu_realtime_runtime),
        ..if has_quota { quota(whole) } else { LinuxCpu::default() }
    };
    put_together(memory, cpu, asked.pids_limit, block_io)
}

fn put_together(memory: LinuxMemory, cpu: LinuxCpu, pids: Option<i64>, block_io: LinuxBlockIo) -> LinuxResources {
    LinuxResources {
        memory: (memory != LinuxMemory::default()).then_some(memory),
        cpu: (cpu != LinuxCpu::default()).then_some(cpu),
        pids: pids.map(|limit| LinuxPids { limit: if limit > 0 { limit } else { -1 } }),
        block_io: (block_io != LinuxBlockIo::default()).then_some(block_io),
        ..LinuxResources::default()
    }
}

fn quota(resources: &Resources) -> LinuxCpu {
    let mut cpu = LinuxCpu {
        period: u64::try_from(resources.cpu_period).ok().filter(|period| *period > 0),
        quota: (resources.cpu_quota != 0).then_some(resources.cpu_quota),
        ..LinuxCpu::default()
    };
    if resources.nano_cpus > 0 {
        cpu.period = Some(PERIOD_US.unsigned_abs());
        cpu.quota = Some(resources.nano_cpus.saturating_mul(PERIOD_US) / 1_000_000_000);
    }
    cpu
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// Looks up the numbers of the block devices that have limits.
///
/// # Errors
/// Docker's text for a path that cannot be looked at.
pub(super) fn block_io(resources: &Resources) -> Result<LinuxBlockIo, String> {
    let mut weight_device = Vec::new();
    for device in resources.blkio_weight_device.iter().flatten() {
        let (major, minor) = numbers(&device.path)?;
        weight_device.push(LinuxWeightDevice { major, minor, weight: Some(device.weight), leaf_weight: None });
    }
    Ok(LinuxBlockIo {
        weight: (resources.blkio_weight != 0).then_some(resources.blkio_weight),
        weight_device,
        throttle_read_bps_device: throttled(&resources.blkio_device_read_bps)?,
        throttle_write_bps_device: throttled(&resources.blkio_device_write_bps)?,
        throttle_read_iops_device: throttled(&resources.blkio_device_read_iops)?,
        throttle_write_iops_device: throttled(&resources.blkio_device_write_iops)?,
        ..LinuxBlockIo::default()
    })
}

fn throttled(devices: &Option<Vec<ThrottleDevice>>) -> Result<Vec<LinuxThrottleDevice>, String> {
    let device = |device: &ThrottleDevice| {
        let (major, minor) = numbers(&device.path)?;
        Ok(LinuxThrottleDevice { major, minor, rate: device.rate })
    };
    devices.iter().flatten().map(device).collect()
}

fn numbers(path: &str) -> Result<(i64, i64), String> {
    let metadata = std::fs::metadata(path).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            std::io::ErrorKind::NotADirectory => "not a directory".to_owned(),
            _ => error.to_string(),
        };
        format!("stat {path}: {reason}")
    })?;
    let number = metadata.rdev();
    Ok((i64::from(rustix::fs::major(number)), i64::from(rustix::fs::minor(number))))
}

#[cfg(test)]
mod tests {
    use ferry_api::container::WeightDevice;

    use super::*;

    fn new(change: impl FnOnce(&mut Resources)) -> LinuxResources {
        let mut resources = Resources::default();
        change(&mut resources);
        of_new(&resources, LinuxBlockIo::default())
    }

    #[test]
    fn what_is_not_asked_for_is_not_set() {
        assert_eq!(new(|_| ()), LinuxResources::default());
        assert_eq!(new(|r| (r.memory_swap, r.pids_limit) = (-1, Some(0))), LinuxResources::default());
    }

    #[test]
    fn cpus_become_a_quota() {
        let cpu = new(|r| r.nano_cpus = 1_500_000_000).cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period), (Some(150_000), Some(100_000)));
        let cpu = new(|r| (r.cpu_quota, r.cpu_shares) = (-1, 5)).cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period, cpu.shares), (Some(-1), None, Some(5)));
    }

    #[test]
    fn an_update_tells_both_of_what_depends_on_one_another() {
        let able = Abilities { swap: true, ..Abilities::default() };
        let whole =
            Resources { memory: 10, memory_swap: 30, cpu_period: 5000, cpu_quota: 2000, ..Resources::default() };
        let update = |asked: Resources, able: &Abilities| of_update(&asked, &whole, LinuxBlockIo::default(), able);
        let memory = update(Resources { memory_swap: 30, ..Resources::default() }, &able).memory.unwrap();
        assert_eq!((memory.limit, memory.swap), (Some(10), Some(30)));
        let memory = update(Resources { memory: 10, ..Resources::default() }, &Abilities::default()).memory.unwrap();
        assert_eq!((memory.limit, memory.swap), (Some(10), None));
        let cpu = update(Resources { cpu_quota: 2000, ..Resources::default() }, &able).cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period), (Some(2000), Some(5000)));
        let only_pids = update(Resources { pids_limit: Some(0), ..Resources::default() }, &able);
        assert_eq!((only_pids.pids.unwrap().limit, only_pids.memory, only_pids.cpu), (-1, None, None));
    }

    #[test]
    fn devices_are_known_by_their_numbers() {
        let rate = |path: &str| Some(vec![ThrottleDevice { path: path.into(), rate: 7 }]);
        let resources = Resources {
            blkio_weight: 20,
            blkio_weight_device: Some(vec![WeightDevice { path: "/dev/null".into(), weight: 30 }]),
            blkio_device_read_bps: rate("/dev/zero"),
            ..Resources::default()
        };
        let io = block_io(&resources).unwrap();
        assert_eq!((io.weight, io.weight_device[0].minor, io.weight_device[0].weight), (Some(20), 3, Some(30)));
        assert_eq!((io.throttle_read_bps_device[0].minor, io.throttle_read_bps_device[0].rate), (5, 7));
        let missing = Resources { blkio_device_write_iops: rate("/no/such"), ..Resources::default() };
        assert_eq!(block_io(&missing).unwrap_err(), "stat /no/such: no such file or directory");
    }
}
