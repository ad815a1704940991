//! Named and anonymous volumes, of the `local` driver and of plugins.
//!
//! Owns `<data-root>/volumes/<name>/`: the record `volume.json` and, of local ones, the bytes below `_data`. Who uses a volume is known from references taken on it
//! (`acquire`, `release`), so removal asks nobody above. One lock over the table; it is not held across the file system but for creating and
//! removing one folder, which must not race.

mod foreign;
pub(crate) mod limit;
mod local_options;
mod mounting;
mod staged;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use ferry_api::filters::Filters;
use ferry_api::volume::{CreateRequest, ListResponse, Volume};
use ferry_store::record::{self, Syncer};
use serde::{Deserialize, Serialize};

pub(crate) use staged::{Staged, not_empty};
pub(crate) use usage::folder_size_bytes;

use crate::blocking;
use crate::clock;
use crate::error::{Context, Error, Result};
use crate::events::Events;
use crate::plugins::Plugins;

/// The driver that needs no plugin.
pub(crate) const LOCAL: &str = "local";
const RECORD: &str = "volume.json";
const DATA: &str = "_data";
/// Docker marks a volume that was made without a name with this label.
pub(crate) const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// The volumes of one engine.
#[derive(Clone)]
pub struct Volumes {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    events: Events,
    syncer: Syncer,
    plugins: Plugins,
    names: foreign::NameLocks,
    unmounts: foreign::Unmounts,
    table: Mutex<BTreeMap<String, Entry>>,
}

struct Entry {
    record: VolumeRecord,
    users: BTreeSet<String>,
    /// Who has it mounted, where something has to be.
    mounted_by: mounting::MountedBy,
    /// Read from disk, and its plugin has not been heard since.
    unconfirmed: bool,
}

impl Entry {
    fn new(record: VolumeRecord) -> Self {
        Self { record, users: BTreeSet::new(), mounted_by: mounting::MountedBy::default(), unconfirmed: false }
    }

    fn read(record: VolumeRecord) -> Self {
        Self { unconfirmed: !record.is_local(), ..Self::new(record) }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct VolumeRecord {
    name: String,
    created_ns: i64,
    labels: Option<BTreeMap<String, String>>,
    options: Option<BTreeMap<String, String>>,
    /// Plugin that keeps it; empty is `local`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    driver: String,
}

impl VolumeRecord {
    fn new(name: &str, labels: Option<BTreeMap<String, String>>, options: Option<BTreeMap<String, String>>) -> Self {
        Self { name: name.to_owned(), created_ns: clock::now_ns(), labels, options, driver: String::new() }
    }

    fn is_local(&self) -> bool {
        self.driver.is_empty()
    }

    /// Its files lie in its folder, and are no mount's.
    fn is_plain(&self) -> bool {
        self.is_local() && self.options.iter().flatten().all(|(name, _)| name == limit::OWN_SIZE)
    }

    fn driver(&self) -> &str {
        if self.is_local() { LOCAL } else { &self.driver }
    }
}

impl Volumes {
    /// Reads every record; folders without one are what a crash left of a creation, and go when they hold nothing.
    pub(crate) fn open(data_root: &Path, events: Events, syncer: Syncer, plugins: Plugins) -> Result<Self> {
        let root = data_root.join("volumes");
        fs::DirBuilder::new().recursive(true).mode(0o711).create(&root).context("cannot make the volumes folder")?;
        let mut table = BTreeMap::new();
        for entry in fs::read_dir(&root).context("cannot read the volumes folder")? {
            let path = entry.context("cannot read the volumes folder")?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".extents-")) {
                // Of a try that was cut short.
                let _ = fs::remove_file(&path);
                continue;
            }
            record::sweep_or_warn(&path);
            staged::sweep(&path);
            match record::read::<VolumeRecord>(&path.join(RECORD)) {
                Ok(Some(record)) => {
                    let path = finish_rename(&root, path, &record);
                    tracing::trace!(volume = %path.display(), "volume read");
                    if !record.is_local() {
                        plugins.acquire(&record.driver, &foreign::user_of(&record.name));
                    }
                    table.insert(record.name.clone(), Entry::read(record));
                }
                Ok(None) => discard_unfinished(&path),
                Err(error) => tracing::error!(volume = %path.display(), %error, "volume record set aside"),
            }
        }
        let (names, unmounts) = (foreign::NameLocks::default(), foreign::Unmounts::default());
        Ok(Self { inner: Arc::new(Inner { root, events, syncer, plugins, names, unmounts, table: Mutex::new(table) }) })
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.inner.table.lock().expect("no panic while held")
    }

