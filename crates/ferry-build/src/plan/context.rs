//! Contexts: the build's own, named ones, and the time of a source.

mod epoch;

pub(super) use epoch::{Epoch, epoch, filename};

use ferry_dockerfile::git::GitReference;
use ferry_spec::image::ImageConfig;
use ferry_spec::platform::Platform;
use ferry_spec::reference::Reference;

use super::args::with_os_version;
use super::error::{PlanError, PlanErrorCause};
use super::observed::{ImageNeed, LayoutNeed, Need, Observed};
use super::request::{MainContext, Request};
use super::stages::{Origin, Stages};
use crate::graph::{
    ActionInput, ArchiveHandling, CopyAction, FileAction, FileOp, FileStep, GitSource, Graph, HttpSource, LocalDiffer,
    LocalSource, Op, Output, Source, VertexMeta,
};

/// A context of `--build-context`.
#[derive(Debug, Clone)]
pub(super) struct NamedContext {
    name: String,
    /// The name, and the platform when the context is one for it alone.
    shown_name: String,
    /// Where it leads.
    value: String,
}

/// Returns the context with a name, if there is one: for the platform, or for any.
pub(super) fn named(
    request: &Request,
    name: &str,
    platform: Option<&Platform>,
) -> Result<Option<NamedContext>, PlanError> {
    if name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context") {
        return Ok(None);
    }
    let reference = Reference::parse(name)
        .map_err(|cause| PlanError::new(PlanErrorCause::ContextName { name: name.to_owned(), cause }))?;
    let familiar = reference.familiar();
    let name = familiar.strip_suffix(":latest").unwrap_or(&familiar);
    let platform = platform.map_or_else(|| Platform::host().normalized(), Platform::normalized);
    let with_platform = format!("{name}::{}", with_os_version(&platform));
    let found = |key: &str| {
        let value = request.contexts.get(key)?.clone();
        Some(NamedContext { name: name.to_owned(), shown_name: key.to_owned(), value })
    };
    Ok(found(&with_platform).or_else(|| found(name)))
}

/// What a named context comes to.
pub(super) enum Loaded {
    Needs(Need),
    Tree(Origin, Option<Box<ImageConfig>>),
}

impl NamedContext {
    /// Finds out what the context is.
    pub(super) fn load(
        &self,
        request: &Request,
        observed: &Observed,
        platform: Option<&Platform>,
    ) -> Result<Loaded, PlanError> {
        let Some((scheme, rest)) = self.value.split_once(':') else {
            let message = format!("invalid context specifier {} for {}", self.value, self.shown_name);
            return Err(PlanError::other(message));
        };
        let scheme = if scheme.starts_with("git@") { "git" } else { scheme };
        let git = GitReference::parse(&self.value);
        match scheme {
            "docker-image" => self.image(rest.trim_start_matches("//"), request, observed, platform),
            "git" | "http" | "https" if git.is_some() => {
                git.transpose().map_err(PlanError::new)?;
                Ok(Loaded::Tree(Origin::Git { address: self.value.clone() }, None))
            }
            "git" => Err(PlanError::other(format!("invalid git context {}", self.value))),
            "http" | "https" => {
                let label = format!("[context {}] {}", self.shown_name, self.value);
                Ok(Loaded::Tree(Origin::Http { url: self.value.clone(), label }, None))
            }
            "oci-layout" => self.layout(rest.trim_start_matches("//"), observed, platform),
            "local" => Ok(self.local(rest, observed)),
            "input" => self.input(rest, request, platform),
            _ => {
                let message = format!("unsupported context source {scheme} for {}", self.shown_name);
                Err(PlanError::other(message))
            }
        }
    }

    fn image(
        &self,
        reference: &str,
        request: &Request,
        observed: &Observed,
        platform: Option<&Platform>,
    ) -> Result<Loaded, PlanError> {
        if reference == "scratch" {
            return Ok(Loaded::Tree(Origin::Scratch, None));
        }
        let whole = Reference::parse_with_default_tag(reference).map_err(PlanError::new)?;
        let need = ImageNeed {
            reference: whole.to_string(),
            platform: platform.cloned(),
            pull: request.pull,
            label: format!("[context {}] load metadata for {reference}", self.shown_name),
            layout: None,
        };
        let image = match observed.image(&need) {
            None => return Ok(Loaded::Needs(Need::Image(need))),
            Some(Err(error)) => return Err(PlanError::other(error.clone())),
            Some(Ok(image)) => image,
        };
        let origin = Origin::Image {
            reference: pinned(image)?,
            platform: platform.cloned().unwrap_or_else(|| image.config.platform()),
            label: Some(format!("[context {}] {reference}", self.shown_name)),
        };
        Ok(Loaded::Tree(origin, Some(Box::new(image.config.clone()))))
    }

