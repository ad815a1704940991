//! What a client lends to its build: files, secrets, agents, credentials.

use std::collections::HashMap;
use std::sync::Arc;

use ferry_engine::images::Credentials;
use futures_util::future::BoxFuture;
use tokio::net::UnixStream;

use crate::buildkit::ContentStore;
use crate::failure::{Failure, Result};
use crate::graph::LocalSource;
use crate::progress::Begun;
use crate::tree::Folder;

/// What a client lends; nothing by default. Cheap to clone.
#[derive(Clone, Default)]
pub struct Session(Option<Arc<dyn Lender>>);

/// Somebody who lends. Each answer is `None` for what it does not have.
pub trait Lender: Send + Sync {
    /// Files of one of its directories.
    fn files<'a>(&'a self, source: &'a LocalSource, begun: &'a Begun) -> BoxFuture<'a, Result<Option<Arc<Folder>>>>;

    /// Hears, once, which of its directories the steps of a build are going to look at, and where.
    fn announce(&self, sources: Vec<LocalSource>) -> BoxFuture<'_, Result<()>> {
        let _ = sources;
        Box::pin(async { Ok(()) })
    }

    /// A secret.
    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>>;

    /// Tells whether it has an SSH agent.
    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool>>;

    /// Tells whether it lends SSH agents at all.
    fn lends_agents(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async { Ok(false) })
    }

    /// Connects `stream` with an SSH agent until either end is done.
    fn agent<'a>(&'a self, id: &'a str, stream: UnixStream) -> BoxFuture<'a, Result<()>>;

    /// Who the user is towards a registry.
    fn credentials<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<Credentials>>>;

    /// A file that the client holds ready under an address of its own.
    fn upload<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Pieces>>> {
        let _ = path;
        Box::pin(async { Ok(None) })
    }

    /// A store of blobs.
    fn content<'a>(&'a self, store: &'a str) -> BoxFuture<'a, Result<Option<ContentStore>>> {
        let _ = store;
        Box::pin(async { Ok(None) })
    }

    /// It tells itself how its transfers of files go.
    fn tells_transfers(&self) -> bool {
        false
    }
}

/// Bytes of a file, as they come.
pub type Pieces = tokio::sync::mpsc::Receiver<Result<bytes::Bytes>>;

impl Session {
    /// What somebody lends.
    #[must_use]
    pub fn of(lender: Arc<dyn Lender>) -> Self {
        Self(Some(lender))
    }

    /// Files of one of the client's directories.
    ///
    /// # Errors
    /// When it has no such directory, or they cannot be brought here.
    pub async fn files(&self, source: &LocalSource, begun: &Begun) -> Result<Arc<Folder>> {
        let found = match &self.0 {
            Some(lender) => lender.files(source, begun).await?,
            None => None,
        };
        found.ok_or_else(|| Failure::invalid(format!("no local source {:?} in this build", source.name)))
    }

    /// Says which of the client's directories the steps of a build are going to look at, and where.
    ///
    /// # Errors
    /// When that was said before.
    pub async fn announce(&self, sources: Vec<LocalSource>) -> Result<()> {
        match &self.0 {
            Some(lender) => lender.announce(sources).await,
            None => Ok(()),
        }
    }

    /// A secret.
    ///
    /// # Errors
    /// When it cannot be asked for.
    pub async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>> {
        match &self.0 {
            Some(lender) => lender.secret(id).await,
            None => Ok(None),
        }
    }

    /// Tells whether there is an SSH agent.
    ///
    /// # Errors
    /// When it cannot be asked for.
    pub async fn has_agent(&self, id: &str) -> Result<bool> {
        match &self.0 {
            Some(lender) => lender.has_agent(id).await,
            None => Ok(false),
        }
    }

    /// Tells whether SSH agents are lent at all.
    ///
    /// # Errors
    /// When it cannot be asked for.
    pub async fn lends_agents(&self) -> Result<bool> {
        match &self.0 {
            Some(lender) => lender.lends_agents().await,
            None => Ok(false),
        }
    }

    /// Connects a stream with an SSH agent.
    ///
    /// # Errors
    /// When there is none.
    pub async fn agent(&self, id: &str, stream: UnixStream) -> Result<()> {
        match &self.0 {
            Some(lender) => lender.agent(id, stream).await,
            None => Err(Failure::invalid(format!("no SSH agent {id}"))),
        }
    }

    /// Who the user is towards a registry.
    ///
    /// # Errors
    /// When it cannot be asked for.
    pub async fn credentials(&self, registry: &str) -> Result<Option<Credentials>> {
        match &self.0 {
            Some(lender) => lender.credentials(registry).await,
            None => Ok(None),
        }
    }
}

impl Session {
    /// A file that the client holds ready under an address of its own.
    ///
    /// # Errors
    /// When there is none.
    pub async fn upload(&self, path: &str) -> Result<Pieces> {
        let found = match &self.0 {
            Some(lender) => lender.upload(path).await?,
            None => None,
        };
        found.ok_or_else(|| Failure::invalid(format!("the client holds no file ready at {path}")))
    }

    /// A store of blobs.
    ///
    /// # Errors
    /// When it cannot be asked for.
    pub(crate) async fn content(&self, store: &str) -> Result<Option<ContentStore>> {
        match &self.0 {
            Some(lender) => lender.content(store).await,
            None => Ok(None),
        }
    }

