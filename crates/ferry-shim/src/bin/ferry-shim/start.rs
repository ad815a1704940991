//! Building the container, and running more processes in it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use ferry_runtime::Rootfs;
use ferry_runtime::cgroup::Cgroup;
use ferry_shim::protocol::{Exec, LogOptions, Reply, ShimError, ShimErrorKind, Start, Streams, Target};
use ferry_spec::runtime::{LinuxNamespaceKind, LinuxResources, Process as SpecProcess, ScopeName, Spec};

use crate::container::{Container, failure, forget_exit, internal};
use crate::door::Door;
use crate::log_sink::LogSink;
use crate::poller::{EventFlags, Registration, Token};
use crate::process::{INIT, Process};
use crate::requests::Answer;
use crate::runtime::{Plan, Runtime};
use crate::shim::Shim;
use crate::stdio;

/// What a start leaves for after its reply, since nobody waits for it.
#[derive(Debug)]
pub(crate) struct AfterStart {
    spec: Spec,
    run_dir: PathBuf,
    shim_cgroup: Option<String>,
    shim_scope: Option<ScopeName>,
}

/// The descriptors of a start, by name.
struct StartFds {
    container_dir: OwnedFd,
    run_dir: OwnedFd,
    rootfs: Option<OwnedFd>,
    network: Option<OwnedFd>,
    logger: Option<OwnedFd>,
    mounts: Vec<(usize, OwnedFd)>,
    attached: Vec<(OwnedFd, Streams)>,
}

impl Shim {
    /// Builds the container and runs its program; on failure nothing of it is left.
    pub(crate) fn start(&mut self, control: u32, start: Start, fds: Vec<OwnedFd>) -> Answer {
        if self.container.is_some() {
            return Err(failure(ShimErrorKind::Invalid, "this shim has a container already"));
        }
        let fds = StartFds::name(&start, fds)?;
        self.listen(&fds.run_dir)?;
        let started = self.start_listening(control, start, fds);
        if started.is_err() {
            self.stop_listening();
        }
        started
    }

    fn listen(&mut self, run_dir: &OwnedFd) -> Result<(), ShimError> {
        let door = Door::open(run_dir, &self.poller).map_err(|error| internal("listen on shim.sock", &error))?;
        self.door = Some(door);
        Ok(())
    }

    /// Takes the socket away.
    pub(crate) fn stop_listening(&mut self) {
        if let Some(door) = self.door.take() {
            door.close();
        }
    }

    fn start_listening(&mut self, control: u32, start: Start, fds: StartFds) -> Answer {
        let mut spec = start.spec;
        let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
        if let Some(process) = &mut spec.process {
            do_not_inherit_oom_score(process);
        }
        let log = LogSink::open(start.log, &fds.container_dir, fds.logger)?;
        forget_exit(fds.container_dir.as_fd()).map_err(|error| internal("remove exit.json", &error))?;
        let (theirs, mut ours) =
            stdio::prepare(terminal, start.open_stdin).map_err(|error| internal("make standard streams", &error))?;
        let rootfs = match fds.rootfs {
            Some(mount) => Rootfs::Mount(mount),
            None => Rootfs::Path(spec.root.as_ref().map(|root| PathBuf::from(&root.path)).unwrap_or_default()),
        };
        let own_pid_namespace = has_pid_namespace(&spec);
        let plan = Plan {
            id: &start.id,
            spec: &spec,
            cgroup: &start.cgroup,
            scope: start.scope.as_ref(),
            run_dir: &fds.run_dir,
            run_dir_path: &start.run_dir,
            rootfs,
            mounts: fds.mounts,
            network: fds.network,
            stdio: theirs,
            foreign: start.foreign_runtime,
        };
        ours.watch(&self.poller, INIT);
        let (runtime, console) = Runtime::run(plan).inspect_err(|_| ours.unwatch(&self.poller, INIT))?;
        let pid = runtime.pid();
        let kept = runtime.pidfd().try_clone_to_owned().and_then(|pidfd| {
            console.map(|console| stdio::adopt_console(&mut ours, console, start.open_stdin)).transpose()?;
            Ok(pidfd)
        });
        let pidfd = match kept {
            Ok(pidfd) => pidfd,
            Err(error) => {
                ours.unwatch(&self.poller, INIT);
                runtime.abandon(start.scope.as_ref());
                return Err(internal("take over the process", &error));
            }
        };
        let mut process = Process::new(INIT, Target::Init, pid, pidfd, ours, start.stdin_once);
        for (socket, streams) in fds.attached {
            process.attach(control, socket, streams);
        }
        self.processes.push(process);
        self.next_process = INIT + 1;
        self.container = Some(Container {
            id: start.id,
            container_dir: fds.container_dir,
            run_dir: fds.run_dir,
            runtime,
            scope: start.scope,
            own_pid_namespace,
            log,
            oom: None,
            oom_registration: Registration::default(),
            oom_told: false,
            exit: None,
            cgroup_removed: false,
        });
        self.after_start = Some(AfterStart {
            spec,
            run_dir: start.run_dir,
            shim_cgroup: start.shim_cgroup,
            shim_scope: start.shim_scope,
        });
        Ok(Reply::Started { pid })
    }

