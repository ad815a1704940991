//! Sending a blob: in one request when nothing goes wrong.
//!
//! What broke off is taken up where the registry says it is, in chunks then: the line, or a proxy in between, may not take all at once. A
//! chunk that is refused for its size, or that did not get through, makes the next ones smaller.

use std::sync::Arc;

use bytes::Bytes;
use ferry_spec::Descriptor;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Url;

use crate::client::{Host, Inner};
use crate::error::{Error, Result};
use crate::push::{BlobSource, SentBytes};
use crate::request::Wanted;
use crate::transport::{Answer, shown};
use crate::upload::Upload;

/// Where a registry tells how small chunks may be.
const LEAST_CHUNK: &str = "oci-chunk-min-length";
/// Bytes of a first chunk.
const FIRST_CHUNK: u64 = 64 << 20;
/// Bytes of the smallest chunk, unless the registry wants more.
const SMALLEST_CHUNK: u64 = 1 << 20;

/// What came of asking for a place to upload to.
pub(crate) enum Begun {
    /// The blob was mounted.
    Done,
    /// Bytes go here.
    At(Place),
}

/// An upload at its registry.
#[derive(Clone)]
pub(crate) struct Place {
    url: Url,
    least_chunk: u64,
}

/// One blob on its way.
struct Sending<'a> {
    host: &'a Host,
    descriptor: &'a Descriptor,
    source: &'a Arc<dyn BlobSource>,
    sent: &'a SentBytes<'static>,
}

impl Sending<'_> {
    fn bytes(&self, offset: u64, length: u64) -> Upload {
        Upload::of_source(Arc::clone(self.source), offset, length, Arc::clone(self.sent))
    }
}

