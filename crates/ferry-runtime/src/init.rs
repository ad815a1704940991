//! What the container's process does between `clone` and `execve`, from top to bottom.
//!
//! It runs as a copy of the caller with all its rights, so the order is the security: host descriptors are gone before anything that the
//! image or the user chose is looked at; rights go last; the filter after them. Every failure goes back over the channel with its stage.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ferry_spec::runtime::State;
use ferry_sys::namespace::{self, Namespaces};
use ferry_sys::process as sys_process;
use ferry_sys::seccomp::Instruction;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::channel::{self, Failure};
use crate::container::{Rootfs, Stdio};
use crate::error::Error;
use crate::hooks::{self, Moment};
use crate::plan::{Plan, ProcessPlan};
use crate::root::Root;
use crate::seccomp;

pub(crate) mod command;
pub(crate) mod console;
mod devices;
pub(crate) mod joined_proc;
mod mask;
mod mounts;
pub(crate) mod proc;
pub(crate) mod rights;
pub(crate) mod user;
pub mod view;

/// How the process waits between being set up and running its program.
#[derive(Debug)]
pub(crate) enum Wait {
    /// Not at all.
    Not,
    /// For a word of the caller.
    Caller,
    /// For somebody to connect to this listening socket.
    Socket(OwnedFd),
}

/// What the process gets from the caller, beside the plan.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) rootfs: Rootfs,
    /// Detached trees that stand for the sources of bind mounts, by their place in the plan.
    pub(crate) mounts: Vec<(usize, OwnedFd)>,
    pub(crate) network: Option<OwnedFd>,
    pub(crate) joined: Vec<(Namespaces, OwnedFd)>,
    /// Each procfs of the plan, where the pid namespace is joined.
    pub(crate) procs: Vec<OwnedFd>,
    pub(crate) stdio: Stdio,
    /// Files to write `0` to, once the caller has made the cgroups.
    pub(crate) cgroup_tasks: Vec<PathBuf>,
    /// Where each hierarchy is to be seen inside.
    pub(crate) cgroup_views: Vec<CgroupView>,
    pub(crate) filter: Option<Filter>,
    pub(crate) wait: Wait,
    pub(crate) preserved_fds: u32,
    /// To the process that runs the hooks outside.
    pub(crate) outside: Option<OwnedFd>,
}

impl Inherited {
    /// Whether the process goes into a pid namespace that is there already.
    pub(crate) fn joins_pid(&self) -> bool {
        self.joined.iter().any(|(kind, _)| *kind == Namespaces::PID)
    }

    /// Makes the next child be born in that namespace.
    pub(crate) fn join_pid(&self) -> Result<(), Error> {
        for (kind, fd) in self.joined.iter().filter(|(kind, _)| *kind == Namespaces::PID) {
            namespace::join(fd.as_fd(), *kind).map_err(|error| Error::step("join the pid namespace", error))?;
        }
        Ok(())
    }
}

/// A compiled system call filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) program: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub(crate) flags: u32,
}

/// One cgroup hierarchy as a container sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupView {
    /// Folder below `/sys/fs/cgroup`; `None` is v2, which is `/sys/fs/cgroup` itself.
    pub(crate) name: Option<String>,
    /// Further names of the same v1 hierarchy.
    pub(crate) links: Vec<String>,
    /// Parameters of the v1 file system, such as `memory` or `name=systemd`.
    pub(crate) parameters: Vec<(String, Option<String>)>,
    /// The container's folder on the host.
    pub(crate) host_path: PathBuf,
}

/// What is left to be used once the container's view is built and the host's is gone.
#[derive(Debug)]
pub(crate) struct Built {
    /// The master side of the terminal, to be handed to the caller.
    master: Option<OwnedFd>,
    proc: Option<proc::PrivateProc>,
    filter: Option<Filter>,
    wait: Wait,
    preserved_fds: u32,
}

