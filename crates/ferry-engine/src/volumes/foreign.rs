//! Volumes that a plugin keeps: what is known of them lies here as a record, their files wherever the plugin says.
//!
//! No lock of the service is held across a call. What must not happen at once to one volume (create, remove, mount, unmount) takes its name in
//! [`NameLocks`], so that a plugin that hangs stops nobody but those who want that volume.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ferry_api::volume::{CreateRequest, Volume};
use tokio::sync::{OwnedMutexGuard, watch};

use super::{ANONYMOUS_LABEL, Entry, LOCAL, VolumeRecord, Volumes, no_such_volume};
use crate::clock;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::plugins::{CallError, Patience, Plugin, PluginVolume, VOLUME_DRIVER};

/// How long the end of a container waits for its volumes to be unmounted; the rest is done behind its back.
const UNMOUNT: Duration = Duration::from_secs(1);

/// Threads that may wait for plugins at a time.
const MOST_WAITING: usize = 24;

/// How long a daemon that ends waits for what is still unmounted.
const LAST_UNMOUNTS: Duration = Duration::from_secs(5);

/// One holder a name.
#[derive(Default)]
pub(super) struct NameLocks(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl NameLocks {
    async fn hold(&self, name: &str) -> OwnedMutexGuard<()> {
        self.lock_of(name).lock_owned().await
    }

    /// Holds the name unless somebody does already.
    fn try_hold(&self, name: &str) -> Option<OwnedMutexGuard<()>> {
        self.lock_of(name).try_lock_owned().ok()
    }

    fn lock_of(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().expect("no panic while held");
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(name.to_owned()).or_default())
    }
}

/// Counts unmounts under way.
pub(super) struct Unmounts(watch::Sender<usize>);

impl Default for Unmounts {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Volumes {
    /// Waits for the future on a thread for blocking work. Those are few, and a plugin that hangs must not take them all.
    pub(crate) fn wait_for<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
        static PLACES: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(MOST_WAITING);
        let Ok(_place) = PLACES.try_acquire() else {
            return Err(Error::new(ErrorKind::Unavailable, "too many requests wait for plugins that do not answer"));
        };
        tokio::runtime::Handle::current().block_on(future)
    }

    /// Plugins beside the daemon that keep volumes.
    pub(crate) fn driver_names(&self) -> Vec<String> {
        self.inner.plugins.known_with(VOLUME_DRIVER)
    }

