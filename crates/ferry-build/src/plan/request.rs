//! The options of a build.

mod values;

use ferry_api::container::Ulimit;
use std::collections::BTreeMap;

use ferry_dockerfile::check::{CheckOptions, CheckOptionsError};
use ferry_spec::image::ImageConfig;
use ferry_spec::platform::{Platform, PlatformError};

use crate::graph::{ExtraHost, ImagePullMode, NetworkMode};

/// The options of a build; BuildKit's frontend `dockerfile.v0` takes the same.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Which stage; empty is the last one.
    pub target: String,
    /// The Dockerfile's name, for errors.
    pub filename: String,
    /// `--build-arg`
    pub build_args: BTreeMap<String, String>,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// Which stages do without the cache.
    pub no_cache: NoCache,
    /// For which platforms; empty is the builder's own.
    pub platforms: Vec<Platform>,
    /// What the builder runs on, best first; empty is this host's.
    pub build_platforms: Vec<Platform>,
    /// The outcome is an index, even of one platform.
    pub multi_platform: bool,
    /// When registries are asked for base images.
    pub pull: ImagePullMode,
    /// `--add-host`
    pub extra_hosts: Vec<ExtraHost>,
    /// `--network`
    pub network: NetworkMode,
    /// `--shm-size` in bytes; 0 is the default.
    pub shm_size_bytes: u64,
    /// `--ulimit`
    pub ulimits: Vec<Ulimit>,
    /// `--cgroup-parent`
    pub cgroup_parent: String,
    /// Limits of memory and processor.
    pub resources: Resources,
    /// Host name of the steps; empty is `buildkitsandbox`.
    pub hostname: String,
    /// `--build-context`: names and where they lead, `docker-image://…`, `local:…`, `oci-layout://…`, an address.
    pub contexts: BTreeMap<String, String>,
    /// Before the ids of cache mounts.
    pub cache_namespace: String,
    /// Where COPY and ADD take files from.
    pub context: MainContext,
    /// Only this directory of a context that is not local.
    pub context_subdirectory: String,
    /// Patterns of the ignore file; for a local context.
    pub ignore_patterns: Vec<String>,
    /// Checks, in place of those of the file.
    pub check: Option<CheckOptions>,
    /// Every stage is planned, not just what the target needs (`--check` without a target).
    pub all_stages: bool,
    /// Caches to take from, type and attributes.
    pub cache_imports: Vec<(String, BTreeMap<String, String>)>,
    /// `attest:…`, the kind and its value.
    pub attestations: BTreeMap<String, String>,
    /// The frontend's request other than a build (`frontend.lint`, `frontend.outline`, `frontend.targets`); empty is a build.
    pub subrequest: String,
    /// Keys of local directories: the context and the Dockerfile.
    pub dockerfile_name: Option<String>,
    /// Sessions of local directories by name.
    pub local_sessions: BTreeMap<String, String>,
    /// The builder before BuildKit is asked: a pattern that finds nothing is a failure.
    pub classic: bool,
    /// Metadata of named inputs.
    pub input_metadata: BTreeMap<String, String>,
    /// What was built before, by the names of contexts (`input:…`): platforms and configurations.
    pub inputs: BTreeMap<String, Vec<(Platform, ImageConfig)>>,
}

/// Where COPY and ADD take files from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MainContext {
    /// A directory of the client, by its key.
    Local(String),
    /// A git repository.
    Git(String),
    /// A file over HTTP.
    Http {
        /// The address.
        url: String,
        /// It is an archive, and its content is the context.
        archive: bool,
    },
}

impl Default for MainContext {
    fn default() -> Self {
        Self::Local("context".to_owned())
    }
}

/// Which stages do without the cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NoCache {
    /// None.
    #[default]
    Nothing,
    /// All (`--no-cache`).
    Everything,
    /// These (`--no-cache-filter`).
    Stages(Vec<String>),
}

impl NoCache {
    pub(super) fn covers(&self, stage: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Stages(names) => names.iter().any(|name| name.eq_ignore_ascii_case(stage)),
        }
    }
}

/// Limits of memory and processor; 0 and empty are none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Memory in bytes.
    pub memory: i64,
    /// Memory and swap in bytes; -1 is without limit.
    pub memory_swap: i64,
    /// Processor shares.
    pub cpu_shares: u64,
    /// Length of a processor period in microseconds.
    pub cpu_period: u64,
    /// Processor time in a period in microseconds.
    pub cpu_quota: i64,
    /// Processors.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
}

/// Why options are refused; texts as in BuildKit.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A platform that is none.
    #[error("failed to parse target platform {0}: {1}")]
    Platform(String, PlatformError),
    /// Checks that are none.
    #[error("failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK: {0}")]
    Check(#[from] CheckOptionsError),
    /// Anything else.
    #[error("{0}")]
    Value(String),
}