/// The main function of the container's process; does not come back but with a failure that it has told.
pub(crate) fn main(plan: &Plan, channel: &OwnedFd, inherited: Inherited) -> i32 {
    tell(channel, build(plan, channel, inherited).and_then(|built| become_program(plan, channel, built)))
}

/// Tells the caller why it came to nothing; the exit code of the process.
pub(crate) fn tell(channel: &OwnedFd, outcome: Result<Infallible, Failure>) -> i32 {
    let Err(failure) = outcome;
    // When even this fails, the caller sees the end of the channel and says that the process died.
    let _ = channel::say_failed(channel, failure);
    1
}

/// Builds the container's view of the world around the calling process, and lets go of the host.
pub(crate) fn build(plan: &Plan, channel: &OwnedFd, inherited: Inherited) -> Result<Built, Failure> {
    let Inherited {
        rootfs,
        mounts: given,
        network,
        joined,
        procs,
        stdio,
        cgroup_tasks,
        cgroup_views,
        filter,
        wait,
        preserved_fds,
        outside,
    } = inherited;
    become_separate(plan.process.oom_score_adj)?;
    join_namespaces(network.as_ref(), &joined)?;
    drop((network, joined));

    let engine_root = matches!(rootfs, Rootfs::Mount(_));
    let shown_at = root_for_hooks(plan, &rootfs);
    let trees = mounts::collect(plan, rootfs, given, procs)?;
    let mut cgroup = CgroupEntry { channel, tasks: &cgroup_tasks, namespace: plan, entered: false };
    let root_fd = mounts::attach_root(&trees, &shown_at)?;
    let root = Root::new(&root_fd);
    if engine_root {
        mounts::mark_root(root)?;
    }
    let system = mounts::make(plan, root, trees, &cgroup_views, &mut cgroup)?;
    let own_dev = plan.makes_dev();
    let null = if own_dev { devices::populate(root, &plan.devices)? } else { mask::host_null()? };
    let console = match &stdio {
        Stdio::Terminal => Some(console::open(root, plan.process.console_size)?),
        Stdio::Fds { .. } => None,
    };
    if let (Some(console), true) = (&console, own_dev) {
        console::bind(root, console)?;
    }
    cgroup.enter()?;
    hooks::while_creating(&plan.hooks, &plan.hook_state, outside.as_ref())?;
    drop(outside);
    set_names(plan)?;
    let proc = use_proc(plan, &system)?;
    mask::read_only(root, &system, &plan.readonly_paths)?;
    mask::mask(root, &system, &plan.masked_paths, null, plan.mount_label.as_deref())?;
    drop(system);
    mounts::finish(plan, root)?;
    mounts::pivot(plan, &root_fd)?;
    drop(root_fd);

    let master = place_stdio(stdio, console)?;
    let built = Built { master, proc, filter, wait, preserved_fds };
    // From here on the image and the user have a say.
    close_host_descriptors(&built.kept(channel), preserved_fds)?;
    Ok(built)
}

/// Where the root is put until it is the root. By default on top of `/`, where no path leads into it; but hooks know it by its own name.
fn root_for_hooks(plan: &Plan, rootfs: &Rootfs) -> PathBuf {
    match rootfs {
        Rootfs::Path(path) if plan.shows_root_to_hooks() => path.clone(),
        _ => PathBuf::from("/"),
    }
}

impl Built {
    fn kept<'a>(&'a self, channel: &'a OwnedFd) -> Vec<BorrowedFd<'a>> {
        let listener = match &self.wait {
            Wait::Socket(listener) => Some(listener.as_fd()),
            Wait::Not | Wait::Caller => None,
        };
        let proc = self.proc.as_ref().map(AsFd::as_fd);
        [Some(channel.as_fd()), self.master.as_ref().map(AsFd::as_fd), listener, proc].into_iter().flatten().collect()
    }
}