    /// Creates a volume, or returns the one of that name.
    ///
    /// API: `POST /volumes/create`
    ///
    /// # Errors
    /// InvalidArgument for a bad name or option; NotFound for a driver that is not there.
    pub async fn create(&self, request: CreateRequest) -> Result<Volume> {
        let volumes = self.clone();
        blocking(move || volumes.create_now(&request)).await
    }

    /// Blocking form of [`Volumes::create`].
    pub(crate) fn create_now(&self, request: &CreateRequest) -> Result<Volume> {
        let anonymous = request.name.is_empty();
        let name = if anonymous { crate::ids::random_id() } else { request.name.clone() };
        if !matches!(request.driver.as_str(), "" | LOCAL) {
            return Self::wait_for(self.create_foreign(request, &name, anonymous));
        }
        if let Some(volume) = self.there_already(&name, &request.driver, &request.driver_opts)? {
            return Ok(volume);
        }
        validate_name(&name)?;
        check_options(&name, &request.driver_opts, &self.inner.root)?;
        let mut table = self.table();
        if let Some(entry) = table.get(&name) {
            return Ok(self.describe(&entry.record));
        }
        let mut labels = (!request.labels.is_empty()).then(|| request.labels.clone());
        if anonymous {
            labels.get_or_insert_default().insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let options = (!request.driver_opts.is_empty()).then(|| request.driver_opts.clone());
        let record = VolumeRecord::new(&name, labels, options);
        self.write_new(&record)?;
        let volume = self.describe(&record);
        table.insert(name.clone(), Entry::new(record));
        drop(table);
        self.publish("create", &name, LOCAL);
        Ok(volume)
    }

    /// As [`Volumes::create_now`], with a reference of the container that it is for. One that somebody removes between the two is made again.
    pub(crate) fn create_for(&self, request: &CreateRequest, container_id: &str) -> Result<Volume> {
        let mut tries = 0;
        loop {
            let volume = self.create_now(request)?;
            match self.acquire(&volume.name, container_id) {
                Err(error) if error.kind() == crate::ErrorKind::NotFound && tries < 8 => tries += 1,
                acquired => return acquired.map(|()| volume),
            }
        }
    }

    /// The volume of that name where it is not this driver's to make: one whoever keeps it, when nobody in particular is asked for.
    fn there_already(&self, name: &str, driver: &str, options: &BTreeMap<String, String>) -> Result<Option<Volume>> {
        match self.known(name) {
            Some(record) if record.is_local() => {
                limit::check_same(name, options, record.options.as_ref())?;
                Ok(Some(self.describe(&record)))
            }
            Some(record) if driver.is_empty() => Self::wait_for(self.inspect_foreign(&record.name)).map(Some),
            Some(record) => Err(Error::conflict(format!(
                "create {name}: driver '{}' already has volume '{name}': volume name must be unique",
                record.driver
            ))),
            None if driver.is_empty() && self.inner.plugins.may_have_any() => Self::wait_for(self.probe(name)),
            None => Ok(None),
        }
    }

    fn write_new(&self, record: &VolumeRecord) -> Result<()> {
        let folder = self.folder(&record.name);
        let doing = || format!("create {}", record.name);
        fs::DirBuilder::new().recursive(true).mode(0o701).create(&folder).context(doing())?;
        let made = fs::DirBuilder::new()
            .mode(0o755)
            .recursive(true)
            .create(folder.join(DATA))
            .and_then(|()| fs::set_permissions(folder.join(DATA), fs::Permissions::from_mode(0o755)));
        let no_options = BTreeMap::new();
        let options = record.options.as_ref().unwrap_or(&no_options);
        let made =
            made.context(doing()).and_then(|()| limit::set(&folder, &folder.join(DATA), options).context(doing()));
        let written = made.and_then(|()| self.inner.syncer.write(&folder.join(RECORD), record).context(doing()));
        if written.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_dir_all(&folder);
        }
        written
    }

