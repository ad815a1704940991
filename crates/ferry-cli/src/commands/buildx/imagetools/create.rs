//! `buildx imagetools create`: one image made of others, in registries.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use ferry_api::build::{Event, LogPiece, VertexState};
use ferry_registry::{BlobSource, Repository};
use ferry_spec::manifest::{Document, Index};
use ferry_spec::{Descriptor, Digest, Platform, Reference, media_type};
use rustix::fs::{Mode, OFlags};
use serde_json::json;

use super::super::check_builder;
use super::{LIMIT, failed, is_local, reference, to_read, worded};
use crate::commands::build::attests::annotations;
use crate::commands::build::shown::Shown;
use crate::commands::manifest::remote::Registry;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::{Parsed, go_quote};

/// One thing that the new image is made of.
struct Source {
    name: Reference,
    descriptor: Descriptor,
    bytes: Vec<u8>,
}

/// What a source is typed as.
enum Typed {
    Name(Reference),
    Digest(Digest),
    Descriptor(Box<Descriptor>),
}

/// The new image: its document, and where each of its parts comes from.
struct Made {
    descriptor: Descriptor,
    bytes: Vec<u8>,
    parts: Vec<(Descriptor, Reference)>,
}

/// Runs `buildx imagetools create`.
pub(in crate::commands) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    check_builder(parsed)?;
    let mut texts = Vec::new();
    for path in parsed.all("file") {
        texts.push(std::fs::read_to_string(path).map_err(|error| failed(format!("open {path}: {error}")))?);
    }
    texts.extend(parsed.args.iter().cloned());
    if texts.is_empty() {
        return Err(failed("no sources specified"));
    }
    let tags = parsed.all("tag").iter().map(|tag| reference(tag)).collect::<Result<Vec<_>>>()?;
    if !parsed.on("dry-run") && tags.is_empty() {
        return Err(failed("can't push with no tags specified, please set --tag or --dry-run"));
    }
    if parsed.on("append")
        && let Some(first) = parsed.all("tag").first()
    {
        texts.insert(0, first.clone());
    }
    let typed = texts.iter().map(|text| read(text)).collect::<Result<Vec<_>>>()?;
    let named = with_names(&texts, typed, &tags)?;
    let wanted = platforms(parsed.all("platform"))?;
    let mut sources = Vec::new();
    for (name, given) in named {
        sources.push(fetch(context, name, given).await?);
    }
    let notes = annotations(parsed.all("annotation"))?;
    let made = combine(&sources, &notes, parsed.on_or("prefer-index", true))?;
    let made = only_for(made, &wanted)?;
    if parsed.on("dry-run") {
        context.printer.data([&made.bytes[..], b"\n"].concat())?;
        return Ok(0);
    }
    let mut shown = Shown::named(parsed.text_or_empty("progress"))?;
    for tag in &tags {
        push(context, tag, &made, &mut shown).await?;
    }
    shown.draw(context, true);
    if let Some(path) = parsed.text("metadata-file") {
        let names: Vec<String> = tags.iter().map(ToString::to_string).collect();
        let told = json!({ "containerimage.descriptor": made.descriptor, "containerimage.digest": made.descriptor.digest,
            "image.name": names.join(",") });
        std::fs::write(path, serde_json::to_string_pretty(&told).map_err(failed)?)?;
    }
    Ok(0)
}

/// A source is a digest, a name, or a descriptor as JSON.
fn read(text: &str) -> Result<Typed> {
    let wrong = |reason: String| {
        failed(format!(
            "failed to parse source {}, valid sources are digests, references and descriptors: {reason}",
            go_quote(text)
        ))
    };
    if text.starts_with("sha256") {
        return Digest::parse(text).map(Typed::Digest).map_err(|error| wrong(error.to_string()));
    }
    if text.trim_start().starts_with('{') {
        let descriptor = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        return Ok(Typed::Descriptor(Box::new(descriptor)));
    }
    Reference::parse_with_default_tag(text).map(Typed::Name).map_err(|error| wrong(error.to_string()))
}

