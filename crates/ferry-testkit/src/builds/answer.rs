//! What came of a build, in a form that two builders can be compared by.
//!
//! An image is its configuration and the lines of what its files differ in from those of the base image. Moments are `now` unless
//! something set them.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Moments from here on (2025) are those of the build.
const NOW: u64 = 1_735_689_600;
/// Content up to this length is shown.
const SHOWN: usize = 160;

/// What came of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// Why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// What was said in place of a build.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Warnings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Images by platform.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, Image>,
    /// Steps that a second build did not find in the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<Vec<String>>,
}

/// One image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its configuration, without layers.
    pub config: Value,
    /// What its files differ in from those of the base.
    pub files: Vec<String>,
    /// What statements on its packages say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<Value>,
}

/// A file of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    kind: char,
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    /// Content, target of a link, or numbers of a device.
    content: String,
    xattrs: BTreeMap<String, String>,
    /// Marks the names of one file.
    same: Option<usize>,
}

type Tree = BTreeMap<String, Entry>;

/// Layers that are those of base images.
#[derive(Debug, Default)]
pub struct Known {
    layers: HashMap<String, Vec<u8>>,
}

impl Known {
    /// Notes a layer.
    pub fn add(&mut self, tar: &[u8]) {
        self.layers.insert(crate::image::digest(tar), tar.to_vec());
    }

    /// Reads the images of an archive in the form of OCI's layouts.
    ///
    /// # Errors
    /// For what is no such archive.
    pub fn read(&self, archive: &[u8]) -> Result<BTreeMap<String, Image>> {
        let mut files = HashMap::new();
        let mut archive = tar::Archive::new(archive);
        for entry in archive.entries().context("read the archive")? {
            let mut entry = entry.context("read the archive")?;
            let name = entry.path().context("read the archive")?.to_string_lossy().trim_start_matches("./").to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).context("read the archive")?;
            files.insert(name, bytes);
        }
        let index = document(&files, "index.json")?;
        let mut images = BTreeMap::new();
        self.read_index(&files, &index, &mut images)?;
        Ok(images)
    }

    fn read_index(
        &self,
        files: &HashMap<String, Vec<u8>>,
        index: &Value,
        images: &mut BTreeMap<String, Image>,
    ) -> Result<()> {
        let mut platforms: HashMap<&str, String> = HashMap::new();
        for descriptor in index["manifests"].as_array().into_iter().flatten() {
            if let Some(of) = descriptor["annotations"]["vnd.docker.reference.digest"].as_str() {
                if let Some(image) = platforms.get(of).and_then(|platform| images.get_mut(platform)) {
                    image.statements = statements(files, descriptor)?;
                }
                continue;
            }
            let path = blob(descriptor)?;
            if !files.contains_key(&path) {
                continue;
            }
            let found = document(files, &path)?;
            if found["manifests"].is_array() {
                self.read_index(files, &found, images)?;
                continue;
            }
            let config = document(files, &blob(&found["config"])?)?;
            let mut trees = (Tree::new(), Tree::new());
            let mut is_base = true;
            let diff_ids = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
            for (layer, diff_id) in found["layers"].as_array().into_iter().flatten().zip(diff_ids) {
                let diff_id = diff_id.as_str().unwrap_or_default();
                match self.layers.get(diff_id) {
                    Some(tar) if is_base => apply(&mut trees.0, tar)?,
                    known => {
                        if is_base {
                            trees.1 = trees.0.clone();
                        }
                        is_base = false;
                        let tar = match known {
                            Some(tar) => tar.clone(),
                            None => plain(files.get(&blob(layer)?).context("a layer is missing")?)?,
                        };
                        apply(&mut trees.1, &tar)?;
                    }
                }
            }
            if is_base {
                trees.1 = trees.0.clone();
            }
            let platform = ["os", "architecture", "variant"].map(|key| config[key].as_str().unwrap_or_default());
            let platform = platform.join("/").trim_end_matches('/').to_owned();
            platforms.insert(descriptor["digest"].as_str().unwrap_or_default(), platform.clone());
            let files = differences(&trees.0, &trees.1);
            images.insert(platform, Image { files, config: comparable(config), statements: Vec::new() });
        }
        Ok(())
    }
}

/// What statements say that stand beside an image, without whom they speak of; how it was built is never the same.
fn statements(files: &HashMap<String, Vec<u8>>, descriptor: &Value) -> Result<Vec<Value>> {
    let manifest = document(files, &blob(descriptor)?)?;
    let mut all = Vec::new();
    for layer in manifest["layers"].as_array().into_iter().flatten() {
        let mut statement = sorted(document(files, &blob(layer)?)?);
        let kind = statement["predicateType"].as_str().unwrap_or_default();
        if kind.starts_with("https://slsa.dev/provenance/") {
            continue;
        }
        if let Some(fields) = statement.as_object_mut() {
            fields.remove("subject");
        }
        all.push(statement);
    }
    Ok(all)
}

