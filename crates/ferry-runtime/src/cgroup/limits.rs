//! Limits as files of a hierarchy and what is written to them.
//!
//! One table per version, pure; then one loop that writes. A limit whose controller is not there is an error that names it.

use std::path::Path;

use ferry_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::hierarchy::Hierarchy;
use super::write;
use crate::error::Error;

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    controller: &'static str,
    file: String,
    value: String,
    /// File and value where `file` is not there: other I/O schedulers call the same thing otherwise.
    otherwise: Option<(&'static str, String)>,
}

impl Setting {
    fn new(controller: &'static str, file: &str, value: impl ToString) -> Setting {
        Setting { controller, file: file.into(), value: value.to_string(), otherwise: None }
    }

    fn or(self, file: &'static str, value: impl ToString) -> Setting {
        Setting { otherwise: Some((file, value.to_string())), ..self }
    }

    fn write(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(&self.file);
        match &self.otherwise {
            Some((file, value)) if !path.exists() => write(&folder.join(file), value),
            _ => write(&path, &self.value),
        }
    }
}

/// Writes the limits that are present.
pub(super) fn apply<'a>(
    resources: &LinuxResources,
    path: &str,
    hierarchy_of: impl Fn(&str) -> Option<&'a Hierarchy>,
    v2: Option<&Hierarchy>,
) -> Result<(), Error> {
    for (v1, v2_settings) in pairs(resources)? {
        let controller = |settings: &[Setting]| settings.first().map(|setting| setting.controller);
        let (Some(name), other) = (controller(&v1).or(controller(&v2_settings)), controller(&v2_settings)) else {
            continue;
        };
        // On v2 a controller may have another name (blkio is io), or have nothing that answers to the limit.
        let hierarchy = hierarchy_of(name).or_else(|| other.and_then(&hierarchy_of));
        let hierarchy = hierarchy.ok_or_else(|| {
            Error::unsupported(format!("a limit needs the cgroup controller {name:?}, which this host has not"))
        })?;
        let settings = if hierarchy.is_v2() { v2_settings } else { v1 };
        write_all(hierarchy, path, &settings)?;
    }
    for (file, value) in &resources.unified {
        if file.contains('/') || file.is_empty() || file.starts_with('.') {
            return Err(Error::invalid(format!("unified resource {file:?} must be a file name")));
        }
        let hierarchy =
            v2.ok_or_else(|| Error::unsupported("unified resources need cgroup v2, which this host has not"))?;
        write(&hierarchy.folder(path).join(file), value)?;
    }
    Ok(())
}

fn write_all(hierarchy: &Hierarchy, path: &str, settings: &[Setting]) -> Result<(), Error> {
    let folder = hierarchy.folder(path);
    let mut late = Vec::new();
    for setting in settings {
        // A kernel that does not count swap has none to limit.
        let needless = setting.file == "memory.swap.max" && matches!(setting.value.as_str(), "0" | "max");
        if needless && !folder.join(&setting.file).exists() {
            continue;
        }
        // v1 keeps memory <= memory and swap at every moment, and a quota or run time within its period: when one of them is refused, the
        // other has to go first.
        if setting.write(&folder).is_err() {
            late.push(setting);
        }
    }
    late.into_iter()
        .try_for_each(|setting| setting.write(&folder).map_err(|error| refused(setting, &folder, error)))?;
    settings
        .iter()
        .filter(|setting| setting.file == "cpu.shares")
        .try_for_each(|setting| check_shares(setting, &folder))
}

/// Says what is in use where a v1 limit is refused for being below that.
fn refused(setting: &Setting, folder: &Path, error: Error) -> Error {
    let number = |file: &str| super::read(&folder.join(file)).ok()?.trim().parse::<u64>().ok();
    let limit = setting.value.parse::<u64>();
    match (setting.file.as_str(), limit, number("memory.usage_in_bytes"), number("memory.max_usage_in_bytes")) {
        ("memory.limit_in_bytes", Ok(limit), Some(usage), Some(peak)) if limit < usage => Error::internal(format!(
            "unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})"
        )),
        _ => error,
    }
}

