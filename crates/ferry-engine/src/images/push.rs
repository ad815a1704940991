//! Pushing: an image that is here goes to a registry, content first and its name last.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ferry_api::stream::{JsonMessage, Progress};
use ferry_registry::{Access, BlobSource, Client, Credentials, Pushed, Repository};
use ferry_spec::manifest::MAX_MANIFEST_BYTES;
use ferry_spec::{Descriptor, Digest, Document, Platform, Reference, media_type};
use ferry_store::{ImageRecord, Lease, Origins, Store};
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::mpsc;

use super::names::{is_dangling, short};
use super::progress::{JsonMessageStream, Pace, amount, line, step};
use super::{Images, Inner};
use crate::error::{Context, Error, ErrorKind, Result};

/// Messages that a client may be behind.
const QUEUE: usize = 1024;

/// What to push, as the API takes it.
#[derive(Debug, Clone, Default)]
pub struct PushRequest {
    /// Name; its repository is where the image goes.
    pub reference: String,
    /// Tag; empty, and with none in the name, means every tag of the repository.
    pub tag: String,
    /// Only the manifest for this platform.
    pub platform: Option<Platform>,
    /// Who the user is towards the registry.
    pub auth: Option<Credentials>,
    /// How the registry is reached, where that differs from the configuration.
    pub access: Access,
    /// What is pushed, whatever the name stands for here; with a digest in place of a tag it gets no name there either.
    pub target: Option<Descriptor>,
}

impl Images {
    /// Pushes an image, or every tag of a repository, and tells how it goes. A failure is the last message. It ends when the client leaves.
    ///
    /// API: `POST /images/{name}/push`
    ///
    /// # Errors
    /// InvalidArgument for the name.
    pub async fn push(&self, request: PushRequest) -> Result<JsonMessageStream> {
        let reference = match request.tag.as_str() {
            "" => Reference::parse(&request.reference).map_err(|error| Error::invalid(error.to_string()))?,
            tag => super::names::parse_repo_and_tag(&request.reference, tag)?,
        };
        let client = self.inner.client_with(&request.access)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let out = Out(sender.clone());
            let outcome = tokio::select! {
                outcome = inner.push(&client, &reference, &request, &out) => outcome,
                () = sender.closed() => return,
            };
            if let Err(error) = outcome {
                out.say(JsonMessage::failed(error.text())).await;
            }
        });
        Ok(receiver)
    }
}

/// Where messages go.
#[derive(Clone)]
struct Out(mpsc::Sender<JsonMessage>);

impl Out {
    async fn say(&self, message: JsonMessage) {
        // A client that has left is noticed elsewhere.
        let _ = self.0.send(message).await;
    }

    /// Tells an amount to a client that keeps up.
    fn hint(&self, message: JsonMessage) {
        if self.0.capacity() > QUEUE / 2 {
            let _ = self.0.try_send(message);
        }
    }
}

/// What has to be in the registry before the target: content first, then the manifests that name it, the target last.
struct Cargo {
    blobs: Vec<Descriptor>,
    manifests: Vec<Descriptor>,
}

/// Something that the target needs and that is not here.
struct Missing(Descriptor);

impl Inner {
    async fn push(
        self: &Arc<Self>,
        client: &Client,
        reference: &Reference,
        request: &PushRequest,
        out: &Out,
    ) -> Result<()> {
        out.say(line("", format!("The push refers to repository [{}]", reference.name()))).await;
        if reference.tag().is_some() || reference.digest().is_some() {
            return self.push_one(client, reference, request, out).await;
        }
        let all = self.tags_of(reference);
        if all.is_empty() {
            let name = reference.familiar_name();
            return Err(Error::internal(format!("An image does not exist locally with the tag: {name}")));
        }
        for record in all {
            self.push_one(client, &record.reference, request, out).await?;
        }
        Ok(())
    }