/// Where each source is: what has no name of its own lies in the only repository that anything names.
fn with_names(texts: &[String], typed: Vec<Typed>, tags: &[Reference]) -> Result<Vec<(Reference, Option<Descriptor>)>> {
    let of_sources = typed.iter().filter_map(|one| match one {
        Typed::Name(name) => Some(name.name()),
        _ => None,
    });
    let repositories: BTreeSet<String> = tags.iter().map(Reference::name).chain(of_sources).collect();
    if repositories.is_empty() {
        return Err(failed("no repositories specified, please set a reference in tag or source"));
    }
    let only = |text: &str| match repositories.len() {
        1 => reference(repositories.first().map_or("", String::as_str)),
        _ => Err(failed(format!("multiple repositories specified, cannot infer repository for {}", go_quote(text)))),
    };
    let named = typed.into_iter().zip(texts).map(|(one, text)| {
        Ok(match one {
            Typed::Name(name) => (name, None),
            Typed::Digest(digest) => (only(text)?.repository().with_digest(digest), None),
            Typed::Descriptor(descriptor) => {
                (only(text)?.repository().with_digest(descriptor.digest.clone()), Some(*descriptor))
            }
        })
    });
    named.collect()
}

fn platforms(given: &[String]) -> Result<Vec<Platform>> {
    let all = given.iter().flat_map(|text| text.split(','));
    all.map(|text| {
        Platform::parse(text)
            .map(|platform| platform.normalized())
            .map_err(|error| failed(format!("invalid platform {}: {error}", go_quote(text))))
    })
    .collect()
}

/// Fetches a source; what was said of it in its descriptor goes before what the registry says.
async fn fetch(context: &Context, name: Reference, given: Option<Descriptor>) -> Result<Source> {
    let repository = to_read(context, &name)?;
    let (mut descriptor, bytes) = super::fetch(&repository, &name).await?;
    if let Some(given) = given {
        if given.size != 0 && given.size != descriptor.size {
            return Err(failed(format!(
                "invalid size mismatch for {}, {} != {}",
                descriptor.digest, given.size, descriptor.size
            )));
        }
        if !given.media_type.is_empty() {
            descriptor.media_type = given.media_type;
        }
        if !given.annotations.is_empty() {
            descriptor.annotations = given.annotations;
        }
        descriptor.platform = given.platform.or(descriptor.platform);
    }
    if let Document::Manifest(manifest) = Document::parse(&bytes, Some(&descriptor.media_type)).map_err(failed)? {
        let mut platform = descriptor.platform.take().unwrap_or_default();
        if platform.os.is_empty() || platform.architecture.is_empty() {
            let config = repository.small_blob(&manifest.config, LIMIT).await.map_err(|error| worded(&name, error))?;
            let told: Platform = serde_json::from_slice(&config).map_err(failed)?;
            let told = told.normalized();
            if platform.architecture.is_empty() {
                platform.architecture = told.architecture;
                platform.variant = platform.variant.or(told.variant);
            }
            if platform.os.is_empty() {
                platform.os = told.os;
            }
        }
        descriptor.platform = Some(platform);
    }
    Ok(Source { name, descriptor, bytes })
}