    /// Lists volumes.
    ///
    /// API: `GET /volumes`
    ///
    /// # Errors
    /// InvalidArgument for an unknown filter.
    pub async fn list(&self, filters: &Filters) -> Result<ListResponse> {
        filters.validate(&["dangling", "driver", "label", "name"])?;
        let dangling = crate::filter::boolean(filters, "dangling")?;
        let (foreign, warnings) = self.list_foreign().await;
        let table = self.table();
        let local = table.values().filter(|entry| entry.record.is_local()).map(|entry| self.describe(&entry.record));
        let mut volumes: Vec<Volume> = local.chain(foreign).collect();
        volumes.retain(|volume| {
            let no_labels = BTreeMap::new();
            let labels = volume.labels.as_ref().unwrap_or(&no_labels);
            let unused = || table.get(&volume.name).is_none_or(|entry| entry.users.is_empty());
            dangling.is_none_or(|wanted| wanted == unused())
                && crate::filter::any_of(filters, "driver", |driver| driver == volume.driver)
                && crate::filter::any_of(filters, "name", |part| volume.name.contains(part))
                && filters.matches_labels("label", labels)
        });
        Ok(ListResponse { volumes, warnings: (!warnings.is_empty()).then_some(warnings) })
    }

    /// Describes one volume.
    ///
    /// API: `GET /volumes/{name}`
    ///
    /// # Errors
    /// NotFound.
    pub async fn inspect(&self, name: &str) -> Result<Volume> {
        match self.known(name) {
            Some(record) if record.is_local() => Ok(self.describe(&record)),
            _ => self.inspect_foreign(name).await,
        }
    }

    /// Removes a volume that nobody uses.
    ///
    /// API: `DELETE /volumes/{name}`
    ///
    /// # Errors
    /// NotFound unless forced; Conflict while a container has it.
    pub async fn remove(&self, name: &str, force: bool) -> Result<()> {
        let volumes = self.clone();
        let name = name.to_owned();
        if self.known(&name).is_none() && self.inner.plugins.may_have_any() {
            // Only a plugin may know it.
            self.probe(&name).await?;
        }
        if let Some(record) = self.known(&name).filter(|record| !record.is_local()) {
            // Once begun it is finished, whether the client stays or not.
            return crate::finish(async move { volumes.remove_foreign(&record, force).await }).await;
        }
        blocking(move || match volumes.remove_now(&name) {
            Err(error) if force && error.kind() == crate::ErrorKind::NotFound => Ok(()),
            result => result,
        })
        .await
    }

    /// Blocking form of [`Volumes::remove`].
    pub(crate) fn remove_now(&self, name: &str) -> Result<()> {
        if let Some(record) = self.known(name).filter(|record| !record.is_local()) {
            return Self::wait_for(self.remove_foreign(&record, false));
        }
        let folder = self.forget(name)?;
        fs::remove_dir_all(&folder).context(format!("remove {name}"))
    }

    /// Takes a volume out of every list and returns where its folder lies now, whose bytes the caller removes; a start finishes that otherwise. A
    /// volume of that name may be made at once.
    pub(crate) fn forget(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder(name);
        let mut gone = self.inner.root.join(format!(".removed-{}", &crate::ids::random_id()[..16]));
        {
            let mut table = self.table();
            let entry = table.get(name).ok_or_else(|| no_such_volume(name))?;
            check_unused(name, entry)?;
            // Whatever is mounted there is not the volume's own to remove.
            mounting::take_off(&folder.join(DATA)).context(format!("remove {name}"))?;
            limit::forget(&folder.join(DATA));
            // Without its record the folder is an unfinished thing, which a start clears away.
            self.inner.syncer.remove(&folder.join(RECORD)).context(format!("remove {name}"))?;
            table.remove(name);
            // Out of the way of the next one of that name.
            if let Err(error) = fs::rename(&folder, &gone) {
                tracing::debug!(volume = %name, %error, "a removed volume stays in its place until its files are gone");
                gone = folder;
            }
        }
        self.publish("destroy", name, LOCAL);
        Ok(gone)
    }

