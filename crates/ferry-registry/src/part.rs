//! A part of a blob, read over one connection at a time, which goes on where it broke off.
//!
//! The length is enforced here, byte for byte.

use std::ops::Range;
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

/// See the module.
pub(crate) struct Part {
    repository: Repository,
    descriptor: Descriptor,
    /// Where the next bytes belong.
    offset: u64,
    /// Where the part ends; the blob's own end, or one before it.
    end: u64,
    /// Bytes at the head of the answer that were handed out before: the host ignored the range.
    skip: u64,
    answer: Option<Answer>,
    done: bool,
    failures: u32,
    offset_at_failure: u64,
}

impl Part {
    /// Takes a part of a blob; nothing is asked before the first [`Part::next`].
    pub(crate) fn new(repository: Repository, descriptor: Descriptor, range: Range<u64>) -> Self {
        Self {
            repository,
            descriptor,
            offset: range.start,
            end: range.end,
            skip: 0,
            answer: None,
            done: false,
            failures: 0,
            offset_at_failure: range.start,
        }
    }

    /// Ends the part before its end; what lies behind is not read, though it was asked for.
    pub(crate) fn limit(&mut self, end: u64) {
        self.end = self.end.min(end);
    }

    /// Returns the next bytes, or `None` after exactly as many as the part has.
    ///
    /// # Errors
    /// Failures that may pass are met with new requests first. [`Error::Size`] when the registry sends another length;
    /// [`Error::RangeIgnored`] when it sends all instead of a part that neither begins nor ends the blob.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        // Everything may be here already; there is no range behind the last byte.
        self.done |= self.offset > 0 && self.offset == self.end;
        while !self.done {
            if self.answer.is_none() {
                let inner = Arc::clone(&self.repository.0);
                // What fails here was tried often enough.
                let (descriptor, range) = (&self.descriptor, self.offset..self.end);
                let opened = inner.at_some_host(|at| inner.blob_at(&inner.hosts[at], descriptor, range.clone())).await;
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
        self.answer = None;
        Ok(None)
    }

    /// Reads from the answer at hand; empty bytes are no end.
    async fn read(&mut self) -> Result<Option<Bytes>> {
        let Some(answer) = &mut self.answer else { return Ok(Some(Bytes::new())) };
        let size = self.descriptor.size;
        if self.end < size && self.offset == self.end {
            return Ok(None);
        }
        let Some(mut chunk) = answer.chunk().await? else {
            return if self.offset == self.end { Ok(None) } else { Err(truncated(answer)) };
        };
        let skipped = self.skip.min(chunk.len() as u64);
        self.skip -= skipped;
        // Cannot truncate: it is at most the chunk's length.
        let mut chunk = chunk.split_off(skipped as usize);
        let after = self.offset + chunk.len() as u64;
        if after > size {
            return Err(Error::Size { url: shown(answer.url()), actual: after, expected: size });
        }
        // Likewise: what lies behind the end is in this chunk.
        chunk.truncate(chunk.len() - after.saturating_sub(self.end) as usize);
        self.offset = after.min(self.end);
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
    /// Asks for a part of a blob; returns the answer and how many bytes at its head lie before the part.
    async fn blob_at(&self, host: &Host, descriptor: &Descriptor, range: Range<u64>) -> Result<(Answer, u64)> {
        let is_last = range.end == descriptor.size;
        let mut headers = HeaderMap::new();
        if range.start > 0 || !is_last {
            let last = if is_last { String::new() } else { (range.end - 1).to_string() };
            let value = HeaderValue::try_from(format!("bytes={}-{last}", range.start));
            headers.insert(RANGE, value.expect("digits make a header"));
        }
        let what = format!("blobs/{}", descriptor.digest);
        let wanted = Wanted { method: Method::GET, what, headers: &headers, verified_later: true };
        let answer = expect_content(self.ask(host, &wanted).await?, content_at).await?;
        let partial = answer.status() == StatusCode::PARTIAL_CONTENT;
        if !partial && !is_last {
            return Err(Error::RangeIgnored { url: shown(answer.url()) });
        }
        if partial && !starts_at(&answer, range.start) {
            let reason = "the registry answered with another range than was asked for".to_owned();
            return Err(Error::Protocol { url: shown(answer.url()), reason });
        }
        let (begin, expected) = if partial { (range.start, range.end) } else { (0, descriptor.size) };
        let announced = answer.content_length().map(|length| length.saturating_add(begin));
        if let Some(actual) = announced.filter(|&end| end != expected) {
            return Err(Error::Size { url: shown(answer.url()), actual, expected });
        }
        host.contacted.store(true, Ordering::Relaxed);
        Ok((answer, if partial { 0 } else { range.start }))
    }
}

fn starts_at(answer: &Answer, offset: u64) -> bool {
    answer.header("content-range").is_some_and(|range| range.starts_with(&format!("bytes {offset}-")))
}

fn truncated(answer: &Answer) -> Error {
    let failure = RequestFailure::Broken("unexpected EOF".to_owned());
    Error::Request { method: "Get", url: shown(answer.url()), failure }
}
