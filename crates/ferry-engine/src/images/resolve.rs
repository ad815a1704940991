//! From what a user typed to an image, and to the manifest of it that a container is made of.

use std::sync::{Arc, PoisonError};

use ferry_spec::reference::AnyReference;
use ferry_spec::{ChainId, Descriptor, Digest, Document, ImageConfig, Index, Manifest, Platform, media_type};
use ferry_store::{ImageRecord, Lease};

use super::names::{familiar, is_dangling, no_such_image};
use super::{Images, Inner};
use crate::error::{Context, Error, Result};

/// How many manifests are remembered, and how many indexes.
const PARSED_KEPT: usize = 512;

/// What a container is made of.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// The image's id: digest of the index or manifest that is named.
    pub id: Digest,
    /// Digest of the manifest for the platform.
    pub manifest: Digest,
    /// The manifest's descriptor, as the index has it.
    pub descriptor: Descriptor,
    /// Digest of its configuration.
    pub config_digest: Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its topmost layer; `None` when it has no layers.
    pub chain_id: Option<ChainId>,
    /// What it runs on.
    pub platform: Platform,
    /// Names of the image, with tag or digest.
    pub reference_names: Vec<String>,
    /// Keeps the content here until the container has [`Images::acquire`]d it, whoever removes the image meanwhile.
    pub(crate) lease: Arc<Lease>,
}

/// A manifest with its configuration.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) descriptor: Descriptor,
    pub(super) manifest: Manifest,
    pub(super) config: ImageConfig,
}

impl Parsed {
    /// Returns what the index says it runs on, else what the configuration says.
    pub(super) fn platform(&self) -> Platform {
        self.descriptor.platform.clone().unwrap_or_else(|| self.config.platform())
    }

    /// Returns the topmost layer.
    pub(super) fn chain_id(&self) -> Option<ChainId> {
        ChainId::from_diff_ids(&self.config.rootfs.diff_ids)
    }
}

impl Images {
    /// Finds the image that `text` names (by name, id, or unique beginning of an id) and in it the manifest for `platform`; for
    /// none, the one that suits this host best.
    ///
    /// # Errors
    /// NotFound: `No such image`, or none for the platform.
    pub fn resolve(&self, text: &str, platform: Option<&Platform>) -> Result<ResolvedImage> {
        let inner = &self.inner;
        // Taken before anything is looked at: what is found from here on stays.
        let lease = Arc::new(inner.store.lease());
        let record = inner.find(text)?;
        let parsed = inner.best(&record, platform)?.ok_or_else(|| platform_not_found(&familiar(&record), platform))?;
        let chain_id = parsed.chain_id();
        if chain_id.as_ref().is_some_and(|chain| !inner.store.has_layer(chain)) {
            return Err(platform_not_found(&familiar(&record), platform));
        }
        if !inner.look_for_content(&record.target.digest, &parsed) {
            return Err(platform_not_found(&familiar(&record), platform));
        }
        let names = inner.names_of(&record.target.digest);
        Ok(ResolvedImage {
            id: record.target.digest,
            manifest: parsed.descriptor.digest.clone(),
            descriptor: parsed.descriptor.clone(),
            config_digest: parsed.manifest.config.digest.clone(),
            config: parsed.config.clone(),
            chain_id,
            platform: parsed.platform(),
            reference_names: names.iter().filter(|name| !is_dangling(name)).map(familiar).collect(),
            lease,
        })
    }

    /// How many different images have a name.
    pub(crate) fn count(&self) -> usize {
        let state = self.inner.state();
        let ids: std::collections::HashSet<&Digest> =
            state.names.values().map(|record| &record.target.digest).collect();
        ids.len()
    }

    /// The id of the image that `text` names, without looking into it.
    pub(crate) fn id_of(&self, text: &str) -> Option<Digest> {
        self.inner.find(text).ok().map(|record| record.target.digest)
    }
}

/// The error of an image that is here, but not for the platform.
pub(super) fn platform_not_found(name: &str, platform: Option<&Platform>) -> Error {
    let what = platform.map_or("any platform".to_owned(), |platform| format!("the specified platform ({platform})"));
    Error::not_found(format!("image with reference {name} was found but does not provide {what}"))
}

impl Inner {
    /// Looks for what tells of an image, which holds it while a lease lives: what was parsed before is known from memory, and a
    /// collection would take it from the disk. Compressed layers are held too, as far as they are kept at all.
    fn look_for_content(&self, target: &Digest, parsed: &Parsed) -> bool {
        for layer in &parsed.manifest.layers {
            let _ = self.store.has_blob(&layer.digest);
        }
        [target, &parsed.descriptor.digest, &parsed.manifest.config.digest]
            .into_iter()
            .all(|digest| self.store.has_blob(digest))
    }

    /// Finds the image that `text` names.
    pub(super) fn find(&self, text: &str) -> Result<ImageRecord> {
        let parsed = AnyReference::parse(text).map_err(|error| Error::invalid(error.to_string()))?;
        let found = match &parsed {
            AnyReference::Digest(digest) => self.find_by_digest(digest),
            AnyReference::Named(named) => {
                let named = named.clone().with_default_tag();
                let exact = self.state().names.get(&named).cloned();
                let found = exact.or_else(|| {
                    let digest = named.digest()?;
                    self.names_of(digest).into_iter().find(|record| record.reference.name() == named.name())
                });
                match found {
                    Some(found) => Some(found),
                    None if named.digest().is_none() => self.find_by_prefix(text)?,
                    None => None,
                }
            }
        };
        found.ok_or_else(|| no_such_image(&parsed))
    }

