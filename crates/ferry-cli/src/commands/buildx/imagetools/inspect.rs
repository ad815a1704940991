//! `buildx imagetools inspect`

use std::collections::BTreeMap;

use ferry_gotmpl::{Options, Template, Value};
use ferry_registry::Repository;
use ferry_spec::manifest::{Document, Index, Manifest};
use ferry_spec::{Descriptor, Digest, Reference};
use serde_json::{Map, Value as Json, json};

use super::{LIMIT, failed, fetch, reference, to_read, worded};
use crate::context::Context;
use crate::failure::Result;
use crate::flags::Parsed;
use crate::format::tabwriter::{Layout, align};

const STATEMENT: &str = "application/vnd.in-toto+json";
const LAYOUT: Layout = Layout { min_width: 0, padding: 1 };

/// Runs `buildx imagetools inspect`.
pub(in crate::commands) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    super::super::check_builder(parsed)?;
    let format = parsed.text_or_empty("format");
    if !format.is_empty() && parsed.on("raw") {
        return Err(failed("format and raw cannot be used together"));
    }
    let given = &parsed.args[0];
    let name = reference(given)?;
    let repository = to_read(context, &name)?;
    let (target, bytes) = fetch(&repository, &name).await?;
    if parsed.on("raw") {
        context.printer.data(bytes)?;
        return Ok(0);
    }
    let document = Document::parse(&bytes, Some(&target.media_type)).map_err(failed)?;
    if format.is_empty() || format.starts_with("{{.Manifest") {
        context.printer.data(shown(&name, &target, &document))?;
        return Ok(0);
    }
    let told = Image { repository, name, target, document }.tell(given).await?;
    context.printer.data(rendered(format, &told)?)?;
    Ok(0)
}

/// The short description.
fn shown(name: &Reference, target: &Descriptor, document: &Document) -> String {
    let head = format!("Name:\t{name}\nMediaType:\t{}\nDigest:\t{}\n", target.media_type, target.digest);
    let mut text = align(&head, &LAYOUT);
    let Document::Index(index) = document else { return text };
    text += &align("\t\nManifests:\t\n", &LAYOUT);
    let mut block = String::new();
    for (at, one) in index.manifests.iter().enumerate() {
        if at > 0 {
            block += "\t\n";
        }
        let of_this = name.clone().with_digest(one.digest.clone());
        block += &format!("  Name:\t{of_this}\n  MediaType:\t{}\n", one.media_type);
        let Some(platform) = &one.platform else { continue };
        block += &format!("  Platform:\t{platform}\n");
        if let Some(version) = platform.os_version.as_ref().filter(|version| !version.is_empty()) {
            block += &format!("  OSVersion:\t{version}\n");
        }
        if !one.urls.is_empty() {
            block += &format!("  URLs:\t{}\n", one.urls.join(", "));
        }
        if !one.annotations.is_empty() {
            block += "  Annotations:\t\n";
            text += &align(&block, &LAYOUT);
            block.clear();
            let notes: String = one.annotations.iter().map(|(key, value)| format!("    {key}:\t{value}\n")).collect();
            text += &align(&notes, &LAYOUT);
        }
    }
    text + &align(&block, &LAYOUT)
}

/// A template over what is known; one that asks for one thing as JSON alone gets it indented.
fn rendered(format: &str, told: &Json) -> Result<String> {
    let whole = format.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).map(str::trim);
    let path = whole
        .and_then(|text| text.strip_prefix("json "))
        .map(str::trim)
        .filter(|text| text.starts_with('.') && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.'));
    if let Some(path) = path {
        let mut value = told;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            value = value.get(part).ok_or_else(|| failed(format!("template: :1: can't evaluate field {part}")))?;
        }
        let value = wire(value);
        return serde_json::to_string_pretty(&value).map_err(failed);
    }
    let template = Template::parse("", format).map_err(failed)?;
    template.execute(&Value::from_json(told), Options::default()).map_err(failed)
}

/// An image with all that belongs to it.
struct Image {
    repository: Repository,
    name: Reference,
    target: Descriptor,
    document: Document,
}

