//! Running one more process in a container, as confined as the container's own.
//!
//! The container may lie in wait for it: root there sees every process of its pid namespace, from its first moment. So the process is
//! made by another one in between, which joins everything else first, lets go of the host and gives up its rights: when the process comes to
//! be, there is nothing of the host's about it to be seen, and nothing to be won by taking it over.

use std::cell::RefCell;
use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_spec::runtime::{Linux, LinuxNamespaceKind, Process, Spec};
use ferry_sys::namespace::{self, Namespaces};
use ferry_sys::process as sys_process;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cgroup::Cgroup;
use crate::channel::{self, Failure, FromChild};
use crate::container::{Container, Stdio};
use crate::error::{Error, ErrorKind};
use crate::init::{self, Confinement, Filter, console, proc, rights};
use crate::plan::{self, ProcessPlan};
use crate::root::Root;
use crate::seccomp;

const STAGE: &str = "unable to start container process";

/// A running container to run a process in.
#[derive(Debug)]
pub struct ExecTarget {
    pidfd: OwnedFd,
    namespaces: Namespaces,
    cgroup: Cgroup,
    filter: Option<Filter>,
    linux: Option<Linux>,
}

impl ExecTarget {
    /// A container of this process; `spec` as given to [`crate::create`].
    ///
    /// # Errors
    /// When the container cannot be reached.
    pub fn from_container(container: &Container, spec: &Spec) -> Result<ExecTarget, Error> {
        let pidfd = rustix::io::fcntl_dupfd_cloexec(container.pidfd(), 3)
            .map_err(|error| Error::step("keep the container's pidfd", error))?;
        Ok(ExecTarget {
            pidfd,
            namespaces: namespaces(spec),
            cgroup: container.cgroup().clone(),
            filter: container.filter().cloned(),
            linux: spec.linux.clone(),
        })
    }

    /// A container by the host pid of its process, for example after a restart of the caller.
    ///
    /// # Errors
    /// When there is no such process, or the profile of its filter cannot be made.
    pub fn open(pid: u32, spec: &Spec, cgroup_path: &str) -> Result<ExecTarget, Error> {
        let not_running = || Error::new(ErrorKind::NotRunning, "cannot exec in a stopped container");
        let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(not_running)?;
        let pidfd = pidfd_open(process, PidfdFlags::empty()).map_err(|_| not_running())?;
        let profile = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        Ok(ExecTarget {
            pidfd,
            namespaces: namespaces(spec),
            cgroup: Cgroup::open(cgroup_path)?,
            filter: profile.map(|profile| seccomp::filter(profile, None)).transpose()?,
            linux: spec.linux.clone(),
        })
    }
}

/// Those that a container can share with nobody or with the host: joining one's own again is harmless.
fn namespaces(spec: &Spec) -> Namespaces {
    let all =
        [Namespaces::MOUNT, Namespaces::PID, Namespaces::NETWORK, Namespaces::IPC, Namespaces::UTS, Namespaces::CGROUP];
    let all = all.into_iter().fold(Namespaces::empty(), Namespaces::with);
    let has_time = spec.linux.as_ref().is_some_and(|linux| linux.namespace(LinuxNamespaceKind::Time).is_some());
    if has_time { all.with(Namespaces::TIME) } else { all }
}

/// A process started by [`exec`], a direct child of the caller.
#[derive(Debug)]
pub struct ExecProcess {
    /// Host pid.
    pub pid: u32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// The master side of its terminal.
    pub console: Option<OwnedFd>,
}

/// Runs a process in a container; returns at its exec. One that fails was waited for.
///
/// # Errors
/// The text is what Docker prints after "OCI runtime exec failed: exec failed: ", but for [`ErrorKind::Invalid`] texts that begin
/// with "unable to find" or "uids and gids", which Docker prints alone.
pub fn exec(target: &ExecTarget, process: &Process, stdio: Stdio) -> Result<ExecProcess, Error> {
    exec_with(target, process, stdio, ExecOptions::default())
}

/// What an exec may be asked for beside its process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExecOptions {
    /// Descriptors 3..3+n of the caller stay open in the process.
    pub preserved_fds: u32,
    /// In a container that is frozen, wait until it is not.
    pub ignore_paused: bool,
}

