//! `POST /containers/{id}/kill`.

use super::Containers;
use super::ending::{EndVerb, EndedBy};
use super::state::Status;
use super::stop::{AFTER_KILL, SIGKILL, not_running, parse_signal, stop_signal};
use crate::error::Result;

impl Containers {
    /// Sends a signal. `by` is who asks, to be told by `why`.
    ///
    /// API: `POST /containers/{id}/kill`
    ///
    /// # Errors
    /// NotFound; Conflict when it does not run; InvalidArgument for the signal.
    pub async fn kill(&self, reference: &str, signal: Option<&str>, by: Option<String>) -> Result<()> {
        let signal = match signal.filter(|text| !text.is_empty()) {
            Some(text) => parse_signal(text)?,
            None => SIGKILL,
        };
        let container = self.find(reference)?;
        if container.status() == Status::Restarting && self.cancel_restart(&container).await {
            return self.update(&container, |record| record.stopped_by_hand = true);
        }
        let record = container.snapshot();
        if !record.status.is_live() {
            return Err(not_running(&record));
        }
        // A signal that ends it is the user's will; the policy lets it lie. Of any other signal its end will tell whether it did.
        let ends = signal == SIGKILL || signal == stop_signal(&record);
        self.update(&container, |record| {
            record.stopped_by_hand |= ends;
            record.life.ended_by = Some(EndedBy::new(EndVerb::Kill, signal, by));
        })?;
        let mut changes = container.watch();
        let exits = changes.borrow().exits;
        self.signal_and_tell(&container, signal).await?;
        if signal == SIGKILL {
            let gone = changes.wait_for(|change| change.exits > exits || change.removed);
            // The reply may come before the end where the kernel takes long; the end will be told all the same.
            let _ = tokio::time::timeout(AFTER_KILL, gone).await;
        }
        Ok(())
    }
}
