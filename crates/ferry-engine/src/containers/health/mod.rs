//! Health checks: one task per container that runs and has a check.
//!
//! A check is an exec with the container's own confinement, or a connection made from our side in the container's network namespace.
//! The task ends with its container's run, and while the container is paused; as in Docker, health is then `unhealthy`, since nobody looks.
//! Results live in memory and reach the disk with the next change of the record; a change of status is written at once.

mod check;
mod network;
mod probe;
mod state;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

pub(super) use self::check::validate;
use self::check::{Action, Check};
use self::state::CheckResult;
pub(crate) use self::state::{HealthRecord, HealthStatus, summary};
use super::ending::{EndVerb, EndedBy};
use super::record::Record;
use super::state::Status;
use super::stop::stop_signal;
use super::{Container, Containers};
use crate::clock;

const SIGKILL: i32 = 9;

/// The end that a watching task listens to; dropped, the task ends.
pub(super) type Watching = oneshot::Sender<()>;

impl Containers {
    /// A run begins: its health is unknown.
    pub(super) fn begin_health(&self, container: &Arc<Container>) {
        if check_of(container).is_none() {
            return;
        }
        Self::update_in_memory(container, |record| {
            record.life.health = Some(HealthRecord::anew(record.life.health.take()));
        });
        self.watch_health(container);
    }

    /// Goes on watching, with what is known.
    pub(super) fn watch_health(&self, container: &Arc<Container>) {
        let Some(check) = check_of(container) else { return };
        let mut watching = container.watching_health();
        if watching.is_some() {
            return;
        }
        let (stop, stopped) = oneshot::channel();
        *watching = Some(stop);
        drop(watching);
        Self::update_in_memory(container, |record| {
            record.life.health.get_or_insert_with(|| HealthRecord::anew(None));
        });
        let (containers, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move { containers.watch(&container, &check, stopped).await });
    }

    /// Nobody looks any more.
    pub(super) fn stop_watching_health(&self, container: &Container) {
        let Some(watching) = container.watching_health().take() else { return };
        drop(watching);
        Self::update_in_memory(container, |record| {
            if let Some(health) = &mut record.life.health {
                health.status = HealthStatus::Unhealthy;
            }
        });
    }

    async fn watch(&self, container: &Arc<Container>, check: &Check, mut stopped: oneshot::Receiver<()>) {
        loop {
            let wait = container
                .with_record(|record| check.wait(record.life.health.as_ref(), record.started_ns, clock::now_ns()));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = &mut stopped => return,
            }
            let start_ns = clock::now_ns();
            let (exit_code, output) = tokio::select! {
                // First: a check that ended with its container tells nothing of that.
                biased;
                // What runs of the check is ended by its own guard.
                _ = &mut stopped => return,
                ended = self.probe(container, check) => ended,
            };
            let result = CheckResult { start_ns, end_ns: clock::now_ns(), exit_code, output };
            self.note_result(container, check, result);
        }
    }

    fn note_result(&self, container: &Arc<Container>, check: &Check, result: CheckResult) {
        let mut change = None;
        let note = |record: &mut Record| {
            let started_ns = record.started_ns;
            if record.status == Status::Running
                && let Some(health) = &mut record.life.health
            {
                let before = health.status;
                health.take(result, check, started_ns);
                change = Some(health.status).filter(|now| *now != before);
            }
            // Who sees a change finds it again, whatever happens to this daemon.
            change.is_some()
        };
        self.update_and_write(container, note);
        let Some(status) = change else { return };
        self.publish(&container.snapshot(), &format!("health_status: {}", status.as_str()), &[]);
        if status == HealthStatus::Unhealthy && check.action != Action::Tell {
            let (containers, container, action) = (self.clone(), Arc::clone(container), check.action);
            tokio::spawn(async move { containers.act(&container, action).await });
        }
    }

    /// What the user asked for in case the container becomes unhealthy.
    async fn act(&self, container: &Arc<Container>, action: Action) {
        let record = container.snapshot();
        tracing::info!(container = %record.name, action = action.as_str(), "unhealthy");
        let signal = if action == Action::Kill { SIGKILL } else { stop_signal(&record) };
        let by = EndedBy::new(EndVerb::Health, signal, Some(format!("--health-action {}", action.as_str())));
        let done = match action {
            Action::Tell => Ok(()),
            Action::Restart => self.restart_found(container, super::StopOptions::default(), by).await.map(drop),
            Action::Stop => self.stop_found(container, super::StopOptions::default(), by).await.map(drop),
            Action::Kill => {
                // By nobody's hand: its policy may start it again.
                self.note_ended_by(container, by);
                self.signal(container, SIGKILL).await
            }
        };
        if let Err(error) = done {
            tracing::warn!(container = %record.name, error = %error.text(), action = action.as_str(), "not done for an unhealthy container");
        }
    }
}

fn check_of(container: &Container) -> Option<Check> {
    container.with_record(|record| record.config.healthcheck.as_ref().and_then(Check::of))
}

/// A duration as Go words it.
fn go_duration(duration: Duration) -> String {
    let ns = duration.as_nanos();
    let decimal = |value: u128, unit: u128, name: &str| {
        let fraction = format!("{:09}", (value % unit) * (1_000_000_000 / unit));
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{}{point}{fraction}{name}", value / unit)
    };
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => decimal(ns, 1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(ns, 1_000_000, "ms"),
        _ => {
            const MINUTE: u128 = 60_000_000_000;
            let seconds = decimal(ns % MINUTE, 1_000_000_000, "s");
            match ns / MINUTE {
                0 => seconds,
                minutes @ 1..60 => format!("{minutes}m{seconds}"),
                minutes => format!("{}h{}m{seconds}", minutes / 60, minutes % 60),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (ns, text) in [
            (0, "0s"),
            (1_500_000, "1.5ms"),
            (20_000, "20µs"),
            (1_000_000_000, "1s"),
            (2_050_000_000, "2.05s"),
            (60_000_000_000, "1m0s"),
            (5_400_000_000_000, "1h30m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(ns)), text);
        }
    }
}
