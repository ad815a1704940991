//! Loading and importing.

use std::io;

use bytes::Bytes;
use ferry_spec::{DiffId, Digest, media_type};
use futures_util::stream;

use super::super::{ImportRequest, ListOptions};
use super::{Service, collect, config, gzip, said, service, tree};

async fn load(service: &Service, archive: Vec<u8>) -> Vec<String> {
    let pieces: Vec<io::Result<Bytes>> = archive.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    said(&collect(service.images.load(stream::iter(pieces), true, Vec::new()).await).await)
}

fn docker_archive(names: &str, layer: &[u8]) -> Vec<u8> {
    let config = config("amd64", &[DiffId(Digest::sha256(layer))]);
    let table = format!(r#"[{{"Config":"c.json","RepoTags":{names},"Layers":["a/layer.tar"]}}]"#);
    let layer = String::from_utf8(layer.to_vec()).unwrap();
    tree(&[("c.json", &config), ("a/layer.tar", &layer), ("./manifest.json", &table)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_archive_is_loaded() {
    let service = service();
    let layer = tree(&[("file", "content")]);
    for archive in [docker_archive(r#"["app:1","other:2"]"#, &layer), gzip(&docker_archive(r#"["app:1"]"#, &layer))] {
        let said = load(&service, archive).await;
        assert_eq!(said[0], "Loaded image: app:1\n");
    }
    let resolved = service.images.resolve("other:2", None).unwrap();
    assert_eq!(resolved.id, service.images.resolve("app:1", None).unwrap().id);
    let folders = service.store.layer_folders(&resolved.chain_id.unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(folders[0].join("file")).unwrap(), "content");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_names_is_loaded_by_its_id() {
    let service = service();
    let said = load(&service, docker_archive("null", &tree(&[("file", "content")]))).await;
    let id = said[0].strip_prefix("Loaded image ID: ").unwrap().trim_end();
    service.images.resolve(id, None).unwrap();
    let list = service.images.list(ListOptions::default()).await.unwrap();
    assert!(list[0].repo_tags.is_empty() && list[0].repo_digests.is_empty());
}

/// An OCI layout of one image; `change` may spoil a file.
fn layout(annotations: &str, change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let layer = tree(&[("file", "content")]);
    let packed = gzip(&layer);
    let config = config("amd64", &[DiffId(Digest::sha256(&layer))]);
    let describe =
        |kind: &str, bytes: &[u8]| ferry_spec::Descriptor::new(kind, Digest::sha256(bytes), bytes.len() as u64);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": describe(media_type::OCI_CONFIG, config.as_bytes()),
        "layers": [describe(media_type::OCI_LAYER_GZIP, &packed)],
    })
    .to_string();
    let mut target = serde_json::to_value(describe(media_type::OCI_MANIFEST, manifest.as_bytes())).unwrap();
    target["annotations"] = serde_json::from_str(annotations).unwrap();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [target]}).to_string();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::sha256(bytes).hex());
    let mut builder = tar::Builder::new(Vec::new());
    let files = [
        (blob(&packed), packed.clone()),
        (blob(config.as_bytes()), config.clone().into_bytes()),
        (blob(manifest.as_bytes()), manifest.clone().into_bytes()),
        ("index.json".to_owned(), index.into_bytes()),
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
    ];
    for (name, bytes) in files {
        let bytes = change(&name, bytes);
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, &name, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_is_loaded() {
    let service = service();
    let same = |_: &str, bytes| bytes;
    let said = load(&service, layout(r#"{"io.containerd.image.name":"docker.io/library/app:3"}"#, same)).await;
    assert_eq!(said, ["Loaded image: app:3\n"]);
    let resolved = service.images.resolve("app:3", None).unwrap();
    assert!(service.store.has_layer(&resolved.chain_id.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_archives_are_refused_and_leave_nothing() {
    let layer = tree(&[("file", "content")]);
    let flipped = |name: &str, mut bytes: Vec<u8>| {
        if name.starts_with("blobs/") {
            *bytes.last_mut().unwrap() ^= 1;
        }
        bytes
    };
    let escaping = tree(&[("manifest.json", r#"[{"Config":"../../etc/passwd","RepoTags":["a:1"],"Layers":[]}]"#)]);
    let mut truncated = docker_archive(r#"["app:1"]"#, &layer);
    truncated.truncate(1500);
    for (what, archive, text) in [
        ("text", b"hello\n".to_vec(), "error: "),
        ("empty", Vec::new(), "error: cannot load the archive: archive is neither"),
        ("other tar", tree(&[("a", "b")]), "error: cannot load the archive: archive is neither"),
        ("flipped", layout("{}", flipped), "error: cannot load the archive: "),
        ("escaping", escaping, "error: cannot load the archive: \"../../etc/passwd\" is named in"),
        ("truncated", truncated, "error: cannot load the archive: cannot read archive"),
    ] {
        let service = service();
        let said = load(&service, archive).await;
        assert!(said.last().unwrap().starts_with(text), "{what}: {said:?}");
        service.is_clean().await;
    }
}

async fn import(service: &Service, tar: Vec<u8>, request: ImportRequest) -> String {
    let pieces: Vec<io::Result<Bytes>> = tar.chunks(777).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    service.images.import(stream::iter(pieces), request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_imported() {
    let service = service();
    let tar = tree(&[("file", "content")]);
    for (tag, bytes) in [("plain", tar.clone()), ("gzip", gzip(&tar)), ("zstd", super::zstd(&tar))] {
        let request = ImportRequest {
            repository: "app".to_owned(),
            tag: tag.to_owned(),
            changes: vec!["CMD [\"/file\"]".to_owned()],
            message: "by hand".to_owned(),
            platform: None,
        };
        let id = import(&service, bytes, request).await;
        let resolved = service.images.resolve(&format!("app:{tag}"), None).unwrap();
        assert_eq!(resolved.id.to_string(), id);
        assert_eq!(resolved.config.config.cmd.unwrap(), ["/file"]);
        assert_eq!(resolved.config.history[0].comment, "by hand");
        let folders = service.store.layer_folders(&resolved.chain_id.unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(folders[0].join("file")).unwrap(), "content", "{tag}");
    }
    let nameless = import(&service, tree(&[("other", "x")]), ImportRequest::default()).await;
    service.images.resolve(&nameless, None).unwrap();
}
