//! `DELETE /containers/{id}`: the intent first, then what others see, then the bytes.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::ending::{EndVerb, EndedBy};
use super::record::{MountKind, Record};
use super::state::{Intent, Status};
use super::stop::Ending;
use super::{Container, Containers};
use crate::error::{Error, Result};

/// How to remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Kill it first when it runs.
    pub force: bool,
    /// Remove its anonymous volumes.
    pub volumes: bool,
    /// Remove a link, not the container.
    pub link: bool,
}

impl Containers {
    /// Removes a container.
    ///
    /// API: `DELETE /containers/{id}`
    ///
    /// # Errors
    /// NotFound; Conflict when it runs and force was not asked for, or when it is going already.
    pub async fn remove(&self, reference: &str, options: RemoveOptions) -> Result<()> {
        if options.link {
            let (containers, name) = (self.clone(), reference.to_owned());
            return crate::blocking(move || containers.remove_link(&name)).await;
        }
        let container = self.find(reference)?;
        let containers = self.clone();
        crate::finish(async move { containers.remove_found(&container, options).await }).await
    }

    pub(super) async fn remove_found(&self, container: &Arc<Container>, options: RemoveOptions) -> Result<()> {
        let record = container.snapshot();
        if record.intent == Intent::Removing {
            return Err(Error::conflict(format!("removal of container {} is already in progress", record.name)));
        }
        loop {
            if container.status().counts_as_running() {
                if !options.force {
                    return Err(in_the_way(&container.snapshot()));
                }
                self.end_to_remove(container).await?;
            }
            if options.force {
                container.announce(|change| change.going = true);
            }
            let _verb = container.verb.lock().await;
            // Between the look above and the lock somebody may have started or removed it.
            if container.watch().borrow().removed {
                return Ok(());
            }
            if !container.status().counts_as_running() {
                self.remove_ended(container, options.volumes).await;
                return Ok(());
            }
        }
    }

    async fn end_to_remove(&self, container: &Arc<Container>) -> Result<()> {
        self.update(container, |record| {
            record.intent = Intent::Removing;
            record.stopped_by_hand = true;
        })?;
        self.end_run(container, &Ending::kill(), EndedBy::new(EndVerb::Remove, 0, None)).await.map(drop)
    }

    /// Removes a container that does not run; the caller holds the verb lock. When this returns, name, ports and address are free and the
    /// record is gone; the bytes follow.
    pub(super) async fn remove_ended(&self, container: &Arc<Container>, volumes: bool) {
        let record = container.snapshot();
        let intend = |record: &mut Record| record.intent = Intent::Removing;
        if volumes && has_anonymous_volume(&record) {
            self.update_whatever(container, intend);
        } else {
            // Removing the record is the first step that others could see half-done.
            Self::update_in_memory(container, intend);
        }
        self.forget(container);
        container.waiting().clear();
        self.inner.execs.forget_container(&container.id);
        self.release_references(&record);
        let volume_folders = if volumes { self.forget_anonymous_volumes(&record) } else { Vec::new() };
        let folder = self.data_folder(&record.id);
        if let Err(error) = self.inner.syncer.remove(&folder.join("container.json")) {
            tracing::error!(container = %record.name, %error, "record not removed; the next start finishes the removal");
        }
        self.publish(&record, "destroy", &[]);
        container.announce(|change| {
            change.removed = true;
            change.running = false;
        });
        self.remove_bytes(&record, volume_folders);
    }

    /// A start that failed takes a `--rm` container with it.
    pub(super) async fn remove_after_failure(&self, container: &Arc<Container>) {
        let _verb = container.verb.lock().await;
        if !container.status().counts_as_running() && !container.watch().borrow().removed {
            self.remove_ended(container, true).await;
        }
    }

    fn release_references(&self, record: &Record) {
        for mount in &record.mounts {
            if let MountKind::Volume { name, .. } = &mount.kind {
                self.inner.volumes.release(name, &record.id);
            }
        }
        self.inner.images.release(&record.id);
    }

    /// Before the record goes, for nobody would know of them afterwards.
    fn forget_anonymous_volumes(&self, record: &Record) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for mount in &record.mounts {
            let MountKind::Volume { name, anonymous: true, .. } = &mount.kind else { continue };
            if self.inner.volumes.is_foreign(name) {
                self.inner.volumes.remove_behind(name);
                continue;
            }
            match self.inner.volumes.forget(name) {
                Ok(folder) => folders.push(folder),
                // Another container has it by its name.
                Err(error) => tracing::debug!(volume = %name, error = %error.text(), "anonymous volume kept"),
            }
        }
        folders
    }

    /// In the background; a start takes up what a crash leaves, for a folder without a record is nobody's.
    fn remove_bytes(&self, record: &Record, mut folders: Vec<PathBuf>) {
        folders.push(self.run_folder(&record.id));
        folders.push(self.data_folder(&record.id));
        let cgroup = self.cgroup(record);
        let limited = (!record.host_config.storage_opt.is_empty()).then(|| self.data_folder(&record.id));
        tokio::task::spawn_blocking(move || {
            super::control::remove_cgroup(&cgroup);
            if let Some(folder) = limited {
                Self::forget_limit(&folder);
            }
            for folder in folders {
                match fs::remove_dir_all(&folder) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        tracing::warn!(folder = %folder.display(), %error, "left behind until the next start");
                    }
                    _ => {}
                }
            }
        });
    }
}

fn has_anonymous_volume(record: &Record) -> bool {
    record.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Volume { anonymous: true, .. }))
}

fn in_the_way(record: &Record) -> Error {
    let text = match record.status {
        Status::Paused => "container is paused and must be unpaused first",
        _ => "container is running: stop the container before removing or force remove",
    };
    Error::conflict(format!("cannot remove container \"{}\": {text}", record.name))
}
