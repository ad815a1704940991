//! A container's network namespace.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ferry_sys::netns;

use crate::{
    error::Error,
    netlink::{Netlink, Refused, route},
    sysctl,
};

/// The loopback link is the first of every namespace.
const LOOPBACK: u32 = 1;

/// A network namespace, held open by descriptor.
///
/// The namespace lives while any `Sandbox` of it or any process in it does, so drop it as soon as
/// the container's process has exited (or has the namespace, if nothing will be attached later).
#[derive(Debug)]
pub struct Sandbox {
    namespace: OwnedFd,
    /// A socket inside; opened at the first use for namespaces that were not made here.
    netlink: Mutex<Option<Netlink>>,
}

impl Sandbox {
    /// Makes a namespace with loopback up and the sysctls that Docker sets: unprivileged `ping` and
    /// unprivileged ports.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn new() -> Result<Self, Error> {
        let (namespace, prepared) = netns::create(prepare).map_err(Error::Namespace)?;
        Ok(Self { namespace, netlink: Mutex::new(Some(prepared?)) })
    }

    /// Opens the namespace of the process that a pidfd means: after a restart of the daemon and for
    /// `container:` networks.
    ///
    /// # Errors
    /// Fails when the process has ended.
    pub fn of_process(process: BorrowedFd<'_>) -> Result<Self, Error> {
        let namespace = netns::of_process(process).map_err(Error::Namespace)?;
        Ok(Self::from(namespace))
    }

    /// Runs `work` with a netlink socket inside.
    pub(crate) fn with_netlink<T>(&self, work: impl FnOnce(&mut Netlink) -> Result<T, Error>) -> Result<T, Error> {
        let mut netlink: MutexGuard<'_, Option<Netlink>> = self.netlink.lock().unwrap_or_else(PoisonError::into_inner);
        if netlink.is_none() {
            *netlink = Some(self.run_inside(|| open_route().map_err(Error::Namespace))?);
        }
        work(netlink.as_mut().expect("opened above"))
    }

    /// Runs `inside` on a thread inside and `here` on this one at the same time. The first error is
    /// that of `here`.
    pub(crate) fn run_beside(
        &self,
        inside: impl FnOnce() -> Result<(), Error> + Send,
        here: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (inside, here) = netns::run_beside(self.namespace.as_fd(), inside, here).map_err(Error::Namespace)?;
        here.and(inside)
    }

    /// Runs `work` on a thread inside.
    pub(crate) fn run_inside<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        netns::run_inside(self.namespace.as_fd(), work).map_err(Error::Namespace)?
    }
}

impl From<OwnedFd> for Sandbox {
    fn from(namespace: OwnedFd) -> Self {
        Self { namespace, netlink: Mutex::new(None) }
    }
}

impl AsFd for Sandbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

/// Opens a routing socket in the calling thread's namespace.
pub(crate) fn open_route() -> io::Result<Netlink> {
    // NETLINK_ROUTE is protocol 0, which rustix writes as "the default one".
    Netlink::open(None)
}

fn prepare() -> Result<Netlink, Error> {
    let mut netlink = open_route().map_err(Error::Namespace)?;
    netlink
        .send(&[route::link_up(LOOPBACK)])
        .map_err(|Refused { source, .. }| Error::kernel("set up link", "lo", source))?;
    sysctl::write_inside_if_present("ipv4/ping_group_range", "0 2147483647")?;
    sysctl::write_inside_if_present("ipv4/ip_unprivileged_port_start", "0")?;
    Ok(netlink)
}
