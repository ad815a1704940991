//! Images.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use ferry_api::compare::{Comparison, Layers};
use ferry_api::filters::Filters;
use ferry_api::image::{
    AuthConfig, AuthResponse, Collected, DeleteItem, DistributionInspect, HistoryItem, ImportOptions, PruneReport,
    RegistryAccess, SearchResult, Summary,
};
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Method};
use serde::de::DeserializeOwned;

use crate::connection::{Client, Raw, decode};
use crate::error::{Error, Result};
use crate::request::{Payload, Query, segment, streamed};
use crate::stream::ByteStream;

impl Client {
    /// API: `POST /images/create`, a pull; `auth` is the ready `X-Registry-Auth` value.
    ///
    /// # Errors
    /// 404 for an unknown image, 500 for a registry that cannot be reached.
    pub async fn image_pull(
        &self,
        repository: &str,
        tag: &str,
        platform: &str,
        auth: &str,
        access: &RegistryAccess,
    ) -> Result<ByteStream> {
        let query = Query::new().with("fromImage", repository).with_text("tag", tag).with_text("platform", platform);
        let headers = registry_headers(auth, access)?;
        self.stream(Method::POST, "/images/create", &query, headers, Payload::empty()).await
    }

    /// API: `POST /images/{name}/push`; without a tag every tag is pushed. `auth` is the ready `X-Registry-Auth` value.
    ///
    /// # Errors
    /// 400 for the name; everything later is told in the stream.
    pub async fn image_push(
        &self,
        repository: &str,
        tag: &str,
        platform: &str,
        auth: &str,
        access: &RegistryAccess,
    ) -> Result<ByteStream> {
        let query = Query::new().with("tag", tag).with_text("platform", platform);
        let path = format!("/images/{}/push", segment(repository));
        self.stream(Method::POST, &path, &query, registry_headers(auth, access)?, Payload::empty()).await
    }

    /// API: `GET /images/search`
    ///
    /// # Errors
    /// 400 for a filter or the limit.
    pub async fn image_search(
        &self,
        term: &str,
        limit: i64,
        filters: &Filters,
        auth: &str,
    ) -> Result<Vec<SearchResult>> {
        let mut query = Query::new().with("term", term).with_text("filters", &filters.to_parameter());
        if limit != 0 {
            query = query.with("limit", limit.to_string());
        }
        self.get_with_headers("/images/search", &query, auth_header(auth)?).await
    }

    /// API: `POST /auth`
    ///
    /// # Errors
    /// 401 for credentials that are not good enough.
    pub async fn login(&self, auth: &AuthConfig) -> Result<AuthResponse> {
        self.post_json("/auth", &Query::new(), auth).await
    }

    /// API: `GET /distribution/{name}/json`
    ///
    /// # Errors
    /// 404 for an unknown image, 401 for one that needs credentials.
    pub async fn distribution_inspect(&self, name: &str, auth: &str) -> Result<DistributionInspect> {
        let path = format!("/distribution/{}/json", segment(name));
        self.get_with_headers(&path, &Query::new(), auth_header(auth)?).await
    }

