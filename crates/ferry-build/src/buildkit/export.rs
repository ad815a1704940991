//! What becomes of what was built: an image in the store or in a registry, an archive, or files of the client's.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ferry_buildkit_proto::messages::control::Exporter;
use ferry_engine::images::{Access, PushRequest, built_name};
use ferry_spec::reference::Reference;
use tokio::sync::mpsc;

use super::jobs::Job;
use super::{BuildKit, send};
use crate::builder::Built;
use crate::clock::now_ns;
use crate::exchange::write_blob;
use crate::failure::{Failure, Result, blocking};
use crate::image_form::ImageForm;
use crate::progress::Begun;
use crate::session::Lender;

/// How clients call the directory that an image is put into.
const LAYOUT: &str = "export";

/// Pieces that wait for a slow client.
const QUEUE: usize = 4;

/// What the client hears of an export, by BuildKit's names.
type Told = BTreeMap<String, String>;

/// One export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Export {
    /// Its place among all; the client knows where it goes by it.
    id: usize,
    kind: Kind,
    names: Vec<Reference>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Into the store, and from there to registries.
    Image { push: bool, plain_http: bool, form: Box<ImageForm> },
    /// An archive of the image.
    Archive { kind: &'static str, form: Box<ImageForm>, is_tar: bool },
    /// Files.
    Local { platform_split: bool, prefix: String },
    /// Files in an archive.
    Tar { prefix: String },
}

/// Attributes of images and archives that change nothing here, whatever their value: images are unpacked anyway, build information is no
/// longer written by BuildKit either, and statements about images are no files whose names could have a prefix.
const WITHOUT_EFFECT: [&str; 6] =
    ["unpack", "danging-name-empty-only", "buildinfo", "buildinfo-attrs", "context", "attestation-prefix"];

impl Export {
    /// Reads what a client asks for.
    pub(super) fn read(id: usize, exporter: &Exporter) -> Result<Self> {
        let attrs = &exporter.attrs;
        let names = attrs.get("name").map(String::as_str).unwrap_or_default();
        let mut all: Vec<Reference> = Vec::new();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let name = built_name(name)?;
            if !all.contains(&name) {
                all.push(name);
            }
        }
        let kind = match exporter.kind.as_str() {
            "image" | "moby" => {
                check_image_attributes(attrs)?;
                Kind::Image {
                    push: flag(attrs, "push")?,
                    plain_http: flag(attrs, "registry.insecure")?,
                    form: Box::new(ImageForm::read(attrs)?),
                }
            }
            form @ ("docker" | "oci") => {
                check_image_attributes(attrs)?;
                Kind::Archive {
                    kind: if form == "oci" { "oci" } else { "docker" },
                    form: Box::new(ImageForm::read(attrs)?),
                    is_tar: attrs.get("tar").is_none_or(|_| flag(attrs, "tar").unwrap_or(true)),
                }
            }
            files @ ("local" | "tar") if attrs.get("source-date-epoch").is_some_and(|value| !value.is_empty()) => {
                return Err(Failure::not_implemented(format!(
                    "attribute source-date-epoch of an output of type {files}"
                )));
            }
            "local" => {
                if attrs.get("mode").is_some_and(|mode| mode == "delete") {
                    return Err(Failure::not_implemented("output of type local with mode=delete"));
                }
                Kind::Local {
                    platform_split: !attrs.get("platform-split").is_some_and(|split| is_false(split)),
                    prefix: prefix(attrs),
                }
            }
            "tar" => Kind::Tar { prefix: prefix(attrs) },
            other => return Err(Failure::invalid(format!("exporter {other:?} could not be found"))),
        };
        Ok(Self { id, kind, names: all })
    }

    /// The step that is shown.
    fn title(&self) -> String {
        match &self.kind {
            Kind::Image { .. } => "exporting to image".to_owned(),
            Kind::Archive { kind, .. } => format!("exporting to {kind} image format"),
            Kind::Local { .. } => "exporting to client directory".to_owned(),
            Kind::Tar { .. } => "exporting to client tarball".to_owned(),
        }
    }
}

fn check_image_attributes(attrs: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in attrs {
        let is_fine = match name.as_str() {
            "name" | "push" | "registry.insecure" | "prefer-image-digest" | "tar" | "dest" => true,
            // The configuration of what a client defined itself is read with the result.
            name if name.starts_with("containerimage.config") => true,
            name if ImageForm::reads(name) => true,
            "push-by-digest" | "rewrite-timestamp" | "name-canonical" => is_false(value),
            "store" => !is_false(value),
            "dangling-name-prefix" | "source-date-epoch" => value.is_empty(),
            name => WITHOUT_EFFECT.contains(&name),
        };
        if !is_fine {
            return Err(Failure::not_implemented(format!("attribute {name}={value} of an image that is exported")));
        }
    }
    Ok(())
}

