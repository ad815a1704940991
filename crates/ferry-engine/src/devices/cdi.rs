//! Specifications of the container device interface: files of JSON or YAML, each with the devices of one vendor and class.
//!
//! Spec: CDI 1.1.0 (tags.cncf.io/container-device-interface)

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ferry_spec::runtime::Spec;
use serde::Deserialize;

use super::edits::ContainerEdits;

/// Files larger than this are not read.
const LARGEST: u64 = 4 << 20;

/// One specification.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    cdi_version: String,
    kind: String,
    devices: Vec<Device>,
    container_edits: ContainerEdits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Device {
    name: String,
    container_edits: ContainerEdits,
}

/// All specifications of a host.
#[derive(Debug, Default)]
pub(super) struct Registry {
    documents: Vec<Document>,
    /// Device by qualified name: document and device.
    devices: BTreeMap<String, (usize, usize)>,
    /// What cannot be used, and why.
    pub(super) errors: Vec<(PathBuf, String)>,
}

impl Registry {
    /// Reads every specification in these folders; a device of a later folder counts before one of an earlier.
    pub(super) fn read(folders: &[PathBuf]) -> Self {
        let mut registry = Self::default();
        for folder in folders {
            let mut seen = BTreeMap::new();
            for path in files(folder) {
                match read_document(&path) {
                    Ok(document) => registry.add(document, &path, &mut seen),
                    Err(error) => registry.errors.push((path, error)),
                }
            }
        }
        registry
    }

    fn add(&mut self, document: Document, path: &Path, seen: &mut BTreeMap<String, PathBuf>) {
        let index = self.documents.len();
        for (at, device) in document.devices.iter().enumerate() {
            let name = format!("{}={}", document.kind, device.name);
            if let Some(other) = seen.insert(name.clone(), path.to_owned()) {
                // Which of the two is meant nobody knows.
                let text = format!("conflicting device {name:?} (specs {:?}, {path:?})", other.display());
                self.errors.push((path.to_owned(), text));
                self.devices.remove(&name);
                continue;
            }
            self.devices.insert(name, (index, at));
        }
        self.documents.push(document);
    }

    /// Qualified names of all devices, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.devices.keys().cloned()
    }

    /// Whether there is a device of a kind such as `vendor.com/class`.
    pub(super) fn has_kind(&self, kind: &str) -> bool {
        self.devices.keys().any(|name| name.split('=').next() == Some(kind))
    }

    /// Puts devices into a configuration: first what their specifications want once, then what each wants.
    pub(super) fn inject(&self, names: &[String], spec: &mut Spec) -> Result<(), String> {
        let missing: Vec<&str> =
            names.iter().filter(|name| !self.devices.contains_key(*name)).map(String::as_str).collect();
        if !missing.is_empty() {
            return Err(format!("unresolvable CDI devices {}", missing.join(", ")));
        }
        let mut edits = ContainerEdits::default();
        let mut used = Vec::new();
        for &(document, device) in names.iter().filter_map(|name| self.devices.get(name)) {
            if !used.contains(&document) {
                used.push(document);
                edits.append(&self.documents[document].container_edits);
            }
            edits.append(&self.documents[document].devices[device].container_edits);
        }
        edits.apply(spec).map_err(|error| format!("failed to inject devices: {error}"))
    }
}

/// Specifications in a folder, by name; a folder that is not there has none.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_document =
        |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json" || extension == "yaml");
    let mut files: Vec<PathBuf> = entries.filter(is_document).collect();
    files.sort();
    files
}

fn read_document(path: &Path) -> Result<Document, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err("it is no file, or too large".to_owned());
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    // JSON is YAML, but numbers and strings are told apart better by a parser of its own.
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let value = if is_json {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    } else {
        ferry_spec::yaml::parse(&text)
    };
    let value = value.map_err(|error| format!("failed to parse CDI Spec {path:?}: {error}"))?;
    let document: Document =
        serde_json::from_value(value).map_err(|error| format!("failed to parse CDI Spec {path:?}: {error}"))?;
    check(&document).map_err(|error| format!("invalid CDI Spec: {error}"))?;
    Ok(document)
}

