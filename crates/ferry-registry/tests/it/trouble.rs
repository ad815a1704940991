//! What fails: for a while, for good, or out of malice.

use std::time::Duration;

use ferry_registry::{Client, ClientConfig, Error, RetryPolicy};
use ferry_spec::{Digest, Reference, media_type};

use crate::fake::{Fake, Origin};
use crate::{client, config, open, read, user};

const BODY: &[u8] = &[7; 400_000];

#[tokio::test]
async fn passing_failures_are_ridden_out() {
    let fake = Fake::start().await;
    let image = fake.image("a", Some("1"), "{}", &[]);
    let layer = fake.blob(media_type::OCI_LAYER_GZIP, BODY);
    fake.fault(|faults| {
        faults.manifests.extend([(503, None), (503, None), (429, Some("0")), (429, Some("0"))]);
        faults.tokens.extend([(500, None), (502, None)]);
        faults.storage.extend([(503, None), (504, None)]);
    });
    let (reference, repository) = open(&fake, "a:1");
    assert_eq!(repository.resolve(&reference).await.unwrap(), image);
    assert_eq!(read(&repository, &layer).await.unwrap(), BODY);
}

#[tokio::test]
async fn a_cut_body_is_resumed_where_it_broke_off() {
    let fake = Fake::start().await;
    let layer = fake.blob(media_type::OCI_LAYER_GZIP, BODY);
    fake.fault(|faults| faults.cuts = 2);
    let (_, repository) = open(&fake, "a:1");
    assert_eq!(read(&repository, &layer).await.unwrap(), BODY);
    assert!(fake.bytes_sent() * 10 <= BODY.len() as u64 * 11, "{} bytes sent", fake.bytes_sent());
    let ranges: Vec<_> = fake.seen().into_iter().filter_map(|seen| seen.range).collect();
    assert!(ranges.contains(&"bytes=200000-".to_owned()) && ranges.contains(&"bytes=300000-".to_owned()), "{ranges:?}");
}

#[tokio::test]
async fn a_storage_without_ranges_is_resumed_by_skipping() {
    let fake = Fake::start().await;
    let layer = fake.blob(media_type::OCI_LAYER_GZIP, BODY);
    fake.fault(|faults| {
        faults.cuts = 2;
        faults.no_ranges = true;
    });
    let (_, repository) = open(&fake, "a:1");
    assert_eq!(read(&repository, &layer).await.unwrap(), BODY);
}

#[tokio::test]
async fn a_token_that_works_once_is_renewed_for_every_blob() {
    let fake = Fake::start().await;
    fake.fault(|faults| faults.token_uses = Some(1));
    let image = fake.image("a", Some("1"), "{}", &[]);
    let layers: Vec<_> = (0..4u8).map(|n| fake.blob(media_type::OCI_LAYER_GZIP, vec![n; 1000])).collect();
    let (reference, repository) = open(&fake, "a:1");
    assert_eq!(repository.resolve(&reference).await.unwrap(), image);
    let blobs = layers.iter().map(|layer| read(&repository, layer));
    for (n, blob) in (0u8..).zip(futures_util::future::join_all(blobs).await) {
        assert_eq!(blob.unwrap(), vec![n; 1000]);
    }
}

#[tokio::test]
async fn failures_that_last_are_told_after_five_tries() {
    let fake = Fake::start().await;
    fake.fault(|faults| faults.manifests.extend([(429, Some("0")); 20]));
    let (reference, repository) = open(&fake, "a:1");
    let error = repository.resolve(&reference).await.unwrap_err();
    assert_eq!(
        error.messages()[0].to_string(),
        "toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"
    );
    // Each try asks twice, since the answer to HEAD cannot say why; one more request learned that a token is needed.
    assert_eq!(fake.count(Origin::Registry, "/manifests/"), 11);
}

#[tokio::test]
async fn missing_things_are_final() {
    let fake = Fake::start().await;
    let (reference, repository) = open(&fake, "a:nope");
    let error = repository.resolve(&reference).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{}/a:nope: not found", fake.host));
    let absent = ferry_spec::Descriptor::new(media_type::OCI_LAYER, Digest::sha256(b"x"), 1);
    assert!(matches!(read(&repository, &absent).await, Err(Error::NotFound { .. })));
    assert_eq!(fake.count(Origin::Registry, "/manifests/"), 2);
}

#[tokio::test]
async fn denied_repositories_are_told() {
    let fake = Fake::start().await;
    fake.fault(|faults| faults.denied = true);
    let (reference, repository) = open(&fake, "a:1");
    let error = repository.resolve(&reference).await.unwrap_err();
    assert!(matches!(&error, Error::Denied { message } if message == "insufficient_scope"), "{error}");
}

#[tokio::test]
async fn refused_passwords_are_told() {
    let fake = Fake::start().await;
    fake.fault(|faults| faults.tokens.push_back((401, None)));
    let reference = Reference::parse(&format!("{}/a:1", fake.host)).unwrap();
    let error = client().repository(&reference, Some(user())).unwrap().resolve(&reference).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to authorize: failed to fetch oauth token");
    assert!(!error.is_unreachable());
}

