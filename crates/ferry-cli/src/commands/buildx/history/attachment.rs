//! `buildx history inspect attachment`, and what is attached to a record.

use ferry_buildkit_proto::messages::content::{READ, ReadContentRequest, ReadContentResponse};
use ferry_buildkit_proto::messages::control::{BuildHistoryRecord, BuildResultInfo, Descriptor};
use ferry_spec::descriptor::media_type;
use ferry_spec::digest::Digest;

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

/// Everything that is attached to a record, by platform and type.
pub(super) fn all(record: &BuildHistoryRecord) -> Vec<Attachment> {
    let mut found = Vec::new();
    if let Some(info) = &record.result {
        add(&mut found, "", info);
    }
    for (platform, info) in &record.results {
        add(&mut found, platform, info);
    }
    found.sort_by(|one, other| (&one.platform, &one.kind).cmp(&(&other.platform, &other.kind)));
    found
}

fn add(found: &mut Vec<Attachment>, platform: &str, info: &BuildResultInfo) {
    for descriptor in info.attestations.iter().chain(info.results.values()) {
        found.push(Attachment {
            platform: platform.to_owned(),
            digest: descriptor.digest.clone(),
            kind: kind(descriptor),
        });
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
            let found = all(&record).iter().find(fits).map(|one| one.digest.clone());
            found.ok_or_else(|| failed(format!("no matching attachment found for ref {}", go_quote(reference))))?
        }
    };
    context.printer.data(read(&control, &digest).await?)?;
    Ok(0)
}
