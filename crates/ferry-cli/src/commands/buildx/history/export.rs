//! `buildx history export`: records of builds as a bundle, in the form that Docker Desktop imports.
//!
//! A bundle is an OCI layout in a compressed tar. Each record is a manifest: its configuration is the record, its layers are what the record
//! names, the log of the build first. Of a daemon that names no log, that blob is made here, as BuildKit has it.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_buildkit_proto::Message as _;
use ferry_buildkit_proto::messages::control::{
    BuildHistoryRecord, BuildResultInfo, Descriptor, Exporter, StatusRequest, StatusResponse,
};
use ferry_buildkit_proto::messages::{RpcStatus, Timestamp};
use ferry_spec::descriptor::media_type;
use ferry_spec::digest::Digest;
use ferry_spec::tar::{self, Entry, Kind};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

use super::super::control::{Control, next};
use super::super::failed;
use super::attachment::read;
use super::records::{is_over, query};
use crate::context::Context;
use crate::failure::Result;
use crate::flags::{Parsed, go_quote};

/// The type of a record.
const RECORD: &str = "application/vnd.buildkit.historyrecord.v0";
/// The type of the log of a build: messages of status, each after its length.
const LOG: &str = "application/vnd.buildkit.status.v0";
/// The annotation of a layer with the type that it has in truth; as a layer it is nothing that could be followed.
const TRUE_TYPE: &str = "vnd.export-build.descriptor.mediatype";
/// The annotation of a manifest with the record's reference.
const REFERENCE: &str = "vnd.buildkit.history.reference";

/// Runs `buildx history export`.
pub(in crate::commands) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let all = parsed.on("all");
    if all && !parsed.args.is_empty() {
        return Err(failed("cannot specify refs when using --all"));
    }
    let output = parsed.text_or_empty("output");
    let control = Control::open(parsed, context).await?;
    let records = chosen(&control, &parsed.args, all).await?;
    if output.is_empty() && io::stdout().is_terminal() {
        return Err(failed("refusing to write to console, use --output to specify a file"));
    }
    let bytes = bundle(&control, &records, context).await?;
    match output {
        "" => context.printer.data(bytes)?,
        path => std::fs::write(path, bytes)
            .map_err(|error| failed(format!("failed to create output file {}: {error}", go_quote(path))))?,
    }
    Ok(0)
}

/// The records that are asked for; without a word the newest.
async fn chosen(control: &Control, references: &[String], all: bool) -> Result<Vec<BuildHistoryRecord>> {
    let newest = [String::new()];
    let mut records = Vec::new();
    let references: &[String] = if references.is_empty() { &newest } else { references };
    for reference in references {
        let mut found = query(control, reference, &[]).await?;
        found.retain(is_over);
        if !all {
            found.truncate(1);
        }
        if found.is_empty() {
            return Err(match reference.as_str() {
                "" => failed("no records found"),
                other => failed(format!("no record found for ref {}", go_quote(other))),
            });
        }
        records.extend(found);
    }
    Ok(records)
}

/// Blobs by their digests, put together.
#[derive(Default)]
struct Bundle {
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Bundle {
    /// Adds a blob and describes it.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = Digest::sha256(&bytes);
        let described = json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() });
        self.blobs.insert(digest.hex().to_owned(), bytes);
        described
    }

    fn add_json(&mut self, media_type: &str, value: &Value) -> Result<Value> {
        let bytes = serde_json::to_vec_pretty(value).map_err(failed)?;
        Ok(self.add(media_type, bytes))
    }

    /// The whole, as a compressed tar with everything in the order of its names.
    fn packed(mut self, target: &Value) -> Result<Vec<u8>> {
        let file = |path: &str, bytes: &[u8]| {
            let size = bytes.len() as u64;
            let mut entry = tar::header(&Entry { size, stored_bytes: size, ..Entry::new(Kind::File, path, 0o444) });
            entry.extend_from_slice(bytes);
            entry.resize(entry.len() + usize::try_from(tar::padding(size)).unwrap_or_default(), 0);
            entry
        };
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        for folder in ["blobs/", "blobs/sha256/"] {
            packer.write_all(&tar::header(&Entry::new(Kind::Folder, folder, 0o755)))?;
        }
        for (hex, bytes) in std::mem::take(&mut self.blobs) {
            packer.write_all(&file(&format!("blobs/sha256/{hex}"), &bytes))?;
        }
        let index = json!({ "schemaVersion": 2, "manifests": [target] });
        packer.write_all(&file("index.json", &serde_json::to_vec(&index).map_err(failed)?))?;
        packer.write_all(&file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#))?;
        packer.write_all(&tar::END)?;
        Ok(packer.finish()?)
    }
}

