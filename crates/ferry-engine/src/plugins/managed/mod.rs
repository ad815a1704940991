//! Managed plugins: installed from a registry or made here, and run as containers of their own kind.
//!
//! Owns, and draws:
//! ```text
//! <data-root>/plugins/<id>/plugin.json       the record
//! <data-root>/plugins/<id>/rootfs/           its files, unpacked
//! <data-root>/plugins/<id>/blobs/<hex>       configuration, manifest, layers, for `push`
//! <data-root>/plugins/<id>/propagated-mount/ what it mounts for others
//! <exec-root>/p/<id[..12]>/run/              of its shim
//! <exec-root>/p/<id[..12]>/sockets/          /run/docker/plugins inside
//! <exec-root>/p/<id[..12]>/logging/          /run/docker/logging inside
//! ```
//! A folder without a record is what a crash left, and goes at the next start. Locks: `verb` of a plugin is held by whoever starts, stops or
//! removes it; `table` for look-ups alone.

mod blobs;
mod create;
mod fetch;
mod privileges;
mod push;
mod run;
mod settings;
mod spec;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ferry_api::filters::Filters;
use ferry_api::plugin::Plugin as ApiPlugin;
use ferry_spec::path;
use ferry_spec::plugin::{PluginConfig, PluginSettings};
use ferry_spec::{Descriptor, Reference};
use ferry_store::Store;
use ferry_store::record::{self, Syncer};
use serde::{Deserialize, Serialize};

pub use self::fetch::PluginPull;

use self::run::Runs;
use super::Users;
use super::transport::Address;
use crate::config::EngineConfig;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::events::Events;
use crate::images::Images;
use crate::shims::ShimPool;

const RECORD: &str = "plugin.json";

/// The managed plugins of one engine.
#[derive(Clone)]
pub struct Managed {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<EngineConfig>,
    instance: String,
    store: Store,
    images: Images,
    events: Events,
    syncer: Syncer,
    shims: ShimPool,
    users: Users,
    table: Mutex<BTreeMap<String, Arc<Entry>>>,
}

/// What the service is made of.
pub(crate) struct Parts {
    pub(crate) config: Arc<EngineConfig>,
    pub(crate) instance: String,
    pub(crate) store: Store,
    pub(crate) images: Images,
    pub(crate) events: Events,
    pub(crate) syncer: Syncer,
    pub(crate) shims: ShimPool,
    pub(crate) users: Users,
}

/// One plugin in memory.
struct Entry {
    id: String,
    record: Mutex<Record>,
    /// Held by whoever starts, stops, changes or removes it.
    verb: tokio::sync::Mutex<()>,
    runs: Runs,
}

/// One plugin on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    id: String,
    /// With its tag.
    name: String,
    /// Where it came from.
    reference: String,
    enabled: bool,
    /// Of `enable`: seconds that a call may take; 0 is no limit.
    timeout_s: u64,
    config: PluginConfig,
    settings: PluginSettings,
    manifest: Descriptor,
    config_blob: Descriptor,
    layers: Vec<Descriptor>,
}

impl Entry {
    fn new(record: Record) -> Arc<Self> {
        let id = record.id.clone();
        Arc::new(Self { id, record: Mutex::new(record), verb: tokio::sync::Mutex::new(()), runs: Runs::default() })
    }

    fn record(&self) -> Record {
        self.record.lock().expect("no panic while held").clone()
    }
}

