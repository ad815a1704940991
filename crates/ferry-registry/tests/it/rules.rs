//! What the rules for registries ask for, one by one, and what shows each.
//!
//! The lines below name tests as `file: function`, the file relative to `crates`. A test here keeps them true.
//!
//! R1, accepted are bytes with the right digest and length alone; documents are bounded
//! - ferry-registry/tests/it/trouble.rs: other_lengths_are_refused
//! - ferry-registry/tests/it/trouble.rs: oversized_manifests_are_not_read
//! - ferry-registry/tests/it/trouble.rs: corrupt_small_blobs_are_refused
//! - ferry-engine/src/images/tests/troubles.rs: a_layer_with_another_digest
//! - ferry-engine/src/images/tests/troubles.rs: another_size
//! - ferry-spec/src/manifest.rs: limits_hold
//! - ferry-spec/src/image.rs: hostile_configurations_are_refused
//! - ferry-spec/src/json.rs: ambiguous_documents_are_refused
//!
//! R2, ambiguous documents, schema 1, lying digest headers and diff IDs are refused
//! - ferry-spec/src/manifest.rs: ambiguity_is_refused
//! - ferry-spec/src/manifest.rs: schema_1_is_named
//! - ferry-registry/tests/it/trouble.rs: a_lying_digest_header_is_refused
//! - ferry-registry/tests/it/trouble.rs: an_answer_that_is_no_manifest_is_refused
//! - ferry-engine/src/images/tests/troubles.rs: ambiguous_and_foreign_documents
//! - ferry-engine/src/images/tests/troubles.rs: another_diff_id
//! - ferry-engine/src/images/tests/troubles.rs: more_layers_than_diff_ids
//!
//! R3, credentials stay with the registry and its token server; TLS is not given up
//! - ferry-registry/tests/it/pull.rs: passwords_reach_the_token_server_alone
//! - ferry-registry/tests/it/pull.rs: credentials_of_another_registry_stay_at_home
//! - ferry-registry/tests/it/pull.rs: basic_authentication_is_answered_and_not_redirected
//! - ferry-registry/tests/it/pull.rs: a_mirror_is_asked_first_and_sees_no_credentials
//! - ferry-registry/tests/it/push.rs: credentials_stay_at_home_when_uploads_go_elsewhere
//! - ferry-registry/tests/it/rules.rs: credentials_cross_neither_to_another_port_nor_to_another_address
//! - ferry-registry/src/transport.rs: redirects_keep_to_the_rules
//! - ferry-registry/src/token.rs: passwords_are_sent_over_plain_http_only_to_those_who_are_listed
//! - ferry-engine/src/images/tests/troubles.rs: ambiguous_and_foreign_documents
//! - ferry-testkit/tests/it/registry_tls.rs: a_private_authority_is_believed_where_its_certificate_lies
//!
//! R4, what may pass is tried again, and goes on where it was
//! - ferry-registry/tests/it/rules.rs: every_step_rides_out_an_overloaded_registry
//! - ferry-registry/tests/it/rules.rs: the_wait_that_a_registry_asks_for_is_kept
//! - ferry-registry/tests/it/rules.rs: a_token_that_expires_in_mid_transfer_is_renewed
//! - ferry-registry/tests/it/trouble.rs: passing_failures_are_ridden_out
//! - ferry-registry/tests/it/trouble.rs: a_cut_body_is_resumed_where_it_broke_off
//! - ferry-registry/tests/it/trouble.rs: a_token_that_works_once_is_renewed_for_every_blob
//! - ferry-registry/tests/it/trouble.rs: failures_that_last_are_told_after_five_tries
//! - ferry-registry/tests/it/trouble.rs: missing_things_are_final
//! - ferry-registry/tests/it/push.rs: an_upload_that_breaks_off_goes_on_where_it_was
//! - ferry-registry/tests/it/push.rs: a_proxy_that_takes_little_at_once_gets_chunks
//! - ferry-engine/src/images/tests/troubles.rs: a_pull_goes_on_where_an_earlier_one_broke_off
//! - ferry-testkit/tests/it/registry_lies.rs: a_pull_goes_on_after_the_daemon_was_killed
//!
//! R5, everything is bounded in time and size
//! - ferry-registry/tests/it/trouble.rs: a_stalled_body_ends_the_transfer
//! - ferry-registry/tests/it/rules.rs: silence_ends_a_transfer_at_every_step
//! - ferry-registry/tests/it/rules.rs: a_long_head_is_refused
//! - ferry-registry/tests/it/trouble.rs: redirects_end
//!
//! R6, one transfer for many, ended when nobody waits for it
//! - ferry-engine/src/images/tests/pulls.rs: twenty_pulls_fetch_each_blob_once
//! - ferry-engine/src/images/tests/pulls.rs: a_transfer_ends_when_nobody_waits_for_it
//! - ferry-testkit/tests/it/registry_lies.rs: clients_come_and_go_while_one_transfer_runs
//!
//! R7, digests are exact before they become names of files
//! - ferry-spec/src/digest.rs: only_exact_digests_parse
//! - ferry-spec/src/digest.rs: serde_refuses_what_is_no_digest
//! - ferry-registry/tests/it/trouble.rs: a_lying_digest_header_is_refused

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ferry_registry::{Client, ClientConfig, Pushed, RetryPolicy};
use ferry_spec::{Descriptor, Digest, media_type};

