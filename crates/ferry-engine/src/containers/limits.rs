//! The limits of a container: what may be asked for, and what this host cannot give. Pure.
//!
//! Texts and order are Docker's. A limit that the host cannot set is taken out and told as a warning, never in silence.

use ferry_api::container::{HostConfig, Resources};

use crate::cgroups::{self, Abilities};
use crate::error::{Error, Result};

const SMALLEST_MEMORY: i64 = 6 * 1024 * 1024;

/// Linux's usual most.
const MOST_CPUS: usize = 8192;

/// When limits are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// For a new container.
    Create,
    /// For one that is there: what is not named stays.
    Update,
}

/// Checks the limits of a new container and takes out what the host cannot do. Returns warnings.
///
/// # Errors
/// InvalidArgument in Docker's words.
pub(super) fn settle_new(host_config: &mut HostConfig, abilities: &Abilities) -> Result<Vec<String>> {
    let mut resources = host_config.resources();
    let warnings = settle(&mut resources, abilities, Moment::Create)?;
    host_config.set_resources(resources);
    Ok(warnings)
}

/// Checks limits and takes out what the host cannot do. Returns warnings.
///
/// # Errors
/// InvalidArgument in Docker's words.
pub(super) fn settle(resources: &mut Resources, abilities: &Abilities, moment: Moment) -> Result<Vec<String>> {
    let mut warnings = Warnings::default();
    real_time(resources, abilities)?;
    memory(resources, abilities, moment, &mut warnings)?;
    kernel_memory(resources, &mut warnings);
    out_of_memory(resources, abilities, &mut warnings);
    pids(resources, abilities, &mut warnings);
    cpu(resources, abilities, &mut warnings)?;
    cpuset(resources, abilities, &mut warnings)?;
    block_io(resources, abilities, &mut warnings)?;
    Ok(warnings.0)
}

#[derive(Default)]
struct Warnings(Vec<String>);