/// Puts sources together: one alone stays as it is, unless an index of it is wanted.
fn combine(sources: &[Source], notes: &BTreeMap<String, String>, prefers_index: bool) -> Result<Made> {
    if let [only] = sources
        && notes.is_empty()
    {
        let is_index = media_type::is_index(&only.descriptor.media_type);
        if is_index || !prefers_index {
            let parts = match is_index {
                true => index(&only.bytes)?.manifests.into_iter().map(|part| (part, only.name.clone())).collect(),
                false => vec![(only.descriptor.clone(), only.name.clone())],
            };
            return Ok(Made { descriptor: only.descriptor.clone(), bytes: only.bytes.clone(), parts });
        }
    }
    let mut parts: Vec<(Descriptor, Reference)> = Vec::new();
    let mut add =
        |part: Descriptor, name: &Reference| match parts.iter_mut().find(|(known, _)| known.digest == part.digest) {
            None => parts.push((part, name.clone())),
            Some((known, source)) => {
                known.platform = part.platform.or(known.platform.take());
                known.annotations.extend(part.annotations);
                *source = name.clone();
            }
        };
    for source in sources {
        if media_type::is_index(&source.descriptor.media_type) {
            index(&source.bytes)?.manifests.into_iter().for_each(|part| add(part, &source.name));
        } else {
            add(source.descriptor.clone(), &source.name);
        }
    }
    let is_docker = parts.iter().all(|(part, _)| part.media_type.starts_with("application/vnd.docker."));
    let kind = if is_docker { media_type::DOCKER_LIST } else { media_type::OCI_INDEX };
    let mut of_index = BTreeMap::new();
    // Docker's lists have no place for them.
    for (key, value) in notes.iter().filter(|_| !is_docker) {
        note(key, value, &mut of_index, &mut parts)?;
    }
    written(kind, parts, of_index)
}

/// Puts one annotation where it is meant for.
fn note(
    key: &str,
    value: &str,
    of_index: &mut BTreeMap<String, String>,
    parts: &mut [(Descriptor, Reference)],
) -> Result<()> {
    let (place, name) = key.split_once('.').unwrap_or((key, ""));
    let (place, platform) = match place.strip_suffix(']').and_then(|place| place.split_once('[')) {
        Some((place, platform)) => (place, Some(platform)),
        None => (place, None),
    };
    match place {
        "annotation-index" => drop(of_index.insert(name.to_owned(), value.to_owned())),
        "annotation-manifest-descriptor" => {
            for (part, _) in parts {
                let fits = |wanted: &str| part.platform.as_ref().is_some_and(|own| own.to_string() == wanted);
                if platform.is_none_or(fits) {
                    part.annotations.insert(name.to_owned(), value.to_owned());
                }
            }
        }
        "annotation-index-descriptor" => {
            return Err(failed("\"index-descriptor\" annotations are invalid while creating an image"));
        }
        _ => return Err(failed("\"manifest\" annotations are not supported yet")),
    }
    Ok(())
}

fn index(bytes: &[u8]) -> Result<Index> {
    serde_json::from_slice(bytes).map_err(|error| failed(format!("failed to parse index: {error}")))
}

fn written(kind: &str, parts: Vec<(Descriptor, Reference)>, annotations: BTreeMap<String, String>) -> Result<Made> {
    let index = Index {
        schema_version: 2,
        media_type: Some(kind.to_owned()),
        artifact_type: None,
        manifests: parts.iter().map(|(part, _)| part.clone()).collect(),
        subject: None,
        annotations,
    };
    let bytes = serde_json::to_vec_pretty(&index).map_err(failed)?;
    Ok(Made { descriptor: Descriptor::new(kind, Digest::sha256(&bytes), bytes.len() as u64), bytes, parts })
}

/// Leaves the platforms that are wanted, with what is said of them.
fn only_for(made: Made, wanted: &[Platform]) -> Result<Made> {
    if wanted.is_empty() {
        return Ok(made);
    }
    let is_wanted = |part: &Descriptor| {
        part.platform.as_ref().is_none_or(|platform| wanted.iter().any(|one| *one == platform.normalized()))
    };
    if !media_type::is_index(&made.descriptor.media_type) {
        return match &made.descriptor.platform {
            None => Err(failed("cannot filter platforms from a manifest without platform information")),
            Some(platform) if !is_wanted(&made.descriptor) => {
                Err(failed(format!("input platform {platform} does not match any of the provided platforms")))
            }
            Some(_) => Ok(made),
        };
    }
    let left: BTreeSet<String> = made
        .parts
        .iter()
        .filter(|(part, _)| !part.is_attestation() && is_wanted(part))
        .map(|(part, _)| part.digest.to_string())
        .collect();
    let stays = |part: &Descriptor| match part.annotations.get("vnd.docker.reference.digest") {
        Some(about) if part.is_attestation() => left.contains(about),
        _ => left.contains(part.digest.as_str()),
    };
    if made.parts.iter().all(|(part, _)| stays(part)) {
        return Ok(made);
    }
    let whole = index(&made.bytes)?;
    let parts: Vec<_> = made.parts.into_iter().filter(|(part, _)| stays(part)).collect();
    if parts.is_empty() {
        return Err(failed("none of the manifests match the provided platforms"));
    }
    written(&made.descriptor.media_type, parts, whole.annotations)
}

