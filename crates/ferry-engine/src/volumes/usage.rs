//! What volumes take up, and the end of those that nobody uses.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ferry_api::filters::Filters;
use ferry_api::volume::{PruneReport, UsageData, Volume};

use super::{ANONYMOUS_LABEL, DATA, VolumeRecord, Volumes, limit};
use crate::blocking;
use crate::error::{Error, Result};

impl Volumes {
    /// Removes what nobody uses: anonymous volumes, or all with the filter `all=true`.
    ///
    /// API: `POST /volumes/prune`
    ///
    /// # Errors
    /// InvalidArgument for an unknown filter.
    pub async fn prune(&self, filters: &Filters) -> Result<PruneReport> {
        filters.validate(&["all", "label", "label!"])?;
        let all = wants_all(filters)?;
        let unused: Vec<String> = {
            let table = self.table();
            let no_labels = BTreeMap::new();
            let chosen = table.values().filter(|entry| {
                let labels = entry.record.labels.as_ref().unwrap_or(&no_labels);
                entry.users.is_empty()
                    && entry.record.is_plain()
                    && (all || labels.contains_key(ANONYMOUS_LABEL))
                    && filters.matches_labels("label", labels)
                    && crate::filter::no_labels(filters, "label!", labels)
            });
            chosen.map(|entry| entry.record.name.clone()).collect()
        };
        let volumes = self.clone();
        blocking(move || {
            let mut deleted = Vec::new();
            let mut space_reclaimed = 0;
            for name in unused {
                let size = volumes.size(&name);
                match volumes.remove_now(&name) {
                    Ok(()) => {
                        deleted.push(name);
                        space_reclaimed += size;
                    }
                    Err(error) => tracing::warn!(%name, error = %error.text(), "volume not pruned"),
                }
            }
            let attributes = [("reclaimed".to_owned(), space_reclaimed.to_string())].into();
            volumes.inner.events.publish("volume", "prune", "", attributes);
            Ok(PruneReport { volumes_deleted: Some(deleted), space_reclaimed })
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
            let entries = entries.into_iter().filter(|(record, _)| record.is_plain());
            let measured = entries.map(|(record, users)| {
                let size = volumes.size(&record.name);
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

    /// What the files of a plain volume take up, in bytes.
    fn size(&self, name: &str) -> u64 {
        let folder = self.folder(name);
        let image = fs::metadata(folder.join(limit::IMAGE)).map(|image| image.blocks() * 512);
        image.unwrap_or_else(|_| folder_size_bytes(&folder.join(DATA)))
    }
}

/// Whether named volumes are pruned, too.
fn wants_all(filters: &Filters) -> Result<bool> {
    let values: Vec<&str> = filters.get("all").collect();
    match values.as_slice() {
        [] => Ok(false),
        ["1" | "t" | "T" | "TRUE" | "true" | "True"] => Ok(true),
        ["0" | "f" | "F" | "FALSE" | "false" | "False"] => Ok(false),
        [other] => {
            let text = format!("invalid filter 'all': strconv.ParseBool: parsing {other:?}: invalid syntax");
            Err(Error::invalid(text))
        }
        several => {
            Err(Error::invalid(format!("invalid filter 'all=[{}]': only one value is expected", several.join(" "))))
        }
    }
}

pub(crate) fn folder_size_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_size_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
