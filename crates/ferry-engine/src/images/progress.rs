//! Progress messages in Docker's words and form.

use std::time::{Duration, Instant};

use ferry_api::stream::{JsonMessage, Progress};
use tokio::sync::mpsc;

use super::transfer::Transfer;

/// Progress of a pull, load or import; ends when the work does. A failure is its last message.
pub type JsonMessageStream = mpsc::Receiver<JsonMessage>;

/// How often amounts are told.
const INTERVAL: Duration = Duration::from_millis(100);

/// A line about `id`; empty for one about the whole.
pub(crate) fn line(id: &str, status: impl Into<String>) -> JsonMessage {
    JsonMessage { status: status.into(), id: id.to_owned(), ..JsonMessage::default() }
}

/// A line as `docker load` prints it.
pub(crate) fn output(text: impl Into<String>) -> JsonMessage {
    JsonMessage { stream: text.into(), ..JsonMessage::default() }
}

/// The part `id` has come to a new step.
pub(crate) fn step(id: &str, status: &str) -> JsonMessage {
    amount(id, status, Progress::default())
}

/// The part `id` has ended a step.
pub(crate) fn ended(id: &str, status: &str) -> JsonMessage {
    amount(id, status, Progress { hidecounts: true, ..Progress::default() })
}

/// How much of `id` is there.
pub(crate) fn amount(id: &str, status: &str, progress: Progress) -> JsonMessage {
    JsonMessage { progress_detail: Some(progress), ..line(id, status) }
}

/// The part `id` is being unpacked, for the n-th second.
fn extracting(id: &str, second: i64) -> JsonMessage {
    amount(id, "Extracting", Progress { current: second, units: "s".to_owned(), ..Progress::default() })
}

/// Waits for a part to be unpacked, and tells every second that it goes on.
pub(super) async fn while_extracting<T>(id: &str, out: &Transfer, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut second = 1;
    out.say(extracting(id, second));
    loop {
        match tokio::time::timeout(Duration::from_secs(1), &mut work).await {
            Ok(result) => return result,
            Err(_) => second += 1,
        }
        out.hint(&extracting(id, second));
    }
}

/// Tells when it is time for the next amount.
pub(crate) struct Pace(Option<Instant>);

impl Pace {
    pub(crate) fn new() -> Self {
        Self(None)
    }

    /// Returns true at most once per interval.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= INTERVAL);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}