impl Managed {
    /// Reads every record. Nothing is started.
    pub(crate) fn open(parts: Parts) -> Result<Self> {
        let Parts { config, instance, store, images, events, syncer, shims, users } = parts;
        let root = config.data_root.join("plugins");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&root).context("cannot make the plugins folder")?;
        let mut table = BTreeMap::new();
        for entry in fs::read_dir(&root).context("cannot read the plugins folder")?.flatten() {
            let path = entry.path();
            record::sweep_or_warn(&path);
            match record::read::<Record>(&path.join(RECORD)) {
                Ok(Some(record)) => {
                    table.insert(record.id.clone(), Entry::new(record));
                }
                Ok(None) => discard(&path),
                Err(error) => tracing::error!(plugin = %path.display(), %error, "plugin record set aside"),
            }
        }
        let table = Mutex::new(table);
        Ok(Self { inner: Arc::new(Inner { config, instance, store, images, events, syncer, shims, users, table }) })
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Entry>>> {
        self.inner.table.lock().expect("no panic while held")
    }

    fn folder(&self, id: &str) -> PathBuf {
        self.inner.config.data_root.join("plugins").join(id)
    }

    /// Looks a plugin up by id, by name, or by the beginning of its id.
    fn find(&self, wanted: &str) -> Result<Arc<Entry>> {
        let not_found = || Error::not_found(format!("plugin {wanted:?} not found"));
        let table = self.table();
        if wanted.len() == 64 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return table.get(wanted).cloned().ok_or_else(not_found);
        }
        let reference = Reference::parse(wanted).map_err(|_| not_found())?;
        if reference.digest().is_some() {
            return Err(not_found());
        }
        let name = reference.with_default_tag().familiar();
        if let Some(entry) = table.values().find(|entry| entry.record().name == name) {
            return Ok(Arc::clone(entry));
        }
        let mut found = table.values().filter(|entry| entry.id.starts_with(wanted));
        match (found.next(), found.next()) {
            (Some(entry), None) => Ok(Arc::clone(entry)),
            (Some(_), Some(_)) => Err(Error::invalid(format!("multiple plugins found for {wanted:?}"))),
            (None, _) => Err(not_found()),
        }
    }

    /// The plugin of that name with a capability, where there is one; `None` where none is managed here under that name.
    pub(super) fn get(&self, name: &str, capability: &str) -> Option<Result<Target>> {
        let entry = match self.find(name) {
            Ok(entry) => entry,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => return Some(Err(error)),
        };
        let record = entry.record();
        if !record.enabled {
            return Some(Err(Error::conflict(format!("plugin {name} found but disabled"))));
        }
        let capability = capability.to_ascii_lowercase();
        if !capabilities(&record.config).any(|one| one == capability) {
            return Some(Err(Error::internal(format!("plugin does not provide {capability:?} capability"))));
        }
        Some(Ok(self.target(&record)))
    }

    /// Every plugin that runs and has a capability.
    pub(super) fn with(&self, capability: &str) -> Vec<Target> {
        let capability = capability.to_ascii_lowercase();
        let records: Vec<Record> = self.table().values().map(|entry| entry.record()).collect();
        let fitting =
            records.iter().filter(|record| record.enabled && capabilities(&record.config).any(|one| one == capability));
        fitting.map(|record| self.target(record)).collect()
    }

    fn target(&self, record: &Record) -> Target {
        Target {
            name: record.name.clone(),
            address: Address::Unix(self.sockets(&record.id).join(&record.config.interface.socket)),
            timeout: (record.timeout_s > 0).then(|| Duration::from_secs(record.timeout_s)),
            implements: capabilities(&record.config).collect(),
            places: Places {
                logging: self.run_time(&record.id).join("logging"),
                propagated: record.config.propagated_mount.clone(),
                propagated_on_host: self.folder(&record.id).join(PROPAGATED),
                rootfs: self.folder(&record.id).join(ROOTFS),
            },
        }
    }

    /// Lists plugins.
    ///
    /// API: `GET /plugins`
    ///
    /// # Errors
    /// InvalidArgument for an unknown filter.
    pub fn list(&self, filters: &Filters) -> Result<Vec<ApiPlugin>> {
        filters.validate(&["capability", "enabled"])?;
        let enabled = crate::filter::boolean(filters, "enabled")?;
        let records: Vec<Record> = self.table().values().map(|entry| entry.record()).collect();
        let kept = records.iter().filter(|record| {
            enabled.is_none_or(|wanted| wanted == record.enabled)
                && capabilities(&record.config)
                    .all(|capability| crate::filter::any_of(filters, "capability", |wanted| wanted == capability))
        });
        Ok(kept.map(describe).collect())
    }

    /// Describes a plugin.
    ///
    /// API: `GET /plugins/{name}/json`
    ///
    /// # Errors
    /// NotFound.
    pub fn inspect(&self, name: &str) -> Result<ApiPlugin> {
        Ok(describe(&self.find(name)?.record()))
    }

    /// Removes a plugin, which is stopped first when forced.
    ///
    /// API: `DELETE /plugins/{name}`
    ///
    /// # Errors
    /// NotFound; Conflict while it runs or is used.
    pub async fn remove(&self, name: &str, force: bool) -> Result<()> {
        let (managed, name) = (self.clone(), name.to_owned());
        // Once begun it is finished, whether the client stays or not.
        crate::finish(async move { managed.remove_found(&name, force).await }).await
    }

    async fn remove_found(&self, name: &str, force: bool) -> Result<()> {
        let entry = self.find(name)?;
        let _verb = entry.verb.lock().await;
        let record = entry.record();
        if !force {
            if self.inner.users.any(&record.name) {
                return Err(Error::conflict(format!("plugin {} is in use", record.name)));
            }
            if record.enabled {
                return Err(Error::conflict(format!("plugin {} is enabled", record.name)));
            }
        }
        self.stop(&entry).await;
        let folder = self.folder(&entry.id);
        // Without its record the folder is nobody's, and a start would clear it away.
        self.inner.syncer.remove(&folder.join(RECORD)).context(format!("remove {name}"))?;
        self.table().remove(&entry.id);
        crate::blocking(move || {
            take_off_mounts(&folder);
            fs::remove_dir_all(&folder).context("cannot remove the plugin's files")
        })
        .await?;
        self.publish("remove", &entry.id, name);
        Ok(())
    }

    fn save(&self, record: &Record) -> Result<()> {
        let path = self.folder(&record.id).join(RECORD);
        self.inner.syncer.write(&path, record).context(format!("cannot write the record of plugin {}", record.name))
    }

    /// Changes a plugin in memory and on disk together.
    fn update(&self, entry: &Entry, change: impl FnOnce(&mut Record) -> Result<()>) -> Result<()> {
        let mut record = entry.record.lock().expect("no panic while held");
        let mut changed = record.clone();
        change(&mut changed)?;
        self.save(&changed)?;
        *record = changed;
        Ok(())
    }

    fn publish(&self, action: &str, id: &str, name: &str) {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        self.inner.events.publish("plugin", action, id, attributes);
    }

    /// A name that no plugin has yet.
    fn check_name(&self, name: &str) -> Result<()> {
        match self.table().values().any(|entry| entry.record().name == name) {
            true => Err(Error::conflict(format!("plugin {name} already exists"))),
            false => Ok(()),
        }
    }

    /// Puts a plugin whose folder is whole where others find it.
    fn add(&self, record: Record) -> Result<()> {
        self.check_name(&record.name)?;
        self.save(&record)?;
        self.table().insert(record.id.clone(), Entry::new(record));
        Ok(())
    }
}

