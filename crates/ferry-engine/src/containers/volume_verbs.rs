//! What ferry does with volumes beyond Docker: copies, snapshots, other names, archives (into them: `volume_import`), and who has them.
//!
//! They are verbs of containers, since those have the volumes: a volume that is written to at the moment is no good copy unless it is asked
//! for, and another name is told to everybody who has the old one.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferry_api::volume::{CreateRequest, Volume, VolumeUse, VolumeUser};
use ferry_shim::files::{Action, View, Work};
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::files::ArchiveStream;
use super::files::process::FilesProcess;
use super::record::{MountKind, Record};
use super::state::Status;
use super::{Container, Containers};
use crate::clock;
use crate::error::{Context, Error, Result};
use crate::volumes::Volumes;

/// The label of a snapshot: whose it is.
const SNAPSHOT_OF: &str = "org.ferry.volume.snapshot-of";

/// How to copy.
#[derive(Debug, Clone, Default)]
pub struct VolumeCopy {
    /// Name of the new volume; empty is made up for a snapshot.
    pub to: String,
    /// Note whose snapshot it is.
    pub snapshot: bool,
    /// What becomes of containers that run and may write to it.
    pub writers: Writers,
}

/// What becomes of containers that could write to what is copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Writers {
    /// They are a reason to refuse.
    #[default]
    Refused,
    /// They are paused meanwhile.
    Paused,
    /// They go on: the copy is of no one moment.
    GoOn,
}

/// A volume whose files are at hand until this is dropped, which may block.
pub(super) struct AtHand {
    volumes: Volumes,
    name: String,
    user: String,
    pub(super) folder: PathBuf,
}

impl Drop for AtHand {
    fn drop(&mut self) {
        self.volumes.unmount(&self.name, &self.user);
        self.volumes.release(&self.name, &self.user);
    }
}

impl Containers {
    /// Brings a volume's files. Blocks.
    pub(super) fn at_hand(&self, name: &str) -> Result<AtHand> {
        let volumes = &self.inner.volumes;
        let user = format!("work-{}", crate::ids::random_id());
        volumes.acquire(name, &user)?;
        match volumes.mount_anywhere(name, &user) {
            Ok(place) => {
                let folder = place.map_or_else(|| volumes.data_folder(name), PathBuf::from);
                Ok(AtHand { volumes: volumes.clone(), name: name.to_owned(), user, folder })
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
        // Once begun it is finished, whether the client stays or not: no container is left paused.
        crate::finish(async move {
            let paused = containers.settle_writers(&name, copy.writers).await?;
            let (others, copied) = (containers.clone(), name.clone());
            let made = crate::blocking(move || others.copy_volume_now(&copied, &copy)).await;
            containers.let_go_on(&paused).await;
            made
        })
        .await
    }

    /// Returns the containers that are paused for a copy.
    async fn settle_writers(&self, name: &str, writers: Writers) -> Result<Vec<String>> {
        let running = self.writers_of(name)?;
        match writers {
            Writers::GoOn => Ok(Vec::new()),
            Writers::Refused if running.is_empty() => Ok(Vec::new()),
            Writers::Refused => {
                let names: Vec<String> = running.iter().map(|container| container.name()).collect();
                Err(Error::conflict(format!(
                    "copy {name}: containers that run may write to it - [{}]; `--pause` holds them meanwhile, `--live` copies all the same",
                    names.join(", ")
                )))
            }
            Writers::Paused => {
                let mut paused = Vec::new();
                for container in &running {
                    if let Err(error) = self.pause_for_copy(&container.id).await {
                        self.let_go_on(&paused).await;
                        return Err(error);
                    }
                    paused.push(container.id.clone());
                }
                Ok(paused)
            }
        }
    }

    async fn let_go_on(&self, paused: &[String]) {
        for id in paused {
            self.unpause_after_copy(id).await;
        }
    }

    /// Containers that run and may write to a volume; those that somebody paused write nothing.
    fn writers_of(&self, name: &str) -> Result<Vec<Arc<Container>>> {
        let users = self.inner.volumes.users(name)?;
        let found = users.iter().filter_map(|id| self.find(id).ok());
        let writes = |container: &Arc<Container>| {
            let status = container.status();
            status.counts_as_running() && status != Status::Paused && uses(container, name).iter().any(|user| user.rw)
        };
        Ok(found.filter(writes).collect())
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
        let held = self.users_of(name, "rename")?;
        let mut verbs = Vec::new();
        for container in &held {
            verbs.push(container.verb.lock().await);
        }
        refuse_running(name, "rename", &held)?;
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
        let process = self.work_in_volume(name, Action::Export { itself: true }).await?;
        ArchiveStream::of_volume(process, name)
    }

    /// Starts a process that sees a volume's files and nothing else.
    async fn work_in_volume(&self, name: &str, action: Action) -> Result<FilesProcess> {
        let (containers, name) = (self.clone(), name.to_owned());
        let tree = crate::blocking(move || {
            let at_hand = containers.at_hand(&name)?;
            tree_of(&name, &at_hand.folder)
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

/// The tree stays as long as somebody has it, whoever takes the mount away.
pub(super) fn tree_of(name: &str, folder: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, folder, flags).context(format!("cannot take the files of volume {name}"))
}

/// Some things are not done to a volume that a container runs with.
pub(super) fn refuse_running(name: &str, doing: &str, users: &[Arc<Container>]) -> Result<()> {
    let running = users.iter().filter(|container| container.status().counts_as_running());
    let running: Vec<String> = running.map(|container| container.name()).collect();
    match running.is_empty() {
        true => Ok(()),
        false => Err(Error::conflict(format!("{doing} {name}: containers run with it - [{}]", running.join(", ")))),
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
