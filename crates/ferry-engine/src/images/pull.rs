//! Pulling: a reference becomes an image here.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ferry_api::stream::JsonMessage;
use ferry_registry::{Access, Client, Credentials, Repository};
use ferry_spec::image::MAX_CONFIG_BYTES;
use ferry_spec::{Descriptor, Document, ImageConfig, Manifest, Platform, Reference, media_type};
use ferry_store::Origins;
use tokio::sync::mpsc;

use super::layers::{Hold, Layer};
use super::names::{parse_name, short};
use super::progress::{JsonMessageStream, line, step};
use super::resolve::is_image;
use super::transfer::Transfer;
use super::{Images, Inner, bundled};
use crate::error::{Context, Error, ErrorKind, Result};

/// How long the registry of the bundled image is waited for.
const BUNDLED_PATIENCE: Duration = Duration::from_secs(3);

/// Messages that a client of a pull of all tags may be behind.
const ALL_TAGS_QUEUE: usize = 64;

/// What to pull, as the API takes it.
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// Name; with neither tag nor digest, here or below, all tags are meant.
    pub reference: String,
    /// Tag or digest, instead of the one in the name.
    pub tag: Option<String>,
    /// Platform instead of this host's.
    pub platform: Option<Platform>,
    /// Who the user is towards the registry.
    pub auth: Option<Credentials>,
    /// How the registry is reached, where that differs from the configuration.
    pub access: Access,
    /// An image that is no index is taken whatever it runs on, as builds do.
    pub takes_any_single: bool,
}

/// What two requests must have in common to share a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TransferKey {
    reference: Reference,
    platform: Option<Platform>,
    auth: Option<Credentials>,
    access: Access,
    takes_any_single: bool,
}

impl TransferKey {
    /// Reads what a name stands for.
    pub(super) fn of(name: &str, platform: Option<Platform>, auth: Option<Credentials>) -> Result<Self> {
        let auth = auth.filter(|auth| !auth.is_empty());
        Ok(Self { reference: wanted(name, None)?, platform, auth, access: Access::default(), takes_any_single: false })
    }
}

impl Images {
    /// Pulls an image and tells how it goes. The same pull by several clients is one transfer; it ends early when all have left.
    ///
    /// API: `POST /images/create?fromImage=`
    ///
    /// # Errors
    /// What fails before there is progress to tell; later failures are the stream's last message.
    pub async fn pull(&self, request: PullRequest) -> Result<JsonMessageStream> {
        if let Some(repository) = repository_alone(&request)? {
            return self.pull_all(repository, request).await;
        }
        self.pull_one(request).await
    }

    /// Pulls every tag of a repository, one after the other.
    async fn pull_all(&self, repository: Reference, request: PullRequest) -> Result<JsonMessageStream> {
        let failed = |error| resolve_failed(&repository, error);
        let client = self.inner.client_with(&request.access)?;
        let remote = client.repository(&repository, request.auth.clone()).map_err(failed)?;
        let tags = remote.tags().await.map_err(|error| match error {
            // Tags are asked for in another way than content, and what is not there is told in its words.
            ferry_registry::Error::NotFound { .. } => Error::not_found(format!(
                "repository {} not found: name unknown: repository name not known to registry",
                repository.name()
            )),
            error => failed(error),
        })?;
        let (sender, receiver) = mpsc::channel(ALL_TAGS_QUEUE);
        let images = self.clone();
        tokio::spawn(async move {
            for tag in tags {
                let one = PullRequest { reference: repository.name(), tag: Some(tag.clone()), ..request.clone() };
                let mut stream = match images.pull_one(one).await {
                    Ok(stream) => stream,
                    Err(error) => {
                        let text = format!("error pulling {}:{tag}: {}", repository.name(), error.text());
                        // Nobody to tell is no other failure.
                        let _ = sender.send(JsonMessage::failed(text)).await;
                        return;
                    }
                };
                while let Some(message) = stream.recv().await {
                    let failed = message.error_detail.is_some();
                    if sender.send(message).await.is_err() || failed {
                        return;
                    }
                }
            }
        });
        Ok(receiver)
    }

