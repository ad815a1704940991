//! What the shim holds of its container while it exists.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use ferry_runtime::cgroup::Cgroup;
use ferry_shim::protocol::{Exit, ShimError, ShimErrorKind};
use ferry_spec::runtime::{ScopeName, Spec};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::log_sink::LogSink;
use crate::poller::Registration;
use crate::runtime::Runtime;

/// File of the end of a container in its data folder.
const EXIT_FILE: &str = "exit.json";
const EXIT_FILE_NEW: &str = "exit.json.new";

/// More than the longest `exit.json`.
const EXIT_FILE_BYTES: u64 = 256;

/// File in the run-time folder.
const STATE_FILE: &str = "state.json";

/// The container, apart from its processes.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) container_dir: OwnedFd,
    pub(crate) run_dir: OwnedFd,
    pub(crate) runtime: Runtime,
    /// Whose cgroup it has, where systemd made that.
    pub(crate) scope: Option<ScopeName>,
    /// It has a pid namespace of its own, so that its end is the end of all its processes.
    pub(crate) own_pid_namespace: bool,
    pub(crate) log: LogSink,
    pub(crate) oom: Option<OwnedFd>,
    pub(crate) oom_registration: Registration,
    pub(crate) oom_told: bool,
    pub(crate) exit: Option<Exit>,
    pub(crate) cgroup_removed: bool,
}

/// What `ferry-runtime` keeps of a container too, so that its `list` and `state` over the run-time folders show those of an engine.
#[derive(Debug, Serialize)]
struct StateFile<'a> {
    id: &'a str,
    pid: u32,
    /// In clock ticks since boot, against reuse of the pid.
    start_time: u64,
    bundle: &'a Path,
    /// Seconds since 1970.
    created: i64,
    cgroup: &'a str,
    spec: &'a Spec,
    /// Not of the runtime's.
    shim_pid: u32,
}

/// The part of a [`StateFile`] that execs need.
#[derive(Deserialize)]
struct StoredSpec {
    spec: Spec,
}

impl Container {
    pub(crate) fn cgroup(&self) -> &Cgroup {
        self.runtime.cgroup()
    }

    /// Writes what is needed by later execs and by tools that list containers.
    pub(crate) fn write_state(&self, spec: &Spec, run_dir: &Path) -> io::Result<()> {
        let pid = self.runtime.pid();
        let state = StateFile {
            id: &self.id,
            pid,
            start_time: start_time(pid).unwrap_or(0),
            bundle: run_dir,
            created: crate::process::now_ns() / 1_000_000_000,
            cgroup: &self.cgroup().path(),
            spec,
            shim_pid: std::process::id(),
        };
        write_whole(self.run_dir.as_fd(), STATE_FILE, &serde_json::to_vec(&state)?)
    }

    /// The configuration as it was at the start.
    pub(crate) fn read_spec(&self) -> io::Result<Spec> {
        let fd = openat(&self.run_dir, STATE_FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let state: StoredSpec = serde_json::from_str(&io::read_to_string(File::from(fd))?)?;
        Ok(state.spec)
    }

    /// Makes the end known to whoever comes later, before anybody is told.
    pub(crate) fn write_exit(&self, exit: &Exit) -> io::Result<()> {
        let bytes = serde_json::to_vec(exit)?;
        // Not truncated: the space that was set aside is what makes this work on a full disk.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = File::from(openat(&self.container_dir, EXIT_FILE_NEW, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all_at(&bytes, 0)?;
        file.set_len(bytes.len() as u64)?;
        Ok(renameat(&self.container_dir, EXIT_FILE_NEW, &self.container_dir, EXIT_FILE)?)
    }

    /// Makes the end survive a loss of power, when no engine is there to record it.
    pub(crate) fn sync_exit(&self) {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        for name in [EXIT_FILE, "."] {
            // The kernel writes both within half a minute anyway.
            let _ = openat(&self.container_dir, name, flags, Mode::empty()).and_then(|fd| rustix::fs::fsync(&fd));
        }
    }

    /// Sets space aside for the end, so that it can be told on a full disk too.
    pub(crate) fn reserve_exit(&self) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(&self.container_dir, EXIT_FILE_NEW, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, EXIT_FILE_BYTES)?)
    }

    /// Removes the cgroup and what else the runtime keeps; what was left in it has been killed.
    pub(crate) fn remove_cgroup(&mut self) -> Result<(), ShimError> {
        if !self.cgroup_removed {
            self.runtime.delete(self.scope.as_ref())?;
            self.cgroup_removed = true;
        }
        Ok(())
    }

    /// Removes what describes a container that runs; a later run may put its own in the same place.
    pub(crate) fn remove_state(&self) {
        // Gone already is as good; the engine removes the folder with whatever is left.
        let _ = unlinkat(&self.run_dir, STATE_FILE, AtFlags::empty());
    }
}

/// When a process began, in clock ticks since boot: field 22 of its `stat`, counted after the name, which may hold anything.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// Takes away the end of an earlier run.
pub(crate) fn forget_exit(container_dir: BorrowedFd<'_>) -> io::Result<()> {
    match unlinkat(container_dir, EXIT_FILE, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Writes a file under a temporary name and renames it.
fn write_whole(dir: BorrowedFd<'_>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(openat(dir, &temporary, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(bytes)?;
    Ok(renameat(dir, &temporary, dir, name)?)
}

/// A failure of the runtime in the words of the protocol.
pub(crate) fn shim_error(error: &ferry_runtime::Error) -> ShimError {
    use ferry_runtime::ErrorKind as Runtime;
    let kind = match error.kind() {
        Runtime::CommandNotFound => ShimErrorKind::CommandNotFound,
        Runtime::CommandNotExecutable => ShimErrorKind::CommandNotExecutable,
        Runtime::NotRunning => ShimErrorKind::NotRunning,
        Runtime::Invalid => ShimErrorKind::Invalid,
        Runtime::Unsupported => ShimErrorKind::Unsupported,
        Runtime::Internal => ShimErrorKind::Internal,
    };
    ShimError { kind, message: error.to_string() }
}

/// A failure of the shim's own.
pub(crate) fn failure(kind: ShimErrorKind, message: impl Into<String>) -> ShimError {
    ShimError { kind, message: message.into() }
}

/// A failed call: what was done, and why it failed.
pub(crate) fn internal(what: &str, error: &io::Error) -> ShimError {
    failure(ShimErrorKind::Internal, format!("{what}: {error}"))
}
