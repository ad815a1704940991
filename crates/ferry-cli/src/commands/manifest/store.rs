//! Manifest lists that are being put together: a folder per list, a file per manifest, shared with Docker's client.
//!
//! ```text
//! ~/.docker/manifests/<list>/<manifest>     names with `:` as `-` and `/` as `_`
//! ```

use std::fs;
use std::io;
use std::path::PathBuf;

use ferry_spec::Reference;

use super::ImageManifest;
use crate::config::{Config, default_folder};
use crate::failure::{Failure, Result};

/// The folder of all lists.
pub(super) struct Store {
    root: PathBuf,
}

impl Store {
    pub(super) fn of(config: &Config) -> Self {
        let folder = if config.folder.as_os_str().is_empty() { default_folder() } else { config.folder.clone() };
        Self { root: folder.join("manifests") }
    }

    fn list_folder(&self, list: &Reference) -> PathBuf {
        self.root.join(file_name(list))
    }

    /// Reads one manifest of a list; `None` when the list does not have it.
    pub(super) fn get(&self, list: &Reference, manifest: &Reference) -> Result<Option<ImageManifest>> {
        let path = self.list_folder(list).join(file_name(manifest));
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| Failure::new(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::new(format!("open {}: {error}", path.display()))),
        }
    }

    /// Reads all manifests of a list, by the names of their files; `None` when there is no such list.
    pub(super) fn list(&self, list: &Reference) -> Result<Option<Vec<ImageManifest>>> {
        let entries = match fs::read_dir(self.list_folder(list)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        let read = |path: PathBuf| {
            serde_json::from_slice(&fs::read(&path)?)
                .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
        };
        paths.into_iter().map(read).collect::<Result<Vec<_>>>().map(Some)
    }

    /// Puts a manifest into a list, which is made where it is missing.
    pub(super) fn save(&self, list: &Reference, manifest: &Reference, image: &ImageManifest) -> Result<()> {
        let folder = self.list_folder(list);
        fs::create_dir_all(&folder)?;
        let bytes = serde_json::to_vec(image).map_err(|error| Failure::new(error.to_string()))?;
        Ok(fs::write(folder.join(file_name(manifest)), bytes)?)
    }

    /// Forgets a list.
    pub(super) fn remove(&self, list: &Reference) -> Result<()> {
        match fs::remove_dir_all(self.list_folder(list)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The error of what is not there.
pub(super) fn missing(reference: &Reference) -> Failure {
    Failure::new(format!("No such manifest: {reference}"))
}

fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_spec::{Descriptor, Digest, media_type};

    #[test]
    fn lists_are_kept_as_files() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { folder: folder.path().to_owned(), ..Config::default() };
        let store = Store::of(&config);
        let list = Reference::parse("host:5000/a/list:1").unwrap();
        let name = Reference::parse("host:5000/a/image:2").unwrap();
        assert!(store.list(&list).unwrap().is_none() && store.get(&list, &name).unwrap().is_none());
        let bytes = br#"{"schemaVersion":2,"config":{}}"#;
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256(bytes), bytes.len() as u64);
        let image = ImageManifest::new(&name, descriptor, bytes).unwrap();
        store.save(&list, &name, &image).unwrap();
        assert!(folder.path().join("manifests/host-5000_a_list-1/host-5000_a_image-2").exists());
        let read = store.get(&list, &name).unwrap().unwrap();
        assert_eq!(
            (read.bytes().unwrap(), read.payload().unwrap()["schemaVersion"].as_u64()),
            (bytes.to_vec(), Some(2))
        );
        assert_eq!(store.list(&list).unwrap().unwrap().len(), 1);
        store.remove(&list).unwrap();
        store.remove(&list).unwrap();
        assert!(store.list(&list).unwrap().is_none());
    }
}