/// Becomes the user and the program.
pub(crate) fn become_program(plan: &Plan, channel: &OwnedFd, built: Built) -> Result<Infallible, Failure> {
    take_session(built.master.is_some())?;
    let Built { master, proc, filter, wait, preserved_fds } = built;
    let confinement = Confinement::of_plan(plan, filter.as_ref(), proc);
    let program = confinement.enter(channel, master)?;
    match &wait {
        Wait::Not => {}
        Wait::Caller => channel::wait_for_start(channel)?,
        // Held open until the exec: whoever connected waits for its end.
        Wait::Socket(listener) => std::mem::forget(accept_start(listener)?),
    }
    rights::install_filter(filter.as_ref(), &plan.process)?;
    // With no more rights than the program: they are the image's.
    let state = State { status: "created".into(), ..plan.hook_state.clone() };
    hooks::in_container(&plan.hooks, Moment::StartContainer, &state)?;
    program.execute(preserved_fds)
}

/// What a process becomes before its program.
pub(crate) struct Confinement<'a> {
    pub(crate) process: &'a ProcessPlan,
    /// `None` stays in the caller's.
    pub(crate) keyring: Option<&'a CStr>,
    /// The working directory is made where it is missing.
    pub(crate) makes_cwd: bool,
    pub(crate) filter: Option<&'a Filter>,
    pub(crate) proc: Option<proc::PrivateProc>,
}

/// A program that was found, with all that it gets.
#[derive(Debug)]
pub(crate) struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl<'a> Confinement<'a> {
    fn of_plan(plan: &'a Plan, filter: Option<&'a Filter>, proc: Option<proc::PrivateProc>) -> Confinement<'a> {
        Confinement { process: &plan.process, keyring: plan.keyring.as_deref(), makes_cwd: true, filter, proc }
    }

    /// Takes on everything but the filter, finds the program and says that all is ready.
    pub(crate) fn enter(self, channel: &OwnedFd, master: Option<OwnedFd>) -> Result<Program, Failure> {
        let process = self.process;
        if let Some(name) = self.keyring {
            if let (Some(label), Some(proc)) = (&process.selinux_label, &self.proc) {
                proc.set_key_label(label)?;
            }
            rights::join_keyring(name)?;
        }
        let user = user::resolve(process)?;
        rights::give_stdio(user.uid);
        if self.makes_cwd {
            command::make_cwd(&process.cwd)?;
        }
        rights::set_limits(process)?;
        let environment = command::environment(process, &user)?;
        rights::drop_to(process, &user, self.filter, self.proc)?;
        command::enter_cwd(&process.cwd)?;
        let path = command::look_up(&process.arguments[0], &environment)?;
        channel::say_ready(channel, master.as_ref()).map_err(|error| Error::step("report to the parent", error))?;
        Ok(Program { path, arguments: process.arguments.clone(), environment })
    }

    /// Takes on the filter, too, for a process that is born of this one and has nothing left to do but to run the program.
    pub(crate) fn enter_for_child(self, channel: &OwnedFd, master: Option<OwnedFd>) -> Result<Program, Failure> {
        let (process, filter) = (self.process, self.filter);
        let program = self.enter(channel, master)?;
        rights::install_filter(filter, process)?;
        Ok(program)
    }
}

impl Program {
    /// Runs it in a new session.
    pub(crate) fn execute_in_session(&self, terminal: bool, preserved_fds: u32) -> Result<Infallible, Failure> {
        take_session(terminal)?;
        self.execute(preserved_fds)
    }

    pub(crate) fn execute(&self, preserved_fds: u32) -> ! {
        command::execute(&self.path, &self.arguments, &self.environment, preserved_fds)
    }
}

