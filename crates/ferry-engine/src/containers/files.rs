//! Work in a container's files: copies in and out, exports, comparisons.
//!
//! Nothing here opens a path of a container. Each piece of work is one process that goes into the container's view of its files and has no other
//! (`ferry_shim::files`); this side starts it, hands bytes on and words the outcome.
//!
//! Lock: `Container::files`, taken for as long as the files of a container that does not run are mounted for such a process, and by a start:
//! the writable layer is used by one mount at a time. A start takes it after the verb lock; work takes it without that.

pub(in crate::containers) mod archive;
pub(super) mod changes;
mod commit;
mod export;
pub(in crate::containers) mod process;

pub use self::archive::{ArchiveStream, UnpackOptions};
pub use self::commit::CommitOptions;
pub(super) use self::process::FilesLock;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ferry_shim::files::{Action, View, Work};
use ferry_spec::runtime::Mount;
use ferry_store::MountOptions;

use self::process::{FilesProcess, Held};
use super::process::process_of;
use super::quota::is_limited;
use super::record::{MountKind, Record};
use super::sources::LentVolumes;
use super::state::Intent;
use super::{Container, Containers, bundle};
use crate::blocking;
use crate::error::{Context, Error, Result};

/// Where the kernel shows itself in a container that runs; Docker's copies see what the image has there.
const KERNEL_PLACES: [&str; 3] = ["/proc", "/sys", "/dev"];

/// How much of a container is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// What its processes see.
    Everything,
    /// Its root file system without what is mounted in it.
    RootAlone,
}

impl Containers {
    /// Starts work in the files of a container, whether it runs or not.
    async fn work_in_files(&self, container: &Arc<Container>, scope: Scope, action: Action) -> Result<FilesProcess> {
        loop {
            if let Some(pidfd) = process_of(container).await? {
                let view = match scope {
                    Scope::Everything => View::Running { hidden: hidden_places(&container.snapshot()) },
                    Scope::RootAlone => View::RunningRoot,
                };
                return FilesProcess::start(&self.inner.shims, Work { view, action }, vec![pidfd], None);
            }
            let lock = container.files.take().await;
            if container.watch().borrow().removed || container.with_record(|record| record.intent == Intent::Removing) {
                return Err(Error::not_found(format!("No such container: {}", container.id)));
            }
            // Whoever waited with us may have started it.
            if container.live().is_some() {
                continue;
            }
            let containers = self.clone();
            let record = container.snapshot();
            let stopped = blocking(move || containers.stopped_files(&record, scope)).await?;
            let view = View::Stopped { mounts: stopped.mounts, given: stopped.given };
            let held = Held { volumes: stopped.volumes, lock };
            return FilesProcess::start(&self.inner.shims, Work { view, action }, stopped.fds, Some(held));
        }
    }

    /// The root file system of a container that does not run, and what is mounted in it. Blocks.
    fn stopped_files(&self, record: &Record, scope: Scope) -> Result<StoppedFiles> {
        let folder = self.data_folder(&record.id);
        let options =
            MountOptions { limited: is_limited(record), label: record.mount_label(), ..MountOptions::default() };
        let mounted = self.inner.store.mount_rootfs(
            record.chain_id.as_ref(),
            &folder.join("upper"),
            &folder.join("work"),
            options,
        );
        let rootfs = mounted.context("cannot mount the root file system")?;
        let mut files = StoppedFiles { fds: vec![rootfs], mounts: Vec::new(), given: Vec::new(), volumes: None };
        if scope == Scope::RootAlone {
            return Ok(files);
        }
        let mut record = record.clone();
        files.volumes = Some(self.lend_volumes(&mut record)?);
        let record = &record;
        for (place, mount) in bundle::file_mounts(record, &folder.join("etc")) {
            let own = place.map(|index| (index, &record.mounts[index]));
            let tree = own.map(|(index, own)| self.unnamed_source(record, index, own)).transpose()?.flatten();
            if let Some(tree) = tree {
                files.given.push(files.mounts.len());
                files.fds.push(tree);
            }
            files.mounts.push(mount);
        }
        Ok(files)
    }
}

/// What the view of a container that does not run is made from.
struct StoppedFiles {
    /// The root file system, then one tree for each of `given`.
    fds: Vec<OwnedFd>,
    mounts: Vec<Mount>,
    given: Vec<usize>,
    volumes: Option<LentVolumes>,
}

/// The kernel's places, but for those where the user has mounts of their own.
fn hidden_places(record: &Record) -> Vec<String> {
    let own = |place: &&&str| {
        let below = format!("{place}/");
        !record.mounts.iter().any(|mount| mount.destination == **place || mount.destination.starts_with(&below))
    };
    KERNEL_PLACES.iter().filter(own).map(|place| (*place).to_owned()).collect()
}

/// Volumes and binds with their places.
fn written_places(record: &Record) -> Vec<(String, bool)> {
    let bound = record.mounts.iter().filter(|mount| !matches!(mount.kind, MountKind::Tmpfs { .. }));
    bound.map(|mount| (mount.destination.clone(), mount.writable)).collect()
}

/// Opens a folder of ours to hand it on.
fn open_folder(path: &std::path::Path) -> Result<OwnedFd> {
    std::fs::File::open(path).map(OwnedFd::from).context(format!("cannot open {}", path.display()))
}