fn blob(descriptor: &Value) -> Result<String> {
    let digest = descriptor["digest"].as_str().context("a descriptor has a digest")?;
    Ok(format!("blobs/{}", digest.replacen(':', "/", 1)))
}

fn document(files: &HashMap<String, Vec<u8>>, name: &str) -> Result<Value> {
    let bytes = files.get(name).with_context(|| format!("the archive has no {name}"))?;
    serde_json::from_slice(bytes).with_context(|| format!("read {name}"))
}

fn plain(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut tar = Vec::new();
    match bytes {
        [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut tar).map(drop)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => tar = zstd::decode_all(bytes)?,
        plain => tar = plain.to_vec(),
    }
    Ok(tar)
}

/// Takes out of an error what is never the same: ids of BuildKit's, and where it keeps its trees.
#[must_use]
pub fn comparable_error(error: &str) -> String {
    let mut words: Vec<&str> = error.split(' ').collect();
    words.retain(|word| !(word.len() > 50 && word.contains("::") && word.ends_with(':')));
    let words = words.into_iter().map(|word| match word.split_once("/cachemounts/buildkit") {
        Some((_, rest)) => rest.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => word,
    });
    words.collect::<Vec<_>>().join(" ").replace("checksum of ref \"", "checksum of ref: \"")
}

/// Takes out of a configuration what is never the same.
fn comparable(mut config: Value) -> Value {
    if let Some(fields) = config.as_object_mut() {
        fields.remove("rootfs");
        fields.remove("moby.buildkit.buildinfo.v1");
        fields.remove("moby.buildkit.cache.v0");
    }
    moments(&mut config);
    sorted(config)
}

fn moments(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(text) if key == "created" && *text >= *"2025" => *value = Value::from("now"),
                    _ => moments(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(moments),
        _ => {}
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<String, Value> = fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(fields.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn apply(tree: &mut Tree, tar: &[u8]) -> Result<()> {
    let mut archive = tar::Archive::new(tar);
    let mut added: Vec<String> = Vec::new();
    for entry in archive.entries().context("read a layer")? {
        let mut entry = entry.context("read a layer")?;
        let path = entry.path().context("read a layer")?.to_string_lossy().into_owned();
        let path = format!("/{}", path.trim_start_matches("./").trim_matches('/'));
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if name == ".wh..wh..opq" {
            let below = format!("{folder}/");
            tree.retain(|path, _| !path.starts_with(&below) || added.contains(path));
        } else if let Some(hidden) = name.strip_prefix(".wh.") {
            remove(tree, &format!("{folder}/{hidden}"));
        } else {
            put(tree, &path, &mut entry)?;
            added.push(path);
        }
    }
    Ok(())
}

fn remove(tree: &mut Tree, path: &str) {
    let below = format!("{path}/");
    tree.retain(|found, _| found != path && !found.starts_with(&below));
}

fn put(tree: &mut Tree, path: &str, entry: &mut tar::Entry<'_, &[u8]>) -> Result<()> {
    let header = entry.header().clone();
    let mut mtime = header.mtime().unwrap_or_default();
    let mut xattrs = BTreeMap::new();
    if let Some(extensions) = entry.pax_extensions().context("read a layer")? {
        for extension in extensions {
            let extension = extension.context("read a layer")?;
            let (key, value) = (extension.key().unwrap_or_default(), extension.value_bytes());
            if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                xattrs.insert(name.to_owned(), shown(value));
            } else if key == "mtime" {
                let text = String::from_utf8_lossy(value).into_owned();
                mtime = text.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(mtime);
            }
        }
    }
    let link = || -> Result<String> {
        Ok(entry.link_name().context("read a layer")?.context("a link has a target")?.to_string_lossy().into_owned())
    };
    let mut same = None;
    let (kind, content) = match header.entry_type() {
        tar::EntryType::Directory => ('d', String::new()),
        tar::EntryType::Symlink => ('l', link()?),
        tar::EntryType::Link => {
            let target = format!("/{}", link()?.trim_start_matches("./").trim_matches('/'));
            let number = tree.len();
            let found =
                tree.get_mut(&target).with_context(|| format!("{path} links to {target}, which is not there"))?;
            let entry = Entry { same: Some(*found.same.get_or_insert(number)), ..found.clone() };
            remove(tree, path);
            tree.insert(path.to_owned(), entry);
            return Ok(());
        }
        tar::EntryType::Regular | tar::EntryType::Continuous => {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).context("read a layer")?;
            same = None;
            ('f', shown(&bytes))
        }
        tar::EntryType::Char => ('c', device(&header)),
        tar::EntryType::Block => ('b', device(&header)),
        tar::EntryType::Fifo => ('p', String::new()),
        other => bail!("{path} is of an unknown kind: {other:?}"),
    };
    if kind != 'd' || tree.get(path).is_some_and(|known| known.kind != 'd') {
        remove(tree, path);
    }
    let owner = (header.uid().context("read a layer")?, header.gid().context("read a layer")?);
    let mode = header.mode().context("read a layer")? & 0o7777;
    tree.insert(path.to_owned(), Entry { kind, mode, owner, mtime, content, xattrs, same });
    Ok(())
}

fn device(header: &tar::Header) -> String {
    let number = |number: std::io::Result<Option<u32>>| number.ok().flatten().unwrap_or_default();
    format!("{}:{}", number(header.device_major()), number(header.device_minor()))
}

fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() <= SHOWN => format!("{text:?}"),
        _ => format!("{} bytes, {}", bytes.len(), &hex::encode(Sha256::digest(bytes))[..16]),
    }
}

