//! `--cache-from` and `--cache-to`: what is said of caches, and the directories that some of them lie in.
//!
//! Such a directory is an OCI layout. The daemon reads and writes its blobs over a session ([`super::store`]); which of them is the
//! newest cache, and under which tag, is noted here in its `index.json`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferry_buildkit_proto::grpc::{Call, Service, Status, serve};
use ferry_client::{BuildCacheEntry, BuildQuery, Client};
use ferry_spec::descriptor::media_type;
use ferry_spec::manifest::Index;
use ferry_spec::{Descriptor, Reference};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::agents::Agents;
use super::output::{SEND, Sinks};
use super::outputs::{Dest, Output};
use super::store::{METHODS, Stores, blob_path};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::flags::go_quote;

/// How the daemon calls the directory that an image is put into.
const LAYOUT: &str = "export";
/// The annotation of a manifest with its tag.
const TAG: &str = "org.opencontainers.image.ref.name";

/// Reads the flags: `type=…,key=value,…`, or references alone.
pub(super) fn entries(given: &[String]) -> Result<Vec<BuildCacheEntry>> {
    let mut entries = Vec::new();
    for text in given.iter().filter(|text| !text.is_empty()) {
        let fields = ferry_dockerfile::csv::fields(text).map_err(|error| failed(error.to_string()))?;
        if !text.contains('=') {
            entries.extend(fields.into_iter().map(|reference| BuildCacheEntry {
                kind: "registry".to_owned(),
                attributes: BTreeMap::from([("ref".to_owned(), reference)]),
            }));
            continue;
        }
        let mut entry = BuildCacheEntry::default();
        for field in &fields {
            let (key, value) = field.split_once('=').ok_or_else(|| failed(format!("invalid value {field}")))?;
            match key.to_lowercase().as_str() {
                "type" => value.clone_into(&mut entry.kind),
                key => drop(entry.attributes.insert(key.to_owned(), value.to_owned())),
            }
        }
        if entry.kind.is_empty() {
            return Err(failed(format!("type required form> {}", go_quote(text))));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn failed(text: impl std::fmt::Display) -> Failure {
    Failure::new(format!("ERROR: failed to build: {text}"))
}

/// The directories that caches lie in.
#[derive(Default)]
pub(super) struct Caches {
    stores: BTreeMap<String, PathBuf>,
    /// Where a new cache gets its name.
    to_name: Vec<(PathBuf, String)>,
}

/// The daemon may call us for as long as this lives.
pub(super) struct Lent(Option<tokio::task::JoinHandle<()>>);

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(serving) = self.0.take() {
            serving.abort();
        }
    }
}

/// What is lent over one session, and taken.
struct All {
    stores: Arc<Stores>,
    agents: Arc<Agents>,
    sinks: Arc<Sinks>,
}

impl Service for All {
    fn call(self: Arc<Self>, call: Call) -> BoxFuture<'static, std::result::Result<(), Status>> {
        if call.path == SEND {
            return Box::pin(async move { self.sinks.take(call).await });
        }
        match METHODS.contains(&call.path.as_str()) {
            true => Arc::clone(&self.stores).call(call),
            false => Arc::clone(&self.agents).call(call),
        }
    }
}

/// Where a layout lies, and which image in it is meant: by its tag, or by its digest.
pub(in crate::commands) fn layout(written: &str) -> (&str, &str, Option<&str>) {
    let (place, digest) = written.split_once('@').map_or((written, None), |(place, digest)| (place, Some(digest)));
    let tagged = place.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let (folder, tag) = tagged.unwrap_or((place, "latest"));
    (folder, tag, digest)
}

impl Caches {
    /// Opens the directories, and finds out which caches in them are meant. One that is not there is told and left out.
    pub(super) fn open(query: &mut BuildQuery, context: &Context) -> Result<Self> {
        let mut caches = Self::default();
        for export in &query.cache_exports {
            caches.take_export(export)?;
        }
        let mut imports = Vec::new();
        for mut import in std::mem::take(&mut query.cache_imports) {
            match caches.take_import(&mut import)? {
                None => imports.push(import),
                Some(reason) => context.printer.log("warning", &reason),
            }
        }
        query.cache_imports = imports;
        caches.take_layouts(query)?;
        Ok(caches)
    }