    /// Whether a plugin has to be asked to remove it.
    pub(crate) fn is_foreign(&self, name: &str) -> bool {
        self.known(name).is_some_and(|record| !record.is_local())
    }

    /// Takes a reference, so that the volume stays.
    pub(crate) fn acquire(&self, name: &str, container_id: &str) -> Result<()> {
        let mut table = self.table();
        let entry = table.get_mut(name).ok_or_else(|| no_such_volume(name))?;
        entry.users.insert(container_id.to_owned());
        Ok(())
    }

    /// Ids of the containers that have it.
    pub(crate) fn users(&self, name: &str) -> Result<Vec<String>> {
        let table = self.table();
        let entry = table.get(name).ok_or_else(|| no_such_volume(name))?;
        Ok(entry.users.iter().cloned().collect())
    }

    /// Gives a local volume another name; the caller has seen to it that nothing has it mounted. Blocks.
    ///
    /// # Errors
    /// NotFound; Conflict for a name that is taken; InvalidArgument.
    pub(crate) fn rename_now(&self, name: &str, new: &str) -> Result<()> {
        validate_name(new)?;
        let mut table = self.table();
        if table.contains_key(new) {
            return Err(Error::conflict(format!("rename {name}: a volume {new} is there already")));
        }
        let entry = table.get(name).ok_or_else(|| no_such_volume(name))?;
        if !entry.record.is_local() {
            return Err(Error::invalid(format!("rename {name}: only volumes of the local driver have other names")));
        }
        let (old_folder, new_folder) = (self.folder(name), self.folder(new));
        let record = VolumeRecord { name: new.to_owned(), ..entry.record.clone() };
        // A start takes the name from the record, and the folder from the name: both change, the folder last.
        self.inner.syncer.write(&old_folder.join(RECORD), &record).context(format!("rename {name}"))?;
        self.inner.syncer.flush().context(format!("rename {name}"))?;
        if let Err(error) = fs::rename(&old_folder, &new_folder) {
            // The first error is the one to tell.
            let _ = self.inner.syncer.write(&old_folder.join(RECORD), &entry.record);
            return Err(error).context(format!("rename {name}"));
        }
        let Some(mut entry) = table.remove(name) else { return Err(no_such_volume(name)) };
        entry.record = record;
        table.insert(new.to_owned(), entry);
        drop(table);
        self.publish_use("rename", new, LOCAL, &[("oldName", name)]);
        Ok(())
    }

    /// Most bytes that a volume may hold; 0 is no limit.
    pub(crate) fn limit_of(&self, name: &str) -> u64 {
        let options = self.known(name).and_then(|record| record.options).unwrap_or_default();
        limit::wanted(&options).ok().flatten().map_or(0, |(bytes, _)| bytes)
    }

    /// The folder that all of them lie in.
    pub(crate) fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Labels and options of a volume.
    pub(crate) fn description(&self, name: &str) -> Result<Volume> {
        let record = self.known(name).ok_or_else(|| no_such_volume(name))?;
        Ok(self.describe(&record))
    }

    /// Gives a reference back.
    pub(crate) fn release(&self, name: &str, container_id: &str) {
        if let Some(entry) = self.table().get_mut(name) {
            entry.users.remove(container_id);
        }
    }

    /// The folder of a volume's bytes.
    pub(crate) fn data_folder(&self, name: &str) -> PathBuf {
        self.folder(name).join(DATA)
    }

    fn folder(&self, name: &str) -> PathBuf {
        // Plugins take names that are no file names.
        match validate_name(name) {
            Ok(()) => self.inner.root.join(name),
            Err(_) => self.inner.root.join(format!(".{}", ferry_spec::digest::Digest::sha256(name.as_bytes()).hex())),
        }
    }

