//! Writing to a repository: blobs that it lacks, then manifests, then tags.
//!
//! Writes go to the registry itself, never to a mirror. A blob that is there is not sent; one that another repository of the registry has is
//! mounted; the rest goes up, see [`crate::send`].

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ferry_spec::{Descriptor, Reference};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::client::{Host, Inner};
use crate::error::{Error, Result};
use crate::request::Wanted;
use crate::send::Begun;
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
                Ok(Begun::At(place)) => begun = Some(place),
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

impl Inner {
    fn only_host(&self) -> &Host {
        self.hosts.last().expect("there is always a host")
    }
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
