//! The archive that `save` writes: an OCI layout which is a `docker save` archive as well, in one tar.
//!
//! ```text
//! blobs/<algorithm>/<hex>   every manifest, configuration and compressed layer that is here
//! index.json                one entry per name
//! manifest.json             the same for readers of Docker's own form, one image of each index
//! oci-layout
//! ```
//!
//! Entries are sorted by name and each comes once. What a manifest needs goes in whole or not at all: a manifest whose content is not all
//! here is written alone, one that is not here is left out.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use ferry_spec::descriptor::{Descriptor, media_type};
use ferry_spec::digest::{Digest, Hasher};
use ferry_spec::manifest::{Document, Index, Manifest};
use ferry_spec::platform::Platform;
use ferry_spec::reference::Reference;
use serde::Serialize;

use crate::Store;
use crate::error::{Error, Result};

/// Bytes that are copied at once.
const CHUNK: usize = 1 << 20;
/// Annotation with the whole name of an entry.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// Annotation with its tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// One image to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedImage {
    /// Its index or manifest.
    pub target: Descriptor,
    /// The name it gets in the archive.
    pub name: Option<Reference>,
}

/// Which images of an index are written.
#[derive(Debug, Clone)]
pub struct SaveChoice {
    /// Those for these platforms; all when empty.
    pub platforms: Vec<Platform>,
    /// Which of them `manifest.json` shows, when there are several.
    pub preferred: Platform,
}

impl SaveChoice {
    fn takes(&self, child: &Descriptor) -> bool {
        let Some(platform) = &child.platform else { return true };
        self.platforms.is_empty() || self.platforms.iter().any(|wanted| wanted.is_same(platform))
    }

    fn rank(&self, child: &Descriptor) -> usize {
        child.platform.as_ref().and_then(|offered| self.preferred.rank(offered)).unwrap_or(usize::MAX)
    }
}

/// An archive that is to be written: everything was found.
#[derive(Debug)]
pub struct SavePlan {
    entries: BTreeMap<String, Content>,
}

#[derive(Debug)]
enum Content {
    Folder,
    Bytes(Vec<u8>, u32),
    Blob(Digest, u64),
}

/// One image in `manifest.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
    #[serde(skip)]
    manifest: Digest,
}

impl Store {
    /// Finds everything that an archive of `images` holds. The caller holds a lease until it is written.
    ///
    /// # Errors
    /// When a manifest cannot be read, or an index has nothing for the platforms.
    pub fn plan_archive(&self, images: &[SavedImage], choice: &SaveChoice) -> Result<SavePlan> {
        let mut plan = SavePlan { entries: BTreeMap::new() };
        let mut entries = Vec::with_capacity(images.len());
        let mut listed: Vec<Listed> = Vec::new();
        for image in images {
            if let Some(shown) = plan.add(self, &image.target, choice, 0)? {
                let tag = image.name.as_ref().map(Reference::familiar);
                let known = listed.iter_mut().find(|one| one.manifest == shown.0);
                match known {
                    Some(one) => one.repo_tags.get_or_insert_default().extend(tag),
                    None => listed.push(list(shown.0, &shown.1, tag)),
                }
            }
            entries.push(named(image));
        }
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests: entries,
            subject: None,
            annotations: BTreeMap::new(),
        };
        plan.put("index.json", to_json(&index)?, 0o644);
        plan.put("oci-layout", LAYOUT.to_vec(), 0o444);
        if !listed.is_empty() {
            plan.put("manifest.json", to_json(&listed)?, 0o644);
        }
        Ok(plan)
    }

    /// Writes a planned archive; the digest of every blob is checked on the way.
    ///
    /// # Errors
    /// When `out` does not take it, or content is not what it should be.
    pub fn write_archive(&self, plan: &SavePlan, mut out: impl Write) -> Result<()> {
        let mut written = Ok(());
        for (name, content) in &plan.entries {
            written = self.write_entry(name, content, &mut out);
            if written.is_err() {
                break;
            }
        }
        written?;
        out.write_all(&[0; 1024]).and_then(|()| out.flush()).map_err(Error::io("write", "the archive"))
    }

    fn write_entry(&self, name: &str, content: &Content, out: &mut impl Write) -> Result<()> {
        let write = |out: &mut dyn Write, bytes: &[u8]| out.write_all(bytes).map_err(Error::io("write", "the archive"));
        let size = match content {
            Content::Folder => {
                let header = header(name, 0, 0o755, tar::EntryType::Directory)?;
                return write(out, header.as_bytes());
            }
            Content::Bytes(bytes, mode) => {
                write(out, header(name, bytes.len() as u64, *mode, tar::EntryType::Regular)?.as_bytes())?;
                write(out, bytes)?;
                bytes.len() as u64
            }
            Content::Blob(digest, size) => {
                write(out, header(name, *size, 0o444, tar::EntryType::Regular)?.as_bytes())?;
                self.copy_blob(digest, *size, out)?;
                *size
            }
        };
        let padding = (512 - size % 512) % 512;
        write(out, &[0; 512][..usize::try_from(padding).unwrap_or_default()])
    }

    fn copy_blob(&self, digest: &Digest, size: u64, out: &mut impl Write) -> Result<()> {
        let mut file = self.open_blob(digest)?;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK)).max(1)];
        let mut copied = 0;
        while copied < size {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("read", digest.as_str())(error)),
            };
            let read = read.min(usize::try_from(size - copied).unwrap_or(read));
            hasher.update(&buffer[..read]);
            out.write_all(&buffer[..read]).map_err(Error::io("write", "the archive"))?;
            copied += read as u64;
        }
        if copied != size {
            return Err(Error::WrongSize { digest: digest.clone(), expected: size, actual: Some(copied) });
        }
        let actual = hasher.finish();
        if actual != *digest {
            return Err(Error::WrongDigest { expected: digest.clone(), actual });
        }
        Ok(())
    }
}

