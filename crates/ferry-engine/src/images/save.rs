//! Saving: images become an archive that any engine loads.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use ferry_spec::{Descriptor, Platform, Reference};
use ferry_store::archive::{SaveChoice, SavePlan, SavedImage};
use ferry_store::{ImageRecord, Lease};
use tokio::sync::mpsc;

use super::names::{familiar, is_dangling, no_such_image};
use super::resolve::platform_not_found;
use super::{Images, Inner};
use crate::error::{Context, Error, Result};

/// Bytes of an archive as they are made.
pub type ArchiveStream = mpsc::Receiver<Bytes>;

/// Pieces that a client may be behind.
const QUEUE: usize = 8;
/// Bytes of a piece.
const PIECE: usize = 256 * 1024;

impl Images {
    /// Makes an archive of images: by name, by id, or every tag of a repository that is named without one. With one platform each image is
    /// reduced to its manifest for it, with several the index keeps those.
    ///
    /// The stream ends early when content proves damaged; its last bytes then say so, in the form in which Docker says it.
    ///
    /// API: `GET /images/get`
    ///
    /// # Errors
    /// NotFound for an image or a platform.
    pub async fn save(&self, names: Vec<String>, platforms: Vec<Platform>) -> Result<ArchiveStream> {
        let (plan, lease) = self
            .blocking(move |inner| {
                let lease = inner.store.lease();
                Ok((inner.plan_save(&names, platforms)?, lease))
            })
            .await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let inner = std::sync::Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || inner.send_archive(&plan, lease, sender));
        Ok(receiver)
    }

    /// Makes an archive of an image that a build has written and that may have no name here; whoever asks holds it.
    ///
    /// # Errors
    /// When its content cannot be read.
    pub async fn save_built(&self, target: Descriptor, names: Vec<Reference>) -> Result<ArchiveStream> {
        let (plan, lease) = self
            .blocking(move |inner| {
                let lease = inner.store.lease();
                let saved = |name: Option<Reference>| SavedImage { target: target.clone(), name };
                let images: Vec<SavedImage> = match names.is_empty() {
                    true => vec![saved(None)],
                    false => names.into_iter().map(|name| saved(Some(name))).collect(),
                };
                let choice = SaveChoice { platforms: Vec::new(), preferred: inner.host.clone() };
                Ok((inner.store.plan_archive(&images, &choice).context("cannot save the image")?, lease))
            })
            .await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let inner = std::sync::Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || inner.send_archive(&plan, lease, sender));
        Ok(receiver)
    }
}

impl Inner {
    fn plan_save(&self, names: &[String], platforms: Vec<Platform>) -> Result<SavePlan> {
        let mut images = Vec::new();
        for name in names {
            for (record, reference) in self.named_for_save(name)? {
                let target = match &platforms[..] {
                    [platform] => self.present_manifest(&record, platform).map_err(|error| {
                        Error::new(error.kind(), format!("no suitable export target found: {}", error.text()))
                    })?,
                    _ => record.target.clone(),
                };
                let target = self.with_blobs(&target)?.unwrap_or(target);
                let id = target.digest.to_string();
                self.publish("save", &id, &id, Some(&record.target.digest));
                images.push(SavedImage { target, name: reference });
            }
        }
        let choice = SaveChoice { platforms, preferred: self.host.clone() };
        self.store.plan_archive(&images, &choice).context("cannot save the images")
    }

    /// Finds what a name on the command line of `save` means, with the name that each image gets in the archive.
    fn named_for_save(&self, text: &str) -> Result<Vec<(ImageRecord, Option<Reference>)>> {
        let found = self.find(text);
        let reference = Reference::parse(text);
        let by_id = found.as_ref().is_ok_and(|record| {
            let hex = text.strip_prefix("sha256:").unwrap_or(text);
            record.target.digest.hex().starts_with(hex)
        });
        let by_digest = by_id || reference.as_ref().is_ok_and(|reference| reference.digest().is_some());
        if let Ok(named) = &reference
            && named.tag().is_none()
            && !by_digest
        {
            let all = self.tags_of(named);
            if all.is_empty() {
                return Err(no_such_image(&ferry_spec::reference::AnyReference::Named(named.clone())));
            }
            return Ok(all.into_iter().map(|record| (record.clone(), Some(record.reference))).collect());
        }
        let record = found?;
        let name = if by_digest { None } else { Some(reference.map_err(|error| Error::invalid(error.to_string()))?) };
        Ok(vec![(record, name)])
    }

    /// Returns every tag of a repository, in the order of the names.
    pub(super) fn tags_of(&self, repository: &Reference) -> Vec<ImageRecord> {
        let name = repository.name();
        let state = self.state();
        let records = state.names.values().filter(|record| !is_dangling(record) && record.reference.name() == name);
        records.filter(|record| record.reference.tag().is_some()).cloned().collect()
    }

    /// Returns the manifest of an image for `platform`, which must be here with all of its content.
    pub(super) fn present_manifest(&self, record: &ImageRecord, platform: &Platform) -> Result<Descriptor> {
        let all = self.manifests(&record.target);
        let mut fitting = all.iter().filter(|parsed| platform.is_same(&parsed.platform()) && self.has_all(parsed));
        let found = fitting.next().ok_or_else(|| platform_not_found(&familiar(record), Some(platform)))?;
        if fitting.next().is_some() {
            return Err(Error::conflict(format!("multiple manifests found for platform {platform}")));
        }
        Ok(found.descriptor.clone())
    }

    fn send_archive(&self, plan: &SavePlan, lease: Lease, sender: mpsc::Sender<Bytes>) {
        let mut out = Pieces { sender, waiting: BytesMut::new(), gone: false };
        let written = self.store.write_archive(plan, &mut out);
        drop(lease);
        if let Err(error) = written
            && !out.gone
        {
            let text = Error::internal("cannot save the images").with_source(error).text();
            tracing::error!(error = text, "archive ends early");
            let message = ferry_api::stream::JsonMessage::failed(text);
            let line = serde_json::to_vec(&message).unwrap_or_default();
            // A client that has left meanwhile misses nothing.
            let _ = out.write_all(&line).and_then(|()| out.flush());
        }
    }
}

/// Hands bytes over in pieces of one size.
struct Pieces {
    sender: mpsc::Sender<Bytes>,
    waiting: BytesMut,
    gone: bool,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..count]);
        if self.waiting.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.waiting, BytesMut::with_capacity(PIECE)).freeze();
        self.sender.blocking_send(piece).map_err(|_| {
            self.gone = true;
            io::Error::new(io::ErrorKind::BrokenPipe, "the client has left")
        })
    }
}