async fn bundle(control: &Control, records: &[BuildHistoryRecord], context: &Context) -> Result<Vec<u8>> {
    let mut bundle = Bundle::default();
    let mut manifests = Vec::new();
    for record in records {
        let mut manifest = add_record(&mut bundle, control, record, context).await?;
        if records.len() > 1 {
            manifest["annotations"] = json!({ REFERENCE: record.reference });
        }
        manifests.push(manifest);
    }
    let target = match manifests.as_slice() {
        [one] => one.clone(),
        _ => {
            let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests });
            bundle.add_json(media_type::OCI_INDEX, &index)?
        }
    };
    bundle.packed(&target)
}

/// Adds a record with what it names, and describes its manifest.
async fn add_record(
    bundle: &mut Bundle,
    control: &Control,
    record: &BuildHistoryRecord,
    context: &Context,
) -> Result<Value> {
    let log = match &record.logs {
        Some(named) => read(control, &named.digest).await?,
        None => log(control, &record.reference).await?,
    };
    let log = bundle.add(LOG, log);
    let mut told = told(record);
    told["logs"] = json!({ "media_type": LOG, "digest": log["digest"], "size": log["size"] });
    let config = bundle.add_json(RECORD, &told)?;
    let mut layers = vec![log];
    for info in record.result.iter().chain(record.results.values()) {
        let statements = info.attestations.iter().map(|one| (one, false));
        for (descriptor, is_result) in statements.chain(info.results.values().map(|one| (one, true))) {
            if layers.iter().any(|known| known["digest"] == descriptor.digest.as_str()) {
                continue;
            }
            match read(control, &descriptor.digest).await {
                Ok(bytes) => layers.push(layer(bundle, descriptor, is_result, bytes)),
                // An image may have been removed since.
                Err(_) => context.printer.log("warning", &format!("{} is not here any more", descriptor.digest)),
            }
        }
    }
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers });
    bundle.add_json(media_type::OCI_MANIFEST, &manifest)
}

fn layer(bundle: &mut Bundle, descriptor: &Descriptor, is_result: bool, bytes: Vec<u8>) -> Value {
    let media_type = if is_result { "application/json" } else { descriptor.media_type.as_str() };
    let mut layer = bundle.add(media_type, bytes);
    let mut annotations = descriptor.annotations.clone();
    if is_result {
        annotations.insert(TRUE_TYPE.to_owned(), descriptor.media_type.clone());
    }
    if !annotations.is_empty() {
        layer["annotations"] = json!(annotations);
    }
    layer
}

