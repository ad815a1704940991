//! Saving, and loading what was saved.

use std::io::{self, Read};

use bytes::Bytes;
use ferry_spec::Platform;
use futures_util::stream;

use super::{Fake, Service, collect, failure, kind_of, said, service, simple, two_platforms};
use crate::images::PullRequest;
use crate::{ErrorKind, Result};

fn platform(text: &str) -> Platform {
    Platform::parse(text).unwrap()
}

async fn save(service: &Service, names: &[&str], platforms: &[&str]) -> Result<Vec<u8>> {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    let platforms = platforms.iter().map(|text| platform(text)).collect();
    let mut archive = service.images.save(names, platforms).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = archive.recv().await {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

async fn load(service: &Service, archive: &[u8], platforms: &[&str]) -> Vec<String> {
    let pieces: Vec<io::Result<Bytes>> = archive.chunks(5000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let platforms = platforms.iter().map(|text| platform(text)).collect();
    said(&collect(service.images.load(stream::iter(pieces), true, platforms).await).await)
}

fn entries(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        found.push((entry.path().unwrap().to_str().unwrap().to_owned(), bytes));
    }
    found
}

fn json(archive: &[u8], name: &str) -> serde_json::Value {
    let entries = entries(archive);
    serde_json::from_slice(&entries.iter().find(|(own, _)| own == name).unwrap().1).unwrap()
}

async fn pull_for(service: &Service, fake: &Fake, rest: &str, text: &str) {
    let reference = format!("{}/{rest}", fake.host);
    let request = PullRequest { reference, platform: Some(platform(text)), ..PullRequest::default() };
    assert_eq!(failure(Ok(collect(service.images.pull(request).await.unwrap()).await)), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_saved_is_the_same_elsewhere() {
    let (fake, from) = (Fake::start().await, service());
    two_platforms(&fake, "multi", "1");
    simple(&fake, "multi", "2");
    pull_for(&from, &fake, "multi:1", "linux/amd64").await;
    pull_for(&from, &fake, "multi:1", "linux/arm64").await;
    from.pull(&fake, "multi:2").await.unwrap();
    let repository = format!("{}/multi", fake.host);
    let archive = save(&from, &[&repository], &[]).await.unwrap();

    let names: Vec<String> = entries(&archive).into_iter().map(|(name, _)| name).collect();
    let mut sorted = names.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(names, sorted, "sorted, each once");
    assert_eq!(names[..2], ["blobs/", "blobs/sha256/"]);
    assert_eq!(names[names.len() - 3..], ["index.json", "manifest.json", "oci-layout"]);
    let index = json(&archive, "index.json");
    assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], format!("{repository}:1"));
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "1");
    let listed = json(&archive, "manifest.json");
    assert_eq!(listed[0]["RepoTags"], serde_json::json!([format!("{repository}:1")]));
    assert_eq!(listed[0]["Layers"].as_array().unwrap().len(), 2);

    let to = service();
    let said = load(&to, &archive, &[]).await;
    assert_eq!(said, [format!("Loaded image: {repository}:1\n"), format!("Loaded image: {repository}:2\n")]);
    for name in [format!("{repository}:1"), format!("{repository}:2")] {
        assert_eq!(from.images.resolve(&name, None).unwrap().id, to.images.resolve(&name, None).unwrap().id);
    }
    let arm = to.images.resolve(&format!("{repository}:1"), Some(&platform("linux/arm64"))).unwrap();
    assert!(to.store.has_layer(&arm.chain_id.unwrap()));
    assert_eq!(archive, save(&to, &[&repository], &[]).await.unwrap(), "saving again gives the same bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_platform_is_saved_and_loaded_alone() {
    let (fake, from) = (Fake::start().await, service());
    two_platforms(&fake, "multi", "1");
    pull_for(&from, &fake, "multi:1", "linux/amd64").await;
    let name = format!("{}/multi:1", fake.host);
    let missing = save(&from, &[&name], &["linux/arm64"]).await.unwrap_err();
    assert_eq!(kind_of(&missing), ErrorKind::NotFound);
    let expected = "does not provide the specified platform (linux/arm64)";
    assert!(missing.text().starts_with("no suitable export target found: image with reference"), "{}", missing.text());
    assert!(missing.text().ends_with(expected), "{}", missing.text());
    // Without a wish the index goes along, and of its images the one that is here.
    assert_eq!(entries(&save(&from, &[&name], &[]).await.unwrap()).len(), 2 + 5 + 3);

    pull_for(&from, &fake, "multi:1", "linux/arm64").await;
    let arm = save(&from, &[&name], &["linux/arm64"]).await.unwrap();
    let to = service();
    let refused = load(&to, &arm, &["linux/amd64"]).await;
    assert_eq!(refused, ["error: requested platform(s) ([linux/amd64]) not found: image might be filtered out"]);
    to.is_clean().await;
    assert_eq!(load(&to, &arm, &[]).await, [format!("Loaded image: {name}\n")]);

    let both = save(&from, &[&name], &[]).await.unwrap();
    let to = service();
    assert_eq!(load(&to, &both, &["linux/arm64"]).await, [format!("Loaded image: {name}\n")]);
    to.images.resolve(&name, Some(&platform("linux/arm64"))).unwrap();
    assert!(to.images.resolve(&name, Some(&platform("linux/amd64"))).is_err());
    // The index, the manifest, its configuration and its two layers.
    super::until("the rest is gone", async || to.store.blobs().unwrap().len() == 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_mean_what_they_mean_in_docker() {
    let (fake, service) = (Fake::start().await, service());
    simple(&fake, "app", "1");
    service.pull(&fake, "app:1").await.unwrap();
    let id = service.images.resolve(&format!("{}/app:1", fake.host), None).unwrap().id;
    for by_id in [id.to_string(), id.hex()[..12].to_owned()] {
        let archive = save(&service, &[&by_id], &[]).await.unwrap();
        assert!(json(&archive, "index.json")["manifests"][0].get("annotations").is_none());
        assert!(json(&archive, "manifest.json")[0]["RepoTags"].is_null());
    }
    for (name, text) in [
        ("nothing", "No such image: nothing:latest"),
        ("nothing:1", "No such image: nothing:1"),
        ("No", "invalid reference format: repository name (library/No) must be lowercase"),
    ] {
        assert_eq!(save(&service, &[name], &[]).await.unwrap_err().text(), text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_ends_the_archive_with_the_reason() {
    let (fake, service) = (Fake::start().await, service());
    simple(&fake, "app", "1");
    service.pull(&fake, "app:1").await.unwrap();
    let name = format!("{}/app:1", fake.host);
    let resolved = service.images.resolve(&name, None).unwrap();
    let all = service.store.blobs().unwrap();
    let (layer, _) =
        all.iter().find(|(digest, _)| *digest != resolved.id && *digest != resolved.config_digest).unwrap();
    let path = service.folder.path().join("content/blobs/sha256").join(layer.hex());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let archive = save(&service, &[&name], &[]).await.unwrap();
    let text = String::from_utf8_lossy(&archive[archive.len().saturating_sub(4096)..]).into_owned();
    assert!(text.contains("\"error\":\"cannot save the images: filesystem layer verification failed"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_loaded_in_every_compression() {
    let (fake, from) = (Fake::start().await, service());
    simple(&fake, "app", "1");
    from.pull(&fake, "app:1").await.unwrap();
    let name = format!("{}/app:1", fake.host);
    let archive = save(&from, &[&name], &[]).await.unwrap();
    let bzip2 = {
        let mut encoder = bzip2::read::BzEncoder::new(&archive[..], bzip2::Compression::fast());
        let mut bytes = Vec::new();
        encoder.read_to_end(&mut bytes).unwrap();
        bytes
    };
    let xz = {
        let mut encoder = liblzma::read::XzEncoder::new(&archive[..], 1);
        let mut bytes = Vec::new();
        encoder.read_to_end(&mut bytes).unwrap();
        bytes
    };
    for (what, bytes) in
        [("gzip", super::gzip(&archive)), ("zstd", super::zstd(&archive)), ("bzip2", bzip2), ("xz", xz)]
    {
        let to = service();
        assert_eq!(load(&to, &bytes, &[]).await, [format!("Loaded image: {name}\n")], "{what}");
        let cut = load(&service(), &bytes[..bytes.len() / 2], &[]).await;
        assert!(
            cut.last().unwrap().starts_with("error: cannot load the archive: cannot read archive"),
            "{what} {cut:?}"
        );
    }
}