    fn find_by_digest(&self, digest: &Digest) -> Option<ImageRecord> {
        let by_target = self.names_of(digest).into_iter().next();
        by_target.or_else(|| self.find_by_config(|config| config == digest).into_iter().next())
    }

    /// Finds the one image whose id, or whose configuration's digest, begins with `text`.
    fn find_by_prefix(&self, text: &str) -> Result<Option<ImageRecord>> {
        let Some(prefix) = id_prefix(text) else { return Ok(None) };
        let fits = |digest: &Digest| digest.hex().starts_with(prefix);
        let mut found: Vec<ImageRecord> =
            self.state().names.values().filter(|record| fits(&record.target.digest)).cloned().collect();
        if found.is_empty() {
            found = self.find_by_config(fits);
        }
        found.dedup_by(|a, b| a.target.digest == b.target.digest);
        let mut ids: Vec<&Digest> = found.iter().map(|record| &record.target.digest).collect();
        ids.sort();
        ids.dedup();
        if ids.len() > 1 {
            return Err(Error::not_found("ambiguous reference"));
        }
        Ok(found.into_iter().next())
    }

    fn find_by_config(&self, fits: impl Fn(&Digest) -> bool) -> Vec<ImageRecord> {
        let records: Vec<ImageRecord> = self.state().names.values().cloned().collect();
        let has = |record: &ImageRecord| {
            self.manifests(&record.target).iter().any(|parsed| fits(&parsed.manifest.config.digest))
        };
        records.into_iter().filter(has).collect()
    }

    /// Returns the manifest of an image that suits `platform`; for none, the one that suits this host best, or any.
    pub(super) fn best(&self, record: &ImageRecord, platform: Option<&Platform>) -> Result<Option<Arc<Parsed>>> {
        if platform.is_none() && media_type::is_manifest(&record.target.media_type) {
            // Says why when it cannot be read.
            return self.parse(&record.target).map(Some);
        }
        let all = self.manifests(&record.target);
        let Some(wanted) = platform else {
            let best = all.iter().filter_map(|parsed| Some((self.host.rank(&parsed.platform())?, parsed)));
            return Ok(best.min_by_key(|(rank, _)| *rank).map(|(_, parsed)| parsed).or(all.first()).cloned());
        };
        Ok(all.into_iter().find(|parsed| wanted.is_same(&parsed.platform())))
    }

    /// Returns the image manifests that `target` reaches and that are here with their configuration.
    pub(super) fn manifests(&self, target: &Descriptor) -> Vec<Arc<Parsed>> {
        if media_type::is_manifest(&target.media_type) {
            return self.parse(target).ok().into_iter().collect();
        }
        let Ok(index) = self.index(target) else { return Vec::new() };
        let images = index.manifests.iter().filter(|child| is_image(child) && self.store.has_blob(&child.digest));
        images.filter_map(|child| self.parse(child).ok()).collect()
    }

    /// Reads an index.
    pub(super) fn index(&self, target: &Descriptor) -> Result<Arc<Index>> {
        let indexes = || self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = indexes().get(&target.digest).cloned() {
            return Ok(index);
        }
        let Document::Index(index) = self.store.document(target).context(format!("cannot read {}", target.digest))?
        else {
            return Err(Error::internal(format!("{} is no index", target.digest)));
        };
        let index = Arc::new(*index);
        let mut all = indexes();
        if all.len() >= PARSED_KEPT {
            all.clear();
        }
        all.insert(target.digest.clone(), Arc::clone(&index));
        Ok(index)
    }

    /// Reads a manifest and its configuration.
    pub(super) fn parse(&self, descriptor: &Descriptor) -> Result<Arc<Parsed>> {
        let kept =
            |inner: &Self| inner.parsed.lock().unwrap_or_else(PoisonError::into_inner).get(&descriptor.digest).cloned();
        if let Some(parsed) = kept(self).filter(|parsed| parsed.descriptor.platform == descriptor.platform) {
            return Ok(parsed);
        }
        let unreadable = || format!("cannot read image {}", descriptor.digest);
        let Document::Manifest(manifest) = self.store.document(descriptor).context(unreadable())? else {
            return Err(Error::internal(format!("{}: an index inside an index", unreadable())));
        };
        let config = self.store.image_config(&manifest).context(unreadable())?;
        let parsed = Arc::new(Parsed { descriptor: descriptor.clone(), manifest: *manifest, config });
        let mut all = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= PARSED_KEPT {
            all.clear();
        }
        all.insert(descriptor.digest.clone(), Arc::clone(&parsed));
        Ok(parsed)
    }
}

/// Tells whether an entry of an index is an image, and no attestation or artifact.
pub(super) fn is_image(child: &Descriptor) -> bool {
    let unknown = child.platform.as_ref().is_some_and(|on| on.os == "unknown" && on.architecture == "unknown");
    media_type::is_manifest(&child.media_type) && !child.is_attestation() && !unknown
}

/// Returns the hex digits of what may be the beginning of an id.
pub(super) fn id_prefix(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let fits = (4..=64).contains(&hex.len()) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    fits.then_some(hex)
}