/// Name of the folder with a plugin's files.
const ROOTFS: &str = "rootfs";
/// Name of the folder that its mounts for others spread to.
const PROPAGATED: &str = "propagated-mount";

/// How to speak to a managed plugin.
pub(super) struct Target {
    pub(super) name: String,
    pub(super) address: Address,
    pub(super) timeout: Option<Duration>,
    pub(super) implements: Vec<String>,
    pub(super) places: Places,
}

/// Where the host finds what a plugin names.
#[derive(Debug, Clone)]
pub(super) struct Places {
    logging: PathBuf,
    propagated: String,
    propagated_on_host: PathBuf,
    rootfs: PathBuf,
}

impl Places {
    /// The path on the host. By text alone: what the plugin mounts there is its own.
    pub(super) fn on_host(&self, path: &str) -> String {
        if path.is_empty() {
            return String::new();
        }
        let path = path::clean_rooted(path);
        let below = |root: &Path, rest: &str| root.join(rest.trim_start_matches('/')).display().to_string();
        if let Some(rest) = path.strip_prefix("/run/docker/logging") {
            return below(&self.logging, rest);
        }
        let propagated = path::clean_rooted(&self.propagated);
        match path
            .strip_prefix(&propagated)
            .filter(|rest| propagated != "/" && (rest.is_empty() || rest.starts_with('/')))
        {
            Some(rest) => below(&self.propagated_on_host, rest).trim_end_matches('/').to_owned(),
            None => below(&self.rootfs, &path),
        }
    }
}

