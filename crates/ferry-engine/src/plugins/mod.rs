//! Plugins: programs beside the daemon that keep volumes, make networks, take logs, or say who may do what.
//!
//! Owns how a plugin is found ([`discovery`]), spoken to ([`client`]) and what its interfaces say. Who uses a plugin tells so by references
//! (`acquire`, `release`), so that nothing in use is taken away. Nothing here holds a lock across a call.

mod authorization;
mod client;
mod discovery;
mod ipam_driver;
mod line_stream;
mod log_driver;
pub mod managed;
mod network_driver;
mod transport;
mod volume_driver;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::OnceCell;

pub use self::authorization::Judged;
pub(crate) use self::client::{CallError, Patience};
pub(crate) use self::ipam_driver::{CAPABILITY as IPAM_DRIVER, PoolRequest};
pub(crate) use self::line_stream::LineStream;
pub(crate) use self::log_driver::{CAPABILITY as LOG_DRIVER, LogInfo, ReadConfig};
pub(crate) use self::network_driver::{
    CAPABILITY as NETWORK_DRIVER, Interface, IpamData, Joined, NewEndpoint, NewNetwork, StaticRoute,
};
pub(crate) use self::volume_driver::{CAPABILITY as VOLUME_DRIVER, PluginVolume};

use self::client::Client;
use self::discovery::Places;
use self::managed::Managed;
use self::transport::Address;
use crate::error::{Error, Result};

/// After the daemon's start a plugin that is not there may still come, as when the host boots.
const BOOT: Duration = Duration::from_secs(15);

/// As long as the host is no older than this.
const HOST_BOOT_S: i64 = 300;

/// The plugins of one engine.
#[derive(Clone)]
pub struct Plugins {
    inner: Arc<Inner>,
}

struct Inner {
    places: Places,
    managed: Managed,
    begun: Instant,
    /// Those that were spoken to, by name.
    known: Mutex<BTreeMap<String, Arc<Plugin>>>,
    users: Users,
}

/// Who uses which plugin.
#[derive(Debug, Clone, Default)]
pub(crate) struct Users(Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>);

impl Users {
    fn table(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
        self.0.lock().expect("no panic while held")
    }

    /// Whether anybody uses the plugin of that name.
    fn any(&self, plugin: &str) -> bool {
        self.table().contains_key(plugin)
    }
}

/// A plugin that was spoken to.
#[derive(Debug)]
pub(crate) struct Plugin {
    /// Its whole name.
    pub(crate) name: String,
    client: Client,
    implements: Vec<String>,
    /// Of its volumes.
    scope: OnceCell<String>,
    /// How far its networks reach.
    network_scope: OnceCell<String>,
    /// What it gave to earlier daemons has been asked for again.
    pub(crate) replayed: OnceCell<()>,
    /// Where the host finds what it names; `None` where that is the same.
    elsewhere: Option<managed::Places>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "Implements", default)]
    implements: Option<Vec<String>>,
}

impl Plugins {
    /// Knows no plugin yet.
    pub(crate) fn new(managed: Managed, users: Users) -> Self {
        let inner = Inner { places: Places::default(), managed, begun: Instant::now(), known: Mutex::default(), users };
        Self { inner: Arc::new(inner) }
    }

    /// Those that are installed here.
    pub fn managed(&self) -> &Managed {
        &self.inner.managed
    }

