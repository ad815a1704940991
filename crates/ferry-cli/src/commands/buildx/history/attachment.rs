//! `buildx history inspect attachment`, and what is attached to a record.

use ferry_buildkit_proto::messages::content::{READ, ReadContentRequest, ReadContentResponse};
use ferry_buildkit_proto::messages::control::{BuildHistoryRecord, Descriptor};
use ferry_spec::descriptor::media_type;
use ferry_spec::digest::Digest;
use ferry_spec::manifest::Index;

use super::super::control::{Control, next};
use super::super::failed;
use super::records::the_record;
use crate::context::Context;
use crate::failure::Result;
use crate::flags::{Parsed, go_quote};

/// The annotation of a statement that says what it is.
const PREDICATE: &str = "in-toto.io/predicate-type";

/// Something that a record names.
pub(super) struct Attachment {
    pub(super) platform: String,
    pub(super) digest: String,
    pub(super) kind: String,
}

/// Everything that is attached to a record, by platform and type: statements, and what was built as far as it is still here.
pub(super) async fn all(control: &Control, record: &BuildHistoryRecord) -> Vec<Attachment> {
    let mut found = Vec::new();
    let only = record.result.iter().map(|info| (String::new(), info));
    for (platform, info) in only.chain(record.results.iter().map(|(platform, info)| (platform.clone(), info))) {
        for statement in &info.attestations {
            let (digest, kind) = (statement.digest.clone(), kind(statement));
            found.push(Attachment { platform: platform.clone(), digest, kind });
        }
        for result in info.results.values() {
            add_result(control, &mut found, platform.clone(), result).await;
        }
    }
    found.sort_by(|one, other| (&one.platform, &one.kind).cmp(&(&other.platform, &other.kind)));
    found
}

/// Adds an image, and those that an index consists of.
async fn add_result(control: &Control, found: &mut Vec<Attachment>, platform: String, result: &Descriptor) {
    let Ok(bytes) = read(control, &result.digest).await else { return };
    let index = match media_type::is_index(&result.media_type) {
        true => serde_json::from_slice::<Index>(&bytes).ok(),
        false => None,
    };
    let (digest, kind) = (result.digest.clone(), result.media_type.clone());
    found.push(Attachment { platform: platform.clone(), digest, kind });
    for part in index.into_iter().flat_map(|index| index.manifests).filter(|part| !part.is_attestation()) {
        let platform = part.platform.as_ref().map_or_else(|| platform.clone(), ToString::to_string);
        found.push(Attachment { platform, digest: part.digest.to_string(), kind: part.media_type });
    }
}

fn kind(descriptor: &Descriptor) -> String {
    descriptor.annotations.get(PREDICATE).cloned().unwrap_or_else(|| descriptor.media_type.clone())
}

/// Reads what an attachment holds.
pub(super) async fn read(control: &Control, digest: &str) -> Result<Vec<u8>> {
    let request = ReadContentRequest { digest: digest.to_owned(), ..ReadContentRequest::default() };
    let mut replies = control.listen_to(READ, &request).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = next::<ReadContentResponse>(&mut replies).await? {
        bytes.extend_from_slice(&piece.data);
    }
    Ok(bytes)
}

/// What a word for a type stands for.
fn types(word: &str) -> Vec<&str> {
    match word {
        "index" => vec![media_type::OCI_INDEX],
        "manifest" => vec![media_type::OCI_MANIFEST],
        "image" => vec![media_type::OCI_CONFIG],
        "provenance" => vec!["https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2"],
        "sbom" => vec!["https://spdx.dev/Document"],
        other => vec![other],
    }
}

/// Runs `buildx history inspect attachment`.
pub(in crate::commands) async fn run(parsed: &Parsed, context: &Context) -> Result<u8> {
    let reference = parsed.args.first().map_or("", String::as_str);
    let digest = parsed
        .args
        .get(1)
        .map(|text| Digest::parse(text).map_err(|error| failed(format!("invalid digest {}: {error}", go_quote(text)))));
    let digest = digest.transpose()?;
    let (platform, word) = (parsed.text_or_empty("platform"), parsed.text_or_empty("type"));
    if digest.is_none() && platform.is_empty() && word.is_empty() {
        return Err(failed("at least one of --type, --platform or DIGEST must be specified"));
    }
    let control = Control::open(parsed, context).await?;
    let record = the_record(&control, reference).await?;
    let digest = match digest {
        Some(digest) => digest.to_string(),
        None => {
            let fits = |one: &&Attachment| {
                (platform.is_empty() || one.platform == platform)
                    && (word.is_empty() || types(word).contains(&one.kind.as_str()))
            };
            let found = all(&control, &record).await.iter().find(fits).map(|one| one.digest.clone());
            found.ok_or_else(|| failed(format!("no matching attachment found for ref {}", go_quote(reference))))?
        }
    };
    context.printer.data(read(&control, &digest).await?)?;
    Ok(0)
}
