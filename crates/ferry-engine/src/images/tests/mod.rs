//! The images service against a registry of the Hub's shape and a store of its own.

#[path = "../../../../ferry-registry/tests/it/fake.rs"]
mod fake;

mod archives;
mod names;
mod pulls;
mod pushes;
mod saves;
mod troubles;

use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use ferry_api::stream::JsonMessage;
use ferry_registry::{Client, ClientConfig, RetryPolicy, Timeouts};
use ferry_spec::{Descriptor, DiffId, Digest, media_type};
use ferry_store::Store;

use super::{Images, JsonMessageStream, PullRequest};
use crate::events::Events;
use crate::{Error, Result};
use fake::Fake;

/// A service with a data root of its own, which goes with it.
struct Service {
    images: Images,
    store: Store,
    folder: tempfile::TempDir,
}

fn client_config() -> ClientConfig {
    ClientConfig {
        certificates: Vec::new(),
        retry: RetryPolicy { first_wait: Duration::from_millis(2), ..RetryPolicy::default() },
        timeouts: Timeouts { stall: Duration::from_secs(5), ..Timeouts::default() },
        ..ClientConfig::default()
    }
}

fn service() -> Service {
    service_with(client_config())
}

fn service_with(config: ClientConfig) -> Service {
    assert!(rustix::process::geteuid().is_root(), "unpacking layers needs root");
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let events = Events::open(folder.path()).unwrap();
    let images = Images::with_client(store.clone(), Client::new(config), events, 3, 5).unwrap();
    Service { images, store, folder }
}

impl Service {
    async fn pull(&self, fake: &Fake, rest: &str) -> Result<Vec<JsonMessage>> {
        let reference = format!("{}/{rest}", fake.host);
        let request = PullRequest { reference, ..PullRequest::default() };
        Ok(collect(self.images.pull(request).await?).await)
    }

    /// Waits until nothing is left of what was fetched.
    async fn is_clean(&self) {
        until("content is gone", async || {
            self.store.blobs().unwrap().is_empty()
                && self.store.layers().is_empty()
                && !has_files(&self.folder.path().join("content/ingest"))
                && is_empty(&self.folder.path().join("images"))
        })
        .await;
    }
}

/// Beginnings of transfers that broke are kept for a while.
fn has_files(folder: &Path) -> bool {
    let mut files = std::fs::read_dir(folder).unwrap().flatten();
    files.any(|entry| entry.path().extension().is_none_or(|extension| extension != "part"))
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

/// Looks again and again; the test's harness bounds the patience.
async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(20), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn collect(mut stream: JsonMessageStream) -> Vec<JsonMessage> {
    let mut messages = Vec::new();
    while let Some(message) = stream.recv().await {
        messages.push(message);
    }
    messages
}

/// What a stream said, without amounts: `id: status`.
fn said(messages: &[JsonMessage]) -> Vec<String> {
    let steps = messages.iter().filter(|message| message.progress_detail.as_ref().is_none_or(|it| it.current == 0));
    steps
        .map(|message| match (message.id.as_str(), message.error.as_str()) {
            (_, error) if !error.is_empty() => format!("error: {error}"),
            ("", _) => format!("{}{}", message.status, message.stream),
            (id, _) => format!("{id}: {}", message.status),
        })
        .collect()
}

fn failure(outcome: Result<Vec<JsonMessage>>) -> String {
    match outcome {
        Err(error) => error.text(),
        Ok(messages) => messages.last().map(|message| message.error.clone()).unwrap_or_default(),
    }
}

/// A tar with these files.
fn tree(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).unwrap()
}

/// A layer with one file, served by `fake`; returns it with its diff ID.
fn layer(fake: &Fake, name: &str, content: &str) -> (Descriptor, DiffId) {
    let tree = tree(&[(name, content)]);
    (fake.blob(media_type::OCI_LAYER_GZIP, gzip(&tree)), DiffId(Digest::sha256(&tree)))
}

fn config(architecture: &str, diff_ids: &[DiffId]) -> String {
    let history: Vec<_> = diff_ids
        .iter()
        .map(|_| serde_json::json!({"created": "2026-01-02T03:04:05Z", "created_by": "COPY x /"}))
        .chain([serde_json::json!({"created_by": "CMD [\"/x\"]", "empty_layer": true})])
        .collect();
    serde_json::json!({
        "created": "2026-01-02T03:04:05Z",
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/x"], "Labels": {"made": "here"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    })
    .to_string()
}

/// An image of one small layer under `repository:tag`.
fn simple(fake: &Fake, repository: &str, tag: &str) -> Descriptor {
    let (layer, diff_id) = layer(fake, "file", &format!("{repository}:{tag}"));
    fake.image(repository, Some(tag), &config("amd64", &[diff_id]), &[layer])
}

/// An index of an amd64 and an arm64 image that share their lowest layer, and an attestation.
fn two_platforms(fake: &Fake, repository: &str, tag: &str) -> Descriptor {
    let (base, base_id) = layer(fake, "base", "shared");
    let mut children = Vec::new();
    for architecture in ["arm64", "amd64"] {
        let tree = tree(&[("arch", architecture)]);
        let top = fake.blob(media_type::OCI_LAYER_ZSTD, zstd(&tree));
        let config = config(architecture, &[base_id.clone(), DiffId(Digest::sha256(&tree))]);
        let mut child = serde_json::to_value(fake.image(repository, None, &config, &[base.clone(), top])).unwrap();
        child["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
        children.push(child);
    }
    let mut attestation = serde_json::to_value(fake.blob(media_type::OCI_MANIFEST, "{}")).unwrap();
    attestation["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
    attestation["annotations"] = serde_json::json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": children[1]["digest"],
    });
    children.push(attestation);
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children});
    fake.manifest(repository, Some(tag), media_type::OCI_INDEX, index.to_string())
}

fn kind_of(error: &Error) -> crate::ErrorKind {
    error.kind()
}
