//! The client and its repositories: which hosts are asked in which order.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ferry_spec::Reference;

use crate::endpoint::{Endpoint, endpoints};
use crate::error::{Error, Result};
use crate::token::{Authorizer, Home};
use crate::transport::Transport;
use crate::{Access, ClientConfig, Credentials, Mirrors, RetryPolicy};

/// Speaks to registries; cheap to clone. Connections are kept and shared between all repositories.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
}

impl Client {
    /// Makes a client. Nothing is contacted.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        Self { transport: Arc::new(Transport::new(config)) }
    }

    /// Returns a client that differs only in how long it waits for a connection.
    #[must_use]
    pub fn with_connect_timeout(&self, timeout: Duration) -> Self {
        let mut config = self.transport.config.clone();
        config.timeouts.connect = timeout;
        Self::new(config)
    }

    /// Returns a client that differs in how registries are reached.
    ///
    /// # Errors
    /// [`Error::Configuration`] for authorities that are none.
    pub fn with_access(&self, access: &Access) -> Result<Self> {
        if *access == Access::default() {
            return Ok(self.clone());
        }
        let mut config = self.transport.config.clone();
        access.apply(&mut config)?;
        Ok(Self::new(config))
    }

    /// Opens the repository of `reference` for reading. Nothing is contacted yet.
    ///
    /// # Errors
    /// [`Error::Configuration`] when the registry or a mirror of it cannot be a host.
    pub fn repository(&self, reference: &Reference, credentials: Option<Credentials>) -> Result<Repository> {
        self.open(reference, credentials, format!("repository:{}:pull", reference.path()), true)
    }

    /// Opens the repository of a managed plugin, which Docker's registry grants under a word of its own. Nothing is contacted yet.
    ///
    /// # Errors
    /// As [`Client::repository`].
    pub fn plugin_repository(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
        to_write: bool,
    ) -> Result<Repository> {
        let rights = if to_write { "pull,push" } else { "pull" };
        self.open(reference, credentials, format!("repository(plugin):{}:{rights}", reference.path()), !to_write)
    }

    /// Opens a repository; without mirrors the registry itself is the only host.
    pub(crate) fn open(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
        scope: String,
        with_mirrors: bool,
    ) -> Result<Repository> {
        let registry = reference.domain();
        let none = Mirrors::default();
        let mirrors = if with_mirrors { &self.transport.config.mirrors } else { &none };
        let hosts = endpoints(registry, mirrors, self.transport.insecure())?
            .into_iter()
            .map(|endpoint| self.transport.config.adapted(endpoint))
            .map(|endpoint| {
                // A mirror is another host: what the user stored for the registry is none of its business.
                let of_user = credentials.clone().filter(|given| given.host(registry) == endpoint.host());
                let own = endpoint.credentials.clone().or(of_user);
                let authorizer = Authorizer::new(own, scope.clone(), Home::of(&endpoint));
                Host { endpoint, authorizer, plain: AtomicBool::new(false), contacted: AtomicBool::new(false) }
            })
            .collect();
        let inner = Inner {
            transport: Arc::clone(&self.transport),
            name: reference.name(),
            path: reference.path().to_owned(),
            hosts,
            preferred: AtomicUsize::new(0),
        };
        Ok(Repository(Arc::new(inner)))
    }
}

impl ClientConfig {
    /// Makes the registry itself what the configuration says of it.
    fn adapted(&self, endpoint: Endpoint) -> Endpoint {
        if !self.plain_http || endpoint.mirror_of.is_some() {
            return endpoint;
        }
        Endpoint { base: endpoint.plain(), insecure: true, ..endpoint }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// One repository, with the tokens that were fetched for it; cheap to clone.
#[derive(Clone)]
pub struct Repository(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) transport: Arc<Transport>,
    /// `domain/path`.
    pub(crate) name: String,
    /// `path`, as it stands in URLs.
    pub(crate) path: String,
    /// Never empty.
    pub(crate) hosts: Vec<Host>,
    /// The host that knew the manifest, asked first for the rest.
    preferred: AtomicUsize,
}

/// One host that may serve the repository, and what was learned about it.
pub(crate) struct Host {
    pub(crate) endpoint: Endpoint,
    pub(crate) authorizer: Authorizer,
    /// An insecure host that turned out to speak plain HTTP.
    pub(crate) plain: AtomicBool,
    /// It answered at least once.
    pub(crate) contacted: AtomicBool,
}

impl Inner {
    /// Returns the hosts in the order to ask them.
    fn order(&self) -> Vec<usize> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let others = (0..self.hosts.len()).filter(|&at| at != preferred);
        std::iter::once(preferred).chain(others).collect()
    }

    /// Does `work` at the first host that can. Only the last host is asked again when it fails in a way that may pass.
    ///
    /// `work` is given the host's place: futures that borrow from their argument cannot be sent to other threads.
    pub(crate) async fn at_some_host<T, F: Future<Output = Result<T>>>(&self, work: impl Fn(usize) -> F) -> Result<T> {
        let order = self.order();
        let mut worst: Option<Error> = None;
        for (position, &at) in order.iter().enumerate() {
            let host = &self.hosts[at];
            let mut policy: RetryPolicy = self.transport.config.retry;
            if position + 1 < order.len() {
                policy.tries = 1;
            }
            match policy.run(host.contacted.load(Ordering::Relaxed), || work(at)).await {
                Ok(value) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(value);
                }
                Err(error) => {
                    tracing::debug!(host = host.endpoint.host(), %error, "a registry host did not serve the request");
                    if worst.as_ref().is_none_or(|before| weight(&error) > weight(before)) {
                        worst = Some(error);
                    }
                }
            }
        }
        Err(worst.expect("there is always a host"))
    }
}

/// Orders errors of several hosts by how much they tell: a host that answered knows more than one that did not.
fn weight(error: &Error) -> u8 {
    match error {
        error if error.is_unreachable() => 0,
        Error::Request { .. } | Error::Configuration(_) => 1,
        Error::NotFound { .. } => 2,
        _ => 3,
    }
}
