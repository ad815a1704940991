//! What the host's cgroups can limit: looked up once, since neither kernel nor mounts change under a daemon.
//!
//! Leaves out setting limits, which is the shim's. A controller counts where it is mounted: in a v1 hierarchy, or else in the v2 tree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, io};

use crate::config::CpuRealtime;

mod place;

pub(crate) use self::place::{Place, Places, is_scope, is_slice};

/// What can be limited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// v2 is all there is.
    pub(crate) unified: bool,
    /// Memory.
    pub(crate) memory: bool,
    /// Memory and swap together (v1), or swap (v2).
    pub(crate) swap: bool,
    /// A soft limit.
    pub(crate) memory_reservation: bool,
    /// Waiting in place of being killed (v1).
    pub(crate) oom_kill_disable: bool,
    /// A swappiness of its own (v1).
    pub(crate) memory_swappiness: bool,
    /// Weights.
    pub(crate) cpu_shares: bool,
    /// Quota and period.
    pub(crate) cpu_cfs: bool,
    /// Real-time budget (v1).
    pub(crate) cpu_realtime: bool,
    /// Sets of processors and memory nodes.
    pub(crate) cpuset: bool,
    /// Processors that can be had, such as `0-3`.
    pub(crate) cpus: String,
    /// Memory nodes that can be had.
    pub(crate) mems: String,
    /// A weight for block devices.
    pub(crate) blkio_weight: bool,
    /// A weight by device.
    pub(crate) blkio_weight_device: bool,
    /// Bytes read a second.
    pub(crate) blkio_read_bps: bool,
    /// Bytes written a second.
    pub(crate) blkio_write_bps: bool,
    /// Read operations a second.
    pub(crate) blkio_read_iops: bool,
    /// Write operations a second.
    pub(crate) blkio_write_iops: bool,
    /// Number of tasks.
    pub(crate) pids: bool,
}

impl Abilities {
    /// Those of this host.
    pub(crate) fn of_host() -> &'static Self {
        static ABILITIES: OnceLock<Abilities> = OnceLock::new();
        ABILITIES.get_or_init(|| {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let swap_is_counted = Path::new("/proc/swaps").exists()
                && !fs::read_to_string("/proc/cmdline").unwrap_or_default().contains("swapaccount=0");
            Self::detect(&Mounts::parse(&mounts), swap_is_counted)
        })
    }

    /// `swap_is_counted` is the kernel's own word, for want of a v2 cgroup to look at.
    fn detect(mounts: &Mounts, swap_is_counted: bool) -> Self {
        let mut abilities = Self { unified: mounts.v1.is_empty() && mounts.v2.is_some(), ..Self::default() };
        let tree = mounts.v2.as_deref();
        let offered =
            tree.and_then(|tree| fs::read_to_string(tree.join("cgroup.controllers")).ok()).unwrap_or_default();
        let v2 = |controller: &str| tree.filter(|_| offered.split_whitespace().any(|name| name == controller));
        match (mounts.v1("memory"), v2("memory")) {
            (Some(folder), _) => abilities.memory_v1(folder),
            (None, Some(tree)) => abilities.memory_v2(tree, swap_is_counted),
            (None, None) => {}
        }
        match (mounts.v1("cpu"), v2("cpu")) {
            (Some(folder), _) => {
                abilities.cpu_shares = folder.join("cpu.shares").exists();
                abilities.cpu_cfs = folder.join("cpu.cfs_quota_us").exists();
                abilities.cpu_realtime = folder.join("cpu.rt_period_us").exists();
            }
            (None, Some(_)) => (abilities.cpu_shares, abilities.cpu_cfs) = (true, true),
            (None, None) => {}
        }
        match (mounts.v1("cpuset"), v2("cpuset")) {
            (Some(folder), _) => abilities.cpuset(folder, ""),
            (None, Some(tree)) => abilities.cpuset(tree, ".effective"),
            (None, None) => {}
        }
        match (mounts.v1("blkio"), v2("io")) {
            (Some(folder), _) => abilities.blkio_v1(folder),
            (None, Some(tree)) => abilities.io_v2(tree),
            (None, None) => {}
        }
        abilities.pids = mounts.v1("pids").is_some() || v2("pids").is_some();
        abilities
    }

    fn memory_v1(&mut self, folder: &Path) {
        self.memory = true;
        self.swap = folder.join("memory.memsw.limit_in_bytes").exists();
        self.memory_reservation = folder.join("memory.soft_limit_in_bytes").exists();
        self.oom_kill_disable = folder.join("memory.oom_control").exists();
        self.memory_swappiness = folder.join("memory.swappiness").exists();
    }

    fn memory_v2(&mut self, tree: &Path, swap_is_counted: bool) {
        self.memory = true;
        self.memory_reservation = true;
        self.swap = below(tree, "memory.max", &["memory.swap.max"]).unwrap_or(swap_is_counted);
    }

    fn cpuset(&mut self, folder: &Path, suffix: &str) {
        let read = |file: &str| fs::read_to_string(folder.join(format!("cpuset.{file}{suffix}"))).unwrap_or_default();
        self.cpuset = true;
        self.cpus = read("cpus").trim().to_owned();
        self.mems = read("mems").trim().to_owned();
    }

    fn blkio_v1(&mut self, folder: &Path) {
        let has = |file: &str| folder.join(format!("blkio.{file}")).exists();
        self.blkio_weight = has("weight");
        self.blkio_weight_device = has("weight_device");
        self.blkio_read_bps = has("throttle.read_bps_device");
        self.blkio_write_bps = has("throttle.write_bps_device");
        self.blkio_read_iops = has("throttle.read_iops_device");
        self.blkio_write_iops = has("throttle.write_iops_device");
    }

    /// Weights need a scheduler or a cost model that knows them; limits need nothing.
    fn io_v2(&mut self, tree: &Path) {
        let weight = below(tree, "io.max", &["io.weight", "io.bfq.weight"]).unwrap_or(true);
        (self.blkio_weight, self.blkio_weight_device) = (weight, weight);
        (self.blkio_read_bps, self.blkio_write_bps) = (true, true);
        (self.blkio_read_iops, self.blkio_write_iops) = (true, true);
    }
}