    async fn push_one(
        self: &Arc<Self>,
        client: &Client,
        reference: &Reference,
        request: &PushRequest,
        out: &Out,
    ) -> Result<()> {
        let lease = Arc::new(self.store.lease());
        let record = match &request.target {
            None => self.state().names.get(reference).cloned(),
            Some(target) => Some(ImageRecord {
                reference: reference.clone(),
                target: target.clone(),
                updated_ns: 0,
                origins: Origins::default(),
            }),
        };
        let record = record.ok_or_else(|| Error::not_found(format!("tag does not exist: {}", reference.familiar())))?;
        let target = match &request.platform {
            Some(platform) => self.present_manifest(&record, platform)?,
            None => record.target.clone(),
        };
        let target = self.say_if_rebuilt(target, out).await?;
        let (inner, before) = (Arc::clone(self), target.clone());
        let compressed = super::layers::blocking(move || inner.compressed(&before)).await?;
        let is_compressed = compressed.is_some();
        let target = compressed.unwrap_or(target);
        let sources = self.mount_sources(reference);
        let mut readable: Vec<String> = sources.values().cloned().collect();
        readable.sort();
        readable.dedup();
        let remote = client
            .repository_to_write(reference, request.auth.clone(), &readable)
            .map_err(|error| push_failed(&error))?;
        let job = Job { inner: Arc::clone(self), remote, sources, out: out.clone(), _lease: lease };
        let pushed = job.push_target(&record, &target, reference, request.platform.is_some()).await?;
        if pushed.digest == record.target.digest || is_compressed {
            let (inner, id) = (Arc::clone(self), record.target.digest.clone());
            let origins = match is_compressed {
                true => Origins::pushed(reference.name(), pushed.digest.clone()),
                false => Origins::repository(reference.name()),
            };
            super::layers::blocking(move || inner.add_origins(&id, &origins)).await?;
        }
        self.publish("push", &reference.familiar(), &reference.familiar_name(), Some(&record.target.digest));
        if let Some(tag) = reference.tag() {
            let status = format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size);
            out.say(line("", status)).await;
        }
        Ok(())
    }

    /// Takes an image that is whole in place of one whose layers were not kept, and says so.
    async fn say_if_rebuilt(self: &Arc<Self>, target: Descriptor, out: &Out) -> Result<Descriptor> {
        let (inner, before) = (Arc::clone(self), target.clone());
        let rebuilt = super::layers::blocking(move || inner.with_blobs(&before)).await?;
        let Some(rebuilt) = rebuilt else { return Ok(target) };
        let text = format!(
            "The layers of this image are not kept as they came (keep-blobs is off): they are compressed anew, and its digest changes from {} to {}",
            target.digest, rebuilt.digest
        );
        out.say(line("", text)).await;
        Ok(rebuilt)
    }

    /// Returns for every blob of other repositories in the same registry, as far as their names are here, a repository that should have it.
    fn mount_sources(&self, reference: &Reference) -> HashMap<Digest, String> {
        let records: Vec<ImageRecord> = self.state().names.values().cloned().collect();
        let mut sources = HashMap::new();
        for record in records {
            let own = &record.reference;
            if is_dangling(&record) || own.domain() != reference.domain() || own.path() == reference.path() {
                continue;
            }
            for digest in self.store.reachable(&record.target).blobs {
                sources.entry(digest).or_insert_with(|| own.path().to_owned());
            }
        }
        sources
    }

    /// Lists what a target needs; `Err` names the first manifest that is not here.
    fn cargo(&self, target: &Descriptor) -> Result<Result<Cargo, Missing>> {
        let mut cargo = Cargo { blobs: Vec::new(), manifests: Vec::new() };
        let missing = self.add_cargo(target, &mut cargo, &mut HashSet::new())?;
        Ok(missing.map_or(Ok(cargo), Err))
    }

    fn add_cargo(&self, target: &Descriptor, cargo: &mut Cargo, seen: &mut HashSet<Digest>) -> Result<Option<Missing>> {
        if !seen.insert(target.digest.clone()) {
            return Ok(None);
        }
        if !self.store.has_blob(&target.digest) {
            return Ok(Some(Missing(target.clone())));
        }
        match self.store.document(target).context("cannot read the manifest")? {
            Document::Index(index) => {
                for child in &index.manifests {
                    let is_document =
                        media_type::is_manifest(&child.media_type) || media_type::is_index(&child.media_type);
                    if !is_document {
                        cargo.blobs.push(child.clone());
                    } else if let Some(missing) = self.add_cargo(child, cargo, seen)? {
                        return Ok(Some(missing));
                    }
                }
            }
            Document::Manifest(manifest) => {
                let parts = manifest.layers.into_iter().chain([manifest.config]);
                let parts = parts.filter(|part| !media_type::is_foreign_layer(&part.media_type));
                cargo.blobs.extend(parts.filter(|part| seen.insert(part.digest.clone())));
            }
        }
        cargo.manifests.push(target.clone());
        Ok(None)
    }
}

/// One push to one repository.
struct Job {
    inner: Arc<Inner>,
    remote: Repository,
    sources: HashMap<Digest, String>,
    out: Out,
    /// Keeps the content until it has been sent.
    _lease: Arc<Lease>,
}

impl Job {
    /// Pushes the target; one of an index that is not all here is replaced by its manifest for this host, unless a platform was asked for.
    async fn push_target(
        &self,
        record: &ImageRecord,
        target: &Descriptor,
        reference: &Reference,
        chosen: bool,
    ) -> Result<Descriptor> {
        let missing = match self.inner.cargo(target)? {
            Ok(cargo) => match self.send(&cargo, target, reference).await {
                Err(error) if error.kind() == ErrorKind::NotFound => Some(error),
                outcome => return outcome.map(|()| target.clone()),
            },
            Err(Missing(descriptor)) => {
                Some(Error::not_found(format!("content digest {}: not found", descriptor.digest)))
            }
        };
        let missing = missing.expect("everything else has returned");
        if chosen || !media_type::is_index(&target.media_type) {
            return Err(self.is_missing(target, missing).await);
        }
        let selected = self.available(record)?;
        if selected.digest == target.digest {
            return Err(self.is_missing(target, missing).await);
        }
        let Ok(cargo) = self.inner.cargo(&selected)? else {
            return Err(self.is_missing(&selected, missing).await);
        };
        self.send(&cargo, &selected, reference).await?;
        let aux = json!({
            "manifestPushedInsteadOfIndex": true,
            "originalIndex": target,
            "selectedManifest": selected,
        });
        self.aux(aux).await;
        Ok(selected)
    }

