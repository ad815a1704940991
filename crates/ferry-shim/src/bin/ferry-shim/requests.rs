//! One function per request of the protocol.

use std::os::fd::OwnedFd;

use ferry_shim::protocol::{Reply, Request, ShimError, ShimErrorKind, State, Streams, Target};
use ferry_spec::runtime::LinuxResources;
use rustix::io::Errno;
use rustix::termios::Winsize;

use crate::container::{Container, failure, internal, shim_error};
use crate::process::{INIT, Process};
use crate::shim::Shim;
use crate::usage;

/// What most requests come to.
pub(crate) type Answer = Result<Reply, ShimError>;

/// The reply to something that is no request of this version.
pub(crate) fn not_understood(why: &str) -> Reply {
    Reply::Error(failure(ShimErrorKind::Invalid, format!("the shim does not understand the request: {why}")))
}

impl Shim {
    /// Does what is asked over the control connection of that number.
    pub(crate) fn answer(&mut self, control: u32, request: Request, fds: Vec<OwnedFd>) -> Reply {
        let answer = match request {
            Request::Start(start) => self.start(control, *start, fds),
            Request::Exec(exec) => self.exec(control, *exec, fds),
            Request::Attach { target, streams } => self.attach(control, &target, streams, fds),
            Request::Kill { target, signal, all } => self.kill(&target, signal, all),
            Request::Resize { target, height, width } => self.resize(&target, height, width),
            Request::Pause => self.with_cgroup(|container| container.cgroup().freeze()),
            Request::Resume => self.with_cgroup(|container| container.cgroup().thaw()),
            Request::State => self.state(),
            Request::Pids => self.pids(),
            Request::Usage => self.usage(),
            Request::Update(resources) => self.update(&resources),
            Request::Shutdown => self.shut_down(),
        };
        answer.unwrap_or_else(Reply::Error)
    }

    fn attach(&mut self, control: u32, target: &Target, streams: Streams, mut fds: Vec<OwnedFd>) -> Answer {
        let (Some(socket), true) = (fds.pop(), fds.is_empty()) else {
            return Err(failure(ShimErrorKind::Invalid, "attach takes one descriptor"));
        };
        self.find(target)?.attach(control, socket, streams);
        Ok(Reply::Ok)
    }

    fn kill(&mut self, target: &Target, signal: i32, all: bool) -> Answer {
        let process = self.find(target)?;
        if all {
            let container = self.running()?;
            container.cgroup().signal_all(signal).map_err(|error| shim_error(&error))?;
            return Ok(Reply::Ok);
        }
        match ferry_sys::event::send_signal(process.pidfd(), signal) {
            Ok(()) => Ok(Reply::Ok),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::SRCH) => Err(has_ended(target)),
                Some(Errno::INVAL) => Err(failure(ShimErrorKind::Invalid, format!("there is no signal {signal}"))),
                _ => Err(internal("send signal", &error)),
            },
        }
    }

    fn resize(&mut self, target: &Target, height: u16, width: u16) -> Answer {
        let Some(console) = &self.find(target)?.console else {
            return Err(failure(ShimErrorKind::Invalid, "the process has no terminal"));
        };
        let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(console, size).map_err(|errno| internal("set window size", &errno.into()))?;
        Ok(Reply::Ok)
    }

    fn with_cgroup(&mut self, act: impl FnOnce(&Container) -> Result<(), ferry_runtime::Error>) -> Answer {
        act(self.running()?).map_err(|error| shim_error(&error))?;
        Ok(Reply::Ok)
    }

    fn update(&self, resources: &LinuxResources) -> Answer {
        let container = self.running()?;
        container.runtime.update(resources, container.scope.as_ref())?;
        Ok(Reply::Ok)
    }

    fn state(&self) -> Answer {
        let container = self.container.as_ref().ok_or_else(no_container)?;
        let execs = self.processes.iter().filter(|process| process.code.is_none()).filter_map(|process| match &process
            .target
        {
            Target::Exec(id) => Some((id.clone(), process.pid)),
            Target::Init => None,
        });
        Ok(Reply::State(State {
            id: container.id.clone(),
            pid: container.runtime.pid(),
            exit: container.exit.clone(),
            // Without a freezer nothing is frozen; and a cgroup that is gone is not either.
            paused: container.exit.is_none() && container.cgroup().is_frozen().unwrap_or(false),
            execs: execs.collect(),
        }))
    }

    fn pids(&self) -> Answer {
        Ok(Reply::Pids(self.running()?.cgroup().pids().map_err(|error| shim_error(&error))?))
    }

    fn usage(&self) -> Answer {
        let container = self.running()?;
        let stats = container.cgroup().stats().map_err(|error| shim_error(&error))?;
        Ok(Reply::Usage(Box::new(usage::of(stats, container.runtime.pid()))))
    }

    fn shut_down(&mut self) -> Answer {
        if self.container.is_some() && !self.has_exited() {
            return Err(failure(ShimErrorKind::Invalid, "the container has not ended"));
        }
        self.shutdown = true;
        self.clean_up()?;
        Ok(Reply::Ok)
    }

    /// A process that has not ended.
    fn find(&mut self, target: &Target) -> Result<&mut Process, ShimError> {
        let found = self.processes.iter_mut().find(|process| process.target == *target && process.code.is_none());
        found.ok_or_else(|| has_ended(target))
    }

    /// The container while its process has not ended.
    pub(crate) fn running(&self) -> Result<&Container, ShimError> {
        let alive = self.processes.iter().any(|process| process.number == INIT && process.code.is_none());
        self.container.as_ref().filter(|_| alive).ok_or_else(no_container)
    }
}

fn no_container() -> ShimError {
    failure(ShimErrorKind::NotRunning, "the container is not running")
}

fn has_ended(target: &Target) -> ShimError {
    match target {
        Target::Init => no_container(),
        Target::Exec(id) => failure(ShimErrorKind::NotRunning, format!("exec {id} is not running")),
    }
}
