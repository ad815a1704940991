//! `POST /containers/{id}/stop`, and every other way of ending a run that waits for the end.

use std::sync::Arc;
use std::time::Duration;

use ferry_shim::protocol::{Request, ShimErrorKind, Target};
use ferry_spec::signal;
use tokio::sync::watch;

use super::ending::{EndVerb, EndedBy};
use super::record::Record;
use super::state::{Intent, Status};
use super::{Change, Container, Containers, deaf};
use crate::error::{Error, ErrorKind, Result};
use crate::shims::ShimCallError;

pub(super) const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
const DEFAULT_TIMEOUT_S: i64 = 10;
/// How long an end may take after SIGKILL before the verb gives up waiting.
pub(super) const AFTER_KILL: Duration = Duration::from_secs(10);

/// How to stop.
#[derive(Debug, Clone, Default)]
pub struct StopOptions {
    /// Signal by name or number; `None` is the container's.
    pub signal: Option<String>,
    /// Seconds before SIGKILL; `None` is the container's, negative waits for ever.
    pub timeout_s: Option<i64>,
    /// Kill at once a process 1 that cannot receive the signal, unless somebody has said how long to wait.
    pub kill_deaf: bool,
    /// Who asks, to be told by `why`.
    pub by: Option<String>,
}

/// How a stop went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Why it was killed without waiting.
    pub killed_at_once: Option<String>,
}

/// How a run is to end.
pub(super) struct Ending {
    pub(super) signal: i32,
    pub(super) timeout_s: i64,
    pub(super) kill_deaf: bool,
}

impl Ending {
    /// At once.
    pub(super) fn kill() -> Self {
        Self { signal: SIGKILL, timeout_s: DEFAULT_TIMEOUT_S, kill_deaf: false }
    }
}

impl Containers {
    /// Asks the process to end, and kills it after a while.
    ///
    /// API: `POST /containers/{id}/stop`
    ///
    /// # Errors
    /// NotFound; NotModified when it does not run; InvalidArgument for the signal.
    pub async fn stop(&self, reference: &str, options: StopOptions) -> Result<Stopped> {
        let container = self.find(reference)?;
        if !container.status().counts_as_running() {
            return Err(Error::not_modified("already stopped"));
        }
        let containers = self.clone();
        let by = EndedBy::new(EndVerb::Stop, 0, options.by.clone());
        let stopped = crate::finish(async move { containers.stop_found(&container, options, by).await }).await;
        stopped
            .map_err(|error| Error::new(error.kind(), format!("cannot stop container: {reference}")).with_source(error))
    }

