//! Making a container: what the caller gives and what it gets.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ferry_spec::runtime::Spec;
use ferry_sys::namespace::{self, Namespaces};
use ferry_sys::process::Child;
use rustix::fs::{CWD, Mode, OFlags};

use crate::cgroup::Cgroup;
use crate::channel::{self, Failure, FromChild};
use crate::error::{Error, ErrorKind};
use crate::hooks::Outside;
use crate::init::{self, Filter, Inherited, Wait};
use crate::plan::Plan;
use crate::seccomp;

/// The root file system of a new container.
#[derive(Debug)]
pub enum Rootfs {
    /// A directory; bind mounted.
    Path(PathBuf),
    /// A detached mount (`fsmount` or `open_tree(OPEN_TREE_CLONE)`), moved in. It is the engine's, so `/.dockerenv` and `/etc/mtab` are made in it.
    Mount(OwnedFd),
}

/// Standard streams of a new process.
#[derive(Debug)]
pub enum Stdio {
    /// Three descriptors.
    Fds {
        /// Descriptor 0.
        stdin: OwnedFd,
        /// Descriptor 1.
        stdout: OwnedFd,
        /// Descriptor 2.
        stderr: OwnedFd,
    },
    /// A terminal of the container's own devpts, whose master comes back.
    Terminal,
}

/// Everything that [`create`] needs.
#[derive(Debug)]
pub struct CreateOptions {
    /// Container id; only for messages.
    pub id: String,
    /// The configuration; `root.path` is not read, `process.terminal` neither (see `stdio`).
    pub spec: Spec,
    /// The root file system.
    pub rootfs: Rootfs,
    /// Detached trees in place of the sources of bind mounts, each with the mount's place in the configuration.
    pub mounts: Vec<(usize, OwnedFd)>,
    /// Joined in place of a new network namespace, and of a path in the configuration.
    pub network_namespace: Option<OwnedFd>,
    /// Standard streams.
    pub stdio: Stdio,
    /// Where compiled system call filters are kept; `None` compiles each time.
    pub seccomp_cache_dir: Option<PathBuf>,
    /// Directory that relative sources of mounts refer to.
    pub bundle: Option<PathBuf>,
    /// Descriptors 3..3+n of the caller stay open in the process.
    pub preserved_fds: u32,
    /// The process stays in the caller's session keyring.
    pub no_new_keyring: bool,
    /// The root file system may lie on a ramdisk, where nothing can be pivoted: then the old root stays below the new one.
    pub no_pivot: bool,
    /// Processes may be in the container's cgroup already: whoever made it keeps it alive by them.
    pub cgroup_is_inhabited: bool,
    /// A listening unix socket on which the created process waits for a start from another process than its parent.
    pub start_socket: Option<OwnedFd>,
}

impl CreateOptions {
    /// Options with nothing but what is needed.
    pub fn new(id: impl Into<String>, spec: Spec, rootfs: Rootfs, stdio: Stdio) -> CreateOptions {
        CreateOptions {
            id: id.into(),
            spec,
            rootfs,
            mounts: Vec::new(),
            network_namespace: None,
            stdio,
            seccomp_cache_dir: None,
            bundle: None,
            preserved_fds: 0,
            no_new_keyring: false,
            no_pivot: false,
            cgroup_is_inhabited: false,
            start_socket: None,
        }
    }
}

/// A container whose process was made by this process.
///
/// Dropping it ends nothing; the caller waits for [`Container::pid`] and removes [`Container::cgroup`].
#[derive(Debug)]
pub struct Container {
    child: Child,
    /// To the process until its exec.
    channel: Option<OwnedFd>,
    console: Option<OwnedFd>,
    cgroup: Cgroup,
    filter: Option<Filter>,
    warnings: Vec<String>,
}

impl Container {
    /// Host pid of the container's process, a child of the caller.
    pub fn pid(&self) -> u32 {
        self.child.pid
    }

    /// Its pidfd.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// Takes the master side of its terminal.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// What was asked for and could not be given, where Docker warns and goes on.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn filter(&self) -> Option<&Filter> {
        self.filter.as_ref()
    }

    /// Lets the created process go on to its program; returns at its exec.
    ///
    /// # Errors
    /// The process has ended and was waited for; the cgroup is still there.
    pub fn start(&mut self) -> Result<(), Error> {
        let channel =
            self.channel.take().ok_or_else(|| Error::invalid("cannot start a container that has been started"))?;
        let dead = |error: Error| {
            // Whatever is left of it must not run on.
            let _ = ferry_sys::process::kill(self.child.pid, libc::SIGKILL);
            let _ = self.child.wait();
            error
        };
        channel::say_start(&channel).map_err(|error| {
            dead(Error::new(ErrorKind::NotRunning, format!("the container's process is gone: {error}")))
        })?;
        await_exec(&channel).map_err(dead)
    }
}

