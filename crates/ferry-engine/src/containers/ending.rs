//! What is remembered of a run's life and end, besides its exit code: enough to tell later why it ended.

use serde::{Deserialize, Serialize};

use super::health::HealthRecord;
use crate::clock;

/// The part of a record that belongs to the run which is or was; all of it may be missing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Life {
    /// Health, when there is a check.
    pub(crate) health: Option<HealthRecord>,
    /// Delays of the restart policy that were doubled since the last good run.
    pub(crate) backoff_step: u32,
    /// Signal that ended the process, if one did.
    pub(crate) exit_signal: Option<i32>,
    /// What was asked for that ended, or may have ended, the run.
    pub(crate) ended_by: Option<EndedBy>,
    /// Processes that the memory limit killed, as far as the kernel told.
    pub(crate) oom_kills: Vec<OomKill>,
}

/// A request that ends runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndedBy {
    pub(crate) verb: EndVerb,
    /// The signal that was sent first.
    pub(crate) signal: i32,
    /// When it was sent; Unix time, nanoseconds.
    pub(crate) time_ns: i64,
    /// Who asked, as far as is known: a program and a user, an address, a flag.
    pub(crate) by: Option<String>,
    /// Seconds that were waited in vain until SIGKILL.
    pub(crate) timed_out_s: Option<i64>,
    /// Process 1 could not receive the signal and was killed at once.
    pub(crate) deaf: bool,
}

/// Verbs of [`EndedBy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EndVerb {
    Stop,
    Restart,
    Kill,
    Remove,
    /// A failed health check with an action.
    Health,
    /// The daemon or the host went down.
    Shutdown,
}

/// A process that the memory limit killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OomKill {
    /// Host pid.
    pub(crate) pid: u32,
    /// As the kernel shows it: at most 15 bytes.
    pub(crate) name: String,
}

impl EndedBy {
    pub(crate) fn new(verb: EndVerb, signal: i32, by: Option<String>) -> Self {
        Self { verb, signal, time_ns: clock::now_ns(), by, timed_out_s: None, deaf: false }
    }
}

impl Life {
    /// What is told of a run ends with the next.
    pub(crate) fn forget_last_run(&mut self) {
        self.exit_signal = None;
        self.ended_by = None;
        self.oom_kills.clear();
    }
}