/// What goes before the names of statements among files.
fn prefix(attrs: &BTreeMap<String, String>) -> String {
    attrs.get("attestation-prefix").cloned().unwrap_or_default()
}

fn is_false(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "0" | "f" | "false")
}

/// A truth value as Go reads it.
fn flag(attrs: &BTreeMap<String, String>, name: &str) -> Result<bool> {
    match attrs.get(name).map(String::as_str) {
        None => Ok(false),
        // Written alone it is true.
        Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(Failure::invalid(format!("non-bool value {other:?} specified for {name}"))),
    }
}

impl BuildKit {
    /// Exports what was built; returns what the client hears of it.
    pub(super) async fn export(&self, job: &Job, built: &mut Built, export: Export) -> Result<Told> {
        let begun = job.reporter.internal(export.title());
        let exported = self.export_as(job, built, &export, &begun).await;
        match &exported {
            Ok(_) => begun.done(),
            Err(failure) => begun.failed(failure.message.clone()),
        }
        exported
    }

    async fn export_as(&self, job: &Job, built: &mut Built, export: &Export, begun: &Begun) -> Result<Told> {
        match &export.kind {
            Kind::Image { push, plain_http, form } => {
                self.builder.export_image(built, &export.names, form, begun).await?;
                if *push {
                    self.push(job, export, *plain_http, begun).await?;
                }
                Ok(told_of_image(built, &export.names))
            }
            Kind::Archive { form, is_tar: true, .. } => self.archive(job, built, export, form, begun).await,
            Kind::Archive { form, .. } => self.layout(job, built, export, form, begun).await,
            Kind::Local { platform_split, prefix } => {
                let built = self.builder.with_statements(built.clone(), prefix).await?;
                let single = built.targets.len() == 1 && !built.is_index;
                if !platform_split && built.targets.len() > 1 {
                    return Err(Failure::not_implemented("files of several platforms in one directory"));
                }
                let below = |platform: &ferry_spec::platform::Platform| match single {
                    true => String::new(),
                    false => platform.to_string().replace('/', "_"),
                };
                let trees = built.targets.iter().map(|target| (below(&target.platform), target.tree.clone())).collect();
                let session = self.sessions.find(&job.session).await?;
                let workshop = &self.builder.ground().engine.workshop;
                let started = now_ns();
                let sent = send::trees(&session, export.id, trees, workshop).await?;
                begun.status("copying files", amount(sent), 0, started, true);
                Ok(Told::new())
            }
            Kind::Tar { prefix } => {
                let built = self.builder.with_statements(built.clone(), prefix).await?;
                let session = self.sessions.find(&job.session).await?;
                let (made, mut making) = mpsc::channel::<Vec<u8>>(QUEUE);
                let (sender, pieces) = mpsc::channel(QUEUE);
                let carrying = async {
                    while let Some(piece) = making.recv().await {
                        if sender.send(Bytes::from(piece)).await.is_err() {
                            break;
                        }
                    }
                    drop(sender);
                };
                let started = now_ns();
                let writing = self.builder.write_tar(&built, made);
                let sending = send::bytes(&session, export.id, pieces);
                let (written, (), sent) = tokio::join!(writing, carrying, sending);
                let sent = sent?;
                written?;
                begun.status("sending tarball", amount(sent), 0, started, true);
                Ok(Told::new())
            }
        }
    }

    /// Sends an archive of the image, which the store keeps no longer than that.
    async fn archive(
        &self,
        job: &Job,
        built: &mut Built,
        export: &Export,
        form: &ImageForm,
        begun: &Begun,
    ) -> Result<Told> {
        let attest = built.attest.beside_files();
        self.builder.write_image(built, &export.names, form, attest, begun).await?;
        let Some(target) = built.image.clone() else { return Err(Failure::internal("an image that was not written")) };
        let session = self.sessions.find(&job.session).await?;
        let images = &self.builder.ground().engine.images;
        let pieces = images.save_built(target, export.names.clone()).await?;
        let started = now_ns();
        let sent = send::bytes(&session, export.id, pieces).await?;
        begun.status("sending tarball", amount(sent), 0, started, true);
        Ok(told_of_image(built, &export.names))
    }

