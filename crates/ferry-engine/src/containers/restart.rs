//! Restart policies, and `POST /containers/{id}/restart`.

use std::sync::Arc;
use std::time::Duration;

use ferry_shim::protocol::Exit;

use super::record::Record;
use super::state::Status;
use super::stop::StopOptions;
use super::{Container, Containers};
use crate::error::{ErrorKind, Result};

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A run of this length counts as a success: the delays begin anew.
const GOOD_RUN_NS: i64 = 10_000_000_000;

/// A restart that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Restart {
    /// Wait before it.
    pub(super) delay: Duration,
    /// How many there were, this one included.
    pub(super) count: u32,
}

impl Restart {
    /// Whether the policy asks for another run after `exit`. Pure.
    pub(super) fn decide(record: &Record, exit: &Exit) -> Option<Self> {
        if record.stopped_by_hand {
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
        let doublings = if good_run { 0 } else { record.restart_count.min(16) };
        let delay = FIRST_DELAY.saturating_mul(1 << doublings).min(LONGEST_DELAY);
        Some(Self { delay, count: record.restart_count + 1 })
    }
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
            containers.update_whatever(&container, |record| record.restart_count = restart.count);
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
    pub async fn restart(&self, reference: &str, options: StopOptions) -> Result<()> {
        let container = self.find(reference)?;
        match self.stop(reference, options).await {
            Err(error) if error.kind() != ErrorKind::NotModified => return Err(error),
            _ => {}
        }
        match self.start(&container.id).await {
            Err(error) if error.kind() != ErrorKind::NotModified => return Err(error),
            _ => {}
        }
        self.publish(&container.snapshot(), "restart", &[]);
        Ok(())
    }
}