impl Image {
    async fn tell(&self, given: &str) -> Result<Json> {
        let mut told = json!({ "Name": given, "Manifest": self.manifest()? });
        let mut platforms = BTreeMap::new();
        match &self.document {
            Document::Manifest(manifest) => {
                let config = self.config(manifest).await?;
                platforms.insert(platform_of(&config), (config, Vec::new()));
            }
            Document::Index(index) => {
                for one in index.manifests.iter().filter(|one| !one.is_attestation()) {
                    let Document::Manifest(manifest) = self.child(one).await? else { continue };
                    let config = self.config(&manifest).await?;
                    let statements = self.statements(index, &one.digest).await?;
                    let platform = one.platform.as_ref().map_or_else(|| platform_of(&config), ToString::to_string);
                    platforms.insert(platform, (config, statements));
                }
            }
        }
        let is_one = platforms.len() == 1;
        let (mut images, mut sboms, mut origins) = (Map::new(), Map::new(), Map::new());
        for (platform, (config, statements)) in platforms {
            images.insert(platform.clone(), go_names(&config));
            let found = |kind: &str| {
                let fits = |one: &&Json| one["predicateType"].as_str().is_some_and(|text| text.starts_with(kind));
                statements.iter().filter(fits).map(|one| one["predicate"].clone()).collect::<Vec<_>>()
            };
            if let [first, rest @ ..] = found("https://spdx.dev/").as_slice() {
                let mut sbom = json!({ "SPDX": first });
                if !rest.is_empty() {
                    sbom["AdditionalSPDXs"] = json!(rest);
                }
                sboms.insert(platform.clone(), sbom);
            }
            if let Some(origin) = found("https://slsa.dev/").into_iter().next() {
                origins.insert(platform, json!({ "SLSA": origin }));
            }
        }
        for (name, all) in [("Image", images), ("SBOM", sboms), ("Provenance", origins)] {
            told[name] = match (is_one, all.values().next()) {
                (true, Some(only)) => only.clone(),
                (true, None) => json!({}),
                (false, _) => Json::Object(all),
            };
        }
        Ok(told)
    }

    /// What the name stands for, as Go's types have it.
    fn manifest(&self) -> Result<Json> {
        let target = &self.target;
        let of_target = serde_json::to_value(target).map_err(failed)?;
        let Document::Index(index) = &self.document else { return Ok(go_names(&of_target)) };
        let whole = json!({
            "schemaVersion": index.schema_version,
            "mediaType": index.media_type,
            "digest": target.digest,
            "size": target.size,
            "manifests": index.manifests,
            "annotations": index.annotations,
        });
        Ok(go_names(&whole))
    }

    async fn child(&self, descriptor: &Descriptor) -> Result<Document> {
        let bytes = self.repository.manifest(descriptor).await.map_err(|error| worded(&self.name, error))?;
        Document::parse(&bytes, Some(&descriptor.media_type)).map_err(failed)
    }

    async fn config(&self, manifest: &Manifest) -> Result<Json> {
        let bytes = self.repository.small_blob(&manifest.config, LIMIT).await;
        serde_json::from_slice(&bytes.map_err(|error| worded(&self.name, error))?).map_err(failed)
    }

    /// Statements about one image of an index.
    async fn statements(&self, index: &Index, digest: &Digest) -> Result<Vec<Json>> {
        let is_about = |one: &&Descriptor| {
            let about = one.annotations.get("vnd.docker.reference.digest");
            one.is_attestation() && about.is_some_and(|about| about == digest.as_str())
        };
        let mut statements = Vec::new();
        for one in index.manifests.iter().filter(is_about) {
            let Document::Manifest(manifest) = self.child(one).await? else { continue };
            for layer in manifest.layers.iter().filter(|layer| layer.media_type == STATEMENT) {
                let bytes = self.repository.small_blob(layer, LIMIT).await;
                let bytes = bytes.map_err(|error| worded(&self.name, error))?;
                statements.push(serde_json::from_slice(&bytes).map_err(failed)?);
            }
        }
        Ok(statements)
    }
}