    /// Puts the image into a directory of the client's, which the store keeps no longer than that.
    async fn layout(
        &self,
        job: &Job,
        built: &mut Built,
        export: &Export,
        form: &ImageForm,
        begun: &Begun,
    ) -> Result<Told> {
        let attest = built.attest.beside_files();
        self.builder.write_image(built, &export.names, form, attest, begun).await?;
        let Some(target) = built.image.clone() else { return Err(Failure::internal("an image that was not written")) };
        let store = self.lent(&job.session).content(LAYOUT).await?;
        let store = store.ok_or_else(|| Failure::invalid("the client offers no directory for the image"))?;
        let images = self.builder.ground().engine.images.clone();
        let looking = images.clone();
        let blobs = blocking(move || Ok(looking.blobs_of(&target)?)).await?;
        let started = now_ns();
        for blob in &blobs {
            write_blob(&store, &images, blob).await?;
        }
        begun.status("copying files", amount(blobs.iter().map(|blob| blob.size).sum()), 0, started, true);
        Ok(told_of_image(built, &export.names))
    }

    async fn push(&self, job: &Job, export: &Export, plain_http: bool, begun: &Begun) -> Result<()> {
        if export.names.is_empty() {
            return Err(Failure::invalid("tag is needed when pushing to registry"));
        }
        let engine = &self.builder.ground().engine;
        let client = self.client(&job.session);
        for name in &export.names {
            let started = now_ns();
            let title = format!("pushing manifest for {name}");
            begun.status(&title, 0, 0, started, false);
            let request = PushRequest {
                reference: name.to_string(),
                auth: client.credentials(name.domain()).await?,
                access: Access { plain_http, ..Access::default() },
                ..PushRequest::default()
            };
            let mut progress = engine.images.push(request).await?;
            let mut parts = BTreeMap::new();
            while let Some(message) = progress.recv().await {
                if let Some(error) = message.error_detail {
                    return Err(Failure::internal(format!("failed to push {name}: {}", error.message)));
                }
                if let Some(amount) = message.progress_detail.filter(|_| !message.id.is_empty()) {
                    let part = format!("pushing {}", message.id);
                    begun.status(&part, amount.current, amount.total, started, false);
                    parts.insert(part, amount);
                }
            }
            for (part, amount) in &parts {
                begun.status(part, amount.total.max(amount.current), amount.total, started, true);
            }
            begun.status(&title, 0, 0, started, true);
        }
        Ok(())
    }
}

fn amount(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(super) fn told_of_image(built: &Built, names: &[Reference]) -> Told {
    let mut told = Told::new();
    if let Some(image) = &built.image {
        told.insert("containerimage.digest".to_owned(), image.digest.to_string());
        let descriptor = serde_json::to_vec(image).unwrap_or_default();
        told.insert("containerimage.descriptor".to_owned(), STANDARD.encode(descriptor));
    }
    if let Some(config) = built.config_digest.as_ref().filter(|_| !built.has_index) {
        told.insert("containerimage.config.digest".to_owned(), config.to_string());
    }
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        told.insert("image.name".to_owned(), names.join(","));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, attrs: &[(&str, &str)]) -> Result<Export> {
        let attrs = attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Export::read(0, &Exporter { kind: kind.to_owned(), attrs })
    }

    #[test]
    fn exports_are_read_and_what_is_not_built_is_refused() {
        let image = read("moby", &[("name", "a,b:1,a:latest"), ("push", "true"), ("unpack", "false")]).unwrap();
        assert_eq!(image.names.iter().map(ToString::to_string).collect::<Vec<_>>().len(), 2);
        assert!(matches!(image.kind, Kind::Image { push: true, plain_http: false, .. }));
        assert_eq!(read("local", &[]).unwrap().title(), "exporting to client directory");
        assert_eq!(read("oci", &[("tar", "true")]).unwrap().title(), "exporting to oci image format");
        for (kind, attrs, text) in [
            ("x", &[][..], "exporter \"x\" could not be found"),
            ("image", &[("push", "maybe")], "non-bool value \"maybe\" specified for push"),
            ("image", &[("compression", "estargz")], "not implemented: compression=estargz of layers"),
            ("image", &[("annotation-x.a", "b")], "unrecognized annotation type annotation-x"),
            ("image", &[("store", "false")], "not implemented: attribute store=false of an image that is exported"),
            (
                "image",
                &[("source-date-epoch", "1")],
                "not implemented: attribute source-date-epoch=1 of an image that is exported",
            ),
            (
                "tar",
                &[("source-date-epoch", "1")],
                "not implemented: attribute source-date-epoch of an output of type tar",
            ),
            ("image", &[("name", "a@sha256:x")], "invalid tag \"a@sha256:x\""),
        ] {
            assert_eq!(read(kind, attrs).unwrap_err().message.split(": invalid ref").next(), Some(text));
        }
    }
}
