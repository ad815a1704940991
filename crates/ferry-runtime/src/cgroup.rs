//! The cgroups of a container, whatever the host mounts: v1, v2 or both.
//!
//! Owns: one cgroup path in every hierarchy, its limits and device rules, what it has used, freezing and ending what is in it. Leaves out: who
//! joins it (the container's process does that itself) and the folders above it, which are made on the way but never removed here.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ferry_spec::runtime::LinuxResources;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind};
use crate::init::CgroupView;

mod devices;
mod freeze;
mod hierarchy;
mod limits;
mod stats;

use hierarchy::Hierarchy;
pub use stats::{CpuStats, IoStats, MemoryStats, PidsStats, Sources, Stats, Version};

/// runc's words for the two things that can fail.
const MAKE_STAGE: &str = "unable to apply cgroup configuration";
const SET_STAGE: &str = "error during container init: error setting cgroup config for procHooks process";

/// How long a cgroup may take to come to rest or become empty.
const PATIENCE: Duration = Duration::from_secs(5);

/// One cgroup path in every hierarchy of the host.
#[derive(Debug, Clone)]
pub struct Cgroup {
    /// Without the slash at its front.
    path: String,
    hierarchies: Vec<Hierarchy>,
}

impl Cgroup {
    /// Makes the cgroup (parents included) and sets its limits.
    ///
    /// # Errors
    /// A bad path, a limit this host cannot set, a failed write; what was made is removed.
    pub fn create(path: &str, resources: &LinuxResources) -> Result<Cgroup, Error> {
        let cgroup = Cgroup::prepare(path)?;
        cgroup.make(resources)?;
        Ok(cgroup)
    }

    /// Names a cgroup that exists or existed.
    ///
    /// # Errors
    /// A bad path, no cgroup mounted.
    pub fn open(path: &str) -> Result<Cgroup, Error> {
        Cgroup::prepare(path)
    }

    fn prepare(path: &str) -> Result<Cgroup, Error> {
        let hierarchies = hierarchy::detect()?;
        Ok(Cgroup { path: normalise(path)?, hierarchies })
    }

    #[cfg(test)]
    fn in_tree(path: &str, hierarchies: Vec<Hierarchy>) -> Cgroup {
        Cgroup { path: normalise(path).unwrap(), hierarchies }
    }

    /// Makes the folders and sets limits, all or nothing.
    pub(crate) fn make(&self, resources: &LinuxResources) -> Result<(), Error> {
        let existed = self.exists();
        let set = || self.set(resources, Moment::Creation).map_err(|error| error.within(SET_STAGE));
        let made = self.make_folders().and_then(|()| set());
        if made.is_err() && !existed {
            // The first failure is the one to tell.
            let _ = self.remove();
        }
        made
    }

    fn make_folders(&self) -> Result<(), Error> {
        let make = |hierarchy: &Hierarchy| hierarchy.make(&self.path).map_err(|error| error.within(MAKE_STAGE));
        self.hierarchies.iter().try_for_each(make)
    }

    fn set(&self, resources: &LinuxResources, moment: Moment) -> Result<(), Error> {
        let controllers = |name: &str| self.hierarchies.iter().find(|hierarchy| hierarchy.has(name));
        limits::apply(resources, &self.path, controllers, self.v2())?;
        if moment == Moment::Creation || !resources.devices.is_empty() {
            self.set_devices(resources)?;
        }
        Ok(())
    }

    fn set_devices(&self, resources: &LinuxResources) -> Result<(), Error> {
        let rules = devices::rules(&resources.devices)?;
        if let Some(hierarchy) = self.v1("devices") {
            return devices::apply_v1(&hierarchy.folder(&self.path), &rules);
        }
        let Some(hierarchy) = self.v2() else {
            return Err(Error::unsupported("this host has no device cgroup"));
        };
        devices::apply_v2(&hierarchy.folder(&self.path), &rules)
    }

