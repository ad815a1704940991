//! What works: the usual way, credentials, mirrors, fallbacks.

use ferry_registry::{Client, ClientConfig, Credentials};
use ferry_spec::{Reference, media_type};

use crate::fake::{Fake, Origin};
use crate::{client, config, open, read, reference, user};

const BODY: &[u8] = &[7; 100_000];

#[tokio::test]
async fn a_hub_shaped_registry_is_read() {
    let fake = Fake::start().await;
    let layer = fake.blob(media_type::OCI_LAYER_GZIP, BODY);
    let image = fake.image("library/app", Some("1"), "{}", std::slice::from_ref(&layer));
    let (reference, repository) = open(&fake, "library/app:1");

    let resolved = repository.resolve(&reference).await.unwrap();
    assert_eq!(resolved, image);
    let manifest = repository.manifest(&resolved).await.unwrap();
    assert!(resolved.digest.verifies(&manifest));
    assert_eq!(read(&repository, &layer).await.unwrap(), BODY);

    assert_eq!(fake.count(Origin::Token, "/token"), 1, "one token serves all requests of a repository");
    for seen in fake.seen() {
        match seen.origin {
            Origin::Registry => {
                assert!(!seen.cookie);
                assert!(seen.authorization.is_none_or(|value| value == "Bearer token-0"));
            }
            Origin::Token => {
                assert_eq!(seen.authorization, None);
                assert_eq!(seen.query, "service=registry.fake&scope=repository%3Alibrary%2Fapp%3Apull");
            }
            Origin::Storage => {
                assert_eq!(seen.authorization, None);
                assert_eq!(seen.query, "X-Signature=secret");
            }
        }
    }
}

#[tokio::test]
async fn an_empty_blob_is_read() {
    let fake = Fake::start().await;
    let blob = fake.blob(media_type::OCI_LAYER, "");
    let (_, repository) = open(&fake, "a:1");
    assert_eq!(read(&repository, &blob).await.unwrap(), b"");
}

#[tokio::test]
async fn passwords_reach_the_token_server_alone() {
    let fake = Fake::start().await;
    let layer = fake.blob(media_type::OCI_LAYER_GZIP, BODY);
    fake.image("a", Some("1"), "{}", &[]);
    let reference = reference(&fake, "a:1");
    let repository = client().repository(&reference, Some(user())).unwrap();
    repository.resolve(&reference).await.unwrap();
    read(&repository, &layer).await.unwrap();
    for seen in fake.seen() {
        let has_password = seen.authorization.as_deref() == Some("Basic dXNlcjpwYXNz");
        assert_eq!(has_password, seen.origin == Origin::Token, "{seen:?}");
    }
}

#[tokio::test]
async fn identity_tokens_are_exchanged() {
    let fake = Fake::start().await;
    fake.image("a", Some("1"), "{}", &[]);
    let reference = reference(&fake, "a:1");
    let credentials = Credentials { identity_token: "idtok".into(), ..Credentials::default() };
    client().repository(&reference, Some(credentials)).unwrap().resolve(&reference).await.unwrap();
    let seen = fake.seen().into_iter().find(|seen| seen.origin == Origin::Token).unwrap();
    assert_eq!((seen.method.as_str(), seen.query.as_str()), ("POST", ""));
    assert!(seen.body.contains("grant_type=refresh_token&refresh_token=idtok"), "{}", seen.body);
}

#[tokio::test]
async fn credentials_of_another_registry_stay_at_home() {
    let fake = Fake::start().await;
    fake.image("a", Some("1"), "{}", &[]);
    let reference = reference(&fake, "a:1");
    for address in ["https://example.org", "https://index.docker.io/v1/", "127.0.0.1:1"] {
        let credentials = Credentials { server_address: address.into(), ..user() };
        client().repository(&reference, Some(credentials)).unwrap().resolve(&reference).await.unwrap();
    }
    assert!(fake.seen().iter().all(|seen| !seen.authorization.as_deref().unwrap_or("").starts_with("Basic")));
}

#[tokio::test]
async fn basic_authentication_is_answered_and_not_redirected() {
    let fake = Fake::start().await;
    fake.fault(|faults| faults.basic = true);
    let layer = fake.blob(media_type::OCI_LAYER_GZIP, BODY);
    fake.image("a", Some("1"), "{}", &[]);
    let reference = reference(&fake, "a:1");
    let repository = client().repository(&reference, Some(user())).unwrap();
    repository.resolve(&reference).await.unwrap();
    assert_eq!(read(&repository, &layer).await.unwrap(), BODY);
    assert!(fake.seen().iter().all(|seen| seen.origin == Origin::Registry || seen.authorization.is_none()));

    let anonymous = client().repository(&reference, None).unwrap();
    let error = anonymous.resolve(&reference).await.unwrap_err();
    assert!(error.to_string().ends_with("authorization failed: no basic auth credentials"), "{error}");
}