/// The kernel cuts shares to its range without a word.
fn check_shares(setting: &Setting, folder: &Path) -> Result<(), Error> {
    let text = super::read(&folder.join("cpu.shares"))?;
    match (setting.value.parse::<u64>(), text.trim().parse::<u64>()) {
        (Ok(wanted), Ok(set)) if wanted > set => {
            Err(Error::invalid(format!("the maximum allowed cpu-shares is {set}")))
        }
        (Ok(wanted), Ok(set)) if wanted < set => {
            Err(Error::invalid(format!("the minimum allowed cpu-shares is {set}")))
        }
        _ => Ok(()),
    }
}

type Pair = (Vec<Setting>, Vec<Setting>);

/// Per controller: v1 settings, v2 settings.
fn pairs(resources: &LinuxResources) -> Result<Vec<Pair>, Error> {
    let mut pairs = Vec::new();
    if let Some(memory) = &resources.memory {
        pairs.push(memory_settings(memory)?);
    }
    if let Some(cpu) = &resources.cpu {
        pairs.push(cpu_settings(cpu)?);
        pairs.push(cpuset_settings(cpu));
    }
    if let Some(pids) = &resources.pids {
        let limit = if pids.limit > 0 { pids.limit.to_string() } else { "max".into() };
        let setting = vec![Setting::new("pids", "pids.max", limit)];
        pairs.push((setting.clone(), setting));
    }
    if let Some(io) = &resources.block_io {
        pairs.push(io_settings(io));
    }
    for huge in &resources.hugepage_limits {
        let (size, limit) = (&huge.page_size, huge.limit);
        if !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::invalid(format!("invalid huge page size {size:?}")));
        }
        pairs.push((
            vec![Setting::new("hugetlb", &format!("hugetlb.{size}.limit_in_bytes"), limit)],
            vec![Setting::new("hugetlb", &format!("hugetlb.{size}.max"), limit)],
        ));
    }
    if let Some(network) = &resources.network {
        let class: Vec<Setting> =
            network.class_id.iter().map(|class| Setting::new("net_cls", "net_cls.classid", class)).collect();
        pairs.push((class, Vec::new()));
        let priority = |one: &ferry_spec::runtime::LinuxInterfacePriority| {
            Setting::new("net_prio", "net_prio.ifpriomap", format!("{} {}", one.name, one.priority))
        };
        pairs.push((network.priorities.iter().map(priority).collect(), Vec::new()));
    }
    for (device, limits) in &resources.rdma {
        let part = |name: &str, value: Option<u32>| value.map(|value| format!(" {name}={value}")).unwrap_or_default();
        let value =
            format!("{device}{}{}", part("hca_handle", limits.hca_handles), part("hca_object", limits.hca_objects));
        let setting = vec![Setting::new("rdma", "rdma.max", value)];
        pairs.push((setting.clone(), setting));
    }
    Ok(pairs)
}

fn memory_settings(memory: &LinuxMemory) -> Result<Pair, Error> {
    let controller = "memory";
    let mut v1 = Vec::new();
    let mut v2 = Vec::new();
    let unlimited = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    let limit = memory.limit.filter(|limit| *limit != 0);
    if let Some(limit) = limit {
        v1.push(Setting::new(controller, "memory.limit_in_bytes", limit));
        v2.push(Setting::new(controller, "memory.max", unlimited(limit)));
    }
    if let Some(swap) = memory.swap.filter(|swap| *swap != 0) {
        v1.push(Setting::new(controller, "memory.memsw.limit_in_bytes", swap));
        v2.push(Setting::new(controller, "memory.swap.max", unlimited(swap_alone(limit, swap)?)));
    }
    if let Some(reservation) = memory.reservation.filter(|reservation| *reservation != 0) {
        v1.push(Setting::new(controller, "memory.soft_limit_in_bytes", reservation));
        v2.push(Setting::new(
            controller,
            "memory.low",
            if reservation < 0 { "max".into() } else { reservation.to_string() },
        ));
    }
    if let Some(buffers) = memory.kernel_tcp.filter(|buffers| *buffers != 0) {
        v1.push(Setting::new(controller, "memory.kmem.tcp.limit_in_bytes", buffers));
    }
    if let Some(swappiness) = memory.swappiness {
        if swappiness > 100 {
            return Err(Error::invalid(format!(
                "invalid memory swappiness value: {swappiness} (valid range is 0-100)"
            )));
        }
        v1.push(Setting::new(controller, "memory.swappiness", swappiness));
    }
    if let Some(disable) = memory.disable_oom_killer.filter(|disable| *disable) {
        v1.push(Setting::new(controller, "memory.oom_control", u8::from(disable)));
    }
    Ok((v1, v2))
}