/// Brings all parts into the repository of a name, and then the image under that name.
async fn push(context: &Context, tag: &Reference, made: &Made, shown: &mut Shown) -> Result<()> {
    let mut step = Step::begin(format!("[internal] pushing {tag}"));
    shown.take(&Event::Vertex(step.0.clone()), context);
    let pushed = push_parts(context, tag, made, &step, shown).await;
    step.0.completed_ns = Some(now_ns());
    step.0.error = pushed.as_ref().err().map(|failure| failure.message.clone()).unwrap_or_default();
    shown.take(&Event::Vertex(step.0), context);
    pushed
}

async fn push_parts(context: &Context, tag: &Reference, made: &Made, step: &Step, shown: &mut Shown) -> Result<()> {
    let names = made.parts.iter().map(|(_, name)| name).filter(|name| name.domain() == tag.domain());
    let readable: Vec<String> = names
        .map(|name| name.path().to_owned())
        .filter(|path| path != tag.path())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let target = Registry::new(&context.config, is_local(tag)).to_write(tag, &readable)?;
    for (part, name) in &made.parts {
        shown.take(&step.log(&format!("copying {} from {name} to {tag}\n", part.digest)), context);
        let source = to_read(context, name)?;
        let from = (name.domain() == tag.domain() && name.path() != tag.path()).then(|| name.path());
        Copying { source: &source, target: &target, from, name }.manifest(part).await?;
    }
    shown.take(&step.log(&format!("pushing {} to {tag}\n", made.descriptor.digest)), context);
    target.push_manifest(&made.descriptor, &made.bytes, tag.tag()).await.map_err(|error| worded(tag, error))?;
    Ok(())
}

/// From one repository into another.
struct Copying<'a> {
    source: &'a Repository,
    target: &'a Repository,
    /// Where blobs may be mounted from.
    from: Option<&'a str>,
    name: &'a Reference,
}

impl Copying<'_> {
    async fn manifest(&self, descriptor: &Descriptor) -> Result<()> {
        let bytes = self.source.manifest(descriptor).await.map_err(|error| worded(self.name, error))?;
        match Document::parse(&bytes, Some(&descriptor.media_type)).map_err(failed)? {
            Document::Manifest(manifest) => {
                for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                    self.blob(blob).await?;
                }
            }
            Document::Index(index) => {
                for part in &index.manifests {
                    Box::pin(self.manifest(part)).await?;
                }
            }
        }
        self.target.push_manifest(descriptor, &bytes, None).await.map_err(|error| worded(self.name, error))?;
        Ok(())
    }

    async fn blob(&self, blob: &Descriptor) -> Result<()> {
        match self.target.push_blob(blob, None, self.from, Arc::new(|_| {})).await {
            Ok(_) => return Ok(()),
            Err(ferry_registry::Error::NotFound { .. }) => {}
            Err(error) => return Err(worded(self.name, error)),
        }
        let mut file = nameless()?;
        let mut stream = self.source.blob(blob);
        while let Some(piece) = stream.next().await.map_err(|error| worded(self.name, error))? {
            file.write_all(&piece)?;
        }
        let source: Arc<dyn BlobSource> = Arc::new(Fetched(Arc::new(file)));
        let pushed = self.target.push_blob(blob, Some(source), None, Arc::new(|_| {})).await;
        pushed.map(drop).map_err(|error| worded(self.name, error))
    }
}

