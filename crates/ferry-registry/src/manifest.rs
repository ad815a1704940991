//! Manifests: a name becomes a descriptor, a descriptor becomes verified bytes.

use ferry_spec::manifest::MAX_MANIFEST_BYTES;
use ferry_spec::{Descriptor, Digest, Document, Reference, media_type};
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method};

use crate::Repository;
use crate::client::{Host, Inner};
use crate::error::{Error, Result};
use crate::request::{Wanted, content_at, expect_content};
use crate::transport::{Answer, shown};

const DIGEST_HEADER: &str = "docker-content-digest";

/// What we understand, and last anything, so that the error can tell what there is instead.
const ACCEPTED: &str = "application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, */*";

impl Repository {
    /// Finds out what `reference` stands for at present: its digest where it has one, else its tag.
    ///
    /// Costs a `HEAD`, which registries do not count against limits; only registries whose answer to it tells too little are
    /// asked for the content.
    ///
    /// # Errors
    /// [`Error::NotFound`] names the reference.
    pub async fn resolve(&self, reference: &Reference) -> Result<Descriptor> {
        let inner = &self.0;
        let object = reference
            .digest()
            .map(ToString::to_string)
            .or_else(|| reference.tag().map(str::to_owned))
            .ok_or_else(|| Error::Configuration("object required".to_owned()))?;
        inner.at_some_host(|at| inner.resolve_at(&inner.hosts[at], reference, &object)).await
    }

    /// Fetches the manifest or index that `descriptor` points at.
    ///
    /// # Errors
    /// [`Error::Digest`], [`Error::DigestHeader`] and [`Error::Size`] when it is something else.
    pub async fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let inner = &self.0;
        inner.at_some_host(|at| inner.manifest_at(&inner.hosts[at], descriptor)).await
    }
}

impl Inner {
    async fn resolve_at(&self, host: &Host, reference: &Reference, object: &str) -> Result<Descriptor> {
        let by_digest = reference.digest().is_some();
        let head = self.ask_manifest(host, Method::HEAD, object, by_digest).await?;
        // 405: no HEAD here. 403 and 429: the body says why, and the answer to a HEAD has none.
        if !matches!(head.status().as_u16(), 403 | 405 | 429) {
            let head = expect_content(head, |_| reference.to_string()).await?;
            if let Some(descriptor) = described(&head, reference.digest())? {
                return Ok(descriptor);
            }
        }
        let answer = self.ask_manifest(host, Method::GET, object, by_digest).await?;
        let answer = expect_content(answer, |_| reference.to_string()).await?;
        descriptor_of(answer, reference.digest()).await
    }

    async fn manifest_at(&self, host: &Host, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let digest = &descriptor.digest;
        if descriptor.size > MAX_MANIFEST_BYTES {
            return Err(Error::TooLarge { what: format!("manifest {digest}"), limit: MAX_MANIFEST_BYTES });
        }
        let answer = self.ask_manifest(host, Method::GET, digest.as_str(), true).await?;
        let answer = expect_content(answer, content_at).await?;
        let url = shown(answer.url());
        let header = answer.header(DIGEST_HEADER).map(str::to_owned);
        let body = answer.body(MAX_MANIFEST_BYTES).await?;
        check(&url, &body, header, digest)?;
        if body.len() as u64 != descriptor.size {
            return Err(Error::Size { url, actual: body.len() as u64, expected: descriptor.size });
        }
        Ok(body)
    }

    async fn ask_manifest(&self, host: &Host, method: Method, object: &str, verified_later: bool) -> Result<Answer> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(ACCEPTED))]);
        self.ask(host, &Wanted { method, what: format!("manifests/{object}"), headers: &headers, verified_later }).await
    }
}

/// Reads the descriptor off the head of an answer, when it is all there.
fn described(head: &Answer, wanted: Option<&Digest>) -> Result<Option<Descriptor>> {
    let media_type = content_type(head);
    let (Some(length), true) = (head.content_length(), is_known(&media_type)) else { return Ok(None) };
    let digest = match (head.header(DIGEST_HEADER), wanted) {
        (Some(text), wanted) => checked_header(&shown(head.url()), text, wanted)?,
        (None, Some(wanted)) => wanted.clone(),
        (None, None) => return Ok(None),
    };
    if length > MAX_MANIFEST_BYTES {
        return Err(Error::TooLarge { what: shown(head.url()), limit: MAX_MANIFEST_BYTES });
    }
    Ok(Some(Descriptor::new(media_type, digest, length)))
}

/// Reads the content to learn its descriptor.
async fn descriptor_of(answer: Answer, wanted: Option<&Digest>) -> Result<Descriptor> {
    let url = shown(answer.url());
    let media_type = content_type(&answer);
    let header = answer.header(DIGEST_HEADER).map(str::to_owned);
    let body = answer.body(MAX_MANIFEST_BYTES).await?;
    let digest = wanted.cloned().unwrap_or_else(|| Digest::sha256(&body));
    check(&url, &body, header, &digest)?;
    let media_type = if is_known(&media_type) || is_schema1(&media_type) {
        media_type
    } else {
        // Some servers know no better than text/plain; then the content has to show what it is.
        match Document::parse(&body, None) {
            Ok(document) => document.media_type().to_owned(),
            Err(_) => return Err(Error::MediaType { url, media_type }),
        }
    };
    Ok(Descriptor::new(media_type, digest, body.len() as u64))
}

fn check(url: &str, body: &[u8], header: Option<String>, expected: &Digest) -> Result<()> {
    if let Some(text) = header {
        checked_header(url, &text, Some(expected))?;
    }
    if expected.verifies(body) {
        return Ok(());
    }
    Err(Error::Digest { what: url.to_owned(), actual: Digest::sha256(body), expected: expected.clone() })
}

fn checked_header(url: &str, text: &str, expected: Option<&Digest>) -> Result<Digest> {
    let digest = Digest::parse(text).map_err(|error| Error::Protocol {
        url: url.to_owned(),
        reason: format!("{text:?} in header not a valid digest: {error}"),
    })?;
    match expected {
        // A digest of the other algorithm says nothing about this one.
        Some(expected) if digest.algorithm() == expected.algorithm() && digest != *expected => {
            Err(Error::DigestHeader { url: url.to_owned(), header: text.to_owned(), expected: expected.clone() })
        }
        Some(expected) => Ok(expected.clone()),
        None => Ok(digest),
    }
}

fn content_type(answer: &Answer) -> String {
    let text = answer.header("content-type").unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_known(media_type: &str) -> bool {
    media_type::is_index(media_type) || media_type::is_manifest(media_type)
}

fn is_schema1(text: &str) -> bool {
    matches!(text, media_type::DOCKER_SCHEMA1 | media_type::DOCKER_SCHEMA1_SIGNED)
}