impl SavePlan {
    /// Adds an image; returns the manifest of it that `manifest.json` shows.
    fn add(
        &mut self,
        store: &Store,
        target: &Descriptor,
        choice: &SaveChoice,
        depth: usize,
    ) -> Result<Option<(Digest, Box<Manifest>)>> {
        if depth > super::MAX_INDEX_DEPTH {
            return Err(super::ArchiveError::IndexDepth(target.digest.clone()).into());
        }
        let index = match store.document(target)? {
            Document::Manifest(manifest) => {
                self.add_manifest(store, target, &manifest);
                return Ok(Some((target.digest.clone(), manifest)));
            }
            Document::Index(index) => index,
        };
        self.blob(target);
        let mut shown: Option<(usize, Digest, Box<Manifest>)> = None;
        let mut found = false;
        for child in index.manifests.iter().filter(|child| choice.takes(child)) {
            found = true;
            match store.document(child) {
                Ok(Document::Manifest(manifest)) => {
                    let whole = self.add_manifest(store, child, &manifest);
                    let rank = choice.rank(child);
                    let better = shown.as_ref().is_none_or(|(best, ..)| rank < *best);
                    if whole && better && !child.is_attestation() && media_type::is_config(&manifest.config.media_type)
                    {
                        shown = Some((rank, child.digest.clone(), manifest));
                    }
                }
                Ok(Document::Index(_)) => {
                    self.add(store, child, choice, depth + 1)?;
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        if !found {
            return Err(super::ArchiveError::NoPlatform.into());
        }
        Ok(shown.map(|(_, digest, manifest)| (digest, manifest)))
    }

    /// Adds a manifest, and what it names when all of that is here; tells whether it is.
    fn add_manifest(&mut self, store: &Store, descriptor: &Descriptor, manifest: &Manifest) -> bool {
        self.blob(descriptor);
        let parts = || std::iter::once(&manifest.config).chain(&manifest.layers);
        let distributable = |part: &&Descriptor| !media_type::is_foreign_layer(&part.media_type);
        let whole = parts().filter(distributable).all(|part| store.has_blob(&part.digest));
        if whole {
            parts().filter(distributable).for_each(|part| self.blob(part));
        }
        whole
    }

    fn blob(&mut self, descriptor: &Descriptor) {
        let digest = &descriptor.digest;
        let folder = format!("blobs/{}/", digest.algorithm());
        self.entries.insert("blobs/".to_owned(), Content::Folder);
        self.entries.insert(format!("{folder}{}", digest.hex()), Content::Blob(digest.clone(), descriptor.size));
        self.entries.insert(folder, Content::Folder);
    }

    fn put(&mut self, name: &str, bytes: Vec<u8>, mode: u32) {
        self.entries.insert(name.to_owned(), Content::Bytes(bytes, mode));
    }
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| super::ArchiveError::Json { name: "archive".to_owned(), source }.into())
}

/// Returns the entry of an image in `index.json`.
fn named(image: &SavedImage) -> Descriptor {
    let mut entry = image.target.clone();
    entry.annotations.remove(IMAGE_NAME);
    entry.annotations.remove(REF_NAME);
    if let Some(name) = &image.name {
        let object = name.tag().map_or_else(|| name.to_string(), str::to_owned);
        entry.annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
        entry.annotations.insert(REF_NAME.to_owned(), object);
    }
    entry
}

fn list(digest: Digest, manifest: &Manifest, tag: Option<String>) -> Listed {
    let path = |part: &Descriptor| format!("blobs/{}/{}", part.digest.algorithm(), part.digest.hex());
    let layers: Vec<String> = manifest.layers.iter().map(path).collect();
    Listed {
        config: path(&manifest.config),
        repo_tags: tag.map(|tag| vec![tag]),
        layers: (!layers.is_empty()).then_some(layers),
        manifest: digest,
    }
}

fn header(name: &str, size: u64, mode: u32, kind: tar::EntryType) -> Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).map_err(Error::io("write", "the archive"))?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}
