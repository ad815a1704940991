//! Pulls that fail: clear words, and nothing left.

use std::io::Write;

use ferry_spec::{Descriptor, DiffId, Digest, Platform, media_type};

use super::super::PullRequest;
use super::fake::Fake;
use super::{config, failure, gzip, kind_of, layer, service, simple, tree, two_platforms};
use crate::ErrorKind;

/// Pulls `app:1`, which has to fail with a text that contains `text`, and leave nothing.
async fn fails(fake: &Fake, text: &str) {
    let service = service();
    let failure = failure(service.pull(fake, "app:1").await);
    assert!(failure.contains(text), "{failure:?} does not contain {text:?}");
    service.is_clean().await;
    assert!(service.images.inner.state().names.is_empty());
}

fn image_of(fake: &Fake, layer: Descriptor, diff_id: DiffId) {
    fake.image("app", Some("1"), &config("amd64", &[diff_id]), &[layer]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_with_another_digest() {
    let fake = Fake::start().await;
    let (descriptor, diff_id) = layer(&fake, "file", "content");
    let mut bytes = gzip(&tree(&[("file", "content")]));
    *bytes.last_mut().unwrap() ^= 1;
    fake.corrupt_blob(&descriptor, bytes);
    image_of(&fake, descriptor, diff_id);
    fails(&fake, "failed to register layer: ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_ends_early() {
    let fake = Fake::start().await;
    let (descriptor, diff_id) = layer(&fake, "file", &"long ".repeat(10_000));
    image_of(&fake, descriptor, diff_id);
    fake.fault(|faults| faults.cuts = u32::MAX);
    // The configuration is cut too, and comes first.
    fails(&fake, "failed to copy: failed to do request: Get \"http://").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_tar() {
    let fake = Fake::start().await;
    let noise: Vec<u8> = (0..2048u32).map(|n| (n * 7919 % 251) as u8).collect();
    let descriptor = fake.blob(media_type::OCI_LAYER_GZIP, gzip(&noise));
    image_of(&fake, descriptor, DiffId(Digest::sha256(&noise)));
    fails(&fake, "failed to register layer: cannot unpack layer ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_tar() {
    let fake = Fake::start().await;
    let whole = tree(&[("file", &"x".repeat(5000))]);
    let half = &whole[..2000];
    let descriptor = fake.blob(media_type::OCI_LAYER_GZIP, gzip(half));
    image_of(&fake, descriptor, DiffId(Digest::sha256(half)));
    fails(&fake, "archive is truncated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_gzip() {
    let fake = Fake::start().await;
    let whole = tree(&[("file", &"x".repeat(5000))]);
    let mut packed = gzip(&whole);
    packed.truncate(packed.len() - 4);
    let descriptor = fake.blob(media_type::OCI_LAYER_GZIP, packed);
    image_of(&fake, descriptor, DiffId(Digest::sha256(&whole)));
    fails(&fake, "failed to register layer: ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_diff_id() {
    let fake = Fake::start().await;
    let (descriptor, _) = layer(&fake, "file", "content");
    image_of(&fake, descriptor, DiffId(Digest::sha256(b"other")));
    fails(&fake, "layer does not match its diff ID").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_layers_than_diff_ids() {
    let fake = Fake::start().await;
    let (a, diff_id) = layer(&fake, "file", "content");
    let (b, _) = layer(&fake, "other", "content");
    fake.image("app", Some("1"), &config("amd64", &[diff_id]), &[a, b]);
    fails(&fake, "mismatched image rootfs and manifest layers: 1 diff IDs for 2 layers").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_size() {
    let fake = Fake::start().await;
    let (descriptor, diff_id) = layer(&fake, "file", "content");
    image_of(&fake, Descriptor { size: descriptor.size + 1, ..descriptor }, diff_id);
    fails(&fake, "unexpected size").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_layer_among_good_ones() {
    let fake = Fake::start().await;
    let mut parts: Vec<_> = (0..5).map(|n| layer(&fake, "file", &n.to_string())).collect();
    parts[3].1 = DiffId(Digest::sha256(b"other"));
    let (layers, diff_ids): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    fake.image("app", Some("1"), &config("amd64", &diff_ids), &layers);
    fails(&fake, "layer does not match its diff ID").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_and_foreign_documents() {
    let fake = Fake::start().await;
    fake.manifest("app", Some("1"), media_type::OCI_MANIFEST, r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#);
    fails(&fake, "ambiguous manifest").await;
    fake.manifest("app", Some("1"), media_type::DOCKER_SCHEMA1_SIGNED, r#"{"schemaVersion":1,"fsLayers":[]}"#);
    fails(&fake, "schema 1 is not supported").await;
    let foreign = fake.blob(media_type::DOCKER_FOREIGN_LAYER, "x");
    image_of(&fake, foreign, DiffId(Digest::sha256(b"x")));
    fails(&fake, "lies outside of the registry").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there() {
    let fake = Fake::start().await;
    two_platforms(&fake, "app", "1");
    let service = service();
    let name = |rest: &str| format!("{}/{rest}", fake.host);
    let error = service.pull(&fake, "app:2").await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::NotFound);
    assert_eq!(error.text(), format!("failed to resolve reference \"{0}\": {0}: not found", name("app:2")));
    let platform = Some(Platform::parse("linux/s390x").unwrap());
    let request = PullRequest { reference: name("app:1"), platform, ..PullRequest::default() };
    let error = service.images.pull(request).await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::NotFound);
    assert!(error.text().starts_with("no matching manifest for linux/s390x in the manifest list entries: "));
    fake.fault(|faults| faults.denied = true);
    let error = service.pull(&fake, "app:1").await.unwrap_err();
    let expected =
        format!("pull access denied for {}, repository does not exist or may require 'docker login'", name("app"));
    assert_eq!((kind_of(&error), error.text()), (ErrorKind::NotFound, expected));
    let error = service.images.resolve(&name("app:1"), None).unwrap_err();
    assert_eq!((kind_of(&error), error.text()), (ErrorKind::NotFound, format!("No such image: {}", name("app:1"))));
    service.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_told_in_the_words_of_the_registry() {
    let fake = Fake::start().await;
    simple(&fake, "app", "1");
    fake.fault(|faults| faults.manifests.extend([(429, Some("0")); 10]));
    let error = service().pull(&fake, "app:1").await.unwrap_err();
    assert_eq!(
        error.text(),
        "error from registry: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_not_there() {
    let service = service();
    let request = PullRequest { reference: "127.0.0.1:1/app:1".to_owned(), ..PullRequest::default() };
    assert_eq!(
        service.images.pull(request).await.unwrap_err().text(),
        "failed to resolve reference \"127.0.0.1:1/app:1\": failed to do request: Head \"https://127.0.0.1:1/v2/app/manifests/1\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zeros_bomb_is_bounded() {
    let fake = Fake::start().await;
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_mode(0o644);
    header.set_size(700 << 20);
    header.set_cksum();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(header.as_bytes()).unwrap();
    for _ in 0..700 {
        encoder.write_all(&[0; 1 << 20]).unwrap();
    }
    let descriptor = fake.blob(media_type::OCI_LAYER_GZIP, encoder.finish().unwrap());
    image_of(&fake, descriptor, DiffId(Digest::sha256(b"never looked at")));
    fails(&fake, "unpacked bytes for each compressed byte").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_as_the_token_server_words_it() {
    let fake = Fake::start().await;
    simple(&fake, "app", "1");
    fake.fault(|faults| faults.token_refusal = Some(r#"{"details":"incorrect username or password"}"#));
    let auth = ferry_registry::Credentials { username: "u".into(), password: "p".into(), ..Default::default() };
    let reference = format!("{}/app:1", fake.host);
    let request = PullRequest { reference, auth: Some(auth), ..PullRequest::default() };
    let error = service().images.pull(request).await.unwrap_err();
    assert_eq!(kind_of(&error), ErrorKind::Unauthorized);
    assert_eq!(error.text(), "authentication required - incorrect username or password");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_goes_on_where_an_earlier_one_broke_off() {
    let (fake, service) = (Fake::start().await, service());
    let content: String = (0..300_000)
        .map(|number: u32| char::from(b'a' + (number.wrapping_mul(2_654_435_761) >> 27) as u8 % 26))
        .collect();
    let tree = super::tree(&[("file", &content)]);
    let blob = fake.blob(media_type::OCI_LAYER, tree.clone());
    let config = config("amd64", &[DiffId(Digest::sha256(&tree))]);
    fake.image("app", Some("1"), &config, std::slice::from_ref(&blob));
    fake.fault(|faults| faults.big_cuts = 20);
    assert_ne!(failure(service.pull(&fake, "app:1").await), "");
    let partial = service.folder.path().join("content/ingest").join(format!("sha256-{}.part", blob.digest.hex()));
    super::until("the beginning is kept", async || partial.exists()).await;
    fake.fault(|faults| faults.big_cuts = 0);
    let kept = std::fs::metadata(&partial).unwrap().len();
    assert!(kept > blob.size / 2);
    let before = fake.bytes_sent();
    assert_eq!(failure(service.pull(&fake, "app:1").await), "");
    let small = config.len() as u64;
    assert!(fake.bytes_sent() - before <= blob.size - kept + small, "nothing of it comes twice");
    let name = format!("{}/app:1", fake.host);
    let resolved = service.images.resolve(&name, None).unwrap();
    let folders = service.store.layer_folders(&resolved.chain_id.unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(folders[0].join("file")).unwrap(), content);
}
