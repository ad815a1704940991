//! Making a container: what the caller gives and what it gets.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ferry_spec::runtime::Spec;

use crate::cgroup::Cgroup;
use crate::error::Error;

/// The root file system of a new container.
#[derive(Debug)]
pub enum Rootfs {
    /// A directory; bind mounted.
    Path(PathBuf),
    /// A detached mount (`fsmount` or `open_tree(OPEN_TREE_CLONE)`), moved in.
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
            network_namespace: None,
            stdio,
            seccomp_cache_dir: None,
            bundle: None,
            preserved_fds: 0,
            start_socket: None,
        }
    }
}

/// A container whose process was made by this process.
///
/// Dropping it ends nothing; the caller waits for [`Container::pid`] and removes [`Container::cgroup`].
#[derive(Debug)]
pub struct Container {
    pid: u32,
    pidfd: OwnedFd,
    console: Option<OwnedFd>,
    cgroup: Cgroup,
    warnings: Vec<String>,
}

impl Container {
    /// Host pid of the container's process, a child of the caller.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its pidfd.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
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

    /// Lets the created process go on to its program; returns when `execve` has succeeded.
    ///
    /// # Errors
    /// When the process died or its program could not be started; the process has then ended.
    pub fn start(&mut self) -> Result<(), Error> {
        Err(Error::unsupported("start is not built yet"))
    }
}

/// Makes a container and leaves its process waiting before `execve`.
///
/// # Errors
/// Nothing is left behind; the text is what Docker prints after "OCI runtime create failed: runc create failed: ".
pub fn create(_options: CreateOptions) -> Result<Container, Error> {
    Err(Error::unsupported("create is not built yet"))
}

/// Makes a container and starts its program in one round trip.
///
/// # Errors
/// As for [`create`] and [`Container::start`].
pub fn run(_options: CreateOptions) -> Result<Container, Error> {
    Err(Error::unsupported("run is not built yet"))
}