    pub(super) async fn create_foreign(&self, request: &CreateRequest, name: &str, anonymous: bool) -> Result<Volume> {
        let _held = self.inner.names.hold(name).await;
        let plugin = self.driver(name, &request.driver).await?;
        let failed = |text: &str| Error::internal(format!("create {name}: {text}"));
        if let Some(record) = self.known(name) {
            self.check_conflict(&record, &plugin).await?;
            if let Some(record) = self.known(name) {
                return Ok(self.describe_foreign(&record, &plugin, None).await);
            }
        }
        let there = plugin.volume(name, Patience::SHORT).await.map_err(|error| failed(error.text()))?;
        if there.is_none() {
            let made = plugin.create_volume(name, &request.driver_opts).await;
            made.map_err(|error| failed(error.text()))?;
        }
        let mut labels = (!request.labels.is_empty()).then(|| request.labels.clone());
        if anonymous {
            labels.get_or_insert_default().insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let options = (!request.driver_opts.is_empty()).then(|| request.driver_opts.clone());
        let record = VolumeRecord { driver: plugin.name.clone(), ..VolumeRecord::new(name, labels, options) };
        if let Err(error) = self.note_foreign(&record) {
            if there.is_none() {
                // The first error is the one to tell.
                let _ = plugin.remove_volume(name).await;
            }
            return Err(error);
        }
        self.publish("create", name, &record.driver);
        Ok(self.describe_foreign(&record, &plugin, there).await)
    }

    /// Writes down a volume of a plugin.
    pub(super) fn note_foreign(&self, record: &VolumeRecord) -> Result<()> {
        let doing = || format!("create {}", record.name);
        let folder = self.folder(&record.name);
        std::fs::create_dir_all(&folder).context(doing())?;
        self.inner.syncer.write(&folder.join(super::RECORD), record).context(doing())?;
        self.inner.plugins.acquire(&record.driver, &user_of(&record.name));
        self.table().insert(record.name.clone(), Entry::new(record.clone()));
        Ok(())
    }

    /// The plugin of that name, for a volume of that name.
    pub(super) async fn driver(&self, volume: &str, driver: &str) -> Result<Arc<Plugin>> {
        self.inner.plugins.get(driver, VOLUME_DRIVER).await.map_err(|error| {
            Error::new(
                error.kind(),
                format!("create {volume}: error looking up volume plugin {driver}: {}", error.text()),
            )
        })
    }

    /// One of that name is there already: it is the one that is asked for, or in the way, or gone.
    async fn check_conflict(&self, record: &VolumeRecord, wanted: &Plugin) -> Result<()> {
        let (name, driver) = (&record.name, record.driver());
        let conflict = |why: String| Err(Error::conflict(format!("create {name}: {why}: volume name must be unique")));
        let exists = match driver {
            LOCAL => Ok(true),
            _ => self.ask(record, Patience::SHORT).await.map(|volume| volume.is_some()),
        };
        match exists {
            Err(error) => conflict(format!(
                "found reference to volume '{name}' in driver '{driver}', but got an error while checking the driver: {}",
                error.text()
            )),
            Ok(true) if driver != wanted.name => conflict(format!("driver '{driver}' already has volume '{name}'")),
            Ok(true) => Ok(()),
            Ok(false) if self.is_used(name) => conflict(format!(
                "found references to volume '{name}' in driver '{driver}' but the volume was not found in the driver -- you may need to \
                 remove containers referencing this volume or force remove the volume to re-create it"
            )),
            Ok(false) => self.purge(name),
        }
    }

    fn is_used(&self, name: &str) -> bool {
        self.table().get(name).is_some_and(|entry| !entry.users.is_empty())
    }

    /// Asks a volume's plugin about it.
    pub(super) async fn ask(&self, record: &VolumeRecord, patience: Patience) -> Result<Option<PluginVolume>> {
        let (name, driver) = (&record.name, &record.driver);
        let checking = |kind: ErrorKind, why: &str| {
            Error::new(kind, format!("error while checking if volume {name:?} exists in driver {driver:?}: {why}"))
        };
        let plugin = self.inner.plugins.get(driver, VOLUME_DRIVER).await.map_err(|error| {
            checking(error.kind(), &format!("error looking up volume plugin {driver}: {}", error.text()))
        })?;
        plugin.volume(name, patience).await.map_err(|error| checking(ErrorKind::Internal, error.text()))
    }

    /// Forgets what its plugin no longer has.
    fn purge(&self, name: &str) -> Result<()> {
        let folder = self.folder(name);
        let driver = self.table().remove(name).map(|entry| entry.record.driver);
        self.inner.syncer.remove(&folder.join(super::RECORD)).context(format!("remove {name}"))?;
        // An empty folder that stays is cleared away by the next start.
        let _ = std::fs::remove_dir_all(&folder);
        if let Some(driver) = driver {
            self.inner.plugins.release(&driver, &user_of(name));
        }
        Ok(())
    }

    /// A plugin told what it has: volumes of it that were read from disk and are not among them are forgotten, as Docker does at its start. A
    /// daemon that was killed while it removed them had not come to the record. What somebody uses or is busy with stays.
    async fn confirm(&self, plugin: &Plugin, told: &[PluginVolume]) {
        let unconfirmed: Vec<String> = {
            let table = self.table();
            let of_plugin = table.values().filter(|entry| entry.unconfirmed && entry.record.driver == plugin.name);
            of_plugin.map(|entry| entry.record.name.clone()).collect()
        };
        for name in unconfirmed {
            let Some(_held) = self.inner.names.try_hold(&name) else { continue };
            let lost = !self.is_used(&name)
                && told.iter().all(|volume| volume.name != name)
                && matches!(plugin.volume(&name, Patience::QUICK).await, Ok(None));
            if !lost {
                self.table().entry(name).and_modify(|entry| entry.unconfirmed = false);
                continue;
            }
            match self.purge(&name) {
                Ok(()) => tracing::info!(volume = %name, "volume forgotten: its plugin no longer has it"),
                Err(error) => tracing::warn!(volume = %name, error = %error.text(), "lost volume not forgotten"),
            }
        }
    }

    pub(super) async fn inspect_foreign(&self, name: &str) -> Result<Volume> {
        let Some(record) = self.known(name) else {
            return self.probe(name).await?.ok_or_else(|| no_such_volume(name));
        };
        let told = self.ask(&record, Patience::QUERY).await;
        let told = told.map_err(|error| Error::new(error.kind(), format!("get {name}")).with_source(error))?;
        let Some(told) = told else {
            if !self.is_used(name) {
                self.purge(name)?;
            }
            return Err(no_such_volume(name));
        };
        let plugin = self.driver(name, &record.driver).await?;
        let status = told.status.clone();
        Ok(Volume { status, ..self.describe_foreign(&record, &plugin, Some(told)).await })
    }

    /// Looks for a volume that no record tells of in every plugin.
    pub(super) async fn probe(&self, name: &str) -> Result<Option<Volume>> {
        for plugin in self.inner.plugins.with(VOLUME_DRIVER).await {
            if let Ok(Some(told)) = plugin.volume(name, Patience::QUICK).await {
                let record = VolumeRecord { driver: plugin.name.clone(), ..VolumeRecord::new(name, None, None) };
                self.note_foreign(&record)?;
                let status = told.status.clone();
                return Ok(Some(Volume { status, ..self.describe_foreign(&record, &plugin, Some(told)).await }));
            }
        }
        Ok(None)
    }

    async fn describe_foreign(&self, record: &VolumeRecord, plugin: &Plugin, told: Option<PluginVolume>) -> Volume {
        let told = match told {
            Some(told) => told,
            None => plugin.volume(&record.name, Patience::QUICK).await.ok().flatten().unwrap_or_default(),
        };
        let created_at = if told.created_at.is_empty() { clock::NEVER.to_owned() } else { told.created_at };
        Volume {
            created_at,
            driver: record.driver.clone(),
            labels: record.labels.clone(),
            mountpoint: told.mountpoint,
            name: record.name.clone(),
            options: record.options.clone(),
            scope: plugin.volume_scope().await,
            ..Volume::default()
        }
    }

    /// The volumes of all plugins, and what was odd. A plugin that does not answer at once is told of, and its volumes are those that are
    /// written down.
    pub(super) async fn list_foreign(&self) -> (Vec<Volume>, Vec<String>) {
        let records: BTreeMap<String, VolumeRecord> = {
            let table = self.table();
            table.iter().map(|(name, entry)| (name.clone(), entry.record.clone())).collect()
        };
        let plugins = self.inner.plugins.with(VOLUME_DRIVER).await;
        let asked = plugins
            .iter()
            .map(|plugin| async move { (plugin, plugin.volume_scope().await, plugin.volumes(Patience::QUICK).await) });
        let (mut volumes, mut warnings) = (Vec::new(), Vec::new());
        for (plugin, scope, told) in futures_util::future::join_all(asked).await {
            if let Ok(told) = &told {
                self.confirm(plugin, told).await;
            }
            let told = told.unwrap_or_else(|error| {
                warnings.push(format!("list {}: {}", plugin.name, error.text()));
                let own = records.values().filter(|record| record.driver == plugin.name);
                own.map(|record| PluginVolume { name: record.name.clone(), ..PluginVolume::default() }).collect()
            });
            for volume in told {
                let record = records.get(&volume.name);
                // Another driver has one of that name.
                if record.is_some_and(|record| record.driver != plugin.name) {
                    continue;
                }
                volumes.push(Volume {
                    created_at: clock::NEVER.to_owned(),
                    driver: plugin.name.clone(),
                    labels: record.and_then(|record| record.labels.clone()),
                    options: record.and_then(|record| record.options.clone()),
                    mountpoint: volume.mountpoint,
                    name: volume.name,
                    scope: scope.clone(),
                    ..Volume::default()
                });
            }
        }
        let silent = records.values().filter(|record| !record.is_local());
        for record in silent.filter(|record| !plugins.iter().any(|plugin| plugin.name == record.driver)) {
            warnings.push(format!("list {}: the volume plugin does not answer", record.driver));
            volumes.push(Volume {
                created_at: clock::NEVER.to_owned(),
                driver: record.driver.clone(),
                labels: record.labels.clone(),
                options: record.options.clone(),
                name: record.name.clone(),
                scope: LOCAL.to_owned(),
                ..Volume::default()
            });
        }
        warnings.sort();
        warnings.dedup();
        (volumes, warnings)
    }

    pub(super) async fn remove_foreign(&self, record: &VolumeRecord, force: bool) -> Result<()> {
        let name = &record.name;
        let _held = self.inner.names.hold(name).await;
        {
            let table = self.table();
            let Some(entry) = table.get(name) else { return Err(no_such_volume(name)) };
            super::check_unused(name, entry)?;
        }
        let removed = match self.inner.plugins.get(&record.driver, VOLUME_DRIVER).await {
            Ok(plugin) => plugin
                .remove_volume(name)
                .await
                .map_err(|error| Error::internal(format!("remove {name}: {}", error.text()))),
            Err(error) => Err(Error::new(
                error.kind(),
                format!(
                    "get {name}: error while checking if volume {name:?} exists in driver {driver:?}: error looking up volume plugin \
                     {driver}: {why}",
                    driver = record.driver,
                    why = error.text()
                ),
            )),
        };
        match removed {
            Err(error) if !force => return Err(error),
            // By force what is written here goes, whatever the plugin makes of it.
            Err(error) => tracing::warn!(volume = %name, error = %error.text(), "volume forgotten by force"),
            Ok(()) => {}
        }
        self.purge(name)?;
        self.publish("destroy", name, &record.driver);
        Ok(())
    }

    /// Removes a volume behind its container's back.
    pub(crate) fn remove_behind(&self, name: &str) {
        let Some(record) = self.known(name) else { return };
        let volumes = self.clone();
        tokio::spawn(async move {
            match volumes.remove_foreign(&record, false).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    tracing::debug!(volume = %record.name, "anonymous volume kept: another container has it");
                }
                Err(error) => {
                    tracing::warn!(volume = %record.name, error = %error.text(), "anonymous volume not removed")
                }
                Ok(()) => {}
            }
        });
    }

    /// Makes plugins bring a container's volumes; returns where each is. On failure none is left, but for what a plugin does not give back.
    pub(crate) async fn mount_foreign(&self, names: &[String], container_id: &str) -> Result<BTreeMap<String, String>> {
        let mut places = BTreeMap::new();
        for name in names {
            let Some(record) = self.known(name).filter(|record| !record.is_local()) else { continue };
            let _held = self.inner.names.hold(name).await;
            // Whatever comes of the call, it may have been heard.
            self.note_mounted(name, container_id);
            let plugin = self.inner.plugins.get(&record.driver, VOLUME_DRIVER).await.map_err(|error| {
                let text = format!("error looking up volume plugin {}: {}", record.driver, error.text());
                Error::new(error.kind(), format!("error while mounting volume '': {text}"))
            })?;
            let place = plugin.mount_volume(name, container_id).await;
            let place = place.map_err(|error| mounting_failed(&error))?;
            places.insert(name.clone(), place);
        }
        Ok(places)
    }

    fn note_mounted(&self, name: &str, container_id: &str) {
        if let Some(entry) = self.table().get(name) {
            entry.mounted_by.lock().expect("no panic while held").insert(container_id.to_owned());
        }
    }

    /// Tells a plugin that a container has left a volume. Waits a little; what takes longer goes on by itself. Blocks.
    pub(super) fn unmount_foreign(&self, record: &VolumeRecord, container_id: &str) {
        let (volumes, record, id) = (self.clone(), record.clone(), container_id.to_owned());
        let done = tokio::spawn(async move {
            volumes.inner.unmounts.0.send_modify(|count| *count += 1);
            let told = volumes.tell_unmounted(&record, &id).await;
            if let Err(why) = told {
                tracing::warn!(volume = %record.name, container = %id, why, "volume plugin did not unmount");
            }
            volumes.inner.unmounts.0.send_modify(|count| *count -= 1);
        });
        let waited = tokio::runtime::Handle::current().block_on(tokio::time::timeout(UNMOUNT, done));
        if waited.is_err() {
            tracing::warn!(container = %container_id, "a volume plugin takes its time to unmount; going on without it");
        }
    }

    async fn tell_unmounted(&self, record: &VolumeRecord, container_id: &str) -> Result<(), String> {
        let _held = self.inner.names.hold(&record.name).await;
        let plugin = self.inner.plugins.get(&record.driver, VOLUME_DRIVER).await.map_err(|error| error.text())?;
        plugin.unmount_volume(&record.name, container_id).await.map_err(|error| error.text().to_owned())
    }

    /// Waits for what is still unmounted, within bounds.
    pub(crate) async fn finish_unmounts(&self) {
        let mut count = self.inner.unmounts.0.subscribe();
        let done = count.wait_for(|count| *count == 0);
        if tokio::time::timeout(LAST_UNMOUNTS, done).await.is_err() {
            tracing::warn!("volume plugins did not unmount everything in time");
        }
    }

    pub(super) fn known(&self, name: &str) -> Option<VolumeRecord> {
        self.table().get(name).map(|entry| entry.record.clone())
    }
}

/// How a volume is named among those who use a plugin.
pub(super) fn user_of(name: &str) -> String {
    format!("volume {name}")
}

fn mounting_failed(error: &CallError) -> Error {
    Error::internal(format!("error while mounting volume '': {}", error.text()))
}