    async fn pull_one(&self, request: PullRequest) -> Result<JsonMessageStream> {
        let key = TransferKey {
            reference: wanted(&request.reference, request.tag.as_deref())?,
            platform: request.platform,
            auth: request.auth.filter(|auth| !auth.is_empty()),
            access: request.access,
            takes_any_single: request.takes_any_single,
        };
        // What the request says of it may be unusable.
        let client = self.inner.client_with(&key.access)?;
        let (transfer, stream) = self.join_or_start(key, client);
        transfer.begun().await?;
        Ok(stream)
    }

    fn join_or_start(&self, key: TransferKey, client: Client) -> (Arc<Transfer>, JsonMessageStream) {
        let mut transfers = self.inner.transfers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transfer) = transfers.get(&key)
            && let Some(stream) = transfer.follow()
        {
            return (Arc::clone(transfer), stream);
        }
        let transfer = Transfer::new();
        let stream = transfer.follow().expect("nobody has ended it");
        transfers.insert(key.clone(), Arc::clone(&transfer));
        let (inner, driven) = (Arc::clone(&self.inner), Arc::clone(&transfer));
        tokio::spawn(async move {
            driven.drive(inner.pull(&client, &key, &driven)).await;
            let mut transfers = inner.transfers.lock().unwrap_or_else(PoisonError::into_inner);
            if transfers.get(&key).is_some_and(|current| Arc::ptr_eq(current, &driven)) {
                transfers.remove(&key);
            }
        });
        (transfer, stream)
    }
}

/// Returns the repository when neither a tag nor a digest is asked for: then all its tags are meant.
fn repository_alone(request: &PullRequest) -> Result<Option<Reference>> {
    if request.tag.as_deref().is_some_and(|tag| !tag.is_empty()) {
        return Ok(None);
    }
    let name = request.reference.strip_suffix(':').unwrap_or(&request.reference);
    let parsed = Reference::parse(name).map_err(|error| Error::invalid(error.to_string()))?;
    Ok((parsed.tag().is_none() && parsed.digest().is_none()).then_some(parsed))
}

/// Reads the two parameters that say what to pull.
fn wanted(name: &str, tag: Option<&str>) -> Result<Reference> {
    // `pull -a` sends a colon with nothing behind it.
    let name = name.strip_suffix(':').unwrap_or(name);
    let invalid = |error: ferry_spec::reference::ReferenceError| Error::invalid(error.to_string());
    let parsed = Reference::parse(name).map_err(invalid)?;
    let parsed = match tag.filter(|tag| !tag.is_empty()) {
        None => parsed,
        Some(tag) => match tag.parse() {
            Ok(digest) => parsed.repository().with_digest(digest),
            Err(_) => parsed.repository().with_tag(tag).map_err(invalid)?,
        },
    };
    if parsed.name() == "docker.io/library/scratch" {
        return Err(Error::new(ErrorKind::Forbidden, "'scratch' is a reserved name"));
    }
    Ok(parse_name(&parsed.to_string())?.digest_over_tag())
}

