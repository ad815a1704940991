//! Containers whose namespaces another one joins when it starts.
//!
//! Their processes are held by descriptor and their namespaces opened from that, once: a donor may end in the midst of the start, and its
//! number would lead into whatever process has got it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::process::process_of;
use super::record::Record;
use super::state::Status;
use super::{Container, Containers};
use crate::error::{Context, Error, ErrorKind, Result};

/// What others give to a container that starts.
pub(super) struct Donors {
    ipc: Option<Donor>,
    pid: Option<Donor>,
    network: Option<OwnedFd>,
}

/// A process and one of its namespaces.
pub(super) struct Donor {
    process: OwnedFd,
    namespace: OwnedFd,
}

impl Donors {
    /// Whose IPC namespace and shared memory are joined.
    pub(super) fn ipc(&self) -> Option<&Donor> {
        self.ipc.as_ref()
    }

    /// Whose pid namespace is joined.
    pub(super) fn pid(&self) -> Option<&Donor> {
        self.pid.as_ref()
    }

    /// The process whose network namespace is joined.
    pub(super) fn network(&self) -> Option<BorrowedFd<'_>> {
        self.network.as_ref().map(AsFd::as_fd)
    }
}

impl Donor {
    fn of(process: OwnedFd, kind: &str) -> Result<Donor> {
        let namespace = ferry_sys::namespace::of_process(process.as_fd(), kind);
        let namespace = namespace.context(format!("cannot open the {kind} namespace of the other container"))?;
        Ok(Donor { process, namespace })
    }

    /// Where the namespace is to be found for as long as this is kept.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd())
    }

    /// A pidfd.
    pub(super) fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

impl Containers {
    /// Finds and holds whatever containers give to one that starts.
    pub(super) async fn donors(&self, record: &Record) -> Result<Donors> {
        let failed = |what: &str, kind: fn(ErrorKind) -> ErrorKind| {
            let text = format!("failed to join {what} namespace");
            move |error: Error| Error::new(kind(error.kind()), text).with_source(error)
        };
        let host = &record.host_config;
        let mut donors = Donors { ipc: None, pid: None, network: None };
        if let Some(other) = host.ipc_mode.strip_prefix("container:") {
            donors.ipc = Some(self.ipc_donor(other).await.map_err(failed("IPC", |kind| kind))?);
        }
        if let Some(other) = host.pid_mode.strip_prefix("container:") {
            // Docker finds out while it words the configuration, and every such failure is its own.
            donors.pid = Some(self.pid_donor(other).await.map_err(failed("PID", |_| ErrorKind::Internal))?);
        }
        if let Some(other) = host.network_mode.strip_prefix("container:") {
            donors.network = Some(self.network_donor(other).await?);
        }
        Ok(donors)
    }

    /// A container whose IPC namespace and `/dev/shm` may be shared.
    async fn ipc_donor(&self, id: &str) -> Result<Donor> {
        let (other, process) = self.donor(id).await?;
        let shareable = other.with_record(|record| {
            let own_shm = record.mounts.iter().any(|mount| mount.destination == "/dev/shm");
            !own_shm && !matches!(record.host_config.ipc_mode.as_str(), "private" | "none")
        });
        match shareable {
            true => Donor::of(process, "ipc"),
            false => Err(Error::invalid(format!(
                "container {id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
            ))),
        }
    }

    async fn pid_donor(&self, id: &str) -> Result<Donor> {
        let (_, process) = self.donor(id).await?;
        Donor::of(process, "pid")
    }

    async fn network_donor(&self, id: &str) -> Result<OwnedFd> {
        let other = self
            .find(id)
            .map_err(|error| Error::internal("joining network namespace of container").with_source(error))?;
        let process = match other.status().is_live() {
            true => process_of(&other).await?,
            false => None,
        };
        process.ok_or_else(|| Error::conflict(format!("cannot join network of a non running container: {}", other.id)))
    }

    /// A container that runs, and its process.
    async fn donor(&self, id: &str) -> Result<(Arc<Container>, OwnedFd)> {
        let other = self.find(id).map_err(|error| Error::invalid(error.text()))?;
        let process = match other.status() {
            Status::Restarting => {
                return Err(Error::conflict(format!(
                    "container {id} is restarting, wait until the container is running"
                )));
            }
            status if status.is_live() => process_of(&other).await?,
            _ => None,
        };
        match process {
            Some(process) => Ok((other, process)),
            None => Err(Error::conflict(format!("container {id} is not running"))),
        }
    }
}
