//! Named and anonymous volumes of the `local` driver.
//!
//! Owns `<data-root>/volumes/<name>/`: the record `volume.json` and the bytes below `_data`. Who uses a volume is known from references taken on it
//! (`acquire`, `release`), so removal asks nobody above. One lock over the table; it is not held across the file system but for creating and
//! removing one folder, which must not race.

mod local_options;
mod mounting;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use ferry_api::filters::Filters;
use ferry_api::volume::{CreateRequest, ListResponse, PruneReport, UsageData, Volume};
use ferry_store::record::{self, Syncer};
use serde::{Deserialize, Serialize};

use crate::blocking;
use crate::clock;
use crate::error::{Context, Error, Result};
use crate::events::Events;

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
    table: Mutex<BTreeMap<String, Entry>>,
}

struct Entry {
    record: VolumeRecord,
    users: BTreeSet<String>,
    /// Who has it mounted, where something has to be.
    mounted_by: mounting::MountedBy,
}

impl Entry {
    fn new(record: VolumeRecord) -> Self {
        Self { record, users: BTreeSet::new(), mounted_by: mounting::MountedBy::default() }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct VolumeRecord {
    name: String,
    created_ns: i64,
    labels: Option<BTreeMap<String, String>>,
    options: Option<BTreeMap<String, String>>,
}

impl Volumes {
    /// Reads every record; folders without one are what a crash left of a creation, and go when they hold nothing.
    pub(crate) fn open(data_root: &Path, events: Events, syncer: Syncer) -> Result<Self> {
        let root = data_root.join("volumes");
        fs::DirBuilder::new().recursive(true).mode(0o711).create(&root).context("cannot make the volumes folder")?;
        let mut table = BTreeMap::new();
        for entry in fs::read_dir(&root).context("cannot read the volumes folder")? {
            let path = entry.context("cannot read the volumes folder")?.path();
            match record::read::<VolumeRecord>(&path.join(RECORD)) {
                Ok(Some(record)) => {
                    table.insert(record.name.clone(), Entry::new(record));
                }
                Ok(None) => discard_unfinished(&path),
                Err(error) => tracing::error!(volume = %path.display(), %error, "volume record set aside"),
            }
        }
        Ok(Self { inner: Arc::new(Inner { root, events, syncer, table: Mutex::new(table) }) })
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
        check_driver(&name, &request.driver)?;
        validate_name(&name)?;
        check_options(&name, &request.driver_opts)?;
        let mut table = self.table();
        if let Some(entry) = table.get(&name) {
            return Ok(self.describe(&entry.record));
        }
        let mut labels = (!request.labels.is_empty()).then(|| request.labels.clone());
        if anonymous {
            labels.get_or_insert_default().insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let options = (!request.driver_opts.is_empty()).then(|| request.driver_opts.clone());
        let record = VolumeRecord { name: name.clone(), created_ns: clock::now_ns(), labels, options };
        self.write_new(&record)?;
        let volume = self.describe(&record);
        table.insert(name.clone(), Entry::new(record));
        drop(table);
        self.publish("create", &name);
        Ok(volume)
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
        let written =
            made.context(doing()).and_then(|()| self.inner.syncer.write(&folder.join(RECORD), record).context(doing()));
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
        let table = self.table();
        let kept = table.values().filter(|entry| {
            let no_labels = BTreeMap::new();
            let labels = entry.record.labels.as_ref().unwrap_or(&no_labels);
            dangling.is_none_or(|wanted| wanted == entry.users.is_empty())
                && crate::filter::any_of(filters, "driver", |driver| driver == "local")
                && crate::filter::any_of(filters, "name", |part| entry.record.name.contains(part))
                && filters.matches_labels("label", labels)
        });
        let volumes = kept.map(|entry| self.describe(&entry.record)).collect();
        Ok(ListResponse { volumes, warnings: None })
    }

    /// Describes one volume.
    ///
    /// API: `GET /volumes/{name}`
    ///
    /// # Errors
    /// NotFound.
    pub async fn inspect(&self, name: &str) -> Result<Volume> {
        let table = self.table();
        let entry = table.get(name).ok_or_else(|| no_such_volume(name))?;
        Ok(self.describe(&entry.record))
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
        blocking(move || match volumes.remove_now(&name) {
            Err(error) if force && error.kind() == crate::ErrorKind::NotFound => Ok(()),
            result => result,
        })
        .await
    }

    /// Blocking form of [`Volumes::remove`].
    pub(crate) fn remove_now(&self, name: &str) -> Result<()> {
        let folder = self.forget(name)?;
        fs::remove_dir_all(&folder).context(format!("remove {name}"))
    }

    /// Takes a volume out of every list and returns its folder, whose bytes the caller removes; a start finishes that otherwise.
    pub(crate) fn forget(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder(name);
        {
            let mut table = self.table();
            let entry = table.get(name).ok_or_else(|| no_such_volume(name))?;
            if !entry.users.is_empty() {
                let users: Vec<&str> = entry.users.iter().map(String::as_str).collect();
                return Err(Error::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
            }
            // Whatever is mounted there is not the volume's own to remove.
            mounting::take_off(&folder.join(DATA)).context(format!("remove {name}"))?;
            // Without its record the folder is an unfinished thing, which a start clears away.
            self.inner.syncer.remove(&folder.join(RECORD)).context(format!("remove {name}"))?;
            table.remove(name);
        }
        self.publish("destroy", name);
        Ok(folder)
    }

    /// Removes what nobody uses: anonymous volumes, or all with the filter `all=true`.
    ///
    /// API: `POST /volumes/prune`
    ///
    /// # Errors
    /// InvalidArgument for an unknown filter.
    pub async fn prune(&self, filters: &Filters) -> Result<PruneReport> {
        filters.validate(&["all", "label", "label!"])?;
        let all = crate::filter::boolean(filters, "all")?.unwrap_or(false);
        let unused: Vec<String> = {
            let table = self.table();
            let no_labels = BTreeMap::new();
            let chosen = table.values().filter(|entry| {
                let labels = entry.record.labels.as_ref().unwrap_or(&no_labels);
                entry.users.is_empty()
                    && (all || labels.contains_key(ANONYMOUS_LABEL))
                    && filters.matches_labels("label", labels)
                    && crate::filter::no_labels(filters, "label!", labels)
            });
            chosen.map(|entry| entry.record.name.clone()).collect()
        };
        let volumes = self.clone();
        blocking(move || {
            let mut report = PruneReport::default();
            for name in unused {
                let size = folder_size_bytes(&volumes.folder(&name).join(DATA));
                match volumes.remove_now(&name) {
                    Ok(()) => {
                        report.volumes_deleted.get_or_insert_default().push(name);
                        report.space_reclaimed += size;
                    }
                    Err(error) => tracing::warn!(%name, error = %error.text(), "volume not pruned"),
                }
            }
            Ok(report)
        })
        .await
    }

    /// Lists every volume with its bytes and how many containers use it.
    ///
    /// # Errors
    /// When the measuring ends early.
    pub async fn usage(&self) -> Result<Vec<Volume>> {
        let volumes = self.clone();
        blocking(move || {
            let entries: Vec<(VolumeRecord, usize)> =
                volumes.table().values().map(|entry| (entry.record.clone(), entry.users.len())).collect();
            let measured = entries.into_iter().map(|(record, users)| {
                let size = folder_size_bytes(&volumes.data_folder(&record.name));
                let usage = UsageData {
                    ref_count: i64::try_from(users).unwrap_or(i64::MAX),
                    size: i64::try_from(size).unwrap_or(i64::MAX),
                };
                Volume { usage_data: Some(usage), ..volumes.describe(&record) }
            });
            Ok(measured.collect())
        })
        .await
    }

    /// Takes a reference, so that the volume stays.
    pub(crate) fn acquire(&self, name: &str, container_id: &str) -> Result<()> {
        let mut table = self.table();
        let entry = table.get_mut(name).ok_or_else(|| no_such_volume(name))?;
        entry.users.insert(container_id.to_owned());
        Ok(())
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
        self.inner.root.join(name)
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
    pub(crate) fn publish_use(&self, action: &str, name: &str, more: &[(&str, &str)]) {
        let attributes = [("driver", "local")].iter().chain(more);
        let attributes = attributes.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.inner.events.publish("volume", action, name, attributes);
    }

    fn publish(&self, action: &str, name: &str) {
        self.publish_use(action, name, &[]);
    }
}

/// What a container's request says of a volume that is to be made, checked before anything is.
pub(crate) fn check_wish(name: &str, driver: &str, options: &BTreeMap<String, String>) -> Result<()> {
    let unnamed = if name.is_empty() { crate::ids::random_id() } else { String::new() };
    let name = if name.is_empty() { &unnamed } else { name };
    check_driver(name, driver)?;
    check_options(name, options)
}

/// There are no plugins, so there is one driver.
fn check_driver(name: &str, driver: &str) -> Result<()> {
    match driver {
        "" | "local" => Ok(()),
        other => Err(Error::not_found(format!(
            "create {name}: error looking up volume plugin {other}: plugin {other:?} not found"
        ))),
    }
}

fn check_options(name: &str, options: &BTreeMap<String, String>) -> Result<()> {
    local_options::check(options).map_err(|error| Error::new(error.kind(), format!("create {name}")).with_source(error))
}

fn no_such_volume(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}

/// Docker's rule for names of local volumes.
pub(crate) fn validate_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let mut bytes = name.bytes();
    let valid = bytes.next().is_some_and(plain)
        && name.len() > 1
        && name.len() <= 255
        && bytes.all(|byte| plain(byte) || matches!(byte, b'_' | b'.' | b'-'));
    if valid {
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

fn folder_size_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_size_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
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
