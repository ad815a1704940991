//! What comes of a build.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferry_dockerfile::check::Warning as Check;
use ferry_engine::images::BuildHold;
use ferry_spec::descriptor::Descriptor;
use ferry_spec::digest::Digest;
use ferry_spec::image::ImageConfig;
use ferry_spec::platform::Platform;
use ferry_spec::reference::Reference;

use crate::attest::{self, AttestOrder, Mode, ProvenanceOrder, Story};
use crate::exchange::Step;
use crate::export;
use crate::plan;
use crate::tree::{Layers, Tree};

/// What came of a build.
#[derive(Debug, Clone)]
pub struct Built {
    /// The image, when one was written: an index or a manifest.
    pub image: Option<Descriptor>,
    /// The configuration's digest of its only, or first, platform.
    pub config_digest: Option<Digest>,
    /// Each platform's tree and configuration.
    pub targets: Vec<BuiltTarget>,
    /// When nothing but a check was asked for: how many warnings there are, and their text.
    pub checked: Option<(usize, String)>,
    /// When something else than a build was asked for: what BuildKit's frontend answers, by name.
    pub answer: Option<BTreeMap<String, Vec<u8>>>,
    /// The image is an index, even of one platform.
    pub is_index: bool,
    /// The image that was written is an index.
    pub has_index: bool,
    /// Names it was given.
    pub names: Vec<Reference>,
    /// By which the client knows this build; empty when it gave it none.
    pub reference: String,
    /// Warnings of the checks.
    pub warnings: Vec<Check>,
    /// `--build-arg` that no ARG takes.
    pub unused_args: Vec<String>,
    /// The steps, for caches elsewhere.
    pub(crate) steps: Arc<Vec<Step>>,
    /// The cache mounts that they use.
    pub(crate) cache_mounts: Arc<Vec<String>>,
    /// The image carries the keys of its layers.
    pub(crate) has_inline_cache: bool,
    /// The statements that are asked for.
    pub(crate) attest: AttestOrder,
    /// What there is to tell.
    pub(crate) story: Arc<Story>,
    /// The manifest of the cache that was given to elsewhere.
    pub cache_manifest: Option<Descriptor>,
    /// Keeps it all until it is dropped.
    pub hold: Arc<BuildHold>,
}

/// What was built for one platform.
#[derive(Debug, Clone)]
pub struct BuiltTarget {
    /// Which.
    pub platform: Platform,
    /// The files.
    pub tree: Tree,
    /// The image's configuration.
    pub config: ImageConfig,
    /// The moment that it was built for, in seconds: `SOURCE_DATE_EPOCH`.
    pub(crate) epoch: Option<i64>,
    /// So many entries of the history are those of the base image.
    pub(crate) of_base: usize,
}

impl Built {
    pub(super) fn of_nothing(hold: BuildHold) -> Self {
        Self {
            image: None,
            config_digest: None,
            targets: Vec::new(),
            names: Vec::new(),
            reference: String::new(),
            checked: None,
            answer: None,
            is_index: false,
            has_index: false,
            warnings: Vec::new(),
            unused_args: Vec::new(),
            steps: Arc::default(),
            cache_mounts: Arc::default(),
            has_inline_cache: false,
            cache_manifest: None,
            attest: AttestOrder::default(),
            story: Arc::default(),
            hold: Arc::new(hold),
        }
    }
}

impl Built {
    /// How each platform's target came about, by the platform: as much as was asked for, or else without what might be a secret.
    pub(crate) fn provenance(&self) -> Vec<(String, attest::Predicate)> {
        let little = || ProvenanceOrder { mode: Mode::Min, ..ProvenanceOrder::default() };
        let order = self.attest.provenance.clone().unwrap_or_else(little);
        let targets = self.targets.iter().enumerate();
        targets
            .map(|(at, target)| {
                let predicate = attest::provenance_of(&order, &self.story, at, &target.platform);
                (target.platform.to_string(), predicate)
            })
            .collect()
    }

    /// The same in short, for a file of metadata: in the older version, and without what only the builder knows.
    #[must_use]
    pub fn provenance_in_short(&self) -> serde_json::Map<String, serde_json::Value> {
        let targets = self.targets.iter().enumerate();
        targets
            .map(|(at, target)| {
                let body = attest::in_short(&self.story, at, &target.platform);
                (target.platform.to_string(), body)
            })
            .collect()
    }
}

impl BuiltTarget {
    /// A target whose configuration somebody else gives, or nobody.
    pub(crate) fn of_layers(layers: Layers, platform: Platform, config: Option<ImageConfig>) -> Self {
        let image = config.unwrap_or_else(|| plan::empty_image(&platform));
        let config = export::complete(image, &layers, None, None);
        Self { platform, tree: Tree::Layers(layers), config, epoch: None, of_base: 0 }
    }
}

/// What was built for a platform, or the only thing that was built.
pub(crate) fn best_target<'a>(targets: &'a [BuiltTarget], platform: Option<&Platform>) -> Option<&'a BuiltTarget> {
    let is_for =
        |target: &&BuiltTarget| platform.is_some_and(|platform| target.platform.normalized() == platform.normalized());
    targets.iter().find(is_for).or_else(|| targets.first())
}
