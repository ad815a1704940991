//! Writing contexts: whole, or not at all.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use serde_json::Value;

use super::{ContextError, Stored, load, metadata_path};

/// A context with everything that belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Whole {
    /// Its metadata file; the name in it is the one it is stored under.
    pub(crate) metadata: Value,
    /// Endpoint, file name and content.
    pub(crate) tls: Vec<(String, String, Vec<u8>)>,
}

/// A name that no context can have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NameError {
    /// The built-in one's.
    #[error("\"default\" is a reserved context name")]
    Reserved,
    /// It has letters that it cannot have, or too few.
    #[error("context name \"{0}\" is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\"")]
    Invalid(String),
    /// Nothing at all.
    #[error("context name cannot be empty")]
    Empty,
}

/// Checks the name of a context that is stored.
pub(crate) fn check_name(name: &str) -> Result<(), NameError> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '+' | '-');
    match name {
        "" => Err(NameError::Empty),
        "default" => Err(NameError::Reserved),
        name if name.len() > 1
            && name.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            && name.chars().all(fits) =>
        {
            Ok(())
        }
        name => Err(NameError::Invalid(name.to_owned())),
    }
}

impl Whole {
    /// Reads a stored context with its TLS files.
    pub(crate) fn load(folder: &Path, name: &str) -> Result<Self, ContextError> {
        let stored = load(folder, name)?;
        let damaged = |error: io::Error| ContextError::Damaged { name: name.to_owned(), reason: error.to_string() };
        let tls = stored.read_tls().map_err(damaged)?;
        Ok(Self { metadata: stored.metadata, tls })
    }

    /// Stores it under a name, in place of what was there.
    pub(crate) fn save(mut self, folder: &Path, name: &str) -> io::Result<()> {
        self.metadata["Name"] = Value::from(name);
        let place = metadata_path(folder, name);
        let stored = Stored { metadata: self.metadata, folder: place.parent().unwrap_or(folder).to_owned() };
        write_tls(&stored.tls_folder(), &self.tls)?;
        fs::create_dir_all(&stored.folder)?;
        let temporary = place.with_extension(format!("json{}", std::process::id()));
        let written = fs::write(&temporary, serde_json::to_vec(&stored.metadata)?);
        written.and_then(|()| fs::rename(&temporary, &place)).inspect_err(|_| {
            // The failure is told; what it left is of no use to anybody.
            let _ = fs::remove_file(&temporary);
        })
    }
}

/// Puts the files of a context in the place of those that are there.
fn write_tls(folder: &Path, files: &[(String, String, Vec<u8>)]) -> io::Result<()> {
    remove_folder(folder)?;
    for (endpoint, file, content) in files {
        let folder = folder.join(endpoint);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        super::write_private(&folder.join(file), content)?;
    }
    Ok(())
}

/// Removes a context, if it is there.
pub(crate) fn remove(folder: &Path, name: &str) -> io::Result<()> {
    let place = metadata_path(folder, name);
    let metadata = place.parent().unwrap_or(folder);
    remove_folder(metadata)?;
    remove_folder(&super::tls_beside(metadata))
}

/// Whether a context of that name is stored.
pub(crate) fn exists(folder: &Path, name: &str) -> bool {
    metadata_path(folder, name).exists()
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_dockers() {
        for name in ["aa", "a1", "A.b_c+d-e", "0x"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["a", "-a", "a b", "a/b", "ä1", ".a"] {
            assert_eq!(check_name(name), Err(NameError::Invalid(name.to_owned())), "{name}");
        }
        assert_eq!(check_name("default"), Err(NameError::Reserved));
        assert_eq!(check_name(""), Err(NameError::Empty));
    }

    #[test]
    fn what_is_saved_is_read_again_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = ("docker".to_owned(), "ca.pem".to_owned(), b"x".to_vec());
        let context = Whole { metadata: json!({ "Name": "other", "Metadata": {} }), tls: vec![file] };
        context.clone().save(folder.path(), "mine").unwrap();
        assert!(exists(folder.path(), "mine") && !exists(folder.path(), "other"));
        let read = Whole::load(folder.path(), "mine").unwrap();
        assert_eq!((read.metadata["Name"].as_str(), &read.tls), (Some("mine"), &context.tls));
        Whole { tls: Vec::new(), ..read }.save(folder.path(), "mine").unwrap();
        assert!(Whole::load(folder.path(), "mine").unwrap().tls.is_empty());
        remove(folder.path(), "mine").unwrap();
        remove(folder.path(), "mine").unwrap();
        assert!(!exists(folder.path(), "mine"));
        assert_eq!(fs::read_dir(folder.path().join("contexts/meta")).unwrap().count(), 0);
    }
}
