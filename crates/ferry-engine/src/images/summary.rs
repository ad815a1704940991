//! What is here of an image, over all its platforms: sizes, layers, the manifest that counts.

use std::sync::Arc;

use ferry_api::image::{AttestationProperties, ImageProperties, ManifestSize, ManifestSummary, UnpackedSize};
use ferry_spec::{ChainId, Descriptor, Digest, Platform, media_type};
use ferry_store::ImageRecord;

use super::Inner;
use super::resolve::{Parsed, is_image};

/// Annotation that names the image which an attestation is about.
const SUBJECT: &str = "vnd.docker.reference.digest";

/// An image as lists count it.
#[derive(Default)]
pub(super) struct Overview {
    /// Every manifest the target names, here or not.
    pub(super) manifests: Vec<ManifestSummary>,
    /// Layers of all manifests that are here.
    pub(super) chains: Vec<ChainId>,
    /// Content that is here, with its size.
    pub(super) content: Vec<(Digest, u64)>,
    /// Bytes of content and unpacked layers.
    pub(super) total_bytes: i64,
    /// The manifest for this host, else any.
    pub(super) best: Option<Arc<Parsed>>,
}

impl Overview {
    /// Returns the bytes of the manifest that counts, or of all.
    pub(super) fn size_of(&self, manifest: Option<&Parsed>) -> i64 {
        manifest
            .and_then(|parsed| self.manifests.iter().find(|one| one.descriptor.digest == parsed.descriptor.digest))
            .map_or(self.total_bytes, |one| one.size.total)
    }
}

impl Inner {
    /// Looks over everything that an image's target reaches.
    pub(super) fn overview(&self, record: &ImageRecord) -> Overview {
        let mut overview = Overview::default();
        for child in self.children(&record.target) {
            let summary = self.manifest_summary(&child, &mut overview);
            overview.total_bytes += summary.size.total;
            overview.manifests.push(summary);
        }
        // A target that cannot be read is shown without a manifest.
        overview.best = self.best(record, None).ok().flatten();
        let containers: Vec<String> = self.users_of(&record.target.digest).into_iter().map(|(id, _)| id).collect();
        let best = overview.best.as_ref().map(|parsed| parsed.descriptor.digest.clone());
        let counted = overview.manifests.iter_mut().find(|one| Some(&one.descriptor.digest) == best.as_ref());
        if let Some(data) = counted.and_then(|one| one.image_data.as_mut()) {
            data.containers = containers;
        }
        overview
    }

    fn children(&self, target: &Descriptor) -> Vec<Descriptor> {
        if media_type::is_manifest(&target.media_type) {
            return vec![target.clone()];
        }
        self.index(target).map(|index| index.manifests.clone()).unwrap_or_default()
    }

    fn manifest_summary(&self, child: &Descriptor, overview: &mut Overview) -> ManifestSummary {
        let parsed = if is_image(child) { self.parse(child).ok() } else { None };
        let present = self.present_content(child, parsed.as_deref());
        let content = sum(present.iter().map(|(_, size)| *size));
        overview.content.extend(present);
        let chains =
            parsed.as_deref().map(|parsed| ChainId::each_of(&parsed.config.rootfs.diff_ids)).unwrap_or_default();
        let unpacked = sum(chains.iter().filter_map(|chain| self.layer_size(chain)));
        overview.chains.extend(chains);
        let attested = child.is_attestation().then(|| child.annotations.get(SUBJECT).cloned()).flatten();
        let image_data = is_image(child).then(|| ImageProperties {
            platform: platform_of(child, parsed.as_deref()),
            identity: None,
            size: UnpackedSize { unpacked },
            containers: Vec::new(),
        });
        let kind = if is_image(child) {
            "image"
        } else if attested.is_some() {
            "attestation"
        } else {
            "unknown"
        };
        ManifestSummary {
            id: child.digest.to_string(),
            descriptor: child.clone(),
            available: parsed.is_some_and(|parsed| self.has_all(&parsed)),
            size: ManifestSize { content, total: content + unpacked },
            kind: kind.to_owned(),
            image_data,
            attestation_data: attested.map(|subject| AttestationProperties { subject }),
        }
    }

    fn present_content(&self, child: &Descriptor, parsed: Option<&Parsed>) -> Vec<(Digest, u64)> {
        let below =
            parsed.into_iter().flat_map(|parsed| parsed.manifest.layers.iter().chain([&parsed.manifest.config]));
        let present = std::iter::once(child).chain(below).filter(|one| self.store.stores_blob(&one.digest));
        present.map(|one| (one.digest.clone(), one.size)).collect()
    }

    /// Returns the bytes of an unpacked layer, without those below it.
    pub(super) fn layer_size(&self, chain: &ChainId) -> Option<u64> {
        self.store.layer_chain(chain).ok()?.first().map(|layer| layer.size_bytes)
    }

    /// Tells whether everything of a manifest is here: its layers as they came, or unpacked where the first are not kept.
    pub(super) fn has_all(&self, parsed: &Parsed) -> bool {
        let has_blob = |layer: &Descriptor| self.store.has_blob(&layer.digest);
        let chains = ChainId::each_of(&parsed.config.rootfs.diff_ids);
        let mut layers = parsed.manifest.layers.iter().enumerate();
        layers.all(|(at, layer)| {
            has_blob(layer) || (!self.keep_blobs && chains.get(at).is_some_and(|chain| self.store.has_layer(chain)))
        })
    }
}

fn platform_of(child: &Descriptor, parsed: Option<&Parsed>) -> Platform {
    child.platform.clone().or_else(|| parsed.map(Parsed::platform)).unwrap_or_default()
}

fn sum(sizes: impl Iterator<Item = u64>) -> i64 {
    i64::try_from(sizes.sum::<u64>()).unwrap_or(i64::MAX)
}