impl Inner {
    async fn pull(self: &Arc<Self>, client: &Client, key: &TransferKey, out: &Transfer) -> Result<()> {
        let reference = &key.reference;
        let before = self.state().names.get(reference).map(|record| record.target.digest.clone());
        let hold = Hold::take(self);
        let (target, origins) = match resolve_remote(client, key).await {
            Ok((repository, target)) => {
                self.fetch(&repository, &target, key, &hold, out).await?;
                (target, Origins::repository(reference.name()))
            }
            Err(error) if error.is_unreachable() && bundled::covers(key.reference.to_string().as_str()) => {
                out.say(line("", bundled::NOTICE));
                (self.unpack_bundled(&hold).await?, Origins::default())
            }
            Err(error) => return Err(resolve_failed(reference, error)),
        };
        let newer = before.as_ref() != Some(&target.digest);
        let written = target.clone();
        let name = reference.clone();
        let inner = Arc::clone(self);
        super::layers::blocking(move || inner.write_name_of(&name, &written, &origins)).await?;
        hold.keep();
        self.publish("pull", &reference.familiar(), &reference.familiar_name(), Some(&target.digest));
        out.say(line("", format!("Digest: {}", target.digest)));
        let status = if newer { "Downloaded newer image for" } else { "Image is up to date for" };
        out.say(line("", format!("Status: {status} {}", reference.familiar())));
        Ok(())
    }

    /// Brings here what a name stands for, without writing the name.
    pub(super) async fn fetch_unnamed(
        self: &Arc<Self>,
        key: &TransferKey,
        hold: &Arc<Hold>,
    ) -> Result<(Reference, Descriptor)> {
        let client = self.client_with(&key.access)?;
        let resolved = resolve_remote(&client, key).await;
        let (repository, target) = resolved.map_err(|error| resolve_failed(&key.reference, error))?;
        // Nobody follows how it goes.
        self.fetch(&repository, &target, key, hold, &Transfer::new()).await?;
        Ok((key.reference.clone(), target))
    }

    /// Brings everything here that `target` needs on the wanted platform.
    async fn fetch(
        self: &Arc<Self>,
        repository: &Repository,
        target: &Descriptor,
        key: &TransferKey,
        hold: &Arc<Hold>,
        out: &Transfer,
    ) -> Result<()> {
        let chosen = match self.fetch_document(repository, target).await? {
            Document::Index(index) => choose(&index.manifests, key.platform.as_ref().unwrap_or(&self.host))?,
            Document::Manifest(_) => target.clone(),
        };
        let tag = key.reference.tag().map_or_else(|| key.reference.to_string(), str::to_owned);
        let Document::Manifest(manifest) = self.fetch_document(repository, &chosen).await? else {
            return Err(Error::internal(format!("index {} names another index as an image", target.digest)));
        };
        let config = self.fetch_config(repository, &manifest).await?;
        if !key.takes_any_single || chosen.digest != target.digest {
            check_platform(&chosen, &config, key.platform.as_ref())?;
        }
        out.say(line(&tag, format!("Pulling from {}", key.reference.path())));
        let layers = Layer::all(&manifest.layers, &config.rootfs.diff_ids);
        if layers.iter().all(|layer| self.is_here(layer)) {
            return Ok(());
        }
        self.fetch_layers(repository, layers, hold, out).await
    }

    async fn fetch_layers(
        self: &Arc<Self>,
        repository: &Repository,
        layers: Vec<Layer>,
        hold: &Arc<Hold>,
        out: &Transfer,
    ) -> Result<()> {
        for layer in &layers {
            out.say(step(short(layer.descriptor.digest.as_str()), "Pulling fs layer"));
        }
        // All are announced before the first is begun: a layer that needs to know those below it waits for them.
        let announced: Vec<_> =
            layers.into_iter().map(|layer| (self.store.expect_layer(&layer.chain()), layer)).collect();
        let fetches = announced.into_iter().map(|(expected, layer)| async move {
            let fetched = self.fetch_layer(repository, layer, hold, out).await;
            drop(expected);
            fetched
        });
        // The first failure drops the other fetches, whose threads then end by themselves.
        futures_util::future::try_join_all(fetches).await.map(drop)
    }

