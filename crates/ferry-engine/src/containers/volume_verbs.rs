//! What ferry does with volumes beyond Docker: copies, snapshots, other names, archives, and who has them.
//!
//! They are verbs of containers, since those have the volumes: a volume that is written to at the moment is no good copy unless it is asked
//! for, and another name is told to everybody who has the old one.

use std::fs;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use ferry_api::volume::{CreateRequest, Volume, VolumeUse, VolumeUser};
use ferry_shim::files::{Action, Unpack, View, Work};
use futures_util::Stream;
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::files::ArchiveStream;
use super::files::archive;
use super::files::process::FilesProcess;
use super::record::{MountKind, Record};
use super::{Container, Containers};
use crate::clock;
use crate::error::{Context, Error, Result};
use crate::images::Body;

/// The label of a snapshot: whose it is.
const SNAPSHOT_OF: &str = "org.ferry.volume.snapshot-of";

/// How to copy.
#[derive(Debug, Clone, Default)]
pub struct VolumeCopy {
    /// Name of the new volume; empty is made up for a snapshot.
    pub to: String,
    /// Note whose snapshot it is.
    pub snapshot: bool,
}

/// A volume whose files are at hand until this is dropped.
struct AtHand<'a> {
    containers: &'a Containers,
    name: String,
    user: String,
    folder: PathBuf,
}

impl Drop for AtHand<'_> {
    fn drop(&mut self) {
        self.containers.inner.volumes.unmount(&self.name, &self.user);
        self.containers.inner.volumes.release(&self.name, &self.user);
    }
}

