//! Builds images in memory: layers as tar archives, configs, manifests and indexes, and the
//! archive that `load` reads.
//!
//! Leaves out where they go: see [`crate::registry::Storage`]. Every time stamp is fixed, so the
//! same content has the same digest on every machine.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// 2024-01-01, the time of every file made here.
const MTIME: u64 = 1_704_067_200;

/// How a layer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// gzip, Docker's default.
    Gzip,
    /// zstd, OCI only.
    Zstd,
}

/// Which family of media types a manifest uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `application/vnd.oci.…`
    Oci,
    /// `application/vnd.docker.…`, schema 2.
    Docker,
}

impl Dialect {
    fn manifest(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    fn index(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.index.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    fn layer(self, compression: Compression) -> &'static str {
        match (self, compression) {
            (Self::Oci, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
            (Self::Oci, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Self::Oci, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Self::Docker, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (Self::Docker, Compression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Self::Docker, Compression::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        }
    }
}

/// Returns the digest of `bytes` as it is written in manifests.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A blob with its media type.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Media type of its descriptor.
    pub media_type: &'static str,
    /// The bytes as they travel.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// Returns the descriptor.
    #[must_use]
    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": digest(&self.bytes), "size": self.bytes.len()})
    }

    /// Returns the digest.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.bytes)
    }
}

/// A layer being written.
pub struct Layer {
    archive: tar::Builder<Vec<u8>>,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Layer")
    }
}

impl Default for Layer {
    fn default() -> Self {
        Self { archive: tar::Builder::new(Vec::new()) }
    }
}

impl Layer {
    fn entry(&mut self, path: &str, kind: tar::EntryType, mode: u32, link: &str, bytes: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(MTIME);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(bytes.len() as u64);
        let added = if link.is_empty() {
            self.archive.append_data(&mut header, path, bytes)
        } else {
            self.archive.append_link(&mut header, path, link)
        };
        added.expect("writing to memory succeeds for a valid path");
    }

    /// Adds a folder.
    #[must_use]
    pub fn dir(mut self, path: &str, mode: u32) -> Self {
        self.entry(path, tar::EntryType::Directory, mode, "", b"");
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, path: &str, mode: u32, bytes: &[u8]) -> Self {
        self.entry(path, tar::EntryType::Regular, mode, "", bytes);
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        self.entry(path, tar::EntryType::Symlink, 0o777, target, b"");
        self
    }

    /// Adds a whiteout: `path` of a lower layer is gone.
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
        self.file(&format!("{folder}/.wh.{name}"), 0o644, b"")
    }

    /// Returns the tar archive.
    ///
    /// # Panics
    /// Never: memory takes every write.
    #[must_use]
    pub fn into_tar(self) -> Vec<u8> {
        self.archive.into_inner().expect("writing to memory succeeds")
    }
}

/// Compresses a layer.
///
/// # Errors
/// When the encoder fails.
pub fn compress(tar: &[u8], compression: Compression) -> Result<Vec<u8>> {
    Ok(match compression {
        Compression::None => tar.to_vec(),
        Compression::Gzip => {
            let mut encoder = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::new(4));
            encoder.write_all(tar)?;
            encoder.finish()?
        }
        Compression::Zstd => zstd::encode_all(tar, 3)?,
    })
}

/// An image of one platform: everything that a registry must hold for it.
#[derive(Clone, Debug)]
pub struct Image {
    /// Config blob.
    pub config: Blob,
    /// Layers as they travel, lowest first.
    pub layers: Vec<Blob>,
    /// Manifest blob.
    pub manifest: Blob,
    tars: Vec<Vec<u8>>,
    architecture: String,
}

