//! The registry, as the manifest commands speak to it.

use ferry_registry::{Client, ClientConfig, Credentials, Error, Proxies, Repository, RequestFailure};
use ferry_spec::image::MAX_CONFIG_BYTES;
use ferry_spec::manifest::{Document, Index, Manifest};
use ferry_spec::{Descriptor, Platform, Reference};

use super::ImageManifest;
use crate::config::{Config, credentials};
use crate::context::variable;
use crate::failure::{Failure, Result};

/// What a name stands for in a registry.
pub(super) enum Remote {
    /// One image.
    Image(Box<ImageManifest>),
    /// Several, with what the list says they run on.
    List(Vec<ImageManifest>),
}

/// A client for one command.
pub(in crate::commands) struct Registry<'a> {
    config: &'a Config,
    insecure: bool,
}

impl<'a> Registry<'a> {
    pub(in crate::commands) fn new(config: &'a Config, insecure: bool) -> Self {
        Self { config, insecure }
    }

    fn client(&self, reference: &Reference) -> Client {
        let proxy = |name: &str| variable(name).or_else(|| variable(&name.to_lowercase()));
        Client::new(ClientConfig {
            insecure: if self.insecure { vec![reference.domain().to_owned()] } else { Vec::new() },
            proxies: Proxies { http: proxy("HTTP_PROXY"), https: proxy("HTTPS_PROXY"), no_proxy: proxy("NO_PROXY") },
            ..ClientConfig::default()
        })
    }

    fn credentials(&self, reference: &Reference) -> Option<Credentials> {
        let auth = credentials::look_up(self.config, credentials::key_of(reference.domain())).ok()?;
        Some(Credentials {
            username: auth.username,
            password: auth.password,
            identity_token: auth.identitytoken,
            registry_token: auth.registrytoken,
            server_address: auth.serveraddress,
        })
        .filter(|credentials| !credentials.is_empty())
    }

    /// Opens a repository to write to; blobs may be mounted from `readable`.
    pub(in crate::commands) fn to_write(&self, reference: &Reference, readable: &[String]) -> Result<Repository> {
        let opened = self.client(reference).repository_to_write(reference, self.credentials(reference), readable);
        opened.map_err(|error| failed(reference, error))
    }

    /// Opens a repository to read from.
    pub(in crate::commands) fn to_read(&self, reference: &Reference) -> Result<Repository> {
        let opened = self.client(reference).repository(reference, self.credentials(reference));
        opened.map_err(|error| failed(reference, error))
    }

    /// Fetches what a name stands for.
    pub(super) async fn fetch(&self, reference: &Reference) -> Result<Remote> {
        let repository = self.to_read(reference)?;
        let target = repository.resolve(reference).await.map_err(|error| match error {
            // A host without TLS is no place to look unless that was said.
            Error::Request { failure: RequestFailure::PlainHttp, .. } => not_there(reference),
            error => failed(reference, error),
        })?;
        let bytes = repository.manifest(&target).await.map_err(|error| failed(reference, error))?;
        match parse(reference, &target, &bytes)? {
            Document::Manifest(manifest) => {
                let image = image(&repository, reference, target, &bytes, &manifest).await?;
                Ok(Remote::Image(Box::new(image)))
            }
            Document::Index(index) => children(&repository, reference, &index).await.map(Remote::List),
        }
    }

    /// Fetches a name that must stand for one image.
    pub(super) async fn image(&self, reference: &Reference) -> Result<ImageManifest> {
        match self.fetch(reference).await? {
            Remote::Image(image) => Ok(*image),
            Remote::List(_) => Err(Failure::new(format!("{reference} is a manifest list"))),
        }
    }
}

fn parse(reference: &Reference, target: &Descriptor, bytes: &[u8]) -> Result<Document> {
    Document::parse(bytes, Some(&target.media_type)).map_err(|error| Failure::new(format!("{reference}: {error}")))
}

async fn children(repository: &Repository, reference: &Reference, index: &Index) -> Result<Vec<ImageManifest>> {
    let mut images = Vec::with_capacity(index.manifests.len());
    for child in &index.manifests {
        let name = reference.clone().with_digest(child.digest.clone());
        let bytes = repository.manifest(child).await.map_err(|error| failed(&name, error))?;
        let Document::Manifest(manifest) = parse(&name, child, &bytes)? else {
            return Err(Failure::new(format!("{name}: a manifest list inside a manifest list")));
        };
        let target = Descriptor::new(child.media_type.clone(), child.digest.clone(), child.size);
        let mut image = image(repository, &name, target, &bytes, &manifest).await?;
        // The list knows better than the configuration.
        image.descriptor.platform = Some(child.platform.clone().unwrap_or_default());
        images.push(image);
    }
    Ok(images)
}

async fn image(
    repository: &Repository,
    reference: &Reference,
    target: Descriptor,
    bytes: &[u8],
    manifest: &Manifest,
) -> Result<ImageManifest> {
    let config = repository.small_blob(&manifest.config, MAX_CONFIG_BYTES).await;
    let config = config.map_err(|error| failed(reference, error))?;
    let platform: Platform = serde_json::from_slice(&config).map_err(|error| Failure::new(error.to_string()))?;
    ImageManifest::new(reference, Descriptor { platform: Some(platform), ..target }, bytes)
}

fn not_there(reference: &Reference) -> Failure {
    Failure::new(format!("no such manifest: {reference}"))
}

/// Words a failure as Docker's client does.
pub(super) fn failed(reference: &Reference, error: Error) -> Failure {
    match error {
        // Whether it is there is told to those alone who may see it.
        Error::NotFound { .. } | Error::Denied { .. } | Error::NoCredentials => not_there(reference),
        Error::Request { method, url, failure } => {
            let url = url.split_once("/v2/").map_or(url.as_str(), |(host, _)| host);
            let method = if method.eq_ignore_ascii_case("head") { "Get" } else { method };
            Failure::new(format!(
                "failed to configure transport: error pinging v2 registry: {method} \"{url}/v2/\": {failure}"
            ))
        }
        other => Failure::new(other.to_string()),
    }
}