impl Containers {
    /// Brings a volume's files. Blocks.
    fn at_hand(&self, name: &str) -> Result<AtHand<'_>> {
        let volumes = &self.inner.volumes;
        let user = format!("work-{}", crate::ids::random_id());
        volumes.acquire(name, &user)?;
        match volumes.mount_anywhere(name, &user) {
            Ok(place) => {
                let folder = place.map_or_else(|| volumes.data_folder(name), PathBuf::from);
                Ok(AtHand { containers: self, name: name.to_owned(), user, folder })
            }
            Err(error) => {
                volumes.release(name, &user);
                Err(error)
            }
        }
    }

    /// Copies a volume, whose files share their extents where the file system can do that.
    ///
    /// API: `POST /volumes/{name}/copy`, ferry's own
    ///
    /// # Errors
    /// NotFound; Conflict for a name that is taken; what the file system says, and nothing is left then.
    pub async fn copy_volume(&self, name: &str, copy: VolumeCopy) -> Result<Volume> {
        let (containers, name) = (self.clone(), name.to_owned());
        crate::blocking(move || containers.copy_volume_now(&name, &copy)).await
    }

    fn copy_volume_now(&self, name: &str, copy: &VolumeCopy) -> Result<Volume> {
        let volumes = &self.inner.volumes;
        let source = volumes.description(name)?;
        let to = match copy.to.as_str() {
            "" if copy.snapshot => format!("{name}.{}", clock::file_stamp(clock::now_ns())),
            "" => return Err(Error::invalid("the copy has no name".to_owned())),
            to => to.to_owned(),
        };
        if volumes.description(&to).is_ok() {
            return Err(Error::conflict(format!("copy {name}: a volume {to} is there already")));
        }
        let mut labels = source.labels.unwrap_or_default();
        labels.remove(crate::volumes::ANONYMOUS_LABEL);
        if copy.snapshot {
            labels.insert(SNAPSHOT_OF.to_owned(), name.to_owned());
        }
        let from = self.at_hand(name)?;
        // What a volume is mounted from is not copied along: the copy is plain files.
        let made = volumes.create_now(&CreateRequest { name: to.clone(), labels, ..CreateRequest::default() })?;
        let copied = ferry_store::copy_folder(&from.folder, &volumes.data_folder(&to));
        if let Err(error) = copied {
            if let Err(left) = volumes.remove_now(&to) {
                tracing::warn!(volume = %to, error = %left.text(), "unfinished copy of a volume left behind");
            }
            return Err(error).context(format!("copy {name} to {to}"));
        }
        Ok(made)
    }

    /// Gives a volume another name, for every container that has it, too; none of those may run.
    ///
    /// API: `POST /volumes/{name}/rename`, ferry's own
    ///
    /// # Errors
    /// NotFound; Conflict for a name that is taken, and while a container runs with it.
    pub async fn rename_volume(&self, name: &str, new: &str) -> Result<()> {
        let (containers, name, new) = (self.clone(), name.to_owned(), new.to_owned());
        crate::finish(async move { containers.rename_volume_now(&name, &new).await }).await
    }

    async fn rename_volume_now(&self, name: &str, new: &str) -> Result<()> {
        let users = self.inner.volumes.users(name)?;
        let mut held = Vec::new();
        for id in &users {
            let container =
                self.find(id).map_err(|_| Error::conflict(format!("rename {name}: volume is in use - [{id}]")))?;
            held.push(container);
        }
        let mut verbs = Vec::new();
        for container in &held {
            verbs.push(container.verb.lock().await);
        }
        let running: Vec<String> = held
            .iter()
            .filter(|container| container.status().counts_as_running())
            .map(|container| container.name())
            .collect();
        if !running.is_empty() {
            return Err(Error::conflict(format!("rename {name}: containers run with it - [{}]", running.join(", "))));
        }
        let (volumes, old_name, new_name) = (self.inner.volumes.clone(), name.to_owned(), new.to_owned());
        crate::blocking(move || volumes.rename_now(&old_name, &new_name)).await?;
        let place = self.inner.volumes.data_folder(new).display().to_string();
        for container in &held {
            self.update(container, |record| rename_in(record, name, new, &place))?;
        }
        Ok(())
    }

    /// Makes an archive of a volume's files.
    ///
    /// API: `GET /volumes/{name}/archive`, ferry's own
    ///
    /// # Errors
    /// NotFound.
    pub async fn export_volume(&self, name: &str) -> Result<ArchiveStream> {
        let process = self.work_in_volume(name, Action::Export).await?;
        ArchiveStream::of_volume(process, name)
    }

    /// Unpacks an archive, compressed or not, into a volume.
    ///
    /// API: `PUT /volumes/{name}/archive`, ferry's own
    ///
    /// # Errors
    /// NotFound; Internal for what cannot be unpacked.
    pub async fn import_volume(
        &self,
        name: &str,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<()> {
        let body = Body::read(body);
        let action = Action::Write(Unpack { path: "/".to_owned(), ..Unpack::default() });
        archive::fill(self.work_in_volume(name, action).await?, body).await
    }

    /// Starts a process that sees a volume's files and nothing else.
    async fn work_in_volume(&self, name: &str, action: Action) -> Result<FilesProcess> {
        let (containers, name) = (self.clone(), name.to_owned());
        let tree = crate::blocking(move || {
            let at_hand = containers.at_hand(&name)?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            // The tree stays as long as the process has it, whoever takes the mount away.
            open_tree(CWD, &at_hand.folder, flags).context(format!("cannot take the files of volume {name}"))
        })
        .await?;
        FilesProcess::start(&self.inner.shims, Work { view: View::Folder, action }, vec![tree], None)
    }

    /// Tells what a volume takes up and who has it.
    ///
    /// API: `GET /volumes/{name}/usage`, ferry's own
    ///
    /// # Errors
    /// NotFound.
    pub async fn volume_use(&self, name: &str) -> Result<VolumeUse> {
        let users = self.inner.volumes.users(name)?;
        let used_by =
            users.iter().filter_map(|id| self.find(id).ok()).flat_map(|container| uses(&container, name)).collect();
        let (containers, name) = (self.clone(), name.to_owned());
        crate::blocking(move || {
            let at_hand = containers.at_hand(&name)?;
            let size = crate::volumes::folder_size_bytes(&at_hand.folder);
            let files = count(&at_hand.folder);
            let limit = containers.inner.volumes.limit_of(&name);
            drop(at_hand);
            Ok(VolumeUse { name, size, files, limit, used_by })
        })
        .await
    }
}

fn uses(container: &Container, name: &str) -> Vec<VolumeUser> {
    container.with_record(|record| {
        let of_volume = record
            .mounts
            .iter()
            .filter(|mount| matches!(&mount.kind, MountKind::Volume { name: one, .. } if one == name));
        let user = |mount: &super::record::MountRecord| VolumeUser {
            id: record.id.clone(),
            name: record.name.clone(),
            state: record.status.as_str().to_owned(),
            destination: mount.destination.clone(),
            rw: mount.writable,
        };
        of_volume.map(user).collect()
    })
}

fn count(folder: &std::path::Path) -> u64 {
    let mut todo = vec![folder.to_owned()];
    let mut found = 0;
    while let Some(folder) = todo.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            found += 1;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(entry.path());
            }
        }
    }
    found
}

/// Puts a volume's new name where a container's record has the old one.
fn rename_in(record: &mut Record, old: &str, new: &str, place: &str) {
    for mount in &mut record.mounts {
        if let MountKind::Volume { name, source, .. } = &mut mount.kind
            && name == old
        {
            new.clone_into(name);
            place.clone_into(source);
        }
    }
    for bind in record.host_config.binds.iter_mut().flatten() {
        if let Some(rest) = bind.strip_prefix(old).filter(|rest| rest.starts_with(':')) {
            *bind = format!("{new}{rest}");
        }
    }
    for mount in record.host_config.mounts.iter_mut().filter(|mount| mount.kind == "volume" && mount.source == old) {
        new.clone_into(&mut mount.source);
    }
}
