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
use crate::builder::{BuildRequest, Building, Built};
use crate::clock::now_ns;
use crate::epoch::Epoch;
use crate::exchange::write_blob;
use crate::failure::{Failure, Result, blocking};
use crate::image_form::ImageForm;
use crate::progress::{Begun, Reporter};
use crate::solve::{SolveOptions, credentials_for};

/// How clients call the directory that an image is put into.
const LAYOUT: &str = "export";

/// Pieces that wait for a slow client.
const QUEUE: usize = 4;

/// What the client hears of an export, by BuildKit's names.
type Told = BTreeMap<String, String>;

/// One export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Its place among all; the client knows where it goes by it.
    id: usize,
    kind: Kind,
    names: Vec<Reference>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Into the store, and from there to registries.
    Image(Box<ImageOrder>),
    /// An archive of the image.
    Archive { kind: &'static str, form: Box<ImageForm>, is_tar: bool },
    /// Files.
    Local { platform_split: bool, prefix: String, epoch: Epoch },
    /// Files in an archive.
    Tar { prefix: String, epoch: Epoch },
}

/// What becomes of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ImageOrder {
    form: ImageForm,
    pushes: bool,
    plain_http: bool,
    /// It gets no name, here or there.
    by_digest: bool,
    /// It stays in the store.
    is_stored: bool,
}

/// Who takes what was built, and hears how that goes.
pub(super) struct Taker {
    /// The session of the client; empty for none.
    pub(super) session: String,
    pub(super) options: SolveOptions,
    pub(super) reporter: Reporter,
}

impl Taker {
    pub(super) fn of(job: &Job) -> Self {
        Self { session: job.session.clone(), options: job.options.clone(), reporter: job.reporter.clone() }
    }
}

/// Attributes of images and archives that change nothing here, whatever their value: images are unpacked anyway, build information is no
/// longer written by BuildKit either, statements about images are no files whose names could have a prefix, images without a name are kept
/// as they are, and those with one are found by their digests, too.
const WITHOUT_EFFECT: [&str; 8] = [
    "unpack",
    "danging-name-empty-only",
    "dangling-name-prefix",
    "name-canonical",
    "buildinfo",
    "buildinfo-attrs",
    "context",
    "attestation-prefix",
];

impl Export {
    /// Reads outputs: the kind of each, and its attributes.
    ///
    /// # Errors
    /// InvalidArgument in BuildKit's words.
    pub fn read_all(outputs: Vec<(String, BTreeMap<String, String>)>) -> Result<Vec<Self>> {
        let read = |(id, (kind, attrs))| Self::read(id, &Exporter { kind, attrs });
        outputs.into_iter().enumerate().map(read).collect()
    }

