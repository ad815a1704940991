//! Builds.

use std::collections::{BTreeMap, HashMap};
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use ferry_api::container::Ulimit;
use ferry_api::filters::Filters;
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Method};
use serde::{Deserialize, Serialize};

use crate::connection::{Client, decode};
use crate::error::Result;
use crate::hijack::Hijacked;
use crate::request::{Payload, Query, streamed};
use crate::stream::ByteStream;

/// A build, as the API takes it.
#[derive(Debug, Clone, Default)]
pub struct BuildQuery {
    /// Names of the image.
    pub names: Vec<String>,
    /// The Dockerfile's name.
    pub dockerfile: String,
    /// Which stage.
    pub target: String,
    /// Without the cache.
    pub no_cache: bool,
    /// Stages without the cache, separated by commas.
    pub no_cache_filter: String,
    /// Registries are asked for base images.
    pub pull: bool,
    /// Network of the steps.
    pub network: String,
    /// Platforms, separated by commas.
    pub platform: String,
    /// Build arguments; one without a value is left to the Dockerfile.
    pub build_args: BTreeMap<String, Option<String>>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Named contexts.
    pub contexts: BTreeMap<String, String>,
    /// `name=address`
    pub extra_hosts: Vec<String>,
    /// Parent cgroup of the steps.
    pub cgroup_parent: String,
    /// Bytes of `/dev/shm`; 0 is the default.
    pub shm_size: i64,
    /// Bytes of memory of the steps; 0 is without limit.
    pub memory: i64,
    /// Bytes of memory and swap.
    pub memory_swap: i64,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds.
    pub cpu_quota: i64,
    /// Weight.
    pub cpu_shares: i64,
    /// Processors.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// Limits.
    pub ulimits: Vec<Ulimit>,
    /// Security options.
    pub security_options: Vec<String>,
    /// Steps may ask for every right.
    pub allow_insecure: bool,
    /// Rights to devices of the host: `device`, `device=NAME`.
    pub device_rights: Vec<String>,
    /// It is a part of something else, and no build to be remembered.
    pub internal: bool,
    /// What becomes of it; nothing said is an image of the daemon's.
    pub outputs: Vec<BuildCacheEntry>,
    /// Each step tells why it was not found in the cache.
    pub explains: bool,
    /// Folders of the host for every step: `HOST:PATH[:ro]`.
    pub volumes: Vec<String>,
    /// What is asked in place of a build: `check`, `outline`, `targets`; empty for a build.
    pub call: String,
    /// Secrets by id.
    pub secrets: HashMap<String, Vec<u8>>,
    /// The ready `X-Registry-Config` value.
    pub registry_config: String,
    /// A context that the daemon fetches itself.
    pub remote: String,
    /// Statements that are asked for, and what else is said of each.
    pub attests: BTreeMap<String, String>,
    /// The session in which more is lent; empty for none.
    pub session: String,
    /// Caches that are taken from.
    pub cache_imports: Vec<BuildCacheEntry>,
    /// Caches that are given.
    pub cache_exports: Vec<BuildCacheEntry>,
    /// A whole context as an archive, in place of directories.
    pub archive: Option<Vec<u8>>,
    /// What the user calls the context; told of the build when it is remembered.
    pub called: String,
    /// What the directories are called when they are told of before any of them is sent; empty when there are none to send.
    pub context_key: String,
    /// The Dockerfile is sent, though the context is fetched by the daemon.
    pub own_dockerfile: bool,
    /// A step that fails is kept until it has been looked at; it is told in the stream.
    pub keeps_failed_step: bool,
}

/// A cache elsewhere, or an output: of which kind, and what else is said of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BuildCacheEntry {
    /// Such as `registry`, `local`, `image`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What else is said of it.
    #[serde(rename = "Attrs")]
    pub attributes: BTreeMap<String, String>,
}

/// What pruning removed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BuildPruneReport {
    /// Ids.
    pub caches_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

impl Client {
    /// API: `POST /build`, with progress in ferry's own form. `directories` is a list of what the client's directories hold, followed by
    /// what is wanted of it (see `ferry_api::context`).
    ///
    /// # Errors
    /// 400 for the request; everything later is told in the stream.
    pub async fn image_build(
        &self,
        build: &BuildQuery,
        directories: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<ByteStream> {
        let mut headers = HeaderMap::new();
        headers.insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static(match &build.archive {
                Some(_) => "application/x-tar",
                None => "application/octet-stream",
            }),
        );
        if let Ok(value) = HeaderValue::from_str(&build.registry_config) {
            headers.insert("x-registry-config", value);
        }
        if !build.secrets.is_empty() {
            let texts: HashMap<&String, String> =
                build.secrets.iter().map(|(id, value)| (id, URL_SAFE.encode(value))).collect();
            let json = serde_json::to_vec(&texts).unwrap_or_default();
            if let Ok(mut value) = HeaderValue::from_str(&URL_SAFE.encode(json)) {
                value.set_sensitive(true);
                headers.insert("x-ferry-build-secrets", value);
            }
        }
        let query = build.to_query();
        let payload = match &build.archive {
            Some(archive) => Payload::Whole(archive.clone().into()),
            None if !build.sends_directories() => Payload::empty(),
            None => streamed(directories),
        };
        self.stream(Method::POST, "/build", &query, headers, payload).await
    }

