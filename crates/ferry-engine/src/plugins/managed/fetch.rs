//! Plugins from a registry: `plugin install`, `plugin upgrade`, and what rights they want.

use std::path::Path;
use std::sync::Arc;

use ferry_api::plugin::Privilege;
use ferry_api::stream::{JsonMessage, Progress};
use ferry_registry::{Credentials, Repository};
use ferry_spec::plugin::{CONFIG, MAX_CONFIG_BYTES, PluginConfig, PluginSettings};
use ferry_spec::{Descriptor, Document, Manifest, Platform, Reference, media_type};
use tokio::sync::mpsc;

use super::create::New;
use super::{Entry, Managed, ROOTFS, Record, blobs, privileges, take_off_mounts};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::images::{JsonMessageStream, progress};

/// Messages that a client may be behind.
const QUEUE: usize = 1024;

/// What to bring, as the API takes it.
#[derive(Debug, Clone, Default)]
pub struct PluginPull {
    /// Name in the registry.
    pub remote: String,
    /// Name here; empty is that of the registry.
    pub name: String,
    /// What whoever asks has granted.
    pub privileges: Vec<Privilege>,
    /// Who the user is towards the registry.
    pub auth: Option<Credentials>,
}

/// What was fetched.
struct Fetched {
    config: PluginConfig,
    manifest: Descriptor,
    config_blob: Descriptor,
    layers: Vec<Descriptor>,
}

/// Where messages go.
#[derive(Clone)]
pub(super) struct Out(pub(super) mpsc::Sender<JsonMessage>);

impl Out {
    pub(super) async fn say(&self, message: JsonMessage) {
        // A client that has left is noticed elsewhere.
        let _ = self.0.send(message).await;
    }

    fn hint(&self, message: JsonMessage) {
        if self.0.capacity() > QUEUE / 2 {
            let _ = self.0.try_send(message);
        }
    }
}

/// The names of a pull: in the registry, and here.
fn names(remote: &str, name: &str) -> Result<(Reference, String)> {
    let invalid = |error: ferry_spec::reference::ReferenceError| Error::invalid(error.to_string());
    let given = Reference::parse(remote).map_err(invalid)?;
    let tagged = given.clone().with_default_tag();
    let name = match name {
        "" if given.digest().is_some() => match given.tag() {
            Some(tag) => given.repository().with_tag(tag).map_err(invalid)?.familiar(),
            None => given.repository().with_default_tag().familiar(),
        },
        "" => tagged.familiar(),
        name => {
            let local = Reference::parse(name).map_err(invalid)?;
            if local.digest().is_some() {
                return Err(Error::internal("cannot use digest in plugin tag"));
            }
            local.with_default_tag().familiar()
        }
    };
    Ok((tagged.digest_over_tag(), name))
}

impl Managed {
    /// Tells what rights a plugin in a registry wants. As in Docker, one that cannot be fetched wants none: its pull tells why.
    ///
    /// API: `GET /plugins/privileges`
    ///
    /// # Errors
    /// InvalidArgument for the name; Internal for what is no plugin.
    pub async fn privileges(&self, remote: &str, auth: Option<Credentials>) -> Result<Option<Vec<Privilege>>> {
        let (reference, _) = names(remote, "")?;
        let found = async {
            let repository = self.repository(&reference, auth, false)?;
            let (_, manifest) = resolve(&repository, &reference).await?;
            Ok::<_, Error>((repository, manifest))
        };
        let (repository, manifest) = match found.await {
            Ok(found) => found,
            Err(error) => {
                tracing::info!(plugin = remote, error = %error.text(), "privileges of a plugin not found out");
                return Ok(Some(Vec::new()));
            }
        };
        if manifest.config.media_type != CONFIG {
            return Err(Error::internal(format!("did not find plugin config for specified reference {reference}")));
        }
        let config = read_config(&repository, &manifest).await?.0;
        Ok(Some(privileges::of(&config)).filter(|list| !list.is_empty()))
    }

    pub(super) fn repository(
        &self,
        reference: &Reference,
        auth: Option<Credentials>,
        to_write: bool,
    ) -> Result<Repository> {
        let auth = auth.filter(|auth| !auth.is_empty());
        self.inner
            .images
            .registry()
            .plugin_repository(reference, auth, to_write)
            .context("error resolving plugin reference")
    }

    /// Installs a plugin and tells how it goes; a failure after the first message is the last one. Returns its name, too.
    ///
    /// API: `POST /plugins/pull`
    ///
    /// # Errors
    /// InvalidArgument for a name that is wrong or taken; what the registry says.
    pub async fn pull(&self, request: PluginPull) -> Result<(String, JsonMessageStream)> {
        let (reference, name) = names(&request.remote, &request.name)?;
        self.check_name(&name).map_err(|error| Error::invalid(error.text()))?;
        let managed = self.clone();
        let told_name = name.clone();
        let stream = begin(move |out| async move { managed.pull_now(&reference, &name, request, &out).await }).await?;
        Ok((told_name, stream))
    }

