//! What planning must know of the world, and what it knows.

use ferry_spec::digest::Digest;
use ferry_spec::image::ImageConfig;
use ferry_spec::platform::Platform;

use crate::graph::{ImagePullMode, Source};

/// Something that must be known before a plan can be made.
#[derive(Debug, Clone, PartialEq)]
pub enum Need {
    /// The configuration of an image.
    Image(ImageNeed),
    /// The `.dockerignore` of a directory that the client has; the name is the directory's.
    IgnoreFile(String),
    /// When a source was last changed, in seconds: the time of a git commit, `Last-Modified` of a file over HTTP or the newest file in
    /// it when it is an archive.
    Time {
        /// The name to show meanwhile.
        label: String,
        /// The source.
        source: Box<Source>,
    },
}

/// An image whose configuration must be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageNeed {
    /// The whole reference.
    pub reference: String,
    /// For which platform.
    pub platform: Option<Platform>,
    /// When the registry is asked.
    pub pull: ImagePullMode,
    /// The name to show meanwhile, such as `[internal] load metadata for docker.io/library/alpine:latest`.
    pub label: String,
    /// It lies in an OCI layout that the client has.
    pub layout: Option<LayoutNeed>,
}

/// An OCI layout that the client has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutNeed {
    /// The name of the client's store.
    pub store: String,
}

/// An image that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The reference it was found by: the one asked for, unless a policy changed it.
    pub reference: String,
    /// Its digest, or that of its index; `None` for one that has none (an image that was built here).
    pub digest: Option<Digest>,
    /// Its configuration.
    pub config: ImageConfig,
}

/// The answer to an [`ImageNeed`]; the error is the text to show.
pub type ImageAnswer = Result<ResolvedImage, String>;

/// What is known of the world.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    images: Vec<(ImageNeed, ImageAnswer)>,
    ignore_files: Vec<(String, String)>,
    times: Vec<(Source, Result<Option<i64>, String>)>,
}

impl Observed {
    /// Nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps what was found of an image.
    pub fn add_image(&mut self, need: ImageNeed, answer: ImageAnswer) {
        self.images.push((need, answer));
    }

    /// Keeps a `.dockerignore`; one that does not exist is empty.
    pub fn add_ignore_file(&mut self, name: String, text: String) {
        self.ignore_files.push((name, text));
    }

    /// Keeps when a source was last changed; `None` when nothing tells.
    pub fn add_time(&mut self, source: Source, time: Result<Option<i64>, String>) {
        self.times.push((source, time));
    }

    pub(super) fn image(&self, need: &ImageNeed) -> Option<&ImageAnswer> {
        // What is shown meanwhile makes no other image of it.
        let same = |known: &ImageNeed| {
            known.reference == need.reference && known.platform == need.platform && known.layout == need.layout
        };
        self.images.iter().find(|(known, _)| same(known)).map(|(_, answer)| answer)
    }

    pub(super) fn ignore_file(&self, name: &str) -> Option<&str> {
        self.ignore_files.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    pub(super) fn time(&self, source: &Source) -> Option<&Result<Option<i64>, String>> {
        self.times.iter().find(|(known, _)| known == source).map(|(_, time)| time)
    }
}