use crate::fake::{Failing, Fake, Origin};
use crate::push::Content;
use crate::{client, config, open, read, reference, user};

#[test]
fn every_rule_names_tests_that_exist() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut named = 0;
    for line in include_str!("rules.rs").lines().filter_map(|line| line.strip_prefix("//! - ")) {
        let (file, function) = line.split_once(": ").unwrap();
        let text = std::fs::read_to_string(crates.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("fn {function}(")), "{file} has no {function}");
        named += 1;
    }
    assert!(named > 30);
}

const OVERLOADED: [Failing; 4] = [(503, None), (429, Some("0")), (503, Some("0")), (429, None)];

#[tokio::test(flavor = "multi_thread")]
async fn every_step_rides_out_an_overloaded_registry() {
    let fake = Fake::start().await;
    let image = fake.image("a", Some("1"), "{}", &[]);
    let bytes = vec![7; 100_000];
    let layer = fake.blob(media_type::OCI_LAYER_GZIP, bytes.clone());
    let all = || OVERLOADED.into_iter();
    let (reference, repository) = open(&fake, "a:1");
    fake.fault(|faults| faults.tokens.extend(all()));
    fake.fault(|faults| faults.manifests.extend(all()));
    assert_eq!(repository.resolve(&reference).await.unwrap(), image);
    fake.fault(|faults| faults.manifests.extend(all()));
    repository.manifest(&image).await.unwrap();
    fake.fault(|faults| faults.storage.extend(all()));
    assert_eq!(read(&repository, &layer).await.unwrap(), bytes);

    let writable = client().repository_to_write(&crate::reference(&fake, "to:1"), Some(user()), &[]).unwrap();
    let content = Descriptor::new(media_type::OCI_LAYER, Digest::sha256(b"content"), 7);
    let send = || writable.push_blob(&content, Some(Content::of(b"content")), None, Arc::new(|_| ()));
    fake.fault(|faults| faults.tokens.extend(all()));
    fake.fault(|faults| faults.uploads.extend(all()));
    fake.fault(|faults| faults.sent.extend(all()));
    assert_eq!(send().await.unwrap(), Pushed::Uploaded);
    fake.fault(|faults| faults.put_manifests.extend(all()));
    let manifest =
        serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": [content]}).to_string();
    let descriptor =
        Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256(manifest.as_bytes()), manifest.len() as u64);
    assert_eq!(writable.push_manifest(&descriptor, manifest.as_bytes(), Some("1")).await.unwrap(), Pushed::Uploaded);
    fake.fault(|faults| {
        let left = faults.tokens.len() + faults.manifests.len() + faults.storage.len() + faults.uploads.len();
        assert_eq!(left + faults.sent.len() + faults.put_manifests.len(), 0, "every failure was met");
    });
}

