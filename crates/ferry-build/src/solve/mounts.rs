//! Cache mounts: directories that outlive builds, in `build/mounts/<sha256 of the id>[-n]/`.
//!
//! `data` in there is what is mounted; `mount.json` says what it is. An id is never a name on the disk.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ferry_spec::digest::Digest;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::clock::now_ns;
use crate::failure::{Doing, Failure, Result};
use crate::graph::CacheSharing;

/// What is known of a cache mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// Names it to users.
    pub name: String,
    /// As the Dockerfile, or a client, says.
    pub id: String,
    /// What used it first.
    pub description: String,
    /// Unix time, nanoseconds.
    pub created_ns: i64,
    /// When it was last used.
    pub used_ns: i64,
    /// How often it was used.
    pub uses: i64,
    /// Nobody but its user may have it.
    pub private: bool,
}

/// The cache mounts; cheap to clone.
#[derive(Clone, Default)]
pub struct CacheMounts {
    in_use: Arc<Mutex<HashMap<PathBuf, usize>>>,
    locks: Arc<Mutex<HashMap<PathBuf, Arc<AsyncMutex<()>>>>>,
}

/// A cache mount in use.
pub struct MountInUse {
    mounts: CacheMounts,
    folder: PathBuf,
    is_new: bool,
    _lock: Option<OwnedMutexGuard<()>>,
}

impl MountInUse {
    /// What is to be mounted.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// It is empty and has not been told what it begins with.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }
}

impl Drop for MountInUse {
    fn drop(&mut self) {
        let mut in_use = self.mounts.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(users) = in_use.get_mut(&self.folder) {
            *users -= 1;
            if *users == 0 {
                in_use.remove(&self.folder);
            }
        }
    }
}

impl CacheMounts {
    /// Takes a cache mount into use, made where it is not there; waits for one that is another's alone.
    pub(super) async fn take(
        &self,
        builder: &Path,
        id: &str,
        sharing: CacheSharing,
        description: &str,
    ) -> Result<MountInUse> {
        let top = builder.join("mounts");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&top)
            .doing("cannot make the folder of cache mounts")?;
        let name = Digest::sha256(id.as_bytes()).hex().to_owned();
        let first = top.join(&name);
        let lock = match sharing {
            CacheSharing::Locked => {
                let lock = Arc::clone(
                    self.locks.lock().unwrap_or_else(PoisonError::into_inner).entry(first.clone()).or_default(),
                );
                Some(lock.lock_owned().await)
            }
            _ => None,
        };
        let folder = self.claim(&top, &name, sharing);
        let mut taken = MountInUse { mounts: self.clone(), folder, is_new: false, _lock: lock };
        taken.is_new = prepare(&taken.folder, id, sharing, description)?;
        Ok(taken)
    }

    /// Takes a cache mount into use that is there; it is looked at, not changed. Blocks.
    pub(crate) fn find(&self, builder: &Path, id: &str) -> Option<MountInUse> {
        let folder = builder.join("mounts").join(Digest::sha256(id.as_bytes()).hex());
        if !folder.join("data").is_dir() {
            return None;
        }
        *self.in_use.lock().unwrap_or_else(PoisonError::into_inner).entry(folder.clone()).or_default() += 1;
        Some(MountInUse { mounts: self.clone(), folder, is_new: false, _lock: None })
    }

    fn claim(&self, top: &Path, name: &str, sharing: CacheSharing) -> PathBuf {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let mut folder = top.join(name);
        let mut number = 0;
        while sharing == CacheSharing::Private && in_use.contains_key(&folder) {
            number += 1;
            folder = top.join(format!("{name}-{number}"));
        }
        *in_use.entry(folder.clone()).or_default() += 1;
        folder
    }

    /// Every cache mount, with its folder and whether a step uses it. Blocks.
    #[must_use]
    pub fn list(&self, builder: &Path) -> Vec<(MountRecord, PathBuf, bool)> {
        let Ok(entries) = fs::read_dir(builder.join("mounts")) else { return Vec::new() };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let folder = entry.path();
            if let Some(record) = read(&folder) {
                let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&folder);
                found.push((record, folder, in_use));
            }
        }
        found.sort_by_key(|(record, ..)| record.created_ns);
        found
    }

    /// Removes a cache mount that no step uses; tells whether it did. Blocks.
    #[must_use]
    pub fn remove(&self, folder: &Path) -> bool {
        let gone = folder.with_extension(format!("old-{}", rand::random::<u32>()));
        {
            let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
            if in_use.contains_key(folder) || fs::rename(folder, &gone).is_err() {
                return false;
            }
        }
        if let Err(error) = fs::remove_dir_all(&gone) {
            tracing::warn!(folder = %gone.display(), %error, "cache mount not removed whole");
        }
        true
    }
}

fn read(folder: &Path) -> Option<MountRecord> {
    serde_json::from_slice(&fs::read(folder.join("mount.json")).ok()?).ok()
}

/// Makes the folder or notes its use; tells whether it is new.
fn prepare(folder: &Path, id: &str, sharing: CacheSharing, description: &str) -> Result<bool> {
    let now = now_ns();
    let known = read(folder);
    let is_new = known.is_none();
    let mut record = known.unwrap_or_else(|| MountRecord {
        name: crate::cache::new_id(),
        id: id.to_owned(),
        description: description.to_owned(),
        created_ns: now,
        used_ns: now,
        uses: 0,
        private: sharing == CacheSharing::Private,
    });
    record.used_ns = now;
    record.uses += 1;
    if is_new {
        // Half-made by a daemon that was killed.
        let _ = fs::remove_dir_all(folder);
        fs::DirBuilder::new().mode(0o700).create(folder).doing("cannot make a cache mount")?;
        fs::DirBuilder::new().mode(0o755).create(folder.join("data")).doing("cannot make a cache mount")?;
    }
    let bytes = serde_json::to_vec(&record).map_err(|error| Failure::internal(error.to_string()))?;
    let new = folder.join("mount.json.new");
    fs::write(&new, bytes)
        .and_then(|()| fs::rename(&new, folder.join("mount.json")))
        .doing("cannot note a cache mount")?;
    Ok(is_new)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn private_mounts_are_each_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::default();
        let take = |sharing| mounts.take(dir.path(), "../../id", sharing, "x");
        let first = take(CacheSharing::Private).await.unwrap();
        let second = take(CacheSharing::Private).await.unwrap();
        assert_ne!(first.data(), second.data());
        assert!(first.is_new() && first.data().starts_with(dir.path().join("mounts")));
        drop(first);
        let third = take(CacheSharing::Shared).await.unwrap();
        assert!(!third.is_new());
        let list = mounts.list(dir.path());
        assert_eq!(list.len(), 2);
        let (_, folder, in_use) = list.into_iter().find(|(_, folder, _)| folder.join("data") == third.data()).unwrap();
        assert!(in_use && !mounts.remove(&folder));
        drop(third);
        assert!(mounts.remove(&folder) && !folder.exists());
    }

    #[tokio::test]
    async fn locked_mounts_wait() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::default();
        let first = mounts.take(dir.path(), "id", CacheSharing::Locked, "x").await.unwrap();
        let other = mounts.clone();
        let path = dir.path().to_owned();
        let mut waiting = Box::pin(async move { other.take(&path, "id", CacheSharing::Locked, "x").await });
        assert!((&mut waiting).now_or_never().is_none());
        drop(first);
        assert!(!waiting.await.unwrap().is_new());
    }
}