fn check(document: &Document) -> Result<(), String> {
    let version: Vec<Option<u32>> = document.cdi_version.split('.').map(|part| part.parse().ok()).collect();
    if version.len() != 3 || version.contains(&None) {
        return Err(format!("invalid version {:?}", document.cdi_version));
    }
    let (vendor, class) = document.kind.split_once('/').unwrap_or(("", &document.kind));
    for (what, word) in [("vendor", vendor), ("class", class)] {
        if !is_word(word, "_-.") || !word.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
            return Err(format!("invalid {what}. {word:?} in {:?}", document.kind));
        }
    }
    if document.devices.is_empty() {
        return Err("no devices".to_owned());
    }
    document.container_edits.check()?;
    for (at, device) in document.devices.iter().enumerate() {
        if !is_word(&device.name, "_-.:") {
            return Err(format!("invalid device name {:?}", device.name));
        }
        if document.devices[..at].iter().any(|other| other.name == device.name) {
            return Err(format!("multiple device {:?}", device.name));
        }
        if device.container_edits.is_empty() {
            return Err(format!("invalid device, empty device edits: {:?}", device.name));
        }
        device.container_edits.check()?;
    }
    Ok(())
}

/// Letters and digits, with others between them.
fn is_word(word: &str, between: &str) -> bool {
    let plain = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    plain(word.chars().next())
        && plain(word.chars().last())
        && word.chars().all(|letter| letter.is_ascii_alphanumeric() || between.contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(files: &[(&str, &str)]) -> (tempfile::TempDir, Registry) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let registry = Registry::read(&[dir.path().join("one"), dir.path().join("two")]);
        (dir, registry)
    }

    const YAML: &str = "\
cdiVersion: 0.6.0
kind: vendor.com/thing
containerEdits:
  env:
    - COMMON=1
devices:
  - name: \"0\"
    containerEdits:
      env: [DEVICE=0]
  - name: all
    containerEdits:
      env: [DEVICE=all]
";

    #[test]
    fn edits_of_a_specification_are_made_once() {
        let (_dir, registry) = registry(&[("one/a.yaml", YAML)]);
        assert_eq!(registry.errors, []);
        let mut spec = Spec { process: Some(Default::default()), ..Spec::default() };
        registry.inject(&["vendor.com/thing=0".into(), "vendor.com/thing=all".into()], &mut spec).unwrap();
        assert_eq!(spec.process.unwrap().env, ["COMMON=1", "DEVICE=all"]);
        assert!(registry.has_kind("vendor.com/thing") && !registry.has_kind("vendor.com/other"));
    }

    #[test]
    fn a_later_folder_wins_and_equals_cancel_each_other() {
        let other = YAML.replace("COMMON=1", "COMMON=2");
        let (_dir, found) = registry(&[("one/a.yaml", YAML), ("two/a.yaml", &other)]);
        let mut spec = Spec { process: Some(Default::default()), ..Spec::default() };
        found.inject(&["vendor.com/thing=0".into()], &mut spec).unwrap();
        assert_eq!(spec.process.unwrap().env, ["COMMON=2", "DEVICE=0"]);
        let (_dir, found) = registry(&[("one/a.yaml", YAML), ("one/b.yaml", &other)]);
        assert_eq!(found.names().count(), 0);
        assert!(found.errors[0].1.starts_with("conflicting device \"vendor.com/thing=0\""), "{:?}", found.errors);
    }

    #[test]
    fn bad_specifications_are_named() {
        for (text, part) in [
            ("{", "failed to parse CDI Spec"),
            (r#"{"cdiVersion": "x", "kind": "v.com/c"}"#, "invalid version"),
            (r#"{"cdiVersion": "0.6.0", "kind": "c"}"#, "invalid vendor"),
            (r#"{"cdiVersion": "0.6.0", "kind": "v.com/c"}"#, "no devices"),
            (
                r#"{"cdiVersion": "0.6.0", "kind": "v.com/c", "devices": [{"name": "a"}]}"#,
                "invalid device, empty device edits",
            ),
        ] {
            let (_dir, registry) = registry(&[("one/a.json", text)]);
            assert!(registry.errors[0].1.contains(part), "{text}: {:?}", registry.errors);
        }
    }
}