#[tokio::test]
async fn the_wait_that_a_registry_asks_for_is_kept() {
    let fake = Fake::start().await;
    let image = fake.image("a", Some("1"), "{}", &[]);
    let reference = reference(&fake, "a:1");
    let resolve = async |retry: RetryPolicy| {
        fake.fault(|faults| faults.manifests = [(429, Some("3600")); 2].into());
        let client = Client::new(ClientConfig { retry, ..config() });
        let repository = client.repository(&reference, None).unwrap();
        tokio::time::timeout(Duration::from_secs(5), repository.resolve(&reference)).await
    };
    // No longer than may be asked for, however much is.
    let short = RetryPolicy {
        first_wait: Duration::from_secs(100),
        longest_asked_wait: Duration::from_millis(5),
        ..RetryPolicy::default()
    };
    assert_eq!(resolve(short).await.unwrap().unwrap(), image);
    // And no shorter: what we would have waited ourselves does not count.
    let long = RetryPolicy {
        first_wait: Duration::from_millis(1),
        longest_asked_wait: Duration::from_secs(60),
        ..RetryPolicy::default()
    };
    fake.fault(|faults| faults.manifests.clear());
    assert!(resolve(long).await.is_err(), "still waiting");
}

#[tokio::test]
async fn a_token_that_expires_in_mid_transfer_is_renewed() {
    let fake = Fake::start().await;
    let bytes = vec![7; 400_000];
    let layer = fake.blob(media_type::OCI_LAYER_GZIP, bytes.clone());
    fake.fault(|faults| (faults.token_uses, faults.cuts) = (Some(1), 2));
    let (_, repository) = open(&fake, "a:1");
    assert_eq!(read(&repository, &layer).await.unwrap(), bytes);
    assert!(fake.bytes_sent() * 10 <= bytes.len() as u64 * 11, "{} bytes sent", fake.bytes_sent());
    assert!(fake.count(Origin::Token, "/token") >= 3, "each range needed a token of its own");
}

#[tokio::test]
async fn credentials_cross_neither_to_another_port_nor_to_another_address() {
    for hosts in [["127.0.0.1"; 3], ["127.0.0.1", "127.0.0.1", "127.0.0.2"]] {
        for basic in [true, false] {
            let fake = Fake::start_at(hosts).await;
            let image = fake.image("a", Some("1"), "{}", &[]);
            let layer = fake.blob(media_type::OCI_LAYER_GZIP, vec![7; 1000]);
            fake.fault(|faults| (faults.basic, faults.manifests_elsewhere) = (basic, true));
            let reference = reference(&fake, "a:1");
            let repository = client().repository(&reference, Some(user())).unwrap();
            assert_eq!(repository.resolve(&reference).await.unwrap(), image);
            repository.manifest(&image).await.unwrap();
            read(&repository, &layer).await.unwrap();
            let elsewhere: Vec<_> = fake.seen().into_iter().filter(|seen| seen.origin == Origin::Storage).collect();
            assert_eq!(elsewhere.len(), 3, "everything was redirected");
            assert!(elsewhere.iter().all(|seen| seen.authorization.is_none() && !seen.cookie), "{elsewhere:?}");
            let at_home = fake.seen().into_iter().filter(|seen| seen.origin == Origin::Registry);
            assert!(
                at_home.filter(|seen| seen.authorization.is_some()).count() >= 3,
                "the control: it is sent at home"
            );
        }
    }
}

#[tokio::test]
async fn silence_ends_a_transfer_at_every_step() {
    let fake = Fake::start().await;
    let image = fake.image("a", Some("1"), "{}", &[]);
    let (reference, repository) = open(&fake, "a:1");
    repository.resolve(&reference).await.unwrap();
    fake.fault(|faults| faults.stalled_manifests = true);
    let error = repository.manifest(&image).await.unwrap_err();
    assert!(error.to_string().ends_with("no progress for 0.3 seconds"), "{error}");
    fake.fault(|faults| (faults.stalled_manifests, faults.silent_tokens) = (false, true));
    let (_, repository) = open(&fake, "a:1");
    let error = repository.resolve(&reference).await.unwrap_err();
    assert!(format!("{error:?}").contains("Stalled"), "{error:?}");
}

#[tokio::test]
async fn a_long_head_is_refused() {
    let fake = Fake::start().await;
    let image = fake.image("a", Some("1"), "{}", &[]);
    let (reference, repository) = open(&fake, "a:1");
    fake.fault(|faults| faults.long_head = Some(50_000));
    assert_eq!(repository.resolve(&reference).await.unwrap(), image);
    fake.fault(|faults| faults.long_head = Some(70_000));
    assert!(repository.resolve(&reference).await.is_err());
    assert!(repository.manifest(&image).await.is_err());
}