    /// Named contexts in OCI layouts: the daemon reads them by the digest that their tag has now.
    fn take_layouts(&mut self, query: &mut BuildQuery) -> Result<()> {
        for (at, value) in query.contexts.values_mut().enumerate() {
            let Some(written) = value.strip_prefix("oci-layout://") else { continue };
            let (folder, tag, digest) = layout(written);
            let digest = match digest {
                Some(digest) => digest.to_owned(),
                None => {
                    let index = read_index(Path::new(folder)).map_err(failed)?;
                    let is_meant = |one: &&Descriptor| one.annotations.get(TAG).is_some_and(|known| known == tag);
                    let found = index.manifests.iter().find(is_meant).map(|one| one.digest.to_string());
                    found
                        .ok_or_else(|| failed(format!("failed to find tag {} in OCI layout {folder}", go_quote(tag))))?
                }
            };
            let store = format!("layout{at}");
            self.stores.insert(format!("oci:{store}"), PathBuf::from(folder));
            *value = format!("oci-layout://{store}@{digest}");
        }
        Ok(())
    }

    fn take_export(&mut self, export: &BuildCacheEntry) -> Result<()> {
        let attribute = |name: &str| export.attributes.get(name).map(String::as_str).unwrap_or_default();
        match export.kind.as_str() {
            "registry" if attribute("ref").is_empty() => Err(failed("registry cache exporter requires ref")),
            "local" if attribute("dest").is_empty() => Err(failed("local cache exporter requires dest")),
            "local" => {
                let folder = PathBuf::from(attribute("dest"));
                std::fs::create_dir_all(&folder).map_err(|error| failed(format!("{}: {error}", folder.display())))?;
                let tag = export.attributes.get("tag").map_or("latest", String::as_str);
                self.to_name.push((folder.clone(), tag.to_owned()));
                self.stores.insert(format!("local:{}", attribute("dest")), folder);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns why a cache is left out, if it is.
    fn take_import(&mut self, import: &mut BuildCacheEntry) -> Result<Option<String>> {
        let attribute = |name: &str| import.attributes.get(name).map(String::as_str).unwrap_or_default();
        match import.kind.as_str() {
            "registry" if attribute("ref").is_empty() => return Err(failed("registry cache importer requires ref")),
            "local" if attribute("src").is_empty() => return Err(failed("local cache importer requires src")),
            "local" => {}
            _ => return Ok(None),
        }
        let source = attribute("src").to_owned();
        let folder = PathBuf::from(&source);
        let mut digest = attribute("digest").to_owned();
        if digest.is_empty() {
            let tag = import.attributes.get("tag").map_or("latest", String::as_str);
            let index = match read_index(&folder) {
                Ok(index) => index,
                Err(reason) => return Ok(Some(format!("local cache import at {source} skipped due to err: {reason}"))),
            };
            let named = index.manifests.iter().find(|one| one.annotations.get(TAG).is_some_and(|known| known == tag));
            let Some(named) = named else {
                return Ok(Some(format!("local cache import at {source} skipped: no digest found for tag {tag}")));
            };
            digest = named.digest.to_string();
        }
        if blob_path(&folder, &digest).is_none_or(|path| !path.is_file()) {
            return Ok(Some(format!("local cache import at {source} skipped: digest {digest} unavailable: not found")));
        }
        import.attributes.insert("digest".to_owned(), digest);
        self.stores.insert(format!("local:{source}"), folder);
        Ok(None)
    }

    /// Lets the daemon read and write the directories, and speak to the user's SSH agents.
    pub(super) async fn lend(
        &self,
        client: &Client,
        query: &mut BuildQuery,
        agents: &[(String, String)],
        outputs: &[Output],
    ) -> Result<Lent> {
        let (sinks, mut stores) = (Sinks::of(outputs), self.stores.clone());
        for output in outputs {
            if let Dest::Layout(folder) = &output.dest {
                std::fs::create_dir_all(folder).map_err(|error| failed(format!("{folder}: {error}")))?;
                stores.insert(LAYOUT.to_owned(), PathBuf::from(folder));
            }
        }
        if stores.is_empty() && agents.is_empty() && sinks.is_empty() {
            return Ok(Lent(None));
        }
        query.session = random_id()?;
        let agents = Agents::new(agents);
        let methods: Vec<&str> = METHODS.iter().chain(agents.methods()).chain([&SEND]).copied().collect();
        let session = client.build_session(&query.session, &methods).await.map_err(failed)?;
        let connection = tokio::io::join(session.output, session.input);
        let stores =
            Arc::new(All { stores: Arc::new(Stores(stores)), agents: Arc::new(agents), sinks: Arc::new(sinks) });
        Ok(Lent(Some(tokio::spawn(async move {
            // It ends with the build, whose own failure says more.
            let _ = serve(connection, stores).await;
        }))))
    }

    /// Notes an image that the daemon put into a directory.
    pub(super) fn name_layouts(outputs: &[Output], names: &[String], image: &Value) -> Result<()> {
        for output in outputs {
            let Dest::Layout(folder) = &output.dest else { continue };
            let image: Descriptor = serde_json::from_value(image.clone()).map_err(failed)?;
            let name = names.first().and_then(|name| Reference::parse_with_default_tag(name).ok());
            let tag = name.as_ref().and_then(Reference::tag).unwrap_or("latest");
            put(Path::new(folder), tag, &image).map_err(|error| failed(format!("{folder}: {error}")))?;
        }
        Ok(())
    }

    /// Notes what the daemon wrote as the newest cache of each directory.
    pub(super) fn name(&self, manifest: &Value) -> Result<()> {
        if manifest.is_null() {
            return Ok(());
        }
        let manifest: Descriptor = serde_json::from_value(manifest.clone()).map_err(failed)?;
        for (folder, tag) in &self.to_name {
            if blob_path(folder, manifest.digest.as_str()).is_some_and(|path| path.is_file()) {
                put(folder, tag, &manifest).map_err(|error| failed(format!("{}: {error}", folder.display())))?;
            }
        }
        Ok(())
    }
}

fn read_index(folder: &Path) -> std::result::Result<Index, String> {
    let path = folder.join("index.json");
    let bytes = std::fs::read(&path).map_err(|error| {
        let text = error.to_string();
        let reason = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        format!("could not read {0}: open {0}: {reason}", path.display())
    })?;
    serde_json::from_slice(&bytes).map_err(|error| format!("could not unmarshal {}: {error}", path.display()))
}

/// Puts a manifest into the index of a layout, in place of the one with the same tag.
fn put(folder: &Path, tag: &str, manifest: &Descriptor) -> std::io::Result<()> {
    // Targets of one bake may write into the same layout.
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut manifests = read_index(folder).map(|index| index.manifests).unwrap_or_default();
    manifests.retain(|one| one.annotations.get(TAG).is_none_or(|known| known != tag));
    let mut named = manifest.clone();
    named.annotations.insert(TAG.to_owned(), tag.to_owned());
    manifests.push(named);
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests });
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let new = folder.join("index.json.new");
    std::fs::write(&new, index.to_string())?;
    std::fs::rename(new, folder.join("index.json"))
}

fn random_id() -> Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_read_as_buildx_reads_them() {
        let read = |text: &str| entries(&[text.to_owned()]);
        let two = read("user/app:cache,other").unwrap();
        assert_eq!((two.len(), two[1].attributes["ref"].as_str()), (2, "other"));
        let local = read("type=local,DEST=d,mode=max").unwrap();
        assert_eq!((local[0].kind.as_str(), local[0].attributes["dest"].as_str()), ("local", "d"));
        assert_eq!(read("ref=x").unwrap_err().message, "ERROR: failed to build: type required form> \"ref=x\"");
        assert_eq!(read("type=local,x").unwrap_err().message, "ERROR: failed to build: invalid value x");
    }

    #[test]
    fn the_newest_cache_of_a_tag_takes_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = |name: &str| Descriptor::new("t", ferry_spec::Digest::sha256(name.as_bytes()), 1);
        for (tag, name) in [("a", "1"), ("b", "2"), ("a", "3")] {
            put(dir.path(), tag, &manifest(name)).unwrap();
        }
        let index = read_index(dir.path()).unwrap();
        let found: Vec<_> = index.manifests.iter().map(|one| (one.annotations[TAG].as_str(), &one.digest)).collect();
        assert_eq!(found, [("b", &manifest("2").digest), ("a", &manifest("3").digest)]);
        let mut caches = Caches::default();
        let mut import = BuildCacheEntry {
            kind: "local".to_owned(),
            attributes: BTreeMap::from([("src".to_owned(), dir.path().display().to_string())]),
        };
        let left_out = caches.take_import(&mut import).unwrap().unwrap();
        assert!(left_out.ends_with("skipped: no digest found for tag latest"), "{left_out}");
    }
}