    async fn pull_now(&self, reference: &Reference, name: &str, request: PluginPull, out: &Out) -> Result<()> {
        let id = crate::ids::random_id();
        let folder = New::make(self.folder(&id))?;
        let fetched = self.fetch(reference, request.auth, &folder.0, out).await?;
        self.publish("pull", &reference.familiar(), name);
        privileges::check(&privileges::of(&fetched.config), &request.privileges)?;
        let managed = self.clone();
        let settings = PluginSettings::of(&fetched.config);
        let record = Record {
            id: id.clone(),
            name: name.to_owned(),
            reference: reference.to_string(),
            enabled: false,
            timeout_s: 0,
            config: fetched.config,
            settings,
            manifest: fetched.manifest,
            config_blob: fetched.config_blob,
            layers: fetched.layers,
        };
        let place = folder.0.clone();
        crate::blocking(move || {
            managed.unpack(&place, &record.layers)?;
            managed.add(record).map_err(|error| match error.kind() {
                ErrorKind::Conflict => Error::invalid(error.text()),
                _ => error,
            })
        })
        .await?;
        folder.keep();
        Ok(())
    }

    /// Replaces a plugin that does not run by another one of the same name.
    ///
    /// API: `POST /plugins/{name}/upgrade`
    ///
    /// # Errors
    /// NotFound; Conflict while it runs; as [`Managed::pull`].
    pub async fn upgrade(&self, local: &str, request: PluginPull) -> Result<(String, JsonMessageStream)> {
        let (reference, local) = names(&request.remote, local)?;
        let entry = self.find(&local)?;
        let name = entry.record().name;
        if entry.record().enabled {
            return Err(Error::conflict(format!("plugin must be disabled before upgrading: plugin {name} is enabled")));
        }
        let managed = self.clone();
        let stream =
            begin(move |out| async move { managed.upgrade_now(&entry, &reference, request, &out).await }).await?;
        Ok((name, stream))
    }

    async fn upgrade_now(
        &self,
        entry: &Arc<Entry>,
        reference: &Reference,
        request: PluginPull,
        out: &Out,
    ) -> Result<()> {
        let _verb = entry.verb.lock().await;
        let own = self.folder(&entry.id);
        // Beside it: a start clears it away, should this be cut short.
        let folder = New::make(self.folder(&crate::ids::random_id()))?;
        let fetched = self.fetch(reference, request.auth, &folder.0, out).await?;
        self.publish("pull", &reference.familiar(), &entry.record().name);
        privileges::check(&privileges::of(&fetched.config), &request.privileges)?;
        let managed = self.clone();
        let (entry, reference) = (Arc::clone(entry), reference.to_string());
        crate::blocking(move || {
            managed.unpack(&folder.0, &fetched.layers)?;
            take_off_mounts(&own);
            exchange(&folder.0, &own)?;
            let changed = managed.update(&entry, |record| {
                record.reference = reference;
                record.config = fetched.config;
                record.manifest = fetched.manifest;
                record.config_blob = fetched.config_blob;
                record.layers = fetched.layers;
                Ok(())
            });
            // The new folder holds the old files now, or the other way round, and goes.
            changed.inspect_err(|_| drop(exchange(&folder.0, &own)))
        })
        .await
    }

    async fn fetch(
        &self,
        reference: &Reference,
        auth: Option<Credentials>,
        folder: &Path,
        out: &Out,
    ) -> Result<Fetched> {
        let repository = self.repository(reference, auth, false)?;
        let (target, manifest) = resolve(&repository, reference).await?;
        if manifest.config.media_type != CONFIG {
            return Err(Error::internal("fetched plugin image but plugin config is missing"));
        }
        let tag = reference.tag().map_or_else(|| reference.to_string(), str::to_owned);
        out.say(progress::line(&tag, format!("Pulling from {}", reference.familiar_name()))).await;
        out.say(progress::line("", format!("Digest: {}", target.digest))).await;
        let (config, text) = read_config(&repository, &manifest).await?;
        blobs::put(folder, CONFIG, &text)?;
        let bytes = repository.manifest(&target).await.context("error fetching the plugin's manifest")?;
        blobs::put(folder, &target.media_type, &bytes)?;
        for layer in &manifest.layers {
            if !media_type::is_layer(&layer.media_type) || media_type::is_foreign_layer(&layer.media_type) {
                return Err(Error::internal(format!("layer {} of the plugin is no layer", layer.digest)));
            }
            let id: String = layer.digest.hex().chars().take(12).collect();
            out.say(progress::step(&id, "Pulling fs layer")).await;
            let total = i64::try_from(layer.size).unwrap_or(i64::MAX);
            let mut pace = progress::Pace::new();
            blobs::fetch(&repository, folder, layer, |current| {
                if pace.is_due() {
                    let current = i64::try_from(current).unwrap_or(i64::MAX);
                    out.hint(progress::amount(&id, "Downloading", Progress { current, total, ..Progress::default() }));
                }
            })
            .await?;
            out.say(progress::ended(&id, "Download complete")).await;
            out.say(progress::step(&id, "Complete")).await;
        }
        let config_blob = manifest.config.clone();
        Ok(Fetched { config, manifest: target, config_blob, layers: manifest.layers })
    }
}

