//! The two ways to build a container: ferry's own runtime in this process, or a foreign one driven as a process.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use ferry_runtime::cgroup::Cgroup;
use ferry_runtime::systemd::{self, Scope};
use ferry_runtime::{CreateOptions, ExecTarget, Rootfs, Stdio};
use ferry_shim::protocol::{ForeignRuntime, ShimError};
use ferry_spec::runtime::{LinuxResources, Process, ScopeName, Spec};

use crate::container::shim_error;
use crate::foreign::Foreign;

/// How long the end of a container waits for systemd, which forgets an empty scope in any case.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A container that was built, by whomever.
#[derive(Debug)]
pub(crate) enum Runtime {
    /// By ferry's own.
    Own(Box<ferry_runtime::Container>),
    /// By another.
    Foreign(Box<Foreign>),
}

/// Everything that building a container takes.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) id: &'a str,
    pub(crate) spec: &'a Spec,
    pub(crate) cgroup: &'a str,
    /// Whose cgroup that is, where systemd makes it.
    pub(crate) scope: Option<&'a ScopeName>,
    pub(crate) run_dir: &'a OwnedFd,
    pub(crate) run_dir_path: &'a Path,
    pub(crate) rootfs: Rootfs,
    /// Detached trees for bind mounts, by their place in `spec.mounts`.
    pub(crate) mounts: Vec<(usize, OwnedFd)>,
    pub(crate) network: Option<OwnedFd>,
    pub(crate) stdio: Stdio,
    pub(crate) foreign: Option<ForeignRuntime>,
}

/// A process that was started in a container.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) console: Option<OwnedFd>,
}

impl Runtime {
    /// Builds the container and runs its program; returns when `execve` has succeeded, or with nothing left behind.
    pub(crate) fn run(plan: Plan<'_>) -> Result<(Self, Option<OwnedFd>), ShimError> {
        if let Some(foreign) = plan.foreign.clone() {
            let (foreign, console) = Foreign::run(foreign, plan)?;
            return Ok((Self::Foreign(Box::new(foreign)), console));
        }
        let scope = plan.scope.map(Scope::start).transpose().map_err(|error| shim_error(&error))?;
        let mut options = CreateOptions::new(plan.id, plan.spec.clone(), plan.rootfs, plan.stdio);
        options.cgroup_is_inhabited = scope.is_some();
        options.mounts = plan.mounts;
        options.network_namespace = plan.network;
        options.seccomp_cache_dir = seccomp_cache(plan.run_dir_path);
        let mut container = ferry_runtime::run(options).map_err(|error| shim_error(&error))?;
        let console = container.take_console();
        let runtime = Self::Own(Box::new(container));
        match scope.map_or(Ok(()), Scope::keep) {
            Ok(()) => Ok((runtime, console)),
            Err(error) => {
                runtime.abandon(plan.scope);
                Err(shim_error(&error))
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Own(container) => container.pid(),
            Self::Foreign(foreign) => foreign.pid(),
        }
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(container) => container.pidfd(),
            Self::Foreign(foreign) => foreign.pidfd(),
        }
    }

    pub(crate) fn cgroup(&self) -> &Cgroup {
        match self {
            Self::Own(container) => container.cgroup(),
            Self::Foreign(foreign) => foreign.cgroup(),
        }
    }

    /// Runs another process in the container.
    pub(crate) fn exec(&self, spec: &Spec, process: &Process, stdio: Stdio) -> Result<Started, ShimError> {
        match self {
            Self::Own(container) => {
                let target = ExecTarget::from_container(container, spec).map_err(|error| shim_error(&error))?;
                let exec = ferry_runtime::exec(&target, process, stdio).map_err(|error| shim_error(&error))?;
                Ok(Started { pid: exec.pid, pidfd: exec.pidfd, console: exec.console })
            }
            Self::Foreign(foreign) => foreign.exec(process, stdio),
        }
    }

    /// Sets the limits that are present, and tells systemd where the cgroup is its scope.
    pub(crate) fn update(&self, resources: &LinuxResources, scope: Option<&ScopeName>) -> Result<(), ShimError> {
        let update = || {
            self.cgroup().update(resources)?;
            scope.map_or(Ok(()), |scope| systemd::set_limits(&scope.unit(), &self.cgroup().path()))
        };
        update().map_err(|error| shim_error(&error))
    }

    /// Removes the cgroups, and what else the runtime keeps of a container that has ended.
    pub(crate) fn delete(&mut self, scope: Option<&ScopeName>) -> Result<(), ShimError> {
        if let Self::Foreign(foreign) = self {
            foreign.delete();
        }
        // The folder goes either way; a scope that is not stopped stops by itself once it is empty.
        let stopped = scope.map_or(Ok(()), |scope| systemd::stop(&scope.unit(), STOP_PATIENCE));
        self.cgroup().remove().and(stopped).map_err(|error| shim_error(&error))
    }

    /// Ends a container that cannot be kept.
    pub(crate) fn abandon(mut self, scope: Option<&ScopeName>) {
        // It has no other way to go, and its child is reaped here or with all others.
        let _ = ferry_sys::event::send_signal(self.pidfd(), libc::SIGKILL);
        let _ = rustix::process::waitid(
            rustix::process::WaitId::PidFd(self.pidfd().as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        );
        let _ = self.delete(scope);
    }
}

/// Beside the run-time folders of an instance's containers, `<exec-root>/c/<id>`, lie its compiled filters, `<exec-root>/seccomp`.
fn seccomp_cache(run_dir: &Path) -> Option<std::path::PathBuf> {
    let cache = run_dir.parent()?.parent()?.join("seccomp");
    cache.is_dir().then_some(cache)
}

/// Opens a program for running it.
pub(crate) fn open_program(path: &Path) -> std::io::Result<OwnedFd> {
    Ok(File::open(path)?.into())
}