    /// API: `POST /session`: turns a connection round, so that the daemon can call what is offered, as `/package.Service/Method`.
    ///
    /// # Errors
    /// When the daemon does not take it.
    pub async fn build_session(&self, id: &str, methods: &[&str]) -> Result<Hijacked> {
        let mut headers = taken_over();
        if let Ok(id) = HeaderValue::from_str(id) {
            headers.insert("x-docker-expose-session-uuid", id);
        }
        for method in methods.iter().filter_map(|method| HeaderValue::from_str(method).ok()) {
            headers.append("x-docker-expose-session-grpc-method", method);
        }
        let (_, response) = self.send(Method::POST, "/session", &Query::new(), headers, Payload::empty()).await?;
        Hijacked::take(response).await
    }

    /// API: `POST /grpc`: makes a connection one of BuildKit's own protocol, on which the builder is called.
    ///
    /// # Errors
    /// When the daemon does not take it.
    pub async fn build_control(&self) -> Result<Hijacked> {
        let (_, response) = self.send(Method::POST, "/grpc", &Query::new(), taken_over(), Payload::empty()).await?;
        Hijacked::take(response).await
    }

    /// API: `POST /build/prune`; limits are bytes that are reserved, used at most, and free at least.
    ///
    /// # Errors
    /// 400 for a filter.
    pub async fn build_prune(&self, all: bool, filters: &Filters, limits: [i64; 3]) -> Result<BuildPruneReport> {
        let mut query = Query::new().with_flag("all", all).with_text("filters", &filters.to_parameter());
        for (name, bytes) in ["reserved-space", "max-used-space", "min-free-space"].into_iter().zip(limits) {
            if bytes > 0 {
                query = query.with(name, bytes.to_string());
            }
        }
        let mut answer = self.stream(Method::POST, "/build/prune", &query, HeaderMap::new(), Payload::empty()).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = answer.next().await? {
            bytes.extend_from_slice(&piece);
        }
        decode(&bytes)
    }
}

/// What a request says whose connection becomes another.
fn taken_over() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(http::header::UPGRADE, HeaderValue::from_static("h2c"));
    headers
}

impl BuildQuery {
    fn sends_directories(&self) -> bool {
        self.archive.is_none() && (self.remote.is_empty() || !self.context_key.is_empty())
    }

    fn to_query(&self) -> Query {
        let mut query = Query::new()
            .with("progress", "trace")
            .with("version", "1")
            .with_flag("directories", self.sends_directories())
            .with_flag("owndockerfile", self.own_dockerfile)
            .with_text("contextkey", &self.context_key)
            .with_text("dockerfile", &self.dockerfile)
            .with_text("target", &self.target)
            .with_flag("nocache", self.no_cache)
            .with_text("nocache-filter", &self.no_cache_filter)
            .with_flag("pull", self.pull)
            .with_text("networkmode", &self.network)
            .with_text("platform", &self.platform)
            .with_text("cgroupparent", &self.cgroup_parent)
            .with_text("cpusetcpus", &self.cpuset_cpus)
            .with_text("cpusetmems", &self.cpuset_mems)
            .with_text("remote", &self.remote)
            .with_text("called", &self.called)
            .with_flag("allow-insecure", self.allow_insecure)
            .with_flag("internal", self.internal)
            .with_flag("explain", self.explains)
            .with_text("call", &self.call)
            .with_text("onerror", if self.keeps_failed_step { "shell" } else { "" });
        for name in &self.names {
            query = query.with("t", name.clone());
        }
        for right in &self.device_rights {
            query = query.with("allow", right.clone());
        }
        for volume in &self.volumes {
            query = query.with("volume", volume.clone());
        }
        for host in &self.extra_hosts {
            query = query.with("extrahosts", host.clone());
        }
        let numbers = [
            ("shmsize", self.shm_size),
            ("memory", self.memory),
            ("memswap", self.memory_swap),
            ("cpuperiod", self.cpu_period),
            ("cpuquota", self.cpu_quota),
            ("cpushares", self.cpu_shares),
        ];
        for (name, number) in numbers.into_iter().filter(|(_, number)| *number != 0) {
            query = query.with(name, number.to_string());
        }
        let json = |value: &dyn Fn() -> serde_json::Result<String>, is_empty: bool| match is_empty {
            true => String::new(),
            false => value().unwrap_or_default(),
        };
        query
            .with_text("buildargs", &json(&|| serde_json::to_string(&self.build_args), self.build_args.is_empty()))
            .with_text("labels", &json(&|| serde_json::to_string(&self.labels), self.labels.is_empty()))
            .with_text("contexts", &json(&|| serde_json::to_string(&self.contexts), self.contexts.is_empty()))
            .with_text("attests", &json(&|| serde_json::to_string(&self.attests), self.attests.is_empty()))
            .with_text("session", &self.session)
            .with_text("outputs", &json(&|| serde_json::to_string(&self.outputs), self.outputs.is_empty()))
            .with_text(
                "cacheimports",
                &json(&|| serde_json::to_string(&self.cache_imports), self.cache_imports.is_empty()),
            )
            .with_text(
                "cacheexports",
                &json(&|| serde_json::to_string(&self.cache_exports), self.cache_exports.is_empty()),
            )
            .with_text("ulimits", &json(&|| serde_json::to_string(&self.ulimits), self.ulimits.is_empty()))
            .with_text(
                "securityopt",
                &json(&|| serde_json::to_string(&self.security_options), self.security_options.is_empty()),
            )
    }
}
