//! `--storage-opt size`: a limit on the writable layer, kept by the file system.
//!
//! XFS and ext4 keep it, where project quotas are switched on. Project ids are found in the folders themselves, so nothing is recorded twice.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use ferry_sys::quota;

use super::Containers;
use super::record::Record;
use crate::error::{Error, Result};

/// Below lie projects that people number by hand.
const FIRST_PROJECT: u32 = 1 << 20;
/// Of a limit that the file system does not keep.
const NO_LIMIT: &str = "The data root's file system keeps no project quotas (XFS or ext4 mounted with `prjquota` do). Size of --storage-opt discarded.";

impl Containers {
    /// Limits a new writable layer, when that is asked for.
    pub(super) fn limit_writable_layer(&self, record: &Record) -> Result<()> {
        let Some(bytes) = size(&record.host_config.storage_opt)? else { return Ok(()) };
        let folder = self.data_folder(&record.id);
        let set = || -> std::io::Result<()> {
            if !quota::is_enforced(File::open(&folder)?).unwrap_or(false) {
                // The create has warned.
                return Ok(());
            }
            let _one_at_a_time = self.inner.projects.lock().expect("no panic while held");
            let project = self.free_project(&folder)?;
            quota::limit(File::open(&folder)?, project, bytes)?;
            for part in ["upper", "work"] {
                quota::set_project(File::open(folder.join(part))?, project)?;
            }
            Ok(())
        };
        set().map_err(|error| {
            Error::internal(format!("cannot limit the writable layer of container {}: {error}", record.name))
        })
    }

    /// What a client is told whose limit the file system does not keep.
    pub(super) fn warn_of_no_limit(&self, options: &BTreeMap<String, String>) -> Result<Option<&'static str>> {
        if size(options)?.is_none() {
            return Ok(None);
        }
        let is_kept = File::open(&self.inner.config.data_root).and_then(quota::is_enforced);
        Ok((!is_kept.unwrap_or(false)).then_some(NO_LIMIT))
    }

    /// Forgets the limit of a layer that is about to go.
    pub(super) fn forget_limit(folder: &Path) {
        let forget = || -> std::io::Result<()> {
            let upper = File::open(folder.join("upper"))?;
            match quota::project(&upper)? {
                project if project >= FIRST_PROJECT => quota::limit(&upper, project, 0),
                _ => Ok(()),
            }
        };
        if let Err(error) = forget() {
            tracing::debug!(folder = %folder.display(), %error, "limit of a writable layer kept");
        }
    }

    fn free_project(&self, folder: &Path) -> std::io::Result<u32> {
        let mut highest = FIRST_PROJECT;
        for entry in fs::read_dir(folder.parent().unwrap_or(folder))? {
            // One that goes meanwhile needs no number.
            let Ok(upper) = File::open(entry?.path().join("upper")) else { continue };
            highest = highest.max(quota::project(&upper)?);
        }
        Ok(highest + 1)
    }
}

/// Reads the options; `None` asks for no limit.
pub(super) fn size(options: &BTreeMap<String, String>) -> Result<Option<u64>> {
    let mut size = None;
    for (name, value) in options {
        match name.to_ascii_lowercase().as_str() {
            "size" => size = Some(bytes(value).ok_or_else(|| Error::invalid(format!("invalid size: '{value}'")))?),
            _ => return Err(Error::invalid(format!("unknown option {name}"))),
        }
    }
    Ok(size.filter(|size| *size > 0))
}

/// Whether a container's writable layer has a limit.
pub(super) fn is_limited(record: &Record) -> bool {
    !record.host_config.storage_opt.is_empty()
}

/// `10G`, `1.5 GiB`, `512`, in powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').filter(|unit| !unit.is_empty()).unwrap_or(unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    Some((number * 1024f64.powi(power)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        let read = |name: &str, value: &str| size(&[(name.to_owned(), value.to_owned())].into());
        assert_eq!(read("size", "10G").unwrap(), Some(10 << 30));
        assert_eq!(read("SIZE", "1.5 MiB").unwrap(), Some(3 << 19));
        assert_eq!(read("size", "512").unwrap(), Some(512));
        assert_eq!(read("size", "0").unwrap(), None);
        assert_eq!(read("size", "many").unwrap_err().text(), "invalid size: 'many'");
        assert_eq!(read("inodes", "1").unwrap_err().text(), "unknown option inodes");
    }
}