/// Makes a container and leaves its process waiting before `execve`.
///
/// # Errors
/// Nothing is left behind; the text is what Docker prints after "OCI runtime create failed: runc create failed: ", but for
/// [`ErrorKind::Invalid`] texts that begin with "unable to find" or "uids and gids", which Docker prints alone.
pub fn create(mut options: CreateOptions) -> Result<Container, Error> {
    let wait = options.start_socket.take().map_or(Wait::Caller, Wait::Socket);
    make(options, wait)
}

/// Makes a container and starts its program in one round trip.
///
/// # Errors
/// As for [`create`] and [`Container::start`].
pub fn run(options: CreateOptions) -> Result<Container, Error> {
    make(options, Wait::Not)
}

fn make(options: CreateOptions, wait: Wait) -> Result<Container, Error> {
    let given_network = options.network_namespace.is_some();
    let mut plan = Plan::new(&options.id, &options.spec, given_network, options.bundle.as_deref())?;
    plan.keyring = plan.keyring.take().filter(|_| !options.no_new_keyring);
    plan.may_change_root = options.no_pivot;
    let plan = plan;
    let cache = options.seccomp_cache_dir.as_deref();
    let filter = plan.seccomp.as_ref().map(|profile| seccomp::filter(profile, cache)).transpose()?;
    let joined = open_namespaces(&plan)?;
    let cgroup = Cgroup::open(&plan.cgroup_path)?;
    if !options.cgroup_is_inhabited && cgroup.exists() && !cgroup.pids()?.is_empty() {
        return Err(Error::invalid(format!("cgroup {} has processes in it", cgroup.path())));
    }
    let runs_at_once = matches!(wait, Wait::Not);
    // Before the channel, whose ends it must not hold open.
    let (_outside, outside) = Outside::start(&plan.hooks, &plan.hook_state)?.unzip();
    let (channel, child_end) = channel::pair()?;
    cgroup.make_v2_folder().map_err(|error| error.within(START_STAGE))?;
    let v2_folder = cgroup.v2_folder()?;
    let inherited = Inherited {
        rootfs: options.rootfs,
        mounts: options.mounts,
        network: options.network_namespace,
        joined,
        procs: Vec::new(),
        stdio: options.stdio,
        cgroup_tasks: cgroup.tasks_files(),
        cgroup_views: cgroup.views(),
        filter: filter.clone(),
        wait,
        preserved_fds: options.preserved_fds,
        outside,
    };
    let mut unfinished =
        Unfinished { child: None, cgroup: Some(cgroup.clone()), cgroup_is_inhabited: options.cgroup_is_inhabited };
    let make_cgroup = || -> Result<(), Error> {
        cgroup.make(&plan.resources).map_err(|error| error.within(START_STAGE))?;
        // A child that has given up already says why.
        let _ = channel::say_cgroup(&channel);
        Ok(())
    };
    if inherited.joins_pid() {
        // The process in between needs them while we wait for it.
        make_cgroup()?;
        unfinished.child = Some(spawn_into_pid(&plan, &child_end, inherited, v2_folder).map_err(|error| {
            // It may have said why in better words.
            match channel::hear(&channel) {
                Ok(FromChild::Failed(failure)) => failure.into_error(INIT_STAGE),
                _ => error,
            }
        })?);
        drop(child_end);
    } else {
        unfinished.child = Some(spawn(&plan, child_end, inherited, v2_folder)?);
        // While the child mounts.
        make_cgroup()?;
    }
    let console = match channel::hear(&channel)? {
        FromChild::Ready { console } => console,
        FromChild::Failed(failure) => return Err(failure.into_error(INIT_STAGE)),
        FromChild::Closed => return Err(unfinished.death()),
    };
    if runs_at_once {
        await_exec(&channel)?;
    }
    let (child, cgroup) = unfinished.finish()?;
    Ok(Container {
        child,
        channel: (!runs_at_once).then_some(channel),
        console,
        cgroup,
        filter,
        warnings: plan.warnings,
    })
}

