//! Images: named content that containers are made of.
//!
//! Owns: image names and what they mean, pulling, loading and importing, who uses an image. The store below owns the bytes; this
//! service decides what is fetched, when a name is written (last of all) and when content may go.
//!
//! An image's id is the digest of its target, an index or a manifest. An image without a name is kept by a name below
//! [`names::DANGLING`], which no user can write.
//!
//! Locks: `state` is taken for look-ups and for writing one name record, never across a transfer. `transfers` is taken for a
//! look-up alone. Neither is held while the other is taken.

mod attestations;
mod body;
mod build;
mod bundled;
mod changes;
mod commit;
mod content;
mod discard;
mod explore;
mod history;
mod import;
mod inspect;
mod layers;
mod list;
mod load;
mod look;
mod names;
mod origins;
mod packages;
pub(crate) mod progress;
mod pull;
mod push;
mod rebuilt;
mod remote;
mod remove;
mod resolve;
mod save;
mod summary;
mod tag;
mod transfer;
mod unused;
mod used;
mod users;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use ferry_registry::{Client, ClientConfig, Mirrors, Proxies, RetryPolicy, Timeouts};
use ferry_spec::{Digest, Index, Platform, Reference};
use ferry_store::{ImageRecord, Store};
use tokio::sync::Semaphore;

use crate::config::{self, EngineConfig};
use crate::error::{Context, Error, Result};
use crate::events::Events;

pub use attestations::AttestationOptions;
pub(crate) use body::Body;
pub use build::{BuildHold, Fetched, KeptContent, StoredLayer, WrittenImage, built_name};
pub(crate) use changes::apply_to as apply_changes;
pub(crate) use commit::{Commit, CommitName};
pub use content::{RemoteBlob, RemoteContent};
pub(crate) use explore::absolute as absolute_path;
pub use ferry_registry::{Access, Credentials};
pub use import::ImportRequest;
pub use list::ListOptions;
pub use list::parse_moment;
pub(crate) use look::Look;
pub use packages::InstalledPackage;
pub use progress::JsonMessageStream;
pub use pull::PullRequest;
pub use push::PushRequest;
pub use resolve::ResolvedImage;
pub use save::ArchiveStream;
pub use unused::CollectRequest;

/// The images service; cheap to clone.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    store: Store,
    /// Replaced whole when registries are configured anew; transfers under way keep theirs.
    client: RwLock<Client>,
    events: Events,
    /// What images run here when nobody asks for another platform.
    host: Platform,
    state: Mutex<State>,
    /// Manifests and configurations that were read before, by the manifest's digest.
    parsed: Mutex<HashMap<Digest, Arc<resolve::Parsed>>>,
    /// Indexes that were read before. Content never changes, so neither map goes stale.
    indexes: Mutex<HashMap<Digest, Arc<Index>>>,
    transfers: Mutex<HashMap<pull::TransferKey, Arc<transfer::Transfer>>>,
    /// One lock per blob on its way in, so that it is fetched once.
    blobs: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    downloads: Arc<Semaphore>,
    /// Blobs that one push sends at a time.
    uploads: AtomicUsize,
    unpacks: Semaphore,
    used: used::LastUsed,
    live: config::LiveSettings,
    /// Layers are kept as they came, beside their files.
    keep_blobs: bool,
    /// What the cache of builds keeps.
    kept_by_builds: Mutex<KeptContent>,
}

/// Derived from the name records at start; changed only together with them.
#[derive(Default)]
struct State {
    names: BTreeMap<Reference, ImageRecord>,
    users: HashMap<String, Vec<users::User>>,
}

/// What the service stands on.
struct Parts {
    store: Store,
    client: Client,
    events: Events,
    live: config::LiveSettings,
    keep_blobs: bool,
}