/// Gives the cgroups above a container the real-time budget of `--cpu-rt-runtime`: v1 lets none have more than the one above it has.
///
/// # Errors
/// A failed write, named; nothing is done where there is no such budget.
pub(crate) fn give_realtime(cgroup: &str, budget: CpuRealtime) -> io::Result<()> {
    if budget == CpuRealtime::default() || !Abilities::of_host().cpu_realtime {
        return Ok(());
    }
    let mounts = Mounts::parse(&fs::read_to_string("/proc/self/mountinfo")?);
    let root = mounts.v1("cpu").ok_or(io::ErrorKind::NotFound)?;
    let parent = Path::new(cgroup.trim_start_matches('/')).parent().unwrap_or(Path::new(""));
    give_realtime_below(root, parent, budget)
}

fn give_realtime_below(root: &Path, parent: &Path, budget: CpuRealtime) -> io::Result<()> {
    let mut folder = root.to_owned();
    for part in parent.components() {
        folder.push(part);
        fs::create_dir_all(&folder)?;
        for (file, value) in [("cpu.rt_period_us", budget.period_us), ("cpu.rt_runtime_us", budget.runtime_us)] {
            let path = folder.join(file);
            if value != 0 {
                let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
                fs::write(&path, value.to_string()).map_err(named)?;
            }
        }
    }
    Ok(())
}

/// Whether a cgroup right below the root has any of `files`; `None` if none has `sign`, by which the controller is known to be on.
fn below(tree: &Path, sign: &str, files: &[&str]) -> Option<bool> {
    let folders = fs::read_dir(tree).ok()?.flatten().map(|entry| entry.path());
    let folder = folders.filter(|folder| folder.is_dir()).find(|folder| folder.join(sign).exists())?;
    Some(files.iter().any(|file| folder.join(file).exists()))
}

/// Where hierarchies are mounted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mounts {
    /// Controller and mount point.
    v1: Vec<(String, PathBuf)>,
    v2: Option<PathBuf>,
}

impl Mounts {
    fn parse(mountinfo: &str) -> Self {
        const CONTROLLERS: [&str; 6] = ["memory", "cpu", "cpuset", "blkio", "pids", "devices"];
        let mut mounts = Self::default();
        for line in mountinfo.lines() {
            let Some((front, back)) = line.split_once(" - ") else { continue };
            let mut back = back.split(' ');
            let (kind, options) = (back.next().unwrap_or_default(), back.nth(1).unwrap_or_default());
            let Some(point) = front.split(' ').nth(4).map(PathBuf::from) else { continue };
            match kind {
                "cgroup" => {
                    let controllers = options.split(',').filter(|option| CONTROLLERS.contains(option));
                    mounts.v1.extend(controllers.map(|controller| (controller.to_owned(), point.clone())));
                }
                "cgroup2" => {
                    mounts.v2.get_or_insert(point);
                }
                _ => {}
            }
        }
        mounts
    }

    fn v1(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|(name, _)| name == controller).map(|(_, point)| point.as_path())
    }
}