    fn layout(&self, written: &str, observed: &Observed, platform: Option<&Platform>) -> Result<Loaded, PlanError> {
        let wrong =
            |cause: &str| PlanError::other(format!("could not parse oci-layout reference {written:?}: {cause}"));
        let Some((store, digest)) = written.split_once('@') else {
            return Err(PlanError::other(format!("oci-layout reference {written:?} has no digest")));
        };
        let store = store.rsplit_once(':').map_or(store, |(name, tag)| if tag.contains('/') { store } else { name });
        let digest = ferry_spec::digest::Digest::parse(digest).map_err(|error| wrong(&error.to_string()))?;
        let shown = Reference::parse(&self.name).map_err(|error| wrong(&error.to_string()))?.with_digest(digest);
        let need = ImageNeed {
            reference: shown.to_string(),
            platform: platform.cloned(),
            pull: crate::graph::ImagePullMode::default(),
            label: format!("[context {}] load metadata for {shown}", self.shown_name),
            layout: Some(LayoutNeed { store: store.to_owned() }),
        };
        let image = match observed.image(&need) {
            None => return Ok(Loaded::Needs(Need::Image(need))),
            Some(Err(error)) => return Err(PlanError::other(error.clone())),
            Some(Ok(image)) => image,
        };
        let origin = Origin::Layout {
            reference: shown.to_string(),
            store: store.to_owned(),
            platform: platform.cloned(),
            label: format!("[context {}] OCI load from client", self.shown_name),
        };
        Ok(Loaded::Tree(origin, Some(Box::new(image.config.clone()))))
    }

    /// What was built before: for the platform, or the only one.
    fn input(&self, name: &str, request: &Request, platform: Option<&Platform>) -> Result<Loaded, PlanError> {
        let built = request.inputs.get(name).filter(|built| !built.is_empty());
        let built = built.ok_or_else(|| PlanError::other(format!("invalid input {name} for {}", self.shown_name)))?;
        let is_for = |one: &&(Platform, ImageConfig)| {
            platform.is_some_and(|platform| one.0.normalized() == platform.normalized())
        };
        let (built_for, image) = built.iter().find(is_for).unwrap_or(&built[0]);
        let origin = Origin::Input {
            name: name.to_owned(),
            platform: built_for.clone(),
            label: format!("[context {}] {name}", self.shown_name),
        };
        Ok(Loaded::Tree(origin, Some(Box::new(image.clone()))))
    }

    fn local(&self, directory: &str, observed: &Observed) -> Loaded {
        let Some(text) = observed.ignore_file(directory) else {
            return Loaded::Needs(Need::IgnoreFile(directory.to_owned()));
        };
        let origin = Origin::Local {
            directory: directory.to_owned(),
            ignored: ferry_dockerfile::ignore::read(text),
            name: self.shown_name.clone(),
        };
        Loaded::Tree(origin, None)
    }
}

/// Returns the reference of an image with its digest.
pub(super) fn pinned(image: &super::ResolvedImage) -> Result<String, PlanError> {
    let reference = Reference::parse(&image.reference).map_err(PlanError::new)?;
    Ok(match &image.digest {
        Some(digest) => reference.with_digest(digest.clone()).to_string(),
        None => reference.to_string(),
    })
}

impl Stages<'_> {
    /// Returns the tree of the build's context, adding it to the graph when it is first used.
    pub(super) fn context(&mut self, graph: &mut Graph) -> Result<Output, PlanError> {
        if let Some(tree) = self.context_tree {
            return Ok(tree);
        }
        let request = self.input.request;
        let mut tree = match &request.context {
            MainContext::Local(directory) => local(
                graph,
                directory,
                &request.ignore_patterns,
                followed(&self.context_paths),
                "[internal] load build context".to_owned(),
                directory.clone(),
            )?,
            MainContext::Git(address) => git(graph, address, request)?,
            MainContext::Http { url, archive } => http_context(graph, url, *archive)?,
        };
        if !matches!(request.context, MainContext::Local(_)) && !request.context_subdirectory.is_empty() {
            tree = subdirectory(graph, tree, &request.context_subdirectory)?;
        }
        self.context_tree = Some(tree);
        Ok(tree)
    }
}