/// v1 counts memory and swap together, v2 swap alone.
fn swap_alone(memory: Option<i64>, both: i64) -> Result<i64, Error> {
    match memory {
        _ if both < 0 => Ok(-1),
        Some(memory) if memory > 0 && both >= memory => Ok(both - memory),
        Some(memory) if memory > 0 => Err(Error::invalid("memory+swap limit should be >= memory limit")),
        _ => Err(Error::invalid("unable to set swap limit without memory limit")),
    }
}

fn cpu_settings(cpu: &LinuxCpu) -> Result<Pair, Error> {
    let controller = "cpu";
    let mut v1 = Vec::new();
    let mut v2 = Vec::new();
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        v1.push(Setting::new(controller, "cpu.shares", shares));
        v2.push(Setting::new(controller, "cpu.weight", weight_of_shares(shares)));
    }
    let period = cpu.period.filter(|period| *period != 0);
    let quota = cpu.quota.filter(|quota| *quota != 0);
    if let Some(period) = period {
        v1.push(Setting::new(controller, "cpu.cfs_period_us", period));
    }
    if let Some(quota) = quota {
        v1.push(Setting::new(controller, "cpu.cfs_quota_us", quota));
    }
    if period.is_some() || quota.is_some() {
        let quota = quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
        v2.push(Setting::new(controller, "cpu.max", format!("{quota} {}", period.unwrap_or(100_000))));
    }
    if let Some(burst) = cpu.burst {
        v1.push(Setting::new(controller, "cpu.cfs_burst_us", burst));
        v2.push(Setting::new(controller, "cpu.max.burst", burst));
    }
    if let Some(period) = cpu.realtime_period.filter(|period| *period != 0) {
        v1.push(Setting::new(controller, "cpu.rt_period_us", period));
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|runtime| *runtime != 0) {
        v1.push(Setting::new(controller, "cpu.rt_runtime_us", runtime));
    }
    if let Some(idle) = cpu.idle {
        v1.push(Setting::new(controller, "cpu.idle", idle));
        v2.push(Setting::new(controller, "cpu.idle", idle));
    }
    Ok((v1, v2))
}

/// Maps 2..=262144 with 1024 as normal to 1..=10000 with 100 as normal, by a curve through all three.
fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    // The normal value must come out as 100 whatever the rounding of the last digit.
    ((10f64.powf(exponent) - 1e-9).ceil() as u64).clamp(1, 10_000)
}

fn cpuset_settings(cpu: &LinuxCpu) -> Pair {
    let mut settings = Vec::new();
    for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            settings.push(Setting::new("cpuset", file, value));
        }
    }
    (settings.clone(), settings)
}