/// Whether a process can have its filter before it is born: one that others see from its first moment then has no right to be taken over by them.
/// The filter must let through what is still to be done, and nothing may be lost on the way.
pub(crate) fn can_be_born_confined(process: &ProcessPlan, filter: Option<&Filter>) -> bool {
    let needed: &[(libc::c_long, &[u64])] = &[
        (libc::SYS_clone, &[sys_process::SIBLING_FLAGS]),
        (libc::SYS_setsid, &[]),
        (libc::SYS_ioctl, &[0, libc::TIOCSCTTY]),
        (libc::SYS_execve, &[]),
        (libc::SYS_write, &[2]),
        (libc::SYS_brk, &[]),
        (libc::SYS_mmap, &[]),
        (libc::SYS_munmap, &[]),
        (libc::SYS_exit_group, &[]),
    ];
    // A policy may say that it is not for children.
    process.scheduler.is_none() && seccomp::allows(filter, needed)
}

impl Built {
    /// Goes as far as possible for a child: see [`can_be_born_confined`]. A process that is still to be started cannot.
    pub(crate) fn confine(self, plan: &Plan, channel: &OwnedFd) -> Result<Prepared, Failure> {
        let must_wait = !matches!(self.wait, Wait::Not) || !plan.hooks.start_container.is_empty();
        if must_wait || !can_be_born_confined(&plan.process, self.filter.as_ref()) {
            return Ok(Prepared::Built(self));
        }
        let Built { master, filter, preserved_fds, .. } = self;
        let terminal = master.is_some();
        // The container's shows no process that is not in its pid namespace, such as this one.
        let proc = plan.process.needs_proc().then(proc::PrivateProc::open).transpose()?;
        let program = Confinement::of_plan(plan, filter.as_ref(), proc).enter_for_child(channel, master)?;
        Ok(Prepared::Confined { program, terminal, preserved_fds })
    }
}

/// How far the process in between has come for its child.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// The view is built.
    Built(Built),
    /// Only the program is left.
    Confined { program: Program, terminal: bool, preserved_fds: u32 },
}

impl Prepared {
    /// The rest, in the child.
    pub(crate) fn go_on(self, plan: &Plan, channel: &OwnedFd) -> Result<Infallible, Failure> {
        match self {
            Prepared::Built(built) => become_program(plan, channel, built),
            Prepared::Confined { program, terminal, preserved_fds } => {
                program.execute_in_session(terminal, preserved_fds)
            }
        }
    }
}

/// Waits for a connection of the same user; the socket's folder keeps others out as well.
fn accept_start(listener: &OwnedFd) -> Result<OwnedFd, Error> {
    let step = |error: std::io::Error| Error::step("wait for the start", error);
    loop {
        let connection = rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC)
            .map_err(|error| step(error.into()))?;
        if ferry_sys::socket::peer_uid(&connection).map_err(step)? == 0 {
            return Ok(connection);
        }
    }
}

/// No signal handling of the caller's, and nobody may look into it.
pub(crate) fn become_separate(oom_score: Option<i32>) -> Result<(), Error> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| Error::step("become non-dumpable", error))?;
    sys_process::reset_signals().map_err(|error| Error::step("reset signals", error))?;
    rustix::process::umask(Mode::empty());
    if let Some(adjustment) = oom_score {
        proc::set_oom_score(adjustment)?;
    }
    Ok(())
}

/// A session of its own, led from the terminal on stdin if there is one.
pub(crate) fn take_session(terminal: bool) -> Result<(), Error> {
    rustix::process::setsid().map_err(|error| Error::step("setsid", error))?;
    if terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
            .map_err(|error| Error::step("make the terminal the controlling one", error))?;
    }
    Ok(())
}

fn join_namespaces(network: Option<&OwnedFd>, joined: &[(Namespaces, OwnedFd)]) -> Result<(), Error> {
    if let Some(network) = network {
        namespace::join(network.as_fd(), Namespaces::NETWORK)
            .map_err(|error| Error::step("join the network namespace", error))?;
    }
    for (kind, fd) in joined.iter().filter(|(kind, _)| *kind != Namespaces::PID) {
        namespace::join(fd.as_fd(), *kind).map_err(|error| Error::step(format!("join namespace {kind:?}"), error))?;
    }
    Ok(())
}

