//! Records: one checksummed, versioned JSON file per object.
//!
//! ```text
//! x.json           {"format":1,"digest":"sha256:…","record":{…}}, the digest over the bytes of `record`; always synced
//! x.json.new       a newer version, not synced yet; it counts when it verifies
//! .x.json.<random> being written
//! x.json.damaged-<time>  did not verify and was set aside
//! ```
//!
//! [`write`] returns when the record is on the disk. [`Syncer::write`] returns when any reader sees it, which outlives a kill of this
//! process, and brings it to the disk within a second. The version before stays whole until then, so a power cut at any moment
//! leaves one of the two. An object may own a folder: it is then removed with its folder, and the syncer takes no offence.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ferry_spec::digest::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::paths::random_name;

mod syncer;

pub use syncer::Syncer;

/// The format this build writes.
pub const FORMAT: u32 = 1;

/// The longest record that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A call to the kernel failed.
    #[error("cannot {action} record {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file does not verify; it was renamed.
    #[error("record {path} is damaged ({reason}) and was set aside as {aside}")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// Where it lies now.
        aside: PathBuf,
    },
    /// A later version of ferry wrote it.
    #[error("record {path} has format {format}, this version knows up to {FORMAT}")]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The record cannot be written as JSON.
    #[error("cannot serialise record {path}")]
    Serialise {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

impl RecordError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    format: u32,
    digest: Digest,
    #[serde(borrow)]
    record: &'a RawValue,
}

/// Writes a record and returns when it is on the disk.
///
/// # Errors
/// [`RecordError`]; what was there before is untouched then.
pub fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), RecordError> {
    let temporary = write_temporary(path, record)?;
    let publish = || {
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, path)?;
        // An unsynced version from before would be taken for the newer one.
        remove_if_there(&new_path(path))?;
        sync_folder(path)
    };
    publish().map_err(|source| {
        // The sweep at the next start takes it otherwise.
        let _ = fs::remove_file(&temporary);
        RecordError::io("write", path)(source)
    })
}

/// Writes a record that its caller brings to the disk with everything around it.
pub(crate) fn write_unsynced<T: Serialize>(path: &Path, record: &T) -> Result<(), RecordError> {
    let temporary = write_temporary(path, record)?;
    fs::rename(&temporary, path).map_err(RecordError::io("write", path))
}

/// Reads a record; `None` when there is none.
///
/// # Errors
/// [`RecordError::Damaged`] when it does not verify (it is set aside first, so the next read finds none), [`RecordError::Newer`] when a
/// later version wrote it (it stays).
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RecordError> {
    match read_file(&new_path(path)) {
        Ok(Some(record)) => return Ok(Some(record)),
        Ok(None) => {}
        // A power cut before it was synced: the version before counts.
        Err(ReadError::Damaged(_)) => {
            remove_if_there(&new_path(path)).map_err(RecordError::io("remove", path))?;
        }
        Err(ReadError::Newer(format)) => return Err(RecordError::Newer { path: path.to_owned(), format }),
        Err(ReadError::Io(source)) => return Err(RecordError::io("read", path)(source)),
    }
    match read_file(path) {
        Ok(record) => Ok(record),
        Err(ReadError::Damaged(reason)) => Err(set_aside(path, reason)?),
        Err(ReadError::Newer(format)) => Err(RecordError::Newer { path: path.to_owned(), format }),
        Err(ReadError::Io(source)) => Err(RecordError::io("read", path)(source)),
    }
}

/// Removes a record for good; tells whether there was one.
///
/// # Errors
/// [`RecordError::Io`].
pub fn remove(path: &Path) -> Result<bool, RecordError> {
    let there = remove_files(path).map_err(RecordError::io("remove", path))?;
    if there {
        sync_folder(path).map_err(RecordError::io("sync", path))?;
    }
    Ok(there)
}

/// Lists the records of a folder that holds one file per object, by their final names; half-written ones are left out.
///
/// # Errors
/// When the folder cannot be read; one that does not exist is empty.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>, RecordError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(RecordError::io("list", folder)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(RecordError::io("list", folder))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let base = name.strip_suffix(".new").unwrap_or(name);
        if base.ends_with(".json") && !base.starts_with('.') {
            paths.push(folder.join(base));
        }
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

enum ReadError {
    Io(io::Error),
    Damaged(String),
    Newer(u32),
}

fn read_file<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ReadError> {
    let bytes = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ReadError::Io(error)),
        Ok(metadata) if !metadata.is_file() => return Err(ReadError::Damaged("not a file".to_owned())),
        Ok(metadata) if metadata.len() > MAX_BYTES => return Err(ReadError::Damaged("too long".to_owned())),
        Ok(_) => match fs::read(path) {
            Ok(bytes) => bytes,
            // The syncer may have given it its final name in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ReadError::Io(error)),
        },
    };
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let damaged = |error: serde_json::Error| ReadError::Damaged(error.to_string());
    let Format { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if format > FORMAT {
        return Err(ReadError::Newer(format));
    }
    let envelope: Envelope<'_> = serde_json::from_slice(&bytes).map_err(damaged)?;
    if !envelope.digest.verifies(envelope.record.get().as_bytes()) {
        return Err(ReadError::Damaged("digest does not match".to_owned()));
    }
    serde_json::from_str(envelope.record.get()).map(Some).map_err(damaged)
}

fn set_aside(path: &Path, reason: String) -> Result<RecordError, RecordError> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".damaged-{seconds}"));
    let aside = PathBuf::from(aside);
    fs::rename(path, &aside).map_err(RecordError::io("set aside", path))?;
    Ok(RecordError::Damaged { path: path.to_owned(), reason, aside })
}

fn write_temporary<T: Serialize>(path: &Path, record: &T) -> Result<PathBuf, RecordError> {
    let serialise = |source| RecordError::Serialise { path: path.to_owned(), source };
    let record = serde_json::value::to_raw_value(record).map_err(serialise)?;
    let digest = Digest::sha256(record.get().as_bytes());
    let bytes = serde_json::to_vec(&Envelope { format: FORMAT, digest, record: &record }).map_err(serialise)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", random_name()));
    let create = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&bytes)
    };
    match create() {
        Ok(()) => Ok(temporary),
        Err(source) => {
            // On a full disk the name may exist without its bytes.
            let _ = fs::remove_file(&temporary);
            Err(RecordError::io("write", path)(source))
        }
    }
}

fn new_path(path: &Path) -> PathBuf {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    PathBuf::from(new)
}

fn remove_files(path: &Path) -> io::Result<bool> {
    // The final name first: were the newer version removed alone, the older would come back.
    let base = remove_if_there(path)?;
    let new = remove_if_there(&new_path(path))?;
    Ok(base || new)
}

fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Removes what killed writers left in a folder of records.
///
/// # Errors
/// [`RecordError::Io`].
pub fn sweep(folder: &Path) -> Result<(), RecordError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(()),
        entries => entries.map_err(RecordError::io("list", folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(RecordError::io("list", folder))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with('.') && name.contains(".json.") {
            remove_if_there(&entry.path()).map_err(RecordError::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// As [`sweep`], where what is left behind is no reason to stop.
pub fn sweep_or_warn(folder: &Path) {
    if let Err(error) = sweep(folder) {
        tracing::warn!(folder = %folder.display(), %error, "half-written records not removed");
    }
}

#[cfg(test)]
mod tests;
