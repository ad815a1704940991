//! `POST /containers/{id}/stop` and `kill`.

use std::sync::Arc;
use std::time::Duration;

use ferry_shim::protocol::{Request, ShimErrorKind, Target};
use ferry_spec::signal;

use super::record::Record;
use super::state::{Intent, Status};
use super::{Container, Containers};
use crate::error::{Error, Result};
use crate::shims::ShimCallError;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
const DEFAULT_TIMEOUT_S: i64 = 10;
/// How long an end may take after SIGKILL before the verb gives up waiting.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// How to stop.
#[derive(Debug, Clone, Default)]
pub struct StopOptions {
    /// Signal by name or number; `None` is the container's.
    pub signal: Option<String>,
    /// Seconds before SIGKILL; `None` is the container's, negative waits for ever.
    pub timeout_s: Option<i64>,
}

impl Containers {
    /// Asks the process to end, and kills it after a while.
    ///
    /// API: `POST /containers/{id}/stop`
    ///
    /// # Errors
    /// NotFound; NotModified when it does not run; InvalidArgument for the signal.
    pub async fn stop(&self, reference: &str, options: StopOptions) -> Result<()> {
        let container = self.find(reference)?;
        let record = container.snapshot();
        let signal = match options.signal.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => parse_signal(text)?,
            None => stop_signal(&record),
        };
        if !record.status.counts_as_running() {
            return Err(Error::not_modified("already stopped"));
        }
        let timeout_s = options.timeout_s.or(record.config.stop_timeout).unwrap_or(DEFAULT_TIMEOUT_S);
        let containers = self.clone();
        crate::finish(async move { containers.stop_running(&container, signal, timeout_s).await }).await
    }

    /// Stops, says so in an event, and has the policy let it lie.
    pub(super) async fn stop_running(&self, container: &Arc<Container>, signal: i32, timeout_s: i64) -> Result<()> {
        self.update(container, |record| record.stopped_by_hand = true)?;
        let mut changes = container.watch();
        if self.cancel_restart(container).await {
            self.publish(&container.snapshot(), "stop", &[]);
            return Ok(());
        }
        let exits = changes.borrow().exits;
        let running = changes.borrow().running;
        if running {
            self.signal(container, signal).await?;
            let gone = changes.wait_for(|change| change.exits > exits || change.removed);
            let in_time = match u64::try_from(timeout_s) {
                Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), gone).await.is_ok(),
                Err(_) => gone.await.is_ok(),
            };
            if !in_time {
                self.signal(container, SIGKILL).await?;
                let gone = changes.wait_for(|change| change.exits > exits || change.removed);
                tokio::time::timeout(AFTER_KILL, gone)
                    .await
                    .map_err(|_| {
                        Error::internal(format!(
                            "cannot stop container: {}: did not end within 10 s of SIGKILL",
                            container.name()
                        ))
                    })?
                    .ok();
            }
        }
        self.publish(&container.snapshot(), "stop", &[]);
        Ok(())
    }

    /// A container that waits for its next run has nothing to be stopped: it stays down.
    async fn cancel_restart(&self, container: &Container) -> bool {
        let _verb = container.verb.lock().await;
        if container.status() != Status::Restarting {
            return false;
        }
        self.update_whatever(container, |record| record.status = Status::Exited);
        container.announce(|change| change.running = false);
        true
    }

    /// Sends a signal.
    ///
    /// API: `POST /containers/{id}/kill`
    ///
    /// # Errors
    /// NotFound; Conflict when it does not run; InvalidArgument for the signal.
    pub async fn kill(&self, reference: &str, signal: Option<&str>) -> Result<()> {
        let signal = match signal.filter(|text| !text.is_empty()) {
            Some(text) => parse_signal(text)?,
            None => SIGKILL,
        };
        let container = self.find(reference)?;
        let record = container.snapshot();
        if !record.status.is_live() {
            return Err(not_running(&record));
        }
        // A signal that ends it is the user's will; the policy lets it lie. Docker says the same of SIGKILL and the stop signal.
        if signal == SIGKILL || signal == stop_signal(&record) {
            self.update(&container, |record| record.stopped_by_hand = true)?;
        }
        let mut changes = container.watch();
        let exits = changes.borrow().exits;
        self.signal(&container, signal).await?;
        self.publish(&record, "kill", &[("signal", signal.to_string())]);
        if signal == SIGKILL {
            let gone = changes.wait_for(|change| change.exits > exits || change.removed);
            // The reply may come before the end where the kernel takes long; the end will be told all the same.
            let _ = tokio::time::timeout(AFTER_KILL, gone).await;
        }
        Ok(())
    }

    /// Sends a signal to the container's process. One that has just ended is as good as signalled.
    pub(super) async fn signal(&self, container: &Container, signal: i32) -> Result<()> {
        let Some(live) = container.live() else { return Ok(()) };
        let request = Request::Kill { target: Target::Init, signal, all: false };
        let sent = live.shim.command(request, &[]).await;
        // A frozen process takes a signal only when thawed.
        if signal == SIGKILL && container.status() == Status::Paused {
            let _ = live.shim.command(Request::Resume, &[]).await;
        }
        match sent {
            Ok(()) => Ok(()),
            Err(ShimCallError::Refused(error)) if error.kind == ShimErrorKind::NotRunning => Ok(()),
            Err(ShimCallError::Gone(_)) => Ok(()),
            Err(error) => {
                Err(Error::internal(format!("cannot kill container: {}", container.name())).with_source(error))
            }
        }
    }
}

/// The signal of `--stop-signal`, the image, or SIGTERM.
pub(super) fn stop_signal(record: &Record) -> i32 {
    signal::parse(&record.config.stop_signal).unwrap_or(SIGTERM)
}

fn parse_signal(text: &str) -> Result<i32> {
    signal::parse(text).ok_or_else(|| Error::invalid(format!("invalid signal: {text}")))
}

pub(super) fn not_running(record: &Record) -> Error {
    let text = match record.intent {
        Intent::Removing => format!("container {} is marked for removal", record.id),
        _ => format!("container {} is not running", record.id),
    };
    Error::conflict(text)
}
