//! Running one more process in a container, as confined as the container's own.

use std::os::fd::OwnedFd;

use ferry_spec::runtime::{Process, Spec};

use crate::container::{Container, Stdio};
use crate::error::Error;

/// A running container to run a process in.
#[derive(Debug)]
pub struct ExecTarget {}

impl ExecTarget {
    /// A container of this process; `spec` as given to [`crate::create`].
    ///
    /// # Errors
    /// When the container has ended.
    pub fn from_container(_container: &Container, _spec: &Spec) -> Result<ExecTarget, Error> {
        Err(Error::unsupported("exec is not built yet"))
    }

    /// A container by the host pid of its process, for example after a restart of the caller.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn open(_pid: u32, _spec: &Spec, _cgroup_path: &str) -> Result<ExecTarget, Error> {
        Err(Error::unsupported("exec is not built yet"))
    }
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

/// Runs a process in a container; returns when `execve` has succeeded.
///
/// # Errors
/// The text is what Docker prints after "OCI runtime exec failed: exec failed: ".
pub fn exec(_target: &ExecTarget, _process: &Process, _stdio: Stdio) -> Result<ExecProcess, Error> {
    Err(Error::unsupported("exec is not built yet"))
}
