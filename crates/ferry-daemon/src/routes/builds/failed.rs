//! Steps that failed, told to a client that wants to look at them before the build ends.

use ferry_api::build::{FAILED_STEP, FailedStep};
use ferry_api::stream::JsonMessage;
use serde_json::json;
use tokio::sync::mpsc;

use super::Form;
use crate::http::error::ApiError;

/// Where a build tells of its failed steps.
type Viewer = mpsc::UnboundedSender<FailedStep>;

/// Those of a build; none where nobody asked.
#[derive(Default)]
pub(super) struct FailedSteps(Option<mpsc::UnboundedReceiver<FailedStep>>);

/// Reads `onerror`; only ferry's own client knows what to do with such a step.
pub(super) fn asked(word: &str, form: Form) -> Result<(Option<Viewer>, FailedSteps), ApiError> {
    match (word, form) {
        ("", _) => Ok((None, FailedSteps::default())),
        ("shell", Form::Trace) => {
            let (sender, receiver) = mpsc::unbounded_channel();
            Ok((Some(sender), FailedSteps(Some(receiver))))
        }
        ("shell", _) => Err(ApiError::invalid("onerror=shell needs progress=trace")),
        (other, _) => Err(ApiError::invalid(format!("invalid onerror {other:?} of a build: it is shell"))),
    }
}

impl FailedSteps {
    /// The next that fails; never where none can come any more.
    pub(super) async fn next(&mut self) -> FailedStep {
        if let Some(receiver) = &mut self.0
            && let Some(failed) = receiver.recv().await
        {
            return failed;
        }
        std::future::pending().await
    }
}

/// What the client is told.
pub(super) fn message(failed: &FailedStep) -> JsonMessage {
    JsonMessage { id: FAILED_STEP.to_owned(), aux: Some(json!(failed)), ..JsonMessage::default() }
}