/// The way into the cgroups, gone as late as possible: the caller makes them while the child mounts.
pub(crate) struct CgroupEntry<'a> {
    channel: &'a OwnedFd,
    tasks: &'a [PathBuf],
    namespace: &'a Plan,
    entered: bool,
}

impl CgroupEntry<'_> {
    /// Goes in, once; the process has one thread, so `tasks` takes it whole and without the wait that `cgroup.procs` has.
    pub(crate) fn enter(&mut self) -> Result<(), Error> {
        if self.entered {
            return Ok(());
        }
        self.entered = true;
        channel::wait_for_cgroup(self.channel)?;
        join_cgroups(self.tasks)?;
        if self.namespace.new_namespaces.contains(Namespaces::CGROUP) {
            namespace::unshare(Namespaces::CGROUP).map_err(|error| Error::step("make the cgroup namespace", error))?;
        }
        Ok(())
    }
}

/// Moves the calling process into cgroups by their `tasks` or `cgroup.procs` files.
pub(crate) fn join_cgroups(files: &[PathBuf]) -> Result<(), Error> {
    for path in files {
        let written = rustix::fs::openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| rustix::io::write(&file, b"0"));
        written.map_err(|error| Error::step(format!("join the cgroup by {}", path.display()), error))?;
    }
    Ok(())
}

/// Sets the kernel parameters by the container's procfs as it was mounted, else by one of our own; returns it for what is still to be written.
fn use_proc(plan: &Plan, system: &mounts::SystemMounts) -> Result<Option<proc::PrivateProc>, Error> {
    if plan.sysctls.is_empty() && !plan.process.needs_proc() {
        return Ok(None);
    }
    let proc = match &system.proc {
        Some(mounted) => proc::PrivateProc::of_mount(mounted)?,
        None => proc::PrivateProc::open()?,
    };
    proc.set_sysctls(&plan.sysctls)?;
    Ok(Some(proc))
}

fn set_names(plan: &Plan) -> Result<(), Error> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes())
            .map_err(|error| Error::step(format!("set hostname {name:?}"), error))?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes())
            .map_err(|error| Error::step(format!("set domainname {name:?}"), error))?;
    }
    Ok(())
}

/// Puts the standard streams in their places; returns the master of a terminal.
pub(crate) fn place_stdio(stdio: Stdio, console: Option<console::Console>) -> Result<Option<OwnedFd>, Error> {
    let step = |error: std::io::Error| Error::step("place the standard streams", error);
    match (stdio, console) {
        (Stdio::Fds { stdin, stdout, stderr }, _) => {
            // Any of them may be one of 0, 1, 2 itself, which an earlier placement would overwrite.
            let copies = [stdin, stdout, stderr].map(|fd| {
                rustix::io::fcntl_dupfd_cloexec(&fd, 3).map_err(|error| step(error.into())).inspect(|_| forget_low(fd))
            });
            for (number, copy) in copies.into_iter().enumerate() {
                sys_process::place_fd(copy?, number as i32).map_err(step)?;
            }
            Ok(None)
        }
        (Stdio::Terminal, Some(console)) => {
            for number in 0..3 {
                sys_process::place_fd(&console.slave, number).map_err(step)?;
            }
            Ok(Some(console.master))
        }
        (Stdio::Terminal, None) => Err(Error::internal("no terminal was opened")),
    }
}

/// A standard stream is not closed when the value that names it goes: its number is taken over.
fn forget_low(fd: OwnedFd) {
    if fd.as_raw_fd() < 3 {
        std::mem::forget(fd);
    }
}

/// Closes for good what is not the container's. Closing on exec would not do: the path of the program may name a descriptor.
pub(crate) fn close_host_descriptors(kept: &[BorrowedFd<'_>], preserved: u32) -> Result<(), Error> {
    sys_process::close_from(3 + preserved, kept).map_err(|error| Error::step("close descriptors", error))
}
