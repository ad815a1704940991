//! What is told of a build while it goes on; the shape is that of BuildKit's status.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use ferry_api::build::{Event, Instruction, LogPiece, StatusLine, VertexState, Warning};
use ferry_spec::digest::Digest;
use tokio::sync::mpsc;

use crate::clock::now_ns;
use crate::failure::Result;

/// Bytes of output that are told of one step, as in BuildKit.
const LOG_LIMIT: usize = 2 << 20;

/// Takes what happens to whoever follows a build.
#[derive(Clone)]
pub struct Reporter(Arc<Inner>);

struct Inner {
    followers: Mutex<Followers>,
}

#[derive(Default)]
struct Followers {
    senders: Vec<mpsc::UnboundedSender<Event>>,
    /// Everything so far, for those who come later.
    told: Vec<Event>,
    /// There is nothing more to come.
    finished: bool,
}

impl Default for Reporter {
    fn default() -> Self {
        Self::new()
    }
}

impl Reporter {
    /// Nobody follows yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner { followers: Mutex::default() }))
    }

    /// Follows from the beginning. The queue is bounded by the build: each step's output is limited.
    #[must_use]
    pub fn follow(&self) -> mpsc::UnboundedReceiver<Event> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut followers = self.followers();
        for event in &followers.told {
            // It was made just now.
            let _ = sender.send(event.clone());
        }
        if !followers.finished {
            followers.senders.push(sender);
        }
        receiver
    }

    /// Nobody will be told anything any more.
    pub fn finish(&self) {
        let mut followers = self.followers();
        followers.finished = true;
        followers.senders.clear();
    }

    /// Forgets the first of what programs wrote, so that no more than so many bytes of it are left.
    pub fn keep_logs(&self, bytes: usize) {
        keep_logs(&mut self.followers().told, bytes);
    }

    /// Tells everybody.
    pub fn tell(&self, event: Event) {
        let mut followers = self.followers();
        followers.senders.retain(|sender| sender.send(event.clone()).is_ok());
        followers.told.push(event);
    }

    fn followers(&self) -> std::sync::MutexGuard<'_, Followers> {
        self.0.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells that a step begins, and returns what tells of its end.
    #[must_use]
    pub fn begin(&self, digest: Digest, inputs: Vec<Digest>, name: impl Into<String>) -> Begun {
        let state = VertexState {
            digest,
            inputs,
            name: name.into(),
            started_ns: Some(now_ns()),
            completed_ns: None,
            cached: false,
            error: String::new(),
            group: None,
        };
        self.tell(Event::Vertex(state.clone()));
        Begun { reporter: self.clone(), state, written: AtomicUsize::new(0), ended: false }
    }

    /// Tells of a step of the builder itself, such as `[internal] load build definition from Dockerfile`.
    #[must_use]
    pub fn internal(&self, name: impl Into<String>) -> Begun {
        let name = name.into();
        let digest = Digest::sha256(format!("{name}/{}", rand::random::<u64>()).as_bytes());
        self.begin(digest, Vec::new(), name)
    }

    /// Tells of a step whose outcome was there.
    pub fn cached(&self, digest: Digest, inputs: Vec<Digest>, name: impl Into<String>) {
        let now = now_ns();
        self.tell(Event::Vertex(VertexState {
            digest,
            inputs,
            name: name.into(),
            started_ns: Some(now),
            completed_ns: Some(now),
            cached: true,
            error: String::new(),
            group: None,
        }));
    }
}

/// Removes the first of what programs wrote, so that no more than so many bytes of it are left.
pub(crate) fn keep_logs(told: &mut Vec<Event>, bytes: usize) {
    let length = |event: &Event| match event {
        Event::Log(piece) => piece.data.len(),
        _ => 0,
    };
    let mut over = told.iter().map(length).sum::<usize>().saturating_sub(bytes);
    told.retain(|event| {
        let is_kept = over == 0 || !matches!(event, Event::Log(_));
        if !is_kept {
            over = over.saturating_sub(length(event));
        }
        is_kept
    });
}

/// A step that has begun.
pub struct Begun {
    reporter: Reporter,
    state: VertexState,
    written: AtomicUsize,
    ended: bool,
}

impl Begun {
    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.state.digest
    }

    /// Tells how a part of it goes.
    pub fn status(&self, id: &str, current: i64, total: i64, started_ns: i64, done: bool) {
        let now = now_ns();
        self.reporter.tell(Event::Status(StatusLine {
            vertex: self.state.digest.clone(),
            id: id.to_owned(),
            current,
            total,
            started_ns: Some(started_ns),
            completed_ns: done.then_some(now),
            time_ns: now,
        }));
    }

    /// Tells what its program wrote, as far as that is not too much.
    pub fn log(&self, stream: u8, data: &[u8]) {
        let before = self.written.fetch_add(data.len(), Ordering::Relaxed);
        if before >= LOG_LIMIT {
            return;
        }
        let fits = data.len().min(LOG_LIMIT - before);
        let mut data = data[..fits].to_vec();
        if before + fits == LOG_LIMIT {
            data.extend_from_slice(b"\n[output clipped, log limit 2MiB reached]\n");
        }
        self.reporter.tell(Event::Log(LogPiece { vertex: self.state.digest.clone(), stream, data, time_ns: now_ns() }));
    }

    /// It has ended well.
    pub fn done(mut self) {
        self.end(String::new());
    }

    /// It has failed.
    pub fn failed(mut self, error: impl Into<String>) {
        self.end(error.into());
    }

    /// It has ended as its outcome says, which is returned.
    pub(crate) fn ended<T>(self, outcome: Result<T>) -> Result<T> {
        match &outcome {
            Ok(_) => self.done(),
            Err(failure) => self.failed(failure.message.clone()),
        }
        outcome
    }

    fn end(&mut self, error: String) {
        self.ended = true;
        self.state.completed_ns = Some(now_ns());
        self.state.error = error;
        self.reporter.tell(Event::Vertex(self.state.clone()));
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.ended {
            self.end("context canceled".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_follows_learns_the_end_however_late() {
        let reporter = Reporter::new();
        let mut early = reporter.follow();
        reporter.internal("load").done();
        reporter.finish();
        let mut late = reporter.follow();
        for events in [&mut early, &mut late] {
            let mut count = 0;
            while events.recv().await.is_some() {
                count += 1;
            }
            assert_eq!(count, 2, "a beginning and an end");
        }
    }
}