impl Request {
    /// Reads the options of a `dockerfile.v0` solve request.
    ///
    /// # Errors
    /// [`RequestError`] for a value that is none.
    pub fn from_options(options: &BTreeMap<String, String>) -> Result<Self, RequestError> {
        let value = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
        refuse_removed(options)?;
        let platforms = values::platforms(value("platform"))?;
        let multi_platform = values::multi_platform(options, platforms.len() > 1)?;
        let context_key = options.get("contextkey").map_or("context", String::as_str);
        let build_args = with_prefix(options, "build-arg:");
        Ok(Self {
            target: value("target").to_owned(),
            filename: options.get("filename").map_or("Dockerfile", String::as_str).to_owned(),
            labels: with_prefix(options, "label:"),
            no_cache: values::no_cache(options.get("no-cache").map(String::as_str)),
            platforms,
            build_platforms: Vec::new(),
            multi_platform,
            pull: values::pull(value("image-resolve-mode"))?,
            extra_hosts: values::extra_hosts(value("add-hosts"))?,
            network: values::network(value("force-network-mode"))?,
            shm_size_bytes: values::shm_size(value("shm-size"))?,
            ulimits: values::ulimits(value("ulimit"))?,
            cgroup_parent: value("cgroup-parent").to_owned(),
            resources: values::resources(options)?,
            hostname: match value("build-arg:BUILDKIT_SANDBOX_HOSTNAME") {
                "" => value("hostname").to_owned(),
                name => name.to_owned(),
            },
            contexts: with_prefix(options, "context:"),
            cache_namespace: value("build-arg:BUILDKIT_CACHE_MOUNT_NS").to_owned(),
            context: MainContext::detect(value(context_key)),
            context_subdirectory: value("contextsubdir").to_owned(),
            ignore_patterns: Vec::new(),
            check: match options.get("build-arg:BUILDKIT_DOCKERFILE_CHECK") {
                Some(text) => Some(CheckOptions::parse(text)?),
                None => None,
            },
            all_stages: value("requestid") == "frontend.lint" && value("target").is_empty(),
            cache_imports: values::cache_imports(value("cache-imports"), value("cache-from"))?,
            attestations: with_prefix(options, "attest:"),
            subrequest: value("requestid").to_owned(),
            dockerfile_name: options.get("dockerfilekey").cloned(),
            local_sessions: with_prefix(options, "local-sessionid:"),
            classic: false,
            input_metadata: with_prefix(options, "input-metadata:"),
            inputs: BTreeMap::new(),
            build_args,
        })
    }

    /// Returns the frontend image that is asked for, and the whole command line: by `BUILDKIT_SYNTAX`, or else by the file.
    ///
    /// `None` when the request comes from a frontend already (`cmdline`), or nothing is asked for.
    #[must_use]
    pub fn frontend(options: &BTreeMap<String, String>, source: &str) -> Option<(String, String)> {
        if options.contains_key("cmdline") {
            return None;
        }
        if let Some(line) = options.get("build-arg:BUILDKIT_SYNTAX") {
            let image = line.trim().split(' ').next().unwrap_or_default().to_owned();
            return Some((image, line.clone()));
        }
        ferry_dockerfile::directive::syntax(source).map(|syntax| (syntax.image, syntax.command_line))
    }

    /// Tells whether a stage does without the cache.
    pub(super) fn ignores_cache(&self, stage: &str) -> bool {
        self.no_cache.covers(stage)
    }
}

impl MainContext {
    /// Tells what the value of a context option leads to.
    #[must_use]
    pub fn detect(value: &str) -> Self {
        if ferry_dockerfile::git::GitReference::parse(value).is_some() {
            return Self::Git(value.to_owned());
        }
        if value.starts_with("http://") || value.starts_with("https://") {
            return Self::Http { url: value.to_owned(), archive: false };
        }
        Self::default()
    }
}

fn with_prefix(options: &BTreeMap<String, String>, prefix: &str) -> BTreeMap<String, String> {
    let below = options.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value)));
    below.map(|(key, value)| (key.to_owned(), value.clone())).collect()
}

fn refuse_removed(options: &BTreeMap<String, String>) -> Result<(), RequestError> {
    if options.get("override-copy-image").is_some_and(|value| !value.is_empty()) {
        let text = "support for \"override-copy-image\" was removed in BuildKit 0.11";
        return Err(RequestError::Value(text.to_owned()));
    }
    if options.get("build-arg:BUILDKIT_DISABLE_FILEOP").is_some_and(|value| values::boolean(value) == Some(true)) {
        let text = "support for \"BUILDKIT_DISABLE_FILEOP\" build-arg was removed in BuildKit 0.11";
        return Err(RequestError::Value(text.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
