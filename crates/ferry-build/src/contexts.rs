//! Directories of clients as they came last: of the next transfer only what changed travels.
//!
//! They lie in the folder of contexts, which a start of the daemon clears, and go with a prune or when newer ones take their place.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cache::new_id;
use crate::clock::now_ns;
use crate::tree::Folder;

/// Directories that are kept.
const KEPT: usize = 4;

/// The directories; cheap to clone.
#[derive(Clone, Default)]
pub struct Contexts(Arc<Mutex<Vec<Kept>>>);

/// A directory that is kept.
#[derive(Clone)]
pub(crate) struct Kept {
    /// Names it to users.
    pub(crate) id: String,
    /// What the client calls it.
    pub(crate) name: String,
    pub(crate) created_ns: i64,
    pub(crate) used_ns: i64,
    pub(crate) uses: i64,
    key: String,
    folder: Arc<Folder>,
}

impl Kept {
    /// Nobody looks at it, or at a part of it.
    fn is_unused(&self) -> bool {
        Arc::strong_count(&self.folder) == 1 && self.folder.is_alone()
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

impl Kept {
    pub(crate) fn folder(&self) -> Arc<Folder> {
        Arc::clone(&self.folder)
    }

    /// The same, used once more.
    pub(crate) fn used(self) -> Self {
        Self { uses: self.uses + 1, used_ns: now_ns(), ..self }
    }
}

impl Contexts {
    /// Takes the directory that came last under a key, to change it; `None` when there is none or somebody looks at it.
    pub(crate) fn take(&self, key: &str) -> Option<Kept> {
        let mut all = self.all();
        let at = all.iter().position(|kept| kept.key == key && kept.is_unused())?;
        Some(all.remove(at))
    }

    /// Puts one back that was taken, as what it is now.
    pub(crate) fn put_back(&self, kept: Kept, folder: &Arc<Folder>) {
        let put = Kept { folder: Arc::clone(folder), ..kept };
        let mut all = self.all();
        // Somebody who could not take it has brought one of their own.
        let other = all.iter().position(|other| other.key == put.key).map(|at| all.remove(at));
        all.push(put);
        drop(all);
        drop(other);
    }

    /// The directory that came last under a key.
    pub(crate) fn last(&self, key: &str) -> Option<Arc<Folder>> {
        let mut all = self.all();
        let kept = all.iter_mut().find(|kept| kept.key == key)?;
        kept.uses += 1;
        kept.used_ns = now_ns();
        Some(Arc::clone(&kept.folder))
    }

    /// Keeps a directory in place of the one before, and of the one that was not used for the longest time when there are too many.
    pub(crate) fn keep(&self, key: &str, name: &str, folder: &Arc<Folder>) {
        let now = now_ns();
        let mut all = self.all();
        let before = all.iter().position(|kept| kept.key == key).map(|at| all.remove(at));
        all.push(Kept {
            id: before.as_ref().map_or_else(new_id, |before| before.id.clone()),
            name: name.to_owned(),
            created_ns: before.as_ref().map_or(now, |before| before.created_ns),
            used_ns: now,
            uses: before.as_ref().map_or(1, |before| before.uses),
            key: key.to_owned(),
            folder: Arc::clone(folder),
        });
        let mut dropped = Vec::from_iter(before);
        if all.len() > KEPT
            && let Some(oldest) = (0..all.len()).min_by_key(|at| all[*at].used_ns)
        {
            dropped.push(all.remove(oldest));
        }
        drop(all);
        // Files are removed without the lock.
        drop(dropped);
    }

    /// Every directory, and whether a build uses it.
    pub(crate) fn list(&self) -> Vec<(Kept, bool)> {
        let all = self.all();
        let with_use = all.iter().map(|kept| {
            let in_use = !kept.is_unused();
            (kept.clone(), in_use)
        });
        with_use.collect()
    }

    /// Removes a directory.
    pub(crate) fn remove(&self, id: &str) {
        let mut all = self.all();
        let removed = all.iter().position(|kept| kept.id == id).map(|at| all.remove(at));
        drop(all);
        drop(removed);
    }

    fn all(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
