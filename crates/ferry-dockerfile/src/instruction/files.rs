//! ADD and COPY.

use super::{Expander, expand_all};
use crate::expand::ExpandError;

/// A here-document as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    /// The word, the file's name.
    pub name: String,
    /// Content; leading tabs are off already.
    pub content: String,
    /// Variables in the content are expanded.
    pub expand: bool,
}

/// What ADD or COPY brings, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    /// Paths, patterns, URLs.
    pub paths: Vec<String>,
    /// Here-documents.
    pub inline: Vec<InlineFile>,
    /// The last word.
    pub destination: String,
}

impl Sources {
    fn expand(&mut self, expand: &mut Expander<'_>) -> Result<(), ExpandError> {
        expand_all(&mut self.paths, expand)?;
        self.destination = expand(&self.destination)?;
        Ok(())
    }
}

/// ADD
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Add {
    /// What and where.
    pub sources: Sources,
    /// `--chown`; empty without.
    pub chown: String,
    /// `--chmod`; empty without.
    pub chmod: String,
    /// `--link`
    pub link: bool,
    /// `--exclude`, each one.
    pub exclude: Vec<String>,
    /// `--keep-git-dir`, if given.
    pub keep_git_dir: Option<bool>,
    /// `--checksum`; empty without.
    pub checksum: String,
    /// `--unpack`, if given.
    pub unpack: Option<bool>,
}

impl Add {
    pub(super) fn expand(&mut self, expand: &mut Expander<'_>) -> Result<(), ExpandError> {
        self.chown = expand(&self.chown)?;
        self.chmod = expand(&self.chmod)?;
        self.checksum = expand(&self.checksum)?;
        self.sources.expand(expand)
    }
}

/// COPY
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copy {
    /// What and where.
    pub sources: Sources,
    /// `--from`: a stage, its number, an image or a named context; empty without.
    pub from: String,
    /// `--chown`; empty without.
    pub chown: String,
    /// `--chmod`; empty without.
    pub chmod: String,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`, each one.
    pub exclude: Vec<String>,
}

impl Copy {
    pub(super) fn expand(&mut self, expand: &mut Expander<'_>) -> Result<(), ExpandError> {
        self.chown = expand(&self.chown)?;
        self.chmod = expand(&self.chmod)?;
        self.sources.expand(expand)
    }
}