/// `docker.volumedriver/1.0` is the capability `volumedriver`; those of others are none.
fn capabilities(config: &PluginConfig) -> impl Iterator<Item = String> + '_ {
    config.interface.types.iter().flatten().filter_map(|text| {
        let name = text.split('/').next().unwrap_or_default();
        let (prefix, capability) = name.rsplit_once('.')?;
        (prefix == "docker").then(|| capability.to_owned())
    })
}

fn describe(record: &Record) -> ApiPlugin {
    ApiPlugin {
        config: record.config.clone(),
        enabled: record.enabled,
        id: record.id.clone(),
        name: record.name.clone(),
        plugin_reference: record.reference.clone(),
        settings: record.settings.clone(),
    }
}

/// Never acknowledged, or removed as far as anybody knows.
fn discard(folder: &Path) {
    let damaged = fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("plugin.json.damaged"))
    });
    if damaged {
        tracing::error!(plugin = %folder.display(), "plugin has a damaged record; its files are left alone");
        return;
    }
    take_off_mounts(folder);
    if let Err(error) = fs::remove_dir_all(folder) {
        tracing::warn!(folder = %folder.display(), %error, "folder of no plugin left behind");
    }
}

/// Takes off what is mounted at and below a plugin's folders.
fn take_off_mounts(folder: &Path) {
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else { return };
    let folder = folder.display().to_string();
    let below = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|place| place.strip_prefix(&folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    // The last mounted first.
    for place in below.collect::<Vec<_>>().into_iter().rev() {
        let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
        if let Err(error) = rustix::mount::unmount(unescaped(place).as_str(), flags) {
            tracing::warn!(place, %error, "mount of a plugin left behind");
        }
    }
}

/// `mountinfo` writes blanks and the like in octal.
fn unescaped(place: &str) -> String {
    place.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_dockers_own() {
        let mut config = PluginConfig::default();
        let types = ["docker.volumedriver/1.0", "docker.logdriver/1.0", "other.volumedriver/1.0", "x"];
        config.interface.types = Some(types.map(str::to_owned).to_vec());
        assert_eq!(capabilities(&config).collect::<Vec<_>>(), ["volumedriver", "logdriver"]);
    }

    #[test]
    fn paths_of_a_plugin_are_found_on_the_host() {
        let places = Places {
            logging: "/l".into(),
            propagated: "/mnt/v".into(),
            propagated_on_host: "/p".into(),
            rootfs: "/r".into(),
        };
        assert_eq!(places.on_host("/mnt/v/a"), "/p/a");
        assert_eq!(places.on_host("/mnt/v"), "/p");
        assert_eq!(places.on_host("/mnt/vx"), "/r/mnt/vx");
        assert_eq!(places.on_host("/mnt/v/../../../etc"), "/r/etc");
        assert_eq!(places.on_host("/run/docker/logging/id"), "/l/id");
        assert_eq!(places.on_host(""), "");
    }
}
