//! States on disk: `<root>/<id>/state.json` and, until it is started, `<root>/<id>/start.sock` on which the container's process waits.
//!
//! The folder is 0700. A state file is written whole under another name and renamed. What runs is told from the kernel each time: a pid
//! counts as the container's only while its start time is the recorded one.

use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use ferry_runtime::cgroup::Cgroup;
use ferry_runtime::{Error, ErrorKind};
use ferry_spec::runtime::{Spec, State};
use serde::{Deserialize, Serialize};

use super::{failed, invalid};

pub(crate) const START_SOCKET: &str = "start.sock";

/// The folder of all states.
pub(crate) struct Store {
    root: PathBuf,
    /// cgroups are made by systemd.
    pub(crate) systemd: bool,
}

/// One container, as recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) pid: u32,
    /// In clock ticks since boot, against reuse of the pid.
    pub(crate) start_time: u64,
    pub(crate) bundle: PathBuf,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) cgroup: String,
    /// Whose cgroup it is, where systemd made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) systemd_unit: Option<String>,
    pub(crate) spec: Spec,
}

impl Store {
    pub(crate) fn new(root: PathBuf, systemd: bool) -> Store {
        Store { root, systemd }
    }

    fn folder(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// Makes the folder of a new container; its removal is the caller's on failure.
    pub(crate) fn reserve(&self, id: &str) -> Result<OwnedFd, Error> {
        check_id(id)?;
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700);
        builder
            .recursive(true)
            .create(&self.root)
            .map_err(|error| failed(&format!("make {}", self.root.display()), &error))?;
        let folder = self.folder(id);
        builder.recursive(false).create(&folder).map_err(|error| {
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                invalid("container with given ID already exists")
            } else {
                failed(&format!("make {}", folder.display()), &error)
            }
        })?;
        self.open(id)
    }

    /// The folder of a container.
    pub(crate) fn open(&self, id: &str) -> Result<OwnedFd, Error> {
        let folder = self.folder(id);
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open(&folder, flags, rustix::fs::Mode::empty())
            .map_err(|error| failed(&format!("open {}", folder.display()), &error))
    }

    pub(crate) fn save(&self, record: &Record) -> Result<(), Error> {
        let path = self.folder(&record.id).join("state.json");
        let text = serde_json::to_vec(record).map_err(|error| failed("write the state", &error))?;
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, &path))
            .map_err(|error| failed(&format!("write {}", path.display()), &error))
    }

    pub(crate) fn load(&self, id: &str) -> Result<Record, Error> {
        check_id(id)?;
        let path = self.folder(id).join("state.json");
        let text = std::fs::read(&path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                Error::new(ErrorKind::NotRunning, "container does not exist")
            } else {
                failed(&format!("read {}", path.display()), &error)
            }
        })?;
        serde_json::from_slice(&text).map_err(|error| failed(&format!("read {}", path.display()), &error))
    }

    pub(crate) fn remove(&self, id: &str) -> Result<(), Error> {
        let folder = self.folder(id);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed(&format!("remove {}", folder.display()), &error))
            }
            _ => Ok(()),
        }
    }

    /// Takes the socket of the start away: from now on the container counts as started.
    pub(crate) fn mark_started(&self, id: &str) -> Result<(), Error> {
        let path = self.folder(id).join(START_SOCKET);
        std::fs::remove_file(&path).map_err(|error| failed(&format!("remove {}", path.display()), &error))
    }

    pub(crate) fn all(&self) -> Result<Vec<Record>, Error> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| failed(&format!("read {}", self.root.display()), &error))?,
        };
        let mut records = Vec::new();
        for entry in entries.flatten() {
            // One that is being made or removed is not there yet or any more.
            records.extend(entry.file_name().to_str().and_then(|id| self.load(id).ok()));
        }
        records.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(records)
    }

    /// The state as `state` prints it.
    pub(crate) fn state(&self, record: &Record) -> Result<State, Error> {
        let status = self.status(record)?;
        Ok(State {
            oci_version: ferry_spec::runtime::OCI_VERSION.into(),
            id: record.id.clone(),
            status: status.into(),
            pid: if status == "stopped" { 0 } else { record.pid as i32 },
            bundle: record.bundle.display().to_string(),
            annotations: record.spec.annotations.clone(),
        })
    }

    pub(crate) fn status(&self, record: &Record) -> Result<&'static str, Error> {
        Ok(if start_time(record.pid) != Some(record.start_time) {
            "stopped"
        } else if self.folder(&record.id).join(START_SOCKET).exists() {
            "created"
        } else if Cgroup::open(&record.cgroup)?.is_frozen().unwrap_or(false) {
            "paused"
        } else {
            "running"
        })
    }
}

/// When a process that is not a zombie was started.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, the last parenthesis ends it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// An id is a folder's name, so it must not be more.
fn check_id(id: &str) -> Result<(), Error> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "_+-.".contains(character);
    if id.is_empty() || id.len() > 255 || id == "." || id == ".." || !id.chars().all(allowed) {
        return Err(invalid(format!("invalid container ID format: {id:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_and_nothing_else() {
        for id in ["", ".", "..", "a/b", "../x", "a\n", "a b", "\u{1b}[m"] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
        for id in ["a", "A-1_2.3+4", "..."] {
            check_id(id).unwrap();
        }
    }

    #[test]
    fn own_start_time_is_known() {
        assert!(start_time(std::process::id()).is_some());
        assert!(start_time(0).is_none());
    }
}
