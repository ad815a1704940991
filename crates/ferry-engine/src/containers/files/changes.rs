//! `GET /containers/{id}/changes`, and the changes as a layer.

use std::path::PathBuf;

use ferry_api::container::FilesystemChange;
use ferry_shim::files::{Action, View, Work};
use ferry_spec::ChainId;
use ferry_store::{LayersView, MountOptions};

use super::open_folder;
use super::process::FilesProcess;
use crate::blocking;
use crate::containers::state::Intent;
use crate::containers::{Container, Containers};
use crate::error::{Context, Error, Result};

/// Work on a container's changes; what lies below them is kept in sight as long.
pub(in crate::containers) struct ChangesWork {
    pub(in crate::containers) process: FilesProcess,
    pub(in crate::containers) below: Option<LayersView>,
}

impl Containers {
    /// Lists what a container changed of its image's files.
    ///
    /// API: `GET /containers/{id}/changes`
    ///
    /// # Errors
    /// NotFound.
    pub async fn changes(&self, reference: &str) -> Result<Vec<FilesystemChange>> {
        let container = self.find(reference)?;
        let ChangesWork { process, below } = self.work_on_changes(&container, Action::Changes).await?;
        let bytes = process.collect().await?;
        drop(below);
        Ok(bytes.split(|byte| *byte == 0).filter_map(change).collect())
    }

    pub(super) async fn work_on_changes(&self, container: &Container, action: Action) -> Result<ChangesWork> {
        let record = container.snapshot();
        self.work_on_layer(self.data_folder(&record.id), record.chain_id, action).await
    }

    /// Starts work on what `upper` in a folder, with its `work`, has changed of the layers of `chain`.
    pub(in crate::containers) async fn work_on_layer(
        &self,
        folder: PathBuf,
        chain: Option<ChainId>,
        action: Action,
    ) -> Result<ChangesWork> {
        let store = self.inner.store.clone();
        let whole = store.driver_name() != "overlayfs";
        let (upper, below, passed) = blocking(move || {
            if whole {
                // The copy is made by the first who needs it.
                let (upper, work) = (folder.join("upper"), folder.join("work"));
                store
                    .mount_rootfs(chain.as_ref(), &upper, &work, MountOptions::default())
                    .context("cannot mount the root file system")?;
            }
            let upper = open_folder(&folder.join("upper"))?;
            let below = chain.as_ref().map(|chain| store.look_at_layers(chain)).transpose();
            let below = below.context("cannot mount the layers of the image")?;
            let passed = below.as_ref().map(|below| std::os::fd::AsFd::as_fd(below).try_clone_to_owned()).transpose();
            Ok((upper, below, passed.context("cannot pass a descriptor")?))
        })
        .await?;
        let work = Work { view: View::Layers { whole }, action };
        let fds = std::iter::once(upper).chain(passed).collect();
        Ok(ChangesWork { process: FilesProcess::start(&self.inner.shims, work, fds, None)?, below })
    }
}

fn change(told: &[u8]) -> Option<FilesystemChange> {
    let (kind, path) = told.split_first()?;
    Some(FilesystemChange { kind: kind - b'0', path: String::from_utf8_lossy(path).into_owned() })
}

/// Docker's answer for a container on its way out.
pub(super) fn refuse_removing(container: &Container, verb: &str) -> Result<()> {
    if container.with_record(|record| record.intent == Intent::Removing) {
        return Err(Error::conflict(format!("You cannot {verb} container {} which is being removed", container.id)));
    }
    Ok(())
}
