//! The thread that brings records to the disk, many at once.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use super::{RecordError, new_path, remove_files, write_temporary};

/// How long an acknowledged record may wait for the disk; the sync itself comes on top of it.
const GATHER: Duration = Duration::from_millis(500);

/// Writes records that reach the disk within a second. Cheap to clone; the last clone to be dropped flushes.
#[derive(Debug, Clone)]
pub struct Syncer {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Path to the generation that was written last.
    dirty: HashMap<PathBuf, u64>,
    generation: u64,
    /// Everything up to this generation is on the disk or given up.
    synced: u64,
    /// Somebody waits for [`Syncer::flush`].
    hurry: bool,
    stopping: bool,
    /// First failure since the last flush.
    failure: Option<(PathBuf, io::Error)>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Syncer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("record-sync".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || run(&for_thread))?;
        Ok(Self { handle: Arc::new(Handle { shared, thread: Some(thread) }) })
    }

    /// Writes a record; it is seen by readers when this returns and on the disk within a second.
    ///
    /// # Errors
    /// [`RecordError`]; what was there before is untouched then.
    pub fn write<T: Serialize>(&self, path: &Path, record: &T) -> Result<(), RecordError> {
        let temporary = write_temporary(path, record)?;
        let mut state = self.handle.shared.lock();
        if let Err(source) = fs::rename(&temporary, new_path(path)) {
            drop(state);
            // The sweep at the next start takes it otherwise.
            let _ = fs::remove_file(&temporary);
            return Err(RecordError::Io { action: "write", path: path.to_owned(), source });
        }
        state.generation += 1;
        let generation = state.generation;
        state.dirty.insert(path.to_owned(), generation);
        self.handle.shared.changed.notify_all();
        Ok(())
    }

    /// Removes a record; tells whether there was one. The removal is on the disk within a second.
    ///
    /// # Errors
    /// [`RecordError::Io`].
    pub fn remove(&self, path: &Path) -> Result<bool, RecordError> {
        let mut state = self.handle.shared.lock();
        let there =
            remove_files(path).map_err(|source| RecordError::Io { action: "remove", path: path.to_owned(), source })?;
        if there {
            state.generation += 1;
            let generation = state.generation;
            state.dirty.insert(path.to_owned(), generation);
            self.handle.shared.changed.notify_all();
        }
        Ok(there)
    }

    /// Returns when everything written before is on the disk.
    ///
    /// # Errors
    /// The first failure to sync since the last flush; the record is still readable then, but may not outlive a power cut.
    pub fn flush(&self) -> Result<(), RecordError> {
        let mut state = self.handle.shared.lock();
        let until = state.generation;
        while state.synced < until {
            state.hurry = true;
            self.handle.shared.changed.notify_all();
            state = self.handle.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match state.failure.take() {
            Some((path, source)) => Err(RecordError::Io { action: "sync", path, source }),
            None => Ok(()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It ends after its last round; a panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared) {
    let mut state = shared.lock();
    loop {
        while state.dirty.is_empty() && !state.stopping {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.dirty.is_empty() {
            return;
        }
        let gathered = shared.changed.wait_timeout_while(state, GATHER, |state| !state.hurry && !state.stopping);
        state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        state.hurry = false;
        let generation = state.generation;
        let round: Vec<(PathBuf, u64)> = state.dirty.iter().map(|(path, number)| (path.clone(), *number)).collect();
        drop(state);
        let failure = sync_round(shared, round);
        state = shared.lock();
        if let Some((path, source)) = failure {
            tracing::error!(path = %path.display(), error = %source, "record not synced");
            state.failure.get_or_insert((path, source));
        }
        state.synced = generation;
        shared.changed.notify_all();
    }
}

/// Syncs the files, gives each its final name unless a newer version came meanwhile, then syncs every folder once.
fn sync_round(shared: &Shared, round: Vec<(PathBuf, u64)>) -> Option<(PathBuf, io::Error)> {
    let mut failure = None;
    let mut folders: Vec<PathBuf> = Vec::new();
    for (path, generation) in round {
        let synced = sync_file(&new_path(&path));
        let mut state = shared.lock();
        if state.dirty.get(&path) != Some(&generation) {
            // Written again since: that version's round comes, and this one needs no name any more. Its data may be on the
            // disk already, which is no harm.
            continue;
        }
        state.dirty.remove(&path);
        let renamed = synced.and_then(|there| if there { rename_if_there(&new_path(&path), &path) } else { Ok(()) });
        drop(state);
        match renamed {
            Ok(()) => folders.extend(path.parent().map(Path::to_owned)),
            Err(error) => failure = failure.or(Some((path, error))),
        }
    }
    folders.sort();
    folders.dedup();
    for folder in folders {
        if let Err(error) = sync_file(&folder) {
            failure = failure.or(Some((folder, error)));
        }
    }
    failure
}

/// Syncs a file or folder; one that is gone was removed by its owner.
fn sync_file(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(file) => file.sync_all().map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