    /// Stops, says so in an event, and has the policy let it lie.
    pub(super) async fn stop_found(
        &self,
        container: &Arc<Container>,
        options: StopOptions,
        by: EndedBy,
    ) -> Result<Stopped> {
        let record = container.snapshot();
        let signal = match options.signal.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => parse_signal(text)?,
            None => stop_signal(&record),
        };
        let said = options.timeout_s.or(record.config.stop_timeout);
        let ending = Ending {
            signal,
            timeout_s: said.unwrap_or(DEFAULT_TIMEOUT_S),
            kill_deaf: options.kill_deaf && said.is_none(),
        };
        self.update(container, |record| record.stopped_by_hand = true)?;
        let stopped = self.end_run(container, &ending, by).await?;
        self.publish(&container.snapshot(), "stop", &[]);
        Ok(stopped)
    }

    /// Ends the run, or the wait for the next one.
    pub(super) async fn end_run(&self, container: &Arc<Container>, ending: &Ending, by: EndedBy) -> Result<Stopped> {
        let mut changes = container.watch();
        if self.cancel_restart(container).await {
            return Ok(Stopped::default());
        }
        let (exits, running) = {
            let now = changes.borrow();
            (now.exits, now.running)
        };
        if !running {
            return Ok(Stopped::default());
        }
        self.note_ended_by(container, EndedBy { signal: ending.signal, ..by });
        let reason = if ending.kill_deaf { deaf::reason(container, ending.signal).await } else { None };
        if reason.is_none() {
            self.signal_and_tell(container, ending.signal).await?;
            if gone_in_time(&mut changes, exits, ending.timeout_s).await {
                return Ok(Stopped::default());
            }
        }
        Self::update_in_memory(container, |record| {
            if let Some(ended) = &mut record.life.ended_by {
                ended.deaf = reason.is_some();
                ended.timed_out_s = reason.is_none().then_some(ending.timeout_s);
            }
        });
        self.signal_and_tell(container, SIGKILL).await?;
        let gone = changes.wait_for(|change| change.exits > exits || change.removed);
        match tokio::time::timeout(AFTER_KILL, gone).await {
            Ok(_) => Ok(Stopped { killed_at_once: reason }),
            Err(_) => Err(Error::internal("tried to kill container, but did not receive an exit event")),
        }
    }

    /// Remembers what is asked for now, for `why`.
    pub(super) fn note_ended_by(&self, container: &Container, by: EndedBy) {
        // Written with the exit, or with the next change.
        Self::update_in_memory(container, |record| record.life.ended_by = Some(by));
    }

    /// A container that waits for its next run has nothing to be stopped: it stays down.
    pub(super) async fn cancel_restart(&self, container: &Container) -> bool {
        let _verb = container.verb.lock().await;
        if container.status() != Status::Restarting {
            return false;
        }
        self.update_whatever(container, |record| record.status = Status::Exited);
        container.announce(|change| change.running = false);
        true
    }

    /// Sends a signal and says so in an event.
    pub(super) async fn signal_and_tell(&self, container: &Arc<Container>, signal: i32) -> Result<()> {
        let _before_its_end = container.signalling.read().await;
        self.signal(container, signal).await?;
        self.publish(&container.snapshot(), "kill", &[("signal", signal.to_string())]);
        Ok(())
    }

    /// Sends a signal to the container's process. One that has just ended is as good as signalled.
    pub(super) async fn signal(&self, container: &Arc<Container>, signal: i32) -> Result<()> {
        let Some(live) = container.live() else { return Ok(()) };
        let request = Request::Kill { target: Target::Init, signal, all: false };
        let sent = live.shim.command(request, &[]).await;
        // A frozen process takes a signal only when thawed; one that is to end it is meant to be taken.
        let ends = signal == SIGKILL || signal == container.with_record(stop_signal);
        if ends && container.status() == Status::Paused {
            self.thaw(container).await;
        }
        match sent {
            Ok(()) => Ok(()),
            Err(ShimCallError::Refused(error)) if error.kind == ShimErrorKind::NotRunning => Ok(()),
            Err(ShimCallError::Gone(_)) => Ok(()),
            Err(error) => Err(Error::internal(format!("Cannot kill container {}", container.id)).with_source(error)),
        }
    }

    async fn thaw(&self, container: &Arc<Container>) {
        let Some(live) = container.live() else { return };
        if let Err(error) = live.shim.command(Request::Resume, &[]).await {
            tracing::warn!(container = %container.name(), %error, "not thawed to take its signal");
            return;
        }
        let mut thawed = false;
        self.update_whatever(container, |record| {
            thawed = record.status == Status::Paused;
            if thawed {
                record.status = Status::Running;
            }
        });
        if thawed {
            self.watch_health(container);
            self.publish(&container.snapshot(), "unpause", &[]);
        }
    }
}

async fn gone_in_time(changes: &mut watch::Receiver<Change>, exits: u64, timeout_s: i64) -> bool {
    let gone = changes.wait_for(|change| change.exits > exits || change.removed);
    match u64::try_from(timeout_s) {
        Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), gone).await.is_ok(),
        // Asked to wait for ever.
        Err(_) => gone.await.is_ok(),
    }
}

/// The signal of `--stop-signal`, the image, or SIGTERM.
pub(super) fn stop_signal(record: &Record) -> i32 {
    signal::parse(&record.config.stop_signal).unwrap_or(SIGTERM)
}

pub(super) fn parse_signal(text: &str) -> Result<i32> {
    signal::parse(text).ok_or_else(|| Error::invalid(format!("invalid signal: {text}")))
}

pub(super) fn not_running(record: &Record) -> Error {
    let text = match record.intent {
        Intent::Removing => format!("container {} is marked for removal", record.id),
        _ => format!("container {} is not running", record.id),
    };
    Error::conflict(text)
}

/// Between two runs, in Docker's words.
pub(crate) fn is_restarting(id: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("Container {id} is restarting, wait until the container is running"))
}