/// Lets two plugins' files change places.
fn exchange(one: &Path, other: &Path) -> Result<()> {
    for part in [ROOTFS, "blobs"] {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(rustix::fs::CWD, one.join(part), rustix::fs::CWD, other.join(part), flags)
            .context("error upgrading")?;
    }
    Ok(())
}

/// Starts work that tells how it goes. It ends when the client leaves.
pub(super) async fn begin<F: Future<Output = Result<()>> + Send + 'static>(
    work: impl FnOnce(Out) -> F,
) -> Result<JsonMessageStream> {
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    // Nobody but the work may be able to tell something: its end is heard by that.
    let work = work(Out(sender.clone()));
    let worker = tokio::spawn(async move {
        tokio::select! {
            outcome = work => outcome,
            () = sender.closed() => Err(Error::internal("context canceled")),
        }
    });
    // What fails before there is something to tell is a plain failure.
    let Some(first) = receiver.recv().await else {
        return worker.await.context("work on a plugin panicked")?.map(|()| receiver);
    };
    let (forward, stream) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut next = Some(first);
        while let Some(message) = next {
            if forward.send(message).await.is_err() {
                return;
            }
            next = receiver.recv().await;
        }
        let failed = match worker.await {
            Ok(outcome) => outcome.err().map(|error| error.text()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(text) = failed {
            // Nobody to tell is no other failure.
            let _ = forward.send(JsonMessage::failed(text)).await;
        }
    });
    Ok(stream)
}

async fn resolve(repository: &Repository, reference: &Reference) -> Result<(Descriptor, Manifest)> {
    let resolving = "error resolving plugin reference";
    let mut target = repository.resolve(reference).await.context(resolving)?;
    for _ in 0..2 {
        let bytes = repository.manifest(&target).await.context(resolving)?;
        let document =
            Document::parse(&bytes, Some(&target.media_type)).context(format!("manifest {}", target.digest))?;
        match document {
            Document::Manifest(manifest) => return Ok((target, *manifest)),
            Document::Index(index) => {
                let host = Platform::host();
                let fitting = index
                    .manifests
                    .iter()
                    .filter(|child| child.platform.as_ref().is_none_or(|one| host.rank(one).is_some()));
                target = fitting.into_iter().next().cloned().ok_or_else(|| {
                    Error::not_found(format!("no matching manifest for {host} in the manifest list entries"))
                })?;
            }
        }
    }
    Err(Error::internal("fetched plugin image but manifest is missing"))
}

async fn read_config(repository: &Repository, manifest: &Manifest) -> Result<(PluginConfig, Vec<u8>)> {
    let text =
        repository.small_blob(&manifest.config, MAX_CONFIG_BYTES).await.context("error reading plugin config")?;
    let config =
        serde_json::from_slice(&text).map_err(|error| Error::internal(format!("failed to parse config: {error}")))?;
    fs_safe(&config)?;
    Ok((config, text))
}

/// The name of the socket is part of a path.
pub(super) fn fs_safe(config: &PluginConfig) -> Result<()> {
    let socket = &config.interface.socket;
    if socket.contains(['/', '\0']) || matches!(socket.as_str(), "." | "..") {
        return Err(Error::invalid(format!("plugin config has an invalid socket {socket:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_here_come_from_the_registrys() {
        let of = |remote: &str, name: &str| names(remote, name).map(|(reference, name)| (reference.to_string(), name));
        assert_eq!(of("a/b", "").unwrap(), ("docker.io/a/b:latest".to_owned(), "a/b:latest".to_owned()));
        assert_eq!(of("r:5/a/b:1", "").unwrap(), ("r:5/a/b:1".to_owned(), "r:5/a/b:1".to_owned()));
        assert_eq!(of("a/b:1", "mine").unwrap().1, "mine:latest");
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(of(&format!("a/b:1@{digest}"), "").unwrap().1, "a/b:1");
        assert_eq!(of(&format!("a/b@{digest}"), "").unwrap().1, "a/b:latest");
        assert!(of("a/b", &format!("c@{digest}")).is_err());
    }
}