/// A list such as `0-2,7`, with numbers up to `highest`.
///
/// # Errors
/// Docker's words for what is wrong with it.
pub(crate) fn parse_list(text: &str, highest: usize) -> Result<BTreeSet<usize>, String> {
    let mut numbers = BTreeSet::new();
    if text.is_empty() {
        return Ok(numbers);
    }
    let malformed = || format!("invalid format: {text}");
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let first: usize = first.parse().map_err(|_| malformed())?;
        let last: usize = last.parse().map_err(|_| malformed())?;
        if last < first {
            return Err(malformed());
        }
        if last > highest {
            return Err(format!("value of out range, maximum is {highest}"));
        }
        numbers.extend(first..=last);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let (file, text) = file.split_once('=').unwrap_or((file, ""));
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn detect(lines: &str, folder: &Path) -> Abilities {
        let mountinfo = lines.replace('@', &folder.display().to_string());
        Abilities::detect(&Mounts::parse(&mountinfo), true)
    }

    #[test]
    fn v1_is_told_by_its_files() {
        let folder = tree(&[
            "memory/memory.memsw.limit_in_bytes",
            "memory/memory.oom_control",
            "cpu/cpu.shares",
            "cpu/cpu.rt_period_us",
            "cpuset/cpuset.cpus=0-3\n",
            "cpuset/cpuset.mems=0\n",
            "blkio/blkio.throttle.read_bps_device",
        ]);
        let line = |name: &str| format!("1 2 0:3 / @/{name} rw - cgroup cgroup rw,{name}\n");
        let lines: String = ["memory", "cpu", "cpuset", "blkio"].map(line).concat();
        let found = detect(&lines, folder.path());
        assert!(!found.unified && found.memory && found.swap && found.oom_kill_disable && !found.memory_swappiness);
        assert!(found.cpu_shares && !found.cpu_cfs && found.cpu_realtime && found.cpuset && !found.pids);
        assert_eq!((found.cpus.as_str(), found.mems.as_str()), ("0-3", "0"));
        assert!(found.blkio_read_bps && !found.blkio_weight && !found.blkio_write_bps);
    }

    #[test]
    fn v2_is_told_by_its_controllers_and_by_a_group_that_has_them() {
        let line = "1 2 0:3 / @ rw - cgroup2 cgroup2 rw\n";
        let all = "cgroup.controllers=cpuset cpu io memory pids\n";
        let folder = tree(&[all, "cpuset.cpus.effective=0-1\n", "a/memory.max", "b/io.max", "b/io.bfq.weight"]);
        let found = detect(line, folder.path());
        assert!(found.unified && found.memory && !found.swap && !found.oom_kill_disable && found.cpu_cfs);
        assert!(found.blkio_weight && found.blkio_write_iops && found.pids && !found.cpu_realtime);
        assert_eq!(found.cpus, "0-1");
        let fresh = tree(&[all]);
        assert!(detect(line, fresh.path()).swap, "without a group the kernel's word counts");
        let none = tree(&["cgroup.controllers=cpu\n"]);
        let found = detect(line, none.path());
        assert!(!found.memory && !found.pids && !found.blkio_weight && found.cpu_shares);
    }

    #[test]
    fn a_hybrid_host_has_each_controller_where_it_is() {
        let folder = tree(&["cpu/cpu.shares", "unified/cgroup.controllers=memory\n"]);
        let lines = "1 2 0:3 / @/cpu rw - cgroup cgroup rw,cpu,cpuacct\n1 2 0:4 / @/unified rw - cgroup2 cgroup2 rw\n";
        let found = detect(lines, folder.path());
        assert!(!found.unified && found.cpu_shares && found.memory && !found.memory_swappiness && !found.cpuset);
    }

    #[test]
    fn every_cgroup_above_a_container_gets_the_budget() {
        let folder = tree(&[]);
        give_realtime_below(folder.path(), Path::new("a/b"), CpuRealtime { period_us: 0, runtime_us: 7 }).unwrap();
        for path in ["a/cpu.rt_runtime_us", "a/b/cpu.rt_runtime_us"] {
            assert_eq!(fs::read_to_string(folder.path().join(path)).unwrap(), "7");
        }
        assert!(!folder.path().join("a/cpu.rt_period_us").exists(), "what is 0 is left as it is");
    }

    #[test]
    fn lists_are_read_as_the_kernel_reads_them() {
        assert_eq!(parse_list("0-2,7,1", 10).unwrap().into_iter().collect::<Vec<_>>(), [0, 1, 2, 7]);
        assert_eq!(parse_list("", 10).unwrap().len(), 0);
        for bad in ["a", "1-", "-1", "2-1", "1,,2", " 1"] {
            assert_eq!(parse_list(bad, 10).unwrap_err(), format!("invalid format: {bad}"));
        }
        assert_eq!(parse_list("1-9223372036854775807", 8192).unwrap_err(), "value of out range, maximum is 8192");
    }
}
