//! Archives into volumes: all of one, or nothing.
//!
//! Files of a plain volume are unpacked beside it and change places with what is there. Where a volume is a mount there is nothing beside it: such
//! a volume has to be empty, and is emptied again when the archive fails.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ferry_shim::files::{Action, Unpack, View, Work};
use futures_util::Stream;

use super::files::archive;
use super::files::process::FilesProcess;
use super::volume_verbs::{AtHand, tree_of};
use super::{Container, Containers};
use crate::error::{Context, Error, Result};
use crate::images::Body;
use crate::volumes::{Staged, not_empty};

/// Where an archive is unpacked.
enum Target {
    Beside(Staged),
    InPlace(AtHand),
}

impl Containers {
    /// Unpacks an archive, compressed or not, into a volume that no container runs with. It has to be empty, unless the archive's files are to
    /// come in the place of its own. Whatever fails, nothing has changed.
    ///
    /// API: `PUT /volumes/{name}/archive`, ferry's own
    ///
    /// # Errors
    /// NotFound; Conflict while a container runs with it, and with files that are there; Internal for what cannot be unpacked.
    pub async fn import_volume(
        &self,
        name: &str,
        replace: bool,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<()> {
        let (containers, name, body) = (self.clone(), name.to_owned(), Body::read(body));
        // Once begun it is finished, or undone, whether the client stays or not.
        crate::finish(async move {
            match containers.target_of_import(&name, replace).await {
                Ok(target) => containers.import_to(&name, replace, target, body).await,
                Err(error) => {
                    archive::pass_over(body).await;
                    Err(error)
                }
            }
        })
        .await
    }

    async fn target_of_import(&self, name: &str, replace: bool) -> Result<Target> {
        refuse_running(name, &self.users_of(name, "import")?)?;
        let (containers, name) = (self.clone(), name.to_owned());
        crate::blocking(move || {
            let volumes = &containers.inner.volumes;
            if let Some(staged) = volumes.stage(&name)? {
                // Told before all of it has been sent.
                return match replace || is_empty(&volumes.data_folder(&name))? {
                    true => Ok(Target::Beside(staged)),
                    false => Err(not_empty(&name)),
                };
            }
            if replace {
                let text = "only files that lie in the volume's own folder can be replaced, and something is mounted for this one";
                return Err(Error::invalid(format!("import {name}: {text}; empty it first")));
            }
            let at_hand = containers.at_hand(&name)?;
            match is_empty(&at_hand.folder)? {
                true => Ok(Target::InPlace(at_hand)),
                false => Err(Error::conflict(format!("import {name}: the volume has files already; empty it first"))),
            }
        })
        .await
    }

    async fn import_to(&self, name: &str, replace: bool, target: Target, body: Body) -> Result<()> {
        match target {
            Target::Beside(staged) => {
                self.unpack_into(name, staged.folder(), body).await?;
                let held = self.users_of(name, "import")?;
                let mut verbs = Vec::new();
                for container in &held {
                    verbs.push(container.verb.lock().await);
                }
                refuse_running(name, &held)?;
                let ids: BTreeSet<String> = held.iter().map(|container| container.id.clone()).collect();
                let (volumes, name) = (self.inner.volumes.clone(), name.to_owned());
                crate::blocking(move || volumes.put_in_place(&name, &staged, replace, &ids)).await
            }
            Target::InPlace(at_hand) => {
                let unpacked = self.unpack_into(name, &at_hand.folder, body).await;
                crate::blocking(move || {
                    if unpacked.is_err()
                        && let Err(error) = empty_out(&at_hand.folder)
                    {
                        tracing::warn!(folder = %at_hand.folder.display(), %error, "files of an import that failed left in a volume");
                    }
                    unpacked
                })
                .await
            }
        }
    }

    async fn unpack_into(&self, name: &str, folder: &Path, body: Body) -> Result<()> {
        let told = name;
        let (name, folder) = (name.to_owned(), folder.to_owned());
        let tree = crate::blocking(move || tree_of(&name, &folder)).await?;
        let action = Action::Write(Unpack { path: "/".to_owned(), itself: true, ..Unpack::default() });
        let process = FilesProcess::start(&self.inner.shims, Work { view: View::Folder, action }, vec![tree], None)?;
        let filled = archive::fill(process, body).await;
        filled.map_err(|error| Error::new(error.kind(), format!("import {told}: {}", error.text())))
    }

    /// The containers that have a volume, in the order in which they are locked.
    pub(super) fn users_of(&self, name: &str, doing: &str) -> Result<Vec<Arc<Container>>> {
        let users = self.inner.volumes.users(name)?;
        let find = |id: &String| {
            self.find(id).map_err(|_| Error::conflict(format!("{doing} {name}: volume is in use - [{id}]")))
        };
        users.iter().map(find).collect()
    }
}

fn refuse_running(name: &str, users: &[Arc<Container>]) -> Result<()> {
    super::volume_verbs::refuse_running(name, "import", users)
}

fn is_empty(folder: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(folder).context(format!("cannot read {}", folder.display()))?;
    Ok(entries.next().is_none())
}

fn empty_out(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}