    /// The plugin of that name, which has the capability.
    ///
    /// # Errors
    /// NotFound with Docker's text.
    pub(crate) async fn get(&self, name: &str, capability: &str) -> Result<Arc<Plugin>> {
        if let Some(target) = self.inner.managed.get(name, capability) {
            return Ok(self.of_managed(target?));
        }
        let mut wait = Duration::from_secs(1);
        let address = loop {
            match self.inner.places.find(name) {
                Some(address) => break address.map_err(|why| Error::internal(format!("legacy plugin: {why}")))?,
                None if self.inner.begun.elapsed() + wait < BOOT && rustix::system::sysinfo().uptime < HOST_BOOT_S => {
                    tracing::warn!(plugin = name, "plugin not there yet, looking again");
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                None => return Err(Error::not_found(format!("plugin {name:?} not found"))),
            }
        };
        let plugin = self.activated(name, address, Patience::SHORT).await;
        let plugin = plugin.map_err(|error| Error::internal(format!("legacy plugin: {}", error.text())))?;
        if plugin.implements.iter().any(|one| one == capability) {
            return Ok(plugin);
        }
        Err(Error::internal(format!(
            "legacy plugin: Plugin does not implement the requested driver: plugin={name:?}, requested implementation={capability:?}"
        )))
    }

    /// Whether it is worth asking.
    pub(crate) fn may_have_any(&self) -> bool {
        !self.inner.places.names().is_empty() || !self.inner.managed.with(VOLUME_DRIVER).is_empty()
    }

    fn of_managed(&self, target: managed::Target) -> Arc<Plugin> {
        if let Some(known) = self.known().get(&target.name)
            && *known.client.address() == target.address
            && known.client.timeout() == target.timeout
        {
            return Arc::clone(known);
        }
        let plugin = Arc::new(Plugin {
            name: target.name.clone(),
            client: Client::new(target.address, target.timeout),
            implements: target.implements,
            scope: OnceCell::new(),
            network_scope: OnceCell::new(),
            replayed: OnceCell::new(),
            elsewhere: Some(target.places),
        });
        self.known().insert(target.name, Arc::clone(&plugin));
        plugin
    }

    /// Names of the plugins beside the daemon that were spoken to and have a capability.
    pub(crate) fn known_with(&self, capability: &str) -> Vec<String> {
        let known = self.known();
        let legacy = known.values().filter(|plugin| plugin.elsewhere.is_none());
        let fitting = legacy.filter(|plugin| plugin.implements.iter().any(|one| one == capability));
        fitting.map(|plugin| plugin.name.clone()).collect()
    }

    /// Names of the plugins that are installed here, enabled and have a capability.
    pub(crate) fn installed_with(&self, capability: &str) -> Vec<String> {
        self.inner.managed.with(capability).into_iter().map(|target| target.name).collect()
    }

    /// Every plugin with a capability; one that does not answer at once is left out.
    pub(crate) async fn with(&self, capability: &str) -> Vec<Arc<Plugin>> {
        let asked = self.inner.places.names().into_iter().filter_map(|name| {
            let address = self.inner.places.find(&name)?.ok()?;
            Some(async move {
                match self.activated(&name, address, Patience::QUICK).await {
                    Ok(plugin) => Some(plugin),
                    Err(error) => {
                        tracing::warn!(plugin = name, error = error.text(), "plugin left out");
                        None
                    }
                }
            })
        });
        let found = futures_util::future::join_all(asked).await;
        let managed = self.inner.managed.with(capability).into_iter().map(|target| self.of_managed(target));
        let found = found.into_iter().chain(managed.map(Some));
        found
            .flatten()
            .filter(|plugin| plugin.implements.iter().any(|one| one.eq_ignore_ascii_case(capability)))
            .collect()
    }

    /// Asks a plugin what it is, once for each address.
    async fn activated(&self, name: &str, address: Address, patience: Patience) -> Result<Arc<Plugin>, CallError> {
        let known = self.known().get(name).filter(|plugin| *plugin.client.address() == address).cloned();
        if let Some(plugin) = known {
            return Ok(plugin);
        }
        let client = Client::new(address, None);
        let manifest: Manifest = client.call("Plugin.Activate", None::<&()>, patience).await?;
        let plugin = Arc::new(Plugin {
            name: name.to_owned(),
            client,
            implements: manifest.implements.unwrap_or_default(),
            scope: OnceCell::new(),
            network_scope: OnceCell::new(),
            replayed: OnceCell::new(),
            elsewhere: None,
        });
        self.known().insert(name.to_owned(), Arc::clone(&plugin));
        Ok(plugin)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Plugin>>> {
        self.inner.known.lock().expect("no panic while held")
    }

    /// Notes that something uses a plugin.
    pub(crate) fn acquire(&self, plugin: &str, user: &str) {
        self.inner.users.table().entry(plugin.to_owned()).or_default().insert(user.to_owned());
    }

    /// The use has ended.
    pub(crate) fn release(&self, plugin: &str, user: &str) {
        let mut users = self.inner.users.table();
        if let Some(of_plugin) = users.get_mut(plugin) {
            of_plugin.remove(user);
            if of_plugin.is_empty() {
                users.remove(plugin);
            }
        }
    }
}

impl Plugin {
    /// Where the host finds a path that the plugin names.
    fn on_host(&self, path: &str) -> String {
        self.elsewhere.as_ref().map_or_else(|| path.to_owned(), |places| places.on_host(path))
    }
}
