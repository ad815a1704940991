//! What a client lends to its build: files, secrets, agents, credentials.

use std::collections::HashMap;
use std::sync::Arc;

use ferry_engine::images::Credentials;
use futures_util::future::BoxFuture;
use tokio::net::UnixStream;

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

    /// A secret.
    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>>;

    /// Tells whether it has an SSH agent.
    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool>>;

    /// Connects `stream` with an SSH agent until either end is done.
    fn agent<'a>(&'a self, id: &'a str, stream: UnixStream) -> BoxFuture<'a, Result<()>>;

    /// Who the user is towards a registry.
    fn credentials<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<Credentials>>>;
}

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