    fn v1(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| !hierarchy.is_v2() && hierarchy.has(controller))
    }

    fn v2(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.is_v2())
    }

    /// The hierarchy that tells which processes are in it: any would do, as they are kept alike.
    fn leading(&self) -> Result<&Hierarchy, Error> {
        let lead = self.v1("freezer").or_else(|| self.v1("devices")).or_else(|| self.v2());
        lead.or(self.hierarchies.first()).ok_or_else(|| Error::unsupported("no cgroup hierarchy is mounted"))
    }

    /// The path below the root of each hierarchy.
    pub fn path(&self) -> String {
        format!("/{}", self.path)
    }

    /// Whether any of its folders is there.
    pub fn exists(&self) -> bool {
        self.hierarchies.iter().any(|hierarchy| hierarchy.folder(&self.path).is_dir())
    }

    /// Moves the calling process in (all hierarchies).
    ///
    /// # Errors
    /// A failed write.
    pub fn join(&self) -> Result<(), Error> {
        let files = self.hierarchies.iter().map(|hierarchy| hierarchy.folder(&self.path).join("cgroup.procs"));
        crate::init::join_cgroups(&files.collect::<Vec<PathBuf>>())
    }

    /// Moves another process in.
    ///
    /// # Errors
    /// When a hierarchy does not take it, or it has ended.
    pub fn adopt(&self, pid: i32) -> Result<(), Error> {
        for hierarchy in &self.hierarchies {
            let file = hierarchy.folder(&self.path).join("cgroup.procs");
            std::fs::write(&file, pid.to_string())
                .map_err(|error| Error::step(format!("write {}", file.display()), error))?;
        }
        Ok(())
    }

    /// Files for a process with one thread to write `0` to, which `CLONE_INTO_CGROUP` does not spare it.
    pub(crate) fn tasks_files(&self) -> Vec<PathBuf> {
        self.hierarchies
            .iter()
            .filter(|hierarchy| !hierarchy.is_v2())
            .map(|hierarchy| hierarchy.folder(&self.path).join("tasks"))
            .collect()
    }

    /// The v2 folder, for `CLONE_INTO_CGROUP`.
    pub(crate) fn v2_folder(&self) -> Result<Option<OwnedFd>, Error> {
        let Some(hierarchy) = self.v2() else { return Ok(None) };
        let folder = hierarchy.folder(&self.path);
        rustix::fs::openat(CWD, &folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map(Some)
            .map_err(|error| Error::step(format!("open cgroup {}", folder.display()), error))
    }

    /// Makes the v2 folder alone, so that a process can be born in it while the rest is made.
    pub(crate) fn make_v2_folder(&self) -> Result<(), Error> {
        self.v2().map_or(Ok(()), |hierarchy| hierarchy.make(&self.path).map_err(|error| error.within(MAKE_STAGE)))
    }

    /// Whether v2 is all there is.
    pub(crate) fn is_pure_v2(&self) -> bool {
        self.hierarchies.iter().all(Hierarchy::is_v2)
    }

    pub(crate) fn views(&self) -> Vec<CgroupView> {
        let pure = self.is_pure_v2();
        self.hierarchies.iter().filter(|hierarchy| pure || !hierarchy.is_v2()).map(|one| one.view(&self.path)).collect()
    }

    /// Host pids of every process in it, sub-groups included.
    ///
    /// # Errors
    /// A failed read.
    pub fn pids(&self) -> Result<Vec<u32>, Error> {
        let folder = self.leading()?.folder(&self.path);
        let mut pids = Vec::new();
        collect_pids(&folder, &mut pids)
            .map_err(|error| Error::step(format!("read the processes of cgroup {}", folder.display()), error))?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Sends a signal to every process in it; to end them all, also those made meanwhile.
    ///
    /// # Errors
    /// A failed read or signal.
    pub fn signal_all(&self, signal: i32) -> Result<(), Error> {
        if signal == libc::SIGKILL {
            return self.kill_all();
        }
        for pid in self.pids()? {
            send(pid, signal)?;
        }
        Ok(())
    }

    fn kill_all(&self) -> Result<(), Error> {
        let lead = self.leading()?;
        if lead.is_v2() && write(&lead.folder(&self.path).join("cgroup.kill"), "1").is_ok() {
            return Ok(());
        }
        // Frozen processes cannot fork away from the signal; thawed, they die of it.
        let frozen = self.v1("freezer").is_some() && self.freeze().is_ok();
        let sent = self.pids().and_then(|pids| pids.into_iter().try_for_each(|pid| send(pid, libc::SIGKILL)));
        if frozen {
            self.thaw()?;
        }
        sent
    }

    /// Freezes every process in it; returns when they stand still.
    ///
    /// # Errors
    /// No freezer, or it does not come to rest.
    pub fn freeze(&self) -> Result<(), Error> {
        freeze::set(self, freeze::Motion::Frozen)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// A failed write.
    pub fn thaw(&self) -> Result<(), Error> {
        freeze::set(self, freeze::Motion::Thawed)
    }

    /// Tells whether it is frozen.
    ///
    /// # Errors
    /// A failed read.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        freeze::is_frozen(self)
    }

    /// Removes it, sub-groups included; one that is gone is no error. Waits shortly for processes that are just ending.
    ///
    /// # Errors
    /// Processes are left in it.
    pub fn remove(&self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut result = Ok(());
        for hierarchy in &self.hierarchies {
            // All are tried, the first failure is told.
            result = result.and(remove_tree(&hierarchy.folder(&self.path), deadline));
        }
        result
    }

    /// A descriptor that becomes readable (`POLLIN`) when the memory limit may have killed; read it empty, then ask
    /// [`Cgroup::oom_kill_count`]. It may also become readable without a kill, such as when the cgroup is removed.
    ///
    /// # Errors
    /// No memory controller.
    pub fn oom_event_fd(&self) -> Result<OwnedFd, Error> {
        if let Some(hierarchy) = self.v1("memory") {
            let path = hierarchy.folder(&self.path);
            let step =
                |error: std::io::Error| Error::step(format!("watch {} for lack of memory", path.display()), error);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder = rustix::fs::openat(CWD, &path, flags, Mode::empty()).map_err(|error| step(error.into()))?;
            return ferry_sys::event::oom_notices_v1(std::os::fd::AsFd::as_fd(&folder)).map_err(step);
        }
        let hierarchy = self.v2().filter(|hierarchy| hierarchy.has("memory"));
        let hierarchy = hierarchy.ok_or_else(|| Error::unsupported("this host has no memory cgroup"))?;
        let path = hierarchy.folder(&self.path).join("memory.events");
        let watch = || -> Result<OwnedFd, Errno> {
            use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
            let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            add_watch(&inotify, &path, WatchFlags::MODIFY)?;
            Ok(inotify)
        };
        watch().map_err(|error| Error::step(format!("watch {}", path.display()), error))
    }

    /// How many processes the memory limit has killed.
    ///
    /// # Errors
    /// A failed read.
    pub fn oom_kill_count(&self) -> Result<u64, Error> {
        let path = match (self.v1("memory"), self.v2()) {
            (Some(hierarchy), _) => hierarchy.folder(&self.path).join("memory.oom_control"),
            (None, Some(hierarchy)) => hierarchy.folder(&self.path).join("memory.events"),
            (None, None) => return Err(Error::unsupported("this host has no memory cgroup")),
        };
        let text = read(&path)?;
        Ok(text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0))
    }

    /// What it has used.
    ///
    /// # Errors
    /// A failed read.
    pub fn stats(&self) -> Result<Stats, Error> {
        stats::read_all(self)
    }

    /// Sets the limits that are present in `resources`.
    ///
    /// # Errors
    /// A limit this host cannot set, a failed write.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        self.set(resources, Moment::Update)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Creation,
    Update,
}