/// Runs a process in a container as [`exec`] does, with more to choose.
///
/// # Errors
/// As for [`exec`].
pub fn exec_with(
    target: &ExecTarget,
    process: &Process,
    stdio: Stdio,
    options: ExecOptions,
) -> Result<ExecProcess, Error> {
    let (plan, _warnings) = plan::exec_process(process, target.linux.as_ref())?;
    let preserved = options.preserved_fds;
    if !options.ignore_paused && target.cgroup.is_frozen().unwrap_or(false) {
        // It would freeze with the rest as soon as it is in there, and we with it.
        return Err(Error::invalid("cannot exec in a paused container"));
    }
    let (channel, child_end) = channel::pair()?;
    let tasks = target.cgroup.tasks_files();
    let v2_folder = target.cgroup.v2_folder().map_err(|_| stopped())?;
    let wants_terminal = matches!(stdio, Stdio::Terminal);
    let filter = target.filter.as_ref();
    let confined = RefCell::new(None);
    let prepare = || {
        let go = || -> Result<(), Failure> {
            enter(target, &plan, &tasks, stdio, child_end.as_fd(), preserved)?;
            if init::can_be_born_confined(&plan, filter) {
                let master = open_terminal(&plan, wants_terminal)?;
                *confined.borrow_mut() = Some(confinement(&plan, filter)?.enter_for_child(&child_end, master)?);
            }
            Ok(())
        };
        go().map_err(|failure| {
            // When even this fails, the caller has the errno.
            let _ = channel::say_failed(&child_end, failure);
            std::io::Error::from_raw_os_error(libc::EIO)
        })
    };
    let main = || {
        let outcome = match confined.take() {
            Some(program) => init::Program::execute_in_session(&program, wants_terminal, preserved),
            None => become_program(&plan, filter, wants_terminal, &child_end, preserved),
        };
        init::tell(&child_end, outcome)
    };
    let cgroup = v2_folder.as_ref().map(AsFd::as_fd);
    let made = sys_process::clone_by_intermediate(prepare, Namespaces::empty(), cgroup, main);
    drop(child_end);
    let child = match made {
        Ok(child) => child,
        Err(error) => {
            return Err(match channel::hear(&channel)? {
                FromChild::Failed(failure) => failure.into_error(STAGE),
                _ => Error::step(format!("{STAGE}: clone"), error),
            });
        }
    };
    match await_exec(&channel) {
        Ok(console) => Ok(ExecProcess { pid: child.pid, pidfd: child.pidfd, console }),
        Err(error) => {
            // It may be gone already, which is what is wanted.
            let _ = sys_process::kill(child.pid, libc::SIGKILL);
            let _ = child.wait();
            Err(error)
        }
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::NotRunning, "cannot exec in a stopped container")
}

fn await_exec(channel: &OwnedFd) -> Result<Option<OwnedFd>, Error> {
    let mut terminal = None;
    let mut ready = false;
    loop {
        match channel::hear(channel)? {
            FromChild::Ready { console } => {
                ready = true;
                terminal = console;
            }
            FromChild::Failed(failure) => return Err(failure.into_error(STAGE)),
            FromChild::Closed if ready => return Ok(terminal),
            FromChild::Closed => return Err(Error::internal(format!("{STAGE}: the process died"))),
        }
    }
}

/// The process in between: goes into the container with all but itself, and lets go of the host.
fn enter(
    target: &ExecTarget,
    plan: &ProcessPlan,
    tasks: &[std::path::PathBuf],
    stdio: Stdio,
    channel: BorrowedFd<'_>,
    preserved: u32,
) -> Result<(), Error> {
    init::become_separate(plan.oom_score_adj)?;
    init::join_cgroups(tasks)?;
    if let Stdio::Fds { .. } = stdio {
        init::place_stdio(stdio, None)?;
    } else {
        // The caller's own streams are the host's.
        for number in 0..3 {
            sys_process::place_fd(channel, number)
                .map_err(|error| Error::step("let go of the standard streams", error))?;
        }
    }
    let pidfd =
        rustix::io::fcntl_dupfd_cloexec(&target.pidfd, 3).map_err(|error| Error::step("keep the pidfd", error))?;
    namespace::join(pidfd.as_fd(), target.namespaces).map_err(|error| match error.raw_os_error() {
        Some(libc::ESRCH) => stopped(),
        _ => Error::step("join the container's namespaces", error),
    })?;
    drop(pidfd);
    init::close_host_descriptors(&[channel], preserved)
}

/// The process itself where its filter forbids it to be born with it: in sight of the container from its first moment, and seen with rights that it
/// is still to give up.
fn become_program(
    plan: &ProcessPlan,
    filter: Option<&Filter>,
    wants_terminal: bool,
    channel: &OwnedFd,
    preserved: u32,
) -> Result<Infallible, Failure> {
    let master = open_terminal(plan, wants_terminal)?;
    init::take_session(wants_terminal)?;
    let program = confinement(plan, filter)?.enter(channel, master)?;
    rights::install_filter(filter, plan)?;
    program.execute(preserved)
}

fn confinement<'a>(plan: &'a ProcessPlan, filter: Option<&'a Filter>) -> Result<Confinement<'a>, Error> {
    let proc = plan.needs_proc().then(proc::PrivateProc::open).transpose()?;
    Ok(Confinement { process: plan, keyring: Some(c"_ses"), makes_cwd: false, filter, proc })
}

/// Opens a terminal of the container's and puts it in place of the standard streams; returns its master.
fn open_terminal(plan: &ProcessPlan, wanted: bool) -> Result<Option<OwnedFd>, Error> {
    if !wanted {
        return Ok(None);
    }
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| Error::step("open the container's root", error))?;
    let console = console::open(Root::new(&root), plan.console_size)?;
    init::place_stdio(Stdio::Terminal, Some(console))
}
