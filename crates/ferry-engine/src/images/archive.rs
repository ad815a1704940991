//! Image archives: a tar whose files go into the store as they come, and what its tables say about them.
//!
//! Names in the archive are keys into its own files and never paths of this host. Links are not followed.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path};

use ferry_spec::image::MAX_CONFIG_BYTES;
use ferry_spec::{Descriptor, Digest, Index, Manifest, media_type};
use ferry_store::Store;
use serde::Deserialize;
use tar::EntryType;

use super::pull::read_config;
use super::spool::{Spool, store_blob};
use crate::error::{Context, Error, Result};

/// Annotation with the whole name of an image, written by containerd and Docker.
const NAME: &str = "io.containerd.image.name";
/// Annotation with the name or tag of an image.
const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// Longest table of an archive, in bytes.
const TABLE_LIMIT: u64 = 4 << 20;
/// Most files of an archive.
const FILE_LIMIT: usize = 100_000;

/// An image that an archive holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Names as they stand there.
    pub(super) names: Vec<String>,
    pub(super) target: Descriptor,
}

/// The files of an archive, in the store.
#[derive(Default)]
struct Files {
    blobs: HashMap<String, (Digest, u64)>,
    tables: HashMap<String, Vec<u8>>,
}

/// Reads an archive into `store` and returns the images in it. `folder` lies on the store's file system.
pub(super) fn read(store: &Store, folder: &Path, source: impl Read) -> Result<Vec<Found>> {
    let files = read_files(store, folder, decompress(source)?)?;
    if files.tables.contains_key("index.json") && files.tables.contains_key("oci-layout") {
        return read_layout(&files);
    }
    match files.tables.get("manifest.json") {
        Some(table) => read_docker(store, &files, table),
        None => Err(Error::invalid("unrecognized image format")),
    }
}

/// Undoes the compression of a whole archive.
pub(super) fn decompress<'a>(source: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let mut source = BufReader::with_capacity(128 * 1024, source);
    let head = source.fill_buf().context("cannot read the archive")?;
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::Decoder::with_buffer(source).context("cannot decompress the archive")?)
        }
        [b'B', b'Z', b'h', ..] => return Err(Error::not_implemented("archives compressed with bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => return Err(Error::not_implemented("archives compressed with xz")),
        _ => Box::new(source),
    })
}

fn read_files(store: &Store, folder: &Path, source: impl Read) -> Result<Files> {
    let mut files = Files::default();
    let mut archive = tar::Archive::new(source);
    for entry in archive.entries().context("cannot read the archive")? {
        let mut entry = entry.context("cannot read the archive")?;
        if entry.header().entry_type() != EntryType::Regular {
            continue;
        }
        let Some(name) = entry.path().ok().as_deref().and_then(key) else { continue };
        if files.blobs.len() + files.tables.len() >= FILE_LIMIT {
            return Err(Error::invalid(format!("the archive has more than {FILE_LIMIT} files")));
        }
        let size = entry.size();
        if matches!(name.as_str(), "manifest.json" | "index.json" | "oci-layout" | "repositories") {
            files.tables.insert(name, read_small(&mut entry, size, TABLE_LIMIT)?);
            continue;
        }
        let digest = match blob_name(&name) {
            Some(digest) => {
                if !store.has_blob(&digest) {
                    store_blob(store, &digest, size, &mut entry)?;
                }
                (digest, size)
            }
            None => {
                let mut spool = Spool::create(folder)?;
                io::copy(&mut entry, &mut spool).context("cannot read the archive")?;
                spool.store(store)?
            }
        };
        files.blobs.insert(name, digest);
    }
    Ok(files)
}

fn read_small(source: &mut impl Read, size: u64, limit: u64) -> Result<Vec<u8>> {
    if size > limit {
        return Err(Error::invalid(format!("a table of the archive is longer than {limit} bytes")));
    }
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).context("cannot read the archive")?;
    Ok(bytes)
}

