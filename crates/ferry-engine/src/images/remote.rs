//! What a registry is asked without an image coming here: what a name means, whether credentials are good, what there is to find.

use ferry_api::filters::Filters;
use ferry_api::image::{AuthResponse, DistributionInspect, SearchResult};
use ferry_registry::Credentials;
use ferry_spec::image::MAX_CONFIG_BYTES;
use ferry_spec::reference::AnyReference;
use ferry_spec::{Descriptor, Document, ImageConfig};

use super::Images;
use crate::error::{Context, Error, ErrorKind, Result};

impl Images {
    /// Tells what a name means in its registry, and which platforms it has there.
    ///
    /// API: `GET /distribution/{name}/json`
    ///
    /// # Errors
    /// InvalidArgument for the name, NotFound, and what the registry says.
    pub async fn distribution(&self, text: &str, auth: Option<Credentials>) -> Result<DistributionInspect> {
        let reference = match AnyReference::parse(text).map_err(|error| Error::invalid(error.to_string()))? {
            AnyReference::Digest(_) => return Err(Error::internal("no manifest found for full image ID")),
            AnyReference::Named(named) => named.with_default_tag(),
        };
        let remote = self.inner.client().repository(&reference, auth).map_err(failed)?;
        let target = remote.resolve(&reference).await.map_err(failed)?;
        let bytes = remote.manifest(&target).await.map_err(failed)?;
        let document = Document::parse(&bytes, Some(&target.media_type)).context("cannot read the manifest")?;
        let platforms = match &document {
            Document::Index(index) => {
                Some(index.manifests.iter().map(|child| child.platform.clone().unwrap_or_default()).collect())
            }
            Document::Manifest(manifest) => {
                let bytes = remote.small_blob(&manifest.config, MAX_CONFIG_BYTES).await.map_err(failed)?;
                ImageConfig::parse(&bytes).ok().map(|config| vec![config.platform()])
            }
        };
        let media_type = document.media_type().to_owned();
        Ok(DistributionInspect { descriptor: Descriptor::new(media_type, target.digest, target.size), platforms })
    }

    /// Checks credentials against the registry that they are for.
    ///
    /// API: `POST /auth`
    ///
    /// # Errors
    /// Unauthorized; Internal in Docker's words when the registry cannot be asked.
    pub async fn login(&self, credentials: &Credentials) -> Result<AuthResponse> {
        let identity_token = self.inner.client().login(credentials).await.map_err(|error| {
            use ferry_registry::Error as Registry;
            // Docker asks for a login with another client than for content, which says less.
            if let Registry::Request { method, url, failure } = &error {
                return Error::internal(format!("{method} {url:?}: {failure}"));
            }
            let kind = match &error {
                Registry::LoginToken { .. } if !error.messages().is_empty() => ErrorKind::Unauthorized,
                _ => ErrorKind::Internal,
            };
            match &error {
                error if kind == ErrorKind::Unauthorized => Error::new(kind, error.to_string()),
                Registry::Request { method, url, failure } => {
                    Error::new(kind, format!("{method} \"{url}\": {failure}"))
                }
                error => Error::new(kind, chain(error)),
            }
        })?;
        Ok(AuthResponse { identity_token, status: "Login Succeeded".to_owned() })
    }
}

/// How many repositories a search finds unless told otherwise, and at most.
const SEARCH_DEFAULT: i64 = 25;
const SEARCH_LIMIT: i64 = 100;

impl Images {
    /// Searches Docker Hub, or the registry that `term` begins with.
    ///
    /// API: `GET /images/search`
    ///
    /// # Errors
    /// InvalidArgument for a filter, the limit or the term; what the registry says.
    pub async fn search(
        &self,
        term: &str,
        limit: i64,
        filters: &Filters,
        auth: Option<Credentials>,
    ) -> Result<Vec<SearchResult>> {
        filters.validate(&["is-automated", "is-official", "stars"])?;
        if crate::filter::boolean(filters, "is-automated")? == Some(true) {
            return Ok(Vec::new());
        }
        let official = crate::filter::boolean(filters, "is-official")?;
        let stars = wanted_stars(filters)?;
        if term.contains("://") {
            return Err(Error::invalid(format!(
                "invalid repository name: repository name ({term}) should not have a scheme"
            )));
        }
        let limit = if limit == 0 { SEARCH_DEFAULT } else { limit };
        if !(1..=SEARCH_LIMIT).contains(&limit) {
            return Err(Error::invalid(format!("limit {limit} is outside the range of [1, {SEARCH_LIMIT}]")));
        }
        let (registry, term) = split_term(term);
        let limit = u32::try_from(limit).expect("it was checked");
        let found = self.inner.client().search(registry, term, limit, auth.as_ref()).await.map_err(|error| {
            use ferry_registry::Error as Registry;
            match &error {
                Registry::SearchEndpoint(text) => Error::invalid(text.clone()),
                Registry::Status { status, .. } => {
                    Error::internal(format!("unexpected status code {}", status.as_u16()))
                }
                _ => Error::internal(chain(&error)),
            }
        })?;
        let fits = |one: &ferry_registry::Found| {
            official.is_none_or(|wanted| wanted == one.is_official) && one.star_count >= stars
        };
        Ok(found
            .into_iter()
            .filter(fits)
            .map(|one| SearchResult {
                star_count: one.star_count,
                is_official: one.is_official,
                name: one.name,
                is_automated: false,
                description: one.description,
            })
            .collect())
    }
}

fn wanted_stars(filters: &Filters) -> Result<i64> {
    let mut most = i64::MIN;
    for text in filters.get("stars") {
        let stars: i64 = text.parse().map_err(|_| {
            Error::invalid(format!("invalid filter 'stars={text}': strconv.Atoi: parsing {text:?}: invalid syntax"))
        })?;
        most = most.max(stars).max(0);
    }
    Ok(most)
}

/// Splits a search term into the registry that it begins with, if any, and the rest.
fn split_term(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
            let registry = if matches!(host, "docker.io" | "index.docker.io") { "docker.io" } else { host };
            (registry, if registry == "docker.io" { rest.strip_prefix("library/").unwrap_or(rest) } else { rest })
        }
        _ => ("docker.io", term.strip_prefix("library/").unwrap_or(term)),
    }
}

/// Words a failure as Docker's client of registries does.
fn failed(error: ferry_registry::Error) -> Error {
    use ferry_registry::Error as Registry;
    match &error {
        Registry::NotFound { .. } => Error::not_found("manifest unknown: manifest unknown"),
        Registry::Denied { .. } | Registry::NoCredentials => {
            Error::new(ErrorKind::Unauthorized, "unauthorized: authentication required")
        }
        _ if !error.messages().is_empty() => super::pull::from_registry(&error),
        _ => Error::internal(chain(&error)),
    }
}

fn chain(error: &ferry_registry::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_may_begin_with_a_registry() {
        for (term, registry, rest) in [
            ("debian", "docker.io", "debian"),
            ("library/debian", "docker.io", "debian"),
            ("me/app", "docker.io", "me/app"),
            ("localhost/app", "localhost", "app"),
            ("h:5000/a/b", "h:5000", "a/b"),
            ("index.docker.io/library/x", "docker.io", "x"),
        ] {
            assert_eq!(split_term(term), (registry, rest), "{term}");
        }
    }
}