fn platform_of(config: &Json) -> String {
    let part = |name: &str| config[name].as_str().unwrap_or_default();
    let parts = [part("os"), part("architecture"), part("variant")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

/// Fields whose names in Go differ by more than their first letters.
const NAMES: &[(&str, &str)] = &[
    ("architecture", "Architecture"),
    ("author", "Author"),
    ("comment", "Comment"),
    ("config", "Config"),
    ("created", "Created"),
    ("created_by", "CreatedBy"),
    ("data", "Data"),
    ("diff_ids", "DiffIDs"),
    ("digest", "Digest"),
    ("empty_layer", "EmptyLayer"),
    ("history", "History"),
    ("manifests", "Manifests"),
    ("mediaType", "MediaType"),
    ("os", "OS"),
    ("os.features", "OSFeatures"),
    ("os.version", "OSVersion"),
    ("platform", "Platform"),
    ("rootfs", "RootFS"),
    ("schemaVersion", "SchemaVersion"),
    ("size", "Size"),
    ("type", "Type"),
    ("urls", "URLs"),
    ("variant", "Variant"),
    ("artifactType", "ArtifactType"),
    ("annotations", "Annotations"),
];

/// A document with the names that templates know its fields by.
fn go_names(document: &Json) -> Json {
    renamed(document, &|key| NAMES.iter().find(|(wire, _)| *wire == key).map(|(_, go)| *go))
}

/// The other way round.
fn wire(document: &Json) -> Json {
    renamed(document, &|key| NAMES.iter().find(|(_, go)| *go == key).map(|(wire, _)| *wire))
}

fn renamed(document: &Json, name: &dyn Fn(&str) -> Option<&'static str>) -> Json {
    match document {
        Json::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| {
                // Keys of these are the user's own.
                let is_free =
                    matches!(key.as_str(), "annotations" | "Annotations" | "config" | "Config" | "SLSA" | "SPDX");
                let value = if is_free { value.clone() } else { renamed(value, name) };
                (name(key).map_or_else(|| key.clone(), str::to_owned), value)
            });
            Json::Object(fields.collect())
        }
        Json::Array(items) => items.iter().map(|item| renamed(item, name)).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_as_json_is_indented() {
        let told = json!({ "Name": "a", "Image": go_names(&json!({ "os": "linux", "config": { "Cmd": ["sh"] } })) });
        assert_eq!(
            rendered("{{json .Image}}", &told).unwrap(),
            "{\n  \"os\": \"linux\",\n  \"config\": {\n    \"Cmd\": [\n      \"sh\"\n    ]\n  }\n}"
        );
        assert_eq!(rendered("{{.Name}} {{.Image.OS}} {{index .Image.Config.Cmd 0}}", &told).unwrap(), "a linux sh");
        assert!(rendered("{{json .Other}}", &told).is_err());
    }

    #[test]
    fn an_index_is_shown_with_its_parts() {
        let name = Reference::parse("h:5/a:1").unwrap();
        let digest = Digest::sha256(b"x");
        let text = json!({ "schemaVersion": 2, "manifests": [
            { "mediaType": "m", "digest": digest, "size": 1, "platform": { "os": "linux", "architecture": "amd64" } },
            { "mediaType": "m", "digest": digest, "size": 1, "platform": { "os": "unknown", "architecture": "unknown" }, "annotations": { "a": "b" } },
        ] });
        let index: Index = serde_json::from_value(text).unwrap();
        let target = Descriptor::new("application/vnd.oci.image.index.v1+json", digest.clone(), 1);
        let shown = shown(&name, &target, &Document::Index(Box::new(index)));
        let expected = format!(
            "Name:      h:5/a:1\nMediaType: application/vnd.oci.image.index.v1+json\nDigest:    {digest}\n           \nManifests: \n  \
             Name:        h:5/a:1@{digest}\n  MediaType:   m\n  Platform:    linux/amd64\n               \n  \
             Name:        h:5/a:1@{digest}\n  MediaType:   m\n  Platform:    unknown/unknown\n  Annotations: \n    a: b\n"
        );
        assert_eq!(shown, expected);
    }
}