#[tokio::test]
async fn registries_without_head_are_read() {
    let fake = Fake::start().await;
    fake.fault(|faults| faults.no_head = true);
    let image = fake.image("a", Some("1"), "{}", &[]);
    let (reference, repository) = open(&fake, "a:1");
    assert_eq!(repository.resolve(&reference).await.unwrap(), image);
}

#[tokio::test]
async fn a_vague_content_type_is_resolved_by_looking() {
    let fake = Fake::start().await;
    fake.fault(|faults| faults.content_type = Some("text/plain; charset=utf-8"));
    let image = fake.image("a", Some("1"), "{}", &[]);
    let (reference, repository) = open(&fake, "a:1");
    assert_eq!(repository.resolve(&reference).await.unwrap(), image);
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_sees_no_credentials() {
    let fake = Fake::start().await;
    let image = fake.image("library/app", Some("1"), "{}", &[]);
    let mirrored = Client::new(ClientConfig {
        mirrors: mirrors("docker.io", &["http://127.0.0.1:1", &format!("http://{}", fake.host)]),
        ..config()
    });
    let reference = Reference::parse("app:1").unwrap();
    let repository = mirrored.repository(&reference, Some(user())).unwrap();
    let resolved = repository.resolve(&reference).await.unwrap();
    assert_eq!(resolved, image);
    repository.manifest(&resolved).await.unwrap();
    for seen in fake.seen() {
        assert!(!seen.authorization.as_deref().unwrap_or("").starts_with("Basic"), "{seen:?}");
        assert!(seen.origin != Origin::Registry || seen.query == "ns=docker.io", "{seen:?}");
    }
}

#[tokio::test]
async fn tags_are_listed_over_all_pages() {
    let fake = Fake::start().await;
    for tag in ["1", "2", "latest"] {
        fake.image("a/b", Some(tag), "{}", &[]);
    }
    let (_, repository) = open(&fake, "a/b");
    assert_eq!(repository.tags().await.unwrap(), ["1", "2", "latest"]);
    let (_, repository) = open(&fake, "a/c");
    assert_eq!(repository.tags().await.unwrap_err().to_string(), format!("{}/a/c: not found", fake.host));
}

fn mirrors(registry: &str, urls: &[&str]) -> ferry_registry::Mirrors {
    let mut mirrors = ferry_registry::Mirrors::default();
    mirrors.add(registry, urls.iter().map(|&url| url.to_owned()).collect());
    mirrors
}

#[tokio::test]
async fn any_registry_may_have_a_mirror_with_a_user_of_its_own() {
    let fake = Fake::start().await;
    fake.fault(|faults| faults.basic = true);
    let image = fake.image("team/app", Some("1"), "{}", &[]);
    let url = format!("http://user:pass@{}", fake.host);
    let client = Client::new(ClientConfig { mirrors: mirrors("*.invalid", &[&url]), ..config() });
    let reference = Reference::parse("quay.invalid/team/app:1").unwrap();
    let stolen = Credentials { username: "other".into(), password: "secret".into(), ..Credentials::default() };
    let repository = client.repository(&reference, Some(stolen)).unwrap();
    assert_eq!(repository.resolve(&reference).await.unwrap(), image);
    let seen = fake.seen();
    assert!(seen.iter().all(|seen| seen.query == "ns=quay.invalid"), "the mirror learns which registry is meant");
    let sent: Vec<_> = seen.into_iter().filter_map(|seen| seen.authorization).collect();
    assert!(!sent.is_empty() && sent.iter().all(|text| text == "Basic dXNlcjpwYXNz"), "{sent:?}");
}

#[tokio::test]
async fn a_blob_is_read_from_its_middle() {
    let fake = Fake::start().await;
    let blob = fake.blob(media_type::OCI_LAYER, BODY);
    let (_, repository) = open(&fake, "a:1");
    for offset in [40_000, BODY.len()] {
        let mut stream = repository.blob_from(&blob, offset as u64);
        let mut read = 0;
        while let Some(piece) = stream.next().await.unwrap() {
            read += piece.len();
        }
        assert_eq!(read, BODY.len() - offset);
    }
    let ranges: Vec<_> = fake.seen().into_iter().filter_map(|seen| seen.range).collect();
    assert!(ranges.iter().all(|range| range == "bytes=40000-"), "{ranges:?}");
}