    /// Reads what a client asks for.
    pub(super) fn read(id: usize, exporter: &Exporter) -> Result<Self> {
        let attrs = &exporter.attrs;
        let by_digest = exporter.kind != "local" && exporter.kind != "tar" && flag(attrs, "push-by-digest")?;
        let names = attrs.get("name").map(String::as_str).unwrap_or_default();
        let mut all: Vec<Reference> = Vec::new();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let is_tagged = Reference::parse(name).is_ok_and(|name| name.tag().is_some());
            if by_digest && is_tagged {
                return Err(Failure::invalid(format!("can't push tagged ref {name} by digest")));
            }
            let name = built_name(name)?;
            if !all.contains(&name) {
                all.push(name);
            }
        }
        let kind = match exporter.kind.as_str() {
            "image" | "moby" => {
                check_image_attributes(attrs)?;
                let (pushes, form) = (flag(attrs, "push")?, ImageForm::read(attrs)?);
                Kind::Image(Box::new(ImageOrder {
                    form: if pushes { form.that_travels() } else { form },
                    pushes,
                    plain_http: flag(attrs, "registry.insecure")?,
                    by_digest,
                    is_stored: !attrs.contains_key("store") || flag(attrs, "store")?,
                }))
            }
            form @ ("docker" | "oci") => {
                check_image_attributes(attrs)?;
                Kind::Archive {
                    kind: if form == "oci" { "oci" } else { "docker" },
                    form: Box::new(ImageForm::read(attrs)?.that_travels()),
                    is_tar: attrs.get("tar").is_none_or(|_| flag(attrs, "tar").unwrap_or(true)),
                }
            }
            "local" => {
                if attrs.get("mode").is_some_and(|mode| mode == "delete") {
                    return Err(Failure::not_implemented("output of type local with mode=delete"));
                }
                Kind::Local {
                    platform_split: !attrs.get("platform-split").is_some_and(|split| is_false(split)),
                    prefix: prefix(attrs),
                    epoch: Epoch::read(attrs)?,
                }
            }
            "tar" => Kind::Tar { prefix: prefix(attrs), epoch: Epoch::read(attrs)? },
            other => return Err(Failure::invalid(format!("exporter {other:?} could not be found"))),
        };
        Ok(Self { id, kind, names: all })
    }

    /// The step that is shown.
    fn title(&self) -> String {
        match &self.kind {
            Kind::Image(_) => "exporting to image".to_owned(),
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
            "push-by-digest" | "store" => true,
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
    /// Starts a build whose outputs go where they are meant to; `session` is the client's, empty for none.
    #[must_use]
    pub fn start_exporting(&self, request: BuildRequest, exports: Vec<Export>, session: &str) -> Building {
        let (buildkit, session, options) = (self.clone(), session.to_owned(), request.solve.clone());
        self.builder.start_with(request, |reporter, mut built| async move {
            let taker = Taker { session, options, reporter };
            // Nothing is built when something else was asked for.
            let exports = if built.answer.is_some() { Vec::new() } else { exports };
            for export in exports {
                buildkit.export(&taker, &mut built, export).await?;
            }
            Ok(built)
        })
    }

    /// Exports what was built; returns what the client hears of it.
    pub(super) async fn export(&self, taker: &Taker, built: &mut Built, export: Export) -> Result<Told> {
        let begun = taker.reporter.internal(export.title());
        let exported = self.export_as(taker, built, &export, &begun).await;
        begun.ended(exported)
    }

    async fn export_as(&self, taker: &Taker, built: &mut Built, export: &Export, begun: &Begun) -> Result<Told> {
        match &export.kind {
            Kind::Image(order) => {
                if order.is_stored && !order.by_digest {
                    self.builder.export_image(built, &export.names, &order.form, begun).await?;
                } else {
                    let attest = built.attest.clone();
                    self.builder.write_image(built, &export.names, &order.form, attest, begun).await?;
                }
                if order.pushes {
                    self.push(taker, built, &export.names, order, begun).await?;
                }
                Ok(told_of_image(built, &export.names))
            }
            Kind::Archive { form, is_tar: true, .. } => self.archive(taker, built, export, form, begun).await,
            Kind::Archive { form, .. } => self.layout(taker, built, export, form, begun).await,
            Kind::Local { platform_split, prefix, epoch } => {
                let built = self.builder.with_statements(built.clone(), prefix).await?;
                let single = built.targets.len() == 1 && !built.is_index;
                if !platform_split && built.targets.len() > 1 {
                    return Err(Failure::not_implemented("files of several platforms in one directory"));
                }
                let below = |platform: &ferry_spec::platform::Platform| match single {
                    true => String::new(),
                    false => platform.to_string().replace('/', "_"),
                };
                let trees = built
                    .targets
                    .iter()
                    .map(|target| (below(&target.platform), target.tree.clone(), epoch.or(target.epoch)));
                let trees = trees.collect();
                let session = self.sessions.find(&taker.session).await?;
                let workshop = &self.builder.ground().engine.workshop;
                let started = now_ns();
                let sent = send::trees(&session, export.id, trees, workshop).await?;
                begun.status("copying files", amount(sent), 0, started, true);
                Ok(Told::new())
            }
            Kind::Tar { prefix, epoch } => {
                let built = self.builder.with_statements(built.clone(), prefix).await?;
                let session = self.sessions.find(&taker.session).await?;
                let (made, mut making) = mpsc::channel::<Vec<u8>>(QUEUE);
                let (sender, pieces) = mpsc::channel(QUEUE);
                // It owns both ends, so that whoever writes is not left waiting when nobody takes any more.
                let carrying = async move {
                    while let Some(piece) = making.recv().await {
                        if sender.send(Bytes::from(piece)).await.is_err() {
                            break;
                        }
                    }
                    drop(sender);
                };
                let started = now_ns();
                let writing = self.builder.write_tar(&built, *epoch, made);
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
        taker: &Taker,
        built: &mut Built,
        export: &Export,
        form: &ImageForm,
        begun: &Begun,
    ) -> Result<Told> {
        let attest = built.attest.beside_files();
        self.builder.write_image(built, &export.names, form, attest, begun).await?;
        let Some(target) = built.image.clone() else { return Err(Failure::internal("an image that was not written")) };
        let session = self.sessions.find(&taker.session).await?;
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
        taker: &Taker,
        built: &mut Built,
        export: &Export,
        form: &ImageForm,
        begun: &Begun,
    ) -> Result<Told> {
        let attest = built.attest.beside_files();
        self.builder.write_image(built, &export.names, form, attest, begun).await?;
        let Some(target) = built.image.clone() else { return Err(Failure::internal("an image that was not written")) };
        let store = self.lent(&taker.session).content(LAYOUT).await?;
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

    async fn push(
        &self,
        taker: &Taker,
        built: &Built,
        names: &[Reference],
        order: &ImageOrder,
        begun: &Begun,
    ) -> Result<()> {
        if names.is_empty() {
            return Err(Failure::invalid("tag is needed when pushing to registry"));
        }
        let Some(target) = built.image.clone() else { return Err(Failure::internal("an image that was not written")) };
        let engine = &self.builder.ground().engine;
        let session = match taker.session.as_str() {
            "" => taker.options.session.clone(),
            session => taker.options.session.clone().or(self.lent(session)),
        };
        let options = SolveOptions { session, ..taker.options.clone() };
        for name in names {
            let name = match order.by_digest {
                true => name.repository().with_digest(target.digest.clone()),
                false => name.clone(),
            };
            let started = now_ns();
            let title = format!("pushing manifest for {name}");
            begun.status(&title, 0, 0, started, false);
            let request = PushRequest {
                reference: name.to_string(),
                auth: credentials_for(&options, name.domain()).await?,
                access: Access { plain_http: order.plain_http, ..Access::default() },
                target: Some(target.clone()),
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
        assert!(matches!(&image.kind, Kind::Image(order) if order.pushes && !order.plain_http && order.is_stored));
        let unnamed = read("image", &[("name", "a"), ("push-by-digest", "true"), ("store", "false")]).unwrap();
        assert!(matches!(&unnamed.kind, Kind::Image(order) if order.by_digest && !order.is_stored));
        assert_eq!(read("local", &[]).unwrap().title(), "exporting to client directory");
        assert_eq!(read("oci", &[("tar", "true")]).unwrap().title(), "exporting to oci image format");
        for (kind, attrs, text) in [
            ("x", &[][..], "exporter \"x\" could not be found"),
            ("image", &[("push", "maybe")], "non-bool value \"maybe\" specified for push"),
            ("image", &[("compression", "estargz")], "not implemented: compression=estargz of layers"),
            ("image", &[("annotation-x.a", "b")], "unrecognized annotation type annotation-x"),
            ("image", &[("other", "1")], "not implemented: attribute other=1 of an image that is exported"),
            ("image", &[("name", "a:1"), ("push-by-digest", "true")], "can't push tagged ref a:1 by digest"),
            (
                "tar",
                &[("source-date-epoch", "x")],
                "invalid source-date-epoch: x: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            ("image", &[("name", "a@sha256:x")], "invalid tag \"a@sha256:x\""),
        ] {
            assert_eq!(read(kind, attrs).unwrap_err().message.split(": invalid ref").next(), Some(text));
        }
    }
}