impl Warnings {
    fn add(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

fn refuse(text: impl Into<String>) -> Result<()> {
    Err(Error::invalid(text))
}

fn real_time(resources: &Resources, abilities: &Abilities) -> Result<()> {
    let (period, runtime) = (resources.cpu_realtime_period, resources.cpu_realtime_runtime);
    if (period != 0 || runtime != 0) && !abilities.cpu_realtime {
        return refuse("kernel does not support CPU real-time scheduler");
    }
    if period != 0 && runtime != 0 && runtime > period {
        return refuse("cpu real-time runtime cannot be higher than cpu real-time period");
    }
    Ok(())
}

fn memory(resources: &mut Resources, abilities: &Abilities, moment: Moment, warnings: &mut Warnings) -> Result<()> {
    // Docker's client says -1 for "not asked for".
    resources.memory_swappiness = resources.memory_swappiness.filter(|swappiness| *swappiness != -1);
    if resources.memory != 0 && resources.memory < SMALLEST_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if resources.memory > 0 && !abilities.memory {
        warnings.add(
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
        );
        (resources.memory, resources.memory_swap) = (0, -1);
    }
    if resources.memory > 0 && resources.memory_swap != -1 && !abilities.swap {
        warnings.add(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
        );
        resources.memory_swap = -1;
    }
    if resources.memory > 0 && resources.memory_swap > 0 && resources.memory_swap < resources.memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if resources.memory == 0 && resources.memory_swap > 0 && moment == Moment::Create {
        return refuse("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if resources.memory_swappiness.is_some() && !abilities.memory_swappiness {
        warnings.add(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
        );
        resources.memory_swappiness = None;
    }
    if let Some(swappiness) = resources.memory_swappiness.filter(|swappiness| !(0..=100).contains(swappiness)) {
        return refuse(format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100"));
    }
    if resources.memory_reservation > 0 && !abilities.memory_reservation {
        warnings.add(
            "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.",
        );
        resources.memory_reservation = 0;
    }
    if resources.memory_reservation > 0 && resources.memory_reservation < SMALLEST_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if resources.memory > 0 && resources.memory_reservation > 0 && resources.memory < resources.memory_reservation {
        return refuse("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    Ok(())
}

/// No kernel that ferry runs on counts it apart any more.
fn kernel_memory(resources: &mut Resources, warnings: &mut Warnings) {
    for (limit, what) in
        [(&mut resources.kernel_memory, "kernel memory"), (&mut resources.kernel_memory_tcp, "kernel memory TCP")]
    {
        if std::mem::take(limit) > 0 {
            warnings.add(&format!(
                "Your kernel does not support {what} limit capabilities or the cgroup is not mounted. Limitation discarded."
            ));
        }
    }
}

fn out_of_memory(resources: &mut Resources, abilities: &Abilities, warnings: &mut Warnings) {
    if !abilities.oom_kill_disable {
        // Nobody is to be warned who wants the killer.
        if resources.oom_kill_disable.take() == Some(true) {
            warnings.add("Your kernel does not support OomKillDisable. OomKillDisable discarded.");
        }
    } else if resources.oom_kill_disable == Some(true) && resources.memory == 0 {
        warnings.add(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.",
        );
    }
}

fn pids(resources: &mut Resources, abilities: &Abilities, warnings: &mut Warnings) {
    if !abilities.pids && resources.pids_limit.take().is_some_and(|limit| limit > 0) {
        warnings.add(
            "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
        );
    }
}

fn cpu(resources: &mut Resources, abilities: &Abilities, warnings: &mut Warnings) -> Result<()> {
    if abilities.cpu_shares && resources.cpu_shares < 0 {
        let shares = resources.cpu_shares;
        return refuse(format!("invalid CPU shares ({shares}): value must be a positive integer"));
    }
    if resources.nano_cpus > 0 && resources.cpu_period > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if resources.nano_cpus > 0 && resources.cpu_quota > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    if resources.nano_cpus > 0 && !abilities.cpu_cfs {
        return refuse(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        );
    }
    let cpus = processors();
    if resources.nano_cpus < 0 || resources.nano_cpus > cpus.saturating_mul(1_000_000_000) {
        return refuse(format!("range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"));
    }
    if resources.cpu_shares > 0 && !abilities.cpu_shares {
        warnings.add("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.");
        resources.cpu_shares = 0;
    }
    if (resources.cpu_period != 0 || resources.cpu_quota != 0) && !abilities.cpu_cfs {
        warnings.add("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.");
        (resources.cpu_period, resources.cpu_quota) = (0, 0);
    }
    if resources.cpu_period != 0 && !(1_000..=1_000_000).contains(&resources.cpu_period) {
        return refuse("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if resources.cpu_quota > 0 && resources.cpu_quota < 1_000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if resources.cpu_percent > 0 {
        warnings.add("linux does not support CPU percent. Percent discarded.");
        resources.cpu_percent = 0;
    }
    Ok(())
}

fn cpuset(resources: &mut Resources, abilities: &Abilities, warnings: &mut Warnings) -> Result<()> {
    let asked = !resources.cpuset_cpus.is_empty() || !resources.cpuset_mems.is_empty();
    if asked && !abilities.cpuset {
        warnings.add("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.");
        resources.cpuset_cpus.clear();
        resources.cpuset_mems.clear();
    }
    for (what, kind, asked, available) in [
        ("CPUs", "cpus", &resources.cpuset_cpus, &abilities.cpus),
        ("memory nodes", "mems", &resources.cpuset_mems, &abilities.mems),
    ] {
        let there = cgroups::parse_list(available, usize::MAX).unwrap_or_default();
        let most = there.last().copied().unwrap_or(0).max(MOST_CPUS);
        let wanted = cgroups::parse_list(asked, most)
            .map_err(|reason| Error::invalid(format!("Invalid value {asked} for cpuset {kind}: {reason}")))?;
        if !wanted.is_subset(&there) {
            return refuse(format!("Requested {what} are not available - requested {asked}, available: {available}"));
        }
    }
    Ok(())
}

fn block_io(resources: &mut Resources, abilities: &Abilities, warnings: &mut Warnings) -> Result<()> {
    if resources.blkio_weight > 0 && !abilities.blkio_weight {
        warnings.add("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.");
        resources.blkio_weight = 0;
    }
    if resources.blkio_weight > 0 && !(10..=1000).contains(&resources.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    if resources.io_maximum_bandwidth != 0 {
        return refuse("invalid option: QoS maximum bandwidth configuration is not supported on linux");
    }
    if resources.io_maximum_iops != 0 {
        return refuse("invalid option: QoS maximum IOPs configuration is not supported on linux");
    }
    discard(
        &mut resources.blkio_weight_device,
        abilities.blkio_weight_device,
        "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
        warnings,
    );
    for (devices, is_able, text) in [
        (
            &mut resources.blkio_device_read_bps,
            abilities.blkio_read_bps,
            "Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.",
        ),
        (
            &mut resources.blkio_device_write_bps,
            abilities.blkio_write_bps,
            "Your kernel does not support BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded.",
        ),
        (
            &mut resources.blkio_device_read_iops,
            abilities.blkio_read_iops,
            "Your kernel does not support IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded.",
        ),
        (
            &mut resources.blkio_device_write_iops,
            abilities.blkio_write_iops,
            "Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.",
        ),
    ] {
        discard(devices, is_able, text, warnings);
    }
    Ok(())
}

fn discard<T>(devices: &mut Option<Vec<T>>, is_able: bool, text: &str, warnings: &mut Warnings) {
    if let Some(devices) = devices.as_mut().filter(|devices| !is_able && !devices.is_empty()) {
        warnings.add(text);
        devices.clear();
    }
}

/// Processors that this process may use, as Docker counts them.
fn processors() -> i64 {
    let count = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
    i64::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able() -> Abilities {
        Abilities {
            unified: false,
            memory: true,
            swap: true,
            memory_reservation: true,
            oom_kill_disable: true,
            memory_swappiness: true,
            cpu_shares: true,
            cpu_cfs: true,
            cpu_realtime: true,
            cpuset: true,
            cpus: "0-1".into(),
            mems: "0".into(),
            blkio_weight: true,
            blkio_weight_device: true,
            blkio_read_bps: true,
            blkio_write_bps: true,
            blkio_read_iops: true,
            blkio_write_iops: true,
            pids: true,
        }
    }

    fn asked(change: impl FnOnce(&mut Resources)) -> Resources {
        let mut resources = Resources::default();
        change(&mut resources);
        resources
    }

    type Change = fn(&mut Resources);

    #[test]
    fn bad_values_are_refused_in_dockers_words() {
        const MIB: i64 = 1 << 20;
        let table: &[(Change, &str)] = &[
            (|r| r.memory = 1024, "Minimum memory limit allowed is 6MB"),
            (|r| r.memory = -1, "Minimum memory limit allowed is 6MB"),
            (
                |r| (r.memory, r.memory_swap) = (10 * MIB, 5 * MIB),
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ),
            (
                |r| r.memory_swap = 5 * MIB,
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ),
            (|r| r.memory_swappiness = Some(101), "Invalid value: 101, valid memory swappiness range is 0-100"),
            (|r| r.memory_reservation = 1024, "Minimum memory reservation allowed is 6MB"),
            (
                |r| (r.memory, r.memory_reservation) = (10 * MIB, 20 * MIB),
                "Minimum memory limit can not be less than memory reservation limit, see usage",
            ),
            (|r| r.cpu_shares = -1, "invalid CPU shares (-1): value must be a positive integer"),
            (
                |r| (r.nano_cpus, r.cpu_period) = (1, 1000),
                "Conflicting options: Nano CPUs and CPU Period cannot both be set",
            ),
            (
                |r| (r.nano_cpus, r.cpu_quota) = (1, 1000),
                "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
            ),
            (
                |r| r.cpu_period = 10,
                "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
            ),
            (|r| r.cpu_quota = 10, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
            (
                |r| (r.cpu_realtime_period, r.cpu_realtime_runtime) = (10, 20),
                "cpu real-time runtime cannot be higher than cpu real-time period",
            ),
            (|r| r.cpuset_cpus = "x".into(), "Invalid value x for cpuset cpus: invalid format: x"),
            (|r| r.cpuset_cpus = "0-9".into(), "Requested CPUs are not available - requested 0-9, available: 0-1"),
            (|r| r.cpuset_mems = "1".into(), "Requested memory nodes are not available - requested 1, available: 0"),
            (|r| r.blkio_weight = 5, "Range of blkio weight is from 10 to 1000"),
            (|r| r.io_maximum_iops = 1, "invalid option: QoS maximum IOPs configuration is not supported on linux"),
        ];
        for (change, text) in table {
            let error = settle(&mut asked(change), &able(), Moment::Create).unwrap_err();
            assert_eq!(error.text(), *text);
        }
        let cpus = processors();
        let error = settle(&mut asked(|r| r.nano_cpus = 9_999_000_000_000), &able(), Moment::Create).unwrap_err();
        assert_eq!(
            error.text(),
            format!("range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")
        );
    }

    #[test]
    fn what_the_host_can_do_is_left_alone() {
        let mut resources = asked(|r| {
            (r.memory, r.memory_swap, r.memory_swappiness) = (8 << 20, 8 << 20, Some(60));
            (r.cpu_shares, r.nano_cpus, r.cpuset_cpus) = (512, 500_000_000, "0,1".into());
            (r.blkio_weight, r.pids_limit, r.oom_kill_disable) = (10, Some(5), Some(true));
            r.blkio_device_read_bps = Some(vec![Default::default()]);
        });
        let before = resources.clone();
        assert_eq!(settle(&mut resources, &able(), Moment::Create).unwrap(), Vec::<String>::new());
        assert_eq!(resources, before);
        let mut unasked = asked(|r| r.memory_swappiness = Some(-1));
        settle(&mut unasked, &able(), Moment::Create).unwrap();
        assert_eq!(unasked.memory_swappiness, None);
        let mut swap_alone = asked(|r| r.memory_swap = 8 << 20);
        assert!(settle(&mut swap_alone, &able(), Moment::Update).is_ok(), "the memory limit may be set already");
    }

    #[test]
    fn what_the_host_cannot_do_is_taken_out_with_a_warning() {
        let table: &[(Change, &str)] = &[
            (|r| r.memory = 8 << 20, "Your kernel does not support memory limit capabilities"),
            (|r| r.memory_swappiness = Some(1), "Your kernel does not support memory swappiness capabilities"),
            (|r| r.memory_reservation = 8 << 20, "Your kernel does not support memory soft limit capabilities"),
            (|r| r.oom_kill_disable = Some(true), "Your kernel does not support OomKillDisable."),
            (|r| r.kernel_memory = 8 << 20, "Your kernel does not support kernel memory limit capabilities"),
            (|r| r.kernel_memory_tcp = 1, "Your kernel does not support kernel memory TCP limit capabilities"),
            (|r| r.pids_limit = Some(1), "Your kernel does not support PIDs limit capabilities"),
            (|r| r.cpu_shares = 2, "Your kernel does not support CPU shares"),
            (|r| r.cpu_quota = 2000, "Your kernel does not support CPU CFS scheduler."),
            (|r| r.cpuset_cpus = "0".into(), "Your kernel does not support cpuset"),
            (|r| r.blkio_weight = 10, "Your kernel does not support Block I/O weight or"),
            (
                |r| r.blkio_weight_device = Some(vec![Default::default()]),
                "Your kernel does not support Block I/O weight_device",
            ),
            (
                |r| r.blkio_device_write_iops = Some(vec![Default::default()]),
                "Your kernel does not support IOPS Block write limit",
            ),
        ];
        let unable = Abilities::default();
        for (change, text) in table {
            let mut resources = asked(change);
            let warnings = settle(&mut resources, &unable, Moment::Create).unwrap();
            assert!(warnings.len() == 1 && warnings[0].starts_with(text), "{text}: {warnings:?}");
            resources.memory_swap = 0;
            resources.blkio_device_write_iops = resources.blkio_device_write_iops.filter(|devices| !devices.is_empty());
            resources.blkio_weight_device = resources.blkio_weight_device.filter(|devices| !devices.is_empty());
            assert_eq!(resources, Resources::default(), "{text}");
        }
        let mut without_swap = asked(|r| r.memory = 8 << 20);
        let warnings = settle(&mut without_swap, &Abilities { swap: false, ..able() }, Moment::Create).unwrap();
        assert!(warnings[0].ends_with("Memory limited without swap."));
        assert_eq!(without_swap.memory_swap, -1);
        let unlimited = settle(&mut asked(|r| r.oom_kill_disable = Some(true)), &able(), Moment::Create).unwrap();
        assert!(unlimited[0].starts_with("OOM killer is disabled for the container, but no memory limit is set"));
    }
}
