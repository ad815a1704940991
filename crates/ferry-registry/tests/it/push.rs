//! Writing: what is there, what is mounted, what is sent, and what breaks off.

use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ferry_registry::{BlobSource, Error, Pushed, Repository, Result};
use ferry_spec::{Descriptor, Digest, media_type};

use crate::fake::{Fake, Origin};
use crate::{client, reference, user};

const SIZE: usize = 400_000;

/// Bytes to send.
pub(crate) struct Content(Vec<u8>);

impl Content {
    pub(crate) fn of(bytes: &[u8]) -> Arc<Self> {
        Arc::new(Self(bytes.to_vec()))
    }
}

impl BlobSource for Content {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.0[usize::try_from(offset).unwrap()..].to_vec())))
    }
}

fn content() -> (Descriptor, Vec<u8>) {
    let bytes: Vec<u8> = (0..SIZE).map(|number| (number / 7) as u8).collect();
    (Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::sha256(&bytes), bytes.len() as u64), bytes)
}

fn writable(fake: &Fake, rest: &str) -> Repository {
    client().repository_to_write(&reference(fake, rest), Some(user()), &["from".to_owned()]).unwrap()
}

async fn send(repository: &Repository, blob: &Descriptor, bytes: Vec<u8>, from: Option<&str>) -> Result<(Pushed, u64)> {
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let note = Arc::new(move |at| count.store(at, Ordering::SeqCst));
    let pushed = repository.push_blob(blob, Some(Arc::new(Content(bytes))), from, note).await?;
    Ok((pushed, sent.load(Ordering::SeqCst)))
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_then_manifest_then_tag() {
    let fake = Fake::start().await;
    let repository = writable(&fake, "to:1");
    let (blob, bytes) = content();
    assert_eq!(send(&repository, &blob, bytes.clone(), None).await.unwrap(), (Pushed::Uploaded, SIZE as u64));
    assert_eq!(send(&repository, &blob, bytes, None).await.unwrap(), (Pushed::Exists, 0));
    assert!(fake.has_pushed("to", &blob.digest));
    let manifest =
        serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": [blob]}).to_string();
    let descriptor =
        Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256(manifest.as_bytes()), manifest.len() as u64);
    for expected in [Pushed::Uploaded, Pushed::Exists] {
        assert_eq!(repository.push_manifest(&descriptor, manifest.as_bytes(), Some("1")).await.unwrap(), expected);
    }
    assert_eq!(fake.pushed_manifest("to", "1").unwrap().1, manifest.as_bytes());
    let scopes: Vec<String> =
        fake.seen().into_iter().filter(|seen| seen.origin == Origin::Token).map(|seen| seen.query).collect();
    assert_eq!(
        scopes,
        ["service=registry.fake&account=user&scope=repository%3Ato%3Apull%2Cpush&scope=repository%3Afrom%3Apull"],
        "one token for all of it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_another_repository_is_mounted() {
    let fake = Fake::start().await;
    let (blob, bytes) = content();
    send(&writable(&fake, "from:1"), &blob, bytes.clone(), None).await.unwrap();
    let repository = writable(&fake, "to:1");
    let mounted = Pushed::Mounted("from".to_owned());
    assert_eq!(send(&repository, &blob, bytes.clone(), Some("from")).await.unwrap(), (mounted, 0));
    assert!(fake.has_pushed("to", &blob.digest));
    // Where it is not, the upload that the registry offers instead is used.
    let other = writable(&fake, "third:1");
    assert_eq!(send(&other, &blob, bytes, Some("nowhere")).await.unwrap().0, Pushed::Uploaded);
    assert_eq!(fake.seen().iter().filter(|seen| seen.method == "POST" && seen.path.contains("third")).count(), 1);
    let missing =
        repository.push_blob(&Descriptor::new("", Digest::sha256(b"x"), 1), None, None, Arc::new(|_| ())).await;
    assert!(matches!(missing.unwrap_err(), Error::NotFound { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_goes_on_where_it_was() {
    let fake = Fake::start().await;
    fake.fault(|faults| faults.upload_cuts = 2);
    let (blob, bytes) = content();
    let repository = writable(&fake, "to:1");
    assert_eq!(send(&repository, &blob, bytes, None).await.unwrap(), (Pushed::Uploaded, SIZE as u64));
    let ranges: Vec<String> = fake.seen().into_iter().filter_map(|seen| seen.content_range).collect();
    assert_eq!(ranges, ["200000-399999", "300000-399999"]);
    assert_eq!(fake.seen().iter().filter(|seen| seen.method == "POST").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_registry_forgot_starts_anew() {
    let fake = Fake::start().await;
    fake.fault(|faults| (faults.upload_cuts, faults.forgetful) = (1, true));
    fake.fault(|faults| faults.uploads.extend([(503, None), (429, None)]));
    let (blob, bytes) = content();
    let repository = writable(&fake, "to:1");
    assert_eq!(send(&repository, &blob, bytes, None).await.unwrap().0, Pushed::Uploaded);
    assert!(fake.has_pushed("to", &blob.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_stay_at_home_when_uploads_go_elsewhere() {
    let fake = Fake::start().await;
    fake.fault(|faults| faults.uploads_elsewhere = true);
    let (blob, bytes) = content();
    send(&writable(&fake, "to:1"), &blob, bytes, None).await.unwrap();
    let elsewhere: Vec<_> = fake.seen().into_iter().filter(|seen| seen.origin == Origin::Storage).collect();
    assert_eq!(elsewhere.len(), 1);
    assert!(elsewhere.iter().all(|seen| seen.authorization.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_final_and_say_why() {
    let fake = Fake::start().await;
    let (blob, bytes) = content();
    fake.fault(|faults| faults.uploads.push_back((403, None)));
    let refused = send(&writable(&fake, "to:1"), &blob, bytes.clone(), None).await.unwrap_err();
    assert_eq!(refused.messages()[0].text(), "requested access to the resource is denied");
    fake.fault(|faults| faults.denied = true);
    let denied = send(&writable(&fake, "to:1"), &blob, bytes.clone(), None).await.unwrap_err();
    assert_eq!(
        denied.to_string(),
        "push access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"
    );
    let wrong = Descriptor::new("", Digest::sha256(b"other"), SIZE as u64);
    fake.fault(|faults| faults.denied = false);
    let refused = send(&writable(&fake, "to:1"), &wrong, bytes, None).await.unwrap_err();
    assert_eq!(refused.messages()[0].code, "DIGEST_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_takes_little_at_once_gets_chunks() {
    let fake = Fake::start().await;
    fake.fault(|faults| faults.most_sent = Some(1_100_000));
    let bytes: Vec<u8> = (0..3_500_000u32).map(|number| (number / 5) as u8).collect();
    let blob = Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::sha256(&bytes), bytes.len() as u64);
    let repository = writable(&fake, "to:1");
    assert_eq!(send(&repository, &blob, bytes, None).await.unwrap().0, Pushed::Uploaded);
    let chunks: Vec<String> = fake.seen().into_iter().filter_map(|seen| seen.content_range).collect();
    assert_eq!(
        chunks[chunks.len() - 4..],
        ["0-1048575", "1048576-2097151", "2097152-3145727", "3145728-3499999"],
        "{chunks:?}"
    );
    // One that takes even less is not to be helped.
    fake.fault(|faults| faults.most_sent = Some(1000));
    let (other, bytes) = content();
    let refused = send(&repository, &other, bytes, None).await.unwrap_err();
    assert!(refused.to_string().contains("413"), "{refused}");
}
