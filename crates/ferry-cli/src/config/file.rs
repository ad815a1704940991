//! Changing `config.json`: what is not known stays as it is, and a failure leaves the file as it was.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize as _;
use serde_json::{Map, Value};

use super::Config;

/// Changes `auths`; the file is written when `change` says that it did. Returns what `change` says.
///
/// # Errors
/// A text, when the file cannot be read or written.
pub(crate) fn change(config: &Config, change: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<bool, String> {
    let path = config.folder.join("config.json");
    let mut whole = read(&path)?;
    let auths = whole.entry("auths").or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(auths) = auths else { return Err(format!("{}: `auths` is no object", path.display())) };
    let changed = change(auths);
    if changed {
        write(&path, &whole).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(changed)
}

fn read(path: &Path) -> Result<Map<String, Value>, String> {
    match fs::read(path) {
        Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => Ok(Map::new()),
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(format!("open {}: {error}", path.display())),
    }
}

/// Writes beside the file and renames; a link is followed, and the file keeps its owner and rights.
fn write(path: &Path, whole: &Map<String, Value>) -> io::Result<()> {
    let place = followed(path)?;
    let folder = place.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).create(folder)?;
    let temporary = folder.join(format!("config.json{}", std::process::id()));
    let written = write_new(&temporary, &place, whole);
    if written.is_err() {
        // The failure is what counts.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(temporary: &Path, place: &Path, whole: &Map<String, Value>) -> io::Result<()> {
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(temporary)?;
    if let Ok(before) = fs::metadata(place) {
        file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o777))?;
        // Only root may give a file away; others own it anyway.
        let _ = std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()));
    }
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    whole.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(temporary, place)
}

/// Returns where a link leads, which need not be there.
fn followed(path: &Path) -> io::Result<PathBuf> {
    match fs::read_link(path) {
        Ok(target) => {
            let target = path.parent().unwrap_or(Path::new(".")).join(target);
            Ok(fs::canonicalize(&target).unwrap_or(target))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
            Ok(path.to_owned())
        }
        Err(error) => Err(error),
    }
}