/// The lines of what a tree has and another has not, or not so.
fn differences(base: &Tree, tree: &Tree) -> Vec<String> {
    let mut firsts: HashMap<usize, &str> = HashMap::new();
    let mut lines = Vec::new();
    for (path, entry) in tree {
        let first = entry.same.map(|number| *firsts.entry(number).or_insert(path));
        if base.get(path) != Some(entry) {
            lines.push(line(path, entry, first.filter(|first| first != path)));
        }
    }
    lines.extend(base.keys().filter(|path| !tree.contains_key(*path)).map(|path| format!("{path} is gone")));
    lines.sort();
    lines
}

fn line(path: &str, entry: &Entry, first: Option<&str>) -> String {
    let moment = if entry.mtime >= NOW { "now".to_owned() } else { entry.mtime.to_string() };
    let mut line = format!("{path} {}{:o} {}:{} {moment}", entry.kind, entry.mode, entry.owner.0, entry.owner.1);
    match (entry.kind, first) {
        (_, Some(first)) => line.push_str(&format!(" is {first}")),
        ('d' | 'p', None) => {}
        ('l', None) => line.push_str(&format!(" -> {}", entry.content)),
        (_, None) => line.push_str(&format!(" {}", entry.content)),
    }
    for (name, value) in &entry.xattrs {
        line.push_str(&format!(" [{name}={value}]"));
    }
    line
}

/// Returns the steps of a build that were not found in the cache, out of its plain progress.
#[must_use]
pub fn steps_run(progress: &str) -> Vec<String> {
    let cached: Vec<&str> = progress.lines().filter_map(|line| line.strip_suffix(" CACHED")).collect();
    let mut steps = BTreeMap::new();
    for line in progress.lines() {
        let Some((number, name)) = line.split_once(' ').filter(|(number, _)| number.starts_with('#')) else { continue };
        let of_stage = name.starts_with('[') && !name.starts_with("[internal]") && !name.contains("] FROM ");
        if of_stage && !cached.contains(&number) && !name.starts_with("[auth]") {
            steps.insert(name.to_owned(), ());
        }
    }
    steps.into_keys().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::image::{Compression, Dialect, Image as Built, Layer};

    #[test]
    fn images_are_what_they_differ_in() {
        let base = Layer::default().dir("etc/", 0o755).file("etc/old", 0o644, b"x").into_tar();
        let top = Layer::default().file("etc/new", 0o600, b"hi").whiteout("etc/old").symlink("l", "etc").into_tar();
        let mut known = Known::default();
        known.add(&base);
        let image = Built::build("amd64", &json!({}), vec![base, top], Compression::Gzip, Dialect::Oci).unwrap();
        let blob = |bytes: &[u8]| format!("blobs/sha256/{}", &crate::image::digest(bytes)[7..]);
        let index = json!({"manifests": [image.manifest.descriptor()]}).to_string();
        let mut archive = Layer::default().file("index.json", 0o644, index.as_bytes());
        for one in image.layers.iter().chain([&image.config, &image.manifest]) {
            archive = archive.file(&blob(&one.bytes), 0o644, &one.bytes);
        }
        let images = known.read(&archive.into_tar()).unwrap();
        let files = &images["linux/amd64"].files;
        assert_eq!(
            files[..],
            ["/etc/new f600 0:0 1704067200 \"hi\"", "/etc/old is gone", "/l l777 0:0 1704067200 -> etc",]
        );
    }

    #[test]
    fn steps_that_ran_are_found() {
        let progress = "#1 [internal] load\n#2 [1/3] FROM x\n#3 [2/3] RUN a\n#3 CACHED\n#4 [3/3] RUN b\n#4 DONE 0.1s\n";
        assert_eq!(steps_run(progress), ["[3/3] RUN b"]);
    }
}
