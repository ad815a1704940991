//! A transfer that several clients may follow.
//!
//! The work belongs to the transfer, not to a client: it ends early only when every client is gone. What was said so far is kept, so
//! that a later client sees the whole. A client that does not read is dropped; nobody waits for it.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferry_api::stream::JsonMessage;
use tokio::sync::{mpsc, watch};

use super::progress::JsonMessageStream;
use crate::error::{Error, ErrorKind, Result};

/// Messages that a client may be behind.
const QUEUE: usize = 4096;
/// How soon it is noticed that every client is gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The state that clients and work share.
pub(super) struct Transfer {
    shared: Mutex<Shared>,
    phase: watch::Sender<Phase>,
}

#[derive(Default)]
struct Shared {
    /// Steps that were told, without amounts.
    past: Vec<JsonMessage>,
    clients: Vec<mpsc::Sender<JsonMessage>>,
    abandoned: bool,
}

#[derive(Debug, Clone)]
enum Phase {
    /// Nothing was said yet; a failure now is a plain error.
    Silent,
    Speaking,
    Ended(Option<Failure>),
}

#[derive(Debug, Clone)]
struct Failure {
    kind: ErrorKind,
    text: String,
}

impl Transfer {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { shared: Mutex::default(), phase: watch::Sender::new(Phase::Silent) })
    }

    /// Adds a client; `None` when the transfer was given up or is over.
    pub(super) fn follow(&self) -> Option<JsonMessageStream> {
        let mut shared = self.shared();
        if shared.abandoned || matches!(*self.phase.borrow(), Phase::Ended(_)) {
            return None;
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        for message in &shared.past {
            // Steps are few: a few per layer, and layers are bounded.
            let _ = sender.try_send(message.clone());
        }
        shared.clients.push(sender);
        Some(receiver)
    }

    /// Does `work` until it ends or nobody follows any more.
    pub(super) async fn drive(&self, work: impl Future<Output = Result<()>>) {
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = self.everybody_is_gone() => Err(Error::internal("context canceled")),
        };
        let failure = outcome.err().map(|error| Failure { kind: error.kind(), text: error.text() });
        let silent = matches!(*self.phase.borrow(), Phase::Silent);
        let mut shared = self.shared();
        if let Some(failure) = failure.as_ref().filter(|_| !silent) {
            Self::tell(&mut shared, &JsonMessage::failed(failure.text.clone()));
        }
        self.phase.send_replace(Phase::Ended(failure));
        shared.clients.clear();
    }

    /// Waits until something was said or the work has ended.
    ///
    /// # Errors
    /// That of the work, when it failed before anything was said.
    pub(super) async fn begun(&self) -> Result<()> {
        let mut phase = self.phase.subscribe();
        let phase = phase.wait_for(|phase| !matches!(phase, Phase::Silent)).await;
        match phase.as_deref() {
            Ok(Phase::Ended(Some(failure))) if self.shared().past.is_empty() => {
                Err(Error::new(failure.kind, failure.text.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Tells a step to every client, those to come included.
    pub(super) fn say(&self, message: JsonMessage) {
        let mut shared = self.shared();
        Self::tell(&mut shared, &message);
        shared.past.push(message);
        self.phase.send_if_modified(|phase| {
            let first = matches!(phase, Phase::Silent);
            if first {
                *phase = Phase::Speaking;
            }
            first
        });
    }

    /// Tells an amount to the clients that keep up.
    pub(super) fn hint(&self, message: &JsonMessage) {
        for client in self.shared().clients.iter().filter(|client| client.capacity() > QUEUE / 2) {
            // A client that has left is noticed elsewhere.
            let _ = client.try_send(message.clone());
        }
    }

    fn tell(shared: &mut Shared, message: &JsonMessage) {
        shared.clients.retain(|client| client.try_send(message.clone()).is_ok());
    }

    async fn everybody_is_gone(&self) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let mut shared = self.shared();
            if shared.clients.iter().all(mpsc::Sender::is_closed) {
                shared.abandoned = true;
                return;
            }
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // Every change is one push or retain; a panic in between leaves nothing half-done.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::line;
    use super::*;

    #[tokio::test]
    async fn a_late_client_sees_what_was_said() {
        let transfer = Transfer::new();
        let mut first = transfer.follow().unwrap();
        transfer.say(line("", "a"));
        let mut second = transfer.follow().unwrap();
        transfer.drive(async { Err(Error::not_found("gone")) }).await;
        for client in [&mut first, &mut second] {
            assert_eq!(client.recv().await.unwrap().status, "a");
            assert_eq!(client.recv().await.unwrap().error, "gone");
            assert!(client.recv().await.is_none());
        }
        assert!(transfer.begun().await.is_ok(), "the failure was told as a message");
        assert!(transfer.follow().is_none());
    }

    #[tokio::test]
    async fn a_failure_before_the_first_message_is_an_error() {
        let transfer = Transfer::new();
        let mut client = transfer.follow().unwrap();
        transfer.drive(async { Err(Error::not_found("gone")) }).await;
        assert_eq!(transfer.begun().await.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(client.recv().await.is_none());
    }

    #[tokio::test]
    async fn work_ends_when_the_last_client_leaves() {
        let transfer = Transfer::new();
        let first = transfer.follow().unwrap();
        let second = transfer.follow().unwrap();
        drop(first);
        let driven = transfer.drive(std::future::pending());
        let mut driven = std::pin::pin!(driven);
        assert!(tokio::time::timeout(LOOK_INTERVAL * 3, &mut driven).await.is_err());
        drop(second);
        driven.await;
        assert!(transfer.follow().is_none());
    }
}
