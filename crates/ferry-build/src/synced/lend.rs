//! The client's directories as they are lent to a build: what it asks for is brought here while it goes on.
//!
//! What a build needs to read before it is planned is brought one by one. Then it says which of the client's directories its steps look at, and
//! where; all of that comes at once, when the first step asks for it, so nothing is changed any more while steps look at it.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::Arc;

use ferry_api::context::{Listed, shown_directory};
use ferry_engine::images::Credentials;
use ferry_engine::workshop::Workshop;
use futures_util::future::BoxFuture;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

use super::Index;
use super::follow::{Used, follow};
use super::told::{Told, Wanted};
use crate::clock::now_ns;
use crate::contexts::{Contexts, Kept};
use crate::failure::{Doing, Failure, Result, blocking};
use crate::graph::LocalSource;
use crate::progress::Begun;
use crate::session::{Lender, Uploaded};
use crate::tree::Folder;

/// So many bytes that came are brought to the disk at once.
const BEGINS_SYNC: u64 = 16 << 20;

/// Bytes of the request's body, or why there are no more.
pub(crate) type Pieces = mpsc::Receiver<std::result::Result<bytes::Bytes, String>>;

/// A client's directories, told.
pub(crate) struct Synced {
    state: Arc<Mutex<State>>,
    rest: Uploaded,
}

struct State {
    body: Body,
    /// Tells the client what is wanted; gone when nothing will be any more.
    asks: Option<mpsc::UnboundedSender<Wanted>>,
    folder: Arc<Folder>,
    place: Place,
    stage: Stage,
}

/// Where directories are kept for later builds.
struct Place {
    key: String,
    kept: Option<Kept>,
    contexts: Contexts,
    workshop: Workshop,
}

enum Stage {
    /// More may be wanted.
    Open(Told),
    /// This is all that will be wanted.
    Announced(Told, Vec<LocalSource>),
    /// It is here: folders by name, and how many bytes came for each.
    Settled { folders: HashMap<String, Arc<Folder>>, came: HashMap<String, u64>, sources: Vec<LocalSource> },
    /// What is on the disk is not known.
    Broken(Failure),
}

impl Synced {
    /// Reads a list of a client's directories, and keeps of those that came last under the same key what is the same. Blocks.
    ///
    /// # Errors
    /// InvalidArgument for what is no such list.
    pub(crate) fn begin(
        pieces: Pieces,
        asks: mpsc::UnboundedSender<Wanted>,
        key: String,
        contexts: Contexts,
        workshop: Workshop,
        rest: Uploaded,
    ) -> Result<Self> {
        let mut body = Body { pieces, left: bytes::Bytes::new() };
        let mut list = Vec::new();
        while let Some(entry) = Listed::read(&mut body).doing("cannot read the build context")? {
            list.push(entry);
        }
        let mut told = Told::of(list)?;
        let kept = contexts.take(&key);
        let folder = match &kept {
            Some(kept) => kept.folder(),
            None => Arc::new(Folder::open(workshop.context_folder()?)?),
        };
        told.keep(folder.as_fd(), &folder.index().cloned().unwrap_or_default())?;
        let place = Place { key, kept, contexts, workshop };
        let state = State { body, asks: Some(asks), folder, place, stage: Stage::Open(told) };
        Ok(Self { state: Arc::new(Mutex::new(state)), rest })
    }
}

impl State {
    /// Changes the directories; when that fails nothing is known of them any more.
    fn change<T>(&mut self, change: impl FnOnce(&mut Self, Stage) -> Result<(Stage, T)>) -> Result<T> {
        let lost = Failure::internal("the transfer of a context broke off");
        let stage = std::mem::replace(&mut self.stage, Stage::Broken(lost));
        match change(self, stage) {
            Ok((stage, outcome)) => {
                self.stage = stage;
                Ok(outcome)
            }
            Err(failure) => {
                self.stage = Stage::Broken(failure.clone());
                self.asks = None;
                Err(failure)
            }
        }
    }

    /// Brings what is missing of what is used.
    fn bring(&mut self, told: &mut Told, sources: &[LocalSource]) -> Result<HashMap<String, u64>> {
        let used: Vec<Used<'_>> = sources.iter().map(used).collect();
        let missing = told.missing(follow(told, &used).as_deref());
        let wanted = told.wanted(&missing);
        if !wanted.is_empty() {
            // Who has left does not hear it, and the body ends.
            let _ = self.asks.as_ref().map(|asks| asks.send(wanted));
        }
        let came = told.bring(self.folder.as_fd(), &missing, &mut self.body)?;
        if came.values().sum::<u64>() >= BEGINS_SYNC {
            // Much of it is going to be files of layers.
            self.place.workshop.begin_sync();
        }
        Ok(came)
    }