impl Image {
    /// Builds an image; `run` is the `config` object of the image config.
    ///
    /// # Errors
    /// When a layer cannot be compressed.
    pub fn build(
        architecture: &str,
        run: &Value,
        tars: Vec<Vec<u8>>,
        compression: Compression,
        dialect: Dialect,
    ) -> Result<Self> {
        let diff_ids: Vec<String> = tars.iter().map(|tar| digest(tar)).collect();
        let history: Vec<Value> = (0..tars.len())
            .map(|number| json!({"created": "2024-01-01T00:00:00Z", "created_by": format!("layer {number}")}))
            .collect();
        let config = json!({
            "created": "2024-01-01T00:00:00Z",
            "architecture": architecture,
            "os": "linux",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        let config = Blob { media_type: dialect.config(), bytes: config.to_string().into_bytes() };
        let layers = tars
            .iter()
            .map(|tar| Ok(Blob { media_type: dialect.layer(compression), bytes: compress(tar, compression)? }))
            .collect::<Result<Vec<_>>>()?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": dialect.manifest(),
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let manifest = Blob { media_type: dialect.manifest(), bytes: manifest.to_string().into_bytes() };
        Ok(Self { config, layers, manifest, tars, architecture: architecture.to_owned() })
    }

    /// Puts an image together of a configuration and of layers as they travel, which need not fit each other.
    #[must_use]
    pub fn of_parts(config: Vec<u8>, layers: Vec<Vec<u8>>, compression: Compression, dialect: Dialect) -> Self {
        let config = Blob { media_type: dialect.config(), bytes: config };
        let tars = layers.clone();
        let blob = |bytes| Blob { media_type: dialect.layer(compression), bytes };
        let layers: Vec<Blob> = layers.into_iter().map(blob).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": dialect.manifest(),
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let manifest = Blob { media_type: dialect.manifest(), bytes: manifest.to_string().into_bytes() };
        Self { config, layers, manifest, tars, architecture: "amd64".to_owned() }
    }

    /// Returns the layers as they are unpacked, lowest first.
    #[must_use]
    pub fn tars(&self) -> &[Vec<u8>] {
        &self.tars
    }

    /// Returns the archive that `load` reads, in the form of `docker save` before version 25.
    ///
    /// # Panics
    /// Never: memory takes every write.
    #[must_use]
    pub fn archive(&self, tags: &[&str]) -> Vec<u8> {
        let config = format!("{}.json", &self.config.digest()[7..]);
        let mut archive = Layer::default().file(&config, 0o644, &self.config.bytes);
        let mut names = Vec::new();
        for tar in &self.tars {
            let folder = digest(tar)[7..].to_owned();
            let name = format!("{folder}/layer.tar");
            archive = archive.dir(&format!("{folder}/"), 0o755).file(&name, 0o644, tar);
            names.push(name);
        }
        let manifest = json!([{"Config": config, "RepoTags": tags, "Layers": names}]);
        archive.file("manifest.json", 0o644, manifest.to_string().as_bytes()).into_tar()
    }
}

/// Builds an index (or manifest list) over images of several platforms.
#[must_use]
pub fn index(images: &[&Image], dialect: Dialect) -> Blob {
    let manifests: Vec<Value> = images
        .iter()
        .map(|image| {
            let mut descriptor = image.manifest.descriptor();
            descriptor["platform"] = json!({"architecture": image.architecture, "os": "linux"});
            descriptor
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": dialect.index(), "manifests": manifests});
    Blob { media_type: dialect.index(), bytes: index.to_string().into_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        let tar = Layer::default().dir("etc/", 0o755).file("etc/motd", 0o644, b"hi\n").whiteout("etc/issue").into_tar();
        Image::build("amd64", &json!({"Cmd": ["sh"]}), vec![tar], Compression::Gzip, Dialect::Oci).unwrap()
    }

    #[test]
    fn the_same_content_has_the_same_digest() {
        assert_eq!(image().manifest.digest(), image().manifest.digest());
    }

    #[test]
    fn manifest_names_config_and_layers_by_digest_and_size() {
        let image = image();
        let manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
        assert_eq!(manifest["config"], image.config.descriptor());
        assert_eq!(manifest["layers"][0]["size"], image.layers[0].bytes.len());
    }

    #[test]
    fn whiteouts_stand_beside_what_they_hide() {
        let tar = Layer::default().whiteout("etc/issue").into_tar();
        let mut archive = tar::Archive::new(tar.as_slice());
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("etc/.wh.issue"));
    }
}