/// Returns the plain form of a file's name; none for names that could only be meant to mislead.
fn key(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn blob_name(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}

fn read_layout(files: &Files) -> Result<Vec<Found>> {
    let table = files.tables.get("index.json").map(Vec::as_slice).unwrap_or_default();
    ferry_spec::json::check_unambiguous(table)
        .map_err(|error| Error::invalid(format!("invalid index.json: {error}")))?;
    let index: Index =
        serde_json::from_slice(table).map_err(|error| Error::invalid(format!("invalid index.json: {error}")))?;
    let mut found: Vec<Found> = Vec::new();
    for target in index.manifests {
        if target.is_attestation() {
            continue;
        }
        let name =
            target.annotations.get(NAME).or_else(|| target.annotations.get(REFERENCE).filter(|text| is_name(text)));
        match found.iter_mut().find(|image| image.target.digest == target.digest) {
            Some(image) => image.names.extend(name.cloned()),
            None => found.push(Found { names: name.cloned().into_iter().collect(), target }),
        }
    }
    Ok(found)
}

/// Tells a name from a tag alone.
fn is_name(text: &str) -> bool {
    text.contains([':', '/'])
}

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

fn read_docker(store: &Store, files: &Files, table: &[u8]) -> Result<Vec<Found>> {
    let images: Vec<DockerImage> =
        serde_json::from_slice(table).map_err(|error| Error::invalid(format!("invalid manifest.json: {error}")))?;
    images
        .into_iter()
        .map(|image| {
            let target = docker_manifest(store, files, &image)?;
            Ok(Found { names: image.repo_tags.unwrap_or_default(), target })
        })
        .collect()
}

/// Writes the manifest that a Docker archive does not have.
fn docker_manifest(store: &Store, files: &Files, image: &DockerImage) -> Result<Descriptor> {
    let file = |name: &str| {
        key(Path::new(name))
            .and_then(|name| files.blobs.get(&name))
            .ok_or_else(|| Error::invalid(format!("invalid archive: {name:?} is not in it")))
    };
    let (config, size) = file(&image.config)?;
    let bytes = store.read_blob(config, MAX_CONFIG_BYTES).context("cannot read the image configuration")?;
    let mut layers = Vec::new();
    for name in image.layers.iter().flatten() {
        let (digest, size) = file(name)?;
        layers.push(Descriptor::new(layer_type(store, digest)?, digest.clone(), *size));
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::DOCKER_MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::new(media_type::DOCKER_CONFIG, config.clone(), *size),
        layers,
        subject: None,
        annotations: Default::default(),
    };
    read_config(&manifest, &bytes)?;
    store_manifest(store, media_type::DOCKER_MANIFEST, &manifest)
}

/// Stores a manifest of our own making.
pub(super) fn store_manifest(store: &Store, kind: &str, manifest: &Manifest) -> Result<Descriptor> {
    let bytes = serde_json::to_vec(manifest).context("cannot write the manifest")?;
    let digest = store.put_blob(&bytes).context("cannot store the manifest")?;
    Ok(Descriptor::new(kind, digest, bytes.len() as u64))
}

fn layer_type(store: &Store, digest: &Digest) -> Result<&'static str> {
    let mut head = Vec::new();
    let file = store.open_blob(digest).context("cannot read a layer")?;
    file.take(4).read_to_end(&mut head).context("cannot read a layer")?;
    Ok(match head[..] {
        [0x1f, 0x8b, ..] => media_type::DOCKER_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => media_type::DOCKER_LAYER_ZSTD,
        _ => media_type::DOCKER_LAYER,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_archives_are_keys() {
        for (name, expected) in [
            ("./manifest.json", Some("manifest.json")),
            ("a/layer.tar", Some("a/layer.tar")),
            ("../x", None),
            ("a/../../x", None),
            ("/etc/passwd", None),
            ("", None),
        ] {
            assert_eq!(key(Path::new(name)).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn only_whole_digests_are_blob_names() {
        let digest = Digest::sha256(b"x");
        assert_eq!(blob_name(&format!("blobs/sha256/{}", digest.hex())), Some(digest));
        assert_eq!(blob_name("blobs/sha256/../../etc/passwd"), None);
        assert_eq!(blob_name("blobs/sha256/abc"), None);
    }
}