#[tokio::test]
async fn a_stalled_body_ends_the_transfer() {
    let fake = Fake::start().await;
    let layer = fake.blob(media_type::OCI_LAYER_GZIP, BODY);
    fake.fault(|faults| faults.stall = true);
    let (_, repository) = open(&fake, "a:1");
    let error = read(&repository, &layer).await.unwrap_err();
    assert!(error.to_string().contains("no progress for 0.3 seconds"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn redirects_end() {
    let fake = Fake::start().await;
    let layer = fake.blob(media_type::OCI_LAYER_GZIP, BODY);
    fake.fault(|faults| faults.redirect_loop = true);
    let (_, repository) = open(&fake, "a:1");
    let error = read(&repository, &layer).await.unwrap_err();
    assert!(error.to_string().ends_with("stopped after 10 redirects"), "{error}");
    // The first request learned that a token is needed; ten redirects follow the second one.
    assert_eq!(fake.count(Origin::Registry, "/blobs/"), 12);
}

#[tokio::test]
async fn a_lying_digest_header_is_refused() {
    let fake = Fake::start().await;
    let image = fake.image("a", Some("1"), "{}", &[]);
    fake.fault(|faults| faults.digest_header = Some(Digest::sha256(b"other").to_string()));
    let (reference, repository) = open(&fake, "a:1");
    assert!(matches!(repository.manifest(&image).await, Err(Error::DigestHeader { .. })));
    let by_digest = reference.repository().with_digest(image.digest);
    assert!(matches!(repository.resolve(&by_digest).await, Err(Error::DigestHeader { .. })));
    // By tag the header is all there is, and what it names does not exist.
    let believed = repository.resolve(&reference).await.unwrap();
    assert!(repository.manifest(&believed).await.is_err());
    fake.fault(|faults| faults.digest_header = Some("sha256:../../etc/passwd".to_owned()));
    assert!(matches!(repository.resolve(&reference).await, Err(Error::Protocol { .. })));
}

#[tokio::test]
async fn other_lengths_are_refused() {
    let fake = Fake::start().await;
    let layer = fake.blob(media_type::OCI_LAYER_GZIP, BODY);
    let (_, repository) = open(&fake, "a:1");
    for size in [1, BODY.len() as u64 - 1, BODY.len() as u64 + 1] {
        let wrong = ferry_spec::Descriptor { size, ..layer.clone() };
        assert!(matches!(read(&repository, &wrong).await, Err(Error::Size { .. })), "{size}");
    }
    fake.fault(|faults| faults.endless = true);
    assert!(matches!(read(&repository, &layer).await, Err(Error::Size { .. })));
}

#[tokio::test]
async fn oversized_manifests_are_not_read() {
    let fake = Fake::start().await;
    let big = vec![b' '; (4 << 20) + 1];
    let descriptor = fake.manifest("a", Some("1"), media_type::OCI_MANIFEST, big);
    let (reference, repository) = open(&fake, "a:1");
    assert!(matches!(repository.resolve(&reference).await, Err(Error::TooLarge { .. })));
    let small = ferry_spec::Descriptor { size: 10, ..descriptor };
    assert!(matches!(repository.manifest(&small).await, Err(Error::TooLarge { .. })));
}

#[tokio::test]
async fn an_answer_that_is_no_manifest_is_refused() {
    let fake = Fake::start().await;
    fake.manifest("a", Some("1"), "text/html", "<html>log in to the hotel's network</html>");
    let (reference, repository) = open(&fake, "a:1");
    let error = repository.resolve(&reference).await.unwrap_err();
    assert!(matches!(&error, Error::MediaType { media_type, .. } if media_type == "text/html"), "{error}");
}

#[tokio::test]
async fn corrupt_small_blobs_are_refused() {
    let fake = Fake::start().await;
    let blob = fake.blob(media_type::OCI_CONFIG, "{}");
    fake.corrupt_blob(&blob, "[]");
    let (_, repository) = open(&fake, "a:1");
    assert!(matches!(repository.small_blob(&blob, 10).await, Err(Error::Digest { .. })));
    assert!(matches!(repository.small_blob(&blob, 1).await, Err(Error::TooLarge { .. })));
}

#[tokio::test]
async fn unreachable_is_told_apart() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = unused.local_addr().unwrap().to_string();
    drop(unused);
    // Tries are far apart here: a host that never answered is not waited for.
    let patient = Client::new(ClientConfig {
        retry: RetryPolicy { first_wait: Duration::from_secs(100), ..RetryPolicy::default() },
        ..config()
    });
    let reference = Reference::parse(&format!("{host}/a:1")).unwrap();
    let error = patient.repository(&reference, None).unwrap().resolve(&reference).await.unwrap_err();
    assert!(error.is_unreachable());
    assert_eq!(
        error.to_string(),
        format!(
            "failed to do request: Head \"https://{host}/v2/a/manifests/1\": dial tcp {host}: connect: connection refused"
        )
    );

    let reference = Reference::parse("no-such-host.invalid/a:1").unwrap();
    let error = patient.repository(&reference, None).unwrap().resolve(&reference).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert!(error.to_string().contains("dial tcp: lookup no-such-host.invalid: "), "{error}");
}