/// Checks a path and brings it to its one form.
fn normalise(path: &str) -> Result<String, Error> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() || parts.contains(&"..") || path.contains(['\0', '\n']) {
        return Err(Error::invalid(format!("cgroup path {path:?} must name a group below the root, without `..`")));
    }
    Ok(parts.join("/"))
}

fn collect_pids(folder: &Path, pids: &mut Vec<u32>) -> std::io::Result<()> {
    let gone = |error: &std::io::Error| matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV));
    match std::fs::read_to_string(folder.join("cgroup.procs")) {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0)),
        Err(error) if gone(&error) => return Ok(()),
        // A threaded v2 group lists its processes at its root only.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        Err(error) => return Err(error),
    }
    for sub in sub_folders(folder)? {
        collect_pids(&sub, pids)?;
    }
    Ok(())
}

fn sub_folders(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

fn remove_tree(folder: &Path, deadline: Instant) -> Result<(), Error> {
    let step = |error: std::io::Error| Error::step(format!("remove cgroup {}", folder.display()), error);
    let mut pause = Duration::from_micros(200);
    loop {
        let error = match rustix::fs::unlinkat(CWD, folder, rustix::fs::AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(error) => error,
        };
        for sub in sub_folders(folder).map_err(step)? {
            remove_tree(&sub, deadline)?;
        }
        if !matches!(error, Errno::BUSY | Errno::NOTEMPTY) || Instant::now() > deadline {
            return Err(step(error.into()));
        }
        // The kernel lets go of ending processes a little after they were waited for, and there is nothing to poll for it on v1.
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn send(pid: u32, signal: i32) -> Result<(), Error> {
    match ferry_sys::process::kill(pid, signal) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
            Err(Error::step(format!("send signal {signal} to process {pid}"), error))
        }
        // It has ended meanwhile, which is as good.
        _ => Ok(()),
    }
}

/// Writes a cgroup file in one piece.
fn write(path: &Path, value: &str) -> Result<(), Error> {
    rustix::fs::openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::io::write(&file, value.as_bytes()))
        .map(drop)
        .map_err(|error| {
            let kind = if error == Errno::NOENT { ErrorKind::Unsupported } else { ErrorKind::Internal };
            let text = crate::error::cause_text(&error.into());
            Error::new(kind, format!("write {value:?} to {}: {text}", path.display()))
        })
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::step(format!("read {}", path.display()), error))
}

#[cfg(test)]
mod tests;
