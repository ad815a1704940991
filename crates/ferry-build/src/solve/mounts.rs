//! Cache mounts: directories that outlive builds, in `build/mounts/<sha256 of the id>[-n]/`.
//!
//! `data` in there is what is mounted; `mount.json` says what it is, and stands there once `data` is filled. An id is
//! never a name on the disk.

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
    locks: Locks,
    /// Held by who makes, fills and notes a folder: those who share it may begin in the same moment.
    making: Locks,
}

type Locks = Arc<Mutex<HashMap<PathBuf, Arc<AsyncMutex<()>>>>>;

async fn lock(locks: &Locks, folder: &Path) -> OwnedMutexGuard<()> {
    let lock = Arc::clone(locks.lock().unwrap_or_else(PoisonError::into_inner).entry(folder.to_owned()).or_default());
    lock.lock_owned().await
}

/// A cache mount in use.
pub struct MountInUse {
    mounts: CacheMounts,
    folder: PathBuf,
    /// Where it is new: what is noted of it once it is filled, while everybody else waits.
    new: Option<(MountRecord, OwnedMutexGuard<()>)>,
    _lock: Option<OwnedMutexGuard<()>>,
}

impl MountInUse {
    /// What is to be mounted.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// It is empty, and others wait for what it begins with until [`MountInUse::is_filled`] is said.
    pub(crate) fn is_new(&self) -> bool {
        self.new.is_some()
    }

    /// Says that a new one has what it begins with. One of which that is never said is new for the next who takes it.
    pub(crate) fn is_filled(&mut self) -> Result<()> {
        self.new.take().map_or(Ok(()), |(record, _making)| note(&self.folder, &record))
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
        let lock_whole = match sharing {
            CacheSharing::Locked => Some(lock(&self.locks, &first).await),
            _ => None,
        };
        let folder = self.claim(&top, &name, sharing);
        let mut taken = MountInUse { mounts: self.clone(), folder, new: None, _lock: lock_whole };
        let making = lock(&self.making, &taken.folder).await;
        if let Some(mut record) = read(&taken.folder) {
            record.used_ns = now_ns();
            record.uses += 1;
            note(&taken.folder, &record)?;
        } else {
            taken.new = Some((make(&taken.folder, id, sharing, description)?, making));
        }
        Ok(taken)
    }

    /// Takes a cache mount into use that is there; it is looked at, not changed. Blocks.
    pub(crate) fn find(&self, builder: &Path, id: &str) -> Option<MountInUse> {
        let folder = builder.join("mounts").join(Digest::sha256(id.as_bytes()).hex());
        // In use before it is looked at: nobody removes it in between.
        *self.in_use.lock().unwrap_or_else(PoisonError::into_inner).entry(folder.clone()).or_default() += 1;
        let found = MountInUse { mounts: self.clone(), folder, new: None, _lock: None };
        read(&found.folder).map(|_| found)
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

/// Makes the folder, empty; tells what is to be noted of it.
fn make(folder: &Path, id: &str, sharing: CacheSharing, description: &str) -> Result<MountRecord> {
    // Half-made by a daemon that was killed, or by a step that failed before it was filled.
    let _ = fs::remove_dir_all(folder);
    fs::DirBuilder::new().mode(0o700).create(folder).doing("cannot make a cache mount")?;
    fs::DirBuilder::new().mode(0o755).create(folder.join("data")).doing("cannot make a cache mount")?;
    let now = now_ns();
    Ok(MountRecord {
        name: crate::cache::new_id(),
        id: id.to_owned(),
        description: description.to_owned(),
        created_ns: now,
        used_ns: now,
        uses: 1,
        private: sharing == CacheSharing::Private,
    })
}

fn note(folder: &Path, record: &MountRecord) -> Result<()> {
    let bytes = serde_json::to_vec(record).map_err(|error| Failure::internal(error.to_string()))?;
    let new = folder.join("mount.json.new");
    fs::write(&new, bytes).and_then(|()| fs::rename(&new, folder.join("mount.json"))).doing("cannot note a cache mount")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn private_mounts_are_each_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::default();
        let take = async |sharing| {
            let mut taken = mounts.take(dir.path(), "../../id", sharing, "x").await?;
            let was_new = taken.is_new();
            taken.is_filled()?;
            Result::Ok((taken, was_new))
        };
        let (first, was_new) = take(CacheSharing::Private).await.unwrap();
        let (second, _) = take(CacheSharing::Private).await.unwrap();
        assert_ne!(first.data(), second.data());
        assert!(was_new && first.data().starts_with(dir.path().join("mounts")));
        drop(first);
        let (third, was_new) = take(CacheSharing::Shared).await.unwrap();
        assert!(!was_new);
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
        let mut first = mounts.take(dir.path(), "id", CacheSharing::Locked, "x").await.unwrap();
        first.is_filled().unwrap();
        let other = mounts.clone();
        let path = dir.path().to_owned();
        let mut waiting = Box::pin(async move { other.take(&path, "id", CacheSharing::Locked, "x").await });
        assert!((&mut waiting).now_or_never().is_none());
        drop(first);
        assert!(!waiting.await.unwrap().is_new());
    }

    #[tokio::test]
    async fn who_shares_a_new_one_waits_until_it_is_filled() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::default();
        let take = || Box::pin(mounts.take(dir.path(), "id", CacheSharing::Shared, "x"));
        let first = take().await.unwrap();
        let mut waiting = take();
        assert!((&mut waiting).now_or_never().is_none() && mounts.find(dir.path(), "id").is_none());
        drop(first);
        let mut second = waiting.await.unwrap();
        assert!(second.is_new(), "the first was never filled");
        let waiting = take();
        second.is_filled().unwrap();
        assert!(!waiting.await.unwrap().is_new() && mounts.find(dir.path(), "id").is_some());
    }

    #[test]
    fn many_share_one_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mounts = CacheMounts::default();
        for round in 0..50 {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let id = format!("id{round}");
                        let taken = mounts.take(dir.path(), &id, CacheSharing::Shared, "x");
                        tokio::runtime::Builder::new_current_thread()
                            .build()
                            .unwrap()
                            .block_on(taken)
                            .unwrap()
                            .is_filled()
                            .unwrap();
                    });
                }
            });
        }
        assert!(mounts.list(dir.path()).iter().all(|(record, ..)| record.uses == 4));
    }
}