const START_STAGE: &str = "unable to start container process";
const INIT_STAGE: &str = "unable to start container process: error during container init";

fn open_namespaces(plan: &Plan) -> Result<Vec<(Namespaces, OwnedFd)>, Error> {
    let open = |(kind, path): &(Namespaces, PathBuf)| {
        rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map(|fd| (*kind, fd))
            .map_err(|error| Error::step(format!("open namespace {}", path.display()), error))
    };
    plan.joined_namespaces.iter().map(open).collect()
}

fn spawn(plan: &Plan, child_end: OwnedFd, inherited: Inherited, v2_folder: Option<OwnedFd>) -> Result<Child, Error> {
    let child = || init::main(plan, &child_end, inherited);
    ferry_sys::process::clone_child(fresh(plan), v2_folder.as_ref().map(AsFd::as_fd), child).map_err(cloning)
}

/// A process in another container's pid namespace can be seen there from its first moment, so all that needs the host is done by
/// a process in between, which is not in it.
fn spawn_into_pid(
    plan: &Plan,
    child_end: &OwnedFd,
    mut inherited: Inherited,
    v2_folder: Option<OwnedFd>,
) -> Result<Child, Error> {
    let prepared = RefCell::new(None);
    let prepare = || {
        let build = || -> Result<(), Failure> {
            inherited.procs = init::joined_proc::make(plan, || inherited.join_pid())?;
            inherited.join_pid()?;
            namespace::unshare(fresh(plan)).map_err(|error| Error::step("make namespaces", error))?;
            let built = init::build(plan, child_end, inherited)?;
            *prepared.borrow_mut() = Some(built.confine(plan, child_end)?);
            Ok(())
        };
        build().map_err(|failure| {
            // When even this fails, the caller has the errno.
            let _ = channel::say_failed(child_end, failure);
            std::io::Error::from_raw_os_error(libc::EIO)
        })
    };
    let child = || match prepared.take() {
        Some(prepared) => init::tell(child_end, init::Prepared::go_on(prepared, plan, child_end)),
        None => 1,
    };
    let cgroup = v2_folder.as_ref().map(AsFd::as_fd);
    ferry_sys::process::clone_by_intermediate(prepare, Namespaces::empty(), cgroup, child).map_err(cloning)
}

/// The namespaces that the process is born into. That of the cgroup it makes once it is in its cgroup, which then is the root it sees.
fn fresh(plan: &Plan) -> Namespaces {
    plan.new_namespaces.without(Namespaces::CGROUP)
}

fn cloning(error: std::io::Error) -> Error {
    Error::step("unable to start container process: clone", error)
}

fn await_exec(channel: &OwnedFd) -> Result<(), Error> {
    match channel::hear(channel)? {
        FromChild::Closed => Ok(()),
        FromChild::Failed(failure) => Err(failure.into_error(INIT_STAGE)),
        FromChild::Ready { .. } => Err(Error::internal("the container's process was ready twice")),
    }
}

/// What has to go again unless all goes well.
struct Unfinished {
    child: Option<Child>,
    cgroup: Option<Cgroup>,
    cgroup_is_inhabited: bool,
}

impl Unfinished {
    fn finish(mut self) -> Result<(Child, Cgroup), Error> {
        match (self.child.take(), self.cgroup.take()) {
            (Some(child), Some(cgroup)) => Ok((child, cgroup)),
            _ => Err(Error::internal("the container was not made whole")),
        }
    }

    /// The process died without a word.
    fn death(&mut self) -> Error {
        let status = self.child.take().and_then(|child| child.wait().ok()).unwrap_or(0);
        let how = if libc::WIFSIGNALED(status) {
            format!("was killed by signal {}", libc::WTERMSIG(status))
        } else {
            format!("ended with code {}", libc::WEXITSTATUS(status))
        };
        Error::internal(format!("{INIT_STAGE}: the container's process {how}"))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // The failure that brought us here is told; what fails in the cleaning up is left to the sweep of the next start.
        if let Some(child) = self.child.take() {
            let _ = ferry_sys::process::kill(child.pid, libc::SIGKILL);
            let _ = child.wait();
        }
        // It cannot be removed while others are in it, and is theirs who put them there.
        if let Some(cgroup) = self.cgroup.take().filter(|_| !self.cgroup_is_inhabited) {
            let _ = cgroup.remove();
        }
    }
}