    pub(crate) async fn get_with_headers<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Query,
        headers: HeaderMap,
    ) -> Result<T> {
        let mut answer = self.stream(Method::GET, path, query, headers, Payload::empty()).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = answer.next().await? {
            bytes.extend_from_slice(&piece);
        }
        decode(&bytes)
    }

    /// API: `POST /images/create`, an import; the body is ignored for a URL.
    ///
    /// # Errors
    /// The daemon's reason.
    pub async fn image_import(
        &self,
        options: &ImportOptions,
        tarball: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<ByteStream> {
        let mut query = Query::new()
            .with("fromSrc", options.source.clone())
            .with_text("repo", &options.repository)
            .with_text("tag", &options.tag)
            .with_text("message", &options.message)
            .with_text("platform", &options.platform);
        for change in &options.changes {
            query = query.with("changes", change.clone());
        }
        let body = if options.source == "-" { streamed(tarball) } else { Payload::empty() };
        self.stream(Method::POST, "/images/create", &query, HeaderMap::new(), body).await
    }

    /// API: `POST /images/load`
    ///
    /// # Errors
    /// The daemon's reason.
    pub async fn image_load(
        &self,
        tarball: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        quiet: bool,
        platforms: &[String],
    ) -> Result<ByteStream> {
        let mut query = Query::new().with("quiet", if quiet { "1" } else { "0" });
        for platform in platforms {
            query = query.with("platform", platform.clone());
        }
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
        self.stream(Method::POST, "/images/load", &query, headers, streamed(tarball)).await
    }

    /// API: `GET /images/get`, a tar.
    ///
    /// # Errors
    /// 404 for an unknown image or platform.
    pub async fn image_save(&self, names: &[String], platforms: &[String]) -> Result<ByteStream> {
        let mut query = Query::new();
        for name in names {
            query = query.with("names", name.clone());
        }
        for platform in platforms {
            query = query.with("platform", platform.clone());
        }
        self.stream(Method::GET, "/images/get", &query, HeaderMap::new(), Payload::empty()).await
    }

    /// API: `GET /images/json`
    ///
    /// # Errors
    /// 400 for an unknown filter.
    pub async fn image_list(&self, all: bool, filters: &Filters) -> Result<Vec<Summary>> {
        let query = Query::new().with_flag("all", all).with_text("filters", &filters.to_parameter());
        self.get("/images/json", &query).await
    }

    /// As [`Client::image_list`], with what each image is made of.
    ///
    /// # Errors
    /// 400 for an unknown filter.
    pub async fn image_list_with_manifests(&self, all: bool, filters: &Filters) -> Result<Vec<Summary>> {
        let query = Query::new()
            .with_flag("all", all)
            .with_text("filters", &filters.to_parameter())
            .with_flag("manifests", true);
        self.get("/images/json", &query).await
    }

    /// API: `GET /images/{name}/json`, untouched.
    ///
    /// # Errors
    /// 404 for an unknown image.
    pub async fn image_inspect(&self, name: &str, platform: &str) -> Result<Raw> {
        let query = Query::new().with_text("platform", platform);
        self.get_raw(&format!("/images/{}/json", segment(name)), &query).await
    }

    /// API: `DELETE /images/{name}`
    ///
    /// # Errors
    /// 409 for an image in use.
    pub async fn image_remove(
        &self,
        name: &str,
        force: bool,
        no_prune: bool,
        platforms: &[String],
    ) -> Result<Vec<DeleteItem>> {
        let mut query = Query::new().with_flag("force", force).with_flag("noprune", no_prune);
        for platform in platforms {
            query = query.with("platforms", platform.clone());
        }
        decode(&self.delete(&format!("/images/{}", segment(name)), &query).await?)
    }

    /// API: `GET /images/{name}/history`
    ///
    /// # Errors
    /// 404 for an unknown image.
    pub async fn image_history(&self, name: &str, platform: &str) -> Result<Vec<HistoryItem>> {
        let query = Query::new().with_text("platform", platform);
        self.get(&format!("/images/{}/history", segment(name)), &query).await
    }

    /// API: `POST /images/prune`
    ///
    /// # Errors
    /// 400 for an unknown filter.
    pub async fn image_prune(&self, filters: &Filters) -> Result<PruneReport> {
        let query = Query::new().with_text("filters", &filters.to_parameter());
        decode(&self.call(Method::POST, "/images/prune", &query, None).await?)
    }

    /// API: `POST /images/collect`, which only ferry has.
    ///
    /// # Errors
    /// 400 for a value that cannot be read, 404 from another engine.
    pub async fn image_collect(
        &self,
        unused_for: &str,
        keep_last: &str,
        budget: &str,
        dry_run: bool,
    ) -> Result<Collected> {
        let query = Query::new()
            .with_text("unused-for", unused_for)
            .with_text("keep-last", keep_last)
            .with_text("budget", budget)
            .with_flag("dry-run", dry_run);
        decode(&self.call(Method::POST, "/images/collect", &query, None).await?)
    }

    /// API: `GET /images/{name}/layers`, which only ferry has.
    ///
    /// # Errors
    /// 404 for an unknown image.
    pub async fn image_layers(&self, name: &str, platform: &str) -> Result<Layers> {
        let query = Query::new().with_text("platform", platform);
        self.get(&format!("/images/{}/layers", segment(name)), &query).await
    }

    /// API: `GET /compare`, which only ferry has. `auth` is for an image that has to be fetched.
    ///
    /// # Errors
    /// 404 for an unknown image or container.
    pub async fn compare(&self, from: &str, to: &str, platform: &str, auth: &str) -> Result<Comparison> {
        let query = Query::new().with("from", from).with("to", to).with_text("platform", platform);
        self.get_with_headers("/compare", &query, auth_header(auth)?).await
    }

    /// API: `POST /images/{name}/tag`
    ///
    /// # Errors
    /// 404 for an unknown image.
    pub async fn image_tag(&self, name: &str, repository: &str, tag: &str) -> Result<()> {
        let query = Query::new().with("repo", repository).with_text("tag", tag);
        self.post_empty(&format!("/images/{}/tag", segment(name)), &query).await
    }
}

pub(crate) fn auth_header(auth: &str) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if !auth.is_empty() {
        let value = HeaderValue::from_str(auth).map_err(|error| Error::Decode(error.to_string()))?;
        headers.insert("x-registry-auth", value);
    }
    Ok(headers)
}

/// The headers of a request that goes on to a registry; how it is reached is said only where that differs.
fn registry_headers(auth: &str, access: &RegistryAccess) -> Result<HeaderMap> {
    let mut headers = auth_header(auth)?;
    if *access != RegistryAccess::default() {
        let json = serde_json::to_vec(access).map_err(|error| Error::Decode(error.to_string()))?;
        let value = HeaderValue::from_str(&URL_SAFE.encode(json)).map_err(|error| Error::Decode(error.to_string()))?;
        headers.insert("x-ferry-registry-access", value);
    }
    Ok(headers)
}
