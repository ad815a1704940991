//! Writing to a repository: blobs that it lacks, then manifests, then tags.
//!
//! Writes go to the registry itself, never to a mirror. A blob that is there is not sent; one that another repository of the registry has is
//! mounted; the rest goes up in one request, which is taken up where it broke off when the registry can do that.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ferry_spec::{Descriptor, Reference};
use http::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Url;

use crate::client::{Host, Inner};
use crate::error::{Error, Result};
use crate::request::Wanted;
use crate::transport::{Answer, shown};
use crate::upload::Upload;
use crate::{Client, Credentials, Repository};

/// Where the bytes of a blob come from; asked again when an upload starts anew.
pub trait BlobSource: Send + Sync {
    /// Opens the bytes from `offset` on.
    ///
    /// # Errors
    /// When they cannot be read.
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>>;
}

/// How a blob came to be in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Exists,
    /// The registry had it in this other repository.
    Mounted(String),
    /// It was sent.
    Uploaded,
}

/// Told how many bytes of a blob have been sent.
pub type SentBytes<'a> = Arc<dyn Fn(u64) + Send + Sync + 'a>;

impl Client {
    /// Opens the repository of `reference` for writing. `readable` are paths of other repositories of the registry that blobs may be mounted
    /// from. Nothing is contacted yet.
    ///
    /// # Errors
    /// [`Error::Configuration`] when the registry cannot be a host.
    pub fn repository_to_write(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
        readable: &[String],
    ) -> Result<Repository> {
        let mut scope = format!("repository:{}:pull,push", reference.path());
        for path in readable {
            scope.push_str(&format!(" repository:{path}:pull"));
        }
        self.open(reference, credentials, scope, false)
    }
}

impl Repository {
    /// Brings a blob into the repository; tries to mount it from `mount_from` first.
    ///
    /// # Errors
    /// [`Error::PushDenied`]; failures that may pass are met with new requests first.
    pub async fn push_blob(
        &self,
        descriptor: &Descriptor,
        source: Option<Arc<dyn BlobSource>>,
        mount_from: Option<&str>,
        sent: SentBytes<'static>,
    ) -> Result<Pushed> {
        let inner = &self.0;
        let host = inner.only_host();
        if self.has(host, &format!("blobs/{}", descriptor.digest), &descriptor.media_type).await?.is_some() {
            return Ok(Pushed::Exists);
        }
        let mut begun = None;
        if let Some(from) = mount_from {
            match inner.begin_upload(host, Some((descriptor, from))).await {
                Ok(Begun::Done) => return Ok(Pushed::Mounted(from.to_owned())),
                Ok(Begun::At(url)) => begun = Some(url),
                // Whoever may not read there may still write here.
                Err(error) => tracing::debug!(%error, from, "blob cannot be mounted"),
            }
        }
        let Some(source) = source else {
            return Err(Error::NotFound { what: format!("content digest {}", descriptor.digest) });
        };
        let policy = inner.transport.config.retry;
        let mut failures = 0;
        loop {
            let error = match inner.upload(host, descriptor, &source, begun.take(), &sent).await {
                Ok(()) => return Ok(Pushed::Uploaded),
                Err(error) => error,
            };
            failures += 1;
            let Some(wait) = policy.wait(failures, &error, true) else { return Err(denied(error)) };
            tracing::debug!(%error, digest = %descriptor.digest, "upload failed, trying again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Writes a manifest under its digest, or under `tag`; one that is there already is not sent.
    ///
    /// # Errors
    /// [`Error::PushDenied`], [`Error::Status`] when the registry does not take it.
    pub async fn push_manifest(&self, descriptor: &Descriptor, bytes: &[u8], tag: Option<&str>) -> Result<Pushed> {
        let inner = &self.0;
        let host = inner.only_host();
        let digest = descriptor.digest.to_string();
        let what = format!("manifests/{}", tag.unwrap_or(&digest));
        if self.has(host, &what, &descriptor.media_type).await? == Some(Some(digest)) {
            return Ok(Pushed::Exists);
        }
        let media_type = HeaderValue::from_str(&descriptor.media_type)
            .map_err(|_| Error::Configuration(format!("invalid media type {:?}", descriptor.media_type)))?;
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, media_type)]);
        let body = Upload::of_bytes(Bytes::copy_from_slice(bytes));
        let policy = inner.transport.config.retry;
        policy
            .run(true, || async {
                let wanted =
                    Wanted { method: Method::PUT, what: what.clone(), headers: &headers, verified_later: false };
                let answer = inner.ask_with(host, &wanted, Some(body.clone()), None).await?;
                if answer.status().is_success() { Ok(()) } else { Err(answer.into_error().await) }
            })
            .await
            .map_err(denied)?;
        Ok(Pushed::Uploaded)
    }