fn io_settings(io: &LinuxBlockIo) -> Pair {
    let mut v1 = Vec::new();
    let mut v2 = Vec::new();
    // 10..=1000 to 1..=10000.
    let wide = |weight: u16| 1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990;
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        v1.push(Setting::new("blkio", "blkio.weight", weight).or("blkio.bfq.weight", weight));
        v2.push(Setting::new("io", "io.bfq.weight", weight).or("io.weight", wide(weight)));
    }
    if let Some(weight) = io.leaf_weight.filter(|weight| *weight != 0) {
        v1.push(Setting::new("blkio", "blkio.leaf_weight", weight));
    }
    for device in &io.weight_device {
        let number = format!("{}:{}", device.major, device.minor);
        if let Some(weight) = device.weight.filter(|weight| *weight != 0) {
            let narrow = format!("{number} {weight}");
            v1.push(Setting::new("blkio", "blkio.weight_device", &narrow).or("blkio.bfq.weight_device", &narrow));
            v2.push(Setting::new("io", "io.bfq.weight", &narrow).or("io.weight", format!("{number} {}", wide(weight))));
        }
        if let Some(weight) = device.leaf_weight.filter(|weight| *weight != 0) {
            v1.push(Setting::new("blkio", "blkio.leaf_weight_device", format!("{number} {weight}")));
        }
    }
    let throttles: [(&[LinuxThrottleDevice], &str, &str); 4] = [
        (&io.throttle_read_bps_device, "blkio.throttle.read_bps_device", "rbps"),
        (&io.throttle_write_bps_device, "blkio.throttle.write_bps_device", "wbps"),
        (&io.throttle_read_iops_device, "blkio.throttle.read_iops_device", "riops"),
        (&io.throttle_write_iops_device, "blkio.throttle.write_iops_device", "wiops"),
    ];
    for (devices, file, key) in throttles {
        for device in devices {
            let number = format!("{}:{}", device.major, device.minor);
            v1.push(Setting::new("blkio", file, format!("{number} {}", device.rate)));
            let rate = if device.rate == 0 { "max".into() } else { device.rate.to_string() };
            v2.push(Setting::new("io", "io.max", format!("{number} {key}={rate}")));
        }
    }
    (v1, v2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(settings: &[Setting]) -> Vec<(&str, &str)> {
        settings.iter().map(|setting| (setting.file.as_str(), setting.value.as_str())).collect()
    }

    #[test]
    fn memory_is_split_for_v2() {
        let memory = LinuxMemory { limit: Some(100), swap: Some(150), reservation: Some(50), ..LinuxMemory::default() };
        let (v1, v2) = memory_settings(&memory).unwrap();
        assert_eq!(
            values(&v1),
            [
                ("memory.limit_in_bytes", "100"),
                ("memory.memsw.limit_in_bytes", "150"),
                ("memory.soft_limit_in_bytes", "50")
            ]
        );
        assert_eq!(values(&v2), [("memory.max", "100"), ("memory.swap.max", "50"), ("memory.low", "50")]);
        let none = LinuxMemory { limit: Some(100), swap: Some(100), ..LinuxMemory::default() };
        assert_eq!(values(&memory_settings(&none).unwrap().1)[1], ("memory.swap.max", "0"));
        let wrong = LinuxMemory { limit: Some(100), swap: Some(50), ..LinuxMemory::default() };
        memory_settings(&wrong).unwrap_err();
    }

    #[test]
    fn cpu_is_worded_for_both() {
        let cpu = LinuxCpu { shares: Some(1024), quota: Some(150_000), period: Some(100_000), ..LinuxCpu::default() };
        let (v1, v2) = cpu_settings(&cpu).unwrap();
        assert_eq!(values(&v1)[1..], [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "150000")]);
        assert_eq!(values(&v2), [("cpu.weight", "100"), ("cpu.max", "150000 100000")]);
        assert_eq!((weight_of_shares(2), weight_of_shares(262_144)), (1, 10_000));
        assert!(weight_of_shares(512) < 100 && weight_of_shares(2048) > 100);
    }

    #[test]
    fn throttles_are_worded_for_both() {
        let rate = LinuxThrottleDevice { major: 8, minor: 0, rate: 1000 };
        let io = LinuxBlockIo { weight: Some(1000), throttle_write_bps_device: vec![rate], ..LinuxBlockIo::default() };
        let (v1, v2) = io_settings(&io);
        assert_eq!(values(&v1), [("blkio.weight", "1000"), ("blkio.throttle.write_bps_device", "8:0 1000")]);
        assert_eq!(values(&v2), [("io.bfq.weight", "1000"), ("io.max", "8:0 wbps=1000")]);
        assert_eq!(v2[0].otherwise, Some(("io.weight", "10000".to_owned())), "without bfq the range is another");
    }
}