/// Everything that was told of a build while it went on.
async fn log(control: &Control, reference: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut replies = control.listen("Status", &StatusRequest { reference: reference.to_owned() }).await?;
    while let Some(status) = next::<StatusResponse>(&mut replies).await? {
        let encoded = status.encode_to_vec();
        bytes.extend(u32::try_from(encoded.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(encoded);
    }
    Ok(bytes)
}

/// A record as Go writes BuildKit's message: what is empty is left out.
fn told(record: &BuildHistoryRecord) -> Value {
    let infos: Map<String, Value> = record.results.iter().map(|(name, one)| (name.clone(), info(one))).collect();
    let exporters: Vec<Value> = record.exporters.iter().map(exporter).collect();
    with_what_is_told([
        ("Ref", json!(record.reference)),
        ("Frontend", json!(record.frontend)),
        ("FrontendAttrs", json!(options(&record.frontend_attrs))),
        ("Exporters", json!(exporters)),
        ("error", record.error.as_ref().map(error).unwrap_or_default()),
        ("CreatedAt", record.created_at.map(moment).unwrap_or_default()),
        ("CompletedAt", record.completed_at.map(moment).unwrap_or_default()),
        ("ExporterResponse", json!(record.exporter_response)),
        ("Result", record.result.as_ref().map(info).unwrap_or_default()),
        ("Results", Value::Object(infos)),
        ("Generation", json!(record.generation)),
        ("pinned", json!(record.pinned)),
        ("numCachedSteps", json!(record.num_cached_steps)),
        ("numTotalSteps", json!(record.num_total_steps)),
        ("numCompletedSteps", json!(record.num_completed_steps)),
        ("numWarnings", json!(record.num_warnings)),
        ("DefaultPlatform", json!(ferry_spec::Platform::host().to_string())),
    ])
}

/// The options of a build, without what is said to caches: that may hold keys.
fn options(given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let harmless = |(name, value): (&String, &String)| {
        let value = if name == "cache-imports" { caches(value).unwrap_or_default() } else { value.clone() };
        (name.clone(), value)
    };
    given.iter().map(harmless).collect()
}

fn caches(written: &str) -> Option<String> {
    let mut all: Vec<Value> = serde_json::from_str(written).ok()?;
    for attributes in all.iter_mut().filter_map(|one| one.get_mut("Attrs")?.as_object_mut()) {
        attributes.retain(|name, _| matches!(name.as_str(), "scope" | "ref"));
    }
    serde_json::to_string(&all).ok()
}

fn exporter(exporter: &Exporter) -> Value {
    with_what_is_told([("Type", json!(exporter.kind)), ("Attrs", json!(exporter.attrs))])
}

fn error(status: &RpcStatus) -> Value {
    let details: Vec<Value> = status
        .details
        .iter()
        .map(|one| {
            with_what_is_told([("type_url", json!(one.type_url)), ("value", json!(STANDARD.encode(&one.value)))])
        })
        .collect();
    with_what_is_told([("code", json!(status.code)), ("message", json!(status.message)), ("details", json!(details))])
}

fn moment(time: Timestamp) -> Value {
    with_what_is_told([("seconds", json!(time.seconds)), ("nanos", json!(time.nanos))])
}

fn info(info: &BuildResultInfo) -> Value {
    let results: Map<String, Value> =
        info.results.iter().map(|(place, one)| (place.to_string(), descriptor(one))).collect();
    let statements: Vec<Value> = info.attestations.iter().map(descriptor).collect();
    with_what_is_told([("Attestations", json!(statements)), ("Results", Value::Object(results))])
}

fn descriptor(descriptor: &Descriptor) -> Value {
    with_what_is_told([
        ("media_type", json!(descriptor.media_type)),
        ("digest", json!(descriptor.digest)),
        ("size", json!(descriptor.size)),
        ("annotations", json!(descriptor.annotations)),
    ])
}

/// An object of the fields that hold something.
fn with_what_is_told<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let is_told = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    };
    let told = fields.into_iter().filter(|(_, value)| is_told(value));
    Value::Object(told.map(|(name, value)| (name.to_owned(), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_written_as_by_go() {
        let record = BuildHistoryRecord {
            reference: "r".to_owned(),
            frontend_attrs: BTreeMap::from([(
                "cache-imports".to_owned(),
                r#"[{"Type":"s3","Attrs":{"scope":"x","secret_access_key":"k"}}]"#.to_owned(),
            )]),
            error: Some(RpcStatus { code: 2, message: "no".to_owned(), details: Vec::new() }),
            created_at: Some(Timestamp { seconds: 5, nanos: 0 }),
            ..BuildHistoryRecord::default()
        };
        let told = told(&record);
        assert_eq!(told["error"], json!({ "code": 2, "message": "no" }));
        assert_eq!(told["CreatedAt"], json!({ "seconds": 5 }));
        assert_eq!(told["FrontendAttrs"]["cache-imports"], r#"[{"Type":"s3","Attrs":{"scope":"x"}}]"#);
        assert!(told.get("pinned").is_none() && told.get("Exporters").is_none(), "{told}");
    }
}