/// Adds a directory of the client.
pub(super) fn local(
    graph: &mut Graph,
    directory: &str,
    ignored: &[String],
    follow_paths: Vec<String>,
    label: String,
    key: String,
) -> Result<Output, PlanError> {
    let source = LocalSource {
        name: directory.to_owned(),
        include_patterns: Vec::new(),
        exclude_patterns: ignored.to_vec(),
        follow_paths,
        differ: LocalDiffer::Metadata,
        shared_key_hint: key,
    };
    let meta = VertexMeta { name: label, ..VertexMeta::default() };
    Ok(graph.add(Op::Source(Source::Local(source)), Vec::new(), None, meta)?.into())
}

/// What of a directory is used; nothing stands for everything.
pub(super) fn followed<'a>(paths: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut followed = Vec::new();
    for path in paths {
        if path == "/" {
            return Vec::new();
        }
        followed.push(path.trim_start_matches('/').to_owned());
    }
    followed.sort();
    followed.dedup();
    followed
}

fn git(graph: &mut Graph, address: &str, request: &Request) -> Result<Output, PlanError> {
    let keep = request.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
    let keep = keep.is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"));
    let source = git_source(address, keep)?;
    let meta = VertexMeta { name: format!("[internal] load git source {address}"), ..VertexMeta::default() };
    Ok(graph.add(Op::Source(Source::Git(source)), Vec::new(), None, meta)?.into())
}

/// Returns the source for the address of a repository.
///
/// # Errors
/// [`PlanError`] when the address is none.
pub fn git_source(address: &str, keep_git_dir: bool) -> Result<GitSource, PlanError> {
    let Some(reference) = GitReference::parse(address) else {
        return Err(PlanError::other(format!("invalid git context {address}")));
    };
    let reference = reference.map_err(PlanError::new)?;
    Ok(GitSource {
        remote: if reference.looks_like_path { format!("https://{}", reference.remote) } else { reference.remote },
        reference: reference.reference,
        subdirectory: reference.subdirectory,
        keep_git_dir: keep_git_dir || reference.keep_git_dir == Some(true),
        checksum: Some(reference.checksum).filter(|checksum| !checksum.is_empty()),
        skip_submodules: reference.submodules == Some(false),
        auth_token_secret: "GIT_AUTH_TOKEN".to_owned(),
        auth_header_secret: "GIT_AUTH_HEADER".to_owned(),
        ssh_agent: None,
        known_ssh_hosts: String::new(),
    })
}

/// Returns the source for one file over HTTP.
#[must_use]
pub fn http_source(url: &str, filename: &str) -> HttpSource {
    HttpSource { url: url.to_owned(), filename: Some(filename.to_owned()), ..HttpSource::default() }
}

fn http_context(graph: &mut Graph, url: &str, archive: bool) -> Result<Output, PlanError> {
    let meta = VertexMeta { name: "[internal] load remote build context".to_owned(), ..VertexMeta::default() };
    let source = Op::Source(Source::Http(http_source(url, "context")));
    let file: Output = graph.add(source, Vec::new(), None, meta)?.into();
    if !archive {
        return Ok(file);
    }
    let copy = CopyAction {
        source: "/context".to_owned(),
        target: "/".to_owned(),
        archives: ArchiveHandling::TryUnpack,
        ..CopyAction::default()
    };
    copy_to_scratch(graph, file, copy)
}

fn subdirectory(graph: &mut Graph, tree: Output, directory: &str) -> Result<Output, PlanError> {
    let copy = CopyAction {
        source: ferry_spec::path::join("/", directory),
        target: "/".to_owned(),
        copy_dir_contents: true,
        ..CopyAction::default()
    };
    copy_to_scratch(graph, tree, copy)
}

fn copy_to_scratch(graph: &mut Graph, source: Output, copy: CopyAction) -> Result<Output, PlanError> {
    let step = FileStep {
        input: None,
        source: Some(ActionInput::Input(0)),
        output: Some(0),
        action: FileAction::Copy(Box::new(copy)),
    };
    let op = Op::File(FileOp { steps: vec![step] });
    Ok(graph.add(op, vec![source], None, VertexMeta::default())?.into())
}