impl Inner {
    /// Asks for a place to upload to, or for the blob that another repository has.
    pub(crate) async fn begin_upload(&self, host: &Host, mount: Option<(&Descriptor, &str)>) -> Result<Begun> {
        let what = match mount {
            None => "blobs/uploads/".to_owned(),
            Some((descriptor, from)) => {
                let from = url_encoded(from);
                format!("blobs/uploads/?mount={}&from={from}", url_encoded(descriptor.digest.as_str()))
            }
        };
        let headers = HeaderMap::new();
        let wanted = Wanted { method: Method::POST, what, headers: &headers, verified_later: false };
        let answer = self.ask_with(host, &wanted, Some(Upload::of_bytes(Bytes::new())), None).await?;
        match answer.status() {
            StatusCode::CREATED if mount.is_some() => Ok(Begun::Done),
            StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
                let least_chunk: Option<u64> = answer.header(LEAST_CHUNK).and_then(|text| text.trim().parse().ok());
                let least_chunk = least_chunk.unwrap_or_default().clamp(SMALLEST_CHUNK, FIRST_CHUNK);
                Ok(Begun::At(Place { url: location(&answer)?, least_chunk }))
            }
            _ => Err(answer.into_error().await),
        }
    }

    /// Sends a blob, to `place` when there is one already.
    pub(crate) async fn upload(
        &self,
        host: &Host,
        descriptor: &Descriptor,
        source: &Arc<dyn BlobSource>,
        place: Option<Place>,
        sent: &SentBytes<'static>,
    ) -> Result<()> {
        let place = match place {
            Some(place) => place,
            None => match self.begin_upload(host, None).await? {
                Begun::At(place) => place,
                Begun::Done => return Ok(()),
            },
        };
        let sending = Sending { host, descriptor, source, sent };
        match self.finish(&sending, &place.url, sending.bytes(0, descriptor.size)).await {
            Ok(()) => Ok(()),
            Err(error) => self.take_up(&sending, place, error).await,
        }
    }

    /// Goes on after `error`, until it succeeds or nothing gets through any more.
    async fn take_up(&self, sending: &Sending<'_>, place: Place, mut error: Error) -> Result<()> {
        let (size, least) = (sending.descriptor.size, place.least_chunk);
        let policy = self.transport.config.retry;
        let (mut chunk, mut failures, mut arrived) = (FIRST_CHUNK.min(size.max(least)), 0, 0);
        loop {
            failures += 1;
            if is_too_large(&error) {
                if chunk <= least {
                    return Err(error);
                }
            } else if !is_out_of_order(&error) || failures >= policy.tries {
                let Some(wait) = policy.wait(failures, &error, true) else { return Err(error) };
                tokio::time::sleep(wait).await;
            }
            // A registry that forgot the upload, or cannot tell how far it came, gets it anew.
            let Some((url, offset)) = self.resume_at(sending.host, &place.url).await.filter(|(_, at)| *at <= size)
            else {
                return Err(error);
            };
            if offset > arrived {
                failures = 0;
            } else {
                chunk = (chunk / 2).max(least);
            }
            arrived = offset;
            tracing::debug!(offset, chunk, digest = %sending.descriptor.digest, "upload broke off, resuming");
            error = match self.send_rest(sending, url, offset, chunk).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
        }
    }

    /// Sends what is left of an upload, which may be nothing, and says that this was all.
    async fn finish(&self, sending: &Sending<'_>, place: &Url, body: Upload) -> Result<()> {
        let mut url = place.clone();
        url.query_pairs_mut().append_pair("digest", sending.descriptor.digest.as_str());
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
        let wanted = Wanted { method: Method::PUT, what: String::new(), headers: &headers, verified_later: false };
        let answer = self.ask_with(sending.host, &wanted, Some(body), Some(url)).await?;
        if answer.status().is_success() { Ok(()) } else { Err(answer.into_error().await) }
    }

    /// Asks how much of an upload has arrived.
    async fn resume_at(&self, host: &Host, place: &Url) -> Option<(Url, u64)> {
        let headers = HeaderMap::new();
        let wanted = Wanted { method: Method::GET, what: String::new(), headers: &headers, verified_later: false };
        let answer = self.ask_with(host, &wanted, None, Some(place.clone())).await.ok()?;
        if answer.status() != StatusCode::NO_CONTENT {
            return None;
        }
        let place = location(&answer).unwrap_or_else(|_| place.clone());
        let last: u64 = answer.header("range")?.trim_start_matches("bytes=").split_once('-')?.1.parse().ok()?;
        // `0-0` is what registries say of an empty upload.
        Some((place, if last == 0 { 0 } else { last + 1 }))
    }

    async fn send_rest(&self, sending: &Sending<'_>, mut place: Url, mut offset: u64, chunk: u64) -> Result<()> {
        let size = sending.descriptor.size;
        while offset < size {
            let length = chunk.min(size - offset);
            let range = format!("{offset}-{}", offset + length - 1);
            let headers = HeaderMap::from_iter([
                (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
                (CONTENT_RANGE, HeaderValue::try_from(range).expect("digits make a header")),
            ]);
            let wanted =
                Wanted { method: Method::PATCH, what: String::new(), headers: &headers, verified_later: false };
            let body = sending.bytes(offset, length);
            let answer = self.ask_with(sending.host, &wanted, Some(body), Some(place)).await?;
            if !answer.status().is_success() {
                return Err(answer.into_error().await);
            }
            place = location(&answer)?;
            offset += length;
        }
        self.finish(sending, &place, Upload::of_bytes(Bytes::new())).await
    }
}

fn is_too_large(error: &Error) -> bool {
    matches!(error, Error::Status { status: StatusCode::PAYLOAD_TOO_LARGE, .. })
}

/// The registry has another idea of how far the upload came, and can be asked.
fn is_out_of_order(error: &Error) -> bool {
    matches!(error, Error::Status { status: StatusCode::RANGE_NOT_SATISFIABLE, .. })
}

/// Returns where an upload goes on. It may be on another host; what is sent there carries no credentials.
fn location(answer: &Answer) -> Result<Url> {
    let refused = |reason: String| Error::Protocol { url: shown(answer.url()), reason };
    let text = answer.header(LOCATION.as_str()).ok_or_else(|| refused("the answer has no Location".to_owned()))?;
    let mut url = answer.url().join(text).map_err(|error| refused(format!("invalid Location {text:?}: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused(format!("upload to {:?}, which is neither http nor https", url.scheme())));
    }
    if answer.url().scheme() == "https" && url.scheme() == "http" {
        if url.host_str() != answer.url().host_str() {
            return Err(refused("upload continues without TLS".to_owned()));
        }
        // Registries behind a proxy that ends TLS often do not know that there is one.
        let _ = url.set_scheme("https");
    }
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok(url)
}

fn url_encoded(text: &str) -> String {
    reqwest::Url::parse_with_params("http://h/", [("k", text)])
        .ok()
        .and_then(|url| url.query().and_then(|query| query.strip_prefix("k=")).map(str::to_owned))
        .unwrap_or_default()
}
