//! `POST /containers/{id}/wait`.

use std::sync::Arc;

use ferry_api::container::{WaitExitError, WaitResponse};
use tokio::sync::watch;

use super::{Change, Container, Containers};
use crate::error::Result;

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// Not running, now or later.
    #[default]
    NotRunning,
    /// The end of the run that is or comes.
    NextExit,
    /// Gone.
    Removed,
}

/// A wait that is registered already, so that no end can slip by.
pub struct WaitHandle {
    changes: watch::Receiver<Change>,
    seen: Change,
    condition: WaitCondition,
    _container: Arc<Container>,
}

impl Containers {
    /// Registers a wait; what happens from here on is seen by [`WaitHandle::finish`].
    ///
    /// API: `POST /containers/{id}/wait`
    ///
    /// # Errors
    /// NotFound.
    pub fn wait(&self, reference: &str, condition: WaitCondition) -> Result<WaitHandle> {
        let container = self.find(reference)?;
        let changes = container.watch();
        let seen = changes.borrow().clone();
        Ok(WaitHandle { changes, seen, condition, _container: container })
    }
}

impl WaitHandle {
    /// Waits for the condition.
    ///
    /// # Errors
    /// Never by itself; it ends with the engine.
    pub async fn finish(mut self) -> Result<WaitResponse> {
        let (seen, condition) = (self.seen, self.condition);
        let done = |change: &Change| match condition {
            WaitCondition::NotRunning => !change.running || change.removed,
            // A start that failed is told to whoever asked for it; as in Docker, there was no run that could end.
            WaitCondition::NextExit => change.exits > seen.exits || change.removed,
            WaitCondition::Removed => change.removed,
        };
        let change = match self.changes.wait_for(done).await {
            Ok(change) => change.clone(),
            Err(_) => seen,
        };
        // What was wrong with a container that is gone was told with its start.
        let error = change.error.filter(|_| condition != WaitCondition::Removed);
        Ok(WaitResponse {
            status_code: i64::from(change.exit_code),
            error: error.map(|message| WaitExitError { message }),
        })
    }
}