    /// What nobody waits for: files for other tools and for the end, the shim's own cgroup, notices about memory.
    pub(crate) fn finish_start(&mut self) {
        let (Some(after), Some(container)) = (self.after_start.take(), &mut self.container) else {
            return;
        };
        // Without this file execs fail, and say so; the container runs.
        let _ = container.write_state(&after.spec, &after.run_dir);
        // A file system that cannot set space aside, or has none left, may have some at the end.
        let _ = container.reserve_exit();
        // No memory controller, no notices.
        if let Ok(oom) = container.cgroup().oom_event_fd() {
            let registered =
                container.oom_registration.set(&self.poller, &oom, Token::Oom, Some(EventFlags::IN | EventFlags::PRI));
            container.oom = registered.is_ok().then_some(oom);
        }
        let logger = container.log.logger_pid();
        // Where it was born is a place too, if a less tidy one.
        let _ = match (after.shim_scope, after.shim_cgroup) {
            (Some(scope), _) => {
                let pids: Vec<u32> =
                    [Some(std::process::id()), logger.map(i32::cast_unsigned)].into_iter().flatten().collect();
                ferry_runtime::systemd::join(&scope, &pids)
            }
            (None, Some(path)) => Cgroup::create(&path, &LinuxResources::default()).and_then(|cgroup| {
                cgroup.join()?;
                logger.map_or(Ok(()), |pid| cgroup.adopt(pid))
            }),
            (None, None) => Ok(()),
        };
    }

    /// Runs another process in the container.
    pub(crate) fn exec(&mut self, control: u32, exec: Exec, fds: Vec<OwnedFd>) -> Answer {
        let container = self.running()?;
        if container.cgroup().is_frozen().unwrap_or(false) {
            // Its process would be frozen before it runs, and we with it.
            return Err(failure(ShimErrorKind::Invalid, "the container is paused"));
        }
        let target = Target::Exec(exec.exec_id);
        if self.processes.iter().any(|process| process.target == target) {
            return Err(failure(ShimErrorKind::Invalid, "an exec of this id exists"));
        }
        let attached = pair(fds, &exec.attached)?;
        let spec = container.read_spec().map_err(|error| internal("read the container's configuration", &error))?;
        let mut wanted = exec.process;
        do_not_inherit_oom_score(&mut wanted);
        let (theirs, mut ours) = stdio::prepare(wanted.terminal, exec.open_stdin)
            .map_err(|error| internal("make standard streams", &error))?;
        ours.watch(&self.poller, self.next_process);
        let started = container.runtime.exec(&spec, &wanted, theirs);
        let started = started.inspect_err(|_| ours.unwatch(&self.poller, self.next_process))?;
        if let Some(console) = started.console {
            stdio::adopt_console(&mut ours, console, exec.open_stdin)
                .map_err(|error| internal("take the terminal", &error))?;
        }
        // Docker closes the stdin of an exec with the client that brought it.
        let mut process = Process::new(self.next_process, target, started.pid, started.pidfd, ours, true);
        for (socket, streams) in attached {
            process.attach(control, socket, streams);
        }
        self.next_process += 1;
        self.processes.push(process);
        Ok(Reply::Started { pid: started.pid })
    }
}

impl StartFds {
    fn name(start: &Start, fds: Vec<OwnedFd>) -> Result<Self, ShimError> {
        let mut fds = VecDeque::from(fds);
        let mut next = |wanted: bool| match wanted.then(|| fds.pop_front()) {
            Some(None) => Err(failure(ShimErrorKind::Invalid, "start takes more descriptors")),
            Some(fd) => Ok(fd),
            None => Ok(None),
        };
        let (container_dir, run_dir) = (next(true)?, next(true)?);
        let (rootfs, network) = (next(start.rootfs_fd)?, next(start.network_fd)?);
        let logger = next(matches!(start.log, LogOptions::Remote(_)))?;
        let (Some(container_dir), Some(run_dir)) = (container_dir, run_dir) else {
            return Err(failure(ShimErrorKind::Invalid, "start takes more descriptors"));
        };
        let mounts = start.mount_fds.iter().map(|&index| Ok((index, next(true)?)));
        let mounts = mounts.collect::<Result<Vec<_>, ShimError>>()?;
        let mounts = mounts.into_iter().filter_map(|(index, fd)| Some((index, fd?))).collect();
        let attached = pair(fds.into(), &start.attached)?;
        Ok(Self { container_dir, run_dir, rootfs, network, logger, mounts, attached })
    }
}

fn pair(fds: Vec<OwnedFd>, streams: &[Streams]) -> Result<Vec<(OwnedFd, Streams)>, ShimError> {
    if fds.len() != streams.len() {
        let message = format!("{} descriptors came for {} attached clients", fds.len(), streams.len());
        return Err(failure(ShimErrorKind::Invalid, message));
    }
    Ok(fds.into_iter().zip(streams.iter().copied()).collect())
}

/// The shim itself is spared by the kernel; what it starts is not, unless it is told to be.
fn do_not_inherit_oom_score(process: &mut SpecProcess) {
    process.oom_score_adj.get_or_insert(0);
}

fn has_pid_namespace(spec: &Spec) -> bool {
    let namespace = spec.linux.as_ref().and_then(|linux| linux.namespace(LinuxNamespaceKind::Pid));
    namespace.is_some_and(|namespace| namespace.path.is_none())
}