    /// The same, and from somebody else what it does not have.
    #[must_use]
    pub fn or(self, other: Session) -> Self {
        match (&self.0, &other.0) {
            (None, _) => other,
            (_, None) => self,
            _ => Self::of(Arc::new(Either { first: self, then: other })),
        }
    }

    /// Whoever lends tells itself how its transfers of files go.
    #[must_use]
    pub fn tells_transfers(&self) -> bool {
        self.0.as_ref().is_some_and(|lender| lender.tells_transfers())
    }

    /// The same with folders that the daemon brought here itself in place of the client's.
    #[must_use]
    pub fn with_folders(self, folders: HashMap<String, Arc<Folder>>) -> Self {
        Self::of(Arc::new(Layered { folders, rest: self }))
    }
}

/// Folders, and what somebody else lends.
struct Layered {
    folders: HashMap<String, Arc<Folder>>,
    rest: Session,
}

impl Lender for Layered {
    fn files<'a>(&'a self, source: &'a LocalSource, begun: &'a Begun) -> BoxFuture<'a, Result<Option<Arc<Folder>>>> {
        Box::pin(async move {
            match self.folders.get(&source.name) {
                Some(folder) => Ok(Some(Arc::clone(folder))),
                None => self.rest.files(source, begun).await.map(Some),
            }
        })
    }

    fn announce(&self, mut sources: Vec<LocalSource>) -> BoxFuture<'_, Result<()>> {
        sources.retain(|source| !self.folders.contains_key(&source.name));
        Box::pin(self.rest.announce(sources))
    }

    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        Box::pin(self.rest.secret(id))
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.rest.has_agent(id))
    }

    fn lends_agents(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.rest.lends_agents())
    }

    fn agent<'a>(&'a self, id: &'a str, stream: UnixStream) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.rest.agent(id, stream))
    }

    fn credentials<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<Credentials>>> {
        Box::pin(self.rest.credentials(registry))
    }

    fn upload<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Pieces>>> {
        Box::pin(async move { self.rest.upload(path).await.map(Some) })
    }

    fn content<'a>(&'a self, store: &'a str) -> BoxFuture<'a, Result<Option<ContentStore>>> {
        Box::pin(self.rest.content(store))
    }
}

/// What one lends, and what another lends besides.
struct Either {
    first: Session,
    then: Session,
}

impl Either {
    fn lenders(&self) -> impl Iterator<Item = &Arc<dyn Lender>> {
        [&self.first, &self.then].into_iter().filter_map(|session| session.0.as_ref())
    }
}

impl Lender for Either {
    fn files<'a>(&'a self, source: &'a LocalSource, begun: &'a Begun) -> BoxFuture<'a, Result<Option<Arc<Folder>>>> {
        Box::pin(async move {
            for lender in self.lenders() {
                if let Some(found) = lender.files(source, begun).await? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        })
    }

    fn announce(&self, sources: Vec<LocalSource>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            for lender in self.lenders() {
                lender.announce(sources.clone()).await?;
            }
            Ok(())
        })
    }

    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        Box::pin(async move {
            for lender in self.lenders() {
                if let Some(found) = lender.secret(id).await? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        })
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { Ok(self.first.has_agent(id).await? || self.then.has_agent(id).await?) })
    }

    fn lends_agents(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move { Ok(self.first.lends_agents().await? || self.then.lends_agents().await?) })
    }

    fn agent<'a>(&'a self, id: &'a str, stream: UnixStream) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match self.first.has_agent(id).await? {
                true => self.first.agent(id, stream).await,
                false => self.then.agent(id, stream).await,
            }
        })
    }

    fn credentials<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<Credentials>>> {
        Box::pin(async move {
            for lender in self.lenders() {
                if let Some(found) = lender.credentials(registry).await? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        })
    }

    fn upload<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Pieces>>> {
        Box::pin(async move {
            for lender in self.lenders() {
                if let Some(found) = lender.upload(path).await? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        })
    }

    fn content<'a>(&'a self, store: &'a str) -> BoxFuture<'a, Result<Option<ContentStore>>> {
        Box::pin(async move {
            for lender in self.lenders() {
                if let Some(found) = lender.content(store).await? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        })
    }
}

/// What came with the request itself.
#[derive(Default)]
pub struct Uploaded {
    /// Directories by name.
    pub folders: HashMap<String, Arc<Folder>>,
    /// Secrets by id.
    pub secrets: HashMap<String, Vec<u8>>,
}

impl Lender for Uploaded {
    fn files<'a>(&'a self, source: &'a LocalSource, _begun: &'a Begun) -> BoxFuture<'a, Result<Option<Arc<Folder>>>> {
        Box::pin(async move { Ok(self.folders.get(&source.name).cloned()) })
    }

    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        Box::pin(async move { Ok(self.secrets.get(id).cloned()) })
    }

    fn has_agent<'a>(&'a self, _id: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async { Ok(false) })
    }

    fn agent<'a>(&'a self, id: &'a str, _stream: UnixStream) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { Err(Failure::invalid(format!("no SSH agent {id}"))) })
    }

    fn credentials<'a>(&'a self, _registry: &'a str) -> BoxFuture<'a, Result<Option<Credentials>>> {
        Box::pin(async { Ok(None) })
    }
}
