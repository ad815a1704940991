//! Restart policies, and `POST /containers/{id}/restart`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ferry_shim::protocol::Exit;

use super::ending::{EndVerb, EndedBy};
use super::record::Record;
use super::state::Status;
use super::stop::{StopOptions, Stopped};
use super::{Container, Containers};
use crate::error::{Error, ErrorKind, Result};

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A run of this length counts as a success: the delays begin anew.
const GOOD_RUN_NS: i64 = 10_000_000_000;
/// An end so soon after a signal of `kill` is taken for its consequence.
const CONSEQUENCE_NS: i64 = 10_000_000_000;

/// A restart that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Restart {
    /// Wait before it.
    pub(super) delay: Duration,
    /// How many there were, this one included.
    pub(super) count: u32,
    /// Doublings of the delay of the one after it.
    pub(super) backoff_step: u32,
}

impl Restart {
    /// Whether the policy asks for another run after `exit`. Pure.
    pub(super) fn decide(record: &Record, exit: &Exit) -> Option<Self> {
        if record.stopped_by_hand || was_killed_by_hand(record, exit) {
            return None;
        }
        let policy = &record.host_config.restart_policy;
        let wanted = match policy.name.as_str() {
            "always" | "unless-stopped" => true,
            "on-failure" => {
                let tries = u32::try_from(policy.maximum_retry_count).unwrap_or(0);
                exit.code != 0 && (tries == 0 || record.restart_count < tries)
            }
            _ => false,
        };
        if !wanted {
            return None;
        }
        let good_run = exit.time_ns - record.started_ns >= GOOD_RUN_NS;
        let doublings = if good_run { 0 } else { record.life.backoff_step };
        let delay = FIRST_DELAY.saturating_mul(1 << doublings.min(16)).min(LONGEST_DELAY);
        Some(Self { delay, count: record.restart_count + 1, backoff_step: doublings.saturating_add(1) })
    }
}

fn was_killed_by_hand(record: &Record, exit: &Exit) -> bool {
    let ended = record.life.ended_by.as_ref().filter(|ended| ended.verb == EndVerb::Kill);
    ended.is_some_and(|ended| {
        exit.signal == Some(ended.signal) || exit.time_ns.saturating_sub(ended.time_ns) < CONSEQUENCE_NS
    })
}

impl Containers {
    /// Starts again after the delay, unless somebody stopped or removed it meanwhile.
    pub(super) fn restart_later(&self, container: Arc<Container>, restart: Restart) {
        let containers = self.clone();
        tokio::spawn(async move {
            let mut changes = container.watch();
            tokio::select! {
                () = tokio::time::sleep(restart.delay) => {}
                _ = changes.wait_for(|change| !change.running || change.removed) => return,
            }
            let _verb = container.verb.lock().await;
            if container.status() != Status::Restarting {
                return;
            }
            if let Err(error) = containers.run(&container).await {
                tracing::warn!(container = %container.name(), error = %error.text(), "restart failed");
            }
        });
    }

    /// Stops and starts.
    ///
    /// API: `POST /containers/{id}/restart`
    ///
    /// # Errors
    /// NotFound; what stop and start fail with.
    pub async fn restart(&self, reference: &str, options: StopOptions) -> Result<Stopped> {
        let container = self.find(reference)?;
        let by = EndedBy::new(EndVerb::Restart, 0, options.by.clone());
        let containers = self.clone();
        let done = crate::finish(async move { containers.restart_found(&container, options, by).await }).await;
        done.map_err(|error| {
            let kind = if error.kind() == ErrorKind::InvalidArgument { error.kind() } else { ErrorKind::Internal };
            Error::new(kind, format!("Cannot restart container {reference}")).with_source(error)
        })
    }

    pub(super) async fn restart_found(
        &self,
        container: &Arc<Container>,
        options: StopOptions,
        by: EndedBy,
    ) -> Result<Stopped> {
        container.restarting_by_hand.fetch_add(1, Ordering::Relaxed);
        let restarted = self.stop_and_start(container, options, by).await;
        container.restarting_by_hand.fetch_sub(1, Ordering::Relaxed);
        let stopped = restarted?;
        self.publish(&container.snapshot(), "restart", &[]);
        Ok(stopped)
    }

    async fn stop_and_start(&self, container: &Arc<Container>, options: StopOptions, by: EndedBy) -> Result<Stopped> {
        let stopped = if container.status().counts_as_running() {
            self.stop_found(container, options, by).await?
        } else {
            Stopped::default()
        };
        match self.start_found(container).await {
            Err(error) if error.kind() == ErrorKind::NotModified => Ok(stopped),
            started => started.map(|()| stopped),
        }
    }
}