    /// Tells whether a thing is there, and with which digest as far as the registry says.
    async fn has(&self, host: &Host, what: &str, media_type: &str) -> Result<Option<Option<String>>> {
        let inner = &self.0;
        let accept = HeaderValue::try_from(format!("{media_type}, */*")).unwrap_or(HeaderValue::from_static("*/*"));
        let headers = HeaderMap::from_iter([(ACCEPT, accept)]);
        let policy = inner.transport.config.retry;
        let answer = policy
            .run(host.contacted.load(Ordering::Relaxed), || async {
                let wanted =
                    Wanted { method: Method::HEAD, what: what.to_owned(), headers: &headers, verified_later: true };
                let answer = inner.ask(host, &wanted).await?;
                if answer.status().is_success() || answer.status() == StatusCode::NOT_FOUND {
                    return Ok(answer);
                }
                if answer.status() == StatusCode::FORBIDDEN {
                    // The answer to a HEAD has no body, and the body says why.
                    let wanted = Wanted { method: Method::GET, ..wanted };
                    return Err(inner.ask(host, &wanted).await?.into_error().await);
                }
                Err(answer.into_error().await)
            })
            .await
            .map_err(denied)?;
        let digest = answer.header("docker-content-digest").map(str::to_owned);
        Ok(answer.status().is_success().then_some(digest))
    }
}

/// What came of asking for a place to upload to.
enum Begun {
    /// The blob was mounted.
    Done,
    /// Bytes go here.
    At(Url),
}

impl Inner {
    fn only_host(&self) -> &Host {
        self.hosts.last().expect("there is always a host")
    }

    async fn begin_upload(&self, host: &Host, mount: Option<(&Descriptor, &str)>) -> Result<Begun> {
        let what = match mount {
            None => "blobs/uploads/".to_owned(),
            Some((descriptor, from)) => {
                let from: String = url_encoded(from);
                format!("blobs/uploads/?mount={}&from={from}", url_encoded(descriptor.digest.as_str()))
            }
        };
        let headers = HeaderMap::new();
        let wanted = Wanted { method: Method::POST, what, headers: &headers, verified_later: false };
        let answer = self.ask_with(host, &wanted, Some(Upload::of_bytes(Bytes::new())), None).await?;
        match answer.status() {
            StatusCode::CREATED if mount.is_some() => Ok(Begun::Done),
            StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
                location(&answer).map(Begun::At)
            }
            _ => Err(answer.into_error().await),
        }
    }

    /// Sends a blob, to `place` when there is one already.
    async fn upload(
        &self,
        host: &Host,
        descriptor: &Descriptor,
        source: &Arc<dyn BlobSource>,
        place: Option<Url>,
        sent: &SentBytes<'static>,
    ) -> Result<()> {
        let place = match place {
            Some(place) => place,
            None => match self.begin_upload(host, None).await? {
                Begun::At(place) => place,
                Begun::Done => return Ok(()),
            },
        };
        let whole = Upload::of_source(Arc::clone(source), 0, descriptor.size, Arc::clone(sent));
        let mut error = match self.put(host, &place, descriptor, whole).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let policy = self.transport.config.retry;
        let mut failures = 0;
        loop {
            failures += 1;
            let Some(wait) = policy.wait(failures, &error, true) else { return Err(error) };
            tokio::time::sleep(wait).await;
            // A registry that forgot the upload, or cannot tell how far it came, gets it anew.
            let Some((place, offset)) = self.resume_at(host, &place).await.filter(|(_, at)| *at <= descriptor.size)
            else {
                return Err(error);
            };
            tracing::debug!(offset, digest = %descriptor.digest, "upload broke off, resuming");
            error = match self.send_rest(host, &place, descriptor, source, offset, sent).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
        }
    }

    async fn put(&self, host: &Host, place: &Url, descriptor: &Descriptor, body: Upload) -> Result<()> {
        let mut url = place.clone();
        url.query_pairs_mut().append_pair("digest", descriptor.digest.as_str());
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
        let wanted = Wanted { method: Method::PUT, what: String::new(), headers: &headers, verified_later: false };
        let answer = self.ask_with(host, &wanted, Some(body), Some(url)).await?;
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

    async fn send_rest(
        &self,
        host: &Host,
        place: &Url,
        descriptor: &Descriptor,
        source: &Arc<dyn BlobSource>,
        offset: u64,
        sent: &SentBytes<'static>,
    ) -> Result<()> {
        let mut place = place.clone();
        if offset < descriptor.size {
            let range = format!("{offset}-{}", descriptor.size - 1);
            let headers = HeaderMap::from_iter([
                (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
                (CONTENT_RANGE, HeaderValue::try_from(range).expect("digits make a header")),
            ]);
            let wanted =
                Wanted { method: Method::PATCH, what: String::new(), headers: &headers, verified_later: false };
            let rest = Upload::of_source(Arc::clone(source), offset, descriptor.size - offset, Arc::clone(sent));
            let answer = self.ask_with(host, &wanted, Some(rest), Some(place.clone())).await?;
            if !answer.status().is_success() {
                return Err(answer.into_error().await);
            }
            place = location(&answer)?;
        }
        self.put(host, &place, descriptor, Upload::of_bytes(Bytes::new())).await
    }
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

/// Words a refusal as one of a push.
fn denied(error: Error) -> Error {
    match error {
        Error::Denied { message } => {
            Error::PushDenied { message: format!("server message: {message}: authorization failed") }
        }
        Error::NoCredentials => {
            Error::PushDenied { message: "authorization failed: no basic auth credentials".to_owned() }
        }
        other => other,
    }
}

impl fmt::Debug for dyn BlobSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobSource")
    }
}
