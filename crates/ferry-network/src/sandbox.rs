//! A container's network namespace.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::Error;

/// A network namespace, held open by descriptor.
///
/// The namespace lives while any `Sandbox` of it or any process in it does, so drop it as soon as
/// the container's process has exited (or has the namespace, if nothing will be attached later).
#[derive(Debug)]
pub struct Sandbox {
    namespace: OwnedFd,
}

impl Sandbox {
    /// Opens the namespace of a running process: after a restart of the daemon and for
    /// `container:` networks.
    ///
    /// # Errors
    /// Fails when there is no such process.
    pub fn of_process(pid: u32) -> Result<Self, Error> {
        let namespace = ferry_sys::netns::of_process(pid).map_err(Error::Namespace)?;
        Ok(Self { namespace })
    }
}

impl AsFd for Sandbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}
