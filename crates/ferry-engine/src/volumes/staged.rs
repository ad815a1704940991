//! Files that are to come in the place of a volume's, all at once: they are put beside them first.
//!
//! `<data-root>/volumes/<name>/_import.<random>` while they are; a start clears such folders away. Only volumes whose files lie in their own folder
//! have a place for them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ferry_sys::quota;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{DATA, Entry, Volumes, limit, no_such_volume};
use crate::error::{Context, Error, Result};

const STAGED: &str = "_import.";

/// A folder beside a volume's files; it goes when this is dropped, with what is in it then.
#[derive(Debug)]
pub(crate) struct Staged {
    folder: PathBuf,
}

impl Staged {
    /// Where the files are to be put.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(folder = %self.folder.display(), %error, "files of an import left behind until the next start");
            }
            _ => {}
        }
    }
}

impl Volumes {
    /// Makes an empty folder beside a volume's files, with their owner, mode and quota; `None` where something is mounted for the volume, or a
    /// plugin keeps it. Blocks.
    ///
    /// # Errors
    /// NotFound; what the file system says.
    pub(crate) fn stage(&self, name: &str) -> Result<Option<Staged>> {
        let record = self.known(name).ok_or_else(|| no_such_volume(name))?;
        let folder = self.folder(name);
        if !record.is_plain() || folder.join(limit::IMAGE).exists() {
            return Ok(None);
        }
        let staged = Staged { folder: folder.join(format!("{STAGED}{}", &crate::ids::random_id()[..16])) };
        make_like(&folder.join(DATA), &staged.folder).context(format!("import {name}"))?;
        Ok(Some(staged))
    }

    /// Puts staged files in the place of the volume's, at once or not at all. What was there goes with `staged` when `replace` is said, and is
    /// a reason to refuse otherwise. `held` are users that the caller keeps from using it. Blocks.
    ///
    /// # Errors
    /// NotFound; Conflict with other users and with files that are there.
    pub(crate) fn put_in_place(
        &self,
        name: &str,
        staged: &Staged,
        replace: bool,
        held: &BTreeSet<String>,
    ) -> Result<()> {
        let table = self.table();
        let entry = table.get(name).ok_or_else(|| no_such_volume(name))?;
        refuse_others(name, entry, held)?;
        let data = self.folder(name).join(DATA);
        if replace {
            let exchanged = renameat_with(CWD, &staged.folder, CWD, &data, RenameFlags::EXCHANGE);
            return exchanged.map_err(io::Error::from).context(format!("import {name}"));
        }
        match fs::rename(&staged.folder, &data) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => Err(not_empty(name)),
            moved => moved.context(format!("import {name}")),
        }
    }
}

fn refuse_others(name: &str, entry: &Entry, held: &BTreeSet<String>) -> Result<()> {
    let others: Vec<&str> = entry.users.difference(held).map(String::as_str).collect();
    match others.is_empty() {
        true => Ok(()),
        false => Err(Error::conflict(format!("import {name}: volume is in use - [{}]", others.join(", ")))),
    }
}

/// Why an import without `replace` is refused.
pub(crate) fn not_empty(name: &str) -> Error {
    Error::conflict(format!(
        "import {name}: the volume has files already; `--replace` puts those of the archive in their place"
    ))
}

/// Clears away what an import that was cut short left in a volume's folder.
pub(super) fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(STAGED)) {
        drop(Staged { folder: entry.path() });
    }
}

fn make_like(data: &Path, folder: &Path) -> io::Result<()> {
    let metadata = fs::metadata(data)?;
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    std::os::unix::fs::chown(folder, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    match quota::project(File::open(data)?) {
        Ok(project) if limit::is_own_project(project) => quota::set_project(File::open(folder)?, project),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_short_is_cleared_away_and_files_of_volumes_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["_import.1/x", "_data/_import.2"] {
            fs::create_dir_all(folder.path().join(name)).expect("made");
        }
        sweep(folder.path());
        assert!(!folder.path().join("_import.1").exists());
        assert!(folder.path().join("_data/_import.2").exists());
    }
}