    /// One of the directories, with what is used of it. Blocks.
    fn folder(&mut self, source: &LocalSource) -> Result<Option<(Arc<Folder>, Option<u64>)>> {
        self.change(|state, stage| match stage {
            Stage::Broken(failure) => Err(failure),
            Stage::Settled { .. } => Ok((stage, ())),
            Stage::Announced(told, sources) => state.settle(told, sources).map(|stage| (stage, ())),
            Stage::Open(mut told) => {
                if told.directories().contains(&source.name) {
                    state.bring(&mut told, std::slice::from_ref(source))?;
                }
                Ok((Stage::Open(told), ()))
            }
        })?;
        match &self.stage {
            Stage::Settled { folders, came, sources } => {
                let Some(folder) = folders.get(&source.name) else { return Ok(None) };
                let is_here = |other: &LocalSource| {
                    other.name == source.name
                        && (other.follow_paths.is_empty() || other.follow_paths == source.follow_paths)
                };
                if !sources.iter().any(is_here) {
                    return Err(Failure::internal(format!("nobody said that {} is used", source.name)));
                }
                Ok(Some((Arc::clone(folder), Some(came.get(&source.name).copied().unwrap_or_default()))))
            }
            Stage::Open(told) if told.directories().contains(&source.name) => {
                Ok(Some((Arc::new(self.folder.below(&source.name)?), None)))
            }
            _ => Ok(None),
        }
    }

    /// Brings all that was announced, and gives the directories to later builds.
    fn settle(&mut self, mut told: Told, mut sources: Vec<LocalSource>) -> Result<Stage> {
        let known = told.directories();
        sources.retain(|source| known.contains(&source.name));
        let came = self.bring(&mut told, &sources)?;
        self.asks = None;
        let folder = self.place.keep(&self.folder, told.into_index())?;
        let mut folders = HashMap::new();
        for source in &sources {
            if !folders.contains_key(&source.name) {
                folders.insert(source.name.clone(), Arc::new(folder.below(&source.name)?));
            }
        }
        self.folder = folder;
        Ok(Stage::Settled { folders, came, sources })
    }

    fn announce(&mut self, sources: Vec<LocalSource>) -> Result<()> {
        self.change(|state, stage| match stage {
            Stage::Open(told) if sources.is_empty() => Ok((state.settle(told, sources)?, ())),
            Stage::Open(told) => Ok((Stage::Announced(told, sources), ())),
            Stage::Broken(failure) => Err(failure),
            Stage::Announced(..) | Stage::Settled { .. } => {
                Err(Failure::internal("what a build needs of its context is told once"))
            }
        })
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let lost = Failure::internal("the build has ended");
        if let Stage::Open(told) | Stage::Announced(told, _) = std::mem::replace(&mut self.stage, Stage::Broken(lost))
            && let Err(failure) = self.place.keep(&self.folder, told.into_index())
        {
            tracing::warn!(error = %failure, "a context of a client is not kept");
        }
    }
}

impl Place {
    /// Gives a folder of which this is known to later builds.
    fn keep(&mut self, folder: &Folder, index: Index) -> Result<Arc<Folder>> {
        let folder = Arc::new(folder.known_as(index)?);
        match self.kept.take() {
            Some(kept) => self.contexts.put_back(kept.used(), &folder),
            None => self.contexts.keep(&self.key, "context", &folder),
        }
        Ok(folder)
    }
}

/// What is used of a directory. Patterns that leave things out are not looked at: what is ignored was not told.
fn used(source: &LocalSource) -> Used<'_> {
    let all = || source.follow_paths.iter().chain(&source.include_patterns).map(String::as_str);
    let is_all = all().any(|path| path.starts_with('!'));
    Used { directory: &source.name, paths: if is_all { Vec::new() } else { all().collect() } }
}

/// Does blocking work with the state, which stays locked if whoever waits for it leaves.
async fn with<T: Send + 'static>(
    state: &Arc<Mutex<State>>,
    work: impl FnOnce(&mut State) -> Result<T> + Send + 'static,
) -> Result<T> {
    let mut guard: OwnedMutexGuard<State> = Arc::clone(state).lock_owned().await;
    blocking(move || work(&mut guard)).await
}

impl Lender for Synced {
    fn files<'a>(&'a self, source: &'a LocalSource, begun: &'a Begun) -> BoxFuture<'a, Result<Option<Arc<Folder>>>> {
        Box::pin(async move {
            let (asked, started) = (source.clone(), now_ns());
            let found = with(&self.state, move |state| state.folder(&asked)).await?;
            let Some((folder, came)) = found else { return Ok(None) };
            if let Some(bytes) = came {
                let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                begun.status(&format!("transferring {}:", shown_directory(&source.name)), bytes, 0, started, true);
            }
            Ok(Some(folder))
        })
    }

    fn announce(&self, sources: Vec<LocalSource>) -> BoxFuture<'_, Result<()>> {
        Box::pin(with(&self.state, move |state| state.announce(sources)))
    }

    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        self.rest.secret(id)
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool>> {
        self.rest.has_agent(id)
    }

    fn agent<'a>(&'a self, id: &'a str, stream: UnixStream) -> BoxFuture<'a, Result<()>> {
        self.rest.agent(id, stream)
    }

    fn credentials<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<Credentials>>> {
        self.rest.credentials(registry)
    }
}

/// The rest of a request's body.
struct Body {
    pieces: Pieces,
    left: bytes::Bytes,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => self.left = piece,
                Some(Err(reason)) => return Err(std::io::Error::other(reason)),
                None => return Ok(0),
            }
        }
        let taken = self.left.split_to(self.left.len().min(buffer.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}