/// A file that is gone with its last descriptor.
fn nameless() -> Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let opened = rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR);
    opened.map(File::from).map_err(|error| Failure::from(io::Error::from(error)))
}

/// A blob that was fetched.
struct Fetched(Arc<File>);

impl BlobSource for Fetched {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(From { file: Arc::clone(&self.0), offset }))
    }
}

/// Reads a file from a place of its own on.
struct From {
    file: Arc<File>,
    offset: u64,
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// What is shown of a push.
struct Step(VertexState);

impl Step {
    fn begin(name: String) -> Self {
        Self(VertexState {
            digest: Digest::sha256(name.as_bytes()),
            inputs: Vec::new(),
            name,
            started_ns: Some(now_ns()),
            completed_ns: None,
            cached: false,
            error: String::new(),
            group: None,
        })
    }

    fn log(&self, line: &str) -> Event {
        Event::Log(LogPiece {
            vertex: self.0.digest.clone(),
            stream: 1,
            data: line.as_bytes().to_vec(),
            time_ns: now_ns(),
        })
    }
}

fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, platform: &str) -> Source {
        let bytes = format!("{{\"schemaVersion\":2,\"n\":\"{name}\"}}").into_bytes();
        let mut descriptor = Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256(&bytes), bytes.len() as u64);
        descriptor.platform = Some(Platform::parse(platform).unwrap());
        Source { name: Reference::parse(name).unwrap(), descriptor, bytes }
    }

    #[test]
    fn sources_are_told_apart() {
        let names = |texts: &[&str], tags: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let typed = texts.iter().map(|text| read(text)).collect::<Result<Vec<_>>>()?;
            let tags = tags.iter().map(|tag| reference(tag)).collect::<Result<Vec<_>>>()?;
            let named = with_names(&texts, typed, &tags)?;
            Ok::<_, Failure>(named.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>())
        };
        let digest = Digest::sha256(b"x").to_string();
        assert_eq!(names(&["h:5/a", &digest], &[]).unwrap()[1], format!("h:5/a@{digest}"));
        assert!(
            names(&["h:5/a", &digest], &["h:5/b"]).unwrap_err().message.contains("multiple repositories specified")
        );
        assert!(names(&[&digest], &[]).unwrap_err().message.contains("no repositories specified"));
        assert!(names(&["sha256:x"], &["h:5/b"]).unwrap_err().message.contains("failed to parse source \"sha256:x\""));
    }

    #[test]
    fn images_become_one_and_platforms_are_left_out() {
        let sources = [source("h:5/a:1", "linux/amd64"), source("h:5/b:1", "linux/arm64")];
        let notes = BTreeMap::from([
            ("annotation-index.k".to_owned(), "v".to_owned()),
            ("annotation-manifest-descriptor[linux/arm64].p".to_owned(), "q".to_owned()),
        ]);
        let made = combine(&sources, &notes, true).unwrap();
        let whole = index(&made.bytes).unwrap();
        assert_eq!((whole.annotations["k"].as_str(), whole.manifests.len()), ("v", 2));
        assert_eq!(whole.manifests[1].annotations["p"], "q");
        assert_eq!(made.descriptor.media_type, media_type::OCI_INDEX);
        let one = only_for(made, &[Platform::parse("linux/arm64").unwrap().normalized()]).unwrap();
        assert_eq!((one.parts.len(), index(&one.bytes).unwrap().annotations["k"].as_str()), (1, "v"));
        let single = combine(&sources[..1], &BTreeMap::new(), false).unwrap();
        assert_eq!(single.bytes, sources[0].bytes);
        assert!(only_for(single, &[Platform::parse("linux/s390x").unwrap()]).is_err());
        let manifest = BTreeMap::from([("annotation-manifest.k".to_owned(), "v".to_owned())]);
        assert!(combine(&sources, &manifest, true).err().unwrap().message.contains("not supported yet"));
    }
}
