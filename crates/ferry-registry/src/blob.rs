//! Blobs as streams that go on where they broke off.
//!
//! The length is enforced here, byte for byte; the digest by whoever stores the bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ferry_spec::Descriptor;
use http::header::RANGE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::Repository;
use crate::client::{Host, Inner};
use crate::error::{Error, RequestFailure, Result};
use crate::request::{Wanted, content_at, expect_content};
use crate::transport::{Answer, shown};

/// How much must arrive for earlier failures to be forgotten, so that a large blob over a bad line gets through.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Reads one blob.
pub struct BlobStream {
    repository: Repository,
    descriptor: Descriptor,
    /// Bytes handed out.
    offset: u64,
    /// Bytes at the head of the answer that were handed out before: the host ignored the range.
    skip: u64,
    answer: Option<Answer>,
    done: bool,
    failures: u32,
    offset_at_failure: u64,
}

impl Repository {
    /// Starts reading the blob that `descriptor` points at; the request is made by the first [`BlobStream::next`].
    #[must_use]
    pub fn blob(&self, descriptor: &Descriptor) -> BlobStream {
        self.blob_from(descriptor, 0)
    }

    /// As [`Repository::blob`], from `offset` on: what lies before it is here already.
    #[must_use]
    pub fn blob_from(&self, descriptor: &Descriptor, offset: u64) -> BlobStream {
        BlobStream {
            repository: self.clone(),
            descriptor: descriptor.clone(),
            offset,
            skip: 0,
            answer: None,
            done: false,
            failures: 0,
            offset_at_failure: offset,
        }
    }

    /// Reads a whole small blob, such as an image configuration, and checks its digest.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when its descriptor says more than `limit` bytes.
    pub async fn small_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        if descriptor.size > limit {
            return Err(Error::TooLarge { what: format!("blob {}", descriptor.digest), limit });
        }
        let mut stream = self.blob(descriptor);
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        if descriptor.digest.verifies(&bytes) {
            return Ok(bytes);
        }
        let what = format!("blob {}", descriptor.digest);
        let actual = ferry_spec::Digest::sha256(&bytes);
        Err(Error::Digest { what, actual, expected: descriptor.digest.clone() })
    }
}

impl BlobStream {
    /// Returns how many bytes were handed out.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the next bytes, or `None` after exactly as many as the descriptor says.
    ///
    /// # Errors
    /// Failures that may pass are met with new requests first; [`Error::Size`] when the registry sends another length.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        // Everything may be here already; there is no range behind the last byte.
        self.done |= self.offset > 0 && self.offset == self.descriptor.size;
        while !self.done {
            if self.answer.is_none() {
                let inner = Arc::clone(&self.repository.0);
                // What fails here was tried often enough.
                let (descriptor, offset) = (&self.descriptor, self.offset);
                let opened = inner.at_some_host(|at| inner.blob_at(&inner.hosts[at], descriptor, offset)).await;
                let (answer, skip) = opened?;
                self.answer = Some(answer);
                self.skip = skip;
            }
            match self.read().await {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => self.done = true,
                Err(error) => self.recover(error).await?,
            }
        }
        Ok(None)
    }

    /// Reads from the answer at hand; empty bytes are no end.
    async fn read(&mut self) -> Result<Option<Bytes>> {
        let Some(answer) = &mut self.answer else { return Ok(Some(Bytes::new())) };
        let size = self.descriptor.size;
        let Some(mut chunk) = answer.chunk().await? else {
            return if self.offset == size { Ok(None) } else { Err(truncated(answer)) };
        };
        let skipped = self.skip.min(chunk.len() as u64);
        self.skip -= skipped;
        // Cannot truncate: it is at most the chunk's length.
        let chunk = chunk.split_off(skipped as usize);
        let after = self.offset + chunk.len() as u64;
        if after > size {
            return Err(Error::Size { url: shown(answer.url()), actual: after, expected: size });
        }
        self.offset = after;
        Ok(Some(chunk))
    }

    async fn recover(&mut self, error: Error) -> Result<()> {
        self.answer = None;
        if self.offset - self.offset_at_failure >= PROGRESS_BYTES {
            self.failures = 0;
        }
        self.failures += 1;
        self.offset_at_failure = self.offset;
        let Some(wait) = self.repository.0.transport.config.retry.wait(self.failures, &error, true) else {
            return Err(error);
        };
        tracing::debug!(%error, offset = self.offset, digest = %self.descriptor.digest, "blob broke off, resuming");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

impl Inner {
    async fn blob_at(&self, host: &Host, descriptor: &Descriptor, offset: u64) -> Result<(Answer, u64)> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-")).expect("digits make a header");
            headers.insert(RANGE, range);
        }
        let what = format!("blobs/{}", descriptor.digest);
        let wanted = Wanted { method: Method::GET, what, headers: &headers, verified_later: true };
        let answer = expect_content(self.ask(host, &wanted).await?, content_at).await?;
        let partial = answer.status() == StatusCode::PARTIAL_CONTENT;
        if partial && !starts_at(&answer, offset) {
            let reason = "the registry answered with another range than was asked for".to_owned();
            return Err(Error::Protocol { url: shown(answer.url()), reason });
        }
        let announced = answer.content_length().map(|length| if partial { length + offset } else { length });
        if let Some(actual) = announced.filter(|&length| length != descriptor.size) {
            return Err(Error::Size { url: shown(answer.url()), actual, expected: descriptor.size });
        }
        host.contacted.store(true, Ordering::Relaxed);
        Ok((answer, if partial { 0 } else { offset }))
    }
}

fn starts_at(answer: &Answer, offset: u64) -> bool {
    answer.header("content-range").is_some_and(|range| range.starts_with(&format!("bytes {offset}-")))
}

fn truncated(answer: &Answer) -> Error {
    let failure = RequestFailure::Broken("unexpected EOF".to_owned());
    Error::Request { method: "Get", url: shown(answer.url()), failure }
}