    /// Fetches a manifest or index, unless it is here, and stores the bytes as they came.
    async fn fetch_document(self: &Arc<Self>, repository: &Repository, descriptor: &Descriptor) -> Result<Document> {
        let _turn = self.turn(&descriptor.digest).await;
        if self.store.has_blob(&descriptor.digest) {
            return self.store.document(descriptor).context("cannot read the manifest");
        }
        let bytes = repository.manifest(descriptor).await.map_err(fetch_failed)?;
        let document =
            Document::parse(&bytes, Some(&descriptor.media_type)).context(format!("manifest {}", descriptor.digest))?;
        if let Document::Manifest(manifest) = &document {
            check_layers(manifest)?;
        }
        self.store_bytes(bytes).await?;
        Ok(document)
    }

    async fn fetch_config(self: &Arc<Self>, repository: &Repository, manifest: &Manifest) -> Result<ImageConfig> {
        let digest = &manifest.config.digest;
        let _turn = self.turn(digest).await;
        let bytes = if self.store.has_blob(digest) {
            self.store.read_blob(digest, MAX_CONFIG_BYTES).context("cannot read the image configuration")?
        } else {
            let bytes = repository.small_blob(&manifest.config, MAX_CONFIG_BYTES).await.map_err(fetch_failed)?;
            self.store_bytes(bytes.clone()).await?;
            bytes
        };
        read_config(manifest, &bytes)
    }

    async fn store_bytes(&self, bytes: Vec<u8>) -> Result<()> {
        let store = self.store.clone();
        super::layers::blocking(move || store.put_blob(&bytes).map(drop).context("cannot store image content")).await
    }
}

async fn resolve_remote(patient: &Client, key: &TransferKey) -> ferry_registry::Result<(Repository, Descriptor)> {
    let impatient;
    let client = if bundled::covers(&key.reference.to_string()) {
        impatient = patient.with_connect_timeout(BUNDLED_PATIENCE);
        &impatient
    } else {
        patient
    };
    let repository = client.repository(&key.reference, key.auth.clone())?;
    let target = repository.resolve(&key.reference).await?;
    Ok((repository, target))
}

/// Reads a configuration and checks that it fits its manifest.
pub(super) fn read_config(manifest: &Manifest, bytes: &[u8]) -> Result<ImageConfig> {
    let config = ImageConfig::parse(bytes).context(format!("image configuration {}", manifest.config.digest))?;
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        return Err(Error::internal(format!(
            "mismatched image rootfs and manifest layers: {diff_ids} diff IDs for {layers} layers"
        )));
    }
    Ok(config)
}

/// Refuses layers that cannot be unpacked, before anything is fetched.
pub(super) fn check_layers(manifest: &Manifest) -> Result<()> {
    for layer in &manifest.layers {
        if media_type::is_foreign_layer(&layer.media_type) {
            return Err(Error::internal(format!(
                "layer {} lies outside of the registry, which is not supported",
                layer.digest
            )));
        }
        if !media_type::is_layer(&layer.media_type) {
            let text =
                format!("layer {} has media type {:?}, which is no layer of an image", layer.digest, layer.media_type);
            return Err(Error::internal(text));
        }
    }
    Ok(())
}

/// Returns the image of an index that suits the platform best.
fn choose(children: &[Descriptor], wanted: &Platform) -> Result<Descriptor> {
    let images = || children.iter().filter(|child| is_image(child));
    let ranked = images().filter_map(|child| Some((wanted.rank(child.platform.as_ref()?)?, child)));
    let best = ranked.min_by_key(|(rank, _)| *rank).map(|(_, child)| child);
    // An entry that does not say what it runs on may run here.
    best.or_else(|| images().find(|child| child.platform.is_none())).cloned().ok_or_else(|| no_match(wanted))
}

fn check_platform(chosen: &Descriptor, config: &ImageConfig, asked: Option<&Platform>) -> Result<()> {
    match asked {
        Some(asked) if chosen.platform.is_none() && asked.rank(&config.platform()).is_none() => Err(no_match(asked)),
        _ => Ok(()),
    }
}

fn no_match(wanted: &Platform) -> Error {
    Error::not_found(format!(
        "no matching manifest for {wanted} in the manifest list entries: no match for platform in manifest: not found"
    ))
}