    fn describe(&self, record: &VolumeRecord) -> Volume {
        Volume {
            created_at: clock::rfc3339_seconds(record.created_ns),
            driver: "local".to_owned(),
            labels: record.labels.clone(),
            mountpoint: self.data_folder(&record.name).display().to_string(),
            name: record.name.clone(),
            options: record.options.clone(),
            scope: "local".to_owned(),
            ..Volume::default()
        }
    }

    /// Tells that a container mounts or leaves a volume; what else is to be told depends on which.
    pub(crate) fn publish_use(&self, action: &str, name: &str, driver: &str, more: &[(&str, &str)]) {
        let driver = if driver.is_empty() { LOCAL } else { driver };
        let attributes = [("driver", driver)];
        let attributes = attributes.iter().chain(more);
        let attributes = attributes.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.inner.events.publish("volume", action, name, attributes);
    }

    fn publish(&self, action: &str, name: &str, driver: &str) {
        self.publish_use(action, name, driver, &[]);
    }

    /// What a container's request says of a volume that is to be made, checked before anything is. Blocks.
    pub(crate) fn check_wish(&self, name: &str, driver: &str, options: &BTreeMap<String, String>) -> Result<()> {
        let unnamed = if name.is_empty() { crate::ids::random_id() } else { String::new() };
        let name = if name.is_empty() { &unnamed } else { name };
        match driver {
            "" if self.is_foreign(name) => Ok(()),
            "" | LOCAL => check_options(name, options, &self.inner.root),
            driver => Self::wait_for(self.driver(name, driver)).map(drop),
        }
    }
}

fn check_unused(name: &str, entry: &Entry) -> Result<()> {
    if entry.users.is_empty() {
        return Ok(());
    }
    let users: Vec<&str> = entry.users.iter().map(String::as_str).collect();
    Err(Error::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))))
}

fn check_options(name: &str, options: &BTreeMap<String, String>, root: &Path) -> Result<()> {
    local_options::check(options, root)
        .map_err(|error| Error::new(error.kind(), format!("create {name}")).with_source(error))
}

fn no_such_volume(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}

/// Docker's rule for names of local volumes.
pub(crate) fn validate_name(name: &str) -> Result<()> {
    if crate::names::is_valid(name) {
        return Ok(());
    }
    if name.len() == 1 {
        return Err(Error::invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )));
    }
    Err(Error::invalid(format!(
        "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" \
         are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

/// A rename that was cut short between the record and the folder.
fn finish_rename(root: &Path, folder: PathBuf, record: &VolumeRecord) -> PathBuf {
    let meant = root.join(&record.name);
    if !record.is_local() || folder == meant || meant.exists() {
        return folder;
    }
    match fs::rename(&folder, &meant) {
        Ok(()) => meant,
        Err(error) => {
            tracing::error!(volume = %folder.display(), %error, "volume not renamed to its end");
            folder
        }
    }
}

/// Names of a plugin's volumes are the plugin's business.
pub(crate) fn validate_name_for(name: &str, driver: &str) -> Result<()> {
    match driver {
        "" | LOCAL => validate_name(name),
        _ if name.contains('\0') => Err(Error::invalid(format!("create {name:?}: the name holds a NUL byte"))),
        _ => Ok(()),
    }
}

/// A folder without a record was begun and never acknowledged, or its removal was; either way nobody counts on it.
fn discard_unfinished(folder: &Path) {
    if has_damaged_record(folder) {
        tracing::error!(volume = %folder.display(), "volume has a damaged record; its data is left alone");
        return;
    }
    let removed = mounting::take_off(&folder.join(DATA)).and_then(|()| fs::remove_dir_all(folder));
    match removed {
        Ok(()) => tracing::info!(volume = %folder.display(), "unfinished volume removed"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(volume = %folder.display(), %error, "unfinished volume not removed"),
    }
}

fn has_damaged_record(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("volume.json.damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        for good in ["data", "a1", "A_b.c-d"] {
            assert!(validate_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "../x", "a/b", ".a", "a\nb", "-ab"] {
            assert!(validate_name(bad).is_err(), "{bad:?}");
        }
    }
}
