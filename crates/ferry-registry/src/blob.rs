//! Blobs as streams of bytes in their order.
//!
//! One connection brings a blob, and others help where it is what the reader waits for and much is still to come: each fetches the next
//! part behind all that are under way. A part is handed over when its turn comes, so what helpers are ahead waits in memory, a part each.
//! The first connection ends where the first helper began, and only once that one has proved that the registry serves ranges.
//!
//! The length is enforced, byte for byte; the digest is checked by whoever stores the bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferry_spec::Descriptor;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::AbortHandle;

use crate::Repository;
use crate::error::{Error, Result};
use crate::part::Part;

/// Reads one blob.
pub struct BlobStream {
    repository: Repository,
    descriptor: Descriptor,
    /// Bytes handed out.
    offset: u64,
    current: Current,
    /// Parts that follow the current one, in order and without a gap.
    helpers: VecDeque<Helper>,
    /// How many of them there should be.
    wanted: usize,
    waiting: Waiting,
}

/// Where the bytes come from at the moment.
enum Current {
    Own(Box<Part>),
    Helped(Helper),
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
            current: Current::Own(Box::new(self.rest_of(descriptor, offset))),
            helpers: VecDeque::new(),
            wanted: 0,
            waiting: Waiting::new(),
        }
    }

    fn rest_of(&self, descriptor: &Descriptor, offset: u64) -> Part {
        Part::new(self.clone(), descriptor.clone(), offset..descriptor.size)
    }

    /// Reads a whole small blob, such as an image configuration, and checks its digest.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when its descriptor says more than `limit` bytes.
    pub async fn small_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        if descriptor.size > limit {
            return Err(Error::TooLarge { what: format!("blob {}", descriptor.digest), limit });
        }
        let mut part = self.rest_of(descriptor, 0);
        let mut bytes = Vec::new();
        while let Some(chunk) = part.next().await? {
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
        loop {
            let asked = Instant::now();
            let next = self.piece().await;
            self.waiting.note(asked.elapsed());
            match next {
                Ok(Some(bytes)) => {
                    self.offset += bytes.len() as u64;
                    self.see_to_helpers();
                    return Ok(Some(bytes));
                }
                Ok(None) if self.offset >= self.descriptor.size => return Ok(None),
                Ok(None) => self.go_on(),
                // What a helper could not get is fetched again without one, which then tells why it cannot be had.
                Err(error) if self.needs_no_help(&error) => self.go_on_alone(&error),
                Err(error) => return Err(error),
            }
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>> {
        match &mut self.current {
            Current::Own(part) => part.next().await,
            Current::Helped(helper) => helper.pieces.recv().await.transpose(),
        }
    }

    fn needs_no_help(&self, error: &Error) -> bool {
        matches!(self.current, Current::Helped(_)) || matches!(error, Error::RangeIgnored { .. })
    }

    /// The current part is at its end: the next helper's turn, or the rest in one.
    fn go_on(&mut self) {
        self.current = match self.helpers.pop_front().filter(|helper| helper.start == self.offset) {
            Some(helper) => Current::Helped(helper),
            None => {
                self.helpers.clear();
                Current::Own(Box::new(self.repository.rest_of(&self.descriptor, self.offset)))
            }
        };
    }

    fn go_on_alone(&mut self, error: &Error) {
        tracing::debug!(%error, offset = self.offset, digest = %self.descriptor.digest, "a helper failed, going on without");
        self.wanted = 0;
        self.waiting.never_again();
        self.helpers.clear();
        self.go_on();
    }

    /// Lets the first helper in line take over where it began, and sends for more while bytes are waited for.
    fn see_to_helpers(&mut self) {
        // Whoever was overtaken is of no use.
        while self.helpers.front().is_some_and(|helper| helper.start < self.offset) {
            self.helpers.pop_front();
        }
        if let (Some(helper), Current::Own(part)) = (self.helpers.front(), &mut self.current) {
            match helper.state.load(Ordering::Acquire) {
                SERVES => part.limit(helper.start),
                FAILED => {
                    // That was that; this connection brings the rest.
                    self.wanted = 0;
                    self.waiting.never_again();
                    self.helpers.clear();
                }
                _ => {}
            }
        }
        let policy = self.repository.0.transport.config.ranges;
        if self.wanted < policy.helpers_of_a_blob && self.waiting.is_long(policy.patience) {
            self.wanted += 1;
        }
        while self.helpers.len() < self.wanted && self.send_for_one(policy.part_bytes.max(1)) {}
    }

    /// Starts a helper behind the last part under way; tells whether there is one more now.
    fn send_for_one(&mut self, part_bytes: u64) -> bool {
        let size = self.descriptor.size;
        let (last, margin) = match (self.helpers.back(), &self.current) {
            (Some(helper), _) | (None, Current::Helped(helper)) => (helper.end, 0),
            // The first one has to be quicker than this connection comes to where it begins.
            (None, Current::Own(_)) => (self.offset, part_bytes),
        };
        let start = last + margin;
        if start.saturating_add(part_bytes / 2) >= size {
            return false;
        }
        let Ok(permit) = Arc::clone(&self.repository.0.transport.helpers).try_acquire_owned() else { return false };
        let end = size.min(start + part_bytes);
        let part = Part::new(self.repository.clone(), self.descriptor.clone(), start..end);
        self.helpers.push_back(Helper::start(part, start, end, permit));
        true
    }
}

const ASKING: u8 = 0;
const SERVES: u8 = 1;
const FAILED: u8 = 2;

/// A part that is fetched on a task of its own; given up when dropped.
struct Helper {
    start: u64,
    end: u64,
    /// At most a part of them.
    pieces: mpsc::UnboundedReceiver<Result<Bytes>>,
    state: Arc<AtomicU8>,
    task: AbortHandle,
    _permit: OwnedSemaphorePermit,
}

impl Helper {
    fn start(mut part: Part, start: u64, end: u64, permit: OwnedSemaphorePermit) -> Self {
        let (sender, pieces) = mpsc::unbounded_channel();
        let state = Arc::new(AtomicU8::new(ASKING));
        let seen = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Some(next) = part.next().await.transpose() {
                seen.store(if next.is_ok() { SERVES } else { FAILED }, Ordering::Release);
                let failed = next.is_err();
                if sender.send(next).is_err() || failed {
                    return;
                }
            }
        });
        Self { start, end, pieces, state, task: task.abort_handle(), _permit: permit }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Finds out whether it is the network that is waited for.
struct Waiting {
    since: Instant,
    waited: Duration,
    over: bool,
}

impl Waiting {
    fn new() -> Self {
        Self { since: Instant::now(), waited: Duration::ZERO, over: false }
    }

    fn note(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// Tells whether most of the time since this was last true, and `patience` of it, was spent waiting.
    fn is_long(&mut self, patience: Duration) -> bool {
        let long = !self.over && self.waited >= patience && self.waited * 2 >= self.since.elapsed();
        if long {
            *self = Self::new();
        }
        long
    }

    fn never_again(&mut self) {
        self.over = true;
    }
}