    async fn is_missing(&self, target: &Descriptor, error: Error) -> Error {
        self.aux(json!({"contentMissing": true, "desc": target})).await;
        error
    }

    async fn aux(&self, aux: serde_json::Value) {
        let progress_detail = Some(Progress::default());
        self.out.say(JsonMessage { aux: Some(aux), progress_detail, ..JsonMessage::default() }).await;
    }

    /// Returns the one manifest of an index that is here, or the one of several for this host.
    fn available(&self, record: &ImageRecord) -> Result<Descriptor> {
        let all = self.inner.manifests(&record.target);
        let here: Vec<_> = all.iter().filter(|parsed| self.inner.has_all(parsed)).collect();
        match here[..] {
            [] => Err(super::resolve::platform_not_found(&record.reference.familiar(), None)),
            [one] => Ok(one.descriptor.clone()),
            _ => {
                let ranked = here.iter().filter_map(|one| Some((self.inner.host.rank(&one.platform())?, one)));
                let best = ranked.min_by_key(|(rank, _)| *rank).map(|(_, one)| one.descriptor.clone());
                best.ok_or_else(|| {
                    Error::conflict("multiple matching manifests found but no specific platform requested")
                })
            }
        }
    }

    async fn send(&self, cargo: &Cargo, target: &Descriptor, reference: &Reference) -> Result<()> {
        let uploads: Vec<_> = cargo.blobs.iter().map(|blob| self.send_blob(blob)).collect();
        let mut running = futures_util::stream::iter(uploads)
            .buffer_unordered(self.inner.uploads.load(std::sync::atomic::Ordering::Relaxed));
        while let Some(sent) = running.next().await {
            sent?;
        }
        for manifest in &cargo.manifests {
            let bytes =
                self.inner.store.read_blob(&manifest.digest, MAX_MANIFEST_BYTES).context("cannot read the manifest")?;
            let tag = reference.tag().filter(|_| manifest.digest == target.digest);
            self.remote.push_manifest(manifest, &bytes, tag).await.map_err(|error| push_failed(&error))?;
        }
        Ok(())
    }

    async fn send_blob(&self, blob: &Descriptor) -> Result<()> {
        let id = short(blob.digest.as_str()).to_owned();
        let store = &self.inner.store;
        let source: Option<Arc<dyn BlobSource>> = match store.has_blob(&blob.digest) {
            true => Some(Arc::new(StoredBlob { store: store.clone(), digest: blob.digest.clone() })),
            false => None,
        };
        let mount_from = self.sources.get(&blob.digest).map(String::as_str);
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        let note = Arc::new(move |at| count.store(at, Ordering::Relaxed));
        let mut pushing = std::pin::pin!(self.remote.push_blob(blob, source, mount_from, note));
        let mut pace = Pace::new();
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(100));
        let outcome = loop {
            tokio::select! {
                outcome = &mut pushing => break outcome,
                _ = tick.tick() => {
                    let current = sent.load(Ordering::Relaxed);
                    if current > 0 && is_shown(blob) && pace.is_due() {
                        let (current, total) = (count_of(current), count_of(blob.size));
                        self.out.hint(amount(&id, "Pushing", Progress { current, total, ..Progress::default() }));
                    }
                }
            }
        };
        let status = match outcome.map_err(|error| push_failed(&error))? {
            Pushed::Exists if media_type::is_layer(&blob.media_type) => "Layer already exists".to_owned(),
            Pushed::Exists => "Already exists".to_owned(),
            Pushed::Mounted(from) => format!("Mounted from {from}"),
            Pushed::Uploaded => "Pushed".to_owned(),
        };
        if is_shown(blob) {
            self.out.say(step(&id, &status)).await;
        }
        Ok(())
    }
}

/// Configurations are small, and nobody waits for them.
fn is_shown(blob: &Descriptor) -> bool {
    !media_type::is_config(&blob.media_type)
}

fn count_of(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A blob of the store as something to send.
pub(super) struct StoredBlob {
    pub(super) store: Store,
    pub(super) digest: Digest,
}

impl BlobSource for StoredBlob {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = self.store.open_blob(&self.digest).map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

/// Words a failure to push, as Docker's daemon does.
pub(super) fn push_failed(error: &ferry_registry::Error) -> Error {
    if !error.messages().is_empty() {
        return super::pull::from_registry(error);
    }
    use ferry_registry::Error as Registry;
    let kind = match error {
        Registry::NotFound { .. } => ErrorKind::NotFound,
        Registry::PushDenied { .. } => ErrorKind::Unauthorized,
        _ => ErrorKind::Internal,
    };
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    Error::new(kind, text)
}