/// Words why a reference could not be looked up, as Docker's daemon does.
fn resolve_failed(reference: &Reference, error: ferry_registry::Error) -> Error {
    use ferry_registry::Error as Registry;
    let kind = match &error {
        Registry::Denied { .. } => {
            return Error::not_found(format!(
                "pull access denied for {}, repository does not exist or may require 'docker login'",
                reference.familiar_name()
            ));
        }
        Registry::NotFound { .. } => ErrorKind::NotFound,
        error if !error.messages().is_empty() => return from_registry(error),
        _ => ErrorKind::Internal,
    };
    // Docker puts this before a status that came without words.
    let unknown = if matches!(error, Registry::Status { .. }) { "unknown: " } else { "" };
    Error::new(kind, format!("{unknown}failed to resolve reference \"{reference}\"")).with_source(error)
}

/// Words why content could not be fetched.
pub(super) fn fetch_failed(error: ferry_registry::Error) -> Error {
    if !error.messages().is_empty() {
        return from_registry(&error);
    }
    let kind =
        if matches!(error, ferry_registry::Error::NotFound { .. }) { ErrorKind::NotFound } else { ErrorKind::Internal };
    Error::new(kind, "failed to copy").with_source(error)
}

/// Repeats what the registry said.
pub(super) fn from_registry(error: &ferry_registry::Error) -> Error {
    let kind = match error.messages().first().map(|message| message.code.as_str()) {
        Some("UNAUTHORIZED") => ErrorKind::Unauthorized,
        Some("DENIED") => ErrorKind::Forbidden,
        Some("UNAVAILABLE" | "TOOMANYREQUESTS") => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    let texts: Vec<String> = error.messages().iter().map(ferry_registry::RegistryMessage::text).collect();
    let text = texts.join("\n");
    // What the token server says is told as it is.
    let prefix = if matches!(error, ferry_registry::Error::Token { .. }) { "" } else { "error from registry: " };
    Error::new(kind, format!("{prefix}{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_spec::Digest;

    #[test]
    fn requests_are_read_as_docker_reads_them() {
        let digest = Digest::sha256(b"x").to_string();
        for (name, tag, expected) in [
            ("app", Some("1"), "docker.io/library/app:1".to_owned()),
            ("app:1", None, "docker.io/library/app:1".to_owned()),
            ("app:1", Some("2"), "docker.io/library/app:2".to_owned()),
            ("app", Some(digest.as_str()), format!("docker.io/library/app@{digest}")),
            ("h:5/a/b", Some("t"), "h:5/a/b:t".to_owned()),
        ] {
            assert_eq!(wanted(name, tag).unwrap().to_string(), expected);
        }
        assert_eq!(wanted("App", Some("1")).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(wanted("scratch", Some("1")).unwrap_err().text(), "'scratch' is a reserved name");
    }

    #[test]
    fn the_best_platform_is_chosen() {
        let child = |platform: &str, kind: &str| Descriptor {
            platform: (!platform.is_empty()).then(|| Platform::parse(platform).unwrap()),
            ..Descriptor::new(kind, Digest::sha256(platform.as_bytes()), 1)
        };
        let image = media_type::OCI_MANIFEST;
        let children = [
            child("linux/arm64", image),
            child("linux/386", image),
            child("linux/amd64", media_type::OCI_LAYER),
            child("linux/amd64", image),
        ];
        let amd64 = Platform::parse("linux/amd64").unwrap();
        assert_eq!(choose(&children, &amd64).unwrap(), children[3]);
        assert_eq!(choose(&children[..2], &amd64).unwrap(), children[1]);
        let error = choose(&children, &Platform::parse("linux/s390x").unwrap()).unwrap_err();
        assert!(error.text().starts_with("no matching manifest for linux/s390x in the manifest list entries"));
    }
}