impl Images {
    /// Reads the image names of `store`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn open(config: &EngineConfig, store: Store, events: Events) -> Result<Self> {
        let live = config.live.get();
        let client = client(config, &live);
        let keep_blobs = config.image_store.keep_blobs;
        let parts = Parts { store, client, events, live: config.live.clone(), keep_blobs };
        Self::with_parts(parts, live.max_concurrent_downloads, live.max_concurrent_uploads)
    }

    /// Goes on with other registries and other numbers of transfers at a time.
    pub(crate) fn reload(&self, config: &EngineConfig, live: &config::Live) {
        let before = config.live.get();
        *self.inner.client.write().unwrap_or_else(PoisonError::into_inner) = client(config, live);
        self.inner.uploads.store(live.max_concurrent_uploads.max(1), Ordering::Relaxed);
        let (old, new) = (before.max_concurrent_downloads.max(1), live.max_concurrent_downloads.max(1));
        self.inner.downloads.add_permits(new.saturating_sub(old));
        let fewer = u32::try_from(old.saturating_sub(new)).unwrap_or(u32::MAX);
        if fewer > 0 {
            let downloads = Arc::clone(&self.inner.downloads);
            // Those under way end first.
            tokio::spawn(async move {
                if let Ok(permits) = downloads.acquire_many(fewer).await {
                    permits.forget();
                }
            });
        }
    }

    /// As [`Images::open`], with a client made elsewhere.
    #[cfg(test)]
    pub(crate) fn with_client(
        store: Store,
        client: Client,
        events: Events,
        downloads: usize,
        uploads: usize,
    ) -> Result<Self> {
        let live = config::LiveSettings::default();
        Self::with_parts(Parts { store, client, events, live, keep_blobs: true }, downloads, uploads)
    }

    fn with_parts(parts: Parts, downloads: usize, uploads: usize) -> Result<Self> {
        let Parts { store, client, events, live, keep_blobs } = parts;
        let used = used::LastUsed::read(&store);
        let records = store.images().context("cannot read image names")?;
        let names = records.into_iter().map(|record| (record.reference.clone(), record)).collect();
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let inner = Inner {
            store,
            client: RwLock::new(client),
            events,
            host: Platform::host(),
            state: Mutex::new(State { names, users: HashMap::new() }),
            parsed: Mutex::default(),
            indexes: Mutex::default(),
            transfers: Mutex::default(),
            blobs: Mutex::default(),
            downloads: Arc::new(Semaphore::new(downloads.max(1))),
            uploads: AtomicUsize::new(uploads.max(1)),
            unpacks: Semaphore::new(cores.max(2)),
            used,
            live,
            keep_blobs,
            kept_by_builds: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The client of registries in force.
    pub(crate) fn registry(&self) -> Client {
        self.inner.client()
    }

    /// Runs blocking work of this service on a thread for it.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .unwrap_or_else(|error| Err(Error::internal("image work panicked").with_source(error)))
    }
}

/// The client of registries that these settings ask for.
fn client(config: &EngineConfig, live: &config::Live) -> Client {
    let mut mirrors = Mirrors::default();
    mirrors.add("docker.io", live.registry_mirrors.clone());
    for (registry, settings) in &live.registries {
        mirrors.add(registry, settings.mirrors.clone());
    }
    Client::new(ClientConfig {
        mirrors,
        retry: RetryPolicy { tries: live.max_download_attempts, ..RetryPolicy::default() },
        timeouts: Timeouts { stall: Duration::from_secs(live.registry_timeout_s.max(1)), ..Timeouts::default() },
        insecure: live.insecure_registries.clone(),
        proxies: Proxies {
            http: config.proxies.http.clone(),
            https: config.proxies.https.clone(),
            no_proxy: config.proxies.no_proxy.clone(),
        },
        ..ClientConfig::default()
    })
}

impl Inner {
    /// The client in force.
    fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The client in force, or one that reaches registries in another way.
    fn client_with(&self, access: &Access) -> Result<Client> {
        self.client().with_access(access).map_err(|error| Error::invalid(error.to_string()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one insertion or removal; a panic in between leaves nothing half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns every record whose target is `id`.
    fn names_of(&self, id: &Digest) -> Vec<ImageRecord> {
        self.state().names.values().filter(|record| record.target.digest == *id).cloned().collect()
    }

    /// Removes content that neither a name, nor a container, nor a transfer needs; returns its bytes. Failures are logged: what stays is found again
    /// by the next collection.
    fn collect(&self) -> u64 {
        let in_use = || {
            let used: Vec<Digest> = self.state().users.values().flatten().map(|user| user.image.clone()).collect();
            let mut live = self.kept_by_builds();
            for id in used {
                live.extend(self.store.reachable(&ferry_spec::Descriptor::new("", id, 0)));
            }
            live
        };
        match self.store.collect_with(in_use) {
            Ok(collected) => {
                tracing::debug!(bytes = collected.bytes, "image content collected");
                collected.bytes
            }
            Err(error) => {
                tracing::warn!(%error, "cannot remove unused image content");
                0
            }
        }
    }
}
